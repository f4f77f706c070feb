//! Who is heard and seen in a large room: the loudest few as sound, those who spoke last as pictures.
//!
//! Both are decided from audio levels alone (RFC 6464), without decoding anything. A room without limits
//! forwards everything, and costs nothing here.

use std::time::{Duration, Instant};

use super::command::{Event, MediaKind, ProducerId, RoomId};
use super::{Core, Key};

/// Quieter than this (-dBov) is silence.
pub(crate) const SILENCE: u8 = 55;
/// Somebody must be this much louder to take a place from one who speaks.
const MARGIN: u8 = 6;
/// A place is free for others after this long in silence: longer than a pause between words.
const HOLD: Duration = Duration::from_millis(700);

/// The loudest producers of a room (top-N).
#[derive(Debug, Default)]
pub(crate) struct Loudest {
    /// How many are forwarded; `None` for all.
    limit: Option<usize>,
    places: Vec<Place>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    producer: ProducerId,
    level: Level,
    last_loud: Instant,
}

impl Loudest {
    /// At most `limit` producers are heard from now on, the present ones first.
    pub fn set_limit(&mut self, limit: Option<usize>) {
        self.limit = limit;
        self.places.truncate(limit.unwrap_or(0));
    }

    /// Whether a packet of this loudness is to be heard. `level` is the producer's, this packet included;
    /// `packet` its own: the first syllable takes a free place at once.
    pub fn hear(&mut self, producer: ProducerId, level: Level, packet: u8, now: Instant) -> bool {
        let Some(limit) = self.limit else { return true };
        let loud = packet < SILENCE;
        if let Some(place) = self.places.iter_mut().find(|p| p.producer == producer) {
            place.level = level;
            if loud {
                place.last_loud = now;
            }
            return true;
        }
        let place = Place { producer, level, last_loud: now };
        if self.places.len() < limit {
            self.places.push(place);
            return true;
        }
        if !loud {
            return false;
        }
        let idle = |p: &Place| now.saturating_duration_since(p.last_loud) >= HOLD;
        let quietest = self.places.iter_mut().max_by_key(|p| (idle(p), p.level.0));
        match quietest {
            Some(held) if idle(held) || level.0 + u16::from(MARGIN) * Level::UNIT <= held.level.0 => {
                *held = place;
                true
            }
            _ => false,
        }
    }

    /// The producer is closed or paused.
    pub fn forget(&mut self, producer: ProducerId) {
        self.places.retain(|p| p.producer != producer);
    }
}

/// Loudness of a producer, averaged over its last packets, so that one click is no speech.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Level(u16);

impl Default for Level {
    fn default() -> Self {
        Self(127 * Self::UNIT)
    }
}

impl Level {
    /// Levels are kept in fractions of a decibel.
    const UNIT: u16 = 16;

    /// A packet's level, 0 (loudest) to 127. About eight packets (160 ms of Opus) count.
    pub fn update(&mut self, packet: u8) {
        let packet = u16::from(packet.min(127)) * Self::UNIT;
        self.0 = (self.0 * 7 + packet) / 8;
    }
}

/// Publishing transports by when they last spoke, the latest first (last-N). Whoever publishes sound on one transport and
/// pictures on another is two here; clients with mediasoup's object model use one.
#[derive(Debug, Default)]
pub(crate) struct Recent(Vec<Key>);

impl Recent {
    /// A transport began to publish: those who have not spoken rank behind all others, in the order in
    /// which they came.
    pub fn joined(&mut self, publisher: Key) {
        if !self.0.contains(&publisher) {
            self.0.push(publisher);
        }
    }

    /// Somebody speaks. Returns whether that changed the order.
    pub fn spoke(&mut self, publisher: Key) -> bool {
        match self.0.iter().position(|p| *p == publisher) {
            Some(0) => false,
            Some(at) => {
                self.0[..=at].rotate_right(1);
                true
            }
            None => {
                self.0.insert(0, publisher);
                true
            }
        }
    }

    /// A transport is gone.
    pub fn left(&mut self, publisher: Key) {
        self.0.retain(|p| *p != publisher);
    }

