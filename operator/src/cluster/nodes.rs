//! Nodes in the index: their objects, pods, leases and verdicts.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use callplane_crds::{CallId, MediaNode, load::Demand, medianode::ServedRoom};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod};

use super::{
    Cluster, Effects, RoomKey, is_older,
    liveness::{DEFAULT_LEASE, SeenLease},
    node::{Life, LossCause, Lost, NodeEntry, PodSight, Says, Standing},
};

impl Cluster {
    /// Takes in a MediaNode, from the watch or from the answer to an own write.
    pub fn apply_node(&mut self, node: MediaNode, now: Duration) -> Effects {
        let Some(name) = node.metadata.name.clone() else { return Effects::default() };
        let before = self.standing(&name, now);
        let entry = self.nodes.entry(name.clone()).or_default();
        let old = entry.object.take();
        if let Some(old) = &old
            && is_older(node.metadata.resource_version.as_deref(), old.metadata.resource_version.as_deref())
        {
            entry.object = Some(old.clone());
            return Effects::default();
        }
        if old.as_ref().is_some_and(|o| o.metadata.uid != node.metadata.uid) {
            entry.forget_object();
        }
        let reported_at = |n: &MediaNode| n.status.as_ref().and_then(|s| s.reported_at.clone());
        if reported_at(&node).is_some() && old.as_deref().and_then(reported_at) != reported_at(&node) {
            entry.reported = Some(now);
            if old.as_ref().is_some_and(|o| o.metadata.uid == node.metadata.uid) {
                entry.attested = Some(now);
            }
        }
        entry.cordoned = if node.spec.cordoned { entry.cordoned.or(Some(now)) } else { None };
        let committed = entry.account.committed();
        let status = node.status.as_ref();
        let rooms: HashSet<RoomKey> =
            status.map(|s| s.rooms.iter().map(|r| Arc::new(served_key(r))).collect()).unwrap_or_default();
        let load =
            status.and_then(|s| s.load.as_ref()).map(callplane_crds::medianode::Load::demand).unwrap_or_default();
        entry.account.report(load, rooms);
        let after = entry.account.committed();
        let grown = old.as_deref().is_some_and(|old| {
            let (old, new) = (&old.spec.capacity, &node.spec.capacity);
            new.rooms > old.rooms || new.participants > old.participants || new.streams > old.streams
        });
        let relieved = grown
            || after.rooms < committed.rooms
            || after.participants < committed.participants
            || after.streams < committed.streams;

        let mut effects = Effects { nodes: vec![name.clone()], ..Effects::default() };
        effects.pools.push(node.spec.pool.clone());
        changed_reports(old.as_deref(), &node, &mut effects.rooms);
        if old.is_none() {
            // What was in doubt about its rooms is not any more.
            effects.rooms.extend(entry.account.rooms().cloned());
            (entry.left, entry.gone, entry.asked) = (None, None, None);
        }
        entry.says = Says::of(&node);
        entry.object = Some(Arc::new(node));
        if self.standing(&name, now) == Standing::Ready && (before != Standing::Ready || relieved) {
            self.wake_waiting(&mut effects);
        }
        effects
    }

    /// Takes in the answer to an own write. What was deleted meanwhile stays deleted.
    pub fn answer_node(&mut self, node: MediaNode, now: Duration) -> Effects {
        let known = node.metadata.name.as_ref().and_then(|n| self.nodes.get(n)).and_then(|n| n.object.as_ref());
        if known.is_some_and(|k| k.metadata.uid == node.metadata.uid) {
            self.apply_node(node, now)
        } else {
            Effects::default()
        }
    }

    /// The watch shows a MediaNode no longer. Its rooms stay until the API server itself says that it is gone.
    pub fn remove_node(&mut self, name: &str, uid: Option<&str>) -> Effects {
        let mut effects = Effects::default();
        let Some(entry) = self.nodes.get_mut(name) else { return effects };
        let Some(object) = entry.object.as_ref().filter(|o| uid.is_none() || o.metadata.uid.as_deref() == uid) else {
            return effects;
        };
        effects.pools.push(object.spec.pool.clone());
        effects.nodes.push(name.to_owned());
        entry.left.clone_from(&object.metadata.uid);
        entry.object = None;
        entry.says = Says::default();
        entry.lease = None;
        entry.asked = None;
        entry.forget_object();
        if entry.is_forgettable() {
            self.nodes.remove(name);
        }
        effects
    }

