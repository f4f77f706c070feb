//! 200 rooms at once are all placed, within capacity, evenly, with two writes each, and are not written again while nobody
//! is in them; one that does not fit says so in numbers, and is ready the moment that it fits.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use callplane_crds::{
    CallRoom, MediaNode, condition::room::PLACED, load::Demand, medianode::Capacity, mediapool::Placement,
};
use callplane_e2e::{Scene, clock, scenario, scene, wait};
use kube::{
    ResourceExt,
    api::{ListParams, Patch, PatchParams},
    runtime::watcher,
};
use serde_json::json;

const ROOMS: usize = 200;
const NODES: i32 = 3;
/// Participants of the rooms, in turn.
const SIZES: [i32; 4] = [2, 4, 10, 20];
/// 200 rooms ask for 48 400 streams and 1800 people: nine tenths of three such nodes.
const CAPACITY: Capacity = Capacity { rooms: 500, participants: 700, streams: 18_000 };
/// Asks for 4900 streams: more than any node has left.
const TOO_LARGE: i32 = 50;
/// From capacity to the room that waits for it: milliseconds, but for two watches on a machine that is busy.
const AT_ONCE: Duration = Duration::from_secs(5);
/// For so long nothing is written to a room that nobody is in. Every node reports twice meanwhile (each 10 s), and what
/// changes in a room is written within 5 s.
const IDLE: Duration = Duration::from_secs(25);

#[test]
fn a_burst_of_200_rooms_is_spread_over_three_nodes_without_overcommit() {
    scenario::alone("burst", |scene| async move {
        let pool = scene
            .pool(NODES, |spec| {
                spec.placement = Placement::Spread;
                spec.capacity = CAPACITY;
            })
            .await?;
        let history = scene.history().await?;
        let began = clock::now();
        let of_size = |size: i32| {
            let names = (0..ROOMS / SIZES.len()).map(|i| format!("room-{size}-{i}")).collect();
            scene.create_many(names, scene::room_on(&pool, size))
        };
        futures::future::try_join_all(SIZES.map(of_size)).await?;
        history.until_ready(ROOMS, Duration::from_secs(120)).await?;
        let times = history.times_to_ready();
        println!(
            "  {ROOMS} rooms Ready {:.1} s after the first was asked for; each p50 {:?}, p99 {:?}",
            began.elapsed().as_secs_f64(),
            times[times.len() / 2],
            times[times.len() * 99 / 100]
        );

        history.judge_ownership()?;
        let rooms = scene.rooms().list(&ListParams::default()).await?;
        let nodes = scene.ready_nodes(&pool, usize::try_from(NODES)?).await?;
        judge_spread(&rooms.items, &nodes)?;
        judge_writes(&history.writes_until_ready())?;
        // Another room that waits, and another node, are no news for those that have their place.
        tokio::try_join!(idle_rooms_are_not_written(&scene, &rooms.items), one_more_waits_for_capacity(&scene, &pool))
            .map(drop)
    });
}

fn judge_spread(rooms: &[CallRoom], nodes: &[MediaNode]) -> Result<()> {
    let mut demand: BTreeMap<String, Demand> = nodes.iter().map(|n| (n.name_any(), Demand::default())).collect();
    for room in rooms {
        let route = room.status.as_ref().and_then(|s| s.route.clone()).context("a room that is ready has a route")?;
        let sum = demand
            .get_mut(route.node_name())
            .with_context(|| format!("{} is no node of the pool", route.node_name()))?;
        *sum = sum.plus(Demand::of_room(room.spec.max_participants));
    }
    let largest = SIZES.iter().map(|size| Demand::of_room(*size).per_mille(&CAPACITY)).max().unwrap_or(0);
    let shares: Vec<i64> = demand.values().map(|d| d.per_mille(&CAPACITY)).collect();
    println!("  nodes are filled to {shares:?} per mille; the largest room is {largest}");
    for (node, demand) in &demand {
        ensure!(demand.fits(&CAPACITY), "{node} is overcommitted: {demand:?} of {CAPACITY:?}");
    }
    let (least, most) = (shares.iter().min().copied().unwrap_or(0), shares.iter().max().copied().unwrap_or(0));
    ensure!(
        most - least <= largest,
        "the nodes are filled unevenly: {shares:?} per mille, a room is at most {largest}"
    );
    Ok(())
}

