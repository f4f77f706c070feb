//! WHIP and WHEP over real connections: what is made of an offer, and every status there is.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use callplane_media_node::{
    api::{IceServers, Rate},
    auth::Claims,
    core::command::{Command, ConsumerSpec, DtlsRole, Event, ProducerId, TransportState},
    rooms::Reason,
};
use common::{CALL, Options, Server, claims};
use reqwest::{Method, RequestBuilder, Response, StatusCode, header::HeaderMap};
use serde_json::Value;

const CHROMIUM: &str = include_str!("captures/sdp/chromium.sdp");
const FFMPEG: &str = include_str!("captures/sdp/ffmpeg-passive.sdp");

/// Chromium's audio and one video section.
fn offer() -> String {
    let sections: Vec<&str> = CHROMIUM.split("m=").collect();
    format!("{}m={}m={}", sections[0].replace("BUNDLE 0 1 2 3 4", "BUNDLE 0 2"), sections[1], sections[3])
}

/// The same, to play.
fn player() -> String {
    let lines = offer();
    let lines = lines.lines().filter(|line| !line.starts_with("a=ssrc") && !line.starts_with("a=msid:"));
    lines.map(|line| if line == "a=sendonly" { "a=recvonly" } else { line }.to_owned() + "\r\n").collect()
}

fn post(server: &Server, user: &str, path: &str, body: &str) -> RequestBuilder {
    server
        .request(Method::POST, path)
        .bearer_auth(server.token(user))
        .header("content-type", "application/sdp")
        .body(body.to_owned())
}

fn whip(server: &Server, user: &str, body: &str) -> RequestBuilder {
    post(server, user, &format!("/whip/{CALL}"), body)
}

fn whep(server: &Server, user: &str, query: &str) -> RequestBuilder {
    post(server, user, &format!("/whep/{CALL}{query}"), &player())
}

struct Created {
    location: String,
    etag: String,
    answer: String,
    headers: HeaderMap,
}

async fn created(request: RequestBuilder) -> Created {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let answer = response.text().await.unwrap();
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    assert_eq!(headers["content-type"], "application/sdp");
    let text = |name: &str| headers[name].to_str().unwrap().to_owned();
    Created { location: text("location"), etag: text("etag"), answer, headers }
}

/// Fails unless the answer is this problem.
async fn refused(request: RequestBuilder, status: StatusCode, code: &str) -> (HeaderMap, Value) {
    let response: Response = request.send().await.unwrap();
    let (got, headers) = (response.status(), response.headers().clone());
    let body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default();
    assert_eq!((got, body["code"].as_str()), (status, Some(code)), "{body}");
    assert_eq!(headers["content-type"], "application/problem+json");
    (headers, body)
}

fn specs(orders: &[Command]) -> Vec<(ProducerId, ConsumerSpec)> {
    let of = |command: &Command| match command {
        Command::Consume { producer, spec, .. } => Some((*producer, spec.clone())),
        _ => None,
    };
    orders.iter().filter_map(of).collect()
}

fn producers(orders: &[Command]) -> Vec<ProducerId> {
    let of = |command: &Command| match command {
        Command::Produce { producer, .. } => Some(*producer),
        _ => None,
    };
    orders.iter().filter_map(of).collect()
}

#[tokio::test]
async fn an_offer_is_published_and_ended() {
    let server = Server::with_room().await;
    let session = created(whip(&server, "ann", &offer())).await;
    assert!(session.location.starts_with(&format!("/whip/{CALL}/")), "{}", session.location);
    assert!(session.etag.starts_with('"') && session.etag.len() > 10);
    assert!(!session.headers.contains_key("link"), "no ICE servers are configured");
    assert!(session.answer.contains("a=candidate:1 1 udp 1076302079 127.0.0.1 40000 typ host\r\n"));
    let orders = server.orders();
    assert!(matches!(orders[0], Command::CreateTransport { .. }));
    assert!(
        matches!(&orders[1], Command::ConnectTransport { role: DtlsRole::Client, fingerprints, .. } if fingerprints.len() == 1)
    );
    assert_eq!(producers(&orders).len(), 2);
    let (_, room) = server.get("bob").await;
    assert_eq!(room["participants"][0]["id"], "ann");
    assert_eq!((&room["producers"][0]["kind"], &room["producers"][1]["kind"]), (&"audio".into(), &"video".into()));

    let get = server.request(Method::GET, &session.location).send().await.unwrap();
    assert_eq!((get.status(), get.text().await.unwrap()), (StatusCode::NO_CONTENT, String::new()));
    let delete = |user| server.request(Method::DELETE, &session.location).bearer_auth(server.token(user));
    refused(delete("bob"), StatusCode::NOT_FOUND, "session-not-found").await;
    // An entity tag does not matter here (RFC 9725 §4.3.1).
    assert_eq!(delete("ann").header("if-match", "\"other\"").send().await.unwrap().status(), StatusCode::OK);
    assert!(matches!(server.orders().last(), Some(Command::CloseTransport { .. })));
    assert_eq!(server.get("bob").await.1["participants"], Value::Array(vec![]), "with its only transport it left");
    refused(delete("ann"), StatusCode::NOT_FOUND, "session-not-found").await;
}

