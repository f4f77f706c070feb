//! Share links: a way into a room for people whom no backend knows.

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use callplane_crds::CallId;
use callplane_operator::token::LONGEST_LINK as LONGEST;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::{annotations, ended, manage::directed};
use crate::{
    Code, Gateway, Problem,
    access::{self, LinkClaims, LinkId, MAX_REVOKED, Role},
    body::Body,
    problem::Details,
    records::{Action, RoomRef},
};

/// Life of a link in seconds: at least, and by default.
const SHORTEST: u32 = 60;
const USUAL: u32 = 86_400;
/// Tries to write a revocation while others write to the room, too.
const TRIES: usize = 5;

/// A share link to make.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateLink {
    /// What those who come by it are: `guest` by default, or `participant`.
    #[serde(default)]
    #[schema(nullable = false)]
    role: Option<Role>,
    /// How long it is good for, 60 to 2592000; a day by default.
    #[serde(default)]
    #[schema(nullable = false, minimum = 60, maximum = 2_592_000)]
    expires_in_seconds: Option<u32>,
}

/// A share link.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShareLink {
    /// Id by which it is revoked.
    #[schema(example = "1795348381-8f2c91d06b7a44e1")]
    link_id: String,
    /// What to give `/join` as `linkToken`. Cannot be read again.
    link_token: String,
    /// What those who come by it are.
    role: Role,
    /// When it ends.
    #[schema(value_type = String, format = DateTime)]
    expires_at: jiff::Timestamp,
}

/// Make a share link
///
/// Everybody who has it may join, each under a user id of their own, until it ends or is revoked.
#[utoipa::path(
    post, path = "/v1/rooms/{id}/links", tag = "links", security(("apiKey" = []), ("joinToken" = [])),
    request_body = CreateLink, params(("id" = String, Path, description = "`roomId`")),
    responses(
        (status = 201, description = "The link", body = ShareLink),
        (status = "default", description = "A problem", body = Details, content_type = "application/problem+json"),
    )
)]
pub async fn create_link(
    State(gateway): State<Gateway>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Result<Body<CreateLink>, Problem>,
) -> Result<Response, Problem> {
    let (caller, id) = directed(&gateway, &headers, &id, &Action::CreateLink { link: String::new() }).await?;
    let Body(request) = body?;
    let role = request.role.unwrap_or(Role::Guest);
    if role == Role::Host {
        return Err(Problem::new(Code::Invalid, "nobody becomes host by a link").field("role"));
    }
    let life = request.expires_in_seconds.unwrap_or(USUAL);
    if !(SHORTEST..=LONGEST).contains(&life) {
        let problem = Problem::new(Code::Invalid, format!("is {SHORTEST} to {LONGEST}"));
        return Err(problem.field("expiresInSeconds"));
    }
    let room = gateway.room(&id).await?;
    if room.is_over() {
        return Err(ended(&room));
    }
    let mut chance = [0; 8];
    aws_lc_rs::rand::fill(&mut chance).map_err(|_| Problem::new(Code::Busy, "there is no randomness"))?;
    let now = gateway.clock.now().wall;
    let link = LinkId::new(now.as_second() + i64::from(life), chance);
    let expires_at = jiff::Timestamp::from_second(link.expires()).unwrap_or(now);
    let uid = room.metadata.uid.clone().unwrap_or_default();
    let claims = LinkClaims::new(&id, uid, role, link.clone(), now.as_second());
    let made = ShareLink { link_id: link.to_string(), link_token: gateway.signer.sign(&claims)?, role, expires_at };
    gateway.note(RoomRef::from(&*room), caller.actor(), Action::CreateLink { link: link.to_string() }, None);
    let mut response = (StatusCode::CREATED, Json(made)).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Revoke a share link
///
/// Nobody comes in by it any more. Who did stays; tokens that were given for it last until they end. Again is the same.
#[utoipa::path(
    delete, path = "/v1/rooms/{id}/links/{linkId}", tag = "links", security(("apiKey" = []), ("joinToken" = [])),
    params(("id" = String, Path, description = "`roomId`"), ("linkId" = String, Path, description = "`linkId`")),
    responses(
        (status = 204, description = "Revoked"),
        (status = "default", description = "A problem", body = Details, content_type = "application/problem+json"),
    )
)]
pub async fn revoke_link(
    State(gateway): State<Gateway>,
    Path((id, link)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let action = Action::RevokeLink { link: link.clone() };
    let (caller, id) = directed(&gateway, &headers, &id, &action).await?;
    let link: LinkId =
        link.parse().map_err(|()| Problem::new(Code::Invalid, "is no id of a share link").field("linkId"))?;
    let revoked = write_revocation(&gateway, &id, &link).await;
    gateway.note_result(gateway.room_ref(&id), caller.actor(), action, &revoked);
    revoked.map(|()| StatusCode::NO_CONTENT)
}

async fn write_revocation(gateway: &Gateway, id: &CallId, link: &LinkId) -> Result<(), Problem> {
    for _ in 0..TRIES {
        let room = gateway.kube.room(id).await?;
        let before = annotations::text(&room, annotations::REVOKED_LINKS).unwrap_or_default();
        let now = gateway.clock.now().wall.as_second();
        let after = access::revoke(before, link, now).ok_or_else(|| {
            let detail =
                format!("{MAX_REVOKED} links of this room are revoked and have not ended: lock the room instead");
            Problem::new(Code::TooMany, detail)
        })?;
        if after == before {
            return Ok(());
        }
        let patch = json!({"metadata": {
            "resourceVersion": room.metadata.resource_version,
            "annotations": {annotations::REVOKED_LINKS: after},
        }});
        if gateway.kube.merge(id, &patch).await?.is_some() {
            return Ok(());
        }
    }
    Err(Problem::new(Code::Conflict, "others change the room at the same time: try again"))
}
