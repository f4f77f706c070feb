//! Rooms by REST.

use serde_json::{Value, json};

use crate::{
    kubernetes::status,
    world::{API_KEY, World, answer},
};

#[tokio::test]
async fn a_created_room_is_answered_with_the_hosts_token_once_it_is_ready() {
    let world = World::new().await;
    let kubernetes = world.kubernetes.clone();
    let operator = tokio::spawn(async move {
        while kubernetes.object("callrooms", "team", "standup").is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        kubernetes.place("team", "standup", "mn-a", 1);
    });
    let body = json!({"hostId": "ann", "name": "standup", "settings": {
        "maxParticipants": 5, "allowedRoles": ["host", "guest"], "region": "eu", "pool": "p", "emptyTimeoutSeconds": 60,
        "maxDurationSeconds": 3600, "ttlSecondsAfterEnded": 0, "isRecordingEnabled": false}});
    let created = world.backend("POST", "/v1/rooms", body).await;
    operator.await.unwrap();
    assert_eq!((created.status, created.text("roomId")), (201, "team.standup".into()), "{created:?}");
    assert_eq!(created.text("apiUrl"), "https://calls.example/api/rooms/team.standup");
    assert_eq!(
        (created.headers["location"].as_bytes(), created.headers["cache-control"].as_bytes()),
        (&b"/v1/rooms/team.standup"[..], &b"no-store"[..])
    );
    let room = &created.body["room"];
    assert_eq!((&room["status"], &room["mode"], &room["hostId"]), (&json!("ACTIVE"), &json!("SFU"), &json!("ann")));
    let spec = world.kubernetes.object("callrooms", "team", "standup").unwrap()["spec"].clone();
    let lifetime = json!({"emptyTimeoutSeconds": 60, "maxDurationSeconds": 3600, "ttlSecondsAfterEnded": 0});
    assert_eq!(
        spec,
        json!({"maxParticipants": 5, "pool": "p", "region": "eu", "lifetime": lifetime, "media": {}, "ended": false,
            "topology": {"mode": "Auto", "p2pMaxParticipants": 2, "packetLossPercent": 5, "stabilizationSeconds": 30}})
    );

    let token = created.text("joinToken");
    let seen = world.send("GET", "/v1/rooms/team.standup", &token, Value::Null).await;
    assert_eq!((seen.status, &seen.body["roomId"]), (200, &json!("team.standup")), "{seen:?}");
    let elsewhere = world.send("GET", "/v1/rooms/team.other", &token, Value::Null).await;
    assert_eq!(elsewhere.code(), "wrong-room");
}

#[tokio::test]
async fn how_media_may_flow_is_chosen_with_the_room() {
    let world = World::new().await;
    let spec = |name: &str| world.kubernetes.object("callrooms", "team", name).unwrap()["spec"].clone();
    for (name, settings) in [
        ("peers", json!({"topology": {"mode": "P2P"}})),
        ("served", json!({"topology": {"mode": "SFU"}})),
        ("mesh", json!({"topology": {"p2pMaxParticipants": 4, "stabilizationSeconds": 0}})),
    ] {
        let body = json!({"hostId": "ann", "name": name, "settings": settings});
        assert_eq!(world.backend("POST", "/v1/rooms", body).await.status, 202);
    }
    assert_eq!((&spec("peers")["topology"]["mode"], &spec("peers")["maxParticipants"]), (&json!("P2P"), &json!(6)));
    assert_eq!((&spec("served")["topology"]["mode"], &spec("served")["maxParticipants"]), (&json!("SFU"), &json!(50)));
    let mesh = json!({"mode": "Auto", "p2pMaxParticipants": 4, "packetLossPercent": 5, "stabilizationSeconds": 0});
    assert_eq!(spec("mesh")["topology"], mesh);
}

