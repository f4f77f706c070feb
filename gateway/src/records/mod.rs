//! What stays when a call is over: sessions of rooms, who was in them, consents, and who did what.
//!
//! Nothing here holds a call up. What happens is put into a queue, and a task writes it; when the database is away the queue
//! fills, and when it is full the newest is dropped and counted. Only consents wait for the database, since somebody who
//! consented may ask for the proof.

mod database;
mod event;
mod follow;
mod statements;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::rand;
use axum::http::StatusCode;
use callplane_crds::CallId;
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

pub use database::{Consent, DatabaseError, Source};
pub use event::{Action, Actor, Event, RoomRef, Session};

use crate::{Code, Gateway, Problem, access::Caller, metrics::Metrics};
use database::{Database, Entry};

/// Events that wait to be written: minutes of a busy gateway's, some 10 MB. When there are as many, the newest is dropped.
pub const QUEUE: usize = 16_384;
/// Sessions of rooms that wait to be written. When there are as many, whoever follows the rooms waits.
const SESSIONS: usize = 256;
/// Longest time that the process waits for the queue to be written when it stops.
pub const FLUSH_WITHIN: Duration = Duration::from_secs(5);

/// The records. Clones are the same.
#[derive(Clone)]
pub struct Records(Option<Arc<Inner>>);

struct Inner {
    database: Database,
    events: mpsc::Sender<Entry>,
    sessions: mpsc::Sender<Entry>,
    /// Tells the ids of this process from those of others.
    process: String,
    next: AtomicU64,
    /// Something was dropped since the database last took something, and that was logged.
    drops: AtomicBool,
    metrics: Metrics,
    closing: CancellationToken,
    closed: CancellationToken,
}

impl Records {
    /// None are kept.
    pub fn off() -> Self {
        Self(None)
    }

    /// Those in the database at `source`, which need not be there yet.
    ///
    /// # Errors
    /// When `source` names no database.
    pub fn new(source: Source, metrics: Metrics, tasks: &mut JoinSet<()>) -> Result<Self, DatabaseError> {
        let mut process = [0; 8];
        rand::fill(&mut process).map_err(|_| DatabaseError::NoRandomness)?;
        let (events, waiting_events) = mpsc::channel(QUEUE);
        let (sessions, waiting_sessions) = mpsc::channel(SESSIONS);
        let inner = Arc::new(Inner {
            database: Database::new(source)?,
            events,
            sessions,
            process: format!("{:016x}", u64::from_be_bytes(process)),
            next: AtomicU64::new(1),
            drops: AtomicBool::new(false),
            metrics,
            closing: CancellationToken::new(),
            closed: CancellationToken::new(),
        });
        tasks.spawn(writer::run(Arc::clone(&inner), waiting_events, waiting_sessions));
        Ok(Self(Some(inner)))
    }

    /// Whether any are kept.
    pub fn are_on(&self) -> bool {
        self.0.is_some()
    }

    /// Writes `event` down, sooner or later. Never waits: when the queue is full the event is dropped and counted.
    pub fn note(&self, event: Event) {
        let Some(inner) = &self.0 else { return };
        let id = format!("{}-{}", inner.process, inner.next.fetch_add(1, Ordering::Relaxed));
        match inner.events.try_send(Entry::Event(id, event)) {
            Ok(()) => inner.metrics.records_waiting(QUEUE - inner.events.capacity()),
            Err(error) => {
                let why = match error {
                    TrySendError::Full(_) => "queue-full",
                    TrySendError::Closed(_) => "stopping",
                };
                inner.metrics.record_dropped(why);
                if !inner.drops.swap(true, Ordering::Relaxed) {
                    tracing::error!(why, "records are dropped; callplane_gateway_records_dropped_total counts them");
                }
            }
        }
    }

    /// Follows the rooms of `gateway` and writes their sessions, for as long as it is polled.
    pub async fn follow(self, gateway: Gateway) {
        match self.0 {
            Some(inner) => follow::run(gateway, inner.sessions.clone()).await,
            None => std::future::pending().await,
        }
    }

