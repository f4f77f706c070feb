//! What the Kubernetes side counts.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// How a request to the API server went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Outcome {
    /// It was done.
    #[expect(non_camel_case_types, reason = "value of a metric label")]
    success,
    /// It was refused, or no answer came.
    #[expect(non_camel_case_types, reason = "value of a metric label")]
    failure,
}

impl Outcome {
    /// Of this result.
    pub fn of<T, E>(result: &Result<T, E>) -> Self {
        if result.is_ok() { Self::success } else { Self::failure }
    }
}

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Watched {
    /// Rooms of this node.
    #[expect(non_camel_case_types, reason = "value of a metric label")]
    callroom,
    /// The node's own MediaNode.
    #[expect(non_camel_case_types, reason = "value of a metric label")]
    medianode,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Went {
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: Watched,
}

/// See the help texts. A cheap handle.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    lease: Family<Went, Counter>,
    status: Family<Went, Counter>,
    watch_errors: Family<Kind, Counter>,
    pauses: Counter,
    fenced: Gauge,
    contact: Gauge<f64, AtomicU64>,
}

impl Metrics {
    /// Registers them all.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("lease_renewals", "Renewals of the node's Lease", metrics.lease.clone());
        registry.register("status_writes", "Writes of the MediaNode status", metrics.status.clone());
        registry.register(
            "watch_errors",
            "Watches on the API server that broke and were begun again",
            metrics.watch_errors.clone(),
        );
        registry.register("pauses", "Pauses of the whole process that were found", metrics.pauses.clone());
        registry.register(
            "fenced",
            "1 while joins are refused because the node was paused and has not listed its rooms since",
            metrics.fenced.clone(),
        );
        registry.register(
            "api_server_contact_timestamp_seconds",
            "When the API server last answered, in Unix time; 0 before it ever did",
            metrics.contact.clone(),
        );
        metrics
    }

    /// A renewal of the Lease.
    pub fn lease(&self, outcome: Outcome) {
        self.lease.get_or_create(&Went { outcome }).inc();
    }

    /// A write of the status.
    pub fn status(&self, outcome: Outcome) {
        self.status.get_or_create(&Went { outcome }).inc();
    }

    /// A watch broke.
    pub fn watch_error(&self, kind: Watched) {
        self.watch_errors.get_or_create(&Kind { kind }).inc();
    }

    /// The fence went up or down.
    pub fn fence(&self, pauses: super::pause::Pauses) {
        self.pauses.inc_by(pauses.count.saturating_sub(self.pauses.get()));
        self.fenced.set(i64::from(pauses.fenced));
    }

    /// The API server answered.
    pub fn contact(&self, at: jiff::Timestamp) {
        self.contact.set(at.as_duration().as_secs_f64());
    }
}
