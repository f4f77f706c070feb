//! A media node is killed with SIGKILL in the middle of a call: the room has a new epoch elsewhere at once, and the
//! browsers see each other again.

use std::time::Duration;

use anyhow::{Context, ensure};
use callplane_e2e::{Call, browsers::Sample, clock, process, scenario, scene, wait};
use k8s_openapi::api::core::v1::Pod;

/// From the pod's end being known to the new epoch. A second is promised, and milliseconds are usual; the rest is for two
/// watches and a new browser session on two busy cores.
const NEW_EPOCH: Duration = Duration::from_secs(5);
/// Until Kubernetes knows of the end, and until the browsers see each other again.
const KNOWN: Duration = Duration::from_secs(60);

#[test]
fn a_call_goes_on_elsewhere_when_its_node_is_killed() {
    scenario::alone("killed-node", |scene| async move {
        let pool = scene.pool(2, |_| {}).await?;
        scene.create("standup", scene::room_on(&pool, 4)).await?;
        let (room, first) = scene.ready("standup", scene::ROOM_READY).await?;
        let history = scene.history().await?;
        let call = Call::start(&scene, "standup", 2).await?;
        let before = call.samples().len();

        let pod = scene.pod(first.node_name()).await?;
        let (pods, node) = (scene.cluster.pods(), first.node_name().to_owned());
        let ended = tokio::spawn(async move {
            wait::until(&pods, &node, "to have ended", KNOWN, |pod| pod.is_none_or(has_ended).then(clock::now)).await
        });
        let killed = clock::now();
        let killed_at = clock::wall().as_millisecond() as f64;
        process::signal(&pod, process::Signal::Kill).await?;

        let moved = history.until_epoch("standup", 2, KNOWN).await?;
        let ended = ended.await??;
        let route = moved.route.clone().context("an epoch belongs to a route")?;
        println!(
            "  killed; pod known to have ended after {:?}, epoch 2 on {} {:?} after that ({})",
            ended - killed,
            route.node_name(),
            moved.at.saturating_duration_since(ended),
            route.reason
        );
        ensure!(route.node != first.node, "epoch 2 is on the node that was killed");
        let late = moved.at.saturating_duration_since(ended);
        ensure!(late <= NEW_EPOCH, "epoch 2 came {late:?} after the pod was known to have ended");
        let event = scene.told(&room, "NodeLost").await?;
        for node in [first.node_name(), route.node_name()] {
            ensure!(event.contains(node), "the event about the call does not name {node}: {event}");
        }

        let again = |sample: &Sample| sample.pages.iter().all(|p| p.sees_all(1, 2)).then_some(());
        call.until("the browsers to see each other again", KNOWN, again).await?;
        for (user, event) in call.events_since(before) {
            if event.kind == "rejoined" {
                println!("  {user} was back {:.0} ms after the kill", event.at - killed_at);
            }
        }
        println!("  longest time without a new picture: {:.0} ms", call.longest_gap_ms_since(before));
        history.judge_ownership()?;
        call.end().await?;
        scene.ready_nodes(&pool, 2).await.context("the pool replaces the node")?;
        Ok(())
    });
}

fn has_ended(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let mut containers = status.and_then(|s| s.container_statuses.as_ref()).into_iter().flatten();
    containers.any(|c| c.state.as_ref().is_some_and(|s| s.terminated.is_some()))
}
