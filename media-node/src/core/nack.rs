//! What is missing from a publisher's stream, and when to ask for it (RFC 4585 §6.2.1).

use std::time::Instant;

use super::command::MediaKind;
use super::config::Config;

#[derive(Clone, Copy, Debug)]
struct Missing {
    index: u64,
    due: Instant,
    attempts: u8,
}

/// Missing packets of one stream, oldest first.
#[derive(Debug)]
pub(crate) struct Missings {
    list: Vec<Missing>,
    max: usize,
    attempts: u8,
}

/// What a newly arrived packet meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// The next, or one after a gap that will be asked for.
    Newest,
    /// One that was missing.
    Recovered,
    /// One from before, that was not missed (any more).
    Late,
    /// The gap is too large to repair; the number of packets that are lost.
    Lost(u64),
}

impl Missings {
    /// Sound that comes late is of no use: fewer packets, and fewer attempts.
    pub fn new(kind: MediaKind, config: &Config) -> Self {
        let (max, attempts) = match kind {
            MediaKind::Audio => (config.max_missing_audio, config.nack_attempts_audio),
            MediaKind::Video => (config.max_missing, config.nack_attempts),
        };
        Self { list: Vec::new(), max, attempts }
    }

    /// A packet arrived; `highest` is the highest index before it, `None` for the first packet.
    pub fn arrived(&mut self, index: u64, highest: Option<u64>, now: Instant, config: &Config) -> Arrival {
        let Some(highest) = highest else { return Arrival::Newest };
        if index <= highest {
            return match self.list.iter().position(|m| m.index == index) {
                Some(at) => {
                    self.list.remove(at);
                    Arrival::Recovered
                }
                None => Arrival::Late,
            };
        }
        let gap = index - highest - 1;
        if self.list.len() as u64 + gap > self.max as u64 {
            let lost = self.list.len() as u64 + gap;
            self.list.clear();
            return Arrival::Lost(lost);
        }
        let due = now + config.nack_delay;
        self.list.extend((highest + 1..index).map(|index| Missing { index, due, attempts: 0 }));
        Arrival::Newest
    }

    /// Adds to `ask` the sequence numbers to ask for now; returns how many were given up.
    pub fn ask(&mut self, now: Instant, config: &Config, ask: &mut Vec<u16>) -> u64 {
        let (before, attempts) = (self.list.len(), self.attempts);
        self.list.retain_mut(|missing| {
            if now < missing.due {
                return true;
            }
            if missing.attempts == attempts {
                return false;
            }
            missing.attempts += 1;
            missing.due = now + config.nack_repeat;
            ask.push(missing.index as u16);
            true
        });
        (before - self.list.len()) as u64
    }

    /// When [`Missings::ask`] has something to do.
    pub fn due(&self) -> Option<Instant> {
        self.list.iter().map(|m| m.due).min()
    }

    pub fn clear(&mut self) {
        self.list.clear();
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.list.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[expect(clippy::disallowed_methods, reason = "any instant will do as the origin of virtual time")]
    fn origin() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_gap_is_asked_for_a_bounded_number_of_times() {
        let (config, mut now) = (Config::default(), origin());
        let mut missings = Missings::new(MediaKind::Video, &config);
        assert_eq!(missings.arrived(10, Some(7), now, &config), Arrival::Newest);
        let mut ask = vec![];
        assert_eq!(missings.ask(now, &config, &mut ask), 0);
        assert!(ask.is_empty(), "reordering gets a chance");
        let mut lost = 0;
        while let Some(due) = missings.due() {
            now = due;
            lost += missings.ask(now, &config, &mut ask);
        }
        assert_eq!(lost, 2);
        assert_eq!(ask.len(), 2 * usize::from(config.nack_attempts));
    }

    #[test]
    fn what_arrives_is_no_longer_asked_for() {
        let (config, now) = (Config::default(), origin());
        let mut missings = Missings::new(MediaKind::Video, &config);
        missings.arrived(10, Some(7), now, &config);
        assert_eq!(missings.arrived(8, Some(10), now, &config), Arrival::Recovered);
        assert_eq!(missings.arrived(8, Some(10), now, &config), Arrival::Late);
        let mut ask = vec![];
        missings.ask(now + Duration::from_millis(100), &config, &mut ask);
        assert_eq!(ask, [9]);
    }

    #[test]
    fn a_huge_gap_is_lost_at_once() {
        let (config, now) = (Config::default(), origin());
        let mut missings = Missings::new(MediaKind::Video, &config);
        assert_eq!(missings.arrived(30_000, Some(7), now, &config), Arrival::Lost(29_992));
        assert_eq!(missings.len(), 0);
        assert_eq!(missings.due(), None);
    }
}
