//! What is decided about a pool, case by case, and the promises about scale-down.

use std::{sync::Arc, time::Duration};

use callplane_crds::{
    MediaNode,
    condition::is_true,
    mediapool::{Placement, PortRange, Reachability, ReachabilityMode},
};
use k8s_openapi::{
    api::core::v1::{Pod, PodCondition},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::ResourceExt;
use proptest::prelude::*;

use super::{
    backoff::Crashes,
    decide::{CORDON_AGE, Hindrance, Plan, SILENT_KEPT, Step, decide},
    observe::{SURPLUS_ANNOTATION, World, observe},
    report,
};
use crate::cluster::{Cluster, fixtures::*, node::LossCause};

/// The pool `p` of `cluster`, wanting so many.
fn world(cluster: &mut Cluster, replicas: i32, seconds: u64) -> World {
    let mut wanted = pool("p", replicas, Placement::Packed);
    // The fixture's nodes have capacities of their own; following the pool's is another test's business.
    if let Some((_, node)) = cluster.nodes().next() {
        wanted.spec.capacity = node.object.as_ref().unwrap().spec.capacity.clone();
    }
    cluster.apply_pool(wanted);
    observe(cluster, "p", Crashes::default(), at(seconds)).unwrap()
}

fn surplus(mut node: MediaNode, version: u64) -> MediaNode {
    node.spec.cordoned = true;
    node.annotations_mut().insert(SURPLUS_ANNOTATION.into(), "true".into());
    node.metadata.resource_version = Some(version.to_string());
    node
}

fn steps(world: &World, seconds: u64) -> Vec<Step> {
    decide(world, at(seconds)).steps
}

#[test]
fn missing_nodes_are_made_and_extra_ones_cordoned() {
    let mut cluster = cluster(&[("a", 10), ("b", 10)], Placement::Packed);
    assert_eq!(steps(&world(&mut cluster, 2, 0), 0), []);
    assert_eq!(steps(&world(&mut cluster, 4, 0), 0), [Step::Create { ports: vec![] }, Step::Create { ports: vec![] }]);
    cluster.apply_room(placed("r", 1, 4, "a"), at(0).mono);
    assert_eq!(steps(&world(&mut cluster, 1, 0), 0), [Step::Cordon { node: "b".into() }]);
}

#[test]
fn a_surplus_node_goes_only_when_it_is_long_cordoned_and_all_agree_that_it_is_empty() {
    let after = |change: &dyn Fn(&mut Cluster), seconds| {
        let mut cluster = cluster(&[("a", 10), ("b", 10)], Placement::Packed);
        cluster.apply_node(surplus(node("b", 1, 10), 2), at(0).mono);
        for t in (0..=seconds).step_by(4) {
            renew(&mut cluster, ["a", "b"], t);
        }
        let report = reporting(surplus(node("b", 1, 10), 3), 3, seconds, &[]);
        cluster.apply_node(report, at(seconds).mono);
        change(&mut cluster);
        steps(&world(&mut cluster, 1, seconds), seconds)
    };
    let age = CORDON_AGE.as_secs();
    let gone = vec![Step::Remove { node: "b".into() }];
    assert_eq!(after(&|_| (), age), gone);
    assert_eq!(after(&|_| (), age - 1), [], "a former leader might still place a room there");
    assert_eq!(after(&|c| drop(c.apply_room(placed("r", 9, 4, "b"), at(0).mono)), age), [], "a route names it");
    let busy = |people| {
        move |c: &mut Cluster| {
            c.apply_node(reporting(surplus(node("b", 1, 10), 4), 4, age + 1, &[("x", 1, people)]), at(age).mono);
        }
    };
    assert_eq!(after(&busy(2), age), [], "the node says that somebody is there");
    assert_eq!(after(&busy(0), age), [], "or that it still has a room");

    let mut cluster = cluster(&[("a", 10), ("b", 10)], Placement::Packed);
    cluster.apply_node(surplus(node("b", 1, 10), 2), at(0).mono);
    for t in (0..=100).step_by(4) {
        renew(&mut cluster, ["a", "b"], t);
    }
    assert_eq!(steps(&world(&mut cluster, 1, 100), 100), [], "its last report is too old: unknown is not zero");
}

#[test]
fn scaling_up_again_takes_back_what_was_surplus() {
    let mut cluster = cluster(&[("a", 10), ("b", 10), ("c", 10)], Placement::Packed);
    cluster.apply_node(surplus(node("b", 1, 10), 2), at(0).mono);
    cluster.apply_node(surplus(node("c", 1, 10), 2), at(0).mono);
    cluster.apply_room(placed("r", 9, 4, "c"), at(0).mono);
    assert_eq!(steps(&world(&mut cluster, 2, 0), 0), [Step::Uncordon { node: "c".into() }]);
    assert_eq!(
        steps(&world(&mut cluster, 4, 0), 0),
        [Step::Uncordon { node: "c".into() }, Step::Uncordon { node: "b".into() }, Step::Create { ports: vec![] }]
    );
}

#[test]
fn the_dead_are_buried_and_replaced() {
    let mut cluster = cluster(&[("a", 10), ("b", 10)], Placement::Packed);
    cluster.apply_pod(&ended_pod("a"));
    let cause = LossCause::PodEnded("container media-node ended with exit code 137 (OOMKilled)".into());
    let replaced = [Step::Bury { node: "a".into(), cause }, Step::Create { ports: vec![] }];
    assert_eq!(steps(&world(&mut cluster, 2, 0), 0), replaced);

    let mut cluster = crate::cluster::fixtures::cluster(&[("a", 10), ("b", 10)], Placement::Packed);
    cluster.mark_lost("a", LossCause::Silent, at(20).mono);
    let one_more = [Step::Create { ports: vec![] }];
    assert_eq!(steps(&world(&mut cluster, 2, 20), 20), one_more, "replaced at once, and kept for a while");
    let late = 20 + SILENT_KEPT.as_secs();
    let buried = Step::Bury { node: "a".into(), cause: LossCause::Silent };
    assert_eq!(steps(&world(&mut cluster, 1, late), late), [buried]);
}

#[test]
fn a_node_whose_pod_was_told_to_stop_is_replaced_and_stays_until_it_is_empty() {
    let leaving = || {
        let mut pod = pod("a");
        pod.metadata.deletion_timestamp = Some(Time(wall(1)));
        pod
    };
    for people in [2, 0] {
        let mut cluster = cluster(&[("a", 10), ("b", 10)], Placement::Packed);
        cluster.apply_room(placed("r", 1, 4, "a"), at(0).mono);
        cluster.apply_node(reporting(node("a", 2, 10), 2, 1, &[("r", 1, people)]), at(1).mono);
        cluster.apply_pod(&leaving());
        let create = [Step::Create { ports: vec![] }];
        assert_eq!(steps(&world(&mut cluster, 2, 2), 2), create, "{people} people: only its place is filled");
        assert_eq!(steps(&world(&mut cluster, 1, 3600), 3600), [], "however long it takes");
        // Its process ends by itself when it is empty.
        cluster.apply_pod(&ended_pod("a"));
        let buried = steps(&world(&mut cluster, 1, 3601), 3601);
        assert!(matches!(&buried[..], [Step::Bury { node, .. }] if node == "a"), "{buried:?}");
    }
}

#[test]
fn a_node_without_a_pod_gets_one_and_one_that_nobody_made_is_left_alone() {
    let mut cluster = cluster(&[("a", 10)], Placement::Packed);
    let mut blank = node("b", 1, 10);
    blank.status = None;
    cluster.apply_node(blank, at(0).mono);
    let mut foreign = node("f", 1, 10);
    foreign.metadata.owner_references = None;
    cluster.apply_node(foreign, at(0).mono);
    assert_eq!(steps(&world(&mut cluster, 2, 0), 0), [Step::CreatePod { node: "b".into() }]);
    assert_eq!(
        steps(&world(&mut cluster, 1, 0), 0),
        [Step::CreatePod { node: "b".into() }, Step::Cordon { node: "b".into() }]
    );
    let mut fresh = node("b", 2, 10);
    fresh.status = None;
    fresh.metadata.creation_timestamp = Some(Time(wall(0)));
    cluster.apply_node(fresh, at(0).mono);
    assert_eq!(steps(&world(&mut cluster, 2, 0), 0), [], "its pod is being made");
    assert_eq!(steps(&world(&mut cluster, 2, 3), 3), [Step::CreatePod { node: "b".into() }]);
}

#[test]
fn crashes_and_missing_ports_are_said() {
    let mut cluster = cluster(&[], Placement::Packed);
    let mut world = world(&mut cluster, 3, 100);
    world.crashes = Crashes { count: 4, last: Duration::from_secs(90), what: "p-x: exit code 1".into() };
    let plan = decide(&world, at(100));
    let until = Duration::from_secs(130);
    assert_eq!(
        plan,
        Plan { steps: vec![], hindrance: Some(Hindrance::Crashes(until)), again: Some(Duration::from_secs(30)) }
    );
    let status = report::status(&world, &plan, at(100));
    assert_eq!(
        (status.conditions[0].reason.as_str(), status.conditions[1].reason.as_str()),
        ("PodsCrash", "PodsCrash")
    );
    assert!(status.conditions[0].message.contains("4 crashes in a row, the last: p-x: exit code 1"), "{status:?}");

    world.crashes = Crashes::default();
    let pool = Arc::make_mut(&mut world.pool);
    pool.spec.template.workers = Some(2);
    pool.spec.reachability = Reachability {
        mode: ReachabilityMode::HostPort,
        ports: Some(PortRange { from: 20_000, to: 20_004 }),
        announce: None,
    };
    let plan = decide(&world, at(100));
    assert_eq!(
        plan.steps,
        [Step::Create { ports: vec![20_000, 20_001] }, Step::Create { ports: vec![20_002, 20_003] }]
    );
    assert_eq!(plan.hindrance, Some(Hindrance::NoPorts));
    assert_eq!(report::status(&world, &plan, at(100)).conditions[1].reason, "NoPorts");
}

#[test]
fn a_settled_pool_says_so_and_says_it_once() {
    let mut cluster = cluster(&[("a", 10), ("b", 10)], Placement::Packed);
    cluster.apply_room(placed("r", 1, 4, "a"), at(0).mono);
    let mut world = world(&mut cluster, 2, 0);
    let status = report::status(&world, &decide(&world, at(0)), at(0));
    assert_eq!(
        (status.replicas, status.ready_replicas, status.cordoned_replicas, status.utilization_percent),
        (2, 2, 0, 5)
    );
    assert!(is_true(&status.conditions, "Available") && !is_true(&status.conditions, "Progressing"));
    assert_eq!(status.selector.as_deref(), Some("callplane.io/pool=p"));
    Arc::make_mut(&mut world.pool).status = Some(status.clone());
    assert_eq!(report::status(&world, &decide(&world, at(50)), at(50)), status);
}

#[test]
fn a_pool_whose_reachability_is_of_the_future_keeps_its_nodes_and_makes_none() {
    let mut cluster = cluster(&[("a", 10)], Placement::Packed);
    let mut world = world(&mut cluster, 3, 0);
    let mut pool = (*world.pool).clone();
    pool.spec.reachability.mode = ReachabilityMode::Unknown;
    world.pool = Arc::new(pool);
    let plan = decide(&world, at(0));
    assert_eq!((plan.steps.as_slice(), &plan.hindrance), (&[][..], &Some(Hindrance::UnknownReachability)));
    let said = report::status(&world, &plan, at(0)).conditions[0].clone();
    assert_eq!((said.status.as_str(), said.reason.as_str()), ("False", "UnknownReachability"));
}

/// What there is of a node, besides the routes that name it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Trace {
    /// A report of that second, about so many people.
    Report(u64, i32),
    /// Nothing: it never ran.
    Nothing,
    /// Somebody wiped its status with people on it. Its lease is left.
    WipedWithLease,
    /// The same, and its lease is gone. Its pod is ready.
    WipedWithPod,
    /// The same, and its pod is not ready. This replica saw it report.
    WipedAsSeen,
}

