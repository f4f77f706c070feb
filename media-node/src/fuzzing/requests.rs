//! Requests to the HTTP API from people with good tokens, and from nobody: whatever they send is answered as the API
//! says, and the room is still there.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use rand::{SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tower::ServiceExt;

use super::records;
use super::tokens::{LIFETIME, TRUSTED};
use crate::api::{self, Api, EventTimeouts, IceServers, Limits, Rate};
use crate::core::command::Fingerprint;
use crate::metrics::{Metrics, Sources};
use crate::rooms::{Directory, Media, MediaOrder, Reason, Settings};
use crate::system;

/// Records looked at in one input: more would only make it slow.
const MAX_RECORDS: usize = 16;
/// No answer is longer: what a room describes is bounded.
const MAX_ANSWER: usize = 1 << 20;
/// Orders to the media loops that may be on their way.
const QUEUE: usize = 64;

const JSON: &str = "application/json";
const SDP: &str = "application/sdp";
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";

/// What a record's kind names, and what its content is sent as. `$` begins the id of something that is there.
const ROUTES: &[(Method, &str, &str)] = &[
    (Method::POST, "/api/rooms/demo/create", JSON),
    (Method::POST, "/api/rooms/demo/transports", JSON),
    (Method::POST, "/api/rooms/demo/transports/$send/connect", JSON),
    (Method::POST, "/api/rooms/demo/transports/$send/restart-ice", JSON),
    (Method::POST, "/api/rooms/demo/transports/$send/produce", JSON),
    (Method::POST, "/api/rooms/demo/transports/$send/produce-data", JSON),
    (Method::POST, "/api/rooms/demo/consume", JSON),
    (Method::POST, "/api/rooms/demo/consume-data", JSON),
    (Method::POST, "/api/rooms/demo/consumers/$watched/preferred-layers", JSON),
    (Method::POST, "/api/rooms/demo/consumers/$watched/priority", JSON),
    (Method::DELETE, "/api/rooms/demo/consumers/$watched/priority", JSON),
    (Method::POST, "/api/rooms/demo/consumers/$watched/pause", JSON),
    (Method::POST, "/api/rooms/demo/consumers/$watched/resume", JSON),
    (Method::POST, "/api/rooms/demo/producers/$video/pause", JSON),
    (Method::POST, "/api/rooms/demo/producers/$video/resume", JSON),
    (Method::POST, "/api/rooms/demo/participants/bob/leave", JSON),
    (Method::GET, "/api/rooms/demo/events", JSON),
    (Method::GET, "/api/rooms/demo/transports/$send/stats", JSON),
    (Method::DELETE, "/api/rooms/demo/consumers/$watched", JSON),
    (Method::DELETE, "/api/rooms/demo/data-consumers/$read", JSON),
    (Method::DELETE, "/api/rooms/demo/producers/$video", JSON),
    (Method::DELETE, "/api/rooms/demo/data-producers/$chat", JSON),
    (Method::DELETE, "/api/rooms/demo/transports/$recv", JSON),
    (Method::POST, "/whip/demo", SDP),
    (Method::POST, "/whep/demo", SDP),
    (Method::PATCH, "/whip/demo/$session", FRAGMENT),
    (Method::PATCH, "/whep/demo/$session", FRAGMENT),
    (Method::DELETE, "/whip/demo/$session", FRAGMENT),
    (Method::DELETE, "/whep/demo/$session", FRAGMENT),
];
/// The content is the path of a GET.
const PATH: u8 = 30;
/// The content is lines `name: value`, the headers of the next request beside its own.
const HEADERS: u8 = 31;

/// The node, made once: with its routes alone it takes longer than what is done with it.
static NODE: LazyLock<Node> = LazyLock::new(Node::start);

