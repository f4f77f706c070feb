//! SCTP over the transport's DTLS (RFC 8261, RFC 8831): the association under one client's data channels.
//!
//! The protocol itself is `rtc::sctp`. This module adds what that leaves to its user:
//!
//! - It answers a repeated INIT as it did the first, and has one association, never a second.
//! - It takes out of packets what would make the association walk, remember or close for nothing ([`guard`]).
//! - It sends requests to reset streams one by one, and until the peer is done ([`requests`]).
//! - It counts the memory behind both queues, and ends an association whose peer makes it grow ([`ledger`]).
//! - It answers channels that are opened in band ([`dcep`]), and reads every message as soon as it is whole.

mod dcep;
mod guard;
mod ledger;
mod requests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use rtc::sctp::{
    Association, DatagramEvent, Endpoint, EndpointConfig, Event, Payload, PayloadProtocolIdentifier, ReliabilityType,
    ServerConfig, Stream, StreamEvent, TimerConfig, TransportConfig, max_payload_size_for_mtu,
};
use rtc::shared::TransportProtocol;

use super::command::{Delivery, Reliability};
use super::query::SctpState;
use super::stats::Drop;
use guard::{Guard, Init};
use ledger::Ledger;
pub(crate) use limits::{MAX_MESSAGE, MAX_STREAMS, PORT};

/// What clients must know.
pub mod limits {
    /// Port of every association in WebRTC; nothing but the client's SDP cares.
    pub const PORT: u16 = 5000;
    /// Streams in each direction.
    pub const MAX_STREAMS: u16 = 1024;
    /// Largest message, in bytes, in both directions.
    pub const MAX_MESSAGE: usize = 256 * 1024;
}

/// The endpoint keys associations by address; there is one, and addresses that change.
const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 1);
const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), 1);
/// With the 37 bytes of a DTLS record a datagram of 1200 bytes.
const MTU: u32 = 1163;
/// What the peer may have on the way: two of the largest messages.
const RECEIVE_WINDOW: u32 = 2 * MAX_MESSAGE as u32;
/// What incomplete messages may cost in memory. More than a window full of packets, so only a peer that
/// sends pieces without end, or in grains, gets there: that ends the association.
const MAX_INBOUND: usize = 2 << 20;
/// What waits to be sent on one stream, in bytes of messages.
const MAX_QUEUED: usize = 1 << 20;
/// What waits to be sent to one client, and is not acknowledged, in memory.
const MAX_OUTBOUND: usize = 4 << 20;
/// What one association may cost.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) const MAX_HELD: usize = MAX_INBOUND + MAX_OUTBOUND;
/// What one chunk costs in the queues besides its bytes.
const CHUNK_COST: usize = 512;
/// An acknowledgment that reports more holes than fit into this is not sent: the peer repeats itself.
const MAX_PACKET: usize = 8192;

/// What a message is, as its payload protocol identifier says (RFC 8831 §8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Binary,
    /// SCTP has no empty messages: these carry one byte that means none.
    EmptyText,
    EmptyBinary,
}

impl Kind {
    fn of(identifier: PayloadProtocolIdentifier) -> Option<Self> {
        match identifier {
            PayloadProtocolIdentifier::String => Some(Self::Text),
            PayloadProtocolIdentifier::Binary => Some(Self::Binary),
            PayloadProtocolIdentifier::StringEmpty => Some(Self::EmptyText),
            PayloadProtocolIdentifier::BinaryEmpty => Some(Self::EmptyBinary),
            _ => None,
        }
    }

    fn identifier(self) -> PayloadProtocolIdentifier {
        match self {
            Self::Text => PayloadProtocolIdentifier::String,
            Self::Binary => PayloadProtocolIdentifier::Binary,
            Self::EmptyText => PayloadProtocolIdentifier::StringEmpty,
            Self::EmptyBinary => PayloadProtocolIdentifier::BinaryEmpty,
        }
    }
}

/// A whole message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub stream: u16,
    pub kind: Kind,
    pub payload: Bytes,
}

struct Peer {
    /// Knows the association's tag. Has no other.
    endpoint: Endpoint,
    association: Association,
    guard: Guard,
    /// Tag and first sequence number of the INIT, and what it was answered with.
    init: (u32, u32),
    answer: Vec<Bytes>,
    is_established: bool,
    inbound: Ledger,
    outbound: Ledger,
}

