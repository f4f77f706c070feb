//! A published track: its streams, what is missing of them, and what is kept for resending.

use std::time::{Duration, Instant};

use super::codec::{Dependency, Structure};
use super::command::{
    ExtensionKind, Layers, MediaKind, ProducerCodec, ProducerId, ProducerSpec, RoomId, ScalabilityMode,
};
use super::config::Config;
use super::history::{History, Limits};
use super::layers::Rates;
use super::nack::{Arrival, Missings};
use super::reception::{Received, Reception};
use super::rtp::{Ids, Values};
use super::score::Interval;
use super::slab::Key;
use super::stage::Level;
use super::tally::Inflow;
use super::wanted::Wanted;

/// A stream without packets for this long may go on under another SSRC, or far from where it was. While packets
/// come, whatever claims to be the same stream is refused without being opened.
const SILENCE: Duration = Duration::from_millis(100);

/// A published track.
pub(crate) struct Producer {
    pub id: ProducerId,
    pub room: RoomId,
    pub transport: Key,
    pub kind: MediaKind,
    pub mid: Option<String>,
    pub codecs: Vec<ProducerCodec>,
    pub ids: Ids,
    /// In the order of the encodings, lowest simulcast layer first.
    pub streams: Vec<Stream>,
    pub consumers: Vec<Key>,
    pub wanted: Wanted,
    pub paused: bool,
    /// How loud it is, if it is sound that says so.
    pub level: Level,
    /// It is among the loudest, as far as the room limits them.
    pub heard: bool,
}

impl Producer {
    pub fn new(id: ProducerId, room: RoomId, transport: Key, spec: ProducerSpec, config: &Config) -> Self {
        let history = match spec.kind {
            MediaKind::Audio => {
                Limits { packets: 64, initial_bytes: 8 * 1024, max_bytes: 32 * 1024, duration: config.history_duration }
            }
            MediaKind::Video => Limits {
                packets: 1024,
                initial_bytes: 64 * 1024,
                max_bytes: config.max_history_bytes,
                duration: config.history_duration,
            },
        };
        let streams: Vec<Stream> = spec
            .encodings
            .into_iter()
            .map(|e| Stream {
                ssrc: e.ssrc,
                rtx_ssrc: e.rtx_ssrc,
                rid: e.rid,
                scalability: e.scalability,
                rates: Rates::default(),
                structure: None,
                reception: None,
                missings: Missings::new(spec.kind, config),
                history: History::new(history),
                sender_info: None,
                key_frames: KeyFrameRequests::default(),
                offset: 0,
                tally: Inflow::new(spec.kind),
            })
            .collect();
        let mut this = Self {
            id,
            room,
            transport,
            kind: spec.kind,
            mid: spec.mid,
            codecs: spec.codecs,
            ids: Ids::new(&spec.header_extensions),
            streams,
            consumers: Vec::new(),
            wanted: Wanted::all(0),
            paused: spec.paused,
            level: Level::default(),
            heard: true,
        };
        this.wanted = Wanted::all(this.highest().spatial);
        this
    }

    pub fn codec(&self, payload_type: u8) -> Option<&ProducerCodec> {
        self.codecs.iter().find(|c| c.payload_type == payload_type)
    }

    /// The codec whose packets an RTX payload type repeats.
    pub fn rtx_codec(&self, rtx_payload_type: u8) -> Option<&ProducerCodec> {
        self.codecs.iter().find(|c| c.rtx_payload_type == Some(rtx_payload_type))
    }

    pub fn answers_nack(&self) -> bool {
        self.codecs.iter().any(|c| c.nack)
    }

    pub fn answers_pli(&self) -> bool {
        self.codecs.iter().any(|c| c.pli)
    }

    /// Whether a packet of an SSRC that was not signalled belongs here: the encoding, and whether it is
    /// the RTX stream of it (RFC 8852 §3, RFC 9143 §9.2). That may be a stream whose SSRC is known and silent:
    /// publishers change theirs when it collides with another (RFC 3550 §8.2), and without saying so.
    pub fn claims(&self, payload_type: u8, values: &Values<'_>, now: Instant) -> Option<(usize, bool)> {
        let mid = values.text(ExtensionKind::Mid);
        if mid.is_none() || mid != self.mid.as_deref() {
            return None;
        }
        let rtx = self.rtx_codec(payload_type).is_some();
        if !rtx && self.codec(payload_type).is_none() {
            return None;
        }
        let rid = values.text(if rtx { ExtensionKind::RepairedRid } else { ExtensionKind::Rid });
        let at = self.streams.iter().position(|s| match (&s.rid, rid) {
            (Some(expected), Some(found)) => expected == found,
            // Without rids there is nothing to tell encodings apart by: there may be one only.
            (None, _) => self.streams.len() == 1,
            (Some(_), None) => false,
        })?;
        let stream = &self.streams[at];
        let free = if rtx { stream.rtx_ssrc.is_none() } else { stream.ssrc.is_none() || stream.is_silent(now) };
        free.then_some((at, rtx))
    }

