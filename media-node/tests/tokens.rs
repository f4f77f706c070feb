//! Tokens over real connections: one that does not count opens no route, whatever it claims to be.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use callplane_media_node::{
    auth::{Claims, mint::Signer},
    rooms::{Assignment, MediaRules, Role, RoomKey},
    system,
};
use common::{CALL, Options, Server, answer, claims};
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};

const ROUTES: [(Method, &str); 16] = [
    (Method::GET, ""),
    (Method::POST, "/create"),
    (Method::GET, "/events"),
    (Method::POST, "/transports"),
    (Method::DELETE, "/transports/x"),
    (Method::POST, "/transports/x/connect"),
    (Method::POST, "/transports/x/restart-ice"),
    (Method::POST, "/transports/x/produce"),
    (Method::DELETE, "/producers/x"),
    (Method::POST, "/producers/x/pause"),
    (Method::POST, "/producers/x/resume"),
    (Method::POST, "/consume"),
    (Method::DELETE, "/consumers/x"),
    (Method::POST, "/consumers/x/pause"),
    (Method::POST, "/consumers/x/resume"),
    (Method::POST, "/participants/ann/leave"),
];

/// Ann is in the room, and a token like those below but for one thing may remove her.
async fn server() -> Server {
    let server = Server::with_room().await;
    server.transport("ann", "send").await;
    let response = server.request(Method::GET, &format!("/api/rooms/{CALL}")).bearer_auth(sign(&server, admin()));
    assert_eq!(response.send().await.unwrap().status(), StatusCode::OK);
    server
}

fn admin() -> Claims {
    Claims { role: Role::Admin, ..claims("ops") }
}

fn sign(server: &Server, claims: Claims) -> String {
    server.signer.token(&claims).unwrap()
}

/// Fails unless every route refuses this token in this way, and nothing came of any of them.
async fn refused_everywhere(server: &Server, token: &str, expected: StatusCode, code: &str) {
    for (method, path) in ROUTES {
        let request = server.request(method.clone(), &format!("/api/rooms/{CALL}{path}"));
        let response = request.bearer_auth(token).json(&json!({})).send().await.unwrap();
        assert_eq!(response.status(), expected, "{method} {path}");
        let headers = response.headers().clone();
        assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json", "{method} {path}");
        let challenge = headers.get(header::WWW_AUTHENTICATE).map(|value| value.to_str().unwrap());
        let needed = (expected == StatusCode::UNAUTHORIZED).then_some("Bearer error=\"invalid_token\"");
        assert_eq!(challenge, needed, "{method} {path}");
        let problem: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        assert_eq!(
            (problem["code"].as_str(), problem["status"].as_u64()),
            (Some(code), Some(expected.as_u16().into()))
        );
    }
    assert_eq!(server.directory.totals().participants, 1, "ann is still there, alone");
}

#[tokio::test]
async fn an_expired_token_is_refused() {
    let server = server().await;
    let now = system::timestamp().as_second();
    let expired = sign(&server, Claims { iat: now - 120, exp: now - 60, ..admin() });
    refused_everywhere(&server, &expired, StatusCode::UNAUTHORIZED, "token-expired").await;
}

#[tokio::test]
async fn a_token_that_somebody_else_signed_is_refused() {
    let server = server().await;
    let (stranger, _) = Signer::generate().unwrap();
    let foreign = stranger.token(&admin()).unwrap();
    refused_everywhere(&server, &foreign, StatusCode::UNAUTHORIZED, "token-invalid").await;

    // The same signature under a header that names the key of this service.
    let own = sign(&server, admin());
    let (signed, _) = own.rsplit_once('.').unwrap();
    let (_, signature) = foreign.rsplit_once('.').unwrap();
    refused_everywhere(&server, &format!("{signed}.{signature}"), StatusCode::UNAUTHORIZED, "token-invalid").await;
}

#[tokio::test]
async fn a_token_that_nobody_signed_is_refused() {
    let server = server().await;
    let own = sign(&server, admin());
    let parts: Vec<&str> = own.split('.').collect();
    let header = URL_SAFE_NO_PAD.encode(json!({"alg": "none", "typ": "JWT"}).to_string());
    for signature in ["", parts[2]] {
        let unsigned = format!("{header}.{}.{signature}", parts[1]);
        refused_everywhere(&server, &unsigned, StatusCode::UNAUTHORIZED, "token-invalid").await;
    }
}

#[tokio::test]
async fn a_token_for_another_room_is_refused() {
    let server = server().await;
    let key = RoomKey::of_call_room("default.other").unwrap();
    let other = Assignment { key, uid: "other".into(), epoch: 3, max_participants: 3, rules: MediaRules::default() };
    server.directory.serve(other).await.unwrap();
    let token = sign(&server, Claims { room_id: "default.other".into(), room_uid: Some("other".into()), ..admin() });
    let served = server.request(Method::GET, "/api/rooms/default.other").bearer_auth(&token).send().await.unwrap();
    assert_eq!(served.status(), StatusCode::OK, "in its own room the token counts");
    refused_everywhere(&server, &token, StatusCode::FORBIDDEN, "wrong-room").await;
}

#[tokio::test]
async fn a_token_of_another_room_of_the_same_name_is_refused_and_releases_nothing() {
    let server = server().await;
    let earlier = |epoch| Claims { room_uid: Some("of-an-earlier-room".into()), epoch, ..admin() };
    for epoch in [3, 9] {
        let token = sign(&server, earlier(epoch));
        let request = server.request(Method::GET, &format!("/api/rooms/{CALL}")).bearer_auth(&token);
        let (status, problem) = answer(request).await;
        assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("room-replaced")), "{problem}");
    }
    assert_eq!(
        server.get("ann").await.0,
        StatusCode::OK,
        "the room goes on, however late the earlier one's epochs were"
    );
    let nameless = sign(&server, Claims { room_uid: None, ..admin() });
    refused_everywhere(&server, &nameless, StatusCode::UNAUTHORIZED, "token-invalid").await;
}

#[tokio::test]
async fn a_standalone_node_needs_no_uid() {
    let server = Server::start(Options { standalone: true, ..Options::default() }).await;
    for room_uid in [None, Some("whatever".to_owned())] {
        let token = sign(&server, Claims { room_uid, ..admin() });
        let create = server.request(Method::POST, &format!("/api/rooms/{CALL}/create")).bearer_auth(&token);
        assert_eq!(answer(create.json(&json!({}))).await.0, StatusCode::CREATED);
        let look = server.request(Method::GET, &format!("/api/rooms/{CALL}")).bearer_auth(&token);
        assert_eq!(answer(look).await.0, StatusCode::OK);
    }
}
