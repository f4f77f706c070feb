//! Who asks, what a token lets them do, and why not.

use serde::{Deserialize, Serialize};

use super::{RoomKey, Turn, registry::Registry};
use crate::ortc;

/// Part of a user in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Moderates: may remove others.
    Host,
    /// Takes part.
    Participant,
    /// Takes part without an account.
    Guest,
    /// Runs the service: may create rooms and remove anyone.
    Admin,
}

impl Role {
    /// May remove others from the room.
    pub const fn moderates(self) -> bool {
        matches!(self, Self::Host | Self::Admin)
    }
}

/// What a token permits beyond being there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grants {
    /// To send media.
    pub publish: bool,
    /// To receive media.
    pub subscribe: bool,
}

/// A verified token, as far as rooms care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The room that it is for.
    pub room: RoomKey,
    /// The UID that the room has to have. Standalone rooms are known by their name alone.
    pub room_uid: Option<String>,
    /// When it was issued, in seconds since 1970.
    pub issued_at: i64,
    /// The route epoch that it is for.
    pub epoch: i64,
    /// The user, unique in the room.
    pub user: String,
    /// Name to show, if any.
    pub name: Option<String>,
    /// Part in the call.
    pub role: Role,
    /// Permissions.
    pub grants: Grants,
}

/// What a request is about to do, as far as admission cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// To open a new transport.
    Join,
    /// To look at the room or listen to its events; enters it, or goes on.
    Look,
    /// To go on with what it has.
    Use,
    /// To leave, or to remove somebody.
    Leave,
}

/// Whether a token opens the door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Yes.
    Granted,
    /// Not yet: it is for a room or an epoch that this node may hear of any moment.
    Wait(Refusal),
    /// No.
    Refused(Refusal),
}

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// This node does not serve such a room.
    #[error("this node does not serve the room")]
    RoomNotFound,
    /// The token is for an earlier room of that name, or for a later one that this node has not heard of.
    #[error("the token is for another room of the same name: its UID is not that of the room served here")]
    RoomReplaced,
    /// A moderator removed its holder after the token was issued.
    #[error("you were removed from the room: a token that was issued since is needed")]
    Removed,
    /// The token is of an epoch before the one served: its holder must ask for the current route.
    #[error("the token is for epoch {token}, the room is at epoch {served}")]
    EpochStale {
        /// Epoch of the token.
        token: i64,
        /// Epoch that this node serves.
        served: i64,
    },
    /// A token, this one or an earlier one, proves a later epoch than the one served: newcomers belong elsewhere.
    #[error(
        "this node serves epoch {served}, and the room is known to be at a later one: the token is for epoch {token}"
    )]
    EpochSuperseded {
        /// Epoch of the token.
        token: i64,
        /// Epoch that this node serves.
        served: i64,
    },
    /// The node was paused and has not re-read which rooms it still serves.
    #[error("the node is re-reading which rooms it serves")]
    Resyncing,
    /// The node has too many requests waiting, or is shutting down.
    #[error("the node cannot take the request now")]
    Busy,
    /// The room has as many participants as it may have.
    #[error("the room has {max} participants, as many as it may have")]
    RoomFull {
        /// Its limit.
        max: usize,
    },
    /// The token does not permit it.
    #[error("the token does not permit to {0}")]
    Forbidden(&'static str),
    /// No such object in the room, or not the caller's.
    #[error("the room has no such {0} of yours")]
    NotFound(&'static str),
    /// The caller has not entered the room.
    #[error("you are not in the room: create a transport or open the event socket first")]
    NotInRoom,
    /// A bound was reached.
    #[error("there may be no more than {max} {what}")]
    TooMany {
        /// Of what, plural.
        what: &'static str,
        /// How many are allowed.
        max: usize,
    },
    /// The object is not in a state for it.
    #[error("{0}")]
    Conflict(&'static str),
    /// The request must say which state of the object it is for (RFC 6585 §3).
    #[error("If-Match is needed: the ETag of the session, or * to restart ICE")]
    PreconditionRequired,
    /// The object has changed since (RFC 9110 §13.1.1).
    #[error("ICE was restarted since: the ETag is no longer the session's")]
    PreconditionFailed,
    /// The RTP or DTLS parameters are refused.
    #[error(transparent)]
    Parameters(#[from] ortc::Error),
}

impl Registry {
    /// Whether this token opens the room for this intent. Decides nothing, waits for nothing. `paused`
    /// fences for this once.
    pub fn admit(&self, access: &Access, intent: Intent, paused: bool) -> Admission {
        let fenced = self.fenced || paused;
        let Some(room) = self.rooms.get(&access.room) else {
            return match fenced {
                true => Admission::Refused(Refusal::Resyncing),
                false => Admission::Wait(Refusal::RoomNotFound),
            };
        };
        // Before its epoch is looked at: epochs of different rooms have nothing to do with each other.
        if access.room_uid.as_ref().is_some_and(|uid| *uid != room.uid) {
            return match fenced {
                true => Admission::Refused(Refusal::Resyncing),
                false => Admission::Wait(Refusal::RoomReplaced),
            };
        }
        if room.removed.get(&access.user).is_some_and(|since| access.issued_at < *since) {
            return Admission::Refused(Refusal::Removed);
        }
        let (token, served) = (access.epoch, room.epoch);
        if token > served {
            return Admission::Wait(Refusal::EpochSuperseded { token, served });
        }
        let member = room.participants.get(&access.user);
        if intent != Intent::Join && member.is_some_and(|participant| participant.epoch <= token) {
            return Admission::Granted;
        }
        if token < served {
            return Admission::Refused(Refusal::EpochStale { token, served });
        }
        match intent {
            Intent::Join | Intent::Look if room.proven > served => {
                Admission::Refused(Refusal::EpochSuperseded { token, served })
            }
            Intent::Join | Intent::Look if fenced => Admission::Refused(Refusal::Resyncing),
            Intent::Use if member.is_none() && !access.role.moderates() => Admission::Refused(Refusal::NotInRoom),
            _ => Admission::Granted,
        }
    }
}

impl Turn<'_> {
    /// As [`Registry::admit`], with no time left to wait. A token of a later epoch than the one served proves that the room
    /// is elsewhere: nobody new gets in here from then on. But whoever is in the room stays as long as the watch
    /// lets it, since no token may end what others have.
    pub(super) fn admit_at_last(&mut self, access: &Access, intent: Intent, paused: bool) -> Result<(), Refusal> {
        match self.registry.admit(access, intent, paused) {
            Admission::Granted => Ok(()),
            Admission::Wait(refusal) => {
                if let Refusal::EpochSuperseded { token, .. } = refusal
                    && let Ok(room) = self.registry.room_mut(&access.room)
                    && room.proven < token
                {
                    tracing::info!(room = %access.room, served = room.epoch, token, "a later epoch is proven: closed to newcomers");
                    room.proven = token;
                }
                Err(refusal)
            }
            Admission::Refused(refusal) => Err(refusal),
        }
    }
}
