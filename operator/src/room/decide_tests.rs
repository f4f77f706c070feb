//! What is decided about a room, case by case.

use std::time::Duration;

use callplane_crds::{
    CallRoom, MediaNode,
    callroom::Phase,
    condition::{Status, condition, is_true, node as types_of_nodes, room as types},
    mediapool::Placement,
};
use k8s_openapi::{
    api::core::v1::Pod,
    apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement, Time},
};

use super::{
    decide::{Plan, Verdict, decide},
    observe::observe,
};
use crate::cluster::{
    Assumed, Cluster,
    fixtures::*,
    node::{LossCause, Standing},
};

fn look(cluster: &Cluster, name: &str, seconds: u64) -> Plan {
    decide(&observe(cluster, &key(name), at(seconds)).unwrap(), at(seconds))
}

fn with_room(nodes: &[(&str, i32)], room: CallRoom) -> Cluster {
    let mut cluster = cluster(nodes, Placement::Packed);
    cluster.apply_room(room, at(0).mono);
    cluster
}

fn cordoned(mut node: MediaNode) -> MediaNode {
    node.spec.cordoned = true;
    node
}

/// The room `r` with two people in it, on `node`.
fn talking(node: &str) -> CallRoom {
    let mut room = placed("r", 1, 4, node);
    room.status.as_mut().unwrap().participants = Some(2);
    room
}

/// Node `a` as it reports them.
fn occupied(version: u64) -> MediaNode {
    reporting(node("a", version, 10), version, 1, &[("r", 1, 2)])
}

fn terminating(mut pod: Pod) -> Pod {
    pod.metadata.deletion_timestamp = Some(Time(wall(1)));
    pod
}

fn reason(plan: &Plan, type_: &str) -> String {
    let status = plan.status.as_ref().expect("a status is written");
    status.conditions.iter().find(|c| c.type_ == type_).map(|c| c.reason.clone()).unwrap_or_default()
}

#[test]
fn one_write_makes_a_room_ready() {
    let plan = look(&with_room(&[("a", 10)], room("r", 1, 50)), "r", 3);
    assert_eq!(plan.verdict, Verdict::Placed { node: "a".into() });
    assert_eq!(plan.assume, Some(Assumed { epoch: 1, node: "a".into() }));
    let status = plan.status.unwrap();
    assert_eq!(status.route, Some(route(1, "a", 3)));
    assert_eq!(
        (status.phase, status.participants, status.started_at),
        (Some(Phase::Ready), Some(0), Some(Time(wall(3))))
    );
    assert!(is_true(&status.conditions, types::PLACED) && is_true(&status.conditions, types::READY));
}

#[test]
fn a_ready_room_costs_nothing_more() {
    let cluster = with_room(&[("a", 10)], placed("r", 1, 4, "a"));
    let plan = look(&cluster, "r", 100);
    assert_eq!((plan.status, plan.again, plan.verdict), (None, None, Verdict::Unchanged));
}