#[tokio::test]
async fn simulcast_is_one_producer_with_its_encodings() {
    let server = Server::with_room().await;
    let sections: Vec<&str> = CHROMIUM.split("m=").collect();
    let simulcast = format!("{}m={}", sections[0].replace("BUNDLE 0 1 2 3 4", "BUNDLE 1"), sections[2]);
    let session = created(whip(&server, "ann", &simulcast)).await;
    let orders = server.orders();
    let [spec] = &orders
        .iter()
        .filter_map(|c| if let Command::Produce { spec, .. } = c { Some(spec) } else { None })
        .collect::<Vec<_>>()[..]
    else {
        panic!("{orders:?}")
    };
    let rids: Vec<_> = spec.encodings.iter().map(|encoding| encoding.rid.as_deref()).collect();
    assert_eq!(rids, [Some("r0"), Some("r1"), Some("r2")]);
    assert!(session.answer.contains("a=rid:r1 recv\r\n") && session.answer.contains("a=simulcast:recv r0;r1;r2\r\n"));
}

#[tokio::test]
async fn the_node_is_the_dtls_client_of_whoever_waits_for_it() {
    let server = Server::with_room().await;
    let vp8 = FFMPEG.replace("H264/90000", "VP8/90000");
    let session = created(whip(&server, "ffmpeg", &vp8)).await;
    assert!(session.answer.contains("a=setup:active\r\n") && !session.answer.contains("a=setup:passive"));
    assert!(server.orders().iter().any(|c| matches!(c, Command::ConnectTransport { role: DtlsRole::Server, .. })));
}

#[tokio::test]
async fn a_player_gets_what_is_published_now_and_what_follows_it_under_the_same_ssrcs() {
    let server = Server::with_room().await;
    let first = created(whip(&server, "ann", &offer())).await;
    let before = producers(&server.orders());
    let player = created(whep(&server, "bob", "")).await;
    assert!(player.location.starts_with(&format!("/whep/{CALL}/")));
    let fed = specs(&server.orders());
    let mut shown: Vec<ProducerId> = fed.iter().map(|(producer, _)| *producer).collect();
    shown.sort();
    assert_eq!(shown, before, "sound and picture of ann");
    for (_, spec) in &fed {
        assert!(player.answer.contains(&format!("a=ssrc:{} cname:{}\r\n", spec.ssrc, spec.cname)));
        assert!(!spec.paused);
    }
    assert!(player.answer.contains("a=sendonly") && !player.answer.contains("a=recvonly"));

    // She goes, and somebody else comes: the streams are parked, and go on.
    let delete = server.request(Method::DELETE, &first.location).bearer_auth(server.token("ann"));
    assert_eq!(delete.send().await.unwrap().status(), StatusCode::OK);
    let orders = server.orders();
    let at = |wanted: fn(&Command) -> bool| orders.iter().position(wanted).unwrap();
    let parked = orders.iter().filter(|c| matches!(c, Command::ParkConsumer { .. })).count();
    assert_eq!(parked, 2, "{orders:?}");
    let park = at(|c| matches!(c, Command::ParkConsumer { .. }));
    assert!(park < at(|c| matches!(c, Command::CloseTransport { .. })), "before its producer says goodbye");
    created(whip(&server, "cat", &offer())).await;
    let again = specs(&server.orders());
    let mut ssrcs = [&fed, &again].map(|specs| specs.iter().map(|(_, spec)| spec.ssrc).collect::<Vec<_>>());
    ssrcs.iter_mut().for_each(|list| list.sort_unstable());
    assert_eq!(ssrcs[0], ssrcs[1]);
    assert_ne!(again[0].0, fed[0].0);
}

