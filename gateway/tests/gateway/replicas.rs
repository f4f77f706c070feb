//! Two replicas that share a real Redis, which comes and goes.

use std::time::Duration;

use callplane_gateway::signal::store::{Redis, Store};
use callplane_operator::keys::JoinKey;
use serde_json::{Value, json};

use crate::{
    kubernetes::{Kubernetes, p2p, route},
    peer::Peer,
    redis_server::Server,
    world::{API_KEY, Setup, World},
};

pub const ROOM: &str = "team.standup";

/// Two replicas of a gateway, one API server and one Redis.
pub async fn replicas(server: &Server) -> (World, World) {
    replicas_at(&server.url()).await
}

async fn replicas_at(redis: &str) -> (World, World) {
    let (kubernetes, config) = Kubernetes::start().await;
    kubernetes.room("team", "standup");
    kubernetes.route("team", "standup", p2p(1, "Scheduled"), None);
    let key = JoinKey::generate().unwrap().pem;
    let replica = async || {
        let store = |metrics: &callplane_gateway::metrics::Metrics| {
            let (redis, keep) = Redis::new(redis, metrics.clone()).unwrap();
            tokio::spawn(keep);
            Store::Redis(redis)
        };
        let cluster = (kubernetes.clone(), config.clone());
        let world = World::replica(Setup::default(), cluster, &key, store).await;
        world.until(|| world.signal.is_store_up()).await;
        world.knows("team", "standup").await;
        world
    };
    (replica().await, replica().await)
}

async fn join(world: &World, user: &str, role: &str) -> (Peer, Value) {
    let token = world.token(ROOM, user, role).await;
    Peer::joined(world.address, ROOM, &token).await
}

async fn until_presence(world: &World, is: impl Fn(&Value) -> bool) {
    world.until(|| is(&world.kubernetes.presence("team", "standup"))).await;
}

#[tokio::test]
async fn people_at_two_replicas_are_in_one_call() {
    let server = Server::start();
    let (one, two) = replicas(&server).await;
    let (mut ann, _) = join(&one, "ann", "host").await;
    let (mut bob, joined) = join(&two, "bob", "participant").await;
    assert_eq!(joined["initiator"], json!(["ann"]));
    assert_eq!(ann.expect("call:participant-joined").await["userId"], "bob");
    bob.ask("chat", json!({"text": "hi"})).await;
    let (a, b) = (ann.expect("chat").await, bob.expect("chat").await);
    assert_eq!(a, b, "the same, in the same place");
    let offer = json!({"targetUserId": "ann", "sdp": "v=0", "epoch": 1});
    assert_eq!(bob.ask("webrtc:offer", offer).await, json!({}));
    assert_eq!(ann.expect("webrtc:offer").await["sourceUserId"], "bob");
    until_presence(&one, |p| p["participants"] == 2).await;
    let count: String = server.ask(&["HGET", "room:team.standup", "participantCount"]).await;
    let entry: String = server.ask(&["HGET", "room:team.standup:participants", "bob"]).await;
    let entry: Value = serde_json::from_str(&entry).unwrap();
    assert_eq!((count.as_str(), &entry["role"], &entry["isMuted"]), ("2", &json!("participant"), &json!(false)));
    let life: i64 = server.ask(&["TTL", "room:team.standup:participants"]).await;
    assert!((1..=900).contains(&life), "{life}");

    // All acknowledge, each at its own replica.
    one.kubernetes.route("team", "standup", p2p(2, "Scheduled"), Some(p2p(1, "Scheduled")));
    for peer in [&mut ann, &mut bob] {
        peer.expect("call:mode-switch").await;
        peer.ask("route-ack", json!({"epoch": 2, "success": true})).await;
    }
    for peer in [&mut ann, &mut bob] {
        assert_eq!(peer.expect("call:mode-switched").await["success"], true);
    }
    until_presence(&one, |p| p["epoch"] == 2).await;

    // The same user at the other replica, and a removal across.
    let (mut again, _) = join(&one, "bob", "participant").await;
    assert_eq!(bob.until_over().await.last().unwrap().0, "call:replaced");
    let (mut eve, _) = join(&two, "eve", "guest").await;
    while ann.expect("call:participant-joined").await["userId"] != "eve" {}
    assert_eq!(ann.ask("host:remove", json!({"userId": "eve"})).await, json!({}));
    assert_eq!(eve.until_over().await.last().unwrap(), &("call:removed".to_owned(), json!({"by": "ann"})));
    again.expect("call:participant-left").await;
    until_presence(&one, |p| p["participants"] == 2).await;
}

/// Whom a newcomer at `world` is to offer a connection to: those who are there.
async fn present(world: &World, user: &str) -> Vec<Value> {
    let (mut peer, joined) = join(world, user, "participant").await;
    peer.ask("leave-room", json!({})).await;
    joined["initiator"].as_array().unwrap().clone()
}

