//! When sealed packets may leave: a leaky bucket that lets a picture of usual size through at once and
//! spreads what is larger (key frames, several streams at one moment).

use super::Micros;

/// What may leave at once, in microseconds at the estimate: about a picture at 25 a second. Spreading
/// less than that would add delay and take segmentation offload its batches.
const BURST: Micros = 40_000;
/// The same while the path is congested, loses packets, or carries less than is wanted.
const CONGESTED_BURST: Micros = 10_000;
/// Factor on the estimate at which the rest follows.
const FACTOR: f64 = 2.5;
/// The same while the path is congested: its queue is to drain.
const CONGESTED_FACTOR: f64 = 1.5;
/// Nothing waits longer than this: the rate rises to what that takes.
const LONGEST: f64 = 0.25;
/// How far apart releases are, so that each is worth a system call.
const RELEASE: Micros = 2_500;
/// A queue of this many bytes is as good as none.
const SHORT: usize = 1_500;
/// Bytes that may leave at once whatever the estimate: two packets.
const LEAST: f64 = 2_400.0;

/// The bucket; a level above zero is room, below zero is debt.
#[derive(Debug)]
pub(crate) struct Pacer {
    /// Bytes.
    level: f64,
    updated: Micros,
    /// Bytes per second.
    rate: f64,
    most: f64,
    /// What it takes to be rid in time of the most that has waited since the queue was last short.
    drain: f64,
}

impl Pacer {
    pub fn new(bits_per_second: f64) -> Self {
        let mut pacer = Self { level: 0.0, updated: 0, rate: 0.0, most: 0.0, drain: 0.0 };
        pacer.configure(bits_per_second, false, false);
        pacer.level = pacer.most;
        pacer
    }

    /// The estimate has changed. `tight`: bursts would show in delay or loss.
    pub fn configure(&mut self, bits_per_second: f64, congested: bool, tight: bool) {
        let burst = if congested || tight { CONGESTED_BURST } else { BURST };
        let factor = if congested { CONGESTED_FACTOR } else { FACTOR };
        let bytes = bits_per_second / 8.0;
        self.rate = (bytes * factor).max(5_000.0);
        self.most = (bytes * burst as f64 / 1e6).max(LEAST);
        self.level = self.level.min(self.most);
    }

    /// How many bytes may leave now, of `waiting` that want to.
    pub fn room(&mut self, waiting: usize, now: Micros) -> f64 {
        let passed = now.saturating_sub(self.updated) as f64 / 1e6;
        self.updated = self.updated.max(now);
        let drain = waiting as f64 / LONGEST;
        self.drain = if waiting > SHORT { self.drain.max(drain) } else { 0.0 };
        self.level = (self.level + self.rate.max(self.drain) * passed).min(self.most);
        self.level
    }

    /// Bytes have left, paced or not.
    pub fn spend(&mut self, bytes: usize) {
        // What bypasses the bucket must not silence it for long.
        self.level = (self.level - bytes as f64).max(-self.most.max(self.rate * 0.02));
    }

    /// How long until the next release.
    pub fn wait(&self) -> Micros {
        let debt = (1.0 - self.level).max(0.0);
        RELEASE.max((debt / self.rate.max(self.drain) * 1e6) as Micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Offers frames of the given sizes every 33 ms, in packets of 1200 bytes; when each packet left.
    fn delays(pacer: &mut Pacer, frames: &[usize]) -> Vec<Micros> {
        let mut waiting = std::collections::VecDeque::new();
        let (mut now, mut delays, mut next) = (1_000_000, vec![], 0);
        while next < frames.len() || !waiting.is_empty() {
            if next < frames.len() && now >= 1_000_000 + next as Micros * 33_000 {
                waiting.extend((0..frames[next].div_ceil(1200)).map(|_| now));
                next += 1;
            }
            while !waiting.is_empty() && pacer.room(waiting.len() * 1200, now) > 0.0 {
                pacer.spend(1200);
                delays.push(now - waiting.pop_front().unwrap());
            }
            now += 500;
        }
        delays
    }

    #[test]
    fn usual_pictures_leave_at_once_and_key_frames_are_spread() {
        // 1.2 Mbit/s at an estimate of 2.
        let mut pacer = Pacer::new(2e6);
        let usual = delays(&mut pacer, &[5000; 60]);
        assert!(usual.iter().all(|d| *d == 0), "{usual:?}");
        let mut pacer = Pacer::new(2e6);
        let with_key_frame = delays(&mut pacer, &[60_000, 5000, 5000, 5000, 5000, 5000, 5000, 5000]);
        let longest = with_key_frame.iter().max().unwrap();
        assert!((60_000..110_000).contains(longest), "{longest}");
        assert_eq!(with_key_frame.last(), Some(&0));
    }

    #[test]
    fn nothing_waits_longer_than_the_bound() {
        let mut pacer = Pacer::new(100_000.0);
        let delays = delays(&mut pacer, &[60_000; 20]);
        assert!(delays.iter().all(|d| *d < 400_000), "{:?}", delays.iter().max());
    }
}
