//! Rooms that fit nowhere yet, oldest first.

use std::collections::{BTreeMap, HashMap};

use super::RoomKey;

/// Rooms that are tried when capacity appears. The rest follow as these find a place, or at their own next try.
pub const WAKE_BATCH: usize = 256;

/// Rooms that wait for capacity.
#[derive(Clone, Debug, Default)]
pub struct Waiting {
    next: u64,
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

    /// The rooms to try now that capacity appeared.
    pub fn wake(&self) -> impl Iterator<Item = &RoomKey> {
        self.order.values().take(WAKE_BATCH)
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
