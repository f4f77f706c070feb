//! `kubectl apply` of a CallRoom makes a call: two real browsers see and hear each other through the node that was picked.

use std::time::Duration;

use anyhow::ensure;
use callplane_e2e::{Call, browsers, clock, scenario, scene, wait};

/// Frames on both sides together, after they see each other.
const FRAMES: f64 = 100.0;

#[test]
fn two_browsers_talk_through_the_node_that_was_picked() {
    scenario::alone("talk", |scene| async move {
        let pool = scene.pool(1, |_| {}).await?;
        let began = clock::now();
        scene.create("standup", scene::room_on(&pool, 4)).await?;
        let (_, route) = scene.ready("standup", scene::ROOM_READY).await?;
        println!("  Ready after {:?} on {}", began.elapsed(), route.node_name());
        ensure!(route.epoch == 1, "the first route has epoch 1, not {}", route.epoch);

        let call = Call::start(&scene, "standup", 2).await?;
        let seen = |page: &browsers::Page| {
            page.sees_all(1, 1) && page.remotes.values().all(|r| r.audio.level > 0.0 && r.audio.real_samples > 0.0)
        };
        let budget = Duration::from_secs(60);
        call.until("frames and sound both ways", budget, |s| s.pages.iter().all(seen).then_some(())).await?;

        // The node that the route names carries it, and the room says how many are in it.
        wait::until(&scene.cluster.nodes(), route.node_name(), "to report the participants", budget, |node| {
            let rooms = &node?.status.as_ref()?.rooms;
            rooms.iter().any(|r| r.name == "standup" && r.participants == 2).then_some(())
        })
        .await?;
        wait::until(&scene.rooms(), "standup", "to show the participants", budget, |room| {
            (room?.status.as_ref()?.participants == Some(2)).then_some(())
        })
        .await?;
        // Frames go on being decoded, at whatever rate two browsers manage here.
        let decoded = |s: &browsers::Sample| -> f64 {
            s.pages.iter().flat_map(|p| p.remotes.values()).map(|r| r.video.frames_decoded).sum()
        };
        let first = call.samples().first().map_or(0.0, decoded);
        let more = |s: &browsers::Sample| (decoded(s) >= first + FRAMES).then(|| decoded(s));
        let frames = call.until("more frames", budget, more).await? - first;
        println!("  {frames} frames decoded in {} samples", call.samples().len());
        call.end().await
    });
}
