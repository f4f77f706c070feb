//! Data channels: published, subscribed, ended.

use std::collections::BTreeSet;

use super::{
    Access, DataConsumerView, DataProducerView, Direction, Refusal, RoomEvent, RoomKey, Turn,
    event::{AppData, DataConsumerEnd},
    registry::{Effect, Room, SocketId},
    settings::{MAX_DATA_CONSUMERS, MAX_DATA_PRODUCERS},
    statistics::Channel,
    streams::check_app_data,
};
use crate::{
    core::command::{Command, DataConsumerId, DataProducerId, TransportId},
    ortc::{self, NumSctpStreams, SctpParameters, SctpStreamParameters},
};

/// Longest label and protocol, in bytes.
const MAX_NAME: usize = 256;

/// A published data channel.
pub(super) struct DataProducer {
    pub(super) id: String,
    pub(super) media: DataProducerId,
    pub(super) user: String,
    pub(super) transport: String,
    parameters: SctpStreamParameters,
    label: String,
    protocol: String,
    app_data: AppData,
}

/// A subscription to one.
pub(super) struct DataConsumer {
    pub(super) media: DataConsumerId,
    pub(super) user: String,
    pub(super) transport: String,
    pub(super) producer: String,
    stream: u16,
}

impl DataProducer {
    /// What the statistics say of it.
    pub(super) fn channel(&self) -> Channel {
        Channel { label: self.label.clone(), protocol: self.protocol.clone() }
    }

    pub(super) fn view(&self) -> DataProducerView {
        DataProducerView {
            id: self.id.clone(),
            participant_id: self.user.clone(),
            label: self.label.clone(),
            protocol: self.protocol.clone(),
            sctp_stream_parameters: self.parameters.clone(),
            app_data: self.app_data.clone(),
        }
    }
}

/// What a client says of a data channel that it publishes.
#[derive(Clone, Debug)]
pub struct PublishedData {
    /// Stream and order.
    pub parameters: SctpStreamParameters,
    /// Name to show.
    pub label: String,
    /// Subprotocol.
    pub protocol: String,
    /// Handed on unread.
    pub app_data: AppData,
}

/// What a client asks for when it subscribes to a data channel.
#[derive(Clone, Debug)]
pub struct ConsumedData {
    /// Its receiving transport.
    pub transport: String,
    /// The data channel.
    pub producer: String,
    /// Other than the publisher's.
    pub ordered: Option<bool>,
    /// Other than the publisher's.
    pub max_packet_life_time: Option<u32>,
    /// Other than the publisher's.
    pub max_retransmits: Option<u32>,
}

