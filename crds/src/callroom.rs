//! `CallRoom`: one call.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    call_id::CallId,
    consent::Consent,
    presence::Presence,
    schema::known_operators,
    topology::{Topology, TopologyMode},
};

/// What a call is asked to be.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "callplane.io",
    version = "v1alpha1",
    kind = "CallRoom",
    namespaced,
    doc = "A CallRoom is one call: apply it, and the operator picks a media node that carries it.",
    status = "CallRoomStatus",
    derive = "PartialEq",
    shortname = "croom",
    category = "callplane",
    selectable = ".status.route.node",
    selectable = ".status.previousRoute.node",
    selectable = ".status.phase",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".status.route.mode"),
    printcolumn(name = "Node", type_ = "string", json_path = ".status.route.node"),
    printcolumn(name = "Epoch", type_ = "integer", json_path = ".status.route.epoch"),
    printcolumn(name = "Participants", type_ = "integer", json_path = ".status.participants"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase", priority = "1"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        priority = "1"
    ),
    validation = Rule::new("size(self.metadata.name) <= 63")
        .message("the name of a CallRoom may have at most 63 characters: it is part of the URL that clients join by"),
    validation = Rule::new("!has(oldSelf.status) || !has(oldSelf.status.startedAt) || has(self.spec.scheduledTime) == has(oldSelf.spec.scheduledTime) && (!has(self.spec.scheduledTime) || self.spec.scheduledTime == oldSelf.spec.scheduledTime)")
        .message("scheduledTime cannot be changed, since the call has begun: end this one and create another CallRoom for the new time")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(has(self.pool) && has(self.poolSelector))")
        .message("set either pool or poolSelector, not both: pool names one MediaPool, poolSelector picks among several by label"),
    validation = Rule::new("has(self.pool) == has(oldSelf.pool) && (!has(self.pool) || self.pool == oldSelf.pool)")
        .message("pool cannot be changed: create another CallRoom with the new pool and end this one"),
    validation = Rule::new("has(self.poolSelector) == has(oldSelf.poolSelector) && (!has(self.poolSelector) || self.poolSelector == oldSelf.poolSelector)")
        .message("poolSelector cannot be changed: create another CallRoom with the new selector and end this one"),
    validation = Rule::new("has(self.region) == has(oldSelf.region) && (!has(self.region) || self.region == oldSelf.region)")
        .message("region cannot be changed, since media never leaves it: create another CallRoom in the new region and end this one"),
    validation = Rule::new("self.maxParticipants <= oldSelf.maxParticipants")
        .message("maxParticipants cannot be raised, since capacity was reserved for the old size: create a larger CallRoom and end this one"),
    validation = Rule::new("!has(self.topology) || self.topology.mode != 'P2P' || self.maxParticipants <= 6")
        .message("a call with topology.mode P2P may have at most 6 participants, since everyone sends to everyone else: lower maxParticipants, or use mode Auto"),
    validation = Rule::new("!oldSelf.ended || self.ended")
        .message("an ended call cannot be opened again: create another CallRoom")
)]
pub struct CallRoomSpec {
    /// How many people may be in the call at once, 2 to 50. Capacity for all of them is reserved on the media node that
    /// carries the call, so it can be lowered later but not raised.
    #[serde(default = "default_max_participants")]
    #[schemars(range(min = 2, max = 50))]
    pub max_participants: i32,

    /// Name of the MediaPool that carries the call. Without it and without `poolSelector` any pool may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub pool: Option<String>,

    /// Labels of the MediaPools that may carry the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = known_operators)]
    pub pool_selector: Option<LabelSelector>,

    /// Region that media never leaves. Without it any region may carry the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub region: Option<String>,

    /// How media flows, and when that changes. Without it through a media node from the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topology: Option<Topology>,

    /// When the call is to begin. Until 10 minutes before it takes no place on any media node and cannot be joined. Can be
    /// changed until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_time: Option<Time>,

    /// What people are asked to consent to. The gateway keeps the answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consent: Option<Consent>,

    /// When the call ends by itself.
    #[serde(default)]
    pub lifetime: Lifetime,

