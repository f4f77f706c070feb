//! WebRTC transports: created, connected, restarted, closed.

use std::time::Instant;

use rand::RngExt;

use super::{
    Access, Direction, Refusal, Turn,
    event::PauseReason,
    registry::{Effect, Registry},
    sessions::Session,
    settings::MAX_TRANSPORTS,
    view::TransportView,
};
use crate::{
    core::RoomLimits,
    core::command::{Command, DtlsRole, Event, Fingerprint, IceCredentials, TransportId, TransportState},
    ortc::{DtlsFingerprint, DtlsParameters, DtlsRoleName, IceParameters, SctpParameters, client_dtls},
};

/// Lengths that mediasoup uses for its ICE credentials too; 5 bits a character.
const UFRAG_LENGTH: usize = 32;
const PASSWORD_LENGTH: usize = 32;

/// One transport of a participant.
pub(super) struct Transport {
    pub(super) media: TransportId,
    pub(super) user: String,
    pub(super) direction: Direction,
    pub(super) state: TransportState,
    /// Since when its client has been silent (`Disconnected`).
    pub(super) silent_since: Option<Instant>,
    /// What the client connected with.
    dtls: Option<(DtlsRole, Vec<Fingerprint>)>,
    /// Name for producers that state none: the first name stated on this transport, or a random one.
    pub(super) cname: Option<String>,
    pub(super) next_mid: u32,
    /// SSRC of the next consumer; each takes two.
    pub(super) next_ssrc: u32,
    /// Where data channels are enabled.
    pub(super) sctp: Option<SctpParameters>,
    /// Where the search for the stream of the next data consumer begins.
    pub(super) next_stream: u16,
    /// The WHIP or WHEP session that it is for.
    pub(super) session: Option<Session>,
}

impl Registry {
    fn ice(&mut self) -> IceCredentials {
        let mut text = |length| (0..length).map(|_| char::from(self.rng.sample(ICE))).collect();
        IceCredentials { ufrag: text(UFRAG_LENGTH), password: text(PASSWORD_LENGTH) }
    }
}

/// ICE characters (RFC 8839 §5.4 `ice-char`), less upper case and signs, as mediasoup does.
struct IceCharacter;
const ICE: IceCharacter = IceCharacter;

impl rand::distr::Distribution<u8> for IceCharacter {
    fn sample<R: rand::Rng + ?Sized>(&self, rng: &mut R) -> u8 {
        const CHARACTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz012345";
        CHARACTERS[(rng.next_u32() >> 27) as usize]
    }
}

