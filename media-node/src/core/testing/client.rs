//! A client: ICE controlling side, DTLS in either role, SRTP of `rtc::srtp` (the oracle), tracks.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc::crypto::RTCCryptoProvider;
use rtc::dtls::config::{ClientAuthType, ConfigBuilder};
use rtc::dtls::endpoint::{Endpoint, EndpointEvent};
use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc::shared::TransportProtocol;
use rtc::shared::error::Error;
use rtc::srtp::config::Config as SrtpConfig;
use rtc::srtp::context::Context;
use rtc::srtp::option::{srtcp_replay_protection, srtp_replay_protection};
use rtc::srtp::protection_profile::ProtectionProfile;
use rtc::stun::attributes::{
    ATTR_ICE_CONTROLLED, ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME, RawAttribute,
};
use rtc::stun::fingerprint::FINGERPRINT;
use rtc::stun::integrity::MessageIntegrity;
use rtc::stun::message::{BINDING_ERROR, BINDING_REQUEST, BINDING_SUCCESS, Message, Setter, TransactionId};
use rtc::stun::textattrs::TextAttribute;

use super::data::DataChannels;
use super::receiver::Receiver;
use super::track::Outgoing;
use crate::core::Protocol;
use crate::core::command::{DtlsRole, Fingerprint, IceCredentials};
use crate::core::identity::Identity;
use crate::core::srtp::EXPORTER_LABEL;

const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 9)), 9);
const CHECK: Duration = Duration::from_millis(50);
const REPEAT: Duration = Duration::from_millis(80);
const CONSENT: Duration = Duration::from_millis(2500);

#[derive(Clone)]
pub(crate) struct ClientOptions {
    pub role: DtlsRole,
    pub profiles: Vec<SrtpProtectionProfile>,
    /// First claims to be the controlled side.
    pub confused: bool,
    pub mtu: usize,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            role: DtlsRole::Client,
            // Chromium's order.
            profiles: vec![
                SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
                SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm,
                SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
            ],
            confused: false,
            mtu: 1200,
        }
    }
}

pub(crate) struct Client {
    pub addr: SocketAddr,
    /// How it is reached.
    pub protocol: Protocol,
    pub identity: Identity,
    pub credentials: IceCredentials,
    options: ClientOptions,
    confused: bool,
    pub nominate: bool,
    pub checking: bool,
    next_check: Instant,
    pub checks_answered: u32,
    pub role_conflicts: u32,
    dtls: Endpoint,
    started: bool,
    /// What was sent last in the handshake, repeated as BoringSSL and OpenSSL do.
    flight: Vec<Vec<u8>>,
    repeat: Option<(Instant, Duration)>,
    server_fingerprint: Option<Fingerprint>,
    pub connected: bool,
    pub closed: bool,
    pub profile: Option<ProtectionProfile>,
    srtp: Option<(Context, Context)>,
    out: VecDeque<Vec<u8>>,
    pub tracks: Vec<Outgoing>,
    pub receiver: Receiver,
    data: Option<DataChannels>,
    transport_cc: u16,
    pub rtcp: Vec<Box<dyn rtc::rtcp::packet::Packet>>,
    /// Sealed packets as sent, newest last, for replaying.
    pub sent: VecDeque<Vec<u8>>,
    pub undecryptable: u64,
}

fn provider() -> Arc<dyn RTCCryptoProvider> {
    rtc::crypto::default_provider().expect("a provider is compiled in")
}

impl Client {
    pub fn new(addr: SocketAddr, credentials: IceCredentials, options: ClientOptions, now: Instant) -> Self {
        let identity = Identity::generate().unwrap();
        Self {
            addr,
            protocol: Protocol::Udp,
            identity,
            credentials,
            confused: options.confused,
            options,
            nominate: true,
            checking: true,
            next_check: now,
            checks_answered: 0,
            role_conflicts: 0,
            dtls: Endpoint::new(PEER, TransportProtocol::UDP, None),
            started: false,
            flight: Vec::new(),
            repeat: None,
            server_fingerprint: None,
            connected: false,
            closed: false,
            profile: None,
            srtp: None,
            out: VecDeque::new(),
            tracks: Vec::new(),
            receiver: Receiver::default(),
            data: None,
            transport_cc: 0,
            rtcp: Vec::new(),
            sent: VecDeque::new(),
            undecryptable: 0,
        }
    }

