//! WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep-03): publishing and playing with one HTTP request.
//!
//! `POST` on an endpoint makes a session, which is a resource of its own: `PATCH` for ICE, `DELETE` to end
//! it. Neither has a representation, so `GET` answers with nothing (RFC 9725 §4.1).

mod endpoint;
mod ice_servers;
mod preconditions;
mod sdp_body;
mod session;

use std::sync::Arc;

use axum::{
    Router,
    extract::Request,
    http::{HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
    routing::{get, post},
};

pub use ice_servers::{IceServers, InvalidIceServer};

use super::Api;

/// Media types of bodies.
const SDP: &str = "application/sdp";
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";

/// Routes of both.
pub(super) fn routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/whip/{call_id}", post(endpoint::publish).get(nothing))
        .route("/whep/{call_id}", post(endpoint::play).get(playable))
        .route(
            "/whip/{call_id}/{session}",
            get(nothing).patch(session::patch_publication).delete(session::end_publication),
        )
        .route("/whep/{call_id}/{session}", get(nothing).patch(session::patch_playback).delete(session::end_playback))
}

async fn nothing() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// Players find out by this that they are at a WHEP endpoint.
async fn playable() -> impl IntoResponse {
    [(header::CONTENT_TYPE, SDP)]
}

/// Says in answers to OPTIONS what can be sent (RFC 9725 §4.2, RFC 5789 §3.1). Outside of CORS, which answers
/// OPTIONS by itself.
pub(super) async fn advertise(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let below = path.strip_prefix("/whip/").or_else(|| path.strip_prefix("/whep/"));
    let accepts = match (request.method(), below) {
        (&Method::OPTIONS, Some(below)) if below.contains('/') => Some(("accept-patch", FRAGMENT)),
        (&Method::OPTIONS, Some(_)) => Some(("accept-post", SDP)),
        _ => None,
    };
    let mut response = next.run(request).await;
    if let Some((name, value)) = accepts {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
