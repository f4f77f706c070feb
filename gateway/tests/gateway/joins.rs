//! Who finds a place in a call, and how often one may ask for it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    kubernetes::p2p,
    peer::Peer,
    redis_server::Server,
    replicas::{ROOM, replicas},
    world::{Answer, World, rate},
};

const JOIN: &str = "/v1/rooms/team.standup/join";

/// Joins of a flood, and how many of them are let through at once.
const FLOOD: usize = 200;
const AT_ONCE: u32 = 20;

/// A peer-to-peer room for four, with as many in it.
async fn full(world: &World) -> Vec<Peer> {
    let mut peers = vec![];
    for user in ["ann", "bob", "cat", "dan"] {
        let token = world.token(ROOM, user, "participant").await;
        peers.push(Peer::joined(world.address, ROOM, &token).await.0);
    }
    peers
}

async fn room(world: &World) {
    world.kubernetes.room("team", "standup");
    world.kubernetes.route("team", "standup", p2p(1, "Scheduled"), None);
    world.knows("team", "standup").await;
}

/// Waits until `world` knows that so many are said to be in the room.
async fn says(world: &World, participants: i32) {
    let id = ROOM.parse().unwrap();
    let said = || world.gateway.cache.room(&id)?.status.as_ref()?.presence.as_ref().map(|p| p.participants);
    world.until(|| said() == Some(participants)).await;
}

async fn join(world: &World, user: &str) -> Answer {
    world.backend("POST", JOIN, json!({"userId": user})).await
}

#[tokio::test]
async fn who_would_find_no_place_is_told_so_before_they_come() {
    let world = World::new().await;
    room(&world).await;
    let mut peers = full(&world).await;
    says(&world, 4).await;
    let refused = join(&world, "eve").await;
    assert_eq!((refused.status, refused.code()), (409, "room-full"), "{refused:?}");
    let link = world.backend("POST", "/v1/rooms/team.standup/links", json!({})).await.text("linkToken");
    let guest = world.send("POST", JOIN, "", json!({"linkToken": link})).await;
    assert_eq!((guest.status, guest.code()), (409, "room-full"), "{guest:?}");

    // Who is in is let in again, also while their socket is gone for a moment.
    let token = join(&world, "ann").await.text("token");
    drop(peers.remove(1));
    let (mut ann, _) = Peer::joined(world.address, ROOM, &token).await;
    assert_eq!(join(&world, "bob").await.status, 200);
    assert_eq!(join(&world, "eve").await.code(), "room-full", "their place is kept");

    // What was written of the room need not have changed yet.
    assert_eq!(ann.ask("leave-room", json!({})).await, json!({}));
    let token = join(&world, "eve").await.text("token");
    Peer::joined(world.address, ROOM, &token).await;
}

#[tokio::test]
async fn what_was_written_of_a_room_turns_nobody_away_by_itself() {
    let world = World::new().await;
    room(&world).await;
    let mut room = world.kubernetes.object("callrooms", "team", "standup").unwrap();
    room["status"]["presence"] = json!({"participants": 4, "since": "2026-11-21T14:00:00Z"});
    world.kubernetes.put("callrooms", "team", "standup", room);
    says(&world, 4).await;
    // By a gateway that is gone, for one: who is in is not known.
    assert_eq!(join(&world, "eve").await.status, 200);
    world.signal.sweep();
    assert_eq!(join(&world, "eve").await.status, 200, "nor when it was asked for");
}

#[tokio::test]
async fn a_replica_knows_who_is_at_another_and_guesses_nothing_while_it_cannot() {
    let mut server = Server::start();
    let (one, two) = replicas(&server).await;
    let _peers = full(&one).await;
    says(&two, 4).await;
    let refused = join(&two, "eve").await;
    assert_eq!((refused.status, refused.code()), (409, "room-full"), "{refused:?}");
    assert_eq!(join(&two, "dan").await.status, 200);

    server.kill();
    two.until(|| !two.signal.is_store_up()).await;
    assert_eq!(join(&two, "eve").await.status, 200, "who is in cannot be seen, so nobody is turned away");
}

