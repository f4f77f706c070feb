//! What can be counted. No object names in labels.

use std::{sync::Arc, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

/// Of a reconcile.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reconcile {
    /// `room`, `node`, `pool` or `turn`.
    pub controller: &'static str,
    /// `ok` or the reason of the error.
    pub result: &'static str,
}

/// Of a write to the API server: everything that the operator asks of it that is no read, events and its own Lease included.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Write {
    /// Kind, with the subresource.
    pub kind: &'static str,
    /// `create`, `apply`, `patch`, `replace` or `delete`; `publish` of an `Event`: a create, or a patch of one that was told before.
    pub verb: &'static str,
    /// `ok` or the reason of the error.
    pub result: &'static str,
}

/// A single dimension.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Controller {
    /// `room`, `node`, `pool` or `turn`.
    pub controller: &'static str,
}

/// A state that objects are counted by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct State {
    /// The state.
    pub state: String,
}

/// Of a new route.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Change {
    /// How media flows on it: `P2P` or `SFU`.
    pub mode: &'static str,
    /// `status.route.reason`.
    pub reason: String,
}

/// Of a move from one route to the next.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct End {
    /// `acknowledged`, `left`, `deadline`, `lost` or `rolled-back`.
    pub end: &'static str,
}

type Histograms<L = Controller> = Family<L, Histogram, fn() -> Histogram>;

/// All metrics of the operator.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Reconciles.
    pub reconciles: Family<Reconcile, Counter>,
    /// How long they took.
    pub reconcile_seconds: Histograms,
    /// Keys waiting. Of `turn` only where there is TURN.
    pub queue_depth: Family<Controller, Gauge>,
    /// Writes to the API server.
    pub writes: Family<Write, Counter>,
    /// Rooms by phase.
    pub rooms: Family<State, Gauge>,
    /// Routes by mode.
    pub routes: Family<State, Gauge>,
    /// New routes.
    pub route_changes: Family<Change, Counter>,
    /// From a written route to the end of the one before, or of the attempt.
    pub switch_seconds: Histograms<End>,
    /// Rooms that wait for capacity.
    pub rooms_waiting: Gauge,
    /// From the first sight of a room to its written route.
    pub placement_seconds: Histogram,
    /// From the verdict on a node to the next route of each of its rooms.
    pub reroute_seconds: Histogram,
    /// 1 while this replica leads.
    pub leader: Gauge,
    /// Media nodes by standing.
    pub nodes: Family<State, Gauge>,
    /// Errors of watches.
    pub watch_errors: Family<State, Counter>,
    /// Public keys whose join tokens are believed at present.
    pub join_keys: Gauge,
    /// Keys of join tokens that were replaced.
    pub join_key_rotations: Counter,
    /// 1 while Redis answers.
    pub turn_redis_up: Gauge,
    /// Shared secrets of TURN that are good at present.
    pub turn_secrets: Gauge,
    /// Shared secrets of TURN that were replaced.
    pub turn_rotations: Counter,
    /// Times that Redis was told which secrets are good.
    pub turn_repairs: Counter,
}

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}

/// From 16 ms to 65 s: beyond the deadline of a previous route.
fn switch_seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.016, 2.0, 13))
}

impl Metrics {
    /// All metrics, registered.
    pub fn new() -> Arc<Self> {
        let mut metrics = Self {
            registry: Registry::with_prefix("callplane_operator"),
            reconciles: Family::default(),
            reconcile_seconds: Family::new_with_constructor(seconds),
            queue_depth: Family::default(),
            writes: Family::default(),
            rooms: Family::default(),
            routes: Family::default(),
            route_changes: Family::default(),
            switch_seconds: Family::new_with_constructor(switch_seconds),
            rooms_waiting: Gauge::default(),
            placement_seconds: seconds(),
            reroute_seconds: seconds(),
            leader: Gauge::default(),
            nodes: Family::default(),
            watch_errors: Family::default(),
            join_keys: Gauge::default(),
            join_key_rotations: Counter::default(),
            turn_redis_up: Gauge::default(),
            turn_secrets: Gauge::default(),
            turn_rotations: Counter::default(),
            turn_repairs: Counter::default(),
        };
        let r = &mut metrics.registry;
        r.register("reconciles", "Reconciles by controller and result", metrics.reconciles.clone());
        r.register_with_unit(
            "reconcile_duration",
            "Duration of reconciles",
            Unit::Seconds,
            metrics.reconcile_seconds.clone(),
        );
        r.register("queue_depth", "Keys that wait for a worker", metrics.queue_depth.clone());
        r.register("writes", "Writes to the API server by kind, verb and result", metrics.writes.clone());
        r.register("rooms", "CallRooms by phase", metrics.rooms.clone());
        r.register("routes", "Routes of CallRooms by mode", metrics.routes.clone());
        r.register("route_changes", "New routes by mode and reason", metrics.route_changes.clone());
        r.register_with_unit(
            "route_switch",
            "From a written route to the end of the one before it, by how that came",
            Unit::Seconds,
            metrics.switch_seconds.clone(),
        );
        r.register("rooms_waiting", "CallRooms that fit nowhere at present", metrics.rooms_waiting.clone());
        r.register_with_unit(
            "room_placement",
            "From the first sight of a CallRoom to its written route",
            Unit::Seconds,
            metrics.placement_seconds.clone(),
        );
        r.register_with_unit(
            "room_reroute",
            "From the verdict on a lost node to the next route of each of its rooms",
            Unit::Seconds,
            metrics.reroute_seconds.clone(),
        );
        r.register("leader", "1 while this replica leads", metrics.leader.clone());
        r.register("nodes", "MediaNodes by standing", metrics.nodes.clone());
        r.register("watch_errors", "Errors of watches by kind", metrics.watch_errors.clone());
        r.register("join_keys", "Public keys whose join tokens are believed at present", metrics.join_keys.clone());
        r.register("join_key_rotations", "Keys of join tokens that were replaced", metrics.join_key_rotations.clone());
        r.register("turn_redis_up", "1 while the Redis that coturn looks in answers", metrics.turn_redis_up.clone());
        r.register("turn_secrets", "Shared secrets of TURN that are good at present", metrics.turn_secrets.clone());
        r.register("turn_rotations", "Shared secrets of TURN that were replaced", metrics.turn_rotations.clone());
        r.register("turn_repairs", "Times that Redis was told which secrets are good", metrics.turn_repairs.clone());
        Arc::new(metrics)
    }

    /// Counts a reconcile.
    pub fn reconciled(&self, controller: &'static str, result: &'static str, took: Duration) {
        self.reconciles.get_or_create(&Reconcile { controller, result }).inc();
        self.reconcile_seconds.get_or_create(&Controller { controller }).observe(took.as_secs_f64());
    }

    /// Counts a write.
    pub fn wrote(&self, kind: &'static str, verb: &'static str, result: &'static str) {
        self.writes.get_or_create(&Write { kind, verb, result }).inc();
    }

    /// As text (OpenMetrics 1.0).
    ///
    /// # Errors
    /// Never in practice: the target is a string.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }
}
