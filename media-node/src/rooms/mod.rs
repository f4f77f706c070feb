//! Decides which rooms this node serves, who is in them, and what each of them may do.
//!
//! [`Registry`] is the whole state: told the time, the orders and the news of the media loops, it says
//! what to do ([`Effect`]). [`Directory`] is the handle to the one task that owns it and carries that out.
//! Neither knows Kubernetes or HTTP.
//!
//! # Who is in a room
//!
//! A participant is a user id. It enters with its first transport or event socket, and leaves
//! - by its own or a host's word,
//! - at once when it has no socket and the last of its transports was closed or failed,
//! - after [`Settings::grace`] with neither a socket nor a transport that is connected.
//!
//! A user who comes again (a page reload, a second tab, the next route epoch) adds transports to what it
//! has, because closing a path that still carries media by guesswork would end a live call. An older
//! transport gives way to a newer one of the same direction when its client has gone silent: at once if
//! it was `Disconnected` before the newer one came, otherwise after the grace. Most clients say goodbye
//! (DTLS close_notify) on a reload, and then the old one is gone already.
//!
//! # Epochs
//!
//! A token is good for the epoch that this node serves ([`Registry::admit`]). Participants of an older
//! epoch keep their call and may go on using the API with the token that they came with, except to open
//! new transports. A token of a later epoch closes the room to newcomers, and ends nothing: only the orders from above
//! ([`Turn::release`]) do.

mod access;
mod data;
mod directory;
mod event;
mod key;
mod participants;
mod registry;
mod rules;
mod sessions;
mod settings;
mod statistics;
mod streams;
mod transports;
mod view;

#[cfg(test)]
mod tests;

pub use access::{Access, Admission, Grants, Intent, Refusal, Role};
pub use data::{ConsumedData, PublishedData};
pub use directory::{Directory, Media, MediaOrder, Subscription};
pub use event::{DataConsumerEnd, Reason, RoomEvent};
pub use key::{InvalidRoomKey, RoomKey};
pub use registry::{Assignment, Effect, Registry, RoomLoad, SocketId, Totals, Turn, Worker};
pub use rules::MediaRules;
pub use sessions::{IfMatch, NewSession, Patched, Protocol, Selection};
pub use settings::Settings;
pub use statistics::{Asked, Channel, Track};
pub use view::{
    Consumed, ConsumerView, DataConsumerView, DataProducerView, Direction, ParticipantView, ProducerView, RoomView,
    TransportView,
};
