//! Datagrams from the network: who sent them, and what they are.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::bandwidth::micros_since;
use super::command::TransportState;
use super::demux::{Content, classify};
use super::dtls::Outcome;
use super::ice::{Check, Protocol, Tuple};
use super::srtp::Srtp;
use super::stats::{Counter, Drop, Fate, Gauge};
use super::transport::arm;
use super::{Core, Key};

/// The longest datagram that is looked at.
const MAX_DATAGRAM: usize = 2048;

impl Core {
    /// A datagram arrived at our address `local` from `remote`. It is decrypted in place.
    pub fn receive(&mut self, now: Instant, local: IpAddr, remote: SocketAddr, datagram: &mut [u8]) -> Fate {
        self.receive_by(Protocol::Udp, now, local, remote, datagram)
    }

    /// As [`Core::receive`], by either protocol. On a connection the datagram is without its frame.
    pub fn receive_by(
        &mut self,
        protocol: Protocol,
        now: Instant,
        local: IpAddr,
        remote: SocketAddr,
        datagram: &mut [u8],
    ) -> Fate {
        self.stats.count(Counter::PacketsIn);
        self.stats.add(Counter::BytesIn, datagram.len() as u64);
        let tuple = Tuple { protocol, local, remote };
        let fate = self.dispatch(tuple, datagram, now);
        match fate {
            Ok(fate) => fate,
            Err(reason) => {
                self.stats.drop(reason);
                Fate::Dropped(reason)
            }
        }
    }

    fn dispatch(&mut self, tuple: Tuple, datagram: &mut [u8], now: Instant) -> Result<Fate, Drop> {
        if datagram.is_empty() || datagram.len() > MAX_DATAGRAM {
            return Err(Drop::BadSize);
        }
        // Answering these would fail in ways that cost others: a send that is invalid ends segmentation.
        if tuple.remote.port() == 0 || tuple.remote.ip().is_unspecified() || tuple.remote.ip().is_multicast() {
            return Err(Drop::BadSource);
        }
        let content = classify(datagram).ok_or(Drop::UnknownProtocol)?;
        if content == Content::Stun {
            return self.on_stun(tuple, datagram, now);
        }
        let key = *self.tuples.get(&tuple).ok_or(Drop::UnknownTuple)?;
        if let Some(transport) = self.transports.get_mut(key) {
            transport.traffic.received.add(datagram.len(), micros_since(self.epoch, now));
        }
        match content {
            Content::Stun => unreachable!("handled above"),
            Content::Dtls => self.on_dtls(key, datagram, now),
            Content::Rtp => self.on_rtp(key, datagram, now),
            Content::Rtcp => self.on_rtcp(key, datagram, now),
        }
    }

    /// Whether a client has validated this path.
    pub fn is_valid(&self, protocol: Protocol, local: IpAddr, remote: SocketAddr) -> bool {
        self.tuples.contains_key(&Tuple { protocol, local, remote })
    }

    /// A connection has ended: its path is none any more. Another that the client has validated takes its
    /// place; where there is none the client may come back until consent expires.
    pub fn disconnected(&mut self, local: IpAddr, remote: SocketAddr) {
        let tuple = Tuple { protocol: Protocol::Tcp, local, remote };
        let Some(key) = self.tuples.remove(&tuple) else { return };
        if let Some(transport) = self.transports.get_mut(key) {
            transport.ice.forget(tuple);
        }
        self.stats.set(Gauge::Tuples, self.tuples.len());
    }

