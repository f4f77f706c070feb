//! What WHEP players are shown: each media section of theirs is a slot, which has its SSRC for good and is
//! fed by one producer after another.
//!
//! A slot keeps its producer until that ends. Then, or as long as there is none, it takes the first of
//! those that the player's [`Selection`] allows, that no other slot of it has, and that it can decode:
//! those of publishers who are not silent first, then of the slot's publisher so far, then of whoever is
//! on another slot of the player, so that sound goes with the picture, then the latest.

use std::cmp::Reverse;

use super::super::{
    RoomKey, Turn,
    registry::{Effect, Room},
    streams::{Consumer, Producer},
};
use crate::{
    core::command::{Command, ConsumerId, ConsumerSpec, TransportState},
    sdp::{Receiver, Sent},
};

/// What a player wants to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Tracks of this participant only. It need not be there yet.
    pub participant: Option<String>,
    /// These tracks only.
    pub producers: Vec<String>,
}

impl Selection {
    /// Without a word, everyone but oneself.
    fn allows(&self, producer: &Producer, viewer: &str) -> bool {
        let participant = self.participant.as_ref();
        let is_wanted = participant.is_none_or(|user| *user == producer.user)
            && (self.producers.is_empty() || self.producers.contains(&producer.id));
        let is_named = participant.is_some() || !self.producers.is_empty();
        is_wanted && (is_named || producer.user != viewer)
    }
}

/// A player's slots.
pub(in super::super) struct Player {
    cname: String,
    selection: Selection,
    slots: Vec<Slot>,
}

struct Slot {
    receiver: Receiver,
    ssrc: u32,
    consumer: Option<String>,
    /// Whose track it had last.
    user: Option<String>,
}

impl Player {
    /// One slot per section; each takes two SSRCs.
    pub fn new(receivers: &[Receiver], next_ssrc: &mut u32, cname: String, selection: Selection) -> Self {
        let slots = receivers.iter().map(|receiver| {
            let ssrc = *next_ssrc;
            *next_ssrc = ssrc.wrapping_add(2);
            Slot { receiver: receiver.clone(), ssrc, consumer: None, user: None }
        });
        Self { slots: slots.collect(), cname, selection }
    }

    /// What is sent on each slot, whoever feeds it.
    pub fn sent(&self) -> Vec<Sent> {
        let sent = |slot: &Slot| Sent {
            ssrc: slot.ssrc,
            // The one that consumers get (see `ortc::ConsumerIds`).
            rtx: slot.receiver.repeats().then(|| slot.ssrc.wrapping_add(1)),
            cname: self.cname.clone(),
        };
        self.slots.iter().map(sent).collect()
    }
}

