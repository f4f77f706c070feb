//! The operator's leader is killed in the middle of a burst of rooms: another one takes over, every room becomes ready,
//! and at no time did two nodes own the same epoch of a room.

use std::time::Duration;

use anyhow::ensure;
use callplane_crds::mediapool::Placement;
use callplane_e2e::{clock, process, scenario, scene};
use kube::ResourceExt;

const ROOMS: usize = 200;
/// So many are placed when the leader dies.
const PLACED_BEFORE: usize = 60;

#[test]
fn no_epoch_has_two_owners_when_the_leader_is_killed_in_a_burst() {
    scenario("killed-leader", |scene| async move {
        scene.operator_settled().await?;
        let pool = scene.pool(3, |spec| spec.placement = Placement::Spread).await?;
        let history = scene.history().await?;
        let leader = scene.leader().await?;

        let names = (0..ROOMS).map(|i| format!("room-{i}")).collect();
        let burst = scene.create_many(names, scene::room_on(&pool, 2));
        let kill = async {
            history
                .until("some rooms to be placed", Duration::from_secs(60), |rooms| {
                    (rooms.values().filter(|s| s.route.is_some()).count() >= PLACED_BEFORE).then_some(())
                })
                .await?;
            process::signal(&leader, process::Signal::Kill).await?;
            Ok(clock::now())
        };
        let ((), killed) = tokio::try_join!(burst, kill)?;
        let open = history.latest().values().filter(|s| !s.ready).count();
        history.until_ready(ROOMS, Duration::from_secs(120)).await?;
        println!(
            "  leader {} killed; all {ROOMS} rooms ready {:.1} s later ({open} were not when all were created)",
            leader.name_any(),
            killed.elapsed().as_secs_f64()
        );
        scene.operator_settled().await?;

        history.judge_ownership()?;
        ensure!(!history.relisted(), "the watch missed something, so this proves nothing");
        let late: Vec<_> =
            history.latest().into_values().filter(|s| s.route.as_ref().is_none_or(|r| r.epoch != 1)).collect();
        ensure!(late.is_empty(), "no node was lost, but rooms were moved: {late:?}");
        println!("  {} versions of {ROOMS} rooms: one owner per epoch", history.seen().len());
        Ok(())
    });
}
