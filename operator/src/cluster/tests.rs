//! The index: what follows from what the watches tell.

use std::time::Duration;

use callplane_crds::{
    condition::{Status, condition},
    mediapool::Placement,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{
    fixtures::*,
    node::{Life, LossCause, Standing},
    *,
};

fn standing(cluster: &Cluster, name: &str, seconds: u64) -> Standing {
    cluster.node(name).unwrap().standing(&cluster.contact, at(seconds).mono)
}

#[test]
fn an_older_version_never_replaces_a_newer_one() {
    let mut cluster = cluster(&[("a", 10)], Placement::Packed);
    cluster.apply_room(placed("r", 20, 4, "a"), at(0).mono);
    let effects = cluster.apply_room(room("r", 10, 4), at(1).mono);
    assert_eq!(effects, Effects::default());
    assert!(cluster.room(&key("r")).unwrap().object.status.is_some());
    assert_eq!(cluster.rooms_on("a").count(), 1);
}

#[test]
fn a_room_that_is_gone_frees_its_place_and_wakes_who_waits() {
    let mut cluster = cluster(&[("a", 1)], Placement::Packed);
    cluster.apply_room(placed("r", 1, 4, "a"), at(0).mono);
    cluster.apply_room(room("w", 2, 4), at(0).mono);
    cluster.set_waiting(&key("w"), true);
    assert_eq!(
        cluster.remove_room(&key("r"), Some("uid-of-another")),
        Effects::default(),
        "a successor is not its predecessor"
    );
    let effects = cluster.remove_room(&key("r"), Some("uid-of-r"));
    assert_eq!(effects.rooms, [key("w")]);
    assert_eq!(cluster.rooms_on("a").count(), 0);
}

#[test]
fn an_answer_does_not_bring_back_what_was_deleted() {
    let mut cluster = cluster(&[("a", 1)], Placement::Packed);
    cluster.apply_room(room("r", 1, 4), at(0).mono);
    cluster.remove_room(&key("r"), None);
    cluster.answer_room(placed("r", 2, 4, "a"), at(0).mono);
    assert!(cluster.room(&key("r")).is_none());
    assert_eq!(cluster.rooms_on("a").count(), 0);
}

#[test]
fn capacity_that_appears_in_any_way_wakes_who_waits() {
    let waiting = || {
        let mut cluster = cluster(&[("a", 1)], Placement::Packed);
        cluster.apply_room(room("w", 2, 4), at(0).mono);
        cluster.set_waiting(&key("w"), true);
        cluster
    };
    let mut c = waiting();
    let mut cordoned = node("a", 2, 1);
    cordoned.spec.cordoned = true;
    assert!(c.apply_node(cordoned, at(1).mono).rooms.is_empty(), "cordoned: less and not more");
    assert_eq!(standing(&c, "a", 1), Standing::Cordoned);
    assert_eq!(c.apply_node(node("a", 3, 1), at(2).mono).rooms, [key("w")], "uncordoned");

    let mut c = waiting();
    assert!(c.apply_node(node("b", 2, 1), at(1).mono).rooms.is_empty(), "ready but without a lease");
    assert_eq!(standing(&c, "b", 1), Standing::Silent);
    assert_eq!(c.apply_lease(&lease("b", 5, 1), at(1).mono).rooms, [key("w")], "its first lease");

    let mut c = waiting();
    c.apply_node(reporting(node("a", 2, 1), 2, 1, &[("x", 1, 3)]), at(1).mono);
    assert_eq!(
        c.apply_node(reporting(node("a", 3, 1), 3, 2, &[]), at(2).mono).rooms,
        [key("x"), key("w")],
        "it reports less"
    );
}

#[test]
fn a_lost_node_sends_its_rooms_away_most_crowded_first() {
    let mut cluster = cluster(&[("a", 10), ("b", 10)], Placement::Packed);
    for name in ["few", "many", "none"] {
        cluster.apply_room(placed(name, 1, 4, "a"), at(0).mono);
    }
    cluster.apply_node(reporting(node("a", 2, 10), 2, 1, &[("few", 1, 2), ("many", 1, 9), ("none", 1, 0)]), at(1).mono);
    let effects = cluster.mark_lost("a", LossCause::PodGone, at(2).mono);
    assert_eq!(effects.urgent, [key("many"), key("few"), key("none")]);
    assert_eq!((cluster.node("a").unwrap().life(), standing(&cluster, "a", 2)), (Life::Lost, Standing::Lost));
}

#[test]
fn a_silent_node_that_renews_is_back_and_a_dead_one_is_not() {
    for (cause, back) in [(LossCause::Silent, true), (LossCause::PodGone, false)] {
        let mut cluster = cluster(&[("a", 10)], Placement::Packed);
        cluster.mark_lost("a", cause, at(20).mono);
        cluster.apply_lease(&lease("a", 1000, 0), at(21).mono);
        assert_eq!(standing(&cluster, "a", 21), Standing::Lost, "the old renewal proves nothing");
        renew(&mut cluster, ["a"], 22);
        assert_eq!(standing(&cluster, "a", 22) == Standing::Ready, back);
    }
}

#[test]
fn when_many_leases_expire_at_once_judgement_is_suspended_once() {
    let names = ["a", "b", "c", "d", "e", "f"];
    let mut cluster = cluster(&names.map(|n| (n, 1)), Placement::Packed);
    for t in 1..=9 {
        canary(&mut cluster, t);
    }
    renew(&mut cluster, ["d", "e", "f"], 7);
    assert_eq!(cluster.node("a").unwrap().lease_state(cluster.contact(), at(9).mono), liveness::LeaseState::Expired);
    assert!(cluster.suspect_mass_expiry(at(9).mono), "half of them");
    for t in 10..=21 {
        canary(&mut cluster, t);
        renew(&mut cluster, ["d", "e", "f"], t);
        let state = cluster.node("a").unwrap().lease_state(cluster.contact(), at(t).mono);
        let until = Duration::from_secs(19);
        let expected = if t < 19 { liveness::LeaseState::Unheard(until) } else { liveness::LeaseState::Expired };
        assert_eq!(state, expected, "at {t}");
    }
    assert!(!cluster.suspect_mass_expiry(at(21).mono), "they had their chance");
}

#[test]
fn what_nothing_speaks_of_is_forgotten() {
    let mut cluster = cluster(&[("a", 10)], Placement::Packed);
    cluster.apply_room(placed("r", 1, 4, "a"), at(0).mono);
    cluster.remove_pod("a");
    assert_eq!(cluster.remove_node("a", None).nodes, ["a"]);
    assert!(cluster.node("a").is_some(), "a room is still there by its route");
    cluster.remove_room(&key("r"), None);
    assert!(cluster.node("a").is_none());
}

#[test]
fn a_node_that_the_watch_does_not_show_is_in_doubt_and_not_dead() {
    let mut cluster = cluster(&[("a", 10), ("b", 10)], Placement::Packed);
    assert_eq!(
        cluster.apply_room(placed("r", 1, 4, "unheard"), at(0).mono).nodes,
        ["unheard"],
        "the watch of rooms is ahead of that of nodes"
    );
    cluster.apply_room(placed("s", 1, 4, "a"), at(0).mono);
    let effects = cluster.remove_node("a", Some("uid-of-a"));
    assert_eq!((effects.urgent, effects.nodes), (vec![], vec!["a".to_owned()]));
    for name in ["a", "unheard"] {
        assert_eq!(cluster.node(name).unwrap().life(), Life::Unseen);
        assert!(cluster.everything().nodes.contains(&name.to_owned()), "a new leader asks about it");
    }
    assert_eq!(cluster.node_gone("a", at(1).mono).urgent, [key("s")]);
    assert_eq!(cluster.node("a").unwrap().life(), Life::Gone);
    assert_eq!(cluster.node_gone("b", at(1).mono), Effects::default(), "the watch shows it");
    cluster.ask_anew();
    assert_eq!(cluster.node("a").unwrap().life(), Life::Unseen, "what an earlier leader heard may be old");
    let effects = cluster.apply_node(node("a", 9, 10), at(2).mono);
    assert!(effects.rooms.contains(&key("s")));
    assert_eq!(cluster.node("a").unwrap().life(), Life::Serving);
}

#[test]
fn a_pod_that_the_watch_shows_no_longer_is_in_doubt_and_not_gone() {
    let mut cluster = cluster(&[("a", 10)], Placement::Packed);
    for forget in [|c: &mut Cluster| c.remove_pod("a"), |c: &mut Cluster| c.retain_pods(&[].into())] {
        cluster.apply_pod(&pod("a"));
        assert_eq!(standing(&cluster, "a", 1), Standing::Ready);
        assert_eq!(forget(&mut cluster).nodes, ["a"]);
        assert_eq!(standing(&cluster, "a", 1), Standing::Leaving, "it gets nothing new");
        assert_eq!(cluster.node("a").unwrap().life(), Life::Serving, "and keeps what it has");
    }
    cluster.apply_pod(&ended_pod("a"));
    cluster.remove_pod("a");
    assert_eq!(cluster.node("a").unwrap().pod, node::PodSight::Gone, "one that had ended is not coming back");
}

/// A machine is lost with the leader and half of the media nodes on it; a follower takes over 12 s later.
#[test]
fn a_new_leader_does_not_wait_again_for_what_has_been_silent_all_along() {
    let dead = ["a", "b", "c"];
    let alive = ["d", "e", "f"];
    let state = |cluster: &Cluster, t| cluster.node("a").unwrap().lease_state(cluster.contact(), at(t).mono);
    let mut follower = cluster(&["a", "b", "c", "d", "e", "f"].map(|n| (n, 1)), Placement::Packed);
    for t in (2..=10).step_by(4) {
        renew(&mut follower, dead.iter().chain(&alive).copied(), t);
    }
    for (name, t) in [("d", 13), ("e", 14), ("f", 14), ("d", 18), ("e", 18), ("f", 19)] {
        follower.apply_lease(&lease(name, 2000 + t, t), at(t).mono);
    }
    canary(&mut follower, 22);
    assert_eq!(state(&follower, 22), liveness::LeaseState::Expired, "the nodes that are left were heard all the time");
    assert!(follower.suspect_mass_expiry(at(22).mono), "three at once are suspicious, since they expired at 18");
    for t in (23..=29).step_by(2) {
        renew(&mut follower, alive, t);
    }
    assert_eq!(state(&follower, 28), liveness::LeaseState::Unheard(at(29).mono));
    assert_eq!(state(&follower, 29), liveness::LeaseState::Expired);
    assert!(!follower.suspect_mass_expiry(at(29).mono), "19 s after their last renewal, and not 34");

    // Nobody else is left who could be heard: the time to come back and the time for a mass expiry are one.
    let mut follower = cluster(&dead.map(|n| (n, 1)), Placement::Packed);
    renew(&mut follower, dead, 10);
    canary(&mut follower, 22);
    assert_eq!(state(&follower, 22), liveness::LeaseState::Unheard(at(33).mono));
    for t in (24..=33).step_by(3) {
        canary(&mut follower, t);
    }
    assert_eq!(state(&follower, 33), liveness::LeaseState::Expired);
    assert!(!follower.suspect_mass_expiry(at(33).mono));
}

#[test]
fn after_an_outage_of_the_api_server_all_have_the_time_to_come_back() {
    let names = ["a", "b", "c", "d"];
    let state = |cluster: &Cluster, t| cluster.node("a").unwrap().lease_state(cluster.contact(), at(t).mono);
    let mut cluster = cluster(&names.map(|n| (n, 1)), Placement::Packed);
    renew(&mut cluster, names, 2);
    // A minute later the first renewal that arrives is a node's, and ours is slow.
    cluster.apply_lease(&lease("d", 2000, 62), at(62).mono);
    assert_eq!(state(&cluster, 62), liveness::LeaseState::Unheard(at(73).mono));
    for t in (64..=72).step_by(4) {
        cluster.apply_lease(&lease("d", 2000 + t, t), at(t).mono);
        assert_eq!(state(&cluster, t), liveness::LeaseState::Unheard(at(73).mono));
    }
    // The same renewal shown once more by a list says nothing.
    cluster.apply_lease(&lease("d", 2072, 72), at(78).mono);
    assert_eq!(state(&cluster, 78), liveness::LeaseState::Unheard(at(79).mono), "nothing new was heard for 6 s");
}

#[test]
fn what_a_node_says_is_read_anew_with_each_version() {
    let mut cluster = cluster(&[("a", 10)], Placement::Packed);
    let saying = |version, conditions: Vec<Condition>| {
        let mut node = node("a", version, 10);
        node.status.as_mut().unwrap().conditions = conditions;
        node
    };
    let says = |type_, status, reason| condition(&[], type_, status, reason, "", None, wall(1));
    let cases = [
        (vec![says("Ready", Status::Unknown, node::NODE_LOST)], Standing::Lost),
        (vec![says("Ready", Status::Unknown, "Confused")], Standing::NotReady),
        (
            vec![says("Ready", Status::True, "Serving"), says("Saturated", Status::True, "Overloaded")],
            Standing::Saturated,
        ),
        (vec![says("Ready", Status::True, "Serving"), says("Saturated", Status::False, "Available")], Standing::Ready),
        (vec![], Standing::NotReady),
    ];
    for (version, (conditions, expected)) in (2..).zip(cases) {
        cluster.apply_node(saying(version, conditions.clone()), at(1).mono);
        assert_eq!(standing(&cluster, "a", 1), expected, "{conditions:?}");
        assert_eq!(cluster.node("a").unwrap().life() == Life::Lost, expected == Standing::Lost);
        cluster.apply_node(saying(1, vec![]), at(1).mono);
        assert_eq!(standing(&cluster, "a", 1), expected, "an older version changes nothing");
    }
}

#[test]
fn capacity_that_grows_wakes_who_waits() {
    type Grow = fn(&mut callplane_crds::medianode::Capacity);
    let cases: [(Grow, bool); 4] = [
        (|c| c.rooms += 1, true),
        (|c| c.participants += 1, true),
        (|c| c.streams += 1, true),
        (|c| (c.rooms, c.participants, c.streams) = (0, c.participants - 1, c.streams - 1), false),
    ];
    for (change, wakes) in cases {
        let mut cluster = cluster(&[("a", 1)], Placement::Packed);
        cluster.apply_room(room("w", 2, 4), at(0).mono);
        cluster.set_waiting(&key("w"), true);
        let mut resized = node("a", 2, 1);
        change(&mut resized.spec.capacity);
        assert_eq!(cluster.apply_node(resized, at(1).mono).rooms.contains(&key("w")), wakes);
    }
}

#[test]
fn only_the_end_of_its_own_container_ends_a_pod() {
    let mut pod = ended_pod("a");
    let containers = pod.status.as_mut().unwrap().container_statuses.as_mut().unwrap();
    let mut running = containers[0].clone();
    (containers[0].name, running.state) = ("istio-proxy".to_owned(), None);
    containers.push(running);
    assert!(matches!(node::PodSight::of(&pod), node::PodSight::There { .. }), "a sidecar may come and go");
    pod.status.as_mut().unwrap().container_statuses.as_mut().unwrap()[0].name = "media-node".to_owned();
    assert!(matches!(node::PodSight::of(&pod), node::PodSight::Ended(how) if how.contains("media-node")));
}
