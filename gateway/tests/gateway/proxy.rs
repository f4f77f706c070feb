//! What is passed on to media nodes.

use std::time::Duration;

use callplane_operator::token::{Invitation, sign};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest},
};

use crate::{
    kubernetes::{p2p, route},
    world::{Node, World, answer},
};

/// A token as another replica would make it.
fn token(world: &World, epoch: i64) -> String {
    let invitation = Invitation {
        room: "team.standup".parse().unwrap(),
        user: "bob".into(),
        name: None,
        role: "participant".into(),
        ttl: Duration::from_secs(600),
    };
    sign(&world.gateway.signer.key().unwrap(), &invitation, "", epoch, world.gateway.clock.now().wall).unwrap()
}

#[tokio::test]
async fn requests_go_to_the_rooms_node_and_its_answers_come_back_as_they_are() {
    let world = World::new().await;
    // Made by kubectl, in a namespace where the gateway makes none.
    let mut node = world.placed("sales", "demo").await;
    let token = world.token("sales.demo", "bob", "participant").await;
    let body = json!({"direction": "send"});
    let request = world.request("POST", "/api/rooms/sales.demo/transports?x=%2F1").bearer_auth(&token).json(&body);
    let passed = answer(request.header("x-forwarded-for", "6.6.6.6").header("origin", "https://app.example")).await;
    assert_eq!((passed.status, passed.body), (200, json!({"id": "of the node"})));
    assert_eq!(
        passed.headers["access-control-allow-origin"], "https://app.example",
        "the node's own word is not heard"
    );
    let asked = node.asked.recv().await.unwrap();
    assert_eq!(asked.line, "POST /api/rooms/sales.demo/transports?x=%2F1");
    assert_eq!(asked.body, body.to_string());
    assert_eq!(
        (asked.headers["authorization"].to_str().unwrap(), asked.headers["x-forwarded-for"].to_str().unwrap()),
        (format!("Bearer {token}").as_str(), "127.0.0.1")
    );

    let problem = world.send("GET", "/api/rooms/sales.demo/problem", &token, Value::Null).await;
    assert_eq!(
        (problem.status, problem.code(), problem.headers["retry-after"].as_bytes()),
        (409, "epoch-stale", &b"7"[..])
    );
    assert_eq!(problem.body["servedEpoch"], 2);
    let large = world.request("POST", "/api/rooms/sales.demo/transports").bearer_auth(&token).body("x".repeat(200_000));
    let refused = answer(large).await;
    assert!(refused.status == 413 || refused.status == 502 || refused.status == 400, "{refused:?}");
}

#[tokio::test]
async fn while_a_call_moves_each_token_goes_to_the_side_that_it_is_for() {
    let world = World::new().await;
    let mut old = world.placed("team", "standup").await;
    let mut new = Node::start().await;
    world.kubernetes.node("mn-b", &new.url);
    let get = |epoch: i64| {
        let token = token(&world, epoch);
        let world = &world;
        async move { world.send("GET", "/api/rooms/team.standup", &token, Value::Null).await.status }
    };
    // The token outruns the watch: it is waited for.
    let (status, ()) = tokio::join!(get(2), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let status = json!({"phase": "Ready", "route": route("mn-b", 2), "previousRoute": route("mn-a", 1)});
        world.kubernetes.status("team", "standup", status);
    });
    assert_eq!(status, 200);
    assert_eq!(get(1).await, 200);
    assert!(new.asked.try_recv().is_ok() && new.asked.try_recv().is_err());
    assert!(old.asked.try_recv().is_ok() && old.asked.try_recv().is_err());
    world.kubernetes.place("team", "standup", "mn-b", 3);
    world.knows("team", "standup").await;
    assert_eq!(get(1).await, 200);
    assert!(new.asked.try_recv().is_ok(), "the current node is the one to say that the epoch is stale");
}

