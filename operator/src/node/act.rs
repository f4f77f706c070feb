//! Carries out a verdict on a node.

use std::{sync::Arc, time::Duration};

use callplane_crds::{
    MediaNode,
    condition::{self, Status, condition},
    names::NODE_MANAGER,
};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde::Serialize;

use super::{
    decide::{ASK_AGAIN, PROBE_AGAIN, Plan, decide},
    observe::observe,
    report,
};
use crate::{
    api::WriteError,
    cluster::node::{LossCause, NODE_LOST, PodSight},
    context::Context,
    queue::Next,
};

/// How long a node may take to answer one probe.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// Probes that have to fail.
pub const PROBES: usize = 2;
/// Every node is looked at again after this time even if nothing seems to have changed.
const RESYNC: Duration = Duration::from_secs(60);

/// Looks at one node and does what its state asks for.
pub async fn reconcile(name: String, ctx: Arc<Context>) -> Next {
    let started = ctx.clock.now();
    let Some(world) = observe(&ctx.cluster(), &name, started) else { return Next::Rest };
    let plan = decide(&world, started);
    let result = match tokio::time::timeout(Duration::from_secs(15), act(&name, plan, &ctx)).await {
        Ok(result) => result,
        Err(_) => Err(WriteError::Timeout { kind: "MediaNode" }),
    };
    let took = ctx.clock.now().mono.saturating_sub(started.mono);
    ctx.metrics.reconciled("node", result.as_ref().map_or_else(WriteError::reason, |_| "ok"), took);
    match result {
        Ok(again) => Next::After(again.unwrap_or(RESYNC).min(RESYNC)),
        // A claim can lapse and be renewed between two looks of the election; a real follower's queues are emptied.
        Err(WriteError::NotLeader) => Next::RetrySoon,
        Err(error) if error.is_outage() => {
            tracing::debug!(node = name, %error, "node not handled");
            Next::RetrySoon
        }
        Err(error) => {
            tracing::warn!(node = name, %error, "node not handled");
            Next::RetrySoon
        }
    }
}

async fn act(name: &str, plan: Plan, ctx: &Context) -> Result<Option<Duration>, WriteError> {
    match plan {
        Plan::Rest(again) => Ok(again),
        Plan::Lose(cause) => lose(name, cause, ctx).await,
        Plan::Mark(cause) => mark(name, &cause, ctx).await,
        Plan::ConfirmNode(uid) => confirm_node(name, uid.as_deref(), ctx).await,
        Plan::ConfirmPod => confirm_pod(name, ctx).await,
        Plan::Probe => {
            let suspended = ctx.cluster().suspect_mass_expiry(ctx.clock.now().mono);
            if suspended {
                tracing::warn!(
                    node = name,
                    "many leases expired at once: nobody is judged before all could renew again"
                );
                return Ok(Some(Duration::from_secs(1)));
            }
            if answers(name, ctx).await {
                tracing::warn!(
                    node = name,
                    "lease expired, but the node answers: it keeps its rooms and gets no new ones"
                );
                return Ok(Some(PROBE_AGAIN));
            }
            // It may have renewed while it was being asked.
            let now = ctx.clock.now();
            let still = observe(&ctx.cluster(), name, now).map(|world| decide(&world, now));
            match still {
                Some(Plan::Probe) => lose(name, LossCause::Silent, ctx).await,
                _ => Ok(Some(Duration::ZERO)),
            }
        }
    }
}

/// Asks the API server for a MediaNode that the watch does not show. Whatever it fails with, nothing follows.
async fn confirm_node(name: &str, uid: Option<&str>, ctx: &Context) -> Result<Option<Duration>, WriteError> {
    let nodes: Api<MediaNode> = Api::namespaced(ctx.writer.client.clone(), &ctx.namespace);
    let found = ctx.writer.read("MediaNode", nodes.get_metadata_opt(name)).await?;
    let now = ctx.clock.now().mono;
    if found.is_some_and(|f| uid.is_none() || f.metadata.uid.as_deref() == uid) {
        tracing::info!(node = name, "the watch does not show a node that is there: its rooms stay");
        ctx.cluster().asked_about(name, now);
        return Ok(Some(ASK_AGAIN));
    }
    let effects = ctx.cluster().node_gone(name, now);
    tracing::warn!(node = name, rooms = effects.urgent.len(), "node gone");
    ctx.spread(effects);
    Ok(None)
}

