//! The whole of `report` against an API server in memory that breaks when told to.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use rand::{SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{
    fake::{Mode, Server},
    pause::Moment,
    *,
};
use crate::{
    core::command::{Event, Fingerprint},
    rooms::{self, Access, Grants, Intent, Media, MediaOrder, Role, RoomKey},
};

const ME: &str = "mn-me";

/// A node on a server, with its hands on the clock.
struct Node {
    server: Server,
    directory: Directory,
    skipped: Arc<Mutex<Duration>>,
    terminate: CancellationToken,
    task: tokio::task::JoinHandle<Result<drain::Done, Error>>,
    _media: (mpsc::Receiver<(usize, MediaOrder)>, mpsc::Sender<Event>),
}

async fn node(drain_timeout: Duration) -> Node {
    let (server, client) = Server::start().await;
    let (orders, inbox) = mpsc::channel(64);
    let (news, events) = mpsc::channel(64);
    let media = Media { orders, events, next_worker: Box::new(|| 0) };
    let fingerprint = Fingerprint { algorithm: "sha-256".into(), digest: vec![0; 32] };
    let settings = rooms::Settings {
        standalone: false,
        ice_tcp: false,
        grace: Duration::from_secs(15),
        candidates: vec![vec![]],
        fingerprint,
    };
    let (directory, _) = Directory::start(settings, StdRng::seed_from_u64(1), media);
    let skipped = Arc::new(Mutex::new(Duration::ZERO));
    let hands = skipped.clone();
    let guard = PauseGuard::new(move || {
        let now = Moment::read();
        Moment { monotonic: now.monotonic + *hands.lock().unwrap(), ..now }
    });
    let terminate = CancellationToken::new();
    let settings = Settings {
        node: ME.into(),
        namespace: "team".into(),
        endpoints: Endpoints { api: "http://10.0.0.1:8080".into(), admin: "http://10.0.0.1:9090".into(), rtc: vec![] },
        drain_timeout,
    };
    let gate = guard.clone();
    let directory = directory.watching(move || gate.check().is_err());
    let (rooms, end) = (directory.clone(), terminate.clone());
    let task = tokio::spawn(run(client, settings, rooms, guard, Traffic::default, Metrics::default(), end));
    Node { server, directory, skipped, terminate, task, _media: (inbox, news) }
}

impl Node {
    /// Names and epochs of what is served.
    async fn serves(&self) -> Vec<(String, i64)> {
        self.directory.snapshot().await.unwrap().into_iter().map(|r| (r.key.name, r.epoch)).collect()
    }

    fn condition(&self, type_: &str) -> Option<(String, String)> {
        let node = self.server.object("medianodes", ME)?;
        let text = |c: &Value, field: &str| c[field].as_str().unwrap().to_owned();
        node["status"]["conditions"]
            .as_array()?
            .iter()
            .find(|c| c["type"] == type_)
            .map(|c| (text(c, "status"), text(c, "reason")))
    }

    fn is(&self, type_: &str, status: &str, reason: &str) -> bool {
        self.condition(type_) == Some((status.into(), reason.into()))
    }

    fn lease(&self) -> Value {
        self.server.object("leases", ME).unwrap_or_default()
    }

    fn put_node(&self, cordoned: bool) {
        let status = self.server.object("medianodes", ME).map_or(json!({}), |n| n["status"].clone());
        let spec = json!({"pool": "default", "cordoned": cordoned, "novelty": 7});
        self.server.put("medianodes", ME, Some(json!({"metadata": {"generation": 1}, "spec": spec, "status": status})));
    }

    fn put_room(&self, name: &str, route: (i64, &str), previous: Option<(i64, &str)>) {
        let of = |(epoch, node): (i64, &str)| json!({"epoch": epoch, "mode": "SFU", "node": node, "reason": "Placed", "since": "2026-01-01T00:00:00Z"});
        let mut status = json!({"phase": "Ready", "route": of(route)});
        if let Some(previous) = previous {
            status["previousRoute"] = of(previous);
        }
        let spec = json!({"maxParticipants": 10});
        self.server.put("callrooms", name, Some(json!({"metadata": {}, "spec": spec, "status": status})));
    }
}

/// A token for epoch 1 of a room.
fn access(room: &str) -> Access {
    let grants = Grants { publish: true, subscribe: true };
    Access {
        room: RoomKey::new("team", room),
        room_uid: None,
        issued_at: 0,
        epoch: 1,
        user: "ann".into(),
        name: None,
        role: Role::Participant,
        grants,
    }
}

