//! How calls end: by their spec, by being empty, with their room, with their namespace; and a room that no node may carry
//! says so.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use callplane_crds::{
    CallRoom, CallRoomSpec,
    callroom::{Lifetime, Phase},
    condition::room::PLACED,
};
use callplane_e2e::{Scene, clock, media::MediaApi, scenario, scene, wait};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    api::{DeleteParams, Patch, PatchParams, PostParams},
    core::ObjectMeta,
    runtime::watcher,
};
use serde_json::json;

const BUDGET: Duration = Duration::from_secs(60);
/// The shortest that the API allows.
const EMPTY_TIMEOUT: i32 = 5;
/// Of a call that somebody visits: they come within that time, also on a machine that is busy.
const VISITED_TIMEOUT: i32 = 20;
/// Of a call that ended: its node asks how it ended by then, also on a machine that is busy.
const TTL: i32 = 15;
const ROOMS_IN_NAMESPACE: usize = 20;

#[test]
fn a_call_ends_as_it_was_told_to() {
    scenario::side_by_side("endings", |scene| async move {
        let pool = scene.pool(1, |_| {}).await?;
        tokio::try_join!(
            an_ended_call_tells_its_participants_and_is_deleted_later(&scene, &pool),
            an_empty_call_ends_by_itself(&scene, &pool),
            a_deleted_call_tells_its_participants(&scene, &pool),
            a_region_without_nodes_is_named(&scene, &pool),
            a_namespace_with_calls_goes_quickly(&scene, &pool),
        )
        .map(drop)
    });
}

async fn an_ended_call_tells_its_participants_and_is_deleted_later(scene: &Scene, pool: &str) -> Result<()> {
    let lifetime = Lifetime { ttl_seconds_after_ended: Some(TTL), ..Default::default() };
    scene.create("standup", CallRoomSpec { lifetime, ..scene::room_on(pool, 4) }).await?;
    let (room, route) = scene.ready("standup", scene::ROOM_READY).await?;
    let node = scene.cluster.nodes().get(route.node_name()).await?;
    let call = scene.call_id("standup");
    let token = scene.tokens.mint(&room, route.epoch, "alice")?;
    let api = MediaApi::of(&node)?;
    let mut events = api.events(&call, &token).await?;
    events.until("room", BUDGET).await.context("the room as it is comes first")?;

    let began = clock::now();
    end(scene, "standup").await?;
    let told = events.until("room-closed", BUDGET).await?;
    println!("  the participant was told {:?} after the call was ended: {told}", began.elapsed());
    ensure!(told["reason"] == "ended", "the participant was told {told}");
    wait::until(&scene.rooms(), "standup", "to have ended", BUDGET, |room| ended(room?).then_some(())).await?;
    wait::until(&scene.cluster.nodes(), route.node_name(), "to let go of the call", BUDGET, |node| {
        node?.status.as_ref()?.rooms.iter().all(|r| r.name != "standup").then_some(())
    })
    .await?;
    let answer = api.join(&call, &scene.tokens.mint(&room, route.epoch, "bob")?).await?;
    ensure!(answer.is_err(), "somebody could join a call that had ended");
    wait::until_gone(&scene.rooms(), "standup", BUDGET).await.context("ttlSecondsAfterEnded")
}

async fn an_empty_call_ends_by_itself(scene: &Scene, pool: &str) -> Result<()> {
    let ending = |seconds| {
        let lifetime = Lifetime { empty_timeout_seconds: Some(seconds), ..Default::default() };
        CallRoomSpec { lifetime, ..scene::room_on(pool, 4) }
    };
    scene.create("empty", ending(EMPTY_TIMEOUT)).await?;
    scene.create("visited", ending(VISITED_TIMEOUT)).await?;
    scene.ready("empty", scene::ROOM_READY).await?;
    let (room, route) = scene.ready("visited", scene::ROOM_READY).await?;
    let node = scene.cluster.nodes().get(route.node_name()).await?;
    let call = scene.call_id("visited");
    let token = scene.tokens.mint(&room, route.epoch, "alice")?;
    let api = MediaApi::of(&node)?;
    let mut visitor = api.events(&call, &token).await?;
    visitor.until("room", BUDGET).await?;

    let began = clock::now();
    let budget = BUDGET + Duration::from_secs(EMPTY_TIMEOUT.unsigned_abs().into());
    wait::until(&scene.rooms(), "empty", "to end", budget, |room| ended(room?).then_some(())).await?;
    println!("  an empty call ended after {:.1} s", began.elapsed().as_secs_f64());
    let config = watcher::Config::default().fields("metadata.name=visited");
    let longer = Duration::from_secs(u64::from(VISITED_TIMEOUT.unsigned_abs()) + 5);
    wait::never(&scene.rooms(), config, "a call with somebody in it that ends for being empty", longer, |rooms| {
        rooms.get("visited").is_none_or(ended).then(|| format!("{rooms:?}"))
    })
    .await?;
    api.leave(&call, "alice", &token).await?;
    let budget = BUDGET + longer;
    wait::until(&scene.rooms(), "visited", "to end when it was left", budget, |room| ended(room?).then_some(())).await
}

