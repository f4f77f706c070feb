//! The handle to the rooms, and the one task behind it.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use rand::rngs::StdRng;
use tokio::{
    sync::{Semaphore, mpsc, oneshot, watch},
    task::JoinHandle,
    time::MissedTickBehavior,
};

use super::{
    Access, Assignment, Effect, Intent, Reason, Refusal, Registry, RoomEvent, RoomKey, RoomLoad, Settings, Totals,
    Turn,
    access::Admission,
    registry::{SocketId, Worker},
};
use crate::{
    core::{
        Answer, Question,
        command::{Command, Event},
    },
    system,
};

/// Requests on their way to the task. When it is full, requests wait their turn.
const ORDERS: usize = 1024;

/// Messages on their way to one socket. A socket that lets it fill up is closed: its client comes back
/// and reads the room anew.
const SOCKET_QUEUE: usize = 256;

/// Requests that may wait for a room or an epoch to arrive. One more is refused as busy.
const WAITERS: usize = 1024;

/// How long a token may be ahead of what the node has heard.
const WAIT_FOR_EPOCH: Duration = Duration::from_secs(1);

/// How often the passing of time is looked at.
const TICK: Duration = Duration::from_secs(1);

/// What is asked of a media loop.
#[derive(Debug)]
pub enum MediaOrder {
    /// To do something.
    Command(Command),
    /// To say how something stands; `None` about what it does not have.
    Ask(Question, oneshot::Sender<Option<Answer>>),
    /// To say that everything is done that was ordered before.
    Confirm(oneshot::Sender<()>),
}

/// The media loops, as rooms see them.
pub struct Media {
    /// Orders to them. While it is full, rooms wait.
    pub orders: mpsc::Sender<(Worker, MediaOrder)>,
    /// Their news.
    pub events: mpsc::Receiver<Event>,
    /// The loop for a room that is new.
    pub next_worker: Box<dyn Fn() -> Worker + Send + Sync>,
}

