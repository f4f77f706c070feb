//! The node's own MediaNode: what the operator and people ask of it.

use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Api, Client, Resource, runtime::watcher::Event};
use tokio::sync::watch;

use super::{
    connection, lease,
    metrics::{Metrics, Watched},
    view::NodeView,
};

/// Follows the MediaNode `namespace/node`, for ever. `None` while there is none, or none has been seen yet.
pub async fn follow(
    client: Client,
    (namespace, node): (&str, &str),
    contact: watch::Receiver<lease::Contact>,
    metrics: Metrics,
    own: watch::Sender<Option<NodeView>>,
    owner: watch::Sender<Option<OwnerReference>>,
) {
    let api = Api::namespaced(client, namespace);
    let fields = format!("metadata.name={node}");
    let mut events = Box::pin(connection::events(api, &fields, Watched::medianode, contact, metrics));
    let mut listed = false;
    while let Some(event) = events.next().await {
        let found: Option<NodeView> = match event {
            Event::Init => {
                listed = false;
                continue;
            }
            Event::InitApply(node) | Event::Apply(node) => {
                listed = true;
                Some(node)
            }
            Event::Delete(_) => None,
            Event::InitDone if listed => continue,
            Event::InitDone => None,
        };
        if found.is_none() {
            tracing::warn!(
                node,
                "there is no MediaNode of this name; the node serves what it serves and waits for one"
            );
        }
        owner.send_if_modified(|o| {
            let next = found.as_ref().and_then(owner_of);
            // A Lease without its node is still this process's: the reference is replaced, never dropped.
            let changed = next.is_some() && *o != next;
            if changed {
                *o = next;
            }
            changed
        });
        own.send_replace(found);
    }
}

fn owner_of(node: &NodeView) -> Option<OwnerReference> {
    Some(OwnerReference {
        api_version: NodeView::api_version(&()).into_owned(),
        kind: NodeView::kind(&()).into_owned(),
        name: node.metadata.name.clone()?,
        uid: node.metadata.uid.clone()?,
        ..OwnerReference::default()
    })
}
