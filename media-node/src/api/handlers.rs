//! One function per route: read, admit, do, answer.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Api, Problem, body::Body, caller::Caller};
use crate::{
    ortc::{DtlsParameters, IceParameters, Kind, NumSctpStreams, RtpCapabilities, RtpParameters, SctpParameters},
    rooms::{
        Access, Assignment, Consumed, ConsumerView, Direction, Intent, MediaRules, Refusal, Role, RoomView,
        TransportView, Turn,
    },
};

pub(super) type Shared = State<Arc<Api>>;

/// `{}`: done.
#[derive(Serialize)]
pub(super) struct Done {}

/// The id of something new.
#[derive(Serialize)]
pub(super) struct Created {
    pub(super) id: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct NewRoom {
    /// Most participants at once.
    max_participants: Option<usize>,
    #[serde(default)]
    media: MediaRules,
}

/// Participants of a standalone room that states no limit.
const DEFAULT_MAX_PARTICIPANTS: usize = 100;

/// Most that a standalone room may state.
const MAX_MAX_PARTICIPANTS: usize = 1000;

impl Api {
    /// Admits, does, and flattens the ways to fail.
    pub(super) async fn act<T: Send + 'static>(
        &self,
        caller: Caller,
        intent: Intent,
        action: impl FnOnce(&mut Turn<'_>, &Access) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Problem> {
        let access = caller.admitted(self, intent).await?;
        Ok(self.directory.run(move |turn| action(turn, &access)).await??)
    }
}

pub(super) async fn create_room(
    State(api): Shared,
    Caller(access): Caller,
    Body(new): Body<NewRoom>,
) -> Result<(StatusCode, Json<RoomView>), Problem> {
    if access.role != Role::Admin {
        return Err(Refusal::Forbidden("create rooms").into());
    }
    if !api.standalone {
        let detail = "rooms are created as CallRoom objects, the operator assigns them to nodes";
        return Err(Problem::new(StatusCode::CONFLICT, "managed-by-kubernetes", detail));
    }
    let max_participants = new.max_participants.unwrap_or(DEFAULT_MAX_PARTICIPANTS);
    if !(1..=MAX_MAX_PARTICIPANTS).contains(&max_participants) {
        let detail = format!("must be 1 to {MAX_MAX_PARTICIPANTS}");
        return Err(Refusal::from(crate::ortc::Error::invalid("maxParticipants", detail)).into());
    }
    let (key, epoch) = (access.room, access.epoch);
    let uid = key.to_string();
    api.directory.serve(Assignment { key: key.clone(), uid, epoch, max_participants, rules: new.media }).await?;
    let view = api.directory.run(move |turn| turn.registry.describe(&key)).await??;
    Ok((StatusCode::CREATED, Json(view)))
}

pub(super) async fn describe(State(api): Shared, caller: Caller) -> Result<Json<RoomView>, Problem> {
    api.act(caller, Intent::Look, |turn, access| turn.registry.describe(&access.room)).await.map(Json)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NewTransport {
    direction: Direction,
    enable_sctp: Option<bool>,
    num_sctp_streams: Option<NumSctpStreams>,
}

pub(super) async fn create_transport(
    State(api): Shared,
    caller: Caller,
    Body(new): Body<NewTransport>,
) -> Result<(StatusCode, Json<TransportView>), Problem> {
    let wanted = match new.enable_sctp {
        Some(true) => Some(new.num_sctp_streams.unwrap_or_default()),
        Some(false) => None,
        None => new.num_sctp_streams,
    };
    let create = move |turn: &mut Turn<'_>, access: &Access| {
        // Refused before there is anything to take back.
        wanted.map(SctpParameters::answer).transpose()?;
        let mut created = turn.create_transport(access, new.direction)?;
        if let Some(wanted) = wanted {
            created.sctp_parameters = Some(turn.enable_sctp(access, &created.id, wanted)?);
        }
        Ok(created)
    };
    let created = api.act(caller, Intent::Join, create).await?;
    Ok((StatusCode::CREATED, Json(created)))
}

pub(super) async fn close_transport(
    State(api): Shared,
    caller: Caller,
    Path((_, transport)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    api.act(caller, Intent::Use, move |turn, access| turn.end_transport(access, &transport)).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Connect {
    dtls_parameters: DtlsParameters,
}

pub(super) async fn connect(
    State(api): Shared,
    caller: Caller,
    Path((_, transport)): Path<(String, String)>,
    Body(connect): Body<Connect>,
) -> Result<Json<Done>, Problem> {
    api.act(caller, Intent::Use, move |turn, access| turn.connect(access, &transport, &connect.dtls_parameters))
        .await?;
    Ok(Json(Done {}))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Restarted {
    ice_parameters: IceParameters,
}

pub(super) async fn restart_ice(
    State(api): Shared,
    caller: Caller,
    Path((_, transport)): Path<(String, String)>,
) -> Result<Json<Restarted>, Problem> {
    let ice_parameters = api.act(caller, Intent::Use, move |turn, access| turn.restart_ice(access, &transport)).await?;
    Ok(Json(Restarted { ice_parameters }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Produce {
    kind: Kind,
    rtp_parameters: RtpParameters,
    #[serde(default)]
    paused: bool,
    #[serde(default = "empty_object")]
    app_data: Value,
}

pub(super) async fn produce(
    State(api): Shared,
    caller: Caller,
    Path((_, transport)): Path<(String, String)>,
    Body(Produce { kind, rtp_parameters, paused, app_data }): Body<Produce>,
) -> Result<(StatusCode, Json<Created>), Problem> {
    let produce = move |turn: &mut Turn<'_>, access: &Access| {
        turn.produce(access, &transport, kind, rtp_parameters, paused, app_data)
    };
    let id = api.act(caller, Intent::Use, produce).await?;
    Ok((StatusCode::CREATED, Json(Created { id })))
}

pub(super) fn empty_object() -> Value {
    Value::Object(serde_json::Map::new())
}

pub(super) async fn close_producer(
    State(api): Shared,
    caller: Caller,
    Path((_, producer)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    api.act(caller, Intent::Use, move |turn, access| turn.close_producer(access, &producer)).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn pause_producer(
    State(api): Shared,
    caller: Caller,
    Path((_, producer)): Path<(String, String)>,
) -> Result<Json<Done>, Problem> {
    api.act(caller, Intent::Use, move |turn, access| turn.pause_producer(access, &producer, true)).await?;
    Ok(Json(Done {}))
}

pub(super) async fn resume_producer(
    State(api): Shared,
    caller: Caller,
    Path((_, producer)): Path<(String, String)>,
) -> Result<Json<Done>, Problem> {
    api.act(caller, Intent::Use, move |turn, access| turn.pause_producer(access, &producer, false)).await?;
    Ok(Json(Done {}))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Consume {
    transport_id: String,
    producer_id: String,
    rtp_capabilities: RtpCapabilities,
    /// Clients set up their end first and resume then, so that no key frame is lost.
    #[serde(default = "yes")]
    paused: bool,
}

const fn yes() -> bool {
    true
}

pub(super) async fn consume(
    State(api): Shared,
    caller: Caller,
    Body(consume): Body<Consume>,
) -> Result<(StatusCode, Json<ConsumerView>), Problem> {
    let wanted = Consumed {
        transport: consume.transport_id,
        producer: consume.producer_id,
        capabilities: consume.rtp_capabilities,
        paused: consume.paused,
    };
    let created = api.act(caller, Intent::Use, move |turn, access| turn.consume(access, &wanted)).await?;
    Ok((StatusCode::CREATED, Json(created)))
}

pub(super) async fn close_consumer(
    State(api): Shared,
    caller: Caller,
    Path((_, consumer)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    api.act(caller, Intent::Use, move |turn, access| turn.close_consumer(access, &consumer)).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn pause_consumer(
    State(api): Shared,
    caller: Caller,
    Path((_, consumer)): Path<(String, String)>,
) -> Result<Json<Done>, Problem> {
    api.act(caller, Intent::Use, move |turn, access| turn.pause_consumer(access, &consumer, true)).await?;
    Ok(Json(Done {}))
}

pub(super) async fn resume_consumer(
    State(api): Shared,
    caller: Caller,
    Path((_, consumer)): Path<(String, String)>,
) -> Result<Json<Done>, Problem> {
    api.act(caller, Intent::Use, move |turn, access| turn.pause_consumer(access, &consumer, false)).await?;
    Ok(Json(Done {}))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PreferredLayers {
    spatial_layer: u8,
    temporal_layer: Option<u8>,
}

pub(super) async fn prefer_layers(
    State(api): Shared,
    caller: Caller,
    Path((_, consumer)): Path<(String, String)>,
    Body(PreferredLayers { spatial_layer, temporal_layer }): Body<PreferredLayers>,
) -> Result<Json<Done>, Problem> {
    let prefer = move |turn: &mut Turn<'_>, access: &Access| {
        turn.prefer_layers(access, &consumer, spatial_layer, temporal_layer)
    };
    api.act(caller, Intent::Use, prefer).await?;
    Ok(Json(Done {}))
}

#[derive(Deserialize)]
pub(super) struct Priority {
    priority: u8,
}

pub(super) async fn prioritize(
    State(api): Shared,
    caller: Caller,
    Path((_, consumer)): Path<(String, String)>,
    Body(Priority { priority }): Body<Priority>,
) -> Result<Json<Done>, Problem> {
    api.act(caller, Intent::Use, move |turn, access| turn.prioritize(access, &consumer, priority)).await?;
    Ok(Json(Done {}))
}

/// As every consumer begins.
const NO_PRIORITY: u8 = 1;

pub(super) async fn unset_priority(
    State(api): Shared,
    caller: Caller,
    Path((_, consumer)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    api.act(caller, Intent::Use, move |turn, access| turn.prioritize(access, &consumer, NO_PRIORITY)).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn leave(
    State(api): Shared,
    caller: Caller,
    Path((_, user)): Path<(String, String)>,
) -> Result<Json<Done>, Problem> {
    api.act(caller, Intent::Leave, move |turn, access| turn.leave(access, &user)).await?;
    Ok(Json(Done {}))
}
