//! The packet path: a publisher's packet is opened once, understood, and copied for each subscriber
//! ([`fan_out`](super::fan_out)).

use std::time::{Duration, Instant};

use super::bandwidth::micros_since;
use super::codec::{Dependency, has_key_frames, picture};
use super::command::{Codec, ExtensionKind, ProducerCodec};
use super::consumer::Incoming;
use super::nack::Arrival;
use super::reception::Received;
use super::redundancy::Redundancy;
use super::rtp::{Header, Values, unwrap_rtx};
use super::stats::{Counter, Drop, Fate};
use super::transport::{Source, Transport, arm};
use super::{Core, Key};

/// What the rest of the path must know of an opened packet.
struct Opened {
    producer: Key,
    encoding: usize,
    rtx: bool,
    index: u64,
    len: usize,
}

impl Core {
    pub(super) fn on_rtp(&mut self, key: Key, datagram: &mut [u8], now: Instant) -> Result<Fate, Drop> {
        let header = Header::parse(datagram).ok_or(Drop::MalformedRtp)?;
        let transport = self.transports.get_mut(key).ok_or(Drop::UnknownTuple)?;
        if transport.srtp.is_none() || transport.is_over() {
            return Err(Drop::NoKeys);
        }
        let opened = match open_known(transport, datagram, &header) {
            Ok(Some(opened)) => opened,
            Ok(None) => self.open_unknown(key, datagram, &header, now)?,
            Err(Drop::SrtpTooOld) => self.open_ahead(key, datagram, &header, now)?,
            Err(reason) => return Err(reason),
        };
        let packet = &mut datagram[..opened.len];
        self.note_arrival(key, &opened, packet, &header, now);
        let Opened { producer, encoding, rtx, .. } = opened;
        let fate = self.accept(opened, packet, header, now);
        if let Err(
            Drop::UnknownPayloadType | Drop::MalformedRtp | Drop::MalformedRed | Drop::RtxRedundant | Drop::RtxUnbound,
        ) = fate
            && let Some(stream) = self.producers.get_mut(producer).and_then(|p| p.streams.get_mut(encoding))
        {
            let tally = &mut stream.tally;
            *(if rtx { &mut tally.rtx_discarded } else { &mut tally.discarded }) += 1;
        }
        fate
    }

    /// An SSRC that was not signalled: it may belong to a producer that still learns one, or whose own has fallen
    /// silent. Nothing is remembered unless the packet is authentic and names the producer; that it names one is
    /// looked at first, because it costs less.
    fn open_unknown(&mut self, key: Key, packet: &mut [u8], header: &Header, now: Instant) -> Result<Opened, Drop> {
        let transport = self.transports.get_mut(key).ok_or(Drop::UnknownTuple)?;
        let claim = transport.producers.iter().find_map(|&candidate| {
            let producer = self.producers.get(candidate)?;
            let values = Values::read(packet, &header.extensions, &producer.ids);
            producer.claims(header.payload_type, &values, now).map(|(encoding, rtx)| (candidate, encoding, rtx))
        });
        let (candidate, encoding, rtx) = claim.ok_or(Drop::UnknownSsrc)?;
        let mut window = transport.resume(header.ssrc);
        let srtp = transport.srtp.as_mut().ok_or(Drop::NoKeys)?;
        let (index, len) =
            srtp.inbound.open_rtp(&mut window, packet, header.payload_offset, header.ssrc, header.sequence)?;
        let producer = self.producers.get_mut(candidate).ok_or(Drop::UnknownSsrc)?;
        let stream = &mut producer.streams[encoding];
        if rtx {
            stream.rtx_ssrc = Some(header.ssrc);
        } else if let Some(old) = stream.ssrc {
            for gone in stream.rtx_ssrc.into_iter().chain([old]) {
                transport.retire(gone);
            }
            stream.change_ssrc(header.ssrc);
            for consumer in &producer.consumers {
                if let Some(consumer) = self.consumers.get_mut(*consumer) {
                    consumer.begin_anew(encoding);
                }
            }
            self.stats.count(Counter::SsrcChanges);
        } else {
            stream.ssrc = Some(header.ssrc);
        }
        transport.insert(header.ssrc, Source { producer: candidate, encoding, rtx, window });
        Ok(Opened { producer: candidate, encoding, rtx, index, len })
    }

