//! Who calls: the token of a request, verified and held against the room in its path.

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, RawPathParams},
    http::{HeaderMap, StatusCode, header, request::Parts},
};

use super::{Api, Problem};
use crate::{
    auth::AuthError,
    rooms::{Access, Intent, RoomKey},
    system,
};

/// WebSocket subprotocol prefix that carries a token: browsers cannot set headers on a WebSocket.
const BEARER_PROTOCOL: &str = "bearer.";

/// A caller with a valid token for the room in the path.
pub struct Caller(pub Access);

impl FromRequestParts<Arc<Api>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        let token = token(&parts.headers).ok_or(AuthError::Missing)?;
        let now = system::timestamp().as_second();
        let access = api.verifier.verify(token, now).await?.access(api.standalone)?;
        api.limits.subject(&access, system::now())?;
        let params = RawPathParams::from_request_parts(parts, api)
            .await
            .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "invalid", error.body_text()))?;
        let call_id = params.iter().find(|(name, _)| *name == "call_id").map(|(_, value)| value).unwrap_or_default();
        let room = match api.standalone {
            true => RoomKey::of_standalone(call_id),
            false => RoomKey::of_call_room(call_id),
        };
        let room = room.map_err(|error| Problem::new(StatusCode::NOT_FOUND, "room-not-found", error.to_string()))?;
        if room != access.room {
            return Err(Problem::new(StatusCode::FORBIDDEN, "wrong-room", "the token is for another room"));
        }
        Ok(Self(access))
    }
}

impl Caller {
    /// Waits for admission and hands out the access.
    pub(super) async fn admitted(self, api: &Api, intent: Intent) -> Result<Access, Problem> {
        api.directory.admit(&self.0, intent).await?;
        Ok(self.0)
    }
}

/// The bearer token (RFC 6750 §2.1), or that of a WebSocket's subprotocols.
fn token(headers: &HeaderMap) -> Option<&str> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then(|| token.trim());
    }
    headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .find_map(|protocol| protocol.trim().strip_prefix(BEARER_PROTOCOL))
}