#[test]
fn a_room_that_fits_nowhere_says_why() {
    let selects = |key: &str, operator: &str| LabelSelector {
        match_expressions: Some(vec![LabelSelectorRequirement {
            key: key.into(),
            operator: operator.into(),
            values: None,
        }]),
        match_labels: None,
    };
    let mut wants_pool = room("r", 1, 4);
    wants_pool.spec.pool = Some("other".into());
    let mut selects_pool = room("r", 1, 4);
    selects_pool.spec.pool_selector = Some(selects("gpu", "Exists"));
    let mut wants_region = room("r", 1, 4);
    wants_region.spec.region = Some("eu".into());
    let unready = |cluster: &mut Cluster| {
        let mut node = node("a", 2, 10);
        node.status = None;
        cluster.apply_node(node, at(1).mono);
    };
    type Case<'a> = (CallRoom, &'a dyn Fn(&mut Cluster), &'a str, &'a str);
    let cases: Vec<Case<'_>> = vec![
        (wants_pool, &|_| (), "NoPoolMatches", "looked at 1: 1 of another pool;"),
        (selects_pool, &|_| (), "NoPoolMatches", "looked at 1: 1 of another pool;"),
        (wants_region, &|_| (), "RegionUnavailable", "looked at 1: 1 in another region;"),
        (room("r", 1, 4), &unready, "NoReadyNode", "looked at 1: 1 not ready;"),
        (room("r", 1, 4), &|c| drop(c.remove_node("a", None)), "NoReadyNode", "looked at 0;"),
        (room("r", 1, 4), &|c| drop(c.apply_node(cordoned(node("a", 2, 10)), at(1).mono)), "NoCapacity", "1 cordoned;"),
        (room("r", 1, 4), &|c| drop(c.apply_node(node("a", 2, 0), at(1).mono)), "NoCapacity", "looked at 1: 1 full;"),
        (room("r", 1, 4), &|c| drop(c.mark_lost("a", LossCause::PodGone, at(1).mono)), "NoReadyNode", "1 not ready;"),
    ];
    for (room, change, expected, words) in cases {
        let mut cluster = with_room(&[("a", 10)], room);
        change(&mut cluster);
        let plan = look(&cluster, "r", 2);
        assert_eq!((reason(&plan, types::PLACED).as_str(), plan.waits), (expected, true));
        let status = plan.status.unwrap();
        assert!(status.conditions[0].message.contains(words), "{}", status.conditions[0].message);
        assert_eq!((status.phase, status.route, status.started_at), (Some(Phase::Pending), None, None));
        // Said once, it is not said again.
        let mut said = cluster.room(&key("r")).unwrap().object.as_ref().clone();
        said.status = Some(look(&cluster, "r", 2).status.unwrap());
        said.metadata.resource_version = Some("9".into());
        cluster.apply_room(said, at(3).mono);
        let again = look(&cluster, "r", 50);
        assert_eq!((again.status, again.waits), (None, true));
    }
}

#[test]
fn a_lost_node_is_followed_by_the_next_epoch() {
    let mut cluster = with_room(&[("a", 10), ("b", 10)], placed("r", 1, 4, "a"));
    cluster.mark_lost("a", LossCause::Silent, at(5).mono);
    let plan = look(&cluster, "r", 5);
    assert_eq!(plan.verdict, Verdict::Rerouted { from: "a".into(), to: "b".into() });
    let status = plan.status.unwrap();
    let next = status.route.unwrap();
    assert_eq!((next.epoch, next.node_name(), next.reason.as_str()), (2, "b", "NodeLost"));
    assert_eq!(status.previous_route, None, "nobody is on a dead node");
    assert_eq!(status.started_at, Some(Time(wall(0))), "the call goes on");
}

#[test]
fn a_lost_node_without_another_keeps_the_epoch() {
    let mut cluster = with_room(&[("a", 10)], placed("r", 1, 4, "a"));
    cluster.mark_lost("a", LossCause::Silent, at(5).mono);
    let plan = look(&cluster, "r", 5);
    assert_eq!(reason(&plan, types::PLACED), "NoReadyNode");
    let status = plan.status.unwrap();
    assert_eq!((status.route.clone(), status.phase), (Some(route(1, "a", 0)), Some(Phase::Pending)));
    let mut room = placed("r", 2, 4, "a");
    room.status = Some(status);
    cluster.apply_room(room, at(6).mono);
    // It comes back: the room is where it was.
    canary(&mut cluster, 7);
    renew(&mut cluster, ["a"], 7);
    let status = look(&cluster, "r", 7).status.unwrap();
    assert_eq!((status.route, status.phase), (Some(route(1, "a", 0)), Some(Phase::Ready)));
}

