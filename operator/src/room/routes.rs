//! The route rules: when a call moves, where to, and when its old side is let go.
//!
//! One move at a time: while people still go from the previous route to the present one, nothing but a failure starts
//! another. So there are never more than two routes, and whatever restarts in the middle finds both in the status.

use std::time::Duration;

use callplane_crds::{Presence, Route, RouteMode, callroom::Phase};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    mode::{Wish, begins_peer_to_peer, could_be_peers, patience, remaining, wish},
    observe::{World, request},
    place::{Refusal, pick},
};
use crate::{
    clock::Now,
    cluster::{
        Assumed,
        node::{Life, Standing},
        trail::reason,
    },
};

/// How long an old route is kept for people who have not moved yet.
pub const PREVIOUS_ROUTE_DEADLINE: Duration = Duration::from_secs(30);

/// The routes that a room is to have.
#[derive(Clone, Debug, PartialEq)]
pub struct Routes {
    /// Where media flows.
    pub route: Option<Route>,
    /// Where it flowed.
    pub previous: Option<Route>,
    /// Why there is no media node for it, when it needs one and has none that lives.
    pub refusal: Option<Refusal>,
    /// The place on a node that a new route takes.
    pub chosen: Option<Assumed>,
    /// Why the previous route is let go.
    pub closed: Option<Closed>,
    /// When to look at the routes again.
    pub again: Option<Duration>,
}

/// Why a previous route is let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Closed {
    /// Everyone has media on the new one.
    Acknowledged,
    /// Nobody is on it any more.
    Left,
    /// Its time is up.
    Deadline,
    /// Its node is lost.
    Lost,
}

impl Closed {
    /// As one word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Acknowledged => "acknowledged",
            Self::Left => "left",
            Self::Deadline => "deadline",
            Self::Lost => "lost",
        }
    }
}

