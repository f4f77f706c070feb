//! The gateway as its clients see it, with an API server and media nodes of the tests' own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod access;
mod consent;
mod joins;
mod kubernetes;
mod oidc;
mod outage;
mod passwords;
mod peer;
mod polling;
mod postgres;
mod proxy;
mod records;
mod redis_server;
mod replicas;
mod rooms;
mod secrets;
mod signalling;
mod switching;
mod whip;
mod world;
