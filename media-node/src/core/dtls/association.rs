//! A handshake under way or done.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc::dtls::cipher_suite::CipherSuiteId;
use rtc::dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig};
use rtc::dtls::endpoint::{Endpoint, EndpointEvent};
use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc::shared::TransportProtocol;
use rtc::shared::error::Error;

use super::Outcome;
use super::record::Contents;
use crate::core::command::{DtlsRole, Fingerprint};
use crate::core::config::Config;
use crate::core::identity::{self, Identity};
use crate::core::srtp::{EXPORTER_LABEL, KeyingMaterial, Profile};
use crate::core::stats::Drop;

/// The endpoint keys associations by address; we have one, and addresses that change.
const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 1);
const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), 1);
/// A repeated ClientHello is answered at most this often.
const MIN_REPEAT: Duration = Duration::from_millis(20);
const MAX_REPEAT: Duration = Duration::from_secs(1);
/// Handshake datagrams looked at after the handshake: repetitions of the client's last flight.
const MAX_AFTER: u32 = 64;
/// The endpoint's own timer counts to seven and fails; as a server it is not needed.
const SERVER_FLIGHT: Duration = Duration::from_secs(3600);
const CLIENT_FLIGHT: Duration = Duration::from_secs(1);

pub(super) struct Association {
    endpoint: Endpoint,
    role: DtlsRole,
    identity: Identity,
    fingerprints: Arc<[Fingerprint]>,
    /// Offered at the moment; only as a server do we offer one after the other.
    fallback: bool,
    done: bool,
    /// What the client sent before we first answered, to be replayed to a second endpoint.
    opening: Vec<Vec<u8>>,
    budget: u32,
    last_flight: Vec<Vec<u8>>,
    /// The last flight ends the handshake from our side.
    final_flight: bool,
    last_repeat: Instant,
    repeat_at: Option<Instant>,
    repeat_interval: Duration,
    first_interval: Duration,
    deadline: Instant,
    pub transmits: VecDeque<Vec<u8>>,
    /// Decrypted application data.
    pub data: VecDeque<BytesMut>,
    pub repeated: u64,
}

impl Association {
    pub fn new(
        role: DtlsRole,
        fingerprints: Vec<Fingerprint>,
        identity: &Identity,
        config: &Config,
        now: Instant,
    ) -> Result<Self, Error> {
        let fingerprints: Arc<[Fingerprint]> = fingerprints.into();
        let mut this = Self {
            endpoint: Endpoint::new(LOCAL, TransportProtocol::UDP, None),
            role,
            identity: identity.clone(),
            fingerprints,
            fallback: false,
            done: false,
            opening: Vec::new(),
            budget: config.max_handshake_datagrams,
            last_flight: Vec::new(),
            final_flight: false,
            last_repeat: now,
            repeat_at: None,
            repeat_interval: config.handshake_repeat,
            first_interval: config.handshake_repeat,
            deadline: now + config.handshake_timeout,
            transmits: VecDeque::new(),
            data: VecDeque::new(),
            repeated: 0,
        };
        let handshake = this.handshake_config()?;
        match role {
            DtlsRole::Client => this.endpoint.set_server_config(Some(handshake)),
            DtlsRole::Server => {
                this.endpoint.connect(now, PEER, handshake, None)?;
                this.drain(now);
            }
        }
        Ok(this)
    }

    pub fn is_client(&self) -> bool {
        self.role == DtlsRole::Server
    }

