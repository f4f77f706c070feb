//! A stream that a client receives: which packets came, when, and which are missing.

use std::time::{Duration, Instant};

use super::rtcp::Block;

/// What the signalling says of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Number in the load of the track whose packets are to come; none of who is off the stage.
    pub track: Option<u32>,
    /// SSRC of the media.
    pub ssrc: u32,
    /// SSRC of its repairs.
    pub rtx: Option<u32>,
    /// Id of the transport-cc header extension, 0 for none.
    pub transport_cc: u8,
    /// Whether missing packets are asked for.
    pub nack: bool,
}

/// Sequence numbers that are told apart: a power of two.
const WINDOW: u64 = 2048;
/// A missing packet is asked for after this time, again after [`AGAIN`], and so often.
const PATIENCE: Duration = Duration::from_millis(10);
const AGAIN: Duration = Duration::from_millis(60);
const ATTEMPTS: u8 = 10;
/// More than this is not asked for: a key frame would be.
const MAX_MISSING: usize = 200;

struct Missing {
    index: u64,
    due: Instant,
    attempts: u8,
}

/// A stream being received.
pub struct Stream {
    /// What was signalled.
    pub expected: Expected,
    highest: Option<u64>,
    rtx_highest: Option<u64>,
    /// One bit for each index of the window.
    seen: Box<[u64; (WINDOW / 64) as usize]>,
    missing: Vec<Missing>,
    received: u64,
    reported: (u64, u64),
    last_report: Option<(u32, Instant)>,
}

/// The full index of a sequence number near `highest` (RFC 3711 §3.3.1).
fn extend(highest: Option<u64>, sequence: u16) -> u64 {
    let Some(highest) = highest else { return u64::from(sequence) };
    let distance = sequence.wrapping_sub(highest as u16) as i16;
    highest.saturating_add_signed(i64::from(distance))
}

impl Stream {
    /// Nothing has come yet.
    pub fn new(expected: Expected) -> Self {
        Self {
            expected,
            highest: None,
            rtx_highest: None,
            seen: Box::new([0; (WINDOW / 64) as usize]),
            missing: Vec::new(),
            received: 0,
            reported: (0, 0),
            last_report: None,
        }
    }

    /// SRTP index of a packet of the stream or of its repairs.
    pub fn index(&self, sequence: u16, rtx: bool) -> u64 {
        extend(if rtx { self.rtx_highest } else { self.highest }, sequence)
    }

    /// An authentic repair came, whatever it repairs.
    pub fn repair(&mut self, index: u64) {
        self.rtx_highest = self.rtx_highest.max(Some(index));
    }

    /// An authentic packet of the stream, or what a repair brought back. Whether it is the first of its index.
    pub fn receive(&mut self, index: u64, now: Instant) -> bool {
        if let Some(highest) = self.highest {
            if index > highest {
                let gap = index - highest - 1;
                for skipped in highest + 1..=highest + gap.min(WINDOW) {
                    self.clear(skipped);
                    if self.expected.nack && gap <= MAX_MISSING as u64 && self.missing.len() < MAX_MISSING {
                        self.missing.push(Missing { index: skipped, due: now + PATIENCE, attempts: 0 });
                    }
                }
                self.clear(index);
                self.highest = Some(index);
            } else if index + WINDOW <= highest {
                return false;
            }
        } else {
            self.highest = Some(index);
        }
        let (word, bit) = ((index % WINDOW / 64) as usize, 1 << (index % 64));
        let new = self.seen[word] & bit == 0;
        self.seen[word] |= bit;
        if new {
            self.received += 1;
            if !self.missing.is_empty() {
                self.missing.retain(|m| m.index != index);
            }
        }
        new
    }

    fn clear(&mut self, index: u64) {
        self.seen[(index % WINDOW / 64) as usize] &= !(1 << (index % 64));
    }

    /// When [`Self::ask`] is wanted.
    pub fn asks(&self) -> bool {
        !self.missing.is_empty()
    }

    /// Adds the sequence numbers that are to be asked for now.
    pub fn ask(&mut self, now: Instant, ask: &mut Vec<u16>) {
        self.missing.retain_mut(|missing| {
            if now < missing.due {
                return true;
            }
            missing.due = now + AGAIN;
            missing.attempts += 1;
            if missing.attempts <= ATTEMPTS {
                ask.push(missing.index as u16);
            }
            missing.attempts <= ATTEMPTS
        });
    }

    /// A sender report of the stream came.
    pub fn on_report(&mut self, ntp: u32, now: Instant) {
        self.last_report = Some((ntp, now));
    }

    /// A block for the next receiver report.
    pub fn block(&mut self, now: Instant) -> Option<Block> {
        let highest = self.highest?;
        let (before_highest, before_received) = std::mem::replace(&mut self.reported, (highest, self.received));
        let expected = if before_highest == 0 { self.received } else { highest - before_highest };
        let lost = expected.saturating_sub(self.received - before_received);
        let (last_report, at) = self.last_report.unwrap_or((0, now));
        Some(Block {
            ssrc: self.expected.ssrc,
            fraction_lost: (lost * 256).checked_div(expected).unwrap_or(0).min(255) as u8,
            highest: highest as u32,
            last_report,
            delay: ((now - at).as_micros() * 65_536 / 1_000_000) as u32,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Stream {
        Stream::new(Expected { track: Some(0), ssrc: 1, rtx: Some(2), transport_cc: 0, nack: true })
    }

    #[test]
    fn a_gap_is_asked_for_until_it_is_filled() {
        let (mut stream, now) = (stream(), crate::clock::now());
        let mut ask = Vec::new();
        assert!(stream.receive(65_534, now) && stream.receive(65_537, now));
        stream.ask(now, &mut ask);
        assert!(ask.is_empty());
        stream.ask(now + PATIENCE, &mut ask);
        assert_eq!(ask, [65_535, 0]);
        assert!(stream.receive(65_535, now) && !stream.receive(65_535, now));
        ask.clear();
        stream.ask(now + PATIENCE + AGAIN, &mut ask);
        assert_eq!(ask, [0]);
        for i in 2..20 {
            stream.ask(now + i * AGAIN, &mut ask);
        }
        assert_eq!((ask.len(), stream.asks()), (usize::from(ATTEMPTS) - 1, false));
    }

    #[test]
    fn sequence_numbers_go_on_across_the_wrap_and_duplicates_do_not_count() {
        let (mut stream, now) = (stream(), crate::clock::now());
        for i in 60_000..80_000u64 {
            assert_eq!(stream.index(i as u16, false), i);
            assert!(stream.receive(i, now));
            assert!(!stream.receive(i, now));
        }
        let block = stream.block(now).unwrap();
        assert_eq!((block.highest, block.fraction_lost), (79_999, 0));
        assert!(!stream.receive(79_999 - WINDOW, now));
        stream.receive(80_003, now);
        assert_eq!(stream.block(now).unwrap().fraction_lost, 192);
    }
}
