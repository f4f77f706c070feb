//! Who is in a room, and what changes there: the values that replicas agree on.

use callplane_crds::presence::SfuReason;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Somebody in a call, as their clients see them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Participant {
    /// User id, unique in the room.
    pub user_id: String,
    /// Name to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// `host`, `participant`, `guest` or `admin`.
    pub role: String,
    /// Their microphone is off, as their client says.
    pub is_muted: bool,
    /// Their camera is on, as their client says.
    pub is_video_on: bool,
    /// When they came.
    pub joined_at: Timestamp,
}

impl Participant {
    /// Whether they may direct the call.
    pub fn is_moderator(&self) -> bool {
        matches!(self.role.as_str(), "host" | "admin")
    }
}

/// That somebody would rather have the SFU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// Why.
    pub reason: SfuReason,
    /// Since when.
    pub since: Timestamp,
}

/// Somebody in a call, as gateway replicas keep them. One entry of `room:<id>:participants` in Redis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// What their fellows see.
    #[serde(flatten)]
    pub participant: Participant,
    /// The socket that speaks for them: another one of theirs takes over.
    pub connection_id: String,
    /// What a dropped socket's successor proves that it is the same client by.
    pub session: String,
    /// The replica that holds the socket.
    pub replica: String,
    /// Newest epoch that media flows on for them; 0: none yet.
    #[serde(default)]
    pub acked: i64,
    /// Newest epoch that they could not reach although it was tried twice; 0: none.
    #[serde(default)]
    pub failed: i64,
    /// They would rather have the SFU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wish: Option<Wish>,
    /// Their socket is gone since then; it may come back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped: Option<Timestamp>,
}

impl Member {
    /// User id.
    pub fn user(&self) -> &str {
        &self.participant.user_id
    }
}

/// Why somebody is in the call no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Parting {
    /// They left.
    Left,
    /// Their socket went and did not come back in time.
    Disconnected,
    /// A host removed them.
    Removed,
}

/// A line of the chat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChatMessage {
    /// Unique in the room.
    pub id: String,
    /// Who wrote it.
    pub user_id: String,
    /// Their name to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Plain text. Whoever shows it escapes it.
    pub text: String,
    /// When it came in.
    pub at: Timestamp,
}

/// How well media flows for a client, in its own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should.
    Good,
    /// Worse than it should.
    Fair,
    /// Hardly.
    Poor,
}

/// What changes in a room. All replicas with sockets in it apply the same changes in the same order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Change {
    /// Somebody came. With `again` they were there before, and their client began anew.
    Joined {
        /// Who.
        member: Member,
        /// They were there before.
        again: bool,
    },
    /// A dropped socket's successor is there.
    Resumed {
        /// Whose.
        member: Member,
    },
    /// A socket went, and may come back.
    Dropped {
        /// Of whom, whole.
        member: Member,
    },
    /// Somebody is there no more.
    Left {
        /// Who.
        user: String,
        /// By which socket.
        connection: String,
        /// Why.
        reason: Parting,
        /// Who made them leave.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        /// When.
        at: Timestamp,
    },
    /// What is known of somebody's media changed.
    Updated {
        /// Of whom, whole.
        member: Member,
    },
    /// Somebody switched their microphone or camera.
    State {
        /// Of whom, whole.
        member: Member,
    },
    /// Somebody wrote.
    Chat {
        /// What.
        message: ChatMessage,
    },
    /// Media flows better or worse for somebody.
    Quality {
        /// For whom.
        user: String,
        /// How well.
        level: Level,
    },
}

/// What a change means for clients.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Told {
    /// `call:participant-joined`
    Joined(Participant),
    /// `call:participant-left`
    #[serde(rename_all = "camelCase")]
    Left {
        /// Who.
        user_id: String,
        /// Why.
        reason: Parting,
    },
    /// `state-changed`
    #[serde(rename_all = "camelCase")]
    State {
        /// Of whom.
        user_id: String,
        /// Their microphone is off.
        is_muted: bool,
        /// Their camera is on.
        is_video_on: bool,
    },
    /// `chat`
    Chat(ChatMessage),
    /// `quality`
    #[serde(rename_all = "camelCase")]
    Quality {
        /// For whom.
        user_id: String,
        /// How well.
        level: Level,
    },
}

impl Told {
    /// Name of the event.
    pub const fn event(&self) -> &'static str {
        match self {
            Self::Joined(_) => "call:participant-joined",
            Self::Left { .. } => "call:participant-left",
            Self::State { .. } => "state-changed",
            Self::Chat(_) => "chat",
            Self::Quality { .. } => "quality",
        }
    }

    /// Whether `user` is told: of their own doings one knows.
    pub fn is_for(&self, user: &str) -> bool {
        match self {
            Self::Joined(participant) => participant.user_id != user,
            Self::Left { user_id, .. } | Self::State { user_id, .. } | Self::Quality { user_id, .. } => user_id != user,
            Self::Chat(_) => true,
        }
    }
}

impl Change {
    /// What clients are told of it, in this order.
    pub fn told(&self) -> Vec<Told> {
        match self {
            Self::Joined { member, again } => {
                let user_id = member.user().to_owned();
                let left = again.then_some(Told::Left { user_id, reason: Parting::Disconnected });
                left.into_iter().chain([Told::Joined(member.participant.clone())]).collect()
            }
            Self::Left { user, reason, .. } => vec![Told::Left { user_id: user.clone(), reason: *reason }],
            Self::State { member } => vec![Told::State {
                user_id: member.user().to_owned(),
                is_muted: member.participant.is_muted,
                is_video_on: member.participant.is_video_on,
            }],
            Self::Chat { message } => vec![Told::Chat(message.clone())],
            Self::Quality { user, level } => vec![Told::Quality { user_id: user.clone(), level: *level }],
            Self::Resumed { .. } | Self::Dropped { .. } | Self::Updated { .. } => vec![],
        }
    }
}
