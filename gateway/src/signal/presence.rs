//! What the operator is told of who is in a room (`status.presence`), and when it is written. Pure.

use std::time::Duration;

use callplane_crds::{
    CallRoom, RouteMode,
    presence::{FailedRoute, Presence, SfuWanted},
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{member::Wish, state::State};

/// Time between two writes to a room, on average.
pub const PACE: Duration = Duration::from_secs(1);
/// Writes that may follow each other at once after a while without any: who joins right after another is not to wait for the
/// media node that the two make needed.
const BURST: u32 = 3;
/// How long a room may be there before its emptiness is told: most are joined sooner.
const UNATTENDED: SignedDuration = SignedDuration::from_secs(30);
/// Why a route failed, for people.
const UNREACHED: &str = "a participant has no media on it, although it was told twice";
/// Longest wait after a write that failed.
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// What is to be told of `state` while the room is at `epoch`, after `before` was. `summons` is the wish of people who are not in
/// the table.
pub fn of(
    state: &State,
    epoch: i64,
    may_be_alone: bool,
    summons: Option<Wish>,
    before: Option<&Presence>,
    now: Timestamp,
) -> Presence {
    let participants = i32::try_from(state.members.len()).unwrap_or(i32::MAX);
    let least = state.members.values().map(|member| member.acked).min().unwrap_or(epoch);
    let reached = if state.has_reached(epoch, may_be_alone) { epoch } else { least };
    let has_failed = state.members.values().any(|member| member.failed == epoch && epoch > 0);
    let wishes = state.members.values().filter_map(|member| member.wish);
    let wish = wishes.chain(summons).min_by_key(|wish| wish.since);
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

/// Whether it says something that only a replica with the room's people, or with somebody who asks for a media node, can say:
/// if there is none, it is not so any more.
pub fn claims(presence: &Presence) -> bool {
    presence.participants > 0 || presence.sfu_wanted.is_some()
}

/// Whether as many people are in the room as may be, as far as was written. That may be seconds ago, or before an outage; what
/// nobody has written says nothing.
pub fn is_full(room: &CallRoom) -> bool {
    let presence = room.status.as_ref().and_then(|s| s.presence.as_ref());
    presence.is_some_and(|presence| presence.participants >= room.spec.max_participants)
}

/// Whether it has to be told that nobody is in a room that nobody has ever been in: it would never end by its
/// `emptyTimeoutSeconds` otherwise, since what is not known is not zero. Where media flows through a node, the node tells.
pub fn is_unattended(room: &CallRoom, now: Timestamp) -> bool {
    let status = room.status.as_ref();
    let is_p2p = status.and_then(|s| s.route.as_ref()).is_some_and(|route| route.mode == RouteMode::P2p);
    let is_unknown = status.is_some_and(|s| s.presence.is_none());
    let made = room.metadata.creation_timestamp.as_ref();
    let is_old = made.is_some_and(|made| now.duration_since(made.0) >= UNATTENDED);
    !room.is_over() && is_p2p && is_unknown && is_old && room.spec.lifetime.empty_timeout_seconds.is_some()
}

/// When to write.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Writer {
    /// What the API server has, as far as is known.
    written: Option<Presence>,
    in_flight: Option<Presence>,
    /// After a failure.
    not_before: Duration,
    /// When as many writes would have been made at an even pace.
    paced: Duration,
    failures: u32,
}

impl Writer {
    /// The API server has `presence`.
    pub fn has(&mut self, presence: Option<Presence>) {
        if self.in_flight.is_none() {
            self.written = presence;
        }
    }

    /// When `wanted` can be written; `None` if that is there already, or a write is under way. That nobody came is only
    /// written where it is `asked` for.
    pub fn due(&self, wanted: &Presence, asked: bool) -> Option<Duration> {
        let nobody_came = self.written.is_none() && wanted.participants == 0 && !asked;
        let is_there = self.written.as_ref() == Some(wanted);
        let at = self.paced.saturating_sub(PACE * (BURST - 1)).max(self.not_before);
        (self.in_flight.is_none() && !is_there && !nobody_came).then_some(at)
    }

    /// A write begins.
    pub fn begin(&mut self, now: Duration, wanted: &Presence) {
        self.in_flight = Some(wanted.clone());
        self.paced = self.paced.max(now) + PACE;
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
    use crate::signal::{member::Member, state::tests::member};

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
        let first = of(&state, 2, false, None, None, now);
        let expected = Presence { participants: 2, since: Time(now), epoch: Some(1), failed: None, sfu_wanted: None };
        assert_eq!(first, expected);
        let later = Timestamp::from_second(200).unwrap();
        state.members.insert("bob".into(), Member { acked: 2, ..member("bob", "c", 2) });
        let second = of(&state, 2, false, None, Some(&first), later);
        assert_eq!((second.epoch, &second.since), (Some(2), &Time(now)), "the number is the same");
        let wish = Wish { reason: SfuReason::PacketLoss, since: later };
        state.members.insert("cat".into(), Member { failed: 2, wish: Some(wish), ..member("cat", "c", 0) });
        let third = of(&state, 2, false, None, Some(&second), later);
        assert_eq!(
            (third.participants, &third.since, third.epoch),
            (3, &Time(later), Some(2)),
            "who comes later undoes nothing"
        );
        assert_eq!(third.failed.map(|failed| failed.epoch), Some(2));
        assert_eq!(third.sfu_wanted.map(|wanted| wanted.reason), Some(SfuReason::PacketLoss));
        let next = of(&state, 3, false, None, Some(&second), later);
        assert_eq!(next.failed, None, "that was another epoch");
        let nobody = of(&State::default(), 3, false, None, Some(&second), later);
        assert_eq!((nobody.participants, nobody.epoch), (0, Some(3)));

        // Somebody without a socket, alone and with others: who asked first is named.
        let summons = |since| Wish { reason: SfuReason::Requested, since };
        let visited = of(&State::default(), 3, false, Some(summons(now)), None, now);
        let wanted = visited.sfu_wanted.clone().unwrap();
        assert_eq!((visited.participants, wanted.reason, wanted.since), (0, SfuReason::Requested, Time(now)));
        assert!(claims(&visited) && !claims(&nobody) && claims(&first));
        for (since, first) in
            [(now, SfuReason::Requested), (later + SignedDuration::from_secs(1), SfuReason::PacketLoss)]
        {
            let both = of(&state, 2, false, Some(summons(since)), Some(&second), later);
            assert_eq!(both.sfu_wanted.unwrap().reason, first);
        }
    }

    #[test]
    fn some_changes_are_written_at_once_and_then_one_a_second() {
        let mut writer = Writer::default();
        let since = Time(Timestamp::UNIX_EPOCH);
        let of =
            |participants| Presence { participants, since: since.clone(), epoch: None, failed: None, sfu_wanted: None };
        let due = |writer: &Writer, participants| writer.due(&of(participants), false);
        assert_eq!(due(&writer, 0), None, "an empty room costs nothing");
        assert_eq!(writer.due(&of(0), true), Some(at(0)), "unless it has to be known");
        assert_eq!(due(&writer, 1), Some(at(0)));
        for participants in 1..=3 {
            assert!(due(&writer, participants) <= Some(at(5)), "{participants}");
            writer.begin(at(5), &of(participants));
            assert_eq!(due(&writer, 9), None, "one write at a time");
            writer.end(at(5), true);
        }
        assert_eq!((due(&writer, 3), due(&writer, 4)), (None, Some(at(6))), "so many at once");
        writer.begin(at(6), &of(4));
        writer.end(at(6), true);
        assert_eq!(due(&writer, 5), Some(at(7)));
        writer.begin(at(7), &of(2));
        writer.end(at(14), false);
        assert_eq!(due(&writer, 2), Some(at(15)));
        writer.begin(at(15), &of(2));
        writer.end(at(15), false);
        assert_eq!(due(&writer, 2), Some(at(17)), "longer after each failure");
        for _ in 0..9 {
            writer.begin(at(20), &of(2));
            writer.end(at(20), false);
        }
        assert_eq!(due(&writer, 2), Some(at(35)));
        writer.has(Some(of(7)));
        assert_eq!(due(&writer, 7), None);
    }

    #[test]
    fn that_nobody_ever_came_is_told_of_rooms_that_end_by_it() {
        let room = |change: serde_json::Value| -> CallRoom {
            let mut room = serde_json::json!({
                "apiVersion": "callplane.io/v1alpha1", "kind": "CallRoom",
                "metadata": {"name": "r", "creationTimestamp": "2026-11-21T14:00:00Z"},
                "spec": {"maxParticipants": 4, "lifetime": {"emptyTimeoutSeconds": 60}},
                "status": {"route": {"epoch": 1, "mode": "P2P", "reason": "Scheduled", "since": "2026-11-21T14:00:00Z"}},
            });
            json_patch(&mut room, change);
            serde_json::from_value(room).unwrap()
        };
        let made: Timestamp = "2026-11-21T14:00:00Z".parse().unwrap();
        let is = |change, seconds| is_unattended(&room(change), made + SignedDuration::from_secs(seconds));
        let json = |text: &str| serde_json::from_str(text).unwrap();
        assert!(is(json("{}"), 30) && !is(json("{}"), 29));
        for other in [
            r#"{"spec": {"lifetime": {"emptyTimeoutSeconds": null}}}"#,
            r#"{"spec": {"ended": true}}"#,
            r#"{"status": {"route": {"mode": "SFU", "node": "mn-a"}}}"#,
            r#"{"status": {"route": null}}"#,
            r#"{"status": {"presence": {"participants": 0, "since": "2026-11-21T14:00:01Z"}}}"#,
        ] {
            assert!(!is(json(other), 90), "{other}");
        }
    }

    #[test]
    fn a_room_is_full_when_that_was_written() {
        let room = |presence: serde_json::Value| -> CallRoom {
            let room = serde_json::json!({
                "apiVersion": "callplane.io/v1alpha1", "kind": "CallRoom", "metadata": {"name": "r"},
                "spec": {"maxParticipants": 4}, "status": {"presence": presence},
            });
            serde_json::from_value(room).unwrap()
        };
        let of = |participants: i32| serde_json::json!({"participants": participants, "since": "2026-11-21T14:00:00Z"});
        for (presence, expected) in
            [(serde_json::Value::Null, false), (of(0), false), (of(3), false), (of(4), true), (of(5), true)]
        {
            assert_eq!(is_full(&room(presence.clone())), expected, "{presence}");
        }
    }

    /// RFC 7396.
    fn json_patch(target: &mut serde_json::Value, patch: serde_json::Value) {
        let serde_json::Value::Object(patch) = patch else { return *target = patch };
        for (name, change) in patch {
            match change.is_null() {
                true => drop(target.as_object_mut().unwrap().remove(&name)),
                false => json_patch(&mut target[name.as_str()], change),
            }
        }
    }
}
