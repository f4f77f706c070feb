//! One client's connection: what it sends is served in order, at a bounded rate, and answered.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use axum::extract::ConnectInfo;
use callplane_crds::{CallId, CallRoom, names::TOKEN_AUDIENCE};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use serde_json::Value;
use socketioxide::{
    adapter::LocalAdapter,
    extract::{AckSender, SocketRef, TryData},
    handler::{FromMessage, FromMessageParts},
    socket::Socket,
};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    Signal,
    answer::{Answer, Refusal},
    message::{JoinRoom, Message},
    outlet::{self, Closing, Outlet},
    room::{Command, Handle, JoinRequest, Visitor},
};
use crate::{Code, Problem, access::JoinClaims};

/// Events of one socket that wait to be served. More are refused.
const MAX_WAITING: usize = 64;
/// Events of one socket, per second and at once.
const EVENTS: (u32, u32) = (50, 150);
/// Candidates of one socket, per minute and at once.
const CANDIDATES: (u32, u32) = (600, 200);
/// How many more events may be refused for their number than are served, before the socket is closed: it does not
/// listen.
const MAX_IGNORED: u32 = 200;

/// What a socket sent.
struct Sent {
    event: String,
    data: Value,
    ack: AckSender,
}

/// The way from a socket to the task that serves it.
#[derive(Clone)]
struct Inbox {
    sent: mpsc::Sender<Sent>,
    /// Events that did not get in.
    refused: Arc<AtomicU32>,
    /// From now on the socket can be spoken to.
    connected: Arc<Notify>,
}

/// An event on its way into the socket's inbox. Handlers run as tasks of their own, in any order; this is done as the
/// events come in.
pub(super) struct Arrived;

impl FromMessage<LocalAdapter> for Arrived {
    type Error = Infallible;

    fn from_message(
        socket: Arc<Socket<LocalAdapter>>,
        mut value: socketioxide::handler::Value,
        ack: Option<i64>,
    ) -> Result<Self, Infallible> {
        let Ok(sender) = AckSender::from_message_parts(&socket, &mut value, &ack);
        let event = socketioxide::extract::Event::from_message_parts(&socket, &mut value, &ack);
        let event = event.map(|event| event.0).unwrap_or_default();
        let Ok(TryData(data)) = TryData::<Value>::from_message_parts(&socket, &mut value, &ack);
        let Some(inbox) = socket.extensions.get::<Inbox>() else { return Ok(Self) };
        let sent = Sent { event, data: data.unwrap_or(Value::Null), ack: sender };
        if let Err(mpsc::error::TrySendError::Full(sent)) = inbox.sent.try_send(sent) {
            inbox.refused.fetch_add(1, Ordering::Relaxed);
            answer(sent.ack, Err(too_many().into()));
        }
        Ok(Self)
    }
}

fn too_many() -> Problem {
    Problem::new(Code::RateLimited, "too many events of this socket").retry_after(1)
}

fn answer(ack: AckSender, answer: Answer) {
    let _ = match answer {
        Ok(value) => ack.send(&value),
        Err(refusal) => ack.send(&refusal),
    };
}

/// Serves a socket from now on.
pub(super) fn accept(signal: &Signal, socket: &SocketRef) {
    let (inbox, sent) = mpsc::channel(MAX_WAITING);
    let refused = Arc::new(AtomicU32::new(0));
    let can_speak = Arc::new(Notify::new());
    socket.extensions.insert(Inbox { sent: inbox, refused: Arc::clone(&refused), connected: Arc::clone(&can_speak) });
    let closing = Closing::default();
    socket.extensions.insert(closing.clone());
    socket.on_fallback(async |_: Arrived| {});
    let parts = socket.req_parts();
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map_or(IpAddr::from([0, 0, 0, 0]), |info| info.0.ip());
    let address = signal.gateway().limits.client(peer, &parts.headers);
    let connection = Connection { signal: signal.clone(), id: socket.id.to_string(), address, refused, place: None };
    let open = signal.gateway().metrics.signalling_socket();
    // The inbox goes with the socket, and then the task ends.
    let is_gone = CancellationToken::new();
    let gone = is_gone.clone();
    socket.on_disconnect(async move || gone.cancel());
    let socket = socket.clone();
    tokio::spawn(async move {
        match tokio::time::timeout(super::CONNECT_WITHIN, can_speak.notified()).await {
            Ok(()) => connection.serve(socket, sent, &is_gone, &closing).await,
            Err(_) => outlet::end(&socket),
        }
        drop(open);
    });
}

/// A socket can be spoken to: a client that hears of its connection may be served before that, and what it is told is
/// refused then.
pub(super) fn connected(socket: &SocketRef) {
    if let Some(inbox) = socket.extensions.get::<Inbox>() {
        inbox.connected.notify_one();
    }
}

struct Place {
    room: Handle,
    user: String,
}

struct Connection {
    signal: Signal,
    id: String,
    address: IpAddr,
    refused: Arc<AtomicU32>,
    place: Option<Place>,
}

fn limiter((per, burst): (u32, u32), quota: fn(NonZeroU32) -> Quota) -> DefaultDirectRateLimiter {
    let at_least_one = |n: u32| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
    RateLimiter::direct(quota(at_least_one(per)).allow_burst(at_least_one(burst)))
}