#[tokio::test]
async fn a_room_that_is_not_ready_in_time_says_so_and_can_be_joined_later() {
    let world = World::new().await;
    let created = world.backend("POST", "/v1/meetings", json!({"hostId": "ann"})).await;
    assert_eq!((created.status, created.text("status")), (202, "SCHEDULED".into()));
    assert_eq!((created.body.get("joinToken"), created.headers["retry-after"].as_bytes()), (None, &b"1"[..]));
    let id = created.text("roomId");
    let name = id.strip_prefix("team.").unwrap();
    let join = format!("/v1/rooms/{id}/join");
    let early = world.backend("POST", &join, json!({"userId": "bob"})).await;
    assert_eq!((early.code(), early.headers["retry-after"].as_bytes()), ("room-not-ready", &b"1"[..]));
    let placed = json!([{"type": "Placed", "status": "False", "reason": "NoCapacity", "message": "full", "lastTransitionTime": "2026-11-21T14:00:00Z"}]);
    world.kubernetes.status("team", name, json!({"phase": "Pending", "conditions": placed}));
    world.knows("team", name).await;
    let full = world.backend("GET", &format!("/v1/rooms/{id}"), Value::Null).await;
    assert_eq!((full.text("status"), full.text("reason")), ("SCHEDULED".into(), "NoCapacity".into()));

    world.kubernetes.place("team", name, "mn-a", 3);
    let joined = world.backend("POST", &join, json!({"userId": "ann", "displayName": "Ann"})).await;
    assert_eq!((joined.status, &joined.body["route"]), (200, &json!({"epoch": 3, "mode": "SFU"})), "{joined:?}");
    assert_eq!(joined.text("role"), "host");
    let server = &joined.body["iceServers"][0];
    assert_eq!(server["urls"], json!(["turn:turn.example:3478?transport=udp"]));
    let ends = server["username"].as_str().unwrap().split_once(':').unwrap().0.parse::<i64>().unwrap();
    assert!((ends - world.gateway.clock.now().wall.as_second()).abs() <= 600, "as long as the token and no longer");
}

#[tokio::test]
async fn the_same_request_again_makes_no_second_room_and_another_one_is_refused() {
    let world = World::new().await;
    let post = |key: &'static str, body: Value| {
        answer(world.request("POST", "/v1/rooms").bearer_auth(API_KEY).header("Idempotency-Key", key).json(&body))
    };
    let body = json!({"hostId": "ann", "settings": {"maxParticipants": 5}});
    let (one, two) = tokio::join!(post("order-1", body.clone()), post("order-1", body.clone()));
    assert_eq!((one.status, two.status), (202, 202));
    assert_eq!(one.text("roomId"), two.text("roomId"));
    let name = one.text("roomId").strip_prefix("team.").unwrap().to_owned();
    world.kubernetes.place("team", &name, "mn-a", 1);
    world.knows("team", &name).await;
    let three = post("order-1", body).await;
    assert_eq!((three.status, three.text("roomId")), (200, one.text("roomId")));
    assert!(three.body["joinToken"].is_string());
    assert_eq!(post("order-1", json!({"hostId": "bob"})).await.code(), "idempotency-key-reused");
    assert_ne!(post("order-2", json!({"hostId": "bob"})).await.text("roomId"), one.text("roomId"));

    let named = json!({"hostId": "ann", "name": "standup"});
    assert_eq!(post("order-3", named.clone()).await.status, 202);
    world.knows("team", "standup").await;
    assert_eq!(post("order-3", named.clone()).await.text("roomId"), "team.standup");
    assert_eq!(post("order-4", named.clone()).await.code(), "room-exists");
    assert_eq!(post("order-3", json!({"hostId": "ann", "name": "other"})).await.code(), "idempotency-key-reused");
    assert_eq!(world.backend("POST", "/v1/rooms", named).await.code(), "room-exists");
    assert_eq!(post("", json!({"hostId": "ann"})).await.body["field"], "Idempotency-Key");
}