    /// Whether spatial layers are encodings of their own.
    pub fn is_simulcast(&self) -> bool {
        self.streams.len() > 1
    }

    /// Whether there is a choice of layers.
    pub fn is_layered(&self) -> bool {
        self.is_simulcast() || self.highest() != Layers::LOWEST
    }

    /// The highest layers that the publisher has said it may send.
    pub fn highest(&self) -> Layers {
        let mode = |stream: &Stream| stream.scalability.highest();
        let temporal = self.streams.iter().map(|s| mode(s).temporal).max().unwrap_or(0);
        let spatial = match self.streams.as_slice() {
            [only] => mode(only).spatial,
            several => several.len().saturating_sub(1) as u8,
        };
        Layers { spatial, temporal }
    }

    /// What a subscriber to these layers costs now, in bits per second of RTP without SRTP and UDP: for
    /// simulcast the one encoding, for SVC all spatial layers up to the one that is named.
    pub fn bitrate(&self, layers: Layers, now: Instant) -> u64 {
        match self.streams.as_slice() {
            [only] => only.rates.bitrate(layers, now),
            several => {
                let stream = several.get(usize::from(layers.spatial)).or(several.last());
                stream.map_or(0, |s| s.rates.bitrate(Layers { spatial: u8::MAX, ..layers }, now))
            }
        }
    }

    /// The highest encoding up to `max` that is being received; `None` if none is.
    pub fn best_encoding(&self, max: usize, now: Instant, timeout: Duration) -> Option<usize> {
        let last = self.streams.len().checked_sub(1)?;
        (0..=max.min(last)).rev().find(|i| self.streams[*i].is_active(now, timeout))
    }
}

/// Wall clock and RTP clock of a publisher at one moment (RFC 3550 §6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SenderInfo {
    /// 32.32 fixed point seconds, the publisher's clock.
    pub ntp: u64,
    pub rtp: u32,
    /// When it arrived here.
    pub at: Instant,
}

/// One encoding of a producer.
pub(crate) struct Stream {
    pub ssrc: Option<u32>,
    pub rtx_ssrc: Option<u32>,
    pub rid: Option<String>,
    pub scalability: ScalabilityMode,
    /// What each layer carries.
    pub rates: Rates,
    /// Of the dependency descriptors.
    structure: Option<Box<Structure>>,
    pub reception: Option<Reception>,
    pub missings: Missings,
    pub history: History,
    pub sender_info: Option<SenderInfo>,
    pub key_frames: KeyFrameRequests,
    /// Added to SRTP indexes, so that packets of several SSRCs in turn have indexes in one order.
    pub offset: u64,
    pub tally: Inflow,
}

impl Stream {
    pub fn is_active(&self, now: Instant, timeout: Duration) -> bool {
        self.reception.as_ref().is_some_and(|r| now.saturating_duration_since(r.last_arrival) < timeout)
    }

    /// Whether it may go on elsewhere.
    pub fn is_silent(&self, now: Instant) -> bool {
        !self.is_active(now, SILENCE)
    }

    /// Goes on under another SSRC, which counts packets and time anew.
    pub fn change_ssrc(&mut self, ssrc: u32) {
        let highest = self.reception.take().map_or(self.offset, |reception| reception.highest());
        // The low 16 bits of an index stay the sequence number.
        self.offset = ((highest >> 16) + 1) << 16;
        (self.ssrc, self.rtx_ssrc) = (Some(ssrc), None);
        (self.sender_info, self.structure) = (None, None);
        self.missings.clear();
        self.tally.count_anew();
    }

