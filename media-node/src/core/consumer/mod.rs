//! A subscription: which packets of a producer a client gets, and under which numbers.

mod resend;

use std::time::Instant;

use super::codec::{Vp8Descriptor, has_key_frames, renumber_vp8};
use super::command::{ConsumerId, ConsumerSpec, ExtensionKind, MediaKind};
use super::config::Config;
use super::history::{History, Limits};
use super::producer::{Producer, SenderInfo};
use super::rtp::{Header, Ids, Rewrite, Rtx, Values};
use super::sequence::{SequenceMap, Shift};
use super::slab::Key;
use super::srtp::{IndexWindow, Outbound};
use super::stats::Drop;

pub(crate) use resend::Resends;

/// A packet of a producer, opened and understood once for all its subscribers.
pub(crate) struct Incoming<'a> {
    pub header: Header,
    pub values: Values<'a>,
    /// With padding, if any.
    pub payload: &'a [u8],
    pub index: u64,
    pub encoding: usize,
    pub router_payload_type: u8,
    /// A decoder can start here.
    pub starts: bool,
    pub vp8: Option<Vp8Descriptor>,
}

/// Stamps of one transmission.
#[derive(Clone, Copy)]
pub(crate) struct Stamps {
    pub transport_cc: u16,
    /// 6.18 fixed point seconds.
    pub abs_send_time: u32,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    timestamp: u32,
    at: Instant,
    picture_id: u16,
    tl0_pic_idx: u8,
}

/// A subscription.
pub(crate) struct Consumer {
    pub id: ConsumerId,
    pub transport: Key,
    pub producer: Key,
    pub ssrc: u32,
    pub rtx: Option<(u32, u8)>,
    pub cname: String,
    pub ids: Ids,
    pub has_transport_cc: bool,
    pub paused: bool,
    pub nack: bool,
    /// The encoding being forwarded; `None` while waiting for a packet to start at.
    pub current: Option<usize>,
    /// The highest encoding wanted.
    pub max_encoding: usize,
    pub packets: u32,
    pub octets: u32,
    pub resends: Resends,
    /// NTP middle bits and departure of the last sender report.
    pub last_report: Option<(u32, Instant)>,
    /// Packets at the last sender report.
    pub reported_packets: u32,
    pub feedback: Feedback,
    mid: Vec<u8>,
    payload_types: u128,
    clock_rate: u32,
    map: SequenceMap,
    used: IndexWindow,
    rtx_next: u64,
    rtx_used: IndexWindow,
    /// Sealed packets, for subscribers without RTX.
    verbatim: Option<History>,
    shift: Shift,
    last: Option<Sent>,
}

/// What the subscriber reports (RFC 3550 §6.4.2).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Feedback {
    /// Fraction of packets lost since the last report, in 256ths.
    pub fraction_lost: u8,
    /// Packets lost in all.
    pub lost: u32,
    /// Jitter in timestamp units.
    pub jitter: u32,
    /// Round trip in microseconds; zero until the first report.
    pub round_trip_micros: u32,
}

impl Consumer {
    /// `seed`: for the initial sequence numbers.
    pub fn new(
        id: ConsumerId,
        transport: Key,
        producer: Key,
        kind: MediaKind,
        spec: ConsumerSpec,
        seed: u32,
        config: &Config,
    ) -> Self {
        let verbatim = (spec.nack && spec.rtx.is_none()).then(|| {
            let (packets, initial_bytes, max_bytes) = match kind {
                MediaKind::Audio => (64, 8 * 1024, 16 * 1024),
                MediaKind::Video => (1024, 64 * 1024, config.max_history_bytes / 2),
            };
            History::new(Limits { packets, initial_bytes, max_bytes, duration: config.history_duration })
        });
        Self {
            id,
            transport,
            producer,
            ssrc: spec.ssrc,
            rtx: spec.rtx,
            cname: spec.cname,
            ids: Ids::new(&spec.header_extensions),
            has_transport_cc: spec.header_extensions.iter().any(|e| e.kind == ExtensionKind::TransportCc),
            paused: spec.paused,
            nack: spec.nack,
            current: None,
            max_encoding: usize::MAX,
            packets: 0,
            octets: 0,
            resends: Resends::default(),
            last_report: None,
            reported_packets: 0,
            feedback: Feedback::default(),
            mid: spec.mid.into_bytes(),
            payload_types: spec.payload_types.iter().fold(0, |set, pt| set | (1 << (pt & 0x7f))),
            clock_rate: spec.clock_rate,
            map: SequenceMap::new(seed as u16),
            used: IndexWindow::default(),
            rtx_next: u64::from((seed >> 16) as u16 & 0x7fff),
            rtx_used: IndexWindow::default(),
            verbatim,
            shift: Shift::default(),
            last: None,
        }
    }

