//! Creating rooms, each request once.

use aws_lc_rs::rand;
use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use callplane_crds::{
    CallId, CallRoom, CallRoomSpec, Topology, TopologyMode, callroom::Lifetime, consent::Consent, topology::MESH_LIMIT,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    annotations, check_text,
    consent::{self, Kind},
    join::{Person, Welcome, welcome},
    once::{Once, hex},
    topology::TopologySettings,
    unsupported,
    view::{Room, RoomStatus},
};
use crate::{
    Code, Gateway, Problem,
    access::{Caller, Password, Role},
    body::Body,
    problem::Details,
    records::{self, Action, Actor, RoomRef},
};

/// Longest user id, as in tokens.
pub(super) const MAX_USER: usize = 128;
/// How long ago a scheduled time may be: a request may have been on its way for a while, an older one is a mistake.
const LATE: SignedDuration = SignedDuration::from_hours(1);
/// How far ahead a scheduled time may be.
const FAR_AHEAD: SignedDuration = SignedDuration::from_hours(366 * 24);
/// Longest version of a text that people consent to.
const MAX_VERSION: usize = 64;

/// A room to create.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateRoom {
    /// User id of the host, who gets the `joinToken`: 1 to 128 bytes.
    #[schema(min_length = 1, max_length = 128, example = "ann")]
    pub host_id: String,
    /// Name of the room, as Kubernetes has names, up to 63 characters. One is made up otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, max_length = 63, example = "standup")]
    pub name: Option<String>,
    /// When the call is to begin, up to a year ahead. It can be joined from 10 minutes before; until then it takes no place
    /// on any media node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, format = DateTime, required = false, example = "2027-01-01T09:00:00Z")]
    pub scheduled_time: Option<Timestamp>,
    /// What the call is asked to be.
    #[serde(default)]
    #[schema(required = false)]
    pub settings: Settings,
}

/// What a call is asked to be.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// How many people may be in the call at once, 2 to 50; 50 by default, and 6 peer to peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 2, maximum = 50)]
    pub max_participants: Option<i32>,
    /// Roles that may join; `host` among them. All by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub allowed_roles: Option<Vec<Role>>,
    /// Region that media never leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_length = 1, max_length = 63)]
    pub region: Option<String>,
    /// MediaPool that carries the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_length = 1, max_length = 63)]
    pub pool: Option<String>,
    /// The call ends after nobody was in it for this long, 5 to 604800.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 5, maximum = 604_800)]
    pub empty_timeout_seconds: Option<i32>,
    /// The call ends this long after it became ready, or was to begin if that is later, 60 to 2592000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 60, maximum = 2_592_000)]
    pub max_duration_seconds: Option<i32>,
    /// The room is deleted this long after the call ended, 0 to 2592000. Otherwise it stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 0, maximum = 2_592_000)]
    pub ttl_seconds_after_ended: Option<i32>,
    /// How media may flow, and when that changes. `Auto` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub topology: Option<TopologySettings>,
    /// What people are asked to consent to before they join. Needs records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub consent: Option<ConsentSetting>,
    /// Recording does not work yet: `true` is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub is_recording_enabled: Option<bool>,
    /// Password that guests and participants give to join, 1 to 128 bytes. Hosts need none. It cannot be read again.
    #[serde(default, skip_serializing)]
    #[schema(value_type = String, required = false, min_length = 1, max_length = 128)]
    pub password: Option<Password>,
}

/// What people are asked to consent to.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConsentSetting {
    /// Let only those in who consented.
    pub required: bool,
    /// What for: `recording_ai`, which is all that there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_items = 1, max_items = 1)]
    pub types: Option<Vec<Kind>>,
    /// Version of the text that people are shown, 1 to 64 bytes; `1` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, min_length = 1, max_length = 64)]
    pub version: Option<String>,
}

/// A room that was created, and the host's way into it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreatedRoom {
    /// `<namespace>.<name>` of the CallRoom.
    #[schema(example = "default.standup")]
    pub room_id: String,
    /// Where the call is in its life.
    pub status: RoomStatus,
    /// The host's join token. Absent while the room cannot be joined (202), before its scheduled time, and where consent is
    /// required: ask `/join` for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub join_token: Option<String>,
    /// When the token ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, format = DateTime, required = false)]
    pub expires_at: Option<jiff::Timestamp>,
    /// Where the room's API is.
    #[schema(example = "https://calls.example.org/api/rooms/default.standup")]
    pub api_url: String,
    /// The room.
    pub room: Room,
}

