//! A call for tests that moves, and the API server's and the gateway's side of it.

use callplane_crds::{
    CallRoom, CallRoomStatus, Presence, Route, Topology, TopologyMode,
    mediapool::Placement,
    presence::{FailedRoute, SfuReason, SfuWanted},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    decide::{Plan, decide},
    observe::observe,
};
use crate::cluster::{Cluster, fixtures::*};

/// A cluster with one room, and the API server's side of it.
pub(super) struct Call {
    pub(super) cluster: Cluster,
    pub(super) room: CallRoom,
}

impl Call {
    pub(super) fn of(room: CallRoom, nodes: &[(&str, i32)]) -> Self {
        let mut call = Self { cluster: cluster(nodes, Placement::Packed), room };
        call.shown(0);
        call
    }

    /// An Auto room that opened peer to peer at 0.
    pub(super) fn opened(nodes: &[(&str, i32)]) -> Self {
        let mut call = Self::of(auto("r", 1), nodes);
        call.turn(0);
        call
    }

    /// One that went to node `a` at 100 since three were in it.
    pub(super) fn grown() -> Self {
        let mut call = Self::opened(&[("a", 10), ("b", 10)]);
        call.says(present(3, 100), 100);
        call.turn(100);
        call
    }

    /// The same once all have moved, at 101.
    pub(super) fn moved() -> Self {
        let mut call = Self::grown();
        call.acknowledge(2, 101);
        call.reported(2, 0, 101);
        call.turn(101);
        call
    }

    /// Node `a` says how many people it has in that epoch.
    pub(super) fn reported(&mut self, epoch: i64, people: i32, seconds: u64) {
        let said = reporting(node("a", seconds, 10), seconds, seconds, &[("r", epoch, people)]);
        self.cluster.apply_node(said, at(seconds).mono);
    }

    /// One that went back peer to peer at 140, and is still moving.
    pub(super) fn shrunk() -> Self {
        let mut call = Self::moved();
        call.says(Presence { epoch: Some(2), ..present(2, 110) }, 110);
        call.turn(140);
        assert_eq!(call.modes(), (3, "P2P", Some(2)));
        call
    }

    pub(super) fn shown(&mut self, seconds: u64) {
        let version: u64 = self.room.metadata.resource_version.as_ref().unwrap().parse().unwrap();
        self.room.metadata.resource_version = Some((version + 1).to_string());
        self.cluster.apply_room(self.room.clone(), at(seconds).mono);
    }

    pub(super) fn status(&mut self) -> &mut CallRoomStatus {
        self.room.status.get_or_insert_default()
    }

    /// The gateway writes.
    pub(super) fn says(&mut self, presence: Presence, seconds: u64) {
        self.status().presence = Some(presence);
        self.shown(seconds);
    }

    pub(super) fn presence(&mut self, seconds: u64, change: impl FnOnce(&mut Presence)) {
        let mut presence = self.status().presence.clone().unwrap_or_else(|| present(0, 0));
        change(&mut presence);
        self.says(presence, seconds);
    }

    pub(super) fn acknowledge(&mut self, epoch: i64, seconds: u64) {
        self.presence(seconds, |p| p.epoch = Some(epoch));
    }

    pub(super) fn fail(&mut self, epoch: i64, seconds: u64) {
        self.presence(seconds, |p| p.failed = Some(FailedRoute { epoch, reason: "no media".into() }));
    }

    pub(super) fn want(&mut self, reason: SfuReason, seconds: u64) {
        let since = Time(wall(seconds));
        self.presence(seconds, |p| p.sfu_wanted = Some(SfuWanted { reason, since }));
    }

    pub(super) fn look(&self, seconds: u64) -> Plan {
        decide(&observe(&self.cluster, &key("r"), at(seconds)).unwrap(), at(seconds))
    }

    /// Decides, and writes what was decided.
    pub(super) fn turn(&mut self, seconds: u64) -> Plan {
        let plan = self.look(seconds);
        self.cluster.set_waiting(&key("r"), plan.waits);
        if let Some(assumed) = &plan.assume {
            self.cluster.assume(&key("r"), assumed.clone());
        }
        if let Some(status) = &plan.status {
            assert_eq!(status.presence, None, "it is not the operator's to write");
            let presence = self.status().presence.clone();
            self.room.status = Some(CallRoomStatus { presence, ..status.clone() });
            self.shown(seconds);
        }
        plan
    }

    /// Epoch and mode, and the epoch before.
    pub(super) fn modes(&self) -> (i64, &'static str, Option<i64>) {
        let status = self.room.status.as_ref().unwrap();
        let route = status.route.as_ref().unwrap();
        (route.epoch, route.mode.as_str(), status.previous_route.as_ref().map(|r| r.epoch))
    }

    pub(super) fn route(&self) -> &Route {
        self.room.status.as_ref().unwrap().route.as_ref().unwrap()
    }

    pub(super) fn condition(&self, type_: &str) -> (String, String) {
        let conditions = &self.room.status.as_ref().unwrap().conditions;
        let found = conditions.iter().find(|c| c.type_ == type_).unwrap();
        (format!("{} {}", found.status, found.reason), found.message.clone())
    }

    pub(super) fn mode(&mut self, mode: TopologyMode) {
        self.room.spec.topology = Some(topology(mode));
        self.shown(9);
    }

    pub(super) fn resize(&mut self, peers: i32) {
        self.room.spec.topology.as_mut().unwrap().p2p_max_participants = peers;
        self.says(present(3, 9), 9);
    }
}

pub(super) fn topology(mode: TopologyMode) -> Topology {
    Topology { mode, ..Topology::default() }
}
