//! What was sent with a transport-wide sequence number, until the subscriber says what became of it.

use super::Micros;

/// Entries at first.
const INITIAL: usize = 128;
/// Entries at most: two seconds at 40 Mbit/s. Older ones are forgotten.
const MAX: usize = 8192;
/// An entry this young is worth growing for.
const KEEP: Micros = 2_000_000;

/// What became of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Not yet handed to the socket.
    #[default]
    Waiting,
    /// On its way.
    Sent,
    /// Reported missing; it may still come.
    Missing,
    /// Reported as arrived.
    Arrived,
}

/// A packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    pub sent: Micros,
    pub bytes: u16,
    /// The probe it was part of; zero for none.
    pub cluster: u8,
    pub outcome: Outcome,
}

/// A ring of packets by sequence number. It grows to what is in flight, and no further than its bound.
#[derive(Debug)]
pub(crate) struct History {
    entries: Vec<Entry>,
    /// Next sequence number, without its wraps.
    next: u64,
    /// First one that was not handed to the socket.
    unsent: u64,
}

impl Default for History {
    fn default() -> Self {
        Self { entries: Vec::new(), next: 1 << 16, unsent: 1 << 16 }
    }
}

impl History {
    /// The sequence number that the next packet bears.
    pub fn next(&self) -> u16 {
        self.next as u16
    }

    /// The packet that bears [`Self::next`] exists and waits to be sent.
    pub fn push(&mut self, bytes: usize, now: Micros) {
        if self.entries.is_empty() {
            self.entries.resize(INITIAL, Entry::default());
        }
        let at = self.slot(self.next);
        let old = self.entries[at];
        let is_fresh = old.outcome != Outcome::Arrived && now.saturating_sub(old.sent) < KEEP;
        if self.entries.len() < MAX && old.bytes != 0 && is_fresh {
            self.grow();
        }
        let at = self.slot(self.next);
        let bytes = bytes.min(usize::from(u16::MAX)) as u16;
        self.entries[at] = Entry { sent: now, bytes, cluster: 0, outcome: Outcome::Waiting };
        self.next += 1;
        // What was overwritten before it was sent is nobody's any more.
        self.unsent = self.unsent.max(self.next.saturating_sub(self.entries.len() as u64));
    }

    /// The oldest waiting packet leaves now, as part of a probe or not.
    pub fn sent(&mut self, now: Micros, cluster: u8) {
        if self.unsent < self.next {
            let at = self.slot(self.unsent);
            let entry = &mut self.entries[at];
            (entry.sent, entry.cluster, entry.outcome) = (now, cluster, Outcome::Sent);
            self.unsent += 1;
        }
    }

    /// A packet that has been sent, if it is still known.
    pub fn get(&mut self, sequence: u16) -> Option<&mut Entry> {
        let last = self.unsent - 1;
        let back = u64::from((last as u16).wrapping_sub(sequence));
        let index = last.checked_sub(back).filter(|i| *i >= 1 << 16)?;
        if self.next - index > self.entries.len() as u64 {
            return None;
        }
        let at = self.slot(index);
        self.entries.get_mut(at)
    }

    fn slot(&self, index: u64) -> usize {
        index as usize & (self.entries.len() - 1)
    }

    fn grow(&mut self) {
        let mut larger = vec![Entry::default(); self.entries.len() * 2];
        let mask = larger.len() as u64 - 1;
        for index in self.next.saturating_sub(self.entries.len() as u64).max(1 << 16)..self.next {
            larger[(index & mask) as usize] = self.entries[self.slot(index)];
        }
        self.entries = larger;
    }

    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_grows_to_what_is_in_flight_and_no_further() {
        let mut history = History::default();
        for i in 0..200_000u64 {
            history.push(1000, i * 1000);
            history.sent(i * 1000, 0);
            if i >= 100 {
                history.get((i - 100) as u16).unwrap().outcome = Outcome::Arrived;
            }
        }
        assert_eq!(history.capacity(), INITIAL);
        // Nobody answers any more.
        for i in 0..20_000u64 {
            history.push(1000, 300_000_000 + i);
            history.sent(300_000_000 + i, 0);
        }
        assert_eq!(history.capacity(), MAX);
    }

    proptest! {
        #[test]
        fn an_entry_is_found_by_its_own_number_only(
            start in 0u64..200_000,
            sizes in prop::collection::vec((1u16..1500, any::<bool>()), 1..600),
            asked: u16,
        ) {
            let mut history = History { next: (1 << 16) + start, unsent: (1 << 16) + start, ..History::default() };
            let (mut pushed, mut sent) = (vec![], 0);
            for (i, (bytes, leaves)) in sizes.iter().enumerate() {
                pushed.push((history.next(), *bytes));
                history.push(usize::from(*bytes), i as u64);
                if *leaves {
                    history.sent(i as u64, 3);
                    sent += 1;
                }
            }
            for (i, (sequence, bytes)) in pushed.iter().enumerate() {
                let found = history.get(*sequence).copied();
                prop_assert_eq!(found.is_some_and(|e| e.outcome == Outcome::Sent && e.bytes == *bytes), i < sent);
            }
            if !pushed.iter().any(|(s, _)| *s == asked) {
                prop_assert!(history.get(asked).is_none_or(|e| e.bytes == 0));
            }
        }
    }
}
