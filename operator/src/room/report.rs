//! Tells what was decided about a room: log, metrics, and an event where a person would ask.

use callplane_crds::CallRoom;
use kube::runtime::events::EventType;

use super::decide::{Plan, Verdict};
use crate::{api::WriteError, clock::Now, cluster::RoomKey, context::Context};

/// Reports the outcome of one look at a room.
pub fn report(key: &RoomKey, room: &CallRoom, plan: &Plan, error: Option<&WriteError>, now: Now, ctx: &Context) {
    if let Some(error) = error {
        match error {
            WriteError::Refused { .. } => tracing::warn!(room = %key, %error, "room not written"),
            _ => tracing::debug!(room = %key, %error, "room not written"),
        }
        if let WriteError::Refused { .. } = error {
            ctx.events.tell(room, EventType::Warning, "StatusRefused", "UpdateStatus", error.to_string());
        }
        return;
    }
    match &plan.verdict {
        Verdict::Placed { node } => {
            let first_seen = ctx.cluster().room(key).map(|r| r.first_seen);
            let took = first_seen.map(|at| now.mono.saturating_sub(at)).unwrap_or_default();
            ctx.metrics.placement_seconds.observe(took.as_secs_f64());
            tracing::info!(room = %key, node, ms = took.as_millis(), "placed");
        }
        Verdict::Rerouted { from, to } => {
            let lost = ctx.cluster().node(from).and_then(|n| n.lost.as_ref().map(|l| l.since).or(n.gone));
            if let Some(since) = lost {
                ctx.metrics.reroute_seconds.observe(now.mono.saturating_sub(since).as_secs_f64());
            }
            tracing::warn!(room = %key, from, to, "routed away from a lost node");
            let note = format!("media node {from} is lost; the call goes on on {to}");
            ctx.events.tell(room, EventType::Warning, super::routes::NODE_LOST, "Reroute", note);
        }
        Verdict::Refused(refusal) if plan.status.is_some() => {
            tracing::warn!(room = %key, reason = refusal.reason(), %refusal, "no node takes the room");
            ctx.events.tell(room, EventType::Warning, refusal.reason(), "Place", refusal.to_string());
        }
        Verdict::Ended(reason) => tracing::info!(room = %key, reason, "ended"),
        Verdict::Expired => tracing::info!(room = %key, "deleted after its time"),
        Verdict::Refused(_) | Verdict::Updated | Verdict::Unchanged => {}
    }
}
