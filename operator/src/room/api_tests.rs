//! Rooms against a scripted API server: what is sent, and what is made of the answers.

use std::{sync::Arc, time::Duration};

use callplane_crds::{CallRoom, Presence, RouteMode, mediapool::Placement};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use super::reconcile;
use crate::{
    cluster::fixtures::*,
    context::Context,
    fake::{Shared, of_two_nodes, operator, put, requests, sees, stored, told},
    queue::Next,
};

fn room_at(server: &Shared, name: &str) -> CallRoom {
    stored(server, name).unwrap()
}

#[tokio::test]
async fn a_room_costs_one_conditional_write_until_it_is_ready() {
    let server = Shared::default();
    let ctx = of_two_nodes(&server, true);
    put(&server, &room("r", 5, 4));
    sees(&ctx, room_at(&server, "r"));
    for _ in 0..3 {
        assert!(matches!(reconcile(key("r"), Arc::clone(&ctx)).await, Next::After(_)));
    }
    let asked = server.lock().unwrap().requests.clone();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0].0, "PATCH /apis/callplane.io/v1alpha1/namespaces/team/callrooms/r/status");
    assert_eq!(
        asked[0].1["metadata"],
        json!({"name": "r", "namespace": "team", "uid": "uid-of-r", "resourceVersion": "5"})
    );
    assert_eq!(room_at(&server, "r").status.unwrap().route.unwrap().epoch, 1);
    // Its own answer was the news; the watch's word for it is none.
    let cluster_says = ctx.cluster().apply_room(room_at(&server, "r"), Duration::ZERO);
    assert_eq!(cluster_says, crate::cluster::Effects::default());
}

