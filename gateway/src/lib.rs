//! The gateway: who may join which room, and where a client's requests go.
//!
//! Replicas are stateless. What they know of rooms and media nodes is a cache of the API server's, and what
//! they write is a CallRoom's spec and annotations, so any of them can answer any request, and joins of rooms
//! that are known go on while the API server is away.

pub mod access;
pub mod admin;
pub mod body;
pub mod cluster;
pub mod config;
pub mod http;
pub mod ice;
pub mod limits;
pub mod metrics;
pub mod openapi;
pub mod problem;
pub mod proxy;
pub mod records;
pub mod rooms;
pub mod run;
pub mod signal;
#[cfg(test)]
mod testing;
pub mod web;

use std::{sync::Arc, time::Duration};

use callplane_operator::clock::Clock;

pub use problem::{Code, Problem};

/// Everything that a request may need. Clones are the same.
#[derive(Clone)]
pub struct Gateway(Arc<Parts>);

/// The parts of a [`Gateway`].
pub struct Parts {
    /// What is known of rooms and media nodes.
    pub cache: cluster::Cache,
    /// The way to the API server.
    pub kube: cluster::Kube,
    /// The key of join tokens and share links.
    pub signer: access::Signer,
    /// TURN servers and what their credentials are minted with.
    pub turn: ice::TurnServers,
    /// Backend callers.
    pub api_keys: access::ApiKeys,
    /// Who vouches for backends besides their API keys.
    pub oidc: Option<access::Oidc>,
    /// Passwords of rooms.
    pub passwords: access::Passwords,
    /// How often who may ask.
    pub limits: limits::Limits,
    /// What stays when calls are over.
    pub records: records::Records,
    /// The way to media nodes.
    pub forwarder: proxy::Forwarder,
    /// What is counted.
    pub metrics: metrics::Metrics,
    /// What time it is.
    pub clock: Clock,
    /// Base of the URLs that clients are told; empty for paths on this host.
    pub public_url: String,
    /// How long a request may wait for a room to become ready.
    pub ready_timeout: Duration,
    /// Life of join tokens.
    pub token_ttl: Duration,
}

impl Gateway {
    /// From its parts.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl std::ops::Deref for Gateway {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}
