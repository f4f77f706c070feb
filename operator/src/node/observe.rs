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
    /// Something shows that it ran, so it has, or had, a pod.
    pub has_run: bool,
    /// Its pod.
    pub pod: PodSight,
    /// Its lease.
    pub lease: LeaseState,
    /// The present verdict.
    pub lost: Option<Lost>,
    /// Its `Ready` condition says so.
    pub is_marked: bool,
    /// Its MediaNode is not in the cache, although rooms name it.
    pub absent: Option<Absent>,
    /// When the API server was last asked about what the caches do not show of it.
    pub asked: Option<Duration>,
}

/// A MediaNode that rooms name and the watch does not show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absent {
    /// The API server said that it is gone.
    pub gone: bool,
    /// UID that it had when the watch showed it.
    pub uid: Option<String>,
}

/// Looks at the node `name`; `None` when there is no such MediaNode and no room names it.
pub fn observe(cluster: &Cluster, name: &str, now: Now) -> Option<World> {
    let node = cluster.node(name).filter(|n| n.object.is_some() || n.account.room_count() > 0)?;
    let absent = || Absent { gone: node.gone.is_some(), uid: node.left.clone() };
    Some(World {
        absent: node.object.is_none().then(absent),
        asked: node.asked,
        is_managed: node.is_managed(),
        has_run: !node.is_blank(),
        pod: node.pod.clone(),
        lease: node.lease_state(cluster.contact(), now.mono),
        lost: node.lost.clone(),
        is_marked: node.says.lost,
    })
}

/// Time until `at`, and a little more, so that it is over by then.
pub fn until(at: Duration, now: Now) -> Duration {
    at.saturating_sub(now.mono) + Duration::from_millis(5)
}