    /// The next packet that a decoder can start at begins anew; nothing is sent before.
    pub fn restart(&mut self) {
        self.current = None;
    }

    /// Added to the RTP timestamps of the current encoding.
    pub fn timestamp_shift(&self) -> u32 {
        self.shift.timestamp
    }

    /// Decides on a packet: where it goes and how it is rewritten. `target` is the encoding that the
    /// consumer is to get now. `Ok(None)`: the packet is of another encoding, as most are.
    pub fn admit(
        &mut self,
        packet: &Incoming<'_>,
        target: usize,
        producer: &Producer,
        now: Instant,
    ) -> Result<Option<(u64, Shift)>, Drop> {
        if self.payload_types & (1 << packet.router_payload_type) == 0 {
            if self.current == Some(packet.encoding) {
                self.map.skip(packet.index);
            }
            return Err(Drop::ConsumerPayloadType);
        }
        if self.current != Some(packet.encoding) {
            if packet.encoding != target {
                return Ok(None);
            }
            if !packet.starts {
                return match self.current {
                    Some(_) => Ok(None),
                    None => Err(Drop::ConsumerAwaitsKeyFrame),
                };
            }
            self.begin(packet, producer, now);
        }
        self.map.map(packet.index).map(Some).ok_or(Drop::ConsumerTooLate)
    }

    /// From this packet on.
    fn begin(&mut self, packet: &Incoming<'_>, producer: &Producer, now: Instant) {
        if let Some(last) = self.last
            && self.shift.encoding != packet.encoding
        {
            self.shift.timestamp = self.align(packet, producer, last, now);
            if let Some(vp8) = &packet.vp8 {
                let id = vp8.picture_id.unwrap_or_default();
                self.shift.picture_id = last.picture_id.wrapping_add(1).wrapping_sub(id);
                let tl0 = vp8.tl0_pic_idx.unwrap_or_default();
                self.shift.tl0_pic_idx = last.tl0_pic_idx.wrapping_add(1).wrapping_sub(tl0);
            }
        }
        self.shift.encoding = packet.encoding;
        self.map.restart(packet.index, self.shift);
        self.current = Some(packet.encoding);
    }

    /// The timestamp shift that lets an encoding follow another: by the publisher's sender reports where
    /// both have one, else by the time that has passed.
    fn align(&self, packet: &Incoming<'_>, producer: &Producer, last: Sent, now: Instant) -> u32 {
        let theirs = packet.header.timestamp;
        let info = |encoding: usize| producer.streams.get(encoding)?.sender_info;
        if let (Some(old), Some(new)) = (info(self.shift.encoding), info(packet.encoding)) {
            let aligned = same_moment(&new, theirs, &old, self.clock_rate).wrapping_add(self.shift.timestamp);
            let ahead = aligned.wrapping_sub(last.timestamp) as i32;
            let limit = self.clock_rate.saturating_mul(3) as i32
                + (now.saturating_duration_since(last.at).as_millis() as i64 * i64::from(self.clock_rate) / 1000)
                    .min(i64::from(i32::MAX / 2)) as i32;
            if ahead > 0 && ahead < limit {
                return aligned.wrapping_sub(theirs);
            }
        }
        let passed = now.saturating_duration_since(last.at).as_micros() * u128::from(self.clock_rate) / 1_000_000;
        last.timestamp.wrapping_add((passed as u32).max(1)).wrapping_sub(theirs)
    }

    /// Whether frames depend on each other, so that a start needs a key frame.
    pub fn needs_key_frame(producer: &Producer) -> bool {
        producer.codecs.iter().any(|c| has_key_frames(c.codec))
    }

