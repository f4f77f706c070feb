//! What is remembered of a room's routes. It is lost with this process, so nothing but patience may depend on it.

use std::time::Duration;

use callplane_crds::{CallRoomStatus, Route};

/// Reasons of routes (`status.route.reason`).
pub mod reason {
    /// A first route.
    pub const SCHEDULED: &str = "Scheduled";
    /// The node of the route before was lost.
    pub const NODE_LOST: &str = "NodeLost";
    /// More people than can talk peer to peer.
    pub const GROWN: &str = "Grown";
    /// Peer to peer lost too many packets.
    pub const PACKET_LOSS: &str = "PacketLoss";
    /// Two people did not reach each other peer to peer.
    pub const PEER_CONNECTION_FAILED: &str = "PeerConnectionFailed";
    /// Asked for, by `spec.topology` or through the gateway.
    pub const REQUESTED: &str = "Requested";
    /// Few enough people to do without a media node.
    pub const SHRUNK: &str = "Shrunk";
    /// Some participant could not reach the route before.
    pub const ROLLED_BACK: &str = "RolledBack";
}

/// A route that lasted this long was no failure: what goes wrong after it is counted from one again.
pub const HELD: Duration = Duration::from_secs(600);

/// What is remembered of a room's routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trail {
    /// When the present route came. `None` when it was there before this process looked.
    pub moved: Option<Duration>,
    /// Moves in a row that went wrong: roll-backs, and media nodes that were needed because peer to peer did not work.
    pub setbacks: u32,
    /// When the gateway was last seen to want a media node.
    pub wanted: Option<Duration>,
}

impl Trail {
    /// Goes on from the status `before` to the one `after`.
    pub fn follow(&mut self, before: Option<&CallRoomStatus>, after: Option<&CallRoomStatus>, now: Duration) {
        let wants = |status: Option<&CallRoomStatus>| {
            status.and_then(|s| s.presence.as_ref()).is_some_and(|p| p.sfu_wanted.is_some())
        };
        if wants(before) || wants(after) {
            self.wanted = Some(now);
        }
        let route = |status: Option<&CallRoomStatus>| status.and_then(|s| s.route.clone());
        let (old, new) = (route(before), route(after));
        if old.as_ref().map(|r| r.epoch) == new.as_ref().map(|r| r.epoch) {
            return;
        }
        if new.as_ref().is_some_and(is_setback) {
            let held = self.moved.is_some_and(|at| now.saturating_sub(at) >= HELD);
            self.setbacks = if held { 1 } else { self.setbacks.saturating_add(1) };
        }
        self.moved = Some(now);
    }

    /// Begins with what is there already.
    pub fn of(status: Option<&CallRoomStatus>, now: Duration) -> Self {
        let mut trail = Self::default();
        trail.follow(None, status, now);
        // A room that has its first route in the version that is seen first had it for an unknown time.
        trail.moved = None;
        trail
    }
}

/// Whether it was made because the one before did not work for the people in the call.
fn is_setback(route: &Route) -> bool {
    [reason::PACKET_LOSS, reason::PEER_CONNECTION_FAILED, reason::ROLLED_BACK].contains(&route.reason.as_str())
}

#[cfg(test)]
mod tests {
    use callplane_crds::{
        Presence,
        presence::{SfuReason, SfuWanted},
    };
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::cluster::fixtures::{peers, route, wall};

    fn at(epoch: i64, reason: &str) -> CallRoomStatus {
        let route = Route { reason: reason.to_owned(), ..peers(epoch, 0) };
        CallRoomStatus { route: Some(route), ..CallRoomStatus::default() }
    }

    #[test]
    fn what_goes_wrong_again_and_again_is_counted_until_a_route_has_held() {
        let (mut trail, mut last) = (Trail::default(), None);
        let mut follow = |epoch, reason: &str, seconds| {
            let next = at(epoch, reason);
            trail.follow(last.as_ref(), Some(&next), Duration::from_secs(seconds));
            last = Some(next);
            trail.setbacks
        };
        let steps = [
            (1, reason::SCHEDULED, 0, 0),
            (2, reason::GROWN, 10, 0),
            (3, reason::ROLLED_BACK, 20, 1),
            (3, reason::ROLLED_BACK, 30, 1),
            (4, reason::GROWN, 50, 1),
            (5, reason::ROLLED_BACK, 60, 2),
            (6, reason::GROWN, 120, 2),
            (7, reason::SHRUNK, 300, 2),
            (8, reason::GROWN, 400, 2),
            (9, reason::ROLLED_BACK, 1000, 1),
        ];
        for (epoch, reason, seconds, expected) in steps {
            assert_eq!(follow(epoch, reason, seconds), expected, "epoch {epoch} {reason}");
        }
    }

    #[test]
    fn a_new_process_begins_with_what_the_route_says() {
        let rolled_back = Trail::of(Some(&at(5, reason::ROLLED_BACK)), Duration::from_secs(7));
        assert_eq!(rolled_back, Trail { moved: None, setbacks: 1, wanted: None });
        let lossy = Route { reason: reason::PACKET_LOSS.to_owned(), ..route(2, "a", 0) };
        let status = CallRoomStatus { route: Some(lossy), ..CallRoomStatus::default() };
        assert_eq!(Trail::of(Some(&status), Duration::ZERO).setbacks, 1);
        assert_eq!(Trail::of(Some(&at(2, reason::SHRUNK)), Duration::ZERO), Trail::default());
    }

    #[test]
    fn it_knows_when_a_media_node_was_last_wanted() {
        let wanted = SfuWanted { reason: SfuReason::PacketLoss, since: Time(wall(0)) };
        let presence = |sfu_wanted| {
            let presence = Presence { participants: 2, since: Time(wall(0)), epoch: None, failed: None, sfu_wanted };
            CallRoomStatus { presence: Some(presence), ..CallRoomStatus::default() }
        };
        let (wants, does_not) = (presence(Some(wanted)), presence(None));
        let mut trail = Trail::default();
        let mut follow = |before, after, seconds| {
            trail.follow(Some(before), Some(after), Duration::from_secs(seconds));
            trail.wanted.map(|at| at.as_secs())
        };
        assert_eq!(follow(&does_not, &wants, 5), Some(5));
        assert_eq!(follow(&wants, &does_not, 9), Some(9), "until it was withdrawn");
        assert_eq!(follow(&does_not, &does_not, 12), Some(9));
    }
}
