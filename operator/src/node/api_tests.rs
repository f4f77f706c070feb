//! Nodes against a scripted API server: what it is asked before a node counts as dead.

use std::sync::Arc;

use callplane_crds::{MediaNode, mediapool::Placement};
use k8s_openapi::api::core::v1::Pod;

use super::reconcile;
use crate::{
    cluster::{Cluster, fixtures::*, node::Life},
    context::Context,
    fake::{Shared, drop_object, operator, put, requests, stored, told},
    queue::Next,
    room,
};

const NODES: &str = "/apis/callplane.io/v1alpha1/namespaces/team/medianodes";

/// The room `r` is routed to `a`; whether the watches show `a` is up to `change`.
fn world(change: impl FnOnce(&mut Cluster)) -> (Shared, Arc<Context>) {
    let server = Shared::default();
    let mut cluster = cluster(&[("a", 100), ("b", 100)], Placement::Packed);
    put(&server, &placed("r", 5, 4, "a"));
    cluster.apply_room(placed("r", 5, 4, "a"), at(0).mono);
    for name in ["a", "b"] {
        put(&server, &node(name, 1, 100));
        put(&server, &pod(name));
    }
    change(&mut cluster);
    (server.clone(), operator(&server, true, cluster))
}

/// Lets both controllers have a look; where the room is then.
async fn look(server: &Shared, ctx: &Arc<Context>) -> (Next, String, i64) {
    let next = reconcile("a".into(), Arc::clone(ctx)).await;
    room::reconcile(key("r"), Arc::clone(ctx)).await;
    let room: callplane_crds::CallRoom = stored(server, "r").unwrap();
    let route = room.status.unwrap().route.unwrap();
    (next, route.node.unwrap(), route.epoch)
}

fn fails(server: &Shared, what: String) {
    server.lock().unwrap().fails.push((what, 500));
}

#[tokio::test]
async fn a_new_leader_whose_watch_of_nodes_lags_reroutes_nobody() {
    let (server, ctx) = world(|c| {
        // The room's watch is ahead: nothing is known of its node yet.
        *c = Cluster::new(crate::leader::LEASE_NAME);
        c.apply_node(node("b", 1, 100), at(0).mono);
        renew(c, ["b"], 0);
        c.apply_room(placed("r", 5, 4, "a"), at(0).mono);
    });
    for _ in 0..3 {
        let (next, node, epoch) = look(&server, &ctx).await;
        assert_eq!((node.as_str(), epoch), ("a", 1));
        assert!(matches!(next, Next::After(rest) if rest.as_secs() >= 4), "{next:?}");
    }
    assert_eq!(requests(&server, &format!("GET {NODES}/a")), 1, "asked once, and not for every look");
    assert_eq!(requests(&server, "PATCH"), 0);
}

#[tokio::test]
async fn only_not_found_or_another_of_its_name_means_that_a_node_is_gone() {
    let unseen = |c: &mut Cluster| drop(c.remove_node("a", Some("uid-of-a")));

    let (server, ctx) = world(unseen);
    fails(&server, format!("GET {NODES}"));
    for _ in 0..3 {
        let (next, node, _) = look(&server, &ctx).await;
        assert_eq!((next, node.as_str()), (Next::RetrySoon, "a"), "an error is no answer");
    }
    server.lock().unwrap().fails.clear();
    assert_eq!(look(&server, &ctx).await.1, "a", "it is there");

    let (server, ctx) = world(unseen);
    drop_object::<MediaNode>(&server, "a");
    let (_, node, epoch) = look(&server, &ctx).await;
    assert_eq!((node.as_str(), epoch), ("b", 2));

    let (server, ctx) = world(unseen);
    let mut successor = self::node("a", 9, 100);
    successor.metadata.uid = Some("another".into());
    put(&server, &successor);
    let (_, node, epoch) = look(&server, &ctx).await;
    assert_eq!((node.as_str(), epoch), ("b", 2));
}

#[tokio::test]
async fn a_relabelled_pod_is_not_a_dead_one() {
    let (server, ctx) = world(|c| drop(c.remove_pod("a")));
    for _ in 0..2 {
        let (_, node, _) = look(&server, &ctx).await;
        assert_eq!(node, "a");
    }
    assert_eq!(requests(&server, "GET /api/v1/namespaces/team/pods/a"), 1);
    assert!(ctx.cluster().node("a").unwrap().lost.is_none());
    assert_eq!(told(&server), [""; 0]);
}

#[tokio::test]
async fn a_pod_that_is_really_gone_or_ended_unwatched_sends_its_rooms_away() {
    type Change = fn(&Shared);
    let cases: [(&str, Change); 3] = [
        ("its pod is gone", |server| drop_object::<Pod>(server, "a")),
        ("its pod is gone", |server| {
            let mut successor = pod("a");
            successor.metadata.uid = Some("another".into());
            put(server, &successor);
        }),
        ("its pod ended: container media-node ended with exit code 137 (OOMKilled)", |server| {
            put(server, &ended_pod("a"));
        }),
    ];
    for (expected, change) in cases {
        let (server, ctx) = world(|c| drop(c.remove_pod("a")));
        change(&server);
        let (_, node, epoch) = look(&server, &ctx).await;
        assert_eq!((node.as_str(), epoch), ("b", 2), "{expected}");
        let said = ctx.cluster().node("a").unwrap().lost.clone().unwrap().cause.to_string();
        assert_eq!(said, expected);
        assert_eq!(told(&server), ["Warning NodeLost MediaNode/a", "Warning NodeLost CallRoom/r"], "each one once");
    }
}

#[tokio::test]
async fn a_node_whose_pod_cannot_be_asked_for_is_judged_by_its_lease() {
    let (server, ctx) = world(|c| drop(c.remove_pod("a")));
    fails(&server, "GET /api/v1/namespaces/team/pods".into());
    let (next, node, _) = look(&server, &ctx).await;
    assert_eq!((next, node.as_str()), (Next::RetrySoon, "a"));
    assert_eq!(ctx.cluster().node("a").unwrap().life(), Life::Serving);
    let (next, node, _) = look(&server, &ctx).await;
    assert!(matches!(next, Next::After(rest) if rest.as_secs() <= 5), "{next:?}");
    assert_eq!(node, "a");
    assert_eq!(requests(&server, "GET /api/v1/namespaces/team/pods/a"), 1);
}
