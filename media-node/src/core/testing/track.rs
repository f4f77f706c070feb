//! Media: what a publisher sends and answers, what a subscriber receives, checks and asks for.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rtc::rtcp::packet::Packet;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::receiver_report::ReceiverReport;
use rtc::rtcp::reception_report::ReceptionReport;
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers};
use rtc::shared::marshal::{Marshal, MarshalSize};

use crate::core::command::{
    Codec, ExtensionKind, HeaderExtension, MediaKind, ProducerCodec, ProducerEncoding, ProducerSpec,
};
use crate::core::rtp::{Header, Ids, Values, unwrap_rtx};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TrackKind {
    Opus,
    /// Packets per frame, 30 frames a second, key frames on request.
    Vp8 { packets: usize },
}

const SIZE: usize = 1100;
pub(crate) const PUBLISHER_IDS: [(ExtensionKind, u8); 7] = [
    (ExtensionKind::Mid, 4),
    (ExtensionKind::AbsSendTime, 2),
    (ExtensionKind::TransportCc, 3),
    (ExtensionKind::AudioLevel, 1),
    (ExtensionKind::Rid, 10),
    (ExtensionKind::RepairedRid, 11),
    (ExtensionKind::VideoOrientation, 13),
];

pub(crate) fn extensions(ids: &[(ExtensionKind, u8)]) -> Vec<HeaderExtension> {
    ids.iter().map(|&(kind, id)| HeaderExtension { kind, id }).collect()
}

/// A stream being published.
pub(crate) struct Outgoing {
    pub kind: TrackKind,
    pub mid: &'static str,
    pub rid: Option<&'static str>,
    pub ssrc: u32,
    pub rtx_ssrc: Option<u32>,
    /// Whether SSRCs are signalled; otherwise the server learns them.
    pub signalled: bool,
    pub sequence: u16,
    pub timestamp: u32,
    pub level: u8,
    pub muted: bool,
    rtx_sequence: u16,
    next: Instant,
    start: Instant,
    counter: u64,
    key_frame: bool,
    picture_id: u16,
    tl0: u8,
    history: VecDeque<Vec<u8>>,
    next_report: Instant,
    pub key_frame_requests: u32,
    pub nacked: u32,
    pub produced: u64,
    /// When sent, by counter.
    pub report_clock_offset: u64,
}

impl Outgoing {
    pub fn new(kind: TrackKind, mid: &'static str, ssrc: u32, now: Instant) -> Self {
        Self {
            kind,
            mid,
            rid: None,
            ssrc,
            rtx_ssrc: matches!(kind, TrackKind::Vp8 { .. }).then_some(ssrc + 1),
            signalled: true,
            sequence: 1000,
            timestamp: 5000,
            level: 40,
            muted: false,
            rtx_sequence: 1,
            next: now,
            start: now,
            counter: 0,
            key_frame: true,
            picture_id: 100,
            tl0: 10,
            history: VecDeque::new(),
            next_report: now + Duration::from_millis(100),
            key_frame_requests: 0,
            nacked: 0,
            produced: 0,
            report_clock_offset: 0,
        }
    }

    pub fn clock_rate(&self) -> u32 {
        if self.kind == TrackKind::Opus { 48_000 } else { 90_000 }
    }

    pub fn spec(tracks: &[&Outgoing]) -> ProducerSpec {
        let first = tracks[0];
        let opus = first.kind == TrackKind::Opus;
        ProducerSpec {
            kind: if opus { MediaKind::Audio } else { MediaKind::Video },
            mid: Some(first.mid.to_owned()),
            codecs: vec![ProducerCodec {
                payload_type: if opus { 111 } else { 96 },
                router_payload_type: if opus { 100 } else { 101 },
                codec: if opus { Codec::Opus } else { Codec::Vp8 },
                clock_rate: first.clock_rate(),
                rtx_payload_type: (!opus).then_some(97),
                nack: true,
                pli: !opus,
            }],
            encodings: tracks
                .iter()
                .map(|t| ProducerEncoding {
                    ssrc: t.signalled.then_some(t.ssrc),
                    rtx_ssrc: t.rtx_ssrc.filter(|_| t.signalled),
                    rid: t.rid.map(str::to_owned),
                })
                .collect(),
            header_extensions: extensions(&PUBLISHER_IDS),
            cname: Some("publisher".to_owned()),
            paused: false,
        }
    }

