//! Routes change while people are in a room.

use serde_json::{Value, json};

use crate::{
    kubernetes::{p2p, route},
    peer::Peer,
    world::World,
};

const ROOM: &str = "team.standup";

async fn join(world: &World, user: &str) -> (Peer, Value) {
    let token = world.token(ROOM, user, "participant").await;
    Peer::joined(world.address, ROOM, &token).await
}

async fn presence(world: &World, is: impl Fn(&Value) -> bool) -> Value {
    world.until(|| is(&world.kubernetes.presence("team", "standup"))).await;
    world.kubernetes.presence("team", "standup")
}

/// The epoch that a join token is for.
fn epoch_of(token: &Value) -> Value {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let payload = token.as_str().unwrap().split('.').nth(1).unwrap();
    serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()["epoch"].clone()
}

/// A peer-to-peer room, and a media node that it may move to.
async fn room(world: &World) -> crate::world::Node {
    let node = world.placed("team", "standup").await;
    world.kubernetes.route("team", "standup", p2p(1, "Scheduled"), None);
    world.knows("team", "standup").await;
    node
}

#[tokio::test]
async fn everybody_is_told_to_move_and_told_when_all_have() {
    let world = World::new().await;
    let mut node = room(&world).await;
    let (mut bob, _) = join(&world, "bob").await;
    let (mut ann, _) = join(&world, "ann").await;
    let counted = presence(&world, |p| p["participants"] == 2).await;
    assert!(counted["since"].is_string() && counted.get("epoch").is_none() && counted.get("failed").is_none());
    for peer in [&mut ann, &mut bob] {
        assert_eq!(peer.ask("route-ack", json!({"epoch": 1, "success": true})).await, json!({}));
    }
    presence(&world, |p| p["epoch"] == 1).await;
    assert!(!ann.heard().await.contains(&"call:mode-switched".to_owned()), "nothing was switched");

    world.kubernetes.route("team", "standup", route("mn-a", 2), Some(p2p(1, "Scheduled")));
    for peer in [&mut ann, &mut bob] {
        let told = peer.expect("call:mode-switch").await;
        assert_eq!(
            (&told["epoch"], &told["mode"], &told["initiator"]),
            (&json!(2), &json!("SFU"), &json!([])),
            "{told}"
        );
        assert_eq!(epoch_of(&told["token"]), 2);
        assert!(told["rtpCapabilities"].is_object() && told["iceServers"].is_array(), "{told}");
    }
    assert_eq!(node.asked.recv().await.unwrap().line, "GET /api/rooms/team.standup");
    ann.ask("route-ack", json!({"epoch": 2, "success": true})).await;
    // Who joins in the middle is told both.
    let (mut cat, joined) = join(&world, "cat").await;
    assert_eq!(joined["route"], json!({"epoch": 2, "mode": "SFU"}));
    assert_eq!(joined["previousRoute"], json!({"epoch": 1, "mode": "P2P"}));
    assert!(joined["rtpCapabilities"].is_object());
    bob.ask("route-ack", json!({"epoch": 1, "success": true})).await;
    bob.ask("route-ack", json!({"epoch": 2, "success": true})).await;
    assert!(!bob.heard().await.contains(&"call:mode-switched".to_owned()), "cat has not");
    cat.ask("route-ack", json!({"epoch": 2, "success": true})).await;
    for peer in [&mut ann, &mut bob, &mut cat] {
        let told = peer.expect("call:mode-switched").await;
        assert_eq!(told, json!({"epoch": 2, "mode": "SFU", "success": true}));
    }
    let counted = presence(&world, |p| p["epoch"] == 2).await;
    assert_eq!(counted["participants"], 3);
    world.kubernetes.route("team", "standup", route("mn-a", 2), None);

    cat.ask("leave-room", json!({})).await;
    world.kubernetes.route("team", "standup", p2p(3, "Shrunk"), Some(route("mn-a", 2)));
    assert_eq!(ann.expect("call:mode-switch").await["initiator"], json!(["bob"]), "of a pair the lower id offers");
    assert_eq!(bob.expect("call:mode-switch").await["initiator"], json!([]));
    // The operator's deadline closes the old route, too.
    world.kubernetes.route("team", "standup", p2p(3, "Shrunk"), None);
    assert_eq!(bob.expect("call:mode-switched").await, json!({"epoch": 3, "mode": "P2P", "success": true}));
}

