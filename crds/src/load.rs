//! The load model: what a room may cost, what a node can carry, and how full it is.
//!
//! An SFU's cost is the streams that it forwards, and those grow with the square of a room's size: in a
//! room of `n` everyone receives the audio and the video of everyone else, `2·n·(n−1)` streams. A node is
//! as full as its fullest dimension. The operator reserves a room's whole size when it places it, as the
//! Kubernetes scheduler reserves requests, so that a room that was accepted can fill up.

use crate::medianode::{Capacity, Load};

/// Streams forwarded in a full room of `participants` who each send audio and video.
pub const fn streams(participants: i32) -> i64 {
    let n = participants as i64;
    2 * n * (n - 1)
}

/// What is taken of a node, or asked of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// Rooms.
    pub rooms: i64,
    /// People in them.
    pub participants: i64,
    /// Streams forwarded to them.
    pub streams: i64,
}

impl Demand {
    /// The most that a room of `max_participants` can ask for.
    pub const fn of_room(max_participants: i32) -> Self {
        Self { rooms: 1, participants: max_participants as i64, streams: streams(max_participants) }
    }

    /// Both together.
    pub const fn plus(self, other: Self) -> Self {
        Self {
            rooms: self.rooms + other.rooms,
            participants: self.participants + other.participants,
            streams: self.streams + other.streams,
        }
    }

    /// What is left of it without `other`; never below zero.
    pub fn minus(self, other: Self) -> Self {
        Self {
            rooms: (self.rooms - other.rooms).max(0),
            participants: (self.participants - other.participants).max(0),
            streams: (self.streams - other.streams).max(0),
        }
    }

    /// Whether a node of `capacity` can carry it.
    pub const fn fits(self, capacity: &Capacity) -> bool {
        self.rooms <= capacity.rooms as i64
            && self.participants <= capacity.participants as i64
            && self.streams <= capacity.streams
    }

    /// Share of `capacity` in per mille, of the fullest dimension; above 1000 when overcommitted.
    pub fn per_mille(self, capacity: &Capacity) -> i64 {
        let share = |used: i64, of: i64| used.saturating_mul(1000) / of.max(1);
        share(self.rooms, capacity.rooms.into())
            .max(share(self.participants, capacity.participants.into()))
            .max(share(self.streams, capacity.streams))
    }
}

impl Load {
    /// What the node reported, as a demand.
    pub const fn demand(&self) -> Demand {
        Demand { rooms: self.rooms as i64, participants: self.participants as i64, streams: self.streams }
    }

    /// How full the node is by its own report, in percent of the fullest dimension, CPU included.
    pub fn utilization_percent(&self, capacity: &Capacity) -> i32 {
        let counted = self.demand().per_mille(capacity) / 10;
        let cpu = match self.cpu_limit_millis {
            0 => 0,
            limit => i64::from(self.cpu_millis) * 100 / i64::from(limit),
        };
        i32::try_from(counted.max(cpu)).unwrap_or(i32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_costs_the_streams_that_it_forwards() {
        assert_eq!([1, 2, 3, 10, 50].map(streams), [0, 4, 12, 180, 4900]);
    }

    #[test]
    fn a_node_is_as_full_as_its_fullest_dimension() {
        let capacity = Capacity { rooms: 100, participants: 500, streams: 49_000 };
        let ten_of_fifty = (0..10).fold(Demand::default(), |sum, _| sum.plus(Demand::of_room(50)));
        assert!(ten_of_fifty.fits(&capacity));
        assert_eq!(ten_of_fifty.per_mille(&capacity), 1000);
        assert!(!ten_of_fifty.plus(Demand::of_room(2)).fits(&capacity));
        let hundred_pairs = (0..100).fold(Demand::default(), |sum, _| sum.plus(Demand::of_room(2)));
        assert_eq!(hundred_pairs.per_mille(&capacity), 1000, "rooms are the fullest dimension");
    }
}
