//! The packet core: decides what happens to every packet of the rooms on one event loop.
//!
//! It is told the time and the packets, and says what to send. It has no sockets, no clock, no threads
//! and no randomness of its own; secrets come from the [`Identity`] it is given. Whole calls run in
//! virtual time in its tests.
//!
//! ```text
//! receive ─ demux ─┬ stun ─ ice        who may send, where to answer
//!                  ├ dtls ─ srtp keys, sctp ── data consumers
//!                  ├ rtp ── producer ── consumers ── batches ─ poll_transmit
//!                  └ rtcp ─ nack, pli, reports
//! ```
//!
//! Everything that an unauthenticated sender can touch is bounded, and every drop has a reason
//! ([`stats::Drop`]).

pub mod command;
pub mod config;
pub mod identity;
pub mod layers;
pub mod stats;

mod bandwidth;
mod batch;
pub(crate) mod codec;
mod commands;
pub(crate) mod congestion;
mod consumer;
mod data;
mod demux;
mod dtls;
mod fan_out;
mod feedback;
mod forward;
mod history;
pub(crate) mod ice;
mod lane;
mod meter;
mod nack;
mod outbox;
mod pool;
mod producer;
mod query;
mod random;
mod receive;
mod reception;
mod redundancy;
mod remb;
mod reports;
pub(crate) mod rtp;
mod score;
pub(crate) mod sctp;
pub(crate) mod sequence;
mod share;
mod slab;
mod speaker;
mod srtp;
mod stage;
mod tally;
mod timers;
mod transport;
mod twcc;
mod wanted;

#[cfg(any(test, feature = "fuzzing"))]
#[cfg_attr(not(test), allow(dead_code, unused_imports, reason = "fuzzing needs a part of it"))]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

pub use config::Config;
pub use consumer::Feedback;
pub use ice::Protocol;
pub use identity::{Identity, IdentityError};
pub use outbox::Transmit;
pub use query::{
    Answer, ConsumerStats, DataStats, DtlsState, Flow, IceState, ProducerStats, Question, SctpState, SelectedTuple,
    StreamStats, TransportStats,
};
pub use sctp::limits as data_limits;
pub use stage::RoomLimits;
pub use stats::{BATCHES, Counter, Drop, Fate, Gauge, Stats};

use command::{ConsumerId, Event, ProducerId, RoomId, TransportId, TransportState};
use consumer::Consumer;
use data::Data;
use ice::Tuple;
use outbox::Outbox;
use producer::Producer;
use random::{Map, Random, SeededHash};
use slab::{Key, Slab};
use speaker::Speaker;
use stage::{Loudest, Recent};
use timers::Timers;
use transport::Transport;

/// All rooms of one event loop.
pub struct Core {
    config: Config,
    identity: Identity,
    /// Origin of send times and reference times.
    epoch: Instant,
    random: Random,
    hash: SeededHash,
    transports: Slab<Transport>,
    producers: Slab<Producer>,
    consumers: Slab<Consumer>,
    data: Data,
    transport_keys: Map<TransportId, Key>,
    producer_keys: Map<ProducerId, Key>,
    consumer_keys: Map<ConsumerId, Key>,
    ufrags: Map<String, Key>,
    tuples: Map<Tuple, Key>,
    rooms: Map<RoomId, Room>,
    timers: Timers,
    outbox: Outbox,
    events: VecDeque<Event>,
    stats: Stats,
}

/// What transports of one room share.
#[derive(Debug, Default)]
struct Room {
    /// Its transports.
    members: Vec<Key>,
    speaker: Speaker,
    loudest: Loudest,
    recent: Recent,
    last_n: Option<usize>,
    max_publish_bitrate: Option<u64>,
}

