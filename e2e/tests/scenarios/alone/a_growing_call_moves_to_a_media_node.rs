//! A call begins peer to peer without a media node, goes through one when a third person comes, and back when they have
//! left: told by what the gateway writes about it, which is played here. A route that cannot be reached is rolled back,
//! and a call for which there is no capacity goes on as it is and moves the moment that there is some.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use callplane_crds::{
    CallRoom, CallRoomSpec, Presence, Route, RouteMode, Topology,
    condition::{self, room},
    medianode::Capacity,
    names::{GATEWAY_MANAGER, GATEWAY_SERVICE_ACCOUNT},
    presence::FailedRoute,
};
use callplane_e2e::{Scene, clock, history::History, scenario, scene, wait};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;

/// `topology.stabilizationSeconds` of the call.
const STABLE: u64 = 3;
/// From a word of the gateway to the next route: milliseconds, but for a machine that is busy.
const NEXT_ROUTE: Duration = Duration::from_secs(20);
/// Until something is told by a media node, which reports every 10 s at least.
const REPORTED: Duration = Duration::from_secs(60);

/// The gateway's side of a call: its own rights, its own field manager.
struct Gateway {
    rooms: Api<CallRoom>,
    room: String,
    presence: Presence,
}

impl Gateway {
    async fn of(scene: &Scene, room: &str) -> Result<Self> {
        let token = scene.cluster.token_of(GATEWAY_SERVICE_ACCOUNT).await?;
        let rooms = Api::namespaced(scene.cluster.as_bearer(&token)?, &scene.namespace);
        let presence =
            Presence { participants: 0, since: Time(clock::wall()), epoch: None, failed: None, sfu_wanted: None };
        Ok(Self { rooms, room: room.to_owned(), presence })
    }

    async fn write(&self) -> Result<()> {
        let body =
            json!({"apiVersion": "callplane.io/v1alpha1", "kind": "CallRoom", "status": {"presence": self.presence}});
        let parameters = PatchParams::apply(GATEWAY_MANAGER).force();
        let written = self.rooms.patch_status(&self.room, &parameters, &Patch::Apply(&body)).await;
        written.map(drop).with_context(|| format!("the gateway's words about {}", self.room))
    }

    async fn people(&mut self, participants: i32) -> Result<()> {
        (self.presence.participants, self.presence.since) = (participants, Time(clock::wall()));
        self.write().await
    }

    async fn acknowledge(&mut self, epoch: i64) -> Result<()> {
        self.presence.epoch = Some(epoch);
        self.write().await
    }

    async fn fail(&mut self, epoch: i64) -> Result<()> {
        self.presence.failed = Some(FailedRoute { epoch, reason: "no media within 10 s".into() });
        self.write().await
    }
}

fn moving(pool: &str) -> CallRoomSpec {
    let topology = Topology { stabilization_seconds: STABLE as i32, ..Topology::default() };
    CallRoomSpec { topology: Some(topology), ..scene::room_on(pool, 4) }
}

#[test]
fn a_growing_call_moves_to_a_media_node_and_back_when_it_shrinks() {
    scenario::alone("modes", |scene| async move {
        scene.operator_settled().await?;
        let history = scene.history().await?;
        let nowhere = format!("e2e-{}", scene.name);
        scene.create("standup", moving(&nowhere)).await?;
        let (_, first) = scene.ready("standup", scene::ROOM_READY).await?;
        ensure!((first.epoch, first.mode, &first.node) == (1, RouteMode::P2p, &None), "it begins with {first:?}");
        // The history is a watch of its own, and may be a moment behind.
        history.until_epoch("standup", 1, NEXT_ROUTE).await?;
        println!("  Ready peer to peer after {:?}, without any media node", history.times_to_ready()[0]);
        let writes = history.writes_until_ready();
        ensure!(writes.get("standup") == Some(&1), "{writes:?}");

        let pool = scene.pool(1, |spec| spec.capacity = Capacity { rooms: 1, ..Capacity::default() }).await?;
        ensure!(pool == nowhere, "the pool is called {pool}");
        let mut gateway = Gateway::of(&scene, "standup").await?;
        grows_and_shrinks(&scene, &history, &mut gateway).await?;
        fails(&scene, &history, &mut gateway).await?;
        waits_for_capacity(&scene, &history, &pool).await?;
        history.judge_ownership()
    });
}

