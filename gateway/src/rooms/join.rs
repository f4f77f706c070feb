//! Joining: who may come in as what, and the token for it.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    Extension, Json,
    extract::{ConnectInfo, Path, State},
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use callplane_crds::{CallId, CallRoom, Route};
use callplane_operator::token::{self, Invitation};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    annotations, call_id, check_text, consent,
    create::{MAX_USER, chance},
    ended, not_ready, view,
};
use crate::{
    Code, Gateway, Problem,
    access::{self, Caller, ConsentClaims, LINK_AUDIENCE, LinkClaims, Password, Role},
    body::Body,
    ice::IceServer,
    limits::Guesser,
    problem::Details,
    records::{Action, Actor, RoomRef},
    signal::Signal,
};

/// Longest name to show, as in tokens.
const MAX_NAME: usize = 256;
/// User ids of people who came by a link begin with this, and nobody else's do: a guest cannot take somebody's place.
pub(super) const GUEST_PREFIX: &str = "guest-";

/// Who wants to join.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JoinRoom {
    /// User id, unique in the room: 1 to 128 bytes. Needed with an API key; who comes by a link is given one.
    #[serde(default)]
    #[schema(nullable = false, min_length = 1, max_length = 128, example = "bob")]
    user_id: Option<String>,
    /// Name to show: 1 to 256 bytes.
    #[serde(default)]
    #[schema(nullable = false, min_length = 1, max_length = 256, example = "Bob")]
    display_name: Option<String>,
    /// Part in the call, with an API key only: `host` for the room's host and `participant` for others by default.
    #[serde(default)]
    #[schema(nullable = false)]
    role: Option<Role>,
    /// Token of a share link, instead of an API key.
    #[serde(default)]
    #[schema(nullable = false)]
    link_token: Option<String>,
    /// Password of the room, where `passwordRequired` says so; hosts need none.
    #[serde(default)]
    #[schema(value_type = String, required = false, min_length = 1, max_length = 128)]
    password: Option<Password>,
    /// What `/v1/users/consent` answered with, where `consentRequired` says so. Hosts need it, too.
    #[serde(default)]
    #[schema(nullable = false)]
    consent_token: Option<String>,
}

/// The way into a call.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JoinedRoom {
    /// `<namespace>.<name>` of the CallRoom.
    #[schema(example = "default.standup")]
    room_id: String,
    /// Join token: the bearer token of every request under `apiUrl`.
    token: String,
    /// When the token ends.
    #[schema(value_type = String, format = DateTime)]
    expires_at: jiff::Timestamp,
    /// User id in the call.
    user_id: String,
    /// Part in the call.
    role: Role,
    /// The route that the token is for.
    route: RouteView,
    /// Where the room's API is.
    #[schema(example = "https://calls.example.org/api/rooms/default.standup")]
    api_url: String,
    /// ICE servers with credentials for this person. Empty: peers and media nodes are reached directly.
    ice_servers: Vec<IceServer>,
}

/// Where a call's media flows, as far as clients need it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RouteView {
    /// Counts the routes of the call from 1.
    #[schema(minimum = 1)]
    epoch: i64,
    /// How media flows: `P2P` or `SFU`.
    #[schema(example = "SFU")]
    mode: String,
}

/// Somebody who is let in.
pub(super) struct Person {
    pub(super) user: String,
    pub(super) name: Option<String>,
    pub(super) role: Role,
}

/// What lets them in.
pub(super) struct Welcome {
    pub(super) token: String,
    pub(super) expires_at: jiff::Timestamp,
    route: Route,
    mode: String,
}

