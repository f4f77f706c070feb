//! What is to be said about a room, and done for it.

use std::time::Duration;

use callplane_crds::{
    CallRoom, CallRoomStatus,
    callroom::Phase,
    condition::{self, Status, condition},
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::{
    observe::World,
    place::Refusal,
    routes::{Routes, needs_node, routes},
};
use crate::{
    clock::Now,
    cluster::{Assumed, node::Life},
};

/// How often a changed number of people may be written for one room.
pub const COUNT_INTERVAL: Duration = Duration::from_secs(5);
/// How often a waiting room's reason may change. One node can change the reason of every waiting room.
pub const REASON_INTERVAL: Duration = Duration::from_secs(30);
/// How often the numbers of a waiting room are brought up to date while its reason stays, at most. They count nodes, so one
/// node changes them for every waiting room: each has a turn of its own in this time, by its name.
pub const EXPLANATION_INTERVAL: Duration = Duration::from_secs(600);
/// How long such a turn lasts.
const TURN: Duration = Duration::from_secs(30);
/// How soon an emptiness that is due but not attested yet is looked at again.
const ATTEST_AGAIN: Duration = Duration::from_secs(2);
/// The same while the node is silent or its report old.
const SILENCE_AGAIN: Duration = Duration::from_secs(10);

/// What to do for a room.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The status to write; `None` when it says so already.
    pub status: Option<CallRoomStatus>,
    /// The route in it that is new.
    pub assume: Option<Assumed>,
    /// Delete the room.
    pub delete: bool,
    /// It waits for capacity.
    pub waits: bool,
    /// Look again after this time.
    pub again: Option<Duration>,
    /// What this amounts to.
    pub verdict: Verdict,
}

/// What a plan amounts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing new.
    Unchanged,
    /// Routed for the first time.
    Placed {
        /// Where.
        node: String,
    },
    /// Routed anew.
    Rerouted {
        /// From the lost node.
        from: String,
        /// To this one.
        to: String,
    },
    /// No node takes it.
    Refused(Refusal),
    /// It ended, for the reason named.
    Ended(&'static str),
    /// Its time after the end is up.
    Expired,
    /// Smaller changes: people counted, previous route closed, generation observed.
    Updated,
}

/// Decides about one room.
pub fn decide(world: &World<'_>, now: Now) -> Plan {
    let room = world.room;
    // What the gateway says stands beside what is said here.
    let current = CallRoomStatus { presence: None, ..room.status.clone().unwrap_or_default() };
    let idle = |verdict| Plan { status: None, assume: None, delete: false, waits: false, again: None, verdict };
    // What a newer operator decided is not understood here, so it is not touched either.
    if room.metadata.deletion_timestamp.is_some() || !room.is_understood() {
        return idle(Verdict::Unchanged);
    }
    if current.phase == Some(Phase::Ended) {
        return after_end(world, &current, now);
    }
    let (end, end_check) = end_reason(world, &current, now);
    if let Some(reason) = end {
        return Plan { status: Some(ended(world, &current, reason, now)), ..idle(Verdict::Ended(reason)) };
    }
    if world.route.as_ref().is_some_and(|r| r.life == Life::Unseen) {
        // Nothing is known of its node, so there is nothing to be said: the node controller asks the API server.
        return Plan { again: end_check, ..idle(Verdict::Unchanged) };
    }

    let routes = routes(world, now);
    let desired = ongoing(world, &current, &routes, now);
    let again = soonest(end_check, routes.again);
    let waits = routes.refusal.is_some();
    if desired == current {
        return Plan { waits, again, ..idle(Verdict::Unchanged) };
    }
    // What is merely more exact than before can wait a little; what is new cannot.
    if let Some(rest) = may_wait(world, &current, &desired, now.mono).filter(|rest| !rest.is_zero()) {
        return Plan { waits, again: soonest(again, Some(rest)), ..idle(Verdict::Unchanged) };
    }
    let verdict = match (&routes, &current.route) {
        (Routes { chosen: Some(to), .. }, None) => Verdict::Placed { node: to.node.clone() },
        (Routes { chosen: Some(to), .. }, Some(from)) => {
            Verdict::Rerouted { from: from.node_name().to_owned(), to: to.node.clone() }
        }
        (Routes { refusal: Some(refusal), .. }, _) => Verdict::Refused(*refusal),
        _ => Verdict::Updated,
    };
    Plan { status: Some(desired), assume: routes.chosen, delete: false, waits, again, verdict }
}

