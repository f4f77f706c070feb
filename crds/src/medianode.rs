//! `MediaNode`: one media-node pod, as a `Node` is one kubelet.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a media node is asked to be. Written by the operator; people set `cordoned`.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "callplane.io",
    version = "v1alpha1",
    kind = "MediaNode",
    namespaced,
    doc = "A MediaNode is one media-node pod. The pod bears the same name and reports its load in the status.",
    status = "MediaNodeStatus",
    derive = "PartialEq",
    shortname = "mnode",
    category = "callplane",
    selectable = ".spec.pool",
    printcolumn(name = "Pool", type_ = "string", json_path = ".spec.pool"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Rooms", type_ = "integer", json_path = ".status.load.rooms"),
    printcolumn(
        name = "Load",
        type_ = "integer",
        json_path = ".status.utilizationPercent",
        description = "percent of the fullest dimension"
    ),
    printcolumn(name = "Cordoned", type_ = "boolean", json_path = ".spec.cordoned"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Participants", type_ = "integer", json_path = ".status.load.participants", priority = "1"),
    printcolumn(name = "API", type_ = "string", json_path = ".status.endpoints.api", priority = "1"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version", priority = "1")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.pool == oldSelf.pool")
        .message("pool cannot be changed: a MediaNode belongs to the MediaPool that made it"),
    validation = Rule::new("has(self.region) == has(oldSelf.region) && (!has(self.region) || self.region == oldSelf.region)")
        .message("region cannot be changed: the pod runs where it runs")
)]
pub struct MediaNodeSpec {
    /// Name of the MediaPool that owns it.
    #[schemars(length(min = 1, max = 63))]
    pub pool: String,

    /// Region of the pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub region: Option<String>,

    /// Takes no further room. The rooms that it has stay.
    #[serde(default)]
    pub cordoned: bool,

    /// What it can carry.
    #[serde(default)]
    pub capacity: Capacity,

    /// UDP ports under which clients reach its event loops, one each; empty when the pod's own ports are used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(range(min = 1, max = 65535)))]
    pub rtc_ports: Vec<i32>,

    /// Hash of the pool's template that the pod was made from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub template_hash: String,
}

/// What a media node can carry. A room is placed only where all of it fits, counted at its full size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Capacity {
    /// Rooms, 1 to 4000: a node's report lists them, and has to fit into one object.
    #[schemars(range(min = 1, max = 4000))]
    pub rooms: i32,
    /// People in all rooms together.
    #[schemars(range(min = 2, max = 100_000))]
    pub participants: i32,
    /// Streams forwarded: a room of n people has 2·n·(n−1).
    #[schemars(range(min = 4, max = 100_000_000))]
    pub streams: i64,
}

impl Default for Capacity {
    /// Ten rooms of fifty, or their like.
    fn default() -> Self {
        Self { rooms: 500, participants: 500, streams: 49_000 }
    }
}

/// What a media node is. Written by the node itself; only the `Ready` condition of a lost node is set to `Unknown` by the operator.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MediaNodeStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Version of the media node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,

    /// Where it is reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Endpoints>,

    /// Its load at `reportedAt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<Load>,

    /// How full it is, in percent of the fullest dimension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utilization_percent: Option<i32>,

    /// The rooms that it serves, 4000 at most, those with people in them first. `load.rooms` counts all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4000))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub rooms: Vec<ServedRoom>,

    /// When it wrote this status. Liveness is the Lease of the same name, not this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reported_at: Option<Time>,

    /// `Ready`, `Saturated` and `Drained`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

impl MediaNode {
    /// Whether its status holds a report.
    pub fn has_reported(&self) -> bool {
        self.status.as_ref().is_some_and(|s| s.reported_at.is_some())
    }
}

/// Rooms that a report lists at most. Their entries are all written by the node, so the list is one value to the API server
/// and costs nothing besides itself: at worst 4000 of them are below 1 MB, of the 1.5 MB that etcd takes.
pub const MAX_LISTED_ROOMS: usize = 4000;

/// Where a media node is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Endpoints {
    /// Base URL of its HTTP API inside the cluster, such as `http://10.244.1.7:8080`.
    pub api: String,
    /// Base URL of `/livez`, `/readyz` and `/metrics`.
    pub admin: String,
    /// Addresses that its ICE candidates announce, as `ip:port`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rtc: Vec<String>,
}

/// What a media node carries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Load {
    /// Rooms that it serves, empty ones included.
    pub rooms: i32,
    /// People in them.
    pub participants: i32,
    /// Streams forwarded (consumers).
    pub streams: i64,
    /// CPU used, in thousandths of a core.
    pub cpu_millis: i32,
    /// CPU that it may use, in thousandths of a core.
    pub cpu_limit_millis: i32,
    /// Resident memory in bytes.
    pub memory_bytes: i64,
    /// Media sent, in bits per second.
    pub egress_bits_per_second: i64,
    /// Packets received and sent per second.
    pub packets_per_second: i64,
}

/// A room on a media node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServedRoom {
    /// Namespace of the CallRoom.
    pub namespace: String,
    /// Name of the CallRoom.
    pub name: String,
    /// Epoch that is served.
    pub epoch: i64,
    /// People in it.
    pub participants: i32,
    /// Since when nobody is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_since: Option<Time>,
}
