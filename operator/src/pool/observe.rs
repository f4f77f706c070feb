//! What a decision about one pool looks at.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use callplane_crds::{MediaNode, MediaPool, load::Demand};

use super::backoff::Crashes;
use crate::{
    clock::Now,
    cluster::{
        Cluster,
        node::{LossCause, NodeEntry, PodSight, Standing},
    },
};

/// Annotation on nodes that the operator cordoned because there are too many. People's own cordons bear none.
pub const SURPLUS_ANNOTATION: &str = "callplane.io/surplus";

/// One pool and what bears on its size.
#[derive(Clone, Debug, PartialEq)]
pub struct World {
    /// The pool.
    pub pool: Arc<MediaPool>,
    /// Hash of its template.
    pub template_hash: String,
    /// Its nodes, by name.
    pub nodes: Vec<NodeSight>,
    /// Ports that are given out already, to nodes of whatever pool.
    pub taken_ports: BTreeSet<i32>,
    /// Its pods' latest crashes.
    pub crashes: Crashes,
}

/// A node as it looks from its pool.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeSight {
    /// Name.
    pub name: String,
    /// The MediaNode.
    pub object: Arc<MediaNode>,
    /// Whether it takes rooms.
    pub standing: Standing,
    /// Its pod.
    pub pod: PodSight,
    /// The verdict that it is lost, and since when.
    pub lost: Option<(Duration, LossCause)>,
    /// The operator cordoned it as surplus.
    pub is_surplus: bool,
    /// For how long it has been cordoned, as far as this replica saw.
    pub cordoned_for: Option<Duration>,
    /// Rooms whose route or previous route names it.
    pub routed: usize,
    /// Rooms and people by its own recent report.
    pub counted: Option<(usize, i64)>,
    /// Nothing shows that it ever ran, so nobody is on it.
    pub is_blank: bool,
    /// What is taken of it.
    pub committed: Demand,
}

impl NodeSight {
    /// How long ago it was made; unknown for one that the API server did not date.
    pub fn age(&self, now: Now) -> Option<Duration> {
        let made = self.object.metadata.creation_timestamp.as_ref()?.0;
        Some(Duration::try_from(now.wall.duration_since(made)).unwrap_or_default())
    }
}

/// Looks at the pool `name`; `None` when there is none.
pub fn observe(cluster: &Cluster, name: &str, crashes: Crashes, now: Now) -> Option<World> {
    let entry = cluster.pool(name)?;
    let nodes = cluster
        .nodes()
        .filter_map(|(node, n)| sight(cluster, node, n, now))
        .filter(|n| n.object.spec.pool == name)
        .collect();
    let taken_ports =
        cluster.nodes().filter_map(|(_, n)| n.object.as_ref()).flat_map(|n| n.spec.rtc_ports.clone()).collect();
    Some(World {
        pool: Arc::clone(&entry.object),
        template_hash: entry.template_hash.clone(),
        nodes,
        taken_ports,
        crashes,
    })
}

fn sight(cluster: &Cluster, name: &str, node: &NodeEntry, now: Now) -> Option<NodeSight> {
    let object = node.object.clone()?;
    // A node that nobody's pool made is counted on by no pool either.
    if !node.is_managed() {
        return None;
    }
    let annotations = object.metadata.annotations.as_ref();
    Some(NodeSight {
        name: name.to_owned(),
        standing: node.standing(cluster.contact(), now.mono),
        pod: node.pod.clone(),
        lost: node.lost.as_ref().map(|l| (l.since, l.cause.clone())),
        is_surplus: object.spec.cordoned && annotations.is_some_and(|a| a.contains_key(SURPLUS_ANNOTATION)),
        cordoned_for: node.cordoned.map(|since| now.mono.saturating_sub(since)),
        routed: node.account.room_count(),
        counted: node.fresh_counts(now.mono),
        is_blank: node.is_blank(),
        committed: node.account.committed(),
        object,
    })
}
