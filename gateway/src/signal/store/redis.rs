//! Rooms' state in Redis: hashes and a bounded stream for each room, and a channel that replicas follow.
//!
//! While Redis is away every request answers at once that it is, so that nobody waits for it; one task tries to have
//! it back.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use callplane_crds::CallId;
use futures::StreamExt;
use redis::{
    AsyncConnectionConfig, Client, FromRedisValue, RedisResult, Script,
    aio::{MultiplexedConnection, PubSubSink},
};
use thiserror::Error;
use tokio::sync::{Notify, mpsc, oneshot};

use super::{Bus, Committed, Direct, Link, Look, Seen};
use crate::{
    metrics::Metrics,
    signal::{
        member::{Change, Parting},
        room::{Command, Handle},
        state::MAX_CHAT,
    },
};

/// How long Redis may take to answer. Then it counts as away.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// How long connecting may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// How often it is looked whether Redis is there, and told that this replica is.
const BEAT: Duration = Duration::from_secs(1);
/// How long a replica counts as alive after its last sign.
const ALIVE_FOR: Duration = Duration::from_secs(10);
/// Waits between tries: the first, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// Life of a room's state after the last sign of anybody, in seconds.
const ROOM_LIFE: u64 = 900;
/// Life of the right to write to a CallRoom.
const OWNER_LIFE: Duration = Duration::from_secs(10);
/// Changes of a room that are kept.
const MAX_CHANGES: usize = 256;
/// Rooms that wait to be followed, or not to be any more. Who comes then waits.
const MAX_ORDERS: usize = 1024;
/// Sorted set of the replicas that live, by the time in milliseconds until which they are known to.
const REPLICAS: &str = "callplane:gateways";

/// Why Redis cannot be used.
#[derive(Debug, Error)]
pub enum RedisError {
    /// The URL is none.
    #[error("the Redis URL: {0}")]
    Url(#[source] redis::RedisError),
    /// There is no randomness for a name.
    #[error("there is no randomness")]
    Randomness,
}

enum Order {
    Follow(String, Handle, oneshot::Sender<()>),
    Leave(String),
}

/// The way to Redis.
pub struct Redis {
    client: Client,
    replica: String,
    commit: Script,
    look: Script,
    connection: RwLock<Option<MultiplexedConnection>>,
    broken: Notify,
    orders: mpsc::Sender<Order>,
    metrics: Metrics,
}

fn key(id: &CallId, of: &str) -> String {
    format!("room:{id}{of}")
}

fn channel(id: &CallId) -> String {
    key(id, ":bus")
}

impl Redis {
    /// The way to the Redis at `url`, and what keeps it open for as long as it is polled.
    ///
    /// # Errors
    /// See [`RedisError`].
    pub fn new(url: &str, metrics: Metrics) -> Result<(Arc<Self>, impl Future<Output = ()> + use<>), RedisError> {
        let client = Client::open(url).map_err(RedisError::Url)?;
        let name = crate::rooms::chance().map_err(|_| RedisError::Randomness)?;
        let (orders, taken) = mpsc::channel(MAX_ORDERS);
        let redis = Arc::new(Self {
            client,
            // Begins with a letter, unlike the places in a stream.
            replica: format!("g{}", &name[..12]),
            commit: Script::new(include_str!("commit.lua")),
            look: Script::new(include_str!("look.lua")),
            connection: RwLock::new(None),
            broken: Notify::new(),
            orders,
            metrics,
        });
        let task = Arc::clone(&redis).keep(taken);
        Ok((redis, task))
    }

    /// The name of this replica.
    pub fn replica(&self) -> &str {
        &self.replica
    }

    /// Whether Redis answers.
    pub fn is_up(&self) -> bool {
        self.connection().is_some()
    }

