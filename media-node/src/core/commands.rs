//! Orders from outside.

use std::time::Instant;

use super::command::{
    Command, ConsumerId, ConsumerSpec, DtlsRole, Fingerprint, IceCredentials, Layers, MediaKind, ProducerId,
    ProducerSpec, RoomId, TransportId, TransportState,
};
use super::congestion::Congestion;
use super::consumer::Consumer;
use super::producer::Producer;
use super::stats::{Counter, Gauge};
use super::transport::{Transport, arm};
use super::{Core, Key, reports};

impl Core {
    /// Carries out an order. One that names something unknown, or names something twice, changes nothing
    /// and counts as refused.
    pub fn handle(&mut self, command: Command, now: Instant) {
        let done = match command {
            Command::CreateTransport { transport, room, ice } => self.create_transport(transport, room, ice),
            Command::LimitRoom { room, limits } => self.limit_room(room, limits, now),
            Command::ConnectTransport { transport, role, fingerprints } => {
                self.connect_transport(transport, role, fingerprints, now)
            }
            Command::RestartIce { transport, ice } => self.restart_ice(transport, ice),
            Command::CloseTransport { transport } => self.close_transport(transport, now),
            Command::Produce { producer, transport, spec } => self.produce(producer, transport, spec, now),
            Command::PauseProducer { producer, paused } => self.pause_producer(producer, paused, now),
            Command::CloseProducer { producer } => self.close_producer(producer, now),
            Command::Consume { consumer, transport, producer, spec } => {
                self.consume(consumer, transport, producer, spec, now)
            }
            Command::PauseConsumer { consumer, paused } => self.pause_consumer(consumer, paused, now),
            Command::CloseConsumer { consumer } => self.close_consumer(consumer, now),
            Command::ParkConsumer { consumer } => self.park_consumer(consumer, now),
            Command::PreferLayers { consumer, layers } => self.prefer_layers(consumer, layers, now),
            Command::Prioritize { consumer, priority } => self.prioritize(consumer, priority, now),
            Command::RequestKeyFrame { consumer } => {
                self.consumer_keys.get(&consumer).copied().map(|key| self.want_key_frame(key, now))
            }
            Command::EnableSctp { transport } => self.enable_sctp(transport),
            Command::ProduceData { data_producer, transport, stream, ordered } => {
                self.produce_data(data_producer, transport, stream, ordered)
            }
            Command::CloseDataProducer { data_producer } => self.close_data_producer(data_producer, now),
            Command::ConsumeData { data_consumer, transport, data_producer, stream, delivery } => {
                self.consume_data(data_consumer, transport, data_producer, stream, delivery)
            }
            Command::CloseDataConsumer { data_consumer } => self.close_data_consumer(data_consumer, now),
        };
        if done.is_none() {
            self.stats.count(Counter::CommandsRefused);
        }
        self.stats.set(Gauge::Transports, self.transports.len());
        self.stats.set(Gauge::Producers, self.producers.len());
        self.stats.set(Gauge::Consumers, self.consumers.len());
        self.set_data_gauges();
        self.stats.set(Gauge::Rooms, self.rooms.len());
        self.stats.set(Gauge::Tuples, self.tuples.len());
    }

    fn create_transport(&mut self, id: TransportId, room: RoomId, ice: IceCredentials) -> Option<()> {
        if self.transport_keys.contains_key(&id) || self.ufrags.contains_key(&ice.ufrag) {
            return None;
        }
        let ufrag = ice.ufrag.clone();
        let ssrc = self.random.u32();
        let key = self.transports.insert(Transport::new(id, room, ice, ssrc, self.hash, self.epoch));
        self.transport_keys.insert(id, key);
        self.ufrags.insert(ufrag, key);
        self.rooms.entry(room).or_default().members.push(key);
        Some(())
    }

    fn connect_transport(
        &mut self,
        id: TransportId,
        role: DtlsRole,
        fingerprints: Vec<Fingerprint>,
        now: Instant,
    ) -> Option<()> {
        let key = *self.transport_keys.get(&id)?;
        let transport = self.transports.get_mut(key)?;
        if transport.dtls.is_started() || transport.parameters.is_some() || transport.is_over() {
            return None;
        }
        transport.parameters = Some((role, fingerprints));
        transport.deadlines.connect = Some(now + self.config.connect_timeout);
        self.start_dtls(key, now);
        self.reschedule(key);
        Some(())
    }

