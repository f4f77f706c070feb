//! Giving consent, or not.

use std::net::SocketAddr;

use axum::{
    Extension, Json,
    extract::{ConnectInfo, State},
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use callplane_crds::{CallId, consent::Consent as Asked, names::TOKEN_ISSUER};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Answer, Kind, is_required, kinds};
use crate::{
    Code, Gateway, Problem,
    access::{CONSENT_AUDIENCE, Caller, ConsentClaims, LinkClaims},
    body::Body,
    problem::Details,
    records::{Action, Actor, Consent, RoomRef},
    rooms::{
        call_id, check_text,
        create::{MAX_USER, chance},
        ended,
        join::{GUEST_PREFIX, check_link, link_of, reserved},
        leave::Leaver,
    },
    signal::Signal,
};

/// Life of a consent token in seconds: from the question to the join.
const TOKEN_TTL: i64 = 600;

/// An answer to the question for consent.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GiveConsent {
    /// `roomId` of the call.
    #[schema(example = "default.standup")]
    meeting_id: String,
    /// What was asked for.
    consent_type: Kind,
    /// What was answered.
    status: Answer,
    /// Version of the text that they were shown; the room's present one by default. Refused if that is another one by now.
    #[serde(default)]
    #[schema(nullable = false, min_length = 1, max_length = 64)]
    version: Option<String>,
    /// Who answered: needed with an API key, and else who bears the token.
    #[serde(default)]
    #[schema(nullable = false, min_length = 1, max_length = 128, example = "bob")]
    user_id: Option<String>,
    /// Token of a share link, instead of an API key or a join token.
    #[serde(default)]
    #[schema(nullable = false)]
    link_token: Option<String>,
}

/// An answer that is kept.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GivenConsent {
    /// What to give `/join` as `consentToken`. Absent if the answer was no.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    consent_token: Option<String>,
    /// When the token ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, format = DateTime, required = false)]
    expires_at: Option<Timestamp>,
    /// Who answered. Who came by a link is given this user id, and has it in the call with the token.
    user_id: String,
    /// Version of the text that was asked with, by the room.
    version: String,
}

/// Whose answer it is, and who tells.
struct Witness {
    user: String,
    by: Actor,
    /// The link that they came by.
    link: Option<LinkClaims>,
    /// Who asks, where no link was given.
    caller: Option<Caller>,
}

