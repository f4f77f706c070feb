//! The promises about calls that move, tried with whatever order of events proptest comes up with.

use callplane_crds::{
    CallRoom, CallRoomStatus, Presence, Route, RouteMode, Topology, TopologyMode,
    mediapool::Placement,
    presence::{FailedRoute, SfuReason, SfuWanted},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;

use super::{decide::decide, observe::observe, routes::PREVIOUS_ROUTE_DEADLINE};
use crate::cluster::{Cluster, fixtures::*, node::LossCause};

const NODES: [&str; 2] = ["a", "b"];

/// What can happen.
#[derive(Clone, Debug)]
enum Step {
    /// So many people are in the call from now on.
    People(i32),
    /// Everyone has media on the present route.
    Acknowledge,
    /// Somebody has none.
    Fail,
    /// Peer to peer does not work, or is not wanted.
    Want(Option<SfuReason>),
    /// Somebody changes the spec.
    Topology(Option<TopologyMode>),
    /// A node ends, or its successor is there.
    Lose(usize),
    Back(usize),
    /// This leader's cache catches up.
    Sync(usize),
    /// This leader decides, and its write arrives after so many other steps, or never.
    Decide(usize, usize),
    /// This leader's process starts again.
    Restart(usize),
    /// Time passes.
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let reason = prop_oneof![
        Just(None),
        Just(Some(SfuReason::PacketLoss)),
        Just(Some(SfuReason::PeerConnectionFailed)),
        Just(Some(SfuReason::Requested)),
    ];
    let topology = prop_oneof![
        Just(None),
        Just(Some(TopologyMode::Auto)),
        Just(Some(TopologyMode::P2p)),
        Just(Some(TopologyMode::Sfu)),
    ];
    prop_oneof![
        4 => (0i32..5).prop_map(Step::People),
        3 => Just(Step::Acknowledge),
        2 => Just(Step::Fail),
        2 => reason.prop_map(Step::Want),
        1 => topology.prop_map(Step::Topology),
        1 => (0usize..2).prop_map(Step::Lose),
        1 => (0usize..2).prop_map(Step::Back),
        6 => (0usize..2).prop_map(Step::Sync),
        10 => (0usize..2, 0usize..4).prop_map(|(l, d)| Step::Decide(l, d)),
        1 => (0usize..2).prop_map(Step::Restart),
        4 => (1u64..40).prop_map(Step::Wait),
    ]
}

/// The API server's side of one room, and two leaders that look at it.
struct World {
    seconds: u64,
    version: u64,
    room: CallRoom,
    dead: [bool; 2],
    leaders: [Cluster; 2],
    changes: Vec<(u64, Route)>,
    writes: usize,
    renewals: u64,
}

/// A write on its way: the room that it is based on, and which nodes were dead when it was decided.
#[derive(Clone, Debug)]
struct Write {
    leader: usize,
    based_on: CallRoom,
    status: CallRoomStatus,
    dead: [bool; 2],
}

impl World {
    fn new() -> Self {
        let leaders = [(); 2].map(|()| cluster(&NODES.map(|n| (n, 3)), Placement::Packed));
        let (room, dead) = (auto("r", 1), [false; 2]);
        Self { seconds: 10, version: 1, room, dead, leaders, changes: Vec::new(), writes: 0, renewals: 0 }
    }

    fn changed(&mut self) {
        self.version += 1;
        self.room.metadata.resource_version = Some(self.version.to_string());
    }

    fn presence(&mut self, change: impl FnOnce(&mut Presence)) {
        let now = self.seconds;
        let status = self.room.status.get_or_insert_default();
        change(status.presence.get_or_insert_with(|| present(0, now)));
        self.changed();
    }

    /// The nodes say whom they have: those of whom the gateway knows.
    fn report(&mut self) {
        self.renewals += 1;
        let status = self.room.status.clone().unwrap_or_default();
        let people = status.presence.as_ref().map_or(0, |p| p.participants);
        for (name, dead) in NODES.iter().zip(self.dead) {
            let on = |route: &&Route| route.node.as_deref() == Some(*name);
            let served = status.route.iter().chain(&status.previous_route).find(on);
            let rooms: Vec<_> = served.filter(|_| !dead).map(|r| ("r", r.epoch, people)).into_iter().collect();
            let version = 10_000 + self.renewals;
            for leader in &mut self.leaders {
                let said = reporting(node(name, version, 3), version, self.seconds, &rooms);
                leader.apply_node(said, at(self.seconds).mono);
            }
        }
    }

    fn epoch(&self) -> i64 {
        self.room.status.as_ref().and_then(|s| s.route.as_ref()).map_or(0, |r| r.epoch)
    }

    fn sync(&mut self, leader: usize) {
        self.leaders[leader].apply_room(self.room.clone(), at(self.seconds).mono);
    }

    /// What a leader decides to write, if anything.
    fn decide(&mut self, leader: usize) -> Option<Write> {
        let now = at(self.seconds);
        let cluster = &mut self.leaders[leader];
        let (based_on, plan) = {
            let world = observe(cluster, &key("r"), now)?;
            (world.room.clone(), decide(&world, now))
        };
        let stale = cluster.room(&key("r"))?.assumed.as_ref().map(|a| a.epoch);
        cluster.set_waiting(&key("r"), plan.waits);
        match (&plan.assume, stale) {
            (Some(assumed), _) => cluster.assume(&key("r"), assumed.clone()),
            (None, Some(epoch)) if plan.status.is_some() => drop(cluster.refute(&key("r"), epoch)),
            _ => {}
        }
        plan.status.map(|status| Write { leader, based_on, status, dead: self.dead })
    }

    /// The API server takes a write, or refuses it since the room has changed.
    fn write(&mut self, write: Write) -> Result<(), TestCaseError> {
        if write.based_on.metadata.resource_version != self.room.metadata.resource_version {
            return Ok(());
        }
        let before = self.room.status.clone().unwrap_or_default();
        self.judge(&before, &write)?;
        let Write { leader, status, .. } = write;
        if before.route.as_ref().map(|r| r.epoch) != status.route.as_ref().map(|r| r.epoch) {
            self.changes.push((self.seconds, status.route.clone().unwrap()));
        }
        self.room.status = Some(CallRoomStatus { presence: before.presence, ..status });
        self.changed();
        self.writes += 1;
        let (room, now) = (self.room.clone(), at(self.seconds));
        self.leaders[leader].answer_room(room, now.mono);
        self.report();
        Ok(())
    }

    /// What must hold for every write.
    fn judge(&self, before: &CallRoomStatus, write: &Write) -> Result<(), TestCaseError> {
        let after = &write.status;
        let carries = |route: &Route| match &route.node {
            None => true,
            Some(node) => NODES.iter().position(|n| n == node).is_some_and(|i| !write.dead[i]),
        };
        prop_assert_eq!(&after.presence, &None, "the gateway's words are the gateway's");
        let Some(new) = &after.route else {
            let lost = before.route.as_ref().or(before.previous_route.as_ref());
            prop_assert_eq!(lost, None, "nothing ended this call: {:?}", after);
            return Ok(());
        };
        prop_assert_eq!(new.node.is_none(), new.mode == RouteMode::P2p);
        let Some(old) = &before.route else {
            prop_assert_eq!((new.epoch, &after.previous_route), (1, &None));
            return Ok(());
        };
        if new.epoch == old.epoch {
            prop_assert_eq!(new, old, "an epoch has one owner");
            if let (Some(previous), None) = (&before.previous_route, &after.previous_route) {
                let presence = before.presence.as_ref();
                let acknowledged = presence.is_some_and(|p| p.epoch.is_some_and(|e| e >= new.epoch));
                let left = presence.is_some_and(|p| p.participants == 0);
                let age = wall(self.seconds).duration_since(new.since.0);
                let over = age.as_secs() >= PREVIOUS_ROUTE_DEADLINE.as_secs() as i64;
                prop_assert!(
                    acknowledged || left || over || !carries(previous),
                    "a route is cut off while people are on it: {before:?}"
                );
            }
            return Ok(());
        }
        prop_assert_eq!(new.epoch, old.epoch + 1, "epochs count");
        if carries(old) {
            prop_assert_eq!(
                after.previous_route.as_ref(),
                Some(old),
                "the old side carries media until all have moved"
            );
        } else if let Some(previous) = before.previous_route.as_ref().filter(|p| p.mode == RouteMode::P2p) {
            prop_assert_eq!(after.previous_route.as_ref(), Some(previous), "a dead node takes no living route with it");
        }
        Ok(())
    }

    fn play(&mut self, step: &Step) {
        let (seconds, epoch) = (self.seconds, self.epoch());
        match step {
            Step::People(count) => self.presence(|p| {
                if p.participants != *count {
                    (p.participants, p.since) = (*count, Time(wall(seconds)));
                }
            }),
            Step::Acknowledge if epoch > 0 => self.presence(|p| p.epoch = Some(epoch)),
            Step::Fail if epoch > 0 => {
                self.presence(|p| p.failed = Some(FailedRoute { epoch, reason: "no media".into() }));
            }
            Step::Want(reason) => self.presence(|p| {
                p.sfu_wanted = reason.map(|reason| SfuWanted { reason, since: Time(wall(seconds)) });
            }),
            Step::Topology(mode) => {
                self.room.spec.topology = mode.map(|mode| Topology { mode, ..Topology::default() });
                self.changed();
            }
            Step::Lose(node) => {
                self.dead[*node] = true;
                for leader in &mut self.leaders {
                    leader.mark_lost(NODES[*node], LossCause::Silent, at(seconds).mono);
                }
            }
            Step::Back(node) => {
                self.dead[*node] = false;
                self.renewals += 1;
                let renewed = 10_000 + self.renewals;
                for leader in &mut self.leaders {
                    leader.apply_lease(&lease(NODES[*node], renewed, renewed), at(seconds).mono);
                }
            }
            Step::Sync(leader) => self.sync(*leader),
            Step::Restart(leader) => {
                self.leaders[*leader] = cluster(&NODES.map(|n| (n, 3)), Placement::Packed);
                for (node, _) in NODES.iter().zip(self.dead).filter(|(_, dead)| *dead) {
                    self.leaders[*leader].mark_lost(node, LossCause::Silent, at(seconds).mono);
                }
                self.sync(*leader);
            }
            Step::Wait(time) => self.seconds += time,
            Step::Decide(..) | Step::Acknowledge | Step::Fail => {}
        }
        self.report();
    }

    /// Lets one leader work in peace for `time`; the gateway says how each new route went.
    fn rest(&mut self, time: u64, mut reached: impl FnMut(&Route) -> bool) -> Result<(), TestCaseError> {
        let end = self.seconds + time;
        while self.seconds < end {
            self.sync(0);
            for _ in 0..6 {
                let Some(write) = self.decide(0) else { break };
                self.write(write)?;
                self.sync(0);
            }
            let route = self.room.status.as_ref().and_then(|s| s.route.clone());
            if let Some(route) = route.filter(|r| r.since.0 < wall(self.seconds)) {
                let presence = self.room.status.as_ref().and_then(|s| s.presence.clone()).unwrap();
                let known = presence.epoch == Some(route.epoch)
                    || presence.failed.as_ref().is_some_and(|f| f.epoch == route.epoch);
                match reached(&route) {
                    _ if known => {}
                    true => self.presence(|p| p.epoch = Some(route.epoch)),
                    false => {
                        let epoch = route.epoch;
                        self.presence(|p| p.failed = Some(FailedRoute { epoch, reason: "no media".into() }));
                    }
                }
            }
            self.seconds += 1;
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// Two leaders, stale caches, lost writes, restarts, and changes at any moment: epochs count, an epoch has one owner,
    /// nobody's route is cut off by us; and once nothing happens any more there is one route, the right one, and no write.
    #[test]
    fn whatever_happens_a_call_ends_on_one_route(steps in prop::collection::vec(step(), 1..100)) {
        let mut world = World::new();
        let mut on_the_way: Vec<(usize, Write)> = Vec::new();
        for (i, step) in steps.iter().enumerate() {
            let (arrived, waiting): (Vec<_>, Vec<_>) = on_the_way.into_iter().partition(|(due, ..)| *due <= i);
            on_the_way = waiting;
            for (_, write) in arrived {
                world.write(write)?;
            }
            match step {
                // A delay of 3 is for ever.
                Step::Decide(leader, delay) => on_the_way.extend(world.decide(*leader).filter(|_| *delay < 3).map(|w| (i + delay, w))),
                step => world.play(step),
            }
        }

        let people = 2 + i32::try_from(steps.len() % 2).unwrap();
        for step in [Step::Topology(Some(TopologyMode::Auto)), Step::Want(None), Step::People(people), Step::Back(0), Step::Back(1)] {
            world.play(&step);
        }
        world.rest(900, |_| true)?;
        let writes = world.writes;
        world.rest(120, |_| true)?;
        prop_assert_eq!(world.writes, writes, "an idle call costs nothing");
        let status = world.room.status.clone().unwrap();
        let expected = if people == 3 { RouteMode::Sfu } else { RouteMode::P2p };
        prop_assert_eq!((status.route.as_ref().map(|r| r.mode), &status.previous_route), (Some(expected), &None), "{:?}", &status);
        let held: usize = NODES.iter().map(|n| world.leaders[0].rooms_on(n).count()).sum();
        prop_assert_eq!(held, usize::from(people == 3), "no place is held for nothing");
    }
}

// Hours of a call's life each: a few are enough.
proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    /// A media node that some participant never reaches, and people who come and go: it is tried, but not all the time.
    #[test]
    fn a_route_that_never_works_is_tried_more_and_more_rarely(comings in prop::collection::vec((1u64..400, 3i32..5), 1..4)) {
        let mut world = World::new();
        world.play(&Step::People(3));
        for (after, people) in &comings {
            world.rest(*after, |route| route.mode == RouteMode::P2p)?;
            world.play(&Step::People(*people));
        }
        world.rest(3600, |route| route.mode == RouteMode::P2p)?;
        let time = world.seconds;
        let tries = world.changes.iter().filter(|(_, r)| r.mode == RouteMode::Sfu).count();
        let most = 6 + usize::try_from(time / 600).unwrap();
        prop_assert!((2..=most).contains(&tries), "{tries} tries in {time} s, {most} are enough");
        for pair in world.changes.windows(2) {
            prop_assert!(pair[1].1.mode != pair[0].1.mode, "each try is rolled back once");
        }
    }

    /// Peer to peer that loses packets whenever it is tried: the call does not go to and fro.
    #[test]
    fn a_lossy_pair_does_not_go_to_and_fro(stabilization in 0i32..40) {
        let mut world = World::new();
        world.room.spec.topology.as_mut().unwrap().stabilization_seconds = stabilization;
        world.play(&Step::People(2));
        for _ in 0..360 {
            world.rest(10, |_| true)?;
            let mode = world.room.status.as_ref().unwrap().route.as_ref().unwrap().mode;
            world.play(&Step::Want((mode == RouteMode::P2p).then_some(SfuReason::PacketLoss)));
        }
        let changes = world.changes.len();
        prop_assert!(changes <= 2 * (7 + 6), "{changes} changes in an hour");
    }
}