/// Create a room
///
/// Waits a few seconds for the room to become ready. With an `Idempotency-Key`, the same request again is answered
/// with the same room for as long as that is there.
#[utoipa::path(
    post, path = "/v1/rooms", tag = "rooms", security(("apiKey" = [])), request_body = CreateRoom,
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters")),
    responses(
        (status = 201, description = "Created, and can be joined", body = CreatedRoom),
        (status = 200, description = "Was created by this request before", body = CreatedRoom),
        (status = 202, description = "Created, and has no media node yet", body = CreatedRoom),
        (status = "default", description = "A problem", body = Details, content_type = "application/problem+json"),
    )
)]
pub async fn create(
    State(gateway): State<Gateway>,
    headers: HeaderMap,
    body: Result<Body<CreateRoom>, Problem>,
) -> Result<Response, Problem> {
    let caller = Caller::of(&gateway, &headers)?.backend()?;
    let Body(request) = body?;
    check(&gateway, &request)?;
    let password = request.settings.password.as_ref();
    let once = Once::of(&gateway, &headers, &caller, &request).await?;
    let mut room = wanted(&request, once.as_ref())?;
    if let Some(password) = password {
        let hash = gateway.passwords.hash(password).await?;
        room.annotations_mut().insert(annotations::PASSWORD.to_owned(), hash);
    }
    let name = room.name_any();
    if let (Some(once), Some(_)) = (&once, &request.name) {
        refuse_other_name(&gateway, once, &name)?;
    }
    let (room, is_new) = match gateway.kube.create(&room).await? {
        Some(created) => (created, true),
        None => (replayed(&gateway, &name, once.as_ref()).await?, false),
    };
    if is_new {
        gateway.note(RoomRef::from(&room), Actor::Backend(caller), Action::Create, None);
    }
    answer(&gateway, room, is_new, &request.host_id).await
}

fn check(gateway: &Gateway, request: &CreateRoom) -> Result<(), Problem> {
    let settings = &request.settings;
    if let Some(begins) = request.scheduled_time {
        let ahead = begins.duration_since(gateway.clock.now().wall);
        if !(-LATE..=FAR_AHEAD).contains(&ahead) {
            let detail = "is at most an hour ago and a year ahead: leave it out for a call that begins now";
            return Err(Problem::new(Code::Invalid, detail).field("scheduledTime"));
        }
    }
    if let Some(consent) = &settings.consent {
        if !gateway.records.are_on() {
            return Err(records::off().field("settings.consent"));
        }
        if let Some(version) = &consent.version {
            check_text("settings.consent.version", version, MAX_VERSION)?;
        }
    }
    for (is_set, field) in [(settings.is_recording_enabled == Some(true), "settings.isRecordingEnabled")] {
        if is_set {
            return Err(unsupported(field));
        }
    }
    check_text("hostId", &request.host_id, MAX_USER)?;
    if request.host_id.starts_with(super::join::GUEST_PREFIX) {
        return Err(super::join::reserved("hostId"));
    }
    if settings.allowed_roles.as_ref().is_some_and(|roles| !roles.contains(&Role::Host)) {
        let problem = Problem::new(Code::Invalid, "host is always allowed: name it, too");
        return Err(problem.field("settings.allowedRoles"));
    }
    Ok(())
}

fn wanted(request: &CreateRoom, once: Option<&Once>) -> Result<CallRoom, Problem> {
    let settings = request.settings.clone();
    let topology = Topology::from(settings.topology.unwrap_or_default());
    let most = if topology.mode == TopologyMode::P2p { MESH_LIMIT } else { 50 };
    let spec = CallRoomSpec {
        max_participants: settings.max_participants.unwrap_or(most),
        topology: Some(topology),
        pool: settings.pool,
        region: settings.region,
        scheduled_time: request.scheduled_time.map(Time),
        consent: settings.consent.map(|consent| Consent {
            required: consent.required,
            types: consent.types.unwrap_or_else(|| vec![Kind::RecordingAi]).into_iter().map(Kind::into).collect(),
            version: consent.version.unwrap_or_else(|| "1".to_owned()),
        }),
        lifetime: Lifetime {
            empty_timeout_seconds: settings.empty_timeout_seconds,
            max_duration_seconds: settings.max_duration_seconds,
            ttl_seconds_after_ended: settings.ttl_seconds_after_ended,
        },
        ..CallRoomSpec::default()
    };
    let name = match (&request.name, once) {
        (Some(name), _) => name.clone(),
        // The key is the name, so that two replicas that are asked at once make one room.
        (None, Some(once)) => format!("r-{}", &once.key[..20]),
        (None, None) => format!("r-{}", chance()?),
    };
    if format!("x.{name}").parse::<CallId>().is_err() {
        let detail = "is made of lower-case letters, digits, '-' and '.', up to 63 of them";
        return Err(Problem::new(Code::Invalid, detail).field("name"));
    }
    let mut room = CallRoom::new(&name, spec);
    let annotations = room.annotations_mut();
    annotations.insert(annotations::HOST_ID.to_owned(), request.host_id.clone());
    if let Some(roles) = &settings.allowed_roles {
        let names: Vec<_> = roles.iter().map(|role| role.as_str()).collect();
        annotations.insert(annotations::ALLOWED_ROLES.to_owned(), names.join(","));
    }
    if let Some(once) = once {
        annotations.insert(annotations::IDEMPOTENCY_KEY.to_owned(), once.key.clone());
        annotations.insert(annotations::REQUEST.to_owned(), once.request.clone());
    }
    Ok(room)
}

