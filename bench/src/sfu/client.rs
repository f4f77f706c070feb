//! One client of the load, without its socket: a transport that publishes tracks or receives streams.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{
    handshake::{Credentials, Handshake, Identity},
    meter::Meter,
    rtcp::{self, Heard},
    rtp::{Header, Stamp},
    srtp::Srtp,
    stream::{Expected, Stream},
    track::{Content, LAYERS, Sender, Spec, Track},
};

/// Intervals of a browser's feedback.
const TRANSPORT_CC: Duration = Duration::from_millis(100);
const REPORTS: Duration = Duration::from_secs(1);
/// How often missing packets are looked for.
const NACKS: Duration = Duration::from_millis(10);

/// What a client is made of.
#[derive(Clone, Debug)]
pub struct ClientSpec {
    /// ICE credentials.
    pub credentials: Credentials,
    /// What it publishes.
    pub tracks: Vec<Spec>,
    /// Between packets of one picture.
    pub spacing: Duration,
    /// What it receives.
    pub streams: Vec<Expected>,
    /// Whether packets that come to it are counted as delivered; those of clients who come and go are not.
    pub counted: bool,
}

/// A client.
pub struct Client {
    handshake: Handshake,
    srtp: Option<Srtp>,
    /// What it publishes.
    pub tracks: Vec<Track>,
    pending: Vec<Spec>,
    spacing: Duration,
    streams: Vec<Stream>,
    /// Places of streams by SSRC, those of repairs too.
    places: HashMap<u32, usize>,
    counted: bool,
    transport_cc: u16,
    /// Arrivals since the last transport-wide feedback, in microseconds.
    arrivals: Vec<(u16, u64)>,
    feedback_count: u8,
    next_feedback: Instant,
    next_report: Instant,
    next_nack: Option<Instant>,
    /// Datagrams to be sent.
    pub out: VecDeque<Vec<u8>>,
}

/// The time, twice.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// To wait by.
    pub monotonic: Instant,
    /// For stamps, in nanoseconds.
    pub wall: u64,
}

impl Client {
    /// Begins its checks at `now`.
    pub fn new(identity: Identity, spec: ClientSpec, now: Instant) -> Self {
        let sources = |(at, expected): (usize, &Expected)| {
            [Some(expected.ssrc), expected.rtx].into_iter().flatten().map(move |ssrc| (ssrc, at))
        };
        let places = spec.streams.iter().enumerate().flat_map(sources).collect();
        Self {
            handshake: Handshake::new(identity, spec.credentials, now),
            srtp: None,
            tracks: Vec::new(),
            pending: spec.tracks,
            spacing: spec.spacing,
            streams: spec.streams.into_iter().map(Stream::new).collect(),
            places,
            counted: spec.counted,
            transport_cc: 0,
            arrivals: Vec::new(),
            feedback_count: 0,
            next_feedback: now,
            next_report: now,
            next_nack: None,
            out: VecDeque::new(),
        }
    }

    /// Whether it has keys.
    pub fn is_connected(&self) -> bool {
        self.srtp.is_some()
    }

    /// When [`Self::tick`] is wanted; tracks have their own time.
    pub fn due(&self) -> Instant {
        let mut due = self.handshake.due();
        if self.is_connected() {
            if !self.arrivals.is_empty() {
                due = due.min(self.next_feedback);
            }
            due = due.min(self.next_report).min(self.next_nack.unwrap_or(due));
        }
        due
    }

    /// A datagram came, at the wall-clock time `at`.
    pub fn receive(&mut self, bytes: &mut [u8], at: u64, now: Now, meter: &mut Meter) {
        match (bytes.first(), bytes.get(1)) {
            (Some(0..=3), _) => {
                let started = self.handshake.on_stun(bytes, now.monotonic, &mut self.out);
                meter.totals.failed += u64::from(started.is_err());
            }
            (Some(20..=63), _) => match self.handshake.on_dtls(bytes, now.monotonic, &mut self.out) {
                Ok(Some(srtp)) => self.connected(srtp, now, meter),
                // A repeated or a stray record: if it is more than that, there will be no keys.
                Ok(None) => {}
                Err(_) => meter.totals.failed += 1,
            },
            (Some(_), Some(192..=223)) => self.on_rtcp(bytes, now, meter),
            (Some(_), Some(_)) => self.on_rtp(bytes, at, now, meter),
            _ => {}
        }
    }

