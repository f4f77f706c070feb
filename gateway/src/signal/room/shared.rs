//! A room's state that replicas share: read, caught up with, written again after it was lost.

use super::{Command, Room};
use crate::signal::{
    member::{Change, Member},
    presence,
    state::{BEGINNING, Log},
    store::{Bus, Direct, Link, Look, Seen, Store},
};

/// The place of a change in the Redis stream.
pub(super) type Place = (u64, u64);

/// Of `<n>-<n>`.
fn place(seq: &str) -> Option<Place> {
    let (time, count) = seq.split_once('-')?;
    Some((time.parse().ok()?, count.parse().ok()?))
}

impl Room {
    /// Begins with what the store has.
    pub(super) async fn load(&mut self) {
        let Some(own) = self.own.upgrade() else { return };
        self.store.follow(&self.id, own).await;
        self.touch().await;
    }

    /// Looks at what the store has, and makes up what differs.
    pub(super) async fn touch(&mut self) {
        let Some(mut seen) = self.look().await else { return };
        if !self.outbox.is_empty() {
            for change in std::mem::take(&mut self.outbox) {
                // The records were told when it happened.
                let _ = self.put(change).await;
            }
            let Some(again) = self.look().await else { return };
            seen = again;
        }
        self.reconcile(&seen).await;
        self.count();
    }

    /// Looks at what the store has, and catches up with it.
    async fn look(&mut self) -> Option<Seen> {
        let after = self.place.map_or_else(|| BEGINNING.to_owned(), |(time, count)| format!("{time}-{count}"));
        let region = self.room.spec.region.clone().unwrap_or_default();
        let claims = self.presence.as_ref().is_some_and(presence::claims);
        let is_needed = !self.clients.is_empty() || !self.pending.is_empty() || self.has_dropped();
        let is_asked = self.is_unattended || self.summons.is_some();
        let would_write = is_needed || self.is_owner || is_asked || claims && self.state.members.is_empty();
        let look = Look { id: &self.id, uid: &self.uid, after: &after, would_write, region: &region };
        let seen = self.store.look(&look).await?;
        // Who waits for an answer is let in by the change that lets them in, though it comes this way before it is published.
        let is_new = self.place.is_none() && self.state.log == Log::after(BEGINNING.to_owned());
        if is_new && self.pending.is_empty() {
            self.begin(&seen);
        }
        self.is_owner = seen.owner == self.replica;
        self.hold = None;
        for (seq, change) in seen.changes.clone() {
            self.hear(Bus::Change { seq, change }).await;
        }
        Some(seen)
    }

    /// Takes over what was there before this replica looked.
    fn begin(&mut self, seen: &Seen) {
        self.state.members = seen.members.iter().map(|member| (member.user().to_owned(), member.clone())).collect();
        self.state.chat = seen.chat.iter().cloned().collect();
        self.state.removed = seen.removed.iter().cloned().collect();
        let mut changes = seen.changes.iter().cloned();
        let Some((base, _)) = changes.next() else { return };
        self.place = place(&base);
        self.state.log = Log::after(base);
        for (seq, change) in changes {
            self.place = place(&seq);
            self.state.log.push(seq, change);
        }
    }

    /// Something from the store.
    pub(super) async fn hear(&mut self, bus: Bus) {
        match bus {
            Bus::Change { seq, change } => {
                let at = place(&seq);
                if at <= self.place {
                    return;
                }
                self.place = at;
                self.apply(seq, change);
            }
            Bus::Direct(Direct::Tell { user, event, data }) => {
                if let Some(client) = self.clients.get_mut(&user) {
                    client.outlet.tell(&event, &data);
                }
            }
            Bus::Direct(Direct::Summoned) => self.summoned(),
            Bus::Direct(Direct::Released) => self.next_touch = self.gateway.clock.now().mono,
        }
    }

    /// Makes the store's table and this replica's the same: each replica answers for the sockets that it holds.
    async fn reconcile(&mut self, seen: &Seen) {
        let now = self.gateway.clock.now().wall;
        let stored = |user: &str| seen.members.iter().find(|member| member.user() == user);
        let lost: Vec<Member> = self
            .clients
            .iter()
            .filter(|(user, client)| stored(user).is_none_or(|m| m.connection_id != client.member.connection_id))
            .filter(|(_, client)| !self.pending.contains_key(&client.member.connection_id))
            .map(|(_, client)| client.member.clone())
            .collect();
        for member in lost {
            tracing::debug!("a participant is put into the store again");
            let _ = self.commit(Change::Resumed { member }).await;
        }
        for member in self.state.members.values_mut().filter(|member| !self.clients.contains_key(member.user())) {
            match stored(member.user()) {
                Some(other) if other.connection_id != member.connection_id => {}
                // A replica that was silent for a while may still hold its sockets.
                Some(same) if seen.alive.contains(&same.replica) => member.dropped = same.dropped,
                _ => member.dropped = member.dropped.or(Some(now)),
            }
        }
        let missed = seen.members.iter().filter(|member| !self.state.members.contains_key(member.user()));
        for member in missed.cloned().collect::<Vec<_>>() {
            let seq = self.state.log.last().clone();
            self.apply(seq, Change::Joined { member, again: false });
        }
    }

    /// The store is there again, or is not any more.
    pub(super) async fn linked(&mut self, link: Link) {
        match link {
            Link::Up => self.touch().await,
            // Joins that were on their way through the store go on without it.
            Link::Down => {
                let changes: Vec<_> = self.pending.values().map(|pending| pending.change.clone()).collect();
                for change in changes {
                    self.alone(change);
                }
            }
        }
    }

    /// The process ends: its sockets come again elsewhere.
    pub(super) async fn hand_over(&mut self) {
        let at = self.gateway.clock.now().wall;
        let members: Vec<_> = self.clients.values().map(|client| client.member.clone()).collect();
        for mut member in members {
            member.dropped = Some(at);
            if !matches!(self.store, Store::Local) {
                let _ = self.commit(Change::Dropped { member }).await;
            }
        }
        self.clients.clear();
    }

    /// This replica has nothing more to do with the room.
    pub(super) async fn close(&mut self) {
        self.mailbox.close();
        if self.is_over {
            self.store.forget(&self.id).await;
        }
        self.store.leave(&self.id, self.is_owner).await;
        while let Ok(command) = self.mailbox.try_recv() {
            if let Command::Join(request) = command {
                // It came too late; it is to come again, to another task.
                request.refuse(crate::Problem::new(crate::Code::Busy, "the room is being put away: try again"));
            }
        }
    }
}
