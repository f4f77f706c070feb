//! The state of all rooms and the orders from above: serve, release, fence.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Instant,
};

use rand::{RngExt, rngs::StdRng};

use super::{
    MediaRules, Reason, Refusal, RoomEvent, RoomKey, Settings,
    data::{DataConsumer, DataProducer},
    participants::Participant,
    streams::{Consumer, Producer},
    transports::Transport,
    view::RoomView,
};
use crate::core::command::{Command, ProducerId, RoomId, TransportId};

/// A room that this node is to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Which.
    pub key: RoomKey,
    /// UID of its `CallRoom`: a room deleted and made again under the same name is another room.
    pub uid: String,
    /// Epoch of the route that names this node.
    pub epoch: i64,
    /// Most participants at once.
    pub max_participants: usize,
    /// What may be published, and who is heard and seen.
    pub rules: MediaRules,
}

/// What a room costs now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomLoad {
    /// Which.
    pub key: RoomKey,
    /// UID of its `CallRoom`.
    pub uid: String,
    /// Epoch served.
    pub epoch: i64,
    /// People in it.
    pub participants: usize,
    /// Streams forwarded: its consumers.
    pub streams: usize,
    /// Since when nobody is in it; `None` while somebody is.
    pub empty_since: Option<Instant>,
}

/// Sums over all rooms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Rooms.
    pub rooms: usize,
    /// Participants.
    pub participants: usize,
    /// Transports.
    pub transports: usize,
    /// Published tracks.
    pub producers: usize,
    /// Subscriptions.
    pub consumers: usize,
}

/// Index of a media loop.
pub type Worker = usize;

/// An event socket. Never reused.
pub type SocketId = u64;

/// Something to do outside.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Order a media loop.
    Media(Worker, Command),
    /// Tell sockets.
    Tell(Vec<SocketId>, RoomEvent),
    /// Close sockets, after what was told before.
    Close(Vec<SocketId>),
}

/// One room.
pub(super) struct Room {
    pub(super) uid: String,
    pub(super) epoch: i64,
    /// The latest epoch that a token has proven. While it is later than `epoch`, nobody new gets in.
    pub(super) proven: i64,
    pub(super) max_participants: usize,
    pub(super) rules: MediaRules,
    pub(super) media: RoomId,
    pub(super) worker: Worker,
    pub(super) participants: BTreeMap<String, Participant>,
    /// Users whom a moderator removed, and the second from which on tokens issued to them are good again.
    pub(super) removed: BTreeMap<String, i64>,
    pub(super) transports: HashMap<String, Transport>,
    pub(super) producers: HashMap<String, Producer>,
    pub(super) consumers: HashMap<String, Consumer>,
    pub(super) data_producers: HashMap<String, DataProducer>,
    pub(super) data_consumers: HashMap<String, DataConsumer>,
    pub(super) sockets: BTreeMap<SocketId, String>,
    /// Whose track is the loudest now, as the media loop knows it.
    pub(super) speaker: Option<ProducerId>,
    pub(super) empty_since: Option<Instant>,
}

/// All rooms of this node.
pub struct Registry {
    pub(super) settings: Settings,
    pub(super) rooms: HashMap<RoomKey, Room>,
    pub(super) fenced: bool,
    pub(super) draining: bool,
    /// Where a transport of the media loops belongs.
    pub(super) transports: HashMap<TransportId, (RoomKey, String)>,
    pub(super) media_rooms: HashMap<RoomId, RoomKey>,
    pub(super) rng: StdRng,
    last_id: u64,
}

/// The registry at one moment, and what follows from what is done to it.
pub struct Turn<'a> {
    /// The rooms.
    pub registry: &'a mut Registry,
    /// Monotonic time.
    pub now: Instant,
    /// Wall time.
    pub timestamp: jiff::Timestamp,
    /// Worker for a room that is new.
    pub next_worker: &'a dyn Fn() -> Worker,
    /// What must be done outside, in this order.
    pub effects: &'a mut Vec<Effect>,
}

impl Registry {
    /// Without rooms.
    pub fn new(settings: Settings, rng: StdRng) -> Self {
        Self {
            settings,
            rooms: HashMap::new(),
            fenced: false,
            draining: false,
            transports: HashMap::new(),
            media_rooms: HashMap::new(),
            rng,
            last_id: 0,
        }
    }

    /// A number that this process never gave to anything else.
    pub(super) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// An id for clients: a random UUID (RFC 9562 version 4).
    pub(super) fn uuid(&mut self) -> String {
        uuid::Builder::from_random_bytes(self.rng.random()).into_uuid().to_string()
    }

    /// What each room costs, by key.
    pub fn snapshot(&self) -> Vec<RoomLoad> {
        let mut loads: Vec<RoomLoad> = self
            .rooms
            .iter()
            .map(|(key, room)| RoomLoad {
                key: key.clone(),
                uid: room.uid.clone(),
                epoch: room.epoch,
                participants: room.participants.len(),
                streams: room.consumers.len(),
                empty_since: room.empty_since,
            })
            .collect();
        loads.sort_by(|a, b| a.key.cmp(&b.key));
        loads
    }

