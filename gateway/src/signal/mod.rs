//! Signalling: what the people in a call tell each other, and what they are told, by Socket.IO.
//!
//! Each room with people here is one task ([`room`]). What is decided is decided by pure code ([`state`], [`presence`],
//! [`quality`], [`route`]); what replicas share goes through the [`store`].

mod answer;
mod member;
mod message;
mod outlet;
pub mod presence;
mod quality;
mod relay;
mod room;
mod route;
mod socket;
mod state;
pub mod store;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    extract::{Request, State},
    middleware::{self, Next},
    response::Response,
};
use callplane_crds::{CallId, CallRoom};
use socketioxide::{SocketIo, extract::SocketRef, handler::ConnectHandler};
use tokio::sync::oneshot;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use self::{
    member::Parting,
    room::{Need, Visitor},
};
use self::{
    room::{Command, Handle, Knock, Room},
    store::Store,
};
use crate::{Code, Gateway, Problem, rooms::annotations};

/// Events that clients may send.
pub(crate) const EVENTS: [&str; 16] = [
    "join-room",
    "leave-room",
    "refresh-token",
    "webrtc:offer",
    "webrtc:answer",
    "webrtc:ice-candidate",
    "route-ack",
    "update-state",
    "pause-consumer",
    "resume-consumer",
    "chat",
    "quality",
    "host:mute",
    "host:remove",
    "host:end",
    "host:lock",
];
/// Where it is served.
pub const PATH: &str = "/socket.io/";
/// Longest message of a client, in bytes: a session description, escaped.
const MAX_PAYLOAD: usize = 128 * 1024;
/// Packets that wait for a client. One that has more does not read, and is let go.
const MAX_UNREAD: usize = 256;
/// How often a client is asked whether it is there, and how long it may take to answer.
const PING: Duration = Duration::from_secs(15);
const PONG_WITHIN: Duration = Duration::from_secs(15);
/// How long a socket may take to say what it wants.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Bytes of a socket's read buffer.
const BUFFER: usize = 4096;
/// How long a join may wait for this replica to hear of the room or the epoch that its token is for.
const HEARD_WITHIN: Duration = Duration::from_secs(1);
/// How often rooms are looked for whose people are with no replica any more.
const SWEEP: Duration = Duration::from_secs(35);
/// Rooms that nobody has ever been in whose emptiness is told at a time. The others come at the next time.
const MAX_UNATTENDED: usize = 200;
/// How long handing rooms over may take when the process ends.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(5);

/// Signalling of one replica. Clones are the same.
#[derive(Clone)]
pub struct Signal(Arc<Parts>);

struct Parts {
    gateway: Gateway,
    store: Store,
    max_sockets: usize,
    rooms: Mutex<HashMap<CallId, Entry>>,
    tasks: TaskTracker,
    stopping: CancellationToken,
    io: std::sync::OnceLock<SocketIo>,
}

struct Entry {
    handle: Handle,
    uid: Option<String>,
    version: Option<String>,
}

impl Signal {
    /// Signalling with up to `max_sockets` sockets.
    pub fn new(gateway: Gateway, store: Store, max_sockets: usize) -> Self {
        Self(Arc::new(Parts {
            gateway,
            store,
            max_sockets,
            rooms: Mutex::default(),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            io: std::sync::OnceLock::new(),
        }))
    }

    pub(crate) fn gateway(&self) -> &Gateway {
        &self.0.gateway
    }

    /// Whether the store is there.
    pub fn is_store_up(&self) -> bool {
        self.0.store.is_up()
    }

