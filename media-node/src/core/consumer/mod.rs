//! A subscription: which packets of a producer a client gets, and under which numbers.

mod admission;
mod padding;
mod resend;
mod sealing;

use std::time::Instant;

use super::codec::Picture;
use super::command::{Codec, ConsumerId, ConsumerSpec, ExtensionKind, Layers, MediaKind};
use super::config::Config;
use super::congestion::Micros;
use super::history::{History, Limits};
use super::layers::Selector;
use super::redundancy::Redundancy;
use super::rtp::{Header, Ids, Values};
use super::sequence::{SequenceMap, Shift};
use super::share::Share;
use super::slab::Key;
use super::srtp::IndexWindow;
use super::tally::Outflow;

pub(crate) use resend::Resends;

/// A packet of a producer, opened and understood once for all its subscribers.
pub(crate) struct Incoming<'a> {
    pub header: Header,
    pub values: Values<'a>,
    /// With padding, if any.
    pub payload: &'a [u8],
    pub index: u64,
    pub encoding: usize,
    pub router_payload_type: u8,
    pub codec: Codec,
    pub picture: Picture,
    pub redundancy: Redundancy,
}

/// Where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub out_index: u64,
    pub shift: Shift,
    /// The packet is not to be seen, but its number was kept for it: padding goes out in its place.
    pub fill: bool,
}

/// Pictures left out that are remembered, so that what comes late of them is told from what was never seen.
const SKIPPED: usize = 16;

/// Stamps of one transmission.
#[derive(Clone, Copy)]
pub(crate) struct Stamps {
    pub transport_cc: u16,
    /// 6.18 fixed point seconds.
    pub abs_send_time: u32,
    /// The same moment as congestion control counts it.
    pub micros: Micros,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    timestamp: u32,
    at: Instant,
    picture_id: u16,
    tl0_pic_idx: u8,
    key_idx: u8,
}

/// A subscription.
pub(crate) struct Consumer {
    pub id: ConsumerId,
    pub transport: Key,
    pub producer: Key,
    pub ssrc: u32,
    pub rtx: Option<(u32, u8)>,
    pub cname: String,
    pub ids: Ids,
    pub has_transport_cc: bool,
    /// Nothing is sent: the client paused it, or it is off stage.
    pub paused: bool,
    paused_by_client: bool,
    off_stage: bool,
    pub nack: bool,
    pub layers: Selector,
    /// How its share of the bandwidth went.
    pub share: Share,
    /// What the client was last told that it gets.
    pub told: Option<Layers>,
    pub packets: u32,
    pub octets: u32,
    pub resends: Resends,
    /// NTP middle bits and departure of the last sender report.
    pub last_report: Option<(u32, Instant)>,
    /// Packets at the last sender report.
    pub reported_packets: u32,
    /// What the subscriber reported last.
    pub feedback: Option<Feedback>,
    pub tally: Outflow,
    /// What the client said of its weight among others, 1 to 255.
    pub priority: u8,
    mid: Vec<u8>,
    payload_types: u128,
    renumbered: Box<[(u8, u8)]>,
    clock_rate: u32,
    map: SequenceMap,
    used: IndexWindow,
    /// SSRC that RTX packets were sent from, by this consumer or one that it continues.
    rtx_ssrc: Option<u32>,
    rtx_next: u64,
    rtx_used: IndexWindow,
    /// Sealed packets, for subscribers without RTX.
    verbatim: Option<History>,
    shift: Shift,
    last: Option<Sent>,
    /// Timestamps of the last pictures left out, and how many there were.
    skipped: [u32; SKIPPED],
    skips: usize,
}

/// How far the streams of a consumer got that is no more. Another one goes on from there: an SRTP index is
/// never used twice, and to the subscriber it is one stream.
pub(crate) struct Parked {
    pub ssrc: u32,
    pub rtx_ssrc: Option<u32>,
    next: u64,
    used: Option<u64>,
    rtx_next: u64,
    rtx_used: Option<u64>,
    packets: u32,
    octets: u32,
    last: Option<Sent>,
}

/// What the subscriber reports (RFC 3550 §6.4.2).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Feedback {
    /// Fraction of packets lost since the last report, in 256ths.
    pub fraction_lost: u8,
    /// Packets lost in all.
    pub lost: u32,
    /// Jitter in timestamp units.
    pub jitter: u32,
    /// Round trip in microseconds; `None` until the subscriber has had a sender report.
    pub round_trip_micros: Option<u32>,
}

