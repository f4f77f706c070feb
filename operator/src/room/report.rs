//! Tells what was decided about a room: log, metrics, and an event where a person would ask.

use std::time::Duration;

use callplane_crds::{CallRoom, RouteMode};
use kube::runtime::events::EventType;

use super::{
    decide::{Move, Plan, Verdict, end},
    place::Refusal,
};
use crate::{
    api::WriteError,
    clock::Now,
    cluster::{RoomKey, trail::reason},
    context::Context,
    metrics::{Change, End},
};

/// Characters of the gateway's words in an event; the API server takes 1024 bytes for all of it.
const QUOTED: usize = 200;

/// How a look at a room went.
pub struct Outcome<'a> {
    /// Which room.
    pub key: &'a RoomKey,
    /// The room that was decided about.
    pub room: &'a CallRoom,
    /// What was decided.
    pub plan: &'a Plan,
    /// When its route came, before this look.
    pub moved: Option<Duration>,
    /// Why it could not be done.
    pub error: Option<&'a WriteError>,
    /// When it was done.
    pub now: Now,
}

/// Reports the outcome of one look at a room.
pub fn report(outcome: &Outcome<'_>, ctx: &Context) {
    let Outcome { key, room, plan, now, .. } = *outcome;
    if let Some(error) = outcome.error {
        match error {
            WriteError::Refused { .. } => tracing::warn!(room = %key, %error, "room not written"),
            _ => tracing::debug!(room = %key, %error, "room not written"),
        }
        if let WriteError::Refused { .. } = error {
            ctx.events.tell(room, EventType::Warning, "StatusRefused", "UpdateStatus", error.to_string());
        }
        return;
    }
    count_route(outcome, ctx);
    match &plan.verdict {
        Verdict::Placed { .. } | Verdict::Opened => {
            let first_seen = ctx.cluster().room(key).map(|r| r.first_seen);
            let took = first_seen.map(|at| now.mono.saturating_sub(at)).unwrap_or_default();
            ctx.metrics.placement_seconds.observe(took.as_secs_f64());
            let node = if let Verdict::Placed { node } = &plan.verdict { node } else { "none" };
            tracing::info!(room = %key, node, ms = took.as_millis(), "placed");
        }
        Verdict::Rerouted { from, to } => {
            let lost = ctx.cluster().node(from).and_then(|n| n.lost.as_ref().map(|l| l.since).or(n.gone));
            if let Some(since) = lost {
                ctx.metrics.reroute_seconds.observe(now.mono.saturating_sub(since).as_secs_f64());
            }
            tracing::warn!(room = %key, from, to, "routed away from a lost node");
            let note = format!("media node {from} is lost; the call goes on on {to}");
            ctx.events.tell(room, EventType::Warning, reason::NODE_LOST, "Reroute", note);
        }
        Verdict::Switched { from, to } => {
            tracing::info!(room = %key, from = from.as_str(), to = to.mode.as_str(), epoch = to.epoch, reason = to.reason, "switched");
            let failure = [reason::ROLLED_BACK, reason::NODE_LOST].contains(&to.reason.as_str());
            let type_ = if failure { EventType::Warning } else { EventType::Normal };
            ctx.events.tell(room, type_, &to.reason, "SwitchRoute", note(room, to));
        }
        Verdict::Settled(why) => tracing::info!(room = %key, why = why.as_str(), "the old route is let go"),
        Verdict::Refused(refusal) if plan.status.is_some() => {
            tracing::warn!(room = %key, reason = refusal.reason(), %refusal, "no node takes the room");
            ctx.events.tell(room, EventType::Warning, refusal.reason(), "Place", refused(room, refusal));
        }
        Verdict::Ended(reason) => {
            tracing::info!(room = %key, reason, "ended");
            // Whoever set spec.ended knows.
            if *reason != end::BY_SPEC {
                ctx.events.tell(room, EventType::Normal, reason, "End", end::in_words(reason).to_owned());
            }
        }
        Verdict::Expired => tracing::info!(room = %key, "deleted after its time"),
        Verdict::Refused(_) | Verdict::Updated | Verdict::Unchanged => {}
    }
}

