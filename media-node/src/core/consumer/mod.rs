//! A subscription: which packets of a producer a client gets, and under which numbers.

mod padding;
mod resend;

use std::time::{Duration, Instant};

use super::codec::{Picture, has_key_frames, renumber_frame};
use super::command::{Codec, ConsumerId, ConsumerSpec, ExtensionKind, Layers, MediaKind};
use super::config::Config;
use super::congestion::Micros;
use super::history::{History, Limits};
use super::layers::{Choice, Packet, Selector, Verdict};
use super::producer::{Producer, SenderInfo};
use super::reception::leaps;
use super::redundancy::Redundancy;
use super::rtp::{Header, Ids, Rewrite, Rtx, Values};
use super::sequence::{SequenceMap, Shift};
use super::share::Share;
use super::slab::Key;
use super::srtp::{IndexWindow, Outbound};
use super::stats::Drop;
use super::tally::Outflow;

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
    pub codec: Codec,
    pub picture: Picture,
    pub redundancy: Redundancy,
}

/// Where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub out_index: u64,
    pub shift: Shift,
    /// The packet is not to be seen, but its number was kept for it: padding goes out in its place.
    pub fill: bool,
}

/// Padding and nothing else (RFC 3550 §5.1): a receiver takes the number as used.
const FILL: [u8; 1] = [1];

/// Pictures left out that are remembered, so that what comes late of them is told from what was never seen.
const SKIPPED: usize = 16;

/// Stamps of one transmission.
#[derive(Clone, Copy)]
pub(crate) struct Stamps {
    pub transport_cc: u16,
    /// 6.18 fixed point seconds.
    pub abs_send_time: u32,
    /// The same moment as congestion control counts it.
    pub micros: Micros,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    timestamp: u32,
    at: Instant,
    picture_id: u16,
    tl0_pic_idx: u8,
    key_idx: u8,
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
    /// Nothing is sent: the client paused it, or it is off stage.
    pub paused: bool,
    paused_by_client: bool,
    off_stage: bool,
    pub nack: bool,
    pub layers: Selector,
    /// How its share of the bandwidth went.
    pub share: Share,
    /// What the client was last told that it gets.
    pub told: Option<Layers>,
    pub packets: u32,
    pub octets: u32,
    pub resends: Resends,
    /// NTP middle bits and departure of the last sender report.
    pub last_report: Option<(u32, Instant)>,
    /// Packets at the last sender report.
    pub reported_packets: u32,
    /// What the subscriber reported last.
    pub feedback: Option<Feedback>,
    pub tally: Outflow,
    /// What the client said of its weight among others, 1 to 255.
    pub priority: u8,
    mid: Vec<u8>,
    payload_types: u128,
    renumbered: Box<[(u8, u8)]>,
    clock_rate: u32,
    map: SequenceMap,
    used: IndexWindow,
    /// SSRC that RTX packets were sent from, by this consumer or one that it continues.
    rtx_ssrc: Option<u32>,
    rtx_next: u64,
    rtx_used: IndexWindow,
    /// Sealed packets, for subscribers without RTX.
    verbatim: Option<History>,
    shift: Shift,
    last: Option<Sent>,
    /// Timestamps of the last pictures left out, and how many there were.
    skipped: [u32; SKIPPED],
    skips: usize,
}

/// How far the streams of a consumer got that is no more. Another one goes on from there: an SRTP index is
/// never used twice, and to the subscriber it is one stream.
pub(crate) struct Parked {
    pub ssrc: u32,
    pub rtx_ssrc: Option<u32>,
    next: u64,
    used: Option<u64>,
    rtx_next: u64,
    rtx_used: Option<u64>,
    packets: u32,
    octets: u32,
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
    /// Round trip in microseconds; `None` until the subscriber has had a sender report.
    pub round_trip_micros: Option<u32>,
}

