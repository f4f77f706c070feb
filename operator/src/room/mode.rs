//! How a call's media should flow: what its topology, its size and its participants' reports ask for.
//!
//! Only what is wished for is told here, as if every move worked at once; whether the call can move now is the
//! routes' matter. What is not known moves nothing.

use std::time::Duration;

use callplane_crds::{
    Presence, Route, RouteMode, Topology, TopologyMode,
    presence::{SfuReason, SfuWanted},
    topology::MESH_LIMIT,
};
use jiff::Timestamp;

use super::observe::World;
use crate::{clock::Now, cluster::trail::reason};

/// Time between the first setback and the next try. Doubles with each further one in a row.
pub const FIRST_PATIENCE: Duration = Duration::from_secs(30);
/// Longest time between a setback and the next try.
pub const LONGEST_PATIENCE: Duration = Duration::from_secs(600);

/// What is wished for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// That it stays as it is.
    Keep,
    /// A media node, for this reason.
    Up(&'static str),
    /// Peer to peer, for this reason.
    Down(&'static str),
}

/// Whether a room without a route begins peer to peer.
pub fn begins_peer_to_peer(topology: Option<&Topology>) -> bool {
    topology.is_some_and(|t| matches!(t.mode, TopologyMode::Auto | TopologyMode::P2p))
}

/// What is wished for a call on `route`, and when time alone may change that.
pub fn wish(world: &World<'_>, route: &Route, now: Now) -> (Wish, Option<Duration>) {
    let Some(topology) = &world.room.spec.topology else { return (through_a_node(route), None) };
    match (topology.mode, route.mode, world.presence()) {
        (TopologyMode::Sfu, ..) => (through_a_node(route), None),
        (_, RouteMode::Sfu, Some(presence)) if !knows_everybody(world, route, presence) => (Wish::Keep, None),
        (TopologyMode::P2p, RouteMode::Sfu, Some(presence)) if presence.participants <= MESH_LIMIT => {
            (Wish::Down(reason::REQUESTED), None)
        }
        (TopologyMode::Auto, RouteMode::P2p, Some(presence)) => (needs_a_node(topology, presence), None),
        (TopologyMode::Auto, RouteMode::Sfu, Some(presence)) if is_small(topology, presence) => {
            match until_down(world, topology, presence, route, now) {
                Duration::ZERO => (Wish::Down(reason::SHRUNK), None),
                rest => (Wish::Keep, Some(rest)),
            }
        }
        _ => (Wish::Keep, None),
    }
}

/// Whether the people in the call could talk peer to peer, as far as the gateway knows.
pub fn could_be_peers(world: &World<'_>) -> bool {
    let (Some(topology), Some(presence)) = (&world.room.spec.topology, world.presence()) else { return false };
    match topology.mode {
        TopologyMode::Auto => is_small(topology, presence),
        TopologyMode::P2p => presence.participants <= MESH_LIMIT,
        TopologyMode::Sfu | TopologyMode::Unknown => false,
    }
}

/// How long nothing is tried after so many setbacks in a row.
pub fn patience(setbacks: u32) -> Duration {
    match setbacks {
        0 => Duration::ZERO,
        n => FIRST_PATIENCE.saturating_mul(1 << (n - 1).min(8)).min(LONGEST_PATIENCE),
    }
}

/// What is left of `span` since `from`.
pub fn remaining(from: Timestamp, span: Duration, now: Timestamp) -> Duration {
    let passed = now.duration_since(from);
    let rest = span.as_millis() as i128 - passed.as_millis();
    u64::try_from(rest).map_or(Duration::ZERO, Duration::from_millis)
}

fn through_a_node(route: &Route) -> Wish {
    if route.mode == RouteMode::P2p { Wish::Up(reason::REQUESTED) } else { Wish::Keep }
}

fn needs_a_node(topology: &Topology, presence: &Presence) -> Wish {
    match &presence.sfu_wanted {
        _ if presence.participants > topology.p2p_max_participants => Wish::Up(reason::GROWN),
        None => Wish::Keep,
        Some(SfuWanted { reason: SfuReason::PacketLoss, .. }) => Wish::Up(reason::PACKET_LOSS),
        Some(SfuWanted { reason: SfuReason::PeerConnectionFailed, .. }) => Wish::Up(reason::PEER_CONNECTION_FAILED),
        Some(SfuWanted { reason: SfuReason::Requested | SfuReason::Unknown, .. }) => Wish::Up(reason::REQUESTED),
    }
}

/// Whether the gateway knows everybody whom the node has in the call. Who came to the node by itself, as by WHIP, cannot be
/// told to go elsewhere; and a node that has said nothing about this route may have anybody.
fn knows_everybody(world: &World<'_>, route: &Route, presence: &Presence) -> bool {
    let served = world.route.as_ref().and_then(|sight| sight.served).filter(|s| s.epoch == route.epoch);
    served.is_some_and(|s| s.participants <= presence.participants)
}

fn is_small(topology: &Topology, presence: &Presence) -> bool {
    presence.participants <= topology.p2p_max_participants && presence.sfu_wanted.is_none()
}

/// How long a call that has become small stays on its node: it has to be small, on this route, and without anything else
/// that asks for a node for all the time. What did not work peer to peer before is tried later each time.
fn until_down(world: &World<'_>, topology: &Topology, presence: &Presence, route: &Route, now: Now) -> Duration {
    let seconds = u64::try_from(topology.stabilization_seconds).unwrap_or(0);
    let stable = Duration::from_secs(seconds);
    let failed = [reason::PACKET_LOSS, reason::PEER_CONNECTION_FAILED].contains(&route.reason.as_str());
    let extra = if failed { patience(world.trail.setbacks.saturating_sub(1)) } else { Duration::ZERO };
    let by_size = remaining(presence.since.0.max(route.since.0), stable + extra, now.wall);
    let by_wish = world.trail.wanted.map_or(Duration::ZERO, |at| (at + stable).saturating_sub(now.mono));
    by_size.max(by_wish)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fixtures::wall;

    #[test]
    fn patience_doubles_up_to_its_end() {
        let seconds = [0, 1, 2, 3, 5, 6, 9, u32::MAX].map(|n| patience(n).as_secs());
        assert_eq!(seconds, [0, 30, 60, 120, 480, 600, 600, 600]);
    }

    #[test]
    fn what_is_left_of_a_time_is_never_negative() {
        let ten = Duration::from_secs(10);
        let left = [0, 4, 10, 11].map(|now| remaining(wall(0), ten, wall(now)).as_secs());
        assert_eq!(left, [10, 6, 0, 0]);
        assert_eq!(remaining(wall(5), ten, wall(0)).as_secs(), 15, "another clock is ahead");
    }
}
