//! How the sequence numbers of a source become those of a consumer: continuous across pauses, skipped
//! packets and switches of encodings, and injective, because an index must never be sealed twice.

use std::collections::VecDeque;

use super::layers::Layers;

/// Spans remembered. One begins after each stretch of packets left out: at most one for each picture of the
/// second within the reach of a NACK.
const MAX_SPANS: usize = 80;

/// The most that may be missing between two packets. Nothing from within a larger gap can come any more: it is as
/// wide as the replay window of SRTP.
const MAX_GAP: u64 = 1024;

/// What was rewritten for a stretch of packets, so that a retransmission is rewritten alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shift {
    /// Index of the encoding that the packets came from.
    pub encoding: usize,
    /// Added to RTP timestamps.
    pub timestamp: u32,
    /// Added to picture ids, of AV1 to frame numbers.
    pub picture_id: u16,
    /// Added to TL0PICIDX.
    pub tl0_pic_idx: u8,
    /// Added to KEYIDX.
    pub key_idx: u8,
    /// What was let through.
    pub limits: Layers,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    /// First source index of the span.
    from: u64,
    /// Added to source indexes.
    offset: i64,
    shift: Shift,
    /// The span does not continue the one before it.
    restart: bool,
}

/// Maps extended source sequence numbers to extended outgoing ones.
#[derive(Debug)]
pub(crate) struct SequenceMap {
    spans: VecDeque<Span>,
    highest_in: u64,
    next_out: u64,
}

impl SequenceMap {
    /// `first` is the first index to be sent; below 2^15, so that the rollover counter starts at zero for
    /// a receiver that misses the first packets.
    pub fn new(first: u16) -> Self {
        Self { spans: VecDeque::new(), highest_in: 0, next_out: u64::from(first & 0x7fff) }
    }

    /// Goes on with a stream whose next packet gets this index.
    pub fn starting_at(next: u64) -> Self {
        Self { spans: VecDeque::new(), highest_in: 0, next_out: next }
    }

    /// The index that the next packet gets.
    pub fn next_out(&self) -> u64 {
        self.next_out
    }

    /// From `source` on, packets follow those sent so far; everything before is too late.
    pub fn restart(&mut self, source: u64, shift: Shift) {
        let offset = self.next_out.wrapping_sub(source) as i64;
        self.push(Span { from: source, offset, shift, restart: true });
        self.highest_in = source.saturating_sub(1);
    }

    /// Whether no later packet has been seen since the last restart.
    pub fn is_newest(&self, source: u64) -> bool {
        source > self.highest_in
    }

    /// Whether so much is missing before a packet that it is rather another beginning.
    pub fn leaps(&self, source: u64) -> bool {
        !self.spans.is_empty() && source > self.highest_in.saturating_add(MAX_GAP)
    }

    /// From `source` on, which is the newest, packets are rewritten in another way.
    pub fn turn(&mut self, source: u64, shift: Shift) {
        match self.spans.back_mut() {
            Some(last) if last.from == source => last.shift = shift,
            Some(last) => {
                let next = Span { from: source, shift, restart: false, ..*last };
                self.push(next);
            }
            None => {}
        }
    }

    /// A packet that is not forwarded must not leave a gap. One that comes late already has. What follows
    /// is rewritten by `shift`.
    pub fn skip(&mut self, source: u64, shift: Shift) {
        let Some(last) = self.spans.back().copied() else { return };
        if source <= self.highest_in {
            return;
        }
        // Packets between the highest and this one may still come: they keep their places.
        self.next_out = source.wrapping_add_signed(last.offset);
        self.highest_in = source;
        let next = Span { from: source + 1, offset: last.offset - 1, restart: false, shift };
        if last.from == source && !last.restart {
            self.spans.pop_back();
        }
        self.push(next);
    }

    /// Where a packet goes, and how it is rewritten; `None` for one from before the last restart.
    pub fn map(&mut self, source: u64) -> Option<(u64, Shift)> {
        let span = self.span_of(source)?;
        let out = source.wrapping_add_signed(span.offset);
        if source > self.highest_in {
            self.highest_in = source;
            self.next_out = out + 1;
        }
        Some((out, span.shift))
    }

    fn span_of(&self, source: u64) -> Option<Span> {
        for span in self.spans.iter().rev() {
            if source >= span.from {
                return Some(*span);
            }
            if span.restart {
                return None;
            }
        }
        None
    }