    /// A packet that seems to be from before the window. Where its stream has fallen silent it may as well be from far
    /// ahead: more than half of all sequence numbers have been lost on the way, or left out.
    fn open_ahead(&mut self, key: Key, packet: &mut [u8], header: &Header, now: Instant) -> Result<Opened, Drop> {
        let transport = self.transports.get_mut(key).ok_or(Drop::UnknownTuple)?;
        let source = transport.sources.get_mut(&header.ssrc).ok_or(Drop::UnknownSsrc)?;
        let (producer, encoding, rtx) = (source.producer, source.encoding, source.rtx);
        let stream = self.producers.get(producer).and_then(|p| p.streams.get(encoding));
        if rtx || !stream.is_some_and(|stream| stream.is_silent(now)) {
            return Err(Drop::SrtpTooOld);
        }
        let index = source.window.ahead(header.sequence).ok_or(Drop::SrtpTooOld)?;
        let srtp = transport.srtp.as_mut().ok_or(Drop::NoKeys)?;
        let (window, at) = (&mut source.window, header.payload_offset);
        let len = srtp.inbound.open_rtp_at(window, packet, at, header.ssrc, index)?;
        Ok(Opened { producer, encoding, rtx, index, len })
    }

    /// Transport-wide congestion control counts every packet, whatever becomes of it.
    fn note_arrival(&mut self, key: Key, opened: &Opened, packet: &[u8], header: &Header, now: Instant) {
        let Some(producer) = self.producers.get(opened.producer) else { return };
        let Some(transport) = self.transports.get_mut(key) else { return };
        let values = Values::read(packet, &header.extensions, &producer.ids);
        let micros = micros_since(self.epoch, now);
        let traffic = &mut transport.traffic;
        (if opened.rtx { &mut traffic.rtx_received } else { &mut traffic.rtp_received }).add(opened.len, micros);
        let mut moved = false;
        if let Some(receiving) = &mut transport.receiving {
            let due = receiving.arrived(values.abs_send_time(), packet.len(), micros);
            moved |= arm(&mut transport.deadlines.remb, now + Duration::from_micros(due));
        }
        if let Some(sequence) = values.transport_cc()
            && transport.arrivals.record(sequence, now)
        {
            moved |= arm(&mut transport.deadlines.feedback, now + self.config.transport_cc_interval);
        }
        transport.active = true;
        if transport.deadlines.reports.is_none() {
            moved |= arm(&mut transport.deadlines.reports, now + self.config.report_interval);
        }
        if moved {
            self.reschedule(key);
        }
    }

    /// An authentic packet of a producer.
    fn accept(
        &mut self,
        opened: Opened,
        mut packet: &mut [u8],
        mut header: Header,
        now: Instant,
    ) -> Result<Fate, Drop> {
        let producer = self.producers.get_mut(opened.producer).ok_or(Drop::UnknownSsrc)?;
        let mut index = opened.index + producer.streams[opened.encoding].offset;
        if opened.rtx {
            // Probing for bandwidth, Chromium sends RTX packets of padding alone.
            if header.payload_len(packet).ok_or(Drop::MalformedRtp)? < 2 {
                return Err(Drop::RtxPadding);
            }
            producer.streams[opened.encoding].tally.resent += 1;
            let codec = producer.rtx_codec(header.payload_type).ok_or(Drop::UnknownPayloadType)?;
            let payload_type = codec.payload_type;
            let ssrc = producer.streams[opened.encoding].ssrc.ok_or(Drop::RtxUnbound)?;
            let start = unwrap_rtx(packet, &header, payload_type, ssrc).ok_or(Drop::MalformedRtp)?;
            packet = &mut packet[start..];
            header = Header::parse(packet).ok_or(Drop::MalformedRtp)?;
            index = producer.streams[opened.encoding].index_of(header.sequence).ok_or(Drop::RtxUnbound)?;
        }
        let codec = *producer.codec(header.payload_type).ok_or(Drop::UnknownPayloadType)?;
        header.payload_len(packet).ok_or(Drop::MalformedRtp)?;
        let received = Received {
            index,
            timestamp: header.timestamp,
            clock_rate: codec.clock_rate,
            bytes: packet.len(),
            repaired: opened.rtx,
        };
        let stream = &mut producer.streams[opened.encoding];
        let arrival = stream.receive(&received, now, &self.config).ok_or(Drop::RtxRedundant)?;
        if producer.paused {
            // It has been received: what a pause leaves out is not missing.
            stream.missings.clear();
            return Err(Drop::ProducerPaused);
        }
        self.stats.count(Counter::RtpIn);
        stream.history.insert(index, packet, now);
        let values = Values::read(packet, &header.extensions, &producer.ids);
        if let Some(level) = values.audio_level() {
            let (room, id) = (producer.room, producer.id);
            let heard = self.is_heard(opened.producer, level, now);
            self.hear(room, id, level, now);
            if !heard {
                return Err(Drop::NotAmongLoudest);
            }
        }
        let producer = self.producers.get_mut(opened.producer).ok_or(Drop::UnknownSsrc)?;
        let stream = &mut producer.streams[opened.encoding];
        let dependency = descriptor(codec.codec, &values).and_then(|descriptor| stream.learn(descriptor));
        let codecs = (&codec, &producer.codecs[..]);
        // Its padding has been looked at above.
        let mut incoming = understand(codecs, packet, header, values, dependency).ok_or(Drop::MalformedRed)?;
        (incoming.index, incoming.encoding) = (index, opened.encoding);
        stream.rates.note(incoming.picture.spatial, incoming.picture.temporal, packet.len(), now);
        if incoming.picture.starts && has_key_frames(codec.codec) {
            self.stats.count(Counter::KeyFrames);
            stream.key_frames.satisfied();
        }
        let transport = producer.transport;
        let mut sent = self.send_copies(opened.producer, &incoming, now);
        sent += self.fan_out(opened.producer, &incoming, now);
        self.note_repair(opened.producer, opened.encoding, transport, arrival, now);
        Ok(Fate::Forwarded(sent))
    }

