//! Bodies that are SDP, and whether the answer may be.

use axum::{
    body::Bytes,
    extract::{FromRequest, Request},
    http::{HeaderMap, StatusCode, header},
};

use super::{FRAGMENT, SDP};
use crate::api::Problem;

/// A body of `application/sdp`, from a client that takes such an answer.
pub(super) struct SdpBody(pub String);

/// A body of `application/trickle-ice-sdpfrag`.
pub(super) struct FragmentBody(pub String);

impl<S: Send + Sync> FromRequest<S> for SdpBody {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !accepts(request.headers(), SDP) {
            let detail = format!("the answer is {SDP}, which the request does not accept");
            return Err(Problem::new(StatusCode::NOT_ACCEPTABLE, "not-acceptable", detail));
        }
        text(request, state, SDP).await.map(Self)
    }
}

impl<S: Send + Sync> FromRequest<S> for FragmentBody {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        text(request, state, FRAGMENT).await.map(Self)
    }
}

async fn text<S: Send + Sync>(request: Request, state: &S, media_type: &str) -> Result<String, Problem> {
    let given = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if !given.is_some_and(|given| essence(given).eq_ignore_ascii_case(media_type)) {
        let detail = format!("set content-type: {media_type}");
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-sdp", detail));
    }
    let bytes = Bytes::from_request(request, state).await.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", rejection.body_text())
        }
        _ => Problem::new(StatusCode::BAD_REQUEST, "unreadable-body", rejection.body_text()),
    })?;
    String::from_utf8(bytes.into())
        .map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "malformed-sdp", "the body is not UTF-8"))
}

/// A media type without its parameters.
fn essence(text: &str) -> &str {
    text.split(';').next().unwrap_or_default().trim()
}

/// Whether `Accept` has room for a media type (RFC 9110 §12.5.1); without one it has.
fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    let mut ranges = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).peekable();
    if ranges.peek().is_none() {
        return true;
    }
    // The most specific range counts: it may say q=0.
    let ranges: Vec<(String, bool)> = ranges
        .flat_map(|value| value.split(','))
        .map(|range| {
            let refuses = range.split(';').skip(1).any(|parameter| {
                let parameter = parameter.trim().to_ascii_lowercase();
                parameter.strip_prefix("q=").is_some_and(|q| q.trim().parse() == Ok(0.0f32))
            });
            (essence(range).to_ascii_lowercase(), !refuses)
        })
        .collect();
    let wildcard = format!("{}/*", media_type.split('/').next().unwrap_or_default());
    [media_type, wildcard.as_str(), "*/*"]
        .into_iter()
        .find_map(|name| ranges.iter().find(|(range, _)| range == name).map(|(_, accepted)| *accepted))
        .unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_range_says_whether_an_answer_is_accepted() {
        for (accept, expected) in [
            (None, true),
            (Some("*/*"), true),
            (Some("application/sdp"), true),
            (Some("Application/SDP;q=0.5"), true),
            (Some("text/html, application/*;q=0.1"), true),
            (Some("text/html"), false),
            (Some("*/*, application/sdp;q=0"), false),
            (Some("application/json"), false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(header::ACCEPT, accept.parse().unwrap());
            }
            assert_eq!(accepts(&headers, SDP), expected, "{accept:?}");
        }
    }
}
