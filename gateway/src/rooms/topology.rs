//! How media may flow, as requests have it.

use callplane_crds::{Topology, TopologyMode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How media may flow between the people of a call, and when that changes.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TopologySettings {
    /// `Auto`: peer to peer at first, and through a media node when that is needed; `P2P` and `SFU` stay what they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub mode: Option<ModeSetting>,
    /// With `Auto`: how many people talk peer to peer at most, 2 to 6; 2 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 2, maximum = 6)]
    pub p2p_max_participants: Option<i32>,
    /// With `Auto`: percentage of lost packets that moves the call to a media node, 1 to 100; 5 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 1, maximum = 100)]
    pub packet_loss_percent: Option<i32>,
    /// With `Auto`: how long a smaller call stays on its media node, 0 to 3600; 30 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 0, maximum = 3600)]
    pub stabilization_seconds: Option<i32>,
}

/// Who decides how media flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum ModeSetting {
    /// The operator.
    Auto,
    /// Always peer to peer; for up to 6 people.
    #[serde(rename = "P2P")]
    P2p,
    /// Always through a media node.
    #[serde(rename = "SFU")]
    Sfu,
}

impl From<TopologySettings> for Topology {
    fn from(settings: TopologySettings) -> Self {
        let usual = Self::default();
        Self {
            mode: match settings.mode {
                None | Some(ModeSetting::Auto) => TopologyMode::Auto,
                Some(ModeSetting::P2p) => TopologyMode::P2p,
                Some(ModeSetting::Sfu) => TopologyMode::Sfu,
            },
            p2p_max_participants: settings.p2p_max_participants.unwrap_or(usual.p2p_max_participants),
            packet_loss_percent: settings.packet_loss_percent.unwrap_or(usual.packet_loss_percent),
            stabilization_seconds: settings.stabilization_seconds.unwrap_or(usual.stabilization_seconds),
        }
    }
}
