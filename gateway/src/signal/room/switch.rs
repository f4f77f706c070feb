//! Moving everybody from one route to the next.

use std::{sync::Arc, time::Duration};

use callplane_crds::{CallRoom, presence::SfuReason};

use super::Room;
use crate::{
    Problem,
    rooms::annotations,
    signal::{
        answer::{Locked, ModeSwitch, ModeSwitched, Ticket},
        member::{Change, Participant, Wish},
        message::RouteAck,
        quality::Window,
        route::{Leg, Mode, Routes, offers_to},
    },
};

/// How long a client may take to have media on a route, each time that it is told.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How often it is told.
const TRIES: u8 = 2;

/// What a client was told of the present route.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Told {
    epoch: i64,
    tries: u8,
    deadline: Option<Duration>,
}

/// What to do about a client that has no media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Tell it again.
    Again,
    /// It cannot.
    Failed,
}

impl Told {
    /// It was told of `epoch` for the first time; an answer is waited for where that is a switch.
    pub(super) fn new(epoch: i64, is_switch: bool, now: Duration) -> Self {
        Self { epoch, tries: 1, deadline: is_switch.then(|| now + ANSWER_WITHIN) }
    }

    /// Media flows.
    fn reached(&mut self) {
        self.deadline = None;
    }

    /// It does not, or the time is up.
    fn missed(&mut self, now: Duration) -> Next {
        if self.tries < TRIES {
            self.tries += 1;
            self.deadline = Some(now + ANSWER_WITHIN);
            return Next::Again;
        }
        self.deadline = None;
        Next::Failed
    }
}

impl Room {
    /// Epoch of the present route; 0: there is none.
    pub(super) fn epoch(&self) -> i64 {
        self.routes.current.as_ref().map_or(0, |leg| leg.epoch)
    }

    pub(super) fn is_p2p(&self) -> bool {
        self.routes.current.as_ref().is_some_and(|leg| leg.mode == Mode::P2p)
    }

    /// A token of `epoch` for somebody, and what goes with it.
    pub(super) fn ticket(&self, who: &Participant, epoch: i64) -> Result<Ticket, Problem> {
        let pass = self.gateway.pass(&self.room, &who.user_id, who.display_name.as_deref(), &who.role, epoch)?;
        let ice_servers = self.gateway.ice_servers(&self.room, &who.user_id);
        Ok(Ticket { token: pass.token, expires_at: pass.expires_at, ice_servers })
    }

    /// The room changed, or was deleted.
    pub(super) async fn observe(&mut self, room: Option<Arc<CallRoom>>) {
        let Some(room) = room.filter(|room| room.metadata.uid.as_deref() == Some(&*self.uid)) else {
            return self.end("deleted");
        };
        if room.is_over() {
            return self.end("ended");
        }
        self.room = room;
        let presence = self.room.status.as_ref().and_then(|s| s.presence.clone());
        if !self.is_owner {
            self.presence.clone_from(&presence);
        }
        self.writer.has(presence);
        let locked = annotations::is_locked(&self.room);
        if locked != self.locked {
            self.locked = locked;
            let room = Arc::clone(&self.room);
            let by = annotations::text(&room, annotations::LOCKED_BY);
            self.tell_all("call:locked", &Locked { locked, by }, |_| true);
        }
        let routes = Routes::of(&self.room);
        let before = std::mem::replace(&mut self.routes, routes);
        let is_new = self
            .routes
            .current
            .as_ref()
            .is_some_and(|leg| before.current.as_ref().is_none_or(|before| leg.epoch > before.epoch));
        if is_new {
            self.undo(before.current.as_ref());
            self.capabilities.retain(|epoch, _| self.routes.nodes().any(|served| served == *epoch));
            self.is_moving = true;
            self.moving_since = self.gateway.clock.now().mono;
            if !self.must_ask_node() {
                self.announce();
            }
        } else if before.previous.is_some() && self.routes.previous.is_none() {
            self.complete();
        }
        self.follow_media();
        for request in std::mem::take(&mut self.waiting) {
            self.join(Box::new(request)).await;
        }
    }

    /// Where the new route undoes the one that clients were moving to, they are told so first.
    fn undo(&mut self, before: Option<&Leg>) {
        let is_roll_back = self.routes.current.as_ref().is_some_and(Leg::is_roll_back);
        let Some(before) = before.filter(|before| is_roll_back && self.completed < before.epoch) else { return };
        let failed = ModeSwitched { route: before.view(), success: false };
        self.tell_all("call:mode-switched", &failed, |_| true);
    }

    /// Tells everybody here to move to the present route.
    pub(super) fn announce(&mut self) {
        let epoch = self.epoch();
        let now = self.gateway.clock.now().mono;
        if !std::mem::take(&mut self.is_moving) {
            return;
        }
        self.announced = epoch;
        self.trace_switch("announced");
        let behind = self.clients.iter().filter(|(_, client)| client.told.epoch < epoch);
        for user in behind.map(|(user, _)| user.clone()).collect::<Vec<_>>() {
            self.tell_route(&user);
            if let Some(client) = self.clients.get_mut(&user) {
                client.told = Told::new(epoch, true, now);
                client.window = Window::new(now);
            }
        }
        self.count();
    }

