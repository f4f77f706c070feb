//! Rooms against a scripted API server: what is sent, and what is made of the answers.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use callplane_crds::{CallRoom, mediapool::Placement};
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tower::service_fn;

use super::reconcile;
use crate::{
    api::Writer,
    clock::Clock,
    cluster::fixtures::*,
    context::{Context, Parts},
    events::Events,
    leader::Claim,
    metrics::Metrics,
    queue::Next,
};

/// An API server that holds rooms and knows optimistic concurrency.
#[derive(Default)]
struct Server {
    rooms: HashMap<String, Value>,
    version: u64,
    requests: Vec<(String, Value)>,
    /// Answers `500` to this many writes after having carried them out.
    forgets: u32,
}

type Shared = Arc<Mutex<Server>>;

fn answer(server: &Shared, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let mut server = server.lock().unwrap();
    server.requests.push((format!("{method} {path}"), body.clone()));
    let failure = |code: u16, reason: &str| {
        (
            code,
            json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": reason}),
        )
    };
    let Some(name) = path.strip_prefix("/apis/callplane.io/v1alpha1/namespaces/team/callrooms/") else {
        return failure(404, "NotFound");
    };
    let name = name.trim_end_matches("/status").to_owned();
    let Some(stored) = server.rooms.get(&name).cloned() else { return failure(404, "NotFound") };
    match method {
        "PATCH" => {
            if body["metadata"]["resourceVersion"] != stored["metadata"]["resourceVersion"] {
                return failure(409, "Conflict");
            }
            server.version += 1;
            let mut next = stored;
            next["status"] = body["status"].clone();
            next["metadata"]["resourceVersion"] = server.version.to_string().into();
            server.rooms.insert(name, next.clone());
            if server.forgets > 0 {
                server.forgets -= 1;
                return failure(500, "InternalError");
            }
            (200, next)
        }
        "DELETE" if body["preconditions"]["uid"] == stored["metadata"]["uid"] => {
            (200, server.rooms.remove(&name).unwrap())
        }
        _ => failure(409, "Conflict"),
    }
}

fn client(server: &Shared) -> Client {
    let server = Arc::clone(server);
    let service = service_fn(move |request: http::Request<Body>| {
        let server = Arc::clone(&server);
        async move {
            let (parts, body) = request.into_parts();
            let bytes = body.collect_bytes().await.unwrap();
            let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
            let (code, answer) = answer(&server, parts.method.as_str(), parts.uri.path(), &body);
            let answer = serde_json::to_vec(&answer).unwrap();
            let response = http::Response::builder().status(code).body(Body::from(answer)).unwrap();
            Ok::<_, Infallible>(response)
        }
    });
    Client::new(service, "team")
}

fn leader(server: &Shared, claims: bool) -> Arc<Context> {
    let client = client(server);
    let clock = Clock::start();
    let metrics = Metrics::new();
    let claim = Arc::new(Claim::default());
    if claims {
        claim.renewed(clock.now().mono);
    }
    let (events, _unwritten) = Events::new(client.clone(), "test".into());
    let ctx = Context::new(Parts {
        writer: Writer::new(client, claim, clock, Arc::clone(&metrics)),
        clock,
        metrics,
        events,
        probe: reqwest::Client::new(),
        namespace: "team".into(),
        rooms_in: None,
        media_node_image: "image".into(),
    });
    *ctx.cluster() = cluster(&[("a", 100), ("b", 100)], Placement::Spread);
    Arc::new(ctx)
}

fn create(server: &Shared, room: &CallRoom) {
    let mut server = server.lock().unwrap();
    server.version = server.version.max(room.metadata.resource_version.as_ref().unwrap().parse().unwrap());
    server.rooms.insert(room.metadata.name.clone().unwrap(), serde_json::to_value(room).unwrap());
}

fn stored(server: &Shared, name: &str) -> CallRoom {
    serde_json::from_value(server.lock().unwrap().rooms[name].clone()).unwrap()
}

fn sees(ctx: &Context, room: CallRoom) {
    ctx.cluster().apply_room(room, Duration::ZERO);
}

#[tokio::test]
async fn a_room_costs_one_conditional_write_until_it_is_ready() {
    let server = Shared::default();
    let ctx = leader(&server, true);
    create(&server, &room("r", 5, 4));
    sees(&ctx, stored(&server, "r"));
    for _ in 0..3 {
        assert!(matches!(reconcile(key("r"), Arc::clone(&ctx)).await, Next::After(_)));
    }
    let requests = server.lock().unwrap().requests.clone();
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert_eq!(requests[0].0, "PATCH /apis/callplane.io/v1alpha1/namespaces/team/callrooms/r/status");
    assert_eq!(
        requests[0].1["metadata"],
        json!({"name": "r", "namespace": "team", "uid": "uid-of-r", "resourceVersion": "5"})
    );
    assert_eq!(stored(&server, "r").status.unwrap().route.unwrap().epoch, 1);
    // Its own answer was the news; the watch's word for it is none.
    let cluster_says = ctx.cluster().apply_room(stored(&server, "r"), Duration::ZERO);
    assert_eq!(cluster_says, crate::cluster::Effects::default());
}

