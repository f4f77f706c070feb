//! Whether more is sent than the path carries, told by the harm that it does: packets that stay lost, or a
//! queue that stands. A delay that grew for a moment is neither: receivers pause to think.

use super::Micros;
use super::loss::Verdict;

/// Answers that take this much longer than the quickest have waited in a queue that people hear.
const STANDING: Micros = 200_000;
/// So long without a better moment is harm.
const LASTING: Micros = 1_500_000;
/// The quickest answer is looked for in this long, and in as long before.
const WINDOW: Micros = 30_000_000;

/// Follows round trips and loss.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// Quickest answers of this window and of the one before it, and when this one began.
    quickest: (Option<Micros>, Option<Micros>, Micros),
    /// The last answer had waited.
    stands: bool,
    bad_since: Option<Micros>,
}

impl Queue {
    /// An answer took this long, and the loss of late asks for this.
    pub fn answered(&mut self, round_trip: Micros, loss: Verdict, now: Micros) {
        if now.saturating_sub(self.quickest.2) > WINDOW {
            self.quickest = (None, self.quickest.0, now);
        }
        let quickest = self.quickest.0.map_or(round_trip, |quickest| quickest.min(round_trip));
        self.quickest.0 = Some(quickest);
        let quickest = self.quickest.1.map_or(quickest, |before| before.min(quickest));
        self.stands = round_trip > quickest + STANDING;
        if self.stands || matches!(loss, Verdict::Reduce(_)) {
            self.bad_since.get_or_insert(now);
        } else {
            self.bad_since = None;
        }
    }

    /// The last answer had to wait.
    pub fn stands(&self) -> bool {
        self.stands
    }

    /// It has been bad for long enough to act on it.
    pub fn harms(&self, now: Micros) -> bool {
        self.bad_since.is_some_and(|since| now.saturating_sub(since) >= LASTING)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOSSY: Verdict = Verdict::Reduce(0.9);

    /// Answers every 100 ms from a moment on: whether they tell of harm.
    fn harm(queue: &mut Queue, from: &mut Micros, answers: &[(Micros, Verdict)]) -> bool {
        for (round_trip, loss) in answers {
            *from += 100_000;
            queue.answered(*round_trip * 1000, *loss, *from);
        }
        queue.harms(*from)
    }

    #[test]
    fn harm_is_what_lasts() {
        let (mut queue, mut now) = (Queue::default(), 0);
        assert!(!harm(&mut queue, &mut now, &[(50, Verdict::Good); 100]));
        assert!(!harm(&mut queue, &mut now, &[(900, Verdict::Good); 14]), "a receiver that paused");
        assert!(!harm(&mut queue, &mut now, &[(60, Verdict::Hold)]));
        assert!(harm(&mut queue, &mut now, &[(300, Verdict::Good); 16]), "a queue");
        assert!(!harm(&mut queue, &mut now, &[(50, Verdict::Good)]), "it has drained");
        assert!(!harm(&mut queue, &mut now, &[(50, LOSSY); 15]));
        assert!(harm(&mut queue, &mut now, &[(50, LOSSY)]));
        assert!(harm(&mut queue, &mut now, &[(300, Verdict::Good)]), "one after the other is no better");
    }

    #[test]
    fn a_longer_path_is_learned() {
        let (mut queue, mut now) = (Queue::default(), 0);
        assert!(!harm(&mut queue, &mut now, &[(50, Verdict::Good); 100]));
        assert!(harm(&mut queue, &mut now, &[(400, Verdict::Good); 100]));
        assert!(!harm(&mut queue, &mut now, &[(400, Verdict::Good); 600]));
    }
}
