//! What a publisher sends and answers.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rtc::rtcp::packet::Packet;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use rtc::shared::marshal::{Marshal, MarshalSize};

use super::layered::{Encoder, Numbers};
use crate::core::command::{
    Codec, ExtensionKind, HeaderExtension, MediaKind, ProducerCodec, ProducerEncoding, ProducerSpec, ScalabilityMode,
};
use crate::core::forward::abs_send_time;
use crate::core::random::Random;
use crate::core::rtp::{Header, Ids, Values};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TrackKind {
    Opus,
    /// Packets per frame, 30 frames a second, key frames on request.
    Vp8 {
        packets: usize,
    },
    /// A codec with layers, a frame of each in this many packets and one more for each spatial layer.
    Layered {
        codec: Codec,
        mode: ScalabilityMode,
        packets: u8,
    },
}

const SIZE: usize = 1100;
pub(crate) const PUBLISHER_IDS: [(ExtensionKind, u8); 8] = [
    (ExtensionKind::Mid, 4),
    (ExtensionKind::AbsSendTime, 2),
    (ExtensionKind::TransportCc, 3),
    (ExtensionKind::AudioLevel, 1),
    (ExtensionKind::Rid, 10),
    (ExtensionKind::RepairedRid, 11),
    (ExtensionKind::VideoOrientation, 13),
    (ExtensionKind::DependencyDescriptor, 12),
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
    /// How many times slower than usual it sends.
    pub slowness: u32,
    rtx_sequence: u16,
    next: Instant,
    start: Instant,
    counter: u64,
    pub key_frame: bool,
    picture_id: u16,
    tl0: u8,
    /// Key frames so far.
    keys: u8,
    history: VecDeque<Vec<u8>>,
    next_report: Instant,
    /// abs-send-time of what is sent now.
    send_time: u32,
    pub key_frame_requests: u32,
    pub nacked: u32,
    pub produced: u64,
    encoder: Option<Encoder>,
    /// The highest spatial layer that is sent; those above are left out as encoders do when short of bits.
    pub max_spatial: u8,
    /// Damages what is said of each packet.
    pub mangle: Option<Random>,
}