#[tokio::test]
async fn what_does_not_work_is_refused_by_name_and_makes_no_room() {
    let world = World::new().await;
    for (body, status, code, field) in [
        (json!({}), 422, "invalid", "hostId"),
        (json!({"hostId": ""}), 422, "invalid", "hostId"),
        (json!({"hostId": "a\u{7}"}), 422, "invalid", "hostId"),
        (json!({"hostId": "guest-1"}), 422, "invalid", "hostId"),
        (json!({"hostId": 7}), 422, "invalid", "hostId"),
        (json!({"hostId": "ann", "name": "Stand Up"}), 422, "invalid", "name"),
        (json!({"hostId": "ann", "name": "a/../b"}), 422, "invalid", "name"),
        (json!({"hostId": "ann", "scheduledTime": "tomorrow"}), 422, "invalid", "scheduledTime"),
        (json!({"hostId": "ann", "scheduledTime": "2001-01-01T00:00:00Z"}), 422, "invalid", "scheduledTime"),
        (json!({"hostId": "ann", "scheduledTime": "2101-01-01T00:00:00Z"}), 422, "invalid", "scheduledTime"),
        (json!({"hostId": "ann", "settings": {"password": ""}}), 422, "invalid", "settings.password"),
        (json!({"hostId": "ann", "settings": {"password": 7}}), 422, "invalid", "settings.password"),
        (
            json!({"hostId": "ann", "settings": {"isRecordingEnabled": true}}),
            501,
            "unsupported-setting",
            "settings.isRecordingEnabled",
        ),
        (json!({"hostId": "ann", "settings": {"topolgy": {}}}), 400, "unknown-field", "settings.topolgy"),
        (
            json!({"hostId": "ann", "settings": {"topology": {"mode": "Mesh"}}}),
            422,
            "invalid",
            "settings.topology.mode",
        ),
        (json!({"hostId": "ann", "settings": {"maxParticipants": "5"}}), 422, "invalid", "settings.maxParticipants"),
        (json!({"hostId": "ann", "settings": {"allowedRoles": ["guest"]}}), 422, "invalid", "settings.allowedRoles"),
        (json!({"hostId": "ann", "settings": {"allowedRoles": ["king"]}}), 422, "invalid", "settings.allowedRoles[0]"),
    ] {
        let refused = world.backend("POST", "/v1/rooms", body.clone()).await;
        assert_eq!((refused.status, refused.code(), &refused.body["field"]), (status, code, &json!(field)), "{body}");
    }
    let post = || world.request("POST", "/v1/rooms").bearer_auth(API_KEY);
    let json = |text: String| post().header("content-type", "application/json").body(text);
    assert_eq!(answer(json("{".into())).await.code(), "malformed-json");
    assert_eq!(answer(json(format!(r#"{{"hostId": "{}"}}"#, "a".repeat(20_000)))).await.code(), "too-large");
    assert_eq!(answer(post().body("hostId=ann")).await.code(), "not-json");
    assert_eq!(world.backend("GET", "/v1/nothing", Value::Null).await.code(), "no-such-route");
    assert_eq!(world.backend("DELETE", "/v1/rooms", Value::Null).await.code(), "method-not-allowed");
    assert_eq!(world.kubernetes.count("POST callrooms"), 0);

    let mut refusal = status(422, "Invalid", "CallRoom is invalid");
    refusal["details"] = json!({"causes": [{"reason": "FieldValueInvalid", "field": "spec.maxParticipants", "message": "should be at most 50"}]});
    world.kubernetes.refuse(refusal);
    let refused =
        world.backend("POST", "/v1/rooms", json!({"hostId": "ann", "settings": {"maxParticipants": 51}})).await;
    assert_eq!((refused.code(), &refused.body["field"]), ("invalid", &json!("settings.maxParticipants")));
    world.kubernetes.refuse(status(403, "Forbidden", "User system:serviceaccount:x cannot"));
    let refused = world.backend("POST", "/v1/rooms", json!({"hostId": "ann"})).await;
    assert_eq!(refused.code(), "kubernetes-refused");
    assert!(!refused.body.to_string().contains("serviceaccount"), "what the gateway is called is nobody's business");
}

#[tokio::test]
async fn rooms_are_listed_in_pages() {
    let world = World::new().await;
    for name in ["a", "b", "c"] {
        world.kubernetes.room("team", name);
    }
    world.kubernetes.room("elsewhere", "d");
    let first = world.backend("GET", "/v1/rooms?limit=2", Value::Null).await;
    assert_eq!(first.body["rooms"].as_array().unwrap().len(), 2);
    let next = first.text("continue");
    let second = world.backend("GET", &format!("/v1/rooms?limit=2&continue={next}"), Value::Null).await;
    assert_eq!((&second.body["rooms"][0]["roomId"], second.body.get("continue")), (&json!("team.c"), None));
    for query in ["limit=0", "limit=501", "limit=x", "continue=%22", "page=2"] {
        let refused = world.backend("GET", &format!("/v1/rooms?{query}"), Value::Null).await;
        assert_eq!((refused.status, refused.code()), (422, "invalid"), "{query}");
    }
}

#[tokio::test]
async fn a_call_ends_for_good() {
    let world = World::new().await;
    let _node = world.placed("team", "standup").await;
    let (host, bob) =
        (world.token("team.standup", "ann", "host").await, world.token("team.standup", "bob", "participant").await);
    let end = "/v1/rooms/team.standup/end";
    assert_eq!(world.send("PUT", end, &bob, Value::Null).await.code(), "not-permitted");
    assert_eq!(world.send("PUT", "/v1/rooms/team.other/end", &host, Value::Null).await.code(), "wrong-room");
    for caller in [host.as_str(), API_KEY] {
        let ended = world.send("PUT", end, caller, Value::Null).await;
        assert_eq!((ended.status, ended.text("status")), (200, "COMPLETED".into()), "{ended:?}");
    }
    world.knows("team", "standup").await;
    let late = world.backend("POST", "/v1/rooms/team.standup/join", json!({"userId": "bob"})).await;
    assert_eq!((late.status, late.code()), (410, "room-ended"));
    assert_eq!(world.backend("PUT", "/v1/rooms/team.nothing/end", Value::Null).await.code(), "room-not-found");
    let left = world.backend("POST", "/v1/rooms/team.standup/leave", json!({"userId": "bob"})).await;
    assert_eq!(left.status, 200, "nobody is in a call that is over");
}

#[tokio::test]
async fn leaving_is_told_to_the_media_node() {
    let world = World::new().await;
    let mut node = world.placed("team", "standup").await;
    let bob = world.token("team.standup", "bob", "participant").await;
    let leave = "/v1/rooms/team.standup/leave";
    for (bearer, body, user) in
        [(bob.as_str(), json!({}), "bob"), (API_KEY, json!({"userId": "a/../b?"}), "a%2F%2E%2E%2Fb%3F")]
    {
        assert_eq!(world.send("POST", leave, bearer, body).await.status, 200);
        let asked = node.asked.recv().await.unwrap();
        assert_eq!(asked.line, format!("POST /api/rooms/team.standup/participants/{user}/leave"));
        assert_ne!(asked.headers["authorization"], format!("Bearer {API_KEY}"), "a node never sees an API key");
    }
    assert_eq!(world.backend("POST", leave, json!({})).await.body["field"], "userId");

    let peers = json!({"epoch": 2, "mode": "P2P", "reason": "Shrunk", "since": "2026-11-21T14:00:00Z"});
    world.kubernetes.status("team", "standup", json!({"phase": "Ready", "route": peers}));
    world.knows("team", "standup").await;
    assert_eq!(world.backend("GET", "/v1/rooms/team.standup", Value::Null).await.text("mode"), "P2P");
    assert_eq!(world.backend("POST", leave, json!({"userId": "bob"})).await.status, 200, "there is no node to tell");
    let before =
        json!({"epoch": 1, "mode": "SFU", "node": "mn-a", "reason": "Scheduled", "since": "2026-11-21T14:00:00Z"});
    let moving = json!({"phase": "Ready", "route": peers, "previousRoute": before});
    world.kubernetes.status("team", "standup", moving);
    world.knows("team", "standup").await;
    assert_eq!(world.send("POST", leave, &bob, json!({})).await.status, 200);
    assert!(node.asked.recv().await.is_some(), "they may still be on the node that the call leaves");
}

#[tokio::test]
async fn a_scheduled_call_is_made_at_once_and_joined_from_ten_minutes_before_its_time() {
    let world = World::new().await;
    let begins = |minutes: i64| world.gateway.clock.now().wall + jiff::SignedDuration::from_mins(minutes);
    let body = json!({"hostId": "ann", "name": "later", "scheduledTime": begins(60).to_string()});
    let created = world.backend("POST", "/v1/rooms", body).await;
    assert_eq!((created.status, created.text("status")), (201, "SCHEDULED".into()), "{created:?}");
    assert_eq!((created.body.get("joinToken"), created.headers.get("retry-after")), (None, None));
    let spec = world.kubernetes.object("callrooms", "team", "later").unwrap()["spec"].clone();
    assert_eq!(spec["scheduledTime"], created.body["room"]["scheduledTime"]);
    world.knows("team", "later").await;
    let early = world.backend("POST", "/v1/rooms/team.later/join", json!({"userId": "bob"})).await;
    assert_eq!((early.status, early.code()), (409, "not-yet"), "{early:?}");
    let wait: i64 = early.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((49 * 60..=50 * 60).contains(&wait), "{wait}");

    let soon = json!({"hostId": "ann", "name": "soon", "scheduledTime": begins(9).to_string()});
    assert_eq!(world.backend("POST", "/v1/rooms", soon).await.status, 202, "it may have a media node by now");
    world.kubernetes.place("team", "soon", "mn-a", 1);
    world.knows("team", "soon").await;
    world.token("team.soon", "bob", "participant").await;
}
