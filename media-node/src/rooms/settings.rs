//! What the operator of the process decides about rooms.

use std::{net::SocketAddr, time::Duration};

use crate::{core::command::Fingerprint, ortc::IceCandidate};

/// Fixed for the life of the process.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Rooms are made by the API rather than by a watch, and need no namespace.
    pub standalone: bool,
    /// How long a participant without socket and without connected transport stays in its room.
    pub grace: Duration,
    /// Announced addresses of each worker, most preferred first.
    pub candidates: Vec<Vec<SocketAddr>>,
    /// Whether they are reached by TCP, too.
    pub ice_tcp: bool,
    /// Fingerprint of the node's DTLS certificate.
    pub fingerprint: Fingerprint,
}

impl Settings {
    /// Where clients reach a worker.
    pub(super) fn ice_candidates(&self, worker: usize) -> Vec<IceCandidate> {
        let addresses = || self.candidates.get(worker).into_iter().flatten().enumerate();
        let udp = addresses().map(|(index, address)| IceCandidate::host(*address, index));
        let tcp = addresses().filter(|_| self.ice_tcp);
        udp.chain(tcp.map(|(index, address)| IceCandidate::host_tcp(*address, index))).collect()
    }
}

/// Transports of one participant: two are in use, twice that during a change of route, and some slack for
/// reloads that nobody announced. One more is refused.
pub(super) const MAX_TRANSPORTS: usize = 16;

/// Producers of one participant. One more is refused.
pub(super) const MAX_PRODUCERS: usize = 16;

/// Consumers of one transport. One more is refused.
pub(super) const MAX_CONSUMERS: usize = 2048;

/// Data producers of one participant. One more is refused.
pub(super) const MAX_DATA_PRODUCERS: usize = 64;

/// Data consumers of one transport, as many as it has streams. One more is refused.
pub(super) const MAX_DATA_CONSUMERS: usize = 1024;

/// Users removed from one room whose earlier tokens are remembered as no good. One more, and the earliest is forgotten.
pub(super) const MAX_REMOVED: usize = 1024;

/// Event sockets of one participant (tabs, reconnects). One more closes the oldest.
pub(super) const MAX_SOCKETS: usize = 8;
