//! The cluster is the truth: whatever happened, an index that is made anew from what the API server stores says the same as
//! one that was there all along, and leads to the same decisions.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use callplane_crds::load::Demand;
use proptest::prelude::*;

use super::{
    node::Standing,
    stored::{Fate, NODES, Step, Store},
    *,
};
use crate::{clock::Now, node as nodes, pool as pools, room as rooms};

/// For how long both are watched before they are compared: longer than a cordoned node has to wait (20 s), than a reason
/// may not change (30 s), and than an old route is kept (30 s).
const QUIET: u64 = 45;

/// What happens without the leader.
fn event() -> impl Strategy<Value = Step> {
    let (room, node) = (0usize..8, 0usize..4);
    prop_oneof![
        6 => (room.clone(), 2i32..5, prop::bool::ANY).prop_map(|(r, size, sfu)| Step::Create(r, size, sfu)),
        1 => room.clone().prop_map(Step::Delete),
        1 => room.clone().prop_map(Step::End),
        3 => (room, 0i32..4).prop_map(|(r, p)| Step::People(r, p)),
        3 => (node.clone(), 0i32..4).prop_map(|(n, p)| Step::Report(n, p)),
        2 => (node.clone(), prop::bool::ANY).prop_map(|(n, is)| Step::Cordon(n, is)),
        1 => node.clone().prop_map(Step::Crash),
        1 => node.clone().prop_map(Step::Evict),
        1 => node.clone().prop_map(Step::Remove),
        2 => node.clone().prop_map(Step::Add),
        1 => node.clone().prop_map(Step::Fall),
        1 => node.prop_map(Step::Return),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let fate = prop_oneof![6 => Just(Fate::Answered), 1 => Just(Fate::Unanswered), 1 => Just(Fate::Lost)];
    prop_oneof![
        23 => event(),
        12 => (0usize..8, fate).prop_map(|(r, fate)| Step::Decide(r, fate)),
        3 => (0usize..8).prop_map(Step::Sync),
        2 => (1u64..4).prop_map(Step::Wait),
    ]
}

/// What counts as taken of each node, and by whom.
fn accounts(cluster: &Cluster) -> BTreeMap<String, (BTreeSet<RoomKey>, Demand)> {
    let of = |name: String| {
        let node = cluster.node(&name)?;
        let is_known = node.object.is_some() || node.account.room_count() > 0;
        is_known.then(|| (name.clone(), (cluster.rooms_on(&name).cloned().collect(), node.account.committed())))
    };
    cluster.everything().nodes.into_iter().filter_map(of).collect()
}

fn standings(cluster: &Cluster, now: Now) -> BTreeMap<&str, Standing> {
    cluster.nodes().map(|(name, node)| (name, node.standing(cluster.contact(), now.mono))).collect()
}

/// Rooms by phase and by mode.
fn counts(cluster: &Cluster) -> (HashMap<Phase, i64>, HashMap<RouteMode, i64>) {
    let phases = cluster.phases().iter().filter(|(_, count)| **count != 0);
    let modes = cluster.modes().iter().filter(|(_, count)| **count != 0);
    (phases.map(|(phase, count)| (*phase, *count)).collect(), modes.map(|(mode, count)| (*mode, *count)).collect())
}

/// What is planned for each room, but for when to look again: that depends on what was seen when.
fn room_plans(cluster: &Cluster, now: Now) -> BTreeMap<RoomKey, rooms::decide::Plan> {
    let plan = |room: &RoomKey| {
        let plan = rooms::decide::decide(&rooms::observe::observe(cluster, room, now).unwrap(), now);
        rooms::decide::Plan { again: None, ..plan }
    };
    cluster.everything().rooms.into_iter().map(|room| (room.clone(), plan(&room))).collect()
}

/// What is planned for each node that is not lost. Who looks first at a lost one gives the verdict once more.
fn node_plans(cluster: &Cluster, now: Now) -> BTreeMap<&str, nodes::decide::Plan> {
    let plan = |name| nodes::decide::decide(&nodes::observe::observe(cluster, name, now).unwrap(), now);
    let standings = standings(cluster, now);
    standings.into_iter().filter(|(_, s)| *s != Standing::Lost).map(|(name, _)| (name, plan(name))).collect()
}

fn pool_steps(cluster: &Cluster, now: Now) -> Vec<pools::decide::Step> {
    let world = pools::observe::observe(cluster, "p", pools::backoff::Crashes::default(), now).unwrap();
    pools::decide::decide(&world, now).steps
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// Rooms and nodes come, go and fail, and writes and answers are lost; then a new process lists what is stored.
    #[test]
    fn every_index_can_be_rebuilt_from_what_is_stored(
        steps in prop::collection::vec(step(), 1..80),
        people in 0i32..3,
        next in prop::collection::vec(event(), 0..8),
    ) {
        let mut store = Store::new();
        let mut old = store.listed();
        steps.iter().for_each(|step| store.play(step, &mut old));

        // Everything arrives, and who is there says so.
        store.wait(1);
        NODES.iter().filter(|name| store.runs(name)).copied().collect::<Vec<_>>().into_iter().for_each(|name| store.report(name, people));
        store.show(&mut old);
        store.judge(&mut old);
        store.settle(&mut old);
        let mut new = store.listed();
        let now = store.now();
        prop_assert_eq!(accounts(&new), accounts(&old));
        prop_assert_eq!(standings(&new, now), standings(&old, now));
        prop_assert_eq!(counts(&new), counts(&old));

        // Times that each counts by itself run out; meanwhile the old one leads.
        for _ in 0..QUIET / 3 {
            store.wait(3);
            for cluster in [&mut old, &mut new] {
                store.show(cluster);
                store.judge(cluster);
            }
            store.settle(&mut old);
            store.show_rooms(&mut new);
        }
        let alike = |store: &Store, old: &Cluster, new: &Cluster| -> Result<(), TestCaseError> {
            let now = store.now();
            prop_assert_eq!(accounts(new), accounts(old));
            prop_assert_eq!(standings(new, now), standings(old, now));
            prop_assert_eq!(room_plans(new, now), room_plans(old, now));
            prop_assert_eq!(node_plans(new, now), node_plans(old, now));
            prop_assert_eq!(pool_steps(new, now), pool_steps(old, now));
            Ok(())
        };
        alike(&store, &old, &new)?;
        prop_assert!(room_plans(&old, store.now()).values().all(|plan| plan.status.is_none()), "it has settled");

        // And they decide alike about whatever comes next.
        for step in &next {
            store.play(step, &mut old);
            store.show_rooms(&mut old);
            store.show(&mut new);
            store.show_rooms(&mut new);
            store.judge(&mut new);
            store.show(&mut old);
            alike(&store, &old, &new)?;
        }
    }
}
