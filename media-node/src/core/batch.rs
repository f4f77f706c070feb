//! What goes to one client in one tick: packets end to end in one buffer, cut into runs that UDP
//! segmentation offload can carry.

/// A run must stay below the largest UDP datagram, with room for IP headers.
const MAX_RUN_BYTES: usize = 64_000;
/// Buffers larger than this are not kept.
const KEEP_BYTES: usize = 64 * 1024;

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

    /// The next packets that can leave in one transmit.
    pub fn next_run(&mut self, max_segments: usize) -> Option<Run> {
        let begin = |i: usize| if i == 0 { 0 } else { self.ends[i - 1] as usize };
        let first = self.taken;
        let start = begin(first);
        let mut end = *self.ends.get(first)? as usize;
        let segment = end - start;
        let mut packets = 1;
        while packets < max_segments && end - start < MAX_RUN_BYTES - segment {
            let Some(&next) = self.ends.get(first + packets) else { break };
            let len = next as usize - end;
            if len > segment {
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

    /// Ready for reuse; memory of an unusually large batch is given back.
    pub fn recycle(mut self) -> Self {
        self.bytes.clear();
        self.bytes.shrink_to(KEEP_BYTES);
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
        let runs: Vec<_> = std::iter::from_fn(|| batch.next_run(64)).map(|r| (r.segment, r.packets)).collect();
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
            while let Some(run) = batch.next_run(max) {
                prop_assert!(run.packets <= max && run.end - run.start <= MAX_RUN_BYTES);
                back.extend(batch.bytes(run).chunks(run.segment).map(<[u8]>::to_vec));
            }
            let expected: Vec<_> = sizes.iter().enumerate().map(|(i, s)| vec![i as u8; *s]).collect();
            prop_assert_eq!(back, expected);
        }
    }
}
