//! A scripted API server for tests: holds objects, knows versions, optimistic concurrency and field selectors,
//! and fails when it is told to.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use callplane_crds::mediapool::Placement;
use kube::{Client, Resource, client::Body};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tower::service_fn;

use crate::{
    api::Writer,
    clock::Clock,
    cluster::{Cluster, fixtures::cluster},
    context::{Context, Parts},
    events::{Events, Waiting},
    leader::Claim,
    metrics::Metrics,
};

/// The namespace that everything is in.
pub(crate) const NAMESPACE: &str = "team";

/// What the server holds and was asked.
#[derive(Default)]
pub(crate) struct Server {
    /// Objects by their path.
    objects: BTreeMap<String, Value>,
    version: u64,
    /// `METHOD path` and body of every request.
    pub(crate) requests: Vec<(String, Value)>,
    /// Answers `500` to this many writes of a status after having carried them out.
    pub(crate) forgets: u32,
    /// Requests that begin so are refused with this code.
    pub(crate) fails: Vec<(String, u16)>,
    /// How long every answer takes.
    pub(crate) takes: Duration,
    /// Requests that begin so are not answered before that changes.
    pub(crate) silent: watch::Sender<Vec<String>>,
    /// Kubernetes events of each operator, which are not written.
    events: Vec<mpsc::Receiver<Waiting>>,
}

/// A server that clients and tests share.
pub(crate) type Shared = Arc<Mutex<Server>>;

type Answer = (u16, Value);

fn failure(code: u16, reason: &str) -> Answer {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": reason});
    (code, body)
}

impl Server {
    fn answer(&mut self, method: &str, uri: &http::Uri, body: &Value) -> Answer {
        let path = uri.path();
        let request = format!("{method} {path}");
        self.requests.push((request.clone(), body.clone()));
        if let Some((_, code)) = self.fails.iter().find(|(prefix, _)| request.starts_with(prefix.as_str())) {
            return failure(*code, "Scripted");
        }
        match method {
            "GET" if self.is_collection(path) => (200, self.list(path, uri.query().unwrap_or_default())),
            "GET" => self.objects.get(path).map_or_else(|| failure(404, "NotFound"), |o| (200, o.clone())),
            "POST" => {
                let name = body["metadata"]["name"].as_str().unwrap_or_default();
                self.create(format!("{path}/{name}"), body.clone())
            }
            "PATCH" => self.patch(path, body),
            "PUT" => self.replace(path, body),
            "DELETE" => self.delete(path, body),
            _ => failure(405, "MethodNotAllowed"),
        }
    }

    fn is_collection(&self, path: &str) -> bool {
        let plurals = ["callrooms", "medianodes", "mediapools", "pods", "leases", "poddisruptionbudgets"];
        path.rsplit('/').next().is_some_and(|last| plurals.contains(&last))
    }