/// Join a room
///
/// With an API key for anybody, or with a share link's token for oneself. Waits a few seconds for a room that has no
/// media node yet.
#[utoipa::path(
    post, path = "/v1/rooms/{id}/join", tag = "rooms", security(("apiKey" = []), ()), request_body = JoinRoom,
    params(("id" = String, Path, description = "`roomId`")),
    responses(
        (status = 200, description = "The way in", body = JoinedRoom),
        (status = "default", description = "A problem", body = Details, content_type = "application/problem+json"),
    )
)]
pub async fn join(
    State(gateway): State<Gateway>,
    Extension(signal): Extension<Signal>,
    Path(id): Path<String>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Result<Body<JoinRoom>, Problem>,
) -> Result<Response, Problem> {
    let Body(mut request) = body.map_err(|problem| Caller::refusal(&gateway, &headers, problem))?;
    let link = match &request.link_token {
        Some(token) => Some(verified_link(&gateway, token)?),
        None => None,
    };
    let by = match &link {
        Some(link) => Actor::Link(link.jti.to_string()),
        None => Actor::Backend(Caller::of(&gateway, &headers)?.backend()?),
    };
    let id = call_id(&id)?;
    if let Some(link) = &link {
        is_for(link, &id)?;
    }
    check(&request)?;
    let room = gateway.settled(gateway.room(&id).await?).await;
    let address = gateway.limits.client(peer.ip(), &headers);
    let wanted = Action::Join {
        user: request.user_id.clone().unwrap_or_default(),
        role: link.as_ref().map(|link| link.role).or(request.role).unwrap_or(Role::Participant),
    };
    let joined = let_in(&signal, &room, &mut request, link.as_ref(), address).await;
    let action = match &joined {
        Ok(joined) => Action::Join { user: joined.user_id.clone(), role: joined.role },
        Err(_) => wanted,
    };
    gateway.note_result(RoomRef::from(&*room), by, action, &joined);
    let mut response = Json(joined?).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// What the token of a share link says. Counts the request for it.
fn verified_link(gateway: &Gateway, token: &str) -> Result<LinkClaims, Problem> {
    let link: LinkClaims = gateway.signer.verify(token, LINK_AUDIENCE, gateway.clock.now().wall)?;
    gateway.limits.caller(&("link", link.jti.to_string()))?;
    if link.role == Role::Host {
        // We make none such. Old keys are believed of links for a month: nobody is to gain more by one than what links give.
        return Err(Problem::new(Code::CredentialsInvalid, "nobody becomes host by a link"));
    }
    Ok(link)
}

fn is_for(link: &LinkClaims, id: &CallId) -> Result<(), Problem> {
    match link.room_id == id.to_string() {
        true => Ok(()),
        false => Err(Problem::new(Code::WrongRoom, "the link is for another room")),
    }
}

/// What the token of a share link to room `id` says. Counts the request for it.
pub(super) fn link_of(gateway: &Gateway, token: &str, id: &CallId) -> Result<LinkClaims, Problem> {
    let link = verified_link(gateway, token)?;
    is_for(&link, id).map(|()| link)
}

/// Who asks, let in by all the rules of the room.
async fn let_in(
    signal: &Signal,
    room: &Arc<CallRoom>,
    request: &mut JoinRoom,
    link: Option<&LinkClaims>,
    address: IpAddr,
) -> Result<JoinedRoom, Problem> {
    let gateway = signal.gateway();
    let consent = consent::claims(gateway, request.consent_token.as_deref())?;
    let person = match link {
        Some(link) => guest(gateway, room, request, link, consent.as_ref())?,
        None => named(room, request)?,
    };
    admits(gateway, room, &person)?;
    consent::check(gateway, room, &person.user, consent.as_ref())?;
    let guesser = match link {
        Some(_) => Guesser::Address(address),
        None => Guesser::User(&person.user),
    };
    check_password(gateway, room, &person, request.password.as_ref(), &guesser).await?;
    consent::still_stands(gateway, room, &person.user).await?;
    signal.place_for(room, &person.user).await?;
    let Welcome { token, expires_at, route, mode } = welcome(gateway, room, &person)?;
    let id = room.call_id();
    let ice_servers = gateway.ice_servers(room, &person.user);
    Ok(JoinedRoom {
        room_id: id.to_string(),
        token,
        expires_at,
        role: person.role,
        route: RouteView { epoch: route.epoch, mode },
        api_url: gateway.api_url(&id),
        user_id: person.user,
        ice_servers,
    })
}

fn check(request: &JoinRoom) -> Result<(), Problem> {
    request.display_name.as_ref().map_or(Ok(()), |name| check_text("displayName", name, MAX_NAME))
}

pub(super) fn reserved(field: &str) -> Problem {
    let detail = format!("user ids that begin with {GUEST_PREFIX} are for people who come by a link");
    Problem::new(Code::Invalid, detail).field(field)
}

/// Whom a backend vouches for.
fn named(room: &CallRoom, request: &mut JoinRoom) -> Result<Person, Problem> {
    let missing = || Problem::new(Code::Invalid, "is needed with an API key").field("userId");
    let user = request.user_id.take().ok_or_else(missing)?;
    check_text("userId", &user, MAX_USER)?;
    if user.starts_with(GUEST_PREFIX) {
        return Err(reserved("userId"));
    }
    let is_host = annotations::text(room, annotations::HOST_ID) == Some(user.as_str());
    let default = if is_host { Role::Host } else { Role::Participant };
    Ok(Person { user, name: request.display_name.take(), role: request.role.unwrap_or(default) })
}

/// Who comes by a link.
fn guest(
    gateway: &Gateway,
    room: &CallRoom,
    request: &JoinRoom,
    link: &LinkClaims,
    consent: Option<&ConsentClaims>,
) -> Result<Person, Problem> {
    for (is_set, field) in [(request.user_id.is_some(), "userId"), (request.role.is_some(), "role")] {
        if is_set {
            return Err(Problem::new(Code::Invalid, "follows from the link: leave it out").field(field));
        }
    }
    check_link(gateway, room, link)?;
    // Who consented was given a user id already.
    let consented =
        consent.filter(|consent| consent.link.as_ref() == Some(&link.jti)).map(|consent| consent.sub.clone());
    let user = match consented {
        Some(user) => user,
        None => format!("{GUEST_PREFIX}{}", chance()?),
    };
    Ok(Person { user, name: request.display_name.clone(), role: link.role })
}

/// Whether the link is for this very room, and still good.
pub(super) fn check_link(gateway: &Gateway, room: &CallRoom, link: &LinkClaims) -> Result<(), Problem> {
    if room.metadata.uid.as_ref() != Some(&link.room_uid) {
        return Err(Problem::new(Code::LinkRevoked, "the link was for an earlier room of this name"));
    }
    let revoked = annotations::text(room, annotations::REVOKED_LINKS).unwrap_or_default();
    if access::revoked(revoked, gateway.clock.now().wall.as_second()).contains(&link.jti) {
        return Err(Problem::new(Code::LinkRevoked, "the link was revoked"));
    }
    Ok(())
}

/// Whether the room is one that `person` may enter: not over, not locked, and for such as them.
fn admits(gateway: &Gateway, room: &CallRoom, person: &Person) -> Result<(), Problem> {
    if room.is_over() {
        return Err(ended(room));
    }
    is_open(gateway, room)?;
    if !annotations::allowed_roles(room).contains(&person.role) {
        let detail = format!("the room lets no {} in", person.role.as_str());
        return Err(Problem::new(Code::RoleNotAllowed, detail));
    }
    if annotations::is_locked(room) && person.role != Role::Host {
        return Err(Problem::new(Code::RoomLocked, "the room is locked"));
    }
    Ok(())
}

/// Whether it is not too early.
fn is_open(gateway: &Gateway, room: &CallRoom) -> Result<(), Problem> {
    let now = gateway.clock.now().wall;
    let Some(opens) = room.opens_at().filter(|opens| *opens > now) else { return Ok(()) };
    let wait = u64::try_from(opens.as_second() - now.as_second()).unwrap_or(0).max(1);
    Err(Problem::new(Code::NotYet, format!("the call can be joined from {opens} on")).retry_after(wait))
}

/// Whether `password` is the room's, where it has one and `person` needs it.
async fn check_password(
    gateway: &Gateway,
    room: &CallRoom,
    person: &Person,
    password: Option<&Password>,
    guesser: &Guesser<'_>,
) -> Result<(), Problem> {
    let Some(hash) = annotations::text(room, annotations::PASSWORD).filter(|_| person.role != Role::Host) else {
        return Ok(());
    };
    let missing = || Problem::new(Code::PasswordRequired, "the room has a password").field("password");
    let password = password.ok_or_else(missing)?;
    gateway.limits.guess(room.metadata.uid.as_deref().unwrap_or_default(), guesser)?;
    match gateway.passwords.verify(hash, password).await? {
        true => Ok(()),
        false => Err(Problem::new(Code::WrongPassword, "the room has another password").field("password")),
    }
}

/// A token for `person`, if the room lets them in and has a route.
pub(super) fn welcome(gateway: &Gateway, room: &CallRoom, person: &Person) -> Result<Welcome, Problem> {
    admits(gateway, room, person)?;
    let route = room.status.as_ref().and_then(|s| s.route.clone()).ok_or_else(|| not_ready(room))?;
    // While versions differ, another replica may know what to do with it.
    let mode = view::mode(route.mode)
        .ok_or_else(|| Problem::new(Code::RoomNotReady, "this version does not know how the room's media flows"))?;
    let pass = gateway.pass(room, &person.user, person.name.as_deref(), person.role.as_str(), route.epoch)?;
    Ok(Welcome { token: pass.token, expires_at: pass.expires_at, route, mode })
}

/// A join token, and when it ends.
pub(crate) struct Pass {
    pub(crate) token: String,
    pub(crate) expires_at: jiff::Timestamp,
}

impl Gateway {
    /// A join token for somebody who is let into `epoch` of a room.
    pub(crate) fn pass(
        &self,
        room: &CallRoom,
        user: &str,
        name: Option<&str>,
        role: &str,
        epoch: i64,
    ) -> Result<Pass, Problem> {
        let now = self.clock.now().wall;
        let invitation = Invitation {
            room: room.call_id(),
            user: user.to_owned(),
            name: name.map(str::to_owned),
            role: role.to_owned(),
            ttl: self.token_ttl,
        };
        let uid = room.metadata.uid.as_deref().unwrap_or_default();
        let token = token::sign(&*self.signer.key()?, &invitation, uid, epoch, now).map_err(|error| {
            tracing::error!(%error, "signing failed");
            Problem::new(Code::NoSigningKey, "the key does not sign")
        })?;
        let ends = now.as_second() + i64::try_from(self.token_ttl.as_secs()).unwrap_or(0);
        Ok(Pass { token, expires_at: jiff::Timestamp::from_second(ends).unwrap_or(now) })
    }
}
