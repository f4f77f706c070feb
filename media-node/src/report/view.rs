//! What a media node reads of the objects that it watches, and nothing else.
//!
//! The full types refuse fields that they do not know. A media node must not: during an upgrade the CRDs
//! are newer than nodes which carry calls for hours yet, and a field that means nothing to them must not
//! blind them. Reading little also keeps a watch cache of many rooms small.

use std::borrow::Cow;

use callplane_crds::{CallId, CallRoom, MediaNode, medianode::Capacity};
use k8s_openapi::{
    NamespaceResourceScope,
    apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta},
};
use kube::Resource;
use serde::Deserialize;

use crate::rooms::MediaRules;

/// A CallRoom, as far as the nodes of its routes care.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct RoomView {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: RoomSpec,
    #[serde(default)]
    status: RoomStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RoomSpec {
    max_participants: i32,
    ended: bool,
    media: MediaRules,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RoomStatus {
    phase: String,
    route: Option<RouteView>,
    previous_route: Option<RouteView>,
}

/// A route without its history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RouteView {
    /// Counts the routes of the room.
    pub epoch: i64,
    /// Name of the node that serves it; empty for a route without a node.
    pub node: String,
}

/// A room at one moment of its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// Namespace and name.
    pub id: CallId,
    /// Tells it from a later one of the same name.
    pub uid: String,
    /// `metadata.resourceVersion`. Larger is later (KEP-5504); 0 when the server's are no numbers.
    pub version: u64,
    /// `spec.maxParticipants`.
    pub max_participants: i32,
    /// `spec.media`.
    pub rules: MediaRules,
    /// Where media flows.
    pub route: Option<RouteView>,
    /// Where it flowed before.
    pub previous_route: Option<RouteView>,
    /// It ended, is to end, or is being deleted.
    pub over: bool,
}

impl From<RoomView> for Room {
    fn from(view: RoomView) -> Self {
        let RoomView { metadata, spec, status } = view;
        let version = version(&metadata);
        Self {
            over: spec.ended || status.phase == "Ended" || metadata.deletion_timestamp.is_some(),
            id: CallId::new(metadata.namespace.unwrap_or_default(), metadata.name.unwrap_or_default()),
            uid: metadata.uid.unwrap_or_default(),
            version,
            max_participants: spec.max_participants,
            rules: spec.media,
            route: status.route,
            previous_route: status.previous_route,
        }
    }
}

impl Room {
    /// The epoch of it that `node` is to serve. While clients move from one of the node's routes to the
    /// next the newer one counts: those who are in already stay in.
    pub fn epoch_on(&self, node: &str) -> Option<i64> {
        if self.over {
            return None;
        }
        let on = |route: &Option<RouteView>| route.as_ref().filter(|r| r.node == node).map(|r| r.epoch);
        on(&self.route).or_else(|| on(&self.previous_route))
    }
}

/// A MediaNode, as far as the node itself cares.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct NodeView {
    /// Identity, generation, version.
    pub metadata: ObjectMeta,
    #[serde(default)]
    spec: NodeSpec,
    #[serde(default)]
    status: NodeStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeSpec {
    cordoned: bool,
    capacity: NodeCapacity,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct NodeCapacity {
    rooms: Option<i32>,
    participants: Option<i32>,
    streams: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct NodeStatus {
    conditions: Vec<Condition>,
}

impl NodeView {
    /// `metadata.uid`.
    pub fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    /// `metadata.resourceVersion`, see [`Room::version`].
    pub fn version(&self) -> u64 {
        version(&self.metadata)
    }

    /// Takes no further room.
    pub fn cordoned(&self) -> bool {
        self.spec.cordoned
    }

    /// What it can carry, with the defaults of the API where it says nothing.
    pub fn capacity(&self) -> Capacity {
        let default = Capacity::default();
        let NodeCapacity { rooms, participants, streams } = &self.spec.capacity;
        Capacity {
            rooms: rooms.unwrap_or(default.rooms),
            participants: participants.unwrap_or(default.participants),
            streams: streams.unwrap_or(default.streams),
        }
    }

    /// What stands in the status, whoever wrote it.
    pub fn conditions(&self) -> &[Condition] {
        &self.status.conditions
    }
}

/// `metadata.resourceVersion` as a number.
pub fn version(metadata: &ObjectMeta) -> u64 {
    metadata.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or_default()
}

macro_rules! view_of {
    ($view:ident, $kind:ident) => {
        impl Resource for $view {
            type DynamicType = ();
            type Scope = NamespaceResourceScope;

            fn kind((): &()) -> Cow<'_, str> {
                $kind::kind(&())
            }
            fn group((): &()) -> Cow<'_, str> {
                $kind::group(&())
            }
            fn version((): &()) -> Cow<'_, str> {
                $kind::version(&())
            }
            fn plural((): &()) -> Cow<'_, str> {
                $kind::plural(&())
            }
            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }
            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