    fn list(&self, path: &str, query: &str) -> Value {
        let query = query.replace("%3D", "=");
        let wanted = query.split('&').find_map(|p| p.strip_prefix("fieldSelector=")).and_then(|s| s.split_once('='));
        // A list of all namespaces names none.
        let everywhere = |of: &str| of.replacen(&format!("/namespaces/{NAMESPACE}"), "", 1) == path;
        let of_kind = |place: &String| place.rsplit_once('/').is_some_and(|(of, _)| of == path || everywhere(of));
        let selected = |object: &Value| {
            wanted.is_none_or(|(field, value)| {
                object.pointer(&format!("/{}", field.replace('.', "/"))).and_then(Value::as_str) == Some(value)
            })
        };
        let found = self.objects.iter().filter(|(place, object)| of_kind(place) && selected(object));
        json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": self.version.to_string()},
            "items": found.map(|(_, object)| object.clone()).collect::<Vec<_>>()})
    }

    fn create(&mut self, path: String, mut object: Value) -> Answer {
        if self.objects.contains_key(&path) {
            return failure(409, "AlreadyExists");
        }
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        object["metadata"]["uid"] = format!("made-{}", self.version).into();
        self.objects.insert(path, object.clone());
        (201, object)
    }

    fn patch(&mut self, path: &str, body: &Value) -> Answer {
        let whole = path.trim_end_matches("/status");
        let Some(stored) = self.objects.get(whole).cloned() else {
            // Server-side apply creates what there is not.
            let applies = path == whole && body.get("kind").is_some();
            return if applies { self.create(path.to_owned(), body.clone()) } else { failure(404, "NotFound") };
        };
        let expected = &body["metadata"]["resourceVersion"];
        if !expected.is_null() && *expected != stored["metadata"]["resourceVersion"] {
            return failure(409, "Conflict");
        }
        let mut next = stored;
        if whole == path {
            merge(&mut next, body);
        } else {
            // What another manager owns stays.
            let presence = next["status"]["presence"].take();
            next["status"] = body["status"].clone();
            if next["status"]["presence"].is_null() && !presence.is_null() {
                next["status"]["presence"] = presence;
            }
        }
        self.version += 1;
        next["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.objects.insert(whole.to_owned(), next.clone());
        if whole != path && self.forgets > 0 {
            self.forgets -= 1;
            return failure(500, "InternalError");
        }
        (200, next)
    }

    fn replace(&mut self, path: &str, body: &Value) -> Answer {
        let Some(stored) = self.objects.get(path) else { return failure(404, "NotFound") };
        let version = &body["metadata"]["resourceVersion"];
        if !version.is_null() && *version != stored["metadata"]["resourceVersion"] {
            return failure(409, "Conflict");
        }
        self.version += 1;
        let mut next = body.clone();
        next["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.objects.insert(path.to_owned(), next.clone());
        (200, next)
    }

    fn delete(&mut self, path: &str, body: &Value) -> Answer {
        let Some(stored) = self.objects.get(path) else { return failure(404, "NotFound") };
        let differs = |field: &str| {
            let wanted = &body["preconditions"][field];
            !wanted.is_null() && *wanted != stored["metadata"][field]
        };
        if differs("uid") || differs("resourceVersion") {
            return failure(409, "Conflict");
        }
        (200, self.objects.remove(path).unwrap_or_default())
    }
}

/// A JSON merge patch (RFC 7396), which server-side apply of whole fields amounts to here.
fn merge(into: &mut Value, patch: &Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (key, value) in patch {
                if value.is_null() {
                    into.remove(key);
                } else {
                    merge(into.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
        }
        (into, patch) => *into = patch.clone(),
    }
}

fn path<K: Resource<DynamicType = ()>>(name: &str) -> String {
    format!("{}/{name}", K::url_path(&(), Some(NAMESPACE)))
}

/// Puts `object` there as it is, in place of whatever bore its name.
pub(crate) fn put<K: Resource<DynamicType = ()> + Serialize>(server: &Shared, object: &K) {
    let mut server = server.lock().unwrap();
    let version = object.meta().resource_version.as_ref().and_then(|v| v.parse().ok()).unwrap_or(0);
    server.version = server.version.max(version);
    let place = path::<K>(object.meta().name.as_deref().unwrap());
    server.objects.insert(place, serde_json::to_value(object).unwrap());
}

/// What the server holds.
pub(crate) fn stored<K: Resource<DynamicType = ()> + DeserializeOwned>(server: &Shared, name: &str) -> Option<K> {
    let server = server.lock().unwrap();
    Some(serde_json::from_value(server.objects.get(&path::<K>(name))?.clone()).unwrap())
}

/// Takes an object away.
pub(crate) fn drop_object<K: Resource<DynamicType = ()>>(server: &Shared, name: &str) {
    server.lock().unwrap().objects.remove(&path::<K>(name));
}

/// Requests so far that begin with `prefix`.
pub(crate) fn requests(server: &Shared, prefix: &str) -> usize {
    server.lock().unwrap().requests.iter().filter(|(request, _)| request.starts_with(prefix)).count()
}

/// What people were told since they were last asked, in order: how bad it is, the reason, and what it is about.
pub(crate) fn told(server: &Shared) -> Vec<String> {
    let mut server = server.lock().unwrap();
    let waiting = server.events.iter_mut().flat_map(|events| std::iter::from_fn(move || events.try_recv().ok()));
    let word = |(event, about): Waiting| {
        let of = |part: Option<String>| part.unwrap_or_default();
        assert!(!event.action.is_empty() && about.uid.is_some(), "{} about {about:?}", event.reason);
        format!("{:?} {} {}/{}", event.type_, event.reason, of(about.kind), of(about.name))
    };
    waiting.map(word).collect()
}

/// All that `server` holds and was told outside of Secrets, as text.
pub(crate) fn elsewhere(server: &Shared) -> String {
    let server = server.lock().unwrap();
    let asked = server.requests.iter().map(|(request, body)| (request, body));
    let all = server.objects.iter().chain(asked).filter(|(place, _)| !place.contains("/secrets"));
    all.map(|(place, body)| format!("{place} {body}\n")).collect()
}

/// A client of `server`.
pub(crate) fn client(server: &Shared) -> Client {
    let server = Arc::clone(server);
    let service = service_fn(move |request: http::Request<Body>| {
        let server = Arc::clone(&server);
        async move {
            let (parts, body) = request.into_parts();
            let bytes = body.collect_bytes().await.unwrap();
            let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
            if parts.uri.query().is_some_and(|query| query.contains("watch=true")) {
                // Nothing ever changes here but by what is asked.
                std::future::pending::<()>().await;
            }
            let (request, mut silent) =
                (format!("{} {}", parts.method, parts.uri.path()), server.lock().unwrap().silent.subscribe());
            drop(silent.wait_for(|silent| !silent.iter().any(|prefix| request.starts_with(prefix.as_str()))).await);
            let takes = server.lock().unwrap().takes;
            if !takes.is_zero() {
                tokio::time::sleep(takes).await;
            }
            let (code, answer) = server.lock().unwrap().answer(parts.method.as_str(), &parts.uri, &body);
            let answer = serde_json::to_vec(&answer).unwrap();
            let response = http::Response::builder().status(code).body(Body::from(answer)).unwrap();
            Ok::<_, Infallible>(response)
        }
    });
    Client::new(service, NAMESPACE)
}

/// An operator in front of `server` that knows `cluster`, and whether its claim holds.
pub(crate) fn operator(server: &Shared, claims: bool, cluster: Cluster) -> Arc<Context> {
    let (claim, clock) = (Arc::new(Claim::default()), Clock::start());
    if claims {
        claim.renewed(clock.now().mono);
    }
    candidate(server, claim, clock, cluster)
}

/// An operator in front of `server` that knows `cluster` and writes in the name of `claim`.
pub(crate) fn candidate(server: &Shared, claim: Arc<Claim>, clock: Clock, cluster: Cluster) -> Arc<Context> {
    let client = client(server);
    let metrics = Metrics::new();
    let (events, unwritten) = Events::channel();
    server.lock().unwrap().events.push(unwritten);
    let ctx = Context::new(Parts {
        writer: Writer::new(client, claim, clock, Arc::clone(&metrics)),
        clock,
        metrics,
        events,
        probe: reqwest::Client::new(),
        namespace: NAMESPACE.into(),
        rooms_in: None,
        media_node_image: "image".into(),
    });
    *ctx.cluster() = cluster;
    Arc::new(ctx)
}

/// An operator that knows two idle nodes, `a` and `b`.
pub(crate) fn of_two_nodes(server: &Shared, claims: bool) -> Arc<Context> {
    operator(server, claims, cluster(&[("a", 100), ("b", 100)], Placement::Spread))
}

/// The watch shows `room`.
pub(crate) fn sees(ctx: &Context, room: callplane_crds::CallRoom) {
    ctx.cluster().apply_room(room, Duration::ZERO);
}