    /// The API server said that the MediaNode `name`, which the watch does not show, is gone. Its rooms have lost their node.
    pub fn node_gone(&mut self, name: &str, now: Duration) -> Effects {
        let Some(entry) = self.nodes.get_mut(name).filter(|n| n.object.is_none()) else { return Effects::default() };
        entry.gone = Some(now);
        Effects { urgent: self.by_crowd(name), ..Effects::default() }
    }

    /// The API server was asked about what the watches do not show of `name`, and nothing followed.
    pub fn asked_about(&mut self, name: &str, now: Duration) {
        if let Some(entry) = self.nodes.get_mut(name) {
            entry.asked = Some(now);
        }
    }

    /// Takes back what was learned by asking: it may have changed while another leader acted on it.
    pub fn ask_anew(&mut self) {
        for entry in self.nodes.values_mut() {
            (entry.gone, entry.asked) = (None, None);
        }
    }

    /// Forgets the MediaNodes that a complete list did not name.
    pub fn retain_nodes(&mut self, listed: &HashSet<String>) -> Effects {
        let gone: Vec<String> = self.nodes().map(|(n, _)| n.to_owned()).filter(|n| !listed.contains(n)).collect();
        let mut effects = Effects::default();
        for name in gone {
            effects.merge(self.remove_node(&name, None));
        }
        effects
    }

    /// Takes in a media node's pod.
    pub fn apply_pod(&mut self, pod: &Pod) -> Effects {
        let Some(name) = pod.metadata.name.clone() else { return Effects::default() };
        let entry = self.nodes.entry(name.clone()).or_default();
        entry.pod = PodSight::of(pod);
        let pools = entry.object.iter().map(|n| n.spec.pool.clone()).collect();
        Effects { nodes: vec![name], pools, ..Effects::default() }
    }

    /// The watch shows a media node's pod no longer: it was deleted, or has other labels now.
    pub fn remove_pod(&mut self, name: &str) -> Effects {
        let Some(entry) = self.nodes.get_mut(name) else { return Effects::default() };
        entry.pod = match std::mem::take(&mut entry.pod) {
            PodSight::Ended(_) | PodSight::Gone => PodSight::Gone,
            PodSight::There { uid, .. } => PodSight::Left { uid: Some(uid) },
            PodSight::Left { uid } => PodSight::Left { uid },
            PodSight::Unseen => PodSight::Left { uid: None },
        };
        entry.asked = None;
        let pools = entry.object.iter().map(|n| n.spec.pool.clone()).collect();
        if entry.is_forgettable() {
            self.nodes.remove(name);
        }
        Effects { nodes: vec![name.to_owned()], pools, ..Effects::default() }
    }

    /// The API server said that the pod `name` is gone.
    pub fn pod_gone(&mut self, name: &str) {
        if let Some(entry) = self.nodes.get_mut(name) {
            entry.pod = PodSight::Gone;
        }
    }

    /// Pods that a complete list did not name are shown no longer.
    pub fn retain_pods(&mut self, listed: &HashSet<String>) -> Effects {
        let gone: Vec<String> = self
            .nodes
            .iter()
            .filter(|(name, n)| matches!(n.pod, PodSight::There { .. } | PodSight::Ended(_)) && !listed.contains(*name))
            .map(|(name, _)| name.clone())
            .collect();
        let mut effects = Effects::default();
        for name in gone {
            effects.merge(self.remove_pod(&name));
        }
        effects
    }

    /// Takes in a Lease: the leader's, or a node's.
    pub fn apply_lease(&mut self, lease: &Lease, now: Duration) -> Effects {
        let Some(name) = lease.metadata.name.as_deref() else { return Effects::default() };
        if name == self.leader_lease {
            if lease.metadata.resource_version != self.leader_renewed {
                self.leader_renewed.clone_from(&lease.metadata.resource_version);
                self.contact.heard(now);
            }
            return Effects::default();
        }
        let spec = lease.spec.as_ref();
        let renewed = spec.and_then(|s| s.renew_time.as_ref()).map(|t| t.0);
        let duration = spec
            .and_then(|s| s.lease_duration_seconds)
            .and_then(|s| u64::try_from(s).ok())
            .map_or(DEFAULT_LEASE, Duration::from_secs);
        let before = self.standing(name, now);
        let entry = self.nodes.entry(name.to_owned()).or_default();
        let seen = match &entry.lease {
            Some(old) if old.renewed == renewed => old.seen,
            _ => {
                self.contact.heard(now);
                now
            }
        };
        entry.lease = Some(SeenLease { renewed, seen, duration });
        let mut effects = Effects::default();
        if entry.lost.as_ref().is_some_and(|l| !l.cause.is_final() && l.renewed != renewed) {
            entry.lost = None;
            effects.nodes.push(name.to_owned());
            effects.pools.extend(entry.object.iter().map(|n| n.spec.pool.clone()));
        }
        if before != Standing::Ready && self.standing(name, now) == Standing::Ready {
            self.wake_waiting(&mut effects);
            effects.nodes.push(name.to_owned());
        }
        effects
    }

