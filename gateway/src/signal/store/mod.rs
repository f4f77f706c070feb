//! Where a room's state is kept for all replicas: Redis, or nowhere for a single one.

mod redis;

use std::{collections::BTreeSet, sync::Arc};

use callplane_crds::CallId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::redis::{Redis, RedisError};
use super::{
    member::{Change, ChatMessage, Member},
    room::Handle,
    state::Seq,
};

/// The state of rooms beyond this process. Clones are the same.
#[derive(Clone)]
pub enum Store {
    /// There is one replica, and what it knows is all.
    Local,
    /// Replicas share it.
    Redis(Arc<Redis>),
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// It has its place, and comes back by [`Bus::Change`].
    Ordered,
    /// No more people may be in the room.
    Full,
    /// It is of a socket that another one replaced, or of somebody who is not there.
    Stale,
    /// There is no store, or it is away: this replica's own order counts.
    Alone,
}

/// Whether the store is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// It is, since just now.
    Up,
    /// It is not.
    Down,
}

/// What comes from the store.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Bus {
    /// A change, in its place.
    Change {
        /// Its place.
        seq: Seq,
        /// What.
        change: Change,
    },
    /// A message for one socket.
    Direct(Direct),
}

/// What goes from one replica to the one that holds a socket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Direct {
    /// Tell a client something.
    Tell {
        /// Whom.
        user: String,
        /// Name of the event.
        event: String,
        /// Its data.
        data: Value,
    },
    /// Somebody without a socket asked for a media node.
    Summoned,
    /// Whoever wrote to the CallRoom does not any more.
    Released,
}

/// What the store has of a room.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// The replica that writes to the CallRoom; empty: none.
    pub owner: String,
    /// Who is in the room.
    pub members: Vec<Member>,
    /// The changes after the one that was known, oldest first.
    pub changes: Vec<(Seq, Change)>,
    /// The chat, if no change was known.
    pub chat: Vec<ChatMessage>,
    /// Who was removed when, if no change was known.
    pub removed: Vec<(String, jiff::Timestamp)>,
    /// The replicas that live. Each says so before it takes anybody in.
    pub alive: BTreeSet<String>,
}

/// What is asked of a room.
pub struct Look<'a> {
    /// Which room.
    pub id: &'a CallId,
    /// Which of that name.
    pub uid: &'a str,
    /// The last change that is known.
    pub after: &'a str,
    /// Whether this replica would write to the CallRoom.
    pub would_write: bool,
    /// The room's region.
    pub region: &'a str,
}

impl Store {
    /// The name of this replica, unique among them.
    pub fn replica(&self) -> &str {
        match self {
            Self::Local => "local",
            Self::Redis(redis) => redis.replica(),
        }
    }

    /// Whether this is the only replica.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Local)
    }

    /// Puts a change in order. `capacity` bounds the people in the room.
    pub async fn commit(&self, id: &CallId, change: &Change, capacity: usize) -> Committed {
        match self {
            Self::Local => Committed::Alone,
            Self::Redis(redis) => redis.commit(id, change, capacity).await.unwrap_or(Committed::Alone),
        }
    }

    /// Sends a message to the replica that holds a socket. It may get lost, as may the socket.
    pub async fn direct(&self, id: &CallId, direct: Direct) {
        if let Self::Redis(redis) = self {
            redis.publish(id, &direct).await;
        }
    }

    /// What the store has of a room, which is kept from expiring; `None`: it cannot be seen.
    pub async fn look(&self, look: &Look<'_>) -> Option<Seen> {
        match self {
            Self::Local => None,
            Self::Redis(redis) => redis.look(look).await,
        }
    }

    /// What happens in a room goes to `handle` from now on.
    pub async fn follow(&self, id: &CallId, handle: Handle) {
        if let Self::Redis(redis) = self {
            redis.follow(id, handle).await;
        }
    }

    /// Nobody here is interested in a room any more.
    pub async fn leave(&self, id: &CallId, is_owner: bool) {
        if let Self::Redis(redis) = self {
            redis.leave(id, is_owner).await;
        }
    }

    /// The call is over: nothing of it is kept.
    pub async fn forget(&self, id: &CallId) {
        if let Self::Redis(redis) = self {
            redis.forget(id).await;
        }
    }

    /// Whether the store is there. Without one there is nothing to be away.
    pub fn is_up(&self) -> bool {
        match self {
            Self::Local => true,
            Self::Redis(redis) => redis.is_up(),
        }
    }
}
