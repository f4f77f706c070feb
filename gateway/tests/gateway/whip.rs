//! WHIP and WHEP where the route changes, and where the call has no media node yet.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::{
    kubernetes::{p2p, route},
    peer::Peer,
    redis_server::Server,
    replicas::{ROOM, replicas},
    world::{Answer, Node, World, answer},
};

const ENDPOINT: &str = "/whip/team.standup";

/// A peer-to-peer room of this spec, and a media node that it may move to.
async fn room(world: &World, spec: Value) -> Node {
    let node = world.placed("team", "standup").await;
    let mut room = world.kubernetes.object("callrooms", "team", "standup").unwrap();
    for (field, value) in spec.as_object().unwrap() {
        room["spec"][field] = value.clone();
    }
    world.kubernetes.put("callrooms", "team", "standup", room);
    world.kubernetes.route("team", "standup", p2p(1, "Scheduled"), None);
    world.knows("team", "standup").await;
    node
}

fn auto() -> Value {
    json!({"topology": {"mode": "Auto"}})
}

async fn offer(world: &World, token: &str) -> Answer {
    answer(world.request("POST", ENDPOINT).bearer_auth(token).header("content-type", "application/sdp").body("v=0"))
        .await
}

fn presence(world: &World) -> Value {
    world.kubernetes.presence("team", "standup")
}

async fn until_wanted(world: &World) -> Value {
    world.until(|| presence(world)["sfuWanted"]["reason"] == "Requested").await;
    presence(world)
}

/// Waits until the gateway follows this route, whatever it writes itself meanwhile.
async fn follows(world: &World, epoch: i64, previous: Option<i64>) {
    let id = ROOM.parse().unwrap();
    let routes = || {
        let status = world.gateway.cache.room(&id)?.status.clone()?;
        Some((status.route?.epoch, status.previous_route.map(|route| route.epoch)))
    };
    world.until(|| routes() == Some((epoch, previous))).await;
}

