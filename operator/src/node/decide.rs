//! The verdict on a node.
//!
//! A pod that ended or was deleted is proof. A lease that expired is none: the node, the API server or
//! we ourselves may have been cut off. It takes the lease *and* the node's silence towards us.
//! From the last sign of life to the verdict: at most 8 s of lease and 2 s of probes.
//!
//! That a cache does not show something is no proof either: a watch may lag, and one that selects by label shows the
//! deletion of what was merely relabelled. So the API server is asked for the object itself, and nothing but its
//! "not found" (or another object under the same name) counts.

use std::time::Duration;

use super::observe::{Absent, World, until};
use crate::{
    clock::Now,
    cluster::{
        liveness::LeaseState,
        node::{LossCause, PodSight},
    },
};

/// How often a node is asked that answers although its lease expired.
pub const PROBE_AGAIN: Duration = Duration::from_secs(2);
/// How often the API server is asked about one object that the caches do not show.
pub const ASK_AGAIN: Duration = Duration::from_secs(5);

/// What to do about a node.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// Nothing, until the time given.
    Rest(Option<Duration>),
    /// It is lost.
    Lose(LossCause),
    /// Say in its status that it is lost.
    Mark(LossCause),
    /// Its MediaNode is not in the cache: ask the API server whether it is gone, or another bears its name.
    ConfirmNode(Option<String>),
    /// Its pod is not in the cache: ask the API server whether it is gone.
    ConfirmPod,
    /// Its lease expired: ask it whether it lives, unless it is likelier that we are at fault.
    Probe,
}

/// Decides about one node.
pub fn decide(world: &World, now: Now) -> Plan {
    let may_ask = world.asked.map_or(Duration::ZERO, |at| at + ASK_AGAIN);
    let asks = now.mono >= may_ask;
    if let Some(absent) = &world.absent {
        return match absent {
            Absent { gone: true, .. } => Plan::Rest(None),
            Absent { uid, .. } if asks => Plan::ConfirmNode(uid.clone()),
            _ => Plan::Rest(Some(until(may_ask, now))),
        };
    }
    let pod_in_doubt = world.is_managed
        && match world.pod {
            PodSight::Left { .. } => true,
            PodSight::Unseen => world.has_run,
            _ => false,
        };
    if let Some(lost) = &world.lost {
        // A pod can end after its node fell silent: then it cannot come back any more.
        return match pod_verdict(world) {
            Some(cause) if !lost.cause.is_final() => Plan::Lose(cause),
            _ if !world.is_marked => Plan::Mark(lost.cause.clone()),
            _ if lost.cause.is_final() || !pod_in_doubt => Plan::Rest(None),
            _ if asks => Plan::ConfirmPod,
            _ => Plan::Rest(Some(until(may_ask, now))),
        };
    }
    if let Some(cause) = pod_verdict(world) {
        return Plan::Lose(cause);
    }
    if pod_in_doubt && asks {
        return Plan::ConfirmPod;
    }
    let ask_again = pod_in_doubt.then(|| until(may_ask, now));
    match world.lease {
        // Before its first lease a node carries nothing.
        LeaseState::Absent => Plan::Rest(ask_again),
        LeaseState::Fresh(at) | LeaseState::Unheard(at) => {
            Plan::Rest(Some(ask_again.map_or(until(at, now), |rest| rest.min(until(at, now)))))
        }
        LeaseState::Expired => Plan::Probe,
    }
}

fn pod_verdict(world: &World) -> Option<LossCause> {
    match &world.pod {
        PodSight::Ended(how) if world.is_managed => Some(LossCause::PodEnded(how.clone())),
        PodSight::Gone if world.is_managed => Some(LossCause::PodGone),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::cluster::node::Lost;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn there() -> PodSight {
        PodSight::There { uid: "u".into(), ready: true, terminating: false }
    }

    #[test]
    fn a_pod_is_proof_and_a_lease_alone_is_not() {
        let now = Now { mono: s(100), wall: Timestamp::UNIX_EPOCH };
        let world = World {
            is_managed: true,
            has_run: true,
            pod: there(),
            lease: LeaseState::Fresh(s(104)),
            lost: None,
            is_marked: false,
            absent: None,
            asked: None,
        };
        let absent = |gone| Some(Absent { gone, uid: Some("u".into()) });
        let soon = |milliseconds| Plan::Rest(Some(Duration::from_millis(milliseconds)));
        let left = || PodSight::Left { uid: Some("u".into()) };
        let ended = || PodSight::Ended("container media-node ended with exit code 137 (OOMKilled)".into());
        let ended_cause = || LossCause::PodEnded("container media-node ended with exit code 137 (OOMKilled)".into());
        let silent = Lost { since: s(90), cause: LossCause::Silent, renewed: None };
        let cases: Vec<(World, Plan)> = vec![
            (world.clone(), Plan::Rest(Some(Duration::from_millis(4005)))),
            (World { lease: LeaseState::Expired, ..world.clone() }, Plan::Probe),
            (
                World { lease: LeaseState::Unheard(s(101)), ..world.clone() },
                Plan::Rest(Some(Duration::from_millis(1005))),
            ),
            (World { lease: LeaseState::Absent, ..world.clone() }, Plan::Rest(None)),
            (World { pod: ended(), ..world.clone() }, Plan::Lose(ended_cause())),
            (World { pod: PodSight::Gone, ..world.clone() }, Plan::Lose(LossCause::PodGone)),
            (World { pod: PodSight::Unseen, ..world.clone() }, Plan::ConfirmPod),
            (
                World { pod: PodSight::Unseen, has_run: false, ..world.clone() },
                Plan::Rest(Some(Duration::from_millis(4005))),
            ),
            (
                World { pod: PodSight::Unseen, is_managed: false, ..world.clone() },
                Plan::Rest(Some(Duration::from_millis(4005))),
            ),
            (World { pod: left(), has_run: false, ..world.clone() }, Plan::ConfirmPod),
            (World { pod: left(), asked: Some(s(97)), ..world.clone() }, soon(2005)),
            (
                World { pod: left(), asked: Some(s(97)), lease: LeaseState::Expired, ..world.clone() },
                Plan::Probe, // Whatever is known of its pod, its silence speaks.
            ),
            (World { pod: left(), asked: Some(s(95)), ..world.clone() }, Plan::ConfirmPod),
            (World { pod: left(), is_managed: false, ..world.clone() }, soon(4005)),
            (World { absent: absent(false), ..world.clone() }, Plan::ConfirmNode(Some("u".into()))),
            (World { absent: absent(false), asked: Some(s(96)), ..world.clone() }, soon(1005)),
            (World { absent: absent(true), ..world.clone() }, Plan::Rest(None)),
            (World { lost: Some(silent.clone()), is_marked: true, pod: left(), ..world.clone() }, Plan::ConfirmPod),
            (World { lost: Some(silent.clone()), pod: left(), ..world.clone() }, Plan::Mark(LossCause::Silent)),
            (World { lost: Some(silent.clone()), ..world.clone() }, Plan::Mark(LossCause::Silent)),
            (World { lost: Some(silent.clone()), is_marked: true, ..world.clone() }, Plan::Rest(None)),
            (World { lost: Some(silent), is_marked: true, pod: ended(), ..world }, Plan::Lose(ended_cause())),
        ];
        for (world, expected) in cases {
            assert_eq!(decide(&world, now), expected, "{world:?}");
        }
    }
}
