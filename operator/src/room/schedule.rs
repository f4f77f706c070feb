//! Rooms that begin later: they take no place before their time.

use std::time::Duration;

use callplane_crds::{
    CallRoom, CallRoomStatus,
    callroom::Phase,
    condition::{self, Status, condition},
};

use crate::clock::Now;

/// Why a room is not placed.
pub const NOT_YET: &str = "NotYet";

/// What is to be said about a room that is too early, and when it is its time.
pub fn too_early(room: &CallRoom, current: &CallRoomStatus, now: Now) -> Option<(CallRoomStatus, Duration)> {
    let opens = room.opens_at()?;
    let rest = Duration::try_from(opens.duration_since(now.wall)).ok().filter(|rest| !rest.is_zero())?;
    let generation = room.metadata.generation;
    let condition = |type_, message: String| {
        condition(&current.conditions, type_, Status::False, NOT_YET, message, generation, now.wall_seconds())
    };
    let status = CallRoomStatus {
        observed_generation: generation,
        phase: Some(Phase::Pending),
        conditions: vec![
            condition(condition::room::PLACED, format!("is placed at {opens}, 10 minutes before its scheduledTime")),
            condition(condition::room::READY, String::new()),
        ],
        ..CallRoomStatus::default()
    };
    Some((status, rest))
}

#[cfg(test)]
mod tests {
    use callplane_crds::mediapool::Placement;
    use jiff::{SignedDuration, Timestamp};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::{
        cluster::fixtures::{at, cluster, key, node, placed, renew, reporting, room, wall},
        room::{
            decide::{Plan, Verdict, decide},
            observe::observe,
        },
    };

    /// What is decided at `seconds` about a room that begins `minutes` after the start.
    fn look(minutes: i64, seconds: u64, change: impl Fn(&mut CallRoom)) -> Plan {
        let mut scheduled = room("r", 1, 4);
        scheduled.spec.scheduled_time = Some(Time(wall(0) + SignedDuration::from_mins(minutes)));
        change(&mut scheduled);
        let mut cluster = cluster(&[("a", 10)], Placement::Packed);
        cluster.apply_room(scheduled, at(0).mono);
        decide(&observe(&cluster, &key("r"), at(seconds)).unwrap(), at(seconds))
    }

    #[test]
    fn a_room_is_placed_ten_minutes_before_its_time_and_takes_no_place_until_then() {
        let early = look(30, 5, |_| {});
        let status = early.status.clone().unwrap();
        let placed = &status.conditions[0];
        assert_eq!((status.phase, &status.route, early.assume), (Some(Phase::Pending), &None, None));
        assert_eq!((placed.status.as_str(), placed.reason.as_str()), ("False", NOT_YET));
        assert_eq!(
            (early.again, early.waits),
            (Some(Duration::from_secs(20 * 60 - 5)), false),
            "it waits for no capacity"
        );
        let told = look(30, 6, |room| room.status = Some(status.clone()));
        assert_eq!((told.status, told.verdict), (None, Verdict::Unchanged), "it is said once");
        let due = look(30, 20 * 60, |room| room.status = Some(status.clone()));
        assert_eq!(due.verdict, Verdict::Placed { node: "a".into() });
        assert_eq!(look(5, 0, |_| {}).verdict, Verdict::Placed { node: "a".into() });
        assert_eq!(look(-60, 0, |_| {}).verdict, Verdict::Placed { node: "a".into() });
    }

    #[test]
    fn nobody_need_be_there_before_it_begins() {
        let mut scheduled = placed("r", 1, 4, "a");
        scheduled.spec.lifetime.empty_timeout_seconds = Some(30);
        scheduled.spec.scheduled_time = Some(Time(wall(600)));
        let mut cluster = cluster(&[("a", 10)], Placement::Packed);
        cluster.apply_room(scheduled, at(0).mono);
        let mut look = |version, seconds| {
            renew(&mut cluster, ["a"], seconds);
            let empty = reporting(node("a", version, 10), version, seconds, &[("r", 1, 0)]);
            cluster.apply_node(empty, at(seconds).mono);
            decide(&observe(&cluster, &key("r"), at(seconds)).unwrap(), at(seconds))
        };
        let early = look(2, 100);
        assert_eq!((early.verdict, early.again), (Verdict::Unchanged, Some(Duration::from_secs(530))));
        assert_eq!(look(3, 630).verdict, Verdict::Ended("EmptyTimeout"));
    }

    #[test]
    fn how_long_a_call_may_last_counts_from_when_it_begins() {
        let lasting = |minutes: Option<i64>, seconds| {
            let mut room = placed("r", 1, 4, "a");
            room.spec.lifetime.max_duration_seconds = Some(60);
            room.spec.scheduled_time = minutes.map(|m| Time(wall(0) + SignedDuration::from_mins(m)));
            let mut cluster = cluster(&[("a", 10)], Placement::Packed);
            cluster.apply_room(room, at(0).mono);
            let plan = decide(&observe(&cluster, &key("r"), at(seconds)).unwrap(), at(seconds));
            (plan.verdict, plan.again.map(|rest| rest.as_secs()))
        };
        let over = || Verdict::Ended("MaxDuration");
        for (begins, now, expected) in [
            (None, 59, (Verdict::Unchanged, Some(1))),
            (None, 60, (over(), None)),
            (Some(10), 599, (Verdict::Unchanged, Some(61))),
            (Some(10), 660, (over(), None)),
            // It was to have begun earlier than it could.
            (Some(-10), 59, (Verdict::Unchanged, Some(1))),
        ] {
            assert_eq!(lasting(begins, now), expected, "{begins:?} at {now}");
        }
    }

    #[test]
    fn a_call_that_has_begun_is_not_closed_by_another_time() {
        let mut begun = placed("r", 1, 4, "a");
        begun.spec.scheduled_time = Some(Time(wall(86_400)));
        let mut lost = begun.clone();
        lost.status.as_mut().unwrap().route = None;
        for (room, expected) in [(begun, Verdict::Unchanged), (lost, Verdict::Placed { node: "a".into() })] {
            let mut cluster = cluster(&[("a", 10)], Placement::Packed);
            cluster.apply_room(room, at(0).mono);
            assert_eq!(decide(&observe(&cluster, &key("r"), at(5)).unwrap(), at(5)).verdict, expected);
        }
    }

    #[test]
    fn times_that_nobody_meant_do_no_harm() {
        for begins in [Timestamp::MIN, Timestamp::MAX] {
            let plan = look(0, 5, |room| room.spec.scheduled_time = Some(Time(begins)));
            match begins == Timestamp::MIN {
                true => assert_eq!(plan.verdict, Verdict::Placed { node: "a".into() }),
                false => assert!(plan.again > Some(Duration::from_secs(86_400))),
            }
        }
    }

    #[test]
    fn a_room_that_was_ended_before_its_time_is_over() {
        assert_eq!(look(30, 5, |room| room.spec.ended = true).verdict, Verdict::Ended("EndedBySpec"));
    }
}
