//! Who enters and who leaves.

use std::time::Instant;

use super::{
    Access, Refusal, Role, RoomEvent, RoomKey, Turn,
    registry::{Effect, SocketId},
    settings::{MAX_REMOVED, MAX_SOCKETS},
    view::{ParticipantView, RoomView},
};
use crate::core::command::{Command, TransportState};

/// Somebody in a room.
pub(super) struct Participant {
    pub(super) name: Option<String>,
    pub(super) role: Role,
    pub(super) joined_at: jiff::Timestamp,
    /// Epoch of the latest token it entered with.
    pub(super) epoch: i64,
    /// When the latest of those tokens was issued.
    pub(super) issued_at: i64,
    /// Had a transport once: when the last one ends, so does the participant, unless a socket is left.
    pub(super) had_transport: bool,
    /// Since when it has neither a socket nor a connected transport.
    pub(super) idle_since: Option<Instant>,
}

impl Participant {
    pub(super) fn view(&self, user: &str) -> ParticipantView {
        ParticipantView { id: user.into(), name: self.name.clone(), role: self.role, joined_at: self.joined_at }
    }
}

impl Turn<'_> {
    /// Makes sure that the caller is in the room.
    pub(super) fn enter(&mut self, access: &Access) -> Result<(), Refusal> {
        let (now, joined_at) = (self.now, self.timestamp);
        let room = self.registry.room_mut(&access.room)?;
        if let Some(participant) = room.participants.get_mut(&access.user) {
            participant.epoch = participant.epoch.max(access.epoch);
            participant.issued_at = participant.issued_at.max(access.issued_at);
            participant.role = access.role;
            if access.name.is_some() {
                participant.name.clone_from(&access.name);
            }
            return Ok(());
        }
        if room.participants.len() >= room.max_participants {
            return Err(Refusal::RoomFull { max: room.max_participants });
        }
        let participant = Participant {
            name: access.name.clone(),
            role: access.role,
            joined_at,
            epoch: access.epoch,
            issued_at: access.issued_at,
            had_transport: false,
            idle_since: Some(now),
        };
        let event = RoomEvent::ParticipantJoined(participant.view(&access.user));
        self.effects.push(Effect::Tell(room.sockets_except(&access.user), event));
        room.participants.insert(access.user.clone(), participant);
        room.empty_since = None;
        Ok(())
    }

    /// Opens an event socket: its id, and the room as it is at that moment.
    ///
    /// # Errors
    /// [`Refusal::RoomNotFound`], [`Refusal::RoomFull`].
    pub fn open_socket(&mut self, access: &Access) -> Result<(SocketId, RoomView), Refusal> {
        self.enter(access)?;
        let socket = self.registry.next_id();
        let room = self.registry.room_mut(&access.room)?;
        let open = room.sockets_of(&access.user);
        if open.len() >= MAX_SOCKETS {
            room.sockets.remove(&open[0]);
            self.effects.push(Effect::Close(vec![open[0]]));
        }
        room.sockets.insert(socket, access.user.clone());
        self.settle(&access.room, &access.user);
        Ok((socket, self.registry.describe(&access.room)?))
    }

    /// An event socket is gone.
    pub fn socket_closed(&mut self, key: &RoomKey, socket: SocketId) {
        let Ok(room) = self.registry.room_mut(key) else { return };
        if let Some(user) = room.sockets.remove(&socket) {
            self.settle(key, &user);
        }
    }

    /// Leaves, or removes somebody else. Whoever is not there has left.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`] for others without being host or admin.
    pub fn leave(&mut self, access: &Access, user: &str) -> Result<(), Refusal> {
        if access.user != user && !access.role.moderates() {
            return Err(Refusal::Forbidden("remove others"));
        }
        if access.user != user {
            self.shut_out(&access.room, user);
        }
        self.remove(&access.room, user);
        Ok(())
    }

    /// Tokens that a user has by now are no good for this room any more; one that is issued later is. It takes no more than
    /// remembering when: an earlier token expires by itself, and later ones are not meant.
    fn shut_out(&mut self, key: &RoomKey, user: &str) {
        let now = self.timestamp.as_second();
        let Ok(room) = self.registry.room_mut(key) else { return };
        // Whoever issues tokens may have a clock that is a little ahead, and may issue another at once.
        let since = room.participants.get(user).map_or(now, |participant| now.max(participant.issued_at + 1));
        room.removed.insert(user.to_owned(), since);
        if room.removed.len() > MAX_REMOVED
            && let Some(first) = room.removed.iter().min_by_key(|(_, since)| **since).map(|(user, _)| user.clone())
        {
            room.removed.remove(&first);
        }
    }

    /// Ends a participant with everything it has.
    pub(super) fn remove(&mut self, key: &RoomKey, user: &str) {
        let now = self.now;
        let Ok(room) = self.registry.room_mut(key) else { return };
        if room.participants.remove(user).is_none() {
            return;
        }
        let sockets = room.sockets_of(user);
        let mut everyone = room.sockets_except(user);
        everyone.extend(&sockets);
        room.sockets.retain(|_, owner| owner != user);
        if room.participants.is_empty() {
            room.empty_since = Some(now);
        }
        let transports: Vec<String> =
            room.transports.iter().filter(|(_, t)| t.user == user).map(|(id, _)| id.clone()).collect();
        for transport in transports {
            self.close_transport(key, &transport);
        }
        self.effects.push(Effect::Tell(everyone, RoomEvent::ParticipantLeft { id: user.into() }));
        self.effects.push(Effect::Close(sockets));
    }

    /// Decides after a change whether a participant is still there.
    pub(super) fn settle(&mut self, key: &RoomKey, user: &str) {
        let now = self.now;
        let Ok(room) = self.registry.room_mut(key) else { return };
        let has_socket = room.sockets.values().any(|owner| owner == user);
        let mut own = room.transports.values().filter(|transport| transport.user == user).peekable();
        let has_transport = own.peek().is_some();
        let is_connected = own.any(|transport| transport.state == TransportState::Connected);
        let Some(participant) = room.participants.get_mut(user) else { return };
        participant.had_transport |= has_transport;
        if has_socket || is_connected {
            participant.idle_since = None;
        } else if participant.had_transport && !has_transport {
            self.remove(key, user);
        } else {
            participant.idle_since.get_or_insert(now);
        }
    }

    /// What time alone brings about: participants whose grace is over leave; transports close that a newer one
    /// has replaced while they were silent, and those of sessions whose client never connected.
    pub fn tick(&mut self) {
        let (now, grace) = (self.now, self.registry.settings.grace);
        let is_over = |since: Option<Instant>| since.is_some_and(|since| now.saturating_duration_since(since) >= grace);
        let mut gone = Vec::new();
        let mut replaced = Vec::new();
        for (key, room) in &self.registry.rooms {
            for (user, participant) in &room.participants {
                if is_over(participant.idle_since) {
                    gone.push((key.clone(), user.clone()));
                }
            }
            for (id, transport) in &room.transports {
                let has_successor = || {
                    room.transports.values().any(|other| {
                        other.user == transport.user
                            && other.direction == transport.direction
                            && other.media > transport.media
                            && other.state == TransportState::Connected
                    })
                };
                let never_came = || {
                    transport.session.as_ref().is_some_and(|session| session.is_overdue(transport.state, now, grace))
                };
                if never_came() || is_over(transport.silent_since) && has_successor() {
                    replaced.push((key.clone(), id.clone()));
                }
            }
        }
        for (key, transport) in replaced {
            self.close_transport(&key, &transport);
        }
        for (key, user) in gone {
            self.remove(&key, &user);
        }
    }

    /// Ends a transport with its producers and consumers.
    pub(super) fn close_transport(&mut self, key: &RoomKey, id: &str) {
        let Ok(room) = self.registry.room_mut(key) else { return };
        let Some(transport) = room.transports.remove(id) else { return };
        let worker = room.worker;
        room.consumers.retain(|_, consumer| consumer.transport != id);
        let producers: Vec<String> =
            room.producers.iter().filter(|(_, p)| p.transport == id).map(|(producer, _)| producer.clone()).collect();
        self.registry.transports.remove(&transport.media);
        self.end_data_of(key, id);
        for producer in producers {
            self.end_producer(key, &producer, None);
        }
        self.effects.push(Effect::Media(worker, Command::CloseTransport { transport: transport.media }));
        self.settle(key, &transport.user);
    }
}
