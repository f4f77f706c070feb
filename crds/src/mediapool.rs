//! `MediaPool`: interchangeable media nodes in one region.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        Affinity, EnvVar, LocalObjectReference, ResourceRequirements, Toleration, TopologySpreadConstraint,
    },
    apimachinery::pkg::apis::meta::v1::Condition,
};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{medianode::Capacity, schema::with_quantities};

/// What a pool is asked to be.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "callplane.io",
    version = "v1alpha1",
    kind = "MediaPool",
    namespaced,
    doc = "A MediaPool is a set of interchangeable media nodes in one region. The operator owns its nodes and pods one by one.",
    status = "MediaPoolStatus",
    derive = "PartialEq",
    shortname = "mpool",
    category = "callplane",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".spec.replicas"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(name = "Cordoned", type_ = "integer", json_path = ".status.cordonedReplicas"),
    printcolumn(
        name = "Load",
        type_ = "integer",
        json_path = ".status.utilizationPercent",
        description = "percent of the ready nodes' capacity that is reserved"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Region", type_ = "string", json_path = ".spec.region", priority = "1"),
    validation = Rule::new("size(self.metadata.name) <= 52")
        .message("the name of a MediaPool may have at most 52 characters: its pods are named after it")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.region) == has(oldSelf.region) && (!has(self.region) || self.region == oldSelf.region)")
        .message("region cannot be changed, since rooms are bound to it: create another MediaPool"),
    validation = Rule::new("!has(self.reachability.ports) || !has(self.template.workers) || self.reachability.ports.to - self.reachability.ports.from + 1 >= self.template.workers")
        .message("reachability.ports holds fewer ports than template.workers: a node needs one port for each of its workers")
)]
pub struct MediaPoolSpec {
    /// Media nodes wanted, 0 to 1000. Can be driven through the scale subresource. Scaling down never ends a call.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: i32,

    /// Region of all its nodes, matched with the `region` of CallRooms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub region: Option<String>,

    /// Which of its nodes a room goes to.
    #[serde(default)]
    pub placement: Placement,

    /// What each node can carry.
    #[serde(default)]
    pub capacity: Capacity,

    /// How clients' packets reach a node.
    #[serde(default)]
    pub reachability: Reachability,

    /// How long a pod that was told to stop waits for its calls to end, in seconds.
    #[serde(default = "default_drain_timeout")]
    #[schemars(range(min = 0, max = 86_400))]
    pub drain_timeout_seconds: i32,

    /// What is laid over the operator's own pod.
    #[serde(default)]
    pub template: NodeTemplate,
}

const fn default_replicas() -> i32 {
    1
}

const fn default_drain_timeout() -> i32 {
    3600
}

/// Which node of a pool a room goes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Placement {
    /// The fullest that still fits, so that nodes empty out and can go.
    #[default]
    Packed,
    /// The least loaded.
    Spread,
    /// One that this version does not know, written by a newer one. Read so that the object can be read at all; never written.
    #[serde(other, skip_serializing)]
    #[schemars(skip)]
    Unknown,
}

/// How clients' packets reach a node.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.mode == 'Pod' ? !has(self.ports) : true")
        .message("ports has no meaning with mode Pod: remove it, or choose HostPort or HostNetwork"),
    validation = Rule::new("self.mode == 'Pod' || has(self.ports)")
        .message("mode HostPort or HostNetwork needs ports: {from, to}, the UDP ports that the firewall lets in")
)]
pub struct Reachability {
    /// How.
    #[serde(default)]
    pub mode: ReachabilityMode,

    /// Ports of the machine, for UDP and TCP, that the operator gives out, `workers` to each node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<PortRange>,

    /// Address that candidates announce instead of the machine's (or, with mode `Pod`, the pod's) own, such as a load balancer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 45))]
    #[x_kube(validation = Rule::new("isIP(self)").message("announce must be an IP address, such as 203.0.113.7: browsers do not resolve names in candidates"))]
    pub announce: Option<String>,
}

/// How clients' packets reach a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ReachabilityMode {
    /// Through ports of the machine that are forwarded to the pod; many nodes can share a machine.
    HostPort,
    /// The pod uses the machine's network: the fastest path.
    HostNetwork,
    /// At the pod's own address: for flat networks.
    #[default]
    Pod,
    /// One that this version does not know, written by a newer one. Read so that the object can be read at all; never written.
    #[serde(other, skip_serializing)]
    #[schemars(skip)]
    Unknown,
}

/// A range of ports, both ends included.
#[derive(KubeSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.from <= self.to").message("ports.from must not be greater than ports.to"))]
pub struct PortRange {
    /// First.
    #[schemars(range(min = 1024, max = 65535))]
    pub from: i32,
    /// Last.
    #[schemars(range(min = 1024, max = 65535))]
    pub to: i32,
}

/// What is laid over the operator's own pod. A change makes new pods from then on; running ones stay.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeTemplate {
    /// Image of the media node; the operator's default where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub image: Option<String>,
    /// `Always`, `IfNotPresent` or `Never`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self in ['Always', 'IfNotPresent', 'Never']").message("imagePullPolicy must be Always, IfNotPresent or Never"))]
    pub image_pull_policy: Option<String>,
    /// Secrets for private registries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Event loops, each on its own UDP port; a room stays on one of them. 1 to 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub workers: Option<i32>,
    /// CPU and memory.
    #[serde(default, deserialize_with = "with_quantities", skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Further environment variables.
    #[serde(default, deserialize_with = "with_quantities", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvVar>,
    /// Further labels of the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Further annotations of the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Machines that the pods may run on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the pods bear.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// Where the pods like to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// How the pods spread over machines and zones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// Priority class of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
}

/// What a pool is. Written by the operator alone.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MediaPoolStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Media nodes that exist.
    #[serde(default)]
    pub replicas: i32,
    /// Those that are ready.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Those that take no further room.
    #[serde(default)]
    pub cordoned_replicas: i32,
    /// Share of the ready nodes' capacity that is reserved, in percent.
    #[serde(default)]
    pub utilization_percent: i32,
    /// Label selector of its pods, for autoscalers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// `Available` and `Progressing`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}
