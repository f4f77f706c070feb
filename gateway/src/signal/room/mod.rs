//! A room on this replica: one task that owns what is known of it and the sockets of its people here.
//!
//! What happens is a [`Change`]. It goes through the store, which puts the changes of all replicas in one order, and
//! is applied and told to the sockets when it comes back from there, so that everybody is told the same in the same
//! order. Without a store, or while it is away, the replica's own order counts.

mod command;
mod host;
mod join;
mod media;
mod records;
mod requests;
mod shared;
mod summon;
mod switch;
mod write;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use callplane_crds::{CallId, CallRoom, Presence};
use serde::Serialize;
use tokio::sync::mpsc;

pub use command::Command;
pub use join::JoinRequest;
pub use summon::{Knock, Need, Visitor};

use super::{
    answer::{Ended, Placed, Refusal},
    member::{Change, Member},
    outlet::Outlet,
    presence::Writer,
    quality::Window,
    route::Routes,
    state::{BEGINNING, GRACE, Seq, State, placed},
    store::{Committed, Direct, Store},
};
use crate::{Code, Gateway, Problem, rooms::annotations};

/// Commands that wait for a room. When as many do, more are refused as [`Code::Busy`].
pub const MAILBOX: usize = 512;
/// How long a room that nobody here is in any more is remembered, for those who come back.
const LINGER: Duration = Duration::from_secs(900);
/// Changes that are kept while the store is away, to be told the other replicas then. Older ones are dropped.
const MAX_OUTBOX: usize = 128;

/// Somebody whose socket is here.
struct Client {
    /// What this replica alone changes, and the table of the room follows.
    member: Member,
    outlet: Outlet,
    address: IpAddr,
    told: switch::Told,
    /// When to give a new token.
    refresh: Duration,
    window: Window,
    level: Option<super::member::Level>,
    media: BTreeMap<i64, super::relay::Relay>,
}

/// A room on this replica.
pub struct Room {
    id: CallId,
    uid: String,
    gateway: Gateway,
    store: Store,
    replica: String,
    mailbox: mpsc::Receiver<Command>,
    own: mpsc::WeakSender<Command>,
    room: Arc<CallRoom>,
    routes: Routes,
    state: State,
    clients: BTreeMap<String, Client>,
    /// Joins that are in the store and have not come back.
    pending: HashMap<String, join::Pending>,
    /// Joins that wait for what the node can.
    waiting: Vec<JoinRequest>,
    capabilities: BTreeMap<i64, media::Capabilities>,
    /// The last epoch that clients were told all have moved to.
    completed: i64,
    /// The last epoch that clients were told to move to.
    announced: i64,
    /// They are to be told to move, once it is known what the node can.
    is_moving: bool,
    /// When the present route was seen, if it is a switch.
    moving_since: Duration,
    locked: bool,
    presence: Option<Presence>,
    writer: Writer,
    /// That nobody is here is to be written, though nobody ever was.
    is_unattended: bool,
    /// Somebody without a socket asked for a media node.
    summons: Option<summon::Summons>,
    is_owner: bool,
    outbox: VecDeque<Change>,
    local: u64,
    /// The last change of the store's order that was applied.
    place: Option<shared::Place>,
    /// Since when nobody is here.
    idle: Option<Duration>,
    next_touch: Duration,
    is_over: bool,
    /// How many were here before this process or the store forgot, and until when they are waited for: what is not
    /// known is not nobody.
    hold: Option<(usize, Duration)>,
}

/// What a room is made from.
pub struct Parts {
    /// Its id.
    pub id: CallId,
    /// As it is now.
    pub room: Arc<CallRoom>,
    /// Everything else.
    pub gateway: Gateway,
    /// Where its state is kept.
    pub store: Store,
}

/// A room's mailbox.
pub type Handle = mpsc::Sender<Command>;

