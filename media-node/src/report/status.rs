//! Decides what stands in the MediaNode's status, and when it is worth a write.
//!
//! Few writes: an idle fleet should cost the API server almost nothing, so numbers are rounded to what
//! matters, and what moved little waits. Conditions are written at once, rooms and people within a
//! second. While rooms are served, the report is renewed every [`REFRESH_SERVING`] even when nothing
//! changed, because the operator takes "this room was empty at that time" from nobody but the node.

use std::time::{Duration, Instant};

use callplane_crds::{
    MediaNodeStatus,
    condition::{Status, condition, node},
    medianode::{Capacity, Endpoints, Load, MAX_LISTED_ROOMS, ServedRoom},
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::usage::Rates;

/// Reasons of the conditions.
pub mod reason {
    /// Ready: it serves what it is given.
    pub const SERVING: &str = "Serving";
    /// Not ready: its rooms are not listed yet, or its lease not renewed.
    pub const STARTING: &str = "Starting";
    /// Not ready: it was paused and lists its rooms again. What it serves goes on.
    pub const RESYNCING: &str = "Resyncing";
    /// Ready: it was told to stop and stays until its calls are over.
    pub const DRAINING: &str = "Draining";
    /// Not ready: the process ends.
    pub const STOPPED: &str = "Stopped";
    /// Saturated.
    pub const OVERLOADED: &str = "Overloaded";
    /// Not saturated.
    pub const AVAILABLE: &str = "Available";
    /// Drained: it is to take no room and has none.
    pub const EMPTY: &str = "Empty";
    /// Not drained: it takes rooms.
    pub const NOT_CORDONED: &str = "NotCordoned";
    /// Not drained: it has rooms.
    pub const SERVES_ROOMS: &str = "ServesRooms";
}

/// Saturated from this utilisation on, in percent.
pub const SATURATED_FROM: i32 = 90;
/// Not saturated below this utilisation, in percent.
pub const RELIEVED_BELOW: i32 = 80;

/// The shortest time between two writes, except for conditions.
pub const COALESCE: Duration = Duration::from_secs(1);
/// How long a small change waits.
pub const SETTLE: Duration = Duration::from_secs(10);
/// How often an unchanged report is renewed by a node that serves rooms or is to be emptied.
pub const REFRESH_SERVING: Duration = Duration::from_secs(10);
/// How often an unchanged report is renewed by any other node.
pub const REFRESH_IDLE: Duration = Duration::from_secs(300);

/// What the node is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Its rooms are not listed yet, or its lease not renewed.
    Starting,
    /// It serves.
    Serving,
    /// It was paused and lists its rooms again.
    Resyncing,
    /// It was told to stop and waits for its calls.
    Draining,
    /// It is about to exit.
    Stopped,
}

/// Everything that a status is made of.
#[derive(Clone, Debug)]
pub struct Facts {
    /// `metadata.generation` of the MediaNode.
    pub generation: Option<i64>,
    /// `spec.cordoned`.
    pub cordoned: bool,
    /// `spec.capacity`.
    pub capacity: Capacity,
    /// Where the node is reached.
    pub endpoints: Endpoints,
    /// What it is doing.
    pub activity: Activity,
    /// The rooms that it serves, by namespace and name.
    pub rooms: Vec<ServedRoom>,
    /// Streams forwarded.
    pub streams: i64,
    /// Measured use.
    pub rates: Rates,
    /// CPU that it may use, in thousandths of a core.
    pub cpu_limit_millis: i32,
}

/// The status that `facts` make. `previous` are the conditions written last: they keep their transition
/// times, and a saturated node stays so until it is relieved.
pub fn compose(facts: &Facts, previous: &[Condition], now: Timestamp) -> MediaNodeStatus {
    let load = load(facts);
    let utilization = load.utilization_percent(&facts.capacity);
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let state = |type_, status, reason: &str, message: &str| {
        condition(previous, type_, status, reason, message, facts.generation, now)
    };
    let ready = match facts.activity {
        Activity::Starting => state(node::READY, Status::False, reason::STARTING, "its rooms are not listed yet"),
        Activity::Serving => state(node::READY, Status::True, reason::SERVING, ""),
        Activity::Resyncing => state(
            node::READY,
            Status::False,
            reason::RESYNCING,
            "the process was paused and asks which rooms are its own; calls on it go on",
        ),
        Activity::Draining => {
            state(node::READY, Status::True, reason::DRAINING, "it was told to stop and stays until its calls are over")
        }
        Activity::Stopped => state(node::READY, Status::False, reason::STOPPED, "the process ended as it was told to"),
    };
    let was_saturated = callplane_crds::condition::is_true(previous, node::SATURATED);
    let saturated = match is_saturated(was_saturated, utilization) {
        true => state(node::SATURATED, Status::True, reason::OVERLOADED, "it takes no further room for now"),
        false => state(node::SATURATED, Status::False, reason::AVAILABLE, ""),
    };
    let leaving = facts.cordoned || matches!(facts.activity, Activity::Draining | Activity::Stopped);
    let drained = match () {
        () if !leaving => state(node::DRAINED, Status::False, reason::NOT_CORDONED, ""),
        // No rooms seen is not the same as no rooms.
        () if facts.activity == Activity::Starting => {
            state(node::DRAINED, Status::False, reason::STARTING, "its rooms are not listed yet")
        }
        () if facts.rooms.is_empty() => state(node::DRAINED, Status::True, reason::EMPTY, ""),
        () => state(node::DRAINED, Status::False, reason::SERVES_ROOMS, ""),
    };
    MediaNodeStatus {
        observed_generation: facts.generation,
        version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        endpoints: Some(facts.endpoints.clone()),
        load: Some(load),
        utilization_percent: Some(utilization),
        rooms: listed(facts.rooms.clone()),
        reported_at: Some(Time(now)),
        conditions: vec![ready, saturated, drained],
    }
}

