//! What a decision about one room looks at.

use callplane_crds::{CallRoom, Presence, load::Demand, medianode::ServedRoom, mediapool::Placement};
use jiff::Timestamp;

use super::{
    place::{Candidate, Request},
    routes,
};
use crate::{
    clock::Now,
    cluster::{
        Assumed, Cluster, RoomKey,
        node::{Life, NodeEntry},
        trail::Trail,
    },
};
use std::time::Duration;

/// One room and what bears on it.
#[derive(Clone, Debug, PartialEq)]
pub struct World<'a> {
    /// The room.
    pub room: &'a CallRoom,
    /// The node that its route names, if it names one.
    pub route: Option<Sight<'a>>,
    /// The node that its previous route names, if it names one.
    pub previous: Option<Sight<'a>>,
    /// A route that is on its way.
    pub assumed: Option<&'a Assumed>,
    /// When its status was last written.
    pub written: Option<Duration>,
    /// When its status was last seen to change, whoever wrote it.
    pub changed: Duration,
    /// What its routes were like.
    pub trail: &'a Trail,
    /// How long our contact with the API server has been uninterrupted.
    pub in_contact: Duration,
    /// Pools that it may be in. Counted only when it needs a node.
    pub allowed_pools: u32,
    /// Nodes that it might go to. Listed only when it needs one.
    pub candidates: Vec<Candidate<'a>>,
}

impl World<'_> {
    /// What the gateway says about the people in it.
    pub fn presence(&self) -> Option<&Presence> {
        self.room.status.as_ref()?.presence.as_ref()
    }
}

/// A node as it looks from a room.
#[derive(Clone, Debug, PartialEq)]
pub struct Sight<'a> {
    /// Whether the room can be there.
    pub life: Life,
    /// What the node reported about the room.
    pub served: Option<&'a ServedRoom>,
    /// When the node reported, by the node's clock.
    pub reported_at: Option<Timestamp>,
    /// That report is new enough, and the node well enough, for calls to be ended on its word.
    pub attests: bool,
}

/// Looks at the room `key`; `None` when there is none.
pub fn observe<'a>(cluster: &'a Cluster, key: &RoomKey, now: Now) -> Option<World<'a>> {
    let entry = cluster.room(key)?;
    let room = &*entry.object;
    let status = room.status.as_ref();
    let sight = |node: Option<&str>| node.map(|name| look(cluster, cluster.node(name), key, now));
    let mut world = World {
        room,
        route: sight(status.and_then(|s| s.route.as_ref()).and_then(|r| r.node.as_deref())),
        previous: sight(status.and_then(|s| s.previous_route.as_ref()).and_then(|r| r.node.as_deref())),
        assumed: entry.assumed.as_ref(),
        written: entry.written,
        changed: entry.changed,
        trail: &entry.trail,
        in_contact: cluster.contact().uninterrupted(now.mono),
        allowed_pools: 0,
        candidates: Vec::new(),
    };
    if routes::needs_node(&world, now) {
        let request = request(room);
        world.allowed_pools = u32::try_from(
            cluster.pools().filter(|(name, p)| request.allows_pool(name, p.object.metadata.labels.as_ref())).count(),
        )
        .unwrap_or(u32::MAX);
        world.candidates = cluster.nodes().filter_map(|(name, n)| candidate(cluster, name, n, now)).collect();
    }
    Some(world)
}

/// What `room` asks for.
pub fn request(room: &CallRoom) -> Request<'_> {
    Request {
        pool: room.spec.pool.as_deref(),
        selector: room.spec.pool_selector.as_ref(),
        region: room.spec.region.as_deref(),
        demand: Demand::of_room(room.spec.max_participants),
    }
}

fn look<'a>(cluster: &Cluster, node: Option<&'a NodeEntry>, key: &RoomKey, now: Now) -> Sight<'a> {
    let Some(node) = node else {
        return Sight { life: Life::Unseen, served: None, reported_at: None, attests: false };
    };
    let status = node.object.as_ref().and_then(|n| n.status.as_ref());
    Sight {
        life: node.life(),
        served: node.served(key),
        reported_at: status.and_then(|s| s.reported_at.as_ref()).map(|t| t.0),
        attests: node.attests(cluster.contact(), now.mono),
    }
}

fn candidate<'a>(cluster: &'a Cluster, name: &'a str, node: &'a NodeEntry, now: Now) -> Option<Candidate<'a>> {
    let object = node.object.as_deref()?;
    let pool = cluster.pool(&object.spec.pool);
    let load = object.status.as_ref().and_then(|s| s.load.as_ref());
    Some(Candidate {
        name,
        pool: &object.spec.pool,
        pool_labels: pool.and_then(|p| p.object.metadata.labels.as_ref()),
        region: object.spec.region.as_deref(),
        placement: pool.map_or(Placement::Packed, |p| p.object.spec.placement),
        is_newest: pool.is_none_or(|p| p.template_hash == object.spec.template_hash),
        standing: node.standing(cluster.contact(), now.mono),
        capacity: object.spec.capacity.clone(),
        committed: node.account.committed(),
        cpu_per_mille: load
            .filter(|l| l.cpu_limit_millis > 0)
            .map_or(0, |l| i64::from(l.cpu_millis) * 1000 / i64::from(l.cpu_limit_millis)),
    })
}
