//! Data channels of a client: `rtc::sctp` as the side that connects.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rtc::sctp::{
    Association, ClientConfig, DatagramEvent, Endpoint, EndpointConfig, Event, Payload, PayloadProtocolIdentifier,
    ReliabilityType, StreamEvent, TransportConfig,
};
use rtc::shared::TransportProtocol;

use crate::core::command::{Delivery, Reliability};

const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9)), 9);

/// A message as a client received it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Received {
    pub stream: u16,
    pub identifier: PayloadProtocolIdentifier,
    pub payload: Vec<u8>,
}

pub(crate) struct DataChannels {
    endpoint: Endpoint,
    association: Association,
    pub connected: bool,
    pub received: Vec<Received>,
    /// Streams that the server has closed.
    pub closed: Vec<u16>,
    pub lost: bool,
    out: VecDeque<Bytes>,
}

impl DataChannels {
    pub fn connect(now: Instant) -> Self {
        let mut endpoint = Endpoint::new(PEER, TransportProtocol::UDP, Arc::new(EndpointConfig::new()), None);
        let config = ClientConfig::new(TransportConfig::default());
        let (_, association) = endpoint.connect(now, config, PEER).unwrap();
        let mut channels = Self {
            endpoint,
            association,
            connected: false,
            received: Vec::new(),
            closed: Vec::new(),
            lost: false,
            out: VecDeque::new(),
        };
        channels.process(now);
        channels
    }

    pub fn send(&mut self, stream: u16, delivery: Delivery, text: &str, now: Instant) {
        self.send_as(stream, delivery, text.as_bytes(), PayloadProtocolIdentifier::String, now);
    }

    pub fn send_as(
        &mut self,
        stream: u16,
        delivery: Delivery,
        payload: &[u8],
        identifier: PayloadProtocolIdentifier,
        now: Instant,
    ) {
        if self.association.stream(stream).is_err() {
            self.association.open_stream(stream, identifier).unwrap();
        }
        let (kind, value) = match delivery.reliability {
            Reliability::Reliable => (ReliabilityType::Reliable, 0),
            Reliability::Retransmits(count) => (ReliabilityType::Rexmit, count),
            Reliability::Lifetime(milliseconds) => (ReliabilityType::Timed, milliseconds),
        };
        let mut stream = self.association.stream(stream).unwrap();
        stream.set_reliability_params(!delivery.ordered, kind, value).unwrap();
        stream.write_with_ppi(now, payload, identifier).unwrap();
        self.process(now);
    }

    pub fn receive(&mut self, packet: &[u8], now: Instant) {
        let packet = Bytes::copy_from_slice(packet);
        if let Some((_, DatagramEvent::AssociationEvent(event))) = self.endpoint.handle(now, PEER, None, packet) {
            self.association.handle_event(event);
        }
        self.process(now);
    }

    pub fn abort(&mut self) {
        self.association.abort().unwrap();
        let packets = std::iter::from_fn(|| self.association.poll_transmit(super::origin()));
        for transmit in packets {
            if let Payload::RawEncode(packets) = transmit.message {
                self.out.extend(packets);
            }
        }
    }

    pub fn timeout(&self) -> Option<Instant> {
        self.association.poll_timeout()
    }

    pub fn tick(&mut self, now: Instant) {
        self.association.handle_timeout(now);
        self.process(now);
    }

    pub fn poll(&mut self) -> Option<Bytes> {
        self.out.pop_front()
    }

    /// Texts that came on a stream.
    pub fn texts(&self, stream: u16) -> Vec<String> {
        let of_stream = self.received.iter().filter(|message| message.stream == stream);
        of_stream.map(|message| String::from_utf8(message.payload.clone()).unwrap()).collect()
    }

    fn process(&mut self, now: Instant) {
        while let Some(event) = self.association.poll() {
            match event {
                Event::Connected => self.connected = true,
                Event::AssociationLost { id, .. } => {
                    self.closed.push(id);
                    self.lost = self.association.is_closed();
                }
                Event::Stream(StreamEvent::Readable { id }) => {
                    let Ok(mut stream) = self.association.stream(id) else { continue };
                    while let Ok(Some(chunks)) = stream.read_sctp() {
                        let payload = chunks.to_payload(1 << 20).unwrap().to_vec();
                        self.received.push(Received { stream: id, identifier: chunks.ppi, payload });
                    }
                }
                _ => {}
            }
        }
        while let Some(transmit) = self.association.poll_transmit(now) {
            if let Payload::RawEncode(packets) = transmit.message {
                self.out.extend(packets);
            }
        }
    }
}
