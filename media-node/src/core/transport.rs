//! One client's association: tuples, keys, what it publishes and what it subscribes to.

use std::time::Instant;

use super::batch::Batch;
use super::command::{DtlsRole, Fingerprint, IceCredentials, RoomId, TransportId, TransportState};
use super::congestion::{Congestion, Receiving};
use super::consumer::Parked;
use super::dtls::Dtls;
use super::ice::Ice;
use super::random::{Map, SeededHash};
use super::sctp::Sctp;
use super::slab::Key;
use super::srtp::{IndexWindow, Srtp};
use super::tally::Traffic;
use super::twcc::Arrivals;

/// Streams that are no more whose SRTP position is kept, so that an SSRC can be published again.
const MAX_RETIRED: usize = 64;

/// Outgoing streams without a consumer that may get another one. Of more, the oldest is over for good.
const MAX_PARKED: usize = 64;

/// A stream that the client sends: known by signalling, or learned from an authenticated packet.
pub(crate) struct Source {
    pub producer: Key,
    pub encoding: usize,
    pub rtx: bool,
    pub window: IndexWindow,
}

/// What is done when, besides answering.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Deadlines {
    pub connect: Option<Instant>,
    pub consent: Option<Instant>,
    pub feedback: Option<Instant>,
    pub reports: Option<Instant>,
    pub nacks: Option<Instant>,
    pub key_frames: Option<Instant>,
    pub layers_wanted: Option<Instant>,
    pub pacing: Option<Instant>,
    pub bandwidth: Option<Instant>,
    pub remb: Option<Instant>,
}

impl Deadlines {
    pub fn earliest(&self) -> Option<Instant> {
        let Self { connect, consent, feedback, reports, nacks, key_frames, layers_wanted, pacing, bandwidth, remb } =
            *self;
        let all = [connect, consent, feedback, reports, nacks, key_frames, layers_wanted, pacing, bandwidth, remb];
        all.into_iter().flatten().min()
    }
}

/// Makes a deadline come no later than `at`; returns whether it moved.
pub(crate) fn arm(deadline: &mut Option<Instant>, at: Instant) -> bool {
    let moves = deadline.is_none_or(|current| at < current);
    if moves {
        *deadline = Some(at);
    }
    moves
}

/// One client's association.
pub(crate) struct Transport {
    pub id: TransportId,
    pub room: RoomId,
    pub state: TransportState,
    pub ice: Ice,
    pub dtls: Dtls,
    /// The client's DTLS parameters, until the handshake starts with the first valid tuple.
    pub parameters: Option<(DtlsRole, Vec<Fingerprint>)>,
    pub srtp: Option<Srtp>,
    /// By SSRC.
    pub sources: Map<u32, Source>,
    retired: Vec<(u32, u64)>,
    /// Consumers by the SSRC of their media and RTX streams.
    pub sinks: Map<u32, Key>,
    /// Every SSRC ever sent from: one is never used again, because its indexes would be.
    pub used_ssrcs: std::collections::BTreeSet<u32>,
    /// The exceptions: streams that stopped at a known index.
    pub parked: Vec<Parked>,
    pub producers: Vec<Key>,
    pub consumers: Vec<Key>,
    /// Where data channels are enabled.
    pub sctp: Option<Box<Sctp>>,
    pub data_producers: Vec<Key>,
    pub data_consumers: Vec<Key>,
    /// Sender of our RTCP that belongs to no media stream.
    pub ssrc: u32,
    pub arrivals: Arrivals,
    /// What leaves with the next flush: sound, RTCP, and all that nothing is known of the path for.
    pub batch: Batch,
    /// What leaves as the path to the subscriber permits: packets with a transport-wide sequence number.
    pub paced: Batch,
    /// The path to the subscriber, once there is something to send on it.
    pub congestion: Option<Box<Congestion>>,
    /// What it was last taken to carry, in bits per second, if anything is known of it.
    pub available: Option<f64>,
    /// The batch is in the queue of those to be flushed.
    pub queued: bool,
    pub deadlines: Deadlines,
    /// What the timer queue has for this transport.
    pub wake: Option<Instant>,
    /// Media in either direction since the last reports.
    pub active: bool,
    /// How often the client is yet to be told that the room's limit no longer holds.
    pub limit_to_lift: u8,
    pub traffic: Traffic,
    /// Fraction of the client's packets that did not come, smoothed over a few reports.
    pub loss_received: Option<f64>,
    /// The path from the publisher, where it is to be told by REMB what that carries.
    pub receiving: Option<Box<Receiving>>,
}