/// Done first, then answered, once what follows from it is under way.
type Operation = Box<dyn FnOnce(&mut Turn<'_>) -> Reply + Send>;
/// Is told when the media loop can be reached in the way that the answer names, if it names a new one.
type Reply = Box<dyn FnOnce(Option<Reachable>) + Send>;
type Reachable = oneshot::Receiver<()>;

enum Order {
    Do(Operation),
    Subscribe(Access, oneshot::Sender<Result<Subscription, Refusal>>),
}

/// The rooms of this node. Clones are the same.
#[derive(Clone)]
pub struct Directory {
    orders: mpsc::Sender<Order>,
    media: mpsc::Sender<(Worker, MediaOrder)>,
    /// Counts changes of what is served, for those who wait for one.
    served: Arc<watch::Sender<u64>>,
    totals: watch::Receiver<Totals>,
    waiters: Arc<Semaphore>,
    /// Asked on each admission, so that one that is handled right after a pause is not let through.
    is_paused: Arc<dyn Fn() -> bool + Send + Sync>,
}

/// An open event socket.
pub struct Subscription {
    /// Its id.
    pub socket: SocketId,
    /// Its room.
    pub room: RoomKey,
    /// Messages as JSON text. Ends when the room closes the socket or the socket was too slow.
    pub messages: mpsc::Receiver<Bytes>,
}

impl Directory {
    /// Starts the task. It ends when the last handle is gone or the media loops are.
    pub fn start(settings: Settings, rng: StdRng, media: Media) -> (Self, JoinHandle<()>) {
        let (orders, inbox) = mpsc::channel(ORDERS);
        let (sums, totals) = watch::channel(Totals::default());
        let directory = Self {
            orders,
            media: media.orders.clone(),
            served: Arc::new(watch::Sender::new(0)),
            totals,
            waiters: Arc::new(Semaphore::new(WAITERS)),
            is_paused: Arc::new(|| false),
        };
        let task = Task { registry: Registry::new(settings, rng), media, sums, sockets: HashMap::new() };
        (directory, tokio::spawn(task.run(inbox)))
    }

    /// The same rooms, admitting nobody new while `is_paused` says so.
    pub fn watching(self, is_paused: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self { is_paused: Arc::new(is_paused), ..self }
    }

    /// Does something to the rooms and returns what came of it, after all that was asked before. ICE credentials that
    /// came of it are good by then: some clients check once, and never again.
    ///
    /// # Errors
    /// [`Refusal::Busy`] when the task or the media loop has ended.
    pub async fn run<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&mut Turn<'_>) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        let operation: Operation = Box::new(move |turn| {
            let result = operation(turn);
            Box::new(move |reachable| drop(reply.send((result, reachable))))
        });
        self.orders.send(Order::Do(operation)).await.map_err(|_| Refusal::Busy)?;
        let (result, reachable) = answer.await.map_err(|_| Refusal::Busy)?;
        if let Some(reachable) = reachable {
            reachable.await.map_err(|_| Refusal::Busy)?;
        }
        Ok(result)
    }

    /// Asks a media loop how something stands, after all that it was ordered before; `None` about what is no more.
    ///
    /// # Errors
    /// [`Refusal::Busy`] when the loop has ended.
    pub async fn ask(&self, worker: Worker, question: Question) -> Result<Option<Answer>, Refusal> {
        let (reply, answer) = oneshot::channel();
        let order = (worker, MediaOrder::Ask(question, reply));
        self.media.send(order).await.map_err(|_| Refusal::Busy)?;
        answer.await.map_err(|_| Refusal::Busy)
    }

    /// Serves a room: see [`Turn::serve`].
    ///
    /// # Errors
    /// [`Refusal::Busy`] when the task has ended.
    pub async fn serve(&self, assignment: Assignment) -> Result<(), Refusal> {
        self.run(move |turn| turn.serve(assignment)).await?;
        self.changed();
        Ok(())
    }

    /// Lets go of a room: see [`Turn::release`].
    ///
    /// # Errors
    /// [`Refusal::Busy`] when the task has ended.
    pub async fn release(&self, key: RoomKey, reason: Reason) -> Result<(), Refusal> {
        self.run(move |turn| turn.release(&key, reason)).await
    }

    /// Lets go of every room that is not in `keep`.
    ///
    /// # Errors
    /// [`Refusal::Busy`] when the task has ended.
    pub async fn retain(&self, keep: HashSet<RoomKey>, reason: Reason) -> Result<(), Refusal> {
        self.run(move |turn| turn.retain(&keep, reason)).await
    }

    /// While fenced, nobody new is let in: the process was paused and what it serves may be stale.
    ///
    /// # Errors
    /// [`Refusal::Busy`] when the task has ended.
    pub async fn fence(&self, fenced: bool) -> Result<(), Refusal> {
        self.run(move |turn| turn.registry.fenced = fenced).await?;
        self.changed();
        Ok(())
    }

    /// Notes that the process means to end. Rooms go on as before, with newcomers.
    ///
    /// # Errors
    /// [`Refusal::Busy`] when the task has ended.
    pub async fn drain(&self, draining: bool) -> Result<(), Refusal> {
        self.run(move |turn| turn.registry.draining = draining).await
    }

    /// What each room costs, by key.
    ///
    /// # Errors
    /// [`Refusal::Busy`] when the task has ended.
    pub async fn snapshot(&self) -> Result<Vec<RoomLoad>, Refusal> {
        self.run(|turn| turn.registry.snapshot()).await
    }

    /// Sums over all rooms, as of the latest change.
    pub fn totals(&self) -> Totals {
        *self.totals.borrow()
    }

    /// Returns when nobody is in any room.
    pub async fn wait_empty(&self) {
        // The sender is gone only when the task is, and then so is everyone.
        let _ = self.totals.clone().wait_for(|totals| totals.participants == 0).await;
    }

    /// Whether a token opens its room. One that is ahead of what this node has heard waits a second for
    /// it; after that, a token of a later epoch than the one served keeps newcomers out of the room.
    ///
    /// # Errors
    /// Why not.
    pub async fn admit(&self, access: &Access, intent: Intent) -> Result<(), Refusal> {
        let mut served = self.served.subscribe();
        let timeout = tokio::time::sleep(WAIT_FOR_EPOCH);
        tokio::pin!(timeout);
        let mut permit = None;
        loop {
            served.borrow_and_update();
            let (asked, paused) = (access.clone(), (self.is_paused)());
            match self.run(move |turn| turn.registry.admit(&asked, intent, paused)).await? {
                Admission::Granted => return Ok(()),
                Admission::Refused(refusal) => return Err(refusal),
                Admission::Wait(_) => (),
            }
            if permit.is_none() {
                permit = Some(self.waiters.try_acquire().map_err(|_| Refusal::Busy)?);
            }
            tokio::select! {
                _ = served.changed() => (),
                () = &mut timeout => break,
            }
        }
        let (asked, paused) = (access.clone(), (self.is_paused)());
        self.run(move |turn| turn.admit_at_last(&asked, intent, paused)).await?
    }

    /// Opens an event socket; the first message is the room, the second who speaks.
    ///
    /// # Errors
    /// As [`Turn::open_socket`].
    pub async fn subscribe(&self, access: Access) -> Result<Subscription, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.orders.send(Order::Subscribe(access, reply)).await.map_err(|_| Refusal::Busy)?;
        answer.await.map_err(|_| Refusal::Busy)?
    }

    /// Tells at once what would be noticed within a second: the socket is gone.
    pub async fn unsubscribe(&self, room: RoomKey, socket: SocketId) {
        // When the task has ended, so has the room.
        let _ = self.run(move |turn| turn.socket_closed(&room, socket)).await;
    }

    fn changed(&self) {
        self.served.send_modify(|count| *count += 1);
    }
}