    /// Sums over all rooms.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals { rooms: self.rooms.len(), transports: self.transports.len(), ..Totals::default() };
        for room in self.rooms.values() {
            totals.participants += room.participants.len();
            totals.producers += room.producers.len();
            totals.consumers += room.consumers.len();
        }
        totals
    }

    /// Event sockets of all rooms.
    pub fn sockets(&self) -> usize {
        self.rooms.values().map(|room| room.sockets.len()).sum()
    }

    /// Whether the process means to end.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    pub(super) fn room(&self, key: &RoomKey) -> Result<&Room, Refusal> {
        self.rooms.get(key).ok_or(Refusal::RoomNotFound)
    }

    pub(super) fn room_mut(&mut self, key: &RoomKey) -> Result<&mut Room, Refusal> {
        self.rooms.get_mut(key).ok_or(Refusal::RoomNotFound)
    }

    /// The room as clients see it.
    ///
    /// # Errors
    /// [`Refusal::RoomNotFound`].
    pub fn describe(&self, key: &RoomKey) -> Result<RoomView, Refusal> {
        let room = self.room(key)?;
        let mut producers: Vec<&Producer> = room.producers.values().collect();
        producers.sort_by_key(|producer| producer.media.0);
        let mut data_producers: Vec<&DataProducer> = room.data_producers.values().collect();
        data_producers.sort_by_key(|producer| producer.media.0);
        Ok(RoomView {
            id: key.to_string(),
            epoch: room.epoch,
            router_rtp_capabilities: room.rules.router().into_owned(),
            participants: room.participants.iter().map(|(user, participant)| participant.view(user)).collect(),
            producers: producers.into_iter().map(Producer::view).collect(),
            data_producers: data_producers.into_iter().map(DataProducer::view).collect(),
        })
    }
}

impl Room {
    /// Sockets of everyone but one.
    pub(super) fn sockets_except(&self, user: &str) -> Vec<SocketId> {
        self.sockets.iter().filter(|(_, owner)| *owner != user).map(|(socket, _)| *socket).collect()
    }

    /// Sockets that are told of the end of something that `owner` published: all but its own, unless somebody else ended it.
    pub(super) fn sockets_told_of(&self, owner: &str, by: Option<&str>) -> Vec<SocketId> {
        match by {
            Some(_) => self.sockets.keys().copied().collect(),
            None => self.sockets_except(owner),
        }
    }

    /// Sockets of one participant, oldest first.
    pub(super) fn sockets_of(&self, user: &str) -> Vec<SocketId> {
        self.sockets.iter().filter(|(_, owner)| *owner == user).map(|(socket, _)| *socket).collect()
    }
}

impl Turn<'_> {
    /// Serves a room. The same assignment again changes nothing, a later epoch of the same room takes the
    /// participants over, an earlier one is ignored.
    pub fn serve(&mut self, assignment: Assignment) {
        let Assignment { key, uid, epoch, max_participants, rules } = assignment;
        if let Some(room) = self.registry.rooms.get_mut(&key) {
            if room.uid == uid {
                if epoch >= room.epoch {
                    room.epoch = epoch;
                    room.max_participants = max_participants;
                    if room.rules.limits != rules.limits {
                        let command = Command::LimitRoom { room: room.media, limits: rules.limits };
                        self.effects.push(Effect::Media(room.worker, command));
                    }
                    room.rules = rules;
                }
                return;
            }
            self.release(&key, Reason::Deleted);
        }
        let media = RoomId(self.registry.next_id());
        self.registry.media_rooms.insert(media, key.clone());
        self.registry.rooms.insert(
            key,
            Room {
                uid,
                epoch,
                proven: epoch,
                max_participants,
                rules,
                media,
                worker: (self.next_worker)(),
                participants: BTreeMap::new(),
                removed: BTreeMap::new(),
                transports: HashMap::new(),
                producers: HashMap::new(),
                consumers: HashMap::new(),
                data_producers: HashMap::new(),
                data_consumers: HashMap::new(),
                sockets: BTreeMap::new(),
                speaker: None,
                empty_since: Some(self.now),
            },
        );
    }

    /// Lets go of a room: its participants are told why and their transports close.
    pub fn release(&mut self, key: &RoomKey, reason: Reason) {
        let Some(room) = self.registry.rooms.remove(key) else { return };
        self.registry.media_rooms.remove(&room.media);
        for transport in room.transports.values() {
            self.registry.transports.remove(&transport.media);
            self.effects.push(Effect::Media(room.worker, Command::CloseTransport { transport: transport.media }));
        }
        let sockets: Vec<SocketId> = room.sockets.into_keys().collect();
        let event = match reason {
            Reason::Moved => RoomEvent::RouteChanged { reason, served_epoch: room.epoch },
            Reason::Ended | Reason::Deleted => RoomEvent::RoomClosed { reason },
        };
        self.effects.push(Effect::Tell(sockets.clone(), event));
        self.effects.push(Effect::Close(sockets));
    }

    /// Releases every room that is not in `keep`: the watch was re-read and these are not there any more.
    pub fn retain(&mut self, keep: &HashSet<RoomKey>, reason: Reason) {
        let gone: Vec<RoomKey> = self.registry.rooms.keys().filter(|key| !keep.contains(key)).cloned().collect();
        for key in gone {
            self.release(&key, reason);
        }
    }
}
