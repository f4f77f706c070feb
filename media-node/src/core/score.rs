//! How well a stream gets through, from 0 (nothing comes) to 10 (everything does): mediasoup's score by mediasoup's
//! formula, so that applications that act on it do the same here.

/// The best score.
pub(crate) const BEST: u8 = 10;
/// Intervals that are remembered; the latest weighs as much as there are, the oldest one.
const REMEMBERED: usize = 24;

/// What became of a stream between two reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interval {
    /// Packets that were received, or sent, without those sent again.
    pub packets: u64,
    /// Packets that did not come, whether or not they were repaired.
    pub lost: u64,
    /// Of these, the ones that came after all, because they were sent again.
    pub repaired: u64,
    /// Packets sent again.
    pub resent: u64,
}

impl Interval {
    /// The score of this interval alone: a repair is worth the less, the more there are and the more attempts they take.
    fn score(&self) -> u8 {
        if self.packets == 0 {
            return if self.lost == 0 { BEST } else { 0 };
        }
        let (packets, lost) = (self.packets as f64, self.lost.min(self.packets));
        let repaired = self.repaired.min(lost) as f64;
        let mut worth = (1.0 / (repaired / packets + 1.0)).powi(4);
        if self.resent > 0 {
            worth *= (repaired / self.resent as f64).min(1.0);
        }
        let missed = lost as f64 - repaired * worth;
        (((packets - missed) / packets).powi(4) * f64::from(BEST)).round() as u8
    }
}

/// The score over the last intervals.
#[derive(Clone, Debug, Default)]
pub(crate) struct Score {
    latest: [u8; REMEMBERED],
    filled: usize,
}

impl Score {
    /// Another interval has passed.
    pub fn add(&mut self, interval: &Interval) {
        if self.filled == REMEMBERED {
            self.latest.copy_within(1.., 0);
            self.filled -= 1;
        }
        self.latest[self.filled] = interval.score();
        self.filled += 1;
    }

    /// The stream begins anew: what was before says nothing.
    pub fn reset(&mut self) {
        self.filled = 0;
    }

    /// 0 to 10; the best one before anything is known.
    pub fn value(&self) -> u8 {
        let weighed = |(at, score): (usize, &u8)| (at as u32 + 1) * u32::from(*score);
        let sum: u32 = self.latest[..self.filled].iter().enumerate().map(weighed).sum();
        let weights = (self.filled * (self.filled + 1) / 2) as u32;
        (sum + weights / 2).checked_div(weights).map_or(BEST, |score| score as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_table() {
        for (packets, lost, repaired, resent, expected) in [
            (100, 0, 0, 0, 10),
            (0, 0, 0, 0, 10),
            (0, 5, 0, 0, 0),
            (95, 5, 0, 0, 8),
            (95, 5, 5, 5, 10),
            // Every repair took ten attempts.
            (95, 5, 5, 50, 8),
            (80, 20, 0, 0, 3),
            (50, 50, 0, 0, 0),
            (10, 90, 0, 0, 0),
        ] {
            let interval = Interval { packets, lost, repaired, resent };
            assert_eq!(interval.score(), expected, "{interval:?}");
        }
    }

    #[test]
    fn the_latest_weighs_most_and_the_oldest_is_forgotten() {
        let (good, bad) =
            (Interval { packets: 100, ..Interval::default() }, Interval { lost: 9, ..Interval::default() });
        let mut score = Score::default();
        assert_eq!(score.value(), 10);
        score.add(&good);
        score.add(&bad);
        assert_eq!(score.value(), 3, "one third");
        for _ in 0..REMEMBERED {
            score.add(&good);
        }
        assert_eq!(score.value(), 10);
        score.add(&bad);
        assert_eq!(score.value(), 9);
        score.reset();
        assert_eq!(score.value(), 10);
    }

    proptest! {
        #[test]
        fn it_stays_within_its_bounds(intervals in prop::collection::vec((0u64..2000, 0u64..2000, 0u64..2000, 0u64..2000), 0..60)) {
            let mut score = Score::default();
            for (packets, lost, repaired, resent) in intervals {
                score.add(&Interval { packets, lost, repaired, resent });
                prop_assert!(score.value() <= BEST);
            }
        }
    }
}