#[tokio::test]
async fn of_two_leaders_with_the_same_old_cache_one_is_refused() {
    let server = Shared::default();
    let leaders = [leader(&server, true), leader(&server, true)];
    for i in 0..50 {
        let name = format!("r{i}");
        create(&server, &room(&name, 1, 4));
        // The second has its own idea of which node is the emptiest.
        leaders[1].cluster().apply_room(placed(&format!("other{i}"), 1, 40, "a"), Duration::ZERO);
        for ctx in &leaders {
            sees(ctx, stored(&server, &name));
        }
        let (first, second) = tokio::join!(
            reconcile(key(&name), Arc::clone(&leaders[0])),
            reconcile(key(&name), Arc::clone(&leaders[1]))
        );
        assert!(matches!((first, second), (Next::After(_), Next::RetrySoon) | (Next::RetrySoon, Next::After(_))));
        let before = stored(&server, &name);
        for ctx in &leaders {
            sees(ctx, before.clone());
            reconcile(key(&name), Arc::clone(ctx)).await;
        }
        assert_eq!(stored(&server, &name), before, "whoever was second accepts what the first decided");
    }
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_not_decided_otherwise() {
    let server = Shared::default();
    let ctx = leader(&server, true);
    create(&server, &room("r", 5, 4));
    sees(&ctx, stored(&server, "r"));
    server.lock().unwrap().forgets = 1;
    assert_eq!(reconcile(key("r"), Arc::clone(&ctx)).await, Next::RetrySoon);
    let written = stored(&server, "r");
    let node = written.status.clone().unwrap().route.unwrap().node;
    assert_eq!(ctx.cluster().rooms_on(&node).count(), 1, "its place stays reserved");
    // The other node looks better now, but the watch has not told yet what became of the write.
    sees(&ctx, placed("filler", 9, 50, &node));
    assert_eq!(reconcile(key("r"), Arc::clone(&ctx)).await, Next::RetrySoon, "refused: it is based on the old version");
    assert_eq!(ctx.cluster().room(&key("r")).unwrap().assumed.as_ref().unwrap().node, node);
    sees(&ctx, written.clone());
    assert!(matches!(reconcile(key("r"), Arc::clone(&ctx)).await, Next::After(_)));
    assert_eq!(stored(&server, "r"), written);
}

#[tokio::test]
async fn who_does_not_lead_writes_nothing() {
    let server = Shared::default();
    let ctx = leader(&server, false);
    create(&server, &room("r", 5, 4));
    sees(&ctx, stored(&server, "r"));
    // Not forgotten: the claim may only have lapsed for a moment.
    assert_eq!(reconcile(key("r"), Arc::clone(&ctx)).await, Next::RetrySoon);
    assert!(server.lock().unwrap().requests.is_empty());
}

#[tokio::test]
async fn a_room_that_is_gone_gives_its_place_back() {
    let server = Shared::default();
    let ctx = leader(&server, true);
    sees(&ctx, room("r", 5, 4));
    reconcile(key("r"), Arc::clone(&ctx)).await;
    let cluster = ctx.cluster();
    assert_eq!(["a", "b"].map(|node| cluster.rooms_on(node).count()), [0, 0]);
}

#[tokio::test]
async fn an_expired_room_is_deleted_and_not_its_successor() {
    let server = Shared::default();
    let ctx = leader(&server, true);
    let mut over = placed("r", 5, 4, "a");
    over.spec.lifetime.ttl_seconds_after_ended = Some(0);
    let status = over.status.as_mut().unwrap();
    (status.phase, status.route) = (Some(callplane_crds::callroom::Phase::Ended), None);
    status.ended_at = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH));
    let mut successor = room("r", 9, 4);
    successor.metadata.uid = Some("another".into());
    create(&server, &successor);
    sees(&ctx, over.clone());
    assert_eq!(reconcile(key("r"), Arc::clone(&ctx)).await, Next::RetrySoon);
    assert!(server.lock().unwrap().rooms.contains_key("r"));
    create(&server, &over);
    assert!(matches!(reconcile(key("r"), Arc::clone(&ctx)).await, Next::After(_)));
    assert!(server.lock().unwrap().rooms.is_empty());
}
