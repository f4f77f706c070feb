//! What is to be said about a room, and done for it.

use std::time::Duration;

use callplane_crds::{
    CallRoom, CallRoomStatus, Route, RouteMode,
    callroom::Phase,
    condition::{self, Status, condition},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::{
    mode::remaining,
    observe::{Sight, World},
    place::Refusal,
    routes::{Closed, Routes, routes},
    schedule::too_early,
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
/// How long our contact with the API server has to have been good before a call is ended on the gateway's word that nobody
/// is in it: who joined while the API server was away is written down by then.
pub const PRESENCE_SLACK: Duration = Duration::from_secs(15);
/// How soon an emptiness that is due but not attested yet is looked at again.
const ATTEST_AGAIN: Duration = Duration::from_secs(2);
/// The same while the node is silent or its report old.
const SILENCE_AGAIN: Duration = Duration::from_secs(10);

/// Reasons of `Ended`.
pub mod end {
    /// `spec.ended` was set.
    pub const BY_SPEC: &str = "EndedBySpec";
    /// `maxDurationSeconds` are over.
    pub const MAX_DURATION: &str = "MaxDuration";
    /// Nobody was there for `emptyTimeoutSeconds`.
    pub const EMPTY_TIMEOUT: &str = "EmptyTimeout";

    /// One of them in words for people.
    pub fn in_words(reason: &str) -> &'static str {
        match reason {
            EMPTY_TIMEOUT => "nobody was in the call for its emptyTimeoutSeconds",
            MAX_DURATION => "the call lasted its maxDurationSeconds",
            _ => "spec.ended was set",
        }
    }
}

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
    /// Routed for the first time, to a media node.
    Placed {
        /// Which.
        node: String,
    },
    /// Routed for the first time, peer to peer.
    Opened,
    /// Routed anew in another way.
    Switched {
        /// How media flowed.
        from: RouteMode,
        /// The new route.
        to: Move,
    },
    /// Everything is on the new route: the old one is let go.
    Settled(Closed),
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
    /// Smaller changes: people counted, generation observed.
    Updated,
}

/// A new route, as it is told to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Its epoch.
    pub epoch: i64,
    /// How media flows.
    pub mode: RouteMode,
    /// Where, in words.
    pub place: String,
    /// Why.
    pub reason: String,
}

impl From<&Route> for Move {
    fn from(route: &Route) -> Self {
        Self { epoch: route.epoch, mode: route.mode, place: route.place(), reason: route.reason.clone() }
    }
}

/// Decides about one room.
pub fn decide(world: &World<'_>, now: Now) -> Plan {
    let room = world.room;
    // What the gateway says stands beside what is said here.
    let current = CallRoomStatus { presence: None, turn_secret_name: None, ..room.status.clone().unwrap_or_default() };
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
    if let Some((desired, rest)) = too_early(room, &current, now) {
        let again = soonest(end_check, Some(rest));
        let (status, verdict) = if desired == current && world.assumed.is_none() {
            (None, Verdict::Unchanged)
        } else {
            (Some(desired), Verdict::Updated)
        };
        return Plan { status, again, ..idle(verdict) };
    }
    if world.route.as_ref().is_some_and(|r| r.life == Life::Unseen) {
        // Nothing is known of its node, so there is nothing to be said: the node controller asks the API server.
        return Plan { again: end_check, ..idle(Verdict::Unchanged) };
    }

    let routes = routes(world, now);
    let desired = ongoing(world, &current, &routes, now);
    let again = soonest(end_check, routes.again);
    let waits = routes.refusal.is_some();
    // A route that was to be written, and is wanted no longer, may have been written: a write of what is there tells.
    let is_unsure = world.assumed.is_some() && routes.chosen.is_none();
    if desired == current && !is_unsure {
        return Plan { waits, again, ..idle(Verdict::Unchanged) };
    }
    // What is merely more exact than before can wait a little; what is new cannot.
    if !is_unsure && let Some(rest) = may_wait(world, &current, &desired, now.mono).filter(|rest| !rest.is_zero()) {
        return Plan { waits, again: soonest(again, Some(rest)), ..idle(Verdict::Unchanged) };
    }
    let verdict = verdict(&current, &desired, &routes);
    Plan { status: Some(desired), assume: routes.chosen, delete: false, waits, again, verdict }
}

fn verdict(current: &CallRoomStatus, desired: &CallRoomStatus, routes: &Routes) -> Verdict {
    match (&current.route, &desired.route) {
        (None, Some(Route { node: Some(node), .. })) => Verdict::Placed { node: node.clone() },
        (None, Some(_)) => Verdict::Opened,
        (Some(Route { node: Some(from), epoch: old, .. }), Some(Route { node: Some(to), epoch: new, .. }))
            if old != new =>
        {
            Verdict::Rerouted { from: from.clone(), to: to.clone() }
        }
        (Some(from), Some(to)) if from.epoch != to.epoch => Verdict::Switched { from: from.mode, to: to.into() },
        _ => match (&routes.refusal, routes.closed) {
            (Some(refusal), _) if desired.conditions != current.conditions => Verdict::Refused(*refusal),
            (_, Some(why)) => Verdict::Settled(why),
            _ => Verdict::Updated,
        },
    }
}

fn after_end(world: &World<'_>, current: &CallRoomStatus, now: Now) -> Plan {
    let idle =
        Plan { status: None, assume: None, delete: false, waits: false, again: None, verdict: Verdict::Unchanged };
    let (Some(ttl), Some(ended)) = (world.room.spec.lifetime.ttl_seconds_after_ended, &current.ended_at) else {
        return idle;
    };
    match remaining(ended.0, seconds(ttl), now.wall) {
        Duration::ZERO => Plan { delete: true, verdict: Verdict::Expired, ..idle },
        rest => Plan { again: Some(rest), ..idle },
    }
}