    fn connected(&mut self, srtp: Srtp, now: Now, meter: &mut Meter) {
        self.srtp = Some(srtp);
        self.next_report = now.monotonic + REPORTS;
        meter.totals.connected += 1;
        let spacing = self.spacing;
        for spec in self.pending.drain(..) {
            for encoding in spec.encodings() {
                let mut track = Track::new(encoding, spacing, now.monotonic);
                track.want(!matches!(spec.content, Content::Layers(_)), now.monotonic);
                self.tracks.push(track);
            }
        }
    }

    /// Encodings of the simulcast track with this number are wanted up to `highest`. Returns the places among
    /// [`Self::tracks`] of those that have to be asked to send.
    pub fn want_layers(&mut self, number: u32, highest: Option<u8>, now: Instant) -> Vec<usize> {
        let woken = |(at, track): (usize, &mut Track)| {
            let layer = track.spec.number.checked_sub(number).filter(|layer| *layer < LAYERS as u32)?;
            track.want(highest.is_some_and(|highest| layer <= u32::from(highest)), now).then_some(at)
        };
        self.tracks.iter_mut().enumerate().filter_map(woken).collect()
    }

    /// Whether tracks were started by the datagram that came last.
    pub fn publishes(&self) -> bool {
        !self.tracks.is_empty()
    }