/// SCTP of one transport.
pub(crate) struct Sctp {
    endpoint_config: Arc<EndpointConfig>,
    server_config: Arc<ServerConfig>,
    peer: Option<Peer>,
    /// Streams that data producers are bound to, and whether their messages are unordered. The association
    /// must know, or it keeps the pieces of what the peer gave up.
    bound: BTreeMap<u16, bool>,
    messages: VecDeque<Message>,
    outgoing: VecDeque<Bytes>,
    was_lost: bool,
    has_ended: bool,
    /// Messages that were received and could not be handed on, by reason.
    dropped: Vec<Drop>,
}

impl Sctp {
    pub fn new() -> Self {
        let mut endpoint_config = EndpointConfig::new();
        endpoint_config.max_payload_size(max_payload_size_for_mtu(MTU));
        let transport = TransportConfig::default()
            .with_sctp_port(PORT)
            .with_max_message_size(MAX_MESSAGE as u32)
            .with_max_receive_buffer_size(RECEIVE_WINDOW)
            .with_max_num_inbound_streams(MAX_STREAMS)
            .with_max_num_outbound_streams(MAX_STREAMS)
            // After its last attempt the association would be silent, not closed. Consent decides when a
            // client is gone.
            .with_timer_config(TimerConfig {
                max_t3_rtx_retrans: usize::MAX,
                max_reconfig_retrans: usize::MAX,
                max_ack_retrans: usize::MAX,
                ..TimerConfig::default()
            });
        Self {
            endpoint_config: Arc::new(endpoint_config),
            server_config: Arc::new(ServerConfig::new(transport)),
            peer: None,
            bound: BTreeMap::new(),
            messages: VecDeque::new(),
            outgoing: VecDeque::new(),
            was_lost: false,
            has_ended: false,
            dropped: Vec::new(),
        }
    }

    /// A packet out of a DTLS record.
    ///
    /// # Errors
    ///
    /// Why it was dropped.
    pub fn receive(&mut self, packet: BytesMut, now: Instant) -> Result<(), Drop> {
        if guard::is_init(&packet) {
            return self.on_init(Init::parse(&packet).ok_or(Drop::MalformedSctp)?, now);
        }
        let peer = self.peer.as_mut().ok_or(Drop::SctpUnexpected)?;
        let verdict = peer.guard.judge(&packet, |stream| self.bound.contains_key(&stream), now)?;
        let bytes: Vec<u8> = verdict.rewritten.unwrap_or_else(|| packet.to_vec());
        let cost = bytes.len() + verdict.data * CHUNK_COST;
        if verdict.data > 0 && peer.inbound.held() + cost > MAX_INBOUND {
            self.abort(now);
            return Err(Drop::SctpOverflow);
        }
        let bytes = peer.inbound.lend(bytes, cost);
        match peer.endpoint.handle(now, PEER, None, bytes) {
            Some((_, DatagramEvent::AssociationEvent(event))) => peer.association.handle_event(event),
            // Another tag or checksum.
            _ => return Err(Drop::MalformedSctp),
        }
        self.process(now);
        if self.peer.as_ref().is_some_and(|peer| peer.guard.is_ignored()) {
            self.abort(now);
            return Err(Drop::SctpOverflow);
        }
        Ok(())
    }

    fn on_init(&mut self, Init { tag, initial_tsn, packet }: Init, now: Instant) -> Result<(), Drop> {
        if let Some(peer) = &self.peer {
            if peer.is_established {
                return Err(Drop::SctpUnexpected);
            }
            if peer.init == (tag, initial_tsn) {
                self.outgoing.extend(peer.answer.iter().cloned());
                return Ok(());
            }
        }
        let server = Some(self.server_config.clone());
        let mut endpoint = Endpoint::new(LOCAL, TransportProtocol::UDP, self.endpoint_config.clone(), server);
        let association = match endpoint.handle(now, PEER, None, packet.into()) {
            Some((_, DatagramEvent::NewAssociation(association))) => association,
            _ => return Err(Drop::MalformedSctp),
        };
        let mut peer = Peer {
            endpoint,
            association,
            guard: Guard::new(initial_tsn, MAX_STREAMS),
            init: (tag, initial_tsn),
            answer: Vec::new(),
            is_established: false,
            inbound: Ledger::default(),
            outbound: Ledger::default(),
        };
        peer.answer.extend(transmits(&mut peer.association, now));
        if peer.answer.is_empty() || peer.association.is_closed() && peer.association.poll().is_some() {
            return Err(Drop::MalformedSctp);
        }
        self.outgoing.extend(peer.answer.iter().cloned());
        self.peer = Some(peer);
        Ok(())
    }

