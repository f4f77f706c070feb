//! Who finds a place in a call.

use serde_json::json;

use crate::{
    kubernetes::p2p,
    peer::Peer,
    redis_server::Server,
    replicas::{ROOM, replicas},
    world::{Answer, World},
};

const JOIN: &str = "/v1/rooms/team.standup/join";

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
