//! Answers to questions about one transport, producer or consumer. Whatever is not known is not answered: no zero stands
//! for "not measured".

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::Core;
use super::bandwidth::micros_since;
use super::command::{ConsumerId, DataConsumerId, DataProducerId, Layers, ProducerId, TransportId, TransportState};
use super::consumer::Feedback;
use super::ice::Protocol;
use super::meter::Meter;
use super::producer::Stream;

/// What can be asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// A transport.
    Transport(TransportId),
    /// A producer.
    Producer(ProducerId),
    /// A consumer, and the stream that it gets.
    Consumer(ConsumerId),
    /// A data producer.
    DataProducer(DataProducerId),
    /// A data consumer.
    DataConsumer(DataConsumerId),
}

/// The answer to a [`Question`], of the same name.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// A transport.
    Transport(Box<TransportStats>),
    /// A producer.
    Producer(ProducerStats),
    /// A consumer.
    Consumer(Box<ConsumerStats>),
    /// A data producer.
    DataProducer(DataStats),
    /// A data consumer.
    DataConsumer(DataStats),
}

/// Where ICE stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IceState {
    /// No valid connectivity check yet.
    New,
    /// The client has validated a tuple.
    Connected,
    /// And has chosen it.
    Completed,
    /// The client proves no consent any more (RFC 7675).
    Disconnected,
}

/// Where DTLS stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DtlsState {
    /// Not begun.
    New,
    /// The handshake is under way.
    Connecting,
    /// Keys are in place.
    Connected,
    /// The handshake has failed.
    Failed,
    /// The client said goodbye.
    Closed,
}

/// Where SCTP stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SctpState {
    /// The client has not begun.
    New,
    /// The client has begun.
    Connecting,
    /// There is an association.
    Connected,
    /// It has ended.
    Closed,
}

/// Where a client is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelectedTuple {
    /// How.
    pub protocol: Protocol,
    /// Our address.
    pub local: IpAddr,
    /// The client's address and port.
    pub remote: SocketAddr,
}

/// What flows in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Packets since the beginning.
    pub packets: u64,
    /// Bytes since the beginning.
    pub bytes: u64,
    /// Bits per second over the last second.
    pub bitrate: u64,
}

/// A transport as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct TransportStats {
    /// Where it stands.
    pub state: TransportState,
    /// Where ICE stands.
    pub ice: IceState,
    /// Where DTLS stands.
    pub dtls: DtlsState,
    /// Where SCTP stands, where data channels are enabled.
    pub sctp: Option<SctpState>,
    /// Where the client is reached.
    pub tuple: Option<SelectedTuple>,
    /// Producers on it.
    pub producers: usize,
    /// Consumers on it.
    pub consumers: usize,
    /// Datagrams from the client.
    pub received: Flow,
    /// Datagrams to the client.
    pub sent: Flow,
    /// RTP from the client, without its protection.
    pub rtp_received: Flow,
    /// RTP to the client, without its protection.
    pub rtp_sent: Flow,
    /// RTX from the client.
    pub rtx_received: Flow,
    /// What was sent to the client again.
    pub rtx_sent: Flow,
    /// Padding sent to find out what the path carries.
    pub probation_sent: Flow,
    /// What the path to the client is taken to carry, in bits per second; `None` while nothing is known.
    pub available_outgoing_bitrate: Option<u64>,
    /// What the path from the client is taken to carry, in bits per second; `None` if the client judges that itself.
    pub available_incoming_bitrate: Option<u64>,
    /// What the client is asked not to exceed, in bits per second.
    pub max_incoming_bitrate: Option<u64>,
    /// Fraction of the client's packets that did not come, smoothed over some seconds; `None` before a report.
    pub rtp_packet_loss_received: Option<f64>,
    /// Fraction of the packets sent to the client that it reports as lost, smoothed over a second or two;
    /// `None` without transport-wide feedback.
    pub rtp_packet_loss_sent: Option<f64>,
}

