//! `PATCH` and `DELETE` on a session.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{
    FRAGMENT,
    preconditions::{etag, if_match},
    sdp_body::FragmentBody,
};
use crate::{
    api::{Api, Problem, caller::Caller},
    rooms::{Intent, Patched, Protocol},
    sdp::Fragment,
};

type Shared = State<Arc<Api>>;
/// Call id and session.
type Ids = Path<(String, String)>;

pub(super) async fn patch_publication(
    api: Shared,
    caller: Caller,
    ids: Ids,
    headers: HeaderMap,
    body: FragmentBody,
) -> Result<Response, Problem> {
    patch(Protocol::Whip, api, caller, ids, &headers, body).await
}

pub(super) async fn patch_playback(
    api: Shared,
    caller: Caller,
    ids: Ids,
    headers: HeaderMap,
    body: FragmentBody,
) -> Result<Response, Problem> {
    patch(Protocol::Whep, api, caller, ids, &headers, body).await
}

async fn patch(
    protocol: Protocol,
    State(api): Shared,
    caller: Caller,
    Path((_, id)): Ids,
    headers: &HeaderMap,
    FragmentBody(text): FragmentBody,
) -> Result<Response, Problem> {
    let (fragment, if_match) = (Fragment::parse(&text)?, if_match(headers));
    let patch = move |turn: &mut crate::rooms::Turn<'_>, access: &_| {
        turn.patch_session(access, protocol, &id, &if_match, &fragment)
    };
    Ok(match api.act(caller, Intent::Use, patch).await? {
        Patched::Trickled => StatusCode::NO_CONTENT.into_response(),
        Patched::Restarted { etag: tag, fragment } => {
            let mut response = fragment.into_response();
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(FRAGMENT));
            response.headers_mut().extend(etag(&tag).map(|value| (header::ETAG, value)));
            response
        }
    })
}

pub(super) async fn end_publication(api: Shared, caller: Caller, ids: Ids) -> Result<StatusCode, Problem> {
    end(Protocol::Whip, api, caller, ids).await
}

pub(super) async fn end_playback(api: Shared, caller: Caller, ids: Ids) -> Result<StatusCode, Problem> {
    end(Protocol::Whep, api, caller, ids).await
}

async fn end(
    protocol: Protocol,
    State(api): Shared,
    caller: Caller,
    Path((_, id)): Ids,
) -> Result<StatusCode, Problem> {
    // Whoever is not there any more has no session either, which is the better answer.
    api.act(caller, Intent::Leave, move |turn, access| turn.end_session(access, protocol, &id)).await?;
    Ok(StatusCode::OK)
}
