//! Producers and consumers: published, subscribed, paused, ended.

use rand::RngExt;

use super::{
    Access, Consumed, Direction, Refusal, RoomEvent, RoomKey, Turn,
    event::{AppData, PauseReason},
    registry::{Effect, Room, SocketId},
    settings::{MAX_CONSUMERS, MAX_PRODUCERS},
    statistics::Track,
    view::{ConsumerView, ProducerView},
};
use crate::{
    core::command::{Command, ConsumerId, Layers, ProducerId, RoomId, TransportId},
    ortc::{self, ConsumerIds, Kind, RtpParameters, StreamType},
};

/// Largest `appData`, as JSON text.
const MAX_APP_DATA: usize = 4096;

/// A published track.
pub(super) struct Producer {
    pub(super) id: String,
    pub(super) media: ProducerId,
    pub(super) user: String,
    pub(super) transport: String,
    pub(super) kind: Kind,
    r#type: StreamType,
    paused: bool,
    mid: Option<String>,
    ssrcs: Vec<u32>,
    pub(super) consumable: RtpParameters,
    app_data: AppData,
    /// What its publisher was told last of what is wanted of it; `None` while that is everything.
    wanted: Option<Option<u8>>,
}

/// A subscription.
pub(super) struct Consumer {
    pub(super) media: ConsumerId,
    pub(super) user: String,
    pub(super) transport: String,
    pub(super) producer: String,
}

impl Producer {
    fn wants(&self, spatial_layer: Option<u8>) -> RoomEvent {
        RoomEvent::ProducerLayersWanted { producer_id: self.id.clone(), spatial_layer }
    }

    /// What the statistics say of it.
    pub(super) fn track(&self) -> Track {
        let mime_type = self.consumable.codecs.first().map(|codec| codec.mime_type.clone()).unwrap_or_default();
        Track { kind: self.kind, mime_type }
    }

    pub(super) fn view(&self) -> ProducerView {
        ProducerView {
            id: self.id.clone(),
            participant_id: self.user.clone(),
            kind: self.kind,
            r#type: self.r#type,
            paused: self.paused,
            app_data: self.app_data.clone(),
        }
    }
}

pub(super) fn check_app_data(app_data: &AppData) -> Result<(), ortc::Error> {
    if app_data.to_string().len() > MAX_APP_DATA {
        return Err(ortc::Error::invalid("appData", format!("is larger than {MAX_APP_DATA} bytes")));
    }
    Ok(())
}

