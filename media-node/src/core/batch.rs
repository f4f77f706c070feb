//! What goes to one client in one tick: packets end to end in one buffer, cut into runs that UDP
//! segmentation offload can carry.

/// A run must stay below the largest UDP datagram, with room for IP headers.
const MAX_RUN_BYTES: usize = 64_000;
/// What has been taken is given up when it is this much.
const COMPACT_BYTES: usize = 16 * 1024;

/// Sealed packets of one transport.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    /// Packets taken by [`Batch::next_run`].
    taken: usize,
}

/// Consecutive packets of one size, the last of which may be shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub start: usize,
    pub end: usize,
    pub segment: usize,
    pub packets: usize,
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.taken == self.ends.len()
    }

    /// Nothing is in it, and nothing could be put into it without an allocation.
    pub fn has_no_room(&self) -> bool {
        self.bytes.capacity() == 0
    }

    /// The buffer to append one packet to; [`Batch::commit`] or [`Batch::abandon`] ends that.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Where the packet being written begins.
    pub fn start(&self) -> usize {
        self.ends.last().map_or(0, |end| *end as usize)
    }

    /// The bytes appended since the last commit are a packet.
    pub fn commit(&mut self) {
        self.ends.push(u32::try_from(self.bytes.len()).expect("a batch is flushed long before 4 GiB"));
    }

    /// The bytes appended since the last commit are none.
    pub fn abandon(&mut self) {
        self.bytes.truncate(self.start());
    }

    /// Appends a packet.
    pub fn push(&mut self, packet: &[u8]) {
        self.bytes.extend_from_slice(packet);
        self.commit();
    }

    /// Bytes that have not been taken.
    pub fn waiting(&self) -> usize {
        self.start() - self.begin(self.taken)
    }

    fn begin(&self, packet: usize) -> usize {
        if packet == 0 { 0 } else { self.ends[packet - 1] as usize }
    }

    /// The next packets that can leave in one transmit, as far as each may, by its length.
    pub fn next_run(&mut self, max_segments: usize, mut may_leave: impl FnMut(usize) -> bool) -> Option<Run> {
        let first = self.taken;
        let start = self.begin(first);
        let mut end = *self.ends.get(first)? as usize;
        let segment = end - start;
        if !may_leave(segment) {
            return None;
        }
        let mut packets = 1;
        while packets < max_segments && end - start < MAX_RUN_BYTES - segment {
            let Some(&next) = self.ends.get(first + packets) else { break };
            let len = next as usize - end;
            if len > segment || !may_leave(len) {
                break;
            }
            end = next as usize;
            packets += 1;
            if len < segment {
                break;
            }
        }
        self.taken += packets;
        Some(Run { start, end, segment, packets })
    }

    pub fn bytes(&self, run: Run) -> &[u8] {
        &self.bytes[run.start..run.end]
    }

    /// Gives up the room of what has been taken, once that is worth moving the rest.
    pub fn compact(&mut self) {
        let gone = self.begin(self.taken);
        if gone < COMPACT_BYTES || gone < self.bytes.len() / 2 {
            return;
        }
        self.bytes.drain(..gone);
        self.ends.drain(..self.taken);
        for end in &mut self.ends {
            *end -= gone as u32;
        }
        self.taken = 0;
    }

    /// Bytes in it, taken or not.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes that it has room for.
    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Empty, and ready for reuse. What it has room for beyond twice `keep` is given back.
    pub fn recycle(mut self, keep: usize) -> Self {
        self.bytes.clear();
        if self.bytes.capacity() > 2 * keep {
            self.bytes.shrink_to(keep);
        }
        self.ends.clear();
        self.taken = 0;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn equal_sizes_make_a_run_and_a_shorter_one_ends_it() {
        let mut batch = Batch::default();
        for len in [100, 100, 100, 40, 100, 120, 120] {
            batch.push(&vec![0; len]);
        }
        let runs: Vec<_> =
            std::iter::from_fn(|| batch.next_run(64, |_| true)).map(|r| (r.segment, r.packets)).collect();
        assert_eq!(runs, [(100, 4), (100, 1), (120, 2)]);
        assert!(batch.is_empty());
    }

    proptest! {
        #[test]
        fn runs_partition_the_batch_in_order(sizes in prop::collection::vec(1usize..1500, 0..200), max in 1usize..70) {
            let mut batch = Batch::default();
            for (i, size) in sizes.iter().enumerate() {
                batch.push(&vec![i as u8; *size]);
            }
            let mut back = vec![];
            while let Some(run) = batch.next_run(max, |_| true) {
                prop_assert!(run.packets <= max && run.end - run.start <= MAX_RUN_BYTES);
                back.extend(batch.bytes(run).chunks(run.segment).map(<[u8]>::to_vec));
            }
            let expected: Vec<_> = sizes.iter().enumerate().map(|(i, s)| vec![i as u8; *s]).collect();
            prop_assert_eq!(back, expected);
        }

        #[test]
        fn what_may_not_leave_yet_leaves_later_in_order(
            sizes in prop::collection::vec(600usize..1300, 1..300),
            rooms in prop::collection::vec(0usize..6000, 1..50),
        ) {
            let mut batch = Batch::default();
            let (mut back, mut pushed, mut turn) = (vec![], 0, 0);
            while back.len() < sizes.len() {
                for size in sizes.iter().skip(pushed).take(3) {
                    batch.push(&vec![pushed as u8; *size]);
                    pushed += 1;
                }
                let mut room = rooms[turn % rooms.len()] + turn;
                turn += 1;
                let mut leave = |len: usize| {
                    let fits = len <= room;
                    room -= len.min(room);
                    fits
                };
                while let Some(run) = batch.next_run(64, &mut leave) {
                    back.extend(batch.bytes(run).chunks(run.segment).map(<[u8]>::to_vec));
                }
                let waiting: usize = sizes[back.len()..pushed].iter().sum();
                prop_assert_eq!(batch.waiting(), waiting);
                batch.compact();
                prop_assert!(batch.bytes.len() <= 2 * waiting + COMPACT_BYTES + 1300);
            }
            let expected: Vec<_> = sizes.iter().enumerate().map(|(i, s)| vec![i as u8; *s]).collect();
            prop_assert_eq!(back, expected);
        }
    }
}