impl Trace {
    const WIPED: [Self; 3] = [Self::WipedWithLease, Self::WipedWithPod, Self::WipedAsSeen];

    fn is_wiped(self) -> bool {
        Self::WIPED.contains(&self)
    }
}

fn ready(mut pod: Pod) -> Pod {
    let condition = PodCondition { type_: "Ready".into(), status: "True".into(), ..PodCondition::default() };
    pod.status.get_or_insert_default().conditions = Some(vec![condition]);
    pod
}

/// Shows `node` as it looks when that is all there is of it. Whoever is to have a lease renews elsewhere.
fn show(cluster: &mut Cluster, node: &MediaNode, trace: Trace) {
    let name = node.metadata.name.clone().unwrap();
    let blank = |version: &str| {
        let mut blank = MediaNode { status: None, ..node.clone() };
        blank.metadata.resource_version = Some(version.to_owned());
        blank
    };
    cluster.apply_pod(&if trace == Trace::WipedWithPod { ready(pod(&name)) } else { pod(&name) });
    match trace {
        Trace::Report(second, people) => {
            let rooms: Vec<(&str, i64, i32)> = if people > 0 { vec![("x", 1, people)] } else { vec![] };
            cluster.apply_node(node.clone(), at(0).mono);
            cluster.apply_node(reporting(node.clone(), 3, second + 1, &rooms), at(second).mono);
        }
        Trace::WipedAsSeen => {
            cluster.apply_node(reporting(node.clone(), 3, 1, &[("x", 1, 2)]), at(0).mono);
            cluster.apply_node(blank("4"), at(59).mono);
        }
        Trace::Nothing | Trace::WipedWithLease | Trace::WipedWithPod => {
            drop(cluster.apply_node(blank("3"), at(0).mono))
        }
    }
}