#[tokio::test]
async fn who_cannot_is_told_once_more_and_a_roll_back_is_told() {
    let world = World::new().await;
    let _node = room(&world).await;
    let (mut ann, _) = join(&world, "ann").await;
    let (mut bob, _) = join(&world, "bob").await;
    world.kubernetes.route("team", "standup", route("mn-a", 2), Some(p2p(1, "Scheduled")));
    for peer in [&mut ann, &mut bob] {
        peer.expect("call:mode-switch").await;
    }
    ann.ask("route-ack", json!({"epoch": 2, "success": true})).await;
    bob.ask("route-ack", json!({"epoch": 2, "success": false, "reason": "ice"})).await;
    assert_eq!(bob.expect("call:mode-switch").await["epoch"], 2, "once more");
    assert!(world.kubernetes.presence("team", "standup").get("failed").is_none());
    bob.ask("route-ack", json!({"epoch": 2, "success": false})).await;
    let counted = presence(&world, |p| p["failed"]["epoch"] == 2).await;
    assert!(counted.get("epoch").is_none() && counted.get("sfuWanted").is_none(), "{counted}");

    let mut back = p2p(3, "RolledBack");
    back["since"] = json!("2026-11-21T14:01:00Z");
    world.kubernetes.route("team", "standup", back, Some(route("mn-a", 2)));
    for peer in [&mut ann, &mut bob] {
        assert_eq!(peer.expect("call:mode-switched").await, json!({"epoch": 2, "mode": "SFU", "success": false}));
        assert_eq!(peer.expect("call:mode-switch").await["epoch"], 3);
        peer.ask("route-ack", json!({"epoch": 3, "success": true})).await;
    }
    for peer in [&mut ann, &mut bob] {
        assert_eq!(peer.expect("call:mode-switched").await["success"], true);
    }
    presence(&world, |p| p["epoch"] == 3 && p.get("failed").is_none()).await;

    // Peer to peer, and it breaks: the SFU is wanted.
    world.kubernetes.route("team", "standup", p2p(3, "RolledBack"), None);
    world.knows("team", "standup").await;
    ann.heard().await;
    bob.ask("route-ack", json!({"epoch": 3, "success": false})).await;
    presence(&world, |p| p["sfuWanted"]["reason"] == "PeerConnectionFailed").await;
    bob.ask("leave-room", json!({})).await;
    presence(&world, |p| p.get("sfuWanted").is_none() && p["participants"] == 1).await;
}

#[tokio::test]
async fn the_api_server_away_holds_up_nobody_and_is_told_when_it_is_back() {
    let world = World::new().await;
    let _node = room(&world).await;
    let (mut ann, _) = join(&world, "ann").await;
    presence(&world, |p| p["participants"] == 1).await;
    let token = world.token(ROOM, "bob", "participant").await;
    world.kubernetes.is_up(false);
    let (mut bob, _) = Peer::joined(world.address, ROOM, &token).await;
    ann.expect("call:participant-joined").await;
    bob.ask("chat", json!({"text": "hi"})).await;
    assert_eq!(ann.expect("chat").await["text"], "hi");
    let refused = world.kubernetes.count("APPLY");
    world.until(|| world.kubernetes.count("APPLY") > refused).await;
    world.kubernetes.is_up(true);
    presence(&world, |p| p["participants"] == 2).await;
}

