//! One DTLS 1.2 association and the SRTP keys that come out of it (RFC 5764, RFC 8827 §6.5).
//!
//! The handshake itself is `rtc::dtls`. This module adds what that leaves to its user:
//!
//! - It repeats the last flight by itself (the endpoint stops its timer with every handshake record that
//!   arrives, and would be silent for good if a flight were lost after that).
//! - It offers AEAD first and falls back (the endpoint would follow the client's order).
//! - It requires the extended master secret (RFC 7627): the endpoint does not compare the client's
//!   Finished message with the transcript, and with the extended master secret the keys themselves do.
//! - It knows nothing of addresses: a client may change its own as it likes.
//! - It bounds what a client can make the endpoint keep.

mod association;
mod record;

use std::collections::VecDeque;
use std::time::Instant;

use association::Association;
use bytes::BytesMut;
use record::Contents;

use super::command::{DtlsRole, Fingerprint};
use super::config::Config;
use super::identity::Identity;
use super::srtp::KeyingMaterial;
use super::stats::Drop;

/// Datagrams kept until the client's parameters are known: a ClientHello in two pieces, repeated once.
const MAX_EARLY: usize = 4;
/// No handshake datagram is larger.
const MAX_DATAGRAM: usize = 2048;

/// News from the association.
pub(crate) enum Outcome {
    Nothing,
    /// The handshake is done. Happens once.
    Keys(KeyingMaterial),
    /// The handshake failed. Final.
    Failed,
    /// The client said goodbye. Final.
    PeerClosed,
}

enum Phase {
    /// The client's parameters are not known yet.
    Waiting(VecDeque<Vec<u8>>),
    Running(Box<Association>),
    Closed,
}

/// DTLS of one transport.
pub(crate) struct Dtls {
    phase: Phase,
    transmits: VecDeque<Vec<u8>>,
    /// Flights sent again, for the statistics.
    pub repeated: u64,
}

impl Dtls {
    pub fn new() -> Self {
        Self { phase: Phase::Waiting(VecDeque::new()), transmits: VecDeque::new(), repeated: 0 }
    }

    /// Whether parameters have been given already.
    pub fn is_started(&self) -> bool {
        !matches!(self.phase, Phase::Waiting(_))
    }

    /// Whether we are the DTLS client.
    pub fn is_client(&self) -> bool {
        matches!(&self.phase, Phase::Running(association) if association.is_client())
    }

    /// The client's parameters are known: the handshake may run.
    pub fn start(
        &mut self,
        role: DtlsRole,
        fingerprints: Vec<Fingerprint>,
        identity: &Identity,
        config: &Config,
        now: Instant,
    ) -> Outcome {
        let Phase::Waiting(early) = &mut self.phase else { return Outcome::Nothing };
        let early = std::mem::take(early);
        match Association::new(role, fingerprints, identity, config, now) {
            Ok(association) => self.phase = Phase::Running(Box::new(association)),
            Err(error) => {
                tracing::warn!(%error, "DTLS cannot start");
                self.phase = Phase::Closed;
                return Outcome::Failed;
            }
        }
        self.collect();
        for datagram in early {
            match self.receive(&datagram, now) {
                Ok(Outcome::Nothing) | Err(_) => {}
                Ok(other) => return other,
            }
        }
        Outcome::Nothing
    }

    /// A datagram from a validated tuple.
    ///
    /// # Errors
    ///
    /// Why it was dropped.
    pub fn receive(&mut self, datagram: &[u8], now: Instant) -> Result<Outcome, Drop> {
        let contents = Contents::of(datagram).ok_or(Drop::MalformedDtls)?;
        if datagram.len() > MAX_DATAGRAM && contents.handshake {
            return Err(Drop::MalformedDtls);
        }
        let outcome = match &mut self.phase {
            Phase::Closed => return Err(Drop::DtlsClosed),
            Phase::Waiting(early) => {
                if early.len() >= MAX_EARLY {
                    return Err(Drop::HandshakeBudget);
                }
                early.push_back(datagram.to_vec());
                return Ok(Outcome::Nothing);
            }
            Phase::Running(association) => association.receive(datagram, contents, now),
        };
        self.settle(outcome)
    }

    /// When [`Dtls::handle_timeout`] has something to do.
    pub fn timeout(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Running(association) => association.timeout(),
            _ => None,
        }
    }

    pub fn handle_timeout(&mut self, now: Instant) -> Outcome {
        let Phase::Running(association) = &mut self.phase else { return Outcome::Nothing };
        let outcome = association.handle_timeout(now);
        self.settle(outcome).unwrap_or(Outcome::Nothing)
    }

    /// Says goodbye, if there is somebody to say it to.
    pub fn close(&mut self, now: Instant) {
        if let Phase::Running(association) = &mut self.phase {
            association.close(now);
        }
        self.collect();
        self.phase = Phase::Closed;
    }

    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmits.pop_front()
    }

    /// The next application data from the client.
    pub fn poll_data(&mut self) -> Option<BytesMut> {
        match &mut self.phase {
            Phase::Running(association) => association.data.pop_front(),
            Phase::Waiting(_) | Phase::Closed => None,
        }
    }

    /// Seals application data into a datagram for the client; `None` before the handshake is done and
    /// after the end.
    pub fn seal(&mut self, data: &[u8], now: Instant) -> Option<BytesMut> {
        match &mut self.phase {
            Phase::Running(association) => association.seal(data, now),
            Phase::Waiting(_) | Phase::Closed => None,
        }
    }

    fn settle(&mut self, outcome: Result<Outcome, Drop>) -> Result<Outcome, Drop> {
        self.collect();
        if matches!(outcome, Ok(Outcome::Failed | Outcome::PeerClosed)) {
            self.phase = Phase::Closed;
        }
        outcome
    }

    fn collect(&mut self) {
        if let Phase::Running(association) = &mut self.phase {
            self.transmits.append(&mut association.transmits);
            self.repeated += std::mem::take(&mut association.repeated);
        }
    }
}