    /// Binds a data producer's stream.
    pub fn bind(&mut self, stream: u16, unordered: bool) {
        self.bound.insert(stream, unordered);
        if let Some(peer) = self.peer.as_mut().filter(|peer| peer.is_established) {
            expect_on(&mut peer.association, stream, unordered);
        }
    }

    pub fn unbind(&mut self, stream: u16) {
        self.bound.remove(&stream);
    }

    /// Queues a message. It leaves with [`Sctp::flush`].
    ///
    /// # Errors
    ///
    /// [`Drop::DataNotConnected`] without an association or stream, [`Drop::DataQueueFull`].
    pub fn send(&mut self, stream: u16, delivery: Delivery, message: &Message, now: Instant) -> Result<(), Drop> {
        let peer = self.peer.as_mut().filter(|peer| peer.is_established).ok_or(Drop::DataNotConnected)?;
        let len = message.payload.len();
        let cost = len + len.div_ceil(MTU as usize) * CHUNK_COST;
        if peer.outbound.held() + cost > MAX_OUTBOUND {
            return Err(Drop::DataQueueFull);
        }
        if peer.association.negotiated_max_streams().is_none_or(|max| stream >= max) {
            return Err(Drop::DataNotConnected);
        }
        if peer.association.stream(stream).is_err() {
            let opened = peer.association.open_stream(stream, PayloadProtocolIdentifier::Binary);
            opened.map_err(|_| Drop::DataNotConnected)?;
        }
        let mut stream = peer.association.stream(stream).map_err(|_| Drop::DataNotConnected)?;
        if stream.buffered_amount().is_ok_and(|queued| queued + len > MAX_QUEUED) {
            return Err(Drop::DataQueueFull);
        }
        let (kind, value) = match delivery.reliability {
            Reliability::Reliable => (ReliabilityType::Reliable, 0),
            Reliability::Retransmits(count) => (ReliabilityType::Rexmit, count),
            Reliability::Lifetime(milliseconds) => (ReliabilityType::Timed, milliseconds),
        };
        stream.set_reliability_params(!delivery.ordered, kind, value).map_err(|_| Drop::DataNotConnected)?;
        let payload = peer.outbound.lend(message.payload.clone(), cost);
        let written = stream.write_chunk_with_ppi(now, &payload, message.kind.identifier());
        written.map(drop).map_err(|_| Drop::DataNotConnected)
    }

    /// Ends a stream of ours; what was queued on it still leaves.
    pub fn close_stream(&mut self, stream: u16, now: Instant) {
        if let Some(peer) = &mut self.peer
            && let Ok(mut stream) = peer.association.stream(stream)
        {
            // Fails where the association is not established: there is nothing to tell then.
            let _ = stream.close(now);
        }
        self.process(now);
    }

    /// Lets the association send what it may.
    pub fn flush(&mut self, now: Instant) {
        self.process(now);
    }

    /// The next message, in the order in which they became whole.
    pub fn poll_message(&mut self) -> Option<Message> {
        self.messages.pop_front()
    }