impl Connection {
    async fn serve(
        mut self,
        socket: SocketRef,
        sent: mpsc::Receiver<Sent>,
        is_gone: &CancellationToken,
        closing: &Closing,
    ) {
        tokio::select! {
            biased;
            () = is_gone.cancelled() => {}
            () = self.work(&socket, sent, closing) => outlet::end(&socket),
        }
        if let Some(Place { room, user }) = self.place {
            let _ = room.send(Command::Gone { user, connection: self.id }).await;
        }
    }

    /// Serves what is sent until the socket is to end: what was sent before is answered first.
    async fn work(&mut self, socket: &SocketRef, mut sent: mpsc::Receiver<Sent>, closing: &Closing) {
        let events = limiter(EVENTS, Quota::per_second);
        let candidates = limiter(CANDIDATES, Quota::per_minute);
        let mut ignored = 0_u32;
        loop {
            let next = tokio::select! {
                biased;
                next = sent.recv() => next,
                () = closing.asked() => return,
            };
            let Some(Sent { event, data, ack }) = next else { return };
            let is_too_many = events.check().is_err() || event == "webrtc:ice-candidate" && candidates.check().is_err();
            ignored = ignored.saturating_add(self.refused.swap(0, Ordering::Relaxed) + u32::from(is_too_many));
            if ignored > MAX_IGNORED {
                return;
            }
            if is_too_many {
                answer(ack, Err(too_many().into()));
                continue;
            }
            ignored = ignored.saturating_sub(1);
            let answered = tokio::select! {
                () = closing.overdue() => return,
                answered = self.obey(socket, &event, data) => answered,
            };
            let code = answered.as_ref().err().map_or("ok", Refusal::code);
            self.signal.gateway().metrics.event(&event, code);
            answer(ack, answered);
        }
    }

    async fn obey(&mut self, socket: &SocketRef, event: &str, data: Value) -> Answer {
        let message = match Message::parse(event, data)? {
            Message::Join(join) if self.place.is_none() => return self.join(socket, *join).await,
            message => message,
        };
        let not_joined = || Refusal::from(Problem::new(Code::NotJoined, "join a room first"));
        let Place { room, user } = self.place.as_ref().ok_or_else(not_joined)?;
        let is_leaving = message == Message::Leave;
        let (reply, answered) = oneshot::channel();
        let request = Command::Request { user: user.clone(), connection: self.id.clone(), message, reply };
        room.try_send(request).map_err(|_| Problem::new(Code::Busy, "the room has too much to do"))?;
        let answer = answered.await.unwrap_or_else(|_| Err(not_joined()));
        if is_leaving {
            self.place = None;
        }
        answer
    }

    async fn join(&mut self, socket: &SocketRef, join: JoinRoom) -> Answer {
        let gateway = self.signal.gateway();
        gateway.limits.address(self.address)?;
        let claims: JoinClaims = gateway.signer.verify(&join.token, TOKEN_AUDIENCE, gateway.clock.now().wall)?;
        gateway.limits.caller(&("join", &claims.room_id, &claims.sub))?;
        let id: CallId = join.room_id.parse().map_err(|error: callplane_crds::call_id::InvalidCallId| {
            Problem::new(Code::RoomNotFound, error.to_string()).field("roomId")
        })?;
        if claims.room_id != join.room_id {
            return Err(Problem::new(Code::WrongRoom, "the join token is for another room").into());
        }
        let room = self.room(&id, &claims).await?;
        let handle = self.signal.room(&id, &room)?;
        let (reply, answered) = oneshot::channel();
        let request = JoinRequest {
            visitor: Visitor::of(&claims),
            name: claims.name,
            resume: join.resume,
            is_muted: join.is_muted,
            is_video_on: join.is_video_on,
            connection: self.id.clone(),
            address: self.address,
            outlet: Outlet::new(socket.clone()),
            reply,
        };
        let busy = || Problem::new(Code::Busy, "the room has too much to do");
        handle.try_send(Command::Join(Box::new(request))).map_err(|_| busy())?;
        // From now on the room is told when the socket goes.
        self.place = Some(Place { room: handle, user: claims.sub });
        let answer = answered.await.unwrap_or_else(|_| Err(busy().into()));
        if answer.is_err() {
            self.place = None;
        }
        answer
    }

    /// The room that the token is for, which may have been made a moment ago by another replica.
    async fn room(&self, id: &CallId, claims: &JoinClaims) -> Result<Arc<CallRoom>, Problem> {
        let gateway = self.signal.gateway();
        let epoch = |room: &CallRoom| room.status.as_ref().and_then(|s| s.route.as_ref()).map(|route| route.epoch);
        let is_known = |room: &CallRoom| {
            let is_it = room.metadata.uid.as_deref() == Some(&*claims.room_uid);
            room.is_over() || is_it && epoch(room) >= Some(claims.epoch)
        };
        let room = gateway.cache.wait(id, super::HEARD_WITHIN, is_known).await;
        let room = match room {
            Some(room) => room,
            None if !gateway.cache.is_complete() => {
                return Err(Problem::new(Code::KubernetesUnavailable, "the rooms are not known yet"));
            }
            None => return Err(Problem::new(Code::RoomNotFound, format!("there is no room {id}"))),
        };
        if room.metadata.uid.as_deref() != Some(&*claims.room_uid) {
            return Err(Problem::new(Code::WrongRoom, "the join token is for another room of this name"));
        }
        if room.is_over() {
            return Err(crate::rooms::ended(&room));
        }
        Ok(room)
    }
}
