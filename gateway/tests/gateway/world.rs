//! A gateway with an API server and media nodes of the tests' own.

use std::{fs, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use axum::{
    Router,
    body::Bytes,
    extract::{Request, State, WebSocketUpgrade, ws::Message},
    http::{HeaderMap, HeaderValue, Method, StatusCode},
    response::{IntoResponse, Response},
    routing::{any, get},
};
use callplane_gateway::{
    Gateway, Parts,
    access::{ApiKeys, Issuer, Oidc, Passwords, Signer},
    cluster::{self, Kube, Secrets},
    http,
    ice::TurnServers,
    limits::{Limits, Rate},
    metrics::Metrics,
    proxy::Forwarder,
    records::{Records, Source},
    signal::{Signal, store::Store},
};
use callplane_operator::{
    api::{request_client, watch_client},
    clock::Clock,
    keys::{JoinKey, PRIVATE, Public},
};
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::kubernetes::Kubernetes;

/// Socket.IO sockets that a replica takes.
pub const MAX_SOCKETS: usize = 40;

/// The API key of the backend called `shop`.
pub const API_KEY: &str = "0123456789abcdef0123456789abcdef";

pub struct World {
    pub kubernetes: Kubernetes,
    pub gateway: Gateway,
    pub signal: Signal,
    pub url: String,
    pub address: SocketAddr,
    pub closing: CancellationToken,
    client: reqwest::Client,
    directory: PathBuf,
    _tasks: JoinSet<()>,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Answer {
    /// The stable code of a problem, which has the right content type.
    pub fn code(&self) -> &str {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{self:?}");
        assert_eq!(self.body["status"], self.status, "{self:?}");
        self.body["code"].as_str().unwrap()
    }

    pub fn text(&self, field: &str) -> String {
        self.body[field].as_str().unwrap_or_else(|| panic!("{field} of {self:?}")).to_owned()
    }
}

/// As the gateway is given API keys.
pub fn sha256(text: &str) -> String {
    digest(&SHA256, text.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Requests per second and at once.
pub fn rate(per_second: u32, burst: u32) -> Rate {
    Rate { per_second: per_second.try_into().unwrap(), burst: burst.try_into().unwrap() }
}

/// What a gateway is like.
pub struct Setup {
    pub per_caller: Rate,
    pub per_address: Rate,
    pub records: Option<Source>,
    pub issuer: Option<Issuer>,
}

impl Default for Setup {
    fn default() -> Self {
        Self { per_caller: rate(1000, 1000), per_address: rate(1000, 1000), records: None, issuer: None }
    }
}

impl World {
    pub async fn new() -> Self {
        Self::of(Setup::default()).await
    }

    pub async fn with(per_caller: Rate, per_address: Rate) -> Self {
        Self::of(Setup { per_caller, per_address, ..Setup::default() }).await
    }

    /// With records in a database.
    pub async fn with_records(source: Source) -> Self {
        Self::of(Setup { records: Some(source), ..Setup::default() }).await
    }

    pub async fn of(setup: Setup) -> Self {
        let (kubernetes, config) = Kubernetes::start().await;
        let join_key = JoinKey::generate().unwrap().pem;
        Self::replica(setup, (kubernetes, config), &join_key, |_| Store::Local).await
    }

    /// One replica of a gateway, by an API server and with a join key that it may share with others.
    pub async fn replica(
        setup: Setup,
        (kubernetes, config): (Kubernetes, kube::Config),
        join_key: &str,
        store: impl FnOnce(&Metrics) -> Store,
    ) -> Self {
        let client = request_client(&config).unwrap();
        let (watches, secrets) = (watch_client(&config).unwrap(), client.clone());
        let mut name = [0; 8];
        aws_lc_rs::rand::fill(&mut name).unwrap();
        let directory = std::env::temp_dir().join(format!("callplane-gateway-{:016x}", u64::from_be_bytes(name)));
        fs::create_dir_all(directory.join("keys")).unwrap();
        fs::create_dir_all(directory.join("turn")).unwrap();
        fs::write(directory.join("turn/secret"), "0123456789abcdef0123456789abcdef").unwrap();
        fs::write(directory.join("turn/urls"), "turn:turn.example:3478?transport=udp\n").unwrap();
        fs::write(directory.join(PRIVATE), join_key).unwrap();
        fs::write(directory.join("keys/shop"), sha256(API_KEY)).unwrap();

        let (clock, metrics, closing) = (Clock::start(), Metrics::default(), CancellationToken::new());
        let mut tasks = JoinSet::new();
        let records = setup.records.map(|source| Records::new(source, metrics.clone(), &mut tasks).unwrap());
        let records = records.unwrap_or_else(Records::off);
        let store = store(&metrics);
        let gateway = Gateway::new(Parts {
            cache: cluster::start(&watches, "callplane-system", None, &metrics, &mut tasks),
            kube: Kube::new(client, "team".into(), None),
            signer: Signer::new(directory.clone()),
            turn: TurnServers::new(directory.join("turn"), vec![]),
            api_keys: ApiKeys::new(directory.join("keys")).unwrap(),
            oidc: setup.issuer.map(|issuer| Oidc::new(issuer).unwrap()),
            passwords: Passwords::new(Secrets::new(secrets, "callplane-system")),
            records: records.clone(),
            limits: Limits::new(setup.per_caller, setup.per_address, vec![]),
            forwarder: Forwarder::new(2, closing.clone(), metrics.clone()),
            metrics,
            clock,
            public_url: "https://calls.example".into(),
            ready_timeout: Duration::from_millis(400),
            token_ttl: Duration::from_secs(600),
        });
        tasks.spawn(records.follow(gateway.clone()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let origins = [HeaderValue::from_static("https://app.example")];
        let signal = Signal::new(gateway.clone(), store, MAX_SOCKETS);
        tasks.spawn(signal.clone().follow());
        let app = http::router(gateway.clone(), &signal, &origins).into_make_service_with_connect_info::<SocketAddr>();
        tasks.spawn(async move { axum::serve(listener, app).await.unwrap() });
        let world = Self {
            kubernetes,
            signal,
            gateway,
            url: format!("http://{address}"),
            address,
            closing,
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
            directory,
            _tasks: tasks,
        };
        world.until(|| world.gateway.cache.is_complete()).await;
        world
    }

    /// Mounts these keys, and lets the gateway read them.
    pub fn mount_keys(&self, signs: &JoinKey, public: &Public) {
        fs::write(self.directory.join(PRIVATE), &signs.pem).unwrap();
        for (name, text) in public.data() {
            fs::write(self.directory.join(name), text.0).unwrap();
        }
        self.gateway.signer.reload();
    }

    /// Waits until `is`; what it waits for comes by a watch.
    pub async fn until(&self, is: impl Fn() -> bool) {
        let wait = async {
            while !is() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("what was waited for came");
    }

    /// Waits until the gateway knows the room as the API server has it.
    pub async fn knows(&self, namespace: &str, name: &str) {
        let version =
            self.kubernetes.object("callrooms", namespace, name).unwrap()["metadata"]["resourceVersion"].clone();
        let id = callplane_crds::CallId::new(namespace, name);
        let known = || self.gateway.cache.room(&id).and_then(|room| room.metadata.resource_version.clone());
        self.until(|| known().is_some_and(|known| version == known)).await;
    }

    /// A room that is placed on a new media node, and known.
    pub async fn placed(&self, namespace: &str, name: &str) -> Node {
        let node = Node::start().await;
        self.kubernetes.node("mn-a", &node.url);
        self.kubernetes.room(namespace, name);
        self.kubernetes.place(namespace, name, "mn-a", 1);
        self.knows(namespace, name).await;
        self.until(|| {
            self.gateway.cache.node_api("mn-a").is_ok_and(|api| node.url == api.to_string().trim_end_matches('/'))
        })
        .await;
        node
    }

    pub fn request(&self, method: &str, path: &str) -> RequestBuilder {
        self.client.request(method.parse().unwrap(), format!("{}{path}", self.url))
    }

    /// As `bearer`, with a JSON body.
    pub async fn send(&self, method: &str, path: &str, bearer: &str, body: Value) -> Answer {
        answer_to(self.request(method, path), bearer, body).await
    }

    /// As the backend `shop`.
    pub async fn backend(&self, method: &str, path: &str, body: Value) -> Answer {
        self.send(method, path, API_KEY, body).await
    }

    /// A join token for `user`.
    pub async fn token(&self, id: &str, user: &str, role: &str) -> String {
        let joined = self.backend("POST", &format!("/v1/rooms/{id}/join"), json!({"userId": user, "role": role})).await;
        assert_eq!(joined.status, 200, "{joined:?}");
        joined.text("token")
    }
}

pub async fn answer_to(mut request: RequestBuilder, bearer: &str, body: Value) -> Answer {
    if !bearer.is_empty() {
        request = request.bearer_auth(bearer);
    }
    if !body.is_null() {
        request = request.json(&body);
    }
    answer(request).await
}

pub async fn answer(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = response.bytes().await.unwrap();
    Answer { status, headers, body: serde_json::from_slice(&body).unwrap_or(Value::Null) }
}

/// What a media node was asked.
#[derive(Debug)]
pub struct Asked {
    pub line: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// A media node that remembers what it was asked, answers `/problem` with a problem of its own, never answers
/// `/silence`, has one session of WHIP and WHEP, and echoes WebSockets.
pub struct Node {
    pub url: String,
    pub asked: mpsc::UnboundedReceiver<Asked>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Node {
    pub async fn start() -> Self {
        let (sender, asked) = mpsc::unbounded_channel();
        let routes = Router::new()
            .route("/api/rooms/{id}/events", get(echo))
            .fallback(any(remember))
            .with_state(Arc::new(sender));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { url, asked, server }
    }
}

async fn remember(State(sender): State<Arc<mpsc::UnboundedSender<Asked>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let line = format!("{} {}", parts.method, parts.uri);
    let Ok(body) = axum::body::to_bytes(body, 1 << 20).await else { return StatusCode::BAD_REQUEST.into_response() };
    let is_problem = line.contains("/problem");
    let of_session = of_session(&parts.method, parts.uri.path(), &parts.headers);
    sender.send(Asked { line: line.clone(), headers: parts.headers, body }).unwrap();
    if let Some(answer) = of_session {
        return answer;
    }
    if line.ends_with("/silence") {
        std::future::pending::<()>().await;
    }
    if is_problem {
        let body = r#"{"status":409,"code":"epoch-stale","tokenEpoch":1,"servedEpoch":2}"#;
        let headers = [("content-type", "application/problem+json"), ("retry-after", "7")];
        return (StatusCode::CONFLICT, headers, body).into_response();
    }
    let body = match line.starts_with("GET ") {
        true => r#"{"id":"of the node","routerRtpCapabilities":{"codecs":[]}}"#,
        false => r#"{"id":"of the node"}"#,
    };
    ([("access-control-allow-origin", "*"), ("content-type", "application/json")], body).into_response()
}

/// What a node says on the paths of WHIP and WHEP.
fn of_session(method: &Method, path: &str, headers: &HeaderMap) -> Option<Response> {
    let call = path.strip_prefix("/whip/").or_else(|| path.strip_prefix("/whep/"))?.split('/').next()?;
    if *method == Method::GET {
        return Some(StatusCode::NO_CONTENT.into_response());
    }
    let problem = |status: u16, code: &str| {
        let body = json!({"status": status, "code": code}).to_string();
        let headers = [("content-type", "application/problem+json"), ("www-authenticate", "Bearer")];
        (StatusCode::from_u16(status).unwrap(), headers, body).into_response()
    };
    let Some(bearer) = headers.get("authorization") else { return Some(problem(401, "token-missing")) };
    if claims(bearer.to_str().unwrap())["roomId"] != call {
        return Some(problem(403, "wrong-room"));
    }
    Some(match method.as_str() {
        "POST" => {
            let location = format!("{path}/s1");
            let mut answer =
                (StatusCode::CREATED, [("location", &*location), ("etag", "\"1\"")], "v=0").into_response();
            answer.headers_mut().insert("content-type", HeaderValue::from_static("application/sdp"));
            for link in ["<stun:one.example>; rel=\"ice-server\"", "<stun:two.example>; rel=\"ice-server\""] {
                answer.headers_mut().append("link", HeaderValue::from_static(link));
            }
            answer
        }
        "PATCH" if !headers.contains_key("if-match") => problem(428, "precondition-required"),
        "PATCH" => StatusCode::NO_CONTENT.into_response(),
        "DELETE" => StatusCode::OK.into_response(),
        _ => problem(405, "method-not-allowed"),
    })
}

/// What the token behind a scheme says.
fn claims(bearer: &str) -> Value {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let payload = URL_SAFE_NO_PAD.decode(bearer.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

/// Echoes what a client of the proxy sends; tells a client of events what happens, and ends.
async fn echo(headers: HeaderMap, upgrade: WebSocketUpgrade) -> Response {
    let bearer = headers.get("authorization").and_then(|value| value.to_str().ok()).map(str::to_owned);
    upgrade.protocols(["callplane.v1"]).on_upgrade(move |mut socket| async move {
        if let Some(bearer) = bearer.filter(|_| !headers.contains_key("x-forwarded-for")) {
            let who = claims(&bearer)["sub"].clone();
            for event in [
                json!({"type": "room", "data": {"bearer": who}}),
                json!({"type": "new-producer", "data": {"id": "p1"}}),
            ] {
                let _ = socket.send(Message::text(event.to_string())).await;
            }
            return;
        }
        while let Some(Ok(Message::Text(text))) = socket.recv().await {
            if text.as_str() == "bye" || socket.send(Message::Text(text)).await.is_err() {
                return;
            }
        }
    })
}
