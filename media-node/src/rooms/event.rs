//! What clients are told over their event socket.

use serde::Serialize;
use serde_json::Value;

use crate::core::command::Layers;

use super::view::{DataProducerView, ParticipantView, ProducerView, RoomView};

/// Why a room ended here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// The call is over.
    Ended,
    /// Its `CallRoom` was deleted.
    Deleted,
    /// Its route leads elsewhere now, and everyone had the time to follow.
    Moved,
}

/// Why a subscription to a data channel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataConsumerEnd {
    /// The data channel has ended.
    #[serde(rename = "producer-closed")]
    Producer,
    /// It is reliable, and its client did not take the messages as fast as they came.
    Overflow,
    /// The client's SCTP association has ended.
    #[serde(rename = "sctp-closed")]
    Sctp,
}

/// Why a subscription gets nothing. There may be several reasons at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PauseReason {
    /// The publisher paused the track.
    Producer,
    /// The path to the receiver is too narrow for the least of it.
    Bandwidth,
    /// Others spoke later, and the room limits how many are seen.
    LastN,
}

/// A message on the event socket: `{"type": …, "data": …}`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", content = "data", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum RoomEvent {
    /// First message: the room as `GET` shows it.
    Room(Box<RoomView>),
    /// Somebody entered.
    ParticipantJoined(ParticipantView),
    /// Somebody left.
    ParticipantLeft {
        /// User id.
        id: String,
    },
    /// Somebody else publishes a track.
    NewProducer(ProducerView),
    /// A track of somebody else has ended, or one of the receiver's own by the word of a moderator.
    ProducerClosed {
        /// The track.
        producer_id: String,
        /// Whose it was.
        participant_id: String,
        /// The moderator who ended it, if it was not its publisher or the end of its transport.
        #[serde(skip_serializing_if = "Option::is_none")]
        closed_by: Option<String>,
    },
    /// One of the receiver's subscriptions has ended because the track did.
    ConsumerClosed {
        /// The subscription.
        consumer_id: String,
        /// The track.
        producer_id: String,
    },
    /// One of the receiver's subscriptions gets nothing for now.
    ConsumerPaused {
        /// The subscription.
        consumer_id: String,
        /// The track.
        producer_id: String,
        /// Why.
        reason: PauseReason,
    },
    /// What paused it is over.
    ConsumerResumed {
        /// The subscription.
        consumer_id: String,
        /// The track.
        producer_id: String,
        /// What is over.
        reason: PauseReason,
    },
    /// One of the receiver's subscriptions gets other layers now.
    LayersChanged {
        /// The subscription.
        consumer_id: String,
        /// Up to these.
        #[serde(flatten)]
        layers: Layers,
    },
    /// Somebody else publishes a data channel.
    NewDataProducer(DataProducerView),
    /// A data channel of somebody else has ended, or one of the receiver's own by the word of a moderator.
    DataProducerClosed {
        /// The data channel.
        data_producer_id: String,
        /// Whose it was.
        participant_id: String,
        /// The moderator who ended it, if it was not its publisher or the end of its transport.
        #[serde(skip_serializing_if = "Option::is_none")]
        closed_by: Option<String>,
    },
    /// One of the receiver's subscriptions to a data channel has ended.
    DataConsumerClosed {
        /// The subscription.
        data_consumer_id: String,
        /// The data channel.
        data_producer_id: String,
        /// Why.
        reason: DataConsumerEnd,
    },
    /// What is wanted of one of the receiver's tracks has changed: nothing else need be sent.
    ProducerLayersWanted {
        /// The track.
        producer_id: String,
        /// The highest spatial layer that anybody wants; `null` when nobody wants anything.
        spatial_layer: Option<u8>,
    },
    /// Who speaks now (nobody if both are absent): to a new socket, and when it changes.
    ActiveSpeaker {
        /// The track.
        #[serde(skip_serializing_if = "Option::is_none")]
        producer_id: Option<String>,
        /// Whose it is.
        #[serde(skip_serializing_if = "Option::is_none")]
        participant_id: Option<String>,
    },
    /// The room has ended here; the socket closes.
    RoomClosed {
        /// Why.
        reason: Reason,
    },
    /// The room's route leads elsewhere; the socket closes.
    RouteChanged {
        /// Why.
        reason: Reason,
        /// The last epoch that was served here; the current one is later.
        served_epoch: i64,
    },
}

/// Application data of a producer: any JSON, handed on unread.
pub type AppData = Value;
