//! `POST`: an offer in, a session and an answer out.

use std::sync::Arc;

use axum::{
    extract::{OriginalUri, State},
    http::{HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};

use super::{SDP, preconditions::etag, sdp_body::SdpBody};
use crate::{
    api::{Api, Problem, caller::Caller},
    ortc,
    rooms::{Access, Intent, NewSession, Selection},
    sdp::{Offer, Playback, Publication},
    system,
};

/// Most producers that a player may select.
const MAX_SELECTED: usize = 32;

pub(super) async fn publish(
    State(api): State<Arc<Api>>,
    caller: Caller,
    OriginalUri(uri): OriginalUri,
    SdpBody(text): SdpBody,
) -> Result<Response, Problem> {
    let publication = Publication::new(Offer::parse(&text)?, ortc::router_capabilities())?;
    let access = caller.admitted(&api, Intent::Join).await?;
    let user = access.clone();
    let session = api.directory.run(move |turn| turn.publish_offer(&access, &publication)).await??;
    Ok(created(&api, &user, &uri, session).await)
}

pub(super) async fn play(
    State(api): State<Arc<Api>>,
    caller: Caller,
    OriginalUri(uri): OriginalUri,
    SdpBody(text): SdpBody,
) -> Result<Response, Problem> {
    let selection = selection(&uri)?;
    let playback = Playback::new(Offer::parse(&text)?, ortc::router_capabilities())?;
    let access = caller.admitted(&api, Intent::Join).await?;
    let user = access.clone();
    let session = api.directory.run(move |turn| turn.play_offer(&access, &playback, &selection)).await??;
    Ok(created(&api, &user, &uri, session).await)
}

/// `?participant=<user>` and `?producer=<id>`, the latter any number of times.
fn selection(uri: &Uri) -> Result<Selection, Problem> {
    let invalid = |detail: &str| Problem::new(StatusCode::BAD_REQUEST, "invalid", detail);
    let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|_| invalid("the query is not key=value pairs"))?;
    let mut selection = Selection::default();
    for (key, value) in pairs.0 {
        match key.as_str() {
            "participant" if selection.participant.is_none() => selection.participant = Some(value),
            "participant" => return Err(invalid("participant: there may be one")),
            "producer" if selection.producers.len() < MAX_SELECTED => selection.producers.push(value),
            "producer" => return Err(invalid("producer: there may be no more than 32")),
            _ => (),
        }
    }
    Ok(selection)
}

async fn created(api: &Api, access: &Access, uri: &Uri, session: NewSession) -> Response {
    let NewSession { id, etag: tag, answer } = session;
    // As the client wrote the path, so that it is right behind whatever passed the request on.
    let location = format!("{}/{id}", uri.path());
    let mut response = (StatusCode::CREATED, answer).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(SDP));
    headers.extend(HeaderValue::from_str(&location).ok().map(|value| (header::LOCATION, value)));
    headers.extend(etag(&tag).map(|value| (header::ETAG, value)));
    api.ice_servers.link(headers, &access.user, system::timestamp().as_second()).await;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_player_selects_by_the_query() {
        let of = |query: &str| selection(&format!("http://a/whep/demo{query}").parse().unwrap());
        assert_eq!(of("").ok(), Some(Selection::default()));
        let producers = vec!["1".to_owned(), "2".to_owned()];
        let expected = Selection { participant: Some("ann b".into()), producers };
        assert_eq!(of("?participant=ann%20b&producer=1&producer=2&other=3").ok(), Some(expected));
        assert!(of("?participant=a&participant=b").is_err());
        assert!(of(&format!("?{}", "producer=x&".repeat(33))).is_err());
    }
}