impl Consumer {
    /// `seed`: for the initial sequence numbers.
    pub fn new(
        id: ConsumerId,
        transport: Key,
        (producer, encodings): (Key, usize),
        kind: MediaKind,
        spec: ConsumerSpec,
        seed: u32,
        config: &Config,
    ) -> Self {
        let verbatim = (spec.nack && spec.rtx.is_none()).then(|| {
            let (packets, initial_bytes, max_bytes) = match kind {
                MediaKind::Audio => (64, 8 * 1024, 16 * 1024),
                MediaKind::Video => (1024, 64 * 1024, config.max_history_bytes / 2),
            };
            History::new(Limits { packets, initial_bytes, max_bytes, duration: config.history_duration })
        });
        Self {
            id,
            transport,
            producer,
            ssrc: spec.ssrc,
            rtx: spec.rtx,
            cname: spec.cname,
            ids: Ids::new(&spec.header_extensions),
            has_transport_cc: spec.header_extensions.iter().any(|e| e.kind == ExtensionKind::TransportCc),
            paused: spec.paused,
            paused_by_client: spec.paused,
            off_stage: false,
            nack: spec.nack,
            layers: Selector::new(encodings),
            share: Share::default(),
            told: None,
            packets: 0,
            octets: 0,
            resends: Resends::default(),
            last_report: None,
            reported_packets: 0,
            feedback: None,
            tally: Outflow::default(),
            priority: 1,
            mid: spec.mid.into_bytes(),
            payload_types: spec.payload_types.iter().fold(0, |set, pt| set | (1 << (pt & 0x7f))),
            renumbered: spec.renumbered.into(),
            clock_rate: spec.clock_rate,
            map: SequenceMap::new(seed as u16),
            used: IndexWindow::default(),
            rtx_ssrc: spec.rtx.map(|(ssrc, _)| ssrc),
            rtx_next: u64::from((seed >> 16) as u16 & 0x7fff),
            rtx_used: IndexWindow::default(),
            verbatim,
            shift: Shift::default(),
            last: None,
            skipped: [0; SKIPPED],
            skips: 0,
        }
    }

    /// What another consumer needs to go on with this one's streams.
    pub fn park(self) -> Parked {
        Parked {
            ssrc: self.ssrc,
            rtx_ssrc: self.rtx_ssrc,
            next: self.map.next_out(),
            used: self.used.highest(),
            rtx_next: self.rtx_next,
            rtx_used: self.rtx_used.highest(),
            packets: self.packets,
            octets: self.octets,
            last: self.last,
        }
    }

    /// Goes on where another consumer stopped.
    pub fn go_on(&mut self, parked: Parked) {
        let window = |highest: Option<u64>| highest.map_or_else(IndexWindow::default, IndexWindow::resume_after);
        self.map = SequenceMap::starting_at(parked.next);
        (self.used, self.rtx_used) = (window(parked.used), window(parked.rtx_used));
        self.rtx_next = parked.rtx_next;
        (self.packets, self.octets, self.reported_packets) = (parked.packets, parked.octets, parked.packets);
        self.last = parked.last;
        self.rtx_ssrc = self.rtx_ssrc.or(parked.rtx_ssrc);
        // No encoding of this producer is the one sent last: timestamps are to be aligned.
        self.shift.encoding = usize::MAX;
    }

    /// An encoding goes on in numbers that have nothing to do with those before.
    pub fn begin_anew(&mut self, encoding: usize) {
        if self.shift.encoding == encoding {
            self.shift.encoding = usize::MAX;
            self.restart();
        }
    }

    /// The part of a payload that the subscriber decodes: where it begins, and its payload type in the router. That is all
    /// of it, but of redundant audio the newest frame alone for one who knows no such thing. `None` if it decodes neither.
    fn part(&self, packet: &Incoming<'_>) -> Option<(usize, u8)> {
        if self.decodes(packet.router_payload_type) {
            return Some((0, packet.router_payload_type));
        }
        match packet.redundancy {
            Redundancy::Blocks { red, payload_type } if self.decodes(payload_type) => Some((red.primary, payload_type)),
            _ => None,
        }
    }

    fn decodes(&self, router_payload_type: u8) -> bool {
        self.payload_types & (1 << (router_payload_type & 0x7f)) != 0
    }

    fn payload_type(&self, router: u8) -> u8 {
        self.renumbered.iter().find(|(from, _)| *from == router).map_or(router, |(_, to)| *to)
    }

    /// The next packet that a decoder can start at begins anew; nothing is sent before.
    pub fn restart(&mut self) {
        self.layers.restart();
    }

    /// The client pauses or resumes it. Returns whether that changed anything.
    pub fn pause(&mut self, paused: bool) -> bool {
        let changes = std::mem::replace(&mut self.paused_by_client, paused) != paused;
        if changes {
            self.hold();
        }
        changes
    }

    /// Last-N holds it back, or does so no more. Returns whether that changed anything.
    pub fn set_off_stage(&mut self, off_stage: bool) -> bool {
        let changes = std::mem::replace(&mut self.off_stage, off_stage) != off_stage;
        if changes {
            self.hold();
        }
        changes
    }

    pub fn is_paused_by_client(&self) -> bool {
        self.paused_by_client
    }

    fn hold(&mut self) {
        self.paused = self.paused_by_client || self.off_stage;
        self.restart();
    }

    /// What an answer takes, in microseconds; zero while that is not known.
    pub fn round_trip(&self) -> u32 {
        self.feedback.and_then(|feedback| feedback.round_trip_micros).unwrap_or_default()
    }

    /// Added to the RTP timestamps of the current encoding.
    pub fn timestamp_shift(&self) -> u32 {
        self.shift.timestamp
    }
}
