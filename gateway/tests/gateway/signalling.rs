//! Rooms by Socket.IO, at one replica.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    kubernetes::p2p,
    peer::Peer,
    world::{MAX_SOCKETS, World},
};

const ROOM: &str = "team.standup";

/// A peer-to-peer room for four.
async fn peers(world: &World) {
    world.kubernetes.room("team", "standup");
    world.kubernetes.route("team", "standup", p2p(1, "Scheduled"), None);
    world.knows("team", "standup").await;
}

async fn join(world: &World, user: &str, role: &str) -> (Peer, Value) {
    let token = world.token(ROOM, user, role).await;
    Peer::joined(world.address, ROOM, &token).await
}

fn code(answer: &Value) -> &str {
    answer["error"]["code"].as_str().unwrap_or_else(|| panic!("{answer}"))
}

#[tokio::test]
async fn who_comes_and_goes_is_told_to_those_who_are_there() {
    let world = World::new().await;
    peers(&world).await;
    let (mut ann, joined) = join(&world, "ann", "host").await;
    assert_eq!((&joined["participants"], &joined["initiator"]), (&json!([]), &json!([])));
    assert_eq!(joined["route"], json!({"epoch": 1, "mode": "P2P"}));
    assert_eq!(
        (&joined["resumed"], &joined["locked"], &joined["p2pMaxParticipants"]),
        (&json!(false), &json!(false), &json!(2))
    );
    assert_eq!(joined["apiUrl"], "https://calls.example/api/rooms/team.standup");
    assert!(joined["token"].is_string() && joined["expiresAt"].is_string() && joined.get("rtpCapabilities").is_none());

    let token = world.token(ROOM, "bob", "participant").await;
    let mut bob = Peer::connect(world.address).await;
    let state = json!({"roomId": ROOM, "token": token, "isMuted": true, "isVideoOn": false});
    let joined = bob.ask("join-room", state).await;
    assert_eq!(joined["initiator"], json!(["ann"]), "a newcomer offers to all who are there");
    assert_eq!(joined["participants"][0]["userId"], "ann");
    let told = ann.expect("call:participant-joined").await;
    assert_eq!((&told["userId"], &told["isMuted"], &told["isVideoOn"]), (&json!("bob"), &json!(true), &json!(false)));
    assert!(told["seq"].is_string());

    assert_eq!(bob.ask("update-state", json!({"isMuted": false})).await, json!({}));
    let told = ann.expect("state-changed").await;
    assert_eq!((&told["userId"], &told["isMuted"], &told["isVideoOn"]), (&json!("bob"), &json!(false), &json!(false)));
    assert_eq!(bob.ask("leave-room", json!({})).await, json!({}));
    let told = ann.expect("call:participant-left").await;
    assert_eq!((&told["userId"], &told["reason"]), (&json!("bob"), &json!("left")));
    assert_eq!(code(&bob.ask("chat", json!({"text": "hi"})).await), "not-joined");
    assert_eq!(bob.ask("join-room", json!({"roomId": ROOM, "token": token})).await["resumed"], false, "and back again");
    assert!(!bob.heard().await.contains(&"call:participant-joined".to_owned()), "of oneself one knows");
}

