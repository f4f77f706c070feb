//! Ending and locking rooms.

use axum::{
    Json,
    extract::{Path, State},
    http::HeaderMap,
};
use callplane_crds::CallId;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{annotations, call_id, view::Room};
use crate::{Code, Gateway, Problem, access::Caller, body::Body, problem::Details, records::Action};

/// Whether only hosts may join.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LockRoom {
    locked: bool,
}

/// End a call
///
/// Participants are told, and the media node lets go. Again is the same.
#[utoipa::path(
    put, path = "/v1/rooms/{id}/end", tag = "rooms", security(("apiKey" = []), ("joinToken" = [])),
    params(("id" = String, Path, description = "`roomId`")),
    responses(
        (status = 200, description = "The room", body = Room),
        (status = "default", description = "A problem", body = Details, content_type = "application/problem+json"),
    )
)]
pub async fn end(
    State(gateway): State<Gateway>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Room>, Problem> {
    let (caller, id) = directed(&gateway, &headers, &id, &Action::End).await?;
    let ended = merge(&gateway, &id, &json!({"spec": {"ended": true}})).await;
    gateway.note_result(gateway.room_ref(&id), caller.actor(), Action::End, &ended);
    ended
}

/// Lock a room, or unlock it
///
/// Into a locked room only hosts are let. Who is in it stays.
#[utoipa::path(
    put, path = "/v1/rooms/{id}/lock", tag = "rooms", security(("apiKey" = []), ("joinToken" = [])),
    request_body = LockRoom, params(("id" = String, Path, description = "`roomId`")),
    responses(
        (status = 200, description = "The room", body = Room),
        (status = "default", description = "A problem", body = Details, content_type = "application/problem+json"),
    )
)]
pub async fn lock(
    State(gateway): State<Gateway>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Result<Body<LockRoom>, Problem>,
) -> Result<Json<Room>, Problem> {
    let (caller, id) = directed(&gateway, &headers, &id, &Action::Lock).await?;
    let Body(LockRoom { locked }) = body?;
    let (value, action) = if locked { (Value::from("true"), Action::Lock) } else { (Value::Null, Action::Unlock) };
    let annotations = json!({annotations::LOCKED: value, annotations::LOCKED_BY: Value::Null});
    let patched = merge(&gateway, &id, &json!({"metadata": {"annotations": annotations}})).await;
    gateway.note_result(gateway.room_ref(&id), caller.actor(), action, &patched);
    patched
}

/// The room that the path names and who wants to do `action` there, if they may.
pub(super) async fn directed(
    gateway: &Gateway,
    headers: &HeaderMap,
    id: &str,
    action: &Action,
) -> Result<(Caller, CallId), Problem> {
    let caller = Caller::of(gateway, headers)?;
    let id = call_id(id)?;
    let may = match (caller.may_direct(&id), &caller) {
        // It has to be this very room, and not an earlier one of its name.
        (Ok(()), Caller::Member(_)) => gateway.room(&id).await.and_then(|room| caller.is_for(&room)),
        (may, _) => may,
    };
    if may.is_err() {
        gateway.note_result(gateway.room_ref(&id), caller.actor(), action.clone(), &may);
    }
    may.map(|()| (caller, id))
}

async fn merge(gateway: &Gateway, id: &CallId, patch: &Value) -> Result<Json<Room>, Problem> {
    let patched = gateway.kube.merge(id, patch).await?;
    let room = patched.ok_or_else(|| Problem::new(Code::Conflict, "the room changed meanwhile"))?;
    Ok(Json(Room::from(&room)))
}
