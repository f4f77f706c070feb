//! Whose statistics a participant may read, and where they are to be asked for: its own, and everybody's as a moderator.

use std::net::SocketAddr;

use super::{Access, Refusal, Registry, Worker};
use crate::{core::Question, ortc::Kind};

/// A question to a media loop, and what that does not know of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked<T> {
    /// The media loop.
    pub worker: Worker,
    /// What to ask it.
    pub question: Question,
    /// What it does not know.
    pub about: T,
}

/// A track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    /// Audio or video.
    pub kind: Kind,
    /// Media type of its codec.
    pub mime_type: String,
}

/// A data channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Name to show.
    pub label: String,
    /// Subprotocol.
    pub protocol: String,
}

const OTHERS: Refusal = Refusal::Forbidden("read the statistics of others");

impl Access {
    fn may_read(&self, owner: &str) -> bool {
        self.user == owner || self.role.moderates()
    }
}

impl Registry {
    /// Asks about a transport. The addresses that it was announced with stand for the socket's own.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], also for those of others.
    pub fn ask_transport(&self, access: &Access, id: &str) -> Result<Asked<Vec<SocketAddr>>, Refusal> {
        let room = self.room(&access.room)?;
        let transport = room.transports.get(id).filter(|transport| access.may_read(&transport.user));
        let question = Question::Transport(transport.ok_or(Refusal::NotFound("transport"))?.media);
        let about = self.settings.candidates.get(room.worker).cloned().unwrap_or_default();
        Ok(Asked { worker: room.worker, question, about })
    }

    /// Asks about a track.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Forbidden`] for those of others.
    pub fn ask_producer(&self, access: &Access, id: &str) -> Result<Asked<Track>, Refusal> {
        let room = self.room(&access.room)?;
        let producer = room.producers.get(id).ok_or(Refusal::NotFound("producer"))?;
        if !access.may_read(&producer.user) {
            return Err(OTHERS);
        }
        Ok(Asked { worker: room.worker, question: Question::Producer(producer.media), about: producer.track() })
    }

    /// Asks about a subscription and the stream that it gets.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], also for those of others.
    pub fn ask_consumer(&self, access: &Access, id: &str) -> Result<Asked<Track>, Refusal> {
        let room = self.room(&access.room)?;
        let consumer = room.consumers.get(id).filter(|consumer| access.may_read(&consumer.user));
        let consumer = consumer.ok_or(Refusal::NotFound("consumer"))?;
        let producer = room.producers.get(&consumer.producer).ok_or(Refusal::NotFound("consumer"))?;
        Ok(Asked { worker: room.worker, question: Question::Consumer(consumer.media), about: producer.track() })
    }

    /// Asks about a data channel.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Forbidden`] for those of others.
    pub fn ask_data_producer(&self, access: &Access, id: &str) -> Result<Asked<Channel>, Refusal> {
        let room = self.room(&access.room)?;
        let producer = room.data_producers.get(id).ok_or(Refusal::NotFound("data producer"))?;
        if !access.may_read(&producer.user) {
            return Err(OTHERS);
        }
        Ok(Asked { worker: room.worker, question: Question::DataProducer(producer.media), about: producer.channel() })
    }

    /// Asks about a subscription to a data channel.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], also for those of others.
    pub fn ask_data_consumer(&self, access: &Access, id: &str) -> Result<Asked<Channel>, Refusal> {
        let room = self.room(&access.room)?;
        let consumer = room.data_consumers.get(id).filter(|consumer| access.may_read(&consumer.user));
        let consumer = consumer.ok_or(Refusal::NotFound("data consumer"))?;
        let producer = room.data_producers.get(&consumer.producer).ok_or(Refusal::NotFound("data consumer"))?;
        Ok(Asked { worker: room.worker, question: Question::DataConsumer(consumer.media), about: producer.channel() })
    }
}