#[tokio::test]
async fn only_a_good_token_lets_in_and_the_room_says_no_where_it_has_to() {
    let world = World::new().await;
    peers(&world).await;
    world.kubernetes.room("team", "other");
    world.kubernetes.route("team", "other", p2p(1, "Scheduled"), None);
    world.knows("team", "other").await;
    let host = world.token(ROOM, "ann", "host").await;
    let elsewhere = world.token("team.other", "ann", "host").await;
    let flipped = if host.as_bytes()[host.len() - 9] == b'A' { "B" } else { "A" };
    let forged = format!("{}{flipped}{}", &host[..host.len() - 9], &host[host.len() - 8..]);
    let mut peer = Peer::connect(world.address).await;
    for (room, token, refusal) in [
        (ROOM, forged.as_str(), "credentials-invalid"),
        (ROOM, "x", "credentials-invalid"),
        (ROOM, &elsewhere, "wrong-room"),
        ("team.other", &host, "wrong-room"),
        ("no room", &host, "room-not-found"),
        ("../..", &host, "room-not-found"),
    ] {
        let answer = peer.ask("join-room", json!({"roomId": room, "token": token})).await;
        assert_eq!(code(&answer), refusal, "{room} {answer}");
        assert!(answer["error"]["title"].is_string() && answer["error"]["status"].is_number());
    }
    assert_eq!(peer.ask("join-room", json!({"roomId": ROOM})).await["error"]["field"], "token");
    assert_eq!(code(&peer.ask("join-room", Value::Null).await), "invalid");
    assert_eq!(code(&peer.ask("route-ack", json!({"epoch": 1, "success": true})).await), "not-joined");

    // The room of this name that comes later is another one.
    world.kubernetes.delete("callrooms", "team", "other");
    world.kubernetes.room("team", "other");
    world.kubernetes.route("team", "other", p2p(1, "Scheduled"), None);
    world.knows("team", "other").await;
    let answer = peer.ask("join-room", json!({"roomId": "team.other", "token": elsewhere})).await;
    assert_eq!(code(&answer), "wrong-room");
    let seen = world.send("GET", "/v1/rooms/team.other", &elsewhere, Value::Null).await;
    assert_eq!(seen.code(), "wrong-room");
    assert_eq!(world.send("PUT", "/v1/rooms/team.other/end", &elsewhere, Value::Null).await.code(), "wrong-room");

    let mut all = vec![];
    let late = world.token(ROOM, "eve", "participant").await;
    for user in ["ann", "bob", "cat", "dan"] {
        all.push(join(&world, user, "host").await);
    }
    let answer = peer.ask("join-room", json!({"roomId": ROOM, "token": late})).await;
    assert_eq!(code(&answer), "room-full", "four may be in it");
    all[3].0.ask("leave-room", json!({})).await;
    assert_eq!(all[0].0.ask("host:lock", json!({"locked": true})).await, json!({}));
    assert_eq!(all[1].0.expect("call:locked").await, json!({"locked": true, "by": "ann"}));
    let answer = peer.ask("join-room", json!({"roomId": ROOM, "token": late})).await;
    assert_eq!(code(&answer), "room-locked", "a token of before does not help");
    assert_eq!(all[0].0.ask("host:lock", json!({"locked": false})).await, json!({}));
    assert_eq!(all[1].0.expect("call:locked").await, json!({"locked": false, "by": "ann"}));
    assert_eq!(peer.ask("join-room", json!({"roomId": ROOM, "token": late})).await["self"]["userId"], "eve");

    assert_eq!(code(&peer.ask("host:end", json!({})).await), "not-permitted");
    assert_eq!(all[0].0.ask("host:end", json!({})).await, json!({}));
    for peer in [&mut peer, &mut all[1].0] {
        assert_eq!(peer.until_over().await.last().unwrap(), &("call:ended".to_owned(), json!({"reason": "ended"})));
    }
    let mut peer = Peer::connect(world.address).await;
    assert_eq!(code(&peer.ask("join-room", json!({"roomId": ROOM, "token": late})).await), "room-ended");
}

#[tokio::test]
async fn who_ends_a_call_is_answered_before_their_socket_ends() {
    let world = World::new().await;
    peers(&world).await;
    let (mut ann, _) = join(&world, "ann", "host").await;
    world.kubernetes.answers_late(Duration::from_secs(2));
    let asked = ann.emit("host:end", json!({})).await;
    assert_eq!(ann.expect("call:ended").await, json!({"reason": "ended"}), "heard by the watch");
    assert_eq!(ann.answer(asked).await, json!({}));
    ann.until_over().await;
}

