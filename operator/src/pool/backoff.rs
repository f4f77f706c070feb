//! How long a pool whose pods crash waits before it makes the next one.

use std::time::Duration;

/// Wait after the second quick crash in a row; doubles with each further one. After the first there is none.
pub const FIRST_WAIT: Duration = Duration::from_secs(10);
/// Longest wait.
pub const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// A pod that lived this long did not crash because of how it was made.
pub const QUICK: Duration = Duration::from_secs(300);
/// Crashes this close to each other are one: pods that were made together end together.
pub const TOGETHER: Duration = Duration::from_secs(5);
/// After this long without a quick crash the next one counts as the first again.
pub const FORGIVEN_AFTER: Duration = Duration::from_secs(900);

/// The latest quick crashes of a pool's pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Crashes {
    /// Quick crashes in a row.
    pub count: u32,
    /// When the last one was seen.
    pub last: Duration,
    /// What it was.
    pub what: String,
}

impl Crashes {
    /// Takes in that a pod ended that had lived for `lived`.
    pub fn record(&mut self, what: String, lived: Duration, now: Duration) {
        if lived >= QUICK {
            return;
        }
        self.what = what;
        let ago = now.saturating_sub(self.last);
        match self.count {
            0 => self.count = 1,
            _ if ago <= TOGETHER => return,
            _ if ago > FORGIVEN_AFTER => self.count = 1,
            n => self.count = n + 1,
        }
        self.last = now;
    }

    /// When the next pod may be made.
    pub fn not_before(&self) -> Duration {
        match self.count {
            0 | 1 => Duration::ZERO,
            n => self.last + FIRST_WAIT.saturating_mul(1 << (n - 2).min(10)).min(LONGEST_WAIT),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YOUNG: Duration = Duration::from_secs(20);

    #[test]
    fn the_first_crash_costs_nothing_and_later_ones_more_and_more() {
        let mut crashes = Crashes::default();
        let mut waits = Vec::new();
        let mut now = Duration::from_secs(1000);
        for _ in 0..8 {
            crashes.record("exit code 1".into(), YOUNG, now);
            waits.push(crashes.not_before().saturating_sub(now).as_secs());
            now += Duration::from_secs(60);
        }
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
        crashes.record("exit code 1".into(), YOUNG, now + FORGIVEN_AFTER);
        assert_eq!(crashes.count, 1);
    }

    #[test]
    fn a_whole_pool_that_dies_at_once_or_of_old_age_is_replaced_at_once() {
        let mut crashes = Crashes::default();
        let now = Duration::from_secs(1000);
        for i in 0..50 {
            crashes.record("exit code 1".into(), YOUNG, now + Duration::from_millis(i * 20));
        }
        assert_eq!((crashes.count, crashes.not_before()), (1, Duration::ZERO));
        for i in 0..50 {
            crashes.record("exit code 1".into(), QUICK, now + Duration::from_secs(60 * i));
        }
        assert_eq!(crashes.not_before(), Duration::ZERO);
    }
}
