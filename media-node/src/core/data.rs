//! Data channels: what comes on a stream of one client goes out on a stream of each subscriber.

use std::time::Instant;

use super::Core;
use super::command::{
    DataConsumerId, DataProducerId, Delivery, Event, Reliability, RoomId, TransportId, TransportState,
};
use super::query::DataStats;
use super::random::{Map, SeededHash};
use super::sctp::{MAX_STREAMS, Message, Sctp};
use super::slab::{Key, Slab};
use super::stats::{Counter, Drop, Fate, Gauge};

/// A published data channel.
struct DataProducer {
    id: DataProducerId,
    room: RoomId,
    transport: Key,
    stream: u16,
    consumers: Vec<Key>,
    messages: u64,
    bytes: u64,
}

/// A subscription to one.
struct DataConsumer {
    id: DataConsumerId,
    transport: Key,
    producer: Key,
    stream: u16,
    delivery: Delivery,
    messages: u64,
    bytes: u64,
}

/// All data channels of one event loop.
pub(super) struct Data {
    producers: Slab<DataProducer>,
    consumers: Slab<DataConsumer>,
    producer_keys: Map<DataProducerId, Key>,
    consumer_keys: Map<DataConsumerId, Key>,
}

impl Data {
    pub fn new(hash: SeededHash) -> Self {
        Self {
            producers: Slab::default(),
            consumers: Slab::default(),
            producer_keys: Map::with_hasher(hash),
            consumer_keys: Map::with_hasher(hash),
        }
    }
}

impl Core {
    pub(super) fn set_data_gauges(&mut self) {
        self.stats.set(Gauge::DataProducers, self.data.producers.len());
        self.stats.set(Gauge::DataConsumers, self.data.consumers.len());
    }

    pub(super) fn enable_sctp(&mut self, id: TransportId) -> Option<()> {
        let transport = self.transports.get_mut(*self.transport_keys.get(&id)?)?;
        transport.sctp.get_or_insert_with(|| Box::new(Sctp::new()));
        Some(())
    }

    pub(super) fn produce_data(
        &mut self,
        id: DataProducerId,
        transport_id: TransportId,
        stream: u16,
        ordered: bool,
    ) -> Option<()> {
        let transport_key = *self.transport_keys.get(&transport_id)?;
        let is_taken = self.producer_on(transport_key, stream).is_some();
        if is_taken || stream >= MAX_STREAMS || self.data.producer_keys.contains_key(&id) {
            return None;
        }
        let transport = self.transports.get_mut(transport_key)?;
        transport.sctp.as_mut()?.bind(stream, !ordered);
        let producer = DataProducer {
            id,
            room: transport.room,
            transport: transport_key,
            stream,
            consumers: Vec::new(),
            messages: 0,
            bytes: 0,
        };
        let key = self.data.producers.insert(producer);
        transport.data_producers.push(key);
        self.data.producer_keys.insert(id, key);
        Some(())
    }

    pub(super) fn consume_data(
        &mut self,
        id: DataConsumerId,
        transport_id: TransportId,
        producer_id: DataProducerId,
        stream: u16,
        delivery: Delivery,
    ) -> Option<()> {
        let transport_key = *self.transport_keys.get(&transport_id)?;
        let producer_key = *self.data.producer_keys.get(&producer_id)?;
        let transport = self.transports.get_mut(transport_key)?;
        let producer = self.data.producers.get_mut(producer_key)?;
        let consumers = &self.data.consumers;
        let is_taken = transport.data_consumers.iter().any(|c| consumers.get(*c).is_some_and(|c| c.stream == stream));
        if is_taken
            || stream >= MAX_STREAMS
            || transport.sctp.is_none()
            || transport.room != producer.room
            || self.data.consumer_keys.contains_key(&id)
        {
            return None;
        }
        let consumer = DataConsumer {
            id,
            transport: transport_key,
            producer: producer_key,
            stream,
            delivery,
            messages: 0,
            bytes: 0,
        };
        let key = self.data.consumers.insert(consumer);
        transport.data_consumers.push(key);
        producer.consumers.push(key);
        self.data.consumer_keys.insert(id, key);
        Some(())
    }

    pub(super) fn close_data_producer(&mut self, id: DataProducerId, now: Instant) -> Option<()> {
        let key = *self.data.producer_keys.get(&id)?;
        self.remove_data_producer(key, now);
        Some(())
    }

    pub(super) fn close_data_consumer(&mut self, id: DataConsumerId, now: Instant) -> Option<()> {
        let key = *self.data.consumer_keys.get(&id)?;
        self.remove_data_consumer(key, now);
        Some(())
    }

    /// Everything of a transport that ends.
    pub(super) fn remove_data(&mut self, transport: Key, now: Instant) {
        let Some(transport) = self.transports.get(transport) else { return };
        let (producers, consumers) = (transport.data_producers.clone(), transport.data_consumers.clone());
        for consumer in consumers {
            self.remove_data_consumer(consumer, now);
        }
        for producer in producers {
            self.remove_data_producer(producer, now);
        }
    }

    fn remove_data_producer(&mut self, key: Key, now: Instant) {
        let Some(producer) = self.data.producers.remove(key) else { return };
        self.data.producer_keys.remove(&producer.id);
        for consumer in producer.consumers {
            self.remove_data_consumer(consumer, now);
        }
        if let Some(transport) = self.transports.get_mut(producer.transport) {
            transport.data_producers.retain(|p| *p != key);
            if let Some(sctp) = &mut transport.sctp {
                sctp.unbind(producer.stream);
            }
        }
    }