#[tokio::test]
async fn what_peers_tell_each_other_goes_to_the_one_it_is_for() {
    let world = World::new().await;
    peers(&world).await;
    let (mut ann, _) = join(&world, "ann", "host").await;
    let (mut bob, _) = join(&world, "bob", "participant").await;
    let (mut cat, _) = join(&world, "cat", "guest").await;
    for (event, field, value) in [
        ("webrtc:offer", "sdp", json!("v=0\r\n")),
        ("webrtc:answer", "sdp", json!("v=0\r\n")),
        ("webrtc:ice-candidate", "candidate", json!({"candidate": "candidate:1 1 udp 1 192.0.2.1 9 typ host"})),
        ("webrtc:ice-candidate", "candidate", Value::Null),
    ] {
        assert_eq!(bob.ask(event, json!({"targetUserId": "ann", "epoch": 1, field: value})).await, json!({}));
        assert_eq!(ann.expect(event).await, json!({"sourceUserId": "bob", "epoch": 1, field: value}));
    }
    let answer = bob.ask("webrtc:offer", json!({"targetUserId": "eve", "epoch": 1, "sdp": "v=0"})).await;
    assert_eq!((code(&answer), &answer["error"]["status"]), ("participant-not-found", &json!(404)));
    let large = bob.ask("webrtc:offer", json!({"targetUserId": "ann", "epoch": 1, "sdp": "x".repeat(65_537)})).await;
    assert_eq!((code(&large), &large["error"]["field"]), ("too-large", &json!("sdp")));
    assert!(!cat.heard().await.iter().any(|event| event.starts_with("webrtc:")), "of others' one hears nothing");

    let line = "<img src=x onerror=alert(1)> \u{202e}\nsecond";
    let written = bob.ask("chat", json!({"text": line})).await;
    for peer in [&mut ann, &mut bob, &mut cat] {
        let told = peer.expect("chat").await;
        assert_eq!((&told["text"], &told["id"], &told["userId"]), (&json!(line), &written["id"], &json!("bob")));
    }
    let (_dan, joined) = join(&world, "dan", "guest").await;
    assert_eq!(joined["chat"][0]["text"], json!(line), "who comes later reads it, too");
    assert_eq!(code(&bob.ask("chat", json!({"text": "x".repeat(4097)})).await), "too-large");
    assert_eq!(code(&bob.ask("chat", json!({"text": "bell\u{7}"})).await), "invalid");

    // A megabyte ends the socket that sends it, and nobody else's.
    bob.send(format!("42[\"webrtc:offer\",{{\"sdp\":\"{}\"}}]", "x".repeat(1 << 20))).await;
    bob.until_over().await;
    assert_eq!(ann.ask("update-state", json!({"isMuted": true})).await, json!({}));
    assert_eq!(cat.expect("state-changed").await["userId"], "ann");
}

#[tokio::test]
async fn hosts_direct_the_call_and_others_do_not() {
    let world = World::new().await;
    peers(&world).await;
    let (mut ann, _) = join(&world, "ann", "host").await;
    let (mut bob, _) = join(&world, "bob", "participant").await;
    let (mut eve, _) = join(&world, "eve", "guest").await;
    for (event, data) in [
        ("host:mute", json!({"userId": "ann"})),
        ("host:remove", json!({"userId": "ann"})),
        ("host:end", json!({})),
        ("host:lock", json!({"locked": true})),
    ] {
        assert_eq!(code(&eve.ask(event, data.clone()).await), "not-permitted", "{event}");
        assert_eq!(code(&bob.ask(event, data).await), "not-permitted", "{event}");
    }
    assert_eq!(world.kubernetes.count("PATCH"), 0);
    assert_eq!(ann.ask("host:mute", json!({"userId": "bob"})).await, json!({}));
    assert_eq!(bob.expect("call:muted").await, json!({"by": "ann"}));
    assert_eq!(code(&ann.ask("host:mute", json!({"userId": "zoe"})).await), "participant-not-found");

    let token = world.token(ROOM, "eve", "guest").await;
    assert_eq!(ann.ask("host:remove", json!({"userId": "eve"})).await, json!({}));
    assert_eq!(eve.until_over().await.last().unwrap(), &("call:removed".to_owned(), json!({"by": "ann"})));
    let told = bob.expect("call:participant-left").await;
    assert_eq!((&told["userId"], &told["reason"]), (&json!("eve"), &json!("removed")));
    let mut eve = Peer::connect(world.address).await;
    let again = eve.ask("join-room", json!({"roomId": ROOM, "token": token})).await;
    assert_eq!(code(&again), "removed", "an older token lets nobody in again");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let fresh = world.token(ROOM, "eve", "guest").await;
    let again = eve.ask("join-room", json!({"roomId": ROOM, "token": fresh})).await;
    assert_eq!(again["self"]["userId"], "eve", "one that a backend gave later does");
}

