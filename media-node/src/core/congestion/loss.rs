//! Loss as a sign of congestion where delay is none: shallow queues, policers
//! (draft-ietf-rmcat-gcc-02 §6).

use super::Micros;

/// Packets and time that one judgement takes.
const PACKETS: u32 = 20;
const INTERVAL: Micros = 250_000;
/// Below the first the path is good, above the second it is congested; in between nobody can tell.
const LITTLE: f64 = 0.02;
const MUCH: f64 = 0.10;

/// What the loss of the last interval asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// Nothing.
    Good,
    /// Not to send more.
    Hold,
    /// To send this fraction of what is sent now.
    Reduce(f64),
}

/// Counts, and judges when there is enough to.
#[derive(Debug)]
pub(crate) struct Loss {
    expected: u32,
    lost: u32,
    since: Micros,
    fraction: f64,
    verdict: Verdict,
}

impl Default for Loss {
    fn default() -> Self {
        Self { expected: 0, lost: 0, since: 0, fraction: 0.0, verdict: Verdict::Good }
    }
}

impl Loss {
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Smoothed fraction of packets that were lost.
    pub fn fraction(&self) -> f64 {
        self.fraction
    }

    /// A packet was reported for the first time.
    pub fn reported(&mut self, lost: bool) {
        self.expected += 1;
        self.lost += u32::from(lost);
    }

    /// A packet reported missing has come after all.
    pub fn recovered(&mut self) {
        self.lost = self.lost.saturating_sub(1);
    }

    /// Judges if it is time to; a reduction is returned once.
    pub fn judge(&mut self, now: Micros) -> Option<f64> {
        if self.expected < PACKETS || now.saturating_sub(self.since) < INTERVAL {
            return None;
        }
        let fraction = f64::from(self.lost) / f64::from(self.expected);
        self.fraction += 0.5 * (fraction - self.fraction);
        (self.expected, self.lost, self.since) = (0, 0, now);
        self.verdict = if self.fraction < LITTLE {
            Verdict::Good
        } else if self.fraction.min(fraction) <= MUCH {
            Verdict::Hold
        } else {
            Verdict::Reduce(1.0 - 0.5 * fraction)
        };
        match self.verdict {
            Verdict::Reduce(to) => Some(to),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(per_mille: u32) -> Loss {
        let mut loss = Loss::default();
        for i in 0..2000u32 {
            loss.reported(i * 7919 % 1000 < per_mille);
            loss.judge(Micros::from(i) * 10_000);
        }
        loss
    }

    #[test]
    fn little_is_ignored_some_holds_much_reduces() {
        assert_eq!(after(5).verdict(), Verdict::Good);
        assert_eq!(after(50).verdict(), Verdict::Hold);
        assert!(matches!(after(300).verdict(), Verdict::Reduce(to) if (0.8..0.9).contains(&to)));
    }

    #[test]
    fn one_bad_interval_is_a_warning_only() {
        let mut loss = after(0);
        for i in 0..20 {
            loss.reported(i % 4 == 0);
        }
        assert_eq!(loss.judge(100_000_000), None);
        assert_eq!(loss.verdict(), Verdict::Hold);
    }
}