impl Turn<'_> {
    /// Publishes a track and returns its id.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`], [`Refusal::NotFound`], [`Refusal::Parameters`], [`Refusal::TooMany`],
    /// [`Refusal::Conflict`] on a receiving transport.
    pub fn produce(
        &mut self,
        access: &Access,
        transport: &str,
        kind: Kind,
        mut parameters: RtpParameters,
        paused: bool,
        app_data: AppData,
    ) -> Result<String, Refusal> {
        if !access.grants.publish {
            return Err(Refusal::Forbidden("publish"));
        }
        check_app_data(&app_data)?;
        let fallback = format!("{:016x}", self.registry.rng.random::<u64>());
        let (_, sender) = self.own_transport(access, transport)?;
        if sender.direction != Direction::Send {
            return Err(Refusal::Conflict("the transport was created to receive"));
        }
        let rules = &self.registry.room(&access.room)?.rules;
        rules.check(kind, &parameters)?;
        let router = rules.router();
        let mut spec = ortc::producer_spec(kind, &parameters, &router, paused)?;
        let (worker, sender) = self.own_transport(access, transport)?;
        let named = spec.cname.get_or_insert_with(|| sender.cname.clone().unwrap_or(fallback)).clone();
        let media_transport = sender.media;
        sender.cname.get_or_insert_with(|| named.clone());
        parameters.rtcp.cname = Some(named);

        let ssrcs: Vec<u32> = spec.encodings.iter().flat_map(|e| [e.ssrc, e.rtx_ssrc]).flatten().collect();
        let room = self.registry.room(&access.room)?;
        let siblings = || room.producers.values().filter(|producer| producer.transport == transport);
        if room.producers.values().filter(|producer| producer.user == access.user).count() >= MAX_PRODUCERS {
            return Err(Refusal::TooMany { what: "producers of one participant", max: MAX_PRODUCERS });
        }
        if siblings().any(|producer| producer.ssrcs.iter().any(|ssrc| ssrcs.contains(ssrc))) {
            let reason = "is taken by another producer of the transport";
            return Err(ortc::Error::invalid("rtpParameters.encodings[0].ssrc", reason).into());
        }
        if spec.mid.is_some() && siblings().any(|producer| producer.mid == spec.mid) {
            return Err(
                ortc::Error::invalid("rtpParameters.mid", "is taken by another producer of the transport").into()
            );
        }

        let id = self.registry.uuid();
        let media = ProducerId(self.registry.next_id());
        let producer = Producer {
            id: id.clone(),
            media,
            user: access.user.clone(),
            transport: transport.into(),
            kind,
            r#type: StreamType::of(&parameters),
            paused,
            mid: spec.mid.clone(),
            ssrcs,
            consumable: ortc::consumable(kind, &parameters, &router),
            app_data,
            wanted: None,
        };
        self.effects
            .push(Effect::Media(worker, Command::Produce { producer: media, transport: media_transport, spec }));
        let room = self.registry.room_mut(&access.room)?;
        let event = RoomEvent::NewProducer(producer.view());
        self.effects.push(Effect::Tell(room.sockets_except(&access.user), event));
        room.producers.insert(id.clone(), producer);
        self.feed_players(&access.room);
        Ok(id)
    }

    /// Subscribes to a track of anyone in the room.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`], [`Refusal::NotFound`], [`Refusal::Parameters`] without a codec in common,
    /// [`Refusal::TooMany`], [`Refusal::Conflict`] on a sending transport.
    pub fn consume(&mut self, access: &Access, wanted: &Consumed) -> Result<ConsumerView, Refusal> {
        if !access.grants.subscribe {
            return Err(Refusal::Forbidden("subscribe"));
        }
        let fallback = format!("{:016x}", self.registry.rng.random::<u64>());
        let id = self.registry.uuid();
        let media = ConsumerId(self.registry.next_id());
        self.own_transport(access, &wanted.transport)?;
        let room = self.registry.room_mut(&access.room)?;
        let producer = room.producers.get(&wanted.producer).ok_or(Refusal::NotFound("producer"))?;
        let own = || room.consumers.values().filter(|consumer| consumer.transport == wanted.transport);
        // Few rooms have so many in all: only those are counted through.
        if room.consumers.len() >= MAX_CONSUMERS && own().count() >= MAX_CONSUMERS {
            return Err(Refusal::TooMany { what: "consumers of one transport", max: MAX_CONSUMERS });
        }
        let receiver = room.transports.get_mut(&wanted.transport).ok_or(Refusal::NotFound("transport"))?;
        if receiver.direction != Direction::Recv {
            return Err(Refusal::Conflict("the transport was created to send"));
        }
        let ids = ConsumerIds { mid: receiver.next_mid.to_string(), ssrc: receiver.next_ssrc, cname: fallback };
        let (rtp_parameters, spec) =
            ortc::consumer_rtp_parameters(&producer.consumable, &wanted.capabilities, ids, wanted.paused)?;
        receiver.next_mid += 1;
        receiver.next_ssrc = receiver.next_ssrc.wrapping_add(2);
        let view = ConsumerView {
            id: id.clone(),
            producer_id: producer.id.clone(),
            participant_id: producer.user.clone(),
            kind: producer.kind,
            r#type: producer.r#type,
            rtp_parameters,
            producer_paused: producer.paused,
            app_data: producer.app_data.clone(),
        };
        let command = Command::Consume { consumer: media, transport: receiver.media, producer: producer.media, spec };
        let consumer = Consumer {
            media,
            user: access.user.clone(),
            transport: wanted.transport.clone(),
            producer: producer.id.clone(),
        };
        self.effects.push(Effect::Media(room.worker, command));
        room.consumers.insert(id, consumer);
        Ok(view)
    }

    /// Pauses or resumes one of the caller's subscriptions.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub fn pause_consumer(&mut self, access: &Access, id: &str, paused: bool) -> Result<(), Refusal> {
        let room = self.registry.room(&access.room)?;
        let consumer = room.consumers.get(id).filter(|consumer| consumer.user == access.user);
        let consumer = consumer.ok_or(Refusal::NotFound("consumer"))?.media;
        self.effects.push(Effect::Media(room.worker, Command::PauseConsumer { consumer, paused }));
        Ok(())
    }

    /// Chooses the highest layers that one of the caller's subscriptions is to get; all temporal layers
    /// of the spatial one where none is named.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub fn prefer_layers(
        &mut self,
        access: &Access,
        id: &str,
        spatial: u8,
        temporal: Option<u8>,
    ) -> Result<(), Refusal> {
        let room = self.registry.room(&access.room)?;
        let consumer = room.consumers.get(id).filter(|consumer| consumer.user == access.user);
        let consumer = consumer.ok_or(Refusal::NotFound("consumer"))?.media;
        let layers = Layers { spatial, temporal: temporal.unwrap_or(u8::MAX) };
        self.effects.push(Effect::Media(room.worker, Command::PreferLayers { consumer, layers }));
        Ok(())
    }

    /// Weighs one of the caller's subscriptions against its others; 1 is what they have at first.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Parameters`] for 0.
    pub fn prioritize(&mut self, access: &Access, id: &str, priority: u8) -> Result<(), Refusal> {
        if priority == 0 {
            return Err(ortc::Error::invalid("priority", "must be 1 to 255").into());
        }
        let room = self.registry.room(&access.room)?;
        let consumer = room.consumers.get(id).filter(|consumer| consumer.user == access.user);
        let consumer = consumer.ok_or(Refusal::NotFound("consumer"))?.media;
        self.effects.push(Effect::Media(room.worker, Command::Prioritize { consumer, priority }));
        Ok(())
    }

    /// Ends one of the caller's subscriptions.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub fn close_consumer(&mut self, access: &Access, id: &str) -> Result<(), Refusal> {
        let room = self.registry.room_mut(&access.room)?;
        room.consumers.get(id).filter(|consumer| consumer.user == access.user).ok_or(Refusal::NotFound("consumer"))?;
        if let Some(consumer) = room.consumers.remove(id) {
            self.effects.push(Effect::Media(room.worker, Command::CloseConsumer { consumer: consumer.media }));
        }
        Ok(())
    }

    /// Pauses or resumes one of the caller's tracks; its subscribers are told.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub fn pause_producer(&mut self, access: &Access, id: &str, paused: bool) -> Result<(), Refusal> {
        let room = self.registry.room_mut(&access.room)?;
        let producer = room.producers.get_mut(id).filter(|producer| producer.user == access.user);
        let producer = producer.ok_or(Refusal::NotFound("producer"))?;
        if producer.paused == paused {
            return Ok(());
        }
        producer.paused = paused;
        self.effects.push(Effect::Media(room.worker, Command::PauseProducer { producer: producer.media, paused }));
        self.tell_subscribers(&access.room, id, |consumer_id, producer_id| match paused {
            true => RoomEvent::ConsumerPaused { consumer_id, producer_id, reason: PauseReason::Producer },
            false => RoomEvent::ConsumerResumed { consumer_id, producer_id, reason: PauseReason::Producer },
        });
        Ok(())
    }

    /// Unpublishes a track of the caller's, or of anyone as a moderator.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Forbidden`].
    pub fn close_producer(&mut self, access: &Access, id: &str) -> Result<(), Refusal> {
        let room = self.registry.room(&access.room)?;
        let producer = room.producers.get(id).ok_or(Refusal::NotFound("producer"))?;
        if producer.user != access.user && !access.role.moderates() {
            return Err(Refusal::Forbidden("end tracks of others"));
        }
        let by = (producer.user != access.user).then(|| access.user.clone());
        let close = Effect::Media(room.worker, Command::CloseProducer { producer: producer.media });
        self.end_producer(&access.room, id, by);
        self.effects.push(close);
        Ok(())
    }

    /// Forgets a track and its subscriptions, and tells whoever it concerns: its publisher too, where a moderator ended it.
    /// Its media ends with it or with its transport; one after the other, what comes in between would be of nobody.
    pub(super) fn end_producer(&mut self, key: &RoomKey, id: &str, by: Option<String>) {
        self.park_players(key, id);
        self.tell_subscribers(key, id, |consumer_id, producer_id| RoomEvent::ConsumerClosed {
            consumer_id,
            producer_id,
        });
        let Ok(room) = self.registry.room_mut(key) else { return };
        let Some(producer) = room.producers.remove(id) else { return };
        room.consumers.retain(|_, consumer| consumer.producer != id);
        let told = room.sockets_told_of(&producer.user, by.as_deref());
        let event = RoomEvent::ProducerClosed { producer_id: id.into(), participant_id: producer.user, closed_by: by };
        self.effects.push(Effect::Tell(told, event));
        self.feed_players(key);
    }

    fn tell_subscribers(&mut self, key: &RoomKey, producer: &str, event: impl Fn(String, String) -> RoomEvent) {
        let Ok(room) = self.registry.room(key) else { return };
        let subscriptions = room.consumers.iter().filter(|(_, consumer)| consumer.producer == producer);
        for (id, consumer) in subscriptions {
            // Players of a session never heard of their consumers.
            if room.transports.get(&consumer.transport).is_some_and(|transport| transport.session.is_some()) {
                continue;
            }
            let sockets = room.sockets_of(&consumer.user);
            self.effects.push(Effect::Tell(sockets, event(id.clone(), producer.into())));
        }
    }

    /// Somebody wants more of a track than before, or nobody wants as much any more.
    pub(super) fn layers_wanted(&mut self, transport: TransportId, media: ProducerId, spatial: Option<u8>) {
        let Some((key, _)) = self.registry.transports.get(&transport) else { return };
        let Some(room) = self.registry.rooms.get_mut(key) else { return };
        let Some(producer) = room.producers.values_mut().find(|producer| producer.media == media) else { return };
        producer.wanted = Some(spatial);
        let (event, user) = (producer.wants(spatial), producer.user.clone());
        self.effects.push(Effect::Tell(room.sockets_of(&user), event));
    }

    /// Tells a new socket what others of the user were told of its tracks: what it missed may be that somebody
    /// waits for them.
    pub(super) fn repeat_layers_wanted(&mut self, access: &Access, socket: SocketId) {
        let Ok(room) = self.registry.room(&access.room) else { return };
        let own = room.producers.values().filter(|producer| producer.user == access.user);
        for producer in own {
            if let Some(spatial) = producer.wanted {
                self.effects.push(Effect::Tell(vec![socket], producer.wants(spatial)));
            }
        }
    }

    /// A subscription gets other layers than before.
    pub(super) fn layers_changed(&mut self, transport: TransportId, media: ConsumerId, layers: Layers) {
        let Some((key, _)) = self.registry.transports.get(&transport) else { return };
        let Ok(room) = self.registry.room(key) else { return };
        let Some((id, consumer)) = room.consumers.iter().find(|(_, consumer)| consumer.media == media) else { return };
        let event = RoomEvent::LayersChanged { consumer_id: id.clone(), layers };
        self.effects.push(Effect::Tell(room.sockets_of(&consumer.user), event));
    }

    /// Something other than the publisher holds a subscription back, or does so no more.
    pub(super) fn held_back(&mut self, transport: TransportId, media: ConsumerId, paused: bool, reason: PauseReason) {
        let Some((key, _)) = self.registry.transports.get(&transport) else { return };
        let Ok(room) = self.registry.room(key) else { return };
        let Some((id, consumer)) = room.consumers.iter().find(|(_, consumer)| consumer.media == media) else { return };
        let (consumer_id, producer_id) = (id.clone(), consumer.producer.clone());
        let event = match paused {
            true => RoomEvent::ConsumerPaused { consumer_id, producer_id, reason },
            false => RoomEvent::ConsumerResumed { consumer_id, producer_id, reason },
        };
        self.effects.push(Effect::Tell(room.sockets_of(&consumer.user), event));
    }

    /// The loudest track of a room has changed.
    pub(super) fn active_speaker(&mut self, room: RoomId, speaker: Option<ProducerId>) {
        let Some(key) = self.registry.media_rooms.get(&room).cloned() else { return };
        let Ok(room) = self.registry.room_mut(&key) else { return };
        room.speaker = speaker;
        let everyone: Vec<SocketId> = room.sockets.keys().copied().collect();
        self.effects.push(Effect::Tell(everyone, room.active_speaker()));
    }

    /// Tells a new socket who speaks, or that nobody does: the next change may be long in coming.
    pub(super) fn repeat_active_speaker(&mut self, key: &RoomKey, socket: SocketId) {
        let Ok(room) = self.registry.room(key) else { return };
        self.effects.push(Effect::Tell(vec![socket], room.active_speaker()));
    }
}

impl Room {
    /// Who speaks, as clients are told it.
    fn active_speaker(&self) -> RoomEvent {
        let producer = self.speaker.and_then(|speaker| self.producers.values().find(|p| p.media == speaker));
        RoomEvent::ActiveSpeaker {
            producer_id: producer.map(|producer| producer.id.clone()),
            participant_id: producer.map(|producer| producer.user.clone()),
        }
    }
}
