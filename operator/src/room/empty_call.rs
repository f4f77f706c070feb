//! A call for tests that is empty at times, what its nodes report of it, and what each leader was shown of that.

use std::collections::HashMap;

use callplane_crds::{
    CallRoom, CallRoomStatus, MediaNode, MediaNodeStatus,
    condition::{Status, condition, node as types},
    medianode::{Load, ServedRoom},
    mediapool::Placement,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;

use super::{
    decide::{PRESENCE_SLACK, Verdict, decide},
    observe::observe,
};
use crate::{
    cluster::{
        Cluster,
        fixtures::*,
        liveness::{DEFAULT_LEASE, SILENCE},
        node::{ATTEST_VALID, LossCause},
    },
    leader::LEASE_NAME,
};

const NODES: [&str; 2] = ["a", "b"];

/// What can happen.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// So many people are on this node from now on, if it serves the call.
    People(usize, i32),
    /// So many people's sockets are joined from now on, and the gateway writes that down.
    Present(i32),
    /// A node sees which route there is.
    Serve(usize),
    /// Another operator makes the next route: to this node, whatever either node knows of it.
    Move(usize),
    /// A node writes its report.
    Report(usize),
    /// Somebody wipes a node's status.
    Wipe(usize),
    /// A node renews its lease.
    Renew(usize),
    /// This leader's cache of rooms, of nodes, of leases catches up.
    Rooms(usize),
    Nodes(usize),
    Leases(usize),
    /// This leader gives the verdict that a node is lost, right or wrong.
    Lose(usize, usize),
    /// This leader's process starts again: it knows what lists show.
    Restart(usize),
    /// This leader decides, and its write arrives after so many other steps.
    Decide(usize, usize),
    /// Time passes.
    Wait(u64),
}

/// A media node as it is: whom it has, and since when nobody.
struct Node {
    epoch: Option<i64>,
    people: i32,
    empty_since: u64,
    renewed: u64,
    /// What the API server has of it.
    stored: MediaNode,
    /// What it last wrote there, in true time.
    said: Option<u64>,
}

/// What a leader has been shown of a node, written down independently of its index.
#[derive(Clone, Debug, Default)]
struct Shown {
    /// A version of the node, and its report.
    report: Option<Option<Timestamp>>,
    /// When that was seen to become another one, and when the node wrote it.
    changed: Option<(u64, u64)>,
    renewed: Option<u64>,
    heard: Option<u64>,
}

struct Leader {
    cluster: Cluster,
    shown: [Shown; 2],
    /// When it last heard a renewal, and since when never more than [`SILENCE`] later than the one before.
    heard: Option<(u64, u64)>,
}

pub(super) struct World {
    seconds: u64,
    version: u64,
    timeout: u64,
    /// How wrong the nodes' clocks are.
    skew: i64,
    pub(super) room: CallRoom,
    nodes: [Node; 2],
    leaders: [Leader; 2],
    /// When somebody was on a node of that epoch, from and to.
    stays: HashMap<i64, Vec<(u64, Option<u64>)>>,
    pub(super) ended: bool,
}

/// A write on its way, and what was known to whoever decided it.
pub(super) struct Write {
    based_on: CallRoom,
    status: CallRoomStatus,
}

impl World {
    pub(super) fn new(room: CallRoom, timeout: u64, skew: i64) -> Self {
        let nodes = NODES.map(|name| Node {
            epoch: None,
            people: 0,
            empty_since: 0,
            renewed: 0,
            stored: node(name, 1, 10),
            said: None,
        });
        let leaders = [(); 2].map(|()| Leader { cluster: Cluster::default(), shown: Default::default(), heard: None });
        let mut world =
            Self { seconds: 10, version: 1, timeout, skew, room, nodes, leaders, stays: HashMap::new(), ended: false };
        world.room.spec.lifetime.empty_timeout_seconds = Some(i32::try_from(timeout).unwrap());
        (0..2).for_each(|n| world.play(&Step::Report(n)));
        (0..2).for_each(|l| world.play(&Step::Restart(l)));
        world
    }

    fn next_version(&mut self) -> String {
        self.version += 1;
        self.version.to_string()
    }

    /// A node's clock.
    fn clock(&self, seconds: u64) -> Time {
        Time(wall(seconds) + SignedDuration::from_secs(self.skew))
    }

    fn status(&self) -> CallRoomStatus {
        self.room.status.clone().unwrap_or_default()
    }

    /// People come to a node, or leave it.
    fn crowd(&mut self, n: usize, people: i32) {
        let seconds = self.seconds;
        let node = &mut self.nodes[n];
        let Some(epoch) = node.epoch else { return };
        let stays = self.stays.entry(epoch).or_default();
        match (node.people, people) {
            (0, 1..) => stays.push((seconds, None)),
            (1.., 0) => {
                node.empty_since = seconds;
                stays.iter_mut().for_each(|stay| stay.1 = stay.1.or(Some(seconds)));
            }
            _ => {}
        }
        node.people = people;
    }

