//! The promise that no call is ended by us, tried on the one rule of a room's own that looks at who is in it:
//! `emptyTimeoutSeconds`. Reports of any age, epochs that move, leaders that change and statuses that are wiped.

use proptest::prelude::*;

use super::empty_call::{Step, World, Write};
use crate::cluster::fixtures::{auto, room};

fn step() -> impl Strategy<Value = Step> {
    let (node, leader) = (0usize..2, 0usize..2);
    prop_oneof![
        3 => (node.clone(), 0i32..3).prop_map(|(n, p)| Step::People(n, p)),
        3 => (0i32..5).prop_map(Step::Present),
        4 => node.clone().prop_map(Step::Serve),
        1 => node.clone().prop_map(Step::Move),
        6 => node.clone().prop_map(Step::Report),
        1 => node.clone().prop_map(Step::Wipe),
        4 => node.clone().prop_map(Step::Renew),
        5 => leader.clone().prop_map(Step::Rooms),
        5 => leader.clone().prop_map(Step::Nodes),
        5 => leader.clone().prop_map(Step::Leases),
        1 => (leader.clone(), node).prop_map(|(l, n)| Step::Lose(l, n)),
        1 => leader.clone().prop_map(Step::Restart),
        8 => (leader, 0usize..4).prop_map(|(l, d)| Step::Decide(l, d)),
        6 => (1u64..20).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// A call is ended for being empty only on a fresh word that it is, by whoever can know, about the route that it has;
    /// and once it is empty and everybody says so, it is ended.
    #[test]
    fn only_a_call_that_was_seen_to_be_empty_is_ended_for_it(
        steps in prop::collection::vec(step(), 1..150),
        timeout in 5u64..60,
        skew in -600i64..600,
        moves in prop::bool::ANY,
    ) {
        let mut world = World::new(if moves { auto("r", 1) } else { room("r", 1, 4) }, timeout, skew);
        let mut on_the_way: Vec<(usize, Write)> = Vec::new();
        for (i, step) in steps.iter().enumerate() {
            let (arrived, waiting): (Vec<_>, Vec<_>) = on_the_way.into_iter().partition(|(due, _)| *due <= i);
            on_the_way = waiting;
            for (_, write) in arrived {
                world.write(write)?;
            }
            match step {
                Step::Decide(leader, delay) => on_the_way.extend(world.decide(*leader)?.map(|write| (i + delay, write))),
                step => world.play(step),
            }
            if world.ended {
                return Ok(());
            }
        }
        let took = world.rest(timeout + 240)?;
        prop_assert!(took.is_some(), "it is never ended: {:?}", world.room.status);
    }
}
