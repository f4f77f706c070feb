//! A look at the chunks of a packet before the association sees them (RFC 9260 §3).
//!
//! The association believes what an authenticated peer says: it walks from one sequence number to another,
//! however far, remembers every request to reset streams, makes a stream of every number, and closes at
//! what it does not know. It also takes a chunk to be as long as what it has understood of it, and reads on
//! from there. Here such chunks are taken out first, and what is left is exactly as long as it says.

use std::collections::BTreeSet;
use std::time::Instant;

use bytes::Bytes;

use super::requests::Requests;
use crate::core::stats::Drop;

pub(super) const COMMON_HEADER: usize = 12;
pub(super) const CHUNK_HEADER: usize = 4;

const DATA: u8 = 0;
const INIT: u8 = 1;
const SACK: u8 = 3;
const HEARTBEAT: u8 = 4;
const ABORT: u8 = 6;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const COOKIE_ECHO: u8 = 10;
const SHUTDOWN_COMPLETE: u8 = 14;
pub(super) const RECONFIG: u8 = 130;
const FORWARD_TSN: u8 = 192;

const INIT_LENGTH: usize = 20;
const HEARTBEAT_INFO: u16 = 1;
const SUPPORTED_EXTENSIONS: u16 = 0x8008;
const FORWARD_TSN_SUPPORTED: u16 = 0xc000;
pub(super) const OUTGOING_RESET: u16 = 13;
const RECONFIG_RESPONSE: u16 = 16;

/// How far ahead of what we have acknowledged a sequence number may be. A window full of messages of a few
/// bytes each is less.
const WINDOW: u32 = 8192;
/// Streams that data may come on without a data producer for them.
const MAX_STRANGERS: usize = 64;
/// Requests to reset streams that may wait for data. The standard allows one (RFC 6525 §5.1.1).
const MAX_RESETS: usize = 2;

/// Requests of ours that the peer may leave unanswered: the association keeps each.
const MAX_REQUESTS: usize = 2 * super::MAX_STREAMS as usize;

/// What a packet was found to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// DATA chunks in it.
    pub data: usize,
    /// Without the chunks that were taken out, if any were.
    pub rewritten: Option<Vec<u8>>,
}

/// What is remembered from packet to packet.
#[derive(Debug)]
pub(super) struct Guard {
    /// The last sequence number that we have acknowledged.
    acknowledged: u32,
    /// The number that the peer's next reset request has.
    next_reset: u32,
    /// Last sequence numbers before resets that wait for them.
    resets: Vec<u32>,
    /// Our own.
    pub requests: Requests,
    strangers: BTreeSet<u16>,
    max_streams: u16,
}

/// A packet that is an INIT and nothing else (RFC 9260 §3.3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Init {
    pub tag: u32,
    pub initial_tsn: u32,
    /// The same without the parameters that do not matter.
    pub packet: Vec<u8>,
}

impl Init {
    /// `None` if the packet is something else, or nothing sound.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let chunk = packet.get(COMMON_HEADER..)?;
        let length = length_at(chunk, 2)?;
        if chunk[0] != INIT || length < INIT_LENGTH || length.next_multiple_of(4) != chunk.len() {
            return None;
        }
        let checksum: [u8; 4] = *packet[8..].first_chunk()?;
        let mut whole = packet.to_vec();
        seal(&mut whole);
        if whole[8..COMMON_HEADER] != checksum {
            return None;
        }
        let mut parameters = &chunk[INIT_LENGTH..length];
        let mut gives_up = false;
        while !parameters.is_empty() {
            let length = length_at(parameters, 2)?;
            let value = parameters.get(CHUNK_HEADER..length)?;
            gives_up |= match u16_at(parameters, 0)? {
                FORWARD_TSN_SUPPORTED => true,
                SUPPORTED_EXTENSIONS => value.contains(&FORWARD_TSN),
                _ => false,
            };
            parameters = parameters.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        // What both ends know, in the one form that the association looks for.
        let mut plain = packet[..COMMON_HEADER + INIT_LENGTH].to_vec();
        plain.extend_from_slice(&SUPPORTED_EXTENSIONS.to_be_bytes());
        plain.extend_from_slice(&[0, 6, RECONFIG, if gives_up { FORWARD_TSN } else { RECONFIG }, 0, 0]);
        plain[COMMON_HEADER + 1..COMMON_HEADER + CHUNK_HEADER].copy_from_slice(&[0, 0, INIT_LENGTH as u8 + 6]);
        seal(&mut plain);
        Some(Self { tag: u32_at(chunk, 4)?, initial_tsn: u32_at(chunk, 16)?, packet: plain })
    }
}

