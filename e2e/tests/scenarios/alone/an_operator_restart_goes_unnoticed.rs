//! A rolling restart of the operator: leadership is handed over at once, rooms that are created meanwhile do not wait,
//! and calls do not notice.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use callplane_e2e::{Call, Scene, browsers::LONGEST_GAP_MS, clock, cluster::OPERATOR, scenario, scene};
use kube::{ResourceExt, api::ListParams};
use tokio::sync::Notify;

/// The longest that a room may wait because its operator was being replaced: less than a lease (12 s), so nobody waited for
/// one to run out.
const PLACED: Duration = Duration::from_secs(10);

#[test]
fn rooms_and_calls_do_not_notice_a_rolling_restart_of_the_operator() {
    scenario::alone("restart", |scene| async move {
        scene.operator_settled().await?;
        let pool = scene.pool(1, |_| {}).await?;
        scene.create("standup", scene::room_on(&pool, 4)).await?;
        scene.ready("standup", scene::ROOM_READY).await?;
        let history = scene.history().await?;
        let call = Call::start(&scene, "standup", 2).await?;
        let before = call.samples().len();
        let leader = scene.leader().await?.name_any();

        let deployments = scene.cluster.deployments();
        let operators = deployments.list(&ListParams::default().labels(OPERATOR)).await?;
        let operator = operators.items.first().context("the operator's Deployment")?.name_any();
        let done = Arc::new(Notify::new());
        let rooms = tokio::spawn(one_room_after_another(scene.clone(), pool.clone(), done.clone()));
        let began = clock::now();
        deployments.restart(&operator).await?;
        let settled = scene.operator_settled().await;
        done.notify_one();
        settled?;
        let waits = rooms.await??;
        let longest = waits.iter().max().copied().context("rooms were created")?;
        let new_leader = scene.leader().await?.name_any();
        println!(
            "  restarted in {:.1} s, leader {leader} → {new_leader}; {} rooms meanwhile, the slowest ready after {longest:?}",
            began.elapsed().as_secs_f64(),
            waits.len()
        );
        ensure!(leader != new_leader, "the leader was not replaced");
        ensure!(longest <= PLACED, "a room waited {longest:?} for an operator");

        let gap = call.longest_gap_ms_since(before);
        println!("  longest time without a new picture: {gap:.0} ms");
        ensure!(gap < LONGEST_GAP_MS, "somebody saw no new picture for {gap} ms");
        ensure!(call.samples().iter().flat_map(|s| &s.pages).all(|p| p.rejoins == 0), "somebody had to join again");
        history.judge_ownership()?;
        let moved = history.latest().into_values().find(|s| s.route.as_ref().is_some_and(|r| r.epoch != 1));
        ensure!(moved.is_none(), "a room was moved: {moved:?}");
        call.end().await
    });
}

/// Creates rooms, each when the last one is ready, until told that it is `done`. Yields how long each took.
async fn one_room_after_another(scene: Scene, pool: String, done: Arc<Notify>) -> Result<Vec<Duration>> {
    let mut waits = Vec::new();
    let done = done.notified();
    tokio::pin!(done);
    loop {
        let name = format!("meanwhile-{}", waits.len());
        let began = clock::now();
        scene.create(&name, scene::room_on(&pool, 2)).await?;
        scene.ready(&name, scene::POD_READY).await?;
        waits.push(began.elapsed());
        // A few each second are enough.
        if tokio::time::timeout(Duration::from_millis(200), &mut done).await.is_ok() {
            return Ok(waits);
        }
    }
}
