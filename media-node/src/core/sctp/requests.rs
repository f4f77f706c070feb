//! Our requests to reset streams, one at a time until each is done (RFC 6525 §5.1).
//!
//! `rtc::sctp` sends as many at once as streams are closed, takes "in progress" for done, and does not repeat
//! the ones that answer a peer's. A channel whose last messages are on their way when it is closed would stay
//! open at the peer for ever. So its requests wait here, leave under numbers of ours, and come back to it as
//! answered when the peer is done with them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::guard::{CHUNK_HEADER, COMMON_HEADER, OUTGOING_RESET, RECONFIG, seal, u16_at, u32_at};

/// Where the number of a packet's request is.
const NUMBER: usize = COMMON_HEADER + CHUNK_HEADER + 4;
/// The peer has not received everything that was sent before the reset.
const IN_PROGRESS: u32 = 6;

/// How long an answer may take.
const REPEAT_AFTER: Duration = Duration::from_secs(1);
/// How long a peer that is in progress is left alone.
const RETRY_AFTER: Duration = Duration::from_millis(200);

#[derive(Debug)]
struct Request {
    /// The association's number for it.
    inner: u32,
    packet: Bytes,
}

/// The first of the queue, when it has been sent.
#[derive(Debug)]
struct Sent {
    number: u32,
    again_at: Instant,
    is_in_progress: bool,
}

/// What waits, and the one that the peer has been sent.
#[derive(Debug, Default)]
pub(super) struct Requests {
    queue: VecDeque<Request>,
    sent: Option<Sent>,
    /// The number of the next; the association's first sequence number until then.
    next: Option<u32>,
}

impl Requests {
    /// Takes a packet of the association if it is a request. Such packets hold nothing else.
    pub fn take(&mut self, packet: &Bytes) -> bool {
        let parameter = packet.get(COMMON_HEADER + CHUNK_HEADER..).unwrap_or_default();
        if packet.get(COMMON_HEADER) != Some(&RECONFIG) || u16_at(parameter, 0) != Some(OUTGOING_RESET) {
            return false;
        }
        let Some(inner) = u32_at(parameter, 4) else { return false };
        self.next.get_or_insert(inner);
        // A repetition: when to repeat is decided here.
        if self.queue.iter().all(|request| request.inner != inner) {
            self.queue.push_back(Request { inner, packet: packet.clone() });
        }
        true
    }

    /// How many are not done.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// An answer: the association's number of the request that is done with it, if one is.
    pub fn answered(&mut self, number: u32, result: u32, now: Instant) -> Option<u32> {
        let sent = self.sent.as_mut().filter(|sent| sent.number == number)?;
        if result == IN_PROGRESS {
            sent.is_in_progress = true;
            sent.again_at = now + RETRY_AFTER;
            return None;
        }
        self.sent = None;
        self.queue.pop_front().map(|request| request.inner)
    }

    /// When [`Requests::poll`] has something next.
    pub fn timeout(&self) -> Option<Instant> {
        self.sent.as_ref().map(|sent| sent.again_at)
    }

    /// The packet that is to be sent now.
    pub fn poll(&mut self, now: Instant) -> Option<Bytes> {
        let request = self.queue.front()?;
        let number = match &self.sent {
            Some(sent) if now < sent.again_at => return None,
            Some(sent) if !sent.is_in_progress => sent.number,
            // The standard has a request that is in progress repeated as it was. To such a repetition
            // Chromium gives the same answer for ever, unless it is of 2026; any takes a new number.
            _ => {
                let next = self.next?;
                self.next = Some(next.wrapping_add(1));
                next
            }
        };
        self.sent = Some(Sent { number, again_at: now + REPEAT_AFTER, is_in_progress: false });
        let mut packet = request.packet.to_vec();
        packet[NUMBER..NUMBER + 4].copy_from_slice(&number.to_be_bytes());
        seal(&mut packet);
        Some(packet.into())
    }
}