/// Twenty hexadecimal digits that nobody can guess.
pub(crate) fn chance() -> Result<String, Problem> {
    let mut bytes = [0; 10];
    rand::fill(&mut bytes).map_err(|_| Problem::new(Code::Busy, "there is no randomness"))?;
    Ok(hex(&bytes))
}

/// A key that made one room makes no other of another name. Two such requests at the very same moment may: a name
/// is what the API server is sure about.
fn refuse_other_name(gateway: &Gateway, once: &Once, name: &str) -> Result<(), Problem> {
    let is_other = |room: &CallRoom| {
        annotations::text(room, annotations::IDEMPOTENCY_KEY) == Some(once.key.as_str()) && room.name_any() != name
    };
    match gateway.cache.find(is_other) {
        Some(_) => Err(reused()),
        None => Ok(()),
    }
}

fn reused() -> Problem {
    Problem::new(Code::IdempotencyKeyReused, "this Idempotency-Key was used for another request")
        .field("Idempotency-Key")
}

/// The room that is there already, if this very request made it.
async fn replayed(gateway: &Gateway, name: &str, once: Option<&Once>) -> Result<CallRoom, Problem> {
    let room = gateway.kube.room(&CallId::new(gateway.kube.namespace(), name)).await?;
    let made_by = |annotation: &str, digest: &str| annotations::text(&room, annotation) == Some(digest);
    match once {
        Some(once) if !made_by(annotations::IDEMPOTENCY_KEY, &once.key) => Err(exists(&room)),
        Some(once) if !made_by(annotations::REQUEST, &once.request) => Err(reused()),
        Some(_) => Ok(room),
        None => Err(exists(&room)),
    }
}

fn exists(room: &CallRoom) -> Problem {
    Problem::new(Code::RoomExists, format!("there is a room {}", room.call_id())).field("name")
}

/// Why a room that was created may not be joined yet, or not any more.
const IN_A_WHILE: [Code; 4] = [Code::RoomNotReady, Code::NotYet, Code::RoomEnded, Code::NoSigningKey];

async fn answer(gateway: &Gateway, room: CallRoom, is_new: bool, host: &str) -> Result<Response, Problem> {
    let room = gateway.settled(room.into()).await;
    let id = room.call_id();
    let host = Person { user: host.to_owned(), name: None, role: Role::Host };
    // Where consent is asked for, hosts are asked, too.
    let asks = consent::is_required(&room);
    let token = match welcome(gateway, &room, &host) {
        _ if asks => None,
        Ok(Welcome { token, expires_at, .. }) => {
            let action = Action::Join { user: host.user.clone(), role: host.role };
            gateway.note(RoomRef::from(&*room), Actor::User(host.user), action, None);
            Some((token, expires_at))
        }
        Err(problem) if IN_A_WHILE.contains(&problem.code()) => None,
        Err(problem) => return Err(problem),
    };
    let view = Room::from(&*room);
    let (join_token, expires_at) = token.unzip();
    // What is as it was asked to be is not merely accepted.
    let as_asked = match room.opens_at() {
        Some(opens) if opens > gateway.clock.now().wall => true,
        _ => asks && view.epoch.is_some(),
    };
    let status = match (&join_token, is_new) {
        (None, _) if view.status != RoomStatus::Completed && !as_asked => StatusCode::ACCEPTED,
        (_, true) => StatusCode::CREATED,
        (_, false) => StatusCode::OK,
    };
    let location = format!("/v1/rooms/{id}");
    let created = CreatedRoom {
        room_id: id.to_string(),
        status: view.status,
        join_token,
        expires_at,
        api_url: gateway.api_url(&id),
        room: view,
    };
    let mut response = (status, Json(created)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(location) = HeaderValue::from_str(&location) {
        headers.insert(header::LOCATION, location);
    }
    if status == StatusCode::ACCEPTED {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    Ok(response)
}
