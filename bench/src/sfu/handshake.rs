//! A client's way to its keys: connectivity checks as the controlling side, then DTLS as the client. Sans-IO.

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use bytes::BytesMut;
use rtc::{
    crypto::{RTCCryptoProvider, default_provider},
    dtls::{
        config::{ClientAuthType, ConfigBuilder, HandshakeConfig},
        crypto::Certificate,
        endpoint::{Endpoint, EndpointEvent},
        extension::extension_use_srtp::SrtpProtectionProfile,
    },
    shared::TransportProtocol,
    stun::{
        attributes::{ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME, RawAttribute},
        fingerprint::FINGERPRINT,
        integrity::MessageIntegrity,
        message::{BINDING_REQUEST, BINDING_SUCCESS, Message, Setter, TransactionId},
        textattrs::TextAttribute,
        xoraddr::XorMappedAddress,
    },
};

use super::srtp::{EXPORTER_LABEL, KEYING, Srtp};

/// The DTLS endpoint knows one peer; where its datagrams go is the caller's affair.
const PEER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 9), 9));
/// Between checks until there are keys, and from then on (RFC 7675).
const CHECK: Duration = Duration::from_millis(100);
const CONSENT: Duration = Duration::from_millis(4000);
/// A flight is repeated after this time, then after twice that, and so on.
const REPEAT: Duration = Duration::from_millis(150);

/// The certificate of all clients of the load, and the cryptography.
#[derive(Clone)]
pub struct Identity {
    provider: Arc<dyn RTCCryptoProvider>,
    config: Arc<HandshakeConfig>,
    /// `sha-256` fingerprint as in SDP.
    pub fingerprint: String,
}

impl Identity {
    /// A new one.
    ///
    /// # Errors
    /// When the library cannot make one.
    pub fn generate() -> Result<Self> {
        let provider = default_provider().map_err(|e| anyhow!("cryptography: {e}"))?;
        let certificate = Certificate::generate_self_signed(vec!["load".to_owned()], provider.crypto())
            .map_err(|e| anyhow!("certificate: {e}"))?;
        let der = certificate.certificate.first().context("the certificate is there")?;
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der.as_ref());
        let fingerprint = digest.as_ref().iter().map(|b| format!("{b:02X}")).collect::<Vec<_>>().join(":");
        // Servers are taken as they come: this is a load, and it is they who must check.
        let config = ConfigBuilder::default()
            .with_crypto_provider(provider.clone())
            .with_certificates(vec![certificate])
            .with_srtp_protection_profiles(vec![SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm])
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            .with_insecure_skip_verify(true)
            .with_flight_interval(REPEAT)
            .with_mtu(1200)
            .with_server_name("callplane".to_owned())
            .build(true, None)
            .map_err(|e| anyhow!("DTLS: {e}"))?;
        Ok(Self { provider, config: Arc::new(config), fingerprint })
    }

    /// The cryptography.
    pub fn provider(&self) -> &dyn RTCCryptoProvider {
        &*self.provider
    }
}

/// ICE credentials of both sides.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The server's ufrag and password.
    pub remote: (String, String),
    /// The client's.
    pub local: (String, String),
    /// The server's address, which it is told when it checks the client.
    pub address: SocketAddr,
}

/// A client until it has keys, and its checks from then on.
pub struct Handshake {
    identity: Identity,
    credentials: Credentials,
    next_check: Instant,
    dtls: Endpoint,
    started: bool,
    flight: Vec<Vec<u8>>,
    repeat: Option<(Instant, Duration)>,
    done: bool,
}

impl Handshake {
    /// Begins at `now`.
    pub fn new(identity: Identity, credentials: Credentials, now: Instant) -> Self {
        Self {
            identity,
            credentials,
            next_check: now,
            dtls: Endpoint::new(PEER, TransportProtocol::UDP, None),
            started: false,
            flight: Vec::new(),
            repeat: None,
            done: false,
        }
    }