fn claims(token: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

/// What the node was asked next, and what the token said that came with it.
async fn asked(node: &mut Node) -> (String, Value) {
    loop {
        let asked = node.asked.recv().await.unwrap();
        // What signalling asks by itself is none of this.
        if !asked.line.contains("/api/rooms/") {
            let bearer = asked.headers["authorization"].to_str().unwrap().strip_prefix("Bearer ").unwrap();
            return (asked.line, claims(bearer));
        }
    }
}

/// What is asked of the operator is carried out, once it was asked.
async fn move_up(world: &World) -> Value {
    let wanted = until_wanted(world).await;
    world.kubernetes.route("team", "standup", route("mn-a", 2), Some(p2p(1, "Scheduled")));
    wanted
}

#[tokio::test]
async fn a_call_that_is_peer_to_peer_gets_a_media_node_for_who_publishes() {
    let world = World::new().await;
    let mut node = room(&world, auto()).await;
    let token = world.token(ROOM, "obs", "guest").await;
    let (made, wanted) = tokio::join!(offer(&world, &token), move_up(&world));
    assert_eq!((made.status, wanted["participants"].as_i64()), (201, Some(0)), "{made:?}");
    let (line, told) = asked(&mut node).await;
    let mut expected = claims(&token);
    expected["epoch"] = json!(2);
    assert_eq!((line, told), (format!("POST {ENDPOINT}"), expected), "the same token but for the epoch");

    // Its one token is good for what it made, and for more.
    let session = made.headers["location"].to_str().unwrap().to_owned();
    for (method, status) in [("PATCH", 204), ("DELETE", 200)] {
        let request = world.request(method, &session).bearer_auth(&token).header("if-match", "\"1\"");
        assert_eq!(answer(request).await.status, status);
        let (line, told) = asked(&mut node).await;
        assert_eq!((line, &told["epoch"]), (format!("{method} {session}"), &json!(2)));
    }
    assert_eq!(offer(&world, &token).await.status, 201);
    assert_eq!(asked(&mut node).await.1["epoch"], 2);
    // Who knows of routes is held to them: that token is as it was.
    world.kubernetes.route("team", "standup", route("mn-a", 2), None);
    follows(&world, 2, None).await;
    assert_eq!(world.send("GET", "/api/rooms/team.standup", &token, Value::Null).await.status, 200);
    let by_api = loop {
        let asked = node.asked.recv().await.unwrap();
        if asked.headers["authorization"].to_str().unwrap().ends_with(&token) {
            break asked;
        }
    };
    assert_eq!(by_api.line, "GET /api/rooms/team.standup");

    // While the call leaves its node, what is there can still be ended there; what is new goes where the call goes.
    world.kubernetes.route("team", "standup", p2p(3, "Shrunk"), Some(route("mn-a", 2)));
    follows(&world, 3, Some(2)).await;
    assert_eq!(world.send("DELETE", &session, &token, Value::Null).await.status, 200);
    assert_eq!(offer(&world, &token).await.code(), "room-not-ready");
}

#[tokio::test]
async fn those_who_talk_are_counted_and_moved_as_ever() {
    let world = World::new().await;
    let _node = room(&world, auto()).await;
    let (mut ann, _) = Peer::joined(world.address, ROOM, &world.token(ROOM, "ann", "host").await).await;
    let token = world.token(ROOM, "player", "guest").await;
    let (made, wanted) = tokio::join!(offer(&world, &token), move_up(&world));
    assert_eq!((made.status, wanted["participants"].as_i64()), (201, Some(1)), "{made:?}");
    assert_eq!(ann.expect("call:mode-switch").await["mode"], "SFU");
    ann.ask("route-ack", json!({"epoch": 2, "success": true})).await;
    world.until(|| presence(&world)["epoch"] == 2).await;
    assert_eq!(presence(&world)["sfuWanted"], wanted["sfuWanted"], "until whoever asked is at the node");
}

#[tokio::test]
async fn who_waits_in_vain_is_told_when_to_come_again_and_why() {
    let world = World::new().await;
    let _node = room(&world, auto()).await;
    let token = world.token(ROOM, "obs", "guest").await;
    let refused = offer(&world, &token).await;
    assert_eq!((refused.status, refused.code()), (503, "room-not-ready"));
    assert_eq!(refused.headers["retry-after"], "1");
    let first = until_wanted(&world).await;

    // No media node has room for it.
    let mut room = world.kubernetes.object("callrooms", "team", "standup").unwrap();
    room["status"]["conditions"] = json!([{"type": "Placed", "status": "False", "reason": "NoCapacity",
        "message": "0 of 1 media nodes fit", "lastTransitionTime": "2026-11-21T14:00:00Z"}]);
    world.kubernetes.put("callrooms", "team", "standup", room);
    world.knows("team", "standup").await;
    let refused = offer(&world, &token).await;
    assert_eq!((refused.status, refused.code()), (503, "room-not-ready"));
    assert!(refused.text("detail").contains("0 of 1 media nodes fit"), "{refused:?}");
    assert_eq!(presence(&world), first, "who asks again writes nothing new");

    // Once there is one the next try gets through.
    world.kubernetes.route("team", "standup", route("mn-a", 2), None);
    follows(&world, 2, None).await;
    assert_eq!(offer(&world, &token).await.status, 201);
    let id = ROOM.parse().unwrap();
    world.kubernetes.status("team", "standup", json!({"phase": "Ended"}));
    world.until(|| world.gateway.cache.room(&id).is_some_and(|room| room.is_over())).await;
    assert_eq!(offer(&world, &token).await.code(), "room-ended");
}

#[tokio::test]
async fn while_the_api_server_is_away_one_is_told_to_come_again_and_it_is_asked_when_it_is_back() {
    let world = World::new().await;
    let _node = room(&world, auto()).await;
    let token = world.token(ROOM, "obs", "guest").await;
    world.kubernetes.is_up(false);
    let refused = offer(&world, &token).await;
    assert_eq!((refused.status, refused.code()), (503, "room-not-ready"));
    assert_eq!(presence(&world), Value::Null);
    world.kubernetes.is_up(true);
    until_wanted(&world).await;
    world.kubernetes.route("team", "standup", route("mn-a", 2), None);
    follows(&world, 2, None).await;
    assert_eq!(offer(&world, &token).await.status, 201);
}

#[tokio::test]
async fn a_room_for_two_and_one_that_is_to_be_peer_to_peer_stay_so() {
    for spec in [
        json!({"maxParticipants": 2, "topology": {"mode": "Auto"}}),
        json!({"maxParticipants": 4, "topology": {"mode": "P2P"}}),
    ] {
        let world = World::new().await;
        let mut node = room(&world, spec.clone()).await;
        let token = world.token(ROOM, "obs", "guest").await;
        for path in [ENDPOINT, "/whep/team.standup"] {
            let refused = world.send("POST", path, &token, Value::Null).await;
            assert_eq!((refused.status, refused.code()), (409, "no-media-node"), "{spec}");
            assert!(refused.text("detail").contains("topology.mode SFU"), "{refused:?}");
        }
        assert_eq!((presence(&world), world.kubernetes.count("APPLY")), (Value::Null, 0), "{spec}");
        assert!(node.asked.try_recv().is_err());
    }
}

#[tokio::test]
async fn nobody_moves_a_call_without_a_token_that_lets_them_in() {
    let world = World::new().await;
    let _node = room(&world, auto()).await;
    let other = World::new().await;
    let _elsewhere = room(&other, auto()).await;
    world.kubernetes.room("team", "other");
    world.kubernetes.place("team", "other", "mn-a", 1);
    world.knows("team", "other").await;
    let of_other = world.token("team.other", "obs", "host").await;
    let forged = other.token(ROOM, "obs", "host").await;
    for (what, token, status, code) in [
        ("none", "", 401, "credentials-missing"),
        ("garbage", "a.b.c", 401, "credentials-invalid"),
        ("another key's", &forged, 401, "credentials-invalid"),
        ("another room's", &of_other, 403, "wrong-room"),
    ] {
        let refused = world.send("POST", ENDPOINT, token, Value::Null).await;
        assert_eq!((refused.status, refused.code()), (status, code), "{what}");
    }
    assert_eq!(world.kubernetes.count("APPLY"), 0, "nothing was asked of the operator");

    // Who was removed, or comes to a locked room: not by this way, either, before and after the call moved.
    let token = world.token(ROOM, "eve", "guest").await;
    let late = world.token(ROOM, "late", "guest").await;
    let (mut eve, _) = Peer::joined(world.address, ROOM, &token).await;
    let (mut ann, _) = Peer::joined(world.address, ROOM, &world.token(ROOM, "ann", "host").await).await;
    ann.ask("host:remove", json!({"userId": "eve"})).await;
    eve.until_over().await;
    assert_eq!(ann.ask("host:lock", json!({"locked": true})).await, json!({}));
    ann.expect("call:locked").await;
    for epoch in [1, 2] {
        for (token, code) in [(&token, "removed"), (&late, "room-locked")] {
            let refused = offer(&world, token).await;
            assert_eq!((refused.status, refused.code()), (403, code), "at epoch {epoch}");
        }
        world.kubernetes.route("team", "standup", route("mn-a", 2), None);
        follows(&world, 2, None).await;
    }
    assert_eq!(presence(&world)["sfuWanted"], Value::Null);
}

#[tokio::test]
async fn what_a_replica_that_is_gone_asked_for_is_withdrawn() {
    let world = World::new().await;
    let _node = room(&world, auto()).await;
    let at = "2026-11-21T14:00:00Z";
    let left = json!({"participants": 0, "since": at, "sfuWanted": {"reason": "Requested", "since": at}});
    let mut room = world.kubernetes.object("callrooms", "team", "standup").unwrap();
    room["status"]["presence"] = left;
    world.kubernetes.put("callrooms", "team", "standup", room);
    world.knows("team", "standup").await;
    world.signal.sweep();
    world.until(|| presence(&world)["sfuWanted"].is_null()).await;
    assert_eq!(presence(&world)["participants"], 0);
}

/// Two replicas with a call of one at the first.
async fn with_ann_at_one(server: &Server) -> ([World; 2], Peer, Node) {
    let (one, two) = replicas(server).await;
    let node = Node::start().await;
    one.kubernetes.node("mn-a", &node.url);
    let mut room = one.kubernetes.object("callrooms", "team", "standup").unwrap();
    room["spec"]["topology"] = json!({"mode": "Auto"});
    one.kubernetes.put("callrooms", "team", "standup", room);
    for world in [&one, &two] {
        world.knows("team", "standup").await;
        world.until(|| world.gateway.cache.node_api("mn-a").is_ok()).await;
    }
    let (ann, _) = Peer::joined(one.address, ROOM, &one.token(ROOM, "ann", "host").await).await;
    one.until(|| presence(&one)["participants"] == 1).await;
    ([one, two], ann, node)
}

#[tokio::test]
async fn any_replica_asks_and_the_one_that_counts_writes() {
    let server = Server::start();
    let ([one, two], mut ann, _node) = with_ann_at_one(&server).await;
    let token = two.token(ROOM, "obs", "guest").await;
    let as_told = async {
        // As a client that does what `Retry-After` says.
        loop {
            let made = offer(&two, &token).await;
            if made.status != 503 {
                return made;
            }
        }
    };
    let (made, wanted) = tokio::join!(as_told, move_up(&one));
    assert_eq!((made.status, wanted["participants"].as_i64()), (201, Some(1)), "{made:?}");
    assert_eq!(ann.expect("call:mode-switch").await["mode"], "SFU");
}

#[tokio::test]
async fn without_redis_only_the_replica_that_counts_can_ask() {
    let mut server = Server::start();
    let ([one, two], _ann, _node) = with_ann_at_one(&server).await;
    let token = two.token(ROOM, "obs", "guest").await;
    server.kill();
    for world in [&one, &two] {
        world.until(|| !world.signal.is_store_up()).await;
    }
    assert_eq!(offer(&two, &token).await.code(), "room-not-ready", "to be tried again: the other may be asked then");
    assert_eq!(presence(&one)["sfuWanted"], Value::Null);
    let (made, wanted) = tokio::join!(offer(&one, &token), move_up(&one));
    assert_eq!((made.status, wanted["participants"].as_i64()), (201, Some(1)), "{made:?}");
}