/// A pool with these nodes, at second 60, that wants so many.
fn shown(nodes: &[(MediaNode, Trace)], replicas: i32) -> (Cluster, World) {
    let mut cluster = cluster(&[], Placement::Packed);
    for (node, trace) in nodes {
        show(&mut cluster, node, *trace);
    }
    let renewing = nodes.iter().filter(|(_, t)| matches!(t, Trace::Report(..) | Trace::WipedWithLease));
    let renewing: Vec<&str> = renewing.filter_map(|(n, _)| n.metadata.name.as_deref()).collect();
    for t in (0..=60).step_by(4) {
        renew(&mut cluster, renewing.iter().copied(), t);
    }
    let world = world(&mut cluster, replicas, 60);
    (cluster, world)
}

#[test]
fn a_node_whose_status_was_wiped_is_unknown_and_not_blank() {
    for trace in Trace::WIPED {
        let (_, scaled_down) = shown(&[(node("a", 2, 10), trace), (node("b", 2, 10), Trace::Report(60, 5))], 1);
        assert_eq!(steps(&scaled_down, 60), [Step::Cordon { node: "b".into() }], "{trace:?}: not the unknown one");
        let (_, surplus) = shown(&[(surplus(node("a", 2, 10), 2), trace)], 0);
        assert_eq!(steps(&surplus, 60), [], "{trace:?}");
    }
    let (_, never_ran) = shown(&[(node("a", 2, 10), Trace::Nothing), (node("b", 2, 10), Trace::Report(60, 0))], 1);
    assert_eq!(steps(&never_ran, 60), [Step::Cordon { node: "a".into() }]);
    let (_, never_ran) = shown(&[(surplus(node("a", 2, 10), 2), Trace::Nothing)], 0);
    assert_eq!(steps(&never_ran, 60), [Step::Remove { node: "a".into() }]);
}

