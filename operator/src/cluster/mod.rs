//! What the operator knows of the cluster: one synchronous index, fed by watches, read by decisions.
//!
//! Everything here can be rebuilt from the API server. What is not in it yet because the answer to an own
//! write is still on its way (an *assumed* route) is kept until the cache shows it or shows that it will never come.

pub mod account;
pub mod liveness;
pub mod node;
mod nodes;
mod rooms;
pub mod trail;
pub mod waiting;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use callplane_crds::{CallId, CallRoom, MediaPool, RouteMode, callroom::Phase};

use self::{liveness::Contact, node::NodeEntry, trail::Trail, waiting::Waiting};

/// Namespace and name of a room.
pub type RoomKey = Arc<CallId>;

/// What the watches and our own writes have told.
#[derive(Debug, Default)]
pub struct Cluster {
    rooms: HashMap<RoomKey, RoomEntry>,
    nodes: BTreeMap<String, NodeEntry>,
    pools: BTreeMap<String, PoolEntry>,
    contact: Contact,
    leader_lease: String,
    leader_renewed: Option<String>,
    waiting: Waiting,
    phases: HashMap<Phase, i64>,
    modes: HashMap<RouteMode, i64>,
}

/// A room as it is known.
#[derive(Debug)]
pub struct RoomEntry {
    /// The newest version seen, by a watch or as the answer to an own write.
    pub object: Arc<CallRoom>,
    /// A route that was written or is being written and is not in `object` yet.
    pub assumed: Option<Assumed>,
    /// When the operator last wrote its status.
    pub written: Option<Duration>,
    /// When it was first seen.
    pub first_seen: Duration,
    /// When its status was last seen to change.
    pub changed: Duration,
    /// What its routes were like.
    pub trail: Trail,
    held_on: BTreeSet<String>,
}

/// A route between decision and proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assumed {
    /// Its epoch.
    pub epoch: i64,
    /// Its node.
    pub node: String,
}

/// A pool as it is known.
#[derive(Clone, Debug)]
pub struct PoolEntry {
    /// The MediaPool.
    pub object: Arc<MediaPool>,
    /// Hash of its template.
    pub template_hash: String,
}

/// Who is to look again after a change.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Rooms with people who wait for media, such as those that lost their node, most crowded first.
    pub urgent: Vec<RoomKey>,
    /// Rooms.
    pub rooms: Vec<RoomKey>,
    /// Nodes.
    pub nodes: Vec<String>,
    /// Pools.
    pub pools: Vec<String>,
}

impl Cluster {
    /// An empty index. `leader_lease` is the name of the Lease whose renewals prove that leases are heard.
    pub fn new(leader_lease: impl Into<String>) -> Self {
        Self { leader_lease: leader_lease.into(), ..Self::default() }
    }

    /// The room `key`.
    pub fn room(&self, key: &RoomKey) -> Option<&RoomEntry> {
        self.rooms.get(key)
    }

    /// The node `name`.
    pub fn node(&self, name: &str) -> Option<&NodeEntry> {
        self.nodes.get(name)
    }

    /// All nodes whose MediaNode exists.
    pub fn nodes(&self) -> impl Iterator<Item = (&str, &NodeEntry)> {
        self.nodes.iter().filter(|(_, n)| n.object.is_some()).map(|(name, n)| (name.as_str(), n))
    }

    /// The pool `name`.
    pub fn pool(&self, name: &str) -> Option<&PoolEntry> {
        self.pools.get(name)
    }

    /// All pools.
    pub fn pools(&self) -> impl Iterator<Item = (&str, &PoolEntry)> {
        self.pools.iter().map(|(name, p)| (name.as_str(), p))
    }

    /// Our contact with the API server.
    pub fn contact(&self) -> &Contact {
        &self.contact
    }

    /// Everything that there is to look at, for a leader that starts.
    pub fn everything(&self) -> Effects {
        Effects {
            urgent: Vec::new(),
            rooms: self.rooms.keys().cloned().collect(),
            // Those too that rooms name and the watch does not show.
            nodes: self.nodes.keys().cloned().collect(),
            pools: self.pools.keys().cloned().collect(),
        }
    }

    /// How many rooms there are in each phase.
    pub fn phases(&self) -> &HashMap<Phase, i64> {
        &self.phases
    }

    /// How many routes there are of each mode.
    pub fn modes(&self) -> &HashMap<RouteMode, i64> {
        &self.modes
    }

    /// All rooms.
    pub fn rooms(&self) -> impl Iterator<Item = &CallRoom> {
        self.rooms.values().map(|entry| &*entry.object)
    }

    /// How many rooms there are.
    pub fn room_count(&self) -> usize {
        self.rooms.len()
    }

    /// How many rooms wait for capacity.
    pub fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    /// Takes in a pool.
    pub fn apply_pool(&mut self, pool: MediaPool) -> Effects {
        let Some(name) = pool.metadata.name.clone() else { return Effects::default() };
        let template_hash = crate::pool::pod::template_hash(&pool.spec);
        self.pools.insert(name.clone(), PoolEntry { object: Arc::new(pool), template_hash });
        let mut effects = Effects { pools: vec![name], ..Effects::default() };
        self.wake_waiting(&mut effects);
        effects
    }

    /// Forgets a pool.
    pub fn remove_pool(&mut self, name: &str) -> Effects {
        self.pools.remove(name);
        Effects { pools: vec![name.to_owned()], ..Effects::default() }
    }

    fn wake_waiting(&mut self, effects: &mut Effects) {
        let woken = self.waiting.wake();
        effects.urgent.extend(woken.live);
        effects.rooms.extend(woken.new);
    }
}

/// Whether resource version `a` is older than `b`. Versions of one kind are ordered (KEP-5504).
fn is_older(a: Option<&str>, b: Option<&str>) -> bool {
    let number = |v: Option<&str>| v.and_then(|v| v.parse::<u64>().ok());
    matches!((number(a), number(b)), (Some(a), Some(b)) if a < b)
}

#[cfg(test)]
pub(crate) mod fixtures;

#[cfg(test)]
mod rebuild_tests;

#[cfg(test)]
mod stored;

#[cfg(test)]
mod tests;
