//! The promises about rooms, tried with whatever order of events proptest comes up with.

use std::collections::{BTreeMap, HashMap};

use callplane_crds::{CallRoom, CallRoomStatus, load::Demand, medianode::Capacity, mediapool::Placement};
use proptest::prelude::*;

use super::{
    decide::{Plan, Verdict, decide},
    observe::observe,
    place::{Candidate, Request, pick},
};
use crate::{
    clock::Now,
    cluster::{
        Cluster, RoomKey,
        fixtures::*,
        node::{LossCause, Standing},
    },
};

/// The API server, as far as rooms go: versions, and refusal of what was based on an older one.
#[derive(Default)]
struct Server {
    version: u64,
    rooms: BTreeMap<String, CallRoom>,
    /// Every route that was ever accepted: room and epoch, and the node.
    routes: HashMap<(String, i64), Option<String>>,
}

impl Server {
    fn create(&mut self, name: &str, size: i32) {
        self.version += 1;
        self.rooms.insert(name.to_owned(), room(name, self.version, size));
    }

    fn apply(&mut self, based_on: &CallRoom, status: CallRoomStatus) -> Result<CallRoom, TestCaseError> {
        let name = based_on.metadata.name.clone().unwrap();
        let Some(stored) = self.rooms.get_mut(&name) else { return Err(TestCaseError::reject("gone")) };
        if stored.metadata.resource_version != based_on.metadata.resource_version {
            return Err(TestCaseError::reject("conflict"));
        }
        let before = stored.status.as_ref().and_then(|s| s.route.as_ref()).map_or(0, |r| r.epoch);
        self.version += 1;
        stored.metadata.resource_version = Some(self.version.to_string());
        prop_assert!(before == 0 || status.route.is_some(), "nothing ended this call: {status:?}");
        stored.status = Some(status);
        let stored = stored.clone();
        if let Some(route) = stored.status.as_ref().and_then(|s| s.route.as_ref()) {
            let owner = self.routes.entry((name, route.epoch)).or_insert_with(|| route.node.clone());
            prop_assert_eq!(&*owner, &route.node, "epoch {} has two owners", route.epoch);
            prop_assert!(route.epoch == before || route.epoch == before + 1, "epochs count");
        }
        Ok(stored)
    }
}

/// Decides and reserves, as a leader does under its lock.
fn turn(cluster: &mut Cluster, key: &RoomKey, now: Now) -> Option<(CallRoom, Plan)> {
    let (room, plan) = {
        let world = observe(cluster, key, now)?;
        (world.room.clone(), decide(&world, now))
    };
    cluster.set_waiting(key, plan.waits);
    if let Some(assumed) = &plan.assume {
        cluster.assume(key, assumed.clone());
    }
    Some((room, plan))
}

