//! What can be said: the Rust types of the `callplane.io/v1alpha1` API.
//!
//! No client and no runtime lives here, so every part (operator, media node, gateway, tests) can share
//! the same words. `make crds` renders the YAML in `crds/*.yaml` from these types.

#![allow(clippy::duplicated_attributes, reason = "printer columns repeat their keys, one column after the other")]

pub mod call_id;
pub mod callroom;
pub mod condition;
pub mod consent;
pub mod load;
pub mod medianode;
pub mod mediapool;
pub mod names;
pub mod presence;
pub mod schedule;
mod schema;
pub mod topology;

pub use call_id::CallId;
pub use callroom::{CallRoom, CallRoomSpec, CallRoomStatus, Route, RouteMode, RoutedRoom};
pub use medianode::{MediaNode, MediaNodeSpec, MediaNodeStatus};
pub use mediapool::{MediaPool, MediaPoolSpec, MediaPoolStatus};
pub use presence::Presence;
pub use schema::to_yaml;
pub use topology::{Topology, TopologyMode};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// API group of every kind.
pub const GROUP: &str = "callplane.io";

/// The definitions of every kind, in the order in which they are installed.
pub fn all() -> [CustomResourceDefinition; 3] {
    [CallRoom::crd(), MediaNode::crd(), MediaPool::crd()].map(schema::finished)
}