/// Consent, or decline
///
/// Is kept with the version of the room's text and the time before it is answered. Of the answers that somebody gave all are
/// kept, and the last one counts: who declines in a call that requires consent leaves it.
#[utoipa::path(
    post, path = "/v1/users/consent", tag = "consents", security(("apiKey" = []), ("joinToken" = []), ()),
    request_body = GiveConsent,
    responses(
        (status = 200, description = "The answer is kept", body = GivenConsent),
        (status = "default", description = "A problem", body = Details, content_type = "application/problem+json"),
    )
)]
pub async fn give_consent(
    State(gateway): State<Gateway>,
    Extension(signal): Extension<Signal>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Result<Body<GiveConsent>, Problem>,
) -> Result<Response, Problem> {
    let Body(request) = body.map_err(|problem| Caller::refusal(&gateway, &headers, problem))?;
    let id = call_id(&request.meeting_id).map_err(|problem| problem.field("meetingId"))?;
    let witness = who(&gateway, &headers, &id, &request)?;
    let room = gateway.room(&id).await?;
    if let Some(caller) = &witness.caller {
        caller.is_for(&room)?;
    }
    if room.is_over() {
        return Err(ended(&room));
    }
    if let Some(link) = &witness.link {
        check_link(&gateway, &room, link)?;
    }
    let asked = asked(room.spec.consent.as_ref(), &request)?;
    let Witness { user, by, link, caller } = witness;
    let room_uid = room.metadata.uid.clone().unwrap_or_default();
    let consent = Consent {
        id: chance()?,
        at: gateway.clock.now().wall,
        room_uid,
        user,
        consent_type: request.consent_type.as_str().to_owned(),
        version: asked.version.clone(),
        status: request.status.as_str().to_owned(),
        given_by: by.to_string(),
    };
    gateway.records.add_consent(&id, &consent).await?;
    gateway.note(RoomRef::from(&*room), by.clone(), Action::Consent { user: consent.user.clone() }, None);
    let proof = match (request.status, caller) {
        (Answer::Accepted, _) => Some(proof(&gateway, &id, &consent, link)?),
        // Whoever has come by a link in this very moment is in no call.
        (Answer::Declined, Some(caller)) if is_required(&room) => {
            let leaver = Leaver { user: &consent.user, by: caller.member(), own_role: None };
            let client = gateway.limits.client(peer.ip(), &headers);
            if leaver.end_socket(&signal, &room).await? {
                gateway.note(RoomRef::from(&*room), by, Action::Remove { user: consent.user.clone() }, None);
            }
            // The answer is kept, and counts, all the same.
            if !matches!(leaver.end_media(&gateway, &room, client).await, Ok(None)) {
                tracing::warn!("a media node was not told that somebody took back their consent");
            }
            None
        }
        (Answer::Declined, _) => None,
    };
    let (consent_token, expires_at) = proof.unzip();
    let given = GivenConsent { expires_at, consent_token, user_id: consent.user, version: consent.version };
    let mut response = Json(given).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// What the room asks, if it is what was answered.
fn asked<'a>(asked: Option<&'a Asked>, request: &GiveConsent) -> Result<&'a Asked, Problem> {
    let is_of_room = |asked: &&Asked| kinds(asked).any(|wanted| wanted == Some(request.consent_type));
    let asked = asked.filter(is_of_room);
    let asked = asked
        .ok_or_else(|| Problem::new(Code::Invalid, "the room does not ask for this consent").field("consentType"))?;
    match &request.version {
        Some(shown) if *shown != asked.version => {
            let detail = format!("the room asks in version {:?} by now: ask with that one", asked.version);
            Err(Problem::new(Code::Conflict, detail).field("version"))
        }
        _ => Ok(asked),
    }
}

/// The token for an answer that was kept, and when it ends.
fn proof(
    gateway: &Gateway,
    id: &CallId,
    consent: &Consent,
    link: Option<LinkClaims>,
) -> Result<(String, Timestamp), Problem> {
    let now = consent.at.as_second();
    let expires = Timestamp::from_second(now + TOKEN_TTL).unwrap_or(consent.at);
    let token = gateway.signer.sign(&ConsentClaims {
        iss: TOKEN_ISSUER.to_owned(),
        aud: CONSENT_AUDIENCE.to_owned(),
        sub: consent.user.clone(),
        room_id: id.to_string(),
        room_uid: consent.room_uid.clone(),
        consent_type: consent.consent_type.clone(),
        version: consent.version.clone(),
        link: link.map(|link| link.jti),
        iat: now,
        exp: expires.as_second(),
    })?;
    Ok((token, expires))
}

/// Whose answer it is, who tells, and by which link if by one.
fn who(gateway: &Gateway, headers: &HeaderMap, id: &CallId, request: &GiveConsent) -> Result<Witness, Problem> {
    let follows = || Problem::new(Code::Invalid, "follows from the token: leave it out").field("userId");
    if let Some(token) = &request.link_token {
        let link = link_of(gateway, token, id)?;
        if request.user_id.is_some() {
            return Err(follows());
        }
        let (user, by) = (format!("{GUEST_PREFIX}{}", chance()?), Actor::Link(link.jti.to_string()));
        return Ok(Witness { user, by, link: Some(link), caller: None });
    }
    let caller = Caller::of(gateway, headers)?;
    caller.may_see(id)?;
    let user = match (&caller, &request.user_id) {
        (Caller::Member(_), Some(_)) => return Err(follows()),
        (Caller::Member(claims), None) => claims.sub.clone(),
        (Caller::Backend(_), None) => {
            return Err(Problem::new(Code::Invalid, "is needed with an API key").field("userId"));
        }
        (Caller::Backend(_), Some(user)) if user.starts_with(GUEST_PREFIX) => return Err(reserved("userId")),
        (Caller::Backend(_), Some(user)) => user.clone(),
    };
    check_text("userId", &user, MAX_USER)?;
    Ok(Witness { user, by: caller.actor(), link: None, caller: Some(caller) })
}
