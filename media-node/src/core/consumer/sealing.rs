//! Writing a packet as the subscriber gets it, and sealing it.

use std::time::Instant;

use super::{Consumer, Incoming, Place, Sent, Stamps};
use crate::core::codec::renumber_frame;
use crate::core::command::{Codec, ExtensionKind};
use crate::core::redundancy::Redundancy;
use crate::core::rtp::{Rewrite, Rtx};
use crate::core::sequence::Shift;
use crate::core::srtp::Outbound;
use crate::core::stats::Drop;

/// Padding and nothing else (RFC 3550 §5.1): a receiver takes the number as used.
const FILL: [u8; 1] = [1];

impl Consumer {
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