#[tokio::test]
async fn what_cannot_be_passed_on_says_why() {
    let world = World::new().await;
    let get = async |path: &str, epoch: i64| {
        let answer = world.send("GET", path, &token(&world, epoch), Value::Null).await;
        (answer.status, answer.code().to_owned())
    };
    assert_eq!(get("/api/rooms/team.standup/x", 1).await, (404, "room-not-found".into()));
    for path in ["/api/rooms/..%2f..%2fadmin", "/whip/..%2f..%2fadmin", "/whep/admin/s1"] {
        assert_eq!(get(path, 1).await, (404, "room-not-found".into()), "{path}");
    }
    assert_eq!(get("/whip/team.standup/s1/more", 1).await, (404, "no-such-route".into()));
    world.kubernetes.room("team", "standup");
    world.knows("team", "standup").await;
    assert_eq!(get("/api/rooms/team.standup/x", 1).await, (503, "room-not-ready".into()));
    world.kubernetes.status("team", "standup", json!({"phase": "Ready", "route": p2p(1, "Scheduled")}));
    world.knows("team", "standup").await;
    for path in ["/api/rooms/team.standup/x", "/whip/team.standup", "/whep/team.standup/s1"] {
        assert_eq!(get(path, 1).await, (409, "no-media-node".into()), "{path}");
    }
    world.kubernetes.place("team", "standup", "mn-a", 1);
    world.knows("team", "standup").await;
    assert_eq!(get("/api/rooms/team.standup/x", 1).await, (503, "node-not-ready".into()));
    // Nobody listens there.
    world.kubernetes.node("mn-a", "http://127.0.0.1:1");
    world.until(|| world.gateway.cache.node_api("mn-a").is_ok()).await;
    for path in ["/api/rooms/team.standup/x", "/whip/team.standup", "/whep/team.standup/s1"] {
        assert_eq!(get(path, 1).await, (502, "node-unreachable".into()), "{path}");
    }
    world.kubernetes.status("team", "standup", json!({"phase": "Ended"}));
    world.knows("team", "standup").await;
    assert_eq!(get("/api/rooms/team.standup/x", 1).await, (410, "room-ended".into()));
}

#[tokio::test]
async fn a_session_of_whip_or_whep_is_made_changed_and_ended_at_the_rooms_node() {
    let world = World::new().await;
    let mut node = world.placed("team", "standup").await;
    let token = token(&world, 1);
    for of in ["whip", "whep"] {
        let endpoint = format!("/{of}/team.standup");
        let offer =
            world.request("POST", &format!("{endpoint}?participant=ann")).header("origin", "https://app.example");
        let made = answer(offer.bearer_auth(&token).header("content-type", "application/sdp").body("v=0")).await;
        assert_eq!((made.status, made.headers["content-type"].as_bytes()), (201, &b"application/sdp"[..]), "{made:?}");
        assert_eq!(made.headers["etag"], "\"1\"");
        assert_eq!(made.headers.get_all("link").iter().count(), 2, "{made:?}");
        let exposed = made.headers["access-control-expose-headers"].to_str().unwrap().to_ascii_lowercase();
        let exposed: Vec<_> = exposed.split(',').map(str::trim).collect();
        for name in ["location", "etag", "link", "accept-patch", "accept-post", "retry-after"] {
            assert!(exposed.contains(&name), "{name} of {exposed:?}");
        }
        let asked = node.asked.recv().await.unwrap();
        assert_eq!(asked.line, format!("POST {endpoint}?participant=ann"));
        assert_eq!((&asked.body[..], asked.headers["x-forwarded-for"].as_bytes()), (&b"v=0"[..], &b"127.0.0.1"[..]));

        // Where the answer says that the session is, behind the gateway.
        let session = made.headers["location"].to_str().unwrap();
        assert_eq!(session, format!("{endpoint}/s1"));
        let patch = || world.request("PATCH", session).bearer_auth(&token).body("a=ice-ufrag:x");
        assert_eq!(answer(patch()).await.code(), "precondition-required");
        assert_eq!(answer(patch().header("if-match", "\"1\"")).await.status, 204);
        assert_eq!(node.asked.recv().await.unwrap().headers.get("if-match"), None);
        let asked = node.asked.recv().await.unwrap();
        assert_eq!((asked.line, asked.headers["if-match"].as_bytes()), (format!("PATCH {session}"), &b"\"1\""[..]));
        assert_eq!(world.send("DELETE", session, &token, Value::Null).await.status, 200);
        assert_eq!(node.asked.recv().await.unwrap().line, format!("DELETE {session}"));
        assert_eq!(world.send("GET", session, "", Value::Null).await.status, 204, "that needs no token");
        node.asked.recv().await.unwrap();
        let metrics = || world.gateway.metrics.text().unwrap();
        world.until(|| metrics().contains(&format!("/{of}/{{call}}/{{session}}"))).await;
        assert!(!metrics().contains("standup"), "paths name rooms");

        // Whether a token is good the node says, in its own words.
        let nobody = world.send("POST", &endpoint, "", Value::Null).await;
        assert_eq!((nobody.code(), nobody.headers["www-authenticate"].as_bytes()), ("token-missing", &b"Bearer"[..]));
        let elsewhere = world.send("DELETE", "/whip/team.standup/s1", &other_rooms(&world).await, Value::Null).await;
        assert_eq!((elsewhere.status, elsewhere.code()), (403, "wrong-room"));
        let large = world.request("POST", &endpoint).bearer_auth(&token).body("x".repeat(200_000));
        let refused = answer(large).await;
        assert!(refused.status == 413 || refused.status == 502 || refused.status == 400, "{refused:?}");
        while node.asked.try_recv().is_ok() {}
    }
}