    fn integrity(&self, (_, password): &(String, String)) -> MessageIntegrity<'_> {
        MessageIntegrity::new_short_term_integrity_with_provider(password.clone(), self.identity.provider.crypto())
    }

    /// The answer to a server's check. Those that are ICE-lite make none; others send no media before it.
    fn answer(&self, transaction: TransactionId) -> Result<Vec<u8>> {
        let mut message = Message::new();
        let address = self.credentials.address;
        let setters: [Box<dyn Setter + '_>; 5] = [
            Box::new(BINDING_SUCCESS),
            Box::new(transaction),
            Box::new(XorMappedAddress { ip: address.ip(), port: address.port() }),
            Box::new(self.integrity(&self.credentials.local)),
            Box::new(FINGERPRINT),
        ];
        message.build(&setters).map_err(|e| anyhow!("the answer to a check: {e}"))?;
        Ok(message.raw)
    }

    fn check(&self) -> Result<Vec<u8>> {
        let mut message = Message::new();
        let raw = |typ, value: &[u8]| RawAttribute { typ, length: value.len() as u16, value: value.to_vec() };
        let name = format!("{}:{}", self.credentials.remote.0, self.credentials.local.0);
        let setters: [Box<dyn Setter + '_>; 8] = [
            Box::new(BINDING_REQUEST),
            Box::new(TransactionId::new()),
            Box::new(TextAttribute::new(ATTR_USERNAME, name)),
            Box::new(raw(ATTR_ICE_CONTROLLING, &[7; 8])),
            Box::new(raw(ATTR_PRIORITY, &[0x6e, 0, 0, 1])),
            Box::new(raw(ATTR_USE_CANDIDATE, &[])),
            Box::new(self.integrity(&self.credentials.remote)),
            Box::new(FINGERPRINT),
        ];
        message.build(&setters).map_err(|e| anyhow!("a connectivity check: {e}"))?;
        Ok(message.raw)
    }

    fn drain(&mut self, now: Instant, out: &mut VecDeque<Vec<u8>>) {
        let flight: Vec<_> = std::iter::from_fn(|| self.dtls.poll_transmit()).map(|t| t.message.to_vec()).collect();
        if !flight.is_empty() {
            out.extend(flight.iter().cloned());
            self.flight = flight;
            self.repeat = Some((now + REPEAT, REPEAT));
        }
    }

    /// When [`Self::tick`] is wanted.
    pub fn due(&self) -> Instant {
        let dtls = if self.done { None } else { self.dtls.poll_timeout(&PEER) };
        let repeat = self.repeat.filter(|_| !self.done).map(|(at, _)| at);
        dtls.into_iter().chain(repeat).fold(self.next_check, Instant::min)
    }

    /// Checks and repetitions that are due.
    ///
    /// # Errors
    /// When a message cannot be made.
    pub fn tick(&mut self, now: Instant, out: &mut VecDeque<Vec<u8>>) -> Result<()> {
        if now >= self.next_check {
            self.next_check = now + if self.done { CONSENT } else { CHECK };
            out.push_back(self.check()?);
        }
        if self.done {
            return Ok(());
        }
        if self.dtls.poll_timeout(&PEER).is_some_and(|at| now >= at) {
            let _ = self.dtls.handle_timeout(PEER, now);
            self.drain(now, out);
        }
        if let Some((at, interval)) = self.repeat
            && now >= at
        {
            out.extend(self.flight.iter().cloned());
            self.repeat = Some((now + 2 * interval, 2 * interval));
        }
        Ok(())
    }

    /// A STUN message: checks are answered, and the first answer starts DTLS.
    ///
    /// # Errors
    /// When an answer cannot be made, or DTLS cannot start.
    pub fn on_stun(&mut self, bytes: &[u8], now: Instant, out: &mut VecDeque<Vec<u8>>) -> Result<()> {
        let mut message = Message::new();
        if message.unmarshal_binary(bytes).is_err() {
            return Ok(());
        }
        if message.typ == BINDING_REQUEST {
            out.push_back(self.answer(message.transaction_id)?);
        }
        if message.typ == BINDING_SUCCESS && !self.started {
            self.started = true;
            self.dtls
                .connect(now, PEER, self.identity.config.clone(), None)
                .map_err(|e| anyhow!("starting DTLS: {e}"))?;
            self.drain(now, out);
        }
        Ok(())
    }

    /// A DTLS record; gives the keys when the handshake is complete.
    ///
    /// # Errors
    /// When there is no agreement with the server.
    pub fn on_dtls(&mut self, bytes: &[u8], now: Instant, out: &mut VecDeque<Vec<u8>>) -> Result<Option<Srtp>> {
        if !self.started {
            return Ok(None);
        }
        let events = self.dtls.read(now, PEER, None, BytesMut::from(bytes));
        self.drain(now, out);
        let complete = events
            .map_err(|e| anyhow!("DTLS: {e}"))?
            .iter()
            .any(|event| matches!(event, EndpointEvent::HandshakeComplete));
        if !complete || self.done {
            return Ok(None);
        }
        self.done = true;
        self.next_check = now + CONSENT;
        let state = self.dtls.get_connection_state(PEER).context("a complete handshake has a state")?;
        let keys =
            state.export_keying_material(EXPORTER_LABEL, &[], KEYING).map_err(|e| anyhow!("exporting keys: {e}"))?;
        Srtp::new(keys.as_ref(), self.identity.provider.crypto()).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_of_the_server_is_answered_with_its_address_and_our_password() {
        let credentials = |remote: &str, local: &str, port| Credentials {
            remote: (remote.to_owned(), format!("password of {remote}")),
            local: (local.to_owned(), format!("password of {local}")),
            address: SocketAddr::from(([192, 0, 2, 1], port)),
        };
        let now = crate::clock::now();
        let identity = Identity::generate().unwrap();
        // A server that is not ICE-lite checks as a client does.
        let mut server = Handshake::new(identity.clone(), credentials("client", "server", 7), now);
        let mut client = Handshake::new(identity.clone(), credentials("server", "client", 9), now);
        let (mut checks, mut answers) = (VecDeque::new(), VecDeque::new());
        server.tick(now, &mut checks).unwrap();
        client.on_stun(&checks[0], now, &mut answers).unwrap();
        let mut answer = Message::new();
        answer.unmarshal_binary(&answers[0]).unwrap();
        let mut address = XorMappedAddress::default();
        rtc::stun::message::Getter::get_from(&mut address, &answer).unwrap();
        assert_eq!((address.ip, address.port), ([192, 0, 2, 1].into(), 9));
        let key = server.credentials.remote.1.as_bytes();
        assert!(MessageIntegrity::check(&mut answer, key, identity.provider.crypto()).is_ok());
        server.on_stun(&answers[0], now, &mut checks).unwrap();
        assert!(server.started && !client.started);
    }
}
