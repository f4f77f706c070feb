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
