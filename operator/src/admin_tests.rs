//! What whoever runs the operator asks it over HTTP.

use axum::body::{Body, to_bytes};
use http::Request;
use tower::ServiceExt;

use super::*;
use crate::{
    cluster::fixtures::{key, room},
    fake::{Shared, of_two_nodes, put, sees, stored},
    metrics::{Change, End},
    room::reconcile,
};

/// More than any answer here.
const LONGEST: usize = 1 << 20;
/// The pages that promise metrics by name.
const PAGES: [&str; 2] = [include_str!("../../docs/routes.md"), include_str!("../../docs/turn.md")];

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