/// Why the room ends now, or when to look again.
fn end_reason(world: &World<'_>, current: &CallRoomStatus, now: Now) -> (Option<&'static str>, Option<Duration>) {
    let lifetime = &world.room.spec.lifetime;
    if world.room.spec.ended {
        return (Some(end::BY_SPEC), None);
    }
    // It can be joined a little before it begins, and nobody need be there by then.
    let begins = world.room.spec.scheduled_time.as_ref().map(|at| at.0);
    let mut again = None;
    if let (Some(limit), Some(started)) = (lifetime.max_duration_seconds.filter(|s| *s > 0), &current.started_at) {
        match remaining(begins.map_or(started.0, |begins| begins.max(started.0)), seconds(limit), now.wall) {
            Duration::ZERO => return (Some(end::MAX_DURATION), None),
            rest => again = Some(rest),
        }
    }
    if let Some(timeout) = lifetime.empty_timeout_seconds
        && current.previous_route.is_none()
        && let Some(route) = &current.route
    {
        let rest = match &world.route {
            Some(sight) => until_node_is_empty(sight, route, seconds(timeout), now),
            None => until_nobody_is_present(world, seconds(timeout), now),
        };
        let since_begin = begins.map_or(Duration::ZERO, |begins| remaining(begins, seconds(timeout), now.wall));
        match rest.map(|rest| rest.max(since_begin)) {
            Some(Duration::ZERO) => return (Some(end::EMPTY_TIMEOUT), None),
            rest => again = soonest(again, rest),
        }
    }
    (None, again)
}

/// When the emptiness of a call on a node has lasted, as the node itself says: for all that time, and just now. `None`
/// when somebody is there, or might be: unknown is not zero.
fn until_node_is_empty(sight: &Sight<'_>, route: &Route, timeout: Duration, now: Now) -> Option<Duration> {
    let served = sight.served.filter(|s| s.epoch == route.epoch && s.participants == 0 && !sight.life.is_over())?;
    let (since, reported) = (served.empty_since.as_ref()?, sight.reported_at?);
    if sight.attests && remaining(since.0, timeout, reported).is_zero() {
        return Some(Duration::ZERO);
    }
    let shortest = if sight.attests { ATTEST_AGAIN } else { SILENCE_AGAIN };
    Some(remaining(since.0, timeout, now.wall).max(shortest))
}

/// The same for a call that is peer to peer, as the gateway says.
fn until_nobody_is_present(world: &World<'_>, timeout: Duration, now: Now) -> Option<Duration> {
    let presence = world.presence().filter(|p| p.participants == 0)?;
    let slack = PRESENCE_SLACK.saturating_sub(world.in_contact);
    Some(remaining(presence.since.0, timeout, now.wall).max(slack))
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
        (Some(refusal), Some(Route { mode: RouteMode::P2p, .. })) => {
            let message = format!("the call goes on peer to peer; {refusal}");
            (
                condition(condition::room::PLACED, Status::False, refusal.reason(), message),
                condition(condition::room::READY, Status::True, "Routed", String::new()),
                Phase::Ready,
            )
        }
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
        participants: people(world, current, routes).or(is_ready.then_some(0)),
        route: routes.route.clone(),
        previous_route: routes.previous.clone(),
        // The gateway's, and never claimed by a write of ours.
        presence: None,
        turn_secret_name: None,
        started_at: current.started_at.clone().or_else(|| is_ready.then(|| Time(now.wall_seconds()))),
        ended_at: None,
        conditions: vec![placed, ready],
    }
}

/// People in the room, as the nodes of its routes report for their epochs, or the gateway where media flows peer to peer;
/// what was last known where they do not.
fn people(world: &World<'_>, current: &CallRoomStatus, routes: &Routes) -> Option<i32> {
    let count = |sight: &Option<Sight<'_>>, route: &Option<Route>| {
        let (sight, route) = (sight.as_ref()?, route.as_ref()?);
        sight.served.filter(|s| s.epoch == route.epoch).map(|s| s.participants)
    };
    let are_peers = routes.route.iter().chain(&routes.previous).any(|route| route.mode == RouteMode::P2p);
    let present = world.presence().filter(|_| are_peers).map(|p| p.participants);
    let reported = count(&world.route, &current.route).max(count(&world.previous, &current.previous_route));
    present.max(reported).or(current.participants)
}

fn ended(world: &World<'_>, current: &CallRoomStatus, reason: &'static str, now: Now) -> CallRoomStatus {
    let at = now.wall_seconds();
    let generation = world.room.metadata.generation;
    let condition = |type_, status, reason, message: &str| {
        condition(&current.conditions, type_, status, reason, message, generation, at)
    };
    let conditions: Vec<Condition> = vec![
        condition(condition::room::PLACED, Status::False, "Ended", ""),
        condition(condition::room::READY, Status::False, "Ended", ""),
        condition(condition::room::ENDED, Status::True, reason, end::in_words(reason)),
    ];
    CallRoomStatus {
        observed_generation: generation,
        phase: Some(Phase::Ended),
        participants: Some(0),
        // No route any more: the node's watch drops the room, and the node closes it.
        route: None,
        previous_route: None,
        presence: None,
        turn_secret_name: None,
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

/// A length of time as the API has it.
fn seconds(count: i32) -> Duration {
    Duration::from_secs(u64::try_from(count).unwrap_or(0))
}

fn soonest(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    a.into_iter().chain(b).min()
}