    pub fn due(&self) -> Option<Instant> {
        (!self.muted).then_some(self.next)
    }

    fn packet(&self, ssrc: u32, payload_type: u8, sequence: u16, marker: bool, transport_cc: u16, rtx: bool) -> Vec<u8> {
        let mut packet = vec![0x90, (u8::from(marker) << 7) | payload_type];
        packet.extend_from_slice(&sequence.to_be_bytes());
        packet.extend_from_slice(&self.timestamp.to_be_bytes());
        packet.extend_from_slice(&ssrc.to_be_bytes());
        let mut block = vec![(2 << 4) | 2, 0, 0, 0, (3 << 4) | 1];
        block.extend_from_slice(&transport_cc.to_be_bytes());
        block.push((4 << 4) | (self.mid.len() as u8 - 1));
        block.extend_from_slice(self.mid.as_bytes());
        if self.kind == TrackKind::Opus {
            block.extend_from_slice(&[1 << 4, 0x80 | self.level]);
        }
        if let Some(rid) = self.rid {
            let id = if rtx { 11 } else { 10 };
            block.push((id << 4) | (rid.len() as u8 - 1));
            block.extend_from_slice(rid.as_bytes());
        }
        block.resize(block.len().div_ceil(4) * 4, 0);
        packet.extend_from_slice(&[0xbe, 0xde, 0, (block.len() / 4) as u8]);
        packet.extend_from_slice(&block);
        packet
    }

    pub fn produce(&mut self, now: Instant, transport_cc: &mut u16, out: &mut Vec<Vec<u8>>) {
        while !self.muted && now >= self.next {
            let (packets, interval, ticks) = match self.kind {
                TrackKind::Opus => (1, Duration::from_millis(20), 960),
                TrackKind::Vp8 { packets } => (packets, Duration::from_micros(33_333), 3000),
            };
            let key = std::mem::take(&mut self.key_frame);
            for i in 0..packets {
                let payload_type = if self.kind == TrackKind::Opus { 111 } else { 96 };
                let last = i + 1 == packets;
                let mut packet = self.packet(self.ssrc, payload_type, self.sequence, last, *transport_cc, false);
                *transport_cc = transport_cc.wrapping_add(1);
                if self.kind == TrackKind::Opus {
                    packet.extend_from_slice(&self.counter.to_be_bytes());
                    packet.resize(packet.len() + 72, 0xaa);
                } else {
                    packet.push(if i == 0 { 0x90 } else { 0x80 });
                    packet.push(0xe0);
                    packet.extend_from_slice(&(0x8000 | self.picture_id).to_be_bytes());
                    packet.extend_from_slice(&[self.tl0, 0x20, u8::from(!key)]);
                    packet.extend_from_slice(&self.counter.to_be_bytes());
                    let size = if last { SIZE - 200 } else { SIZE };
                    packet.resize(size, 0xbb);
                }
                self.counter += 1;
                self.produced += 1;
                self.sequence = self.sequence.wrapping_add(1);
                self.history.push_back(packet.clone());
                if self.history.len() > 600 {
                    self.history.pop_front();
                }
                out.push(packet);
            }
            self.timestamp = self.timestamp.wrapping_add(ticks);
            self.picture_id = (self.picture_id + 1) & 0x7fff;
            self.tl0 = self.tl0.wrapping_add(1);
            self.next += interval;
        }
    }

    /// Seconds of the publisher's wall clock, 32.32.
    fn ntp(&self, now: Instant) -> u64 {
        let micros = now.saturating_duration_since(self.start).as_micros() as u64 + 3_900_000_000_000_000;
        ((micros / 1_000_000) << 32) | (((micros % 1_000_000) << 32) / 1_000_000)
    }

    /// A sender report that is due.
    pub fn report(&mut self, now: Instant) -> Option<Vec<u8>> {
        if now < self.next_report {
            return None;
        }
        self.next_report = now + Duration::from_secs(1);
        Some(bytes(&SenderReport {
            ssrc: self.ssrc,
            ntp_time: self.ntp(now),
            rtp_time: self.timestamp,
            packet_count: self.produced as u32,
            octet_count: 0,
            reports: vec![],
            profile_extensions: Bytes::new(),
        }))
    }

