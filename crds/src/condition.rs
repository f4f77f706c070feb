//! Condition types and reasons, and how a condition changes.
//!
//! Conditions are states, not events; reasons are constants that scripts may match on (Kubernetes API
//! conventions, "Typical status properties").

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Condition types of a [`CallRoom`](crate::CallRoom).
pub mod room {
    /// Its media flows where it should: on a media node, or peer to peer. False with `Ready` true is a call that goes on
    /// peer to peer because no media node can take it.
    pub const PLACED: &str = "Placed";
    /// It can be joined.
    pub const READY: &str = "Ready";
    /// It is over.
    pub const ENDED: &str = "Ended";
}

/// Condition types of a [`MediaNode`](crate::MediaNode).
pub mod node {
    /// It serves rooms. Written by the node; set to `Unknown` by the operator when the node is lost.
    pub const READY: &str = "Ready";
    /// It takes no further room although it is not cordoned.
    pub const SATURATED: &str = "Saturated";
    /// It is cordoned and serves no room.
    pub const DRAINED: &str = "Drained";
}

/// Condition types of a [`MediaPool`](crate::MediaPool).
pub mod pool {
    /// All replicas that were asked for are ready.
    pub const AVAILABLE: &str = "Available";
    /// Nodes are being created or removed.
    pub const PROGRESSING: &str = "Progressing";
}

/// A condition that keeps the transition time of `previous` while the status stays what it was.
pub fn condition(
    previous: &[Condition],
    type_: &str,
    status: Status,
    reason: &str,
    message: impl Into<String>,
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let last_transition_time = previous
        .iter()
        .find(|c| c.type_ == type_ && c.status == status.as_str())
        .map_or(Time(now), |c| c.last_transition_time.clone());
    Condition {
        last_transition_time,
        message: message.into(),
        observed_generation: generation,
        reason: reason.to_owned(),
        status: status.as_str().to_owned(),
        type_: type_.to_owned(),
    }
}

/// Status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The state holds.
    True,
    /// It does not.
    False,
    /// Nobody can tell.
    Unknown,
}

impl Status {
    /// As Kubernetes writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Status {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// Whether `conditions` say that `type_` holds. An absent condition does not.
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    conditions.iter().any(|c| c.type_ == type_ && c.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let at = |s| Timestamp::from_second(s).unwrap();
        let first = condition(&[], "Ready", Status::False, "Pending", "no node yet", Some(1), at(10));
        let same =
            condition(std::slice::from_ref(&first), "Ready", Status::False, "NoCapacity", "full", Some(2), at(20));
        assert_eq!(same.last_transition_time, Time(at(10)));
        let changed = condition(&[same], "Ready", Status::True, "Placed", "", Some(2), at(30));
        assert_eq!(changed.last_transition_time, Time(at(30)));
    }
}
