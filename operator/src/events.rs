//! Kubernetes events: what a person would ask about, and nothing that costs a room a write on its way to `Ready`.
//!
//! They are written without asking the leader's claim: nothing is decided by them (see `docs/decisions/leader-claim.md`).

use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Client, Resource,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tokio::sync::mpsc;

use crate::{
    api::{WRITE_TIMEOUT, WriteError},
    metrics::Metrics,
};

/// Events that may wait to be written. Further ones are dropped: they must never hold up a new route.
pub const BACKLOG: usize = 1024;
/// Bytes of an event's note that the API server takes. The rest is cut off: a refusal may say a lot.
pub const LONGEST_NOTE: usize = 1024;

const KIND: &str = "Event";

/// An event that waits to be written, and what it is about.
pub(crate) type Waiting = (Event, ObjectReference);

/// Takes events.
#[derive(Clone)]
pub struct Events {
    sender: mpsc::Sender<Waiting>,
}

impl Events {
    /// Where events go, and what writes and counts them: spawn the second.
    pub fn new(
        client: Client,
        instance: String,
        metrics: Arc<Metrics>,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (events, mut receiver) = Self::channel();
        let recorder =
            Recorder::new(client, Reporter { controller: "callplane-operator".into(), instance: Some(instance) });
        let write = async move {
            while let Some((event, about)) = receiver.recv().await {
                let written = match tokio::time::timeout(WRITE_TIMEOUT, recorder.publish(&event, &about)).await {
                    Ok(written) => written.map_err(|error| WriteError::of(KIND, error)),
                    Err(_) => Err(WriteError::Timeout { kind: KIND }),
                };
                metrics.wrote(KIND, "publish", written.as_ref().map_or_else(WriteError::reason, |()| "ok"));
                if let Err(error) = written {
                    tracing::debug!(%error, reason = event.reason, "event not written");
                }
            }
        };
        (events, write)
    }

    /// Where events go, and where they come out.
    pub(crate) fn channel() -> (Self, mpsc::Receiver<Waiting>) {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        (Self { sender }, receiver)
    }

    /// Tells about `object` that `action` was done for `reason`.
    pub fn tell<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        type_: EventType,
        reason: &str,
        action: &str,
        mut note: String,
    ) {
        note.truncate(note.floor_char_boundary(LONGEST_NOTE));
        let event =
            Event { type_, reason: reason.to_owned(), note: Some(note), action: action.to_owned(), secondary: None };
        if self.sender.try_send((event, object.object_ref(&()))).is_err() {
            tracing::debug!(reason, "event dropped: too many wait");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fixtures::room;

    #[test]
    fn a_note_is_cut_to_what_the_api_server_takes() {
        let (events, mut receiver) = Events::channel();
        for (note, left) in [("short".to_owned(), 5), ("x".repeat(5000), 1024), ("☎".repeat(5000), 1023)] {
            events.tell(&room("r", 1, 4), EventType::Warning, "Reason", "Act", note);
            let (event, about) = receiver.try_recv().unwrap();
            assert_eq!((event.note.unwrap().len(), about.name.as_deref()), (left, Some("r")));
        }
    }

    #[test]
    fn events_that_nobody_writes_hold_up_nobody() {
        let (events, mut receiver) = Events::channel();
        for _ in 0..2 * BACKLOG {
            events.tell(&room("r", 1, 4), EventType::Normal, "Reason", "Act", String::new());
        }
        assert_eq!(std::iter::from_fn(|| receiver.try_recv().ok()).count(), BACKLOG);
    }
}