    fn connection(&self) -> Option<MultiplexedConnection> {
        self.connection.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What Redis answers; if it does not, it counts as away.
    async fn ask<T: FromRedisValue>(
        &self,
        request: impl AsyncFnOnce(&mut MultiplexedConnection) -> RedisResult<T>,
    ) -> Option<T> {
        let mut connection = self.connection()?;
        match request(&mut connection).await {
            Ok(answer) => Some(answer),
            Err(error) => {
                tracing::warn!(%error, "Redis does not answer");
                self.metrics.store_failed();
                if error.is_io_error() || error.is_timeout() || error.is_connection_dropped() {
                    *self.connection.write().unwrap_or_else(PoisonError::into_inner) = None;
                    self.broken.notify_one();
                }
                None
            }
        }
    }

    /// Puts a change in order; `None` while Redis is away.
    pub async fn commit(&self, id: &CallId, change: &Change, capacity: usize) -> Option<Committed> {
        let text = serde_json::to_string(change).ok()?;
        let member = |member| serde_json::to_string(member).unwrap_or_default();
        let (operation, user, connection, value, removed) = match change {
            Change::Joined { member: m, .. } | Change::Resumed { member: m } => {
                ("put", m.user(), m.connection_id.as_str(), member(m), String::new())
            }
            Change::Updated { member: m } | Change::State { member: m } | Change::Dropped { member: m } => {
                ("set", m.user(), m.connection_id.as_str(), member(m), String::new())
            }
            Change::Left { user, connection, reason, at, .. } => {
                let removed = if *reason == Parting::Removed { at.to_string() } else { String::new() };
                ("del", user.as_str(), connection.as_str(), String::new(), removed)
            }
            Change::Chat { message } => {
                ("chat", "", "", serde_json::to_string(message).unwrap_or_default(), String::new())
            }
            Change::Quality { .. } => ("none", "", "", String::new(), String::new()),
        };
        let mut call = self.commit.prepare_invoke();
        for of in ["", ":participants", ":events", ":chat", ":removed"] {
            call.key(key(id, of));
        }
        call.arg(operation).arg(user).arg(connection).arg(value).arg(capacity).arg(text).arg(channel(id));
        call.arg(removed).arg(ROOM_LIFE).arg(MAX_CHANGES).arg(MAX_CHAT);
        let answer: String = self.ask(async |connection| call.invoke_async(connection).await).await?;
        Some(match answer.as_str() {
            "full" => Committed::Full,
            "stale" => Committed::Stale,
            _ => Committed::Ordered,
        })
    }

    /// What Redis has of a room.
    pub async fn look(&self, look: &Look<'_>) -> Option<Seen> {
        let mut call = self.look.prepare_invoke();
        for of in ["", ":participants", ":events", ":chat", ":removed", ":owner"] {
            call.key(key(look.id, of));
        }
        call.key(REPLICAS);
        call.arg(look.uid).arg(look.after).arg(&self.replica).arg(u8::from(look.would_write));
        call.arg(ROOM_LIFE).arg(OWNER_LIFE.as_millis() as u64).arg(look.region);
        type Answer = (String, Vec<String>, Vec<(String, String)>, Vec<String>, Vec<(String, String)>, Vec<String>);
        let answer: Answer = self.ask(async |connection| call.invoke_async(connection).await).await?;
        let (owner, members, changes, chat, removed, alive) = answer;
        // What cannot be read was written by a newer version, or by hand: it is as if it were not there.
        let change = |(seq, text): (String, String)| Some((seq, serde_json::from_str(&text).ok()?));
        Some(Seen {
            owner,
            members: members.iter().filter_map(|text| serde_json::from_str(text).ok()).collect(),
            changes: changes.into_iter().filter_map(change).collect(),
            chat: chat.iter().filter_map(|text| serde_json::from_str(text).ok()).collect(),
            removed: removed.into_iter().filter_map(|(user, at)| Some((user, at.parse().ok()?))).collect(),
            alive: alive.into_iter().collect(),
        })
    }

    /// Sends a message to the replicas that follow a room.
    pub async fn publish(&self, id: &CallId, direct: &Direct) {
        let Ok(text) = serde_json::to_string(direct) else { return };
        let command = redis::cmd("PUBLISH").arg(channel(id)).arg(text).to_owned();
        self.ask::<i64>(async |connection| command.query_async(connection).await).await;
    }

    /// What happens in a room goes to `handle` from now on. Waits until it does, if Redis is there.
    pub async fn follow(&self, id: &CallId, handle: Handle) {
        let (done, is_done) = oneshot::channel();
        let _ = self.orders.send(Order::Follow(channel(id), handle, done)).await;
        if self.is_up() {
            let _ = tokio::time::timeout(ANSWER_WITHIN, is_done).await;
        }
    }

    /// Nobody here is interested in a room any more.
    pub async fn leave(&self, id: &CallId, is_owner: bool) {
        let _ = self.orders.send(Order::Leave(channel(id))).await;
        if is_owner {
            let owner = key(id, ":owner");
            let command = redis::cmd("DEL").arg(owner).to_owned();
            self.ask::<i64>(async |connection| command.query_async(connection).await).await;
            self.publish(id, &Direct::Released).await;
        }
    }

    /// Nothing of a room is kept.
    pub async fn forget(&self, id: &CallId) {
        let mut command = redis::cmd("DEL");
        for of in ["", ":participants", ":events", ":chat", ":removed", ":owner"] {
            command.arg(key(id, of));
        }
        self.ask::<i64>(async |connection| command.query_async(connection).await).await;
    }

    async fn keep(self: Arc<Self>, mut orders: mpsc::Receiver<Order>) {
        let mut rooms: HashMap<String, Handle> = HashMap::new();
        let mut wait = FIRST_WAIT;
        loop {
            match self.open(&rooms).await {
                Ok((sink, messages)) => {
                    tracing::info!("Redis is there");
                    self.metrics.store_up(true);
                    announce(&rooms, Link::Up).await;
                    wait = FIRST_WAIT;
                    self.serve(&mut rooms, &mut orders, sink, messages).await;
                    tracing::warn!("Redis is away; calls go on, each replica by itself");
                    *self.connection.write().unwrap_or_else(PoisonError::into_inner) = None;
                    self.metrics.store_up(false);
                    announce(&rooms, Link::Down).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "Redis is not there");
                    self.metrics.store_up(false);
                }
            }
            let pause = tokio::time::sleep(wait);
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    order = orders.recv() => match order {
                        Some(order) => take(&mut rooms, order),
                        None => return,
                    },
                }
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    async fn open(&self, rooms: &HashMap<String, Handle>) -> RedisResult<(PubSubSink, redis::aio::PubSubStream)> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_WITHIN))
            .set_response_timeout(Some(ANSWER_WITHIN));
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        let late = |_| redis::RedisError::from((redis::ErrorKind::Io, "took too long"));
        let pubsub = tokio::time::timeout(CONNECT_WITHIN, self.client.get_async_pubsub()).await.map_err(late)??;
        let (mut sink, messages) = pubsub.split();
        for channel in rooms.keys() {
            tokio::time::timeout(ANSWER_WITHIN, sink.subscribe(channel)).await.map_err(late)??;
        }
        self.beat(&mut connection).await?;
        *self.connection.write().unwrap_or_else(PoisonError::into_inner) = Some(connection);
        Ok((sink, messages))
    }

    /// Says that this replica lives.
    async fn beat(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        let (seconds, microseconds): (u64, u64) = redis::cmd("TIME").query_async(connection).await?;
        let now = seconds * 1000 + microseconds / 1000;
        redis::pipe()
            .cmd("ZADD")
            .arg(REPLICAS)
            .arg(now + ALIVE_FOR.as_millis() as u64)
            .arg(&self.replica)
            .ignore()
            .cmd("ZREMRANGEBYSCORE")
            .arg(REPLICAS)
            .arg("-inf")
            .arg(now.saturating_sub(3_600_000))
            .ignore()
            .query_async(connection)
            .await
    }

    /// Serves until Redis is away.
    async fn serve(
        &self,
        rooms: &mut HashMap<String, Handle>,
        orders: &mut mpsc::Receiver<Order>,
        mut sink: PubSubSink,
        mut messages: redis::aio::PubSubStream,
    ) {
        let mut beat = tokio::time::interval(BEAT);
        loop {
            tokio::select! {
                message = messages.next() => {
                    let Some(message) = message else { return };
                    let Some(room) = rooms.get(message.get_channel_name()) else { continue };
                    match serde_json::from_slice::<Bus>(message.get_payload_bytes()) {
                        // A room that does not keep up finds what it missed when it looks again.
                        Ok(bus) => drop(room.try_send(Command::Bus(Box::new(bus)))),
                        Err(error) => tracing::debug!(%error, "a message of another version"),
                    }
                }
                order = orders.recv() => {
                    let Some(order) = order else { return };
                    let subscribed = match &order {
                        Order::Follow(channel, ..) => tokio::time::timeout(ANSWER_WITHIN, sink.subscribe(channel)).await,
                        Order::Leave(channel) if is_left(rooms, channel) => {
                            tokio::time::timeout(ANSWER_WITHIN, sink.unsubscribe(channel)).await
                        }
                        Order::Leave(_) => continue,
                    };
                    take(rooms, order);
                    if !matches!(subscribed, Ok(Ok(()))) {
                        return;
                    }
                }
                _ = beat.tick() => {
                    let Some(mut connection) = self.connection() else { return };
                    let ping = tokio::time::timeout(ANSWER_WITHIN, sink.ping::<redis::Value>());
                    if self.beat(&mut connection).await.is_err() || !matches!(ping.await, Ok(Ok(_))) {
                        return;
                    }
                }
                () = self.broken.notified() => return,
            }
        }
    }
}

fn take(rooms: &mut HashMap<String, Handle>, order: Order) {
    match order {
        Order::Follow(channel, handle, done) => {
            rooms.insert(channel, handle);
            let _ = done.send(());
        }
        Order::Leave(channel) if is_left(rooms, &channel) => drop(rooms.remove(&channel)),
        Order::Leave(_) => {}
    }
}

/// Whether the task of the room has ended, and no new one follows it.
fn is_left(rooms: &HashMap<String, Handle>, channel: &str) -> bool {
    rooms.get(channel).is_some_and(Handle::is_closed)
}

async fn announce(rooms: &HashMap<String, Handle>, link: Link) {
    for room in rooms.values() {
        let _ = room.try_send(Command::Link(link));
    }
}
