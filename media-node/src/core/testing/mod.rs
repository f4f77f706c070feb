//! Whole calls in virtual time: clients made of the `rtc` building blocks, a lossy network, one clock.

mod client;
mod network;
mod track;
mod world;

pub(crate) use client::{Client, ClientOptions};
pub(crate) use network::{Direction, Network};
pub(crate) use track::{Outgoing, Received, TrackKind};
pub(crate) use world::{SERVER_IP, World};

use std::time::Instant;

/// The origin of virtual time.
#[expect(clippy::disallowed_methods, reason = "any instant will do as the origin of virtual time")]
pub(crate) fn origin() -> Instant {
    Instant::now()
}
