//! Decides what an SDP offer means in the router's terms, and writes the answer: pure functions between
//! text (RFC 8866, as JSEP uses it, RFC 9429) and the values of [`ortc`](crate::ortc).
//!
//! The grammar is `rtc::sdp`'s. What an offer may cost is bounded before it is read, and what is copied
//! into an answer was looked at: it cannot bring lines of its own.
//!
//! One offer, one answer, one direction, one bundle: what WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep)
//! need. There is no renegotiation but an ICE restart, which is a [`Fragment`].

mod answer;
mod codec;
mod fragment;
mod grammar;
mod offer;
mod play;
mod publish;
mod simulcast;

#[cfg(test)]
mod tests;

pub use answer::{Sent, Server};
pub use fragment::Fragment;
pub use offer::{Offer, Section};
pub use play::{Playback, Receiver};
pub use publish::{Publication, Track};

use crate::ortc;

/// Why an offer or a fragment is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is not SDP, contradicts itself, or is larger than anything sensible.
    #[error("{0}")]
    Malformed(String),
    /// It is sound, but not what this node does; the text says what to offer instead.
    #[error("{0}")]
    Unacceptable(String),
}

impl From<ortc::Error> for Error {
    fn from(error: ortc::Error) -> Self {
        match &error {
            ortc::Error::Invalid { .. } => Self::Malformed(error.to_string()),
            ortc::Error::Unsupported { .. } => Self::Unacceptable(error.to_string()),
        }
    }
}

fn malformed<T>(text: impl Into<String>) -> Result<T, Error> {
    Err(Error::Malformed(text.into()))
}

fn unacceptable<T>(text: impl Into<String>) -> Result<T, Error> {
    Err(Error::Unacceptable(text.into()))
}