/// Waits until `$condition` holds.
macro_rules! until {
    ($condition:expr, $($what:tt)+) => {
        let waiting = async {
            while !$condition {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(60), waiting).await.is_err() {
            panic!($($what)+);
        }
    };
}

/// Waits until the node serves exactly these rooms.
macro_rules! serves {
    ($node:expr, $rooms:expr) => {
        let wanted: Vec<(String, i64)> =
            $rooms.into_iter().map(|(name, epoch): (&str, i64)| (name.into(), epoch)).collect();
        until!($node.serves().await == wanted, "wanted {wanted:?}, serves {:?}", $node.serves().await);
    };
}

#[tokio::test]
async fn a_node_serves_what_is_routed_to_it_and_lets_go_of_what_is_not() {
    let node = node(Duration::ZERO).await;
    node.put_room("a", (1, ME), None);
    node.put_room("b", (1, "mn-other"), None);
    serves!(node, [("a", 1)]);
    node.put_room("a", (2, "mn-other"), Some((1, ME)));
    node.put_room("b", (2, ME), Some((1, "mn-other")));
    serves!(node, [("a", 1), ("b", 2)]);
    node.put_room("a", (2, "mn-other"), None);
    serves!(node, [("b", 2)]);
    node.server.put("callrooms", "b", None);
    serves!(node, []);
}

#[tokio::test]
async fn an_outage_lets_nothing_go_and_what_changed_in_it_is_made_up_for() {
    for (mode, forgotten) in [(Mode::Refusing, false), (Mode::Refusing, true), (Mode::Silent, false)] {
        let node = node(Duration::ZERO).await;
        for name in ["a", "b", "c"] {
            node.put_room(name, (1, ME), None);
        }
        serves!(node, [("a", 1), ("b", 1), ("c", 1)]);
        let before = node.lease();
        node.server.behave(mode);
        node.server.put("callrooms", "a", None);
        node.put_room("b", (2, "mn-other"), None);
        node.put_room("d", (1, ME), None);
        if forgotten {
            node.server.compact();
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(node.serves().await.len(), 3, "{mode:?}");
        node.server.behave(Mode::Up);
        serves!(node, [("c", 1), ("d", 1)]);
        until!(node.lease() != before, "{mode:?}: the lease is not renewed again");
    }
}

#[tokio::test]
async fn a_paused_node_lets_nobody_in_until_it_has_listed_its_rooms_again() {
    let node = node(Duration::ZERO).await;
    node.put_node(false);
    for name in ["a", "b"] {
        node.put_room(name, (1, ME), None);
    }
    serves!(node, [("a", 1), ("b", 1)]);
    until!(node.is("Ready", "True", "Serving"), "not ready");
    let lists = node.server.lists();

    node.server.behave(Mode::Silent);
    node.put_room("a", (2, "mn-other"), None);
    *node.skipped.lock().unwrap() += Duration::from_secs(30);
    let refused = node.directory.admit(&access("a"), Intent::Join).await;
    assert_eq!(refused, Err(Refusal::Resyncing), "the first to come finds the pause");
    assert_eq!(node.directory.admit(&access("a"), Intent::Join).await, Err(Refusal::Resyncing));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let refused = node.directory.admit(&access("b"), Intent::Join).await;
    assert_eq!(refused, Err(Refusal::Resyncing), "the API server does not answer");
    assert_eq!(node.serves().await.len(), 2, "calls go on");

    node.server.behave(Mode::Up);
    until!(node.directory.admit(&access("b"), Intent::Join).await.is_ok(), "never opened again");
    assert_eq!(node.serves().await, [("b".to_owned(), 1)], "what was moved is gone before anybody is let in");
    assert!(node.server.lists() >= lists + 2, "both were listed");
    until!(node.is("Ready", "True", "Serving"), "not ready again");
}

#[tokio::test]
async fn the_status_says_what_the_node_does_from_start_to_end() {
    let node = node(Duration::from_secs(60)).await;
    node.put_room("a", (1, ME), None);
    serves!(node, [("a", 1)]);
    node.put_node(false);
    until!(node.is("Ready", "True", "Serving"), "not ready: {:?}", node.condition("Ready"));
    until!(node.lease()["metadata"]["ownerReferences"][0]["kind"] == "MediaNode", "{}", node.lease());
    let status = node.server.object("medianodes", ME).unwrap()["status"].clone();
    assert_eq!(status["rooms"][0]["name"], "a", "{status}");
    assert_eq!(status["rooms"][0]["participants"], 0, "{status}");
    assert_eq!(status["endpoints"]["api"], "http://10.0.0.1:8080");

    // The operator gives it up, wrongly.
    let mut lost = node.server.object("medianodes", ME).unwrap();
    lost["status"]["conditions"] = json!([{"type": "Ready", "status": "Unknown", "reason": "NodeLost", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
    node.server.put("medianodes", ME, Some(lost));
    until!(node.is("Ready", "True", "Serving"), "it does not say that it is back");

    node.put_node(true);
    until!(node.is("Drained", "False", "ServesRooms"), "{:?}", node.condition("Drained"));
    node.put_room("a", (2, "mn-other"), None);
    until!(node.is("Drained", "True", "Empty"), "{:?}", node.condition("Drained"));

    // Deleted and made again.
    node.server.put("medianodes", ME, None);
    node.put_node(false);
    until!(node.is("Drained", "False", "NotCordoned"), "{:?}", node.condition("Drained"));

    node.terminate.cancel();
    let Node { server, task, .. } = node;
    assert_eq!(task.await.unwrap().unwrap(), drain::Done::Empty);
    let status = server.object("medianodes", ME).unwrap()["status"].clone();
    assert_eq!(status["conditions"][0]["reason"], "Stopped", "{status}");
    assert_eq!(server.object("leases", ME).unwrap()["spec"]["holderIdentity"], "", "the lease was given back");
}

#[tokio::test]
async fn a_node_that_is_told_to_stop_stays_while_a_room_may_be_joined_and_no_longer_than_it_may() {
    let node = node(Duration::from_millis(800)).await;
    node.put_node(false);
    node.put_room("a", (1, ME), None);
    until!(node.is("Ready", "True", "Serving"), "not ready");
    node.terminate.cancel();
    until!(node.is("Ready", "True", "Draining"), "{:?}", node.condition("Ready"));
    assert_eq!(node.task.await.unwrap().unwrap(), drain::Done::Deadline);
}

#[tokio::test]
async fn the_lease_is_taken_over_and_renewed_whatever_happens_to_it() {
    let (server, client) = Server::start().await;
    let pace = lease::Pace {
        every: Duration::from_millis(50),
        timeout: Duration::from_millis(100),
        patience: Duration::from_millis(150),
        retry: Duration::from_millis(20),
    };
    let (_owner, owner) = watch::channel(None);
    let stop = CancellationToken::new();
    let guard = PauseGuard::default();
    let renewal = lease::Renewal::new(client, ("team", ME), owner, guard, Metrics::default()).paced(pace);
    let mut contact = renewal.contact();
    let task = tokio::spawn(renewal.run(StdRng::seed_from_u64(1), stop.clone()));
    let spec = || server.object("leases", ME).map_or(Value::Null, |l| l["spec"].clone());
    until!(spec()["holderIdentity"] == ME, "{}", spec());
    assert_eq!(spec()["leaseDurationSeconds"], 8);
    let first = spec()["renewTime"].clone();
    until!(spec()["renewTime"] != first, "it is not renewed");

    let mut lease = server.object("leases", ME).unwrap();
    lease["spec"] = json!({"holderIdentity": "somebody"});
    server.put("leases", ME, Some(lease));
    until!(spec()["holderIdentity"] == ME, "it is not taken back: {}", spec());
    assert_eq!(spec()["leaseTransitions"], 1);
    server.put("leases", ME, None);
    until!(spec()["holderIdentity"] == ME, "it is not made again");

    for mode in [Mode::Refusing, Mode::Silent] {
        let recoveries = contact.borrow().recoveries;
        server.behave(mode);
        tokio::time::sleep(Duration::from_millis(300)).await;
        let during = spec()["renewTime"].clone();
        server.behave(Mode::Up);
        contact.wait_for(|c| c.recoveries > recoveries).await.unwrap();
        assert_ne!(spec()["renewTime"], during, "{mode:?}");
    }
    stop.cancel();
    task.await.unwrap();
    assert_eq!(spec()["leaseDurationSeconds"], 1, "given back");
}
