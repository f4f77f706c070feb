//! A link that carries so much and no more: what comes faster waits in a queue of bounded length, and what
//! does not fit there is lost. Others may use the link, too.

use std::time::{Duration, Instant};

#[derive(Clone, Debug)]
pub(crate) struct Link {
    /// Bits per second.
    pub rate: f64,
    /// Longest wait in the queue; what would wait longer is dropped at the tail.
    pub queue: Duration,
    /// Bits per second of somebody else's traffic, which waits for nobody.
    pub cross: f64,
    /// When the last bit in the queue will have left.
    free: Instant,
    seen: Instant,
    pub dropped: u64,
    pub bytes: u64,
    /// Longest wait since it was last looked at.
    pub longest: Duration,
}

impl Link {
    pub fn new(rate: f64, queue: Duration, now: Instant) -> Self {
        Self { rate, queue, cross: 0.0, free: now, seen: now, dropped: 0, bytes: 0, longest: Duration::ZERO }
    }

    /// When a packet that enters now leaves at the other end; `None` if it is dropped.
    pub fn enter(&mut self, bytes: usize, now: Instant) -> Option<Instant> {
        let passed = now.saturating_duration_since(self.seen);
        self.seen = now;
        let others = passed.mul_f64((self.cross / self.rate).min(1.0));
        self.free = (self.free + others).max(now).min(now + self.queue + Duration::from_millis(1));
        // IP and UDP headers use the link as well.
        let leaves = self.free + Duration::from_secs_f64((bytes + 28) as f64 * 8.0 / self.rate);
        let wait = leaves - now;
        if wait > self.queue {
            self.dropped += 1;
            return None;
        }
        self.free = leaves;
        self.longest = self.longest.max(wait);
        self.bytes += bytes as u64;
        Some(leaves)
    }
}
