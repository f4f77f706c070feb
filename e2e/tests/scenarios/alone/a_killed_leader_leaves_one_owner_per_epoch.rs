//! The operator's leader is killed in the middle of a burst of rooms, and its successor is paused for longer than its claim
//! lasts and wakes up in the middle of another: each time another one takes over, every room becomes ready, and at no time
//! did two nodes own the same epoch of a room.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use callplane_crds::mediapool::Placement;
use callplane_e2e::{
    History, Scene, clock,
    cluster::LEADER_LEASE,
    history::Seen,
    process::{self, Hung},
    scenario, scene, wait,
};
use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, api::LogParams};

const ROOMS: usize = 200;
/// So many are placed when the leader dies.
const PLACED_BEFORE: usize = 60;
/// Rooms of each burst around the pause, and how many of them are placed when it begins or ends.
const ROOMS_AROUND: usize = 100;
const PLACED_AROUND: usize = 20;
const PLACED: Duration = Duration::from_secs(60);
const ALL_READY: Duration = Duration::from_secs(120);
/// Until another replica holds the lease: it lasts 12 s, which is 3 s longer than the claim of whoever held it.
const TAKEN_OVER: Duration = Duration::from_secs(60);
/// Until a leader that wakes up has noticed: it looks at its lease at once, and waits 3 s for what it is writing.
const NOTICED: Duration = Duration::from_secs(60);
/// What the operator logs when it leads no longer.
const FOLLOWS: &str = r#""message":"follows""#;

#[test]
fn no_epoch_has_two_owners_when_the_leader_is_killed_or_paused_in_a_burst() {
    scenario::alone("killed-leader", |scene| async move {
        scene.operator_settled().await?;
        let pool = scene.pool(3, |spec| spec.placement = Placement::Spread).await?;
        let history = scene.history().await?;
        one_is_killed(&scene, &pool, &history).await?;
        scene.operator_settled().await?;
        one_is_paused(&scene, &pool, &history).await?;
        scene.operator_settled().await?;

        history.judge_ownership()?;
        ensure!(!history.relisted(), "the watch missed something, so this proves nothing");
        let late: Vec<_> =
            history.latest().into_values().filter(|s| s.route.as_ref().is_none_or(|r| r.epoch != 1)).collect();
        ensure!(late.is_empty(), "no node was lost, but rooms were moved: {late:?}");
        println!("  {} versions of {} rooms: one owner per epoch", history.seen().len(), history.latest().len());
        Ok(())
    });
}

async fn one_is_killed(scene: &Scene, pool: &str, history: &History) -> Result<()> {
    let leader = scene.leader().await?;
    let kill = async {
        placed(history, PLACED_BEFORE).await?;
        process::signal(&leader, process::Signal::Kill).await?;
        Ok(clock::now())
    };
    let ((), killed) = tokio::try_join!(burst(scene, pool, "room", ROOMS), kill)?;
    let open = open(history);
    history.until_ready(ROOMS, ALL_READY).await?;
    println!(
        "  leader {} killed; all {ROOMS} rooms ready {:.1} s later ({open} were not when all were created)",
        leader.name_any(),
        killed.elapsed().as_secs_f64()
    );
    Ok(())
}

/// What a pause leaves behind is a leader that believes in its claim, with decisions made and writes begun.
async fn one_is_paused(scene: &Scene, pool: &str, history: &History) -> Result<()> {
    let leader = scene.leader().await?;
    let (pids, name) = (process::pids(&leader)?, leader.name_any());
    let before = times_followed(scene, &leader).await?;
    let pause = async {
        placed(history, ROOMS + PLACED_AROUND).await?;
        let began = clock::now();
        Ok((Hung::hang(leader.clone()).await?, began))
    };
    let ((), (hung, began)) = tokio::try_join!(burst(scene, pool, "paused", ROOMS_AROUND), pause)?;
    let left = open(history);
    wait::until(&scene.cluster.leases(), LEADER_LEASE, "to be held by another", TAKEN_OVER, |lease| {
        let holder = lease?.spec.as_ref()?.holder_identity.as_ref()?;
        (!holder.is_empty() && !holder.starts_with(&name)).then_some(())
    })
    .await?;

    let wake = async {
        placed(history, ROOMS + ROOMS_AROUND + PLACED_AROUND).await?;
        // The kubelet ends a container that hangs: after 43 s at the earliest.
        ensure!(process::pids(&leader)? == pids, "{name} was ended before it could wake up: this proves nothing");
        hung.go_on().await?;
        Ok(began.elapsed())
    };
    let ((), paused) = tokio::try_join!(burst(scene, pool, "woken", ROOMS_AROUND), wake)?;
    let open = open(history);
    history.until_ready(ROOMS + 2 * ROOMS_AROUND, ALL_READY).await?;
    println!(
        "  leader {name} paused for {paused:?} with {left} rooms to place, and woke up with {open}; all are ready"
    );
    // It has had its turn before anything is judged. One that the kubelet told to end meanwhile has, too, once it is gone.
    wait::polled(&format!("{name} to notice that it leads no longer"), NOTICED, || async {
        let has_ended = !process::pids(&leader).is_ok_and(|now| now == pids);
        Ok((has_ended || times_followed(scene, &leader).await.unwrap_or(before) > before).then_some(()))
    })
    .await
}

/// How often this replica has stopped leading without being told to.
async fn times_followed(scene: &Scene, replica: &Pod) -> Result<usize> {
    let log = scene.cluster.pods().logs(&replica.name_any(), &LogParams::default()).await;
    Ok(log.context("the operator's log")?.matches(FOLLOWS).count())
}

async fn burst(scene: &Scene, pool: &str, name: &str, rooms: usize) -> Result<()> {
    scene.create_many((0..rooms).map(|i| format!("{name}-{i}")).collect(), scene::room_on(pool, 2)).await
}

/// Waits until `count` rooms have a place.
async fn placed(history: &History, count: usize) -> Result<()> {
    let routed = |s: &&Seen| s.route.is_some();
    history
        .until(&format!("{count} rooms to be placed"), PLACED, |rooms| {
            (rooms.values().filter(routed).count() >= count).then_some(())
        })
        .await
}

/// Rooms that cannot be joined yet.
fn open(history: &History) -> usize {
    history.latest().values().filter(|s| !s.ready).count()
}
