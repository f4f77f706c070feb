//! One event loop: a thread, a socket, a core, and the only place that reads the clock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::announcer::Announcer;
use super::shared::{Directory, Shared};
use super::socket::{Patience, Port, Socket};
use super::tcp::{Connections, Incoming, Listener};
use super::{Config, WorkerId};
use crate::core::command::Command;
use crate::core::{Answer, Core, Gauge, Identity, Protocol, Question};

/// Orders carried out before datagrams get a turn.
const ORDERS_PER_TURN: usize = 64;
/// Reads from the socket before orders and timers get a turn.
const READS_PER_TURN: usize = 8;
/// How often numbers are published while there is traffic.
const PUBLISH: Duration = Duration::from_millis(100);
/// How soon events are tried again when a listener is full.
const RETRY: Duration = Duration::from_millis(10);
/// Events kept for one listener whose queue is full. Beyond that it loses the oldest, counted, and others lose nothing.
const BACKLOG: usize = 65_536;
/// How long a late turn is remembered.
const LAG_WINDOW: Duration = Duration::from_secs(1);

/// What a handle asks of a worker.
#[derive(Debug)]
pub(super) enum Order {
    Command(Command),
    Ask(Question, oneshot::Sender<Option<Answer>>),
    Confirm(oneshot::Sender<()>),
}

pub(super) struct Worker {
    id: WorkerId,
    socket: Socket,
    listener: Option<Listener>,
    inbox: mpsc::Receiver<Order>,
    shared: Arc<Shared>,
    directory: Arc<Directory>,
    core: Core,
}

#[expect(clippy::disallowed_methods, reason = "the adapter between the clock and the core")]
fn clock() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the adapter between randomness and the core")]
fn seed() -> u64 {
    rand::random()
}

impl Worker {
    pub fn new(
        id: WorkerId,
        (socket, listener): (Socket, Option<Listener>),
        inbox: mpsc::Receiver<Order>,
        shared: Arc<Shared>,
        directory: Arc<Directory>,
        config: &Config,
        identity: Identity,
    ) -> Self {
        let core = Core::new(config.core.clone(), identity, seed(), clock());
        Self { id, socket, listener, inbox, shared, directory, core }
    }

    /// Runs until all handles are gone.
    pub fn run(self) {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                tracing::error!(worker = self.id, %error, "no event loop");
                return;
            }
        };
        runtime.block_on(async move {
            let Self { id, socket, listener, inbox, shared, directory, core } = self;
            let watched = socket.watch().and_then(|port| Ok((port, listener.map(Listener::watch).transpose()?)));
            match watched {
                Ok((port, connections)) => {
                    let now = clock();
                    let lag = Lag { worst: Duration::ZERO, since: now };
                    let published = now;
                    let announcer = Announcer::new(id, directory, BACKLOG);
                    Loop { id, port, connections, inbox, shared, announcer, core, lag, published }.run().await;
                }
                Err(error) => tracing::error!(worker = id, %error, "the media socket cannot be used"),
            }
        });
    }
}

/// News of connections, if there can be any.
async fn news_of(connections: &mut Option<Connections>) -> Option<Incoming> {
    match connections {
        Some(connections) => connections.next().await,
        None => std::future::pending().await,
    }
}

struct Lag {
    worst: Duration,
    since: Instant,
}

struct Loop {
    id: WorkerId,
    port: Port,
    connections: Option<Connections>,
    inbox: mpsc::Receiver<Order>,
    shared: Arc<Shared>,
    announcer: Announcer,
    core: Core,
    lag: Lag,
    published: Instant,
}