    /// What media the call carries.
    #[serde(default)]
    pub media: Media,

    /// How participants come by TURN credentials. OnJoin with 600 seconds by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn: Option<Turn>,

    /// Set to true to end the call: participants are told and the node lets go. Cannot be undone.
    #[serde(default)]
    pub ended: bool,
}

const fn default_max_participants() -> i32 {
    50
}

/// What media a call carries. A limit that is left out does not apply. Changes count at once for who is heard and
/// seen, and for tracks that are published from then on.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.videoCodecs) || self.videoCodecs.all(c, self.videoCodecs.filter(d, d == c).size() == 1)")
        .message("videoCodecs names a codec twice: name each one once, the most preferred first"))]
pub struct Media {
    /// Video codecs that may be published, the most preferred first. Sound is always Opus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4))]
    pub video_codecs: Option<Vec<VideoCodec>>,

    /// Set to false to have every track published in one encoding only. It saves the senders' uplinks and processors;
    /// then everyone receives what the slowest receiver can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub simulcast: Option<bool>,

    /// Bits per second that one participant is asked not to exceed with all of its tracks together. Browsers heed it (REMB);
    /// what a sender does that does not is forwarded all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 64_000, max = 100_000_000))]
    pub max_publish_bitrate: Option<i64>,

    /// How many participants one receives pictures of at most: those who spoke last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 49))]
    pub last_n: Option<i32>,

    /// How many participants are heard at once at most: the loudest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 49))]
    pub loudest: Option<i32>,
}

/// How participants come by TURN credentials. Can be changed at any time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Turn {
    /// OnJoin: with the join token. Secret: so too, and as a Secret named in `status.turnSecretName`, for programs that
    /// join by other ways. None: not at all.
    #[serde(default)]
    pub provision: Provision,

    /// Life of a credential in seconds. That of one that comes with a join token is 600 at most, whatever is set here.
    #[serde(default = "default_turn_ttl")]
    #[schemars(range(min = 60, max = 86_400))]
    pub ttl_seconds: i32,
}

const fn default_turn_ttl() -> i32 {
    600
}

impl Default for Turn {
    fn default() -> Self {
        Self { provision: Provision::default(), ttl_seconds: default_turn_ttl() }
    }
}

/// Where TURN credentials are put.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Provision {
    /// Into the answer to a join.
    #[default]
    OnJoin,
    /// So too, and into a Secret of the room.
    Secret,
    /// Nowhere.
    None,
}

/// A video codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum VideoCodec {
    /// RFC 7741.
    #[serde(rename = "VP8")]
    Vp8,
    /// RFC 9628.
    #[serde(rename = "VP9")]
    Vp9,
    /// RFC 6184.
    H264,
    /// AV1.
    #[serde(rename = "AV1")]
    Av1,
}

/// When a call ends by itself. A limit that is left out does not apply.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.maxDurationSeconds) || self.maxDurationSeconds >= 60")
        .message("maxDurationSeconds must be at least 60: leave it out for a call without a limit"))]
pub struct Lifetime {
    /// The call ends after nobody was in it for this long. Counted from its start as well, and from scheduledTime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 5, max = 604_800))]
    pub empty_timeout_seconds: Option<i32>,

    /// The call ends this long after it became ready, or after scheduledTime if that is later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 2_592_000))]
    pub max_duration_seconds: Option<i32>,

    /// The CallRoom is deleted this long after the call ended. Without it it stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2_592_000))]
    pub ttl_seconds_after_ended: Option<i32>,
}

/// What a call is. Written by the operator; `presence` by the gateway.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallRoomStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Summary of the conditions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,

    /// People in the call, as its media node last reported, or the gateway while it is peer to peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub participants: Option<i32>,

    /// Where media flows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<Route>,

    /// Where media flowed until clients have moved to `route`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_route: Option<Route>,

    /// Who is in the call, as the gateway sees it. Written by the gateway alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presence: Option<Presence>,

    /// Name of the Secret with the room's ICE servers, when `spec.turn.provision` asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn_secret_name: Option<String>,

    /// When the call first became ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,

    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Time>,

    /// `Placed`, `Ready` and `Ended`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// Summary of a call's conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// It has no route yet, or its media node is lost.
    Pending,
    /// It can be joined.
    Ready,
    /// It is over.
    Ended,
    /// One that this version does not know, written by a newer one. Read so that the object can be read at all; never written.
    #[serde(other, skip_serializing)]
    #[schemars(skip)]
    Unknown,
}

