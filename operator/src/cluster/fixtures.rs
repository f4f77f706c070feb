//! Objects for tests, as the API server would show them.

use std::{sync::Arc, time::Duration};

use callplane_crds::{
    CallId, CallRoom, CallRoomSpec, MediaNode, MediaNodeSpec, MediaNodeStatus, MediaPool, MediaPoolSpec, Presence,
    Route, RouteMode, Topology,
    condition::{Status, condition, node},
    medianode::{Capacity, Load, ServedRoom},
    mediapool::Placement,
};
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        coordination::v1::{Lease, LeaseSpec},
        core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodStatus},
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference, Time},
};

use super::{Cluster, RoomKey};
use crate::{clock::Now, leader::LEASE_NAME};

/// `seconds` after the beginning, on both clocks.
pub(crate) fn at(seconds: u64) -> Now {
    Now { mono: Duration::from_secs(seconds), wall: wall(seconds) }
}

pub(crate) fn wall(seconds: u64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + i64::try_from(seconds).unwrap()).unwrap()
}

pub(crate) fn key(name: &str) -> RoomKey {
    Arc::new(CallId::new("team", name))
}

pub(crate) fn meta(name: &str, version: u64) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some("team".to_owned()),
        uid: Some(format!("uid-of-{name}")),
        resource_version: Some(version.to_string()),
        generation: Some(1),
        ..ObjectMeta::default()
    }
}

pub(crate) fn room(name: &str, version: u64, size: i32) -> CallRoom {
    let mut room = CallRoom::new(name, CallRoomSpec { max_participants: size, ..CallRoomSpec::default() });
    room.metadata = meta(name, version);
    room
}

pub(crate) fn route(epoch: i64, node: &str, since: u64) -> Route {
    Route {
        epoch,
        mode: RouteMode::Sfu,
        node: Some(node.to_owned()),
        reason: "Scheduled".to_owned(),
        since: Time(wall(since)),
    }
}

/// The same without a node.
pub(crate) fn peers(epoch: i64, since: u64) -> Route {
    Route { mode: RouteMode::P2p, node: None, ..route(epoch, "", since) }
}

/// A room for four whose media flows as the operator decides.
pub(crate) fn auto(name: &str, version: u64) -> CallRoom {
    let mut room = room(name, version, 4);
    room.spec.topology = Some(Topology::default());
    room
}

/// What the gateway says: so many people since that second.
pub(crate) fn present(participants: i32, since: u64) -> Presence {
    Presence { participants, since: Time(wall(since)), epoch: None, failed: None, sfu_wanted: None }
}

/// A room that is ready on `node` since second 0.
pub(crate) fn placed(name: &str, version: u64, size: i32, node: &str) -> CallRoom {
    let mut cluster = cluster(&[(node, 100)], Placement::Packed);
    cluster.apply_room(room(name, version, size), at(0).mono);
    let status = {
        let world = crate::room::observe::observe(&cluster, &key(name), at(0)).unwrap();
        crate::room::decide::decide(&world, at(0)).status
    };
    CallRoom { status, ..room(name, version, size) }
}

pub(crate) fn pool(name: &str, replicas: i32, placement: Placement) -> MediaPool {
    let capacity = Capacity { rooms: 100, participants: 500, streams: 49_000 };
    let mut pool = MediaPool::new(
        name,
        MediaPoolSpec { replicas, placement, capacity, drain_timeout_seconds: 3600, ..MediaPoolSpec::default() },
    );
    pool.metadata = meta(name, 1);
    pool
}