impl Transport {
    /// `epoch` is the origin of transport-wide reference times.
    pub fn new(
        id: TransportId,
        room: RoomId,
        credentials: IceCredentials,
        ssrc: u32,
        hash: SeededHash,
        epoch: Instant,
    ) -> Self {
        Self {
            id,
            room,
            state: TransportState::New,
            ice: Ice::new(credentials),
            dtls: Dtls::new(),
            parameters: None,
            srtp: None,
            sources: Map::with_hasher(hash),
            retired: Vec::new(),
            sinks: Map::with_hasher(hash),
            used_ssrcs: std::collections::BTreeSet::from([ssrc]),
            parked: Vec::new(),
            producers: Vec::new(),
            consumers: Vec::new(),
            sctp: None,
            data_producers: Vec::new(),
            data_consumers: Vec::new(),
            ssrc,
            arrivals: Arrivals::new(epoch),
            batch: Batch::default(),
            paced: Batch::default(),
            congestion: None,
            available: None,
            queued: false,
            deadlines: Deadlines::default(),
            wake: None,
            active: false,
            limit_to_lift: 0,
            traffic: Traffic::default(),
            loss_received: None,
            receiving: None,
        }
    }

    /// Keys are in place, consent is fresh, and there is somewhere to send to.
    pub fn can_send(&self) -> bool {
        self.state == TransportState::Connected && self.srtp.is_some() && self.ice.selected().is_some()
    }

    /// Whether nothing can happen any more.
    pub fn is_over(&self) -> bool {
        matches!(self.state, TransportState::Failed | TransportState::Closed)
    }

    /// When something is to be done next.
    pub fn next_wake(&self) -> Option<Instant> {
        if self.is_over() {
            return None;
        }
        let sctp = self.sctp.as_ref().and_then(|sctp| sctp.timeout());
        self.deadlines.earliest().into_iter().chain(self.dtls.timeout()).chain(sctp).min()
    }

    /// Binds an SSRC, going on where a closed producer of the same SSRC left off. Returns whether it was free.
    pub fn bind(&mut self, ssrc: u32, producer: Key, encoding: usize, rtx: bool) -> bool {
        if self.sources.contains_key(&ssrc) {
            return false;
        }
        let window = self.resume(ssrc);
        self.insert(ssrc, Source { producer, encoding, rtx, window });
        true
    }

    /// Puts an outgoing stream aside.
    pub fn park(&mut self, stream: Parked) {
        if self.parked.len() == MAX_PARKED {
            self.parked.remove(0);
        }
        self.parked.push(stream);
    }

    /// Where a closed producer of the same SSRC left off, or the beginning.
    pub fn resume(&self, ssrc: u32) -> IndexWindow {
        let retired = self.retired.iter().find(|(s, _)| *s == ssrc);
        retired.map_or_else(IndexWindow::default, |(_, highest)| IndexWindow::resume_after(*highest))
    }

    /// Knows a stream from now on, by a window that [`Self::resume`] gave.
    pub fn insert(&mut self, ssrc: u32, source: Source) {
        self.retired.retain(|(s, _)| *s != ssrc);
        self.sources.insert(ssrc, source);
    }

    /// Forgets the SSRCs of a producer.
    pub fn unbind(&mut self, producer: Key) {
        let mut gone: Vec<u32> =
            self.sources.iter().filter(|(_, s)| s.producer == producer).map(|(ssrc, _)| *ssrc).collect();
        gone.sort_unstable();
        for ssrc in gone {
            self.retire(ssrc);
        }
    }

    /// Forgets an SSRC, but for how far it got.
    pub fn retire(&mut self, ssrc: u32) {
        if let Some(highest) = self.sources.remove(&ssrc).and_then(|s| s.window.highest()) {
            if self.retired.len() == MAX_RETIRED {
                self.retired.remove(0);
            }
            self.retired.push((ssrc, highest));
        }
    }
}