#[derive(Clone, Debug)]
enum Step {
    Create(usize),
    /// This leader's cache catches up with one room.
    Sync(usize, usize),
    /// This leader decides about a room, and its write arrives after so many other steps.
    Decide(usize, usize, usize),
    /// This leader believes that this node is lost.
    Lose(usize, usize),
    /// This leader hears from this node again.
    Back(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (0usize..4).prop_map(Step::Create),
        4 => (0usize..2, 0usize..4).prop_map(|(l, r)| Step::Sync(l, r)),
        6 => (0usize..2, 0usize..4, 0usize..6).prop_map(|(l, r, d)| Step::Decide(l, r, d)),
        2 => (0usize..2, 0usize..3).prop_map(|(l, n)| Step::Lose(l, n)),
        2 => (0usize..2, 0usize..3).prop_map(|(l, n)| Step::Back(l, n)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Two leaders at once, with caches of any age and writes that arrive late: still one owner for an epoch.
    #[test]
    fn an_epoch_has_one_owner_whatever_the_leaders_see(steps in prop::collection::vec(step(), 1..120)) {
        let names = ["a", "b", "c"];
        let mut server = Server::default();
        let mut leaders = [(); 2].map(|()| cluster(&names.map(|n| (n, 50)), Placement::Spread));
        let mut on_the_way: Vec<(usize, usize, CallRoom, CallRoomStatus)> = Vec::new();
        for (i, step) in steps.into_iter().enumerate() {
            let seconds = u64::try_from(i).unwrap() / 10;
            let now = at(seconds);
            let (arrived, waiting) = on_the_way.into_iter().partition(|(due, ..)| *due <= i);
            on_the_way = waiting;
            let arrived: Vec<_> = arrived;
            for (_, leader, based_on, status) in arrived {
                match server.apply(&based_on, status) {
                    Ok(answer) => drop(leaders[leader].answer_room(answer, now.mono)),
                    Err(TestCaseError::Reject(_)) => {}
                    Err(failure) => return Err(failure),
                }
            }
            match step {
                Step::Create(r) => if !server.rooms.contains_key(&format!("r{r}")) { server.create(&format!("r{r}"), 4) },
                Step::Sync(l, r) => if let Some(room) = server.rooms.get(&format!("r{r}")) {
                    leaders[l].apply_room(room.clone(), now.mono);
                },
                Step::Decide(l, r, delay) => if let Some((room, plan)) = turn(&mut leaders[l], &key(&format!("r{r}")), now)
                    && let Some(status) = plan.status {
                    on_the_way.push((i + delay, l, room, status));
                },
                Step::Lose(l, n) => drop(leaders[l].mark_lost(names[n], LossCause::Silent, now.mono)),
                Step::Back(l, n) => drop(leaders[l].apply_lease(&lease(names[n], 5000 + i as u64, 100 + i as u64), now.mono)),
            }
        }
    }

    /// Deciding again after the write changes nothing, and rooms that fit are placed.
    #[test]
    fn it_converges_and_then_rests(sizes in prop::collection::vec(2i32..50, 1..30), nodes in 1usize..4, spread in prop::bool::ANY) {
        let names = ["a", "b", "c"];
        let placement = if spread { Placement::Spread } else { Placement::Packed };
        let mut cluster = cluster(&names.map(|n| (n, 12))[..nodes], placement);
        let mut server = Server::default();
        for (i, size) in sizes.iter().enumerate() {
            server.create(&format!("r{i}"), *size);
            cluster.apply_room(server.rooms[&format!("r{i}")].clone(), at(0).mono);
        }
        for _ in 0..2 {
            for i in 0..sizes.len() {
                if let Some((room, Plan { status: Some(status), .. })) = turn(&mut cluster, &key(&format!("r{i}")), at(1)) {
                    let answer = server.apply(&room, status)?;
                    cluster.answer_room(answer, at(1).mono);
                }
            }
        }
        for i in 0..sizes.len() {
            let (_, plan) = turn(&mut cluster, &key(&format!("r{i}")), at(2)).unwrap();
            prop_assert_eq!((plan.verdict, plan.status), (Verdict::Unchanged, None));
        }
        let placed = server.routes.len();
        prop_assert_eq!(placed, sizes.len().min(12 * nodes), "no place is left free while a room waits");
        for name in &names[..nodes] {
            let node = cluster.node(name).unwrap();
            prop_assert!(node.account.committed().fits(&node.object.as_ref().unwrap().spec.capacity), "overcommitted");
        }
    }

    /// What is picked stands ready, is allowed and has room; nothing is refused that fits.
    #[test]
    fn a_pick_is_always_allowed(nodes in prop::collection::vec((0usize..7, 0i64..12, prop::bool::ANY, prop::bool::ANY, prop::bool::ANY), 0..12), size in 2i32..20, region in prop::bool::ANY) {
        let standings = [Standing::Ready, Standing::NotReady, Standing::Silent, Standing::Cordoned, Standing::Saturated, Standing::Leaving, Standing::Lost];
        let names: Vec<String> = (0..nodes.len()).map(|i| format!("n{i}")).collect();
        let request = Request { pool: None, selector: None, region: region.then_some("eu"), demand: Demand::of_room(size) };
        let candidates: Vec<Candidate<'_>> = nodes.iter().zip(&names).map(|((standing, rooms, eu, spread, newest), name)| Candidate {
            name,
            pool: if *spread { "spread" } else { "packed" },
            pool_labels: None,
            region: eu.then_some("eu"),
            placement: if *spread { Placement::Spread } else { Placement::Packed },
            is_newest: *newest,
            standing: standings[*standing],
            capacity: Capacity { rooms: 10, participants: 60, streams: 2000 },
            committed: Demand { rooms: *rooms, participants: rooms * 4, streams: rooms * 24 },
            cpu_per_mille: 0,
        }).collect();
        let able = |c: &Candidate<'_>| c.standing == Standing::Ready && (!region || c.region == Some("eu")) && c.committed.plus(request.demand).fits(&c.capacity);
        match pick(&request, 2, &candidates) {
            Ok(name) => prop_assert!(able(candidates.iter().find(|c| c.name == name).unwrap())),
            Err(refusal) => {
                prop_assert!(!candidates.iter().any(able));
                let classes = refusal.other_pool + refusal.other_region + refusal.not_ready + refusal.cordoned + refusal.saturated + refusal.full;
                prop_assert_eq!(refusal.looked_at, classes, "every node is accounted for");
            }
        }
    }
}