fn after_end(world: &World<'_>, current: &CallRoomStatus, now: Now) -> Plan {
    let idle =
        Plan { status: None, assume: None, delete: false, waits: false, again: None, verdict: Verdict::Unchanged };
    let (Some(ttl), Some(ended)) = (world.room.spec.lifetime.ttl_seconds_after_ended, &current.ended_at) else {
        return idle;
    };
    match due(ended.0, ttl, now.wall) {
        Some(rest) => Plan { again: Some(rest), ..idle },
        None => Plan { delete: true, verdict: Verdict::Expired, ..idle },
    }
}

/// Why the room ends now, or when to look again.
fn end_reason(world: &World<'_>, current: &CallRoomStatus, now: Now) -> (Option<&'static str>, Option<Duration>) {
    let lifetime = &world.room.spec.lifetime;
    if world.room.spec.ended {
        return (Some("EndedBySpec"), None);
    }
    let mut again = None;
    if let (Some(limit), Some(started)) = (lifetime.max_duration_seconds.filter(|s| *s > 0), &current.started_at) {
        match due(started.0, limit, now.wall) {
            None => return (Some("MaxDuration"), None),
            rest => again = rest,
        }
    }
    if let Some(timeout) = lifetime.empty_timeout_seconds
        && !needs_node(world)
        && current.previous_route.is_none()
        && let (Some(sight), Some(route)) = (&world.route, &current.route)
        && let Some(served) = sight.served.filter(|s| s.epoch == route.epoch && s.participants == 0)
        && let (Some(since), Some(reported)) = (&served.empty_since, sight.reported_at)
    {
        // The node itself has to have said that it was empty all that time, and just now: unknown is not zero.
        match due(since.0, timeout, reported) {
            None if sight.attests => return (Some("EmptyTimeout"), None),
            _ => {
                let shortest = if sight.attests { ATTEST_AGAIN } else { SILENCE_AGAIN };
                let rest = due(since.0, timeout, now.wall).unwrap_or(shortest).max(shortest);
                again = soonest(again, Some(rest));
            }
        }
    }
    (None, again)
}

fn ongoing(world: &World<'_>, current: &CallRoomStatus, routes: &Routes, now: Now) -> CallRoomStatus {
    let generation = world.room.metadata.generation;
    let condition = |type_, status, reason: &str, message: String| {
        condition(&current.conditions, type_, status, reason, message, generation, now.wall_seconds())
    };
    let (placed, ready, phase) = match (&routes.refusal, &routes.route) {
        (None, Some(route)) => (
            condition(condition::room::PLACED, Status::True, &route.reason, route.place()),
            condition(condition::room::READY, Status::True, "Routed", String::new()),
            Phase::Ready,
        ),
        (refusal, _) => {
            let refusal = refusal.unwrap_or_default();
            (
                condition(condition::room::PLACED, Status::False, refusal.reason(), refusal.to_string()),
                condition(condition::room::READY, Status::False, "NotPlaced", String::new()),
                Phase::Pending,
            )
        }
    };
    let is_ready = phase == Phase::Ready;
    CallRoomStatus {
        observed_generation: generation,
        phase: Some(phase),
        participants: people(world, current).or(is_ready.then_some(0)),
        route: routes.route.clone(),
        previous_route: routes.previous.clone(),
        // The gateway's, and never claimed by a write of ours.
        presence: None,
        started_at: current.started_at.clone().or_else(|| is_ready.then(|| Time(now.wall_seconds()))),
        ended_at: None,
        conditions: vec![placed, ready],
    }
}

