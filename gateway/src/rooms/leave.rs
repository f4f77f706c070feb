//! Leaving a call, or being made to.

use std::net::SocketAddr;

use axum::{
    Json,
    extract::{ConnectInfo, Path, State},
    http::{HeaderMap, Request, StatusCode},
    response::{IntoResponse, Response},
};
use callplane_operator::token::{self, Invitation};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{call_id, check_text, create::MAX_USER};
use crate::{
    Code, Gateway, Problem,
    access::{Caller, bearer},
    body::Body,
    problem::Details,
    proxy,
    records::{Action, RoomRef},
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
/// Their media ends at once. Their token does not: it would let them in again until it expires.
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
    let routes = room.status.iter().flat_map(|s| s.route.iter().chain(&s.previous_route));
    let Some(route) = routes.into_iter().find(|route| route.node.is_some()).filter(|_| !room.is_over()) else {
        // No media node has anybody in a call that runs on none.
        return Ok(Json(serde_json::json!({})).into_response());
    };
    let token = match &caller {
        Caller::Member(_) => bearer(&headers).unwrap_or_default().to_owned(),
        Caller::Backend(_) => {
            let (name, role, ttl) = (None, "admin".to_owned(), gateway.token_ttl);
            let invitation = Invitation { room: id.clone(), user: SELF.to_owned(), name, role, ttl };
            let uid = room.metadata.uid.as_deref().unwrap_or_default();
            let now = gateway.clock.now().wall;
            let signed = token::sign(&*gateway.signer.key()?, &invitation, uid, route.epoch, now);
            signed.map_err(|_| Problem::new(Code::NoSigningKey, "the key does not sign"))?
        }
    };
    let in_path = utf8_percent_encode(&user, NON_ALPHANUMERIC);
    let request = Request::post(format!("/api/rooms/{id}/participants/{in_path}/leave"))
        .header("authorization", format!("Bearer {token}"))
        .body(axum::body::Body::empty())
        .map_err(|_| Problem::new(Code::Invalid, "cannot be in a path").field("userId"))?;
    let client = gateway.limits.client(peer.ip(), &headers);
    let answer = proxy::pass_on(&gateway, &id, client, request).await?;
    let of_own_will = matches!(&caller, Caller::Member(claims) if claims.sub == user);
    let action = if of_own_will { Action::Leave { user, reason: "left" } } else { Action::Remove { user } };
    match answer.status() {
        status if status.is_success() => gateway.note(RoomRef::from(&*room), caller.actor(), action, None),
        StatusCode::FORBIDDEN => {
            gateway.note(RoomRef::from(&*room), caller.actor(), action, Some(Code::NotPermitted));
        }
        _ => {}
    }
    Ok(answer)
}