    /// Reads a dependency descriptor; one that brings a new structure is the base of those that follow.
    pub fn learn(&mut self, descriptor: &[u8]) -> Option<Dependency> {
        let (dependency, structure) = Dependency::parse(descriptor, self.structure.as_deref())?;
        if let Some(structure) = structure {
            self.structure = Some(Box::new(structure));
        }
        Some(dependency)
    }

    /// Reads a dependency descriptor of a packet that came before.
    pub fn recall(&self, descriptor: &[u8]) -> Option<Dependency> {
        Dependency::parse(descriptor, self.structure.as_deref()).map(|(dependency, _)| dependency)
    }

    /// The extended sequence number that a repaired packet most likely had.
    pub fn index_of(&self, sequence: u16) -> Option<u64> {
        self.reception.as_ref()?.window.estimate(sequence)
    }

    /// Notes a packet; `None` if it has been received before (as itself or repaired).
    pub fn receive(&mut self, packet: &Received, now: Instant, config: &Config) -> Option<Arrival> {
        let highest = self.reception.as_ref().map(|r| r.highest());
        if self.reception.is_some() && !self.is_active(now, self.tally.inactive_after) {
            self.tally.score.reset();
        }
        let reception = self.reception.get_or_insert_with(|| Reception::new(packet, now));
        reception.window.check(packet.index).ok()?;
        reception.window.accept(packet.index);
        if reception.count(packet, now) {
            // The publisher's reports say nothing about its timestamps any more.
            self.sender_info = None;
        }
        let arrival = self.missings.arrived(packet.index, highest, now, config);
        self.tally.by_rtx += u64::from(packet.repaired);
        if arrival == Arrival::Recovered {
            self.tally.repaired += 1;
            // Without RTX what is sent again is told by nothing but its number.
            self.tally.resent += u64::from(!packet.repaired);
        }
        Some(arrival)
    }

    /// Closes an interval of the statistics. Returns what became of its packets, unless none is being sent.
    pub fn account(&mut self, now: Instant) -> Option<Interval> {
        if !self.is_active(now, self.tally.inactive_after) {
            return None;
        }
        let reception = self.reception.as_ref()?;
        Some(self.tally.close(reception.expected(), reception.received))
    }

    /// How well it gets through, 0 to 10.
    pub fn score(&self, now: Instant) -> u8 {
        if self.is_active(now, self.tally.inactive_after) { self.tally.score.value() } else { 0 }
    }

    /// Packets that did not come by themselves, repaired ones included.
    pub fn lost(&self) -> u64 {
        self.reception.as_ref().map_or(0, |reception| reception.lost() + self.tally.by_rtx)
    }
}

/// Key frame requests for one stream: the first goes out at once, others wait, and all are satisfied by
/// one key frame.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct KeyFrameRequests {
    last: Option<Instant>,
    open: bool,
    attempts: u8,
}

impl KeyFrameRequests {
    /// A publisher that answers none of these is not asked again until somebody else wants one.
    const MAX_ATTEMPTS: u8 = 10;

    /// Somebody needs a key frame.
    pub fn want(&mut self) {
        if !self.open || self.attempts >= Self::MAX_ATTEMPTS {
            self.open = true;
            self.attempts = 0;
        }
    }

    /// A key frame begins.
    pub fn satisfied(&mut self) {
        self.open = false;
    }

    /// When a request is to be sent; in the past means now.
    pub fn due(&self, now: Instant, interval: Duration) -> Option<Instant> {
        (self.open && self.attempts < Self::MAX_ATTEMPTS).then(|| self.last.map_or(now, |last| last + interval))
    }

    /// A request is being sent.
    pub fn sent(&mut self, now: Instant) {
        self.last = Some(now);
        self.attempts += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::testing::origin;

    #[test]
    fn key_frames_are_asked_for_again_when_somebody_wants_one_after_the_last_attempt() {
        let interval = Duration::from_millis(500);
        let mut now = origin();
        let mut requests = KeyFrameRequests::default();
        for _ in 0..3 {
            requests.want();
            for _ in 0..KeyFrameRequests::MAX_ATTEMPTS {
                now += interval;
                assert!(requests.due(now, interval).is_some_and(|at| at <= now));
                requests.sent(now);
                // Asking while a request is out does not add to it.
                if requests.attempts < KeyFrameRequests::MAX_ATTEMPTS {
                    requests.want();
                }
            }
            assert_eq!(requests.due(now + interval, interval), None);
        }
        requests.want();
        requests.satisfied();
        assert_eq!(requests.due(now + interval, interval), None);
    }
}
