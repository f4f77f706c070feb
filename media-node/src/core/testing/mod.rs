//! Whole calls in virtual time: clients made of the `rtc` building blocks, a lossy network, one clock.

pub(crate) mod bits;
mod client;
mod data;
mod layered;
mod link;
mod network;
mod receiver;
mod track;
mod world;

pub(crate) use client::{Client, ClientOptions};
pub(crate) use layered::{Decoded, decode};
pub(crate) use link::Link;
pub(crate) use network::{Datagram, Direction};
pub(crate) use receiver::{Claims, Incoming as Stream};
pub(crate) use track::{Outgoing, TrackKind};
pub(crate) use world::{SERVER_IP, World};

use std::time::Instant;

/// The origin of virtual time.
#[expect(clippy::disallowed_methods, reason = "any instant will do as the origin of virtual time")]
pub(crate) fn origin() -> Instant {
    Instant::now()
}