    fn report(&mut self, n: usize) {
        let (version, now) = (self.next_version(), self.clock(self.seconds));
        let node = &self.nodes[n];
        let (people, since) = (node.people, self.clock(node.empty_since));
        let served = node.epoch.map(|epoch| ServedRoom {
            namespace: "team".to_owned(),
            name: "r".to_owned(),
            epoch,
            participants: people,
            empty_since: (people == 0).then_some(since),
        });
        let status = MediaNodeStatus {
            load: Some(Load { rooms: i32::from(served.is_some()), participants: people, ..Load::default() }),
            rooms: served.into_iter().collect(),
            reported_at: Some(now),
            conditions: vec![condition(&[], types::READY, Status::True, "Serving", "", None, wall(0))],
            ..MediaNodeStatus::default()
        };
        let node = &mut self.nodes[n];
        node.said = Some(self.seconds);
        node.stored.status = Some(status);
        node.stored.metadata.resource_version = Some(version);
    }

    /// This leader is shown what the API server has of the nodes.
    fn show_nodes(&mut self, l: usize) {
        let seconds = self.seconds;
        let leader = &mut self.leaders[l];
        for (node, shown) in self.nodes.iter().zip(&mut leader.shown) {
            let report = node.stored.status.as_ref().and_then(|s| s.reported_at.as_ref()).map(|t| t.0);
            // What a list shows first may be of any age.
            if let (Some(before), Some(_), Some(said)) = (shown.report, report, node.said)
                && before != report
            {
                shown.changed = Some((seconds, said));
            }
            shown.report = Some(report);
            leader.cluster.apply_node(node.stored.clone(), at(seconds).mono);
        }
    }

    /// The same of the leases: the nodes', and the leader's own.
    fn show_leases(&mut self, l: usize) {
        let seconds = self.seconds;
        let leader = &mut self.leaders[l];
        for ((name, node), shown) in NODES.iter().zip(&self.nodes).zip(&mut leader.shown) {
            if shown.renewed != Some(node.renewed) {
                (shown.renewed, shown.heard) = (Some(node.renewed), Some(seconds));
            }
            leader.cluster.apply_lease(&lease(name, 1000 + node.renewed, node.renewed), at(seconds).mono);
        }
        canary(&mut leader.cluster, seconds);
        let gap = |last: u64| seconds - last > SILENCE.as_secs();
        leader.heard = Some(match leader.heard {
            Some((last, since)) if !gap(last) => (seconds, since),
            _ => (seconds, seconds),
        });
    }

    fn show_room(&mut self, l: usize) {
        self.leaders[l].cluster.apply_room(self.room.clone(), at(self.seconds).mono);
    }

    pub(super) fn decide(&mut self, l: usize) -> Result<Option<Write>, TestCaseError> {
        let now = at(self.seconds);
        let leader = &self.leaders[l];
        let Some(world) = observe(&leader.cluster, &key("r"), now) else { return Ok(None) };
        let (based_on, plan) = (world.room.clone(), decide(&world, now));
        if let Verdict::Ended(reason) = plan.verdict {
            prop_assert_eq!(reason, "EmptyTimeout", "there is no other rule here");
            self.judge(l, &based_on)?;
        }
        let cluster = &mut self.leaders[l].cluster;
        let stale = cluster.room(&key("r")).and_then(|r| r.assumed.as_ref()).map(|assumed| assumed.epoch);
        cluster.set_waiting(&key("r"), plan.waits);
        match (plan.assume, stale) {
            (Some(assumed), _) => cluster.assume(&key("r"), assumed),
            (None, Some(epoch)) if plan.status.is_some() => drop(cluster.refute(&key("r"), epoch)),
            _ => {}
        }
        Ok(plan.status.map(|status| Write { based_on, status }))
    }

    /// What must hold when this leader ends the call.
    fn judge(&self, l: usize, room: &CallRoom) -> Result<(), TestCaseError> {
        let (leader, now) = (&self.leaders[l], self.seconds);
        let status = room.status.clone().unwrap_or_default();
        prop_assert_eq!(&status.previous_route, &None, "somebody may be on the old route");
        let Some(route) = &status.route else { return Err(TestCaseError::fail("it has not begun")) };
        let Some(name) = &route.node else {
            let presence = status.presence.expect("the gateway has said something");
            prop_assert_eq!(presence.participants, 0);
            prop_assert!(
                presence.since.0 + SignedDuration::from_secs(i64::try_from(self.timeout).unwrap()) <= wall(now)
            );
            let (last, since) = leader.heard.expect("something was heard");
            let heard_for = if now - last <= SILENCE.as_secs() { now - since } else { 0 };
            prop_assert!(heard_for >= PRESENCE_SLACK.as_secs(), "who joined in an outage is written down by now");
            return Ok(());
        };
        let n = NODES.iter().position(|node| node == name).unwrap();
        let shown = &leader.shown[n];
        let (seen, said) = shown.changed.expect("a report was seen to come");
        prop_assert!(now - seen <= ATTEST_VALID.as_secs(), "the report is old");
        let heard = shown.heard.expect("it has a lease");
        prop_assert!(now - heard < DEFAULT_LEASE.as_secs(), "whoever cannot write cannot say that somebody came");
        // What the node said was true, and of this very epoch: nobody was there for all that time.
        let node = leader.cluster.node(name).unwrap().object.as_ref().unwrap();
        let served = &node.status.as_ref().unwrap().rooms;
        prop_assert_eq!((served[0].epoch, served[0].participants), (route.epoch, 0));
        let empty_from = said.checked_sub(self.timeout).expect("the call is not that old");
        let stays = self.stays.get(&route.epoch).into_iter().flatten();
        for (from, to) in stays {
            let meanwhile = *from < said && to.is_none_or(|to| to > empty_from);
            prop_assert!(!meanwhile, "somebody was there from {from} to {to:?}, and it was said at {said}");
        }
        Ok(())
    }