    /// Starts the handshake as soon as both the parameters and a valid tuple are there.
    pub(super) fn start_dtls(&mut self, key: Key, now: Instant) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        if transport.ice.selected().is_none() {
            return;
        }
        let Some((role, fingerprints)) = transport.parameters.take() else { return };
        let outcome = transport.dtls.start(role, fingerprints, &self.identity, &self.config, now);
        self.after_dtls(key, outcome, now);
        self.reschedule(key);
    }

    fn restart_ice(&mut self, id: TransportId, ice: IceCredentials) -> Option<()> {
        let key = *self.transport_keys.get(&id)?;
        if self.ufrags.contains_key(&ice.ufrag) {
            return None;
        }
        let transport = self.transports.get_mut(key)?;
        self.ufrags.insert(ice.ufrag.clone(), key);
        if let Some(unused) = transport.ice.restart(ice) {
            self.ufrags.remove(&unused);
        }
        Some(())
    }

    fn close_transport(&mut self, id: TransportId, now: Instant) -> Option<()> {
        let key = self.transport_keys.remove(&id)?;
        let transport = self.transports.get(key)?;
        let (producers, consumers) = (transport.producers.clone(), transport.consumers.clone());
        for consumer in consumers {
            self.remove_consumer(consumer, now);
        }
        for producer in producers {
            self.remove_producer(producer, now);
        }
        self.remove_data(key, now);
        if let Some(transport) = self.transports.get_mut(key) {
            transport.dtls.close(now);
        }
        self.flush_dtls(key, now);
        self.set_state(key, TransportState::Closed);
        let transport = self.transports.remove(key)?;
        self.note_available(transport.available, None);
        self.note_incoming(transport.receiving.as_ref().and_then(|receiving| receiving.told()), None);
        self.timers.replace(key, transport.wake, None);
        for ufrag in transport.ice.ufrags() {
            self.ufrags.remove(ufrag);
        }
        for tuple in transport.ice.tuples() {
            if self.tuples.get(&tuple) == Some(&key) {
                self.tuples.remove(&tuple);
            }
        }
        if let Some(room) = self.rooms.get_mut(&transport.room) {
            room.members.retain(|m| *m != key);
            room.recent.left(key);
            if room.members.is_empty() {
                self.rooms.remove(&transport.room);
            }
        }
        Some(())
    }

    fn produce(&mut self, id: ProducerId, transport_id: TransportId, spec: ProducerSpec, now: Instant) -> Option<()> {
        let transport_key = *self.transport_keys.get(&transport_id)?;
        let transport = self.transports.get_mut(transport_key)?;
        let ssrcs = || spec.encodings.iter().flat_map(|e| e.ssrc.into_iter().chain(e.rtx_ssrc));
        let taken = ssrcs().any(|ssrc| transport.sources.contains_key(&ssrc));
        let twice = ssrcs().count() != ssrcs().collect::<std::collections::BTreeSet<_>>().len();
        if self.producer_keys.contains_key(&id) || spec.encodings.is_empty() || taken || twice {
            return None;
        }
        let producer = Producer::new(id, transport.room, transport_key, spec, &self.config);
        let key = self.producers.insert(producer);
        let producer = self.producers.get(key)?;
        for (encoding, stream) in producer.streams.iter().enumerate() {
            for (ssrc, rtx) in [(stream.ssrc, false), (stream.rtx_ssrc, true)] {
                if let Some(ssrc) = ssrc {
                    transport.bind(ssrc, key, encoding, rtx);
                }
            }
        }
        transport.producers.push(key);
        self.producer_keys.insert(id, key);
        if let Some(room) = self.rooms.get_mut(&transport.room) {
            room.recent.joined(transport_key);
        }
        self.review_receiving(transport_key);
        self.review_layers_wanted(key, now);
        Some(())
    }

    fn pause_producer(&mut self, id: ProducerId, paused: bool, now: Instant) -> Option<()> {
        let key = *self.producer_keys.get(&id)?;
        let producer = self.producers.get_mut(key)?;
        if producer.paused == paused {
            return Some(());
        }
        producer.paused = paused;
        let room = producer.room;
        for stream in &mut producer.streams {
            stream.missings.clear();
        }
        let consumers = producer.consumers.clone();
        for consumer in consumers {
            if let Some(consumer) = self.consumers.get_mut(consumer) {
                consumer.restart();
            }
            if !paused {
                self.want_key_frame(consumer, now);
            }
        }
        if paused {
            self.forget_speaker(room, id);
        }
        Some(())
    }

    fn close_producer(&mut self, id: ProducerId, now: Instant) -> Option<()> {
        let key = *self.producer_keys.get(&id)?;
        self.remove_producer(key, now);
        Some(())
    }

    fn remove_producer(&mut self, key: Key, now: Instant) {
        let Some(producer) = self.producers.get(key) else { return };
        for consumer in producer.consumers.clone() {
            self.say_bye(consumer, now);
            self.remove_consumer(consumer, now);
        }
        let Some(producer) = self.producers.remove(key) else { return };
        self.producer_keys.remove(&producer.id);
        if let Some(transport) = self.transports.get_mut(producer.transport) {
            transport.producers.retain(|p| *p != key);
            transport.unbind(key);
        }
        self.review_receiving(producer.transport);
        self.forget_speaker(producer.room, producer.id);
        self.restage(producer.room, now);
    }

    fn consume(
        &mut self,
        id: ConsumerId,
        transport_id: TransportId,
        producer_id: ProducerId,
        spec: ConsumerSpec,
        now: Instant,
    ) -> Option<()> {
        let transport_key = *self.transport_keys.get(&transport_id)?;
        let producer_key = *self.producer_keys.get(&producer_id)?;
        let transport = self.transports.get_mut(transport_key)?;
        let producer = self.producers.get_mut(producer_key)?;
        let ssrcs = [Some(spec.ssrc), spec.rtx.map(|(ssrc, _)| ssrc)];
        let continued = transport.parked.iter().position(|parked| parked.ssrc == spec.ssrc);
        let own = continued.and_then(|at| transport.parked.get(at)).map(|parked| [Some(parked.ssrc), parked.rtx_ssrc]);
        let is_used =
            |ssrc: &u32| transport.used_ssrcs.contains(ssrc) && own.is_none_or(|own| !own.contains(&Some(*ssrc)));
        let reused = ssrcs.iter().flatten().any(is_used) || ssrcs[0] == ssrcs[1];
        if self.consumer_keys.contains_key(&id) || reused || transport.room != producer.room {
            return None;
        }
        let seed = self.random.u32();
        let mut consumer = Consumer::new(
            id,
            transport_key,
            (producer_key, producer.streams.len()),
            producer.kind,
            spec,
            seed,
            &self.config,
        );
        if let Some(parked) = continued {
            consumer.go_on(transport.parked.remove(parked));
        }
        let key = self.consumers.insert(consumer);
        for ssrc in ssrcs.into_iter().flatten() {
            transport.used_ssrcs.insert(ssrc);
            transport.sinks.insert(ssrc, key);
        }
        transport.consumers.push(key);
        let has_transport_cc = self.consumers.get(key)?.has_transport_cc;
        if has_transport_cc || producer.kind == MediaKind::Video {
            let new = || Box::new(Congestion::new(self.config.bandwidth));
            let congestion = transport.congestion.get_or_insert_with(new);
            if has_transport_cc {
                congestion.expect_feedback();
            }
            arm(&mut transport.deadlines.bandwidth, now);
        }
        producer.consumers.push(key);
        self.consumer_keys.insert(id, key);
        self.restage_for(transport_key, now);
        // What it may have is to be known before its first key frame comes.
        self.manage_bandwidth(transport_key, now);
        self.reschedule(transport_key);
        self.want_key_frame(key, now);
        self.review_layers_wanted(producer_key, now);
        Some(())
    }

    fn pause_consumer(&mut self, id: ConsumerId, paused: bool, now: Instant) -> Option<()> {
        let key = *self.consumer_keys.get(&id)?;
        let consumer = self.consumers.get_mut(key)?;
        let (transport, producer) = (consumer.transport, consumer.producer);
        if consumer.pause(paused) {
            self.restage_for(transport, now);
            self.want_key_frame(key, now);
            self.review_layers_wanted(producer, now);
        }
        Some(())
    }

    fn close_consumer(&mut self, id: ConsumerId, now: Instant) -> Option<()> {
        let key = *self.consumer_keys.get(&id)?;
        let transport = self.consumers.get(key)?.transport;
        self.say_bye(key, now);
        self.remove_consumer(key, now);
        self.restage_for(transport, now);
        Some(())
    }

    fn park_consumer(&mut self, id: ConsumerId, now: Instant) -> Option<()> {
        let key = *self.consumer_keys.get(&id)?;
        let consumer = self.remove_consumer(key, now)?;
        self.transports.get_mut(consumer.transport)?.park(consumer.park());
        Some(())
    }

    fn remove_consumer(&mut self, key: Key, now: Instant) -> Option<Consumer> {
        let consumer = self.consumers.remove(key)?;
        self.consumer_keys.remove(&consumer.id);
        self.stats.layer_moved(consumer.told.map(|layers| layers.spatial), None);
        if consumer.layers.allowed().is_none() {
            let held = self.stats.gauge(Gauge::ConsumersHeld) as usize;
            self.stats.set(Gauge::ConsumersHeld, held.saturating_sub(1));
        }
        if let Some(transport) = self.transports.get_mut(consumer.transport) {
            transport.consumers.retain(|c| *c != key);
            transport.sinks.retain(|_, c| *c != key);
        }
        if let Some(producer) = self.producers.get_mut(consumer.producer) {
            producer.consumers.retain(|c| *c != key);
        }
        self.review_layers_wanted(consumer.producer, now);
        Some(consumer)
    }

    fn prefer_layers(&mut self, id: ConsumerId, layers: Layers, now: Instant) -> Option<()> {
        let key = *self.consumer_keys.get(&id)?;
        let consumer = self.consumers.get_mut(key)?;
        consumer.layers.prefer(layers);
        let producer_key = consumer.producer;
        self.review_layers_wanted(producer_key, now);
        let (consumer, producer) = (self.consumers.get(key)?, self.producers.get(producer_key)?);
        let timeout = self.config.encoding_timeout;
        let Some(aim) = consumer.aim(producer, now, timeout, 0) else { return Some(()) };
        let active = producer.streams.get(aim.encoding)?.rates.active(now, timeout).unwrap_or(Layers::LOWEST);
        // A spatial layer of SVC that was left out needs a key frame as another encoding does.
        let leaves_out = consumer.layers.limits().spatial < aim.limits.spatial.min(active.spatial);
        if consumer.layers.encoding() != Some(aim.encoding) || leaves_out {
            self.want_key_frame(key, now);
        }
        Some(())
    }

    fn prioritize(&mut self, id: ConsumerId, priority: u8, now: Instant) -> Option<()> {
        let consumer = self.consumers.get_mut(*self.consumer_keys.get(&id)?)?;
        consumer.priority = priority.max(1);
        let transport = consumer.transport;
        self.manage_bandwidth(transport, now);
        self.reschedule(transport);
        Some(())
    }

    /// Asks for a key frame of the encoding that a consumer is to get, if it needs one to start or to switch.
    pub(super) fn want_key_frame(&mut self, consumer: Key, now: Instant) {
        let Some(consumer) = self.consumers.get(consumer) else { return };
        let Some(producer) = self.producers.get_mut(consumer.producer) else { return };
        let reachable = self.transports.get(consumer.transport).is_some_and(Transport::can_send);
        let useful = Consumer::needs_key_frame(producer) && producer.answers_pli();
        if consumer.paused || producer.paused || !reachable || !useful {
            return;
        }
        let timeout = self.config.encoding_timeout;
        let Some(aim) = consumer.aim(producer, now, timeout, 0) else { return };
        let Some(stream) = producer.streams.get_mut(aim.encoding) else { return };
        stream.key_frames.want();
        let Some(due) = stream.key_frames.due(now, self.config.key_frame_interval) else { return };
        let key = producer.transport;
        if let Some(transport) = self.transports.get_mut(key)
            && arm(&mut transport.deadlines.key_frames, due)
        {
            self.reschedule(key);
        }
    }

    /// Tells a subscriber that a stream has ended (RFC 3550 §6.6).
    fn say_bye(&mut self, consumer: Key, now: Instant) {
        let Some(consumer) = self.consumers.get(consumer) else { return };
        if consumer.packets > 0
            && let Some(bye) = reports::goodbye(consumer.ssrc)
        {
            self.send_rtcp(consumer.transport, bye, now);
        }
    }
}
