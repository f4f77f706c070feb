//! How much of each layer a stream carries, measured over the last second.

use std::time::{Duration, Instant};

use super::Layers;

/// Spatial layers that are told apart in one stream; those above count as the last.
pub(crate) const MAX_SPATIAL: usize = 4;
/// Temporal layers that are told apart; those above count as the last.
pub(crate) const MAX_TEMPORAL: usize = 4;

const SLOT: Duration = Duration::from_millis(100);
/// The slot being filled, and ten full ones: one second.
const SLOTS: usize = 11;

type Bytes = [[u32; MAX_TEMPORAL]; MAX_SPATIAL];

/// Bytes of one stream by layer, in slots of time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rates {
    slots: [Bytes; SLOTS],
    /// When measuring began.
    start: Option<Instant>,
    /// Number of the newest slot since then.
    newest: u64,
    /// When each spatial layer was last heard of.
    seen: [Option<Instant>; MAX_SPATIAL],
    /// The highest temporal layer ever heard of.
    highest_temporal: u8,
}

impl Rates {
    /// Notes a packet, headers included.
    pub fn note(&mut self, spatial: u8, temporal: u8, bytes: usize, now: Instant) {
        let slot = self.slot(now);
        let fresh = slot.saturating_sub(self.newest).min(SLOTS as u64);
        for ahead in 1..=fresh {
            self.slots[((self.newest + ahead) % SLOTS as u64) as usize] = Bytes::default();
        }
        if fresh == SLOTS as u64 {
            self.slots = Default::default();
        }
        self.newest = self.newest.max(slot);
        let (s, t) = (usize::from(spatial).min(MAX_SPATIAL - 1), usize::from(temporal).min(MAX_TEMPORAL - 1));
        let count = &mut self.slots[(self.newest % SLOTS as u64) as usize][s][t];
        *count = count.saturating_add(bytes as u32);
        self.seen[s] = Some(now);
        self.highest_temporal = self.highest_temporal.max(t as u8);
    }

    fn slot(&mut self, now: Instant) -> u64 {
        let start = *self.start.get_or_insert(now);
        (now.saturating_duration_since(start).as_millis() / SLOT.as_millis()) as u64
    }

    /// Bits per second of all layers up to these over the last second, or over the time since the start
    /// while that is shorter. Zero before anything came.
    pub fn bitrate(&self, layers: Layers, now: Instant) -> u64 {
        let Some(start) = self.start else { return 0 };
        let elapsed = now.saturating_duration_since(start);
        let current = (elapsed.as_millis() / SLOT.as_millis()) as u64;
        let oldest = current.saturating_sub(SLOTS as u64 - 1);
        let held = self.newest.saturating_sub(SLOTS as u64 - 1)..=self.newest;
        let bytes: u64 = (oldest..=current)
            .filter(|slot| held.contains(slot))
            .map(|slot| {
                let slot = &self.slots[(slot % SLOTS as u64) as usize];
                let up_to = |most: u8, len: usize| usize::from(most).min(len - 1);
                slot[..=up_to(layers.spatial, MAX_SPATIAL)]
                    .iter()
                    .flat_map(|row| &row[..=up_to(layers.temporal, MAX_TEMPORAL)])
                    .map(|b| u64::from(*b))
                    .sum::<u64>()
            })
            .sum();
        let since_oldest = elapsed.saturating_sub(SLOT * u32::try_from(oldest).unwrap_or(u32::MAX));
        // Less than a slot says little about a second.
        let micros = since_oldest.max(SLOT).as_micros() as u64;
        bytes * 8 * 1_000_000 / micros
    }

    /// The highest layers heard of: spatial within `timeout`, temporal ever. `None` when nothing was.
    pub fn active(&self, now: Instant, timeout: Duration) -> Option<Layers> {
        let alive = |seen: &Option<Instant>| seen.is_some_and(|at| now.saturating_duration_since(at) < timeout);
        let spatial = self.seen.iter().rposition(alive)? as u8;
        Some(Layers { spatial, temporal: self.highest_temporal })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::testing::origin;

    #[test]
    fn a_steady_stream_is_measured_by_layer_and_cumulatively() {
        let (start, mut rates) = (origin(), Rates::default());
        // 10 ms apart: 125 bytes in each of four layers in turn are 25 kbit/s each.
        for i in 0..500u64 {
            let (s, t) = ((i % 4) as u8 / 2, (i % 2) as u8);
            rates.note(s, t, 125, start + Duration::from_millis(i * 10));
        }
        let now = start + Duration::from_millis(4995);
        let near = |spatial, temporal, expected: u64| {
            let found = rates.bitrate(Layers { spatial, temporal }, now);
            assert!(found.abs_diff(expected) <= expected / 10, "{spatial} {temporal}: {found}");
        };
        near(0, 0, 25_000);
        near(0, 1, 50_000);
        near(1, 0, 50_000);
        near(1, 1, 100_000);
        near(9, 9, 100_000);
        assert_eq!(rates.active(now, Duration::from_millis(700)), Some(Layers { spatial: 1, temporal: 1 }));
    }

    #[test]
    fn what_stops_is_forgotten_within_a_second_and_a_start_is_measured_at_once() {
        let (start, mut rates) = (origin(), Rates::default());
        let all = |rates: &Rates, now| rates.bitrate(Layers::ALL, now);
        assert_eq!(all(&rates, start), 0);
        for i in 0..30u64 {
            rates.note(0, 0, 1250, start + Duration::from_millis(i * 10));
        }
        let early = all(&rates, start + Duration::from_millis(300));
        assert!(early.abs_diff(1_000_000) < 60_000, "{early}");
        assert_eq!(all(&rates, start + Duration::from_millis(1500)), 0);
        rates.note(2, 0, 1000, start + Duration::from_secs(3600));
        let later = start + Duration::from_secs(3600);
        assert!((7_000..8_100).contains(&all(&rates, later)), "{}", all(&rates, later));
        let timeout = Duration::from_millis(700);
        assert_eq!(rates.active(later + timeout, timeout), None);
    }
}