    fn handshake_config(&self) -> Result<Arc<HandshakeConfig>, Error> {
        let fingerprints = self.fingerprints.clone();
        let mut profiles = Vec::new();
        if !self.fallback {
            profiles.push(SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm);
        }
        if self.fallback || self.is_client() {
            profiles.push(SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80);
        }
        let mut suites = vec![
            CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256,
            CipherSuiteId::Tls_Ecdhe_Ecdsa_With_ChaCha20_Poly1305_Sha256,
        ];
        if self.is_client() {
            suites.push(CipherSuiteId::Tls_Ecdhe_Rsa_With_Aes_128_Gcm_Sha256);
        }
        let config = ConfigBuilder::default()
            .with_crypto_provider(self.identity.provider.clone())
            .with_certificates(vec![self.identity.certificate.clone()])
            .with_cipher_suites(suites)
            .with_srtp_protection_profiles(profiles)
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            .with_extended_master_secret(ExtendedMasterSecretType::Require)
            .with_flight_interval(if self.is_client() { CLIENT_FLIGHT } else { SERVER_FLIGHT })
            // Self-signed on both sides: the fingerprint is the proof (RFC 8122).
            .with_insecure_skip_verify(true)
            .with_verify_peer_certificate(Some(Arc::new(move |chain: &[Vec<u8>], _: &[_]| match chain.first() {
                Some(leaf) if identity::matches(leaf, &fingerprints) => Ok(()),
                _ => Err(Error::Other("certificate matches no signalled fingerprint".to_owned())),
            })))
            .with_server_name("callplane".to_owned())
            .build(self.is_client(), None)?;
        Ok(Arc::new(config))
    }

    pub fn receive(&mut self, datagram: &[u8], contents: Contents, now: Instant) -> Result<Outcome, Drop> {
        if self.done {
            return self.receive_after(datagram, contents, now);
        }
        // Anybody may have sent it. A client that has given up is noticed by its silence.
        if contents.is_plain_alert() {
            return Err(Drop::PlainAlert);
        }
        let Some(budget) = self.budget.checked_sub(1) else { return Ok(Outcome::Failed) };
        self.budget = budget;
        if self.is_client() && self.final_flight && contents.handshake && !contents.keyed {
            // The server repeats what we have answered: it lacks the answer. The endpoint would stop its
            // own timer for this, and only that timer can repeat our flight in a way that a server
            // which has received it before listens to.
            if now >= self.last_repeat + MIN_REPEAT {
                self.repeat(now);
            }
            return Ok(Outcome::Nothing);
        }
        if self.last_flight.is_empty() {
            self.opening.push(datagram.to_vec());
        }
        let mut result = self.endpoint.read(now, PEER, None, BytesMut::from(datagram));
        if matches!(result, Err(Error::ErrServerNoMatchingSrtpProfile)) && !self.fallback {
            result = self.fall_back(now);
        }
        let answered = self.drain(now);
        match result {
            Ok(events) => {
                let is_closed = events.iter().any(|e| matches!(e, EndpointEvent::PeerClosed));
                let is_complete = events.iter().any(|e| matches!(e, EndpointEvent::HandshakeComplete));
                self.keep_data(events);
                if is_closed {
                    return Ok(Outcome::PeerClosed);
                }
                if is_complete {
                    return Ok(self.finish());
                }
                if contents.client_hello && !answered && now >= self.last_repeat + MIN_REPEAT {
                    self.repeat(now);
                }
                Ok(Outcome::Nothing)
            }
            Err(error) => {
                tracing::debug!(%error, "DTLS handshake failed");
                Ok(Outcome::Failed)
            }
        }
    }

    /// The first profile did not suit the client: the same ClientHello to an endpoint with the other.
    fn fall_back(&mut self, now: Instant) -> Result<Vec<EndpointEvent>, Error> {
        self.fallback = true;
        self.endpoint = Endpoint::new(LOCAL, TransportProtocol::UDP, Some(self.handshake_config()?));
        let mut events = Vec::new();
        for datagram in &self.opening {
            events.extend(self.endpoint.read(now, PEER, None, BytesMut::from(&datagram[..]))?);
        }
        Ok(events)
    }

    /// After the handshake only a repetition of the client's last flight, an alert or data can come.
    fn receive_after(&mut self, datagram: &[u8], contents: Contents, now: Instant) -> Result<Outcome, Drop> {
        if contents.handshake {
            self.budget = self.budget.checked_sub(1).ok_or(Drop::HandshakeBudget)?;
        }
        let result = self.endpoint.read(now, PEER, None, BytesMut::from(datagram));
        match result {
            Ok(events) => {
                while let Some(transmit) = self.endpoint.poll_transmit() {
                    self.transmits.push_back(transmit.message.to_vec());
                }
                let is_closed = events.iter().any(|e| matches!(e, EndpointEvent::PeerClosed));
                self.keep_data(events);
                Ok(if is_closed { Outcome::PeerClosed } else { Outcome::Nothing })
            }
            Err(Error::ErrAlertFatalOrClose) => Ok(Outcome::PeerClosed),
            // What was not authenticated cannot end an association that was: say nothing, go on.
            Err(_) => {
                while self.endpoint.poll_transmit().is_some() {}
                Err(Drop::MalformedDtls)
            }
        }
    }