#[tokio::test]
async fn a_player_may_come_before_anyone_publishes_and_may_choose() {
    let server = Server::with_room().await;
    created(whep(&server, "bob", "?participant=ann")).await;
    assert_eq!(specs(&server.orders()), []);
    created(whip(&server, "cat", &offer())).await;
    assert_eq!(specs(&server.orders()), [], "she is not ann");
    created(whip(&server, "ann", &offer())).await;
    let orders = server.orders();
    let (published, fed) = (producers(&orders), specs(&orders));
    assert_eq!(fed.len(), 2);
    assert!(fed.iter().all(|(producer, _)| published.contains(producer)));

    // The latest by default, and never oneself.
    created(whep(&server, "ann", "")).await;
    assert!(specs(&server.orders()).iter().all(|(producer, _)| !published.contains(producer)));
    let (_, room) = server.get("bob").await;
    let of_cat = room["producers"].as_array().unwrap().iter().find(|p| p["participantId"] == "cat").unwrap();
    created(whep(&server, "bob", &format!("?producer={}", of_cat["id"].as_str().unwrap()))).await;
    assert_eq!(specs(&server.orders()).len(), 1, "one track was asked for");
    refused(whep(&server, "bob", "?producer=none"), StatusCode::NOT_FOUND, "producer-not-found").await;
    refused(whep(&server, "bob", "?participant=a&participant=b"), StatusCode::BAD_REQUEST, "invalid").await;
}

#[tokio::test]
async fn whoever_publishes_again_takes_the_place_of_the_connection_that_fell_silent() {
    let server = Server::with_room().await;
    created(whip(&server, "ann", &offer())).await;
    let orders = server.orders();
    let Command::CreateTransport { transport, .. } = orders[0] else { panic!("{orders:?}") };
    created(whep(&server, "bob", "")).await;
    assert_eq!(specs(&server.orders()).len(), 2);
    let silent = Event::TransportState { transport, state: TransportState::Disconnected, remote: None };
    server.events.send(silent).await.unwrap();
    server.get("bob").await;
    created(whip(&server, "ann", &offer())).await;
    let orders = server.orders();
    let (published, fed) = (producers(&orders), specs(&orders));
    assert_eq!((published.len(), fed.len()), (2, 2));
    assert!(fed.iter().all(|(producer, _)| published.contains(producer)));
}

const CANDIDATE: &str = "a=candidate:1 1 udp 2122260223 192.0.2.1 61764 typ host\r\n";

fn fragment(ufrag: &str) -> String {
    format!(
        "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:{ufrag}\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n{CANDIDATE}"
    )
}

#[tokio::test]
async fn candidates_trickle_and_ice_restarts_by_entity_tag() {
    for protocol in ["whip", "whep"] {
        let server = Server::with_room().await;
        let session = created(match protocol {
            "whip" => whip(&server, "ann", &offer()),
            _ => whep(&server, "ann", ""),
        })
        .await;
        server.orders();
        let patch = |tag: Option<&str>, body: &str| {
            let request = server.request(Method::PATCH, &session.location).bearer_auth(server.token("ann"));
            let request = request.header("content-type", "application/trickle-ice-sdpfrag").body(body.to_owned());
            tag.map_or_else(|| request.try_clone().unwrap(), |tag| request.try_clone().unwrap().header("if-match", tag))
        };
        // The offer's own credentials: candidates only.
        for tag in [session.etag.as_str(), "*"] {
            let response = patch(Some(tag), &fragment("zpJs")).send().await.unwrap();
            assert_eq!(response.status(), StatusCode::NO_CONTENT);
            assert!(!response.headers().contains_key("etag"));
        }
        assert_eq!(patch(Some("*"), CANDIDATE).send().await.unwrap().status(), StatusCode::NO_CONTENT);
        refused(patch(None, &fragment("zpJs")), StatusCode::PRECONDITION_REQUIRED, "precondition-required").await;
        refused(patch(Some("\"old\""), &fragment("zpJs")), StatusCode::PRECONDITION_FAILED, "precondition-failed")
            .await;
        assert!(server.orders().is_empty(), "nothing of it is for the media loops");

        // Others are a restart.
        refused(patch(None, &fragment("fresh")), StatusCode::PRECONDITION_REQUIRED, "precondition-required").await;
        let response = patch(Some("*"), &fragment("fresh")).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "application/trickle-ice-sdpfrag");
        let tag = response.headers()["etag"].to_str().unwrap().to_owned();
        assert_ne!(tag, session.etag);
        let body = response.text().await.unwrap();
        let orders = server.orders();
        let [Command::RestartIce { ice, .. }] = &orders[..] else { panic!("{orders:?}") };
        assert!(body.contains(&format!("a=ice-ufrag:{}\r\na=ice-pwd:{}\r\n", ice.ufrag, ice.password)), "{body}");
        assert!(body.contains("a=candidate:") && body.contains("a=ice-lite\r\n"));
        // What was on its way for the session before is too late.
        let late = patch(Some(&session.etag), &fragment("zpJs"));
        refused(late, StatusCode::PRECONDITION_FAILED, "precondition-failed").await;
        assert_eq!(patch(Some(&tag), &fragment("fresh")).send().await.unwrap().status(), StatusCode::NO_CONTENT);

        refused(patch(Some("*"), "nonsense"), StatusCode::BAD_REQUEST, "malformed-sdp").await;
        let json = server.request(Method::PATCH, &session.location).bearer_auth(server.token("ann"));
        refused(json.header("if-match", "*").json("{}"), StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-sdp").await;
        let path = format!("/{protocol}/{CALL}/none");
        let none = server.request(Method::PATCH, &path).bearer_auth(server.token("ann"));
        let none =
            none.header("content-type", "application/trickle-ice-sdpfrag").header("if-match", "*").body(CANDIDATE);
        refused(none, StatusCode::NOT_FOUND, "session-not-found").await;
        // A session of the one is none of the other.
        let other = session.location.replace(protocol, if protocol == "whip" { "whep" } else { "whip" });
        let delete = server.request(Method::DELETE, &other).bearer_auth(server.token("ann"));
        refused(delete, StatusCode::NOT_FOUND, "session-not-found").await;
    }
}

