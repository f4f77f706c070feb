//! The ICE servers that participants are told.

use callplane_crds::CallRoom;
use serde::Serialize;
use utoipa::ToSchema;

use crate::Gateway;

/// An `RTCIceServer` (WebRTC §4.2.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct IceServer {
    /// `stun:`, `turn:` and `turns:` URLs.
    pub urls: Vec<String>,
    /// Of a TURN server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Of a TURN server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

impl Gateway {
    /// ICE servers for `user` of `room`. None: peers and media nodes are reached directly.
    pub fn ice_servers(&self, _room: &CallRoom, _user: &str) -> Vec<IceServer> {
        Vec::new()
    }
}
