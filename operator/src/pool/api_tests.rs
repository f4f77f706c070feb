//! Pools against a scripted API server: what one pass does, and what one step that fails leaves to the others.

use std::sync::Arc;

use callplane_crds::{CallRoom, MediaNode, mediapool::Placement};
use k8s_openapi::{
    api::{core::v1::Pod, policy::v1::PodDisruptionBudget},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{decide::CORDON_AGE, objects::ALL_PODS, observe::SURPLUS_ANNOTATION, reconcile};
use crate::{
    clock::Clock,
    cluster::{Cluster, fixtures::*},
    context::Context,
    fake::{Shared, candidate, operator, put, requests, stored, told},
    leader::Claim,
    queue::Next,
};

const NODES: &str = "/apis/callplane.io/v1alpha1/namespaces/team/medianodes";
const ROOMS: &str = "/apis/callplane.io/v1alpha1/callrooms";
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

/// The node `a` as it was reported about at that version: too many, and empty.
fn surplus(version: u64) -> MediaNode {
    let mut node = reporting(node("a", version, 10), version, version, &[]);
    node.spec.cordoned = true;
    node.metadata.annotations = Some([(SURPLUS_ANNOTATION.to_owned(), "true".to_owned())].into());
    node
}

/// A pool that wants none of its one node, and what its leader knows: long cordoned, reported empty just now, and no route
/// names it. The API server knows that too, and what `change` says.
async fn emptied(change: impl FnOnce(&Shared)) -> (Shared, Arc<Context>) {
    let (server, clock, claim) = (Shared::default(), Clock::start(), Arc::<Claim>::default());
    let mut cluster = cluster(&[], Placement::Packed);
    let mut wanted = pool("p", 0, Placement::Packed);
    wanted.spec.capacity = surplus(1).spec.capacity;
    put(&server, &wanted);
    cluster.apply_pool(wanted);
    cluster.apply_node(surplus(1), clock.now().mono);
    tokio::time::advance(CORDON_AGE).await;
    cluster.apply_node(surplus(2), clock.now().mono);
    put(&server, &surplus(2));
    change(&server);
    claim.renewed(clock.now().mono);
    (server.clone(), candidate(&server, claim, clock, cluster))
}

#[tokio::test(start_paused = true)]
async fn an_empty_node_goes_when_the_api_server_knows_of_no_route_to_it_either() {
    let (server, ctx) = emptied(|_| ()).await;
    pass(&ctx).await;
    assert!(stored::<MediaNode>(&server, "a").is_none());
    assert_eq!(told(&server), ["Normal Removed MediaPool/p"]);
    let asked = requests(&server, &format!("GET {ROOMS}"));
    assert_eq!((asked, requests(&server, "DELETE")), (2, 1), "asked about routes and about previous ones");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_a_route_names_only_at_the_api_server_is_kept() {
    let routed = |previous: bool| {
        let mut room = placed("r", 7, 4, "a");
        if previous {
            let status = room.status.as_mut().unwrap();
            status.previous_route = status.route.replace(route(2, "elsewhere", 1));
        }
        room
    };
    for previous in [false, true] {
        let (server, ctx) = emptied(|server| put(server, &routed(previous))).await;
        for _ in 0..2 {
            let next = pass(&ctx).await;
            assert!(matches!(next, Next::After(rest) if rest.as_secs() <= 5), "it is looked at again soon: {next:?}");
            assert!(stored::<MediaNode>(&server, "a").is_some(), "previous: {previous}");
        }
        assert_eq!((requests(&server, "DELETE"), told(&server)), (0, vec![]));
        crate::fake::drop_object::<CallRoom>(&server, "r");
        pass(&ctx).await;
        assert!(stored::<MediaNode>(&server, "a").is_none(), "it was that route that kept it");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_goes_on_no_older_word_than_its_latest_report_and_never_for_another() {
    let occupied = reporting(surplus(3), 3, 3, &[("r", 1, 2)]);
    let mut successor = surplus(2);
    successor.metadata.uid = Some("another".into());
    for (later, what) in [(occupied.clone(), "somebody joined"), (surplus(3), "a new report"), (successor, "another")] {
        let (server, ctx) = emptied(|server| put(server, &later)).await;
        let next = pass(&ctx).await;
        assert!(matches!(next, Next::After(rest) if rest.as_secs() <= 5), "{what}: {next:?}");
        assert_eq!(stored::<MediaNode>(&server, "a"), Some(later), "{what}");
        assert_eq!((requests(&server, "DELETE"), told(&server)), (1, vec![]), "{what}: refused");
    }
    // Once the watch has shown who joined it is not even tried.
    let (server, ctx) = emptied(|server| put(server, &occupied)).await;
    ctx.cluster().apply_node(occupied, ctx.clock.now().mono);
    pass(&ctx).await;
    assert_eq!(requests(&server, "DELETE"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_node_is_kept_while_the_api_server_cannot_be_asked_about_its_routes() {
    let (server, ctx) = emptied(|server| refuse(server, &format!("GET {ROOMS}"), 500)).await;
    assert_eq!(pass(&ctx).await, Next::Retry);
    assert!(stored::<MediaNode>(&server, "a").is_some());
    assert_eq!((requests(&server, "DELETE"), told(&server)), (0, vec![]));
}