/// Counts a new route, and the end of a move.
fn count_route(outcome: &Outcome<'_>, ctx: &Context) {
    let change = |mode: RouteMode, reason: &str| {
        ctx.metrics.route_changes.get_or_create(&Change { mode: mode.as_str(), reason: reason.to_owned() }).inc();
    };
    let end = |end: &'static str| {
        if let Some(moved) = outcome.moved {
            let took = outcome.now.mono.saturating_sub(moved);
            ctx.metrics.switch_seconds.get_or_create(&End { end }).observe(took.as_secs_f64());
        }
    };
    match &outcome.plan.verdict {
        Verdict::Placed { .. } => change(RouteMode::Sfu, reason::SCHEDULED),
        Verdict::Opened => change(RouteMode::P2p, reason::SCHEDULED),
        Verdict::Rerouted { .. } => change(RouteMode::Sfu, reason::NODE_LOST),
        Verdict::Switched { to, .. } => {
            change(to.mode, &to.reason);
            if to.reason == reason::ROLLED_BACK {
                end("rolled-back");
            }
        }
        Verdict::Settled(why) => end(why.as_str()),
        _ => {}
    }
}

/// A switch in words for people.
fn note(room: &CallRoom, to: &Move) -> String {
    let presence = room.status.as_ref().and_then(|s| s.presence.as_ref());
    let people = presence.map_or(0, |p| p.participants);
    let goes = format!("media now flows {} (epoch {})", to.place, to.epoch);
    match to.reason.as_str() {
        reason::GROWN => format!("{people} people are too many for peer to peer: {goes}"),
        reason::SHRUNK => format!("{people} people need no media node: {goes}"),
        reason::PACKET_LOSS => format!("too many packets are lost peer to peer: {goes}"),
        reason::PEER_CONNECTION_FAILED => format!("people did not reach each other peer to peer: {goes}"),
        reason::NODE_LOST => format!("its media node is lost and no other takes it: {goes}"),
        reason::ROLLED_BACK => {
            let failed = presence.and_then(|p| p.failed.as_ref());
            let why = failed.map_or_else(String::new, |f| quoted(&f.reason));
            format!("the new route could not be reached by all ({why}): {goes}")
        }
        _ => format!("asked for: {goes}"),
    }
}

fn refused(room: &CallRoom, refusal: &Refusal) -> String {
    let route = room.status.as_ref().and_then(|s| s.route.as_ref());
    let prefix = if route.is_some_and(|r| r.mode == RouteMode::P2p) { "the call goes on peer to peer; " } else { "" };
    format!("{prefix}{refusal}")
}

/// Others' words, cut, and in one line.
fn quoted(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(QUOTED).collect()
}

#[cfg(test)]
mod tests {
    use callplane_crds::{CallRoomStatus, Presence, presence::FailedRoute};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::cluster::fixtures::{placed, wall};

    #[test]
    fn every_switch_says_why_and_where_to_in_words_that_fit_an_event() {
        let failed = FailedRoute { epoch: 2, reason: "ICE\nfailed ☎".repeat(500) };
        let presence =
            Presence { participants: 3, since: Time(wall(0)), epoch: None, failed: Some(failed), sfu_wanted: None };
        let mut room = placed("r", 1, 4, "a");
        room.status = Some(CallRoomStatus { presence: Some(presence), ..room.status.unwrap_or_default() });
        let words = |reason: &str| {
            let place = "on media node a".to_owned();
            note(&room, &Move { epoch: 3, mode: RouteMode::Sfu, place, reason: reason.to_owned() })
        };
        assert_eq!(
            words(reason::GROWN),
            "3 people are too many for peer to peer: media now flows on media node a (epoch 3)"
        );
        for reason in [
            reason::SHRUNK,
            reason::PACKET_LOSS,
            reason::PEER_CONNECTION_FAILED,
            reason::REQUESTED,
            reason::NODE_LOST,
            reason::ROLLED_BACK,
        ] {
            let words = words(reason);
            assert!(words.ends_with("media now flows on media node a (epoch 3)") && words.len() < 1024, "{words}");
            assert!(!words.contains('\n'), "{words}");
        }
    }
}
