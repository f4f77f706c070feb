//! How long a pool whose pods crash waits before it makes the next one.

use std::time::Duration;

/// Wait after the second crash in a row; doubles with each further one. After the first there is none.
pub const FIRST_WAIT: Duration = Duration::from_secs(10);
/// Longest wait.
pub const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// After this long without a crash the next one counts as the first again.
pub const FORGIVEN_AFTER: Duration = Duration::from_secs(900);

/// The latest crashes of a pool's pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Crashes {
    /// Crashes in a row.
    pub count: u32,
    /// When the last one was seen.
    pub last: Duration,
    /// What it was.
    pub what: String,
}

impl Crashes {
    /// Takes in a crash.
    pub fn record(&mut self, what: String, now: Duration) {
        let forgiven = self.count > 0 && now.saturating_sub(self.last) > FORGIVEN_AFTER;
        self.count = if forgiven { 1 } else { self.count + 1 };
        self.last = now;
        self.what = what;
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

    #[test]
    fn the_first_crash_costs_nothing_and_later_ones_more_and_more() {
        let mut crashes = Crashes::default();
        let mut waits = Vec::new();
        let mut now = Duration::from_secs(1000);
        for _ in 0..8 {
            crashes.record("exit code 1".into(), now);
            waits.push(crashes.not_before().saturating_sub(now).as_secs());
            now += Duration::from_secs(60);
        }
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
        crashes.record("exit code 1".into(), now + FORGIVEN_AFTER);
        assert_eq!(crashes.count, 1);
    }
}
