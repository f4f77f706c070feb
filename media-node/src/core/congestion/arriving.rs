//! How much arrives at the subscriber: bytes reported as received, over the time in which they were
//! received or, if that is longer, in which we sent them.

/// Window of the first measurement, and of later ones, in microseconds.
const FIRST_WINDOW: i64 = 500_000;
const WINDOW: i64 = 150_000;
/// A pause this long ends a window without a measurement.
const PAUSE: i64 = 2_000_000;

/// Bits per second, smoothed by how far measurements stray.
#[derive(Debug, Default)]
pub(crate) struct Arriving {
    bits: f64,
    window: Option<Window>,
    estimate: Option<f64>,
    /// Variance of the estimate, in the unit that strays are squared in: tenths of the rate.
    variance: f64,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    first_arrival: i64,
    last_arrival: i64,
    first_sent: i64,
    last_sent: i64,
}

impl Arriving {
    pub fn rate(&self) -> Option<f64> {
        self.estimate
    }

    /// A packet of `bytes`, sent at `sent`, was received at `arrival`.
    pub fn add(&mut self, bytes: u16, sent: i64, arrival: i64) {
        let fresh = Window { first_arrival: arrival, last_arrival: arrival, first_sent: sent, last_sent: sent };
        let window = self.window.get_or_insert(fresh);
        if (arrival - window.last_arrival).abs() > PAUSE {
            *window = fresh;
            self.bits = 0.0;
        }
        window.last_arrival = window.last_arrival.max(arrival);
        window.first_sent = window.first_sent.min(sent);
        window.last_sent = window.last_sent.max(sent);
        let length = if self.estimate.is_some() { WINDOW } else { FIRST_WINDOW };
        let passed = window.last_arrival - window.first_arrival;
        if passed >= length {
            // Whoever claims to have received faster than was sent is not believed.
            let span = passed.max(window.last_sent - window.first_sent) as f64;
            let measured = self.bits * 1e6 / span;
            self.window = Some(fresh);
            self.bits = 0.0;
            self.measured(measured);
        }
        self.bits += f64::from(bytes) * 8.0;
    }

    /// Weighs a measurement against the estimate as a Kalman filter with a random walk would.
    fn measured(&mut self, rate: f64) {
        let Some(estimate) = self.estimate else {
            self.estimate = Some(rate);
            self.variance = 50.0;
            return;
        };
        let stray = 10.0 * (estimate - rate).abs() / estimate.max(rate).max(1.0);
        let (noise, predicted) = (stray * stray, self.variance + 5.0);
        let total = noise + predicted;
        self.estimate = Some((noise * estimate + predicted * rate) / total);
        self.variance = noise * predicted / total;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_what_arrives() {
        let mut arriving = Arriving::default();
        let mut at = 0;
        for (interval, expected) in [(10_000, 800_000.0), (40_000, 200_000.0), (2_500, 3_200_000.0)] {
            for _ in 0..3_000_000 / interval {
                at += interval;
                arriving.add(1000, at, at + 20_000);
            }
            let rate = arriving.rate().unwrap();
            assert!((rate / expected - 1.0).abs() < 0.15, "{rate} for {expected}");
        }
    }

    #[test]
    fn arrival_times_that_claim_more_than_was_sent_are_not_believed() {
        let mut arriving = Arriving::default();
        for i in 0..10_000i64 {
            // Sent at 800 kbit/s, claimed to have come ten times as fast.
            arriving.add(1000, i * 10_000, i * 1_000);
            assert!(arriving.rate().is_none_or(|rate| rate < 900_000.0), "{:?}", arriving.rate());
        }
    }

    #[test]
    fn a_pause_is_no_slow_transmission() {
        let mut arriving = Arriving::default();
        for i in 0..200i64 {
            arriving.add(1000, i * 10_000, i * 10_000);
        }
        let before = arriving.rate().unwrap();
        arriving.add(1000, 60_000_000, 60_000_000);
        assert_eq!(arriving.rate(), Some(before));
    }
}
