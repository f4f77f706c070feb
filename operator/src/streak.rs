//! Failures in a row: an outage is told when it begins and when it is over, and not with each of its failures.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts failures since the last success.
#[derive(Debug, Default)]
pub struct Streak(AtomicU64);

impl Streak {
    /// Another failure. Whether it is the first, and so worth a line.
    pub fn failed(&self) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed) == 0
    }

    /// A success. How many failures it ends, if any.
    pub fn succeeded(&self) -> Option<u64> {
        // Reading is enough nearly always, and does not take the line from other processors.
        (self.0.load(Ordering::Relaxed) > 0).then(|| self.0.swap(0, Ordering::Relaxed)).filter(|n| *n > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_has_a_beginning_and_an_end() {
        let streak = Streak::default();
        assert_eq!(streak.succeeded(), None);
        assert_eq!([streak.failed(), streak.failed(), streak.failed()], [true, false, false]);
        assert_eq!((streak.succeeded(), streak.succeeded()), (Some(3), None));
        assert!(streak.failed());
    }
}