impl Loop {
    async fn run(mut self) {
        loop {
            let due = self.due();
            let wake = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            let (mut order, mut news) = (None, None);
            tokio::select! {
                biased;
                received = self.inbox.recv() => match received {
                    Some(received) => order = Some(received),
                    None => return,
                },
                () = wake => {}
                readable = self.port.readable() => if let Err(error) = readable {
                    tracing::error!(worker = self.id, %error, "the media socket has failed");
                    return;
                },
                incoming = news_of(&mut self.connections) => news = incoming,
            }
            let now = clock();
            self.note_lag(due, now);
            self.carry_out(order, now);
            self.receive(now).await;
            if let Some(connections) = &mut self.connections {
                connections.turn(news, &mut self.core, now);
            }
            self.finish_turn().await;
        }
    }

    fn due(&self) -> Option<Instant> {
        let retry = self.announcer.is_behind().then(|| clock() + RETRY);
        let sweep = self.connections.as_ref().and_then(Connections::due);
        self.core.poll_timeout().into_iter().chain(retry).chain(sweep).min()
    }

    fn note_lag(&mut self, due: Option<Instant>, now: Instant) {
        if now.saturating_duration_since(self.lag.since) > LAG_WINDOW {
            self.lag = Lag { worst: Duration::ZERO, since: now };
        }
        if let Some(late) = due.and_then(|due| now.checked_duration_since(due)) {
            self.lag.worst = self.lag.worst.max(late);
        }
    }

    fn carry_out(&mut self, first: Option<Order>, now: Instant) {
        let mut left = ORDERS_PER_TURN;
        let mut next = first;
        while let Some(order) = next {
            match order {
                Order::Command(command) => {
                    let rooms = self.core.stats().gauge(Gauge::Rooms);
                    self.core.handle(command, now);
                    if self.core.stats().gauge(Gauge::Rooms) > rooms {
                        self.shared.room_came();
                    }
                }
                // An asker that has gone away is no concern of ours.
                Order::Ask(question, reply) => drop(reply.send(self.core.answer(question, now))),
                Order::Confirm(reply) => drop(reply.send(())),
            }
            left -= 1;
            next = if left > 0 { self.inbox.try_recv().ok() } else { None };
        }
        if left < ORDERS_PER_TURN {
            self.publish(now);
        }
    }

    async fn receive(&mut self, now: Instant) {
        for _ in 0..READS_PER_TURN {
            let core = &mut self.core;
            let more = self.port.receive(|local, remote, datagram| {
                core.receive(now, local, remote, datagram);
            });
            match more {
                Ok(true) => {}
                Ok(false) => break,
                // ICMP errors of earlier sends surface here; the socket itself is fine.
                Err(error) => {
                    tracing::debug!(worker = self.id, %error, "receiving");
                    break;
                }
            }
            self.transmit().await;
        }
    }

    async fn finish_turn(&mut self) {
        let now = clock();
        self.core.tick(now);
        self.transmit().await;
        self.announce();
        let rests = self.core.poll_timeout().is_none_or(|at| at > now + PUBLISH);
        if rests || now.saturating_duration_since(self.published) >= PUBLISH {
            self.publish(now);
        }
    }

    async fn transmit(&mut self) {
        let now = clock();
        let (mut failed, mut refused, mut patience) = (0, 0, Patience::default());
        while let Some(transmit) = self.core.poll_transmit(now) {
            failed += match (transmit.protocol, &self.connections) {
                (Protocol::Udp, _) => {
                    let sent = self.port.send(&transmit, &mut patience).await;
                    refused += sent.refused;
                    sent.failed
                }
                (Protocol::Tcp, Some(connections)) => connections.send(&transmit),
                (Protocol::Tcp, None) => transmit.packets,
            };
        }
        if refused > 0 {
            self.core.segmentation_refused(refused);
        }
        if failed > 0 {
            self.core.transmit_failed(failed);
        }
    }

    fn publish(&mut self, now: Instant) {
        self.published = now;
        self.shared.publish(self.core.stats(), self.lag.worst, self.port.segments());
    }

    fn announce(&mut self) {
        while let Some(event) = self.core.poll_event() {
            self.announcer.add(&event);
        }
        self.core.events_lost(self.announcer.flush());
    }
}
