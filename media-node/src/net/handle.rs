//! The media plane as the rest of the process sees it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::WorkerId;
use super::shared::{Directory, Shared};
use super::worker::Order;
use crate::core::command::{Command, Event, Fingerprint};
use crate::core::{Answer, Question, Stats};

/// Events that one listener may be behind. When full, each worker keeps its events for it and tries again.
const EVENTS: usize = 4096;

/// The worker is gone, or never was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("media worker {0} is closed")]
pub struct Closed(pub WorkerId);

#[derive(Debug)]
pub(super) struct Link {
    pub orders: mpsc::Sender<Order>,
    pub shared: Arc<Shared>,
    pub port: u16,
}

/// Speaks to the workers. Cheap to clone; the workers end when the last one is dropped.
#[derive(Clone, Debug)]
pub struct MediaHandle {
    links: Arc<[Link]>,
    directory: Arc<Directory>,
    fingerprint: Fingerprint,
}

impl MediaHandle {
    pub(super) fn new(links: Vec<Link>, directory: Arc<Directory>, fingerprint: Fingerprint) -> Self {
        Self { links: links.into(), directory, fingerprint }
    }

    pub(super) fn orders(&self) -> impl Iterator<Item = &mpsc::Sender<Order>> {
        self.links.iter().map(|link| &link.orders)
    }

    /// All workers.
    pub fn workers(&self) -> impl Iterator<Item = WorkerId> + use<> {
        0..self.links.len()
    }

    /// The least loaded worker. Counts as given a room until that room's first transport exists there.
    pub fn worker_for_new_room(&self) -> WorkerId {
        let least = self.links.iter().enumerate().min_by_key(|(_, link)| link.shared.load());
        let Some((id, link)) = least else { return 0 };
        link.shared.expect_room();
        id
    }

    /// Gives an order; orders to one worker are carried out in the order given. Waits while the worker is
    /// behind.
    ///
    /// # Errors
    ///
    /// [`Closed`] if there is no such worker (any more).
    pub async fn send(&self, worker: WorkerId, command: Command) -> Result<(), Closed> {
        self.order(worker, Order::Command(command)).await
    }

    async fn order(&self, worker: WorkerId, order: Order) -> Result<(), Closed> {
        let link = self.links.get(worker).ok_or(Closed(worker))?;
        link.orders.send(order).await.map_err(|_| Closed(worker))
    }

    /// How something stands, after all that was ordered before; `None` if the worker has no such thing.
    ///
    /// # Errors
    ///
    /// [`Closed`].
    pub async fn ask(&self, worker: WorkerId, question: Question) -> Result<Option<Answer>, Closed> {
        let (reply, answer) = oneshot::channel();
        self.ask_for(worker, question, reply).await?;
        answer.await.map_err(|_| Closed(worker))
    }

    /// As [`Self::ask`], for somebody else.
    ///
    /// # Errors
    ///
    /// [`Closed`].
    pub async fn ask_for(
        &self,
        worker: WorkerId,
        question: Question,
        reply: oneshot::Sender<Option<Answer>>,
    ) -> Result<(), Closed> {
        self.order(worker, Order::Ask(question, reply)).await
    }

    /// Lets the worker say when everything is done that was ordered before.
    ///
    /// # Errors
    ///
    /// [`Closed`].
    pub async fn confirm(&self, worker: WorkerId, reply: oneshot::Sender<()>) -> Result<(), Closed> {
        self.order(worker, Order::Confirm(reply)).await
    }

    /// SHA-256 of the certificate of this process.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint.clone()
    }

    /// The UDP port that a worker has bound; zero for one that does not exist.
    pub fn local_port(&self, worker: WorkerId) -> u16 {
        self.links.get(worker).map_or(0, |link| link.port)
    }

    /// Events of all workers from now on. A listener that is slow delays its events, and loses none
    /// unless it stays behind by many thousands.
    pub fn subscribe(&self) -> mpsc::Receiver<(WorkerId, Event)> {
        let (sender, receiver) = mpsc::channel(EVENTS);
        self.directory.listen(sender);
        receiver
    }

    /// Counters and gauges of all workers together, at most a tenth of a second old.
    pub fn stats(&self) -> Stats {
        let mut total = Stats::default();
        for link in self.links.iter() {
            total.add_values(link.shared.stats().values());
        }
        total
    }

    /// Counters and gauges of one worker.
    pub fn worker_stats(&self, worker: WorkerId) -> Option<Stats> {
        self.links.get(worker).map(|link| link.shared.stats())
    }

    /// How late the latest worker was in the last second: time between when something was due and when
    /// it was done.
    pub fn loop_lag(&self) -> Duration {
        self.links.iter().map(|link| link.shared.lag()).max().unwrap_or_default()
    }

    /// Datagrams that one system call can send at most, on the worker where that is least; 1 where the system does not
    /// segment.
    pub fn segments(&self) -> usize {
        self.links.iter().map(|link| link.shared.segments()).min().unwrap_or_default()
    }
}