    /// Writes a consent, and waits until it is written.
    ///
    /// # Errors
    /// [`Code::RecordsOff`], [`Code::RecordsUnavailable`].
    pub async fn add_consent(&self, room: &CallId, consent: &Consent) -> Result<(), Problem> {
        self.database()?.add_consent(room, consent).await.map_err(|error| unavailable(&error))
    }

    /// At most `limit` consents of `room` after the one with this time and id; of the room with this uid only, if there is one.
    ///
    /// # Errors
    /// [`Code::RecordsOff`], [`Code::RecordsUnavailable`].
    pub async fn consents(
        &self,
        room: &CallId,
        uid: Option<&str>,
        after: (i64, &str),
        limit: u32,
    ) -> Result<Vec<Consent>, Problem> {
        self.database()?.consents(room, uid, after, limit).await.map_err(|error| unavailable(&error))
    }

    /// What `user` answered last when asked for `consent_type` in `room` with this uid.
    ///
    /// # Errors
    /// [`Code::RecordsOff`], [`Code::RecordsUnavailable`].
    pub async fn last_answer(
        &self,
        room: &CallId,
        uid: &str,
        user: &str,
        consent_type: &str,
    ) -> Result<Option<String>, Problem> {
        let asked = self.database()?.last_answer(room, uid, user, consent_type).await;
        asked.map_err(|error| unavailable(&error))
    }

    /// Takes nothing more, and returns when all that waits is written. Give it a limit: the database may be away.
    pub async fn close(&self) {
        let Some(inner) = &self.0 else { return };
        inner.closing.cancel();
        inner.closed.cancelled().await;
    }

    /// How many events wait to be written.
    pub fn waiting(&self) -> usize {
        self.0.as_ref().map_or(0, |inner| QUEUE - inner.events.capacity())
    }

    fn database(&self) -> Result<&Database, Problem> {
        match &self.0 {
            Some(inner) => Ok(&inner.database),
            None => Err(off()),
        }
    }
}

/// Whether somebody was told no, and not that a request was wrong, or too much, or could not be served.
fn is_refusal(code: Code) -> bool {
    matches!(code.status(), StatusCode::FORBIDDEN | StatusCode::CONFLICT | StatusCode::GONE)
}

/// What needs records, where none are kept.
pub(crate) fn off() -> Problem {
    Problem::new(Code::RecordsOff, "this installation keeps no records, so it cannot keep consents")
}

fn unavailable(error: &DatabaseError) -> Problem {
    tracing::warn!(%error, "the database could not be asked");
    Problem::new(Code::RecordsUnavailable, "the database of records does not answer")
}

impl Gateway {
    /// Writes down that `by` did `action`, or was refused it. Never waits.
    pub fn note(&self, room: RoomRef, by: Actor, action: Action, refused: Option<Code>) {
        if self.records.are_on() {
            self.records.note(Event { at: self.clock.now().wall, room, by, action, refused });
        }
    }

    /// Writes down that `by` did `action`, or that the room's rules refused it. Failures of other kinds are in the log.
    pub fn note_result<T>(&self, room: RoomRef, by: Actor, action: Action, result: &Result<T, Problem>) {
        match result.as_ref().map_err(Problem::code) {
            Ok(_) => self.note(room, by, action, None),
            Err(code) if is_refusal(code) => self.note(room, by, action, Some(code)),
            Err(_) => {}
        }
    }

    /// The room of this id, as it is known.
    pub fn room_ref(&self, id: &CallId) -> RoomRef {
        self.cache.room(id).map_or_else(|| RoomRef { id: id.clone(), uid: None }, |room| RoomRef::from(&*room))
    }
}

impl Caller {
    /// As whom they stand in the records.
    pub fn actor(&self) -> Actor {
        match self {
            Self::Backend(name) => Actor::Backend(name.clone()),
            Self::Member(claims) => Actor::User(claims.sub.clone()),
        }
    }
}
