//! Whether a packet goes to the subscriber, and under which numbers and times.

use std::time::{Duration, Instant};

use super::{Consumer, Incoming, Place, SKIPPED, Sent};
use crate::core::codec::has_key_frames;
use crate::core::command::{Codec, Layers};
use crate::core::layers::{Choice, Packet, Verdict};
use crate::core::producer::{Producer, SenderInfo};
use crate::core::reception::leaps;
use crate::core::redundancy::Redundancy;
use crate::core::sequence::Shift;
use crate::core::stats::Drop;

impl Consumer {
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
    pub(super) fn is_left_out(&self, packet: &Incoming<'_>, shift: &Shift) -> bool {
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
}

/// The RTP time of stream `old` at the moment that is `rtp` for stream `new`.
fn same_moment(new: &SenderInfo, rtp: u32, old: &SenderInfo, clock_rate: u32) -> u32 {
    let since_new = i64::from(rtp.wrapping_sub(new.rtp) as i32);
    // 32.32 seconds to timestamp units.
    let between = (i128::from(new.ntp.wrapping_sub(old.ntp) as i64) * i128::from(clock_rate)) >> 32;
    old.rtp.wrapping_add((between as i64 + since_new) as u32)
}
