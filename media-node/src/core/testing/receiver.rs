//! What a subscriber receives, checks and asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rtc::rtcp::packet::Packet;
use rtc::rtcp::receiver_report::ReceiverReport;
use rtc::rtcp::reception_report::ReceptionReport;
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers};

use super::layered::Part;
use super::track::bytes;
use crate::core::command::ExtensionKind;
use crate::core::rtp::{Header, Ids, Values, unwrap_rtx};
use crate::core::twcc::Arrivals;

/// A media packet as a subscriber got it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Received {
    /// The publisher's count of this packet.
    pub counter: u64,
    pub timestamp: u32,
    pub payload_type: u8,
    pub marker: bool,
    pub level: Option<u8>,
    pub mid: Option<String>,
    pub key_frame: bool,
    pub picture_id: u16,
    pub part: Option<Part>,
    /// Frame number of the dependency descriptor.
    pub frame_number: Option<u16>,
    pub repaired: bool,
    pub at: Instant,
}

/// One stream of a subscriber, by extended sequence number.
#[derive(Default)]
pub(crate) struct Incoming {
    pub packets: BTreeMap<u64, Received>,
    /// Packets of padding.
    pub fills: BTreeSet<u64>,
    highest: Option<u64>,
    /// Payload of the packet that came last.
    pub latest: Vec<u8>,
    pub missing: BTreeMap<u64, (u32, Instant)>,
    pub report: Option<SenderReport>,
    report_at: Option<Instant>,
    pub reports: u32,
}

/// What a receiver says of its streams instead of the truth.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claims {
    pub fraction_lost: u8,
    pub total_lost: u32,
    pub jitter: u32,
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
    /// Arrivals to be reported, if it reports any.
    pub arrivals: Option<Arrivals>,
    next_arrivals: Option<Instant>,
    /// Packets of padding alone.
    pub padding: u64,
    pub claims: Option<Claims>,
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
            if let Some(arrivals) = &mut self.arrivals {
                arrivals.record(sequence, now);
                self.next_arrivals.get_or_insert(now + Duration::from_millis(50));
            }
        }
        if header.payload_len(&packet) == Some(0) {
            self.padding += 1;
            return;
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
        let at = match header.payload_type {
            101 => 7,
            // Redundant audio, as these tests number it: the newest frame is behind the copies.
            117 | 119 => newest(payload),
            _ => 0,
        };
        let fill = header.payload_len(&packet) == Some(0);
        if payload.len() < at + 8 && !fill {
            return;
        }
        let layered = Part::read(payload);
        let picture_id_at = layered.as_ref().map_or(2, |(_, part)| if part.descriptor.len() == 7 { 2 } else { 1 });
        let received = Received {
            counter: match &layered {
                Some((counter, _)) => *counter,
                None if fill => u64::MAX,
                None => u64::from_be_bytes(payload[at..at + 8].try_into().unwrap()),
            },
            timestamp: header.timestamp,
            payload_type: header.payload_type,
            marker: header.marker,
            level: values.audio_level(),
            mid: values.text(ExtensionKind::Mid).map(str::to_owned),
            key_frame: video && !fill && payload[0] & 0x10 != 0 && payload[6] & 1 == 0,
            picture_id: match payload.get(picture_id_at..picture_id_at + 2) {
                Some(&[high, low]) if video && !fill => u16::from_be_bytes([high & 0x7f, low]),
                _ => 0,
            },
            part: layered.map(|(_, part)| part),
            frame_number: values.get(ExtensionKind::DependencyDescriptor).map(|d| u16::from_be_bytes([d[1], d[2]])),
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
        if fill {
            stream.fills.insert(index);
            return;
        }
        if let Some(before) = stream.packets.get(&index) {
            assert_eq!(before.counter, received.counter, "two packets under one sequence number");
            self.duplicates += 1;
            return;
        }
        stream.packets.insert(index, received);
        stream.latest = packet.split_off(header.payload_offset);
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
        [self.next_feedback.filter(|_| self.nack), self.next_report, self.next_arrivals].into_iter().flatten().min()
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
                for ask in ask.chunks(200) {
                    let nacks = nack_pairs_from_sequence_numbers(ask);
                    out.push(bytes(&TransportLayerNack { sender_ssrc: 1, media_ssrc: *ssrc, nacks }));
                }
            }
            self.next_feedback = left.then(|| now + Duration::from_millis(10));
        }
        if self.next_arrivals.is_some_and(|at| now >= at)
            && let Some(arrivals) = &mut self.arrivals
        {
            out.extend(std::iter::from_fn(|| arrivals.report(1, 0)).map(|report| bytes(&report)));
            self.next_arrivals = None;
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
                        fraction_lost: self.claims.map_or(0, |claims| claims.fraction_lost),
                        total_lost: self.claims.map_or(0, |claims| claims.total_lost),
                        last_sequence_number: stream.highest? as u32,
                        jitter: self.claims.map_or(0, |claims| claims.jitter),
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

/// Where the newest frame of redundant audio begins.
fn newest(payload: &[u8]) -> usize {
    let copies = payload.chunks(4).take_while(|header| header[0] & 0x80 != 0);
    let (count, copied) = copies.fold((0, 0), |(count, copied), header| {
        (count + 1, copied + usize::from(u16::from_be_bytes([header[2], header[3]]) & 0x3ff))
    });
    4 * count + 1 + copied
}
