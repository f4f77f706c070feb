//! The API server is away for a minute, longer than any lease: a call between two browsers goes on, people come in to rooms
//! that are there, nobody is given up, no room moves, and everything works when it is back.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use callplane_crds::condition::{self, node};
use callplane_e2e::{
    Call, Scene,
    browsers::LONGEST_GAP_MS,
    clock,
    gateway::{self, API_KEY, Replica, new_room},
    machine, scenario, scene, wait,
};
use kube::{ResourceExt, runtime::watcher};
use serde_json::{Value, json};

const OUTAGE: Duration = Duration::from_secs(60);
/// Until a room is ready afterwards. Most of it is kube-proxy's: pods reach the API server through it, and while there is none
/// it waits up to 30 s, and as long again by jitter (client-go's reflector), before it looks once more.
const BACK: Duration = Duration::from_secs(120);
/// A lease and what comes on top of it: whoever was to be declared lost would be by then.
const AFTERMATH: Duration = Duration::from_secs(15);

#[test]
fn calls_go_on_and_people_come_in_while_the_api_server_is_away_for_a_minute() {
    scenario::alone("outage", |scene| async move {
        scene.operator_settled().await?;
        let pool = scene.pool(2, |_| {}).await?;
        gateway::with_replicas(&scene, &pool, async |replicas| play(&scene, &pool, &replicas).await).await
    });
}

async fn play(scene: &Scene, pool: &str, [one, two]: &[Replica; 2]) -> Result<()> {
    for room in ["standup", "quiet"] {
        scene.create(room, scene::room_on(pool, 4)).await?;
        scene.ready(room, scene::ROOM_READY).await?;
    }
    let (by_rest, _) = one.make_room(pool).await?;
    let link = one.expect(201, "POST", &format!("/v1/rooms/{by_rest}/links"), API_KEY, json!({})).await?;
    let guest = json!({"linkToken": link["linkToken"], "displayName": "Eve"});
    let history = scene.history().await?;
    let call = Call::start(scene, "standup", 2).await?;
    let before = call.samples().len();
    let nodes = scene.ready_nodes(pool, 2).await?;
    let names: Vec<_> = nodes.iter().map(ResourceExt::name_any).collect();

    let began = clock::now();
    let outage = machine::Outage::of_api_server().await?;
    let quiet = scene.call_id("quiet");
    for (replica, room, user) in [(one, &by_rest, "dora"), (two, &quiet, "emil")] {
        replica.enter(room, user, &replica.join(room, user).await?).await?;
    }
    one.expect(200, "POST", &format!("/v1/rooms/{by_rest}/join"), "", guest).await?;
    let away = two.expect(503, "POST", "/v1/rooms", API_KEY, new_room(pool)).await?;
    ensure!(away["code"] == "kubernetes-unavailable", "{away}");
    call.until("a minute of frames", 2 * OUTAGE, |sample| {
        let still = sample.pages.iter().find(|p| !p.is_with_all(1, 1));
        match still {
            Some(page) => Some(Err(anyhow::anyhow!("{} sees nobody move: {page:?}", page.user))),
            None => (began.elapsed() >= OUTAGE).then_some(Ok(())),
        }
    })
    .await??;
    outage.end().await?;
    println!(
        "  the API server was away for {:.0} s; longest time without a new picture: {:.0} ms",
        began.elapsed().as_secs_f64(),
        call.longest_gap_ms_since(before)
    );

    let back = clock::now();
    scene.create("afterwards", scene::room_on(pool, 4)).await?;
    scene.ready("afterwards", BACK).await?;
    println!("  a room created then was ready {:?} after the API server", back.elapsed());
    wait::polled("a room by REST after the outage", BACK, || async {
        match two.ask("POST", "/v1/rooms", API_KEY, new_room(pool)).await? {
            (201, _) => Ok(Some(())),
            (202 | 503, _) => Ok(None),
            other => bail!("{other:?}"),
        }
    })
    .await?;
    println!("  and one by REST {:?} after it", back.elapsed());
    one.expect(200, "PUT", &format!("/v1/rooms/{by_rest}/end"), API_KEY, Value::Null).await?;

    let ours = watcher::Config::default().labels(&format!("callplane.io/pool={pool}"));
    wait::never(&scene.cluster.nodes(), ours, "a node that is given up", AFTERMATH, |found| {
        let lost = |name: &String| {
            let status = found.get(name).and_then(|n| n.status.as_ref());
            !status.is_some_and(|s| condition::is_true(&s.conditions, node::READY))
        };
        names.iter().find(|name| lost(name)).map(|name| format!("{name} is not Ready"))
    })
    .await?;
    for (name, seen) in history.latest() {
        ensure!(seen.ready, "{name} is not ready any more");
        ensure!(seen.route.is_some_and(|r| r.epoch == 1), "{name} was moved");
    }
    history.judge_ownership()?;
    let gap = call.longest_gap_ms_since(before);
    ensure!(gap < LONGEST_GAP_MS, "somebody saw no new picture for {gap} ms");
    ensure!(call.samples().iter().flat_map(|s| &s.pages).all(|p| p.rejoins == 0), "somebody had to join again");
    println!("  {:?} after it nobody had been given up", back.elapsed());
    scene.operator_settled().await?;
    println!("  {:?} after it the operator's replicas were all there", back.elapsed());
    call.end().await
}