/// Whether a packet begins with an INIT.
pub(super) fn is_init(packet: &[u8]) -> bool {
    packet.get(COMMON_HEADER) == Some(&INIT)
}

impl Guard {
    /// For a peer whose first sequence number is this.
    pub fn new(initial_tsn: u32, max_streams: u16) -> Self {
        Self {
            acknowledged: initial_tsn.wrapping_sub(1),
            next_reset: initial_tsn,
            resets: Vec::new(),
            requests: Requests::default(),
            strangers: BTreeSet::new(),
            max_streams,
        }
    }

    /// Looks at a packet of ours for what it acknowledges, which comes alone. Whether it is to be sent as it is.
    pub fn sent(&mut self, packet: &Bytes) -> bool {
        if let Some(&[SACK, ..]) = packet.get(COMMON_HEADER..) {
            self.acknowledged = u32_at(packet, COMMON_HEADER + CHUNK_HEADER).unwrap_or(self.acknowledged);
        }
        !self.requests.take(packet)
    }

    /// Whether the peer has left more unanswered than any does.
    pub fn is_ignored(&self) -> bool {
        self.requests.len() > MAX_REQUESTS
    }

    /// Judges a packet. `is_known` says whether a data producer is bound to a stream.
    ///
    /// # Errors
    ///
    /// Why nothing of it may be looked at.
    pub fn judge(&mut self, packet: &[u8], is_known: impl Fn(u16) -> bool, now: Instant) -> Result<Verdict, Drop> {
        let mut kept = packet.get(..COMMON_HEADER).ok_or(Drop::MalformedSctp)?.to_vec();
        let mut rest = &packet[COMMON_HEADER..];
        let mut data = 0;
        let mut seen = BTreeSet::new();
        while !rest.is_empty() {
            let length = length_at(rest, 2).ok_or(Drop::MalformedSctp)?;
            if length < CHUNK_HEADER {
                return Err(Drop::MalformedSctp);
            }
            let padded = rest.get(..length.next_multiple_of(4)).ok_or(Drop::MalformedSctp)?;
            let (kind, body) = (padded[0], &padded[CHUNK_HEADER..length]);
            let mut reconfig = None;
            let keeps = match kind {
                DATA => self.keeps_data(body, &is_known),
                // Of these nobody sends two in a packet, and each costs a walk through what is there.
                _ if !seen.insert(kind) => false,
                SACK => is_sound_sack(body),
                FORWARD_TSN => body.len() % 4 == 0 && u32_at(body, 0).is_some_and(|tsn| self.is_near(tsn)),
                RECONFIG => {
                    reconfig = self.reconfig(body, now);
                    reconfig.is_some()
                }
                HEARTBEAT => u16_at(body, 0) == Some(HEARTBEAT_INFO) && length_at(body, 2) == Some(body.len()),
                SHUTDOWN => body.len() == 4,
                SHUTDOWN_ACK | SHUTDOWN_COMPLETE => body.is_empty(),
                ABORT | COOKIE_ECHO => true,
                // What only one that connects gets, reports of errors, and what we have not agreed to.
                _ => false,
            };
            match kind {
                _ if !keeps => {}
                // Its reasons change nothing, and the association would take their lengths at their word.
                ABORT => kept.extend_from_slice(&[ABORT, 0, 0, CHUNK_HEADER as u8]),
                _ => {
                    data += usize::from(kind == DATA);
                    kept.extend_from_slice(reconfig.as_deref().unwrap_or(padded));
                }
            }
            rest = &rest[padded.len()..];
        }
        if kept.len() == COMMON_HEADER {
            return Err(Drop::SctpRefused);
        }
        let rewritten = (kept != packet).then(|| {
            seal(&mut kept);
            kept
        });
        Ok(Verdict { data, rewritten })
    }

    fn is_near(&self, tsn: u32) -> bool {
        tsn.wrapping_sub(self.acknowledged) <= WINDOW || self.acknowledged.wrapping_sub(tsn) <= WINDOW
    }