#[tokio::test]
async fn each_way_to_be_wrong_has_its_status() {
    let server = Server::with_room().await;
    let path = format!("/whip/{CALL}");
    let bare =
        |method, path: &str| server.request(method, path).header("content-type", "application/sdp").body(offer());
    // 401 and 403.
    let (headers, _) = refused(bare(Method::POST, &path), StatusCode::UNAUTHORIZED, "token-missing").await;
    assert_eq!(headers["www-authenticate"], "Bearer");
    let with = |change: fn(&mut Claims), path: &str| {
        let mut claims = claims("ann");
        change(&mut claims);
        bare(Method::POST, path).bearer_auth(server.signer.token(&claims).unwrap())
    };
    let expired = with(|claims| (claims.iat, claims.exp) = (claims.iat - 100, claims.iat - 50), &path);
    refused(expired, StatusCode::UNAUTHORIZED, "token-expired").await;
    refused(with(|_| (), "/whip/default.other"), StatusCode::FORBIDDEN, "wrong-room").await;
    let subscriber = with(|claims| claims.grants = Some(vec!["subscribe".into()]), &path);
    refused(subscriber, StatusCode::FORBIDDEN, "not-permitted").await;
    let publisher = with(|claims| claims.grants = Some(vec!["publish".into()]), &format!("/whep/{CALL}"));
    refused(publisher.body(player()), StatusCode::FORBIDDEN, "not-permitted").await;
    // Epochs as everywhere.
    let (_, stale) = refused(with(|claims| claims.epoch = 2, &path), StatusCode::CONFLICT, "epoch-stale").await;
    assert_eq!((stale["tokenEpoch"].as_i64(), stale["servedEpoch"].as_i64()), (Some(2), Some(3)));
    // Bodies.
    refused(whip(&server, "ann", "v=1"), StatusCode::BAD_REQUEST, "malformed-sdp").await;
    let latin = whip(&server, "ann", "").body(vec![0xFF, 0xFE]);
    refused(latin, StatusCode::BAD_REQUEST, "malformed-sdp").await;
    let json = server.request(Method::POST, &path).bearer_auth(server.token("ann")).json(&offer());
    refused(json, StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-sdp").await;
    let html = whip(&server, "ann", &offer()).header("accept", "text/html");
    refused(html, StatusCode::NOT_ACCEPTABLE, "not-acceptable").await;
    let large = offer() + &"a=x\r\n".repeat(200_000);
    refused(whip(&server, "ann", &large), StatusCode::PAYLOAD_TOO_LARGE, "too-large").await;
    let (_, body) =
        refused(whip(&server, "ann", &player()), StatusCode::UNPROCESSABLE_ENTITY, "unacceptable-offer").await;
    assert!(body["detail"].as_str().unwrap().contains("use WHEP"), "{body}");
    refused(whep(&server, "ann", "").body(offer()), StatusCode::UNPROCESSABLE_ENTITY, "unacceptable-offer").await;
    assert!(server.orders().is_empty() && server.get("bob").await.1["participants"] == Value::Array(vec![]));
    // Methods.
    for path in [path.clone(), format!("/whep/{CALL}"), format!("{path}/x")] {
        let (headers, _) =
            refused(bare(Method::PUT, &path), StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed").await;
        assert!(headers.contains_key("allow"));
    }
    refused(bare(Method::PATCH, &path), StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed").await;
    refused(bare(Method::POST, &format!("{path}/x")), StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed").await;
    // Full: the room is for three.
    for user in ["a", "b", "c"] {
        created(whip(&server, user, &offer())).await;
    }
    refused(whip(&server, "d", &offer()), StatusCode::CONFLICT, "room-full").await;
    for _ in 1..8 {
        created(whip(&server, "a", &offer())).await;
    }
    server.orders();
    refused(whip(&server, "a", &offer()), StatusCode::CONFLICT, "too-many").await;
    let orders = server.orders();
    assert!(matches!(orders[..], [Command::CreateTransport { .. }, .., Command::CloseTransport { .. }]), "{orders:?}");
    // 503: the node re-reads what it serves.
    server.directory.fence(true).await.unwrap();
    let (headers, _) = refused(whip(&server, "a", &offer()), StatusCode::SERVICE_UNAVAILABLE, "resyncing").await;
    assert_eq!(headers["retry-after"], "1");
    server.directory.fence(false).await.unwrap();
    server
        .directory
        .release(callplane_media_node::rooms::RoomKey::of_call_room(CALL).unwrap(), Reason::Ended)
        .await
        .unwrap();
    refused(whip(&server, "a", &offer()), StatusCode::NOT_FOUND, "room-not-found").await;
}

#[tokio::test]
async fn requests_are_limited() {
    let subject = Rate { per_second: 0.1, burst: 1.0 };
    let server = Server::start(Options { subject, ..Options::default() }).await;
    server.assign(3).await;
    created(whip(&server, "ann", &offer())).await;
    let (headers, _) = refused(whip(&server, "ann", &offer()), StatusCode::TOO_MANY_REQUESTS, "rate-limited").await;
    assert!(headers.contains_key("retry-after"));
}

#[tokio::test]
async fn clients_find_out_what_there_is() {
    let uris = vec!["stun:stun.example.net".to_owned()];
    let ice_servers = IceServers::new(uris, None).unwrap();
    let cors_origins = vec!["https://app.example".to_owned()];
    let server = Server::start(Options { ice_servers, cors_origins, ..Options::default() }).await;
    server.assign(3).await;
    let session = created(whip(&server, "ann", &offer()).header("origin", "https://app.example")).await;
    assert_eq!(session.headers["link"], "<stun:stun.example.net>; rel=\"ice-server\"");
    let exposed = session.headers["access-control-expose-headers"].to_str().unwrap().to_owned();
    for name in ["location", "etag", "link"] {
        assert!(exposed.contains(name), "{exposed}");
    }
    for (path, name, value) in [
        (format!("/whip/{CALL}"), "accept-post", "application/sdp"),
        (format!("/whep/{CALL}"), "accept-post", "application/sdp"),
        (session.location.clone(), "accept-patch", "application/trickle-ice-sdpfrag"),
    ] {
        // A preflight, and one without its headers; no token in either.
        for preflight in [true, false] {
            let mut request = server.request(Method::OPTIONS, &path);
            if preflight {
                request =
                    request.header("origin", "https://app.example").header("access-control-request-method", "PATCH");
            }
            let response = request.send().await.unwrap();
            let headers = response.headers();
            assert_eq!((response.status(), &headers[name]), (StatusCode::OK, &value.parse().unwrap()), "{path}");
            assert!(!headers.contains_key("link"));
            if preflight {
                assert_eq!(headers["access-control-allow-origin"], "https://app.example");
                let allowed = headers["access-control-allow-methods"].to_str().unwrap();
                assert!(allowed.contains("PATCH") && allowed.contains("DELETE"), "{allowed}");
                let allowed = headers["access-control-allow-headers"].to_str().unwrap();
                assert!(allowed.contains("if-match") && allowed.contains("authorization"), "{allowed}");
            }
        }
    }
    // Neither needs a token: there is nothing to see but that it is here.
    let get = |method, path: &str| server.request(method, path).send();
    let whep = get(Method::HEAD, &format!("/whep/{CALL}")).await.unwrap();
    assert_eq!((whep.status(), &whep.headers()["content-type"]), (StatusCode::OK, &"application/sdp".parse().unwrap()));
    assert_eq!(get(Method::GET, &format!("/whip/{CALL}")).await.unwrap().status(), StatusCode::NO_CONTENT);
}
