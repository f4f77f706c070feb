//! Tells about nodes.

use callplane_crds::MediaNode;
use kube::{ResourceExt, runtime::events::EventType};

use crate::{
    cluster::node::{LossCause, NODE_LOST},
    context::Context,
};

/// A node was given up.
pub fn lost(node: &MediaNode, cause: &LossCause, rooms: usize, ctx: &Context) {
    tracing::warn!(node = node.name_any(), %cause, rooms, "node lost");
    let note = format!("{cause}; {rooms} calls go on elsewhere");
    ctx.events.tell(node, EventType::Warning, NODE_LOST, "RerouteCalls", note);
}
