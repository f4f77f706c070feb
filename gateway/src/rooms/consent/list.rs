//! Showing the answers that people gave.

use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::HeaderMap,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    Code, Gateway, Problem,
    access::Caller,
    problem::Details,
    records::{Action, Consent},
    rooms::manage::directed,
};

/// Consents in a page: by default, at most.
const PAGE: u32 = 100;
const LONGEST_PAGE: u32 = 500;

/// Consents of a room.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ConsentList {
    /// In the order that they were given.
    consents: Vec<ConsentView>,
    /// What to give as `continue` for the next page. Absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    r#continue: Option<String>,
}

/// An answer as it was kept.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConsentView {
    /// Who answered.
    user_id: String,
    /// What was asked for.
    #[schema(example = "recording_ai")]
    consent_type: String,
    /// Version of the text.
    version: String,
    /// `accepted` or `declined`.
    #[schema(example = "accepted")]
    status: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// Who told: `backend:<name>`, `user:<id>` or `link:<id>`.
    #[schema(example = "backend:shop")]
    given_by: String,
    /// `metadata.uid` of the CallRoom: a later room of the same name is another one.
    room_uid: String,
}

/// Which page.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ConsentPage {
    /// Consents in the page, 1 to 500; 100 by default.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
    /// `continue` of the page before.
    r#continue: Option<String>,
}

/// List the consents of a room
///
/// With an API key those of every room that had this id, also after it was deleted; with a host's join token those of theirs.
#[utoipa::path(
    get, path = "/v1/rooms/{id}/consents", tag = "consents", security(("apiKey" = []), ("joinToken" = [])),
    params(("id" = String, Path, description = "`roomId`"), ConsentPage),
    responses(
        (status = 200, description = "The page", body = ConsentList),
        (status = "default", description = "A problem", body = Details, content_type = "application/problem+json"),
    )
)]
pub async fn consents(
    State(gateway): State<Gateway>,
    Path(id): Path<String>,
    headers: HeaderMap,
    query: Result<Query<ConsentPage>, QueryRejection>,
) -> Result<Json<ConsentList>, Problem> {
    let (caller, id) = directed(&gateway, &headers, &id, &Action::ReadConsents).await?;
    let Query(page) = query.map_err(|error| Problem::new(Code::Invalid, error.body_text()).field("query"))?;
    let limit = page.limit.unwrap_or(PAGE);
    if !(1..=LONGEST_PAGE).contains(&limit) {
        return Err(Problem::new(Code::Invalid, format!("a page has 1 to {LONGEST_PAGE} consents")).field("limit"));
    }
    let begins = page.r#continue.as_deref().map(place).transpose()?.unwrap_or_default();
    let uid = match &caller {
        Caller::Backend(_) => None,
        Caller::Member(claims) => Some(claims.room_uid.as_str()),
    };
    // One more than the page tells whether there is another.
    let mut found = gateway.records.consents(&id, uid, (begins.0, &begins.1), limit + 1).await?;
    let more = found.len() > limit as usize;
    found.truncate(limit as usize);
    gateway.note(gateway.room_ref(&id), caller.actor(), Action::ReadConsents, None);
    let r#continue = found.last().filter(|_| more).map(|last| format!("{}-{}", last.at.as_millisecond(), last.id));
    Ok(Json(ConsentList { consents: found.into_iter().map(ConsentView::from).collect(), r#continue }))
}

/// Where a page begins: after this time and id.
fn place(text: &str) -> Result<(i64, String), Problem> {
    let parts = text.split_once('-').and_then(|(at, id)| Some((at.parse().ok()?, id)));
    let is_id = |id: &str| id.len() == 20 && id.bytes().all(|b| b.is_ascii_hexdigit());
    let place = parts.filter(|(at, id): &(i64, _)| *at >= 0 && is_id(id));
    let (at, id) =
        place.ok_or_else(|| Problem::new(Code::Invalid, "this is none that a list answered with").field("continue"))?;
    Ok((at, id.to_owned()))
}

impl From<Consent> for ConsentView {
    fn from(consent: Consent) -> Self {
        Self {
            user_id: consent.user,
            consent_type: consent.consent_type,
            version: consent.version,
            status: consent.status,
            at: consent.at,
            given_by: consent.given_by,
            room_uid: consent.room_uid,
        }
    }
}