    /// The first `n` that are `eligible`, the latest speaker first.
    pub fn first(&self, n: usize, mut eligible: impl FnMut(Key) -> bool) -> Vec<Key> {
        self.0.iter().copied().filter(|p| eligible(*p)).take(n).collect()
    }
}

/// What a room is limited to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoomLimits {
    /// Publishers whose pictures one subscriber gets at most (last-N); `None` for all.
    pub last_n: Option<usize>,
    /// Producers of sound that are heard at once at most; `None` for all.
    pub loudest: Option<usize>,
    /// Bits per second that each publishing transport is asked not to exceed.
    pub max_publish_bitrate: Option<u64>,
}

impl Core {
    pub(super) fn limit_room(&mut self, id: RoomId, limits: RoomLimits, now: Instant) -> Option<()> {
        let room = self.rooms.get_mut(&id)?;
        room.loudest.set_limit(limits.loudest);
        room.max_publish_bitrate = limits.max_publish_bitrate;
        if std::mem::replace(&mut room.last_n, limits.last_n) != limits.last_n {
            self.restage(id, now);
        }
        Some(())
    }

    /// A packet of sound arrived. Returns whether it is to be heard.
    pub(super) fn is_heard(&mut self, key: Key, packet: u8, now: Instant) -> bool {
        let Some(producer) = self.producers.get_mut(key) else { return false };
        producer.level.update(packet);
        let (id, level) = (producer.id, producer.level);
        let Some(room) = self.rooms.get_mut(&producer.room) else { return true };
        let heard = room.loudest.hear(id, level, packet, now);
        if std::mem::replace(&mut producer.heard, heard) != heard && heard {
            // What was left out is no loss: numbers go on without a gap.
            for consumer in &producer.consumers {
                if let Some(consumer) = self.consumers.get_mut(*consumer) {
                    consumer.restart();
                }
            }
        }
        heard
    }

    /// Somebody speaks.
    pub(super) fn step_forward(&mut self, id: RoomId, speaker: ProducerId, now: Instant) {
        let Some(publisher) = self.producer_keys.get(&speaker).and_then(|p| self.producers.get(*p)) else { return };
        let publisher = publisher.transport;
        if self.rooms.get_mut(&id).is_some_and(|room| room.recent.spoke(publisher)) {
            self.restage(id, now);
        }
    }

    /// Decides anew who is seen by whom in a room.
    pub(super) fn restage(&mut self, id: RoomId, now: Instant) {
        let Some(room) = self.rooms.get(&id) else { return };
        for subscriber in room.members.clone() {
            self.restage_for(subscriber, now);
        }
    }

