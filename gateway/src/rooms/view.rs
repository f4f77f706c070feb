//! Reading rooms.

use axum::{
    Json,
    extract::{Path, Query, State},
    http::HeaderMap,
};
use callplane_crds::{CallRoom, RouteMode, callroom::Phase, condition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{annotations, call_id, consent};
use crate::{
    Code, Gateway, Problem,
    access::{Caller, Role},
    problem::Details,
};

/// Rooms in a page, by default and at most.
const PAGE: u32 = 100;
const LONGEST_PAGE: u32 = 500;

/// Where a call is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum RoomStatus {
    /// It cannot be joined yet.
    Scheduled,
    /// It can be joined, or could and will again in a moment.
    Active,
    /// It is over.
    Completed,
}

/// A room.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Room {
    /// `<namespace>.<name>` of the CallRoom.
    #[schema(example = "default.standup")]
    pub room_id: String,
    /// Where the call is in its life.
    pub status: RoomStatus,
    /// How media flows: `P2P` or `SFU`. Absent while there is no route.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "SFU")]
    pub mode: Option<String>,
    /// Counts the routes of the call from 1. Absent while there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 1)]
    pub epoch: Option<i64>,
    /// People in the call, as last reported; a few seconds old.
    #[schema(minimum = 0)]
    pub participants: i32,
    /// How many there may be.
    pub max_participants: i32,
    /// User id of the host, where one was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub host_id: Option<String>,
    /// Only hosts may join.
    pub locked: bool,
    /// Roles that may join.
    pub allowed_roles: Vec<Role>,
    /// Whether guests and participants need a password to join.
    pub password_required: bool,
    /// Whether consent is needed to join.
    pub consent_required: bool,
    /// What consent is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub consent: Option<ConsentAsked>,
    /// When the call is to begin. It can be joined from 10 minutes before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, format = DateTime, required = false)]
    pub scheduled_time: Option<Time>,
    /// When the room was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Option<Time>,
    /// When it could first be joined.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, format = DateTime, required = false)]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, format = DateTime, required = false)]
    pub ended_at: Option<Time>,
    /// Why it has no media node, as one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "NoCapacity")]
    pub reason: Option<String>,
}

/// What consent a room asks for.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ConsentAsked {
    /// What for.
    pub types: Vec<consent::Kind>,
    /// Version of the text to show.
    pub version: String,
}

impl From<&callplane_crds::consent::Consent> for ConsentAsked {
    fn from(asked: &callplane_crds::consent::Consent) -> Self {
        Self { types: consent::kinds(asked).flatten().collect(), version: asked.version.clone() }
    }
}

impl From<&CallRoom> for Room {
    fn from(room: &CallRoom) -> Self {
        let status = room.status.clone().unwrap_or_default();
        let started = status.started_at.is_some() || status.phase == Some(Phase::Ready);
        let placed = status.conditions.iter().find(|c| c.type_ == condition::room::PLACED && c.status == "False");
        Self {
            room_id: room.call_id().to_string(),
            status: match (room.is_over(), started) {
                (true, _) => RoomStatus::Completed,
                (false, true) => RoomStatus::Active,
                (false, false) => RoomStatus::Scheduled,
            },
            mode: status.route.as_ref().and_then(|route| mode(route.mode)),
            epoch: status.route.as_ref().map(|route| route.epoch),
            participants: status.participants.unwrap_or(0),
            max_participants: room.spec.max_participants,
            host_id: annotations::text(room, annotations::HOST_ID).map(str::to_owned),
            locked: annotations::is_locked(room),
            allowed_roles: annotations::allowed_roles(room),
            password_required: annotations::text(room, annotations::PASSWORD).is_some(),
            consent_required: consent::is_required(room),
            consent: room.spec.consent.as_ref().map(ConsentAsked::from),
            scheduled_time: room.spec.scheduled_time.clone(),
            created_at: room.metadata.creation_timestamp.clone(),
            started_at: status.started_at,
            ended_at: status.ended_at,
            reason: placed.filter(|_| !room.is_over()).map(|c| c.reason.clone()),
        }
    }
}

/// As clients are told it. Of a mode that only a newer version knows there is nothing to tell.
pub(super) fn mode(mode: RouteMode) -> Option<String> {
    match mode {
        RouteMode::P2p | RouteMode::Sfu => Some(mode.as_str().to_owned()),
        RouteMode::Unknown => None,
    }
}

/// A page of rooms.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RoomList {
    /// The rooms, by name.
    pub rooms: Vec<Room>,
    /// What to give as `continue` for the next page. Absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub r#continue: Option<String>,
}

/// Which page.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Page {
    /// Rooms in the page, 1 to 500; 100 by default.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
    /// `continue` of the page before.
    r#continue: Option<String>,
}

/// List the rooms of the namespace that rooms are created in
#[utoipa::path(
    get, path = "/v1/rooms", tag = "rooms", security(("apiKey" = [])), params(Page),
    responses(
        (status = 200, description = "The page", body = RoomList),
        (status = "default", description = "A problem", body = Details, content_type = "application/problem+json"),
    )
)]
pub async fn list(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    query: Result<Query<Page>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<RoomList>, Problem> {
    Caller::of(&gateway, &headers)?.backend()?;
    let Query(page) = query.map_err(|error| Problem::new(Code::Invalid, error.body_text()).field("query"))?;
    let limit = page.limit.unwrap_or(PAGE);
    if !(1..=LONGEST_PAGE).contains(&limit) {
        return Err(Problem::new(Code::Invalid, format!("a page has 1 to {LONGEST_PAGE} rooms")).field("limit"));
    }
    let list = gateway.kube.list(limit, page.r#continue.as_deref()).await?;
    Ok(Json(RoomList {
        rooms: list.items.iter().map(Room::from).collect(),
        r#continue: list.metadata.continue_.filter(|token| !token.is_empty()),
    }))
}

/// Read a room
#[utoipa::path(
    get, path = "/v1/rooms/{id}", tag = "rooms", security(("apiKey" = []), ("joinToken" = [])),
    params(("id" = String, Path, description = "`roomId`")),
    responses(
        (status = 200, description = "The room", body = Room),
        (status = "default", description = "A problem", body = Details, content_type = "application/problem+json"),
    )
)]
pub async fn read(
    State(gateway): State<Gateway>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Room>, Problem> {
    let caller = Caller::of(&gateway, &headers)?;
    let id = call_id(&id)?;
    caller.may_see(&id)?;
    let room = gateway.room(&id).await?;
    caller.is_for(&room)?;
    Ok(Json(Room::from(&*room)))
}
