//! Rooms that fit nowhere yet, oldest first.

use std::collections::{BTreeMap, HashMap};

use super::RoomKey;

/// Rooms that are tried when capacity appears. The rest follow as these find a place, or at their own next try.
pub const WAKE_BATCH: usize = 256;

/// Rooms that wait for capacity.
#[derive(Clone, Debug, Default)]
pub struct Waiting {
    next: u64,
    /// First ticket of the next batch.
    cursor: u64,
    order: BTreeMap<u64, RoomKey>,
    tickets: HashMap<RoomKey, u64>,
}

impl Waiting {
    /// Adds `room` behind the others, or leaves it where it stands.
    pub fn add(&mut self, room: &RoomKey) {
        if !self.tickets.contains_key(room) {
            self.tickets.insert(room.clone(), self.next);
            self.order.insert(self.next, room.clone());
            self.next += 1;
        }
    }

    /// Takes `room` out. Returns whether it was waiting.
    pub fn remove(&mut self, room: &RoomKey) -> bool {
        let ticket = self.tickets.remove(room);
        ticket.is_some_and(|t| self.order.remove(&t).is_some())
    }

    /// The rooms to try now that capacity appeared: each time the next [`WAKE_BATCH`] of them, so that rooms that
    /// nothing can ever place do not stand before those that something could.
    pub fn wake(&mut self) -> Vec<RoomKey> {
        let turn = self.order.range(self.cursor..).chain(self.order.range(..self.cursor)).take(WAKE_BATCH);
        let batch: Vec<(u64, RoomKey)> = turn.map(|(ticket, room)| (*ticket, room.clone())).collect();
        self.cursor = match batch.last() {
            Some((last, _)) if self.order.len() > WAKE_BATCH => last + 1,
            _ => 0,
        };
        batch.into_iter().map(|(_, room)| room).collect()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use callplane_crds::CallId;

    use super::*;

    #[test]
    fn every_waiting_room_has_its_turn_whatever_stands_before_it() {
        let rooms: Vec<RoomKey> = (0..600).map(|i| Arc::new(CallId::new("default", format!("r{i}")))).collect();
        let mut waiting = Waiting::default();
        rooms.iter().for_each(|room| waiting.add(room));
        let turns: Vec<RoomKey> = (0..3).flat_map(|_| waiting.wake()).collect();
        assert!(rooms.iter().all(|room| turns.contains(room)));
        assert_eq!(turns.len(), 3 * WAKE_BATCH, "a batch is never short while more wait");
    }

    #[test]
    fn a_few_waiting_rooms_are_all_tried_each_time_oldest_first() {
        let rooms: Vec<RoomKey> = (0..3).map(|i| Arc::new(CallId::new("default", format!("r{i}")))).collect();
        let mut waiting = Waiting::default();
        rooms.iter().for_each(|room| waiting.add(room));
        assert_eq!((waiting.wake(), waiting.wake()), (rooms.clone(), rooms));
    }
}
