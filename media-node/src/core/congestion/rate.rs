//! The rate that follows from it: up while the delay is steady, down to what arrives when it grows
//! (draft-ietf-rmcat-gcc-02 §5.5).

use super::Micros;
use super::trend::Usage;

/// What is left of the rate that arrived, after the delay has grown.
const BACKOFF: f64 = 0.85;
/// Growth per second far from where the limit was last met.
const GROWTH: f64 = 1.08;
/// And near to it, if that is more than a packet per response.
const NEAR_GROWTH: f64 = 0.03;
/// A rate that is not used is not known to work: at most this much beyond what arrives.
const HEADROOM: f64 = 1.5;
const HEADROOM_BITS: f64 = 10_000.0;
/// What one packet is taken to be, in bits.
const PACKET: f64 = 1200.0 * 8.0;

/// Bits per second.
#[derive(Debug)]
pub(crate) struct Rate {
    current: f64,
    bounds: (f64, f64),
    updated: Option<Micros>,
    decreased: Option<Micros>,
    capacity: Capacity,
}

impl Rate {
    pub fn new(initial: f64, bounds: (f64, f64)) -> Self {
        Self { current: initial, bounds, updated: None, decreased: None, capacity: Capacity::default() }
    }

    pub fn current(&self) -> f64 {
        self.current
    }

    pub fn decreased(&self) -> Option<Micros> {
        self.decreased
    }

    /// It went down less than `time` ago.
    pub fn decreased_within(&self, time: Micros, now: Micros) -> bool {
        self.decreased.is_some_and(|at| now.saturating_sub(at) < time)
    }

    /// Time has passed. `arriving`: what the subscriber received lately; `hold`: no growth for now.
    pub fn update(&mut self, usage: Usage, arriving: Option<f64>, round_trip: Micros, hold: bool, now: Micros) {
        let passed = now.saturating_sub(self.updated.replace(now).unwrap_or(now)).min(1_000_000) as f64 / 1e6;
        match usage {
            Usage::Over => self.decrease(arriving, round_trip, now),
            // The queue drains: let it.
            Usage::Under => {}
            Usage::Normal if hold => {}
            Usage::Normal => self.increase(arriving, round_trip, passed),
        }
    }

    /// A probe has shown that this much goes through.
    pub fn proven(&mut self, rate: f64) {
        if rate > self.current {
            self.current = rate.clamp(self.bounds.0, self.bounds.1);
            self.capacity.exceeded(rate);
        }
    }

    /// Something else says that this is the most.
    pub fn limit(&mut self, rate: f64, now: Micros) {
        if rate < self.current {
            self.current = rate.max(self.bounds.0);
            self.decreased = Some(now);
        }
    }

    fn decrease(&mut self, arriving: Option<f64>, round_trip: Micros, now: Micros) {
        let wait = round_trip.clamp(10_000, 200_000);
        let recently = self.decreased_within(wait, now);
        // One answer per round trip, unless far too much is still being sent.
        if recently && arriving.is_none_or(|arriving| arriving > 0.5 * self.current) {
            return;
        }
        let arriving = arriving.unwrap_or(self.current);
        let reduced = BACKOFF * arriving;
        if reduced < self.current {
            self.current = reduced.max(self.bounds.0);
        }
        self.capacity.met(arriving);
        self.decreased = Some(now);
    }

    fn increase(&mut self, arriving: Option<f64>, round_trip: Micros, passed: f64) {
        let ceiling = arriving.map_or(self.current, |arriving| HEADROOM * arriving + HEADROOM_BITS);
        if self.current >= ceiling {
            return;
        }
        if let Some(arriving) = arriving {
            self.capacity.exceeded(arriving);
        }
        let mut grown = self.current * GROWTH.powf(passed) + 1000.0 * passed;
        if self.capacity.is_known() {
            // About a packet per response, lest the limit be overshot by far.
            let response = round_trip as f64 / 1e6 + 0.1;
            let near = (PACKET / response).max(NEAR_GROWTH * self.current);
            grown = grown.min(self.current + near * passed);
        }
        self.current = grown.min(ceiling).clamp(self.bounds.0, self.bounds.1);
    }
}

/// Where the limit was met the last times: mean and spread, in kbit/s.
#[derive(Debug, Default)]
struct Capacity {
    mean: Option<f64>,
    /// Variance over the mean.
    spread: f64,
}

impl Capacity {
    fn is_known(&self) -> bool {
        self.mean.is_some()
    }

    fn deviation(&self) -> f64 {
        self.mean.map_or(0.0, |mean| (self.spread * mean).sqrt())
    }

    fn met(&mut self, rate: f64) {
        const WEIGHT: f64 = 0.05;
        let rate = rate / 1000.0;
        let far = self.mean.is_some_and(|mean| (rate - mean).abs() > 3.0 * self.deviation().max(0.05 * mean));
        let mean = match self.mean {
            Some(mean) if !far => (1.0 - WEIGHT) * mean + WEIGHT * rate,
            _ => rate,
        };
        let error = mean - rate;
        self.spread = ((1.0 - WEIGHT) * self.spread + WEIGHT * error * error / mean.max(1.0)).clamp(0.4, 2.5);
        self.mean = Some(mean);
    }

    /// More goes through than ever met the limit: it has moved.
    fn exceeded(&mut self, rate: f64) {
        if self.mean.is_some_and(|mean| rate / 1000.0 > mean + 3.0 * self.deviation()) {
            self.mean = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate() -> Rate {
        Rate::new(500_000.0, (50_000.0, 50e6))
    }

    #[test]
    fn overuse_goes_below_what_arrives_and_once_per_round_trip() {
        let mut rate = rate();
        rate.update(Usage::Over, Some(400_000.0), 100_000, false, 0);
        assert_eq!(rate.current(), 340_000.0);
        rate.update(Usage::Over, Some(330_000.0), 100_000, false, 50_000);
        assert_eq!(rate.current(), 340_000.0);
        rate.update(Usage::Over, Some(330_000.0), 100_000, false, 150_000);
        assert_eq!(rate.current(), 280_500.0);
    }

    #[test]
    fn a_rate_that_nobody_uses_does_not_grow_without_end() {
        let mut rate = rate();
        for i in 0..600 {
            rate.update(Usage::Normal, Some(400_000.0), 50_000, false, i * 100_000);
        }
        assert_eq!(rate.current(), 610_000.0);
    }

    #[test]
    fn growth_is_slow_near_the_limit_and_fast_far_from_it() {
        let grown = |meets: Option<f64>| {
            let mut rate = Rate::new(5e6, (50_000.0, 50e6));
            if let Some(meets) = meets {
                rate.capacity.met(meets);
            }
            for i in 0..50 {
                let arriving = rate.current();
                rate.update(Usage::Normal, Some(arriving), 50_000, false, i * 100_000);
            }
            rate.current()
        };
        assert!(grown(None) > 7e6, "{}", grown(None));
        assert!(grown(Some(6e6)) < 5.9e6, "{}", grown(Some(6e6)));
        assert!(grown(Some(3e6)) > 6.9e6, "it has moved: {}", grown(Some(3e6)));
    }

    #[test]
    fn nothing_leads_out_of_the_bounds() {
        let mut rate = rate();
        rate.proven(1e12);
        assert_eq!(rate.current(), 50e6);
        rate.limit(0.0, 1);
        assert_eq!(rate.current(), 50_000.0);
        rate.update(Usage::Over, Some(0.0), 1, false, 10_000_000);
        assert_eq!(rate.current(), 50_000.0);
    }
}