#[test]
fn a_node_that_leaves_or_takes_nothing_more_keeps_the_calls_that_are_on_it() {
    type Case<'a> = (&'a str, Standing, &'a dyn Fn(&mut Cluster));
    let says = |type_, status| condition(&[], type_, status, "Test", "", None, wall(1));
    let node_that = |change: &dyn Fn(&mut MediaNode)| {
        let mut node = occupied(10);
        change(&mut node);
        node
    };
    let cases: [Case<'_>; 9] = [
        ("idle", Standing::Ready, &|_| ()),
        ("its pod was told to stop: a drain, an eviction, a rollout", Standing::Leaving, &|c| {
            c.apply_pod(&terminating(pod("a")));
        }),
        ("the watch shows its pod no longer", Standing::Leaving, &|c| drop(c.remove_pod("a"))),
        ("its MediaNode is being deleted", Standing::Leaving, &|c| {
            let leaving = node_that(&|n| n.metadata.deletion_timestamp = Some(Time(wall(1))));
            c.apply_node(leaving, at(1).mono);
        }),
        ("cordoned and told to stop", Standing::Leaving, &|c| {
            c.apply_node(node_that(&|n| n.spec.cordoned = true), at(1).mono);
            c.apply_pod(&terminating(pod("a")));
        }),
        ("cordoned", Standing::Cordoned, &|c| {
            c.apply_node(node_that(&|n| n.spec.cordoned = true), at(1).mono);
        }),
        ("too busy", Standing::Saturated, &|c| {
            let busy = says(types_of_nodes::SATURATED, Status::True);
            c.apply_node(node_that(&|n| n.status.as_mut().unwrap().conditions.push(busy.clone())), at(1).mono);
        }),
        ("not ready", Standing::NotReady, &|c| {
            let unready = says(types_of_nodes::READY, Status::False);
            c.apply_node(node_that(&|n| n.status.as_mut().unwrap().conditions = vec![unready.clone()]), at(1).mono);
        }),
        ("silent: its lease is old, but nobody said that it is lost", Standing::Silent, &|c| {
            (4..=300).step_by(4).for_each(|t| canary(c, t));
        }),
    ];
    for (what, standing, change) in cases {
        let mut cluster = with_room(&[("a", 10), ("b", 10)], talking("a"));
        cluster.apply_node(occupied(2), at(1).mono);
        change(&mut cluster);
        let seconds = if standing == Standing::Silent { 300 } else { 2 };
        let stands = cluster.node("a").unwrap().standing(cluster.contact(), at(seconds).mono);
        assert_eq!(stands, standing, "{what}");
        let plan = look(&cluster, "r", seconds);
        assert_eq!((plan.status, plan.assume, plan.verdict), (None, None, Verdict::Unchanged), "{what}");

        // And a new one goes elsewhere.
        cluster.apply_room(room("new", 1, 4), at(1).mono);
        renew(&mut cluster, ["b"], seconds);
        let expected = if standing == Standing::Ready { "a" } else { "b" };
        assert_eq!(look(&cluster, "new", seconds).verdict, Verdict::Placed { node: expected.into() }, "{what}");
    }
}

#[test]
fn a_call_whose_leaving_node_is_gone_before_it_is_empty_goes_on_elsewhere() {
    let ends: [fn(&mut Cluster); 2] = [
        |c| drop(c.mark_lost("a", LossCause::PodEnded("container media-node ended".into()), at(5).mono)),
        |c| {
            c.remove_node("a", Some("uid-of-a"));
            c.node_gone("a", at(5).mono);
        },
    ];
    for end in ends {
        let mut cluster = with_room(&[("a", 10), ("b", 10)], talking("a"));
        cluster.apply_node(occupied(2), at(1).mono);
        cluster.apply_pod(&terminating(pod("a")));
        assert_eq!(look(&cluster, "r", 4).status, None);
        end(&mut cluster);
        let plan = look(&cluster, "r", 5);
        assert_eq!(plan.verdict, Verdict::Rerouted { from: "a".into(), to: "b".into() });
        let status = plan.status.unwrap();
        assert_eq!((status.route.unwrap().epoch, status.participants), (2, Some(2)), "nobody hung up");
    }
}