    fn keep_data(&mut self, events: Vec<EndpointEvent>) {
        self.data.extend(events.into_iter().filter_map(|event| match event {
            EndpointEvent::ApplicationData(data) => Some(data),
            _ => None,
        }));
    }

    /// Seals application data into a datagram.
    pub fn seal(&mut self, data: &[u8], now: Instant) -> Option<BytesMut> {
        self.endpoint.write(now, PEER, data).ok()?;
        Some(self.endpoint.poll_transmit()?.message)
    }

    fn finish(&mut self) -> Outcome {
        let Some(keys) = self.keys() else { return Outcome::Failed };
        self.done = true;
        self.budget = MAX_AFTER;
        self.repeat_at = None;
        self.opening = Vec::new();
        self.last_flight = Vec::new();
        Outcome::Keys(keys)
    }

    fn keys(&self) -> Option<KeyingMaterial> {
        let state = self.endpoint.get_connection_state(PEER)?;
        if !identity::matches(state.peer_certificates.first()?, &self.fingerprints) {
            return None;
        }
        let profile = match state.srtp_protection_profile() {
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => Profile::AeadAes128Gcm,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => Profile::AesCm128HmacSha1_80,
            _ => return None,
        };
        let exported = state.export_keying_material(EXPORTER_LABEL, &[], KeyingMaterial::len(profile)).ok()?;
        KeyingMaterial::from_exported(profile, exported.as_ref())
    }

    /// Takes what the endpoint wants sent; it becomes the flight that is repeated.
    fn drain(&mut self, now: Instant) -> bool {
        let mut flight = Vec::new();
        while let Some(transmit) = self.endpoint.poll_transmit() {
            flight.push(transmit.message.to_vec());
        }
        if flight.is_empty() {
            return false;
        }
        self.transmits.extend(flight.iter().cloned());
        self.final_flight = flight.iter().any(|d| Contents::of(d).is_some_and(|c| c.keyed));
        self.last_flight = flight;
        self.last_repeat = now;
        self.repeat_interval = self.first_interval;
        self.repeat_at = Some(now + self.repeat_interval);
        true
    }

    fn repeat(&mut self, now: Instant) {
        if !self.last_flight.is_empty() {
            self.transmits.extend(self.last_flight.iter().cloned());
            self.last_repeat = now;
            self.repeated += 1;
        }
    }

    pub fn timeout(&self) -> Option<Instant> {
        if self.done {
            return None;
        }
        let own = self.repeat_at.into_iter().chain(self.endpoint.poll_timeout(&PEER));
        Some(own.fold(self.deadline, Instant::min))
    }

    pub fn handle_timeout(&mut self, now: Instant) -> Result<Outcome, Drop> {
        if self.done {
            return Ok(Outcome::Nothing);
        }
        if now >= self.deadline {
            return Ok(Outcome::Failed);
        }
        if self.endpoint.poll_timeout(&PEER).is_some_and(|at| now >= at) {
            if self.endpoint.handle_timeout(PEER, now).is_err() {
                return Ok(Outcome::Failed);
            }
            self.drain(now);
        }
        if self.repeat_at.is_some_and(|at| now >= at) {
            self.repeat(now);
            self.repeat_interval = (self.repeat_interval * 2).min(MAX_REPEAT);
            self.repeat_at = Some(now + self.repeat_interval);
        }
        Ok(Outcome::Nothing)
    }

    pub fn close(&mut self, now: Instant) {
        self.endpoint.stop(now, PEER);
        while let Some(transmit) = self.endpoint.poll_transmit() {
            self.transmits.push_back(transmit.message.to_vec());
        }
    }
}