/// Where a call's media flows. Every change is a new route with the next epoch.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.node) == (self.mode != 'P2P')")
        .message("a route through a media node names it in node, and a route of mode P2P names none"))]
pub struct Route {
    /// Counts the routes of this call from 1. For one epoch, one node serves the call, or none.
    #[schemars(range(min = 1))]
    pub epoch: i64,
    /// How media flows.
    pub mode: RouteMode,
    /// Name of the MediaNode that serves this epoch. Absent peer to peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Why the route was made, as one CamelCase word.
    pub reason: String,
    /// When.
    pub since: Time,
}

/// How media flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RouteMode {
    /// From each participant straight to each other.
    #[serde(rename = "P2P")]
    P2p,
    /// Through a media node.
    #[serde(rename = "SFU")]
    Sfu,
    /// One that this version does not know, written by a newer one. Read so that the object can be read at all; never written.
    #[serde(other, skip_serializing)]
    #[schemars(skip)]
    Unknown,
}

impl RouteMode {
    /// As the API has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::P2p => "P2P",
            Self::Sfu => "SFU",
            Self::Unknown => "Unknown",
        }
    }
}

impl Route {
    /// Name of the media node that serves it; empty where none does.
    pub fn node_name(&self) -> &str {
        self.node.as_deref().unwrap_or_default()
    }

    /// Where it leads, in words for people.
    pub fn place(&self) -> String {
        self.node.as_ref().map_or_else(|| "peer to peer".to_owned(), |node| format!("on media node {node}"))
    }

    /// Whether this version knows what it says.
    fn is_understood(&self) -> bool {
        match self.mode {
            RouteMode::P2p => true,
            RouteMode::Sfu => self.node.is_some(),
            RouteMode::Unknown => false,
        }
    }
}

/// A room as its nodes need it: identity, size and routes, without the rest.
#[derive(Clone, Debug, PartialEq)]
pub struct RoutedRoom {
    /// Namespace and name.
    pub id: CallId,
    /// `metadata.uid`: tells a room from a later one of the same name.
    pub uid: String,
    /// `spec.maxParticipants`.
    pub max_participants: i32,
    /// Where media flows.
    pub route: Option<Route>,
    /// Where media flowed before.
    pub previous_route: Option<Route>,
    /// It ended, or is to end.
    pub ended: bool,
}

impl CallRoom {
    /// Namespace and name. A CallRoom is namespaced, so the API server always fills in both.
    pub fn call_id(&self) -> CallId {
        CallId::new(self.metadata.namespace.clone().unwrap_or_default(), self.metadata.name.clone().unwrap_or_default())
    }

    /// Whether it ended or was asked to, or is being deleted.
    pub fn is_over(&self) -> bool {
        self.spec.ended
            || self.metadata.deletion_timestamp.is_some()
            || self.status.as_ref().is_some_and(|s| s.phase == Some(Phase::Ended))
    }

    /// Whether this version knows all that bears on its routes. One that a newer version wrote is left as it is.
    pub fn is_understood(&self) -> bool {
        if self.spec.topology.as_ref().is_some_and(|t| t.mode == TopologyMode::Unknown) {
            return false;
        }
        let Some(status) = &self.status else { return true };
        let mut routes = status.route.iter().chain(&status.previous_route);
        status.phase != Some(Phase::Unknown) && routes.all(Route::is_understood)
    }

    /// What a node needs of it.
    pub fn routed(&self) -> RoutedRoom {
        RoutedRoom {
            id: self.call_id(),
            uid: self.metadata.uid.clone().unwrap_or_default(),
            max_participants: self.spec.max_participants,
            route: self.status.as_ref().and_then(|s| s.route.clone()),
            previous_route: self.status.as_ref().and_then(|s| s.previous_route.clone()),
            ended: self.is_over(),
        }
    }
}