/// The joins that were let through, and the others: all of these were limited, and told for how long.
async fn flood(joins: impl Iterator<Item = impl Future<Output = Answer>>) -> (usize, usize) {
    let answers = futures::future::join_all(joins).await;
    let (passed, limited): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 200);
    for answer in &limited {
        assert_eq!((answer.status, answer.code()), (429, "rate-limited"), "{answer:?}");
        let wait: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait), "{answer:?}");
    }
    (passed.len(), limited.len())
}

#[tokio::test]
async fn a_flood_of_joins_of_one_caller_is_limited_and_others_are_let_in() {
    let world = World::with(rate(1, AT_ONCE), rate(10_000, 10_000)).await;
    room(&world).await;
    let link = world.backend("POST", "/v1/rooms/team.standup/links", json!({})).await.text("linkToken");
    let by_key = (0..FLOOD).map(|n| {
        let world = &world;
        async move { join(world, &format!("user-{n}")).await }
    });
    let (passed, limited) = flood(by_key).await;
    assert!(passed > 0 && limited > 0, "{passed} passed, {limited} limited");
    let by_link = || world.send("POST", JOIN, "", json!({"linkToken": link}));
    assert_eq!(by_link().await.status, 200, "a link is another caller");
    let (passed, limited) = flood((0..FLOOD).map(|_| by_link())).await;
    assert!(passed > 0 && limited > 0, "{passed} passed, {limited} limited");
}

#[tokio::test]
async fn a_flood_of_joins_of_one_address_is_limited_whoever_asks() {
    let world = World::with(rate(10_000, 10_000), rate(1, AT_ONCE)).await;
    room(&world).await;
    let joins = (0..FLOOD).map(|n| {
        let world = &world;
        async move { join(world, &format!("user-{n}")).await }
    });
    let (passed, limited) = flood(joins).await;
    assert!(passed > 0 && limited > 0, "{passed} passed, {limited} limited");
}

/// Sends `event` and whatever `after` says until a limit on `what` refuses it.
async fn until_limited(peer: &mut Peer, what: &str, join: &Value, after: Option<&str>) {
    // Far more than may be: one a second is let through besides those at once.
    for _ in 0..100 {
        let answer = peer.ask("join-room", join.clone()).await;
        if answer["error"]["code"] == "rate-limited" {
            let detail = answer["error"]["detail"].as_str().unwrap();
            assert!(detail.contains(what), "{answer}");
            assert_eq!(answer["error"]["status"], 429);
            return;
        }
        if let Some(after) = after {
            assert_eq!(peer.ask(after, json!({})).await, json!({}), "{answer}");
        }
    }
    panic!("joins are not limited");
}

#[tokio::test]
async fn joins_by_socket_are_limited_for_each_user() {
    let world = World::with(rate(1, 5), rate(10_000, 10_000)).await;
    room(&world).await;
    let (ann, bob) = (world.token(ROOM, "ann", "participant").await, world.token(ROOM, "bob", "participant").await);
    let mut flood = Peer::connect(world.address).await;
    until_limited(&mut flood, "caller", &json!({"roomId": ROOM, "token": bob}), Some("leave-room")).await;
    let (_, joined) = Peer::joined(world.address, ROOM, &ann).await;
    assert_eq!(joined["self"]["userId"], "ann", "others are let in");
}

#[tokio::test]
async fn joins_by_socket_are_limited_for_each_address_and_so_are_guesses_at_tokens() {
    let world = World::with(rate(10_000, 10_000), rate(1, AT_ONCE)).await;
    room(&world).await;
    let mut peer = Peer::connect(world.address).await;
    until_limited(&mut peer, "address", &json!({"roomId": ROOM, "token": "x.y.z"}), None).await;
    // The socket itself goes on, and may come in when the address may.
    let still = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            let answer = peer.ask("join-room", json!({"roomId": ROOM, "token": "x.y.z"})).await;
            if answer["error"]["code"] == "credentials-invalid" {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    still.await.expect("an address may ask again after a while");
}