impl Core {
    /// `seed` must differ between processes and be unknown to clients; `now` is the origin of time.
    pub fn new(config: Config, identity: Identity, seed: u64, now: Instant) -> Self {
        let mut random = Random::new(seed);
        let hash = SeededHash(random.u64());
        Self {
            config,
            identity,
            epoch: now,
            random,
            hash,
            transports: Slab::default(),
            producers: Slab::default(),
            consumers: Slab::default(),
            data: Data::new(hash),
            transport_keys: Map::with_hasher(hash),
            producer_keys: Map::with_hasher(hash),
            consumer_keys: Map::with_hasher(hash),
            ufrags: Map::with_hasher(hash),
            tuples: Map::with_hasher(hash),
            rooms: Map::with_hasher(hash),
            timers: Timers::default(),
            outbox: Outbox::default(),
            events: VecDeque::new(),
            stats: Stats::default(),
        }
    }

    /// The next piece of news, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Core::tick`] and [`Core::poll_transmit`] are to be called next, if nothing else happens.
    /// `None` while there is nothing to wait for.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next().into_iter().chain(self.outbox.flush_at()).min()
    }

    /// Time has passed: repeats, reports, requests and expiries that are due.
    pub fn tick(&mut self, now: Instant) {
        for key in self.timers.due(now) {
            if let Some(transport) = self.transports.get_mut(key) {
                transport.wake = None;
                self.wake(key, now);
                self.reschedule(key);
            }
        }
    }

    /// Counters and gauges.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Puts the transport where it belongs in the timer queue.
    fn reschedule(&mut self, key: Key) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        let next = transport.next_wake();
        if next != transport.wake {
            self.timers.replace(key, transport.wake, next);
            transport.wake = next;
        }
    }

    fn wake(&mut self, key: Key, now: Instant) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        let due = |deadline: &mut Option<Instant>| deadline.take_if(|at| *at <= now).is_some();
        let deadlines = &mut transport.deadlines;
        let (connect, consent, feedback) =
            (due(&mut deadlines.connect), due(&mut deadlines.consent), due(&mut deadlines.feedback));
        let (reports, nacks) = (due(&mut deadlines.reports), due(&mut deadlines.nacks));
        let (key_frames, layers_wanted) = (due(&mut deadlines.key_frames), due(&mut deadlines.layers_wanted));
        let (pacing, bandwidth) = (due(&mut deadlines.pacing), due(&mut deadlines.bandwidth));
        let remb = due(&mut deadlines.remb);
        let outcome = transport.dtls.handle_timeout(now);
        self.after_dtls(key, outcome, now);
        self.wake_sctp(key, now);
        if connect && self.transports.get_mut(key).is_some_and(|transport| transport.srtp.is_none()) {
            self.set_state(key, TransportState::Failed);
        }
        if consent {
            self.check_consent(key, now);
        }
        if nacks {
            self.send_nacks(key, now);
        }
        if key_frames {
            self.send_key_frame_requests(key, now);
        }
        if layers_wanted {
            self.tell_layers_wanted(key, now);
        }
        if feedback {
            self.send_transport_feedback(key, now);
        }
        if reports {
            self.send_reports(key, now);
        }
        if remb {
            self.send_remb(key, now);
        }
        if bandwidth {
            self.manage_bandwidth(key, now);
        }
        if pacing {
            self.continue_sending(key, now);
        }
    }

    fn check_consent(&mut self, key: Key, now: Instant) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        if let Some(expires) = transport.ice.consent(now, self.config.consent_timeout) {
            transport.deadlines.consent = Some(expires);
        } else if matches!(transport.state, TransportState::Connected | TransportState::Connecting) {
            self.set_state(key, TransportState::Disconnected);
        }
    }

    fn set_state(&mut self, key: Key, state: TransportState) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        if transport.state == state || transport.is_over() {
            return;
        }
        let was_connected = transport.state == TransportState::Connected;
        transport.state = state;
        let remote: Option<SocketAddr> = transport.ice.selected().map(|t| t.remote);
        self.events.push_back(Event::TransportState { transport: transport.id, state, remote });
        let connected = self.stats.gauge(Gauge::Connected) as usize;
        match (was_connected, state == TransportState::Connected) {
            (false, true) => self.stats.set(Gauge::Connected, connected + 1),
            (true, false) => self.stats.set(Gauge::Connected, connected.saturating_sub(1)),
            _ => {}
        }
    }
}