/// Asks the API server for a pod that the watch does not show.
async fn confirm_pod(name: &str, ctx: &Context) -> Result<Option<Duration>, WriteError> {
    let pods: Api<Pod> = Api::namespaced(ctx.writer.client.clone(), &ctx.namespace);
    let found = ctx.writer.read("Pod", pods.get_opt(name)).await;
    // Asked in vain counts as asked: meanwhile the node's lease speaks for it, or does not.
    let now = ctx.clock.now().mono;
    ctx.cluster().asked_about(name, now);
    let found = found?;
    let known = match ctx.cluster().node(name).map(|n| n.pod.clone()) {
        // The watch has shown it meanwhile, and knows better.
        Some(PodSight::Left { uid }) => uid,
        Some(PodSight::Unseen) => None,
        _ => return Ok(Some(Duration::ZERO)),
    };
    let same = found.filter(|pod| known.is_none() || pod.metadata.uid == known);
    match same.as_ref().map(PodSight::of) {
        None => {
            ctx.cluster().pod_gone(name);
            lose(name, LossCause::PodGone, ctx).await
        }
        Some(PodSight::Ended(how)) => lose(name, LossCause::PodEnded(how), ctx).await,
        Some(_) => Ok(Some(Duration::ZERO)),
    }
}

async fn lose(name: &str, cause: LossCause, ctx: &Context) -> Result<Option<Duration>, WriteError> {
    let (object, effects) = {
        let mut cluster = ctx.cluster();
        let object = cluster.node(name).and_then(|n| n.object.clone());
        let effects = cluster.mark_lost(name, cause.clone(), ctx.clock.now().mono);
        drop(cluster);
        (object, effects)
    };
    if let Some(object) = object {
        report::lost(&object, &cause, effects.urgent.len(), ctx);
    }
    // Routes first: they are what calls wait for.
    ctx.spread(effects);
    mark(name, &cause, ctx).await
}

/// `Ready=Unknown` as it is applied.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct MarkApply<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: Name<'a>,
    status: Conditions,
}

#[derive(Debug, Serialize)]
struct Name<'a> {
    name: &'a str,
    uid: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Conditions {
    conditions: Vec<Condition>,
}

async fn mark(name: &str, cause: &LossCause, ctx: &Context) -> Result<Option<Duration>, WriteError> {
    let Some(object) = ctx.cluster().node(name).and_then(|n| n.object.clone()) else { return Ok(None) };
    let previous = object.status.as_ref().map_or(&[][..], |s| &s.conditions);
    let ready = condition(
        previous,
        condition::node::READY,
        Status::Unknown,
        NODE_LOST,
        cause.to_string(),
        object.metadata.generation,
        ctx.clock.now().wall_seconds(),
    );
    let body = MarkApply {
        api_version: "callplane.io/v1alpha1",
        kind: "MediaNode",
        metadata: Name { name, uid: object.metadata.uid.as_deref() },
        status: Conditions { conditions: vec![ready] },
    };
    let api: Api<MediaNode> = Api::namespaced(ctx.writer.client.clone(), &ctx.namespace);
    let parameters = PatchParams::apply(NODE_MANAGER).force();
    let patch = Patch::Apply(&body);
    match ctx.writer.write("MediaNode/status", "apply", api.patch_status(name, &parameters, &patch)).await {
        Ok(answer) => {
            let effects = ctx.cluster().answer_node(answer, ctx.clock.now().mono);
            ctx.spread(effects);
            Ok(None)
        }
        Err(WriteError::Gone { .. } | WriteError::Conflict { .. }) => Ok(Some(Duration::from_secs(1))),
        Err(error) => Err(error),
    }
}

/// Whether the node answers.
async fn answers(name: &str, ctx: &Context) -> bool {
    let object = ctx.cluster().node(name).and_then(|n| n.object.clone());
    let Some(admin) = object.and_then(|n| n.status.as_ref()?.endpoints.as_ref().map(|e| e.admin.clone())) else {
        return false;
    };
    let url = format!("{}/livez", admin.trim_end_matches('/'));
    for attempt in 1..=PROBES {
        let asked = ctx.clock.now().mono;
        match ctx.probe.get(&url).timeout(PROBE_TIMEOUT).send().await {
            Ok(answer) if answer.status().is_success() => return true,
            Ok(answer) => {
                tracing::info!(node = name, attempt, status = %answer.status(), "probe answered with an error")
            }
            Err(error) => tracing::info!(node = name, attempt, %error, "probe failed"),
        }
        // A refused connection fails at once: leave the node the time that a restart of its listener takes.
        if attempt < PROBES {
            let spent = ctx.clock.now().mono.saturating_sub(asked);
            tokio::time::sleep(PROBE_TIMEOUT.saturating_sub(spent)).await;
        }
    }
    false
}
