//! What becomes of a call that moves while something goes wrong, case by case.

use std::time::Duration;

use callplane_crds::{
    CallRoomStatus, RouteMode, callroom::Phase, condition::room as types, mediapool::Placement, presence::SfuReason,
};

use super::{decide::Verdict, mode_call::Call, routes::Closed};
use crate::cluster::{Assumed, fixtures::*, node::LossCause, trail::reason};

#[test]
fn a_route_that_cannot_be_reached_is_left_for_the_one_before() {
    let mut call = Call::grown();
    call.fail(2, 104);
    let plan = call.turn(104);
    assert!(matches!(plan.verdict, Verdict::Switched { from: RouteMode::Sfu, .. }), "{plan:?}");
    assert_eq!((call.modes(), call.route().reason.as_str()), ((3, "P2P", Some(2)), reason::ROLLED_BACK));
    // Whatever is said of the way back: it is not left again at once, nor for what asked for a node before.
    call.fail(3, 105);
    assert_eq!(call.look(105).verdict, Verdict::Unchanged);
    assert_eq!(call.turn(134).verdict, Verdict::Settled(Closed::Deadline));
    assert_eq!(call.modes(), (3, "P2P", None));
    // 30 s after the first failure there is another try, after the second it takes 60 s.
    let plan = call.turn(134);
    assert_eq!((call.modes(), plan.waits), ((4, "SFU", Some(3)), false));
    call.fail(4, 140);
    call.turn(140);
    assert_eq!(call.modes(), (5, "P2P", Some(4)));
    call.acknowledge(5, 141);
    call.turn(141);
    assert_eq!(call.look(150).again, Some(Duration::from_secs(50)));
    assert_eq!(call.cluster.rooms_on("a").count(), 0);
    call.turn(200);
    assert_eq!(call.modes(), (6, "SFU", Some(5)));
}

#[test]
fn going_down_is_rolled_back_to_the_node_that_still_carries_media() {
    let mut call = Call::shrunk();
    call.fail(3, 142);
    let plan = call.turn(142);
    assert_eq!(plan.assume, Some(Assumed { epoch: 4, node: "a".into() }));
    assert_eq!((call.modes(), call.route().reason.as_str()), ((4, "SFU", Some(3)), reason::ROLLED_BACK));
    call.acknowledge(4, 143);
    call.reported(4, 2, 143);
    call.turn(143);
    assert_eq!(call.look(171).verdict, Verdict::Unchanged);
    call.turn(172);
    assert_eq!((call.modes(), call.route().reason.as_str()), ((5, "P2P", Some(4)), reason::SHRUNK));
}