impl Room {
    /// A room, and the way to it.
    pub fn new(parts: Parts) -> (Self, Handle) {
        let (own, mailbox) = mpsc::channel(MAILBOX);
        let Parts { id, room, gateway, store } = parts;
        let written = room.status.as_ref().and_then(|s| s.presence.clone());
        let mut writer = Writer::default();
        writer.has(written.clone());
        let before = written.as_ref().and_then(|presence| usize::try_from(presence.participants).ok());
        let until = gateway.clock.now().mono + Duration::try_from(GRACE).unwrap_or_default();
        let room = Self {
            uid: room.metadata.uid.clone().unwrap_or_default(),
            routes: Routes::of(&room),
            locked: annotations::is_locked(&room),
            completed: 0,
            announced: 0,
            is_moving: false,
            moving_since: Duration::ZERO,
            replica: store.replica().to_owned(),
            own: own.downgrade(),
            presence: written,
            is_unattended: false,
            summons: None,
            is_owner: store.is_local(),
            idle: Some(gateway.clock.now().mono),
            next_touch: gateway.clock.now().mono,
            state: State::default(),
            clients: BTreeMap::new(),
            pending: HashMap::new(),
            waiting: Vec::new(),
            capabilities: BTreeMap::new(),
            outbox: VecDeque::new(),
            local: 0,
            place: None,
            is_over: false,
            hold: before.filter(|before| *before > 0).map(|before| (before, until)),
            writer,
            id,
            gateway,
            store,
            mailbox,
            room,
        };
        (room, own)
    }

