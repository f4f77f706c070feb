//! What is written to the CallRoom, who writes it, and when a room has to do something by itself.

use std::time::Duration;

use callplane_crds::TopologyMode;
use jiff::Timestamp;

use super::{Command, Room};
use crate::signal::{
    member::{Change, Parting},
    presence,
    state::GRACE,
};

/// How often a room's state in the store is looked at, and kept from expiring.
const TOUCH: Duration = Duration::from_secs(3);

impl Room {
    /// How many may talk peer to peer before the call moves; where it never does, as many as may be in it.
    pub(super) fn p2p_max(&self) -> i32 {
        match &self.room.spec.topology {
            Some(topology) if topology.mode == TopologyMode::P2p => self.room.spec.max_participants,
            Some(topology) => topology.p2p_max_participants,
            None => 2,
        }
    }

    pub(super) fn loss_limit(&self) -> f64 {
        f64::from(self.room.spec.topology.as_ref().map_or(5, |topology| topology.packet_loss_percent))
    }

    /// Takes the table's news into what is to be written, and tells when all have moved.
    pub(super) fn count(&mut self) {
        let (epoch, now) = (self.epoch(), self.gateway.clock.now());
        if self.hold.is_some_and(|(before, until)| self.state.members.len() < before && now.mono < until) {
            return;
        }
        self.hold = None;
        let is_news = !self.state.members.is_empty() || self.is_unattended || self.summons.is_some();
        if self.presence.is_none() && !is_news {
            return;
        }
        let now = now.wall_seconds();
        let may_be_alone = self.is_p2p() && self.routes.previous.is_some();
        let summons = self.summons.map(|summons| summons.wish);
        let presence = presence::of(&self.state, epoch, may_be_alone, summons, self.presence.as_ref(), now);
        let reached = presence.epoch;
        self.presence = Some(presence);
        let is_switch = self.routes.previous.is_some() || self.announced == epoch;
        if is_switch && reached.is_some_and(|reached| reached >= epoch) {
            self.complete();
        }
    }

    /// When something is to be written.
    fn due(&self) -> Option<Duration> {
        let presence = self.presence.as_ref().filter(|_| self.is_owner)?;
        self.writer.due(presence, self.is_unattended || presence.sfu_wanted.is_some())
    }

    /// Nobody has said yet whether anybody is here: it is said, unless somebody comes just now.
    pub(super) fn unattended(&mut self) {
        if self.presence.is_none() && self.pending.is_empty() && self.waiting.is_empty() {
            self.is_unattended = true;
            // Which replica says it has to be settled first.
            self.next_touch = self.gateway.clock.now().mono;
            self.count();
        }
    }

    /// Whether something is still to be written.
    pub(super) fn is_behind(&self) -> bool {
        self.due().is_some()
    }

    /// Does what can be done at once: follows the nodes, and writes what is due.
    pub(super) fn settle(&mut self) {
        if self.is_over {
            return;
        }
        self.follow_media();
        let now = self.gateway.clock.now().mono;
        let Some(presence) = self.presence.clone().filter(|_| self.due().is_some_and(|due| due <= now)) else { return };
        self.writer.begin(now, &presence);
        let (gateway, id, uid) = (self.gateway.clone(), self.id.clone(), self.uid.clone());
        let own = self.own.clone();
        tokio::spawn(async move {
            let written = gateway.kube.apply_presence(&id, &uid, &presence).await;
            if let Err(problem) = &written {
                tracing::warn!(code = problem.code().text(), "presence was not written");
            }
            gateway.metrics.presence_written(written.is_ok());
            if let Some(own) = own.upgrade() {
                let _ = own.send(Command::Written(written.is_ok())).await;
            }
        });
    }

    /// When the room has to do something by itself.
    pub(super) fn next_wake(&self) -> Duration {
        let now = self.gateway.clock.now();
        let grace = |at: Timestamp| {
            let left = GRACE - now.wall.duration_since(at);
            now.mono + Duration::try_from(left).unwrap_or_default()
        };
        let refreshes = self.clients.values().map(|client| client.refresh);
        let due = self.due();
        let returns = self.state.members.values().filter_map(|member| member.dropped).map(grace);
        let times = refreshes.chain(returns).chain(due).chain(self.next_overdue()).chain([self.next_touch]);
        let held = self.hold.map(|(_, until)| until);
        let times = times.chain(held).chain(self.summons.map(|summons| summons.until));
        let idle = self.idle.map(|since| since + self.linger());
        times.chain(idle.filter(|at| *at > now.mono)).min().unwrap_or(self.next_touch)
    }

    /// Does what it is time for.
    pub(super) async fn on_time(&mut self) {
        let now = self.gateway.clock.now();
        self.overdue().await;
        self.forget_summons();
        if self.hold.is_some_and(|(_, until)| until <= now.mono) {
            self.count();
        }
        let due = self.clients.iter().filter(|(_, client)| client.refresh <= now.mono);
        for user in due.map(|(user, _)| user.clone()).collect::<Vec<_>>() {
            let answer = self.refresh(&user);
            if let (Ok(ticket), Some(client)) = (answer, self.clients.get_mut(&user)) {
                client.outlet.tell("token", &ticket);
            }
        }
        let gone = self.state.given_up(now.wall).into_iter();
        for (user, connection) in gone.map(|m| (m.user().to_owned(), m.connection_id.clone())).collect::<Vec<_>>() {
            let left = Change::Left { user, connection, reason: Parting::Disconnected, by: None, at: now.wall };
            let _ = self.commit(left).await;
        }
        if self.next_touch <= now.mono {
            self.next_touch = now.mono + TOUCH;
            self.touch().await;
        }
    }
}
