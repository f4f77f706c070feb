//! When a call moves between peer to peer and a media node, case by case.

use std::time::Duration;

use callplane_crds::{
    RouteMode, TopologyMode,
    callroom::Phase,
    condition::{is_true, room as types},
    presence::SfuReason,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    decide::Verdict,
    mode_call::{Call, topology},
    routes::Closed,
};
use crate::cluster::{Assumed, fixtures::*, trail::reason};

#[test]
fn a_room_begins_as_its_topology_says() {
    let cases = [
        (None, RouteMode::Sfu),
        (Some(TopologyMode::Sfu), RouteMode::Sfu),
        (Some(TopologyMode::Auto), RouteMode::P2p),
        (Some(TopologyMode::P2p), RouteMode::P2p),
    ];
    for (mode, expected) in cases {
        let mut room = room("r", 1, 4);
        room.spec.topology = mode.map(topology);
        let mut call = Call::of(room, &[("a", 10)]);
        call.turn(3);
        let on_a = expected == RouteMode::Sfu;
        assert_eq!((call.route().mode, call.route().epoch, call.route().node.is_some()), (expected, 1, on_a));
        assert_eq!(call.route().reason, reason::SCHEDULED);
        assert_eq!(call.cluster.rooms_on("a").count(), usize::from(on_a));
    }
}

#[test]
fn one_write_makes_a_room_ready_peer_to_peer_without_any_media_node() {
    let mut call = Call::of(auto("r", 1), &[]);
    let plan = call.turn(3);
    assert_eq!((plan.verdict, plan.assume, plan.waits), (Verdict::Opened, None, false));
    let status = call.room.status.clone().unwrap();
    assert_eq!((status.route, status.phase), (Some(peers(1, 3)), Some(Phase::Ready)));
    assert_eq!((status.participants, status.started_at), (Some(0), Some(Time(wall(3)))));
    assert!(is_true(&status.conditions, types::PLACED) && is_true(&status.conditions, types::READY));
    assert_eq!(call.condition(types::PLACED), ("True Scheduled".into(), "peer to peer".into()));
    let idle = call.look(5000);
    assert_eq!((idle.status, idle.again, idle.verdict), (None, None, Verdict::Unchanged), "and costs nothing more");
}

#[test]
fn a_call_goes_up_for_what_the_gateway_says() {
    type Case = (&'static str, fn(&mut Call), Option<&'static str>);
    let cases: Vec<Case> = vec![
        ("nothing is known", |_| (), None),
        ("two", |c| c.says(present(2, 9), 9), None),
        ("three", |c| c.says(present(3, 9), 9), Some(reason::GROWN)),
        ("loss", |c| c.want(SfuReason::PacketLoss, 9), Some(reason::PACKET_LOSS)),
        ("a failed pair", |c| c.want(SfuReason::PeerConnectionFailed, 9), Some(reason::PEER_CONNECTION_FAILED)),
        ("a wish", |c| c.want(SfuReason::Requested, 9), Some(reason::REQUESTED)),
        ("a reason of the future", |c| c.want(SfuReason::Unknown, 9), Some(reason::REQUESTED)),
        ("three is not too many", |c| c.resize(3), None),
        (
            "four is",
            |c| {
                c.resize(3);
                c.says(present(4, 9), 9)
            },
            Some(reason::GROWN),
        ),
        (
            "P2P is P2P",
            |c| {
                c.mode(TopologyMode::P2p);
                c.says(present(4, 9), 9)
            },
            None,
        ),
        ("SFU by spec", |c| c.mode(TopologyMode::Sfu), Some(reason::REQUESTED)),
        (
            "no topology any more",
            |c| {
                c.room.spec.topology = None;
                c.shown(9)
            },
            Some(reason::REQUESTED),
        ),
        (
            "a mode of the future",
            |c| {
                c.mode(TopologyMode::Unknown);
                c.says(present(9, 9), 9)
            },
            None,
        ),
    ];
    for (what, change, expected) in cases {
        let mut call = Call::opened(&[("a", 10)]);
        change(&mut call);
        let plan = call.turn(10);
        let Some(expected) = expected else {
            assert_eq!((call.modes(), plan.assume), ((1, "P2P", None), None), "{what}");
            continue;
        };
        assert_eq!(plan.assume, Some(Assumed { epoch: 2, node: "a".into() }), "{what}");
        let status = call.room.status.clone().unwrap();
        assert_eq!(status.previous_route, Some(peers(1, 0)), "{what}: peers still hear each other");
        assert_eq!((call.modes(), call.route().reason.as_str()), ((2, "SFU", Some(1)), expected), "{what}");
        assert_eq!(call.cluster.rooms_on("a").count(), 1, "{what}");
        assert!(matches!(plan.verdict, Verdict::Switched { from: RouteMode::P2p, .. }), "{what}");
    }
}