/// Each record is a request: the lower five bits of its kind are the route, the upper three say whose it is.
pub(super) fn requests(data: &[u8]) {
    NODE.runtime.block_on(async {
        let mut room = Room::open().await;
        let mut headers = HeaderMap::new();
        for (kind, content) in records(data).take(MAX_RECORDS) {
            let user = ["ann", "bob", "root"].get(usize::from(kind >> 5)).copied();
            // Whoever has a token may still show another.
            let is_forged =
                headers.contains_key(header::AUTHORIZATION) || headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL);
            let user = user.filter(|_| !is_forged);
            match kind & 31 {
                HEADERS => {
                    headers = read_headers(content);
                    continue;
                }
                PATH => {
                    if let Ok(uri) = Uri::try_from(room.resolve(content)) {
                        room.ask(user, &Method::GET, uri, std::mem::take(&mut headers), b"").await;
                    }
                }
                route => {
                    let Some((method, path, content_type)) = ROUTES.get(usize::from(route)) else { continue };
                    let mut headers = std::mem::take(&mut headers);
                    headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static(content_type));
                    let body = room.resolve(content);
                    let uri = room.uri(path);
                    let (status, _, location) = room.ask(user, method, uri, headers, &body).await;
                    if user.is_none() {
                        assert!(status.is_client_error(), "{method} {path} without a token: {status}");
                    }
                    if let Some((_, session)) = location.as_deref().and_then(|path| path.rsplit_once('/')) {
                        room.name("$session", session.to_owned());
                    }
                }
            }
        }
        let uri = room.uri("/api/rooms/demo");
        let (status, body, _) = room.ask(Some("root"), &Method::GET, uri, HeaderMap::new(), b"").await;
        assert_eq!(status, StatusCode::OK, "the room is gone");
        let view: Value = serde_json::from_slice(&body).expect("a room is described in JSON");
        assert!(view["participants"].is_array() && view["producers"].is_array());
        NODE.directory.retain(HashSet::new(), Reason::Moved).await.expect("the rooms' task runs");
    });
}

fn read_headers(content: &[u8]) -> HeaderMap {
    let lines = content.split(|byte| *byte == b'\n').filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        Some((HeaderName::from_bytes(&line[..colon]).ok()?, value))
    });
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(name, value);
    }
    headers
}

/// A room of two people, one of whom publishes sound, pictures and data that the other consumes.
struct Room {
    /// By name; none is the beginning of another.
    ids: Vec<(&'static str, String)>,
}

impl Room {
    async fn open() -> Self {
        let mut room = Self { ids: vec![("$session", "none".into())] };
        room.make("root", "/create", json!({"maxParticipants": 9})).await;
        let created = room.make("ann", "/transports", json!({"direction": "send", "enableSctp": true})).await;
        room.name("$send", created);
        let created = room.make("bob", "/transports", json!({"direction": "recv", "enableSctp": true})).await;
        room.name("$recv", created);
        let [opus, vp8] = [
            json!({"kind": "audio", "mimeType": "audio/opus", "clockRate": 48000, "channels": 2}),
            json!({"kind": "video", "mimeType": "video/VP8", "clockRate": 90000}),
        ];
        for (name, consumed, mut codec, encodings) in [
            ("$audio", "$heard", opus, json!([{"ssrc": 1}])),
            ("$video", "$watched", vp8, json!([{"ssrc": 2}, {"ssrc": 3}])),
        ] {
            let kind = codec["kind"].clone();
            let known = json!({"codecs": [&codec]});
            codec["payloadType"] = 100.into();
            let parameters = json!({"mid": name, "codecs": [codec], "encodings": encodings});
            let body = json!({"kind": kind, "rtpParameters": parameters});
            let produced = room.make("ann", "/transports/$send/produce", body).await;
            let body = json!({"transportId": room.id("$recv"), "producerId": produced, "rtpCapabilities": known});
            room.name(name, produced);
            let id = room.make("bob", "/consume", body).await;
            room.name(consumed, id);
        }
        let body = json!({"sctpStreamParameters": {"streamId": 0, "ordered": true}, "label": "chat"});
        let chat = room.make("ann", "/transports/$send/produce-data", body).await;
        let body = json!({"transportId": room.id("$recv"), "dataProducerId": chat});
        room.name("$chat", chat);
        let read = room.make("bob", "/consume-data", body).await;
        room.name("$read", read);
        room
    }

    fn name(&mut self, name: &'static str, id: String) {
        self.ids.retain(|(known, _)| *known != name);
        self.ids.push((name, id));
    }

    fn id(&self, name: &str) -> &str {
        self.ids.iter().find(|(known, _)| *known == name).map_or("", |(_, id)| id)
    }

    /// Ids in the place of their names; what is no text stays as it is.
    fn resolve(&self, content: &[u8]) -> Vec<u8> {
        let Ok(text) = std::str::from_utf8(content) else { return content.to_vec() };
        self.ids.iter().fold(text.to_owned(), |text, (name, id)| text.replace(name, id)).into_bytes()
    }

    fn uri(&self, path: &str) -> Uri {
        Uri::try_from(self.resolve(path.as_bytes())).expect("ids are fit for paths")
    }

