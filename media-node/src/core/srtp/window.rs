//! Packet indexes: guessing the rollover counter, and never accepting or using an index twice.

use crate::core::stats::Drop;

/// Indexes remembered behind the highest one. Larger than any reordering that a jitter buffer bridges.
const BITS: u64 = 1024;
const WORDS: usize = (BITS / 64) as usize;

/// Sliding window over 48-bit SRTP (or 31-bit SRTCP) indexes (RFC 3711 §3.3.1, §3.3.2).
#[derive(Clone, Debug)]
pub(crate) struct IndexWindow {
    highest: Option<u64>,
    seen: [u64; WORDS],
}

impl Default for IndexWindow {
    fn default() -> Self {
        Self { highest: None, seen: [0; WORDS] }
    }
}

impl IndexWindow {
    /// A window that refuses everything up to and including `highest`: how a stream goes on whose state
    /// was put away.
    pub fn resume_after(highest: u64) -> Self {
        Self { highest: Some(highest), seen: [u64::MAX; WORDS] }
    }

    /// The highest index accepted so far.
    pub fn highest(&self) -> Option<u64> {
        self.highest
    }

    /// The index that a sequence number most likely stands for: the one nearest to the highest so far.
    /// A stream starts with rollover counter zero (RFC 5764 gives no other).
    pub fn estimate(&self, sequence: u16) -> Option<u64> {
        let Some(highest) = self.highest else { return Some(u64::from(sequence)) };
        let forward = i64::from(sequence.wrapping_sub(highest as u16) as i16);
        highest.checked_add_signed(forward)
    }

    /// The next index above the highest so far that a sequence number stands for, however far ahead: what
    /// [`Self::estimate`] takes for an old one once more than half of all sequence numbers have been left out.
    pub fn ahead(&self, sequence: u16) -> Option<u64> {
        let next = self.highest?.checked_add(1)?;
        next.checked_add(u64::from(sequence.wrapping_sub(next as u16)))
    }

    /// # Errors
    ///
    /// [`Drop::SrtpReplay`] for an index accepted before, [`Drop::SrtpTooOld`] for one that has left the window.
    pub fn check(&self, index: u64) -> Result<(), Drop> {
        let Some(highest) = self.highest else { return Ok(()) };
        if index > highest {
            return Ok(());
        }
        if highest - index >= BITS {
            return Err(Drop::SrtpTooOld);
        }
        if self.seen[word(index)] & bit(index) == 0 { Ok(()) } else { Err(Drop::SrtpReplay) }
    }

    /// Marks an index as used. Call only after authentication.
    pub fn accept(&mut self, index: u64) {
        match self.highest {
            Some(highest) if index <= highest => {}
            Some(highest) if index - highest < BITS => {
                for skipped in highest + 1..index {
                    self.seen[word(skipped)] &= !bit(skipped);
                }
                self.highest = Some(index);
            }
            _ => {
                self.seen = [0; WORDS];
                self.highest = Some(index);
            }
        }
        if self.highest.is_some_and(|highest| highest - index < BITS) {
            self.seen[word(index)] |= bit(index);
        }
    }
}

fn word(index: u64) -> usize {
    ((index % BITS) / 64) as usize
}

fn bit(index: u64) -> u64 {
    1 << (index % 64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn rollover_is_followed_in_both_directions() {
        let mut window = IndexWindow::default();
        assert_eq!(window.estimate(65_535), Some(65_535));
        window.accept(65_535);
        assert_eq!(window.estimate(0), Some(65_536));
        window.accept(65_536);
        assert_eq!(window.estimate(65_534), Some(65_534));
        assert_eq!(window.estimate(1), Some(65_537));
    }

    #[test]
    fn nothing_precedes_index_zero() {
        let mut window = IndexWindow::default();
        window.accept(3);
        assert_eq!(window.estimate(65_535), None);
    }

    #[test]
    fn a_sequence_number_stands_for_one_ahead_if_for_none_behind() {
        let mut window = IndexWindow::default();
        assert_eq!(window.ahead(5), None, "nothing is ahead of nothing");
        window.accept(1000);
        assert_eq!((window.estimate(41_000), window.ahead(41_000)), (None, Some(41_000)));
        assert_eq!((window.ahead(1001), window.ahead(1000)), (Some(1001), Some(66_536)));
        window.accept(70_000);
        assert_eq!((window.estimate(40_000), window.ahead(40_000)), (Some(40_000), Some(105_536)));
    }

    #[test]
    fn a_resumed_window_accepts_only_what_is_new() {
        let window = IndexWindow::resume_after(100);
        assert_eq!(window.check(100), Err(Drop::SrtpReplay));
        assert_eq!(window.check(50), Err(Drop::SrtpReplay));
        assert_eq!(window.check(101), Ok(()));
    }

    proptest! {
        #[test]
        fn no_index_is_ever_accepted_twice(steps in prop::collection::vec(-1500i64..3000, 1..400)) {
            let mut window = IndexWindow::default();
            let mut accepted = BTreeSet::new();
            let mut at = 10_000i64;
            for step in steps {
                at = (at + step).max(0);
                let index = at as u64;
                let highest = accepted.last().copied();
                match window.check(index) {
                    Ok(()) => {
                        prop_assert!(accepted.insert(index));
                        window.accept(index);
                    }
                    Err(Drop::SrtpReplay) => prop_assert!(accepted.contains(&index)),
                    Err(_) => prop_assert!(highest.is_some_and(|h| h - index >= BITS)),
                }
            }
        }
    }
}