async fn grows_and_shrinks(scene: &Scene, history: &History, gateway: &mut Gateway) -> Result<()> {
    gateway.people(2).await?;
    let began = clock::now();
    gateway.people(3).await?;
    let up = history.until_epoch("standup", 2, NEXT_ROUTE).await?;
    println!("  a third person: on a media node {:?} later", up.at.saturating_duration_since(began));
    let (route, before) = (up.route.context("a route")?, up.previous.context("the old route is kept")?);
    ensure!((route.mode, route.reason.as_str()) == (RouteMode::Sfu, "Grown"), "{route:?}");
    ensure!((before.epoch, before.mode) == (1, RouteMode::P2p), "{before:?}");
    let node = route.node.context("a media node")?;
    wait::until(&scene.cluster.nodes(), &node, "to serve epoch 2", REPORTED, |node| {
        node?.status.as_ref()?.rooms.iter().any(|r| r.name == "standup" && r.epoch == 2).then_some(())
    })
    .await?;
    gateway.acknowledge(2).await?;
    one_route(scene, 2).await?;

    let left = clock::now();
    gateway.people(2).await?;
    let down = history.until_epoch("standup", 3, Duration::from_secs(STABLE) + NEXT_ROUTE).await?;
    let took = down.at.saturating_duration_since(left);
    println!("  two again: peer to peer {took:?} later");
    // `since` is a time in whole seconds.
    ensure!(took >= Duration::from_secs(STABLE - 1), "it went back after {took:?} already");
    let (route, before) = (down.route.context("a route")?, down.previous.context("the old route is kept")?);
    ensure!((route.mode, route.node, route.reason.as_str()) == (RouteMode::P2p, None, "Shrunk"), "not as it should be");
    ensure!(before.node.as_ref() == Some(&node), "{before:?}");
    gateway.acknowledge(3).await?;
    one_route(scene, 3).await?;
    wait::until(&scene.cluster.nodes(), &node, "to let go of the call", REPORTED, |node| {
        node?.status.as_ref()?.rooms.iter().all(|r| r.name != "standup").then_some(())
    })
    .await?;
    told(scene, "Grown").await?;
    told(scene, "Shrunk").await
}

async fn fails(scene: &Scene, history: &History, gateway: &mut Gateway) -> Result<()> {
    gateway.people(3).await?;
    history.until_epoch("standup", 4, NEXT_ROUTE).await?;
    gateway.fail(4).await?;
    let back = history.until_epoch("standup", 5, NEXT_ROUTE).await?;
    let (route, before) = (back.route.context("a route")?, back.previous.context("who moved has to come back")?);
    ensure!((route.mode, route.reason.as_str()) == (RouteMode::P2p, "RolledBack"), "{route:?}");
    ensure!((before.epoch, before.mode) == (4, RouteMode::Sfu), "{before:?}");
    gateway.acknowledge(5).await?;
    one_route(scene, 5).await?;
    told(scene, "RolledBack").await?;
    ensure!(history.until_epoch("standup", 6, Duration::from_secs(5)).await.is_err(), "it is tried again at once");
    gateway.people(0).await
}

async fn waits_for_capacity(scene: &Scene, history: &History, pool: &str) -> Result<()> {
    scene.create("other", scene::room_on(pool, 4)).await?;
    // The node has to have said first that it let go of the first call.
    scene.ready("other", REPORTED).await?;
    scene.create("second", moving(pool)).await?;
    scene.ready("second", scene::ROOM_READY).await?;
    let mut gateway = Gateway::of(scene, "second").await?;
    gateway.people(3).await?;
    let message = wait::until(&scene.rooms(), "second", "to say that it gets no node", scene::ROOM_READY, |found| {
        let status = found?.status.as_ref()?;
        let placed = status.conditions.iter().find(|c| c.type_ == room::PLACED && c.status == "False")?;
        condition::is_true(&status.conditions, room::READY).then(|| format!("{}: {}", placed.reason, placed.message))
    })
    .await?;
    println!("  no capacity: {message}");
    // By the operator's own account it is full; by the node's it is saturated, once it has said so.
    let is_taken = message.contains("1 full") || message.contains("1 saturated");
    ensure!(message.contains("the call goes on peer to peer") && is_taken, "{message}");
    // A room that nobody is in waits longer.
    scene.create("newcomer", scene::room_on(pool, 4)).await?;
    scene.rooms().delete("other", &DeleteParams::default()).await?;
    let began = clock::now();
    let up = history.until_epoch("second", 2, REPORTED).await?;
    println!("  capacity again: on a media node {:?} later", up.at.saturating_duration_since(began));
    gateway.acknowledge(2).await?;
    let newcomer = scene.rooms().get("newcomer").await?;
    ensure!(newcomer.status.and_then(|s| s.route).is_none(), "the newcomer has the place of a call with people in it");
    Ok(())
}

/// Waits until the room has the route `epoch` and no other.
async fn one_route(scene: &Scene, epoch: i64) -> Result<Route> {
    wait::until(&scene.rooms(), "standup", "to have one route", NEXT_ROUTE, |found| {
        let status = found?.status.as_ref()?;
        let route = status.route.clone().filter(|r| r.epoch == epoch)?;
        status.previous_route.is_none().then_some(route)
    })
    .await
}

/// Waits until there is an event about the call with `reason`.
async fn told(scene: &Scene, reason: &str) -> Result<()> {
    scene.told(&scene.rooms().get("standup").await?, reason).await.map(drop)
}
