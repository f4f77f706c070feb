//! Pools against a scripted API server: what one pass does, and what one step that fails leaves to the others.

use std::sync::Arc;

use callplane_crds::{MediaNode, mediapool::Placement};
use k8s_openapi::{
    api::{core::v1::Pod, policy::v1::PodDisruptionBudget},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{objects::ALL_PODS, reconcile};
use crate::{
    cluster::{Cluster, fixtures::*},
    context::Context,
    fake::{Shared, operator, put, requests, stored, told},
    queue::Next,
};

const NODES: &str = "/apis/callplane.io/v1alpha1/namespaces/team/medianodes";
const BUDGETS: &str = "/apis/policy/v1/namespaces/team/poddisruptionbudgets";

/// The pool `p`, wanting so many of the nodes that `change` leaves.
fn world(replicas: i32, nodes: &[MediaNode], change: impl FnOnce(&mut Cluster)) -> (Shared, Arc<Context>) {
    let server = Shared::default();
    let mut cluster = cluster(&[], Placement::Packed);
    let mut wanted = pool("p", replicas, Placement::Packed);
    wanted.spec.capacity = node("a", 1, 10).spec.capacity;
    put(&server, &wanted);
    cluster.apply_pool(wanted);
    for node in nodes {
        put(&server, node);
        cluster.apply_node(node.clone(), at(0).mono);
    }
    let running = nodes.iter().filter(|n| n.status.is_some());
    renew(&mut cluster, running.filter_map(|n| n.metadata.name.as_deref()), 0);
    change(&mut cluster);
    (server.clone(), operator(&server, true, cluster))
}

async fn pass(ctx: &Arc<Context>) -> Next {
    reconcile("p".into(), Arc::clone(ctx)).await
}

fn blank(name: &str) -> MediaNode {
    MediaNode { status: None, ..node(name, 1, 10) }
}

fn refuse(server: &Shared, what: &str, code: u16) {
    server.lock().unwrap().fails.push((what.into(), code));
}

#[tokio::test]
async fn the_budget_is_there_first_and_put_right_when_somebody_changes_it() {
    let (server, ctx) = world(1, &[], |_| ());
    pass(&ctx).await;
    let asked: Vec<String> = server.lock().unwrap().requests.iter().map(|(request, _)| request.clone()).collect();
    let place = |what: &str| asked.iter().position(|request| request.starts_with(what)).unwrap();
    assert!(place(&format!("POST {BUDGETS}")) < place("POST /api/v1/namespaces/team/pods"), "{asked:?}");

    let right: PodDisruptionBudget = stored(&server, "p-media").unwrap();
    let looks =
        |server: &Shared| (requests(server, &format!("GET {BUDGETS}")), requests(server, &format!("PUT {BUDGETS}")));
    pass(&ctx).await;
    assert_eq!(looks(&server), (1, 0), "not with every pass");
    let later = |ctx: &Context| ctx.budgets.lock().unwrap().clear();
    later(&ctx);
    pass(&ctx).await;
    assert_eq!(looks(&server), (2, 0), "nothing is written while it is right");

    type Change = fn(&mut PodDisruptionBudget);
    let changes: [Change; 4] = [
        |b| b.spec.as_mut().unwrap().min_available = Some(IntOrString::Int(0)),
        |b| {
            let spec = b.spec.as_mut().unwrap();
            (spec.min_available, spec.max_unavailable) = (None, Some(IntOrString::Int(1)));
        },
        |b| b.spec.as_mut().unwrap().unhealthy_pod_eviction_policy = Some("AlwaysAllow".into()),
        |b| b.metadata.owner_references = None,
    ];
    for (i, change) in changes.into_iter().enumerate() {
        let mut changed = right.clone();
        change(&mut changed);
        changed.metadata.annotations = Some([("note".to_owned(), "mine".to_owned())].into());
        put(&server, &changed);
        later(&ctx);
        pass(&ctx).await;
        assert_eq!(looks(&server).1, i + 1);
        let repaired: PodDisruptionBudget = stored(&server, "p-media").unwrap();
        assert_eq!(
            (&repaired.spec, &repaired.metadata.owner_references),
            (&right.spec, &right.metadata.owner_references)
        );
        assert_eq!(repaired.spec.unwrap().min_available, Some(IntOrString::Int(ALL_PODS)));
        assert!(repaired.metadata.annotations.is_some(), "what is nobody's business stays");
    }
}

#[tokio::test]
async fn without_its_budget_a_pool_makes_no_pods_and_does_all_else() {
    let (server, ctx) = world(2, &[node("a", 1, 10), blank("b")], |c| drop(c.apply_pod(&ended_pod("a"))));
    refuse(&server, &format!("POST {BUDGETS}"), 403);
    assert_eq!(pass(&ctx).await, Next::Retry);
    assert_eq!(requests(&server, "POST /api/v1"), 0);
    assert!(stored::<MediaNode>(&server, "a").is_none(), "the dead are buried");
    assert_eq!(told(&server), ["Warning NodeReplaced MediaPool/p"]);
}

#[tokio::test]
async fn a_pod_that_is_refused_does_not_keep_the_rest_of_the_pool_waiting() {
    let (server, ctx) = world(1, &[blank("a"), node("b", 1, 10), node("c", 1, 10)], |c| {
        c.apply_pod(&ended_pod("c"));
    });
    refuse(&server, "POST /api/v1/namespaces/team/pods", 403);
    assert_eq!(pass(&ctx).await, Next::Retry, "it is tried again");
    assert!(requests(&server, "POST /api/v1/namespaces/team/pods") >= 1);
    assert!(stored::<MediaNode>(&server, "c").is_none(), "the dead are buried");
    let cordoned = ["a", "b"].map(|name| stored::<MediaNode>(&server, name).unwrap().spec.cordoned);
    assert_eq!(cordoned, [true, false], "and what is too many is cordoned, although it stands behind the refused pod");
    let expected =
        ["Warning NodeReplaced MediaPool/p", "Warning PodRefused MediaPool/p", "Normal Cordoned MediaPool/p"];
    assert_eq!(told(&server), expected);
}

#[tokio::test]
async fn what_is_too_many_is_cordoned_and_taken_back_and_both_are_said() {
    let (server, ctx) = world(1, &[blank("a"), node("b", 1, 10)], |_| ());
    pass(&ctx).await;
    assert_eq!(told(&server), ["Normal Cordoned MediaPool/p"]);
    let cordoned: MediaNode = stored(&server, "a").unwrap();
    assert!(cordoned.spec.cordoned);

    let mut wanted = pool("p", 2, Placement::Packed);
    wanted.spec.capacity = cordoned.spec.capacity;
    ctx.cluster().apply_pool(wanted);
    pass(&ctx).await;
    assert!(!stored::<MediaNode>(&server, "a").unwrap().spec.cordoned);
    assert_eq!(told(&server), ["Normal Uncordoned MediaPool/p"]);
}

#[tokio::test]
async fn a_node_that_nobody_made_does_not_keep_a_pool_from_making_its_own() {
    let mut foreign = node("x", 1, 10);
    foreign.metadata.owner_references = None;
    let (server, ctx) = world(1, &[foreign], |_| ());
    pass(&ctx).await;
    assert_eq!((requests(&server, &format!("POST {NODES}")), requests(&server, "POST /api/v1")), (1, 1));

    // One of its own that the cache does not show yet does.
    let (server, ctx) = world(1, &[], |_| ());
    put(&server, &node("late", 7, 10));
    pass(&ctx).await;
    assert_eq!(requests(&server, &format!("POST {NODES}")), 0);
    assert!(stored::<Pod>(&server, "late").is_none());
}
