//! What whoever runs the operator asks it over HTTP.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use http::Request;
use kube::runtime::events::EventType;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::*;
use crate::{
    clock::Clock,
    cluster::{
        fixtures::{cluster, key, room},
        node::LossCause,
    },
    events::Events,
    fake::{NAMESPACE, Shared, candidate, client, of_two_nodes, put, sees, stored},
    leader::{Claim, Election, Leading},
    metrics::{Change, End},
    node,
    room::reconcile,
};

/// More than any answer here.
const LONGEST: usize = 1 << 20;
/// The pages that promise metrics by name.
const PAGES: [&str; 3] = [
    include_str!("../../docs/routes.md"),
    include_str!("../../docs/turn.md"),
    include_str!("../../docs/performance.md"),
];

/// What the operator answers: the code and the body.
pub(crate) async fn ask(admin: &Admin, path: &str) -> (u16, String) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let answer = router(admin.clone()).oneshot(request).await.unwrap();
    let code = answer.status().as_u16();
    let body = to_bytes(answer.into_body(), LONGEST).await.unwrap();
    (code, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn it_lives_at_once_and_is_ready_with_complete_caches() {
    let (synced, receiver) = watch::channel(false);
    let admin = Admin { ctx: of_two_nodes(&Shared::default(), false), synced: receiver };
    assert_eq!(ask(&admin, "/livez").await.0, 200);
    assert_eq!(ask(&admin, "/readyz").await, (503, "caches are not complete yet\n".into()));
    synced.send_replace(true);
    assert_eq!(ask(&admin, "/readyz").await, (200, "ok\n".into()), "a follower is ready too");
    assert_eq!(ask(&admin, "/").await.0, 404);
}

#[tokio::test]
async fn every_metric_that_is_promised_is_there() {
    let server = Shared::default();
    let ctx = of_two_nodes(&server, true);
    let admin = Admin { ctx: Arc::clone(&ctx), synced: watch::channel(true).1 };
    let (code, before) = ask(&admin, "/metrics").await;
    assert_eq!(code, 200);
    assert!(before.contains("callplane_operator_leader 0\n"), "{before}");
    assert!(!before.contains(r#"controller="turn""#), "there is no TURN: {before}");

    put(&server, &room("r", 5, 4));
    sees(&ctx, stored(&server, "r").unwrap());
    assert!(ctx.turns.set(Arc::default()).is_ok());
    ctx.lead();
    reconcile(key("r"), Arc::clone(&ctx)).await;
    // What takes a move to be counted; what a move counts is another test's business.
    drop(ctx.metrics.route_changes.get_or_create(&Change { mode: "SFU", reason: "Grown".into() }));
    drop(ctx.metrics.switch_seconds.get_or_create(&End { end: "left" }));
    let (_, text) = ask(&admin, "/metrics").await;
    for line in [
        r#"callplane_operator_reconciles_total{controller="room",result="ok"} 1"#,
        r#"callplane_operator_reconcile_duration_seconds_count{controller="room"} 1"#,
        r#"callplane_operator_queue_depth{controller="room"} 1"#,
        r#"callplane_operator_queue_depth{controller="node"} 2"#,
        r#"callplane_operator_queue_depth{controller="pool"} 1"#,
        r#"callplane_operator_queue_depth{controller="turn"} 1"#,
        r#"callplane_operator_writes_total{kind="CallRoom/status",verb="apply",result="ok"} 1"#,
        r#"callplane_operator_rooms{state="Pending"} 0"#,
        r#"callplane_operator_rooms{state="Ready"} 1"#,
        r#"callplane_operator_rooms{state="Ended"} 0"#,
        r#"callplane_operator_routes{state="SFU"} 1"#,
        "callplane_operator_rooms_waiting 0",
        "callplane_operator_room_placement_seconds_count 1",
        "callplane_operator_room_reroute_seconds_count 0",
        r#"callplane_operator_nodes{state="Ready"} 2"#,
        "callplane_operator_leader 1",
    ] {
        assert!(text.lines().any(|said| said == line), "{line} is not in {text}");
    }
    let word = |c: char| c.is_ascii_lowercase() || c == '_';
    let mut pages = 0;
    for name in PAGES.iter().flat_map(|page| page.split(|c: char| !word(c))) {
        if name.starts_with("callplane_operator_") {
            pages += 1;
            // With labels, without, or as a histogram.
            let begins = [format!("{name}{{"), format!("{name} "), format!("{name}_count")];
            let is_there = text.lines().any(|line| begins.iter().any(|begin| line.starts_with(begin.as_str())));
            assert!(is_there, "{name} is not in {text}");
        }
    }
    assert!(pages >= 8, "the pages name their metrics");
}

/// Nobody writes but through what counts: controllers, the election and the events.
#[tokio::test(start_paused = true)]
async fn every_write_is_counted_whoever_makes_it() {
    let (server, clock, claim) = (Shared::default(), Clock::start(), Arc::<Claim>::default());
    let cluster = cluster(&[("a", 1), ("b", 1)], callplane_crds::mediapool::Placement::Packed);
    let ctx = candidate(&server, Arc::clone(&claim), clock, cluster);
    let admin = Admin { ctx: Arc::clone(&ctx), synced: watch::channel(true).1 };
    let counted = |ctx: &Context| Arc::clone(&ctx.metrics);

    let election = Election::new(client(&server), NAMESPACE, "me".into(), claim, clock, counted(&ctx));
    let (leading, mut leads) = watch::channel(Leading::No);
    let stop = CancellationToken::new();
    let running = tokio::spawn(election.run(leading, stop.clone(), async {}));
    leads.wait_for(|leads| *leads == Leading::Yes).await.unwrap();

    for name in ["r", "waits"] {
        put(&server, &room(name, 5, 4));
        sees(&ctx, stored(&server, name).unwrap());
    }
    put(&server, &crate::cluster::fixtures::node("a", 1, 1));
    ctx.cluster().mark_lost("b", LossCause::PodGone, clock.now().mono);
    for name in ["r", "waits"] {
        reconcile(key(name), Arc::clone(&ctx)).await;
    }
    ctx.cluster().mark_lost("a", LossCause::PodGone, clock.now().mono);
    node::reconcile("a".into(), Arc::clone(&ctx)).await;

    let (events, publish) = Events::new(client(&server), "me".into(), counted(&ctx));
    let publish = tokio::spawn(publish);
    let about = room("r", 1, 4);
    let tell = |reason| events.tell(&about, EventType::Normal, reason, "Act", "twice".to_owned());
    tell("Told");
    tell("Told");
    tokio::time::sleep(Duration::from_secs(5)).await;
    server.lock().unwrap().fails = vec![("POST /apis/events.k8s.io/".to_owned(), 403)];
    tell("Refused");
    drop(events);
    publish.await.unwrap();
    stop.cancel();
    running.await.unwrap();

    let (_, text) = ask(&admin, "/metrics").await;
    let writes: Vec<(&str, usize)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("callplane_operator_writes_total")?.rsplit_once(' '))
        .map(|(labels, count)| (labels, count.parse().unwrap()))
        .collect();
    let count = |labels: &str| writes.iter().find(|(said, _)| *said == labels).map(|(_, count)| *count);
    assert_eq!(count(r#"{kind="CallRoom/status",verb="apply",result="ok"}"#), Some(2), "{text}");
    assert_eq!(count(r#"{kind="MediaNode/status",verb="apply",result="ok"}"#), Some(1), "{text}");
    assert_eq!(count(r#"{kind="Event",verb="publish",result="ok"}"#), Some(2), "{text}");
    assert_eq!(count(r#"{kind="Event",verb="publish",result="Refused"}"#), Some(1), "{text}");
    assert_eq!(count(r#"{kind="Lease",verb="create",result="ok"}"#), Some(1), "{text}");
    let renewed = count(r#"{kind="Lease",verb="replace",result="ok"}"#);
    assert!(renewed.is_some_and(|count| count >= 3), "two renewals, and it is given back: {text}");
    let made: Vec<String> = server.lock().unwrap().requests.iter().map(|(request, _)| request.clone()).collect();
    let made = made.iter().filter(|request| !request.starts_with("GET")).count();
    assert_eq!(writes.iter().map(|(_, count)| count).sum::<usize>(), made, "{text}");
}
