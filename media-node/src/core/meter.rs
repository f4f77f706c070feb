//! How much has passed, and how fast of late.

use super::congestion::Micros;

const SLOT: Micros = 100_000;
/// The slot being filled, and ten full ones: one second.
const SLOTS: u64 = 11;

/// Packets and bytes of one flow.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter {
    packets: u64,
    bytes: u64,
    slots: [u32; SLOTS as usize],
    /// Number of the newest slot since the core's epoch.
    newest: u64,
    /// When the first packet passed.
    start: Option<Micros>,
}

impl Meter {
    /// Packets since the beginning.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Bytes since the beginning.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Another packet passes.
    pub fn add(&mut self, bytes: usize, now: Micros) {
        self.add_many(1, bytes, now);
    }

    /// Several packets of `bytes` together pass.
    pub fn add_many(&mut self, packets: usize, bytes: usize, now: Micros) {
        self.start.get_or_insert(now);
        let slot = now / SLOT;
        if slot > self.newest {
            let fresh = (slot - self.newest).min(SLOTS);
            for number in slot - fresh + 1..=slot {
                self.slots[(number % SLOTS) as usize] = 0;
            }
            self.newest = slot;
        }
        let count = &mut self.slots[(self.newest % SLOTS) as usize];
        *count = count.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        self.packets += packets as u64;
        self.bytes += bytes as u64;
    }

    /// Bits per second over the last second, or over the time since the first packet while that is shorter. Zero
    /// before anything passed.
    pub fn bitrate(&self, now: Micros) -> u64 {
        let Some(start) = self.start else { return 0 };
        let current = now / SLOT;
        let oldest = current.saturating_sub(SLOTS - 1);
        let held = self.newest.saturating_sub(SLOTS - 1)..=self.newest;
        let counts = (oldest..=current).filter(|slot| held.contains(slot));
        let bytes: u64 = counts.map(|slot| u64::from(self.slots[(slot % SLOTS) as usize])).sum();
        // Less than a slot says little about a second.
        let span = now.saturating_sub(start.max(oldest * SLOT)).max(SLOT);
        bytes * 8 * 1_000_000 / span
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_flow_is_measured_from_its_start_and_forgotten_within_a_second() {
        let (mut meter, start) = (Meter::default(), 7_654_321);
        assert_eq!(meter.bitrate(start), 0);
        for i in 0..500 {
            let now = start + i * 10_000;
            meter.add(125, now);
            if i > 20 {
                let found = meter.bitrate(now);
                assert!(found.abs_diff(100_000) < 7_000, "{found} after {i}");
            }
        }
        assert_eq!((meter.packets(), meter.bytes()), (500, 62_500));
        assert_eq!(meter.bitrate(start + 6_200_000), 0);
        // After an hour nothing old is left in the ring.
        meter.add(1250, start + 3_600_000_000);
        let found = meter.bitrate(start + 3_600_000_000);
        assert!((9_000..11_000).contains(&found), "{found}");
    }

    #[test]
    fn a_batch_counts_as_its_packets() {
        let mut meter = Meter::default();
        meter.add_many(8, 9000, 1_000_000);
        assert_eq!((meter.packets(), meter.bytes()), (8, 9000));
    }
}