/// One encoding of a producer.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamStats {
    /// SSRC, once it is known.
    pub ssrc: Option<u32>,
    /// SSRC of its RTX stream, once it is known.
    pub rtx_ssrc: Option<u32>,
    /// RTP stream id.
    pub rid: Option<String>,
    /// Packets received, repaired ones included.
    pub packets: u64,
    /// Bytes received, RTP headers included.
    pub bytes: u64,
    /// Bits per second over the last second.
    pub bitrate: u64,
    /// The same up to each spatial and temporal layer, where there are several.
    pub layers: Vec<(Layers, u64)>,
    /// Packets that did not come by themselves.
    pub lost: u64,
    /// Fraction of these in the last interval of a report, in 256ths.
    pub fraction_lost: u8,
    /// Interarrival jitter in timestamp units.
    pub jitter: u32,
    /// Packets that came and were of no use.
    pub discarded: u64,
    /// RTX packets that came and were of no use, padding aside.
    pub rtx_discarded: u64,
    /// Packets that were sent again.
    pub resent: u64,
    /// Missing packets that came after all.
    pub repaired: u64,
    /// NACKs sent.
    pub nacks: u64,
    /// Sequence numbers in them.
    pub nacked: u64,
    /// PLIs sent. FIR is never sent.
    pub plis: u64,
    /// 0 (nothing comes) to 10.
    pub score: u8,
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
    /// SSRC of the stream.
    pub ssrc: u32,
    /// SSRC of its RTX stream.
    pub rtx_ssrc: Option<u32>,
    /// Packets sent, without resent ones.
    pub sent: Flow,
    /// Packets sent again.
    pub resent: u64,
    /// Packets that were sent again at least once.
    pub repaired: u64,
    /// Packets that came too late to be sent, or when too many were waiting.
    pub discarded: u64,
    /// NACKs received.
    pub nacks: u64,
    /// Sequence numbers in them.
    pub nacked: u64,
    /// PLIs received.
    pub plis: u64,
    /// FIRs received.
    pub firs: u64,
    /// What the subscriber reports, once it has.
    pub feedback: Option<Feedback>,
    /// 0 (nothing arrives) to 10.
    pub score: u8,
    /// The stream that is being forwarded.
    pub stream: Option<StreamStats>,
}

/// A data producer or a data consumer as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataStats {
    /// Messages received from, or queued for, the client.
    pub messages: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Bytes that wait to be sent; zero of a data producer.
    pub buffered: usize,
}

impl TransportStats {
    /// Where the client is.
    pub fn remote(&self) -> Option<SocketAddr> {
        self.tuple.map(|tuple| tuple.remote)
    }
}

impl Core {
    /// The answer, as of `now`; `None` about what does not exist.
    pub fn answer(&mut self, question: Question, now: Instant) -> Option<Answer> {
        Some(match question {
            Question::Transport(id) => Answer::Transport(Box::new(self.transport_stats(id, now)?)),
            Question::Producer(id) => Answer::Producer(self.producer_stats(id, now)?),
            Question::Consumer(id) => Answer::Consumer(Box::new(self.consumer_stats(id, now)?)),
            Question::DataProducer(id) => Answer::DataProducer(self.data_producer_stats(id)?),
            Question::DataConsumer(id) => Answer::DataConsumer(self.data_consumer_stats(id)?),
        })
    }

    /// How a transport stands.
    pub fn transport_stats(&self, id: TransportId, now: Instant) -> Option<TransportStats> {
        let transport = self.transports.get(*self.transport_keys.get(&id)?)?;
        let micros = micros_since(self.epoch, now);
        let flow =
            |meter: &Meter| Flow { packets: meter.packets(), bytes: meter.bytes(), bitrate: meter.bitrate(micros) };
        let tuple = transport.ice.selected();
        let traffic = &transport.traffic;
        Some(TransportStats {
            state: transport.state,
            ice: match (transport.state, tuple) {
                (TransportState::Disconnected, _) => IceState::Disconnected,
                (_, None) => IceState::New,
                _ if transport.ice.is_nominated() => IceState::Completed,
                _ => IceState::Connected,
            },
            dtls: match transport.state {
                TransportState::Failed => DtlsState::Failed,
                TransportState::Closed => DtlsState::Closed,
                _ if transport.srtp.is_some() => DtlsState::Connected,
                _ if transport.dtls.is_started() => DtlsState::Connecting,
                _ => DtlsState::New,
            },
            sctp: transport.sctp.as_ref().map(|sctp| sctp.state()),
            tuple: tuple.map(|t| SelectedTuple { protocol: t.protocol, local: t.local, remote: t.remote }),
            producers: transport.producers.len(),
            consumers: transport.consumers.len(),
            received: flow(&traffic.received),
            sent: flow(&traffic.sent),
            rtp_received: flow(&traffic.rtp_received),
            rtp_sent: flow(&traffic.rtp_sent),
            rtx_received: flow(&traffic.rtx_received),
            rtx_sent: flow(&traffic.rtx_sent),
            probation_sent: flow(&traffic.probation_sent),
            available_outgoing_bitrate: transport.available.map(|bitrate| bitrate as u64),
            available_incoming_bitrate: transport
                .receiving
                .as_ref()
                .and_then(|r| r.told())
                .map(|bitrate| bitrate as u64),
            max_incoming_bitrate: self.rooms.get(&transport.room).and_then(|room| room.max_publish_bitrate),
            rtp_packet_loss_received: transport.loss_received,
            rtp_packet_loss_sent: transport.congestion.as_ref().and_then(|c| c.loss()),
        })
    }

