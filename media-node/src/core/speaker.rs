//! Who speaks, from the audio levels that clients put into their packets (RFC 6464).

use std::time::{Duration, Instant};

use super::Core;
use super::command::{Event, ProducerId, RoomId};

/// Levels are averaged over this long, and compared as often.
const INTERVAL: Duration = Duration::from_millis(250);
/// Quieter than this (-dBov) is silence.
const SILENCE: u32 = 55;
/// Somebody must be this much louder than the speaker to take over at once.
const MARGIN: u32 = 6;
/// After this long in silence nobody speaks.
const RELEASE: Duration = Duration::from_secs(2);
/// Producers heard in one interval; a room with more forwards no more anyway.
const MAX_HEARD: usize = 256;

/// Loudness in one room.
#[derive(Debug, Default)]
pub(crate) struct Speaker {
    /// Sum and number of levels in this interval.
    heard: Vec<(ProducerId, u32, u32)>,
    since: Option<Instant>,
    current: Option<ProducerId>,
    last_loud: Option<Instant>,
}

impl Speaker {
    /// Who speaks.
    pub fn current(&self) -> Option<ProducerId> {
        self.current
    }

    /// A level arrived, 0 (loudest) to 127. Returns the new speaker if there is another one now.
    pub fn hear(&mut self, producer: ProducerId, level: u8, now: Instant) -> Option<Option<ProducerId>> {
        let since = *self.since.get_or_insert(now);
        if let Some((_, sum, count)) = self.heard.iter_mut().find(|(p, ..)| *p == producer) {
            *sum += u32::from(level);
            *count += 1;
        } else if self.heard.len() < MAX_HEARD {
            self.heard.push((producer, u32::from(level), 1));
        }
        if now.saturating_duration_since(since) < INTERVAL {
            return None;
        }
        self.since = Some(now);
        let mean = |(_, sum, count): &(ProducerId, u32, u32)| sum / count;
        let loudest = self.heard.iter().min_by_key(|h| mean(h)).map(|h| (h.0, mean(h)));
        let speaker = self.heard.iter().find(|(p, ..)| Some(*p) == self.current).map(mean);
        self.heard.clear();
        let next = match (loudest, speaker) {
            (Some((producer, level)), current_level) if level < SILENCE => {
                self.last_loud = Some(now);
                let yields = current_level.is_none_or(|l| l >= SILENCE || level + MARGIN <= l);
                if yields { Some(producer) } else { self.current }
            }
            _ if self.last_loud.is_some_and(|at| now.saturating_duration_since(at) < RELEASE) => self.current,
            _ => None,
        };
        (next != self.current).then(|| {
            self.current = next;
            next
        })
    }

    /// The producer is gone. Returns whether it was the speaker.
    pub fn forget(&mut self, producer: ProducerId) -> bool {
        self.heard.retain(|(p, ..)| *p != producer);
        self.current.take_if(|p| *p == producer).is_some()
    }
}

impl Core {
    pub(super) fn hear(&mut self, room: RoomId, producer: ProducerId, level: u8, now: Instant) {
        let Some(state) = self.rooms.get_mut(&room) else { return };
        if let Some(producer) = state.speaker.hear(producer, level, now) {
            self.events.push_back(Event::ActiveSpeaker { room, producer });
            if let Some(speaker) = producer {
                self.step_forward(room, speaker, now);
            }
        }
    }

    pub(super) fn forget_speaker(&mut self, room: RoomId, producer: ProducerId) {
        let Some(state) = self.rooms.get_mut(&room) else { return };
        state.loudest.forget(producer);
        if state.speaker.forget(producer) {
            self.events.push_back(Event::ActiveSpeaker { room, producer: None });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "any instant will do as the origin of virtual time")]
    fn origin() -> Instant {
        Instant::now()
    }

    #[test]
    fn the_louder_one_speaks_and_silence_ends_it() {
        let (start, a, b) = (origin(), ProducerId(1), ProducerId(2));
        let mut speaker = Speaker::default();
        let mut changes = vec![];
        for tick in 0..400u64 {
            let now = start + Duration::from_millis(tick * 20);
            let (level_a, level_b) = match tick {
                0..100 => (30, 90),
                100..200 => (40, 38),
                200..250 => (40, 20),
                _ => (127, 127),
            };
            for (producer, level) in [(a, level_a), (b, level_b)] {
                changes.extend(speaker.hear(producer, level, now));
            }
        }
        assert_eq!(changes, [Some(a), Some(b), None], "a margin keeps two alike from alternating");
    }
}
