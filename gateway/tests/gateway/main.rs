//! The gateway as its clients see it, with an API server and media nodes of the tests' own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod access;
mod kubernetes;
mod oidc;
mod outage;
mod passwords;
mod peer;
mod postgres;
mod proxy;
mod records;
mod replicas;
mod rooms;
mod signalling;
mod switching;
mod world;