    fn remove_data_consumer(&mut self, key: Key, now: Instant) {
        let Some(consumer) = self.data.consumers.remove(key) else { return };
        self.data.consumer_keys.remove(&consumer.id);
        if let Some(producer) = self.data.producers.get_mut(consumer.producer) {
            producer.consumers.retain(|c| *c != key);
        }
        if let Some(transport) = self.transports.get_mut(consumer.transport) {
            transport.data_consumers.retain(|c| *c != key);
            if let Some(sctp) = &mut transport.sctp {
                sctp.close_stream(consumer.stream, now);
            }
        }
        self.flush_sctp(consumer.transport, now);
    }

    /// How a data producer stands.
    pub(super) fn data_producer_stats(&self, id: DataProducerId) -> Option<DataStats> {
        let producer = self.data.producers.get(*self.data.producer_keys.get(&id)?)?;
        Some(DataStats { messages: producer.messages, bytes: producer.bytes, buffered: 0 })
    }

    /// How a data consumer stands.
    pub(super) fn data_consumer_stats(&mut self, id: DataConsumerId) -> Option<DataStats> {
        let consumer = self.data.consumers.get(*self.data.consumer_keys.get(&id)?)?;
        let sctp = self.transports.get_mut(consumer.transport).and_then(|transport| transport.sctp.as_mut());
        let buffered = sctp.map_or(0, |sctp| sctp.buffered(consumer.stream));
        Some(DataStats { messages: consumer.messages, bytes: consumer.bytes, buffered })
    }

    fn producer_on(&self, transport: Key, stream: u16) -> Option<Key> {
        let bound = |key: &&Key| self.data.producers.get(**key).is_some_and(|p| p.stream == stream);
        self.transports.get(transport)?.data_producers.iter().find(bound).copied()
    }

    /// What DTLS has decrypted.
    pub(super) fn on_data(&mut self, key: Key, now: Instant) -> Result<Fate, Drop> {
        let mut fate = Ok(Fate::Consumed);
        while let Some(transport) = self.transports.get_mut(key)
            && let Some(packet) = transport.dtls.poll_data()
        {
            let received = match &mut transport.sctp {
                Some(sctp) => sctp.receive(packet, now),
                None => Err(Drop::DtlsData),
            };
            // A datagram has one fate, and rarely more than one record.
            if let Err(reason) = received
                && let Err(earlier) = std::mem::replace(&mut fate, Err(reason))
            {
                self.stats.drop(earlier);
            }
            self.forward_messages(key, now);
        }
        self.flush_sctp(key, now);
        fate
    }

    pub(super) fn wake_sctp(&mut self, key: Key, now: Instant) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        let Some(sctp) = &mut transport.sctp else { return };
        sctp.handle_timeout(now);
        self.forward_messages(key, now);
        self.flush_sctp(key, now);
    }

    fn forward_messages(&mut self, key: Key, now: Instant) {
        let mut touched = Vec::new();
        while let Some(message) = self.transports.get_mut(key).and_then(|t| t.sctp.as_mut()?.poll_message()) {
            self.stats.count(Counter::DataMessagesIn);
            match self.producer_on(key, message.stream) {
                Some(producer) => self.fan_out_message(producer, &message, &mut touched, now),
                None => self.stats.drop(Drop::DataUnknownStream),
            }
        }
        touched.sort_unstable();
        touched.dedup();
        for transport in touched {
            self.flush_sctp(transport, now);
        }
    }

    fn fan_out_message(&mut self, producer: Key, message: &Message, touched: &mut Vec<Key>, now: Instant) {
        let Some(producer) = self.data.producers.get_mut(producer) else { return };
        producer.messages += 1;
        producer.bytes += message.payload.len() as u64;
        let mut overflown = Vec::new();
        for &key in &producer.consumers {
            let Some(consumer) = self.data.consumers.get_mut(key) else { continue };
            let Some(transport) = self.transports.get_mut(consumer.transport) else { continue };
            let Some(sctp) = &mut transport.sctp else { continue };
            match sctp.send(consumer.stream, consumer.delivery, message, now) {
                Ok(()) => {
                    consumer.messages += 1;
                    consumer.bytes += message.payload.len() as u64;
                    self.stats.count(Counter::DataMessagesOut);
                    touched.push(consumer.transport);
                }
                Err(reason) => {
                    self.stats.drop(reason);
                    if reason == Drop::DataQueueFull && consumer.delivery.reliability == Reliability::Reliable {
                        self.events.push_back(Event::DataConsumerOverflow {
                            transport: transport.id,
                            data_consumer: consumer.id,
                        });
                        overflown.push(key);
                    }
                }
            }
        }
        // Reliable with a hole is neither: its subscriber must know, and begin anew.
        for consumer in overflown {
            self.remove_data_consumer(consumer, now);
            self.set_data_gauges();
        }
    }

    /// Seals what the association wants sent into the client's batch, and tells of its end.
    fn flush_sctp(&mut self, key: Key, now: Instant) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        let Some(sctp) = &mut transport.sctp else { return };
        sctp.flush(now);
        for reason in sctp.take_dropped() {
            self.stats.drop(reason);
        }
        if sctp.take_lost() {
            self.stats.count(Counter::SctpLost);
            self.events.push_back(Event::SctpClosed { transport: transport.id });
        }
        while let Some(transport) = self.transports.get_mut(key)
            && let Some(packet) = transport.sctp.as_mut().and_then(|sctp| sctp.poll_transmit())
        {
            // Without consent nothing is sent; the association repeats itself.
            if transport.state != TransportState::Connected || transport.ice.selected().is_none() {
                continue;
            }
            let Some(record) = transport.dtls.seal(&packet, now) else { continue };
            self.outbox.push(key, transport, &record, now + self.config.batch_delay);
        }
        self.reschedule(key);
    }
}