#[test]
fn a_call_ends_as_it_was_told_to() {
    let ending = |change: &dyn Fn(&mut CallRoom)| {
        let mut room = placed("r", 1, 4, "a");
        change(&mut room);
        with_room(&[("a", 10)], room)
    };
    let by_spec = ending(&|r| r.spec.ended = true);
    let by_time = ending(&|r| r.spec.lifetime.max_duration_seconds = Some(60));
    assert_eq!(look(&by_time, "r", 59).again, Some(Duration::from_secs(1)));
    for (cluster, now, expected) in [(by_spec, 1, "EndedBySpec"), (by_time, 60, "MaxDuration")] {
        let plan = look(&cluster, "r", now);
        assert_eq!(plan.verdict, Verdict::Ended(expected));
        assert_eq!(reason(&plan, types::ENDED), expected);
        let status = plan.status.unwrap();
        assert_eq!((status.phase, status.route, status.participants), (Some(Phase::Ended), None, Some(0)));
        assert_eq!(status.ended_at, Some(Time(wall(now))));
        assert!(!is_true(&status.conditions, types::READY) && is_true(&status.conditions, types::ENDED));
    }
}

#[test]
fn an_empty_call_ends_only_when_its_node_attests_the_emptiness() {
    let mut room = placed("r", 1, 4, "a");
    room.spec.lifetime.empty_timeout_seconds = Some(30);
    let mut cluster = with_room(&[("a", 10)], room);
    let report = |cluster: &mut Cluster, version, seconds, epoch| {
        renew(cluster, ["a"], seconds);
        let said = reporting(node("a", version, 10), version, seconds, &[("r", epoch, 0)]);
        cluster.apply_node(said, at(seconds).mono);
    };
    assert_eq!(look(&cluster, "r", 1000).verdict, Verdict::Unchanged, "unknown is not zero");
    report(&mut cluster, 2, 20, 1);
    assert_eq!(look(&cluster, "r", 25).again, Some(Duration::from_secs(5)));
    assert_eq!(look(&cluster, "r", 31).verdict, Verdict::Unchanged, "somebody may have joined since the report");
    report(&mut cluster, 3, 31, 1);
    assert_eq!(look(&cluster, "r", 31).verdict, Verdict::Ended("EmptyTimeout"));
    report(&mut cluster, 4, 32, 2);
    assert_eq!(
        look(&cluster, "r", 32).verdict,
        Verdict::Unchanged,
        "a report about another epoch is about another call"
    );
}

#[test]
fn an_old_report_ends_no_call() {
    let silent_again = Some(Duration::from_secs(10));
    let mut room = placed("r", 1, 4, "a");
    room.spec.lifetime.empty_timeout_seconds = Some(30);
    let empty = |version, seconds| reporting(node("a", version, 10), version, seconds, &[("r", 1, 0)]);
    let attested = || {
        let mut cluster = with_room(&[("a", 10)], room.clone());
        cluster.apply_node(empty(2, 31), at(31).mono);
        cluster
    };

    let cluster = attested();
    let plan = look(&cluster, "r", 31);
    assert_eq!((plan.verdict, plan.again), (Verdict::Unchanged, silent_again), "its lease has run out");

    let mut cluster = attested();
    renew(&mut cluster, ["a"], 42);
    assert_eq!(look(&cluster, "r", 46).verdict, Verdict::Ended("EmptyTimeout"));
    renew(&mut cluster, ["a"], 47);
    let plan = look(&cluster, "r", 47);
    assert_eq!((plan.verdict, plan.again), (Verdict::Unchanged, silent_again), "it renews, but its report is old");

    // A leader that has just started lists what may have been written long ago.
    let mut cluster = Cluster::new(crate::leader::LEASE_NAME);
    cluster.apply_room(room.clone(), at(100).mono);
    cluster.apply_node(empty(2, 31), at(100).mono);
    renew(&mut cluster, ["a"], 100);
    assert_eq!(look(&cluster, "r", 100).verdict, Verdict::Unchanged);
    cluster.apply_node(empty(3, 105), at(105).mono);
    assert_eq!(look(&cluster, "r", 105).verdict, Verdict::Ended("EmptyTimeout"));
}