    /// How a producer stands.
    pub fn producer_stats(&self, id: ProducerId, now: Instant) -> Option<ProducerStats> {
        let producer = self.producers.get(*self.producer_keys.get(&id)?)?;
        let streams = producer.streams.iter().map(|stream| self.stream_stats(stream, now)).collect();
        Some(ProducerStats { paused: producer.paused, streams })
    }

    fn stream_stats(&self, stream: &Stream, now: Instant) -> StreamStats {
        let (reception, tally) = (stream.reception.as_ref(), &stream.tally);
        let highest = stream.scalability.highest();
        let active = stream.rates.active(now, self.config.encoding_timeout);
        let mut layers = Vec::new();
        if highest != Layers::LOWEST {
            for spatial in 0..=highest.spatial {
                for temporal in 0..=highest.temporal {
                    let layer = Layers { spatial, temporal };
                    let comes = active.is_some_and(|a| spatial <= a.spatial && temporal <= a.temporal);
                    let up_to = |spatial, temporal| stream.rates.bitrate(Layers { spatial, temporal }, now);
                    // As mediasoup has it: with all temporal layers of the spatial ones below.
                    let below = spatial.checked_sub(1).map_or(0, |s| up_to(s, u8::MAX) - up_to(s, temporal));
                    layers.push((layer, if comes { up_to(spatial, temporal) + below } else { 0 }));
                }
            }
        }
        StreamStats {
            ssrc: stream.ssrc,
            rtx_ssrc: stream.rtx_ssrc,
            rid: stream.rid.clone(),
            packets: reception.map_or(0, |r| r.received),
            bytes: reception.map_or(0, |r| r.bytes),
            bitrate: stream.rates.bitrate(Layers::ALL, now),
            layers,
            lost: stream.lost(),
            fraction_lost: tally.fraction_lost,
            jitter: reception.map_or(0, |r| r.jitter()),
            discarded: tally.discarded,
            rtx_discarded: tally.rtx_discarded,
            resent: tally.resent,
            repaired: tally.repaired,
            nacks: tally.nacks,
            nacked: tally.nacked,
            plis: tally.plis,
            score: stream.score(now),
        }
    }

    /// How a consumer stands.
    pub fn consumer_stats(&self, id: ConsumerId, now: Instant) -> Option<ConsumerStats> {
        let consumer = self.consumers.get(*self.consumer_keys.get(&id)?)?;
        let tally = &consumer.tally;
        let encoding = consumer.layers.encoding();
        let stream = self.producers.get(consumer.producer).and_then(|p| p.streams.get(encoding?));
        Some(ConsumerStats {
            paused: consumer.paused,
            layers: consumer.layers.current(),
            ssrc: consumer.ssrc,
            rtx_ssrc: consumer.rtx.map(|(ssrc, _)| ssrc),
            sent: Flow {
                packets: tally.meter.packets(),
                bytes: tally.meter.bytes(),
                bitrate: tally.meter.bitrate(micros_since(self.epoch, now)),
            },
            resent: tally.resent,
            repaired: tally.repaired,
            discarded: tally.discarded,
            nacks: tally.nacks,
            nacked: tally.nacked,
            plis: tally.plis,
            firs: tally.firs,
            feedback: consumer.feedback,
            score: tally.score.value(),
            stream: stream.map(|stream| self.stream_stats(stream, now)),
        })
    }
}