struct Task {
    registry: Registry,
    media: Media,
    sums: watch::Sender<Totals>,
    sockets: HashMap<SocketId, (RoomKey, mpsc::Sender<Bytes>)>,
}

impl Task {
    async fn run(mut self, mut inbox: mpsc::Receiver<Order>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut effects = Vec::new();
            let mut answer: Option<Reply> = None;
            tokio::select! {
                order = inbox.recv() => match order {
                    Some(Order::Do(operation)) => answer = Some(self.turn(&mut effects, operation)),
                    Some(Order::Subscribe(access, reply)) => {
                        let result = self.subscribe(&mut effects, &access);
                        // A caller that has gone drops the queue with its answer, and the socket with it.
                        answer = Some(Box::new(move |_| drop(reply.send(result))));
                    }
                    None => return,
                },
                event = self.media.events.recv() => match event {
                    Some(event) => self.turn(&mut effects, |turn| turn.media_event(&event)),
                    None => return,
                },
                _ = tick.tick() => {
                    let abandoned = self.abandoned();
                    effects = self.bury(&abandoned);
                    self.turn(&mut effects, |turn| turn.tick());
                }
            }
            let Ok(reachable) = self.carry_out(effects).await else { return };
            let totals = self.registry.totals();
            self.sums.send_if_modified(|sums| std::mem::replace(sums, totals) != totals);
            if let Some(answer) = answer {
                answer(reachable);
            }
        }
    }

    fn turn<T>(&mut self, effects: &mut Vec<Effect>, operation: impl FnOnce(&mut Turn<'_>) -> T) -> T {
        let next_worker = &*self.media.next_worker;
        operation(&mut Turn {
            registry: &mut self.registry,
            now: system::now(),
            timestamp: system::timestamp(),
            next_worker,
            effects,
        })
    }

    fn subscribe(&mut self, effects: &mut Vec<Effect>, access: &Access) -> Result<Subscription, Refusal> {
        let (socket, view) = self.turn(effects, |turn| turn.open_socket(access))?;
        let (sender, messages) = mpsc::channel(SOCKET_QUEUE);
        self.sockets.insert(socket, (access.room.clone(), sender));
        effects.push(Effect::Tell(vec![socket], RoomEvent::Room(Box::new(view))));
        self.turn(effects, |turn| {
            turn.repeat_active_speaker(&access.room, socket);
            turn.repeat_layers_wanted(access, socket);
        });
        Ok(Subscription { socket, room: access.room.clone(), messages })
    }

    /// Fails when the media loops are gone.
    async fn carry_out(&mut self, effects: Vec<Effect>) -> Result<Option<Reachable>, ()> {
        let mut effects = VecDeque::from(effects);
        let mut opened = None;
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Media(worker, command) => {
                    if matches!(command, Command::CreateTransport { .. } | Command::RestartIce { .. }) {
                        opened = Some(worker);
                    }
                    self.media.orders.send((worker, MediaOrder::Command(command))).await.map_err(drop)?;
                }
                Effect::Tell(sockets, event) => effects.extend(self.tell(&sockets, &event)),
                Effect::Close(sockets) => sockets.iter().for_each(|socket| drop(self.sockets.remove(socket))),
            }
        }
        let Some(worker) = opened else { return Ok(None) };
        let (confirm, reachable) = oneshot::channel();
        self.media.orders.send((worker, MediaOrder::Confirm(confirm))).await.map_err(drop)?;
        Ok(Some(reachable))
    }

    /// Returns what follows from sockets that could not be told.
    fn tell(&mut self, sockets: &[SocketId], event: &RoomEvent) -> Vec<Effect> {
        let text = match serde_json::to_vec(event) {
            Ok(text) if !sockets.is_empty() => Bytes::from(text),
            _ => return Vec::new(),
        };
        let is_dead = |socket: &&SocketId| {
            self.sockets.get(socket).is_some_and(|(_, queue)| queue.try_send(text.clone()).is_err())
        };
        let dead: Vec<SocketId> = sockets.iter().filter(is_dead).copied().collect();
        self.bury(&dead)
    }

    /// Sockets whose readers have gone without a word.
    fn abandoned(&self) -> Vec<SocketId> {
        self.sockets.iter().filter(|(_, (_, queue))| queue.is_closed()).map(|(socket, _)| *socket).collect()
    }

    fn bury(&mut self, dead: &[SocketId]) -> Vec<Effect> {
        let mut effects = Vec::new();
        for socket in dead {
            if let Some((room, _)) = self.sockets.remove(socket) {
                self.turn(&mut effects, |turn| turn.socket_closed(&room, *socket));
            }
        }
        effects
    }
}
