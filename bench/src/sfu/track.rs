//! A track that a client publishes: its packets, and its answers to what the server asks.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{
    rtcp,
    rtp::{OPUS, Outgoing, RTX, STAMP, Stamp, VP8},
    srtp::{Srtp, TAG},
    video::{Random, Video},
};

/// Packets kept for repairs: over a second of the largest stream.
const KEPT: usize = 512;
const SOUND: Duration = Duration::from_millis(20);
/// Bytes of sound: Opus at about 32 kbit/s.
const SOUND_BYTES: usize = 80;
const KEY_FRAMES: Duration = Duration::from_secs(10);
/// The VP8 payload descriptor and frame header (RFC 7741 §4.2, RFC 6386 §9.1) that servers look into.
const DESCRIPTOR: usize = 6;
const FRAME_HEADER: usize = 10;

/// How loud a voice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// Always the same.
    Steady,
    /// Never heard: an open microphone in a quiet room.
    Silent,
    /// Speaks all the time, and loudest for one second in so many, when it is its turn.
    Turns {
        /// Whose turn it is first.
        turn: u8,
        /// How many take turns.
        of: u8,
    },
}

impl Voice {
    /// Audio level (RFC 6464) in -dBov at a wall-clock time in nanoseconds.
    fn level(self, wall: u64) -> u8 {
        match self {
            Self::Steady => 30,
            Self::Silent => 127,
            Self::Turns { turn, of } if wall / 1_000_000_000 % u64::from(of) == u64::from(turn) => 20,
            Self::Turns { .. } => 40,
        }
    }
}

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Content {
    /// Opus, 50 packets a second.
    Sound(Voice),
    /// VP8.
    Pictures(Video),
    /// VP8 in simulcast, the lowest encoding first. Encodings rest until somebody wants them.
    Layers([Video; LAYERS]),
}

/// Encodings of simulcast.
pub const LAYERS: usize = 3;

/// What the signalling says of a track.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spec {
    /// Number of the track in the load; its SSRC follows from it. The encodings of simulcast are tracks of their own
    /// and have the numbers from here on.
    pub number: u32,
    /// What is sent.
    pub content: Content,
}

impl Spec {
    /// SSRC of the media.
    pub fn ssrc(self) -> u32 {
        0x1000_0000 + 2 * self.number
    }

    /// SSRC of the repairs; sound has none.
    pub fn rtx_ssrc(self) -> Option<u32> {
        self.is_video().then_some(self.ssrc() + 1)
    }

    /// `video` or `audio`.
    pub fn kind(self) -> &'static str {
        if self.is_video() { "video" } else { "audio" }
    }

    /// Media section.
    pub fn mid(self) -> &'static str {
        if self.is_video() { "1" } else { "0" }
    }

    /// Whether it has pictures.
    pub fn is_video(self) -> bool {
        !matches!(self.content, Content::Sound(_))
    }

    /// What is sent under an SSRC of its own: the encodings of simulcast, otherwise the track itself.
    pub fn encodings(self) -> Vec<Self> {
        match self.content {
            Content::Sound(_) | Content::Pictures(_) => vec![self],
            Content::Layers(layers) => {
                let of = |(number, video)| Self { number, content: Content::Pictures(video) };
                (self.number..).zip(layers).map(of).collect()
            }
        }
    }
}

struct Sent {
    index: u64,
    /// As it was before sealing, and where its payload begins.
    plain: Vec<u8>,
    payload: usize,
    sealed: Vec<u8>,
}

/// A track being published.
pub struct Track {
    /// What was signalled.
    pub spec: Spec,
    index: u64,
    rtx_index: u64,
    timestamp: u32,
    picture: u16,
    random: Random,
    next: Instant,
    /// When the picture being sent was due.
    begun: Instant,
    key_wanted: bool,
    next_key: Instant,
    last_key: Instant,
    next_report: Instant,
    octets: u32,
    kept: VecDeque<Sent>,
    /// Payload sizes of the picture's packets that are yet to be sent.
    queue: VecDeque<usize>,
    key: bool,
    first: bool,
    /// Whether anybody wants it. What nobody wants rests.
    wanted: bool,
    /// It was asked to send, had nothing to, and is not to be asked again until it wakes.
    asleep: bool,
    /// Spreads a picture's packets over time, as a pacer does, instead of sending them at once.
    pub spacing: Duration,
}

/// What the track needs of its client to send.
pub struct Sender<'a> {
    /// Keys.
    pub srtp: &'a mut Srtp,
    /// Transport-wide sequence number of the next packet.
    pub transport_cc: &'a mut u16,
    /// Where datagrams go.
    pub out: &'a mut dyn FnMut(&[u8]),
    /// Wall-clock time in nanoseconds.
    pub wall: u64,
}

