//! A server on loopback whose media loops are played by the test.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use callplane_media_node::{
    api::{self, Api, EventTimeouts, IceServers, Limits, Network, Rate},
    auth::{Claims, Verifier, mint::Signer},
    core::{
        Answer, Question,
        command::{Command, Event, Fingerprint},
    },
    metrics::{Metrics, Sources},
    rooms::{Assignment, Directory, Media, MediaOrder, MediaRules, Role, RoomKey, Settings},
    system,
};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc};

/// A call id of Kubernetes.
pub const CALL: &str = "default.demo";
/// The UID of its CallRoom.
pub const ROOM_UID: &str = "uid";

pub struct Options {
    pub standalone: bool,
    pub subject: Rate,
    pub address: Rate,
    pub trusted_proxies: Vec<Network>,
    pub cors_origins: Vec<String>,
    pub ice_servers: IceServers,
    pub event_timeouts: EventTimeouts,
    /// Bytes that the system holds for a client that does not read, about.
    pub send_buffer: Option<u32>,
}

impl Default for Options {
    fn default() -> Self {
        let none = Rate { per_second: 0.0, burst: 0.0 };
        Self {
            standalone: false,
            subject: none,
            address: none,
            trusted_proxies: vec![],
            cors_origins: vec![],
            ice_servers: IceServers::default(),
            event_timeouts: EventTimeouts::default(),
            send_buffer: None,
        }
    }
}

pub struct Server {
    pub address: SocketAddr,
    pub directory: Directory,
    pub signer: Signer,
    media: Mutex<mpsc::Receiver<(usize, MediaOrder)>>,
    pub events: mpsc::Sender<Event>,
    pub metrics: Arc<Metrics>,
    pub keys: PathBuf,
    client: reqwest::Client,
}

