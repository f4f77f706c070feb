//! What a room is told to do.

use std::sync::Arc;

use callplane_crds::CallRoom;
use serde_json::Value;
use tokio::sync::oneshot;

use super::{JoinRequest, Knock};
use crate::{
    Problem,
    signal::{
        answer::Answer,
        member::Parting,
        message::Message,
        store::{Bus, Link},
    },
};

/// What a room is told to do.
pub enum Command {
    /// Let somebody in.
    Join(Box<JoinRequest>),
    /// Serve a client.
    Request {
        /// Whose.
        user: String,
        /// By which socket.
        connection: String,
        /// What.
        message: Message,
        /// Where the answer goes.
        reply: oneshot::Sender<Answer>,
    },
    /// A socket is gone.
    Gone {
        /// Whose.
        user: String,
        /// Which.
        connection: String,
    },
    /// The room as it is now; none: it was deleted.
    Observed(Option<Arc<CallRoom>>),
    /// Somebody is in the call no more, by another way than their socket.
    Part {
        /// Who.
        user: String,
        /// Why.
        reason: Parting,
        /// Who made them.
        by: Option<String>,
        /// Told when that is so, and whether they were there.
        done: oneshot::Sender<bool>,
    },
    /// Whether somebody would find a place in the call.
    Place {
        /// Who.
        user: String,
        /// Where the answer goes.
        answer: oneshot::Sender<Result<(), Problem>>,
    },
    /// Let somebody in who has no socket, or tell why not.
    Knock(Box<Knock>),
    /// If nobody is here, that is to be written, though nobody ever was.
    Unattended,
    /// What the node of an epoch can.
    Capabilities {
        /// Which epoch.
        epoch: i64,
        /// mediasoup's `RtpCapabilities`; none: the node does not say.
        found: Option<Value>,
    },
    /// A write to the CallRoom ended.
    Written(bool),
    /// A client was asked to mute itself, some time ago.
    Muted {
        /// Who.
        user: String,
    },
    /// From other replicas, or of one's own, by the store.
    Bus(Box<Bus>),
    /// The store is there, or is not.
    Link(Link),
    /// The process ends.
    Shutdown(oneshot::Sender<()>),
}