impl Turn<'_> {
    /// A track ends: slots that it feeds are free, their streams go on later.
    pub(in super::super) fn park_players(&mut self, key: &RoomKey, producer: &str) {
        let Ok(room) = self.registry.room(key) else { return };
        let is_fed = |consumer: &&Consumer| {
            let transport = room.transports.get(&consumer.transport);
            consumer.producer == producer && transport.is_some_and(|t| t.session.is_some())
        };
        let transports: Vec<String> = room.consumers.values().filter(is_fed).map(|c| c.transport.clone()).collect();
        for transport in transports {
            self.park(key, &transport, |_, fed| fed.id == producer);
        }
    }

    /// Feeds free slots of all players of a room with what there is.
    pub(in super::super) fn feed_players(&mut self, key: &RoomKey) {
        let Ok(room) = self.registry.room(key) else { return };
        let mut players: Vec<String> = room
            .transports
            .iter()
            .filter(|(_, transport)| transport.session.as_ref().is_some_and(|session| session.player.is_some()))
            .map(|(id, _)| id.clone())
            .collect();
        players.sort_unstable();
        for transport in players {
            // Whoever came again is not waited for under the connection that fell silent.
            self.park(key, &transport, |room, fed| {
                is_silent(room, fed)
                    && room
                        .producers
                        .values()
                        .any(|p| p.user == fed.user && p.kind == fed.kind && p.media > fed.media && !is_silent(room, p))
            });
            while self.feed(key, &transport).is_some() {}
        }
    }

    /// Frees slots whose producer meets a condition.
    fn park(&mut self, key: &RoomKey, transport: &str, condition: impl Fn(&Room, &Producer) -> bool) {
        let Ok(room) = self.registry.room_mut(key) else { return };
        let is_met = |id: &str| {
            let consumer = room.consumers.get(id)?;
            Some(condition(room, room.producers.get(&consumer.producer)?))
        };
        let Some(player) = player(room, transport) else { return };
        let parked: Vec<String> = player
            .slots
            .iter()
            .filter_map(|slot| slot.consumer.clone())
            .filter(|id| is_met(id) == Some(true))
            .collect();
        for id in parked {
            let Some(consumer) = room.consumers.remove(&id) else { continue };
            self.effects.push(Effect::Media(room.worker, Command::ParkConsumer { consumer: consumer.media }));
            for slot in slots_mut(room, transport) {
                slot.consumer.take_if(|consumer| *consumer == id);
            }
        }
    }

    /// Feeds one free slot, if there is one and something for it.
    fn feed(&mut self, key: &RoomKey, transport: &str) -> Option<()> {
        let (id, media) = (self.registry.uuid(), ConsumerId(self.registry.next_id()));
        let room = self.registry.room_mut(key).ok()?;
        let (slot, producer, spec) = choose(room, transport)?;
        let receiver = room.transports.get(transport)?;
        let (user, target) = (receiver.user.clone(), receiver.media);
        let producer = room.producers.get(&producer)?;
        let consumer = Consumer { media, user, transport: transport.to_owned(), producer: producer.id.clone() };
        let command = Command::Consume { consumer: media, transport: target, producer: producer.media, spec };
        let publisher = producer.user.clone();
        self.effects.push(Effect::Media(room.worker, command));
        room.consumers.insert(id.clone(), consumer);
        let slot = slots_mut(room, transport).get_mut(slot)?;
        (slot.consumer, slot.user) = (Some(id), Some(publisher));
        Some(())
    }
}

/// A free slot and what comes there, video first.
fn choose(room: &Room, transport: &str) -> Option<(usize, String, ConsumerSpec)> {
    let viewer = &room.transports.get(transport)?.user;
    let player = player(room, transport)?;
    let fed: Vec<&Producer> = player
        .slots
        .iter()
        .filter_map(|slot| room.producers.get(&room.consumers.get(slot.consumer.as_ref()?)?.producer))
        .collect();
    let is_fed = |producer: &Producer| fed.iter().any(|other| other.id == producer.id);
    let mut free: Vec<(usize, &Slot)> =
        player.slots.iter().enumerate().filter(|(_, slot)| slot.consumer.is_none()).collect();
    free.sort_by_key(|(_, slot)| slot.receiver.kind == crate::ortc::Kind::Audio);
    free.into_iter().find_map(|(index, slot)| {
        let fits = |producer: &&Producer| {
            producer.kind == slot.receiver.kind && !is_fed(producer) && player.selection.allows(producer, viewer)
        };
        let mut producers: Vec<&Producer> = room.producers.values().filter(fits).collect();
        producers.sort_by_key(|producer| {
            let is_same = slot.user.as_ref() == Some(&producer.user);
            let is_shown = fed.iter().any(|other| other.user == producer.user);
            (is_silent(room, producer), !is_same, !is_shown, Reverse(producer.media))
        });
        producers.into_iter().find_map(|producer| {
            let spec = slot.receiver.consume(&producer.consumable, slot.ssrc, &player.cname).ok()?;
            Some((index, producer.id.clone(), spec))
        })
    })
}

fn is_silent(room: &Room, producer: &Producer) -> bool {
    let transport = room.transports.get(&producer.transport);
    transport.is_none_or(|transport| transport.state == TransportState::Disconnected)
}

fn player<'a>(room: &'a Room, transport: &str) -> Option<&'a Player> {
    room.transports.get(transport)?.session.as_ref()?.player.as_ref()
}

fn slots_mut<'a>(room: &'a mut Room, transport: &str) -> &'a mut [Slot] {
    let session = room.transports.get_mut(transport).and_then(|transport| transport.session.as_mut());
    session.and_then(|session| session.player.as_mut()).map_or(&mut [], |player| &mut player.slots)
}
