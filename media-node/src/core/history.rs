//! Packets that may be asked for again: a ring of bytes, bounded in packets and bytes, without an
//! allocation per packet.

use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug)]
struct Slot {
    sequence: u64,
    /// Position in the endless stream of bytes written; the ring holds the last `bytes.len()` of it.
    position: u64,
    len: u32,
    at: Instant,
}

/// A ring of packets by extended sequence number.
#[derive(Debug)]
pub(crate) struct History {
    bytes: Vec<u8>,
    slots: Vec<Option<Slot>>,
    written: u64,
    limits: Limits,
}

/// How large a history may become.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Packets. A power of two is kindest to the division.
    pub packets: usize,
    /// Bytes at the start (allocated with the first packet).
    pub initial_bytes: usize,
    /// Bytes that it may grow to.
    pub max_bytes: usize,
    /// It grows when packets younger than this would be overwritten.
    pub duration: Duration,
}

impl History {
    pub fn new(limits: Limits) -> Self {
        Self { bytes: Vec::new(), slots: Vec::new(), written: 0, limits }
    }

    /// Stores a packet, overwriting the oldest bytes. A packet that could never fit is not stored.
    pub fn insert(&mut self, sequence: u64, packet: &[u8], now: Instant) {
        if self.bytes.is_empty() {
            self.bytes.resize(self.limits.initial_bytes, 0);
            self.slots.resize(self.limits.packets, None);
        }
        if packet.len() > self.bytes.len() / 2 {
            return;
        }
        if self.would_overwrite_fresh(packet.len(), now) {
            self.grow();
        }
        let capacity = self.bytes.len() as u64;
        // A packet lies in one piece: what does not fit before the end begins anew.
        let offset = self.written % capacity;
        if offset + packet.len() as u64 > capacity {
            self.written += capacity - offset;
        }
        let start = (self.written % capacity) as usize;
        self.bytes[start..start + packet.len()].copy_from_slice(packet);
        let at = (sequence % self.slots.len() as u64) as usize;
        self.slots[at] = Some(Slot { sequence, position: self.written, len: packet.len() as u32, at: now });
        self.written += packet.len() as u64;
    }

    /// A stored packet, if it has not been overwritten.
    pub fn get(&self, sequence: u64) -> Option<&[u8]> {
        if self.slots.is_empty() {
            return None;
        }
        let slot = self.slots[(sequence % self.slots.len() as u64) as usize]?;
        if slot.sequence != sequence || !self.holds(&slot) {
            return None;
        }
        let start = (slot.position % self.bytes.len() as u64) as usize;
        Some(&self.bytes[start..start + slot.len as usize])
    }

    /// Bytes allocated for packets.
    #[cfg(test)]
    pub fn allocated(&self) -> usize {
        self.bytes.len()
    }

    fn holds(&self, slot: &Slot) -> bool {
        self.written <= slot.position + self.bytes.len() as u64
    }

    fn would_overwrite_fresh(&self, len: usize, now: Instant) -> bool {
        if self.bytes.len() >= self.limits.max_bytes {
            return false;
        }
        let end = self.written + len as u64;
        let Some(lost_before) = end.checked_sub(self.bytes.len() as u64) else { return false };
        // Only the packets right behind the write position can be hit; looking at all slots would cost
        // more than it saves, so look once per wrap-around stretch of a sixteenth.
        let stretch = (self.bytes.len() / 16).max(1) as u64;
        if end / stretch == self.written / stretch {
            return false;
        }
        self.slots.iter().flatten().any(|slot| {
            self.holds(slot)
                && slot.position < lost_before + stretch
                && now.saturating_duration_since(slot.at) < self.limits.duration
        })
    }

    fn grow(&mut self) {
        let mut larger = vec![0; (self.bytes.len() * 2).min(self.limits.max_bytes)];
        let mut kept: Vec<Slot> = self.slots.iter().flatten().filter(|s| self.holds(s)).copied().collect();
        kept.sort_unstable_by_key(|slot| slot.position);
        self.slots.fill(None);
        let mut written = 0;
        for mut slot in kept {
            let from = (slot.position % self.bytes.len() as u64) as usize;
            let len = slot.len as usize;
            larger[written..written + len].copy_from_slice(&self.bytes[from..from + len]);
            slot.position = written as u64;
            let at = (slot.sequence % self.slots.len() as u64) as usize;
            self.slots[at] = Some(slot);
            written += len;
        }
        self.written = written as u64;
        self.bytes = larger;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limits(packets: usize, initial_bytes: usize, max_bytes: usize) -> Limits {
        Limits { packets, initial_bytes, max_bytes, duration: Duration::from_secs(1) }
    }

    #[expect(clippy::disallowed_methods, reason = "any instant will do as the origin of virtual time")]
    fn origin() -> Instant {
        Instant::now()
    }

    #[test]
    fn it_grows_until_it_holds_the_wanted_time_and_no_further() {
        let start = origin();
        let mut history = History::new(limits(1024, 4096, 65_536));
        // 20 packets of 500 bytes per 100 ms: 100 kB/s.
        for i in 0..2000u64 {
            history.insert(i, &[i as u8; 500], start + Duration::from_millis(i * 5));
        }
        assert_eq!(history.allocated(), 65_536);
        assert!(history.get(1999).is_some());
        assert!(history.get(1880).is_some());
        assert!(history.get(1800).is_none());

        let mut slow = History::new(limits(64, 8192, 65_536));
        for i in 0..2000u64 {
            slow.insert(i, &[0; 100], start + Duration::from_millis(i * 20));
        }
        assert_eq!(slow.allocated(), 8192);
        assert!(slow.get(1999 - 49).is_some());
    }

    proptest! {
        #[test]
        fn what_it_returns_is_what_was_stored(
            packets in prop::collection::vec((0u64..200, 0usize..300), 1..300),
            initial in 256usize..2048,
        ) {
            let start = origin();
            let mut history = History::new(limits(64, initial, 4096));
            let mut latest = std::collections::HashMap::new();
            for (i, (sequence, len)) in packets.iter().enumerate() {
                let packet: Vec<u8> = (0..*len).map(|b| (b ^ i) as u8).collect();
                history.insert(*sequence, &packet, start + Duration::from_millis(i as u64));
                latest.insert(*sequence, packet);
                for (sequence, expected) in &latest {
                    if let Some(found) = history.get(*sequence) {
                        prop_assert!(found == &expected[..] || expected.len() > initial / 2);
                    }
                }
                prop_assert!(history.allocated() <= 4096);
            }
        }
    }
}