/// A good token, of another room.
async fn other_rooms(world: &World) -> String {
    if world.kubernetes.object("callrooms", "team", "other").is_none() {
        world.kubernetes.room("team", "other");
        world.kubernetes.place("team", "other", "mn-a", 1);
        world.knows("team", "other").await;
    }
    world.token("team.other", "bob", "participant").await
}

#[tokio::test]
async fn what_can_be_sent_to_whip_and_whep_is_said_without_a_token_or_a_room() {
    let world = World::new().await;
    for (path, name, value) in [
        ("/whip/team.standup", "accept-post", "application/sdp"),
        ("/whep/team.standup", "accept-post", "application/sdp"),
        ("/whip/team.standup/s1", "accept-patch", "application/trickle-ice-sdpfrag"),
        ("/whep/team.standup/s1", "accept-patch", "application/trickle-ice-sdpfrag"),
    ] {
        let plain = answer(world.request("OPTIONS", path)).await;
        assert_eq!((plain.status, plain.headers[name].to_str().unwrap()), (200, value), "{path}");
        let preflight = world
            .request("OPTIONS", path)
            .header("origin", "https://app.example")
            .header("access-control-request-method", "PATCH")
            .header("access-control-request-headers", "authorization,content-type,if-match");
        let preflight = answer(preflight).await;
        assert_eq!((preflight.status, preflight.headers[name].to_str().unwrap()), (200, value), "{path}");
        let allowed = |of: &str| preflight.headers[of].to_str().unwrap().to_ascii_lowercase();
        assert!(allowed("access-control-allow-headers").contains("if-match"), "{preflight:?}");
        assert!(allowed("access-control-allow-methods").contains("patch"), "{preflight:?}");
    }
}

#[tokio::test]
async fn websockets_are_passed_on_both_ways_and_end_together() {
    let world = World::new().await;
    let _node = world.placed("team", "standup").await;
    let connect = async |bearer: &str| {
        let mut request =
            format!("ws://{}/api/rooms/team.standup/events", world.address).into_client_request().unwrap();
        let offered = format!("callplane.v1, bearer.{bearer}");
        request.headers_mut().insert("sec-websocket-protocol", offered.parse().unwrap());
        connect_async(request).await
    };
    let token = token(&world, 1);
    let (mut one, response) = connect(&token).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "callplane.v1", "the token is not sent back");
    one.send(Message::text("x".repeat(100_000))).await.unwrap();
    assert_eq!(one.next().await.unwrap().unwrap().into_text().unwrap().len(), 100_000);
    let (mut two, _) = connect(&token).await.unwrap();
    let Err(Error::Http(refused)) = connect(&token).await else { panic!("a third WebSocket was opened") };
    assert_eq!(
        (refused.status().as_u16(), refused.headers()["content-type"].as_bytes()),
        (503, &b"application/problem+json"[..])
    );

    one.send(Message::text("bye")).await.unwrap();
    while let Some(Ok(_)) = one.next().await {}
    world.until(|| world.gateway.metrics.text().unwrap().contains("open_sockets 1")).await;
    let (mut three, _) = connect(&token).await.unwrap();
    three.send(Message::text("hello")).await.unwrap();
    assert_eq!(three.next().await.unwrap().unwrap(), Message::text("hello"), "the place of the first is free again");

    world.closing.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(5), async {
        while let Some(Ok(_)) = two.next().await {}
        while let Some(Ok(_)) = three.next().await {}
        world.gateway.forwarder.closed().await;
    });
    ended.await.expect("WebSockets end when the gateway does");
}

#[tokio::test]
async fn a_websocket_that_the_node_refuses_is_refused_with_its_words() {
    let world = World::new().await;
    let _node = world.placed("team", "standup").await;
    let mut request = format!("ws://{}/api/rooms/team.standup/problem", world.address).into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {}", token(&world, 1)).parse().unwrap());
    let Err(Error::Http(refused)) = connect_async(request).await else { panic!("it was opened") };
    assert_eq!(refused.status().as_u16(), 409);
}