#[test]
fn a_failure_that_is_over_or_old_or_nobodys_changes_nothing() {
    type Case = (&'static str, fn(&mut Call));
    let cases: Vec<Case> = vec![
        ("of an epoch before", |c| c.fail(1, 104)),
        ("of an epoch to come", |c| c.fail(3, 104)),
        ("nobody is left", |c| {
            c.fail(2, 104);
            c.presence(104, |p| p.participants = 0)
        }),
        ("all have reached it since", |c| {
            c.fail(2, 104);
            c.acknowledge(2, 104)
        }),
        ("nothing to go back to", |c| {
            c.acknowledge(2, 104);
            c.turn(104);
            c.presence(105, |p| p.epoch = None);
            c.fail(2, 105)
        }),
    ];
    for (what, change) in cases {
        let mut call = Call::grown();
        change(&mut call);
        call.turn(106);
        assert_eq!((call.modes().0, call.modes().1), (2, "SFU"), "{what}");
    }
    let mut call = Call::shrunk();
    call.cluster.mark_lost("a", LossCause::PodGone, at(141).mono);
    call.fail(3, 142);
    assert_eq!(call.turn(142).verdict, Verdict::Settled(Closed::Lost));
    assert_eq!(call.modes(), (3, "P2P", None), "the node before is dead: better some than none");
}

#[test]
fn what_fails_peer_to_peer_again_and_again_is_tried_more_and_more_rarely() {
    let mut call = Call::opened(&[("a", 10)]);
    call.says(present(2, 1), 1);
    let mut now = 10;
    let mut waited = Vec::new();
    for _ in 0..5 {
        let (epoch, ..) = call.modes();
        call.want(SfuReason::PacketLoss, now);
        call.turn(now);
        call.acknowledge(epoch + 1, now + 1);
        call.reported(epoch + 1, 2, now + 1);
        call.turn(now + 1);
        call.presence(now + 2, |p| p.sfu_wanted = None);
        let went_up = now;
        while call.modes().0 == epoch + 1 {
            let plan = call.turn(now);
            now += plan.again.map_or(1, |again| again.as_secs().max(1));
            assert!(now < went_up + 2000, "it never goes back");
        }
        waited.push(now - 1 - went_up);
        call.acknowledge(epoch + 2, now);
        call.turn(now);
        now += 5;
    }
    assert!(waited.windows(2).all(|w| w[1] > w[0]), "{waited:?}");
    assert!(waited[0] <= 35 && waited[4] >= 240, "{waited:?}");
}

#[test]
fn a_node_that_is_lost_during_a_move_costs_nobody_the_old_route() {
    let mut call = Call::grown();
    call.cluster.mark_lost("a", LossCause::PodGone, at(103).mono);
    call.turn(103);
    assert_eq!((call.modes(), call.route().reason.as_str()), ((3, "SFU", Some(1)), reason::NODE_LOST));
    assert_eq!(call.route().node_name(), "b");

    // Nobody takes it: it is where it came from, and waits there.
    let mut call = Call::grown();
    call.cluster.mark_lost("a", LossCause::PodGone, at(103).mono);
    call.cluster.mark_lost("b", LossCause::PodGone, at(103).mono);
    call.turn(103);
    assert_eq!((call.modes(), call.route().reason.as_str()), ((3, "P2P", Some(1)), reason::NODE_LOST));
    call.acknowledge(3, 104);
    call.turn(104);
    assert!(call.turn(104).waits);
    assert_eq!(call.condition(types::READY).0, "True Routed");
}

#[test]
fn a_small_call_whose_node_is_lost_goes_on_peer_to_peer_where_no_other_takes_it() {
    let lose = |people: i32, nodes: &[&str]| {
        let mut call = Call::moved();
        call.says(present(people, 110), 110);
        for node in nodes {
            call.cluster.mark_lost(node, LossCause::PodGone, at(112).mono);
        }
        call.turn(112);
        (call.route().mode.as_str(), call.route().epoch, call.room.status.clone().unwrap())
    };
    assert!(matches!(lose(2, &["a"]), ("SFU", 3, _)), "as any other room");
    assert!(matches!(lose(2, &["a", "b"]), ("P2P", 3, CallRoomStatus { previous_route: None, .. })));
    let (mode, epoch, status) = lose(3, &["a", "b"]);
    assert_eq!((mode, epoch, status.phase), ("SFU", 2, Some(Phase::Pending)), "three cannot");
}

#[test]
fn a_new_leader_goes_on_in_the_middle_of_a_move() {
    for call in [Call::grown(), Call::shrunk()] {
        let mut successor =
            Call { cluster: cluster(&[("a", 10), ("b", 10)], Placement::Spread), room: call.room.clone() };
        successor.shown(0);
        let when = if call.modes().0 == 2 { 102 } else { 142 };
        assert_eq!(successor.look(when).status, None, "it changes nothing");
        assert_eq!(successor.cluster.rooms_on("a").count(), 1);
        successor.acknowledge(call.modes().0, when);
        successor.turn(when);
        assert_eq!(successor.modes(), (call.modes().0, call.modes().1, None));
    }
}

#[test]
fn a_move_that_was_decided_and_is_wanted_no_longer_gives_its_place_back() {
    let mut call = Call::opened(&[("a", 10)]);
    call.says(present(3, 10), 10);
    let plan = call.look(10);
    call.cluster.assume(&key("r"), plan.assume.unwrap());
    // Nobody knows whether it was written. Then somebody leaves.
    call.says(present(2, 11), 11);
    let plan = call.look(11);
    assert_eq!((plan.assume, plan.waits), (None, false));
    assert!(plan.status.is_some(), "a write of what is there tells, since it is based on this version");
}

#[test]
fn an_empty_call_ends_only_when_the_gateway_says_so_and_could_have_said_otherwise() {
    let ending = || {
        let mut room = auto("r", 1);
        room.spec.lifetime.empty_timeout_seconds = Some(30);
        let mut call = Call::of(room, &[("a", 10)]);
        call.turn(0);
        call
    };
    let heard = |call: &mut Call, from: u64, to: u64| (from..=to).step_by(4).for_each(|t| canary(&mut call.cluster, t));
    let mut call = ending();
    heard(&mut call, 1, 1001);
    assert_eq!(call.look(1001).verdict, Verdict::Unchanged, "unknown is not zero");
    call.says(present(1, 10), 1001);
    assert!(!matches!(call.look(1001).verdict, Verdict::Ended(_)));

    let mut call = ending();
    call.says(present(0, 20), 20);
    heard(&mut call, 1, 49);
    assert_eq!(call.look(49).again, Some(Duration::from_secs(1)));
    heard(&mut call, 49, 50);
    assert_eq!(call.look(50).verdict, Verdict::Ended("EmptyTimeout"));

    // The API server was away: somebody may have joined, and nobody could write that down.
    heard(&mut call, 200, 204);
    let plan = call.look(204);
    assert_eq!((plan.verdict, plan.again), (Verdict::Unchanged, Some(Duration::from_secs(11))));
    heard(&mut call, 204, 215);
    assert_eq!(call.look(215).verdict, Verdict::Ended("EmptyTimeout"));
}
