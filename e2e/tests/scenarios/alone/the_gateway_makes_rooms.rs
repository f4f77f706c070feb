//! A backend makes a room by REST at one replica of the gateway, people join it at the other and reach its media node
//! through either; a room made with kubectl is joined the same way.

use anyhow::{Result, ensure};
use callplane_crds::CallId;
use callplane_e2e::{
    Scene, clock,
    gateway::{self, API_KEY, DIGEST, Replica, text},
    polling::Poller,
    scenario, scene, wait,
};
use serde_json::{Value, json};

/// Lines of chat of somebody who polls.
const LINES: usize = 12;

#[test]
fn the_gateway_makes_rooms_and_lets_people_in() {
    scenario::alone("gateway", |scene| async move {
        scene.operator_settled().await?;
        let pool = scene.pool(2, |_| {}).await?;
        gateway::with_replicas(&scene, &pool, async |[one, two]| play(&scene, &pool, &one, &two).await).await
    });
}

/// Somebody who cannot but poll is in the call by the Service, whose replicas do not know each other's sessions.
async fn poll(scene: &Scene, id: &CallId, token: &str) -> Result<()> {
    let began = clock::now();
    let mut dora = Poller::connect(&gateway::service(&scene.cluster).await?).await?;
    dora.ask("join-room", json!({"roomId": id.to_string(), "token": token})).await?;
    for n in 0..LINES {
        dora.ask("chat", json!({"text": format!("line {n}")})).await?;
    }
    println!(
        "  {} requests of long polling reached one replica by the Service in {:?}",
        dora.requests,
        began.elapsed()
    );
    // So many do not go to the same one of two by chance.
    ensure!(dora.requests > 2 * LINES, "only {} requests", dora.requests);
    dora.ask("leave-room", json!({})).await.map(drop)
}

async fn play(scene: &Scene, pool: &str, one: &Replica, two: &Replica) -> Result<()> {
    let began = clock::now();
    let (id, created): (CallId, Value) = one.make_room(pool).await?;
    println!("  a room by REST could be joined after {:?}", began.elapsed());
    one.enter(&id, "ann", &text(&created, "joinToken")?).await?;
    let bob = two.join(&id, "bob").await?;
    two.enter(&id, "bob", &bob).await?;
    let path = format!("/v1/rooms/{id}");
    let link = one.expect(201, "POST", &format!("{path}/links"), API_KEY, json!({})).await?;
    let guest = json!({"linkToken": link["linkToken"], "displayName": "Eve"});
    let joined = two.expect(200, "POST", &format!("{path}/join"), "", guest.clone()).await?;
    one.enter(&id, &text(&joined, "userId")?, &text(&joined, "token")?).await?;
    two.expect(401, "POST", &format!("{path}/join"), "", json!({"userId": "eve"})).await?;

    scene.create("by-hand", scene::room_on(pool, 4)).await?;
    scene.ready("by-hand", scene::ROOM_READY).await?;
    let by_hand = scene.call_id("by-hand");
    let token = two.join(&by_hand, "carl").await?;
    one.enter(&by_hand, "carl", &token).await?;
    let refused = one.expect(403, "PUT", &format!("/v1/rooms/{by_hand}/end"), API_KEY, Value::Null).await?;
    ensure!(refused["code"] == "kubernetes-refused", "the gateway has no rights in {}: {refused}", scene.namespace);

    poll(scene, &by_hand, &two.join(&by_hand, "dora").await?).await?;

    one.expect(200, "PUT", &format!("{path}/end"), API_KEY, Value::Null).await?;
    wait::until(&scene.cluster.rooms(&id.namespace), &id.name, "to be over", scene::ROOM_READY, |room| {
        room.is_some_and(callplane_crds::CallRoom::is_over).then_some(())
    })
    .await?;
    for replica in [one, two] {
        wait::polled("the end to be known at both gateways", scene::ROOM_READY, || async {
            let (status, _) = replica.ask("POST", &format!("{path}/join"), "", guest.clone()).await?;
            Ok((status == 410).then_some(()))
        })
        .await?;
    }
    // What it bears it does not tell.
    gateway::kept_silent(&scene.cluster, &[API_KEY, bob.as_str(), DIGEST]).await
}