/// 500 rooms at once, with no report in between, land as the load model says and not all on the node that looked idle.
#[test]
fn a_burst_spreads_without_a_report() {
    for (placement, expected) in [(Placement::Spread, [125, 125, 125, 125]), (Placement::Packed, [200, 200, 100, 0])] {
        let mut cluster = cluster(&[("a", 200), ("b", 200), ("c", 200), ("d", 200)], placement);
        for i in 0..500 {
            let name = format!("r{i}");
            cluster.apply_room(room(&name, 1, 4), at(0).mono);
            let (_, plan) = turn(&mut cluster, &key(&name), at(0)).unwrap();
            assert!(matches!(plan.verdict, Verdict::Placed { .. }));
        }
        assert_eq!(["a", "b", "c", "d"].map(|n| cluster.rooms_on(n).count()), expected, "{placement:?}");
    }
}

/// A new leader that knows a room's route and nothing else about the past leaves it alone.
#[test]
fn a_new_leader_changes_nothing() {
    let mut cluster = cluster(&[("a", 10), ("b", 10)], Placement::Spread);
    for i in 0..8 {
        let name = format!("r{i}");
        cluster.apply_room(placed(&name, 1, 4, "a"), at(0).mono);
        assert_eq!(turn(&mut cluster, &key(&name), at(0)).unwrap().1.status, None);
    }
    cluster.apply_room(room("new", 1, 4), at(0).mono);
    let (_, plan) = turn(&mut cluster, &key("new"), at(0)).unwrap();
    assert_eq!(plan.verdict, Verdict::Placed { node: "b".into() }, "and knows how full the nodes are");
}

/// A restart with very many rooms: they fit into memory, and one look at each finds nothing to do.
#[test]
fn a_hundred_thousand_rooms_fit() {
    let resident = || -> usize {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    };
    let before = resident();
    let names: Vec<String> = (0..20).map(|i| format!("n{i}")).collect();
    let mut cluster = cluster(&names.iter().map(|n| (n.as_str(), 5001)).collect::<Vec<_>>(), Placement::Spread);
    let room = placed("r", 1, 4, "n0");
    for i in 0..100_000usize {
        let mut room = room.clone();
        room.metadata.name = Some(format!("standup-{i}"));
        room.metadata.uid = Some(format!("8f8e2a52-6f0a-4a7e-9d6e-{i:012}"));
        room.status.as_mut().unwrap().route.as_mut().unwrap().node = Some(names[i % 20].clone());
        room.status.as_mut().unwrap().conditions[0].message = format!("on media node {}", names[i % 20]);
        cluster.apply_room(room, at(0).mono);
    }
    let everything = cluster.everything();
    assert_eq!(everything.rooms.len(), 100_000);
    for key in &everything.rooms {
        assert_eq!(turn(&mut cluster, key, at(0)).unwrap().1.verdict, Verdict::Unchanged);
    }
    let used = (resident() - before) >> 20;
    println!("100 000 rooms take {used} MiB");
    assert!(used < 400, "{used} MiB");
}

