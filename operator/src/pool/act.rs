//! Carries out a pool's plan, step by step.

use std::{
    collections::HashSet,
    sync::{Arc, PoisonError},
    time::Duration,
};

use callplane_crds::{CallRoom, MediaNode, MediaPool, MediaPoolStatus, medianode::Capacity, names::POOL_MANAGER};
use k8s_openapi::api::{core::v1::Pod, policy::v1::PodDisruptionBudget};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
    runtime::events::EventType,
};
use serde::Serialize;

use super::{
    decide::{Step, decide},
    objects,
    observe::{SURPLUS_ANNOTATION, World, observe},
    pod,
    report::status,
};
use crate::{api::WriteError, context::Context, queue::Next};

/// Longest time for one look at a pool.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Every pool is looked at again after this time even if nothing seems to have changed.
const RESYNC: Duration = Duration::from_secs(30);

/// Looks at one pool and does what it needs.
pub async fn reconcile(name: String, ctx: Arc<Context>) -> Next {
    let started = ctx.clock.now();
    let result = match tokio::time::timeout(TIMEOUT, pass(&name, &ctx)).await {
        Ok(result) => result,
        Err(_) => Err(WriteError::Timeout { kind: "MediaPool" }),
    };
    let took = ctx.clock.now().mono.saturating_sub(started.mono);
    ctx.metrics.reconciled("pool", result.as_ref().map_or_else(WriteError::reason, |_| "ok"), took);
    match result {
        Ok(again) => Next::After(again.unwrap_or(RESYNC).clamp(Duration::from_millis(50), RESYNC)),
        // A claim can lapse and be renewed between two looks of the election; a real follower's queues are emptied.
        Err(WriteError::NotLeader) => Next::RetrySoon,
        Err(error) if error.is_outage() => {
            tracing::debug!(pool = name, %error, "pool not handled");
            Next::Retry
        }
        Err(error) => {
            tracing::warn!(pool = name, %error, "pool not handled");
            Next::Retry
        }
    }
}

async fn pass(name: &str, ctx: &Context) -> Result<Option<Duration>, WriteError> {
    let now = ctx.clock.now();
    let crashes = {
        let all = ctx.crashes.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(name).cloned().unwrap_or_default()
    };
    let Some(world) = observe(&ctx.cluster(), name, crashes, now) else {
        ctx.crashes.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        return Ok(None);
    };
    if world.pool.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    let plan = decide(&world, now);
    let mut again = plan.again;
    if !plan.steps.is_empty() {
        tracing::info!(pool = name, steps = ?plan.steps, "pool changes");
    }
    write_status(&world, status(&world, &plan, now), ctx).await?;
    let (mut created, mut failed) = (0, keep_budget(&world.pool, ctx).await.err());
    // The budget is in force before the first pod is there.
    let guarded = failed.is_none();
    for step in &plan.steps {
        let done = match step {
            Step::Create { .. } | Step::CreatePod { .. } if !guarded => Ok(()),
            // The cache may not show yet what was made a moment ago: ask before making more.
            Step::Create { ports } => {
                if created == 0 && is_outdated(&world, ctx).await? {
                    return Ok(Some(Duration::from_millis(500)));
                }
                created += 1;
                create(&world, ports.clone(), ctx).await
            }
            Step::CreatePod { node } => match world.nodes.iter().find(|n| n.name == *node) {
                Some(node) => create_pod(&world, &node.object, ctx).await,
                None => Ok(()),
            },
            Step::Cordon { node } => set_cordoned(node, true, &world, ctx).await,
            Step::Uncordon { node } => set_cordoned(node, false, &world, ctx).await,
            Step::Resize { node } => resize(node, &world, ctx).await,
            Step::Remove { node } => remove(node, &world, ctx).await.map(|removed| {
                if !removed {
                    again = Some(Duration::from_secs(5));
                }
            }),
            Step::Bury { node, cause } => bury(node, &cause.to_string(), &world, ctx).await,
        };
        // A quota that refuses one pod must not keep the others from being cordoned, removed or replaced.
        if let Err(error) = done {
            failed.get_or_insert(error);
        }
    }
    if let Some(error) = failed {
        return Err(error);
    }
    // Steps change the caches, and these call again; this is for what they do not change.
    Ok(if created > 0 { Some(Duration::from_secs(1)) } else { again })
}

