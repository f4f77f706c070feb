//! Redundant audio (RFC 2198): whoever knows it gets the packets as they are, everybody else the frames in them, and those
//! that were lost on the way here out of the copies.

use std::time::Instant;

use super::codec::{Copied, Red, picture};
use super::command::{Codec, ProducerCodec};
use super::consumer::Incoming;
use super::producer::Stream;
use super::rtp::{Header, Values};
use super::{Core, Key};

/// What a packet has to do with redundancy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Redundancy {
    /// Nothing.
    None,
    /// A frame behind copies of earlier ones.
    Blocks {
        red: Red,
        /// The router's payload type of the blocks.
        payload_type: u8,
    },
    /// A copy of a frame in the place of the packet that was lost.
    CopyOf {
        /// The router's payload type of the packet that it was in: who decodes that has it already.
        router_payload_type: u8,
    },
}

impl Redundancy {
    /// Reads a payload without padding of one of the producer's codecs. `None` if it is not well-formed, or if not all of
    /// its blocks are of the same one of the others: no browser mixes them, and a subscriber is told of one.
    pub fn read(payload: &[u8], codec: Codec, codecs: &[ProducerCodec]) -> Option<Self> {
        if codec != Codec::Red {
            return Some(Self::None);
        }
        let red = Red::parse(payload).filter(|red| red.is_uniform)?;
        let carried = codecs.iter().find(|c| c.payload_type == red.payload_type && c.codec != Codec::Red)?;
        Some(Self::Blocks { red, payload_type: carried.router_payload_type })
    }
}

impl Core {
    /// Sends the frames that have not come by themselves to the subscribers who get no copies. Returns how many were sent.
    ///
    /// What says which packet a copy is of is its place: the last is of the packet before, if there are none of frames
    /// without sound (DTX) between, which have no packets either. Where a publisher has left something else out, the
    /// timestamp contradicts, and the copy counts for nothing.
    pub(super) fn send_copies(&mut self, key: Key, packet: &Incoming<'_>, now: Instant) -> usize {
        let Redundancy::Blocks { red, payload_type } = packet.redundancy else { return 0 };
        let copies = red.copies(packet.payload);
        let (mut sent, mut back, mut before) = (0, copies.len() as u64 + 1, None);
        for Copied { offset, frame } in copies {
            back -= 1;
            let Some(stream) = self.producers.get(key).and_then(|p| p.streams.get(packet.encoding)) else {
                return sent;
            };
            let Some(index) = packet.index.checked_sub(back) else { continue };
            let known = |index: Option<u64>| timestamp(stream, index?);
            let previous = before.take().or_else(|| known(index.checked_sub(1)));
            before = known(Some(index));
            let copied = packet.header.timestamp.wrapping_sub(offset.into());
            let is_next = previous.is_some_and(|previous| (copied.wrapping_sub(previous) as i32) > 0);
            if before.is_some() || !is_next || offset == 0 || frame.is_empty() {
                continue;
            }
            before = Some(copied);
            let copy = Incoming {
                header: Header { timestamp: copied, marker: false, padding: false, ..packet.header },
                // Loudness and the like are of the newest frame.
                values: Values::default(),
                payload: frame,
                index,
                encoding: packet.encoding,
                router_payload_type: payload_type,
                codec: Codec::Opus,
                picture: picture(Codec::Opus, frame, false, None),
                redundancy: Redundancy::CopyOf { router_payload_type: packet.router_payload_type },
            };
            sent += self.fan_out(key, &copy, now);
        }
        sent
    }
}

/// Of a packet that has come.
fn timestamp(stream: &Stream, index: u64) -> Option<u32> {
    Some(u32::from_be_bytes(*stream.history.get(index)?.get(4..)?.first_chunk()?))
}