    fn on_rtp(&mut self, bytes: &mut [u8], at: u64, now: Now, meter: &mut Meter) {
        let Some(srtp) = &mut self.srtp else { return };
        let Some(ssrc) = bytes.get(8..12).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]])) else { return };
        meter.totals.rtp_in += 1;
        meter.totals.bytes_in += bytes.len() as u64;
        let Some(stream) = self.places.get(&ssrc).and_then(|at| self.streams.get_mut(*at)) else {
            meter.totals.strange += 1;
            return;
        };
        let Some(header) = Header::parse(bytes, stream.expected.transport_cc) else { return };
        let rtx = stream.expected.rtx == Some(ssrc);
        let mut index = stream.index(header.sequence, rtx);
        let Some(end) = srtp.open_rtp(bytes, header.payload, ssrc, index) else {
            meter.totals.refused += 1;
            return;
        };
        if let Some(sequence) = header.transport_cc {
            if self.arrivals.is_empty() {
                self.next_feedback = now.monotonic + TRANSPORT_CC;
            }
            self.arrivals.push((sequence, at / 1000));
        }
        let padding = if header.padded { usize::from(bytes[end - 1]) } else { 0 };
        let Some(mut payload) = bytes.get(header.payload..end.saturating_sub(padding)) else { return };
        if rtx {
            meter.totals.repairs_in += 1;
            stream.repair(index);
            let Some((original, rest)) = payload.split_first_chunk() else { return };
            index = stream.index(u16::from_be_bytes(*original), false);
            payload = rest;
        }
        if !stream.receive(index, now.monotonic) {
            return;
        }
        if stream.asks() && self.next_nack.is_none() {
            self.next_nack = Some(now.monotonic + NACKS);
        }
        if let Some(stamp) = Stamp::read(payload)
            && self.counted
            && meter.counts(stamp.at)
        {
            if stream.expected.track == Some(stamp.track) {
                meter.delivered += 1;
                meter.latency.add(at.saturating_sub(stamp.at) / 1000);
            } else {
                meter.totals.unexpected += 1;
            }
        }
    }

    fn on_rtcp(&mut self, bytes: &mut [u8], now: Now, meter: &mut Meter) {
        let Some(srtp) = &mut self.srtp else { return };
        let Some(end) = srtp.open_rtcp(bytes) else {
            meter.totals.refused += 1;
            return;
        };
        let (tracks, streams, out) = (&mut self.tracks, &mut self.streams, &mut self.out);
        let transport_cc = &mut self.transport_cc;
        rtcp::parse(&bytes[..end], |heard| match heard {
            Heard::Sender(ssrc, ntp) => {
                if let Some(stream) = streams.iter_mut().find(|s| s.expected.ssrc == ssrc) {
                    stream.on_report(ntp, now.monotonic);
                }
            }
            Heard::KeyFrame(ssrc) => {
                if let Some(track) = tracks.iter_mut().find(|t| t.spec.ssrc() == ssrc) {
                    meter.totals.key_frames += 1;
                    track.want_key_frame(now.monotonic);
                }
            }
            Heard::Nack(ssrc, missing) => {
                if let Some(track) = tracks.iter_mut().find(|t| t.spec.ssrc() == ssrc) {
                    let mut out = |datagram: &[u8]| out.push_back(datagram.to_vec());
                    let mut sender = Sender { srtp, transport_cc, out: &mut out, wall: now.wall };
                    meter.totals.nacked += missing.len() as u64;
                    if let Ok(repaired) = track.repair(&missing, &mut sender) {
                        meter.totals.repairs_out += repaired as u64;
                        meter.totals.rtp_out += repaired as u64;
                    }
                }
            }
        });
    }

    /// Sends what a track has to send. Returns when it wants to be asked again, unless it rests.
    ///
    /// # Errors
    /// When sealing fails.
    pub fn send(
        &mut self,
        track: usize,
        now: Now,
        out: &mut dyn FnMut(&[u8]),
        meter: &mut Meter,
    ) -> Result<Option<Instant>> {
        let (Some(track), Some(srtp)) = (self.tracks.get_mut(track), &mut self.srtp) else { return Ok(None) };
        if track.rests() {
            return Ok(None);
        }
        let mut sender = Sender { srtp, transport_cc: &mut self.transport_cc, out, wall: now.wall };
        let sent = track.send(now.monotonic, &mut sender)? as u64;
        meter.totals.rtp_out += sent;
        if meter.counts(now.wall) {
            meter.sent[track.spec.number as usize] += sent;
        }
        if let Some(mut report) = track.report(now.monotonic, now.wall) {
            sender.srtp.seal_rtcp(&mut report)?;
            (sender.out)(&report);
        }
        Ok(Some(track.due()))
    }

    /// Checks and feedback that are due.
    ///
    /// # Errors
    /// When a message cannot be made or sealed.
    pub fn tick(&mut self, now: Now, meter: &mut Meter) -> Result<()> {
        let at = now.monotonic;
        if at >= self.handshake.due() {
            self.handshake.tick(at, &mut self.out)?;
        }
        let Some(srtp) = &mut self.srtp else { return Ok(()) };
        let mut compounds = Vec::new();
        if at >= self.next_feedback && !self.arrivals.is_empty() {
            let media = self.streams.first().map_or(0, |s| s.expected.ssrc);
            compounds.extend(rtcp::transport_cc(1, media, self.feedback_count, &mut self.arrivals));
            self.feedback_count = self.feedback_count.wrapping_add(1);
            self.arrivals.clear();
        }
        if self.next_nack.is_some_and(|due| at >= due) {
            let (mut ask, mut left) = (Vec::new(), false);
            for stream in &mut self.streams {
                ask.clear();
                stream.ask(at, &mut ask);
                left |= stream.asks();
                if !ask.is_empty() {
                    meter.totals.nacks += ask.len() as u64;
                    compounds.push(rtcp::nack(1, stream.expected.ssrc, &ask));
                }
            }
            self.next_nack = left.then_some(at + NACKS);
        }
        if at >= self.next_report {
            self.next_report = at + REPORTS;
            let blocks: Vec<_> = self.streams.iter_mut().filter_map(|s| s.block(at)).collect();
            if !blocks.is_empty() {
                compounds.push(rtcp::receiver_reports(1, &blocks));
            }
        }
        for mut compound in compounds {
            srtp.seal_rtcp(&mut compound)?;
            self.out.push_back(compound);
        }
        Ok(())
    }
}
