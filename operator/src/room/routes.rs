//! The route rules: when a room needs another node, and when its old one is let go.

use std::time::Duration;

use callplane_crds::{Route, RouteMode, callroom::Phase};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    observe::{World, request},
    place::{Refusal, pick},
};
use crate::{
    clock::Now,
    cluster::{Assumed, node::Standing},
};

/// A first route.
pub const SCHEDULED: &str = "Scheduled";
/// A route made because the node of the one before was lost.
pub const NODE_LOST: &str = "NodeLost";

/// How long an old route is kept for people who have not moved yet.
pub const PREVIOUS_ROUTE_DEADLINE: Duration = Duration::from_secs(30);

/// The routes that a room is to have.
#[derive(Clone, Debug, PartialEq)]
pub struct Routes {
    /// Where media flows.
    pub route: Option<Route>,
    /// Where it flowed.
    pub previous: Option<Route>,
    /// Why `route` has no living node, when it has none.
    pub refusal: Option<Refusal>,
    /// The route is new.
    pub chosen: Option<Assumed>,
    /// When to look at the previous route again.
    pub again: Option<Duration>,
}

/// Whether the room is to be placed: it is not over, and it has no node or its node is certainly dead.
pub fn needs_node(world: &World<'_>) -> bool {
    !is_settled(world) && world.route.as_ref().is_none_or(|r| r.life.is_over())
}

/// Whether the room is over for good, or will be as soon as its end is written.
fn is_settled(world: &World<'_>) -> bool {
    let room = world.room;
    room.spec.ended
        || room.metadata.deletion_timestamp.is_some()
        || room.status.as_ref().is_some_and(|s| s.phase == Some(Phase::Ended))
}

/// The routes for a room that goes on.
pub fn routes(world: &World<'_>, now: Now) -> Routes {
    let status = world.room.status.as_ref();
    let route = status.and_then(|s| s.route.clone());
    let previous = status.and_then(|s| s.previous_route.clone());
    if !needs_node(world) {
        let (previous, again) = keep_previous(world, route.as_ref(), previous, now);
        return Routes { route, previous, refusal: None, chosen: None, again };
    }
    let epoch = route.as_ref().map_or(0, |r| r.epoch) + 1;
    // A route whose write is not answered yet is decided already: deciding again could decide otherwise.
    let on_its_way = world
        .assumed
        .filter(|a| a.epoch == epoch)
        .map(|a| a.node.as_str())
        .filter(|node| world.candidates.iter().any(|c| c.name == *node && c.standing == Standing::Ready));
    let picked = match on_its_way {
        Some(node) => Ok(node),
        None => pick(&request(world.room), world.allowed_pools, &world.candidates),
    };
    match picked {
        Ok(node) => {
            let reason = if route.is_none() { SCHEDULED } else { NODE_LOST };
            let new = Route {
                epoch,
                mode: RouteMode::Sfu,
                node: Some(node.to_owned()),
                reason: reason.to_owned(),
                since: Time(now.wall_seconds()),
            };
            Routes {
                route: Some(new),
                // Only a dead node is left in this way, and a dead node has nobody to wait for.
                previous: None,
                refusal: None,
                chosen: Some(Assumed { epoch, node: node.to_owned() }),
                again: None,
            }
        }
        // The route stays although its node is dead: it holds the epoch, and the node may come back.
        Err(refusal) => Routes { route, previous: None, refusal: Some(refusal), chosen: None, again: None },
    }
}

fn keep_previous(
    world: &World<'_>,
    route: Option<&Route>,
    previous: Option<Route>,
    now: Now,
) -> (Option<Route>, Option<Duration>) {
    let (Some(route), Some(previous), Some(sight)) = (route, previous, &world.previous) else { return (None, None) };
    if sight.life.is_over() {
        return (None, None);
    }
    let said_since = sight.reported_at.is_some_and(|at| at >= route.since.0);
    let left = said_since && sight.served.is_none_or(|s| s.participants == 0);
    let age = Duration::try_from(now.wall.duration_since(route.since.0)).unwrap_or_default();
    match PREVIOUS_ROUTE_DEADLINE.checked_sub(age) {
        Some(rest) if !left && !rest.is_zero() => (Some(previous), Some(rest)),
        _ => (None, None),
    }
}
