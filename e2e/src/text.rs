//! How objects are shown in a failure: what a person would ask for first, short.

use callplane_crds::{CallRoom, MediaNode, MediaPool};
use k8s_openapi::{
    api::core::v1::{Event, Pod},
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::ResourceExt;

/// One line about an object.
pub trait Summary {
    /// The line.
    fn summary(&self) -> String;
}

fn conditions(conditions: &[Condition]) -> String {
    let each = conditions.iter().map(|c| format!("{}={} ({}: {})", c.type_, c.status, c.reason, c.message));
    each.collect::<Vec<_>>().join(", ")
}

impl Summary for CallRoom {
    fn summary(&self) -> String {
        let status = self.status.clone().unwrap_or_default();
        let route = |r: Option<callplane_crds::Route>| {
            r.map_or("none".to_owned(), |r| format!("{} {} ({})", r.epoch, r.place(), r.reason))
        };
        format!(
            "CallRoom {}: {:?}, route {}, before {}, {}",
            self.call_id(),
            status.phase,
            route(status.route),
            route(status.previous_route),
            conditions(&status.conditions)
        )
    }
}

impl Summary for MediaNode {
    fn summary(&self) -> String {
        let status = self.status.clone().unwrap_or_default();
        let rooms = status.rooms.iter().map(|r| format!("{}.{}#{}", r.namespace, r.name, r.epoch));
        format!(
            "MediaNode {}: pool {}, cordoned {}, deleted {}, rooms {:?}, {}",
            self.name_any(),
            self.spec.pool,
            self.spec.cordoned,
            self.metadata.deletion_timestamp.is_some(),
            rooms.take(5).collect::<Vec<_>>(),
            conditions(&status.conditions)
        )
    }
}

impl Summary for MediaPool {
    fn summary(&self) -> String {
        let status = self.status.clone().unwrap_or_default();
        format!(
            "MediaPool {}: wants {}, has {}, ready {}, cordoned {}, {}",
            self.name_any(),
            self.spec.replicas,
            status.replicas,
            status.ready_replicas,
            status.cordoned_replicas,
            conditions(&status.conditions)
        )
    }
}

impl Summary for Pod {
    fn summary(&self) -> String {
        let status = self.status.clone().unwrap_or_default();
        let containers = status.container_statuses.unwrap_or_default();
        let states = containers.iter().map(|c| {
            let state = c.state.clone().unwrap_or_default();
            let waits = state.waiting.and_then(|w| w.reason).unwrap_or_default();
            let ended = state.terminated.map(|t| format!("ended with {} ({:?})", t.exit_code, t.reason));
            format!("{} ready {} restarts {} {waits}{}", c.name, c.ready, c.restart_count, ended.unwrap_or_default())
        });
        format!(
            "Pod {}: {}, deleted {}, {}",
            self.name_any(),
            status.phase.unwrap_or_default(),
            self.metadata.deletion_timestamp.is_some(),
            states.collect::<Vec<_>>().join(", ")
        )
    }
}

impl Summary for Event {
    fn summary(&self) -> String {
        let (reason, message) = (self.reason.clone().unwrap_or_default(), self.message.clone().unwrap_or_default());
        format!("event on {}: {reason}: {message}", self.involved_object.name.clone().unwrap_or_default())
    }
}

impl Summary for k8s_openapi::api::core::v1::Namespace {
    fn summary(&self) -> String {
        format!("Namespace {}: {:?}", self.name_any(), self.status)
    }
}

impl Summary for k8s_openapi::api::coordination::v1::Lease {
    fn summary(&self) -> String {
        let holder = self.spec.as_ref().and_then(|s| s.holder_identity.clone());
        format!("Lease {}: held by {holder:?}", self.name_any())
    }
}

impl Summary for k8s_openapi::api::apps::v1::Deployment {
    fn summary(&self) -> String {
        format!("Deployment {}: {:?}", self.name_any(), self.status)
    }
}

/// At most `limit` characters of `text`, with a note when some were left off.
pub fn shortened(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}… ({} bytes in all)", &text[..end], text.len()),
    }
}