    /// What cannot fail; the id of what came of it.
    async fn make(&self, user: &str, path: &str, body: Value) -> String {
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(JSON))]);
        let uri = self.uri(&format!("/api/rooms/demo{path}"));
        let (status, answer, _) = self.ask(Some(user), &Method::POST, uri, headers, body.to_string().as_bytes()).await;
        assert_eq!(status, StatusCode::CREATED, "{path}: {}", String::from_utf8_lossy(&answer));
        let created: Value = serde_json::from_slice(&answer).expect("it is JSON");
        created["id"].as_str().expect("it has an id").to_owned()
    }

    /// A request and its answer: status, body, and where a new session is.
    async fn ask(
        &self,
        user: Option<&str>,
        method: &Method,
        uri: Uri,
        mut headers: HeaderMap,
        body: &[u8],
    ) -> (StatusCode, Bytes, Option<String>) {
        if let Some((_, bearer)) = NODE.tokens.iter().find(|(name, _)| Some(*name) == user) {
            headers.insert(header::AUTHORIZATION, bearer.clone());
        }
        let mut request = Request::new(Body::from(body.to_vec()));
        (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (method.clone(), uri, headers);
        request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([192, 0, 2, 1], 9))));
        let Ok(response) = NODE.router.clone().oneshot(request).await;
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, MAX_ANSWER).await.expect("answers are whole and not long");
        let status = parts.status;
        assert!(!status.is_server_error(), "{status}: {}", String::from_utf8_lossy(&body));
        if status.is_client_error() {
            let content_type = parts.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
            assert_eq!(content_type, Some(&b"application/problem+json"[..]), "{status}");
            let problem: Value = serde_json::from_slice(&body).expect("a problem is JSON");
            assert_eq!(problem["status"], status.as_u16());
            assert!(problem["code"].is_string() && problem["detail"].is_string());
        }
        let location = parts.headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
        (status, body, location.map(str::to_owned))
    }
}

/// The API of a node without Kubernetes whose media loops do what they are told and know nothing.
struct Node {
    runtime: Runtime,
    router: Router,
    directory: Directory,
    tokens: [(&'static str, HeaderValue); 3],
}

impl Node {
    fn start() -> Self {
        let runtime = Builder::new_current_thread().enable_time().build().expect("it needs nothing");
        let (orders, mut given) = mpsc::channel(QUEUE);
        runtime.spawn(async move {
            while let Some((_, order)) = given.recv().await {
                match order {
                    MediaOrder::Command(_) => (),
                    MediaOrder::Ask(_, answer) => drop(answer.send(None)),
                    MediaOrder::Confirm(done) => drop(done.send(())),
                }
            }
        });
        let (events, news) = mpsc::channel(1);
        let settings = Settings {
            ice_tcp: true,
            standalone: true,
            grace: Duration::from_secs(30),
            candidates: vec![vec![SocketAddr::from(([192, 0, 2, 2], 40_000))]],
            fingerprint: Fingerprint { algorithm: "sha-256".into(), digest: vec![0xAB; 32] },
        };
        let next_worker = Box::new(move || {
            // The loops have no news. Rooms end once nobody could have any, so the sender is kept here.
            let _kept = &events;
            0
        });
        let media = Media { orders, events: news, next_worker };
        let (directory, _) = runtime.block_on(async { Directory::start(settings, StdRng::seed_from_u64(1), media) });
        let unlimited = Rate { per_second: 0.0, burst: 0.0 };
        let router = api::router(Arc::new(Api {
            directory: directory.clone(),
            verifier: TRUSTED.verifier.clone(),
            standalone: true,
            limits: Limits::new(unlimited, unlimited, Vec::new()),
            metrics: Arc::new(Metrics::new(Sources::default())),
            cors_origins: vec!["https://example.org".into()],
            ice_servers: IceServers::default(),
            event_timeouts: EventTimeouts::default(),
        }));
        let tokens = [("ann", "participant"), ("bob", "participant"), ("root", "admin")].map(|(user, role)| {
            let now = system::timestamp().as_second();
            let token = TRUSTED.sign(&json!({
                "iss": "callplane", "aud": "callplane-media", "sub": user, "roomId": "demo", "epoch": 1, "role": role,
                "iat": now, "exp": now + LIFETIME,
            }));
            (user, HeaderValue::try_from(format!("Bearer {token}")).expect("a token is ASCII"))
        });
        Self { runtime, router, directory, tokens }
    }
}