impl Turn<'_> {
    /// Lets a transport carry data channels.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Parameters`].
    pub fn enable_sctp(
        &mut self,
        access: &Access,
        id: &str,
        wanted: NumSctpStreams,
    ) -> Result<SctpParameters, Refusal> {
        let parameters = SctpParameters::answer(wanted)?;
        let (worker, transport) = self.own_transport(access, id)?;
        transport.sctp = Some(parameters.clone());
        let command = Command::EnableSctp { transport: transport.media };
        self.effects.push(Effect::Media(worker, command));
        Ok(parameters)
    }

    /// Publishes a data channel and returns its id.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`], [`Refusal::NotFound`], [`Refusal::Parameters`], [`Refusal::TooMany`],
    /// [`Refusal::Conflict`] on a transport that receives or has no SCTP.
    pub fn produce_data(
        &mut self,
        access: &Access,
        transport: &str,
        published: PublishedData,
    ) -> Result<String, Refusal> {
        if !access.grants.publish {
            return Err(Refusal::Forbidden("publish"));
        }
        check_app_data(&published.app_data)?;
        for (name, text) in [("label", &published.label), ("protocol", &published.protocol)] {
            if text.len() > MAX_NAME {
                return Err(ortc::Error::invalid(name, format!("is longer than {MAX_NAME} bytes")).into());
            }
        }
        let parameters = published.parameters.normalized()?;
        let (worker, sender) = self.own_transport(access, transport)?;
        if sender.direction != Direction::Send {
            return Err(Refusal::Conflict("the transport was created to receive"));
        }
        let media_transport = sender.media;
        let sctp = sender.sctp.as_ref().ok_or(Refusal::Conflict("the transport was created without SCTP"))?;
        if parameters.stream_id >= sctp.mis {
            let reason = format!("is not one of the transport's {} streams", sctp.mis);
            return Err(ortc::Error::invalid("sctpStreamParameters.streamId", reason).into());
        }
        let room = self.registry.room(&access.room)?;
        let own = room.data_producers.values().filter(|producer| producer.user == access.user);
        if own.count() >= MAX_DATA_PRODUCERS {
            return Err(Refusal::TooMany { what: "data producers of one participant", max: MAX_DATA_PRODUCERS });
        }
        let mut siblings = room.data_producers.values().filter(|producer| producer.transport == transport);
        if siblings.any(|producer| producer.parameters.stream_id == parameters.stream_id) {
            let reason = "is taken by another data producer of the transport";
            return Err(ortc::Error::invalid("sctpStreamParameters.streamId", reason).into());
        }

        let id = self.registry.uuid();
        let media = DataProducerId(self.registry.next_id());
        let PublishedData { label, protocol, app_data, .. } = published;
        let (stream, ordered) = (parameters.stream_id, parameters.delivery().ordered);
        let user = access.user.clone();
        let transport = transport.to_owned();
        let producer = DataProducer { id: id.clone(), media, user, transport, parameters, label, protocol, app_data };
        let command = Command::ProduceData { data_producer: media, transport: media_transport, stream, ordered };
        self.effects.push(Effect::Media(worker, command));
        let room = self.registry.room_mut(&access.room)?;
        let event = RoomEvent::NewDataProducer(producer.view());
        self.effects.push(Effect::Tell(room.sockets_except(&access.user), event));
        room.data_producers.insert(id.clone(), producer);
        Ok(id)
    }

    /// Subscribes to a data channel of anyone in the room.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`], [`Refusal::NotFound`], [`Refusal::Parameters`], [`Refusal::TooMany`],
    /// [`Refusal::Conflict`] on a transport that sends or has no SCTP.
    pub fn consume_data(&mut self, access: &Access, wanted: &ConsumedData) -> Result<DataConsumerView, Refusal> {
        if !access.grants.subscribe {
            return Err(Refusal::Forbidden("subscribe"));
        }
        let id = self.registry.uuid();
        let media = DataConsumerId(self.registry.next_id());
        self.own_transport(access, &wanted.transport)?;
        let room = self.registry.room_mut(&access.room)?;
        let producer = room.data_producers.get(&wanted.producer).ok_or(Refusal::NotFound("data producer"))?;
        let receiver = room.transports.get_mut(&wanted.transport).ok_or(Refusal::NotFound("transport"))?;
        if receiver.direction != Direction::Recv {
            return Err(Refusal::Conflict("the transport was created to send"));
        }
        let sctp = receiver.sctp.as_ref().ok_or(Refusal::Conflict("the transport was created without SCTP"))?;
        let own = room.data_consumers.values().filter(|consumer| consumer.transport == wanted.transport);
        let taken: BTreeSet<u16> = own.map(|consumer| consumer.stream).collect();
        let max = MAX_DATA_CONSUMERS.min(usize::from(sctp.os));
        // Round and round, so that a stream rests before it is used again: its end takes a round trip.
        let mut streams = (0..sctp.os).map(|step| (receiver.next_stream % sctp.os + step) % sctp.os);
        let stream = streams
            .find(|stream| !taken.contains(stream) && taken.len() < max)
            .ok_or(Refusal::TooMany { what: "data consumers of one transport", max })?;
        let published = &producer.parameters;
        let is_other = [wanted.max_packet_life_time, wanted.max_retransmits].iter().any(Option::is_some);
        let parameters = SctpStreamParameters {
            stream_id: stream,
            ordered: wanted.ordered.or(published.ordered),
            max_packet_life_time: if is_other { wanted.max_packet_life_time } else { published.max_packet_life_time },
            max_retransmits: if is_other { wanted.max_retransmits } else { published.max_retransmits },
        };
        let parameters = parameters.normalized()?;
        receiver.next_stream = stream + 1;
        let command = Command::ConsumeData {
            data_consumer: media,
            transport: receiver.media,
            data_producer: producer.media,
            stream,
            delivery: parameters.delivery(),
        };
        let view = DataConsumerView {
            id: id.clone(),
            data_producer_id: producer.id.clone(),
            participant_id: producer.user.clone(),
            sctp_stream_parameters: parameters,
            label: producer.label.clone(),
            protocol: producer.protocol.clone(),
            app_data: producer.app_data.clone(),
        };
        let consumer = DataConsumer {
            media,
            user: access.user.clone(),
            transport: wanted.transport.clone(),
            producer: wanted.producer.clone(),
            stream,
        };
        self.effects.push(Effect::Media(room.worker, command));
        room.data_consumers.insert(id, consumer);
        Ok(view)
    }

    /// Ends one of the caller's subscriptions to a data channel.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub fn close_data_consumer(&mut self, access: &Access, id: &str) -> Result<(), Refusal> {
        let room = self.registry.room_mut(&access.room)?;
        let own = room.data_consumers.get(id).filter(|consumer| consumer.user == access.user);
        let data_consumer = own.ok_or(Refusal::NotFound("data consumer"))?.media;
        room.data_consumers.remove(id);
        self.effects.push(Effect::Media(room.worker, Command::CloseDataConsumer { data_consumer }));
        Ok(())
    }

    /// Ends a data channel of the caller's, or of anyone as a moderator.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Forbidden`].
    pub fn close_data_producer(&mut self, access: &Access, id: &str) -> Result<(), Refusal> {
        let room = self.registry.room(&access.room)?;
        let producer = room.data_producers.get(id).ok_or(Refusal::NotFound("data producer"))?;
        if producer.user != access.user && !access.role.moderates() {
            return Err(Refusal::Forbidden("end data channels of others"));
        }
        let by = (producer.user != access.user).then(|| access.user.clone());
        self.end_data_producer(&access.room, id, by);
        Ok(())
    }

    /// Ends a data channel and its subscriptions, and tells whoever it concerns: its publisher too, where a moderator ended it.
    pub(super) fn end_data_producer(&mut self, key: &RoomKey, id: &str, by: Option<String>) {
        let Ok(room) = self.registry.room_mut(key) else { return };
        let Some(producer) = room.data_producers.remove(id) else { return };
        for (consumer, told) in take_consumers(room, |consumer| consumer.producer == id) {
            self.effects.push(ended(room.sockets_of(&told.user), consumer, id, DataConsumerEnd::Producer));
        }
        self.effects.push(Effect::Media(room.worker, Command::CloseDataProducer { data_producer: producer.media }));
        let told = room.sockets_told_of(&producer.user, by.as_deref());
        let (data_producer_id, participant_id) = (id.into(), producer.user);
        let event = RoomEvent::DataProducerClosed { data_producer_id, participant_id, closed_by: by };
        self.effects.push(Effect::Tell(told, event));
    }

    /// Everything of a transport that has ended. Whose it was knows.
    pub(super) fn end_data_of(&mut self, key: &RoomKey, transport: &str) {
        let Ok(room) = self.registry.room_mut(key) else { return };
        room.data_consumers.retain(|_, consumer| consumer.transport != transport);
        let of_transport = room.data_producers.values().filter(|producer| producer.transport == transport);
        let producers: Vec<String> = of_transport.map(|producer| producer.id.clone()).collect();
        for producer in producers {
            self.end_data_producer(key, &producer, None);
        }
    }

    /// The core ended a subscription whose client did not take what came.
    pub(super) fn data_consumer_overflown(&mut self, transport: TransportId, media: DataConsumerId) {
        let Some((key, _)) = self.registry.transports.get(&transport).cloned() else { return };
        let Ok(room) = self.registry.room_mut(&key) else { return };
        let found = room.data_consumers.iter().find(|(_, consumer)| consumer.media == media);
        let Some(id) = found.map(|(id, _)| id.clone()) else { return };
        if let Some(consumer) = room.data_consumers.remove(&id) {
            let sockets = room.sockets_of(&consumer.user);
            self.effects.push(ended(sockets, id, &consumer.producer, DataConsumerEnd::Overflow));
        }
    }

    /// The association of a transport has ended: so has what it carried.
    pub(super) fn sctp_closed(&mut self, transport: TransportId) {
        let Some((key, id)) = self.registry.transports.get(&transport).cloned() else { return };
        let Ok(room) = self.registry.room_mut(&key) else { return };
        for (consumer, told) in take_consumers(room, |consumer| consumer.transport == id) {
            let sockets = room.sockets_of(&told.user);
            self.effects.push(ended(sockets, consumer, &told.producer, DataConsumerEnd::Sctp));
            let command = Command::CloseDataConsumer { data_consumer: told.media };
            self.effects.push(Effect::Media(room.worker, command));
        }
        self.end_data_of(&key, &id);
    }
}

fn take_consumers(room: &mut Room, which: impl Fn(&DataConsumer) -> bool) -> Vec<(String, DataConsumer)> {
    room.data_consumers.extract_if(|_, consumer| which(consumer)).collect()
}

fn ended(sockets: Vec<SocketId>, id: String, producer: &str, reason: DataConsumerEnd) -> Effect {
    let (data_consumer_id, data_producer_id) = (id, producer.to_owned());
    Effect::Tell(sockets, RoomEvent::DataConsumerClosed { data_consumer_id, data_producer_id, reason })
}