    /// Serves the room until it is over, or nobody was here for a while.
    pub async fn run(mut self) {
        self.load().await;
        self.count();
        self.settle();
        loop {
            let wait = self.next_wake().saturating_sub(self.gateway.clock.now().mono);
            let command = tokio::select! {
                command = self.mailbox.recv() => command,
                () = tokio::time::sleep(wait) => None,
            };
            match command {
                Some(Command::Shutdown(done)) => {
                    self.hand_over().await;
                    let _ = done.send(());
                    break;
                }
                Some(command) => self.obey(command).await,
                None => self.on_time().await,
            }
            self.drop_stuck().await;
            self.settle();
            let now = self.gateway.clock.now().mono;
            self.idle = if self.clients.is_empty() { self.idle.or(Some(now)) } else { None };
            if self.is_over || self.is_done(now) {
                break;
            }
        }
        self.close().await;
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Join(request) => self.join(request).await,
            Command::Request { user, connection, message, reply } => {
                self.request(&user, &connection, message, reply).await;
            }
            Command::Gone { user, connection } => self.gone(&user, &connection).await,
            Command::Observed(room) => self.observe(room).await,
            Command::Part { user, reason, by, done } => {
                let _ = done.send(self.part(user, reason, by).await);
            }
            Command::Place { user, answer } => drop(answer.send(self.place_for(&user).await)),
            Command::Unattended => self.unattended(),
            Command::Knock(knock) => self.knocked(*knock).await,
            Command::Capabilities { epoch, found } => self.capable(epoch, found).await,
            Command::Written(is_done) => self.writer.end(self.gateway.clock.now().mono, is_done),
            Command::Muted { user } => self.insist_on_mute(&user),
            Command::Bus(bus) => self.hear(*bus).await,
            Command::Link(link) => self.linked(link).await,
            Command::Shutdown(_) => {}
        }
    }

    /// How many people may be in the room.
    fn max(&self) -> usize {
        usize::try_from(self.room.spec.max_participants).unwrap_or(0)
    }

    /// Puts a change in order, and into the records what is for them.
    async fn commit(&mut self, change: Change) -> Result<(), Problem> {
        self.note_parting(&change);
        self.put(change).await
    }

    /// Puts a change in order; it is applied when it comes back, or at once where this replica's order counts.
    async fn put(&mut self, change: Change) -> Result<(), Problem> {
        let max = self.max();
        match self.store.commit(&self.id, &change, max).await {
            Committed::Ordered => Ok(()),
            Committed::Full => Err(full(max)),
            // After the store was emptied it does not know whom this replica does.
            Committed::Stale if matches!(change, Change::Left { .. }) => {
                self.alone(change);
                Ok(())
            }
            Committed::Stale => Ok(()),
            Committed::Alone => {
                if let Change::Joined { member, .. } = &change
                    && !self.state.has_place(member.user(), max)
                {
                    return Err(full(max));
                }
                if !self.store.is_local() {
                    self.outbox.push_back(change.clone());
                    if self.outbox.len() > MAX_OUTBOX {
                        self.outbox.pop_front();
                    }
                }
                self.alone(change);
                Ok(())
            }
        }
    }

    /// Applies a change in this replica's own order.
    fn alone(&mut self, change: Change) {
        self.local += 1;
        let seq = format!("{}-{}", self.replica, self.local);
        self.apply(seq, change);
    }

    /// Applies a change whose turn it is, and tells the sockets that are here.
    fn apply(&mut self, seq: Seq, change: Change) {
        let change = match change {
            // Who came back to another replica while the store was away is new here.
            Change::Resumed { member } if !self.state.members.contains_key(member.user()) => {
                Change::Joined { member, again: false }
            }
            change => change,
        };
        let is_news = self.state.apply(seq.clone(), change.clone());
        if !is_news {
            // Of the sockets that are here this replica knows best.
            if let Change::Joined { member, .. } | Change::Resumed { member } = &change
                && let Some(client) = self.clients.get(member.user())
                && client.member.connection_id == member.connection_id
            {
                self.state.members.insert(member.user().to_owned(), client.member.clone());
            }
            return self.count();
        }
        for (seq, told) in placed(&seq, &change) {
            let placed = Placed { data: &told, seq: &seq };
            self.tell_all(told.event(), &placed, |user| told.is_for(user));
        }
        self.applied(change);
    }

    /// What follows from a change that was applied.
    fn applied(&mut self, change: Change) {
        match change {
            Change::Joined { member, .. } => self.admitted(member),
            Change::Resumed { member } => self.admitted(member),
            Change::Left { user, connection, reason, by, .. } => self.parted(&user, &connection, reason, by.as_deref()),
            _ => {}
        }
        self.count();
    }

    /// Tells everybody here of whom `is_for` holds.
    fn tell_all(&mut self, event: &str, data: &impl Serialize, is_for: impl Fn(&str) -> bool) {
        for (user, client) in &mut self.clients {
            if is_for(user) {
                client.outlet.tell(event, data);
            }
        }
    }

    /// Sockets that take nothing any more are let go.
    async fn drop_stuck(&mut self) {
        let stuck = self.clients.iter().filter(|(_, client)| client.outlet.is_stuck());
        let stuck: Vec<_> = stuck.map(|(user, client)| (user.clone(), client.member.connection_id.clone())).collect();
        for (user, connection) in stuck {
            self.gateway.metrics.socket_stuck();
            self.gone(&user, &connection).await;
        }
    }

    /// A socket is gone; its owner may come back.
    async fn gone(&mut self, user: &str, connection: &str) {
        if let Some(pending) = self.pending.get_mut(connection) {
            pending.is_gone = true;
            return;
        }
        let Some(client) = self.clients.get(user).filter(|client| client.member.connection_id == connection) else {
            return;
        };
        client.outlet.close();
        let mut member = client.member.clone();
        self.clients.remove(user);
        member.dropped = Some(self.gateway.clock.now().wall);
        let _ = self.commit(Change::Dropped { member }).await;
    }

    /// The call is over: everybody is told, and let go.
    fn end(&mut self, reason: &'static str) {
        self.is_over = true;
        self.tell_all("call:ended", &Ended { reason }, |_| true);
        for client in self.clients.values() {
            client.outlet.close();
        }
        self.clients.clear();
        for (_, pending) in self.pending.drain() {
            pending.refuse(Problem::new(Code::RoomEnded, "the call is over"));
        }
        for request in self.waiting.drain(..) {
            request.refuse(Problem::new(Code::RoomEnded, "the call is over"));
        }
    }

    /// Whether nothing is left to do here.
    fn is_done(&self, now: Duration) -> bool {
        let is_idle = self.idle.is_some_and(|since| now.saturating_sub(since) >= self.linger());
        let is_settled = self.pending.is_empty() && self.waiting.is_empty() && self.hold.is_none();
        let is_settled = is_settled && self.summons.is_none();
        is_idle && is_settled && !self.has_dropped() && !self.is_behind()
    }

    /// Without a store the room's chat is kept here; with one it is kept there. Where nobody was there is none.
    fn linger(&self) -> Duration {
        let has_history = self.state.log.last() != BEGINNING;
        if self.store.is_local() && has_history { LINGER } else { Duration::from_secs(5) }
    }

    fn has_dropped(&self) -> bool {
        self.state.members.values().any(|member| member.dropped.is_some())
    }

    /// Somewhat of a client's, if its socket is the one that counts.
    fn client(&mut self, user: &str, connection: &str) -> Result<&mut Client, Refusal> {
        let client = self.clients.get_mut(user).filter(|client| client.member.connection_id == connection);
        client.ok_or_else(|| Problem::new(Code::NotJoined, "join the room first").into())
    }

    /// A message from one socket to one other, wherever that is.
    async fn direct(&self, direct: Direct) {
        self.store.direct(&self.id, direct).await;
    }
}

fn full(max: usize) -> Problem {
    Problem::new(Code::RoomFull, format!("{max} people are in the room, and no more may be"))
}
