//! The HTTP API over real connections: every route, every refusal, and the recorded exchanges.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::time::Duration;

use callplane_media_node::{
    api::Rate,
    core::command::{Command, Event, TransportState},
    rooms::{Reason, Role, RoomKey},
};
use common::{CALL, Options, Server, answer, capture, claims};
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};

/// Fails unless the answer is this problem.
#[track_caller]
fn refused((status, body): (StatusCode, Value), expected: StatusCode, code: &str) -> Value {
    assert_eq!((status, body["code"].as_str()), (expected, Some(code)), "{body}");
    assert_eq!(body["status"], expected.as_u16());
    assert_eq!(body["type"], format!("urn:callplane:problem:{code}"));
    assert!(body["detail"].is_string() && body["title"].is_string());
    body
}

#[tokio::test]
async fn the_recorded_exchange_is_answered_as_mediasoup_answered_it() {
    let server = Server::with_room().await;
    let (status, room) = server.get("ann").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!((room["id"].as_str(), room["epoch"].as_i64()), (Some(CALL), Some(3)));
    assert_eq!(room["routerRtpCapabilities"]["codecs"][1]["mimeType"], "video/VP8");
    assert_eq!((&room["participants"], &room["producers"]), (&json!([]), &json!([])), "looking is not joining");

    let (status, created) = server.post("ann", "/transports", json!({"direction": "send"})).await;
    assert_eq!(status, StatusCode::CREATED);
    let recorded = &capture("10-createTransport-send")["response"];
    assert!(same_shape(&created["iceParameters"], &recorded["iceParameters"]), "{created}");
    assert!(same_shape(&created["iceCandidates"], &recorded["iceCandidates"]), "{created}");
    assert!(same_shape(&created["dtlsParameters"]["fingerprints"][0], &recorded["dtlsParameters"]["fingerprints"][0]));
    assert_eq!(
        (&created["dtlsParameters"]["role"], &created["iceParameters"]["iceLite"]),
        (&json!("auto"), &json!(true))
    );
    let send = created["id"].as_str().unwrap().to_owned();

    let connect = json!({"dtlsParameters": capture("11-connect")["request"]["dtlsParameters"]});
    let path = format!("/transports/{send}/connect");
    assert_eq!(server.post("ann", &path, connect).await, (StatusCode::OK, json!({})));

    let mut produce = capture("12-produce-audio-opus")["request"].clone();
    let path = format!("/transports/{send}/produce");
    let (status, produced) = server.post("ann", &path, produce.clone()).await;
    assert_eq!(status, StatusCode::CREATED, "{produced}");
    let audio = produced["id"].clone();
    produce = capture("13-produce-video-vp8-simulcast")["request"].clone();
    let (status, _) = server.post("ann", &path, produce).await;
    assert_eq!(status, StatusCode::CREATED);

    let recv = server.transport("bob", "recv").await;
    let mut recorded = capture("18-consume-audio-opus-simple");
    let wanted = json!({
        "transportId": recv, "producerId": audio, "rtpCapabilities": recorded["request"]["rtpCapabilities"],
    });
    let (status, mut consumed) = server.post("bob", "/consume", wanted).await;
    assert_eq!(status, StatusCode::CREATED, "{consumed}");
    assert_eq!((&consumed["participantId"], &consumed["appData"]), (&json!("ann"), &json!({"tag": "opus"})));
    let consumer = consumed["id"].as_str().unwrap().to_owned();
    let spec = server.orders().into_iter().find_map(|command| match command {
        Command::Consume { spec, .. } => Some(spec),
        _ => None,
    });
    assert!(spec.as_ref().is_some_and(|spec| spec.paused), "a consumer starts paused unless it says otherwise");
    // The rest is what mediasoup said, but for ids.
    for (ours, theirs) in [("id", "id"), ("producerId", "producerId")] {
        consumed[ours] = recorded["response"][theirs].clone();
    }
    let response = &mut recorded["response"];
    response["rtpParameters"]["encodings"] = consumed["rtpParameters"]["encodings"].clone();
    for ours in ["participantId", "appData"] {
        response[ours] = consumed[ours].clone();
    }
    assert_eq!(&consumed, response);

    let path = format!("/consumers/{consumer}/resume");
    assert_eq!(server.room("bob", Method::POST, &path).send().await.unwrap().status(), StatusCode::OK);
    assert!(matches!(server.orders()[..], [Command::PauseConsumer { paused: false, .. }]));

    let (_, room) = server.get("cat").await;
    let names: Vec<_> = room["participants"].as_array().unwrap().iter().map(|p| p["id"].clone()).collect();
    assert_eq!(names, ["ann", "bob"]);
    let tags: Vec<_> = room["producers"].as_array().unwrap().iter().map(|p| p["appData"]["tag"].clone()).collect();
    assert_eq!(tags, ["opus", "vp8-simulcast"]);
    assert_eq!(room["producers"][0]["type"], "simple");
}

