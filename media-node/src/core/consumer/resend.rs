//! How often a subscriber may have packets again: a client that asks without end, or asks again before
//! the answer can have arrived, gets no more than is useful.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::core::config::Config;

const REMEMBERED: usize = 64;

/// Resends of one consumer.
#[derive(Debug, Default)]
pub(crate) struct Resends {
    recent: VecDeque<(u64, Instant)>,
    window: Option<Instant>,
    in_window: u32,
}

impl Resends {
    /// Whether `index` was sent again lately.
    pub fn has(&self, index: u64) -> bool {
        self.recent.iter().any(|(known, _)| *known == index)
    }

    /// Whether `index` may be sent again now; notes it if so. `round_trip`: how long an answer takes.
    pub fn allow(&mut self, index: u64, now: Instant, round_trip: Duration, config: &Config) -> bool {
        let interval = config.resend_interval.max(round_trip.min(Duration::from_millis(500)));
        if self.recent.iter().any(|(i, at)| *i == index && now.saturating_duration_since(*at) < interval) {
            return false;
        }
        match self.window {
            Some(start) if now.saturating_duration_since(start) < Duration::from_secs(1) => {}
            _ => {
                self.window = Some(now);
                self.in_window = 0;
            }
        }
        if self.in_window >= config.max_resends_per_second {
            return false;
        }
        self.in_window += 1;
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back((index, now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "any instant will do as the origin of virtual time")]
    fn origin() -> Instant {
        Instant::now()
    }

    #[test]
    fn asking_twice_within_a_round_trip_gets_one_answer() {
        let (config, now) = (Config::default(), origin());
        let mut resends = Resends::default();
        let round_trip = Duration::from_millis(50);
        assert!(resends.allow(1, now, round_trip, &config));
        assert!(!resends.allow(1, now + Duration::from_millis(49), round_trip, &config));
        assert!(resends.allow(2, now + Duration::from_millis(49), round_trip, &config));
        assert!(resends.allow(1, now + Duration::from_millis(51), round_trip, &config));
    }

    #[test]
    fn the_rate_is_bounded() {
        let (config, now) = (Config::default(), origin());
        let mut resends = Resends::default();
        let allowed = (0..5000).filter(|i| resends.allow(*i, now, Duration::ZERO, &config)).count();
        assert_eq!(allowed, config.max_resends_per_second as usize);
        assert!(resends.allow(1, now + Duration::from_secs(1), Duration::ZERO, &config));
    }
}
