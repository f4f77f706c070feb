//! What the operator is told of who is in a room (`status.presence`), and when it is written. Pure.

use std::time::Duration;

use callplane_crds::presence::{FailedRoute, Presence, SfuWanted};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::state::State;

/// Shortest time between two writes to a room.
pub const PACE: Duration = Duration::from_secs(1);
/// Why a route failed, for people.
const UNREACHED: &str = "a participant has no media on it, although it was told twice";
/// Longest wait after a write that failed.
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// What is to be told of `state` while the room is at `epoch`, after `before` was.
pub fn of(state: &State, epoch: i64, may_be_alone: bool, before: Option<&Presence>, now: Timestamp) -> Presence {
    let participants = i32::try_from(state.members.len()).unwrap_or(i32::MAX);
    let least = state.members.values().map(|member| member.acked).min().unwrap_or(epoch);
    let reached = if state.has_reached(epoch, may_be_alone) { epoch } else { least };
    let has_failed = state.members.values().any(|member| member.failed == epoch && epoch > 0);
    let wish = state.members.values().filter_map(|member| member.wish).min_by_key(|wish| wish.since);
    let unchanged = before.filter(|before| before.participants == participants);
    Presence {
        participants,
        since: unchanged.map_or(Time(now), |before| before.since.clone()),
        // It never falls back: who comes later does not undo what all had reached.
        epoch: before.and_then(|before| before.epoch).max((reached > 0).then_some(reached)),
        failed: has_failed.then(|| FailedRoute { epoch, reason: UNREACHED.to_owned() }),
        sfu_wanted: wish.map(|wish| SfuWanted { reason: wish.reason, since: Time(wish.since) }),
    }
}

/// When to write.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Writer {
    /// What the API server has, as far as is known.
    written: Option<Presence>,
    in_flight: Option<Presence>,
    not_before: Duration,
    failures: u32,
}

impl Writer {
    /// The API server has `presence`.
    pub fn has(&mut self, presence: Option<Presence>) {
        if self.in_flight.is_none() {
            self.written = presence;
        }
    }

    /// When `wanted` can be written; `None` if that is there already, or a write is under way.
    pub fn due(&self, wanted: &Presence) -> Option<Duration> {
        let nobody_came = self.written.is_none() && wanted.participants == 0;
        let is_there = self.written.as_ref() == Some(wanted);
        (self.in_flight.is_none() && !is_there && !nobody_came).then_some(self.not_before)
    }

    /// A write begins.
    pub fn begin(&mut self, now: Duration, wanted: &Presence) {
        self.in_flight = Some(wanted.clone());
        self.not_before = now + PACE;
    }

    /// The write ended.
    pub fn end(&mut self, now: Duration, is_done: bool) {
        let wanted = self.in_flight.take();
        if is_done {
            self.written = wanted;
            self.failures = 0;
        } else {
            let wait = PACE.saturating_mul(1 << self.failures.min(4)).min(LONGEST_WAIT);
            self.failures += 1;
            self.not_before = now + wait;
        }
    }
}

#[cfg(test)]
mod tests {
    use callplane_crds::presence::SfuReason;

    use super::*;
    use crate::signal::{
        member::{Member, Wish},
        state::tests::member,
    };

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_is_told_follows_from_the_members() {
        let now = Timestamp::from_second(100).unwrap();
        let mut state = State::default();
        for (user, acked) in [("ann", 2), ("bob", 1)] {
            state.members.insert(user.into(), member(user, "c", acked));
        }
        let first = of(&state, 2, false, None, now);
        let expected = Presence { participants: 2, since: Time(now), epoch: Some(1), failed: None, sfu_wanted: None };
        assert_eq!(first, expected);
        let later = Timestamp::from_second(200).unwrap();
        state.members.insert("bob".into(), Member { acked: 2, ..member("bob", "c", 2) });
        let second = of(&state, 2, false, Some(&first), later);
        assert_eq!((second.epoch, &second.since), (Some(2), &Time(now)), "the number is the same");
        let wish = Wish { reason: SfuReason::PacketLoss, since: later };
        state.members.insert("cat".into(), Member { failed: 2, wish: Some(wish), ..member("cat", "c", 0) });
        let third = of(&state, 2, false, Some(&second), later);
        assert_eq!(
            (third.participants, &third.since, third.epoch),
            (3, &Time(later), Some(2)),
            "who comes later undoes nothing"
        );
        assert_eq!(third.failed.map(|failed| failed.epoch), Some(2));
        assert_eq!(third.sfu_wanted.map(|wanted| wanted.reason), Some(SfuReason::PacketLoss));
        let next = of(&state, 3, false, Some(&second), later);
        assert_eq!(next.failed, None, "that was another epoch");
        let nobody = of(&State::default(), 3, false, Some(&second), later);
        assert_eq!((nobody.participants, nobody.epoch), (0, Some(3)));
    }

    #[test]
    fn the_first_change_is_written_at_once_and_the_next_ones_once_a_second() {
        let mut writer = Writer::default();
        let since = Time(Timestamp::UNIX_EPOCH);
        let of =
            |participants| Presence { participants, since: since.clone(), epoch: None, failed: None, sfu_wanted: None };
        assert_eq!(writer.due(&of(0)), None, "an empty room costs nothing");
        assert_eq!(writer.due(&of(1)), Some(at(0)));
        writer.begin(at(5), &of(1));
        assert_eq!(writer.due(&of(2)), None, "one write at a time");
        writer.end(at(5), true);
        assert_eq!((writer.due(&of(1)), writer.due(&of(2))), (None, Some(at(6))));
        writer.begin(at(6), &of(2));
        writer.end(at(14), false);
        assert_eq!(writer.due(&of(2)), Some(at(15)));
        writer.begin(at(15), &of(2));
        writer.end(at(15), false);
        assert_eq!(writer.due(&of(2)), Some(at(17)), "longer after each failure");
        for _ in 0..9 {
            writer.begin(at(20), &of(2));
            writer.end(at(20), false);
        }
        assert_eq!(writer.due(&of(2)), Some(at(35)));
        writer.has(Some(of(7)));
        assert_eq!(writer.due(&of(7)), None);
    }
}
