//! What a verdict on one node looks at.

use std::time::Duration;

use crate::{
    clock::Now,
    cluster::{
        Cluster,
        liveness::LeaseState,
        node::{Lost, PodSight},
    },
};

/// One node and what bears on its life.
#[derive(Clone, Debug, PartialEq)]
pub struct World {
    /// The operator made it, so it has a pod.
    pub is_managed: bool,
    /// It reported at least once.
    pub has_reported: bool,
    /// Its pod.
    pub pod: PodSight,
    /// Its lease.
    pub lease: LeaseState,
    /// The present verdict.
    pub lost: Option<Lost>,
    /// Its `Ready` condition says so.
    pub is_marked: bool,
}

/// Looks at the node `name`; `None` when there is no such MediaNode.
pub fn observe(cluster: &Cluster, name: &str, now: Now) -> Option<World> {
    let node = cluster.node(name).filter(|n| n.object.is_some())?;
    Some(World {
        is_managed: node.is_managed(),
        has_reported: node.has_reported(),
        pod: node.pod.clone(),
        lease: node.lease_state(cluster.contact(), now.mono),
        lost: node.lost.clone(),
        is_marked: node.is_marked_lost(),
    })
}

/// Time until `at`, and a little more, so that it is over by then.
pub fn until(at: Duration, now: Now) -> Duration {
    at.saturating_sub(now.mono) + Duration::from_millis(5)
}