    pub fn fingerprints(&self) -> Vec<Fingerprint> {
        vec![self.identity.fingerprint()]
    }

    pub fn role(&self) -> DtlsRole {
        self.options.role
    }

    pub fn expect_server(&mut self, fingerprint: Fingerprint) {
        self.server_fingerprint = Some(fingerprint);
    }

    fn dtls_config(&self) -> Arc<rtc::dtls::config::HandshakeConfig> {
        let server = self.server_fingerprint.clone().expect("signalled before DTLS");
        let is_client = self.options.role == DtlsRole::Client;
        let config = ConfigBuilder::default()
            .with_crypto_provider(provider())
            .with_certificates(vec![self.identity.certificate.clone()])
            .with_srtp_protection_profiles(self.options.profiles.clone())
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            .with_insecure_skip_verify(true)
            .with_flight_interval(Duration::from_millis(60))
            .with_mtu(self.options.mtu)
            .with_server_name("x".to_owned())
            .with_verify_peer_certificate(Some(Arc::new(move |chain: &[Vec<u8>], _: &[_]| {
                assert!(crate::core::identity::matches(&chain[0], std::slice::from_ref(&server)));
                Ok(())
            })))
            .build(is_client, None)
            .unwrap();
        Arc::new(config)
    }

    fn start_dtls(&mut self, now: Instant) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let config = self.dtls_config();
        match self.options.role {
            DtlsRole::Client => self.dtls.connect(now, PEER, config, None).unwrap(),
            DtlsRole::Server => self.dtls.set_server_config(Some(config)),
        }
        self.drain_dtls(now);
    }

    fn drain_dtls(&mut self, now: Instant) {
        let flight: Vec<_> = std::iter::from_fn(|| self.dtls.poll_transmit()).map(|t| t.message.to_vec()).collect();
        if flight.is_empty() {
            return;
        }
        self.out.extend(flight.iter().cloned());
        self.flight = flight;
        self.repeat = Some((now + REPEAT, REPEAT));
    }

    pub fn check(&self, password: &str) -> Vec<u8> {
        let crypto = provider();
        let mut message = Message::new();
        let raw = |typ, value: &[u8]| -> Box<dyn Setter> {
            Box::new(RawAttribute { typ, length: value.len() as u16, value: value.to_vec() })
        };
        let role = if self.confused { ATTR_ICE_CONTROLLED } else { ATTR_ICE_CONTROLLING };
        let mut setters: Vec<Box<dyn Setter + '_>> = vec![
            Box::new(BINDING_REQUEST),
            Box::new(TransactionId::new()),
            Box::new(TextAttribute::new(ATTR_USERNAME, format!("{}:client", self.credentials.ufrag))),
            raw(role, &[7; 8]),
            raw(ATTR_PRIORITY, &[0x6e, 0, 0, 1]),
        ];
        if self.nominate {
            setters.push(raw(ATTR_USE_CANDIDATE, &[]));
        }
        setters.push(Box::new(MessageIntegrity::new_short_term_integrity_with_provider(
            password.to_owned(),
            crypto.crypto(),
        )));
        setters.push(Box::new(FINGERPRINT));
        message.build(&setters).unwrap();
        message.raw
    }

    pub fn timeout(&self) -> Option<Instant> {
        let check = self.checking.then_some(self.next_check);
        let repeat = self.repeat.map(|(at, _)| at);
        let dtls = if self.connected { None } else { self.dtls.poll_timeout(&PEER).into_iter().chain(repeat).min() };
        let media = if self.connected { self.tracks.iter().filter_map(Outgoing::due).min() } else { None };
        let feedback = if self.connected { self.receiver.due() } else { None };
        let data = self.data.as_ref().and_then(DataChannels::timeout);
        [check, dtls, media, feedback, data].into_iter().flatten().min()
    }

    pub fn tick(&mut self, now: Instant) {
        if self.checking && now >= self.next_check {
            let interval = if self.checks_answered > 2 { CONSENT } else { CHECK };
            self.next_check = now + interval;
            self.out.push_back(self.check(&self.credentials.password));
        }
        if !self.connected && self.dtls.poll_timeout(&PEER).is_some_and(|at| now >= at) {
            let _ = self.dtls.handle_timeout(PEER, now);
            self.drain_dtls(now);
        }
        if !self.connected {
            if let Some((at, interval)) = self.repeat
                && now >= at
            {
                self.out.extend(self.flight.iter().cloned());
                self.repeat = Some((now + interval * 2, interval * 2));
            }
            return;
        }
        let mut packets = Vec::new();
        for track in &mut self.tracks {
            track.produce(now, &mut self.transport_cc, &mut packets);
        }
        for packet in packets {
            self.send_rtp(&packet);
        }
        for compound in self.receiver.feedback(now) {
            self.send_rtcp(&compound);
        }
        if let Some(data) = &mut self.data
            && data.timeout().is_some_and(|at| now >= at)
        {
            data.tick(now);
        }
        self.drain_data(now);
    }

    /// Connects SCTP; needs DTLS.
    pub fn open_data(&mut self, now: Instant) {
        self.data = Some(DataChannels::connect(now));
        self.drain_data(now);
    }

    pub fn data(&self) -> &DataChannels {
        self.data.as_ref().expect("opened before")
    }

    /// What is done with it leaves at the next tick.
    pub fn data_mut(&mut self) -> &mut DataChannels {
        self.data.as_mut().expect("opened before")
    }

    fn drain_data(&mut self, now: Instant) {
        while let Some(packet) = self.data.as_mut().and_then(DataChannels::poll) {
            self.dtls.write(now, PEER, &packet).unwrap();
            self.out.extend(std::iter::from_fn(|| self.dtls.poll_transmit()).map(|t| t.message.to_vec()));
        }
    }

    pub fn send_rtp(&mut self, plain: &[u8]) {
        let Some((out, _)) = &mut self.srtp else { return };
        let sealed = out.encrypt_rtp(plain).unwrap().to_vec();
        self.sent.push_back(sealed.clone());
        if self.sent.len() > 256 {
            self.sent.pop_front();
        }
        self.out.push_back(sealed);
    }

    pub fn send_rtcp(&mut self, plain: &[u8]) {
        let Some((out, _)) = &mut self.srtp else { return };
        let sealed = out.encrypt_rtcp(plain).unwrap().to_vec();
        self.out.push_back(sealed);
    }

    /// Like [`Self::send_rtp`], for bytes that `rtc::srtp` may refuse to seal.
    #[cfg(feature = "fuzzing")]
    pub fn try_send_rtp(&mut self, plain: &[u8]) {
        let Some((out, _)) = &mut self.srtp else { return };
        self.out.extend(out.encrypt_rtp(plain).map(|sealed| sealed.to_vec()));
    }

    /// Like [`Self::send_rtcp`], for bytes that `rtc::srtp` may refuse to seal.
    #[cfg(feature = "fuzzing")]
    pub fn try_send_rtcp(&mut self, plain: &[u8]) {
        let Some((out, _)) = &mut self.srtp else { return };
        self.out.extend(out.encrypt_rtcp(plain).map(|sealed| sealed.to_vec()));
    }

    pub fn close(&mut self, now: Instant) {
        self.dtls.stop(now, PEER);
        self.drain_dtls(now);
        self.checking = false;
        self.tracks.clear();
    }

    pub fn poll(&mut self) -> Option<Vec<u8>> {
        self.out.pop_front()
    }

    pub fn receive(&mut self, bytes: &[u8], now: Instant) {
        match bytes[0] {
            0..=3 => self.on_stun(bytes, now),
            20..=63 => self.on_dtls(bytes, now),
            _ if (192..=223).contains(&bytes[1]) => self.on_rtcp(bytes, now),
            _ => self.on_rtp(bytes, now),
        }
    }

    fn on_stun(&mut self, bytes: &[u8], now: Instant) {
        let mut message = Message::new();
        message.unmarshal_binary(bytes).unwrap();
        MessageIntegrity::check(&mut message, self.credentials.password.as_bytes(), provider().crypto()).unwrap();
        FINGERPRINT.check(&message).unwrap();
        if message.typ == BINDING_ERROR {
            self.role_conflicts += 1;
            self.confused = false;
            self.next_check = now;
            return;
        }
        assert_eq!(message.typ, BINDING_SUCCESS);
        let mut mapped = rtc::stun::xoraddr::XorMappedAddress::default();
        rtc::stun::message::Getter::get_from(&mut mapped, &message).unwrap();
        assert_eq!((mapped.ip, mapped.port), (self.addr.ip(), self.addr.port()));
        self.checks_answered += 1;
        self.start_dtls(now);
    }

    fn on_dtls(&mut self, bytes: &[u8], now: Instant) {
        self.start_dtls(now);
        let Ok(events) = self.dtls.read(now, PEER, None, BytesMut::from(bytes)) else {
            self.drain_dtls(now);
            return;
        };
        self.drain_dtls(now);
        for event in events {
            match event {
                EndpointEvent::HandshakeComplete => self.keys(),
                EndpointEvent::PeerClosed => self.closed = true,
                EndpointEvent::ApplicationData(packet) => {
                    self.data_mut().receive(&packet, now);
                    self.drain_data(now);
                }
                _ => {}
            }
        }
    }

    fn keys(&mut self) {
        let state = self.dtls.get_connection_state(PEER).unwrap();
        let profile = match state.srtp_protection_profile() {
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => ProtectionProfile::AeadAes128Gcm,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
            other => panic!("negotiated {other:?}"),
        };
        let mut config = SrtpConfig { profile, ..SrtpConfig::default() };
        let exported = state.export_keying_material(EXPORTER_LABEL, &[], config.keying_material_len()).unwrap();
        let is_client = self.options.role == DtlsRole::Client;
        config.set_session_keys_from_keying_material(exported.as_ref(), is_client).unwrap();
        let context = |key: &[u8], salt: &[u8]| {
            Context::new(
                key,
                salt,
                profile,
                Some(srtp_replay_protection(1024)),
                Some(srtcp_replay_protection(128)),
                provider().crypto(),
            )
            .unwrap()
        };
        let keys = &config.keys;
        self.srtp = Some((
            context(&keys.local_master_key, &keys.local_master_salt),
            context(&keys.remote_master_key, &keys.remote_master_salt),
        ));
        self.profile = Some(profile);
        self.connected = true;
    }

    fn on_rtp(&mut self, bytes: &[u8], now: Instant) {
        let Some((_, inbound)) = &mut self.srtp else { return };
        match inbound.decrypt_rtp(bytes) {
            Ok(plain) => self.receiver.receive(&plain, bytes, now),
            Err(_) => self.receiver.replayed(bytes, &mut self.undecryptable),
        }
    }

    fn on_rtcp(&mut self, bytes: &[u8], now: Instant) {
        let Some((_, inbound)) = &mut self.srtp else { return };
        let plain = match inbound.decrypt_rtcp(bytes) {
            Ok(plain) => plain,
            Err(Error::SrtcpSsrcDuplicated(..)) => return,
            Err(_) => {
                self.undecryptable += 1;
                return;
            }
        };
        let packets = rtc::rtcp::packet::unmarshal(&mut &plain[..]).expect("our RTCP is well formed");
        let mut repairs = Vec::new();
        for packet in packets {
            for track in &mut self.tracks {
                track.on_feedback(&*packet, now, &mut self.transport_cc, &mut repairs);
            }
            self.receiver.on_report(&*packet, now);
            self.rtcp.push(packet);
        }
        for (packet, verbatim) in repairs {
            if verbatim {
                // What was sealed before is sent as it was.
                let sequence = &packet[2..4];
                let ssrc = &packet[8..12];
                if let Some(sealed) = self.sent.iter().find(|s| &s[2..4] == sequence && &s[8..12] == ssrc) {
                    self.out.push_back(sealed.clone());
                }
            } else {
                self.send_rtp(&packet);
            }
        }
    }
}
