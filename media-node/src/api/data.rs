//! Routes of data channels.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde::Deserialize;
use serde_json::Value;

use super::{
    Problem,
    body::Body,
    caller::Caller,
    handlers::{Created, Shared, empty_object},
};
use crate::{
    ortc::SctpStreamParameters,
    rooms::{ConsumedData, DataConsumerView, Intent, PublishedData},
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProduceData {
    sctp_stream_parameters: SctpStreamParameters,
    #[serde(default)]
    label: String,
    #[serde(default)]
    protocol: String,
    #[serde(default = "empty_object")]
    app_data: Value,
}

pub(super) async fn produce_data(
    State(api): Shared,
    caller: Caller,
    Path((_, transport)): Path<(String, String)>,
    Body(produce): Body<ProduceData>,
) -> Result<(StatusCode, Json<Created>), Problem> {
    let ProduceData { sctp_stream_parameters: parameters, label, protocol, app_data } = produce;
    let published = PublishedData { parameters, label, protocol, app_data };
    let id = api.act(caller, Intent::Use, move |turn, access| turn.produce_data(access, &transport, published)).await?;
    Ok((StatusCode::CREATED, Json(Created { id })))
}

pub(super) async fn close_data_producer(
    State(api): Shared,
    caller: Caller,
    Path((_, producer)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    api.act(caller, Intent::Use, move |turn, access| turn.close_data_producer(access, &producer)).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConsumeData {
    transport_id: String,
    data_producer_id: String,
    ordered: Option<bool>,
    max_packet_life_time: Option<u32>,
    max_retransmits: Option<u32>,
}

pub(super) async fn consume_data(
    State(api): Shared,
    caller: Caller,
    Body(consume): Body<ConsumeData>,
) -> Result<(StatusCode, Json<DataConsumerView>), Problem> {
    let wanted = ConsumedData {
        transport: consume.transport_id,
        producer: consume.data_producer_id,
        ordered: consume.ordered,
        max_packet_life_time: consume.max_packet_life_time,
        max_retransmits: consume.max_retransmits,
    };
    let created = api.act(caller, Intent::Use, move |turn, access| turn.consume_data(access, &wanted)).await?;
    Ok((StatusCode::CREATED, Json(created)))
}

pub(super) async fn close_data_consumer(
    State(api): Shared,
    caller: Caller,
    Path((_, consumer)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    api.act(caller, Intent::Use, move |turn, access| turn.close_data_consumer(access, &consumer)).await?;
    Ok(StatusCode::NO_CONTENT)
}
