//! The limits and intervals of the core. Defaults are what production runs with; tests shorten them.

use std::time::Duration;

pub use super::congestion::Bounds;

/// Limits and intervals. Every one of them bounds something that a client could otherwise grow.
#[derive(Clone, Debug)]
pub struct Config {
    /// How long outgoing media may wait for more packets to the same subscriber, so that one system
    /// call sends them all. 1-2 ms; zero sends at once. The last packet of a picture ends the wait.
    pub batch_delay: Duration,
    /// Largest number of datagrams in one transmit (the kernel's limit for UDP GSO is 64 or 128).
    pub max_segments: usize,
    /// Without a valid connectivity check for this long, consent is gone (RFC 7675 §5.1: 30 s).
    pub consent_timeout: Duration,
    /// Validated tuples that one transport remembers; the oldest that is not selected goes first.
    pub max_tuples: usize,
    /// A tuple may move from one transport to another when the former has had no check on it for this long.
    pub tuple_steal_after: Duration,
    /// A transport whose client has sent its DTLS parameters and has no keys after this long has failed: its client found
    /// no way here, or has gone.
    pub connect_timeout: Duration,
    /// A DTLS handshake that takes longer has failed.
    pub handshake_timeout: Duration,
    /// First interval of flight repetition in a handshake; doubles up to a second.
    pub handshake_repeat: Duration,
    /// Datagrams that one handshake may consume before it has failed.
    pub max_handshake_datagrams: u32,
    /// Transport-wide congestion control feedback interval towards publishers: 50-100 ms.
    pub transport_cc_interval: Duration,
    /// Interval of sender and receiver reports.
    pub report_interval: Duration,
    /// Packets missing for this long are asked for; reordering shorter than that costs nothing.
    pub nack_delay: Duration,
    /// A missing packet is asked for again after this long.
    pub nack_repeat: Duration,
    /// How often a missing packet is asked for before it counts as lost.
    pub nack_attempts: u8,
    /// The same for sound, which is of no use once it is late.
    pub nack_attempts_audio: u8,
    /// Missing packets tracked per stream. A larger gap is not repaired but answered with a key frame request.
    pub max_missing: usize,
    /// The same for sound.
    pub max_missing_audio: usize,
    /// At most one key frame request per stream in this interval; later ones wait for its end.
    pub key_frame_interval: Duration,
    /// The same packet is not sent again to the same subscriber within this time.
    pub resend_interval: Duration,
    /// Resent packets per consumer and second.
    pub max_resends_per_second: u32,
    /// How much of a video stream can be resent, in time.
    pub history_duration: Duration,
    /// And in bytes, per stream.
    pub max_history_bytes: usize,
    /// SSRCs that one transport may send RTCP from.
    pub max_rtcp_senders: usize,
    /// A publisher is told this long after a layer of its is wanted again; what is wanted within it is told
    /// at once.
    pub layers_wanted_rise: Duration,
    /// And this long after nobody wants one any more: whoever comes back within it costs no key frame.
    pub layers_wanted_fall: Duration,
    /// Bounds of what the path to a subscriber is taken to carry, and what it is taken to carry before it is
    /// known, in bits per second.
    pub bandwidth: Bounds,
    /// An encoding without packets for this long is not a candidate for forwarding.
    pub encoding_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            batch_delay: Duration::from_micros(1500),
            max_segments: 64,
            consent_timeout: Duration::from_secs(30),
            max_tuples: 8,
            tuple_steal_after: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(60),
            handshake_timeout: Duration::from_secs(30),
            handshake_repeat: Duration::from_millis(100),
            max_handshake_datagrams: 48,
            transport_cc_interval: Duration::from_millis(80),
            report_interval: Duration::from_secs(1),
            nack_delay: Duration::from_millis(8),
            nack_repeat: Duration::from_millis(60),
            nack_attempts: 8,
            nack_attempts_audio: 5,
            max_missing: 192,
            max_missing_audio: 20,
            key_frame_interval: Duration::from_millis(500),
            resend_interval: Duration::from_millis(15),
            max_resends_per_second: 1000,
            history_duration: Duration::from_millis(1200),
            max_history_bytes: 1 << 20,
            max_rtcp_senders: 32,
            layers_wanted_rise: Duration::from_millis(50),
            layers_wanted_fall: Duration::from_secs(2),
            bandwidth: Bounds { initial: 600_000.0, least: 50_000.0, most: 50e6 },
            encoding_timeout: Duration::from_millis(700),
        }
    }
}