    /// Adds `(packet, verbatim)`: what is sent in answer.
    pub fn on_feedback(
        &mut self,
        packet: &dyn Packet,
        now: Instant,
        transport_cc: &mut u16,
        repairs: &mut Vec<(Vec<u8>, bool)>,
    ) {
        let _ = now;
        if let Some(pli) = packet.as_any().downcast_ref::<PictureLossIndication>()
            && pli.media_ssrc == self.ssrc
        {
            self.key_frame_requests += 1;
            self.key_frame = true;
        }
        let Some(nack) = packet.as_any().downcast_ref::<TransportLayerNack>() else { return };
        if nack.media_ssrc != self.ssrc {
            return;
        }
        for sequence in nack.nacks.iter().flat_map(|pair| pair.packet_list()) {
            self.nacked += 1;
            let Some(original) = self.history.iter().find(|p| p[2..4] == sequence.to_be_bytes()).cloned() else {
                continue;
            };
            let Some(rtx_ssrc) = self.rtx_ssrc else {
                repairs.push((original, true));
                continue;
            };
            let header = Header::parse(&original).unwrap();
            let timestamp = std::mem::replace(&mut self.timestamp, header.timestamp);
            let mut rtx = self.packet(rtx_ssrc, 97, self.rtx_sequence, header.marker, *transport_cc, true);
            self.timestamp = timestamp;
            *transport_cc = transport_cc.wrapping_add(1);
            self.rtx_sequence = self.rtx_sequence.wrapping_add(1);
            rtx.extend_from_slice(&sequence.to_be_bytes());
            rtx.extend_from_slice(&original[header.payload_offset..]);
            repairs.push((rtx, false));
        }
    }
}

pub(crate) fn bytes<P: Marshal + MarshalSize>(packet: &P) -> Vec<u8> {
    packet.marshal().unwrap().to_vec()
}

/// A media packet as a subscriber got it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Received {
    /// The publisher's count of this packet.
    pub counter: u64,
    pub timestamp: u32,
    pub payload_type: u8,
    pub marker: bool,
    pub mid: Option<String>,
    pub key_frame: bool,
    pub picture_id: u16,
    pub repaired: bool,
    pub at: Instant,
}

/// One stream of a subscriber, by extended sequence number.
#[derive(Default)]
pub(crate) struct Incoming {
    pub packets: BTreeMap<u64, Received>,
    highest: Option<u64>,
    pub missing: BTreeMap<u64, (u32, Instant)>,
    pub report: Option<SenderReport>,
    report_at: Option<Instant>,
    pub reports: u32,
}

/// The receiving half of a client.
#[derive(Default)]
pub(crate) struct Receiver {
    /// RTX SSRC to media SSRC and payload type.
    pub rtx: BTreeMap<u32, (u32, u8)>,
    pub ids: Ids,
    pub nack: bool,
    pub streams: BTreeMap<u32, Incoming>,
    next_feedback: Option<Instant>,
    next_report: Option<Instant>,
    /// Ciphertexts by SSRC and sequence number, to compare repetitions with.
    sealed: BTreeMap<(u32, u16), Vec<u8>>,
    pub duplicates: u64,
    pub transport_cc: Vec<u16>,
    pub unexpected_rtx: u64,
}

impl Receiver {
    pub fn stream(&self, ssrc: u32) -> &Incoming {
        self.streams.get(&ssrc).expect("something was received")
    }

    pub fn count(&self, ssrc: u32) -> usize {
        self.streams.get(&ssrc).map_or(0, |s| s.packets.len())
    }