    /// The packet that was sent as the 16-bit `sequence`: its outgoing index, its source index, its shift.
    pub fn unmap(&self, sequence: u16) -> Option<(u64, u64, Shift)> {
        let last = self.next_out.checked_sub(1)?;
        let back = (last as u16).wrapping_sub(sequence);
        if back >= 1 << 15 {
            return None;
        }
        let out = last.checked_sub(u64::from(back))?;
        let mut end_out = self.next_out;
        for span in self.spans.iter().rev() {
            let first_out = span.from.wrapping_add_signed(span.offset);
            if out >= first_out && out < end_out {
                return Some((out, out.wrapping_add_signed(-span.offset), span.shift));
            }
            end_out = end_out.min(first_out);
        }
        None
    }

    fn push(&mut self, span: Span) {
        if self.spans.len() == MAX_SPANS {
            self.spans.pop_front();
        }
        self.spans.push_back(span);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn out(map: &mut SequenceMap, source: u64) -> Option<u64> {
        map.map(source).map(|(out, _)| out)
    }

    #[test]
    fn numbers_continue_across_a_pause() {
        let mut map = SequenceMap::new(100);
        map.restart(5000, Shift::default());
        assert_eq!([5000, 5001, 5002].map(|s| out(&mut map, s)), [Some(100), Some(101), Some(102)]);
        map.restart(9000, Shift::default());
        assert_eq!(out(&mut map, 9000), Some(103));
        assert_eq!(out(&mut map, 8999), None, "from before the resume");
        assert_eq!(map.unmap(102).map(|(_, s, _)| s), Some(5002));
        assert_eq!(map.unmap(103).map(|(_, s, _)| s), Some(9000));
        assert_eq!(map.unmap(104), None);
        assert_eq!(map.unmap(99), None);
    }

    #[test]
    fn a_late_packet_takes_its_own_place() {
        let mut map = SequenceMap::new(0);
        map.restart(10, Shift::default());
        assert_eq!(out(&mut map, 10), Some(0));
        assert_eq!(out(&mut map, 13), Some(3));
        map.skip(14, Shift::default());
        assert_eq!(out(&mut map, 15), Some(4));
        assert_eq!(out(&mut map, 12), Some(2));
        assert_eq!(out(&mut map, 11), Some(1));
    }

    #[test]
    fn rollover_of_the_outgoing_side_is_unmapped() {
        let mut map = SequenceMap::new(0x7fff);
        map.restart(1, Shift::default());
        for source in 1..60_000 {
            out(&mut map, source);
        }
        let (out, source, _) = map.unmap(((0x7fff + 59_990) % 65_536) as u16).unwrap();
        assert_eq!((out, source), (0x7fff + 59_990, 59_991));
    }

    proptest! {
        #[test]
        fn no_two_packets_ever_get_the_same_number(steps in prop::collection::vec((0u8..13, 0u64..6), 1..400)) {
            let mut map = SequenceMap::new(77);
            map.restart(1000, Shift::default());
            let (mut at, mut epoch) = (1000u64, 0u32);
            let mut shift = Shift::default();
            let mut seen: BTreeSet<(u32, u64)> = BTreeSet::new();
            let mut used: BTreeMap<u64, (u32, u64)> = BTreeMap::new();
            for (what, jump) in steps {
                match what {
                    0 => {
                        at += 50 + jump;
                        epoch += 1;
                        shift.encoding = epoch as usize;
                        map.restart(at, shift);
                    }
                    1 | 2 => {
                        at += 1;
                        if seen.insert((epoch, at)) {
                            // What is left out changes how the rest is rewritten, or does not.
                            shift.picture_id = shift.picture_id.wrapping_sub(jump as u16 % 2);
                            map.skip(at, shift);
                        }
                    }
                    3 | 4 => {
                        // Late: any of the last few that has not been seen.
                        let late = at.saturating_sub(jump);
                        if seen.insert((epoch, late)) && let Some((out, _)) = map.map(late) {
                            prop_assert_eq!(used.insert(out, (epoch, late)), None);
                        }
                    }
                    _ => {
                        at += 1 + jump / 5;
                        if seen.insert((epoch, at)) {
                            prop_assert!(map.is_newest(at));
                            if what == 12 {
                                shift.timestamp += 1;
                                map.turn(at, shift);
                            }
                            let (out, found) = map.map(at).expect("newest of its epoch");
                            prop_assert_eq!(found, shift);
                            prop_assert_eq!(used.insert(out, (epoch, at)), None);
                            prop_assert_eq!(map.unmap(out as u16), Some((out, at, shift)));
                        }
                    }
                }
            }
        }
    }
}
