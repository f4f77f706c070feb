//! An API server in memory: CallRooms, MediaNodes and Secrets with lists, pages, watches, creates and merge patches. It can be
//! told to be away.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, patch},
};
use futures::stream;
use serde_json::{Value, json};
use tokio::sync::watch;

type Key = (String, String, String);
type Event = (String, &'static str, Value);
type Parameters = BTreeMap<String, String>;

#[derive(Default)]
struct Store {
    objects: BTreeMap<Key, Value>,
    history: Vec<Event>,
    /// Answers to the next writes, instead of carrying them out.
    refusals: Vec<Value>,
    /// How long the answer to a change takes after it was made.
    late: Duration,
    requests: Vec<String>,
}

/// The server. Clones are the same.
#[derive(Clone)]
pub struct Kubernetes {
    store: Arc<Mutex<Store>>,
    up: Arc<watch::Sender<bool>>,
    version: Arc<watch::Sender<usize>>,
}

impl Kubernetes {
    pub async fn start() -> (Self, kube::Config) {
        let server = Self {
            store: Arc::default(),
            up: Arc::new(watch::Sender::new(true)),
            version: Arc::new(watch::Sender::new(0)),
        };
        let of = "/apis/callplane.io/v1alpha1";
        let routes = Router::new()
            .route(&format!("{of}/callrooms"), get(list_all))
            .route(&format!("{of}/namespaces/{{namespace}}/{{plural}}"), get(list).post(create))
            .route(&format!("{of}/namespaces/{{namespace}}/{{plural}}/{{name}}"), get(read).patch(merge))
            .route("/api/v1/namespaces/{namespace}/{plural}", get(list).post(create))
            .route("/api/v1/namespaces/{namespace}/{plural}/{name}", get(read))
            .route(&format!("{of}/namespaces/{{namespace}}/{{plural}}/{{name}}/status"), patch(apply))
            .with_state(server.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = kube::Config::new(format!("http://{}", listener.local_addr().unwrap()).parse().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        (server, config)
    }

    /// From now on it answers, or does not.
    pub fn is_up(&self, up: bool) {
        self.up.send_replace(up);
    }

    /// Changes are answered so long after all others hear of them.
    pub fn answers_late(&self, by: Duration) {
        self.store.lock().unwrap().late = by;
    }

    /// The next write is answered with this Status.
    pub fn refuse(&self, status: Value) {
        self.store.lock().unwrap().refusals.push(status);
    }

    /// How many requests began with `what`, such as `POST callrooms`.
    pub fn count(&self, what: &str) -> usize {
        self.store.lock().unwrap().requests.iter().filter(|request| request.starts_with(what)).count()
    }

    pub fn object(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
        self.store.lock().unwrap().objects.get(&key).cloned()
    }

    /// Everything of a kind, as text.
    pub fn dump(&self) -> String {
        let store = self.store.lock().unwrap();
        store.objects.values().map(Value::to_string).collect()
    }

    /// Everything but what is in Secrets, as text.
    pub fn dump_without_secrets(&self) -> String {
        let store = self.store.lock().unwrap();
        let others = store.objects.iter().filter(|((plural, ..), _)| plural != "secrets");
        others.map(|(_, object)| object.to_string()).collect()
    }

    /// Writes an object, as kubectl would.
    pub fn put(&self, plural: &str, namespace: &str, name: &str, mut object: Value) -> Value {
        let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
        let mut store = self.store.lock().unwrap();
        let version = store.history.len() + 1;
        let before = store.objects.get(&key);
        let uid = before.map_or(json!(format!("uid-{version}")), |o| o["metadata"]["uid"].clone());
        let kind = if before.is_some() { "MODIFIED" } else { "ADDED" };
        let (version_of, kind_of) = match plural {
            "callrooms" => ("callplane.io/v1alpha1", "CallRoom"),
            "medianodes" => ("callplane.io/v1alpha1", "MediaNode"),
            _ => ("v1", "Secret"),
        };
        object["apiVersion"] = json!(version_of);
        object["kind"] = json!(kind_of);
        let metadata = &mut object["metadata"];
        metadata["name"] = json!(name);
        metadata["namespace"] = json!(namespace);
        metadata["resourceVersion"] = json!(version.to_string());
        if metadata["creationTimestamp"].is_null() {
            metadata["creationTimestamp"] = json!("2026-11-21T14:00:00Z");
        }
        metadata["uid"] = uid;
        store.objects.insert(key, object.clone());
        store.history.push((plural.to_owned(), kind, object.clone()));
        drop(store);
        self.version.send_replace(version);
        object
    }

    pub fn delete(&self, plural: &str, namespace: &str, name: &str) {
        let mut store = self.store.lock().unwrap();
        let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
        let mut object = store.objects.remove(&key).unwrap();
        let version = store.history.len() + 1;
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        store.history.push((plural.to_owned(), "DELETED", object));
        drop(store);
        self.version.send_replace(version);
    }

    /// A room as kubectl makes it.
    pub fn room(&self, namespace: &str, name: &str) {
        let spec = json!({"maxParticipants": 4, "lifetime": {}, "ended": false});
        self.put("callrooms", namespace, name, json!({"metadata": {}, "spec": spec}));
    }

    /// Writes a room's status, as the operator does.
    pub fn status(&self, namespace: &str, name: &str, status: Value) {
        let mut room = self.object("callrooms", namespace, name).unwrap();
        room["status"] = status;
        self.put("callrooms", namespace, name, room);
    }

    /// Gives a room a route, as the operator does.
    pub fn place(&self, namespace: &str, name: &str, node: &str, epoch: i64) {
        self.status(namespace, name, json!({"phase": "Ready", "route": route(node, epoch)}));
    }

    /// Gives a room a route, and the one before it where that goes on, and leaves the rest of its status.
    pub fn route(&self, namespace: &str, name: &str, route: Value, previous: Option<Value>) {
        let mut room = self.object("callrooms", namespace, name).unwrap();
        room["status"]["phase"] = json!("Ready");
        room["status"]["route"] = route;
        match previous {
            Some(previous) => room["status"]["previousRoute"] = previous,
            None => drop(room["status"].as_object_mut().unwrap().remove("previousRoute")),
        }
        self.put("callrooms", namespace, name, room);
    }

    /// What the gateway wrote about who is in a room.
    pub fn presence(&self, namespace: &str, name: &str) -> Value {
        self.object("callrooms", namespace, name).unwrap()["status"]["presence"].clone()
    }

    /// A media node whose API is at `api`.
    pub fn node(&self, name: &str, api: &str) {
        let status = json!({"endpoints": {"api": api, "admin": "http://127.0.0.1:1"}});
        self.put(
            "medianodes",
            "callplane-system",
            name,
            json!({"metadata": {}, "spec": {"pool": "p"}, "status": status}),
        );
    }
}

pub fn route(node: &str, epoch: i64) -> Value {
    json!({"epoch": epoch, "mode": "SFU", "node": node, "reason": "Placed", "since": "2026-11-21T14:00:00Z"})
}

/// A peer-to-peer route.
pub fn p2p(epoch: i64, reason: &str) -> Value {
    json!({"epoch": epoch, "mode": "P2P", "reason": reason, "since": "2026-11-21T14:00:00Z"})
}

/// A Status that says no.
pub fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code, "reason": reason, "message": message})
}