    /// The routes.
    pub fn routes<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        let (service, io) = SocketIo::builder()
            .req_path(PATH)
            .max_payload(MAX_PAYLOAD as u64)
            .ws_max_message_size(MAX_PAYLOAD)
            .ws_max_frame_size(MAX_PAYLOAD)
            .ws_read_buffer_size(BUFFER)
            .max_buffer_size(MAX_UNREAD)
            .ping_interval(PING)
            .ping_timeout(PONG_WITHIN)
            .connect_timeout(CONNECT_WITHIN)
            .build_svc();
        // As middleware, which runs before the client hears that it is connected: what it sends then is not lost.
        let signal = self.clone();
        let accept = async move |socket: SocketRef| {
            socket::accept(&signal, &socket);
            Ok::<(), std::convert::Infallible>(())
        };
        io.ns("/", (async |socket: SocketRef| socket::connected(&socket)).with(accept));
        let _ = self.0.io.set(io);
        let admitted = middleware::from_fn_with_state(self.clone(), admit);
        Router::new().route_service(PATH, service).layer(admitted)
    }

    /// The room's mailbox; the room's task begins where there is none.
    fn room(&self, id: &CallId, room: &Arc<CallRoom>) -> Result<Handle, Problem> {
        if self.0.stopping.is_cancelled() {
            return Err(Problem::new(Code::Busy, "this replica stops: connect again"));
        }
        let mut rooms = self.0.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = rooms.get(id)
            && entry.uid == room.metadata.uid
            && !entry.handle.is_closed()
        {
            return Ok(entry.handle.clone());
        }
        let parts = room::Parts {
            id: id.clone(),
            room: Arc::clone(room),
            gateway: self.0.gateway.clone(),
            store: self.0.store.clone(),
        };
        let (task, handle) = Room::new(parts);
        let (uid, version) = (room.metadata.uid.clone(), room.metadata.resource_version.clone());
        rooms.insert(id.clone(), Entry { handle: handle.clone(), uid, version });
        drop(rooms);
        let (signal, id, weak) = (self.clone(), id.clone(), handle.downgrade());
        self.0.tasks.spawn(async move {
            task.run().await;
            let mut rooms = signal.0.rooms.lock().unwrap_or_else(PoisonError::into_inner);
            let own = weak.upgrade();
            if rooms.get(&id).is_some_and(|entry| own.is_none_or(|own| own.same_channel(&entry.handle))) {
                rooms.remove(&id);
            }
        });
        Ok(handle)
    }

    /// Tells rooms what changed about them, for as long as it is polled.
    pub async fn follow(self) {
        let mut changes = self.0.gateway.cache.changes();
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.tick().await;
        loop {
            let is_sweep = tokio::select! {
                changed = changes.changed() => match changed {
                    Ok(()) => false,
                    Err(_) => return,
                },
                _ = sweep.tick() => true,
            };
            for (handle, room) in self.changed() {
                let _ = handle.send(Command::Observed(room)).await;
            }
            if is_sweep {
                self.sweep();
            }
        }
    }

    /// The rooms of which something new is known.
    fn changed(&self) -> Vec<(Handle, Option<Arc<CallRoom>>)> {
        let cache = &self.0.gateway.cache;
        let mut rooms = self.0.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        let news = rooms.iter_mut().filter_map(|(id, entry)| {
            let room = cache.room(id);
            let version = room.as_ref().and_then(|room| room.metadata.resource_version.clone());
            let is_known = version == entry.version || room.is_none() && !cache.is_complete();
            entry.version = if is_known { entry.version.take() } else { version };
            (!is_known).then(|| (entry.handle.clone(), room))
        });
        news.collect()
    }

    /// Whether there can be nobody in a room: this is the only replica, and it does not serve it.
    fn knows_nobody(&self, id: &CallId) -> bool {
        self.0.store.is_local() && !self.0.rooms.lock().unwrap_or_else(PoisonError::into_inner).contains_key(id)
    }

    /// Whether `user` would find a place in the call, as far as can be told: who is in always does. Whoever does not would be
    /// refused by `join-room` as well, which has the last word. Costs a look at who is in only where the CallRoom says that it
    /// is full, and nothing that is not known turns anybody away.
    ///
    /// # Errors
    /// [`Code::RoomFull`].
    pub(crate) async fn place_for(&self, room: &Arc<CallRoom>, user: &str) -> Result<(), Problem> {
        let id = room.call_id();
        if !presence::is_full(room) || self.knows_nobody(&id) {
            return Ok(());
        }
        let (answer, answered) = oneshot::channel();
        let question = Command::Place { user: user.to_owned(), answer };
        let is_asked = self.room(&id, room).is_ok_and(|room| room.try_send(question).is_ok());
        if is_asked { answered.await.unwrap_or(Ok(())) } else { Ok(()) }
    }

    /// Somebody is in the call no more by another way than their socket: their own will, or that of `by`. Ends their socket, at
    /// whichever replica it is, and answers whether they were there. While Redis is away only those of this replica are known.
    ///
    /// # Errors
    /// [`Code::Busy`].
    pub(crate) async fn part(
        &self,
        room: &Arc<CallRoom>,
        user: &str,
        reason: Parting,
        by: Option<String>,
    ) -> Result<bool, Problem> {
        let id = room.call_id();
        if self.knows_nobody(&id) {
            return Ok(false);
        }
        let (done, is_done) = oneshot::channel();
        let part = Command::Part { user: user.to_owned(), reason, by, done };
        let busy = |_| Problem::new(Code::Busy, "the room has too much to do");
        self.room(&id, room)?.try_send(part).map_err(busy)?;
        Ok(is_done.await.unwrap_or(false))
    }

    /// Whether a visitor may come into the call without a socket; where they need a media node and the call has none, the
    /// operator is asked for one. Whose token is good is known before.
    ///
    /// # Errors
    /// [`Code::Removed`], [`Code::RoomLocked`], [`Code::RoomNotReady`], [`Code::Busy`].
    pub(crate) async fn knock(&self, room: &Arc<CallRoom>, visitor: Visitor, need: Need) -> Result<(), Problem> {
        let id = room.call_id();
        if need == Need::Entry && self.knows_nobody(&id) && !annotations::is_locked(room) {
            // Nor has anybody been removed whose token is still good.
            return Ok(());
        }
        let busy = || Problem::new(Code::Busy, "the room has too much to do");
        let (answer, answered) = oneshot::channel();
        let knock = Command::Knock(Box::new(Knock { visitor, need, answer }));
        self.room(&id, room)?.try_send(knock).map_err(|_| busy())?;
        answered.await.unwrap_or_else(|_| Err(busy()))
    }

    /// What is looked at from time to time. Rooms that claim people whom this replica does not have: if no other has them,
    /// either, they are gone. And rooms of which nobody has said yet that nobody is there.
    pub fn sweep(&self) {
        let claims = |room: &CallRoom| {
            let presence = room.status.as_ref().and_then(|s| s.presence.as_ref());
            !room.is_over() && presence.is_some_and(presence::claims)
        };
        let rooms = self.0.gateway.cache.rooms();
        for room in rooms.iter().filter(|room| claims(room)) {
            let _ = self.room(&room.call_id(), room);
        }
        let now = self.0.gateway.clock.now().wall;
        let unattended = rooms.iter().filter(|room| presence::is_unattended(room, now));
        for room in unattended.take(MAX_UNATTENDED) {
            if let Ok(handle) = self.room(&room.call_id(), room) {
                let _ = handle.try_send(Command::Unattended);
            }
        }
    }

    /// The process ends: rooms are handed over, and sockets closed so that their clients connect elsewhere.
    pub async fn shut_down(&self) {
        self.0.stopping.cancel();
        let rooms: Vec<Handle> = {
            let rooms = self.0.rooms.lock().unwrap_or_else(PoisonError::into_inner);
            rooms.values().map(|entry| entry.handle.clone()).collect()
        };
        let handed_over = futures::future::join_all(rooms.into_iter().map(async |room| {
            let (done, is_done) = oneshot::channel();
            if room.send(Command::Shutdown(done)).await.is_ok() {
                let _ = is_done.await;
            }
        }));
        let close = async {
            handed_over.await;
            if let Some(io) = self.0.io.get() {
                io.close().await;
            }
            self.0.tasks.close();
            self.0.tasks.wait().await;
        };
        if tokio::time::timeout(HAND_OVER_WITHIN, close).await.is_err() {
            tracing::warn!("some sockets were not closed in time");
        }
    }
}

/// Lets no more connections in than there may be. Those that are open go on.
async fn admit(State(signal): State<Signal>, request: Request, next: Next) -> Result<Response, Problem> {
    let is_new = !request.uri().query().unwrap_or_default().split('&').any(|pair| pair.starts_with("sid="));
    if is_new && signal.0.gateway.metrics.signalling_sockets() >= signal.0.max_sockets {
        return Err(Problem::new(Code::Busy, "as many sockets as can be are open"));
    }
    if is_new && signal.0.stopping.is_cancelled() {
        return Err(Problem::new(Code::Busy, "this replica stops: connect again"));
    }
    Ok(next.run(request).await)
}