impl Consumer {
    /// `seed`: for the initial sequence numbers.
    pub fn new(
        id: ConsumerId,
        transport: Key,
        (producer, encodings): (Key, usize),
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
            paused_by_client: spec.paused,
            off_stage: false,
            nack: spec.nack,
            layers: Selector::new(encodings),
            share: Share::default(),
            told: None,
            packets: 0,
            octets: 0,
            resends: Resends::default(),
            last_report: None,
            reported_packets: 0,
            feedback: None,
            tally: Outflow::default(),
            priority: 1,
            mid: spec.mid.into_bytes(),
            payload_types: spec.payload_types.iter().fold(0, |set, pt| set | (1 << (pt & 0x7f))),
            renumbered: spec.renumbered.into(),
            clock_rate: spec.clock_rate,
            map: SequenceMap::new(seed as u16),
            used: IndexWindow::default(),
            rtx_ssrc: spec.rtx.map(|(ssrc, _)| ssrc),
            rtx_next: u64::from((seed >> 16) as u16 & 0x7fff),
            rtx_used: IndexWindow::default(),
            verbatim,
            shift: Shift::default(),
            last: None,
            skipped: [0; SKIPPED],
            skips: 0,
        }
    }

    /// What another consumer needs to go on with this one's streams.
    pub fn park(self) -> Parked {
        Parked {
            ssrc: self.ssrc,
            rtx_ssrc: self.rtx_ssrc,
            next: self.map.next_out(),
            used: self.used.highest(),
            rtx_next: self.rtx_next,
            rtx_used: self.rtx_used.highest(),
            packets: self.packets,
            octets: self.octets,
            last: self.last,
        }
    }

    /// Goes on where another consumer stopped.
    pub fn go_on(&mut self, parked: Parked) {
        let window = |highest: Option<u64>| highest.map_or_else(IndexWindow::default, IndexWindow::resume_after);
        self.map = SequenceMap::starting_at(parked.next);
        (self.used, self.rtx_used) = (window(parked.used), window(parked.rtx_used));
        self.rtx_next = parked.rtx_next;
        (self.packets, self.octets, self.reported_packets) = (parked.packets, parked.octets, parked.packets);
        self.last = parked.last;
        self.rtx_ssrc = self.rtx_ssrc.or(parked.rtx_ssrc);
        // No encoding of this producer is the one sent last: timestamps are to be aligned.
        self.shift.encoding = usize::MAX;
    }

    /// An encoding goes on in numbers that have nothing to do with those before.
    pub fn begin_anew(&mut self, encoding: usize) {
        if self.shift.encoding == encoding {
            self.shift.encoding = usize::MAX;
            self.restart();
        }
    }

    /// The part of a payload that the subscriber decodes: where it begins, and its payload type in the router. That is all
    /// of it, but of redundant audio the newest frame alone for one who knows no such thing. `None` if it decodes neither.
    fn part(&self, packet: &Incoming<'_>) -> Option<(usize, u8)> {
        if self.decodes(packet.router_payload_type) {
            return Some((0, packet.router_payload_type));
        }
        match packet.redundancy {
            Redundancy::Blocks { red, payload_type } if self.decodes(payload_type) => Some((red.primary, payload_type)),
            _ => None,
        }
    }

    fn decodes(&self, router_payload_type: u8) -> bool {
        self.payload_types & (1 << (router_payload_type & 0x7f)) != 0
    }

    fn payload_type(&self, router: u8) -> u8 {
        self.renumbered.iter().find(|(from, _)| *from == router).map_or(router, |(_, to)| *to)
    }

    /// The next packet that a decoder can start at begins anew; nothing is sent before.
    pub fn restart(&mut self) {
        self.layers.restart();
    }

    /// The client pauses or resumes it. Returns whether that changed anything.
    pub fn pause(&mut self, paused: bool) -> bool {
        let changes = std::mem::replace(&mut self.paused_by_client, paused) != paused;
        if changes {
            self.hold();
        }
        changes
    }

    /// Last-N holds it back, or does so no more. Returns whether that changed anything.
    pub fn set_off_stage(&mut self, off_stage: bool) -> bool {
        let changes = std::mem::replace(&mut self.off_stage, off_stage) != off_stage;
        if changes {
            self.hold();
        }
        changes
    }

    pub fn is_paused_by_client(&self) -> bool {
        self.paused_by_client
    }

    fn hold(&mut self) {
        self.paused = self.paused_by_client || self.off_stage;
        self.restart();
    }

    /// What an answer takes, in microseconds; zero while that is not known.
    pub fn round_trip(&self) -> u32 {
        self.feedback.and_then(|feedback| feedback.round_trip_micros).unwrap_or_default()
    }

    /// Added to the RTP timestamps of the current encoding.
    pub fn timestamp_shift(&self) -> u32 {
        self.shift.timestamp
    }

    /// Where the target lies now. `otherwise` is the encoding to take if none up to it is being received.
    pub fn aim(&self, producer: &Producer, now: Instant, timeout: Duration, otherwise: usize) -> Option<Choice> {
        let target = self.layers.target()?;
        let best = match producer.streams.len() {
            1 => 0,
            _ => producer.best_encoding(target.spatial.into(), now, timeout).unwrap_or(otherwise),
        };
        self.layers.aim(best)
    }

    /// Whether a packet shows that a key frame is needed to get to the target: nothing has begun, another
    /// encoding is wanted, or a spatial layer is received (up to `active`) that was left out so far.
    pub fn needs_key_frame_of(&self, packet: &Incoming<'_>, aim: Choice, active: Layers) -> bool {
        if packet.encoding != aim.encoding || packet.picture.starts {
            return false;
        }
        match self.layers.encoding() {
            Some(current) if current == aim.encoding => {
                packet.header.marker && self.layers.limits().spatial < aim.limits.spatial.min(active.spatial)
            }
            _ => true,
        }
    }

    /// Decides on a packet: where it goes and how it is rewritten. `aim` is what the consumer is to get
    /// now. `Ok(None)`: the packet is of another encoding, as most are, or a copy of what the subscriber finds itself.
    pub fn admit(
        &mut self,
        packet: &Incoming<'_>,
        aim: Option<Choice>,
        producer: &Producer,
        now: Instant,
    ) -> Result<Option<Place>, Drop> {
        if let Redundancy::CopyOf { router_payload_type } = packet.redundancy
            && self.decodes(router_payload_type)
        {
            return Ok(None);
        }
        if self.part(packet).is_none() {
            if self.layers.encoding() == Some(packet.encoding) {
                self.map.skip(packet.index, self.shift);
            }
            return Err(Drop::ConsumerPayloadType);
        }
        if self.layers.encoding() == Some(packet.encoding) && self.map.leaps(packet.index) {
            // Too much is missing to be asked for, or to go on without: the subscriber is spared the gap.
            self.restart();
        }
        let verdict = self.layers.admit(
            &Packet {
                encoding: packet.encoding,
                picture: &packet.picture,
                timestamp: packet.header.timestamp,
                newest: self.map.is_newest(packet.index),
            },
            aim,
        );
        match verdict {
            Verdict::Other => return Ok(None),
            Verdict::Await => return Err(Drop::ConsumerAwaitsKeyFrame),
            Verdict::Held => return Err(Drop::ConsumerHeld),
            Verdict::Begin => self.begin(packet, producer, now),
            Verdict::Turn => {
                self.shift.limits = self.layers.limits();
                self.map.turn(packet.index, self.shift);
                self.follow_clock(packet, producer, now);
            }
            Verdict::Skip => {
                self.skip(packet);
                return Err(Drop::ConsumerLayer);
            }
            Verdict::Forward => self.follow_clock(packet, producer, now),
            Verdict::Late => {}
        }
        let (out_index, shift) = self.map.map(packet.index).ok_or(Drop::ConsumerTooLate)?;
        // A copy may have come before what it is a copy of, and another one after it.
        if packet.redundancy != Redundancy::None && self.used.check(out_index) == Err(Drop::SrtpReplay) {
            return Err(Drop::ConsumerHasFrame);
        }
        let fill = verdict == Verdict::Late && self.is_left_out(packet, &shift);
        Ok(Some(Place { out_index, shift, fill }))
    }

    /// From this packet on.
    fn begin(&mut self, packet: &Incoming<'_>, producer: &Producer, now: Instant) {
        if let Some(last) = self.last
            && (self.shift.encoding != packet.encoding || self.has_leapt(packet, last, now))
        {
            self.shift.timestamp = self.align(packet, producer, last, now);
            let numbers = &packet.picture.numbers;
            if let Some(id) = numbers.picture_id {
                self.shift.picture_id = last.picture_id.wrapping_add(1).wrapping_sub(id);
            }
            if let Some(tl0) = numbers.tl0_pic_idx {
                self.shift.tl0_pic_idx = last.tl0_pic_idx.wrapping_add(1).wrapping_sub(tl0);
            }
            if let Some(index) = numbers.key_idx {
                self.shift.key_idx = last.key_idx.wrapping_add(1).wrapping_sub(index);
            }
        }
        self.shift.encoding = packet.encoding;
        self.shift.limits = self.layers.limits();
        self.map.restart(packet.index, self.shift);
    }

    /// A publisher whose timestamps jump goes on counting from elsewhere; the subscriber's go on as time does.
    fn follow_clock(&mut self, packet: &Incoming<'_>, producer: &Producer, now: Instant) {
        if let Some(last) = self.last
            && self.has_leapt(packet, last, now)
        {
            self.shift.timestamp = self.align(packet, producer, last, now);
            self.map.turn(packet.index, self.shift);
        }
    }

    /// Whether a timestamp is neither near the one sent last nor as far ahead of it as time is.
    fn has_leapt(&self, packet: &Incoming<'_>, last: Sent, now: Instant) -> bool {
        let timestamp = packet.header.timestamp.wrapping_add(self.shift.timestamp);
        leaps(timestamp, last.timestamp, self.clock_rate)
            && leaps(timestamp, last.timestamp.wrapping_add(self.ticks_since(last, now)), self.clock_rate)
    }

    fn ticks_since(&self, last: Sent, now: Instant) -> u32 {
        (now.saturating_duration_since(last.at).as_micros() * u128::from(self.clock_rate) / 1_000_000) as u32
    }

    /// Closes the numbers over a packet. A receiver of VP8 takes a picture id that never comes for a loss,
    /// so those are closed, too; other codecs say by themselves what a picture needs.
    fn skip(&mut self, packet: &Incoming<'_>) {
        self.shift.limits = self.layers.limits();
        let timestamp = packet.header.timestamp;
        if packet.codec == Codec::Vp8 && !self.has_skipped(timestamp) {
            self.skipped[self.skips % SKIPPED] = timestamp;
            self.skips += 1;
            self.shift.picture_id = self.shift.picture_id.wrapping_sub(1);
        }
        self.map.skip(packet.index, self.shift);
    }

    fn has_skipped(&self, timestamp: u32) -> bool {
        self.skipped[..self.skips.min(SKIPPED)].contains(&timestamp)
    }

    /// Whether a late packet is of a layer that was left out at its place. A VP8 picture of which nothing was
    /// seen in time has kept its picture id: it goes out whole.
    fn is_left_out(&self, packet: &Incoming<'_>, shift: &Shift) -> bool {
        let above = !shift.limits.hold(packet.picture.spatial, packet.picture.temporal);
        above && (packet.codec != Codec::Vp8 || self.has_skipped(packet.header.timestamp))
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
        last.timestamp.wrapping_add(self.ticks_since(last, now).max(1)).wrapping_sub(theirs)
    }

    /// What the consumer gets of a producer that now sends up to `active` within the encoding; `None`
    /// while it gets nothing.
    pub fn gets(&self, producer: &Producer, active: Layers) -> Option<Layers> {
        let current = self.layers.current()?;
        Some(Layers {
            spatial: if producer.is_simulcast() { current.spatial } else { current.spatial.min(active.spatial) },
            temporal: current.temporal.min(active.temporal.max(producer.highest().temporal)),
        })
    }

    /// Whether frames depend on each other, so that a start needs a key frame.
    pub fn needs_key_frame(producer: &Producer) -> bool {
        producer.codecs.iter().any(|c| has_key_frames(c.codec))
    }

    /// Appends the sealed packet to `out`. Returns how long it is without its protection.
    ///
    /// # Errors
    ///
    /// [`Drop::IndexReused`]; `out` has grown all the same and must be cut back.
    pub fn seal(
        &mut self,
        packet: &Incoming<'_>,
        Place { out_index, shift, fill }: Place,
        stamps: Stamps,
        outbound: &mut Outbound,
        out: &mut Vec<u8>,
        now: Instant,
    ) -> Result<usize, Drop> {
        let start = out.len();
        let (from, payload_type) = self.part(packet).unwrap_or((0, packet.router_payload_type));
        let to = Destination {
            payload_type: self.payload_type(payload_type),
            from,
            ssrc: self.ssrc,
            sequence: out_index as u16,
            rtx: None,
        };
        let header = self.write(packet, &to, &shift, fill, stamps, out);
        let len = out.len() - start;
        out.resize(out.len() + outbound.rtp_overhead(), 0);
        outbound.seal_rtp(&mut self.used, &mut out[start..], header, self.ssrc, out_index)?;
        if let Some(verbatim) = &mut self.verbatim {
            verbatim.insert(out_index, &out[start..], now);
        }
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add((len - header) as u32);
        self.tally.meter.add(len, stamps.micros);
        if out_index + 1 == self.map.next_out() {
            let numbers = &packet.picture.numbers;
            self.last = Some(Sent {
                timestamp: packet.header.timestamp.wrapping_add(shift.timestamp),
                at: now,
                picture_id: numbers.picture_id.unwrap_or_default().wrapping_add(shift.picture_id),
                tl0_pic_idx: numbers.tl0_pic_idx.unwrap_or_default().wrapping_add(shift.tl0_pic_idx),
                key_idx: numbers.key_idx.unwrap_or_default().wrapping_add(shift.key_idx),
            });
        }
        Ok(len)
    }

    /// Appends the packet in the subscriber's numbers, in the clear; returns the length of its header.
    fn write(
        &self,
        packet: &Incoming<'_>,
        to: &Destination,
        shift: &Shift,
        fill: bool,
        stamps: Stamps,
        out: &mut Vec<u8>,
    ) -> usize {
        let start = out.len();
        let mut header = packet.header;
        // The end of the highest layer that is let through is the end of the picture.
        header.marker |= packet.picture.ends && packet.picture.spatial == shift.limits.spatial;
        let mut payload = &packet.payload[to.from..];
        if fill {
            (header.padding, header.marker, payload) = (true, false, &FILL);
        }
        let mut buffer;
        let descriptor = if packet.codec == Codec::Av1 && !fill {
            buffer = [0; Rewrite::MAX_DESCRIPTOR];
            descriptor(packet, shift, &mut buffer)
        } else {
            None
        };
        let rewrite = Rewrite {
            ids: &self.ids,
            mid: &self.mid,
            payload_type: to.payload_type,
            ssrc: to.ssrc,
            sequence: to.sequence,
            timestamp: header.timestamp.wrapping_add(shift.timestamp),
            transport_cc: stamps.transport_cc,
            abs_send_time: stamps.abs_send_time,
            rtx: to.rtx,
            descriptor,
        };
        let header = rewrite.write(out, &header, &packet.values, payload);
        if !fill {
            let payload = &mut out[start + header + if to.rtx.is_some() { 2 } else { 0 }..];
            packet.picture.numbers.shift(payload, shift);
            if let Redundancy::Blocks { red, payload_type } = packet.redundancy
                && to.from == 0
            {
                red.rename(payload, self.payload_type(payload_type));
            }
        }
        header
    }

    /// Where the packet that was sent as `sequence` came from.
    pub fn origin(&self, sequence: u16) -> Option<(u64, u64, Shift)> {
        self.map.unmap(sequence)
    }

    /// The sealed packet `out_index`, as it was sent.
    pub fn sealed(&self, out_index: u64) -> Option<&[u8]> {
        self.verbatim.as_ref()?.get(out_index)
    }

    /// Appends an RTX packet that repeats `packet` (RFC 4588 §4). Returns how long it is without its protection.
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
    ) -> Result<usize, Drop> {
        let (ssrc, payload_type) = self.rtx.ok_or(Drop::NackMiss)?;
        let start = out.len();
        let index = self.rtx_next;
        self.rtx_next += 1;
        let (from, _) = self.part(packet).unwrap_or_default();
        let to = Destination { payload_type, from, ssrc, sequence: index as u16, rtx: Some(Rtx { original }) };
        let fill = self.is_left_out(packet, &shift);
        let header = self.write(packet, &to, &shift, fill, stamps, out);
        let len = out.len() - start;
        out.resize(out.len() + outbound.rtp_overhead(), 0);
        outbound.seal_rtp(&mut self.rtx_used, &mut out[start..], header, ssrc, index)?;
        Ok(len)
    }
}

/// The dependency descriptor in the subscriber's frame numbers.
fn descriptor<'a>(packet: &Incoming<'_>, shift: &Shift, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let original = packet.values.get(ExtensionKind::DependencyDescriptor)?;
    let copy = buffer.get_mut(..original.len())?;
    copy.copy_from_slice(original);
    renumber_frame(copy, shift.picture_id);
    Some(copy)
}

/// The numbers that a packet goes out under.
struct Destination {
    payload_type: u8,
    /// Where in the publisher's payload that of the subscriber begins.
    from: usize,
    ssrc: u32,
    sequence: u16,
    rtx: Option<Rtx>,
}

/// The RTP time of stream `old` at the moment that is `rtp` for stream `new`.
fn same_moment(new: &SenderInfo, rtp: u32, old: &SenderInfo, clock_rate: u32) -> u32 {
    let since_new = i64::from(rtp.wrapping_sub(new.rtp) as i32);
    // 32.32 seconds to timestamp units.
    let between = (i128::from(new.ntp.wrapping_sub(old.ntp) as i64) * i128::from(clock_rate)) >> 32;
    old.rtp.wrapping_add((between as i64 + since_new) as u32)
}
