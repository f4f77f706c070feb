//! The API server's side of a cluster for tests, with media nodes and a leader that do what those do.

use std::collections::{BTreeMap, BTreeSet};

use callplane_crds::{
    CallRoom, CallRoomStatus, MediaNode, MediaPool, Presence,
    condition::{Status, condition, node as types},
    mediapool::Placement,
};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod};

use super::{
    Cluster, RoomKey,
    fixtures::*,
    node::{LossCause, NODE_LOST, PodSight},
};
use crate::{
    clock::Now,
    node::{
        decide::{Plan, decide},
        observe::observe,
    },
    room as rooms,
};

/// Names that nodes bear. Three of them are there from the start.
pub(super) const NODES: [&str; 4] = ["a", "b", "c", "d"];

/// What can happen.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// A room is made: for so many people, on a media node from the start or not.
    Create(usize, i32, bool),
    /// It is deleted, or told to end.
    Delete(usize),
    End(usize),
    /// So many people are in it, as the gateway says.
    People(usize, i32),
    /// A node reports so many people in each of its rooms.
    Report(usize, i32),
    Cordon(usize, bool),
    /// Its container ends, its pod is deleted, all of it is deleted, or it is made anew.
    Crash(usize),
    Evict(usize),
    Remove(usize),
    Add(usize),
    /// It renews its lease no more, or again.
    Fall(usize),
    Return(usize),
    /// The leader decides about a room; then its write, the answer to it, or neither is lost.
    Decide(usize, Fate),
    /// The watch shows what is there of a room.
    Sync(usize),
    Wait(u64),
}

/// What becomes of a write.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fate {
    Answered,
    Unanswered,
    Lost,
}

/// What the API server stores.
pub(super) struct Store {
    seconds: u64,
    version: u64,
    rooms: BTreeMap<String, CallRoom>,
    nodes: BTreeMap<String, MediaNode>,
    pods: BTreeMap<String, Pod>,
    leases: BTreeMap<String, Lease>,
    /// Nodes that do not reach it.
    fallen: BTreeSet<String>,
}

fn name_of(room: usize) -> String {
    format!("r{room}")
}

impl Store {
    pub(super) fn new() -> Self {
        let (rooms, pods, leases, fallen) = Default::default();
        let mut store = Self { seconds: 0, version: 1000, rooms, nodes: BTreeMap::new(), pods, leases, fallen };
        NODES.iter().take(3).for_each(|name| store.add(name));
        store
    }

    pub(super) fn now(&self) -> Now {
        at(self.seconds)
    }

    fn version(&mut self) -> Option<String> {
        self.version += 1;
        Some(self.version.to_string())
    }

    fn add(&mut self, name: &str) {
        self.version += 1;
        let version = self.version;
        let mut made = node(name, version, 3);
        made.metadata.uid = Some(format!("{name}-{version}"));
        self.nodes.insert(name.to_owned(), made);
        let mut pod = pod(name);
        pod.metadata.uid = Some(format!("pod-{version}"));
        self.pods.insert(name.to_owned(), pod);
        self.fallen.remove(name);
        self.renew(name);
    }

    fn renew(&mut self, name: &str) {
        self.version += 1;
        self.leases.insert(name.to_owned(), lease(name, self.version, self.seconds));
    }

    fn change_node(&mut self, name: &str, change: impl FnOnce(&mut MediaNode)) {
        let version = self.version();
        if let Some(node) = self.nodes.get_mut(name) {
            change(node);
            node.metadata.resource_version = version;
        }
    }

    fn change_room(&mut self, name: &str, change: impl FnOnce(&mut CallRoom)) {
        let version = self.version();
        if let Some(room) = self.rooms.get_mut(name) {
            change(room);
            room.metadata.resource_version = version;
        }
    }

    /// The node says that it is ready, and that so many people are in each room whose route names it.
    pub(super) fn report(&mut self, name: &str, people: i32) {
        let routed = |room: &&CallRoom| {
            let status = room.status.as_ref();
            status.and_then(|s| s.route.as_ref()).is_some_and(|r| r.node.as_deref() == Some(name))
        };
        let served: Vec<(String, i64)> = self
            .rooms
            .values()
            .filter(routed)
            .map(|room| {
                let epoch = room.status.as_ref().and_then(|s| s.route.as_ref()).map_or(0, |r| r.epoch);
                (room.metadata.name.clone().unwrap(), epoch)
            })
            .collect();
        let served: Vec<(&str, i64, i32)> =
            served.iter().map(|(name, epoch)| (name.as_str(), *epoch, people)).collect();
        let (version, seconds) = (self.version + 1, self.seconds);
        let ready = condition(&[], types::READY, Status::True, "Serving", "", None, wall(0));
        self.change_node(name, |node| {
            *node = reporting(node.clone(), version, seconds, &served);
            node.status.get_or_insert_default().conditions = vec![ready];
        });
    }

