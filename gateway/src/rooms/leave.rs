//! Leaving a call, or being made to.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

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
/// They are in the call no more: their media and their socket end, and the others are told. Somebody who was made to leave is not
/// let in again by a token from before.
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
    let own_role = match &caller {
        Caller::Member(claims) if claims.sub == user => Some(claims.role.as_str()),
        _ => None,
    };
    let action = match own_role {
        Some(_) => Action::Leave { user: user.clone(), reason: "left" },
        None => Action::Remove { user: user.clone() },
    };
    let permitted = if own_role.is_some() { Ok(()) } else { caller.may_direct(&id) };
    if let Err(problem) = permitted {
        gateway.note(RoomRef::from(&*room), caller.actor(), action, Some(problem.code()));
        return Err(problem);
    }
    let leaver = Leaver { user: &user, by: caller.member(), own_role };
    leaver.end_socket(&signal, &room).await?;
    if let Some(refused) = leaver.end_media(&gateway, &room, gateway.limits.client(peer.ip(), &headers)).await? {
        return Ok(refused);
    }
    gateway.note(RoomRef::from(&*room), caller.actor(), action, None);
    none()
}

/// Somebody who is to be in a call no more.
pub(super) struct Leaver<'a> {
    /// User id.
    pub(super) user: &'a str,
    /// Whoever in the call has them leave, themselves included; nobody: a backend.
    pub(super) by: Option<&'a str>,
    /// Their role, if they leave of their own will. Otherwise no token that they have by then lets them in again.
    pub(super) own_role: Option<&'a str>,
}

impl Leaver<'_> {
    /// Ends their part in the signalling, and answers whether they had one.
    pub(super) async fn end_socket(&self, signal: &Signal, room: &Arc<CallRoom>) -> Result<bool, Problem> {
        let reason = if self.own_role.is_some() { Parting::Left } else { Parting::Removed };
        signal.part(room, self.user, reason, self.by.map(str::to_owned)).await
    }

    /// Has the nodes of all epochs let go of them; answers what a node said that did not.
    pub(super) async fn end_media(
        &self,
        gateway: &Gateway,
        room: &CallRoom,
        client: IpAddr,
    ) -> Result<Option<Response>, Problem> {
        let routes = room.status.iter().flat_map(|s| s.route.iter().chain(&s.previous_route));
        let epochs: Vec<i64> = routes.filter(|route| route.node.is_some()).map(|route| route.epoch).collect();
        let told = epochs.into_iter().map(|epoch| self.tell_node(gateway, room, epoch, client));
        let told = futures::future::try_join_all(told).await?;
        Ok(told.into_iter().find(|answer| !answer.status().is_success()))
    }

    async fn tell_node(
        &self,
        gateway: &Gateway,
        room: &CallRoom,
        epoch: i64,
        client: IpAddr,
    ) -> Result<Response, Problem> {
        let (name, role) = self.own_role.map_or((SELF, "admin"), |role| (self.user, role));
        // The caller's own token is of one epoch, and may not be of this one.
        let token = gateway.pass(room, name, None, role, epoch)?.token;
        let (id, in_path) = (room.call_id(), utf8_percent_encode(self.user, NON_ALPHANUMERIC));
        let request = Request::post(format!("/api/rooms/{id}/participants/{in_path}/leave"))
            .header("authorization", format!("Bearer {token}"))
            .body(axum::body::Body::empty())
            .map_err(|_| Problem::new(Code::Invalid, "cannot be in a path").field("userId"))?;
        proxy::pass_on(gateway, &id, client, request).await
    }
}
