//! Leaving a call, or being made to.

use std::net::{IpAddr, SocketAddr};

use axum::{
    Extension, Json,
    extract::{ConnectInfo, Path, State},
    http::{HeaderMap, Request},
    response::{IntoResponse, Response},
};
use callplane_crds::CallRoom;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{call_id, check_text, create::MAX_USER};
use crate::{
    Code, Gateway, Problem,
    access::Caller,
    body::Body,
    problem::Details,
    proxy,
    records::{Action, RoomRef},
    signal::{Parting, Signal},
};

/// As whom the gateway speaks to media nodes.
const SELF: &str = "callplane-gateway";

/// Who leaves.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LeaveRoom {
    /// User id. Needed with an API key; with a join token its own by default, another's for hosts.
    #[serde(default)]
    #[schema(nullable = false, min_length = 1, max_length = 128)]
    user_id: Option<String>,
}

/// Leave a call, or make somebody leave
///
/// They are in the call no more: their media ends, and the others are told. Somebody who was made to leave is told so, and is
/// not let in again by a token from before.
#[utoipa::path(
    post, path = "/v1/rooms/{id}/leave", tag = "rooms", security(("apiKey" = []), ("joinToken" = [])),
    request_body = LeaveRoom, params(("id" = String, Path, description = "`roomId`")),
    responses(
        (status = 200, description = "They are not in the call", body = Object),
        (status = "default", description = "A problem", body = Details, content_type = "application/problem+json"),
    )
)]
pub async fn leave(
    State(gateway): State<Gateway>,
    Extension(signal): Extension<Signal>,
    Path(id): Path<String>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Result<Body<LeaveRoom>, Problem>,
) -> Result<Response, Problem> {
    let caller = Caller::of(&gateway, &headers)?;
    let id = call_id(&id)?;
    caller.may_see(&id)?;
    let Body(request) = body?;
    let room = gateway.room(&id).await?;
    caller.is_for(&room)?;
    let user = match (&caller, request.user_id) {
        (_, Some(user)) => user,
        (Caller::Member(claims), None) => claims.sub.clone(),
        (Caller::Backend(_), None) => {
            return Err(Problem::new(Code::Invalid, "is needed with an API key").field("userId"));
        }
    };
    check_text("userId", &user, MAX_USER)?;
    let none = || Ok(Json(serde_json::json!({})).into_response());
    if room.is_over() {
        return none();
    }
    let of_own_will = matches!(&caller, Caller::Member(claims) if claims.sub == user);
    let action = match of_own_will {
        true => Action::Leave { user: user.clone(), reason: "left" },
        false => Action::Remove { user: user.clone() },
    };
    let permitted = if of_own_will { Ok(()) } else { caller.may_direct(&id) };
    if let Err(problem) = permitted {
        gateway.note(RoomRef::from(&*room), caller.actor(), action, Some(problem.code()));
        return Err(problem);
    }
    let reason = if of_own_will { Parting::Left } else { Parting::Removed };
    let by = match &caller {
        Caller::Member(claims) if !of_own_will => Some(claims.sub.clone()),
        _ => None,
    };
    signal.part(&room, &user, reason, by).await?;
    let client = gateway.limits.client(peer.ip(), &headers);
    let told = epochs(&room).map(|epoch| tell_node(&gateway, &room, &caller, &user, epoch, client));
    let mut told = futures::future::try_join_all(told).await?;
    if let Some(at) = told.iter().position(|answer| !answer.status().is_success()) {
        return Ok(told.swap_remove(at));
    }
    gateway.note(RoomRef::from(&*room), caller.actor(), action, None);
    none()
}

/// The epochs of a room that media nodes serve.
fn epochs(room: &CallRoom) -> impl Iterator<Item = i64> {
    let routes = room.status.iter().flat_map(|s| s.route.iter().chain(&s.previous_route));
    routes.filter(|route| route.node.is_some()).map(|route| route.epoch)
}

/// Has the node of an epoch let go of `user`, in the name of `caller`.
async fn tell_node(
    gateway: &Gateway,
    room: &CallRoom,
    caller: &Caller,
    user: &str,
    epoch: i64,
    client: IpAddr,
) -> Result<Response, Problem> {
    let (name, role) = match caller {
        Caller::Member(claims) => (&*claims.sub, &*claims.role),
        Caller::Backend(_) => (SELF, "admin"),
    };
    // The caller's own token is of one epoch, and may not be of this one.
    let token = gateway.pass(room, name, None, role, epoch)?.token;
    let (id, in_path) = (room.call_id(), utf8_percent_encode(user, NON_ALPHANUMERIC));
    let request = Request::post(format!("/api/rooms/{id}/participants/{in_path}/leave"))
        .header("authorization", format!("Bearer {token}"))
        .body(axum::body::Body::empty())
        .map_err(|_| Problem::new(Code::Invalid, "cannot be in a path").field("userId"))?;
    proxy::pass_on(gateway, &id, client, request).await
}