#[test]
fn an_ended_call_goes_after_its_time() {
    let mut room = placed("r", 1, 4, "a");
    room.spec.ended = true;
    room.spec.lifetime.ttl_seconds_after_ended = Some(10);
    let mut cluster = with_room(&[("a", 10)], room.clone());
    room.status = look(&cluster, "r", 5).status;
    room.metadata.resource_version = Some("2".into());
    cluster.apply_room(room, at(5).mono);
    assert_eq!(look(&cluster, "r", 14).again, Some(Duration::from_secs(1)));
    let plan = look(&cluster, "r", 15);
    assert!(plan.delete && plan.status.is_none());
    assert_eq!(cluster.rooms_on("a").count(), 0, "its place is free at once");
}

#[test]
fn people_are_counted_at_once_and_then_not_too_often() {
    let mut cluster = with_room(&[("a", 10)], placed("r", 1, 4, "a"));
    let report = |cluster: &mut Cluster, version, people| {
        cluster.apply_node(reporting(node("a", version, 10), version, 1, &[("r", 1, people)]), at(1).mono)
    };
    assert_eq!(report(&mut cluster, 2, 3).rooms, [key("r")]);
    assert!(report(&mut cluster, 3, 3).rooms.is_empty(), "nothing new about the room");
    assert_eq!(look(&cluster, "r", 1).status.unwrap().participants, Some(3));
    cluster.wrote_room(&key("r"), at(1).mono);
    report(&mut cluster, 4, 4);
    let early = look(&cluster, "r", 4);
    assert_eq!((early.status, early.again), (None, Some(Duration::from_secs(2))));
    assert_eq!(look(&cluster, "r", 6).status.unwrap().participants, Some(4));
}

#[test]
fn an_old_route_is_kept_until_nobody_is_on_it() {
    let mut room = placed("r", 1, 4, "b");
    let status = room.status.as_mut().unwrap();
    status.route = Some(route(2, "b", 10));
    status.previous_route = Some(route(1, "a", 0));
    let fresh = || with_room(&[("a", 10), ("b", 10)], room.clone());
    let kept = |cluster: &Cluster, seconds| match look(cluster, "r", seconds).status {
        Some(status) => status.previous_route.is_some(),
        None => true,
    };
    let mut cluster = fresh();
    assert!(kept(&cluster, 12), "its node has not spoken since");
    cluster.apply_node(reporting(node("a", 2, 10), 2, 11, &[("r", 1, 2)]), at(11).mono);
    assert!(kept(&cluster, 39), "somebody is there");
    assert!(!kept(&cluster, 40), "but not for ever");
    cluster.apply_node(reporting(node("a", 3, 10), 3, 15, &[("r", 1, 0)]), at(15).mono);
    assert!(!kept(&cluster, 15), "everybody left");
    let mut cluster = fresh();
    cluster.mark_lost("a", LossCause::PodGone, at(11).mono);
    assert!(!kept(&cluster, 11), "its node died");
}

#[test]
fn a_room_that_a_newer_operator_decided_about_is_left_as_it_is() {
    let mut cluster = with_room(&[("a", 10), ("b", 10)], placed("r", 1, 4, "a"));
    let mut room = placed("r", 2, 4, "a");
    room.status.as_mut().unwrap().route.as_mut().unwrap().mode = callplane_crds::RouteMode::Unknown;
    cluster.apply_room(room, at(1).mono);
    cluster.mark_lost("a", LossCause::PodGone, at(5).mono);
    let plan = look(&cluster, "r", 5);
    assert_eq!((plan.status, plan.assume, plan.delete), (None, None, false));
}