/// Whether two values have the same keys and types all the way down.
fn same_shape(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, value)| b.get(key).is_some_and(|other| same_shape(value, other)))
        }
        (Value::Array(a), Value::Array(b)) => a.iter().zip(b).all(|(a, b)| same_shape(a, b)),
        _ => std::mem::discriminant(a) == std::mem::discriminant(b),
    }
}

#[tokio::test]
async fn everything_that_was_opened_can_be_closed() {
    let server = Server::with_room().await;
    let send = server.transport("ann", "send").await;
    let recv = server.transport("ann", "recv").await;
    let produce = capture("12-produce-audio-opus")["request"].clone();
    let (_, produced) = server.post("ann", &format!("/transports/{send}/produce"), produce).await;
    let producer = produced["id"].as_str().unwrap();
    let capabilities = capture("02-device-after-load")["recvRtpCapabilities"].clone();
    let wanted = json!({"transportId": recv, "producerId": producer, "rtpCapabilities": capabilities, "paused": false});
    let (_, consumed) = server.post("ann", "/consume", wanted).await;
    let consumer = consumed["id"].as_str().unwrap();
    server.orders();

    for (path, order) in [
        (format!("/consumers/{consumer}/pause"), "PauseConsumer { consumer: ConsumerId("),
        (format!("/producers/{producer}/pause"), "PauseProducer { producer: ProducerId("),
        (format!("/producers/{producer}/resume"), "PauseProducer { producer: ProducerId("),
    ] {
        assert_eq!(server.post("ann", &path, json!({})).await, (StatusCode::OK, json!({})), "{path}");
        let orders = format!("{:?}", server.orders());
        assert!(orders.contains(order), "{orders}");
    }
    let (status, restarted) = server.post("ann", &format!("/transports/{send}/restart-ice"), json!({})).await;
    assert_eq!((status, restarted["iceParameters"]["iceLite"].as_bool()), (StatusCode::OK, Some(true)));
    for path in [format!("/consumers/{consumer}"), format!("/producers/{producer}"), format!("/transports/{recv}")] {
        assert_eq!(server.delete("ann", &path).await, (StatusCode::NO_CONTENT, Value::Null), "{path}");
        assert_eq!(server.delete("ann", &path).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(server.post("ann", "/participants/ann/leave", json!({})).await, (StatusCode::OK, json!({})));
    assert_eq!(server.get("ann").await.1["participants"], json!([]));
    assert_eq!(server.post("ann", "/participants/ann/leave", json!({})).await.0, StatusCode::OK, "gone is gone");
}

#[tokio::test]
async fn what_a_body_may_not_be_is_said_by_name() {
    let server = Server::with_room().await;
    let send = server.transport("ann", "send").await;
    let produce_path = format!("/transports/{send}/produce");
    let before = server.get("ann").await;
    server.orders();
    let post = |body: String| {
        server.room("ann", Method::POST, &produce_path).header("content-type", "application/json").body(body)
    };

    for broken in ["{", "", r#"{"kind": 7"#, r#"{"kind": "audio"} x"#, r#"{"kind": smell}"#] {
        refused(answer(post(broken.into())).await, StatusCode::BAD_REQUEST, "malformed-json");
    }
    // JSON, but of another type or another value than the field's.
    for (body, named) in [
        (r#"{"kind": "smell"}"#, "kind"),
        (r#"{"kind": "audio", "rtpParameters": 7}"#, "rtpParameters"),
        (r#"{"kind": "audio"}"#, "rtpParameters"),
        // serde reads these as broken JSON, which they are not.
        (r#"{"kind": 7}"#, "kind"),
        (r#"{"kind": true, "rtpParameters": {}}"#, "kind"),
        (r#"{"kind": ["audio"]}"#, "kind"),
        (r#"{"kind": null}"#, "kind"),
    ] {
        let body = refused(answer(post(body.into())).await, StatusCode::UNPROCESSABLE_ENTITY, "invalid");
        assert!(body["detail"].as_str().unwrap().contains(named), "{body}");
    }
    refused(answer(post("[]".into())).await, StatusCode::UNPROCESSABLE_ENTITY, "invalid");
    refused(answer(post(" ".repeat(70_000))).await, StatusCode::PAYLOAD_TOO_LARGE, "too-large");
    let text = server.room("ann", Method::POST, "/transports").header("content-type", "text/plain").body("{}");
    refused(answer(text).await, StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-json");

    let mut many = capture("13-produce-video-vp8-simulcast")["request"].clone();
    many["rtpParameters"]["encodings"].as_array_mut().unwrap().push(json!({"rid": "r3"}));
    let problem =
        refused(server.post("ann", &produce_path, many).await, StatusCode::UNPROCESSABLE_ENTITY, "unsupported");
    assert_eq!(problem["field"], "rtpParameters.encodings");
    let connect = json!({"dtlsParameters": {"fingerprints": [{"algorithm": "sha-256", "value": "00"}]}});
    let path = format!("/transports/{send}/connect");
    let problem = refused(server.post("ann", &path, connect).await, StatusCode::UNPROCESSABLE_ENTITY, "invalid");
    assert_eq!(problem["field"], "dtlsParameters.fingerprints[0].value");

    let after = server.get("ann").await;
    assert_eq!((&after, &after.1["producers"]), (&before, &json!([])), "nothing changed");
    assert_eq!(format!("{:?}", server.orders()), "[]", "nor was the media loop told anything");
    // And nothing is in the way of a sound one.
    let sound = capture("12-produce-audio-opus")["request"].clone();
    assert_eq!(server.post("ann", &produce_path, sound).await.0, StatusCode::CREATED);
}

#[tokio::test]
async fn a_subscriber_chooses_its_layers() {
    let server = Server::with_room().await;
    let send = server.transport("ann", "send").await;
    let recv = server.transport("bob", "recv").await;
    let produce = capture("13-produce-video-vp8-simulcast")["request"].clone();
    let (status, produced) = server.post("ann", &format!("/transports/{send}/produce"), produce).await;
    assert_eq!(status, StatusCode::CREATED, "{produced}");
    assert_eq!(server.get("bob").await.1["producers"][0]["type"], "simulcast");
    let capabilities = capture("02-device-after-load")["recvRtpCapabilities"].clone();
    let wanted = json!({"transportId": recv, "producerId": produced["id"], "rtpCapabilities": capabilities});
    let (_, consumer) = server.post("bob", "/consume", wanted).await;
    assert_eq!(consumer["type"], "simulcast");
    assert_eq!(consumer["rtpParameters"]["encodings"][0]["scalabilityMode"], "L3T3");
    let path = format!("/consumers/{}/preferred-layers", consumer["id"].as_str().unwrap());
    server.orders();
    for (body, spatial, temporal) in [
        (json!({"spatialLayer": 1, "temporalLayer": 0}), 1, 0),
        (json!({"spatialLayer": 2}), 2, u8::MAX),
        (json!({"spatialLayer": 0, "temporalLayer": null}), 0, u8::MAX),
    ] {
        assert_eq!(server.post("bob", &path, body).await, (StatusCode::OK, json!({})));
        let orders = server.orders();
        let [Command::PreferLayers { layers, .. }] = orders[..] else { panic!("{orders:?}") };
        assert_eq!((layers.spatial, layers.temporal), (spatial, temporal));
    }
    for body in [json!({}), json!({"spatialLayer": -1}), json!({"spatialLayer": 300}), json!({"spatialLayer": "1"})] {
        refused(server.post("bob", &path, body).await, StatusCode::UNPROCESSABLE_ENTITY, "invalid");
    }
    let not_found = StatusCode::NOT_FOUND;
    let lowest = json!({"spatialLayer": 0});
    refused(server.post("ann", &path, lowest.clone()).await, not_found, "consumer-not-found");
    refused(server.post("bob", "/consumers/x/preferred-layers", lowest).await, not_found, "consumer-not-found");
    assert!(server.orders().is_empty());
}

#[tokio::test]
async fn what_is_not_there_is_not_found_and_what_is_full_is_full() {
    let server = Server::with_room().await;
    let send = server.transport("ann", "send").await;
    let not_found = StatusCode::NOT_FOUND;
    refused(server.post("ann", "/transports/nope/restart-ice", json!({})).await, not_found, "transport-not-found");
    refused(server.post("ann", "/consumers/nope/resume", json!({})).await, not_found, "consumer-not-found");
    refused(server.delete("ann", "/producers/nope").await, not_found, "producer-not-found");
    refused(server.delete("ann", "/nothing").await, not_found, "no-such-route");
    refused(answer(server.request(Method::GET, "/")).await, not_found, "no-such-route");
    refused(
        answer(server.room("ann", Method::PUT, "/transports")).await,
        StatusCode::METHOD_NOT_ALLOWED,
        "method-not-allowed",
    );
    refused(
        answer(server.room("ann", Method::GET, "/events")).await,
        StatusCode::UPGRADE_REQUIRED,
        "websocket-required",
    );

    let plain = server.room("ann", Method::GET, "/events").send().await.unwrap();
    assert_eq!(plain.status(), StatusCode::UPGRADE_REQUIRED);
    assert_eq!(plain.headers()[header::UPGRADE], "websocket");
    assert_eq!(plain.headers()[header::CONNECTION], "upgrade");

    // Of another participant is as good as not there, and whoever has not entered has nothing.
    server.transport("bob", "recv").await;
    let path = format!("/transports/{send}/restart-ice");
    refused(server.post("bob", &path, json!({})).await, not_found, "transport-not-found");
    refused(server.post("cat", &path, json!({})).await, StatusCode::CONFLICT, "not-in-room");
    refused(server.post("bob", "/participants/ann/leave", json!({})).await, StatusCode::FORBIDDEN, "not-permitted");

    server.transport("cat", "send").await;
    refused(server.post("dan", "/transports", json!({"direction": "send"})).await, StatusCode::CONFLICT, "room-full");
}

#[tokio::test]
async fn a_host_removes_others_and_nobody_creates_rooms_that_kubernetes_does() {
    let server = Server::with_room().await;
    server.transport("ann", "send").await;
    let token = |role| server.signer.token(&callplane_media_node::auth::Claims { role, ..claims("boss") }).unwrap();
    let as_boss = |role, path: &str| {
        server.request(Method::POST, &format!("/api/rooms/{CALL}{path}")).bearer_auth(token(role)).json(&json!({}))
    };
    assert_eq!(answer(as_boss(Role::Host, "/participants/ann/leave")).await.0, StatusCode::OK);
    assert_eq!(server.directory.totals().participants, 0);
    refused(answer(as_boss(Role::Host, "/create")).await, StatusCode::FORBIDDEN, "not-permitted");
    refused(answer(as_boss(Role::Admin, "/create")).await, StatusCode::CONFLICT, "managed-by-kubernetes");
}

#[tokio::test]
async fn a_standalone_node_makes_rooms_of_any_name() {
    let server = Server::start(Options { standalone: true, ..Options::default() }).await;
    let room_claims = |role| callplane_media_node::auth::Claims { role, room_id: "Team_1".into(), ..claims("ops") };
    let admin = server.signer.token(&room_claims(Role::Admin)).unwrap();
    let create = |body| server.request(Method::POST, "/api/rooms/Team_1/create").bearer_auth(&admin).json(&body);
    let (status, room) = answer(create(json!({"maxParticipants": 2}))).await;
    assert_eq!((status, room["id"].as_str(), room["epoch"].as_i64()), (StatusCode::CREATED, Some("Team_1"), Some(3)));
    assert_eq!(answer(create(json!({}))).await.0, StatusCode::CREATED, "again is the same");
    refused(answer(create(json!({"maxParticipants": 0}))).await, StatusCode::UNPROCESSABLE_ENTITY, "invalid");
    refused(answer(create(json!({"color": "red"}))).await, StatusCode::UNPROCESSABLE_ENTITY, "invalid");
    let guest = server.signer.token(&room_claims(Role::Guest)).unwrap();
    let join = server.request(Method::POST, "/api/rooms/Team_1/transports").bearer_auth(guest);
    assert_eq!(answer(join.json(&json!({"direction": "recv"}))).await.0, StatusCode::CREATED);
}

#[tokio::test]
async fn a_newer_token_waits_for_its_epoch_and_then_keeps_newcomers_out() {
    let server = Server::with_room().await;
    let send = server.transport("ann", "send").await;
    let with_epoch = |user: &str, epoch| {
        let token = server.signer.token(&callplane_media_node::auth::Claims { epoch, ..claims(user) }).unwrap();
        server
            .request(Method::POST, &format!("/api/rooms/{CALL}/transports"))
            .bearer_auth(token)
            .json(&json!({"direction": "send"}))
    };
    // The watch delivers epoch 4 while the request waits.
    let (directory, waiting) = (server.directory.clone(), tokio::spawn(answer(with_epoch("bob", 4))));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!waiting.is_finished());
    server.assign(4).await;
    assert_eq!(waiting.await.unwrap().0, StatusCode::CREATED);
    assert_eq!(directory.totals().participants, 2, "the room goes on under the new epoch");

    let problem = refused(answer(with_epoch("cat", 3)).await, StatusCode::CONFLICT, "epoch-stale");
    assert_eq!((&problem["tokenEpoch"], &problem["servedEpoch"]), (&json!(3), &json!(4)));

    let problem = refused(answer(with_epoch("cat", 9)).await, StatusCode::CONFLICT, "epoch-superseded");
    assert_eq!((&problem["tokenEpoch"], &problem["servedEpoch"]), (&json!(9), &json!(4)));
    assert_eq!((directory.totals().rooms, directory.totals().participants), (1, 2), "it ends nobody's call");
    refused(answer(with_epoch("cat", 4)).await, StatusCode::CONFLICT, "epoch-superseded");
    refused(answer(with_epoch("ann", 4)).await, StatusCode::CONFLICT, "epoch-superseded");
    let goes_on = server.post("ann", &format!("/transports/{send}/restart-ice"), json!({})).await;
    assert_eq!(goes_on.0, StatusCode::OK, "who is in the room keeps what it has");
    server.assign(9).await;
    assert_eq!(answer(with_epoch("cat", 9)).await.0, StatusCode::CREATED, "the node serves that epoch after all");
}

#[tokio::test]
async fn a_fenced_node_lets_nobody_in() {
    let server = Server::with_room().await;
    let send = server.transport("ann", "send").await;
    server.directory.fence(true).await.unwrap();
    let response = server.room("bob", Method::GET, "").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    refused(server.get("bob").await, StatusCode::SERVICE_UNAVAILABLE, "resyncing");
    assert_eq!(server.post("ann", &format!("/transports/{send}/restart-ice"), json!({})).await.0, StatusCode::OK);
    server.directory.fence(false).await.unwrap();
    assert_eq!(server.get("bob").await.0, StatusCode::OK);
}

#[tokio::test]
async fn too_many_requests_are_refused_by_user_and_by_address() {
    let rate = Rate { per_second: 0.5, burst: 3.0 };
    let server = Server::start(Options { subject: rate, ..Options::default() }).await;
    server.assign(3).await;
    for _ in 0..3 {
        assert_eq!(server.get("ann").await.0, StatusCode::OK);
    }
    let response = server.room("ann", Method::GET, "").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(response.headers()[header::RETRY_AFTER], "2");
    refused(server.get("ann").await, StatusCode::TOO_MANY_REQUESTS, "rate-limited");
    assert_eq!(server.get("bob").await.0, StatusCode::OK, "others are not ann");

    let trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let server = Server::start(Options { address: rate, trusted_proxies, ..Options::default() }).await;
    let from = |address: &'static str| {
        answer(server.request(Method::GET, "/api/rooms/x.y").header("x-forwarded-for", address))
    };
    for _ in 0..3 {
        refused(from("192.0.2.1").await, StatusCode::UNAUTHORIZED, "token-missing");
    }
    refused(from("192.0.2.1").await, StatusCode::TOO_MANY_REQUESTS, "rate-limited");
    refused(from("192.0.2.2").await, StatusCode::UNAUTHORIZED, "token-missing");
}

#[tokio::test]
async fn only_listed_origins_may_call_from_a_browser() {
    let server =
        Server::start(Options { cors_origins: vec!["https://app.example".into()], ..Options::default() }).await;
    let preflight = |origin: &'static str| {
        server
            .request(Method::OPTIONS, &format!("/api/rooms/{CALL}/transports"))
            .header(header::ORIGIN, origin)
            .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
            .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "authorization,content-type")
            .send()
    };
    let allowed = preflight("https://app.example").await.unwrap();
    assert_eq!(allowed.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], "https://app.example");
    assert!(
        !preflight("https://evil.example").await.unwrap().headers().contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN)
    );
    // Errors too: otherwise a page cannot read why.
    let denied =
        server.request(Method::GET, &format!("/api/rooms/{CALL}")).header(header::ORIGIN, "https://app.example");
    assert!(denied.send().await.unwrap().headers().contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
}

#[tokio::test]
async fn requests_are_counted_by_pattern_and_never_by_name() {
    let server = Server::with_room().await;
    server.get("ann").await;
    server.transport("ann", "send").await;
    let text = server.metrics.exposition().unwrap();
    assert!(text.contains(r#"http_requests_total{route="/api/rooms/{call_id}/transports",status="201"} 1"#), "{text}");
    assert!(text.contains(r#"status="200"} 1"#) && !text.contains("demo") && !text.contains("ann"), "{text}");
}

#[tokio::test]
async fn a_room_that_is_released_ends_for_its_participants() {
    let server = Server::with_room().await;
    let send = server.transport("ann", "send").await;
    let created = server.orders();
    let Some(Command::CreateTransport { transport, .. }) = created.into_iter().next() else { panic!() };
    server.directory.release(RoomKey::of_call_room(CALL).unwrap(), Reason::Ended).await.unwrap();
    assert!(matches!(server.orders()[..], [Command::CloseTransport { transport: closed }] if closed == transport));
    let state = Event::TransportState { transport, state: TransportState::Closed, remote: None };
    server.events.send(state).await.unwrap();
    let path = format!("/transports/{send}/restart-ice");
    refused(server.post("ann", &path, json!({})).await, StatusCode::NOT_FOUND, "room-not-found");
}

#[tokio::test]
async fn data_channels_are_published_seen_consumed_and_closed() {
    let server = Server::with_room().await;
    let wanted = json!({"direction": "send", "numSctpStreams": {"OS": 1024, "MIS": 1024}});
    let (status, created) = server.post("ann", "/transports", wanted).await;
    assert_eq!(status, StatusCode::CREATED);
    let sctp = json!({"port": 5000, "OS": 1024, "MIS": 1024, "maxMessageSize": 262_144});
    assert_eq!(created["sctpParameters"], sctp);
    let send = created["id"].as_str().unwrap().to_owned();
    let (_, created) = server.post("bob", "/transports", json!({"direction": "recv", "enableSctp": true})).await;
    assert_eq!(created["sctpParameters"], sctp);
    let recv = created["id"].as_str().unwrap().to_owned();
    for without in [
        json!({"direction": "recv"}),
        json!({"direction": "recv", "enableSctp": false, "numSctpStreams": {"OS": 1, "MIS": 1}}),
    ] {
        let (_, created) = server.post("bob", "/transports", without).await;
        assert!(created.get("sctpParameters").is_none(), "{created}");
    }
    let none = json!({"direction": "recv", "numSctpStreams": {"OS": 0, "MIS": 1}});
    refused(server.post("bob", "/transports", none).await, StatusCode::UNPROCESSABLE_ENTITY, "invalid");

    let produce = json!({
        "sctpStreamParameters": {"streamId": 3, "ordered": false, "maxRetransmits": 0}, "label": "chat", "appData": {"a": 1},
    });
    let path = format!("/transports/{send}/produce-data");
    let (status, produced) = server.post("ann", &path, produce.clone()).await;
    assert_eq!(status, StatusCode::CREATED, "{produced}");
    let problem = refused(server.post("ann", &path, produce).await, StatusCode::UNPROCESSABLE_ENTITY, "invalid");
    assert_eq!(problem["field"], "sctpStreamParameters.streamId");
    refused(server.post("ann", &path, json!({"label": "x"})).await, StatusCode::UNPROCESSABLE_ENTITY, "invalid");

    let (_, room) = server.get("cat").await;
    let expected = json!([{
        "id": produced["id"], "participantId": "ann", "label": "chat", "protocol": "", "appData": {"a": 1},
        "sctpStreamParameters": {"streamId": 3, "ordered": false, "maxRetransmits": 0},
    }]);
    assert_eq!(room["dataProducers"], expected);

    let consume = json!({"transportId": recv, "dataProducerId": produced["id"]});
    let (status, consumed) = server.post("bob", "/consume-data", consume.clone()).await;
    assert_eq!(status, StatusCode::CREATED, "{consumed}");
    assert_eq!(consumed["sctpStreamParameters"], json!({"streamId": 0, "ordered": false, "maxRetransmits": 0}));
    assert_eq!((&consumed["dataProducerId"], &consumed["label"]), (&produced["id"], &json!("chat")));

    let consumer = format!("/data-consumers/{}", consumed["id"].as_str().unwrap());
    let producer = format!("/data-producers/{}", produced["id"].as_str().unwrap());
    refused(server.delete("ann", &consumer).await, StatusCode::NOT_FOUND, "data-consumer-not-found");
    assert_eq!(server.delete("bob", &consumer).await.0, StatusCode::NO_CONTENT);
    refused(server.delete("bob", &producer).await, StatusCode::FORBIDDEN, "not-permitted");
    assert_eq!(server.delete("ann", &producer).await.0, StatusCode::NO_CONTENT);
    refused(server.delete("ann", &producer).await, StatusCode::NOT_FOUND, "data-producer-not-found");
    refused(server.post("bob", "/consume-data", consume).await, StatusCode::NOT_FOUND, "data-producer-not-found");
}