#[tokio::test]
async fn who_comes_first_is_let_in_though_what_is_published_comes_late() {
    let server = Server::start();
    let (one, _) = replicas_at(&server.late(Duration::from_millis(500)).await).await;
    let (_, joined) = join(&one, "ann", "host").await;
    assert_eq!((&joined["self"]["userId"], &joined["participants"]), (&json!("ann"), &json!([])));
}

#[tokio::test]
async fn who_is_at_a_replica_that_has_just_come_is_there() {
    let server = Server::start();
    let (one, two) = replicas(&server).await;
    let (_ann, _) = join(&two, "ann", "host").await;
    assert_eq!(present(&one, "bob").await, ["ann"]);
}

#[tokio::test]
async fn who_is_at_a_replica_that_was_silent_for_a_while_stays() {
    let server = Server::start();
    let (one, two) = replicas(&server).await;
    let (mut ann, joined) = join(&two, "ann", "host").await;
    let (mut bob, _) = join(&one, "bob", "participant").await;
    ann.expect("call:participant-joined").await;
    let member: String = server.ask(&["HGET", "room:team.standup:participants", "ann"]).await;
    let member: Value = serde_json::from_str(&member).unwrap();
    let replica = member["replica"].as_str().unwrap();
    let silence = async {
        loop {
            server.ask::<i64>(&["ZREM", "callplane:gateways", replica]).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let until = async |is_there: bool| while present(&one, "cat").await.contains(&json!("ann")) != is_there {};
    tokio::select! {
        () = until(false) => {}
        () = silence => {}
    }
    until(true).await;
    let answer = ann.ask("chat", json!({"text": "still here"})).await;
    assert_eq!(answer.get("error"), None, "{answer} {joined}");
    assert_eq!(bob.expect("chat").await["text"], "still here");
}

#[tokio::test]
async fn no_more_are_let_in_than_may_be_however_they_come() {
    let server = Server::start();
    let (one, two) = replicas(&server).await;
    let mut tokens = vec![];
    for n in 0..10 {
        tokens.push(one.token(ROOM, &format!("user-{n}"), "participant").await);
    }
    let joins = tokens.iter().enumerate().map(|(n, token)| {
        let world = if n % 2 == 0 { &one } else { &two };
        async move {
            let mut peer = Peer::connect(world.address).await;
            let answer = peer.ask("join-room", json!({"roomId": ROOM, "token": token})).await;
            (peer, answer)
        }
    });
    let joined = futures::future::join_all(joins).await;
    let is_in = |answer: &Value| answer["session"].is_string();
    assert_eq!(joined.iter().filter(|(_, answer)| is_in(answer)).count(), 4);
    assert!(joined.iter().all(|(_, answer)| is_in(answer) || answer["error"]["code"] == "room-full"));
}

#[tokio::test]
async fn a_client_comes_back_at_the_other_replica_when_its_own_stops() {
    let server = Server::start();
    let (one, two) = replicas(&server).await;
    let (mut bob, joined) = join(&one, "bob", "participant").await;
    let (mut ann, _) = join(&two, "ann", "host").await;
    bob.expect("call:participant-joined").await;
    let resume = json!({"session": joined["session"], "seq": bob.seq});
    one.signal.shut_down().await;
    bob.until_over().await;
    ann.ask("chat", json!({"text": "wait"})).await;
    let mut bob = Peer::connect(two.address).await;
    let request = json!({"roomId": ROOM, "token": joined["token"], "resume": resume});
    let back = bob.ask("join-room", request).await;
    assert_eq!((&back["resumed"], &back["missed"][0]["data"]["text"]), (&json!(true), &json!("wait")), "{back}");
    assert!(!ann.heard().await.iter().any(|event| event.starts_with("call:participant")));
    until_presence(&two, |p| p["participants"] == 2).await;
    ann.ask("leave-room", json!({})).await;
    until_presence(&two, |p| p["participants"] == 1).await;
}

#[tokio::test]
async fn leaving_by_rest_ends_the_socket_at_whichever_replica_it_is() {
    let server = Server::start();
    let (one, two) = replicas(&server).await;
    let leave = format!("/v1/rooms/{ROOM}/leave");
    // Of a replica that has nobody in the call.
    let (mut zoe, _) = join(&one, "zoe", "participant").await;
    assert_eq!(two.backend("POST", &leave, json!({"userId": "zoe"})).await.status, 200);
    assert_eq!(zoe.until_over().await.last().unwrap(), &("call:removed".to_owned(), json!({})));

    let (mut ann, _) = join(&two, "ann", "host").await;
    let (mut bob, _) = join(&one, "bob", "participant").await;
    assert_eq!(ann.expect("call:participant-joined").await["userId"], "bob");
    let (mut eve, joined) = join(&one, "eve", "guest").await;
    assert_eq!(ann.expect("call:participant-joined").await["userId"], "eve");
    let token = |joined: &Value| joined["token"].as_str().unwrap().to_owned();

    // Who is no host makes nobody leave.
    let refused = two.send("POST", &leave, &token(&joined), json!({"userId": "ann"})).await;
    assert_eq!((refused.status, refused.code()), (403, "not-permitted"));
    assert_eq!(ann.ask("chat", json!({"text": "still here"})).await.get("error"), None);

    // Of one's own will; the token is good for coming back.
    assert_eq!(two.send("POST", &leave, &token(&joined), json!({})).await.status, 200);
    assert_eq!(eve.until_over().await.last().unwrap(), &("call:removed".to_owned(), json!({"by": "eve"})));
    let left = ann.expect("call:participant-left").await;
    assert_eq!((&left["userId"], &left["reason"]), (&json!("eve"), &json!("left")));
    let (mut eve, _) = Peer::joined(one.address, ROOM, &token(&joined)).await;
    ann.expect("call:participant-joined").await;

    // By a host, and by a backend: no earlier token lets them in again, at either replica.
    let host = one.token(ROOM, "ann", "host").await;
    let by_host = (&mut eve, "eve", host.as_str(), json!({"by": "ann"}));
    for (peer, user, bearer, by) in [by_host, (&mut bob, "bob", API_KEY, json!({}))] {
        let earlier = one.token(ROOM, user, "participant").await;
        assert_eq!(two.send("POST", &leave, bearer, json!({"userId": user})).await.status, 200);
        assert_eq!(peer.until_over().await.last().unwrap(), &("call:removed".to_owned(), by));
        let left = ann.expect("call:participant-left").await;
        assert_eq!((&left["userId"], &left["reason"]), (&json!(user), &json!("removed")));
        for world in [&one, &two] {
            let mut again = Peer::connect(world.address).await;
            let answer = again.ask("join-room", json!({"roomId": ROOM, "token": earlier})).await;
            assert_eq!(answer["error"]["code"], "removed", "{answer}");
        }
    }
    until_presence(&one, |p| p["participants"] == 1).await;
    assert_eq!(one.backend("POST", &leave, json!({"userId": "bob"})).await.status, 200, "again is the same");
    assert_eq!(two.backend("POST", &leave, json!({"userId": "nobody"})).await.status, 200);
}

#[tokio::test]
async fn redis_may_be_lost_and_come_back_empty() {
    let mut server = Server::start();
    let (one, two) = replicas(&server).await;
    let (mut ann, _) = join(&one, "ann", "host").await;
    let (mut abe, _) = join(&one, "abe", "participant").await;
    let (mut bob, _) = join(&two, "bob", "participant").await;
    abe.expect("call:participant-joined").await;

    server.kill();
    one.until(|| !one.signal.is_store_up()).await;
    two.until(|| !two.signal.is_store_up()).await;
    ann.ask("chat", json!({"text": "still here?"})).await;
    assert_eq!(abe.expect("chat").await["text"], "still here?", "those of one replica hear each other");
    let (mut cat, _) = join(&one, "cat", "guest").await;
    ann.expect("call:participant-joined").await;
    assert_eq!(cat.ask("update-state", json!({"isMuted": true})).await, json!({}));
    let switched = json!({"epoch": 2, "success": true});
    one.kubernetes.route("team", "standup", p2p(2, "Scheduled"), Some(p2p(1, "Scheduled")));
    for peer in [&mut ann, &mut abe, &mut cat, &mut bob] {
        peer.expect("call:mode-switch").await;
        peer.ask("route-ack", switched.clone()).await;
    }

    server.run();
    one.until(|| one.signal.is_store_up()).await;
    two.until(|| two.signal.is_store_up()).await;
    assert_eq!(bob.expect("chat").await["text"], "still here?", "what was missed is told then");
    for peer in [&mut ann, &mut abe, &mut cat, &mut bob] {
        assert_eq!(peer.expect("call:mode-switched").await["success"], true);
    }
    bob.ask("chat", json!({"text": "back"})).await;
    for peer in [&mut cat, &mut bob] {
        assert_eq!(peer.expect("chat").await["text"], "back");
    }
    until_presence(&one, |p| p["participants"] == 4 && p["epoch"] == 2).await;
    let stored: Vec<String> = server.ask(&["HKEYS", "room:team.standup:participants"]).await;
    assert_eq!(stored.len(), 4, "{stored:?}");

    // Emptied under way: what the replicas know is written again.
    server.ask::<()>(&["FLUSHALL"]).await;
    let again = async {
        loop {
            let stored: Vec<String> = server.ask(&["HKEYS", "room:team.standup:participants"]).await;
            if stored.len() == 4 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), again).await.expect("it was written again");
    ann.ask("chat", json!({"text": "all here"})).await;
    assert_eq!(bob.expect("chat").await["text"], "all here");
    one.kubernetes.route("team", "standup", route("mn-a", 3), None);
    for peer in [&mut ann, &mut abe, &mut cat, &mut bob] {
        peer.expect("call:mode-switch").await;
    }
}
