//! What is written down of calls.

use std::fmt;

use callplane_crds::{CallId, CallRoom};
use jiff::Timestamp;

use crate::{Code, access::Role};

/// The room that something happened in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomRef {
    /// Call id.
    pub id: CallId,
    /// `metadata.uid`, where it is known.
    pub uid: Option<String>,
}

impl From<&CallRoom> for RoomRef {
    fn from(room: &CallRoom) -> Self {
        Self { id: room.call_id(), uid: room.metadata.uid.clone() }
    }
}

/// Who did it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// A backend, by the name of its API key or token.
    Backend(String),
    /// Somebody in the room, by user id.
    User(String),
    /// Somebody with a share link, by the link's id.
    Link(String),
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Backend(name) => write!(f, "backend:{name}"),
            Self::User(user) => write!(f, "user:{user}"),
            Self::Link(id) => write!(f, "link:{id}"),
        }
    }
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The room was created.
    Create,
    /// Somebody was to be let in, and given a join token.
    Join {
        /// User id. Empty for guests who were not given one.
        user: String,
        /// Part in the call.
        role: Role,
    },
    /// Somebody was connected.
    Enter {
        /// User id.
        user: String,
        /// Part in the call.
        role: Role,
    },
    /// Somebody is not in the call any more.
    Leave {
        /// User id.
        user: String,
        /// Why, as one word: `left`, `disconnected`.
        reason: &'static str,
    },
    /// Somebody was made to leave.
    Remove {
        /// User id.
        user: String,
    },
    /// Somebody was asked to mute themselves, and will be muted.
    Mute {
        /// User id.
        user: String,
    },
    /// The call was ended.
    End,
    /// Only hosts may join from now on.
    Lock,
    /// Others may join again.
    Unlock,
    /// A share link was made.
    CreateLink {
        /// Its id. Empty where that was refused.
        link: String,
    },
    /// A share link was revoked.
    RevokeLink {
        /// Its id.
        link: String,
    },
    /// Consents were read.
    ReadConsents,
    /// Somebody was asked for consent, and answered.
    Consent {
        /// User id.
        user: String,
    },
}

impl Action {
    /// As it stands in the records.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Join { .. } => "join",
            Self::Enter { .. } => "enter",
            Self::Leave { .. } => "leave",
            Self::Remove { .. } => "remove",
            Self::Mute { .. } => "mute",
            Self::End => "end",
            Self::Lock => "lock",
            Self::Unlock => "unlock",
            Self::CreateLink { .. } => "create-link",
            Self::RevokeLink { .. } => "revoke-link",
            Self::ReadConsents => "read-consents",
            Self::Consent { .. } => "consent",
        }
    }

    /// To whom or what it was done.
    pub fn target(&self) -> Option<&str> {
        match self {
            Self::Join { user, .. }
            | Self::Enter { user, .. }
            | Self::Leave { user, .. }
            | Self::Remove { user }
            | Self::Mute { user }
            | Self::Consent { user } => Some(user.as_str()),
            Self::CreateLink { link } | Self::RevokeLink { link } => Some(link.as_str()),
            Self::Create | Self::End | Self::Lock | Self::Unlock | Self::ReadConsents => None,
        }
        .filter(|target| !target.is_empty())
    }
}

/// Something that happened, or was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// Where.
    pub room: RoomRef,
    /// Who.
    pub by: Actor,
    /// What.
    pub action: Action,
    /// Why it was refused, if it was.
    pub refused: Option<Code>,
}

/// A room from its beginning to its end, as far as that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// `metadata.uid`.
    pub uid: String,
    /// Call id.
    pub id: CallId,
    /// User id of the host.
    pub host: Option<String>,
    /// When the CallRoom was made.
    pub created: Timestamp,
    /// When it could first be joined.
    pub started: Option<Timestamp>,
    /// When it ended, and why as one word.
    pub ended: Option<(Timestamp, String)>,
}