fn answer(status: Value) -> Response {
    let code = StatusCode::from_u16(u16::try_from(status["code"].as_u64().unwrap()).unwrap()).unwrap();
    (code, Json(status)).into_response()
}

impl Kubernetes {
    /// Takes the request down, and says so if nobody is there.
    fn begin(&self, request: String) -> Option<Response> {
        self.store.lock().unwrap().requests.push(request);
        (!*self.up.borrow()).then(|| answer(status(503, "ServiceUnavailable", "away")))
    }

    fn refusal(&self) -> Option<Response> {
        self.store.lock().unwrap().refusals.pop().map(answer)
    }

    fn list(&self, namespace: Option<&str>, plural: String, query: &Parameters) -> Response {
        if let Some(away) = self.begin(format!("GET {plural}")) {
            return away;
        }
        if query.contains_key("watch") {
            return self.watch(plural, query["resourceVersion"].parse().unwrap());
        }
        let store = self.store.lock().unwrap();
        let of = |(kind, inside, _): &Key| *kind == plural && namespace.is_none_or(|n| n == inside);
        let all: Vec<_> = store.objects.iter().filter(|(key, _)| of(key)).map(|(_, object)| object.clone()).collect();
        let from: usize = query.get("continue").map_or(Ok(0), |from| from.parse()).unwrap_or(usize::MAX);
        if from == usize::MAX {
            return answer(status(400, "BadRequest", "continue key is not valid"));
        }
        let limit = query.get("limit").map_or(usize::MAX, |limit| limit.parse().unwrap());
        let page: Vec<_> = all.iter().skip(from).take(limit).cloned().collect();
        let next = if from + page.len() < all.len() { (from + page.len()).to_string() } else { String::new() };
        let metadata = json!({"resourceVersion": store.history.len().to_string(), "continue": next});
        Json(json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": page})).into_response()
    }

    fn watch(&self, plural: String, from: usize) -> Response {
        let state = (self.clone(), self.version.subscribe(), self.up.subscribe(), from);
        let events = stream::unfold(state, move |(server, mut versions, mut up, mut from)| {
            let plural = plural.clone();
            async move {
                loop {
                    versions.borrow_and_update();
                    if !*up.borrow_and_update() {
                        return None;
                    }
                    let next = server.store.lock().unwrap().history.get(from).cloned();
                    if let Some((of, kind, object)) = next {
                        from += 1;
                        if of == plural {
                            let line = Bytes::from(format!("{}\n", json!({"type": kind, "object": object})));
                            return Some((Ok::<_, std::io::Error>(line), (server, versions, up, from)));
                        }
                        continue;
                    }
                    tokio::select! {
                        changed = versions.changed() => changed.ok()?,
                        changed = up.changed() => changed.ok()?,
                    }
                }
            }
        });
        Body::from_stream(events).into_response()
    }
}

async fn list_all(State(server): State<Kubernetes>, Query(query): Query<Parameters>) -> Response {
    server.list(None, "callrooms".to_owned(), &query)
}

async fn list(
    State(server): State<Kubernetes>,
    Path((namespace, plural)): Path<(String, String)>,
    Query(query): Query<Parameters>,
) -> Response {
    server.list(Some(&namespace), plural, &query)
}

async fn read(
    State(server): State<Kubernetes>,
    Path((namespace, plural, name)): Path<(String, String, String)>,
) -> Response {
    if let Some(away) = server.begin(format!("GET {plural}/{name}")) {
        return away;
    }
    match server.object(&plural, &namespace, &name) {
        Some(object) => Json(object).into_response(),
        None => answer(status(404, "NotFound", "not found")),
    }
}

async fn create(
    State(server): State<Kubernetes>,
    Path((namespace, plural)): Path<(String, String)>,
    Json(object): Json<Value>,
) -> Response {
    if let Some(refusal) = server.begin(format!("POST {plural}")).or_else(|| server.refusal()) {
        return refusal;
    }
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    match server.object(&plural, &namespace, &name) {
        Some(_) => answer(status(409, "AlreadyExists", "already exists")),
        None => (StatusCode::CREATED, Json(server.put(&plural, &namespace, &name, object))).into_response(),
    }
}

async fn merge(
    State(server): State<Kubernetes>,
    Path((namespace, plural, name)): Path<(String, String, String)>,
    Json(patch): Json<Value>,
) -> Response {
    if let Some(refusal) = server.begin(format!("PATCH {plural}/{name}")).or_else(|| server.refusal()) {
        return refusal;
    }
    let Some(mut object) = server.object(&plural, &namespace, &name) else {
        return answer(status(404, "NotFound", "not found"));
    };
    let version = &patch["metadata"]["resourceVersion"];
    if !version.is_null() && *version != object["metadata"]["resourceVersion"] {
        return answer(status(409, "Conflict", "changed"));
    }
    merged(&mut object, &patch);
    let merged = server.put(&plural, &namespace, &name, object);
    let late = server.store.lock().unwrap().late;
    tokio::time::sleep(late).await;
    Json(merged).into_response()
}

/// Server-side apply to the status, as far as one field manager with one field needs it.
async fn apply(
    State(server): State<Kubernetes>,
    Path((namespace, plural, name)): Path<(String, String, String)>,
    Query(query): Query<Parameters>,
    body: Bytes,
) -> Response {
    // JSON, too, is YAML.
    let wanted: Value = serde_json::from_slice(&body).unwrap();
    if let Some(refusal) = server.begin(format!("APPLY {plural}/{name}")).or_else(|| server.refusal()) {
        return refusal;
    }
    let Some(mut object) = server.object(&plural, &namespace, &name) else {
        return answer(status(404, "NotFound", "not found"));
    };
    assert_eq!(query["fieldManager"], "callplane-gateway");
    if wanted["metadata"]["uid"] != object["metadata"]["uid"] {
        return answer(status(409, "Conflict", "uid"));
    }
    assert_eq!(wanted["status"].as_object().unwrap().keys().collect::<Vec<_>>(), ["presence"]);
    object["status"]["presence"] = wanted["status"]["presence"].clone();
    Json(server.put(&plural, &namespace, &name, object)).into_response()
}

/// RFC 7396.
fn merged(object: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (name, value) in fields {
        match value {
            Value::Null => drop(object.as_object_mut().unwrap().remove(name)),
            value => merged(&mut object[name], value),
        }
    }
}