    fn keeps_data(&mut self, body: &[u8], is_known: impl Fn(u16) -> bool) -> bool {
        let (Some(tsn), Some(stream)) = (u32_at(body, 0), u16_at(body, 4)) else { return false };
        // Data without data would cost memory and no window (RFC 9260 §3.3.1 forbids it).
        if body.len() <= 12 || stream >= self.max_streams || !self.is_near(tsn) {
            return false;
        }
        if is_known(stream) || self.strangers.contains(&stream) {
            return true;
        }
        self.strangers.len() < MAX_STRANGERS && self.strangers.insert(stream)
    }

    /// The chunk as the association may see it, if anything of it.
    fn reconfig(&mut self, body: &[u8], now: Instant) -> Option<Vec<u8>> {
        let first = length_at(body, 2)?;
        let second = body.get(first.next_multiple_of(4)..).filter(|second| !second.is_empty());
        let is_sound = match second {
            None => first <= body.len(),
            // Two make sense together only where the first is a response.
            Some(second) => {
                let length = length_at(second, 2).unwrap_or(0);
                u16_at(body, 0) == Some(RECONFIG_RESPONSE)
                    && (length..=length.next_multiple_of(4)).contains(&second.len())
            }
        };
        let mut chunk = vec![RECONFIG, 0, 0, 0];
        for parameter in [body.get(..first), second].into_iter().flatten().filter(|_| is_sound) {
            if let Some(parameter) = self.parameter(parameter, now) {
                chunk.resize(chunk.len().next_multiple_of(4), 0);
                chunk.extend_from_slice(&parameter);
            }
        }
        let length = u16::try_from(chunk.len()).ok().filter(|_| chunk.len() > CHUNK_HEADER)?;
        chunk[2..CHUNK_HEADER].copy_from_slice(&length.to_be_bytes());
        chunk.resize(chunk.len().next_multiple_of(4), 0);
        Some(chunk)
    }

    fn parameter(&mut self, parameter: &[u8], now: Instant) -> Option<Vec<u8>> {
        match u16_at(parameter, 0)? {
            RECONFIG_RESPONSE if length_at(parameter, 2) == Some(12) => {
                let (number, result) = (u32_at(parameter, 4)?, u32_at(parameter, 8)?);
                let number = self.requests.answered(number, result, now)?;
                let mut parameter = parameter.to_vec();
                parameter[4..8].copy_from_slice(&number.to_be_bytes());
                Some(parameter)
            }
            OUTGOING_RESET if length_at(parameter, 2).is_some_and(|length| length >= 16 && length % 2 == 0) => {
                self.keeps_reset(parameter).then(|| parameter.to_vec())
            }
            _ => None,
        }
    }

    fn keeps_reset(&mut self, parameter: &[u8]) -> bool {
        let (Some(number), Some(last_tsn)) = (u32_at(parameter, 4), u32_at(parameter, 12)) else { return false };
        let acknowledged = self.acknowledged;
        self.resets.retain(|tsn| tsn.wrapping_sub(acknowledged).cast_signed() > 0);
        if !self.is_near(last_tsn) {
            return false;
        }
        if number == self.next_reset.wrapping_sub(1) {
            return true;
        }
        if number != self.next_reset || self.resets.len() == MAX_RESETS {
            return false;
        }
        self.next_reset = number.wrapping_add(1);
        self.resets.push(last_tsn);
        true
    }
}

/// Gap blocks in order: overlapping ones would have the same ground walked again and again.
fn is_sound_sack(body: &[u8]) -> bool {
    let (Some(blocks), Some(duplicates)) = (u16_at(body, 8), u16_at(body, 10)) else { return false };
    if body.len() != 12 + 4 * (usize::from(blocks) + usize::from(duplicates)) {
        return false;
    }
    let Some(blocks) = body.get(12..).and_then(|rest| rest.get(..usize::from(blocks) * 4)) else { return false };
    let mut last = 0;
    blocks.chunks_exact(4).all(|block| {
        let (start, end) = (u16_at(block, 0).unwrap_or(0), u16_at(block, 2).unwrap_or(0));
        let sound = start > last && end >= start;
        last = end;
        sound
    })
}

/// Writes the checksum of a packet.
pub(super) fn seal(packet: &mut [u8]) {
    packet[8..COMMON_HEADER].fill(0);
    let checksum = crc32c::crc32c(packet);
    packet[8..COMMON_HEADER].copy_from_slice(&checksum.to_le_bytes());
}

fn length_at(bytes: &[u8], at: usize) -> Option<usize> {
    u16_at(bytes, at).map(usize::from)
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}