fn judge_writes(writes: &BTreeMap<String, usize>) -> Result<()> {
    let most = writes.iter().max_by_key(|(_, count)| **count);
    let most = most.context("the watch missed something of every room, so nothing was counted")?;
    let average = writes.values().sum::<usize>() as f64 / writes.len() as f64;
    println!("  {average:.2} writes to each of {} rooms until it was Ready, at most {}", writes.len(), most.1);
    ensure!(*most.1 <= 2, "{} was written {} times until it was ready; two are enough", most.0, most.1);
    Ok(())
}

/// Watches rooms that nobody is in: neither the operator nor anybody else writes them.
async fn idle_rooms_are_not_written(scene: &Scene, rooms: &[CallRoom]) -> Result<()> {
    let before: BTreeMap<_, _> = rooms.iter().map(|room| (room.name_any(), room.resource_version())).collect();
    let everything = watcher::Config::default();
    wait::never(&scene.rooms(), everything, "a write to a room that nobody is in", IDLE, |rooms| {
        before.iter().find_map(|(name, version)| match rooms.get(name) {
            Some(room) if room.resource_version() == *version => None,
            Some(room) => Some(format!("{name} was written by {}", last_writer(room))),
            None => Some(format!("{name} is gone")),
        })
    })
    .await?;
    println!("  {} rooms that nobody is in: no write within {IDLE:?}", before.len());
    Ok(())
}

/// Who wrote last, as the API server tells it.
fn last_writer(room: &CallRoom) -> String {
    let last = room.managed_fields().iter().max_by_key(|entry| entry.time.as_ref().map(|time| time.0));
    last.and_then(|entry| entry.manager.clone()).unwrap_or_default()
}

async fn one_more_waits_for_capacity(scene: &Scene, pool: &str) -> Result<()> {
    let one_more = scene.create("one-more", scene::room_on(pool, TOO_LARGE)).await?;
    let message = wait::until(&scene.rooms(), "one-more", "to say that it does not fit", scene::ROOM_READY, |room| {
        let placed = room?.status.as_ref()?.conditions.iter().find(|c| c.type_ == PLACED)?;
        (placed.status == "False").then(|| format!("{}: {}", placed.reason, placed.message))
    })
    .await?;
    println!("  one more: {message}");
    ensure!(message.contains(&format!("{NODES} full")), "the message does not say how many nodes are full: {message}");
    let event = scene.told(&one_more, "NoCapacity").await?;
    ensure!(event.contains(&format!("{NODES} full")), "the event does not say how many nodes are full: {event}");

    let scale = Patch::Merge(json!({"spec": {"replicas": NODES + 1}}));
    scene.cluster.pools().patch_scale(pool, &PatchParams::default(), &scale).await?;
    let (rooms, began) = (scene.rooms(), clock::now());
    let ready = async {
        let found = wait::until(&rooms, "one-more", "to be ready on the new node", scene::POD_READY, |room| {
            let status = room?.status.as_ref()?;
            callplane_crds::condition::is_true(&status.conditions, "Ready").then(clock::now)
        });
        found.await
    };
    let count = usize::try_from(NODES + 1)?;
    let capacity = async { scene.ready_nodes(pool, count).await.map(|_| clock::now()) };
    let (ready, capacity) = tokio::try_join!(ready, capacity)?;
    let late = ready.saturating_duration_since(capacity);
    println!("  a node more was ready after {:?}, the room {late:?} later", capacity - began);
    ensure!(late < AT_ONCE, "the room was ready only {late:?} after there was capacity");
    Ok(())
}
