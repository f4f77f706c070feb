//! What clients are answered and told, as typed objects.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::{
    member::{ChatMessage, Participant},
    state::{Missed, Seq},
};
use crate::{Problem, ice::IceServer};

/// What a client is answered that cannot be served: `{error: …}`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Refusal {
    error: Value,
    #[serde(skip)]
    is_nodes: bool,
}

impl Refusal {
    /// A problem of a media node, as it came.
    pub fn of_node(problem: Value) -> Self {
        Self { error: problem, is_nodes: true }
    }
}

impl Refusal {
    /// The stable code, where it is one of the gateway's own; `node` for a media node's.
    pub fn code(&self) -> &str {
        match self.is_nodes {
            true => "node",
            false => self.error["code"].as_str().unwrap_or_default(),
        }
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self { error: serde_json::to_value(&problem.details).unwrap_or_default(), is_nodes: false }
    }
}

/// An acknowledgement.
pub type Answer = Result<Value, Refusal>;

/// As a value of JSON.
pub fn value(answer: &impl Serialize) -> Value {
    serde_json::to_value(answer).unwrap_or_default()
}

/// Done, and nothing to say.
#[derive(Serialize)]
pub struct Done {}

/// A route, as far as clients need it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RouteView {
    /// Which.
    pub epoch: i64,
    /// `P2P` or `SFU`.
    pub mode: &'static str,
}

/// Answer to `refresh-token`, and the event `token`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ticket {
    /// Join token of the present epoch.
    pub token: String,
    /// When it ends.
    pub expires_at: Timestamp,
    /// ICE servers with credentials for this participant.
    pub ice_servers: Vec<IceServer>,
}

/// `call:joined`
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Joined<'a> {
    /// Call id.
    pub room_id: String,
    /// What to give `resume` after a drop.
    pub session: &'a str,
    /// The place of the last event that this answer includes.
    pub seq: &'a Seq,
    /// Nothing was lost meanwhile but what `missed` has.
    pub resumed: bool,
    /// What happened meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missed: Option<Vec<Missed>>,
    /// Oneself.
    #[serde(rename = "self")]
    pub own: &'a Participant,
    /// The others.
    pub participants: Vec<&'a Participant>,
    /// Where media flows.
    pub route: RouteView,
    /// Where it flows until all have moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_route: Option<RouteView>,
    /// The token of the route, its end, and ICE servers.
    #[serde(flatten)]
    pub ticket: Ticket,
    /// Where the SFU's API is.
    pub api_url: String,
    /// What the SFU can (mediasoup's `RtpCapabilities`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtp_capabilities: Option<&'a Value>,
    /// Whom one sends an offer.
    pub initiator: Vec<&'a str>,
    /// The chat's last lines.
    pub chat: Vec<&'a ChatMessage>,
    /// Only hosts are let in.
    pub locked: bool,
    /// How many may talk peer to peer.
    pub p2p_max_participants: i32,
}

/// `call:mode-switch`
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ModeSwitch<'a> {
    /// Of the route to connect to.
    #[serde(flatten)]
    pub route: RouteView,
    /// Why, as one word.
    pub reason: &'a str,
    /// The token of the route, its end, and ICE servers.
    #[serde(flatten)]
    pub ticket: Ticket,
    /// Where the SFU's API is.
    pub api_url: String,
    /// What the SFU can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtp_capabilities: Option<&'a Value>,
    /// Whom one sends an offer.
    pub initiator: Vec<&'a str>,
}

/// `call:mode-switched`
#[derive(Clone, Debug, Serialize)]
pub struct ModeSwitched {
    /// Of the route that was switched to.
    #[serde(flatten)]
    pub route: RouteView,
    /// Close the old route; otherwise stay on it.
    pub success: bool,
}

/// Answer to `chat`.
#[derive(Clone, Debug, Serialize)]
pub struct Written {
    /// The line's id.
    pub id: String,
    /// When it came in.
    pub at: Timestamp,
}

/// `call:muted`, `call:removed`
#[derive(Clone, Debug, Serialize)]
pub struct By<'a> {
    /// User id of who did it, where it was somebody in the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<&'a str>,
}

/// `call:locked`
#[derive(Clone, Debug, Serialize)]
pub struct Locked<'a> {
    /// Whether only hosts are let in.
    pub locked: bool,
    /// Who did it, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<&'a str>,
}

/// `call:ended`
#[derive(Clone, Debug, Serialize)]
pub struct Ended {
    /// `ended` or `deleted`.
    pub reason: &'static str,
}

/// A relayed offer or answer.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FromPeer<'a> {
    /// Who sent it.
    pub source_user_id: &'a str,
    /// The description.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sdp: Option<&'a str>,
    /// The candidate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub candidate: Option<&'a Value>,
    /// Of which epoch.
    pub epoch: i64,
}

/// A broadcast event: its data, and its place.
#[derive(Clone, Debug, Serialize)]
pub struct Placed<'a, T> {
    /// The data.
    #[serde(flatten)]
    pub data: &'a T,
    /// Its place.
    pub seq: &'a Seq,
}
