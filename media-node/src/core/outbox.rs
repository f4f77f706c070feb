//! What waits to be sent: answers of ICE and DTLS at once, media and RTCP in batches per client.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::bandwidth::micros_since;
use super::batch::Run;
use super::congestion::Micros;
use super::ice::{Protocol, Tuple};
use super::pool::Pool;
use super::slab::Key;
use super::stats::{Counter, Drop};
use super::{Core, transport::Transport};

/// Answers that wait at most; they are polled after every datagram, so more means that nobody polls.
const MAX_URGENT: usize = 4096;

/// One or more datagrams of one size (the last may be shorter) to one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit<'a> {
    /// How to send it.
    pub protocol: Protocol,
    /// Our address to send from: the one the client has checked.
    pub local: IpAddr,
    /// The client.
    pub remote: SocketAddr,
    /// Datagrams end to end.
    pub payload: &'a [u8],
    /// Bytes per datagram.
    pub segment_size: usize,
    /// Number of datagrams.
    pub packets: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    urgent: VecDeque<(Tuple, Vec<u8>)>,
    /// The payload of the transmit that was polled last.
    current: Vec<u8>,
    /// Transports with something in their batch.
    queued: VecDeque<Key>,
    flush_at: Option<Instant>,
    /// What batches are written into.
    pub pool: Pool,
}

impl Outbox {
    pub fn flush_at(&self) -> Option<Instant> {
        self.flush_at
    }

    pub fn urgent(&mut self, tuple: Tuple, datagram: Vec<u8>) {
        if self.urgent.len() < MAX_URGENT {
            self.urgent.push_back((tuple, datagram));
        }
    }

    /// A transport is about to get something into its batch; all batches leave together at the earliest `flush_at`.
    pub fn queue(&mut self, key: Key, transport: &mut Transport, flush_at: Instant) {
        if !transport.queued {
            transport.queued = true;
            self.queued.push_back(key);
        }
        self.flush_at = Some(self.flush_at.map_or(flush_at, |at| at.min(flush_at)));
    }

    /// Puts a sealed packet into a transport's batch.
    pub fn push(&mut self, key: Key, transport: &mut Transport, packet: &[u8], flush_at: Instant) {
        self.queue(key, transport, flush_at);
        self.pool.lend(&mut transport.batch);
        transport.batch.push(packet);
    }
}

impl Transport {
    /// What leaves next, and whether it was paced.
    fn next_run(&mut self, max_segments: usize, now: Micros) -> Option<(bool, Run)> {
        if let Some(run) = self.batch.next_run(max_segments, |_| true) {
            if let Some(congestion) = &mut self.congestion {
                congestion.passed(run.end - run.start);
            }
            return Some((false, run));
        }
        let congestion = self.congestion.as_mut()?;
        let mut waiting = self.paced.waiting();
        let may_leave = |len| {
            let may = congestion.has_room(waiting, now);
            if may {
                congestion.left(len, now);
                waiting -= len;
            }
            may
        };
        self.paced.next_run(max_segments, may_leave).map(|run| (true, run))
    }

    /// There is nowhere to send to: what waits is lost on the way.
    fn lose_waiting(&mut self, now: Micros) {
        let Some(congestion) = &mut self.congestion else { return };
        let mut lose = |len| {
            congestion.left(len, now);
            true
        };
        while self.paced.next_run(usize::MAX, &mut lose).is_some() {}
    }
}

impl Core {
    /// The next datagrams to send. Call until it yields `None`: after each [`Core::receive`] for the
    /// answers, and at [`Core::poll_timeout`] for the batches.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit<'_>> {
        if let Some((tuple, datagram)) = self.outbox.urgent.pop_front() {
            self.outbox.current = datagram;
            let payload = &self.outbox.current;
            self.stats.count(Counter::PacketsOut);
            self.stats.count(Counter::Transmits);
            self.stats.sent_together(1);
            self.stats.add(Counter::BytesOut, payload.len() as u64);
            return Some(Transmit {
                protocol: tuple.protocol,
                local: tuple.local,
                remote: tuple.remote,
                payload,
                segment_size: payload.len(),
                packets: 1,
            });
        }
        if self.outbox.flush_at.is_none_or(|at| now < at) {
            return None;
        }
        let (key, tuple, run) = loop {
            let Some(&key) = self.outbox.queued.front() else {
                self.outbox.flush_at = None;
                self.outbox.pool.flushed();
                return None;
            };
            if let Some(transport) = self.transports.get_mut(key) {
                let micros = micros_since(self.epoch, now);
                if let Some(tuple) = transport.ice.selected()
                    && let Some(next) = transport.next_run(self.config.max_segments, micros)
                {
                    break (key, tuple, next);
                }
                transport.queued = false;
                if transport.ice.selected().is_none() {
                    transport.lose_waiting(micros);
                }
                self.outbox.pool.take_back(&mut transport.batch);
                if transport.paced.is_empty() {
                    self.outbox.pool.take_back(&mut transport.paced);
                }
                self.pace(key, now);
            }
            self.outbox.queued.pop_front();
        };
        let (paced, run) = run;
        self.stats.add(Counter::PacketsOut, run.packets as u64);
        self.stats.count(Counter::Transmits);
        self.stats.add(Counter::BytesOut, (run.end - run.start) as u64);
        self.stats.sent_together(run.packets);
        let transport = self.transports.get_mut(key).expect("found it in the loop above");
        transport.traffic.sent.add_many(run.packets, run.end - run.start, micros_since(self.epoch, now));
        Some(Transmit {
            protocol: tuple.protocol,
            local: tuple.local,
            remote: tuple.remote,
            payload: if paced { transport.paced.bytes(run) } else { transport.batch.bytes(run) },
            segment_size: run.segment,
            packets: run.packets,
        })
    }

    /// A listener did not take this many events.
    pub fn events_lost(&mut self, events: u64) {
        self.stats.add(Counter::EventsLost, events);
    }

    /// The system refused to segment this many transmits: their datagrams left one by one.
    pub fn segmentation_refused(&mut self, transmits: usize) {
        self.stats.add(Counter::SegmentationRefused, transmits as u64);
    }

    /// The socket took no more, or the path refused: these datagrams are lost like any other.
    pub fn transmit_failed(&mut self, packets: usize) {
        for _ in 0..packets {
            self.stats.drop(Drop::SendFailed);
        }
    }

    /// Seals a compound and puts it into the client's batch.
    pub(super) fn send_rtcp(&mut self, key: Key, mut compound: Vec<u8>, now: Instant) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        if !transport.can_send() {
            return;
        }
        let Some(srtp) = &mut transport.srtp else { return };
        match srtp.outbound.seal_rtcp(&mut compound) {
            Ok(()) => {
                self.outbox.push(key, transport, &compound, now + self.config.batch_delay);
                self.stats.count(Counter::RtcpOut);
            }
            Err(reason) => self.stats.drop(reason),
        }
    }
}
