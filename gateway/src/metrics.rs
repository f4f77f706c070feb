//! What can be counted. No names of rooms or people in labels.

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

use crate::Code;

/// Of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    route: String,
    method: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Problem {
    code: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Why {
    why: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Event {
    event: &'static str,
    code: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

type Histograms = Family<Route, Histogram, fn() -> Histogram>;

/// All metrics of the gateway. Clones are the same.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    requests: Family<Request, Counter>,
    request_seconds: Histograms,
    problems: Family<Problem, Counter>,
    sockets: Gauge,
    watch_errors: Family<Kind, Counter>,
    records_written: Counter,
    records_dropped: Family<Why, Counter>,
    records_waiting: Gauge,
    database_answers: Gauge,
    signalling_sockets: Gauge,
    stuck_sockets: Counter,
    joins: Counter,
    events: Family<Event, Counter>,
    presence_writes: Family<Outcome, Counter>,
    store_up: Gauge,
    store_errors: Counter,
}

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("callplane_gateway");
        let requests = Family::default();
        let request_seconds: Histograms = Family::new_with_constructor(seconds);
        let problems = Family::default();
        let sockets = Gauge::default();
        let watch_errors = Family::default();
        registry.register("requests", "Requests by route, method and status", requests.clone());
        registry.register_with_unit(
            "request_duration",
            "Time to the beginning of the answer, by route",
            Unit::Seconds,
            request_seconds.clone(),
        );
        registry.register("problems", "Problems that the gateway itself answered with, by code", problems.clone());
        registry.register("open_sockets", "WebSockets that are passed on at present", sockets.clone());
        registry.register("watch_errors", "Errors of watches by kind", watch_errors.clone());
        let (records_written, records_dropped) = (Counter::default(), Family::default());
        let (records_waiting, database_answers) = (Gauge::default(), Gauge::default());
        let about = "Records that the database took";
        registry.register("records_written", about, records_written.clone());
        let about = "Records that were dropped, by why: queue-full, refused or stopping";
        registry.register("records_dropped", about, records_dropped.clone());
        registry.register("records_waiting", "Records that wait to be written", records_waiting.clone());
        let about = "1 if the database answered when it was last asked";
        registry.register("records_database_answers", about, database_answers.clone());
        let signalling_sockets = Gauge::default();
        let stuck_sockets = Counter::default();
        let joins = Counter::default();
        let events = Family::default();
        let presence_writes = Family::default();
        let store_up = Gauge::default();
        let store_errors = Counter::default();
        registry.register(
            "signalling_sockets",
            "Socket.IO sockets that are open at present",
            signalling_sockets.clone(),
        );
        registry.register("stuck_sockets", "Sockets that were let go since they did not read", stuck_sockets.clone());
        registry.register("joins", "Joins of rooms by sockets, resumed ones included", joins.clone());
        registry.register(
            "events",
            "Events of sockets by name and code, `ok` for those that were served",
            events.clone(),
        );
        registry.register("presence_writes", "Writes of status.presence by outcome", presence_writes.clone());
        registry.register("store_up", "1 while Redis answers; 0 without it, too", store_up.clone());
        registry.register("store_errors", "Requests that Redis did not answer", store_errors.clone());
        Self {
            registry: Arc::new(registry),
            requests,
            request_seconds,
            problems,
            sockets,
            watch_errors,
            records_written,
            records_dropped,
            records_waiting,
            database_answers,
            signalling_sockets,
            stuck_sockets,
            joins,
            events,
            presence_writes,
            store_up,
            store_errors,
        }
    }
}

impl Metrics {
    /// A request was answered. `route` is a pattern, never a path.
    pub fn answered(&self, route: &str, method: &str, status: u16, took: Duration) {
        let request = Request { route: route.to_owned(), method: method.to_owned(), status };
        self.requests.get_or_create(&request).inc();
        self.request_seconds.get_or_create(&Route { route: route.to_owned() }).observe(took.as_secs_f64());
    }

    /// A request was answered with a problem of the gateway's own.
    pub fn problem(&self, code: Code) {
        self.problems.get_or_create(&Problem { code: code.text() }).inc();
    }

    /// A watch failed.
    pub fn watch_failed(&self, kind: &str) {
        self.watch_errors.get_or_create(&Kind { kind: kind.to_owned() }).inc();
    }

    /// A WebSocket is open for as long as the answer lives.
    pub fn socket(&self) -> OpenSocket {
        self.sockets.inc();
        OpenSocket(self.sockets.clone())
    }

    /// The database took so many records.
    pub fn records_written(&self, count: usize) {
        self.records_written.inc_by(count as u64);
    }

    /// A record was dropped.
    pub fn record_dropped(&self, why: &'static str) {
        self.records_dropped.get_or_create(&Why { why }).inc();
    }

    /// So many records wait to be written.
    pub fn records_waiting(&self, count: usize) {
        self.records_waiting.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Whether the database answered: 0 or 1.
    pub fn database_answers(&self, answers: i64) {
        self.database_answers.set(answers);
    }

    /// A Socket.IO socket is open for as long as the answer lives.
    pub fn signalling_socket(&self) -> OpenSocket {
        self.signalling_sockets.inc();
        OpenSocket(self.signalling_sockets.clone())
    }

    /// How many Socket.IO sockets are open.
    pub fn signalling_sockets(&self) -> usize {
        usize::try_from(self.signalling_sockets.get()).unwrap_or(0)
    }

    /// A socket was let go since it did not read.
    pub fn socket_stuck(&self) {
        self.stuck_sockets.inc();
    }

    /// A socket joined a room.
    pub fn joined(&self) {
        self.joins.inc();
    }

    /// An event of a socket was answered. Names that are not known are one.
    pub fn event(&self, event: &str, code: &str) {
        let known = crate::signal::EVENTS.iter().find(|known| **known == event).unwrap_or(&"unknown");
        self.events.get_or_create(&Event { event: known, code: code.to_owned() }).inc();
    }

    /// `status.presence` was written, or was not.
    pub fn presence_written(&self, is_written: bool) {
        let outcome = if is_written { "written" } else { "failed" };
        self.presence_writes.get_or_create(&Outcome { outcome }).inc();
    }

    /// Redis answers, or does not.
    pub fn store_up(&self, is_up: bool) {
        self.store_up.set(i64::from(is_up));
    }

    /// Redis did not answer a request.
    pub fn store_failed(&self) {
        self.store_errors.inc();
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

/// Counts an open WebSocket.
pub struct OpenSocket(Gauge);

impl Drop for OpenSocket {
    fn drop(&mut self) {
        self.0.dec();
    }
}
