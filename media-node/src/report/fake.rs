//! An API server in memory, for tests: get, list, watch with field selectors, create, replace with
//! versions, status by apply; it can be told to break.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
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
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::watch;

/// How the server behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// As it should.
    #[default]
    Up,
    /// Every request is refused with 503 and every watch is cut.
    Refusing,
    /// No request is answered and every watch is silent.
    Silent,
}

type Key = (String, String, String);

#[derive(Default)]
struct Store {
    objects: BTreeMap<Key, Value>,
    history: Vec<(Key, Option<Value>, Option<Value>)>,
    /// Events up to here are forgotten: a watch from before has to list again.
    compacted: u64,
    lists: usize,
}

/// The server. Clones are the same.
#[derive(Clone)]
pub struct Server {
    store: Arc<Mutex<Store>>,
    mode: Arc<watch::Sender<Mode>>,
    version: Arc<watch::Sender<u64>>,
}

impl Server {
    /// Listens on a port of its own.
    pub async fn start() -> (Self, Client) {
        let server = Self {
            store: Arc::default(),
            mode: Arc::new(watch::Sender::new(Mode::Up)),
            version: Arc::new(watch::Sender::new(1)),
        };
        let routes = Router::new()
            .route("/apis/{group}/v1alpha1/callrooms", get(list_rooms))
            .route("/apis/{group}/{version}/namespaces/{namespace}/{plural}", get(list).post(create))
            .route("/apis/{group}/{version}/namespaces/{namespace}/{plural}/{name}", get(read).put(replace))
            .route("/apis/{group}/{version}/namespaces/{namespace}/{plural}/{name}/status", patch(apply_status))
            .with_state(server.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let config = kube::Config::new(format!("http://{address}").parse().unwrap());
        (server, super::connection::client_of(config).unwrap())
    }

    /// From now on.
    pub fn behave(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Forgets the history.
    pub fn compact(&self) {
        self.store.lock().unwrap().compacted = *self.version.borrow();
    }

    /// How many lists of rooms were served.
    pub fn lists(&self) -> usize {
        self.store.lock().unwrap().lists
    }

    /// The object as it is.
    pub fn object(&self, plural: &str, name: &str) -> Option<Value> {
        self.store.lock().unwrap().objects.get(&key("team", plural, name)).cloned()
    }

    /// Writes or deletes an object.
    pub fn put(&self, plural: &str, name: &str, object: Option<Value>) -> Option<Value> {
        let key = key("team", plural, name);
        let mut store = self.store.lock().unwrap();
        let version = *self.version.borrow() + 1;
        let before = store.objects.remove(&key);
        let object = object.map(|mut object| {
            let metadata = &mut object["metadata"];
            metadata["name"] = json!(name);
            metadata["namespace"] = json!("team");
            metadata["resourceVersion"] = json!(version.to_string());
            let uid = before.as_ref().map_or(json!(format!("uid-{version}")), |b| b["metadata"]["uid"].clone());
            metadata["uid"] = uid;
            object
        });
        store.history.resize_with(version as usize, || (key.clone(), None, None));
        store.history[version as usize - 1] = (key.clone(), before, object.clone());
        store.objects.extend(object.clone().map(|o| (key, o)));
        drop(store);
        self.version.send_replace(version);
        object
    }

    async fn is_up(&self) -> Result<(), Response> {
        let mode = *self.mode.borrow();
        match mode {
            Mode::Up => Ok(()),
            Mode::Refusing => Err(status(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable")),
            Mode::Silent => std::future::pending().await,
        }
    }

    /// The next event that `selected` wants, after version `from`.
    fn event(&self, from: &mut u64, plural: &str, selected: &dyn Fn(&Value) -> bool) -> Option<Value> {
        let store = self.store.lock().unwrap();
        if *from < store.compacted {
            *from = u64::MAX;
            return Some(json!({"type": "ERROR", "object": {
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired", "message": "too old"}}));
        }
        while let Some(((_, of, _), before, after)) = store.history.get(usize::try_from(*from).unwrap_or(usize::MAX)) {
            *from += 1;
            let wanted = |object: &Option<Value>| object.clone().filter(|o| of == plural && selected(o));
            match (wanted(before), wanted(after)) {
                (None, Some(now)) => return Some(json!({"type": "ADDED", "object": now})),
                (Some(_), Some(now)) => return Some(json!({"type": "MODIFIED", "object": now})),
                (Some(mut last), None) => {
                    // The last matching state with the version of the event, as API servers send it.
                    last["metadata"]["resourceVersion"] = json!(from.to_string());
                    return Some(json!({"type": "DELETED", "object": last}));
                }
                (None, None) => {}
            }
        }
        None
    }
}

fn key(namespace: &str, plural: &str, name: &str) -> Key {
    (namespace.to_owned(), plural.to_owned(), name.to_owned())
}

fn status(code: StatusCode, reason: &str) -> Response {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code.as_u16(), "reason": reason, "message": reason});
    (code, Json(body)).into_response()
}

fn selector(query: &BTreeMap<String, String>) -> impl Fn(&Value) -> bool + Clone + Send + Sync + 'static {
    let selector = query.get("fieldSelector").cloned().unwrap_or_default();
    move |object| {
        let Some((path, value)) = selector.split_once('=') else { return true };
        object.pointer(&format!("/{}", path.replace('.', "/"))) == Some(&json!(value))
    }
}

async fn list_rooms(server: State<Server>, query: Query<BTreeMap<String, String>>) -> Response {
    if !query.contains_key("watch") {
        server.store.lock().unwrap().lists += 1;
    }
    serve_list(server, "callrooms".into(), query).await
}

async fn list(
    server: State<Server>,
    Path((_, _, _, plural)): Path<(String, String, String, String)>,
    query: Query<BTreeMap<String, String>>,
) -> Response {
    serve_list(server, plural, query).await
}

async fn serve_list(
    State(server): State<Server>,
    plural: String,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    if let Err(refusal) = server.is_up().await {
        return refusal;
    }
    let selected = selector(&query);
    if !query.contains_key("watch") {
        let store = server.store.lock().unwrap();
        let items: Vec<_> = store
            .objects
            .iter()
            .filter(|((_, of, _), o)| *of == plural && selected(o))
            .map(|(_, o)| o.clone())
            .collect();
        let version = server.version.borrow().to_string();
        return Json(
            json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": version}, "items": items}),
        )
        .into_response();
    }
    let from: u64 = query["resourceVersion"].parse().unwrap();
    let (versions, modes) = (server.version.subscribe(), server.mode.subscribe());
    let events = stream::unfold((server, versions, modes, from), move |(server, mut versions, mut modes, mut from)| {
        let (plural, selected) = (plural.clone(), selected.clone());
        async move {
            loop {
                versions.borrow_and_update();
                let mode = *modes.borrow_and_update();
                match mode {
                    Mode::Up => {
                        if let Some(event) = server.event(&mut from, &plural, &selected) {
                            let line = Bytes::from(format!("{event}\n"));
                            return Some((Ok::<_, std::io::Error>(line), (server, versions, modes, from)));
                        }
                    }
                    Mode::Refusing => return None,
                    Mode::Silent => {}
                }
                tokio::select! {
                    changed = versions.changed(), if mode == Mode::Up => changed.ok()?,
                    changed = modes.changed() => changed.ok()?,
                }
            }
        }
    });
    Body::from_stream(events).into_response()
}

type Named = Path<(String, String, String, String, String)>;

async fn read(State(server): State<Server>, Path((_, _, _, plural, name)): Named) -> Response {
    if let Err(refusal) = server.is_up().await {
        return refusal;
    }
    match server.object(&plural, &name) {
        Some(object) => Json(object).into_response(),
        None => status(StatusCode::NOT_FOUND, "NotFound"),
    }
}

async fn create(
    State(server): State<Server>,
    Path((_, _, _, plural)): Path<(String, String, String, String)>,
    Json(object): Json<Value>,
) -> Response {
    if let Err(refusal) = server.is_up().await {
        return refusal;
    }
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    if server.object(&plural, &name).is_some() {
        return status(StatusCode::CONFLICT, "AlreadyExists");
    }
    Json(server.put(&plural, &name, Some(object))).into_response()
}

async fn replace(
    State(server): State<Server>,
    Path((_, _, _, plural, name)): Named,
    Json(object): Json<Value>,
) -> Response {
    if let Err(refusal) = server.is_up().await {
        return refusal;
    }
    match server.object(&plural, &name) {
        None => status(StatusCode::NOT_FOUND, "NotFound"),
        Some(now) if now["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"] => {
            status(StatusCode::CONFLICT, "Conflict")
        }
        Some(_) => Json(server.put(&plural, &name, Some(object))).into_response(),
    }
}

async fn apply_status(State(server): State<Server>, Path((_, _, _, plural, name)): Named, body: Bytes) -> Response {
    if let Err(refusal) = server.is_up().await {
        return refusal;
    }
    // `application/apply-patch+yaml` may as well be JSON, and is.
    let applied: Value = serde_json::from_slice(&body).unwrap();
    let Some(mut object) = server.object(&plural, &name) else { return status(StatusCode::NOT_FOUND, "NotFound") };
    object["status"] = applied["status"].clone();
    Json(server.put(&plural, &name, Some(object))).into_response()
}
