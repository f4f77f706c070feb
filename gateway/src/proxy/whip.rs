//! WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep): the endpoint and the sessions of each are the media node's.
//!
//! A node's `Location` is the path of the request with the session behind it, so it leads back through whatever passed
//! the request on. What a client may ask of any of them without a token, and before there is a room, is answered here.

use axum::{
    Router,
    extract::Request,
    http::{HeaderValue, Method, StatusCode},
    middleware::Next,
    response::Response,
    routing::{MethodRouter, any},
};

use super::follow::follow;
use crate::Gateway;

/// Where calls are published to.
pub(super) const WHIP: &str = "/whip/";
/// Where calls are played from.
pub(super) const WHEP: &str = "/whep/";
/// Media types of what can be sent.
const SDP: &str = "application/sdp";
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";

/// The paths that media nodes have.
pub fn routes() -> Router<Gateway> {
    let paths = [WHIP, WHEP].into_iter().flat_map(|of| [format!("{of}{{call}}"), format!("{of}{{call}}/{{session}}")]);
    paths.fold(Router::new(), |router, path| router.route(&path, passed_on()))
}

fn passed_on() -> MethodRouter<Gateway> {
    any(follow).options(async || StatusCode::OK)
}

/// Says in answers to OPTIONS what can be sent (RFC 9725 §4.2, RFC 5789 §3.1). Outside of CORS, which answers OPTIONS by
/// itself.
pub async fn advertise(request: Request, next: Next) -> Response {
    let accepts = accepts(request.method(), request.uri().path());
    let mut response = next.run(request).await;
    if let Some((name, media_type)) = accepts {
        response.headers_mut().insert(name, HeaderValue::from_static(media_type));
    }
    response
}

/// What follows the name of the protocol: a call id, and maybe a session's.
pub(super) fn below(path: &str) -> Option<&str> {
    [WHIP, WHEP].into_iter().find_map(|of| path.strip_prefix(of))
}

fn accepts(method: &Method, path: &str) -> Option<(&'static str, &'static str)> {
    let below = below(path).filter(|_| *method == Method::OPTIONS)?;
    Some(if below.contains('/') { ("accept-patch", FRAGMENT) } else { ("accept-post", SDP) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_take_descriptions_and_sessions_fragments() {
        for (method, path, expected) in [
            (Method::OPTIONS, "/whip/team.standup", Some(("accept-post", SDP))),
            (Method::OPTIONS, "/whep/team.standup", Some(("accept-post", SDP))),
            (Method::OPTIONS, "/whip/team.standup/1", Some(("accept-patch", FRAGMENT))),
            (Method::OPTIONS, "/whep/team.standup/1", Some(("accept-patch", FRAGMENT))),
            (Method::OPTIONS, "/whipped/team.standup", None),
            (Method::OPTIONS, "/api/rooms/team.standup", None),
            (Method::POST, "/whip/team.standup", None),
        ] {
            assert_eq!(accepts(&method, path), expected, "{method} {path}");
        }
    }
}
