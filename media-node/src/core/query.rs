//! Answers to questions about one transport, producer or consumer.

use std::net::SocketAddr;

use super::Core;
use super::command::{ConsumerId, Layers, ProducerId, TransportId, TransportState};
use super::consumer::Feedback;

/// A transport as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct TransportStats {
    /// Where it stands.
    pub state: TransportState,
    /// The selected remote tuple.
    pub remote: Option<SocketAddr>,
    /// Producers on it.
    pub producers: usize,
    /// Consumers on it.
    pub consumers: usize,
    /// What the path to the client is taken to carry, in bits per second; `None` while nothing is known.
    pub available_outgoing_bitrate: Option<u64>,
    /// Fraction of the packets sent to the client that it reports as lost, smoothed over a second or two;
    /// `None` without transport-wide feedback.
    pub rtp_packet_loss_sent: Option<f64>,
}

/// One encoding of a producer.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamStats {
    /// SSRC, once it is known.
    pub ssrc: Option<u32>,
    /// RTP stream id.
    pub rid: Option<String>,
    /// Packets received, repaired ones included.
    pub packets: u64,
    /// Bytes received, RTP headers included.
    pub bytes: u64,
    /// Packets that never came.
    pub lost: u64,
    /// Interarrival jitter in timestamp units.
    pub jitter: u32,
}

/// A producer as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct ProducerStats {
    /// Nothing is forwarded.
    pub paused: bool,
    /// By encoding.
    pub streams: Vec<StreamStats>,
}

/// A consumer as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct ConsumerStats {
    /// Nothing is sent.
    pub paused: bool,
    /// The layers being forwarded; ones above those of the producer mean all of them.
    pub layers: Option<Layers>,
    /// Packets sent, without resent ones; wraps like RTCP's counter.
    pub packets: u32,
    /// Payload bytes sent; wraps like RTCP's counter.
    pub octets: u32,
    /// What the subscriber reports.
    pub feedback: Feedback,
}

impl Core {
    /// A transport's state.
    pub fn transport_stats(&self, id: TransportId) -> Option<TransportStats> {
        let transport = self.transports.get(*self.transport_keys.get(&id)?)?;
        Some(TransportStats {
            state: transport.state,
            remote: transport.ice.selected().map(|t| t.remote),
            producers: transport.producers.len(),
            consumers: transport.consumers.len(),
            available_outgoing_bitrate: transport.available.map(|bitrate| bitrate as u64),
            rtp_packet_loss_sent: transport.congestion.as_ref().and_then(|c| c.loss()),
        })
    }

    /// A producer's state.
    pub fn producer_stats(&self, id: ProducerId) -> Option<ProducerStats> {
        let producer = self.producers.get(*self.producer_keys.get(&id)?)?;
        let streams = producer.streams.iter().map(|stream| {
            let reception = stream.reception.as_ref();
            StreamStats {
                ssrc: stream.ssrc,
                rid: stream.rid.clone(),
                packets: reception.map_or(0, |r| r.received),
                bytes: reception.map_or(0, |r| r.bytes),
                lost: reception.map_or(0, |r| r.lost()),
                jitter: reception.map_or(0, |r| r.jitter()),
            }
        });
        Some(ProducerStats { paused: producer.paused, streams: streams.collect() })
    }

    /// A consumer's state.
    pub fn consumer_stats(&self, id: ConsumerId) -> Option<ConsumerStats> {
        let consumer = self.consumers.get(*self.consumer_keys.get(&id)?)?;
        Some(ConsumerStats {
            paused: consumer.paused,
            layers: consumer.layers.current(),
            packets: consumer.packets,
            octets: consumer.octets,
            feedback: consumer.feedback,
        })
    }
}
