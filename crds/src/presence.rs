//! `status.presence`: what the gateway knows of the people in a call.
//!
//! It is the one part of the status that the gateway writes, by server-side apply of its own; the API server refuses it
//! everything else of the status. What is absent is not known, and not zero.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who is in a call, as the gateway sees it: all of its replicas together.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Presence {
    /// People who are in the call.
    #[schemars(range(min = 0))]
    pub participants: i32,

    /// When that number last changed.
    pub since: Time,

    /// Newest epoch for which every participant has said that media flows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub epoch: Option<i64>,

    /// The newest route that could not be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<FailedRoute>,

    /// Why the call needs a media node although it is small enough to do without. Absent when it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sfu_wanted: Option<SfuWanted>,
}

/// A route that some participant could not reach although it was tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailedRoute {
    /// Its epoch.
    #[schemars(range(min = 1))]
    pub epoch: i64,
    /// What went wrong, for people.
    #[schemars(length(max = 1024))]
    pub reason: String,
}

/// A call that needs a media node for another reason than its size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SfuWanted {
    /// Why.
    pub reason: SfuReason,
    /// Since when.
    pub since: Time,
}

/// Why a call needs a media node for another reason than its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SfuReason {
    /// A participant loses more packets than `topology.packetLossPercent`.
    PacketLoss,
    /// Two participants cannot reach each other.
    PeerConnectionFailed,
    /// Somebody asked for it.
    Requested,
    /// One that this version does not know, written by a newer one. It counts as `Requested`; never written.
    #[serde(other, skip_serializing)]
    #[schemars(skip)]
    Unknown,
}
