//! `spec.topology`: how the media of a call may flow, and when that changes.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// People who can talk peer to peer at most: everyone sends to everyone else, so uplinks end it.
pub const MESH_LIMIT: i32 = 6;

/// How media flows between the people of a call, and when that changes.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Topology {
    /// `Auto` begins peer to peer and moves to a media node when that is needed, and back. `P2P` and `SFU` stay
    /// what they are. A change moves the call.
    #[serde(default)]
    pub mode: TopologyMode,

    /// With `Auto`: how many people talk peer to peer at most, 2 to 6. One more moves the call to a media node.
    #[serde(default = "default_p2p_max_participants")]
    #[schemars(range(min = 2, max = 6))]
    pub p2p_max_participants: i32,

    /// With `Auto`: share of lost packets, in percent, that moves the call to a media node when a participant's reports
    /// stay above it.
    #[serde(default = "default_packet_loss_percent")]
    #[schemars(range(min = 1, max = 100))]
    pub packet_loss_percent: i32,

    /// With `Auto`: how long a smaller call stays on its media node before it goes back to peer to peer.
    #[serde(default = "default_stabilization_seconds")]
    #[schemars(range(min = 0, max = 3600))]
    pub stabilization_seconds: i32,
}

const fn default_p2p_max_participants() -> i32 {
    2
}

const fn default_packet_loss_percent() -> i32 {
    5
}

const fn default_stabilization_seconds() -> i32 {
    30
}

impl Default for Topology {
    fn default() -> Self {
        Self {
            mode: TopologyMode::default(),
            p2p_max_participants: default_p2p_max_participants(),
            packet_loss_percent: default_packet_loss_percent(),
            stabilization_seconds: default_stabilization_seconds(),
        }
    }
}

/// Who decides how media flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TopologyMode {
    /// The operator, by the size of the call and what its participants report.
    #[default]
    Auto,
    /// Always peer to peer.
    #[serde(rename = "P2P")]
    P2p,
    /// Always through a media node.
    #[serde(rename = "SFU")]
    Sfu,
    /// One that this version does not know, written by a newer one. Read so that the object can be read at all; never written.
    #[serde(other, skip_serializing)]
    #[schemars(skip)]
    Unknown,
}