    /// Appends the sealed packet to `out`.
    ///
    /// # Errors
    ///
    /// [`Drop::IndexReused`]; `out` has grown all the same and must be cut back.
    #[expect(clippy::too_many_arguments, reason = "one place, on the packet path")]
    pub fn seal(
        &mut self,
        packet: &Incoming<'_>,
        out_index: u64,
        shift: Shift,
        stamps: Stamps,
        outbound: &mut Outbound,
        out: &mut Vec<u8>,
        now: Instant,
    ) -> Result<(), Drop> {
        let start = out.len();
        let rewrite = Rewrite {
            ids: &self.ids,
            mid: &self.mid,
            payload_type: packet.router_payload_type,
            ssrc: self.ssrc,
            sequence: out_index as u16,
            timestamp: packet.header.timestamp.wrapping_add(shift.timestamp),
            transport_cc: stamps.transport_cc,
            abs_send_time: stamps.abs_send_time,
            rtx: None,
        };
        let header = rewrite.write(out, &packet.header, &packet.values, packet.payload);
        if packet.vp8.is_some() {
            renumber_vp8(&mut out[start + header..], shift.picture_id, shift.tl0_pic_idx);
        }
        out.resize(out.len() + outbound.rtp_overhead(), 0);
        outbound.seal_rtp(&mut self.used, &mut out[start..], header, self.ssrc, out_index)?;
        if let Some(verbatim) = &mut self.verbatim {
            verbatim.insert(out_index, &out[start..], now);
        }
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(packet.payload.len() as u32);
        if out_index + 1 == self.map.next_out() {
            let vp8 = packet.vp8.as_ref();
            let id = vp8.and_then(|d| d.picture_id).unwrap_or_default();
            let tl0 = vp8.and_then(|d| d.tl0_pic_idx).unwrap_or_default();
            self.last = Some(Sent {
                timestamp: rewrite.timestamp,
                at: now,
                picture_id: id.wrapping_add(shift.picture_id),
                tl0_pic_idx: tl0.wrapping_add(shift.tl0_pic_idx),
            });
        }
        Ok(())
    }

    /// Where the packet that was sent as `sequence` came from.
    pub fn origin(&self, sequence: u16) -> Option<(u64, u64, Shift)> {
        self.map.unmap(sequence)
    }

    /// The sealed packet `out_index`, as it was sent.
    pub fn sealed(&self, out_index: u64) -> Option<&[u8]> {
        self.verbatim.as_ref()?.get(out_index)
    }

    /// Appends an RTX packet that repeats `packet` (RFC 4588 §4).
    ///
    /// # Errors
    ///
    /// [`Drop::NackMiss`] if the subscriber takes no RTX, [`Drop::IndexReused`].
    pub fn seal_rtx(
        &mut self,
        packet: &Incoming<'_>,
        original: u16,
        shift: Shift,
        stamps: Stamps,
        outbound: &mut Outbound,
        out: &mut Vec<u8>,
    ) -> Result<(), Drop> {
        let (ssrc, payload_type) = self.rtx.ok_or(Drop::NackMiss)?;
        let start = out.len();
        let index = self.rtx_next;
        self.rtx_next += 1;
        let rewrite = Rewrite {
            ids: &self.ids,
            mid: &self.mid,
            payload_type,
            ssrc,
            sequence: index as u16,
            timestamp: packet.header.timestamp.wrapping_add(shift.timestamp),
            transport_cc: stamps.transport_cc,
            abs_send_time: stamps.abs_send_time,
            rtx: Some(Rtx { original }),
        };
        let header = rewrite.write(out, &packet.header, &packet.values, packet.payload);
        if packet.vp8.is_some() {
            renumber_vp8(&mut out[start + header + 2..], shift.picture_id, shift.tl0_pic_idx);
        }
        out.resize(out.len() + outbound.rtp_overhead(), 0);
        outbound.seal_rtp(&mut self.rtx_used, &mut out[start..], header, ssrc, index)
    }
}

/// The RTP time of stream `old` at the moment that is `rtp` for stream `new`.
fn same_moment(new: &SenderInfo, rtp: u32, old: &SenderInfo, clock_rate: u32) -> u32 {
    let since_new = i64::from(rtp.wrapping_sub(new.rtp) as i32);
    // 32.32 seconds to timestamp units.
    let between = (i128::from(new.ntp.wrapping_sub(old.ntp) as i64) * i128::from(clock_rate)) >> 32;
    old.rtp.wrapping_add((between as i64 + since_new) as u32)
}