/// What becomes of the route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It stays.
    Keep,
    /// A node is picked for the next one, for this reason.
    Place(&'static str),
    /// The next one leads back to the node of the previous route.
    Return(&'static str),
    /// The next one is peer to peer.
    Peers(&'static str),
}

/// Whether a node is to be picked for the room.
pub fn needs_node(world: &World<'_>, now: Now) -> bool {
    matches!(step(world, now), (Step::Place(_), _))
}

/// Whether the room is over for good, or will be as soon as its end is written.
fn is_settled(world: &World<'_>) -> bool {
    let room = world.room;
    room.spec.ended
        || room.metadata.deletion_timestamp.is_some()
        || room.status.as_ref().is_some_and(|s| s.phase == Some(Phase::Ended))
}

fn step(world: &World<'_>, now: Now) -> (Step, Option<Duration>) {
    let status = world.room.status.as_ref();
    let Some(route) = status.and_then(|s| s.route.as_ref()).filter(|_| !is_settled(world)) else {
        let first = match world.room.spec.topology.as_ref() {
            _ if is_settled(world) => Step::Keep,
            topology if begins_peer_to_peer(topology) => Step::Peers(reason::SCHEDULED),
            _ => Step::Place(reason::SCHEDULED),
        };
        return (first, None);
    };
    let (wish, again) = wish(world, route, now);
    if world.route.as_ref().is_some_and(|sight| sight.life.is_over()) {
        return match wish {
            Wish::Down(reason) => (Step::Peers(reason), None),
            _ => (Step::Place(reason::NODE_LOST), None),
        };
    }
    let is_rolled_back = route.reason == reason::ROLLED_BACK;
    if let Some(previous) = status.and_then(|s| s.previous_route.as_ref()) {
        let step = match wish {
            // A way back that fails as well is not left again: that would go on for ever.
            _ if is_rolled_back || !carries_media(world, previous) => Step::Keep,
            _ if has_failed(world, route) => match previous.mode {
                RouteMode::P2p => Step::Peers(reason::ROLLED_BACK),
                _ => Step::Return(reason::ROLLED_BACK),
            },
            // The old side still has the place that the call needs again.
            Wish::Up(reason) if previous.mode == RouteMode::Sfu => Step::Return(reason),
            _ => Step::Keep,
        };
        return (step, None);
    }
    let rest = if is_rolled_back {
        remaining(route.since.0, patience(world.trail.setbacks.max(1)), now.wall)
    } else {
        Duration::ZERO
    };
    match wish {
        Wish::Keep => (Step::Keep, again),
        _ if !rest.is_zero() => (Step::Keep, Some(rest)),
        Wish::Up(reason) => (Step::Place(reason), None),
        Wish::Down(reason) => (Step::Peers(reason), None),
    }
}

/// Whether somebody could not reach `route`, and it is not that all have reached it since or nobody is left.
fn has_failed(world: &World<'_>, route: &Route) -> bool {
    world.presence().is_some_and(|presence| {
        presence.failed.as_ref().is_some_and(|failed| failed.epoch == route.epoch)
            && presence.participants > 0
            && !is_acknowledged(presence, route)
    })
}

fn is_acknowledged(presence: &Presence, route: &Route) -> bool {
    presence.epoch.is_some_and(|epoch| epoch >= route.epoch)
}

/// Whether media still flows on the previous route, as far as is known.
fn carries_media(world: &World<'_>, previous: &Route) -> bool {
    match previous.mode {
        RouteMode::P2p => true,
        _ => world.previous.as_ref().is_some_and(|sight| sight.life == Life::Serving),
    }
}

/// The routes for a room that goes on.
pub fn routes(world: &World<'_>, now: Now) -> Routes {
    let status = world.room.status.as_ref();
    let route = status.and_then(|s| s.route.clone());
    let previous = status.and_then(|s| s.previous_route.clone());
    let (step, again) = step(world, now);
    let next = |mode, node: Option<String>, reason: &str| {
        let epoch = route.as_ref().map_or(0, |r| r.epoch) + 1;
        Route { epoch, mode, node, reason: reason.to_owned(), since: Time(now.wall_seconds()) }
    };
    let moved = |route: Route| Routes {
        chosen: route.node.clone().map(|node| Assumed { epoch: route.epoch, node }),
        route: Some(route),
        previous: left_behind(world),
        refusal: None,
        closed: None,
        again: None,
    };
    match step {
        Step::Keep => {
            let (previous, closed, rest) = keep_previous(world, previous, now);
            let again = again.into_iter().chain(rest).min();
            Routes { route, previous, refusal: None, chosen: None, closed, again }
        }
        Step::Peers(reason) => moved(next(RouteMode::P2p, None, reason)),
        Step::Return(reason) => moved(next(RouteMode::Sfu, previous.and_then(|p| p.node), reason)),
        Step::Place(reason) => match find_node(world, route.as_ref().map_or(0, |r| r.epoch) + 1) {
            Ok(node) => moved(next(RouteMode::Sfu, Some(node), reason)),
            // Nobody has to wait for a node who can do without.
            Err(_) if reason == reason::NODE_LOST && can_do_without(world) => {
                moved(next(RouteMode::P2p, None, reason::NODE_LOST))
            }
            // The route stays: it carries media peer to peer, or holds the epoch of a node that may come back.
            Err(refusal) => {
                let previous = left_behind(world).filter(|p| route.as_ref().is_none_or(|r| r.epoch != p.epoch));
                Routes { route, previous, refusal: Some(refusal), chosen: None, closed: None, again: None }
            }
        },
    }
}

/// Whether a call whose node is lost can go on peer to peer.
fn can_do_without(world: &World<'_>) -> bool {
    let previous = world.room.status.as_ref().and_then(|s| s.previous_route.as_ref());
    could_be_peers(world) || previous.is_some_and(|p| p.mode == RouteMode::P2p)
}

/// What is the old side once there is a new route: the present route, or the one before where that is dead.
fn left_behind(world: &World<'_>) -> Option<Route> {
    let status = world.room.status.as_ref()?;
    let is_dead = world.route.as_ref().is_some_and(|sight| sight.life.is_over());
    match &status.route {
        Some(route) if !is_dead => Some(route.clone()),
        _ => status.previous_route.clone().filter(|previous| carries_media(world, previous)),
    }
}

fn find_node(world: &World<'_>, epoch: i64) -> Result<String, Refusal> {
    // A route whose write is not answered yet is decided already: deciding again could decide otherwise.
    let on_its_way = world
        .assumed
        .filter(|a| a.epoch == epoch)
        .map(|a| a.node.as_str())
        .filter(|node| world.candidates.iter().any(|c| c.name == *node && c.standing == Standing::Ready));
    match on_its_way {
        Some(node) => Ok(node.to_owned()),
        None => pick(&request(world.room), world.allowed_pools, &world.candidates).map(str::to_owned),
    }
}

fn keep_previous(
    world: &World<'_>,
    previous: Option<Route>,
    now: Now,
) -> (Option<Route>, Option<Closed>, Option<Duration>) {
    let route = world.room.status.as_ref().and_then(|s| s.route.as_ref());
    let (Some(route), Some(previous)) = (route, previous) else { return (None, None, None) };
    if let Some(why) = closed(world, route, &previous) {
        return (None, Some(why), None);
    }
    match remaining(route.since.0, PREVIOUS_ROUTE_DEADLINE, now.wall) {
        Duration::ZERO => (None, Some(Closed::Deadline), None),
        rest => (Some(previous), None, Some(rest)),
    }
}

/// Why nobody needs the previous route any more, if so.
fn closed(world: &World<'_>, route: &Route, previous: &Route) -> Option<Closed> {
    let node = world.previous.as_ref();
    if previous.mode != RouteMode::P2p && node.is_none_or(|sight| sight.life.is_over()) {
        return Some(Closed::Lost);
    }
    let presence = world.presence();
    if presence.is_some_and(|p| is_acknowledged(p, route)) {
        return Some(Closed::Acknowledged);
    }
    let said_since = |at: jiff::Timestamp| at >= route.since.0;
    let is_empty_node = node.is_some_and(|sight| {
        sight.reported_at.is_some_and(said_since) && sight.served.is_none_or(|s| s.participants == 0)
    });
    let has_nobody = previous.mode == RouteMode::P2p && presence.is_some_and(|p| p.participants == 0);
    (is_empty_node || has_nobody).then_some(Closed::Left)
}