    pub fn receive(&mut self, plain: &[u8], sealed: &[u8], now: Instant) {
        let header = Header::parse(plain).unwrap();
        self.sealed.insert((header.ssrc, header.sequence), sealed.to_vec());
        let mut packet = plain.to_vec();
        if let Some(sequence) = Values::read(&packet, &header.extensions, &self.ids).transport_cc() {
            self.transport_cc.push(sequence);
        }
        let mut header = header;
        let mut repaired = false;
        if let Some(&(ssrc, payload_type)) = self.rtx.get(&header.ssrc) {
            let start = unwrap_rtx(&mut packet, &header, payload_type, ssrc).unwrap();
            packet.drain(..start);
            header = Header::parse(&packet).unwrap();
            repaired = true;
        }
        let values = Values::read(&packet, &header.extensions, &self.ids);
        let payload = &packet[header.payload_offset..];
        let video = header.payload_type == 101;
        let at = if video { 7 } else { 0 };
        let received = Received {
            counter: u64::from_be_bytes(payload[at..at + 8].try_into().unwrap()),
            timestamp: header.timestamp,
            payload_type: header.payload_type,
            marker: header.marker,
            mid: values.text(ExtensionKind::Mid).map(str::to_owned),
            key_frame: video && payload[0] & 0x10 != 0 && payload[6] & 1 == 0,
            picture_id: if video { u16::from_be_bytes([payload[2] & 0x7f, payload[3]]) } else { 0 },
            repaired,
            at: now,
        };
        let stream = self.streams.entry(header.ssrc).or_default();
        let index = match stream.highest {
            None => (1 << 16) + u64::from(header.sequence),
            Some(highest) => {
                highest.wrapping_add_signed(i64::from(header.sequence.wrapping_sub(highest as u16) as i16))
            }
        };
        if let Some(highest) = stream.highest {
            for missing in highest + 1..index {
                stream.missing.insert(missing, (0, now + Duration::from_millis(5)));
            }
        }
        stream.highest = Some(stream.highest.map_or(index, |h| h.max(index)));
        stream.missing.remove(&index);
        if let Some(before) = stream.packets.get(&index) {
            assert_eq!(before.counter, received.counter, "two packets under one sequence number");
            self.duplicates += 1;
            return;
        }
        stream.packets.insert(index, received);
        if !stream.missing.is_empty() {
            self.next_feedback.get_or_insert(now + Duration::from_millis(5));
        }
        self.next_report.get_or_insert(now + Duration::from_millis(500));
    }

    /// A packet that SRTP refused: fine if it is the repetition of one, byte by byte.
    pub fn replayed(&mut self, sealed: &[u8], undecryptable: &mut u64) {
        let key = Header::parse(sealed).map(|h| (h.ssrc, h.sequence));
        match key.and_then(|key| self.sealed.get(&key)) {
            Some(before) if before == sealed => self.duplicates += 1,
            _ => *undecryptable += 1,
        }
    }

    pub fn on_report(&mut self, packet: &dyn Packet, now: Instant) {
        if let Some(report) = packet.as_any().downcast_ref::<SenderReport>() {
            let stream = self.streams.entry(report.ssrc).or_default();
            stream.report = Some(report.clone());
            stream.report_at = Some(now);
            stream.reports += 1;
        }
    }

    pub fn due(&self) -> Option<Instant> {
        [self.next_feedback.filter(|_| self.nack), self.next_report].into_iter().flatten().min()
    }

    pub fn feedback(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        if self.nack && self.next_feedback.is_some_and(|at| now >= at) {
            let mut left = false;
            for (ssrc, stream) in &mut self.streams {
                let mut ask = Vec::new();
                stream.missing.retain(|index, (attempts, due)| {
                    if now >= *due {
                        ask.push(*index as u16);
                        *attempts += 1;
                        *due = now + Duration::from_millis(50);
                    }
                    *attempts < 12
                });
                left |= !stream.missing.is_empty();
                if !ask.is_empty() {
                    let nacks = nack_pairs_from_sequence_numbers(&ask);
                    out.push(bytes(&TransportLayerNack { sender_ssrc: 1, media_ssrc: *ssrc, nacks }));
                }
            }
            self.next_feedback = left.then(|| now + Duration::from_millis(10));
        }
        if self.next_report.is_some_and(|at| now >= at) {
            self.next_report = Some(now + Duration::from_secs(1));
            let reports = self
                .streams
                .iter()
                .filter_map(|(ssrc, stream)| {
                    let held = stream.report_at.map_or(Duration::ZERO, |at| now - at);
                    Some(ReceptionReport {
                        ssrc: *ssrc,
                        fraction_lost: 0,
                        total_lost: 0,
                        last_sequence_number: stream.highest? as u32,
                        jitter: 0,
                        last_sender_report: stream.report.as_ref().map_or(0, |r| (r.ntp_time >> 16) as u32),
                        delay: (held.as_micros() * 65_536 / 1_000_000) as u32,
                    })
                })
                .collect();
            out.push(bytes(&ReceiverReport { ssrc: 1, reports, profile_extensions: Bytes::new() }));
        }
        out
    }
}
