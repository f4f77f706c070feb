//! Does for a room what was decided.

use std::{sync::Arc, time::Duration};

use callplane_crds::{CallRoom, CallRoomStatus, names::ROOM_MANAGER};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use serde::Serialize;

use super::{
    decide::{Plan, decide, share},
    observe::observe,
    report::{Outcome, report},
};
use crate::{
    api::WriteError,
    cluster::{Effects, RoomKey},
    context::Context,
    queue::Next,
    watch::prune_room,
};

/// Every room is looked at again after about this time even if nothing seems to have changed.
const RESYNC: Duration = Duration::from_secs(600);
/// Every waiting room is tried again after about this time even if no capacity seems to have appeared.
const WAITING_RESYNC: Duration = Duration::from_secs(60);

/// A room that was written is looked at again after this time.
const AFTER_WRITE: Duration = Duration::from_secs(1);

/// A room's status as it is applied.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusApply<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: Basis<'a>,
    status: &'a CallRoomStatus,
}

/// The very object that a decision was based on. The API server refuses the write if it has changed: two
/// leaders with different caches can never both set the same epoch.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Basis<'a> {
    name: &'a str,
    namespace: &'a str,
    uid: Option<&'a str>,
    resource_version: Option<&'a str>,
}

/// Looks at one room and does what it needs.
pub async fn reconcile(key: RoomKey, ctx: Arc<Context>) -> Next {
    let started = ctx.clock.now();
    // Deciding and reserving is one step under the lock: one picker, many writers.
    let (room, plan, moved) = {
        let mut cluster = ctx.cluster();
        let Some((room, moved)) = cluster.room(&key).map(|r| (Arc::clone(&r.object), r.trail.moved)) else {
            return Next::Rest;
        };
        let Some(world) = observe(&cluster, &key, started) else { return Next::Rest };
        let plan = decide(&world, started);
        let stale = world.assumed.map(|a| a.epoch).filter(|_| plan.assume.is_none() && plan.status.is_some());
        let mut effects = cluster.set_waiting(&key, plan.waits);
        if let Some(assumed) = &plan.assume {
            cluster.assume(&key, assumed.clone());
        } else if let Some(epoch) = stale {
            effects.merge(cluster.refute(&key, epoch));
        }
        drop(cluster);
        ctx.spread(effects);
        (room, plan, moved)
    };
    let result = act(&key, &room, &plan, &ctx).await;
    let now = ctx.clock.now();
    let word = result.as_ref().map_or_else(WriteError::reason, |()| "ok");
    ctx.metrics.reconciled("room", word, now.mono.saturating_sub(started.mono));
    report(&Outcome { key: &key, room: &room, plan: &plan, moved, error: result.as_ref().err(), now }, &ctx);
    match result {
        Ok(()) => Next::After(rest(&key, &plan)),
        // A claim can lapse and be renewed between two looks of the election; a real follower's queues are emptied.
        Err(WriteError::NotLeader) => Next::RetrySoon,
        Err(WriteError::Refused { .. }) => Next::Retry,
        Err(_) => Next::RetrySoon,
    }
}

async fn act(key: &RoomKey, room: &CallRoom, plan: &Plan, ctx: &Context) -> Result<(), WriteError> {
    let api: Api<CallRoom> = Api::namespaced(ctx.writer.client.clone(), &key.namespace);
    if plan.delete {
        let only_this = Preconditions { uid: room.metadata.uid.clone(), resource_version: None };
        let parameters = DeleteParams { preconditions: Some(only_this), ..DeleteParams::default() };
        return match ctx.writer.write("CallRoom", "delete", api.delete(&key.name, &parameters)).await {
            Ok(_) | Err(WriteError::Gone { .. }) => Ok(()),
            Err(error) => Err(error),
        };
    }
    let Some(status) = &plan.status else { return Ok(()) };
    let body = StatusApply {
        api_version: "callplane.io/v1alpha1",
        kind: "CallRoom",
        metadata: Basis {
            name: &key.name,
            namespace: &key.namespace,
            uid: room.metadata.uid.as_deref(),
            resource_version: room.metadata.resource_version.as_deref(),
        },
        status,
    };
    let parameters = PatchParams::apply(ROOM_MANAGER).force();
    let patch = Patch::Apply(&body);
    let written = ctx.writer.write("CallRoom/status", "apply", api.patch_status(&key.name, &parameters, &patch)).await;
    let now = ctx.clock.now().mono;
    match written {
        Ok(mut answer) => {
            prune_room(&mut answer);
            let effects = {
                let mut cluster = ctx.cluster();
                cluster.wrote_room(key, now);
                cluster.answer_room(answer, now)
            };
            // This very room was just brought up to date; only what follows from it for others is news.
            let rooms = effects.rooms.into_iter().filter(|other| other != key).collect();
            ctx.spread(Effects { rooms, ..effects });
            Ok(())
        }
        Err(error) => {
            // Unless it is refused for good, the route may have been written: it stays assumed until the cache tells.
            if let Some(assumed) = plan.assume.as_ref().filter(|_| error.is_final()) {
                let freed = ctx.cluster().refute(key, assumed.epoch);
                ctx.spread(freed);
            }
            Err(error)
        }
    }
}

/// When to look at a room again, spread by its name so that not all come at once.
fn rest(key: &RoomKey, plan: &Plan) -> Duration {
    let base = if plan.waits { WAITING_RESYNC } else { RESYNC };
    let resync = base + base * share(&key.name) / 4000;
    // What was just written may have set a clock running (an end, a longest duration).
    let after_write = if plan.status.is_some() { AFTER_WRITE } else { resync };
    plan.again.unwrap_or(resync).min(resync).min(after_write)
}
