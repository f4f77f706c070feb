//! Statistics as mediasoup's `getStats` has them: the same fields in the same units, in a list. What is not measured is
//! left out.

use std::{collections::BTreeMap, net::SocketAddr};

use axum::{
    Json,
    extract::{Path, State},
};
use serde::Serialize;

use super::{Problem, caller::Caller, handlers::Shared};
use crate::{
    core::{
        Answer, ConsumerStats, DataStats, DtlsState, IceState, Protocol, SctpState, SelectedTuple, StreamStats,
        TransportStats,
    },
    ortc::Kind,
    rooms::{Channel, Intent, Refusal, Track},
    system,
};

/// mediasoup's `WebRtcTransportStat`. Rates are in bits per second.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TransportStat {
    r#type: &'static str,
    transport_id: String,
    /// Milliseconds since 1970.
    timestamp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    sctp_state: Option<&'static str>,
    ice_role: &'static str,
    ice_state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ice_selected_tuple: Option<Tuple>,
    dtls_state: &'static str,
    bytes_received: u64,
    recv_bitrate: u64,
    bytes_sent: u64,
    send_bitrate: u64,
    rtp_bytes_received: u64,
    rtp_recv_bitrate: u64,
    rtp_bytes_sent: u64,
    rtp_send_bitrate: u64,
    rtx_bytes_received: u64,
    rtx_recv_bitrate: u64,
    rtx_bytes_sent: u64,
    rtx_send_bitrate: u64,
    probation_bytes_sent: u64,
    probation_send_bitrate: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    available_outgoing_bitrate: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    available_incoming_bitrate: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_incoming_bitrate: Option<u64>,
    /// Fraction, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    rtp_packet_loss_received: Option<f64>,
    /// Fraction, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    rtp_packet_loss_sent: Option<f64>,
}

/// mediasoup's `TransportTuple`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tuple {
    local_ip: String,
    local_address: String,
    local_port: u16,
    remote_ip: String,
    remote_port: u16,
    protocol: &'static str,
}

/// mediasoup's `RtpStreamRecvStats` and `RtpStreamSendStats`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StreamStat {
    r#type: &'static str,
    timestamp: i64,
    ssrc: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtx_ssrc: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rid: Option<String>,
    kind: Kind,
    mime_type: String,
    packet_count: u64,
    byte_count: u64,
    bitrate: u64,
    /// By `<spatial>.<temporal>`, each with all below it.
    #[serde(skip_serializing_if = "Option::is_none")]
    bitrate_by_layer: Option<BTreeMap<String, u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    packets_lost: Option<u64>,
    /// In 256ths.
    #[serde(skip_serializing_if = "Option::is_none")]
    fraction_lost: Option<u8>,
    /// In units of the RTP clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    jitter: Option<u32>,
    packets_discarded: u64,
    packets_retransmitted: u64,
    packets_repaired: u64,
    nack_count: u64,
    nack_packet_count: u64,
    pli_count: u64,
    fir_count: u64,
    /// Milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    round_trip_time: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtx_packets_discarded: Option<u64>,
    /// 0 to 10.
    score: u8,
}

/// mediasoup's `DataProducerStat`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DataProducerStat {
    r#type: &'static str,
    timestamp: i64,
    label: String,
    protocol: String,
    messages_received: u64,
    bytes_received: u64,
}

/// mediasoup's `DataConsumerStat`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DataConsumerStat {
    r#type: &'static str,
    timestamp: i64,
    label: String,
    protocol: String,
    messages_sent: u64,
    bytes_sent: u64,
    buffered_amount: usize,
}

type Id = Path<(String, String)>;

pub(super) async fn transport(
    State(api): Shared,
    caller: Caller,
    Path((_, id)): Id,
) -> Result<Json<[TransportStat; 1]>, Problem> {
    let name = id.clone();
    let find = move |turn: &mut crate::rooms::Turn<'_>, access: &_| turn.registry.ask_transport(access, &name);
    let asked = api.act(caller, Intent::Use, find).await?;
    let Some(Answer::Transport(stats)) = api.directory.ask(asked.worker, asked.question).await? else {
        return Err(Refusal::NotFound("transport").into());
    };
    Ok(Json([transport_stat(id, &stats, &asked.about, now())]))
}