/// A ready node of pool `p` for `rooms` rooms of any size, made by the operator, which serves nothing.
pub(crate) fn node(name: &str, version: u64, rooms: i32) -> MediaNode {
    let mut node = MediaNode::new(
        name,
        MediaNodeSpec {
            pool: "p".to_owned(),
            capacity: Capacity { rooms, participants: 100_000, streams: 100_000_000 },
            ..MediaNodeSpec::default()
        },
    );
    node.metadata = meta(name, version);
    node.metadata.owner_references =
        Some(vec![OwnerReference { kind: "MediaPool".to_owned(), name: "p".to_owned(), ..OwnerReference::default() }]);
    node.status = Some(MediaNodeStatus {
        load: Some(Load::default()),
        reported_at: Some(Time(wall(0))),
        conditions: vec![condition(&[], node::READY, Status::True, "Serving", "", None, wall(0))],
        ..MediaNodeStatus::default()
    });
    node
}

/// The same node after a report at `seconds` about these rooms: name, epoch, people.
pub(crate) fn reporting(mut node: MediaNode, version: u64, seconds: u64, rooms: &[(&str, i64, i32)]) -> MediaNode {
    node.metadata.resource_version = Some(version.to_string());
    let status = node.status.get_or_insert_default();
    status.reported_at = Some(Time(wall(seconds)));
    status.rooms = rooms
        .iter()
        .map(|(name, epoch, participants)| ServedRoom {
            namespace: "team".to_owned(),
            name: (*name).to_owned(),
            epoch: *epoch,
            participants: *participants,
            empty_since: (*participants == 0).then(|| Time(wall(0))),
        })
        .collect();
    let people: i32 = rooms.iter().map(|r| r.2).sum();
    status.load = Some(Load { rooms: i32::try_from(rooms.len()).unwrap(), participants: people, ..Load::default() });
    node
}

pub(crate) fn lease(node: &str, version: u64, renewed: u64) -> Lease {
    Lease {
        metadata: meta(node, version),
        spec: Some(LeaseSpec {
            lease_duration_seconds: Some(8),
            renew_time: Some(MicroTime(wall(renewed))),
            ..LeaseSpec::default()
        }),
    }
}

pub(crate) fn pod(name: &str) -> Pod {
    Pod {
        metadata: meta(name, 1),
        spec: None,
        status: Some(PodStatus { phase: Some("Running".to_owned()), ..PodStatus::default() }),
    }
}

pub(crate) fn ended_pod(name: &str) -> Pod {
    let end = ContainerStateTerminated {
        exit_code: 137,
        reason: Some("OOMKilled".to_owned()),
        ..ContainerStateTerminated::default()
    };
    let container = ContainerStatus {
        name: "media-node".to_owned(),
        state: Some(ContainerState { terminated: Some(end), ..ContainerState::default() }),
        ..ContainerStatus::default()
    };
    Pod { status: Some(PodStatus { container_statuses: Some(vec![container]), ..PodStatus::default() }), ..pod(name) }
}

/// A cluster at second 0 whose pool `p` has these nodes, each for so many rooms, all ready.
pub(crate) fn cluster(nodes: &[(&str, i32)], placement: Placement) -> Cluster {
    let mut cluster = Cluster::new(LEASE_NAME);
    cluster.apply_pool(pool("p", i32::try_from(nodes.len()).unwrap(), placement));
    for (name, rooms) in nodes {
        cluster.apply_node(node(name, 1, *rooms), Duration::ZERO);
        cluster.apply_pod(&pod(name));
    }
    renew(&mut cluster, nodes.iter().map(|(n, _)| *n), 0);
    cluster
}

/// Everybody named renews, and so do we.
pub(crate) fn renew<'a>(cluster: &mut Cluster, nodes: impl IntoIterator<Item = &'a str>, seconds: u64) {
    canary(cluster, seconds);
    for name in nodes {
        cluster.apply_lease(&lease(name, 1000 + seconds, seconds), Duration::from_secs(seconds));
    }
}

/// Our own renewal comes back through the watch.
pub(crate) fn canary(cluster: &mut Cluster, seconds: u64) {
    cluster.apply_lease(&lease(LEASE_NAME, 1000 + seconds, seconds), Duration::from_secs(seconds));
}
