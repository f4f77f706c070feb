//! What clients see of a room, as JSON.

use serde::{Deserialize, Serialize};

use super::{Role, event::AppData};
use crate::ortc::{
    DtlsParameters, IceCandidate, IceParameters, Kind, RtpCapabilities, RtpParameters, SctpParameters,
    SctpStreamParameters, StreamType,
};

/// A room.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RoomView {
    /// Call id.
    pub id: String,
    /// The route epoch that this node serves.
    pub epoch: i64,
    /// What the router can receive and send.
    pub router_rtp_capabilities: RtpCapabilities,
    /// Who is in it, by user id.
    pub participants: Vec<ParticipantView>,
    /// What they publish, oldest first.
    pub producers: Vec<ProducerView>,
    /// The data channels that they publish, oldest first.
    pub data_producers: Vec<DataProducerView>,
}

/// A participant.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ParticipantView {
    /// User id.
    pub id: String,
    /// Name to show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Part in the call.
    pub role: Role,
    /// When it entered (RFC 3339).
    pub joined_at: jiff::Timestamp,
}

/// A published track.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProducerView {
    /// Id.
    pub id: String,
    /// Who publishes it.
    pub participant_id: String,
    /// Audio or video.
    pub kind: Kind,
    /// mediasoup's producer type.
    pub r#type: StreamType,
    /// Paused by its publisher.
    pub paused: bool,
    /// What the publisher said about it.
    pub app_data: AppData,
}

/// A published data channel.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DataProducerView {
    /// Id.
    pub id: String,
    /// Who publishes it.
    pub participant_id: String,
    /// Name to show.
    pub label: String,
    /// Subprotocol.
    pub protocol: String,
    /// How the publisher sends it.
    pub sctp_stream_parameters: SctpStreamParameters,
    /// What the publisher said about it.
    pub app_data: AppData,
}

/// A new subscription to a data channel.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DataConsumerView {
    /// Id.
    pub id: String,
    /// The data channel.
    pub data_producer_id: String,
    /// Whose it is.
    pub participant_id: String,
    /// On which stream it comes, and how.
    pub sctp_stream_parameters: SctpStreamParameters,
    /// Name to show.
    pub label: String,
    /// Subprotocol.
    pub protocol: String,
    /// What the publisher said about it.
    pub app_data: AppData,
}

/// Which way media flows on a transport, seen from the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The client publishes.
    Send,
    /// The client subscribes.
    Recv,
}

/// A new transport: what `mediasoup-client` wants for `createSendTransport` and `createRecvTransport`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TransportView {
    /// Id.
    pub id: String,
    /// The server's ICE credentials.
    pub ice_parameters: IceParameters,
    /// Where the server is reached.
    pub ice_candidates: Vec<IceCandidate>,
    /// The server's DTLS parameters.
    pub dtls_parameters: DtlsParameters,
    /// The server's SCTP parameters, where data channels were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sctp_parameters: Option<SctpParameters>,
}

/// A new subscription.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerView {
    /// Id.
    pub id: String,
    /// The track.
    pub producer_id: String,
    /// Whose it is.
    pub participant_id: String,
    /// Audio or video.
    pub kind: Kind,
    /// mediasoup's consumer type.
    pub r#type: StreamType,
    /// What the client will receive.
    pub rtp_parameters: RtpParameters,
    /// The publisher has paused it.
    pub producer_paused: bool,
    /// What the publisher said about it.
    pub app_data: AppData,
}

/// What a client asks for when it subscribes.
#[derive(Clone, Debug)]
pub struct Consumed {
    /// Its receiving transport.
    pub transport: String,
    /// The track.
    pub producer: String,
    /// What it can receive.
    pub capabilities: RtpCapabilities,
    /// Starts paused: nothing is sent until it resumes.
    pub paused: bool,
}
