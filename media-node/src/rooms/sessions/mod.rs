//! Sessions of WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep): a participant's transport that was made by
//! one offer and one answer, with its producers or consumers.
//!
//! A session ends with its transport, by whatever ends that. It has no renegotiation but an ICE restart,
//! which its entity tag counts.

mod players;

use std::time::{Duration, Instant};

use rand::RngExt;

use players::Player;
pub use players::Selection;

use super::{Access, Direction, Refusal, Turn, Worker, view::TransportView};
use crate::{
    core::command::TransportState,
    sdp::{Fragment, Offer, Playback, Publication, Server},
};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The client publishes.
    Whip,
    /// The client plays.
    Whep,
}

/// What makes a session of a transport.
pub(super) struct Session {
    protocol: Protocol,
    etag: String,
    /// The client's ICE username fragment.
    ice_ufrag: String,
    made_at: Instant,
    /// WHEP: what is played.
    pub(super) player: Option<Player>,
}

impl Session {
    /// Whether a client that has not connected by now is not waited for any longer. Those of the object model
    /// delete what they gave up; here they just post again.
    pub(super) fn is_overdue(&self, state: TransportState, now: Instant, grace: Duration) -> bool {
        matches!(state, TransportState::New | TransportState::Connecting)
            && now.saturating_duration_since(self.made_at) >= grace
    }
}

/// A session that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSession {
    /// Id of the session, which is its transport's.
    pub id: String,
    /// Entity tag of its ICE session, without quotes.
    pub etag: String,
    /// The SDP answer.
    pub answer: String,
}

/// The `If-Match` of a request (RFC 9110 §13.1.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IfMatch {
    /// There is none.
    Absent,
    /// `*`: whatever it is now.
    Any,
    /// One of these strong entity tags, without quotes.
    Tags(Vec<String>),
}

/// What a fragment led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Patched {
    /// Candidates were noted.
    Trickled,
    /// ICE has begun anew.
    Restarted {
        /// The new entity tag.
        etag: String,
        /// The node's credentials and candidates.
        fragment: String,
    },
}

impl Turn<'_> {
    /// Publishes what an offer has.
    ///
    /// # Errors
    /// As [`Turn::create_transport`] and [`Turn::produce`]. Nothing is left then.
    pub fn publish_offer(&mut self, access: &Access, publication: &Publication) -> Result<NewSession, Refusal> {
        let view = self.create_transport(access, Direction::Send)?;
        let published = self.publish_all(access, &view.id, publication);
        self.keep(access, &view.id, published)?;
        let answer = publication.answer(&server(&view, self.number()));
        self.new_session(access, view, Protocol::Whip, &publication.offer, None, answer)
    }

    fn publish_all(&mut self, access: &Access, transport: &str, publication: &Publication) -> Result<(), Refusal> {
        self.connect(access, transport, &publication.offer.dtls)?;
        for track in &publication.tracks {
            let app_data = serde_json::Value::Object(serde_json::Map::new());
            self.produce(access, transport, track.kind, track.parameters.clone(), false, app_data)?;
        }
        Ok(())
    }

    /// Plays what an offer has room for, now and as it changes.
    ///
    /// # Errors
    /// As [`Turn::create_transport`]; [`Refusal::NotFound`] for a producer that is selected and not there.
    pub fn play_offer(
        &mut self,
        access: &Access,
        playback: &Playback,
        selection: &Selection,
    ) -> Result<NewSession, Refusal> {
        let room = self.registry.room(&access.room)?;
        if selection.producers.iter().any(|producer| !room.producers.contains_key(producer)) {
            return Err(Refusal::NotFound("producer"));
        }
        let view = self.create_transport(access, Direction::Recv)?;
        let connected = self.connect(access, &view.id, &playback.offer.dtls);
        self.keep(access, &view.id, connected)?;
        let cname = format!("{:016x}", self.number());
        let (_, transport) = self.own_transport(access, &view.id)?;
        let player = Player::new(&playback.receivers, &mut transport.next_ssrc, cname, selection.clone());
        let answer = playback.answer(&player.sent(), &server(&view, self.number()));
        let session = self.new_session(access, view, Protocol::Whep, &playback.offer, Some(player), answer)?;
        self.feed_players(&access.room);
        Ok(session)
    }

    /// Closes a new transport if what came next went wrong.
    fn keep(&mut self, access: &Access, transport: &str, result: Result<(), Refusal>) -> Result<(), Refusal> {
        if result.is_err() {
            self.close_transport(&access.room, transport);
        }
        result
    }

    fn new_session(
        &mut self,
        access: &Access,
        view: TransportView,
        protocol: Protocol,
        offer: &Offer,
        player: Option<Player>,
        answer: String,
    ) -> Result<NewSession, Refusal> {
        let (etag, made_at) = (self.registry.uuid(), self.now);
        let (_, transport) = self.own_transport(access, &view.id)?;
        let ice_ufrag = offer.ice_ufrag.clone();
        transport.session = Some(Session { protocol, etag: etag.clone(), ice_ufrag, made_at, player });
        Ok(NewSession { id: view.id, etag, answer })
    }

    /// A client's news of ICE. Other credentials than before restart it.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::PreconditionRequired`], [`Refusal::PreconditionFailed`].
    pub fn patch_session(
        &mut self,
        access: &Access,
        protocol: Protocol,
        id: &str,
        if_match: &IfMatch,
        fragment: &Fragment,
    ) -> Result<Patched, Refusal> {
        let etag = self.registry.uuid();
        let (worker, session) = self.own_session(access, protocol, id)?;
        match if_match {
            IfMatch::Absent => return Err(Refusal::PreconditionRequired),
            IfMatch::Tags(tags) if !tags.contains(&session.etag) => return Err(Refusal::PreconditionFailed),
            IfMatch::Tags(_) | IfMatch::Any => (),
        }
        let Some(ufrag) = fragment.ice_ufrag.as_ref().filter(|ufrag| **ufrag != session.ice_ufrag) else {
            return Ok(Patched::Trickled);
        };
        session.ice_ufrag.clone_from(ufrag);
        session.etag.clone_from(&etag);
        let ice = self.restart_ice(access, id)?;
        let candidates = self.registry.settings.ice_candidates(worker);
        Ok(Patched::Restarted { etag, fragment: Fragment::answer(&ice, &candidates) })
    }

    /// Ends a session.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub fn end_session(&mut self, access: &Access, protocol: Protocol, id: &str) -> Result<(), Refusal> {
        self.own_session(access, protocol, id)?;
        self.close_transport(&access.room, id);
        Ok(())
    }

    fn own_session(
        &mut self,
        access: &Access,
        protocol: Protocol,
        id: &str,
    ) -> Result<(Worker, &mut Session), Refusal> {
        let missing = Refusal::NotFound("session");
        let Ok((worker, transport)) = self.own_transport(access, id) else { return Err(missing) };
        let session = transport.session.as_mut().filter(|session| session.protocol == protocol);
        Ok((worker, session.ok_or(missing)?))
    }

    /// A session number for SDP: 63 bits (RFC 9429 §5.2.1).
    fn number(&mut self) -> u64 {
        self.registry.rng.random::<u64>() >> 1
    }
}

fn server(view: &TransportView, session: u64) -> Server<'_> {
    Server { session, ice: &view.ice_parameters, candidates: &view.ice_candidates, dtls: &view.dtls_parameters }
}