/// Rooms that fit nowhere, many of them, while the numbers that explain it move all the time.
#[test]
fn waiting_rooms_are_told_why_without_a_storm_of_writes() {
    const ROOMS: usize = 2000;
    let names = ["a", "b", "c", "d", "e", "f"];
    let mut cluster = cluster(&names.map(|n| (n, 0)), Placement::Packed);
    let mut server = Server::default();
    for i in 0..ROOMS {
        server.create(&format!("standup-{i}"), 4);
        cluster.apply_room(server.rooms[&format!("standup-{i}")].clone(), at(0).mono);
    }
    // Nodes come and go as candidates: full, or cordoned.
    let stir = |cluster: &mut Cluster, step: u64| {
        let mut moved = node(names[step as usize % names.len()], 100 + step, 0);
        moved.spec.cordoned = (step as usize / names.len()).is_multiple_of(2);
        cluster.apply_node(moved, at(step * 30).mono);
        renew(cluster, names, step * 30);
    };
    let look = |cluster: &mut Cluster, server: &mut Server, seconds| {
        let mut writes = 0;
        for i in 0..ROOMS {
            let name = key(&format!("standup-{i}"));
            if let Some((room, Plan { status: Some(status), .. })) = turn(cluster, &name, at(seconds)) {
                let answer = server.apply(&room, status).unwrap();
                cluster.wrote_room(&name, at(seconds).mono);
                cluster.answer_room(answer, at(seconds).mono);
                writes += 1;
            }
        }
        writes
    };
    let message = |server: &Server, i| {
        server.rooms[&format!("standup-{i}")].status.clone().unwrap().conditions[0].message.clone()
    };
    assert_eq!(look(&mut cluster, &mut server, 0), ROOMS, "each says at once why it waits");
    let first = message(&server, 7);
    assert!(first.contains("looked at 6: 6 full"), "{first}");
    let mut total = 0;
    for step in 1..=40 {
        stir(&mut cluster, step);
        let writes = look(&mut cluster, &mut server, step * 30);
        assert!(writes < ROOMS / 10, "{writes} at once after {} s", step * 30);
        total += writes;
    }
    assert!((ROOMS / 2..=2 * ROOMS).contains(&total), "{total} in 20 minutes");
    assert_ne!(message(&server, 7), first, "in the end it is up to date");
    // A long time without any change makes nobody's turn come early.
    stir(&mut cluster, 161);
    let writes = look(&mut cluster, &mut server, 161 * 30);
    assert!((1..ROOMS / 10).contains(&writes), "{writes} at once after an hour of rest");

    // Another leader takes over with a cache that has been warm for a while.
    let mut successor = crate::cluster::fixtures::cluster(&names.map(|n| (n, 0)), Placement::Packed);
    for room in server.rooms.values() {
        successor.apply_room(room.clone(), at(1200).mono);
    }
    renew(&mut successor, names, 1230);
    assert_eq!(look(&mut successor, &mut server, 1230), 0, "it writes nothing just because it is new");

    // The reason is news, but not more often than every 30 s.
    for name in names {
        let mut moved = node(name, 1000, 0);
        moved.status = None;
        successor.apply_node(moved, at(1231).mono);
    }
    assert_eq!(look(&mut successor, &mut server, 1231), ROOMS);
    for name in names {
        successor.apply_node(node(name, 1001, 0), at(1240).mono);
    }
    renew(&mut successor, names, 1240);
    assert_eq!(look(&mut successor, &mut server, 1240), 0);
    renew(&mut successor, names, 1262);
    assert_eq!(look(&mut successor, &mut server, 1262), ROOMS);
}