#[tokio::test]
async fn quality_is_told_and_lasting_loss_asks_for_the_sfu() {
    let world = World::new().await;
    let _node = room(&world).await;
    let (mut ann, _) = join(&world, "ann").await;
    let (mut bob, _) = join(&world, "bob").await;
    let report = |loss: f64| json!({"epoch": 1, "packetLossPercent": loss, "rttMs": 40});
    assert_eq!(bob.ask("quality", report(0.0)).await, json!({}));
    let told = ann.expect("quality").await;
    assert_eq!((&told["userId"], &told["level"]), (&json!("bob"), &json!("good")));
    bob.ask("quality", report(0.5)).await;
    bob.ask("quality", json!({"epoch": 7, "packetLossPercent": 50.0, "level": "poor"})).await;
    assert_eq!(ann.expect("quality").await["level"], "poor", "told once each time it changes");
    for _ in 0..6 {
        bob.ask("quality", report(20.0)).await;
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    bob.ask("quality", report(20.0)).await;
    let counted = presence(&world, |p| p["sfuWanted"]["reason"] == "PacketLoss").await;
    assert!(counted["sfuWanted"]["since"].is_string());
}

#[tokio::test]
async fn events_of_the_media_node_reach_the_one_they_are_for_while_it_serves_the_room() {
    let world = World::new().await;
    let mut node = world.placed("team", "standup").await;
    let (mut ann, joined) = join(&world, "ann").await;
    assert_eq!(joined["route"], json!({"epoch": 1, "mode": "SFU"}));
    let room = ann.expect("room").await;
    assert_eq!((&room["bearer"], &room["epoch"]), (&json!("ann"), &json!(1)), "as ann, and of which epoch");
    assert_eq!(ann.expect("new-producer").await, json!({"id": "p1", "epoch": 1}));
    // The node closed the socket after that; it is opened again.
    ann.expect("room").await;
    let done = ann.ask("pause-consumer", json!({"consumerId": "c-1"})).await;
    assert_eq!(done["id"], "of the node");
    loop {
        let asked = node.asked.recv().await.unwrap();
        if asked.line == "POST /api/rooms/team.standup/consumers/c-1/pause" {
            break;
        }
    }
    let refused = ann.ask("resume-consumer", json!({"consumerId": "problem"})).await;
    assert_eq!(refused, json!({"error": {"status": 409, "code": "epoch-stale", "tokenEpoch": 1, "servedEpoch": 2}}));
}

#[tokio::test]
async fn who_leaves_is_let_go_by_every_node_before_they_are_answered() {
    let world = World::new().await;
    let mut node = world.placed("team", "standup").await;
    world.kubernetes.route("team", "standup", route("mn-a", 2), Some(route("mn-a", 1)));
    world.knows("team", "standup").await;
    let (mut ann, _) = join(&world, "ann").await;
    let (mut bob, _) = join(&world, "bob").await;
    while node.asked.try_recv().is_ok() {}
    assert_eq!(bob.ask("leave-room", json!({})).await, json!({}));
    let mut epochs = Vec::new();
    while let Ok(asked) = node.asked.try_recv() {
        assert_eq!(asked.line, "POST /api/rooms/team.standup/participants/bob/leave");
        let bearer = asked.headers["authorization"].to_str().unwrap().replace("Bearer ", "");
        epochs.push(epoch_of(&json!(bearer)));
    }
    epochs.sort_by_key(Value::to_string);
    assert_eq!(epochs, [1, 2], "the old one, too: they may be on either");
    // Whose socket is lost may still have media: the node knows best.
    drop(bob);
    let (bob, _) = join(&world, "bob").await;
    ann.expect("call:participant-joined").await;
    drop(bob);
    assert_eq!(ann.ask("chat", json!({"text": "hi"})).await["error"], Value::Null);
    assert!(node.asked.try_recv().is_err());
}

#[tokio::test]
async fn leaving_by_rest_is_told_to_the_others_and_a_removed_one_stays_out() {
    let world = World::new().await;
    let _node = room(&world).await;
    let (mut ann, _) = join(&world, "ann").await;
    let token = world.token(ROOM, "bob", "participant").await;
    let _bob = Peer::joined(world.address, ROOM, &token).await;
    ann.expect("call:participant-joined").await;
    let leave = "/v1/rooms/team.standup/leave";
    assert_eq!(world.send("POST", leave, &token, json!({"userId": "ann"})).await.code(), "not-permitted");
    assert_eq!(world.send("POST", leave, &token, json!({})).await.status, 200);
    let told = ann.expect("call:participant-left").await;
    assert_eq!((&told["userId"], &told["reason"]), (&json!("bob"), &json!("left")));
    let (mut bob, _) = Peer::joined(world.address, ROOM, &token).await;
    assert_eq!(world.backend("POST", leave, json!({"userId": "bob"})).await.status, 200);
    assert_eq!(bob.expect("call:removed").await, json!({}));
    bob.until_over().await;
    assert_eq!(ann.expect("call:participant-left").await["reason"], "removed");
    let mut again = Peer::connect(world.address).await;
    let refused = again.ask("join-room", json!({"roomId": ROOM, "token": token})).await;
    assert_eq!(refused["error"]["code"], "removed");
}

#[tokio::test]
async fn that_nobody_ever_came_is_written_once_where_the_room_ends_by_it() {
    let world = World::new().await;
    for (name, lifetime) in [("ends", json!({"emptyTimeoutSeconds": 60})), ("stays", json!({}))] {
        let spec = json!({"maxParticipants": 4, "lifetime": lifetime, "ended": false, "topology": {"mode": "Auto"}});
        let metadata = json!({"creationTimestamp": "2020-01-01T00:00:00Z"});
        world.kubernetes.put("callrooms", "team", name, json!({"metadata": metadata, "spec": spec}));
        world.kubernetes.route("team", name, p2p(1, "Scheduled"), None);
        world.knows("team", name).await;
    }
    world.signal.sweep();
    world.until(|| world.kubernetes.presence("team", "ends")["participants"] == 0).await;
    world.knows("team", "ends").await;
    world.signal.sweep();
    let token = world.token("team.ends", "ann", "participant").await;
    let (_ann, _) = Peer::joined(world.address, "team.ends", &token).await;
    world.until(|| world.kubernetes.presence("team", "ends")["participants"] == 1).await;
    assert_eq!(world.kubernetes.count("APPLY"), 2, "no more than what is news");
    assert_eq!(world.kubernetes.presence("team", "stays"), Value::Null);
}