impl Server {
    /// Serving no room.
    pub async fn start(options: Options) -> Self {
        let (signer, _) = Signer::generate().unwrap();
        let keys = scratch().join("jwks.json");
        std::fs::write(&keys, signer.jwks()).unwrap();
        let settings = Settings {
            ice_tcp: false,
            standalone: options.standalone,
            grace: Duration::from_secs(30),
            candidates: vec![vec!["127.0.0.1:40000".parse().unwrap()]],
            fingerprint: Fingerprint { algorithm: "sha-256".into(), digest: vec![0xAB; 32] },
        };
        let (orders, mut given) = mpsc::channel(1024);
        let (forward, inbox) = mpsc::channel(1024);
        tokio::spawn(async move {
            while let Some((worker, order)) = given.recv().await {
                match order {
                    MediaOrder::Confirm(done) => drop(done.send(())),
                    // When the server is gone nobody reads on.
                    order => drop(forward.send((worker, order)).await),
                }
            }
        });
        let (events, news) = mpsc::channel(64);
        let media = Media { orders, events: news, next_worker: Box::new(|| 0) };
        let (directory, _) = Directory::start(settings, system::generator(), media);
        let metrics = Arc::new(Metrics::new(Sources::default()));
        let router = api::router(Arc::new(Api {
            directory: directory.clone(),
            verifier: Verifier::new(keys.clone(), Duration::from_secs(3600)).unwrap(),
            standalone: options.standalone,
            limits: Limits::new(options.subject, options.address, options.trusted_proxies),
            metrics: metrics.clone(),
            cors_origins: options.cors_origins,
            ice_servers: options.ice_servers,
            event_timeouts: options.event_timeouts,
        }));
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        if let Some(bytes) = options.send_buffer {
            socket.set_send_buffer_size(bytes).unwrap();
        }
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1024).unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(api::serve(listener, router, std::future::pending()));
        Self {
            address,
            directory,
            signer,
            media: Mutex::new(inbox),
            events,
            metrics,
            keys,
            client: reqwest::Client::new(),
        }
    }

    /// Serving `default.demo` at epoch 3 for three participants.
    pub async fn with_room() -> Self {
        Self::with_room_and(Options::default()).await
    }

    /// As [`Self::with_room`].
    pub async fn with_room_and(options: Options) -> Self {
        let server = Self::start(options).await;
        server.assign(3).await;
        server
    }

    pub async fn assign(&self, epoch: i64) {
        let key = RoomKey::of_call_room(CALL).unwrap();
        self.directory
            .serve(Assignment { key, uid: ROOM_UID.into(), epoch, max_participants: 3, rules: MediaRules::default() })
            .await
            .unwrap();
    }

    pub fn token(&self, user: &str) -> String {
        self.signer.token(&claims(user)).unwrap()
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.address))
    }

    /// A request to a path below the room.
    pub fn room(&self, user: &str, method: Method, path: &str) -> RequestBuilder {
        self.request(method, &format!("/api/rooms/{CALL}{path}")).bearer_auth(self.token(user))
    }

    pub async fn post(&self, user: &str, path: &str, body: Value) -> (StatusCode, Value) {
        answer(self.room(user, Method::POST, path).json(&body)).await
    }

    pub async fn get(&self, user: &str) -> (StatusCode, Value) {
        answer(self.room(user, Method::GET, "")).await
    }

    pub async fn delete(&self, user: &str, path: &str) -> (StatusCode, Value) {
        answer(self.room(user, Method::DELETE, path)).await
    }

    /// A new transport's id.
    pub async fn transport(&self, user: &str, direction: &str) -> String {
        let (status, body) = self.post(user, "/transports", json!({"direction": direction})).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
        body["id"].as_str().unwrap().to_owned()
    }

    /// The orders since the last look. They are given before a request is answered.
    pub fn orders(&self) -> Vec<Command> {
        let mut media = self.media.try_lock().unwrap();
        let orders = std::iter::from_fn(|| media.try_recv().ok());
        let command = |(_, order)| match order {
            MediaOrder::Command(command) => Some(command),
            MediaOrder::Ask(..) | MediaOrder::Confirm(_) => None,
        };
        orders.filter_map(command).collect()
    }

    /// Reads statistics; `reply` is what the media loop says to the question, if it is asked one.
    pub async fn stats(
        &self,
        user: &str,
        path: &str,
        reply: impl FnOnce(Question) -> Option<Answer>,
    ) -> (StatusCode, Value) {
        self.asking(self.room(user, Method::GET, &format!("{path}/stats")), reply).await
    }

    /// As [`Self::stats`], for any request.
    pub async fn asking(
        &self,
        request: RequestBuilder,
        reply: impl FnOnce(Question) -> Option<Answer>,
    ) -> (StatusCode, Value) {
        let mut media = self.media.lock().await;
        let mut reply = Some(reply);
        let request = answer(request);
        tokio::pin!(request);
        loop {
            tokio::select! {
                answered = &mut request => return answered,
                Some((_, order)) = media.recv() => if let (MediaOrder::Ask(question, to), Some(reply)) = (order, reply.take()) {
                    to.send(reply(question)).unwrap();
                },
            }
        }
    }
}

pub fn claims(user: &str) -> Claims {
    let now = system::timestamp().as_second();
    Claims {
        sub: user.into(),
        room_id: CALL.into(),
        room_uid: Some(ROOM_UID.into()),
        epoch: 3,
        role: Role::Participant,
        grants: None,
        name: None,
        exp: now + 60,
        iat: now,
        nbf: None,
    }
}

pub async fn answer(request: RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.unwrap();
    let (status, is_problem) =
        (response.status(), response.headers().get("content-type").is_some_and(|t| t == "application/problem+json"));
    assert_eq!(is_problem, status.is_client_error() || status.is_server_error(), "{status}");
    let body = response.bytes().await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

/// What was recorded between mediasoup-client and mediasoup.
pub fn capture(name: &str) -> Value {
    let path = format!("tests/captures/{name}.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A directory of this test's own.
pub fn scratch() -> PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("callplane-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let path = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&path).unwrap();
    path
}
