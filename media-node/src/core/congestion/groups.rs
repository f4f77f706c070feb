//! Packets that left together are judged together (draft-ietf-rmcat-gcc-02 §5.2): how much further apart
//! two groups arrived than they were sent is what a queue on the way did to them.

use super::Micros;

/// Packets sent within this belong together.
const BURST: i64 = 5_000;
/// What arrives this close, and sooner than it was sent apart, left the same queue in one go.
const ARRIVAL_BURST: i64 = 5_000;
/// A group lasts no longer than this, however its packets arrive.
const LONGEST: i64 = 100_000;
/// Arrivals this far from plausible mean that the subscriber's clock has jumped.
const CLOCK_JUMP: i64 = 3_000_000;

/// Two successive groups compared; microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spacing {
    pub sent: i64,
    pub arrived: i64,
    /// When the later group arrived, in the subscriber's clock.
    pub at: i64,
}

#[derive(Clone, Copy, Debug)]
struct Group {
    first_sent: i64,
    last_sent: i64,
    first_arrival: i64,
    last_arrival: i64,
}

/// Forms groups.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    current: Option<Group>,
    previous: Option<Group>,
}

impl Groups {
    /// A packet sent at `sent` arrived at `arrival`. Yields the comparison of the two groups before it
    /// when it begins a new one.
    pub fn add(&mut self, sent: Micros, arrival: i64) -> Option<Spacing> {
        let sent = sent as i64;
        let Some(current) = &mut self.current else {
            self.current = Some(Group::new(sent, arrival));
            return None;
        };
        if sent < current.first_sent {
            // Overtaken: the group that it belongs to has been judged.
            return None;
        }
        if (arrival - current.last_arrival).abs() > CLOCK_JUMP + (sent - current.last_sent) {
            *self = Self { current: Some(Group::new(sent, arrival)), previous: None };
            return None;
        }
        if current.takes(sent, arrival) {
            current.last_sent = current.last_sent.max(sent);
            current.last_arrival = current.last_arrival.max(arrival);
            return None;
        }
        let done = std::mem::replace(current, Group::new(sent, arrival));
        let before = self.previous.replace(done)?;
        let spacing = Spacing {
            sent: done.last_sent - before.last_sent,
            arrived: done.last_arrival - before.last_arrival,
            at: done.last_arrival,
        };
        // Groups that overtook each other compare to nothing.
        (spacing.arrived >= 0).then_some(spacing)
    }
}

impl Group {
    fn new(sent: i64, arrival: i64) -> Self {
        Self { first_sent: sent, last_sent: sent, first_arrival: arrival, last_arrival: arrival }
    }

    fn takes(&self, sent: i64, arrival: i64) -> bool {
        if sent - self.first_sent <= BURST {
            return true;
        }
        let apart = arrival - self.last_arrival;
        apart <= ARRIVAL_BURST && apart < sent - self.last_sent && arrival - self.first_arrival < LONGEST
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn frames_are_compared_by_their_last_packets() {
        let mut groups = Groups::default();
        let mut seen = vec![];
        for frame in 0..4i64 {
            for packet in 0..3 {
                // Each frame waits a millisecond longer than the one before.
                let sent = frame * 33_000 + packet * 100;
                seen.extend(groups.add(sent as u64, sent + 20_000 + frame * 1000));
            }
        }
        assert_eq!(seen.len(), 2);
        assert!(seen.iter().all(|s| s.sent == 33_000 && s.arrived == 34_000), "{seen:?}");
    }

    #[test]
    fn what_a_wireless_link_lets_go_at_once_is_one_group() {
        let mut groups = Groups::default();
        for i in 0..5i64 {
            assert_eq!(groups.add(i as u64 * 10_000, 100_000 + i * 500), None);
        }
        assert_eq!(groups.add(90_000, 190_000), None, "first complete group has nothing before it");
    }

    #[test]
    fn a_clock_that_jumps_begins_anew() {
        let mut groups = Groups::default();
        for i in 0..10u64 {
            groups.add(i * 20_000, i as i64 * 20_000);
        }
        assert_eq!(groups.add(200_000, 900_000_000_000), None);
        assert_eq!(groups.add(220_000, 900_000_020_000), None);
        assert!(groups.add(240_000, 900_000_040_000).is_some());
    }

    proptest! {
        #[test]
        fn any_times_are_taken(times in prop::collection::vec((0u64..1 << 45, -(1i64 << 45)..1 << 45), 0..200)) {
            let mut groups = Groups::default();
            for (sent, arrival) in times {
                if let Some(spacing) = groups.add(sent, arrival) {
                    prop_assert!(spacing.arrived >= 0);
                }
            }
        }
    }
}