impl Track {
    /// First packet soon after `now`; tracks do not beat in time.
    pub fn new(spec: Spec, spacing: Duration, now: Instant) -> Self {
        let mut random = Random(u64::from(spec.number) + 1);
        let phase = Duration::from_micros(random.bits() % 33_000);
        Self {
            spec,
            index: 1000,
            rtx_index: 1,
            timestamp: spec.number * 1000,
            picture: 1,
            random,
            next: now + phase,
            begun: now + phase,
            key_wanted: true,
            next_key: now + KEY_FRAMES,
            last_key: now,
            next_report: now + phase + Duration::from_millis(100),
            octets: 0,
            kept: VecDeque::with_capacity(KEPT),
            queue: VecDeque::new(),
            key: false,
            first: true,
            wanted: true,
            asleep: false,
            spacing,
        }
    }

    /// Whether it is wanted from now on. Returns whether it wakes, and has to be asked to send at once.
    pub fn want(&mut self, wanted: bool, now: Instant) -> bool {
        if wanted && !self.wanted {
            // An encoder that begins again begins with a key frame.
            self.key_wanted = true;
            self.queue.clear();
            (self.next, self.begun) = (now, now);
        }
        self.wanted = wanted;
        wanted && std::mem::take(&mut self.asleep)
    }

    /// Falls asleep unless it is wanted. Returns whether it did.
    pub fn rests(&mut self) -> bool {
        self.asleep |= !self.wanted;
        self.asleep
    }

    /// When [`Self::send`] is wanted.
    pub fn due(&self) -> Instant {
        self.next
    }

    /// What is due: sound, or a picture, or with spacing one packet of it. Returns the packets' number.
    ///
    /// # Errors
    /// When sealing fails.
    pub fn send(&mut self, now: Instant, sender: &mut Sender<'_>) -> Result<usize> {
        let mut sent = 0;
        match self.spec.content {
            Content::Sound(_) => {
                self.packet(SOUND_BYTES, true, sender)?;
                self.timestamp = self.timestamp.wrapping_add(960);
                self.next += SOUND;
                sent += 1;
            }
            // Encodings are sent each by a track of its own.
            Content::Layers([video, ..]) | Content::Pictures(video) => {
                if self.queue.is_empty() {
                    self.begin_picture(video, now);
                }
                let frame = Duration::from_secs_f64(1.0 / video.rate());
                let spacing = self.spacing.min(frame / (self.queue.len() as u32 + 1));
                while let Some(size) = self.queue.pop_front() {
                    let last = self.queue.is_empty();
                    self.packet(size, last, sender)?;
                    self.first = false;
                    sent += 1;
                    if !last && !spacing.is_zero() {
                        self.next += spacing;
                        return Ok(sent);
                    }
                }
                self.begun += frame;
                self.next = self.begun;
            }
        }
        // A generator that fell behind does not catch up with a burst.
        if now > self.next + SOUND {
            self.next = now;
            self.begun = now;
        }
        Ok(sent)
    }

    fn begin_picture(&mut self, video: Video, now: Instant) {
        self.key = std::mem::take(&mut self.key_wanted) || now >= self.next_key;
        if self.key {
            self.next_key = now + KEY_FRAMES;
            self.last_key = now;
        }
        let header = 12 + 4 + 12;
        let sizes = video.picture(self.key, header + TAG, &mut self.random);
        self.queue = sizes.into_iter().map(|size| size.max(DESCRIPTOR + FRAME_HEADER + STAMP)).collect();
        self.picture = (self.picture + 1) & 0x7fff;
        self.timestamp = self.timestamp.wrapping_add((90_000.0 / video.rate()) as u32);
        self.first = true;
    }

    fn packet(&mut self, size: usize, marker: bool, sender: &mut Sender<'_>) -> Result<()> {
        let mut plain = Vec::with_capacity(size + 64);
        let payload = self.header(self.spec.ssrc(), self.index as u16, false, marker, sender).write(&mut plain);
        if self.spec.is_video() {
            plain.push(if self.first { 0x90 } else { 0x80 });
            plain.push(0xe0);
            plain.extend_from_slice(&(0x8000 | self.picture).to_be_bytes());
            plain.extend_from_slice(&[self.picture as u8, 0x20]);
            // A 640x360 picture; the first bit says whether it depends on others.
            plain.extend_from_slice(&[u8::from(!self.key), 0, 0, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01]);
        }
        plain.resize(payload + size, 0xaa);
        Stamp { track: self.spec.number, at: sender.wall }.write(&mut plain);
        let mut sealed = plain.clone();
        sender.srtp.seal_rtp(&mut sealed, payload, self.spec.ssrc(), self.index)?;
        (sender.out)(&sealed);
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(Sent { index: self.index, plain, payload, sealed });
        self.index += 1;
        self.octets = self.octets.wrapping_add(size as u32);
        Ok(())
    }

