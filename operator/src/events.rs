//! Kubernetes events: what a person would ask about, and nothing that costs a write per room in good times.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client, Resource,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tokio::sync::mpsc;

/// Events that may wait to be written. Further ones are dropped: they must never hold up a new route.
pub const BACKLOG: usize = 1024;

/// Takes events.
#[derive(Clone)]
pub struct Events {
    sender: mpsc::Sender<(Event, ObjectReference)>,
}

impl Events {
    /// Where events go, and what writes them: spawn the second.
    pub fn new(client: Client, instance: String) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (sender, mut receiver) = mpsc::channel::<(Event, ObjectReference)>(BACKLOG);
        let recorder =
            Recorder::new(client, Reporter { controller: "callplane-operator".into(), instance: Some(instance) });
        let write = async move {
            while let Some((event, about)) = receiver.recv().await {
                let publish = recorder.publish(&event, &about);
                match tokio::time::timeout(crate::api::WRITE_TIMEOUT, publish).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::debug!(%error, reason = event.reason, "event not written"),
                    Err(_) => tracing::debug!(reason = event.reason, "event not written in time"),
                }
            }
        };
        (Self { sender }, write)
    }

    /// Tells about `object` that `action` was done for `reason`.
    pub fn tell<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        type_: EventType,
        reason: &str,
        action: &str,
        note: String,
    ) {
        let event =
            Event { type_, reason: reason.to_owned(), note: Some(note), action: action.to_owned(), secondary: None };
        if self.sender.try_send((event, object.object_ref(&()))).is_err() {
            tracing::debug!(reason, "event dropped: too many wait");
        }
    }
}