    /// A node's lease was deleted. While the node is there, what was seen of it runs out as if it were not renewed.
    pub fn remove_lease(&mut self, name: &str) -> Effects {
        let Some(entry) = self.nodes.get_mut(name) else { return Effects::default() };
        if entry.object.is_none() {
            entry.lease = None;
            if entry.is_forgettable() {
                self.nodes.remove(name);
            }
        }
        Effects::default()
    }

    /// Forgets the leases that a complete list did not name.
    pub fn retain_leases(&mut self, listed: &HashSet<String>) -> Effects {
        let gone: Vec<String> = self
            .nodes
            .iter()
            .filter(|(n, e)| e.lease.is_some() && !listed.contains(*n))
            .map(|(n, _)| n.clone())
            .collect();
        let mut effects = Effects::default();
        for name in gone {
            effects.merge(self.remove_lease(&name));
        }
        effects
    }

    /// Gives the verdict that `name` is lost. Its rooms are to be routed elsewhere, most crowded first.
    pub fn mark_lost(&mut self, name: &str, cause: LossCause, now: Duration) -> Effects {
        let Some(entry) = self.nodes.get_mut(name) else { return Effects::default() };
        let renewed = entry.lease.as_ref().and_then(|l| l.renewed);
        entry.lost = Some(Lost { since: now, cause, renewed });
        let pools = entry.object.iter().map(|n| n.spec.pool.clone()).collect();
        Effects { urgent: self.by_crowd(name), pools, ..Effects::default() }
    }

    /// Suspects ourselves when many leases expire at once. Returns whether judgement is suspended.
    pub fn suspect_mass_expiry(&mut self, now: Duration) -> bool {
        let serving = self.nodes.values().filter(|n| n.life() == Life::Serving).filter_map(|n| n.lease.as_ref());
        let ends: Vec<Duration> = serving.map(|l| l.seen + l.duration).collect();
        let expired = ends.iter().copied().filter(|end| *end <= now).collect();
        self.contact.suspect(expired, ends.len(), now)
    }

    fn standing(&self, name: &str, now: Duration) -> Standing {
        self.nodes.get(name).map_or(Standing::NotReady, |n| n.standing(&self.contact, now))
    }

    fn by_crowd(&self, name: &str) -> Vec<RoomKey> {
        let Some(entry) = self.nodes.get(name) else { return Vec::new() };
        let status = entry.object.as_ref().and_then(|n| n.status.as_ref());
        let crowd: HashMap<CallId, i32> =
            status.map(|s| s.rooms.iter().map(|r| (served_key(r), r.participants)).collect()).unwrap_or_default();
        // A node that is gone reports nothing any more, but its rooms say how many people they last had.
        let noted = |room: &RoomKey| self.rooms.get(room)?.object.status.as_ref()?.participants;
        let people = |room: &RoomKey| crowd.get(&**room).copied().or_else(|| noted(room)).unwrap_or(0);
        let mut rooms: Vec<RoomKey> = entry.account.rooms().cloned().collect();
        rooms.sort_by_cached_key(|room| (std::cmp::Reverse(people(room)), room.clone()));
        rooms
    }
}

impl NodeEntry {
    fn forget_object(&mut self) {
        self.lost = None;
        self.reported = None;
        self.attested = None;
        self.cordoned = None;
        self.account.report(Demand::default(), HashSet::new());
    }

    pub(super) fn is_forgettable(&self) -> bool {
        self.object.is_none()
            && self.lease.is_none()
            && self.account.room_count() == 0
            && matches!(self.pod, PodSight::Unseen | PodSight::Left { .. } | PodSight::Gone)
    }
}

fn served_key(room: &ServedRoom) -> CallId {
    CallId::new(room.namespace.clone(), room.name.clone())
}

fn changed_reports(old: Option<&MediaNode>, new: &MediaNode, into: &mut Vec<RoomKey>) {
    let rooms = |n: &MediaNode| n.status.as_ref().map(|s| s.rooms.clone()).unwrap_or_default();
    let mut before: HashMap<CallId, ServedRoom> =
        old.map(rooms).unwrap_or_default().into_iter().map(|r| (served_key(&r), r)).collect();
    for room in rooms(new) {
        let id = served_key(&room);
        if before.remove(&id).as_ref() != Some(&room) {
            into.push(Arc::new(id));
        }
    }
    into.extend(before.into_keys().map(Arc::new));
}