#[tokio::test]
async fn of_two_leaders_with_the_same_old_cache_one_is_refused() {
    let server = Shared::default();
    let leaders = [of_two_nodes(&server, true), of_two_nodes(&server, true)];
    for i in 0..50 {
        let name = format!("r{i}");
        put(&server, &room(&name, 1, 4));
        // The second has its own idea of which node is the emptiest.
        leaders[1].cluster().apply_room(placed(&format!("other{i}"), 1, 40, "a"), Duration::ZERO);
        for ctx in &leaders {
            sees(ctx, room_at(&server, &name));
        }
        let (first, second) = tokio::join!(
            reconcile(key(&name), Arc::clone(&leaders[0])),
            reconcile(key(&name), Arc::clone(&leaders[1]))
        );
        assert!(matches!((first, second), (Next::After(_), Next::RetrySoon) | (Next::RetrySoon, Next::After(_))));
        let before = room_at(&server, &name);
        for ctx in &leaders {
            sees(ctx, before.clone());
            reconcile(key(&name), Arc::clone(ctx)).await;
        }
        assert_eq!(room_at(&server, &name), before, "whoever was second accepts what the first decided");
    }
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_not_decided_otherwise() {
    let server = Shared::default();
    let ctx = of_two_nodes(&server, true);
    put(&server, &room("r", 5, 4));
    sees(&ctx, room_at(&server, "r"));
    server.lock().unwrap().forgets = 1;
    assert_eq!(reconcile(key("r"), Arc::clone(&ctx)).await, Next::RetrySoon);
    let written = room_at(&server, "r");
    let node = written.status.clone().unwrap().route.unwrap().node.unwrap();
    assert_eq!(ctx.cluster().rooms_on(&node).count(), 1, "its place stays reserved");
    // The other node looks better now, but the watch has not told yet what became of the write.
    sees(&ctx, placed("filler", 9, 50, &node));
    assert_eq!(reconcile(key("r"), Arc::clone(&ctx)).await, Next::RetrySoon, "refused: it is based on the old version");
    assert_eq!(ctx.cluster().room(&key("r")).unwrap().assumed.as_ref().unwrap().node, node);
    sees(&ctx, written.clone());
    assert!(matches!(reconcile(key("r"), Arc::clone(&ctx)).await, Next::After(_)));
    assert_eq!(room_at(&server, "r"), written);
}

#[tokio::test]
async fn a_scheduled_room_waits_through_restarts_and_is_placed_when_its_time_has_come() {
    let server = Shared::default();
    let mut scheduled = room("r", 5, 4);
    let begins = |ctx: &Context, minutes| Some(Time(ctx.clock.now().wall + jiff::SignedDuration::from_mins(minutes)));
    let first = of_two_nodes(&server, true);
    scheduled.spec.scheduled_time = begins(&first, 60);
    put(&server, &scheduled);
    sees(&first, room_at(&server, "r"));
    for _ in 0..2 {
        assert!(matches!(reconcile(key("r"), Arc::clone(&first)).await, Next::After(_)));
    }
    let said = room_at(&server, "r");
    assert_eq!((requests(&server, "PATCH"), said.status.as_ref().and_then(|s| s.route.clone())), (1, None));

    let restarted = of_two_nodes(&server, true);
    sees(&restarted, said.clone());
    assert!(matches!(reconcile(key("r"), Arc::clone(&restarted)).await, Next::After(_)));
    assert_eq!(requests(&server, "PATCH"), 1, "that was said");

    let mut sooner = said;
    sooner.spec.scheduled_time = begins(&restarted, 5);
    sooner.metadata.resource_version = Some("50".into());
    put(&server, &sooner);
    let restarted = of_two_nodes(&server, true);
    sees(&restarted, room_at(&server, "r"));
    assert!(matches!(reconcile(key("r"), Arc::clone(&restarted)).await, Next::After(_)));
    assert_eq!(room_at(&server, "r").status.unwrap().route.unwrap().epoch, 1);
}

#[tokio::test]
async fn who_does_not_lead_writes_nothing() {
    let server = Shared::default();
    let ctx = of_two_nodes(&server, false);
    put(&server, &room("r", 5, 4));
    sees(&ctx, room_at(&server, "r"));
    // Not forgotten: the claim may only have lapsed for a moment.
    assert_eq!(reconcile(key("r"), Arc::clone(&ctx)).await, Next::RetrySoon);
    assert_eq!(requests(&server, ""), 0);
}

#[tokio::test]
async fn a_room_that_fits_nowhere_says_so_once() {
    let server = Shared::default();
    let ctx = operator(&server, true, cluster(&[("a", 0)], Placement::Packed));
    put(&server, &room("r", 5, 4));
    for _ in 0..3 {
        sees(&ctx, room_at(&server, "r"));
        assert!(matches!(reconcile(key("r"), Arc::clone(&ctx)).await, Next::After(_)));
    }
    assert_eq!((told(&server), requests(&server, "PATCH")), (vec!["Warning NoCapacity CallRoom/r".to_owned()], 1));
}

#[tokio::test]
async fn a_status_that_is_refused_is_told_to_people_and_one_that_fails_is_not() {
    let server = Shared::default();
    let ctx = of_two_nodes(&server, true);
    put(&server, &room("r", 5, 4));
    sees(&ctx, room_at(&server, "r"));
    let fails = |code| server.lock().unwrap().fails = vec![("PATCH".to_owned(), code)];
    fails(503);
    assert_eq!(reconcile(key("r"), Arc::clone(&ctx)).await, Next::RetrySoon);
    assert_eq!(told(&server), [""; 0]);
    fails(422);
    assert_eq!(reconcile(key("r"), Arc::clone(&ctx)).await, Next::Retry);
    assert_eq!(told(&server), ["Warning StatusRefused CallRoom/r"]);
}

#[tokio::test]
async fn a_room_that_is_gone_gives_its_place_back() {
    let server = Shared::default();
    let ctx = of_two_nodes(&server, true);
    sees(&ctx, room("r", 5, 4));
    reconcile(key("r"), Arc::clone(&ctx)).await;
    let cluster = ctx.cluster();
    assert_eq!(["a", "b"].map(|node| cluster.rooms_on(node).count()), [0, 0]);
}

#[tokio::test]
async fn an_expired_room_is_deleted_and_not_its_successor() {
    let server = Shared::default();
    let ctx = of_two_nodes(&server, true);
    let mut over = placed("r", 5, 4, "a");
    over.spec.lifetime.ttl_seconds_after_ended = Some(0);
    let status = over.status.as_mut().unwrap();
    (status.phase, status.route) = (Some(callplane_crds::callroom::Phase::Ended), None);
    status.ended_at = Some(Time(jiff::Timestamp::UNIX_EPOCH));
    let mut successor = room("r", 9, 4);
    successor.metadata.uid = Some("another".into());
    put(&server, &successor);
    sees(&ctx, over.clone());
    assert_eq!(reconcile(key("r"), Arc::clone(&ctx)).await, Next::RetrySoon);
    assert!(stored::<CallRoom>(&server, "r").is_some());
    put(&server, &over);
    assert!(matches!(reconcile(key("r"), Arc::clone(&ctx)).await, Next::After(_)));
    assert!(stored::<CallRoom>(&server, "r").is_none());
}

#[tokio::test]
async fn a_room_goes_in_its_time_after_the_end_and_not_at_the_next_resync() {
    let server = Shared::default();
    let ctx = of_two_nodes(&server, true);
    let mut ending = placed("r", 5, 4, "a");
    ending.spec.ended = true;
    ending.spec.lifetime.ttl_seconds_after_ended = Some(1);
    put(&server, &ending);
    sees(&ctx, ending);
    let mut looks = 0;
    while stored::<CallRoom>(&server, "r").is_some() {
        let Next::After(rest) = reconcile(key("r"), Arc::clone(&ctx)).await else { panic!("it fails") };
        assert!(rest <= Duration::from_secs(1) || stored::<CallRoom>(&server, "r").is_none(), "{rest:?}");
        looks += 1;
        assert!(looks <= 4, "its end, a look at the clock or two, and the deletion");
        tokio::time::sleep(rest.min(Duration::from_secs(1))).await;
    }
    assert_eq!((requests(&server, "PATCH"), requests(&server, "DELETE")), (1, 1));
}

#[tokio::test]
async fn a_call_that_ends_by_itself_is_told_to_people_once_and_one_that_was_ended_is_not() {
    type Change = fn(&mut CallRoom);
    let cases: [(&str, Change, &[&str]); 3] = [
        ("MaxDuration", |r| r.spec.lifetime.max_duration_seconds = Some(60), &["Normal MaxDuration CallRoom/r"]),
        ("EmptyTimeout", |r| r.spec.lifetime.empty_timeout_seconds = Some(60), &["Normal EmptyTimeout CallRoom/r"]),
        ("EndedBySpec", |r| r.spec.ended = true, &[]),
    ];
    for (reason, change, expected) in cases {
        let server = Shared::default();
        let ctx = of_two_nodes(&server, true);
        let mut over = placed("r", 5, 4, "a");
        change(&mut over);
        // It began long ago by the clock of this machine, and its node has had nobody all along.
        over.status.as_mut().unwrap().started_at = Some(Time(jiff::Timestamp::UNIX_EPOCH));
        put(&server, &over);
        sees(&ctx, over);
        let empty = reporting(node("a", 9, 100), 9, 3600, &[("r", 1, 0)]);
        ctx.cluster().apply_node(empty, ctx.clock.now().mono);
        for _ in 0..2 {
            assert!(matches!(reconcile(key("r"), Arc::clone(&ctx)).await, Next::After(_)));
        }
        let conditions = room_at(&server, "r").status.unwrap().conditions;
        assert!(conditions.iter().any(|c| c.type_ == "Ended" && c.reason == reason), "{conditions:?}");
        assert_eq!(told(&server), expected, "{reason}");
    }
}

/// The gateway's words about the room, as its own write.
fn gateway_says(server: &Shared, version: u64, presence: Presence) {
    let mut room = room_at(server, "r");
    room.status.get_or_insert_default().presence = Some(presence);
    room.metadata.resource_version = Some(version.to_string());
    put(server, &room);
}

#[tokio::test]
async fn a_move_costs_two_writes_and_leaves_the_gateways_words_alone() {
    let server = Shared::default();
    let ctx = of_two_nodes(&server, true);
    put(&server, &auto("r", 5));
    let rest = async || {
        sees(&ctx, room_at(&server, "r"));
        for _ in 0..3 {
            assert!(matches!(reconcile(key("r"), Arc::clone(&ctx)).await, Next::After(_)));
        }
        let status = room_at(&server, "r").status.unwrap();
        (requests(&server, "PATCH"), status.route.unwrap(), status.previous_route, status.presence)
    };
    let (writes, route, previous, presence) = rest().await;
    assert_eq!((writes, route.epoch, route.node, previous, presence), (1, 1, None, None, None));
    assert_eq!(rest().await.0, 1, "a call that nobody talks about costs nothing");

    let mut says = present(3, 0);
    gateway_says(&server, 50, says.clone());
    let (writes, route, previous, presence) = rest().await;
    assert_eq!((writes, route.epoch, route.mode), (2, 2, RouteMode::Sfu));
    assert_eq!((previous.map(|r| r.mode), presence), (Some(RouteMode::P2p), Some(says.clone())));

    says.epoch = Some(2);
    gateway_says(&server, 60, says.clone());
    let (writes, route, previous, presence) = rest().await;
    assert_eq!((writes, route.epoch, previous, presence), (3, 2, None, Some(says)));
    assert_eq!(rest().await.0, 3);

    for (request, body) in &server.lock().unwrap().requests {
        assert!(request.starts_with("PATCH") && body["status"].get("presence").is_none(), "{request} {body}");
    }
    let metrics = ctx.metrics.text().unwrap();
    for line in [
        r#"callplane_operator_route_changes_total{mode="P2P",reason="Scheduled"} 1"#,
        r#"callplane_operator_route_changes_total{mode="SFU",reason="Grown"} 1"#,
        r#"callplane_operator_route_switch_seconds_count{end="acknowledged"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    assert_eq!(ctx.cluster().modes().get(&RouteMode::Sfu), Some(&1));
}

#[tokio::test]
async fn what_the_gateway_says_in_the_same_moment_is_decided_about_and_not_passed_over() {
    let server = Shared::default();
    let ctx = of_two_nodes(&server, true);
    put(&server, &auto("r", 5));
    sees(&ctx, room_at(&server, "r"));
    reconcile(key("r"), Arc::clone(&ctx)).await;
    gateway_says(&server, 50, present(3, 0));
    sees(&ctx, room_at(&server, "r"));
    // Somebody leaves while the write is on its way: it is refused, and gives its place back when the watch tells.
    gateway_says(&server, 51, present(2, 0));
    assert_eq!(reconcile(key("r"), Arc::clone(&ctx)).await, Next::RetrySoon);
    sees(&ctx, room_at(&server, "r"));
    assert!(matches!(reconcile(key("r"), Arc::clone(&ctx)).await, Next::After(_)));
    assert_eq!(room_at(&server, "r").status.unwrap().route.unwrap().epoch, 1);
    let cluster = ctx.cluster();
    assert_eq!(["a", "b"].map(|node| cluster.rooms_on(node).count()), [0, 0]);
}

#[tokio::test]
async fn a_move_whose_answer_was_lost_is_not_made_twice() {
    let server = Shared::default();
    let ctx = of_two_nodes(&server, true);
    put(&server, &auto("r", 5));
    sees(&ctx, room_at(&server, "r"));
    reconcile(key("r"), Arc::clone(&ctx)).await;
    gateway_says(&server, 50, present(3, 0));
    sees(&ctx, room_at(&server, "r"));
    server.lock().unwrap().forgets = 1;
    assert_eq!(reconcile(key("r"), Arc::clone(&ctx)).await, Next::RetrySoon);
    assert_eq!(reconcile(key("r"), Arc::clone(&ctx)).await, Next::RetrySoon, "it is based on the old version");
    let written = room_at(&server, "r");
    sees(&ctx, written.clone());
    assert!(matches!(reconcile(key("r"), Arc::clone(&ctx)).await, Next::After(_)));
    assert_eq!(room_at(&server, "r"), written);
    assert_eq!(written.status.unwrap().route.unwrap().epoch, 2);
}
