//! What is known of rooms and media nodes.

use std::{sync::Arc, time::Duration};

use axum::http::Uri;
use callplane_crds::{CallId, CallRoom, MediaNode};
use kube::runtime::reflector::{ObjectRef, Store};
use tokio::sync::watch;

use crate::{Code, Problem};

/// Rooms and media nodes as the watches last saw them. Clones are the same.
#[derive(Clone)]
pub struct Cache {
    rooms: Store<CallRoom>,
    nodes: Store<MediaNode>,
    nodes_in: String,
    changes: watch::Receiver<()>,
    synced: [watch::Receiver<bool>; 2],
}

impl Cache {
    pub(super) fn new(
        rooms: Store<CallRoom>,
        nodes: Store<MediaNode>,
        nodes_in: String,
        changes: watch::Receiver<()>,
        synced: [watch::Receiver<bool>; 2],
    ) -> Self {
        Self { rooms, nodes, nodes_in, changes, synced }
    }

    /// Whether everything was listed once.
    pub fn is_complete(&self) -> bool {
        self.synced.iter().all(|synced| *synced.borrow())
    }

    /// The room, if it is known.
    pub fn room(&self, id: &CallId) -> Option<Arc<CallRoom>> {
        self.rooms.get(&ObjectRef::new(&id.name).within(&id.namespace))
    }

    /// Some room of which `is` holds. Looks at all of them.
    pub fn find(&self, is: impl Fn(&CallRoom) -> bool) -> Option<Arc<CallRoom>> {
        self.rooms.find(is)
    }

    /// All rooms.
    pub fn rooms(&self) -> Vec<Arc<CallRoom>> {
        self.rooms.state()
    }

    /// Tells of every change, several at once if need be.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.clone()
    }

    /// The room as soon as it is known and `is` holds, or as it is when the time is up.
    pub async fn wait(&self, id: &CallId, within: Duration, is: impl Fn(&CallRoom) -> bool) -> Option<Arc<CallRoom>> {
        let mut changes = self.changes.clone();
        let wait = async {
            loop {
                changes.borrow_and_update();
                if self.room(id).is_some_and(|room| is(&room)) || changes.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(within, wait).await;
        self.room(id)
    }

    /// Where the API of a media node is.
    ///
    /// # Errors
    /// [`Code::NodeNotReady`].
    pub fn node_api(&self, node: &str) -> Result<Uri, Problem> {
        let found = self.nodes.get(&ObjectRef::new(node).within(&self.nodes_in));
        let api = found.as_ref().and_then(|n| n.status.as_ref()).and_then(|s| s.endpoints.as_ref()).map(|e| &e.api);
        let uri = api.and_then(|api| api.parse::<Uri>().ok()).filter(|uri| uri.scheme_str() == Some("http"));
        uri.ok_or_else(|| Problem::new(Code::NodeNotReady, format!("media node {node} does not say where its API is")))
    }
}