    fn header(&self, ssrc: u32, sequence: u16, rtx: bool, marker: bool, sender: &mut Sender<'_>) -> Outgoing<'static> {
        let transport_cc = *sender.transport_cc;
        *sender.transport_cc = transport_cc.wrapping_add(1);
        let video = self.spec.is_video();
        Outgoing {
            payload_type: if rtx {
                RTX
            } else if video {
                VP8
            } else {
                OPUS
            },
            marker,
            sequence,
            timestamp: self.timestamp,
            ssrc,
            mid: self.spec.mid(),
            transport_cc,
            abs_send_time: ((u128::from(sender.wall) << 18) / 1_000_000_000) as u32 & 0x00ff_ffff,
            level: match self.spec.content {
                Content::Sound(voice) => Some(voice.level(sender.wall)),
                Content::Pictures(_) | Content::Layers(_) => None,
            },
        }
    }

    /// A sender report that is due.
    pub fn report(&mut self, now: Instant, wall: u64) -> Option<Vec<u8>> {
        if now < self.next_report {
            return None;
        }
        self.next_report = now + Duration::from_secs(1);
        let seconds = wall / 1_000_000_000 + 2_208_988_800;
        let ntp = (seconds << 32) | (((wall % 1_000_000_000) << 32) / 1_000_000_000);
        Some(rtcp::sender_report(self.spec.ssrc(), ntp, self.timestamp, self.index as u32, self.octets))
    }

    /// A key frame is wanted: at most one in half a second, as encoders do.
    pub fn want_key_frame(&mut self, now: Instant) {
        self.key_wanted |= now.saturating_duration_since(self.last_key) > Duration::from_millis(500);
    }

    /// Sends again what the server misses: by RTX, or as it was where there is none.
    ///
    /// # Errors
    /// When sealing fails.
    pub fn repair(&mut self, sequences: &[u16], sender: &mut Sender<'_>) -> Result<usize> {
        let mut repaired = 0;
        for &sequence in sequences {
            let Some(at) = self.kept.iter().rposition(|s| s.index as u16 == sequence) else { continue };
            repaired += 1;
            let Some(ssrc) = self.spec.rtx_ssrc() else {
                (sender.out)(&self.kept[at].sealed);
                continue;
            };
            let mut packet = Vec::with_capacity(self.kept[at].plain.len() + 2 + TAG);
            let marker = self.kept[at].plain[1] & 0x80 != 0;
            let header = self.header(ssrc, self.rtx_index as u16, true, marker, sender);
            let payload = header.write(&mut packet);
            let original = &self.kept[at];
            packet[4..8].copy_from_slice(&original.plain[4..8]);
            packet.extend_from_slice(&sequence.to_be_bytes());
            packet.extend_from_slice(&original.plain[original.payload..]);
            sender.srtp.seal_rtp(&mut packet, payload, ssrc, self.rtx_index)?;
            self.rtx_index += 1;
            (sender.out)(&packet);
        }
        Ok(repaired)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Video = Video::Camera { bitrate: 200_000.0, rate: 15.0 };

    #[test]
    fn encodings_of_simulcast_are_tracks_with_numbers_and_sources_of_their_own() {
        let spec = Spec { number: 4, content: Content::Layers([SMALL; LAYERS]) };
        let encodings = spec.encodings();
        assert_eq!(encodings.iter().map(|e| e.number).collect::<Vec<_>>(), [4, 5, 6]);
        assert_eq!(encodings.iter().map(|e| e.ssrc()).collect::<Vec<_>>(), [0x1000_0008, 0x1000_000a, 0x1000_000c]);
        assert!(encodings.iter().all(|e| e.content == Content::Pictures(SMALL) && e.mid() == spec.mid()));
        let sound = Spec { number: 7, content: Content::Sound(Voice::Steady) };
        assert_eq!(sound.encodings(), [sound]);
    }

    #[test]
    fn voices_take_turns_of_a_second() {
        let voice = |turn| Voice::Turns { turn, of: 3 };
        let levels = |second: u64| [0, 1, 2].map(|turn| voice(turn).level(second * 1_000_000_000 + 5));
        assert_eq!([levels(3), levels(4), levels(5)], [[20, 40, 40], [40, 20, 40], [40, 40, 20]]);
        assert_eq!([Voice::Steady.level(9), Voice::Silent.level(9)], [30, 127]);
    }

    #[test]
    fn what_nobody_wants_sleeps_once_and_wakes_once() {
        let now = crate::clock::now();
        let mut track = Track::new(Spec { number: 0, content: Content::Pictures(SMALL) }, Duration::ZERO, now);
        assert!(!track.rests());
        assert!(!track.want(false, now));
        assert!(track.rests());
        let later = now + KEY_FRAMES;
        assert!(track.want(true, later) && !track.want(true, later));
        assert!(!track.rests() && track.due() == later && track.key_wanted);
    }
}