    /// As the API server answers a status write.
    fn write(&mut self, based_on: &CallRoom, status: CallRoomStatus) -> Option<CallRoom> {
        let name = based_on.metadata.name.clone().unwrap();
        let stored = self.rooms.get(&name)?;
        if stored.metadata.resource_version != based_on.metadata.resource_version {
            return None;
        }
        let presence = stored.status.as_ref().and_then(|s| s.presence.clone());
        self.change_room(&name, |room| room.status = Some(CallRoomStatus { presence, ..status }));
        self.rooms.get(&name).cloned()
    }

    /// An operator that has just listed everything.
    pub(super) fn listed(&self) -> Cluster {
        let (mut cluster, now) = (Cluster::new(crate::leader::LEASE_NAME), self.now().mono);
        // The rooms first: a new leader's watch of nodes may lag.
        self.rooms.values().for_each(|room| drop(cluster.apply_room(room.clone(), now)));
        cluster.apply_pool(self.pool());
        self.leases.values().for_each(|lease| drop(cluster.apply_lease(lease, now)));
        self.pods.values().for_each(|pod| drop(cluster.apply_pod(pod)));
        self.nodes.values().for_each(|node| drop(cluster.apply_node(node.clone(), now)));
        canary(&mut cluster, self.seconds);
        cluster
    }

    fn pool(&self) -> MediaPool {
        let mut pool = pool("p", 2, Placement::Packed);
        pool.spec.capacity = node("a", 1, 3).spec.capacity;
        pool
    }

    /// Shows `cluster` what there is of everything but rooms, as lists that are complete do.
    pub(super) fn show(&self, cluster: &mut Cluster) {
        let now = self.now().mono;
        self.nodes.values().for_each(|node| drop(cluster.apply_node(node.clone(), now)));
        cluster.retain_nodes(&self.nodes.keys().cloned().collect());
        self.pods.values().for_each(|pod| drop(cluster.apply_pod(pod)));
        cluster.retain_pods(&self.pods.keys().cloned().collect());
        self.leases.values().for_each(|lease| drop(cluster.apply_lease(lease, now)));
        cluster.retain_leases(&self.leases.keys().cloned().collect());
        canary(cluster, self.seconds);
    }

    /// The same of the rooms.
    pub(super) fn show_rooms(&self, cluster: &mut Cluster) {
        self.rooms.values().for_each(|room| drop(cluster.apply_room(room.clone(), self.now().mono)));
        cluster.retain_rooms(&self.rooms.keys().map(|name| key(name)).collect());
    }

    /// What the node controller does. Verdicts are written down.
    pub(super) fn judge(&mut self, cluster: &mut Cluster) {
        let now = self.now();
        for name in cluster.everything().nodes {
            for _ in 0..4 {
                let Some(world) = observe(cluster, &name, now) else { break };
                let verdict = match decide(&world, now) {
                    Plan::Rest(_) => break,
                    Plan::Lose(cause) | Plan::Mark(cause) => Some(cause),
                    Plan::Probe => Some(LossCause::Silent),
                    Plan::ConfirmNode(uid) => {
                        let found = self.nodes.get(&name).filter(|n| uid.is_none() || n.metadata.uid == uid);
                        match found {
                            Some(_) => cluster.asked_about(&name, now.mono),
                            None => drop(cluster.node_gone(&name, now.mono)),
                        }
                        None
                    }
                    Plan::ConfirmPod => match self.pods.get(&name).map(PodSight::of) {
                        Some(PodSight::Ended(how)) => Some(LossCause::PodEnded(how)),
                        Some(_) => {
                            cluster.asked_about(&name, now.mono);
                            None
                        }
                        None => {
                            cluster.pod_gone(&name);
                            Some(LossCause::PodGone)
                        }
                    },
                };
                if let Some(cause) = verdict {
                    cluster.mark_lost(&name, cause.clone(), now.mono);
                    let cause = cause.to_string();
                    let lost = condition(&[], types::READY, Status::Unknown, NODE_LOST, cause, None, wall(0));
                    self.change_node(&name, |node| node.status.get_or_insert_default().conditions = vec![lost]);
                }
                if let Some(node) = self.nodes.get(&name) {
                    cluster.apply_node(node.clone(), now.mono);
                }
            }
        }
    }

