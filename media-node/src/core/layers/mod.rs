//! Which layers of a producer a subscriber gets: what can be chosen, what is measured of each, and the
//! [`Selector`] that decides packet by packet.
//!
//! A layer is a spatial and a temporal one, as mediasoup counts them: the spatial layer is the encoding of
//! a simulcast producer, and the spatial layer within the only encoding of one that sends SVC.

mod mode;
mod rates;
mod selector;

use serde::{Deserialize, Serialize};

pub use mode::{ScalabilityMode, UnknownMode};
pub(crate) use rates::{MAX_SPATIAL, MAX_TEMPORAL, Rates};
pub(crate) use selector::{Choice, Packet, Selector, Verdict};

/// A spatial and a temporal layer, both counted from zero, meaning "up to these". The order is that of
/// quality: any temporal layer of a higher spatial layer is above all of a lower one, so the least of two
/// choices is [`Ord::min`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Layers {
    /// Spatial layer: an encoding of simulcast, a spatial layer of SVC.
    #[serde(rename = "spatialLayer")]
    pub spatial: u8,
    /// Temporal layer.
    #[serde(rename = "temporalLayer")]
    pub temporal: u8,
}

/// No limit.
impl Default for Layers {
    fn default() -> Self {
        Self::ALL
    }
}

impl Layers {
    /// All there are.
    pub const ALL: Self = Self { spatial: u8::MAX, temporal: u8::MAX };
    /// The least that is a picture.
    pub const LOWEST: Self = Self { spatial: 0, temporal: 0 };

    /// Whether a packet of these layers belongs to what `self` lets through.
    pub const fn hold(self, spatial: u8, temporal: u8) -> bool {
        spatial <= self.spatial && temporal <= self.temporal
    }

    /// Each of the two no larger than that of `most`.
    pub fn within(self, most: Self) -> Self {
        Self { spatial: self.spatial.min(most.spatial), temporal: self.temporal.min(most.temporal) }
    }
}
