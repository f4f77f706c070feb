//! Rooms that fit nowhere yet, oldest first, and those with people in them before all others.

use std::collections::{BTreeMap, HashMap};

use super::RoomKey;

/// Rooms of a line that are tried when capacity appears. The rest follow as these find a place, or at their own next try.
pub const WAKE_BATCH: usize = 256;

/// Who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// A call that has had a route: it goes on peer to peer and needs a node, or it lost its node.
    Live,
    /// A room that nobody could join yet.
    New,
}

/// Rooms to try now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Woken {
    /// Of [`Line::Live`]: first.
    pub live: Vec<RoomKey>,
    /// Of [`Line::New`].
    pub new: Vec<RoomKey>,
}

/// Rooms that wait for capacity.
///
/// A call that is peer to peer has nothing reserved, so when it grows it stands here like a new room would, but before
/// all of those: there are people in it. Each line has its own batches, so that calls that nothing can ever place keep no
/// new room from its turn.
#[derive(Clone, Debug, Default)]
pub struct Waiting {
    live: Tickets,
    new: Tickets,
}

#[derive(Clone, Debug, Default)]
struct Tickets {
    next: u64,
    /// First ticket of the next batch.
    cursor: u64,
    order: BTreeMap<u64, RoomKey>,
    tickets: HashMap<RoomKey, u64>,
}

impl Waiting {
    /// Adds `room` behind the others of its line, or leaves it where it stands.
    pub fn add(&mut self, room: &RoomKey, line: Line) {
        let (line, other) = match line {
            Line::Live => (&mut self.live, &mut self.new),
            Line::New => (&mut self.new, &mut self.live),
        };
        other.remove(room);
        line.add(room);
    }

    /// Takes `room` out. Returns whether it was waiting.
    pub fn remove(&mut self, room: &RoomKey) -> bool {
        let (live, new) = (self.live.remove(room), self.new.remove(room));
        live || new
    }

    /// The rooms to try now that capacity appeared: each time the next [`WAKE_BATCH`] of each line, so that rooms that
    /// nothing can ever place do not stand before those that something could.
    pub fn wake(&mut self) -> Woken {
        Woken { live: self.live.wake(), new: self.new.wake() }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.live.order.len() + self.new.order.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Tickets {
    fn add(&mut self, room: &RoomKey) {
        if !self.tickets.contains_key(room) {
            self.tickets.insert(room.clone(), self.next);
            self.order.insert(self.next, room.clone());
            self.next += 1;
        }
    }

    fn remove(&mut self, room: &RoomKey) -> bool {
        let ticket = self.tickets.remove(room);
        ticket.is_some_and(|t| self.order.remove(&t).is_some())
    }

    fn wake(&mut self) -> Vec<RoomKey> {
        let turn = self.order.range(self.cursor..).chain(self.order.range(..self.cursor)).take(WAKE_BATCH);
        let batch: Vec<(u64, RoomKey)> = turn.map(|(ticket, room)| (*ticket, room.clone())).collect();
        self.cursor = match batch.last() {
            Some((last, _)) if self.order.len() > WAKE_BATCH => last + 1,
            _ => 0,
        };
        batch.into_iter().map(|(_, room)| room).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use callplane_crds::CallId;

    use super::*;

    fn rooms(count: usize) -> Vec<RoomKey> {
        (0..count).map(|i| Arc::new(CallId::new("default", format!("r{i}")))).collect()
    }

    #[test]
    fn every_waiting_room_has_its_turn_whatever_stands_before_it() {
        let rooms = rooms(600);
        let mut waiting = Waiting::default();
        rooms.iter().for_each(|room| waiting.add(room, Line::New));
        let turns: Vec<RoomKey> = (0..3).flat_map(|_| waiting.wake().new).collect();
        assert!(rooms.iter().all(|room| turns.contains(room)));
        assert_eq!(turns.len(), 3 * WAKE_BATCH, "a batch is never short while more wait");
    }

    #[test]
    fn a_few_waiting_rooms_are_all_tried_each_time_oldest_first() {
        let rooms = rooms(3);
        let mut waiting = Waiting::default();
        rooms.iter().for_each(|room| waiting.add(room, Line::New));
        assert_eq!((waiting.wake().new, waiting.wake().new), (rooms.clone(), rooms));
    }

    #[test]
    fn calls_with_people_in_them_come_before_new_rooms_and_keep_none_of_those_out() {
        let rooms = rooms(2 * WAKE_BATCH);
        let (calls, empty) = rooms.split_at(WAKE_BATCH + 10);
        let mut waiting = Waiting::default();
        empty.iter().for_each(|room| waiting.add(room, Line::New));
        calls.iter().for_each(|room| waiting.add(room, Line::Live));
        let woken = waiting.wake();
        assert_eq!((woken.live.as_slice(), woken.new.as_slice()), (&calls[..WAKE_BATCH], empty));
        assert_eq!(waiting.wake().live[..10], calls[WAKE_BATCH..]);
    }

    #[test]
    fn a_room_stands_in_one_line() {
        let room = &rooms(1)[0];
        let mut waiting = Waiting::default();
        waiting.add(room, Line::New);
        waiting.add(room, Line::Live);
        assert_eq!(waiting.wake(), Woken { live: vec![room.clone()], new: vec![] });
        assert_eq!((waiting.len(), waiting.remove(room), waiting.remove(room)), (1, true, false));
        assert!(waiting.is_empty());
    }
}