pub(super) async fn producer(
    State(api): Shared,
    caller: Caller,
    Path((_, id)): Id,
) -> Result<Json<Vec<StreamStat>>, Problem> {
    let asked = api.act(caller, Intent::Use, move |turn, access| turn.registry.ask_producer(access, &id)).await?;
    let Some(Answer::Producer(stats)) = api.directory.ask(asked.worker, asked.question).await? else {
        return Err(Refusal::NotFound("producer").into());
    };
    let now = now();
    Ok(Json(stats.streams.into_iter().filter_map(|stream| inbound(stream, &asked.about, now)).collect()))
}

pub(super) async fn consumer(
    State(api): Shared,
    caller: Caller,
    Path((_, id)): Id,
) -> Result<Json<Vec<StreamStat>>, Problem> {
    let asked = api.act(caller, Intent::Use, move |turn, access| turn.registry.ask_consumer(access, &id)).await?;
    let Some(Answer::Consumer(mut stats)) = api.directory.ask(asked.worker, asked.question).await? else {
        return Err(Refusal::NotFound("consumer").into());
    };
    let now = now();
    let source = stats.stream.take().and_then(|stream| inbound(stream, &asked.about, now));
    Ok(Json(std::iter::once(outbound(&stats, &asked.about, now)).chain(source).collect()))
}

pub(super) async fn data_producer(
    State(api): Shared,
    caller: Caller,
    Path((_, id)): Id,
) -> Result<Json<[DataProducerStat; 1]>, Problem> {
    let asked = api.act(caller, Intent::Use, move |turn, access| turn.registry.ask_data_producer(access, &id)).await?;
    let Some(Answer::DataProducer(stats)) = api.directory.ask(asked.worker, asked.question).await? else {
        return Err(Refusal::NotFound("data producer").into());
    };
    let Channel { label, protocol } = asked.about;
    let DataStats { messages, bytes, .. } = stats;
    Ok(Json([DataProducerStat {
        r#type: "data-producer",
        timestamp: now(),
        label,
        protocol,
        messages_received: messages,
        bytes_received: bytes,
    }]))
}

pub(super) async fn data_consumer(
    State(api): Shared,
    caller: Caller,
    Path((_, id)): Id,
) -> Result<Json<[DataConsumerStat; 1]>, Problem> {
    let asked = api.act(caller, Intent::Use, move |turn, access| turn.registry.ask_data_consumer(access, &id)).await?;
    let Some(Answer::DataConsumer(stats)) = api.directory.ask(asked.worker, asked.question).await? else {
        return Err(Refusal::NotFound("data consumer").into());
    };
    let Channel { label, protocol } = asked.about;
    let DataStats { messages, bytes, buffered } = stats;
    Ok(Json([DataConsumerStat {
        r#type: "data-consumer",
        timestamp: now(),
        label,
        protocol,
        messages_sent: messages,
        bytes_sent: bytes,
        buffered_amount: buffered,
    }]))
}

fn now() -> i64 {
    system::timestamp().as_millisecond()
}

fn transport_stat(id: String, stats: &TransportStats, announced: &[SocketAddr], timestamp: i64) -> TransportStat {
    TransportStat {
        r#type: "webrtc-transport",
        transport_id: id,
        timestamp,
        sctp_state: stats.sctp.map(|state| match state {
            SctpState::New => "new",
            SctpState::Connecting => "connecting",
            SctpState::Connected => "connected",
            SctpState::Closed => "closed",
        }),
        // The node is ICE-lite, so it never is the other one.
        ice_role: "controlled",
        ice_state: match stats.ice {
            IceState::New => "new",
            IceState::Connected => "connected",
            IceState::Completed => "completed",
            IceState::Disconnected => "disconnected",
        },
        ice_selected_tuple: stats.tuple.map(|selected| tuple(&selected, announced)),
        dtls_state: match stats.dtls {
            DtlsState::New => "new",
            DtlsState::Connecting => "connecting",
            DtlsState::Connected => "connected",
            DtlsState::Failed => "failed",
            DtlsState::Closed => "closed",
        },
        bytes_received: stats.received.bytes,
        recv_bitrate: stats.received.bitrate,
        bytes_sent: stats.sent.bytes,
        send_bitrate: stats.sent.bitrate,
        rtp_bytes_received: stats.rtp_received.bytes,
        rtp_recv_bitrate: stats.rtp_received.bitrate,
        rtp_bytes_sent: stats.rtp_sent.bytes,
        rtp_send_bitrate: stats.rtp_sent.bitrate,
        rtx_bytes_received: stats.rtx_received.bytes,
        rtx_recv_bitrate: stats.rtx_received.bitrate,
        rtx_bytes_sent: stats.rtx_sent.bytes,
        rtx_send_bitrate: stats.rtx_sent.bitrate,
        probation_bytes_sent: stats.probation_sent.bytes,
        probation_send_bitrate: stats.probation_sent.bitrate,
        available_outgoing_bitrate: stats.available_outgoing_bitrate,
        available_incoming_bitrate: stats.available_incoming_bitrate,
        max_incoming_bitrate: stats.max_incoming_bitrate,
        rtp_packet_loss_received: stats.rtp_packet_loss_received,
        rtp_packet_loss_sent: stats.rtp_packet_loss_sent,
    }
}