    fn note_repair(&mut self, producer: Key, encoding: usize, transport: Key, arrival: Arrival, now: Instant) {
        let Some(producer) = self.producers.get_mut(producer) else { return };
        let (repairs, refreshes) = (producer.answers_nack(), producer.answers_pli());
        let stream = &mut producer.streams[encoding];
        match arrival {
            Arrival::Recovered => self.stats.count(Counter::Recovered),
            Arrival::Lost(packets) => {
                self.stats.add(Counter::Lost, packets);
                if refreshes {
                    stream.key_frames.want();
                    self.arm_key_frames(transport, now);
                }
                return;
            }
            Arrival::Newest | Arrival::Late => {}
        }
        if !repairs {
            stream.missings.clear();
        } else if let Some(due) = stream.missings.due()
            && let Some(transport_state) = self.transports.get_mut(transport)
            && arm(&mut transport_state.deadlines.nacks, due)
        {
            self.reschedule(transport);
        }
    }

    fn arm_key_frames(&mut self, key: Key, now: Instant) {
        if let Some(transport) = self.transports.get_mut(key)
            && arm(&mut transport.deadlines.key_frames, now)
        {
            self.reschedule(key);
        }
    }
}

/// Opens a packet of a known SSRC; `Ok(None)` if the SSRC is not known.
fn open_known(transport: &mut Transport, packet: &mut [u8], header: &Header) -> Result<Option<Opened>, Drop> {
    let Some(source) = transport.sources.get_mut(&header.ssrc) else { return Ok(None) };
    let srtp = transport.srtp.as_mut().ok_or(Drop::NoKeys)?;
    let (index, len) =
        srtp.inbound.open_rtp(&mut source.window, packet, header.payload_offset, header.ssrc, header.sequence)?;
    Ok(Some(Opened { producer: source.producer, encoding: source.encoding, rtx: source.rtx, index, len }))
}

/// The dependency descriptor of a packet, if it is to be heeded.
pub(super) fn descriptor<'a>(codec: Codec, values: &Values<'a>) -> Option<&'a [u8]> {
    values.get(ExtensionKind::DependencyDescriptor).filter(|_| codec == Codec::Av1)
}

/// Reads what subscribers' copies are made from, of a packet of this codec among all of the producer's. Of which encoding
/// and index, the caller knows. `None` if padding or redundancy contradict the length.
pub(super) fn understand<'a>(
    (codec, codecs): (&ProducerCodec, &[ProducerCodec]),
    packet: &'a [u8],
    header: Header,
    values: Values<'a>,
    dependency: Option<Dependency>,
) -> Option<Incoming<'a>> {
    let payload = packet.get(header.payload_offset..)?;
    let content = &payload[..header.payload_len(packet)?];
    Some(Incoming {
        picture: picture(codec.codec, content, header.marker, dependency),
        values,
        header,
        payload,
        index: 0,
        encoding: 0,
        router_payload_type: codec.router_payload_type,
        codec: codec.codec,
        redundancy: Redundancy::read(content, codec.codec, codecs)?,
    })
}

/// 24 bits of 6.18 fixed point seconds (webrtc.org abs-send-time).
pub(super) fn abs_send_time(epoch: Instant, now: Instant) -> u32 {
    let micros = now.saturating_duration_since(epoch).as_micros();
    (((micros << 18) / 1_000_000) & 0x00ff_ffff) as u32
}