view_of!(RoomView, CallRoom);
view_of!(NodeView, MediaNode);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_of_a_newer_api_is_read_as_far_as_it_is_understood() {
        let text = r#"{
            "apiVersion": "callplane.io/v1alpha1", "kind": "CallRoom",
            "metadata": {"namespace": "team", "name": "standup", "uid": "u1", "resourceVersion": "17"},
            "spec": {"maxParticipants": 8, "ended": false, "media": {"lastN": 9, "simulcast": false, "smell": 1}, "hologram": {"depth": 3}},
            "status": {"phase": "Levitating",
                "route": {"epoch": 2, "mode": "Telepathy", "node": "mn-b", "reason": "Drain", "since": "soon"},
                "previousRoute": {"epoch": 1, "mode": "SFU", "node": "mn-a", "reason": "Placed", "since": "2026-01-01T00:00:00Z"}}
        }"#;
        let room = Room::from(serde_json::from_str::<RoomView>(text).unwrap());
        assert_eq!(room.id, CallId::new("team", "standup"));
        assert_eq!((room.version, room.max_participants, room.over), (17, 8, false));
        assert!(room.rules.single_encoding && room.rules.limits.last_n == Some(9));
        assert_eq!([room.epoch_on("mn-a"), room.epoch_on("mn-b"), room.epoch_on("mn-c")], [Some(1), Some(2), None]);
    }

    #[test]
    fn a_route_without_a_node_is_nobodys() {
        let text = r#"{
            "metadata": {"namespace": "team", "name": "standup", "uid": "u1", "resourceVersion": "17"},
            "spec": {"maxParticipants": 8, "topology": {"mode": "Auto"}},
            "status": {"phase": "Ready", "presence": {"participants": 2, "since": "2026-01-01T00:00:00Z"},
                "route": {"epoch": 3, "mode": "P2P", "reason": "Shrunk", "since": "2026-01-01T00:00:00Z"},
                "previousRoute": {"epoch": 2, "mode": "SFU", "node": "mn-a", "reason": "Grown", "since": "2026-01-01T00:00:00Z"}}
        }"#;
        let room = Room::from(serde_json::from_str::<RoomView>(text).unwrap());
        assert_eq!(["mn-a", "mn-b"].map(|node| room.epoch_on(node)), [Some(2), None], "the old side serves its epoch");
    }

    #[test]
    fn the_view_and_the_full_type_agree() {
        let text = r#"{
            "apiVersion": "callplane.io/v1alpha1", "kind": "CallRoom",
            "metadata": {"namespace": "team", "name": "standup", "uid": "u1"},
            "spec": {"maxParticipants": 8, "ended": ENDED},
            "status": {"phase": "PHASE", "route": {"epoch": 1, "mode": "SFU", "node": "mn-a", "reason": "Placed", "since": "2026-01-01T00:00:00Z"}}
        }"#;
        for (ended, phase) in [("false", "Ready"), ("true", "Ready"), ("false", "Ended"), ("false", "Pending")] {
            let text = text.replace("ENDED", ended).replace("PHASE", phase);
            let view = Room::from(serde_json::from_str::<RoomView>(&text).unwrap());
            let full = serde_json::from_str::<CallRoom>(&text).unwrap().routed();
            assert_eq!(
                (view.id, view.uid, view.max_participants, view.over),
                (full.id, full.uid, full.max_participants, full.ended)
            );
            assert_eq!(
                view.route.map(|r| (r.epoch, r.node)),
                full.route.map(|r| (r.epoch, r.node.unwrap_or_default()))
            );
        }
    }
}