async fn write_status(world: &World, status: MediaPoolStatus, ctx: &Context) -> Result<(), WriteError> {
    if world.pool.status.as_ref() == Some(&status) {
        return Ok(());
    }
    let name = world.pool.name_any();
    let api: Api<MediaPool> = Api::namespaced(ctx.writer.client.clone(), &ctx.namespace);
    let body = StatusApply {
        api_version: "callplane.io/v1alpha1",
        kind: "MediaPool",
        metadata: Named { name: &name, uid: world.pool.metadata.uid.as_deref() },
        status: &status,
    };
    let parameters = PatchParams::apply(POOL_MANAGER).force();
    let patch = Patch::Apply(&body);
    let written = ctx.writer.write("MediaPool/status", "apply", api.patch_status(&name, &parameters, &patch)).await;
    match written {
        Ok(_) | Err(WriteError::Gone { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether the API server knows more nodes of the pool than the cache that the plan was made from.
async fn is_outdated(world: &World, ctx: &Context) -> Result<bool, WriteError> {
    let api: Api<MediaNode> = Api::namespaced(ctx.writer.client.clone(), &ctx.namespace);
    let of_pool = ListParams::default().fields(&format!("spec.pool={}", world.pool.name_any()));
    let listed = ctx.writer.read("MediaNode", api.list_metadata(&of_pool)).await?;
    // A node that no pool made is not in the world, and is no news either.
    let cluster = ctx.cluster();
    let foreign = cluster.nodes().filter(|(_, n)| !n.is_managed()).filter_map(|(_, n)| n.object.as_ref());
    let known: HashSet<Option<&str>> =
        world.nodes.iter().map(|n| &n.object).chain(foreign).map(|n| n.metadata.uid.as_deref()).collect();
    Ok(listed.items.iter().any(|n| !known.contains(&n.metadata.uid.as_deref())))
}

async fn create(world: &World, ports: Vec<i32>, ctx: &Context) -> Result<(), WriteError> {
    let name = format!("{}-{}", world.pool.name_any(), random_suffix());
    let api: Api<MediaNode> = Api::namespaced(ctx.writer.client.clone(), &ctx.namespace);
    let node = objects::node(&world.pool, &name, &world.template_hash, ports);
    let node = ctx.writer.write("MediaNode", "create", api.create(&post(), &node)).await?;
    create_pod(world, &node, ctx).await
}

async fn create_pod(world: &World, node: &MediaNode, ctx: &Context) -> Result<(), WriteError> {
    let api: Api<Pod> = Api::namespaced(ctx.writer.client.clone(), &ctx.namespace);
    let pod = pod::pod(node, &world.pool.spec, &ctx.media_node_image);
    match ctx.writer.write("Pod", "create", api.create(&post(), &pod)).await {
        Ok(_) | Err(WriteError::Conflict { .. }) => Ok(()),
        Err(error) => {
            if let WriteError::Refused { .. } = &error {
                ctx.events.tell(&*world.pool, EventType::Warning, "PodRefused", "CreatePod", error.to_string());
            }
            Err(error)
        }
    }
}

/// Makes the pool's disruption budget, or puts it right should anybody have changed it. Looked at every [`RESYNC`].
async fn keep_budget(pool: &MediaPool, ctx: &Context) -> Result<(), WriteError> {
    let (name, now) = (pool.name_any(), ctx.clock.now().mono);
    let budgets = || ctx.budgets.lock().unwrap_or_else(PoisonError::into_inner);
    if budgets().get(&name).is_some_and(|at| now.saturating_sub(*at) < RESYNC) {
        return Ok(());
    }
    let kind = "PodDisruptionBudget";
    let api: Api<PodDisruptionBudget> = Api::namespaced(ctx.writer.client.clone(), &ctx.namespace);
    let wanted = objects::budget(pool);
    match ctx.writer.read(kind, api.get_opt(&wanted.name_any())).await? {
        None => {
            ctx.writer.write(kind, "create", api.create(&post(), &wanted)).await?;
        }
        // Replaced and not applied: an apply leaves what others set, such as a maxUnavailable, and is refused for it.
        Some(live) => {
            if let Some(next) = objects::repaired(&live, &wanted) {
                tracing::warn!(pool = name, "the disruption budget was changed: put right");
                ctx.writer.write(kind, "replace", api.replace(&wanted.name_any(), &post(), &next)).await?;
            }
        }
    }
    budgets().insert(name, now);
    Ok(())
}

async fn set_cordoned(node: &str, cordoned: bool, world: &World, ctx: &Context) -> Result<(), WriteError> {
    let Some(sight) = world.nodes.iter().find(|n| n.name == node) else { return Ok(()) };
    let patch = CordonPatch {
        metadata: CordonMetadata {
            resource_version: sight.object.metadata.resource_version.as_deref(),
            annotations: SurplusAnnotation { surplus: cordoned.then_some("true") },
        },
        // A node that a person had cordoned before stays cordoned by that person's will only while it is surplus.
        spec: Cordoned { cordoned },
    };
    patch_node(node, &patch, ctx).await?;
    let (reason, what) =
        if cordoned { ("Cordoned", "surplus: takes no further room") } else { ("Uncordoned", "needed again") };
    ctx.events.tell(&*world.pool, EventType::Normal, reason, "Scale", format!("media node {node} is {what}"));
    Ok(())
}

async fn resize(node: &str, world: &World, ctx: &Context) -> Result<(), WriteError> {
    patch_node(node, &CapacityPatch { spec: WithCapacity { capacity: &world.pool.spec.capacity } }, ctx).await
}

async fn patch_node<P: Serialize + std::fmt::Debug>(node: &str, patch: &P, ctx: &Context) -> Result<(), WriteError> {
    let api: Api<MediaNode> = Api::namespaced(ctx.writer.client.clone(), &ctx.namespace);
    let parameters = PatchParams { field_manager: Some(POOL_MANAGER.to_owned()), ..PatchParams::default() };
    let patch = Patch::Merge(patch);
    let answer = ctx.writer.write("MediaNode", "patch", api.patch(node, &parameters, &patch)).await?;
    let effects = ctx.cluster().answer_node(answer, ctx.clock.now().mono);
    ctx.spread(effects);
    Ok(())
}

/// Deletes an empty node, after asking the API server itself whether a route names it. Returns whether it did.
async fn remove(node: &str, world: &World, ctx: &Context) -> Result<bool, WriteError> {
    let rooms: Api<CallRoom> = ctx.all_rooms(ctx.writer.client.clone());
    for field in ["status.route.node", "status.previousRoute.node"] {
        let routed = ListParams::default().fields(&format!("{field}={node}")).limit(1);
        let listed = ctx.writer.read("CallRoom", rooms.list_metadata(&routed)).await?;
        if !listed.items.is_empty() {
            tracing::info!(node, "still carries a room: kept");
            return Ok(false);
        }
    }
    let Some(sight) = world.nodes.iter().find(|n| n.name == node) else { return Ok(true) };
    // Not one report later than the one that said that it is empty.
    let exactly_this = Preconditions {
        uid: sight.object.metadata.uid.clone(),
        resource_version: sight.object.metadata.resource_version.clone(),
    };
    match delete(node, exactly_this, ctx).await {
        Ok(_) => {
            let note = format!("media node {node} is empty and surplus: removed");
            ctx.events.tell(&*world.pool, EventType::Normal, "Removed", "Scale", note);
            Ok(true)
        }
        Err(WriteError::Conflict { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

async fn bury(node: &str, cause: &str, world: &World, ctx: &Context) -> Result<(), WriteError> {
    let Some(sight) = world.nodes.iter().find(|n| n.name == node) else { return Ok(()) };
    let only_this = Preconditions { uid: sight.object.metadata.uid.clone(), resource_version: None };
    if !delete(node, only_this, ctx).await? {
        return Ok(());
    }
    // One that was told to go did not crash.
    if !sight.is_surplus {
        let now = ctx.clock.now();
        let lived = sight.age(now).unwrap_or_default();
        let mut crashes = ctx.crashes.lock().unwrap_or_else(PoisonError::into_inner);
        crashes.entry(world.pool.name_any()).or_default().record(format!("{node}: {cause}"), lived, now.mono);
    }
    let note = format!("media node {node} is dead, {cause}; another takes its place");
    ctx.events.tell(&*world.pool, EventType::Warning, "NodeReplaced", "Replace", note);
    Ok(())
}

/// Returns whether it was there.
async fn delete(node: &str, preconditions: Preconditions, ctx: &Context) -> Result<bool, WriteError> {
    let api: Api<MediaNode> = Api::namespaced(ctx.writer.client.clone(), &ctx.namespace);
    let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
    match ctx.writer.write("MediaNode", "delete", api.delete(node, &parameters)).await {
        Ok(_) => Ok(true),
        Err(WriteError::Gone { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

fn post() -> PostParams {
    PostParams { field_manager: Some(POOL_MANAGER.to_owned()), ..PostParams::default() }
}

/// Five letters and digits, without those that spell words.
#[expect(clippy::disallowed_methods, reason = "this is where names get their chance part")]
fn random_suffix() -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    use rand::RngExt;
    let mut random = rand::rng();
    (0..5).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())])).collect()
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct StatusApply<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: Named<'a>,
    status: &'a MediaPoolStatus,
}

#[derive(Debug, Serialize)]
struct Named<'a> {
    name: &'a str,
    uid: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct CordonPatch<'a> {
    metadata: CordonMetadata<'a>,
    spec: Cordoned,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CordonMetadata<'a> {
    resource_version: Option<&'a str>,
    annotations: SurplusAnnotation,
}

/// A merge patch removes what is null.
#[derive(Debug, Serialize)]
struct SurplusAnnotation {
    #[serde(rename = "callplane.io/surplus")]
    surplus: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct Cordoned {
    cordoned: bool,
}

#[derive(Debug, Serialize)]
struct CapacityPatch<'a> {
    spec: WithCapacity<'a>,
}

#[derive(Debug, Serialize)]
struct WithCapacity<'a> {
    capacity: &'a Capacity,
}

const _: () = assert!(SURPLUS_ANNOTATION.len() == "callplane.io/surplus".len());
