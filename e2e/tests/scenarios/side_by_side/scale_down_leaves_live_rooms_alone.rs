//! A pool is scaled from three nodes to one while all of them carry rooms: the surplus takes no further room, and each
//! node goes only when its rooms have ended. Nobody else may take its pod away either, by evicting it.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use callplane_crds::{mediapool::Placement, names::SAFE_TO_EVICT_ANNOTATION};
use callplane_e2e::{History, Scene, clock, cluster::SYSTEM, scenario, scene, wait};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt,
    api::{EvictParams, Patch, PatchParams},
    runtime::watcher,
};
use serde_json::json;

const ROOMS: usize = 6;
/// An empty node goes 20 s after it was cordoned: whoever deletes too much does it by then.
const PATIENCE: Duration = Duration::from_secs(25);

#[test]
fn a_pool_that_is_scaled_down_waits_for_its_calls_to_end() {
    scenario::side_by_side("scale-down", |scene| async move {
        let pool = scene.pool(3, |spec| spec.placement = Placement::Spread).await?;
        let history = scene.history().await?;
        scene.create_many((0..ROOMS).map(|i| format!("room-{i}")).collect(), scene::room_on(&pool, 4)).await?;
        history.until_ready(ROOMS, scene::ROOM_READY).await?;
        let on_nodes = rooms_by_node(&history);
        ensure!(on_nodes.len() == 3, "the rooms are not on all three nodes: {on_nodes:?}");

        // A node serves before its kubelet has said that its pod runs, and one that does not run yet may be evicted always.
        scene.pods_ready(&on_nodes.keys().map(String::as_str).collect::<Vec<_>>()).await?;
        for node in on_nodes.keys() {
            cannot_be_evicted(&scene, node).await?;
        }

        let one = Patch::Merge(json!({"spec": {"replicas": 1}}));
        let scaled = scene.cluster.pools().get(&pool).await?;
        scene.cluster.pools().patch_scale(&pool, &PatchParams::default(), &one).await?;
        let ours = watcher::Config::default().labels(&format!("callplane.io/pool={pool}"));
        let budget = Duration::from_secs(60);
        let nodes = scene.cluster.nodes();
        let cordoned = wait::until_all(&nodes, ours.clone(), "two cordoned nodes", budget, |nodes| {
            let cordoned: Vec<_> = nodes.values().filter(|n| n.spec.cordoned).map(ResourceExt::name_any).collect();
            (cordoned.len() == 2).then_some(cordoned)
        })
        .await?;
        let stays = on_nodes.keys().find(|n| !cordoned.contains(n)).context("one node stays")?.clone();
        println!("  {cordoned:?} are cordoned, {stays} stays");
        scene.told(&scaled, "Cordoned").await?;

        scene.create("newcomer", scene::room_on(&pool, 4)).await?;
        let (_, route) = scene.ready("newcomer", scene::ROOM_READY).await?;
        ensure!(route.node_name() == stays, "a new room went to {}, which is cordoned", route.node_name());
        nothing_goes(&scene, &ours, 3).await?;

        // One node after the other: its rooms end, it goes, and the others are left alone.
        for (left, node) in [(2, &cordoned[0]), (1, &cordoned[1])] {
            for room in &on_nodes[node] {
                let end = Patch::Merge(json!({"spec": {"ended": true}}));
                scene.rooms().patch(room, &PatchParams::default(), &end).await?;
            }
            let began = clock::now();
            wait::until_gone(&nodes, node, Duration::from_secs(120)).await?;
            wait::until_gone(&scene.cluster.pods(), node, Duration::from_secs(120)).await?;
            println!("  {node} was gone {:.1} s after its last call", began.elapsed().as_secs_f64());
            wait::until_all(&nodes, ours.clone(), "the other nodes", budget, |n| (n.len() == left).then_some(()))
                .await?;
        }
        wait::until(&scene.cluster.pools(), &pool, "to have one node", budget, |pool| {
            let status = pool?.status.as_ref()?;
            (status.replicas == 1 && status.ready_replicas == 1 && status.cordoned_replicas == 0).then_some(())
        })
        .await?;
        scene.told(&scaled, "Removed").await?;
        let moved: Vec<_> =
            history.seen().into_iter().filter(|s| s.route.as_ref().is_some_and(|r| r.epoch > 1)).collect();
        ensure!(moved.is_empty(), "rooms were moved: {moved:?}");
        history.judge_ownership()
    });
}

fn rooms_by_node(history: &History) -> BTreeMap<String, Vec<String>> {
    let mut nodes = BTreeMap::<String, Vec<String>>::new();
    for (room, seen) in history.latest() {
        nodes.entry(seen.route.and_then(|r| r.node).unwrap_or_default()).or_default().push(room);
    }
    nodes
}

/// Asks for the pod's eviction, as a drain of its machine does, and reads what keeps an autoscaler from asking.
async fn cannot_be_evicted(scene: &Scene, node: &str) -> Result<()> {
    let pod = scene.pod(node).await?;
    let safe = pod.annotations().get(SAFE_TO_EVICT_ANNOTATION).map(String::as_str);
    ensure!(
        safe == Some("false"),
        "the cluster autoscaler may take {node} away: {SAFE_TO_EVICT_ANNOTATION} is {safe:?}"
    );
    // The refusal is a 429, which clients try again for minutes as a rule.
    let mut config = scene.cluster.config.clone();
    config.default_retry = false;
    let pods: Api<Pod> = Api::namespaced(Client::try_from(config)?, SYSTEM);
    match pods.evict(node, &EvictParams::default()).await {
        Err(kube::Error::Api(refusal)) if refusal.code == 429 && refusal.message.contains("disruption budget") => {
            println!("  {node} is not evicted: {}", refusal.message);
        }
        other => anyhow::bail!("{node} carries rooms, and evicting it came to {other:?}"),
    }
    let after = scene.pod(node).await?;
    ensure!(after.metadata.deletion_timestamp.is_none(), "{node} goes although its eviction was refused");
    Ok(())
}

async fn nothing_goes(scene: &Scene, ours: &watcher::Config, count: usize) -> Result<()> {
    let nodes = scene.cluster.nodes();
    let pods = scene.cluster.pods();
    let node_goes = wait::never(&nodes, ours.clone(), "a node that goes", PATIENCE, |nodes| {
        let leaving = nodes.values().any(|n| n.metadata.deletion_timestamp.is_some());
        (leaving || nodes.len() != count).then(|| format!("{} nodes, leaving: {leaving}", nodes.len()))
    });
    let pod_goes = wait::never(&pods, ours.clone(), "a pod that goes", PATIENCE, |pods| {
        let leaving = pods.values().any(|p| p.metadata.deletion_timestamp.is_some());
        (leaving || pods.len() != count).then(|| format!("{} pods, leaving: {leaving}", pods.len()))
    });
    tokio::try_join!(node_goes, pod_goes).map(drop)
}