#[tokio::test]
async fn a_second_socket_of_the_same_user_takes_over() {
    let world = World::new().await;
    peers(&world).await;
    let (mut ann, _) = join(&world, "ann", "host").await;
    let (mut first, _) = join(&world, "bob", "participant").await;
    let (mut second, joined) = join(&world, "bob", "participant").await;
    assert_eq!(joined["participants"].as_array().unwrap().len(), 1);
    assert_eq!(first.until_over().await.last().unwrap().0, "call:replaced");
    assert_eq!(ann.expect("call:participant-left").await["reason"], "disconnected");
    assert_eq!(ann.expect("call:participant-joined").await["userId"], "bob");
    second.ask("update-state", json!({"isMuted": true})).await;
    assert_eq!(ann.expect("state-changed").await["userId"], "bob");
    assert!(ann.heard().await.is_empty(), "the end of the first one is nobody's business");
}

#[tokio::test]
async fn a_socket_that_drops_is_resumed_with_what_it_missed() {
    let world = World::new().await;
    peers(&world).await;
    let (mut ann, _) = join(&world, "ann", "host").await;
    let (bob, joined) = join(&world, "bob", "participant").await;
    let (session, seq) = (joined["session"].clone(), joined["seq"].clone());
    ann.expect("call:participant-joined").await;
    drop(bob);
    ann.ask("chat", json!({"text": "are you there?"})).await;
    ann.ask("update-state", json!({"isVideoOn": false})).await;
    let token = world.token(ROOM, "bob", "participant").await;
    let mut bob = Peer::connect(world.address).await;
    let resume = |session: &Value, seq: &Value| json!({"roomId": ROOM, "token": token, "resume": {"session": session, "seq": seq}});
    let again = bob.ask("join-room", resume(&session, &seq)).await;
    assert_eq!((&again["resumed"], &again["session"], &again["initiator"]), (&json!(true), &session, &json!([])));
    let missed = again["missed"].as_array().unwrap();
    let events: Vec<_> = missed.iter().map(|missed| missed["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["chat", "state-changed"]);
    assert_eq!(missed[0]["data"]["text"], "are you there?");
    assert_eq!(missed[1]["seq"], again["seq"].as_str().map_or(Value::Null, |_| missed[1]["seq"].clone()));
    let heard = ann.heard().await;
    assert!(!heard.iter().any(|event| event.starts_with("call:participant")), "the others noticed nothing: {heard:?}");

    for (session, seq) in [(json!("0123456789abcdef0123"), seq.clone()), (session.clone(), json!("7-7"))] {
        let mut other = Peer::connect(world.address).await;
        let anew = other.ask("join-room", resume(&session, &seq)).await;
        assert_eq!((&anew["resumed"], anew.get("missed")), (&json!(false), None));
        assert_eq!(anew["initiator"], json!(["ann"]), "it begins anew");
        assert_eq!(ann.expect("call:participant-left").await["reason"], "disconnected");
        ann.expect("call:participant-joined").await;
    }
}

#[tokio::test]
async fn floods_are_refused_and_in_the_end_cut_off() {
    let world = World::new().await;
    peers(&world).await;
    let (_ann, _) = join(&world, "ann", "host").await;
    let (mut bob, _) = join(&world, "bob", "participant").await;
    let candidate = json!({"targetUserId": "ann", "epoch": 1, "candidate": {"candidate": "x"}});
    for _ in 0..400 {
        bob.emit("webrtc:ice-candidate", candidate.clone()).await;
    }
    bob.answer_that(|_, answer| answer["error"]["code"] == "rate-limited").await;
    for _ in 0..10_000 {
        let text = format!("42{}", json!(["webrtc:ice-candidate", candidate]));
        if bob.try_send(text).await.is_err() {
            break;
        }
    }
    bob.until_over().await;

    let mut open = vec![];
    let refused = loop {
        match Peer::try_connect(world.address).await {
            Ok(peer) => open.push(peer),
            Err(error) => break error,
        }
        assert!(open.len() <= MAX_SOCKETS);
    };
    assert!(matches!(refused, tokio_tungstenite::tungstenite::Error::Http(answer) if answer.status() == 503));
}