/// Saturation with hysteresis, so that a node at the edge does not flap.
const fn is_saturated(was: bool, utilization_percent: i32) -> bool {
    utilization_percent >= if was { RELIEVED_BELOW } else { SATURATED_FROM }
}

fn load(facts: &Facts) -> Load {
    let rounded = |value: f64, to: f64| ((value / to).round() * to) as i64;
    let small = |value: i64| i32::try_from(value).unwrap_or(i32::MAX);
    let people: i64 = facts.rooms.iter().map(|r| i64::from(r.participants)).sum();
    Load {
        rooms: small(i64::try_from(facts.rooms.len()).unwrap_or(i64::MAX)),
        participants: small(people),
        streams: facts.streams,
        cpu_millis: small(rounded(facts.rates.cpu_millis, 10.0)),
        cpu_limit_millis: facts.cpu_limit_millis,
        memory_bytes: rounded(facts.rates.memory as f64, f64::from(4 << 20)),
        egress_bits_per_second: rounded(facts.rates.bits_out, 10_000.0),
        packets_per_second: rounded(facts.rates.packets, 10.0),
    }
}

/// What stands in the API server because this process wrote it.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// The status.
    pub status: MediaNodeStatus,
    /// When the write was sent.
    pub at: Instant,
    /// `metadata.resourceVersion` after it.
    pub version: u64,
    /// `metadata.uid`.
    pub uid: String,
}

/// What else calls for a write.
#[derive(Clone, Copy, Debug, Default)]
pub struct Prompts<'a> {
    /// The MediaNode as last seen: uid, version and conditions.
    pub seen: Option<(&'a str, u64, &'a [Condition])>,
    /// The routes of a served room changed since the last write: the operator waits for a report that is
    /// later than that.
    pub routes_changed: bool,
}

/// When `next` is to be written.
pub fn due(written: Option<&Written>, next: &MediaNodeStatus, prompts: Prompts<'_>, now: Instant) -> Instant {
    let Some(last) = written else { return now };
    if let Some((uid, version, conditions)) = prompts.seen {
        if uid != last.uid {
            return now; // Made anew: nothing of ours is in it.
        }
        if version > last.version && !same_states(conditions, &last.status.conditions) {
            return last.at + COALESCE; // Somebody else wrote a condition of ours.
        }
    }
    let was = &last.status;
    if !same_states(&was.conditions, &next.conditions)
        || was.observed_generation != next.observed_generation
        || was.endpoints != next.endpoints
    {
        return now;
    }
    let (load, then) = (next.load.clone().unwrap_or_default(), was.load.clone().unwrap_or_default());
    if was.rooms != next.rooms || prompts.routes_changed || moved(&then, &load) {
        return last.at + COALESCE;
    }
    if load != then {
        return last.at + SETTLE;
    }
    let leaving = callplane_crds::condition::is_true(&next.conditions, node::DRAINED);
    last.at + if next.rooms.is_empty() && !leaving { REFRESH_IDLE } else { REFRESH_SERVING }
}

/// As many of `rooms` as a report may list. Capacity keeps a node below that; should it have more all the same, those that
/// are left out are empty ones, if there are any, and the operator goes by what it knows of them.
fn listed(mut rooms: Vec<ServedRoom>) -> Vec<ServedRoom> {
    if rooms.len() > MAX_LISTED_ROOMS {
        rooms.sort_by_key(|room| room.participants == 0);
        rooms.truncate(MAX_LISTED_ROOMS);
        rooms.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    }
    rooms
}

/// Whether `conditions` say of each of `ours` what it says.
fn same_states(conditions: &[Condition], ours: &[Condition]) -> bool {
    let same = |a: &Condition, b: &Condition| a.type_ == b.type_ && a.status == b.status && a.reason == b.reason;
    ours.iter().all(|our| conditions.iter().any(|c| same(c, our)))
}

/// Whether any figure moved by more than a tenth, and by more than its noise.
fn moved(then: &Load, now: &Load) -> bool {
    let far = |then: i64, now: i64, noise: i64| (now - then).abs() > noise.max(then.abs() / 10);
    far(then.streams, now.streams, 3)
        || far(then.cpu_millis.into(), now.cpu_millis.into(), 50)
        || far(then.memory_bytes, now.memory_bytes, 32 << 20)
        || far(then.egress_bits_per_second, now.egress_bits_per_second, 1_000_000)
        || far(then.packets_per_second, now.packets_per_second, 200)
        || then.cpu_limit_millis != now.cpu_limit_millis
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