#[test]
fn the_old_route_is_let_go_when_all_have_moved_or_its_time_is_up() {
    let mut call = Call::grown();
    assert_eq!(call.look(101).again, Some(Duration::from_secs(29)));
    call.acknowledge(1, 101);
    assert_eq!(call.look(101).verdict, Verdict::Unchanged, "of the old one they said it before");
    assert_eq!(call.look(130).verdict, Verdict::Settled(Closed::Deadline));
    call.acknowledge(2, 102);
    assert_eq!(call.turn(102).verdict, Verdict::Settled(Closed::Acknowledged));
    assert_eq!(call.modes(), (2, "SFU", None));
    assert_eq!(call.look(5000).status, None, "that is all");

    let mut call = Call::grown();
    call.says(present(0, 105), 105);
    assert_eq!(call.turn(105).verdict, Verdict::Settled(Closed::Left), "nobody is left to move");

    let mut call = Call::shrunk();
    assert_eq!(call.cluster.rooms_on("a").count(), 1, "the node keeps its place until then");
    call.acknowledge(3, 141);
    call.turn(141);
    assert_eq!((call.modes(), call.cluster.rooms_on("a").count()), ((3, "P2P", None), 0));
}

#[test]
fn a_call_goes_down_when_it_has_been_small_for_long_enough() {
    type Case = (&'static str, fn(&mut Call), Option<u64>);
    let cases: Vec<Case> = vec![
        ("three", |_| (), None),
        ("two since 110", |c| c.says(present(2, 110), 110), Some(140)),
        ("two since before the route", |c| c.says(present(2, 50), 110), Some(130)),
        ("nobody", |c| c.says(present(0, 110), 110), Some(140)),
        (
            "two, and one of them asks",
            |c| {
                c.says(present(2, 110), 110);
                c.want(SfuReason::Requested, 111)
            },
            None,
        ),
        (
            "not any more since 120",
            |c| {
                c.says(present(2, 110), 110);
                c.want(SfuReason::Requested, 111);
                c.presence(120, |p| p.sfu_wanted = None);
            },
            Some(150),
        ),
        (
            "at once",
            |c| {
                c.room.spec.topology.as_mut().unwrap().stabilization_seconds = 0;
                c.says(present(2, 110), 110);
            },
            Some(110),
        ),
        (
            "SFU by spec",
            |c| {
                c.mode(TopologyMode::Sfu);
                c.says(present(1, 110), 110)
            },
            None,
        ),
        (
            "no topology",
            |c| {
                c.room.spec.topology = None;
                c.says(present(1, 110), 110)
            },
            None,
        ),
        (
            "P2P by spec",
            |c| {
                c.mode(TopologyMode::P2p);
                c.says(present(4, 110), 110)
            },
            Some(110),
        ),
        (
            "P2P by spec, and too many",
            |c| {
                c.mode(TopologyMode::P2p);
                c.says(present(7, 110), 110)
            },
            None,
        ),
        (
            "P2P by spec, and nothing is known",
            |c| {
                c.status().presence = None;
                c.mode(TopologyMode::P2p)
            },
            None,
        ),
    ];
    for (what, change, expected) in cases {
        let mut call = Call::moved();
        change(&mut call);
        let Some(when) = expected else {
            assert_eq!(call.turn(100_000).assume, None, "{what}");
            assert_eq!(call.modes(), (2, "SFU", None), "{what}");
            continue;
        };
        if when > 120 {
            let early = call.look(when - 1);
            assert_eq!(early.again, Some(Duration::from_secs(1)), "{what}: {early:?}");
            assert!(!matches!(early.verdict, Verdict::Switched { .. }), "{what}");
        }
        call.turn(when);
        let before = call.room.status.as_ref().unwrap().previous_route.as_ref().and_then(|r| r.node.clone());
        assert_eq!((call.modes(), before), ((3, "P2P", Some(2)), Some("a".into())), "{what}");
        assert_eq!(call.route().node, None, "{what}");
    }
}

#[test]
fn who_comes_while_the_call_goes_down_brings_it_back_to_its_node_at_once() {
    let mut call = Call::shrunk();
    // Somebody else has taken all other places meanwhile.
    call.cluster.apply_node(node("a", 500, 1), at(141).mono);
    call.cluster.apply_node(node("b", 500, 0), at(141).mono);
    call.says(present(3, 141), 141);
    let plan = call.turn(141);
    assert_eq!((call.modes(), call.route().reason.as_str(), plan.waits), ((4, "SFU", Some(3)), reason::GROWN, false));
    assert_eq!(call.route().node_name(), "a");
}

#[test]
fn who_is_on_the_node_without_the_gateway_keeps_the_call_there() {
    let mut call = Call::grown();
    call.acknowledge(2, 101);
    call.turn(101);
    call.presence(110, |p| (p.participants, p.since) = (2, Time(wall(110))));
    call.turn(200);
    assert_eq!(call.modes(), (2, "SFU", None), "the node has not said whom it has");
    call.reported(1, 1, 201);
    call.turn(201);
    assert_eq!(call.modes(), (2, "SFU", None), "nor does what it said of another epoch count");
    call.reported(2, 3, 202);
    for mode in [TopologyMode::Auto, TopologyMode::P2p] {
        call.mode(mode);
        call.turn(202);
        assert_eq!(call.modes(), (2, "SFU", None), "somebody came to it by itself");
    }
    call.mode(TopologyMode::Auto);
    call.reported(2, 2, 203);
    call.turn(203);
    assert_eq!(call.modes(), (3, "P2P", Some(2)));
}

#[test]
fn one_move_at_a_time() {
    let mut call = Call::grown();
    call.room.spec.topology.as_mut().unwrap().stabilization_seconds = 0;
    call.says(present(1, 101), 101);
    call.turn(105);
    assert_eq!(call.modes(), (2, "SFU", Some(1)));
    call.mode(TopologyMode::P2p);
    call.turn(106);
    assert_eq!(call.modes(), (2, "SFU", Some(1)));
    call.acknowledge(2, 107);
    call.reported(2, 1, 107);
    call.turn(107);
    assert_eq!(call.modes(), (2, "SFU", None));
    call.turn(107);
    assert_eq!(call.modes(), (3, "P2P", Some(2)));
}

#[test]
fn a_call_that_needs_a_node_and_gets_none_goes_on_peer_to_peer() {
    let mut call = Call::opened(&[("a", 0)]);
    call.says(present(3, 10), 10);
    let plan = call.turn(10);
    assert!(plan.waits && matches!(plan.verdict, Verdict::Refused(_)), "{plan:?}");
    assert_eq!(call.modes(), (1, "P2P", None));
    let (placed, message) = call.condition(types::PLACED);
    assert_eq!(placed, "False NoCapacity");
    assert_eq!(
        message,
        "the call goes on peer to peer; no media node has the whole size of the room free; looked at 1: 1 full; tried again as soon as capacity appears"
    );
    assert_eq!(call.condition(types::READY).0, "True Routed");
    assert_eq!(call.room.status.as_ref().unwrap().phase, Some(Phase::Ready));
    assert_eq!(call.look(40).status, None, "said once, it is not said again");

    // Capacity comes: it is tried at once, before any new room.
    call.cluster.apply_room(room("new", 50, 4), at(11).mono);
    call.cluster.set_waiting(&key("new"), true);
    let effects = call.cluster.apply_node(node("a", 2, 1), at(50).mono);
    assert_eq!((effects.urgent, effects.rooms), (vec![key("r")], vec![key("new")]));
    let plan = call.turn(50);
    assert!(!plan.waits);
    assert_eq!(call.modes(), (2, "SFU", Some(1)));
    assert_eq!(call.condition(types::PLACED).0, "True Grown");

    // Or the need goes.
    let mut call = Call::opened(&[("a", 0)]);
    call.says(present(3, 10), 10);
    call.turn(10);
    call.says(present(2, 12), 12);
    assert!(!call.turn(12).waits);
    assert_eq!(call.condition(types::PLACED), ("True Scheduled".into(), "peer to peer".into()));
    assert_eq!(call.cluster.waiting_count(), 0);
}

#[test]
fn people_are_counted_by_the_gateway_while_they_talk_peer_to_peer() {
    let mut call = Call::opened(&[("a", 10)]);
    call.says(present(2, 10), 10);
    assert_eq!(call.turn(10).status.unwrap().participants, Some(2));
    call.cluster.wrote_room(&key("r"), at(10).mono);
    call.says(present(1, 11), 11);
    assert_eq!(call.look(11).again, Some(Duration::from_secs(4)), "not too often");
    assert_eq!(call.turn(15).status.unwrap().participants, Some(1));

    let mut call = Call::grown();
    assert_eq!(call.status().participants, Some(3), "nobody goes missing in a move");
    call.cluster.apply_node(reporting(node("a", 2, 10), 2, 101, &[("r", 2, 1)]), at(101).mono);
    call.turn(106);
    assert_eq!(call.status().participants, Some(3));
    call.acknowledge(2, 107);
    call.cluster.apply_node(reporting(node("a", 3, 10), 3, 107, &[("r", 2, 4)]), at(107).mono);
    call.turn(113);
    assert_eq!(call.status().participants, Some(4), "then the node counts");
}
