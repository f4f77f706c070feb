//! How much of a media node is spoken for.

use std::collections::{HashMap, HashSet};

use callplane_crds::load::Demand;

use super::RoomKey;

/// The reservations on one node, and what the node itself reported.
///
/// A room is reserved at its whole size. The node's report is believed where it says *more* than the
/// reservations: rooms that are missing from the report (placed since, or not yet seen by the node) are
/// added to it. Whether a room is in the report is told by the report's list of rooms and by no clock.
#[derive(Clone, Debug, Default)]
pub struct Account {
    holds: HashMap<RoomKey, Demand>,
    reserved: Demand,
    reported: Demand,
    reported_rooms: HashSet<RoomKey>,
    unreported: Demand,
}

impl Account {
    /// Reserves `demand` for `room`, in place of what was reserved for it before.
    pub fn hold(&mut self, room: &RoomKey, demand: Demand) {
        self.release(room);
        self.holds.insert(room.clone(), demand);
        self.reserved = self.reserved.plus(demand);
        if !self.reported_rooms.contains(room) {
            self.unreported = self.unreported.plus(demand);
        }
    }

    /// Gives up the reservation of `room`. Returns whether there was one.
    pub fn release(&mut self, room: &RoomKey) -> bool {
        let Some(demand) = self.holds.remove(room) else { return false };
        self.reserved = self.reserved.minus(demand);
        if !self.reported_rooms.contains(room) {
            self.unreported = self.unreported.minus(demand);
        }
        true
    }

    /// Takes in the node's own report.
    pub fn report(&mut self, reported: Demand, rooms: HashSet<RoomKey>) {
        self.reported = reported;
        self.reported_rooms = rooms;
        self.unreported = self
            .holds
            .iter()
            .filter(|(room, _)| !self.reported_rooms.contains(*room))
            .fold(Demand::default(), |sum, (_, demand)| sum.plus(*demand));
    }

    /// What counts as taken.
    pub fn committed(&self) -> Demand {
        let seen = self.reported.plus(self.unreported);
        Demand {
            rooms: self.reserved.rooms.max(seen.rooms),
            participants: self.reserved.participants.max(seen.participants),
            streams: self.reserved.streams.max(seen.streams),
        }
    }

    /// The rooms that have a reservation here.
    pub fn rooms(&self) -> impl Iterator<Item = &RoomKey> {
        self.holds.keys()
    }

    /// How many rooms have a reservation here.
    pub fn room_count(&self) -> usize {
        self.holds.len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use callplane_crds::CallId;
    use proptest::prelude::*;

    use super::*;

    fn key(i: usize) -> RoomKey {
        Arc::new(CallId::new("default", format!("r{i}")))
    }

    #[test]
    fn a_report_counts_only_where_it_says_more_than_the_reservations() {
        let mut account = Account::default();
        account.hold(&key(1), Demand::of_room(10));
        account.report(Demand { rooms: 1, participants: 3, streams: 12 }, [key(1)].into());
        assert_eq!(account.committed(), Demand::of_room(10));
        account.report(Demand { rooms: 3, participants: 90, streams: 12 }, [key(1), key(8), key(9)].into());
        assert_eq!(account.committed(), Demand { rooms: 3, participants: 90, streams: 180 });
        account.hold(&key(2), Demand::of_room(10));
        assert_eq!(
            account.committed(),
            Demand { rooms: 4, participants: 100, streams: 360 },
            "placed since the report"
        );
    }

    proptest! {
        #[test]
        fn the_sums_always_equal_the_holds(steps in prop::collection::vec((0usize..8, 2i32..50, 0u8..3), 0..60)) {
            let mut account = Account::default();
            for (room, size, what) in steps {
                match what {
                    0 => account.hold(&key(room), Demand::of_room(size)),
                    1 => { account.release(&key(room)); }
                    _ => account.report(Demand::of_room(size), (0..room).map(key).collect()),
                }
                let sum = |only: &dyn Fn(&RoomKey) -> bool| account.holds.iter().filter(|(r, _)| only(r)).fold(Demand::default(), |s, (_, d)| s.plus(*d));
                prop_assert_eq!(account.reserved, sum(&|_| true));
                prop_assert_eq!(account.unreported, sum(&|r| !account.reported_rooms.contains(r)));
            }
        }
    }
}