    /// The API server takes a write, or refuses it since the room has changed.
    pub(super) fn write(&mut self, write: Write) -> Result<(), TestCaseError> {
        if write.based_on.metadata.resource_version != self.room.metadata.resource_version {
            return Ok(());
        }
        let before = self.status();
        self.ended = write.status.ended_at.is_some();
        if before.route.is_some() {
            prop_assert_eq!(write.status.route.is_none(), self.ended, "a route goes with its call and not otherwise");
        }
        self.room.status = Some(CallRoomStatus { presence: before.presence, ..write.status });
        self.room.metadata.resource_version = Some(self.next_version());
        Ok(())
    }

    pub(super) fn play(&mut self, step: &Step) {
        let seconds = self.seconds;
        match step {
            Step::People(n, people) => self.crowd(*n, *people),
            Step::Present(people) => {
                let status = self.room.status.get_or_insert_default();
                let presence = status.presence.get_or_insert_with(|| present(*people, seconds));
                if presence.participants != *people {
                    (presence.participants, presence.since) = (*people, Time(wall(seconds)));
                }
                self.room.metadata.resource_version = Some(self.next_version());
            }
            Step::Serve(n) => {
                let status = self.status();
                let mine = |route: &&callplane_crds::Route| route.node.as_deref() == Some(NODES[*n]);
                let epoch = status.route.iter().chain(&status.previous_route).find(mine).map(|r| r.epoch);
                if epoch != self.nodes[*n].epoch {
                    self.crowd(*n, 0);
                    let node = &mut self.nodes[*n];
                    (node.epoch, node.people, node.empty_since) = (epoch, 0, seconds);
                }
            }
            Step::Move(n) => {
                let version = self.next_version();
                let status = self.room.status.get_or_insert_default();
                if let Some(old) = &status.route {
                    status.route = Some(route(old.epoch + 1, NODES[*n], seconds));
                    self.room.metadata.resource_version = Some(version);
                }
            }
            Step::Report(n) => self.report(*n),
            Step::Wipe(n) => {
                let version = self.next_version();
                let node = &mut self.nodes[*n].stored;
                (node.status, node.metadata.resource_version) = (None, Some(version));
            }
            Step::Renew(n) => self.nodes[*n].renewed = seconds,
            Step::Rooms(l) => self.show_room(*l),
            Step::Nodes(l) => self.show_nodes(*l),
            Step::Leases(l) => self.show_leases(*l),
            Step::Lose(l, n) => {
                drop(self.leaders[*l].cluster.mark_lost(NODES[*n], LossCause::Silent, at(seconds).mono))
            }
            Step::Restart(l) => {
                let mut cluster = Cluster::new(LEASE_NAME);
                cluster.apply_pool(pool("p", 2, Placement::Packed));
                NODES.iter().for_each(|name| drop(cluster.apply_pod(&pod(name))));
                self.leaders[*l] = Leader { cluster, shown: Default::default(), heard: None };
                self.show_room(*l);
                self.show_nodes(*l);
                self.show_leases(*l);
            }
            Step::Wait(time) => self.seconds += time,
            Step::Decide(..) => {}
        }
    }

    /// Everybody left, and everything works: how long it takes until the call is ended.
    pub(super) fn rest(&mut self, longest: u64) -> Result<Option<u64>, TestCaseError> {
        let begin = self.seconds;
        while self.seconds < begin + longest {
            for n in 0..2 {
                for step in [Step::Serve(n), Step::People(n, 0), Step::Renew(n), Step::Report(n)] {
                    self.play(&step);
                }
            }
            for step in [Step::Present(0), Step::Rooms(0), Step::Leases(0), Step::Nodes(0)] {
                self.play(&step);
            }
            if let Some(write) = self.decide(0)? {
                self.write(write)?;
            }
            if self.ended {
                return Ok(Some(self.seconds - begin));
            }
            self.seconds += 2;
        }
        Ok(None)
    }
}
