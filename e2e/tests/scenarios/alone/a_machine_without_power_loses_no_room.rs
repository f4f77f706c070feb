//! A machine loses power: nobody says that its pods have ended. The lease and the operator's own probe tell, and the
//! rooms go on elsewhere.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, ensure};
use callplane_e2e::{clock, machine, media::MediaApi, scenario, scene};
use kube::api::{Patch, PatchParams};
use serde_json::json;

const ROOMS: usize = 5;
/// The operator's leader may have been on that machine, and then everything comes one after the other: its lease runs out
/// (12 s), every node has time to renew in front of the new leader (11 s), and once more since a good part of the
/// fleet expired at once (11 s); then two probes fail. A machine that takes no leader with it is judged within 10 s.
const DETECTED: Duration = Duration::from_secs(120);

#[test]
fn rooms_go_on_elsewhere_when_a_machine_loses_power() {
    scenario::alone("power", |scene| async move {
        scene.operator_settled().await?;
        let on = |machine: &str| BTreeMap::from([("kubernetes.io/hostname".to_owned(), machine.to_owned())]);
        let pool = scene.pool(1, |spec| spec.template.node_selector = on(machine::SECOND)).await?;
        let history = scene.history().await?;
        scene.create_many((0..ROOMS).map(|i| format!("room-{i}")).collect(), scene::room_on(&pool, 4)).await?;
        history.until_ready(ROOMS, scene::ROOM_READY).await?;
        // From now on its pods are made on the other machine; what runs stays.
        let elsewhere =
            json!({"spec": {"replicas": 2, "template": {"nodeSelector": {"kubernetes.io/hostname": machine::FIRST}}}});
        scene.cluster.pools().patch(&pool, &PatchParams::default(), &Patch::Merge(elsewhere)).await?;
        let nodes = scene.ready_nodes(&pool, 2).await?;

        let began = clock::now();
        let outage = machine::Outage::of_second_machine().await?;
        history
            .until("every room to have epoch 2", DETECTED, |rooms| {
                rooms.values().all(|s| s.ready && s.route.as_ref().is_some_and(|r| r.epoch == 2)).then_some(())
            })
            .await?;
        println!("  the machine lost power; {ROOMS} rooms went on elsewhere after {:?}", began.elapsed());

        let seen = history.latest().remove("room-0").context("the room is there")?;
        let route = seen.route.context("it has a route")?;
        let node = nodes.iter().find(|n| n.metadata.name == route.node);
        let api = MediaApi::of(node.with_context(|| format!("{} was not there before", route.node_name()))?)?;
        let token = scene.tokens.mint(&scene.rooms().get("room-0").await?, 2, "alice")?;
        let joined = api.join(&scene.call_id("room-0"), &token).await?;
        ensure!(joined.is_ok(), "the new node refused: {joined:?}");

        outage.end().await?;
        println!("  the machine is back after {:.1} s", began.elapsed().as_secs_f64());
        scene.operator_settled().await?;
        scene.ready_nodes(&pool, 2).await.context("the pool replaces the node")?;
        let moved = history.latest().into_values().find(|s| s.route.as_ref().is_none_or(|r| r.epoch != 2));
        ensure!(moved.is_none(), "a room moved again: {moved:?}");
        history.judge_ownership()
    });
}