    /// Decides anew whom one subscriber sees. What it paused itself takes nobody's place.
    pub(super) fn restage_for(&mut self, subscriber: Key, now: Instant) {
        let Some(transport) = self.transports.get(subscriber) else { return };
        let Some(room) = self.rooms.get(&transport.room) else { return };
        let (id, mut pictures) = (transport.id, Vec::new());
        for &key in &transport.consumers {
            let Some(consumer) = self.consumers.get(key) else { continue };
            let Some(producer) = self.producers.get(consumer.producer) else { continue };
            if producer.kind == MediaKind::Video {
                pictures.push((key, producer.transport, consumer.is_paused_by_client()));
            }
        }
        let seen = room.last_n.map(|n| {
            room.recent.first(n, |p| pictures.iter().any(|(_, publisher, paused)| *publisher == p && !paused))
        });
        for (key, publisher, _) in pictures {
            let off_stage = seen.as_ref().is_some_and(|seen| !seen.contains(&publisher));
            let Some(consumer) = self.consumers.get_mut(key) else { continue };
            if !consumer.set_off_stage(off_stage) {
                continue;
            }
            let producer = consumer.producer;
            self.events.push_back(Event::OffStage { consumer: consumer.id, transport: id, off_stage });
            self.want_key_frame(key, now);
            self.review_layers_wanted(producer, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::testing::origin;

    struct Room {
        loudest: Loudest,
        levels: Vec<Level>,
        now: Instant,
    }

    impl Room {
        fn new(producers: usize, limit: usize) -> Self {
            let mut loudest = Loudest::default();
            loudest.set_limit(Some(limit));
            Self { loudest, levels: vec![Level::default(); producers], now: origin() }
        }

        /// Twenty milliseconds with a packet of each; returns who was heard.
        fn step(&mut self, packets: &[u8]) -> Vec<usize> {
            self.now += Duration::from_millis(20);
            let mut heard = vec![];
            for (at, &packet) in packets.iter().enumerate() {
                self.levels[at].update(packet);
                if self.loudest.hear(ProducerId(at as u64), self.levels[at], packet, self.now) {
                    heard.push(at);
                }
            }
            heard
        }

        fn run(&mut self, millis: u64, packets: &[u8]) -> Vec<usize> {
            (0..millis / 20).map(|_| self.step(packets)).last().unwrap_or_default()
        }
    }

    #[test]
    fn the_first_syllable_takes_the_place_of_one_who_is_silent() {
        let mut room = Room::new(4, 2);
        assert_eq!(room.run(1000, &[30, 30, 127, 127]), [0, 1]);
        // One falls silent; its place is kept for a pause between words, and then is anyone's.
        assert_eq!(room.run(600, &[30, 127, 127, 127]), [0, 1]);
        room.run(200, &[30, 127, 127, 127]);
        assert!(room.step(&[30, 127, 40, 127]).contains(&2), "at once");
        assert_eq!(room.step(&[30, 127, 40, 127]), [0, 2]);
    }

    #[test]
    fn a_full_stage_is_left_only_to_the_clearly_louder() {
        let mut room = Room::new(3, 2);
        room.run(1000, &[30, 40, 127]);
        assert_eq!(room.run(2000, &[30, 40, 37]), [0, 1], "within the margin");
        let took: usize = (0..50).take_while(|_| !room.step(&[30, 40, 25]).contains(&2)).count();
        assert!((2..30).contains(&took), "a click is not enough, speech is: {took} packets");
        assert_eq!(room.step(&[30, 40, 25]), [0, 2]);
    }

    #[test]
    fn rooms_without_limit_hear_everyone_and_a_lower_limit_is_obeyed_at_once() {
        let mut room = Room::new(3, 3);
        assert_eq!(room.step(&[20, 30, 40]), [0, 1, 2]);
        room.loudest.set_limit(Some(1));
        assert_eq!(room.step(&[20, 30, 40]), [0]);
        room.loudest.set_limit(None);
        assert_eq!(room.step(&[20, 30, 40]), [0, 1, 2]);
        room.loudest.set_limit(Some(0));
        assert_eq!(room.step(&[20, 30, 40]), [0; 0]);
    }

    #[test]
    fn who_leaves_makes_room() {
        let mut room = Room::new(2, 1);
        assert_eq!(room.step(&[20, 20]), [0]);
        room.loudest.forget(ProducerId(0));
        assert!(room.loudest.hear(ProducerId(1), room.levels[1], 127, room.now), "even in silence");
    }

    #[test]
    fn the_latest_speakers_come_first_and_the_others_as_they_came() {
        let mut keys = crate::core::slab::Slab::default();
        let keys: Vec<Key> = (0..5).map(|at| keys.insert(at)).collect();
        let id = |at: usize| keys[at];
        let mut recent = Recent::default();
        (1..=4).for_each(|p| recent.joined(id(p)));
        assert!(recent.spoke(id(3)));
        assert!(!recent.spoke(id(3)));
        assert!(recent.spoke(id(2)));
        assert_eq!(recent.first(3, |_| true), [id(2), id(3), id(1)]);
        assert_eq!(recent.first(2, |p| p != id(2)), [id(3), id(1)], "nobody sees himself");
        recent.left(id(3));
        recent.joined(id(2));
        assert_eq!(recent.first(9, |_| true), [id(2), id(1), id(4)]);
    }

    proptest! {
        #[test]
        fn never_more_than_the_limit_are_heard_and_never_fewer_than_could_be(
            limit in 0usize..4,
            steps in prop::collection::vec(prop::collection::vec(0u8..=127, 5), 1..200),
        ) {
            let mut room = Room::new(5, limit);
            for packets in &steps {
                room.step(packets);
                prop_assert!(room.loudest.places.len() == limit.min(5));
            }
        }
    }
}