/// Our end is named as it was announced: behind address translation the socket's own address means nothing to a client.
fn tuple(selected: &SelectedTuple, announced: &[SocketAddr]) -> Tuple {
    let own = announced.iter().find(|address| address.ip() == selected.local);
    let own = own.or_else(|| announced.iter().find(|address| address.is_ipv4() == selected.local.is_ipv4()));
    let local = own.copied().unwrap_or(SocketAddr::new(selected.local, 0));
    Tuple {
        local_ip: local.ip().to_string(),
        local_address: local.ip().to_string(),
        local_port: local.port(),
        remote_ip: selected.remote.ip().to_string(),
        remote_port: selected.remote.port(),
        protocol: match selected.protocol {
            Protocol::Udp => "udp",
            Protocol::Tcp => "tcp",
        },
    }
}

/// `None` for a stream of which nothing has come.
fn inbound(stream: StreamStats, track: &Track, timestamp: i64) -> Option<StreamStat> {
    let layers = stream.layers.iter().map(|(layers, bitrate)| {
        let name = format!("{}.{}", layers.spatial, layers.temporal);
        (name, *bitrate)
    });
    Some(StreamStat {
        r#type: "inbound-rtp",
        timestamp,
        ssrc: stream.ssrc.filter(|_| stream.packets > 0)?,
        rtx_ssrc: stream.rtx_ssrc,
        rid: stream.rid,
        kind: track.kind,
        mime_type: track.mime_type.clone(),
        packet_count: stream.packets,
        byte_count: stream.bytes,
        bitrate: stream.bitrate,
        bitrate_by_layer: Some(layers.collect()),
        packets_lost: Some(stream.lost),
        fraction_lost: Some(stream.fraction_lost),
        jitter: Some(stream.jitter),
        packets_discarded: stream.discarded,
        packets_retransmitted: stream.resent,
        packets_repaired: stream.repaired,
        nack_count: stream.nacks,
        nack_packet_count: stream.nacked,
        pli_count: stream.plis,
        fir_count: 0,
        // Publishers are not asked for what it takes (RFC 3611 §4.4).
        round_trip_time: None,
        rtx_packets_discarded: stream.rtx_ssrc.map(|_| stream.rtx_discarded),
        score: stream.score,
    })
}

fn outbound(stats: &ConsumerStats, track: &Track, timestamp: i64) -> StreamStat {
    let feedback = stats.feedback;
    let round_trip = feedback.and_then(|feedback| feedback.round_trip_micros);
    StreamStat {
        r#type: "outbound-rtp",
        timestamp,
        ssrc: stats.ssrc,
        rtx_ssrc: stats.rtx_ssrc,
        rid: None,
        kind: track.kind,
        mime_type: track.mime_type.clone(),
        packet_count: stats.sent.packets,
        byte_count: stats.sent.bytes,
        bitrate: stats.sent.bitrate,
        bitrate_by_layer: None,
        packets_lost: feedback.map(|feedback| feedback.lost.into()),
        fraction_lost: feedback.map(|feedback| feedback.fraction_lost),
        jitter: feedback.map(|feedback| feedback.jitter),
        packets_discarded: stats.discarded,
        packets_retransmitted: stats.resent,
        packets_repaired: stats.repaired,
        nack_count: stats.nacks,
        nack_packet_count: stats.nacked,
        pli_count: stats.plis,
        fir_count: stats.firs,
        round_trip_time: round_trip.map(|micros| f64::from(micros) / 1000.0),
        rtx_packets_discarded: None,
        score: stats.score,
    }
}