impl Outgoing {
    pub fn new(kind: TrackKind, mid: &'static str, ssrc: u32, now: Instant) -> Self {
        Self {
            kind,
            mid,
            rid: None,
            ssrc,
            rtx_ssrc: (kind != TrackKind::Opus).then_some(ssrc + 1),
            signalled: true,
            sequence: 1000,
            timestamp: 5000,
            level: 40,
            muted: false,
            slowness: 1,
            rtx_sequence: 1,
            next: now,
            start: now,
            counter: 0,
            key_frame: true,
            picture_id: 100,
            tl0: 10,
            // Publishers do not begin alike.
            keys: ssrc as u8,
            history: VecDeque::new(),
            next_report: now + Duration::from_millis(100),
            send_time: 0,
            key_frame_requests: 0,
            nacked: 0,
            produced: 0,
            encoder: match kind {
                TrackKind::Layered { mode, .. } => Some(Encoder::new(mode, u64::from(ssrc) << 32)),
                _ => None,
            },
            max_spatial: u8::MAX,
            mangle: None,
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
                codec: match first.kind {
                    TrackKind::Opus => Codec::Opus,
                    TrackKind::Vp8 { .. } => Codec::Vp8,
                    TrackKind::Layered { codec, .. } => codec,
                },
                clock_rate: first.clock_rate(),
                rtx_payload_type: (!opus).then_some(97),
                nack: true,
                pli: !opus,
                remb: false,
            }],
            encodings: tracks
                .iter()
                .map(|t| ProducerEncoding {
                    ssrc: t.signalled.then_some(t.ssrc),
                    rtx_ssrc: t.rtx_ssrc.filter(|_| t.signalled),
                    scalability: t.encoder.as_ref().map_or_else(Default::default, |e| e.mode),
                    rid: t.rid.map(str::to_owned),
                })
                .collect(),
            header_extensions: extensions(&PUBLISHER_IDS),
            cname: Some("publisher".to_owned()),
            paused: false,
        }
    }

    /// Sends again, from now on.
    pub fn unmute(&mut self, now: Instant) {
        (self.muted, self.next) = (false, now);
    }

    pub fn due(&self) -> Option<Instant> {
        (!self.muted).then_some(self.next)
    }

    fn packet(
        &self,
        ssrc: u32,
        payload_type: u8,
        sequence: u16,
        marker: bool,
        transport_cc: u16,
        rtx: bool,
    ) -> Vec<u8> {
        self.packet_with(ssrc, payload_type, sequence, marker, transport_cc, rtx, None)
    }

    /// With a dependency descriptor: in the two-byte form, as Chromium writes long ones.
    #[expect(clippy::too_many_arguments, reason = "the fields of a header")]
    fn packet_with(
        &self,
        ssrc: u32,
        payload_type: u8,
        sequence: u16,
        marker: bool,
        transport_cc: u16,
        rtx: bool,
        dependency: Option<&[u8]>,
    ) -> Vec<u8> {
        let mut packet = vec![0x90, (u8::from(marker) << 7) | payload_type];
        packet.extend_from_slice(&sequence.to_be_bytes());
        packet.extend_from_slice(&self.timestamp.to_be_bytes());
        packet.extend_from_slice(&ssrc.to_be_bytes());
        let [_, high, middle, low] = self.send_time.to_be_bytes();
        let mut block = vec![(2 << 4) | 2, high, middle, low, (3 << 4) | 1];
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
        let mut profile = [0xbe, 0xde];
        if let Some(dependency) = dependency {
            let mut long = Vec::new();
            let mut rest = &block[..];
            while let [first, tail @ ..] = rest {
                let len = usize::from(first & 0x0f) + 1;
                long.extend_from_slice(&[first >> 4, len as u8]);
                long.extend_from_slice(&tail[..len]);
                rest = &tail[len..];
            }
            long.extend_from_slice(&[12, dependency.len() as u8]);
            long.extend_from_slice(dependency);
            (block, profile) = (long, [0x10, 0x00]);
        }
        block.resize(block.len().div_ceil(4) * 4, 0);
        packet.extend_from_slice(&profile);
        packet.extend_from_slice(&[0, (block.len() / 4) as u8]);
        packet.extend_from_slice(&block);
        packet
    }

    pub fn produce(&mut self, now: Instant, transport_cc: &mut u16, out: &mut Vec<Vec<u8>>) {
        self.send_time = abs_send_time(self.start, now);
        while !self.muted && now >= self.next {
            let (packets, interval, ticks) = match self.kind {
                TrackKind::Opus => (1, Duration::from_millis(20), 960),
                TrackKind::Vp8 { packets } => (packets, Duration::from_micros(33_333), 3000),
                TrackKind::Layered { codec, mode, packets } => {
                    self.encode(codec, mode, packets, transport_cc, out);
                    (0, Duration::from_micros(33_333), 3000)
                }
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
            self.timestamp = self.timestamp.wrapping_add(ticks * self.slowness);
            self.picture_id = (self.picture_id + 1) & 0x7fff;
            if self.encoder.is_none() {
                self.tl0 = self.tl0.wrapping_add(1);
            }
            self.next += interval * self.slowness;
        }
    }

    /// One picture in layers.
    fn encode(
        &mut self,
        codec: Codec,
        mode: ScalabilityMode,
        packets: u8,
        transport_cc: &mut u16,
        out: &mut Vec<Vec<u8>>,
    ) {
        let key = std::mem::take(&mut self.key_frame);
        let Some(encoder) = &mut self.encoder else { return };
        let mut frames = encoder.picture(key);
        frames.retain(|frame| frame.spatial <= self.max_spatial);
        if frames[0].temporal == 0 {
            self.tl0 = self.tl0.wrapping_add(1);
        }
        self.keys = self.keys.wrapping_add(u8::from(frames[0].key));
        let numbers = Numbers { picture_id: self.picture_id, tl0: self.tl0, key: self.keys };
        let highest = frames.len() - 1;
        for (layer, frame) in frames.iter().enumerate() {
            let parts = packets + layer as u8;
            for part in 0..parts {
                let (first, last) = (part == 0, part + 1 == parts);
                let mut dependency = (codec == Codec::Av1).then(|| frame.dependency(mode, first, last));
                let mut descriptor = frame.descriptor(codec, numbers, first, last);
                if let Some(random) = &mut self.mangle {
                    for byte in descriptor.iter_mut().chain(dependency.iter_mut().flatten()) {
                        *byte ^= if random.u32() % 4 == 0 { random.u32() as u8 } else { 0 };
                    }
                }
                let marker = last && layer == highest;
                let mut packet =
                    self.packet_with(self.ssrc, 96, self.sequence, marker, *transport_cc, false, dependency.as_deref());
                *transport_cc = transport_cc.wrapping_add(1);
                packet.extend(descriptor);
                packet.extend(frame.body(self.counter, part, parts));
                packet.resize(packet.len().max(if last { SIZE - 300 } else { SIZE - 100 }), 0xbb);
                self.counter += 1;
                self.produced += 1;
                self.sequence = self.sequence.wrapping_add(1);
                self.history.push_back(packet.clone());
                if self.history.len() > 600 {
                    self.history.pop_front();
                }
                out.push(packet);
            }
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
        self.send_time = abs_send_time(self.start, now);
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
            let ids = Ids::new(&extensions(&PUBLISHER_IDS));
            let values = Values::read(&original, &header.extensions, &ids);
            let dependency = values.get(ExtensionKind::DependencyDescriptor);
            let (sequence_number, marker) = (self.rtx_sequence, header.marker);
            let mut rtx = self.packet_with(rtx_ssrc, 97, sequence_number, marker, *transport_cc, true, dependency);
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