fn any_trace() -> impl Strategy<Value = Trace> {
    prop_oneof![
        (0u64..60, 0i32..3).prop_map(|(second, people)| Trace::Report(second, people)),
        Just(Trace::Nothing),
        prop::sample::select(Trace::WIPED.to_vec()),
    ]
}

proptest! {
    /// Whatever the nodes look like: none goes that has a room, a person, or an unknown; and never more than are too many.
    #[test]
    fn scale_down_never_takes_a_node_with_a_call(
        nodes in prop::collection::vec((prop::bool::ANY, 0usize..3, any_trace()), 1..8),
        replicas in 0i32..8,
    ) {
        let names: Vec<String> = (0..nodes.len()).map(|i| format!("n{i}")).collect();
        let objects = names.iter().zip(&nodes).map(|(name, (is_surplus, _, trace))| {
            (if *is_surplus { surplus(node(name, 2, 10), 2) } else { node(name, 2, 10) }, *trace)
        });
        let (mut cluster, _) = shown(&objects.collect::<Vec<_>>(), replicas);
        for (name, (_, rooms, _)) in names.iter().zip(&nodes) {
            for r in 0..*rooms {
                cluster.apply_room(placed(&format!("{name}-{r}"), 1, 4, name), at(0).mono);
            }
        }
        let world = world(&mut cluster, replicas, 60);
        let plan = decide(&world, at(60));
        for step in &plan.steps {
            let of = |node: &String| nodes[names.iter().position(|n| n == node).unwrap()];
            prop_assert!(!matches!(step, Step::Bury { .. }), "none of them is dead");
            match step {
                Step::Remove { node } => {
                    let (is_surplus, rooms, trace) = of(node);
                    prop_assert!(is_surplus && rooms == 0, "{node} of {nodes:?}");
                    let is_empty = match trace {
                        Trace::Report(second, people) => people == 0 && second >= 30,
                        _ => trace == Trace::Nothing,
                    };
                    prop_assert!(is_empty, "{node} of {nodes:?}");
                }
                Step::Cordon { node } => {
                    prop_assert!(!of(node).2.is_wiped(), "{node} of {nodes:?}");
                }
                _ => {}
            }
        }
        let count = |of: fn(&Step) -> bool| i32::try_from(plan.steps.iter().filter(|s| of(s)).count()).unwrap();
        let active = i32::try_from(nodes.iter().filter(|n| !n.0).count()).unwrap();
        let (cordons, back, made) = (
            count(|s| matches!(s, Step::Cordon { .. })),
            count(|s| matches!(s, Step::Uncordon { .. })),
            count(|s| matches!(s, Step::Create { .. })),
        );
        prop_assert!(cordons <= (active - replicas).max(0));
        prop_assert_eq!(back + made, (replicas - active).max(0));
    }
}