    fn on_stun(&mut self, tuple: Tuple, datagram: &[u8], now: Instant) -> Result<Fate, Drop> {
        let mut check = Check::parse(datagram)?;
        let key = *self.ufrags.get(check.local_ufrag()).ok_or(Drop::UnknownUfrag)?;
        let transport = self.transports.get_mut(key).ok_or(Drop::UnknownUfrag)?;
        let ufrag = check.local_ufrag().to_owned();
        let password = transport.ice.password(&ufrag).ok_or(Drop::UnknownUfrag)?.to_owned();
        let crypto = self.identity.provider.crypto();
        if !check.is_authentic(&password, crypto) {
            return Err(Drop::StunIntegrity);
        }
        if !transport.ice.note(check.transaction(), tuple) {
            return Err(Drop::StunReplay);
        }
        // Somebody who may check on one transport must not take the tuple of another in use.
        if let Some(&owner) = self.tuples.get(&tuple)
            && owner != key
        {
            let age = self.config.tuple_steal_after;
            if self.transports.get(owner).is_some_and(|t| !t.is_over() && t.ice.is_fresh(tuple, now, age)) {
                return Err(Drop::TupleTaken);
            }
            if let Some(owner) = self.transports.get_mut(owner) {
                owner.ice.forget(tuple);
            }
        }
        let answer = check.answer(tuple.remote, &password, crypto);
        if let Some(transport) = self.transports.get_mut(key) {
            let micros = micros_since(self.epoch, now);
            transport.traffic.received.add(datagram.len(), micros);
            if let Some(answer) = &answer {
                transport.traffic.sent.add(answer.len(), micros);
            }
        }
        if let Some(answer) = answer {
            self.outbox.urgent(tuple, answer);
        }
        if check.role_conflict() {
            self.stats.count(Counter::RoleConflicts);
            return Ok(Fate::Consumed);
        }
        self.stats.count(Counter::Checks);
        self.validated(key, tuple, &ufrag, check.use_candidate, now);
        Ok(Fate::Consumed)
    }

    fn validated(&mut self, key: Key, tuple: Tuple, ufrag: &str, nominate: bool, now: Instant) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        if let Some(old) = transport.ice.adopt(ufrag) {
            self.ufrags.remove(&old);
        }
        if let Some(evicted) = transport.ice.validate(tuple, nominate, now, self.config.max_tuples) {
            self.tuples.remove(&evicted);
        }
        self.tuples.insert(tuple, key);
        self.stats.set(Gauge::Tuples, self.tuples.len());
        let consent = now + self.config.consent_timeout;
        let (state, has_keys) = (transport.state, transport.srtp.is_some());
        if transport.deadlines.consent.is_none() && arm(&mut transport.deadlines.consent, consent) {
            self.reschedule(key);
        }
        match state {
            TransportState::New => self.set_state(key, TransportState::Connecting),
            TransportState::Disconnected if has_keys => self.connected(key, now),
            TransportState::Disconnected => self.set_state(key, TransportState::Connecting),
            _ => {}
        }
        self.start_dtls(key, now);
    }

    fn on_dtls(&mut self, key: Key, datagram: &[u8], now: Instant) -> Result<Fate, Drop> {
        let transport = self.transports.get_mut(key).ok_or(Drop::UnknownTuple)?;
        let outcome = transport.dtls.receive(datagram, now);
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(reason) => {
                self.flush_dtls(key, now);
                return Err(reason);
            }
        };
        self.after_dtls(key, outcome, now);
        let fate = self.on_data(key, now);
        self.reschedule(key);
        fate
    }

    /// Sends what DTLS wants sent and acts on its news.
    pub(super) fn after_dtls(&mut self, key: Key, outcome: Outcome, now: Instant) {
        self.flush_dtls(key, now);
        match outcome {
            Outcome::Nothing => {}
            Outcome::Keys(keys) => {
                let Some(transport) = self.transports.get_mut(key) else { return };
                match Srtp::new(&keys, transport.dtls.is_client(), self.identity.provider.crypto()) {
                    Ok(srtp) => {
                        transport.srtp = Some(srtp);
                        transport.deadlines.connect = None;
                        self.stats.count(Counter::HandshakesDone);
                        self.connected(key, now);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "SRTP keys cannot be used");
                        self.set_state(key, TransportState::Failed);
                    }
                }
            }
            Outcome::Failed => {
                self.stats.count(Counter::HandshakesFailed);
                self.set_state(key, TransportState::Failed);
            }
            Outcome::PeerClosed => self.set_state(key, TransportState::Closed),
        }
    }

    pub(super) fn flush_dtls(&mut self, key: Key, now: Instant) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        self.stats.add(Counter::FlightsRepeated, std::mem::take(&mut transport.dtls.repeated));
        while let Some(datagram) = transport.dtls.poll_transmit() {
            if let Some(tuple) = transport.ice.selected() {
                transport.traffic.sent.add(datagram.len(), micros_since(self.epoch, now));
                self.outbox.urgent(tuple, datagram);
            }
        }
    }

    /// Media can flow (again): consumers begin anew, with a key frame.
    fn connected(&mut self, key: Key, now: Instant) {
        self.set_state(key, TransportState::Connected);
        let Some(transport) = self.transports.get(key) else { return };
        for consumer in transport.consumers.clone() {
            if let Some(consumer) = self.consumers.get_mut(consumer) {
                consumer.restart();
            }
            self.want_key_frame(consumer, now);
        }
    }
}