    /// What the room controller does about one room.
    fn place(&mut self, cluster: &mut Cluster, room: &RoomKey, fate: Fate) {
        let now = self.now();
        let Some(world) = rooms::observe::observe(cluster, room, now) else { return };
        let (based_on, stale) = (world.room.clone(), world.assumed.map(|a| a.epoch));
        let plan = rooms::decide::decide(&world, now);
        cluster.set_waiting(room, plan.waits);
        match (plan.assume, stale) {
            (Some(assumed), _) => cluster.assume(room, assumed),
            (None, Some(epoch)) if plan.status.is_some() => drop(cluster.refute(room, epoch)),
            _ => {}
        }
        let Some(status) = plan.status.filter(|_| fate != Fate::Lost) else { return };
        let answer = self.write(&based_on, status);
        if let Some(answer) = answer.filter(|_| fate == Fate::Answered) {
            cluster.wrote_room(room, now.mono);
            cluster.answer_room(answer, now.mono);
        }
    }

    pub(super) fn play(&mut self, step: &Step, cluster: &mut Cluster) {
        let now = self.now().mono;
        match step {
            Step::Create(r, size, sfu) => {
                let (name, version) = (name_of(*r), self.version + 1);
                if !self.rooms.contains_key(&name) {
                    let mut made = if *sfu { room(&name, version, *size) } else { auto(&name, version) };
                    made.metadata.uid = Some(format!("{name}-{version}"));
                    self.version = version;
                    self.rooms.insert(name.clone(), made.clone());
                    cluster.apply_room(made, now);
                }
            }
            Step::Delete(r) => {
                self.rooms.remove(&name_of(*r));
                cluster.remove_room(&key(&name_of(*r)), None);
            }
            Step::End(r) => self.change_room(&name_of(*r), |room| room.spec.ended = true),
            Step::People(r, people) => {
                let seconds = self.seconds;
                self.change_room(&name_of(*r), |room| {
                    if room.spec.topology.is_some() {
                        let status = room.status.get_or_insert_default();
                        let epoch = status.route.as_ref().map(|route| route.epoch);
                        status.presence = Some(Presence { epoch, ..present(*people, seconds) });
                    }
                });
            }
            Step::Report(n, people) => {
                if self.runs(NODES[*n]) {
                    self.report(NODES[*n], *people);
                }
            }
            Step::Cordon(n, is) => self.change_node(NODES[*n], |node| node.spec.cordoned = *is),
            Step::Crash(n) => {
                if let Some(pod) = self.pods.get_mut(NODES[*n]) {
                    pod.status = ended_pod(NODES[*n]).status;
                }
            }
            Step::Evict(n) => drop(self.pods.remove(NODES[*n])),
            Step::Remove(n) => {
                self.nodes.remove(NODES[*n]);
                self.pods.remove(NODES[*n]);
                self.leases.remove(NODES[*n]);
            }
            Step::Add(n) if !self.nodes.contains_key(NODES[*n]) => self.add(NODES[*n]),
            Step::Fall(n) => drop(self.fallen.insert(NODES[*n].to_owned())),
            Step::Return(n) => drop(self.fallen.remove(NODES[*n])),
            Step::Decide(r, fate) => self.place(cluster, &key(&name_of(*r)), *fate),
            Step::Sync(r) => {
                if let Some(room) = self.rooms.get(&name_of(*r)) {
                    cluster.apply_room(room.clone(), now);
                }
            }
            Step::Wait(time) => self.wait(*time),
            Step::Add(_) => {}
        }
        // Of rooms only what the step says is seen.
        self.show(cluster);
        self.judge(cluster);
    }

    /// Time passes; who can renews.
    pub(super) fn wait(&mut self, time: u64) {
        self.seconds += time;
        for name in NODES {
            if self.runs(name) {
                self.renew(name);
            }
        }
    }

    /// Whether its process is there and reaches the API server.
    pub(super) fn runs(&self, name: &str) -> bool {
        let is_there = |pod: &Pod| matches!(PodSight::of(pod), PodSight::There { .. });
        !self.fallen.contains(name) && self.nodes.contains_key(name) && self.pods.get(name).is_some_and(is_there)
    }

    /// The leader is shown everything, and looks at each room until nothing is left to be written.
    pub(super) fn settle(&mut self, cluster: &mut Cluster) {
        for _ in 0..4 {
            self.show_rooms(cluster);
            let rooms: Vec<RoomKey> = self.rooms.keys().map(|name| key(name)).collect();
            rooms.iter().for_each(|room| self.place(cluster, room, Fate::Answered));
        }
    }
}