    /// The next packet to seal into a DTLS record.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.outgoing.pop_front()
    }

    /// Messages that were dropped since this was asked last.
    pub fn take_dropped(&mut self) -> Vec<Drop> {
        std::mem::take(&mut self.dropped)
    }

    /// Whether the association has ended since this was asked last.
    pub fn take_lost(&mut self) -> bool {
        std::mem::take(&mut self.was_lost)
    }

    /// Where the association stands.
    pub fn state(&self) -> SctpState {
        match &self.peer {
            None if self.has_ended => SctpState::Closed,
            None => SctpState::New,
            Some(peer) if peer.is_established => SctpState::Connected,
            Some(_) => SctpState::Connecting,
        }
    }

    /// Bytes of messages that wait on a stream, or are not acknowledged.
    pub fn buffered(&mut self, stream: u16) -> usize {
        let stream = self.peer.as_mut().and_then(|peer| peer.association.stream(stream).ok());
        stream.and_then(|stream| stream.buffered_amount().ok()).unwrap_or_default()
    }

    /// Memory behind both queues.
    #[cfg(any(test, feature = "fuzzing"))]
    pub fn held(&self) -> usize {
        self.peer.as_ref().map_or(0, |peer| peer.inbound.held() + peer.outbound.held())
    }

    pub fn timeout(&self) -> Option<Instant> {
        let peer = self.peer.as_ref()?;
        peer.association.poll_timeout().into_iter().chain(peer.guard.requests.timeout()).min()
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        if self.timeout().is_some_and(|at| at <= now)
            && let Some(peer) = &mut self.peer
        {
            peer.association.handle_timeout(now);
            self.process(now);
        }
    }

    /// Ends the association and tells the peer.
    fn abort(&mut self, now: Instant) {
        let Some(peer) = &mut self.peer else { return };
        // Cannot fail on an association that is not closed, and on one that is there is nobody to tell.
        let _ = peer.association.abort();
        self.process(now);
    }

    fn process(&mut self, now: Instant) {
        let Some(peer) = &mut self.peer else { return };
        let mut is_over = false;
        while let Some(event) = peer.association.poll() {
            match event {
                Event::Connected => {
                    peer.is_established = true;
                    for (stream, unordered) in &self.bound {
                        expect_on(&mut peer.association, *stream, *unordered);
                    }
                }
                Event::HandshakeFailed { .. } => is_over = true,
                Event::Stream(StreamEvent::Readable { id }) => {
                    let Ok(mut stream) = peer.association.stream(id) else { continue };
                    while let Ok(Some(chunks)) = stream.read_sctp() {
                        let Ok(payload) = chunks.to_payload(MAX_MESSAGE) else {
                            self.dropped.push(Drop::DataTooLarge);
                            continue;
                        };
                        if let Some(kind) = Kind::of(chunks.ppi) {
                            self.messages.push_back(Message { stream: id, kind, payload: payload.freeze() });
                        } else if chunks.ppi == PayloadProtocolIdentifier::Dcep {
                            answer(&mut stream, &payload, &peer.outbound, now);
                        } else {
                            self.dropped.push(Drop::DataUnknownKind);
                        }
                    }
                }
                _ => {}
            }
        }
        // Streams are known by their events; the queue of those not accepted must not grow.
        while peer.association.accept_stream().is_some() {}
        while peer.association.poll_endpoint_event().is_some() {}
        for packet in transmits(&mut peer.association, now) {
            if peer.guard.sent(&packet) && packet.len() <= MAX_PACKET {
                self.outgoing.push_back(packet);
            }
        }
        self.outgoing.extend(peer.guard.requests.poll(now));
        if is_over || peer.is_established && peer.association.is_closed() {
            self.was_lost |= peer.is_established;
            self.has_ended |= peer.is_established;
            self.peer = None;
        }
    }
}

/// Answers a channel that is opened in band, unless there is too much on its way to that peer already.
fn answer(stream: &mut Stream<'_>, message: &[u8], outbound: &Ledger, now: Instant) {
    let Some(open) = dcep::Open::parse(message) else { return };
    expect(stream, open.unordered);
    if outbound.held() + CHUNK_COST <= MAX_OUTBOUND {
        let ack = outbound.lend(dcep::ACK, CHUNK_COST);
        // A stream that has closed meanwhile needs no answer.
        let _ = stream.write_chunk_with_ppi(now, &ack, PayloadProtocolIdentifier::Dcep);
    }
}

/// Makes a stream that a data producer is bound to: the association does not follow messages that were given
/// up on one that it does not know yet.
fn expect_on(association: &mut Association, id: u16, unordered: bool) {
    if association.stream(id).is_err() {
        // Cannot fail: there is none of that number.
        let _ = association.open_stream(id, PayloadProtocolIdentifier::Binary);
    }
    if let Ok(mut stream) = association.stream(id) {
        expect(&mut stream, unordered);
    }
}

/// Tells the association in which order a peer's messages come.
fn expect(stream: &mut Stream<'_>, unordered: bool) {
    // Fails only for a stream that is gone.
    let _ = stream.set_reliability_params(unordered, ReliabilityType::Reliable, 0);
}

fn transmits(association: &mut Association, now: Instant) -> Vec<Bytes> {
    let mut packets = Vec::new();
    while let Some(transmit) = association.poll_transmit(now) {
        if let Payload::RawEncode(mut encoded) = transmit.message {
            packets.append(&mut encoded);
        }
    }
    packets
}