    /// Tells one client of the present route.
    fn tell_route(&mut self, user: &str) {
        let Some(leg) = self.routes.current.clone() else { return };
        let Some(client) = self.clients.get(user) else { return };
        let ticket = match self.ticket(&client.member.participant, leg.epoch) {
            Ok(ticket) => ticket,
            Err(problem) => {
                tracing::warn!(code = problem.code().text(), "a client cannot be given a token for its route");
                return;
            }
        };
        let others = self.state.members.keys().map(String::as_str).filter(|other| *other != user);
        let switch = ModeSwitch {
            route: leg.view(),
            reason: &leg.reason,
            ticket,
            api_url: self.gateway.api_url(&self.id),
            rtp_capabilities: self.capability(leg.epoch),
            initiator: if leg.mode == Mode::P2p { offers_to(user, others) } else { vec![] },
        };
        let switch = crate::signal::answer::value(&switch);
        let refresh = self.refresh_at(self.gateway.clock.now().mono);
        if let Some(client) = self.clients.get_mut(user) {
            client.outlet.tell("call:mode-switch", &switch);
            client.refresh = refresh;
        }
    }

    /// How far a switch is, and how long after the new route was seen: for whoever looks where the time goes.
    fn trace_switch(&self, step: &'static str) {
        let Some(leg) = self.routes.current.as_ref().filter(|leg| leg.epoch == self.announced) else { return };
        let took = self.gateway.clock.now().mono.saturating_sub(self.moving_since);
        let (room, mode, reason) = (self.id.to_string(), leg.view().mode, &*leg.reason);
        tracing::debug!(room, epoch = leg.epoch, mode, reason, step, milliseconds = took.as_millis() as u64, "switch");
    }

    /// Everybody has moved, or the old route is gone: once for each epoch, the clients are told so.
    pub(super) fn complete(&mut self) {
        let Some(leg) = self.routes.current.clone() else { return };
        if self.completed >= leg.epoch {
            return;
        }
        self.completed = leg.epoch;
        self.trace_switch("completed");
        self.tell_all("call:mode-switched", &ModeSwitched { route: leg.view(), success: true }, |_| true);
    }

    /// A client says whether it has media on a route.
    pub(super) async fn acknowledge(&mut self, user: &str, ack: &RouteAck) {
        let epoch = self.epoch();
        if ack.epoch != epoch {
            return;
        }
        let now = self.gateway.clock.now();
        let is_switch = self.routes.previous.is_some();
        let is_p2p = self.is_p2p();
        if is_switch {
            self.trace_switch(if ack.success { "acknowledged" } else { "not reached" });
        }
        let Some(client) = self.clients.get_mut(user) else { return };
        if ack.success {
            client.told.reached();
            if client.member.acked >= epoch {
                return;
            }
            client.member.acked = epoch;
        } else if is_switch {
            return self.fell_short(user).await;
        } else if is_p2p && client.member.wish.is_none_or(|wish| wish.reason != SfuReason::PeerConnectionFailed) {
            client.member.wish = Some(Wish { reason: SfuReason::PeerConnectionFailed, since: now.wall_seconds() });
        } else {
            return;
        }
        let member = client.member.clone();
        let _ = self.commit(Change::Updated { member }).await;
    }

    /// A client has no media on the present route: it is told once more, and then that is how it is.
    async fn fell_short(&mut self, user: &str) {
        let (now, epoch) = (self.gateway.clock.now().mono, self.epoch());
        let Some(client) = self.clients.get_mut(user) else { return };
        match client.told.missed(now) {
            Next::Again => self.tell_route(user),
            Next::Failed => {
                client.member.failed = epoch;
                let member = client.member.clone();
                let _ = self.commit(Change::Updated { member }).await;
            }
        }
    }

    /// Those whose time for the present route is up.
    pub(super) async fn overdue(&mut self) {
        let now = self.gateway.clock.now().mono;
        let is_up = |told: &Told| told.deadline.is_some_and(|deadline| deadline <= now);
        let late = self.clients.iter().filter(|(_, client)| is_up(&client.told));
        for user in late.map(|(user, _)| user.clone()).collect::<Vec<_>>() {
            self.fell_short(&user).await;
        }
    }

    /// When the next client's time is up.
    pub(super) fn next_overdue(&self) -> Option<Duration> {
        self.clients.values().filter_map(|client| client.told.deadline).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_told_twice_and_then_it_cannot() {
        let at = Duration::from_secs;
        let mut told = Told::new(3, true, at(0));
        assert_eq!(told.deadline, Some(at(10)));
        assert_eq!((told.missed(at(4)), told.deadline), (Next::Again, Some(at(14))));
        assert_eq!((told.missed(at(14)), told.deadline), (Next::Failed, None));
        let mut told = Told::new(3, true, at(0));
        told.reached();
        assert_eq!(told.deadline, None);
        assert_eq!(Told::new(1, false, at(0)).deadline, None, "outside of a switch nobody waits");
    }
}