async fn a_deleted_call_tells_its_participants(scene: &Scene, pool: &str) -> Result<()> {
    scene.create("retired", scene::room_on(pool, 4)).await?;
    let (room, route) = scene.ready("retired", scene::ROOM_READY).await?;
    let node = scene.cluster.nodes().get(route.node_name()).await?;
    let token = scene.tokens.mint(&room, route.epoch, "alice")?;
    let mut events = MediaApi::of(&node)?.events(&scene.call_id("retired"), &token).await?;
    events.until("room", BUDGET).await.context("the room as it is comes first")?;
    let began = clock::now();
    scene.delete("retired").await?;
    let told = events.until("room-closed", BUDGET).await?;
    println!("  the participant was told {:?} after the room was deleted: {told}", began.elapsed());
    ensure!(told["reason"] == "deleted", "the participant was told {told}");
    Ok(())
}

async fn a_region_without_nodes_is_named(scene: &Scene, pool: &str) -> Result<()> {
    let region = Some("nowhere-1".to_owned());
    scene.create("abroad", CallRoomSpec { region, ..scene::room_on(pool, 4) }).await?;
    let message = wait::until(&scene.rooms(), "abroad", "to say that it cannot be placed", BUDGET, |room| {
        let placed = room?.status.as_ref()?.conditions.iter().find(|c| c.type_ == PLACED)?;
        (placed.status == "False").then(|| format!("{}: {}", placed.reason, placed.message))
    })
    .await?;
    println!("  a room in a region without nodes: {message}");
    ensure!(message.starts_with("RegionUnavailable"), "the reason is not the region: {message}");
    Ok(())
}

async fn a_namespace_with_calls_goes_quickly(scene: &Scene, pool: &str) -> Result<()> {
    // Its name has the scene's as a prefix, so a leftover is easy to tell.
    let name = format!("{}-team", scene.namespace);
    let namespaces = scene.cluster.namespaces();
    scene::ignore_missing(namespaces.delete(&name, &DeleteParams::default()).await.map(drop))?;
    wait::until_gone(&namespaces, &name, BUDGET).await?;
    let metadata = ObjectMeta { name: Some(name.clone()), ..Default::default() };
    namespaces.create(&PostParams::default(), &Namespace { metadata, ..Default::default() }).await?;
    let team = Scene { namespace: name.clone(), ..scene.clone() };
    let history = team.history().await?;
    let rooms = (0..ROOMS_IN_NAMESPACE).map(|i| format!("room-{i}")).collect();
    let done = async {
        team.create_many(rooms, scene::room_on(pool, 4)).await?;
        history.until_ready(ROOMS_IN_NAMESPACE, BUDGET).await
    };
    let done = done.await;
    let began = clock::now();
    namespaces.delete(&name, &DeleteParams::default()).await?;
    wait::until_gone(&namespaces, &name, BUDGET).await?;
    println!("  a namespace with {ROOMS_IN_NAMESPACE} calls was gone after {:.1} s", began.elapsed().as_secs_f64());
    done
}

async fn end(scene: &Scene, room: &str) -> Result<()> {
    let patch = Patch::Merge(json!({"spec": {"ended": true}}));
    scene.rooms().patch(room, &PatchParams::default(), &patch).await.map(drop).context("ending the call")
}

fn ended(room: &CallRoom) -> bool {
    room.status.as_ref().is_some_and(|s| s.phase == Some(Phase::Ended))
}