impl Turn<'_> {
    /// Creates a transport.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`] without the grant, [`Refusal::RoomFull`], [`Refusal::TooMany`].
    pub fn create_transport(&mut self, access: &Access, direction: Direction) -> Result<TransportView, Refusal> {
        match direction {
            Direction::Send if !access.grants.publish => return Err(Refusal::Forbidden("publish")),
            Direction::Recv if !access.grants.subscribe => return Err(Refusal::Forbidden("subscribe")),
            Direction::Send | Direction::Recv => (),
        }
        self.enter(access)?;
        let room = self.registry.room(&access.room)?;
        let own = || room.transports.iter().filter(|(_, transport)| transport.user == access.user);
        if own().count() >= MAX_TRANSPORTS {
            return Err(Refusal::TooMany { what: "transports of one participant", max: MAX_TRANSPORTS });
        }
        let silent: Vec<String> = own()
            .filter(|(_, t)| t.direction == direction && t.state == TransportState::Disconnected)
            .map(|(id, _)| id.clone())
            .collect();

        let ice = self.registry.ice();
        let id = self.registry.uuid();
        let media = TransportId(self.registry.next_id());
        let next_ssrc = self.registry.rng.random_range(1..=u32::MAX / 2) | 1;
        let room = self.registry.room_mut(&access.room)?;
        let (worker, media_room) = (room.worker, room.media);
        let transport = Transport {
            media,
            user: access.user.clone(),
            direction,
            state: TransportState::New,
            silent_since: None,
            dtls: None,
            cname: None,
            next_mid: 0,
            next_ssrc,
            sctp: None,
            next_stream: 0,
            session: None,
        };
        let limits = room.rules.limits;
        room.transports.insert(id.clone(), transport);
        if let Some(participant) = room.participants.get_mut(&access.user)
            && participant.idle_since.is_some()
        {
            participant.idle_since = Some(self.now);
        }
        self.registry.transports.insert(media, (access.room.clone(), id.clone()));
        let command = Command::CreateTransport { transport: media, room: media_room, ice: ice.clone() };
        self.effects.push(Effect::Media(worker, command));
        if limits != RoomLimits::default() {
            // The core forgets a room with its last transport.
            self.effects.push(Effect::Media(worker, Command::LimitRoom { room: media_room, limits }));
        }
        for transport in silent {
            self.close_transport(&access.room, &transport);
        }
        self.settle(&access.room, &access.user);
        let settings = &self.registry.settings;
        Ok(TransportView {
            id,
            ice_parameters: IceParameters::from(&ice),
            ice_candidates: settings.ice_candidates(worker),
            dtls_parameters: DtlsParameters {
                role: DtlsRoleName::Auto,
                fingerprints: vec![DtlsFingerprint::from(&settings.fingerprint)],
            },
            sctp_parameters: None,
        })
    }

    /// The client's DTLS parameters. The same again changes nothing.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::Parameters`], [`Refusal::Conflict`] for other parameters than before.
    pub fn connect(&mut self, access: &Access, id: &str, parameters: &DtlsParameters) -> Result<(), Refusal> {
        let (role, fingerprints) = client_dtls(parameters)?;
        let (worker, transport) = self.own_transport(access, id)?;
        match &transport.dtls {
            Some(earlier) if *earlier == (role, fingerprints.clone()) => return Ok(()),
            Some(_) => return Err(Refusal::Conflict("the transport is connected with other DTLS parameters")),
            None => transport.dtls = Some((role, fingerprints.clone())),
        }
        let command = Command::ConnectTransport { transport: transport.media, role, fingerprints };
        self.effects.push(Effect::Media(worker, command));
        Ok(())
    }

    /// New ICE credentials for a transport whose client has changed its network.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub fn restart_ice(&mut self, access: &Access, id: &str) -> Result<IceParameters, Refusal> {
        let ice = self.registry.ice();
        let (worker, transport) = self.own_transport(access, id)?;
        let command = Command::RestartIce { transport: transport.media, ice: ice.clone() };
        self.effects.push(Effect::Media(worker, command));
        Ok(IceParameters::from(&ice))
    }

    /// Ends one of the caller's transports.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub fn end_transport(&mut self, access: &Access, id: &str) -> Result<(), Refusal> {
        self.own_transport(access, id)?;
        self.close_transport(&access.room, id);
        Ok(())
    }

    pub(super) fn own_transport(&mut self, access: &Access, id: &str) -> Result<(usize, &mut Transport), Refusal> {
        let room = self.registry.room_mut(&access.room)?;
        let transport = room.transports.get_mut(id).filter(|transport| transport.user == access.user);
        Ok((room.worker, transport.ok_or(Refusal::NotFound("transport"))?))
    }

    /// News of the media loops.
    pub fn media_event(&mut self, event: &Event) {
        match event {
            Event::TransportState { transport, state, .. } => self.transport_state(*transport, *state),
            Event::ActiveSpeaker { room, producer } => self.active_speaker(*room, *producer),
            Event::LayersWanted { producer, transport, spatial } => {
                self.layers_wanted(*transport, *producer, *spatial);
            }
            Event::BandwidthPaused { consumer, transport, paused } => {
                self.held_back(*transport, *consumer, *paused, PauseReason::Bandwidth);
            }
            Event::OffStage { consumer, transport, off_stage } => {
                self.held_back(*transport, *consumer, *off_stage, PauseReason::LastN);
            }
            Event::LayersChanged { consumer, transport, layers } => self.layers_changed(*transport, *consumer, *layers),
            Event::DataConsumerOverflow { transport, data_consumer } => {
                self.data_consumer_overflown(*transport, *data_consumer);
            }
            Event::SctpClosed { transport } => self.sctp_closed(*transport),
        }
    }

    fn transport_state(&mut self, media: TransportId, state: TransportState) {
        let Some((key, id)) = self.registry.transports.get(&media).cloned() else { return };
        let now = self.now;
        let Ok(room) = self.registry.room_mut(&key) else { return };
        let Some(transport) = room.transports.get_mut(&id) else { return };
        transport.state = state;
        transport.silent_since = match state {
            TransportState::Disconnected => Some(transport.silent_since.unwrap_or(now)),
            _ => None,
        };
        let user = transport.user.clone();
        match state {
            TransportState::Failed | TransportState::Closed => self.close_transport(&key, &id),
            _ => self.settle(&key, &user),
        }
    }
}
