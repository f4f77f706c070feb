//! What the generator counts.

use serde::Serialize;

/// Latencies by size: exact to 3 %, from a microsecond to minutes.
#[derive(Clone, Debug)]
pub struct Histogram {
    buckets: Vec<u64>,
    total: u64,
}

const FINE: u32 = 5;

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; 36 << FINE], total: 0 }
    }
}

fn bucket(micros: u64) -> usize {
    let exponent = micros.max(1).ilog2();
    if exponent < FINE {
        return micros as usize;
    }
    let fine = (micros >> (exponent - FINE)) & ((1 << FINE) - 1);
    (((exponent - FINE + 1) as usize) << FINE) + fine as usize
}

fn middle(bucket: usize) -> f64 {
    let (exponent, fine) = (bucket >> FINE, (bucket & ((1 << FINE) - 1)) as f64);
    if exponent == 0 { fine } else { (f64::from(1 << FINE) + fine + 0.5) * (1u64 << (exponent - 1)) as f64 }
}

impl Histogram {
    /// Counts one.
    pub fn add(&mut self, micros: u64) {
        let last = self.buckets.len() - 1;
        self.buckets[bucket(micros).min(last)] += 1;
        self.total += 1;
    }

    /// The value below which `share` of all lie, in milliseconds; 0 when there are none.
    pub fn percentile(&self, share: f64) -> f64 {
        let wanted = (self.total as f64 * share).ceil().max(1.0) as u64;
        let mut below = 0;
        for (at, count) in self.buckets.iter().enumerate() {
            below += count;
            if below >= wanted {
                return middle(at) / 1000.0;
            }
        }
        0.0
    }
}

/// Everything that was counted since the generator began, or in its window.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    /// Packets whose stamp lies in this window are counted as sent and delivered, in wall-clock nanoseconds.
    pub window: (u64, u64),
    /// Media packets sent in the window, by track.
    pub sent: Vec<u64>,
    /// Subscribers by track.
    pub subscribers: Vec<u64>,
    /// Packets of the window that came to a subscriber for the first time.
    pub delivered: u64,
    /// From the send of the publisher to the arrival at the subscriber's socket, in the window.
    pub latency: Histogram,
    /// Everything since the beginning.
    pub totals: Totals,
}

/// Counters since the beginning.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// Clients with keys.
    pub connected: u64,
    /// DTLS records that a client could do nothing with.
    pub failed: u64,
    /// RTP packets that came to subscribers, repairs and duplicates among them.
    pub rtp_in: u64,
    /// Their bytes, SRTP but without UDP.
    pub bytes_in: u64,
    /// Repairs among them.
    pub repairs_in: u64,
    /// RTP packets sent by publishers, repairs among them.
    pub rtp_out: u64,
    /// Repairs among them.
    pub repairs_out: u64,
    /// Trains of datagrams that came in one piece.
    pub trains_in: u64,
    /// RTP packets that could not be opened.
    pub refused: u64,
    /// Packets of streams that nobody asked for (a server's probes).
    pub strange: u64,
    /// Packets of another encoding than the one that was asked for, or of somebody who should not be seen or heard.
    pub unexpected: u64,
    /// Packets that publishers were asked for again.
    pub nacked: u64,
    /// Packets that subscribers asked for again.
    pub nacks: u64,
    /// Key frames that publishers were asked for.
    pub key_frames: u64,
    /// Datagrams that the socket did not take.
    pub unsent: u64,
    /// Datagrams thrown away to simulate loss.
    pub thrown_away: u64,
}

impl std::ops::Sub for Totals {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            connected: self.connected - before.connected,
            failed: self.failed - before.failed,
            rtp_in: self.rtp_in - before.rtp_in,
            bytes_in: self.bytes_in - before.bytes_in,
            repairs_in: self.repairs_in - before.repairs_in,
            rtp_out: self.rtp_out - before.rtp_out,
            repairs_out: self.repairs_out - before.repairs_out,
            trains_in: self.trains_in - before.trains_in,
            refused: self.refused - before.refused,
            strange: self.strange - before.strange,
            unexpected: self.unexpected - before.unexpected,
            nacked: self.nacked - before.nacked,
            nacks: self.nacks - before.nacks,
            key_frames: self.key_frames - before.key_frames,
            unsent: self.unsent - before.unsent,
            thrown_away: self.thrown_away - before.thrown_away,
        }
    }
}

impl Meter {
    /// Packets of the window that all subscribers together should have got.
    pub fn expected(&self) -> u64 {
        self.sent.iter().zip(&self.subscribers).map(|(sent, subscribers)| sent * subscribers).sum()
    }

    /// Room for tracks up to this one.
    pub fn know(&mut self, track: u32) {
        let len = self.sent.len().max(track as usize + 1);
        self.sent.resize(len, 0);
        self.subscribers.resize(len, 0);
    }

    /// Whether a stamp lies in the window.
    pub fn counts(&self, at: u64) -> bool {
        self.window.0 <= at && at < self.window.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_exact_to_three_percent() {
        let mut histogram = Histogram::default();
        (1..=100_000).for_each(|micros| histogram.add(micros));
        for (share, expected) in [(0.5, 50.0), (0.99, 99.0), (0.001, 0.1)] {
            let value = histogram.percentile(share);
            assert!((value / expected - 1.0f64).abs() < 0.032, "{share}: {value}");
        }
        assert_eq!(Histogram::default().percentile(0.5), 0.0);
    }
}
