//! What is known of the packets of one stream: which came, how many are missing, how evenly they came.

use std::time::Instant;

use super::srtp::IndexWindow;

/// What a stream must know of a packet.
pub(crate) struct Received {
    pub index: u64,
    pub timestamp: u32,
    pub clock_rate: u32,
    pub bytes: usize,
    /// Repaired packets say nothing about jitter.
    pub repaired: bool,
}

/// No jitter and no pause of an encoder is as long as this: whoever is off by more counts from elsewhere.
const MAX_SECONDS_OFF: u32 = 3;

/// Whether a timestamp is not near where it is expected to be.
pub(crate) fn leaps(timestamp: u32, expected: u32, clock_rate: u32) -> bool {
    (timestamp.wrapping_sub(expected) as i32).unsigned_abs() > clock_rate.saturating_mul(MAX_SECONDS_OFF)
}

/// Reception statistics (RFC 3550 §6.4.1, appendix A).
#[derive(Clone, Debug)]
pub(crate) struct Reception {
    pub window: IndexWindow,
    pub first: u64,
    pub received: u64,
    pub bytes: u64,
    pub last_arrival: Instant,
    first_arrival: Instant,
    last_transit: Option<i64>,
    /// Sixteenth of a timestamp unit.
    jitter: i64,
    expected_prior: u64,
    received_prior: u64,
}

impl Reception {
    pub fn new(packet: &Received, now: Instant) -> Self {
        Self {
            window: IndexWindow::default(),
            first: packet.index,
            received: 0,
            bytes: 0,
            last_arrival: now,
            first_arrival: now,
            last_transit: None,
            jitter: 0,
            expected_prior: 0,
            received_prior: 0,
        }
    }

    /// Highest extended sequence number received.
    pub fn highest(&self) -> u64 {
        self.window.highest().unwrap_or(self.first)
    }

    /// Another packet has come. Returns whether its timestamp has nothing to do with those before.
    pub fn count(&mut self, packet: &Received, now: Instant) -> bool {
        self.received += 1;
        self.bytes += packet.bytes as u64;
        self.last_arrival = now;
        self.first = self.first.min(packet.index);
        if packet.repaired || packet.index != self.highest() {
            return false;
        }
        let elapsed = now.saturating_duration_since(self.first_arrival).as_micros() as i64;
        let arrival = elapsed * i64::from(packet.clock_rate) / 1_000_000;
        let transit = i64::from((arrival as u32).wrapping_sub(packet.timestamp) as i32);
        let Some(last) = self.last_transit.replace(transit) else { return false };
        // Timestamps jump at a switch of sources; that is no jitter.
        let difference = (transit - last).abs();
        if difference < i64::from(packet.clock_rate) {
            self.jitter += difference - ((self.jitter + 8) >> 4);
        }
        leaps(transit as u32, last as u32, packet.clock_rate)
    }

    /// In timestamp units.
    pub fn jitter(&self) -> u32 {
        (self.jitter >> 4) as u32
    }

    /// Packets that should have come since the start.
    pub fn expected(&self) -> u64 {
        self.highest() + 1 - self.first
    }

    /// Packets lost since the start; negative values (duplicates) count as none.
    pub fn lost(&self) -> u64 {
        self.expected().saturating_sub(self.received)
    }

    /// Fraction of packets lost since the last call, in 256ths (RFC 3550 A.3).
    pub fn fraction_lost(&mut self) -> u8 {
        let expected = self.expected();
        let expected_interval = expected - self.expected_prior.min(expected);
        let received_interval = self.received - self.received_prior;
        self.expected_prior = expected;
        self.received_prior = self.received;
        let lost = expected_interval.saturating_sub(received_interval);
        match (lost << 8).checked_div(expected_interval) {
            Some(fraction) => fraction.min(255) as u8,
            None => 0,
        }
    }
}