/// People in the room, as the nodes of its routes report for their epochs; what was last known where they do not.
fn people(world: &World<'_>, current: &CallRoomStatus) -> Option<i32> {
    let count = |sight: &Option<super::observe::Sight<'_>>, route: &Option<callplane_crds::Route>| {
        let (sight, route) = (sight.as_ref()?, route.as_ref()?);
        sight.served.filter(|s| s.epoch == route.epoch).map(|s| s.participants)
    };
    count(&world.route, &current.route).max(count(&world.previous, &current.previous_route)).or(current.participants)
}

fn ended(world: &World<'_>, current: &CallRoomStatus, reason: &'static str, now: Now) -> CallRoomStatus {
    let at = now.wall_seconds();
    let generation = world.room.metadata.generation;
    let condition = |type_, status, reason, message: &str| {
        condition(&current.conditions, type_, status, reason, message, generation, at)
    };
    let why = match reason {
        "EmptyTimeout" => "nobody was in the call for its emptyTimeoutSeconds",
        "MaxDuration" => "the call lasted its maxDurationSeconds",
        _ => "spec.ended was set",
    };
    let conditions: Vec<Condition> = vec![
        condition(condition::room::PLACED, Status::False, "Ended", ""),
        condition(condition::room::READY, Status::False, "Ended", ""),
        condition(condition::room::ENDED, Status::True, reason, why),
    ];
    CallRoomStatus {
        observed_generation: generation,
        phase: Some(Phase::Ended),
        participants: Some(0),
        // No route any more: the node's watch drops the room, and the node closes it.
        route: None,
        previous_route: None,
        presence: None,
        started_at: current.started_at.clone(),
        ended_at: Some(Time(at)),
        conditions,
    }
}

/// How long a change from `current` to `desired` may wait, if it may: when only the count of people or the
/// explanation differ.
fn may_wait(world: &World<'_>, current: &CallRoomStatus, desired: &CallRoomStatus, now: Duration) -> Option<Duration> {
    let mut blurred = desired.clone();
    blurred.participants = current.participants;
    if blurred == *current {
        return world.written.map(|at| (at + COUNT_INTERVAL).saturating_sub(now));
    }
    let mut blur = |part: fn(&mut Condition) -> &mut String| {
        for condition in &mut blurred.conditions {
            let same = |c: &&Condition| c.type_ == condition.type_ && c.status == condition.status;
            if let Some(mut old) = current.conditions.iter().find(same).cloned() {
                part(condition).clone_from(part(&mut old));
            }
        }
        blurred == *current
    };
    // Counted from whoever's write, so that a new leader does not write them all anew at once.
    if blur(|c| &mut c.message) {
        let told = (world.changed + EXPLANATION_INTERVAL / 2).saturating_sub(now);
        return Some(told.max(until_turn(world.room, now)));
    }
    blur(|c| &mut c.reason).then_some((world.changed + REASON_INTERVAL).saturating_sub(now))
}

/// Time until the room's turn to have its numbers brought up to date; zero while it lasts.
fn until_turn(room: &CallRoom, now: Duration) -> Duration {
    let period = EXPLANATION_INTERVAL.as_millis();
    let begins = period * u128::from(share(room.metadata.name.as_deref().unwrap_or_default())) / 1000;
    let since = (now.as_millis() + period - begins) % period;
    if since < TURN.as_millis() {
        return Duration::ZERO;
    }
    Duration::from_millis(u64::try_from(period - since).unwrap_or_default())
}

/// 0 to 999, by a name: what would come at once for many is spread by it.
pub(super) fn share(name: &str) -> u32 {
    // FNV-1a, and its high bits: names that differ in their last digit alone are to be far apart.
    let hash = name.bytes().fold(0x811c_9dc5u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
    (hash.wrapping_mul(0x9e37_79b9) >> 16) % 1000
}

/// Time left until `seconds` after `from`; `None` when it is over.
fn due(from: Timestamp, seconds: i32, now: Timestamp) -> Option<Duration> {
    let rest = i64::from(seconds) * 1000 - now.duration_since(from).as_millis() as i64;
    u64::try_from(rest).ok().filter(|r| *r > 0).map(Duration::from_millis)
}

fn soonest(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    a.into_iter().chain(b).min()
}
