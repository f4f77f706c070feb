//! Transport-wide congestion control feedback to publishers
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01): which packets of the transport came, and when.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rtc::rtcp::transport_feedbacks::transport_layer_cc::{
    PacketStatusChunk, RecvDelta, RunLengthChunk, StatusChunkTypeTcc, StatusVectorChunk, SymbolSizeTypeTcc,
    SymbolTypeTcc, TransportLayerCc,
};

/// Sequence numbers that one feedback packet covers at most. What a client leaves out beyond that is
/// its own loss.
const MAX_SPAN: usize = 512;
/// Reference time unit.
const REFERENCE: Duration = Duration::from_millis(64);
/// Delta unit.
const DELTA_MICROS: i64 = 250;
const LONGEST_RUN: usize = 8191;

/// Arrivals not yet reported.
#[derive(Debug)]
pub(crate) struct Arrivals {
    epoch: Instant,
    /// Extended sequence number of the first entry of `received`.
    base: u64,
    received: VecDeque<Option<Instant>>,
    started: bool,
    feedback_count: u8,
}

impl Arrivals {
    /// `epoch` is what reference times count from.
    pub fn new(epoch: Instant) -> Self {
        Self { epoch, base: 1 << 16, received: VecDeque::new(), started: false, feedback_count: 0 }
    }

    /// A packet arrived. Returns whether there was nothing to report before.
    pub fn record(&mut self, sequence: u16, now: Instant) -> bool {
        let was_empty = self.is_empty();
        if !self.started {
            self.started = true;
            self.base = (1 << 16) + u64::from(sequence);
        }
        let distance = i64::from(sequence.wrapping_sub(self.base as u16) as i16);
        if distance < 0 {
            // Reported as lost already, or from before: a sender has no use for it any more.
            return false;
        }
        let mut at = distance as usize;
        if at >= MAX_SPAN {
            // So far ahead that what lies between can only be reported as lost: begin anew.
            let forget = at + 1 - MAX_SPAN;
            self.received.drain(..forget.min(self.received.len()));
            self.base += forget as u64;
            at = MAX_SPAN - 1;
        }
        if at >= self.received.len() {
            self.received.resize(at + 1, None);
        }
        self.received[at].get_or_insert(now);
        was_empty
    }

    pub fn is_empty(&self) -> bool {
        self.received.is_empty()
    }

    /// The report of everything recorded so far; `None` if that is nothing.
    pub fn report(&mut self, sender_ssrc: u32, media_ssrc: u32) -> Option<TransportLayerCc> {
        // Leading gaps are reported too, but the reference time is that of the first arrival.
        let first = self.received.iter().flatten().next().copied()?;
        let reference = first.saturating_duration_since(self.epoch).as_micros() / REFERENCE.as_micros();
        let mut last_micros = (reference * REFERENCE.as_micros()) as i64;
        let mut symbols = Vec::with_capacity(self.received.len());
        let mut deltas = Vec::with_capacity(self.received.len());
        let mut reported = 0;
        for arrival in &self.received {
            let Some(arrival) = arrival else {
                symbols.push(SymbolTypeTcc::PacketNotReceived);
                reported += 1;
                continue;
            };
            let micros = arrival.saturating_duration_since(self.epoch).as_micros() as i64;
            let ticks = (micros - last_micros).div_euclid(DELTA_MICROS);
            let symbol = match ticks {
                0..=255 => SymbolTypeTcc::PacketReceivedSmallDelta,
                _ if i16::try_from(ticks).is_ok() => SymbolTypeTcc::PacketReceivedLargeDelta,
                // More than 8 s apart: the rest goes into the next report, with its own reference.
                _ => break,
            };
            symbols.push(symbol);
            deltas.push(RecvDelta { type_tcc_packet: symbol, delta: ticks * DELTA_MICROS });
            // Count in rounded ticks, so that rounding does not add up.
            last_micros += ticks * DELTA_MICROS;
            reported += 1;
        }
        let feedback = TransportLayerCc {
            sender_ssrc,
            media_ssrc,
            base_sequence_number: self.base as u16,
            packet_status_count: symbols.len() as u16,
            reference_time: reference as u32 & 0x00ff_ffff,
            fb_pkt_count: self.feedback_count,
            packet_chunks: chunks(&symbols),
            recv_deltas: deltas,
        };
        self.received.drain(..reported);
        self.base += reported as u64;
        self.feedback_count = self.feedback_count.wrapping_add(1);
        Some(feedback)
    }
}

fn chunks(mut symbols: &[SymbolTypeTcc]) -> Vec<PacketStatusChunk> {
    let mut chunks = Vec::new();
    while let Some(&first) = symbols.first() {
        let run = symbols.iter().take(LONGEST_RUN).take_while(|s| **s == first).count();
        let small = symbols.iter().take(14).take_while(|s| **s != SymbolTypeTcc::PacketReceivedLargeDelta).count();
        let used = if run >= 14 || (run >= 7 && small < 14) || run == symbols.len() {
            chunks.push(PacketStatusChunk::RunLengthChunk(RunLengthChunk {
                type_tcc: StatusChunkTypeTcc::RunLengthChunk,
                packet_status_symbol: first,
                run_length: run as u16,
            }));
            run
        } else {
            let (symbol_size, len) = if small == 14 || small == symbols.len() {
                (SymbolSizeTypeTcc::OneBit, small)
            } else {
                (SymbolSizeTypeTcc::TwoBit, symbols.len().min(7))
            };
            chunks.push(PacketStatusChunk::StatusVectorChunk(StatusVectorChunk {
                type_tcc: StatusChunkTypeTcc::StatusVectorChunk,
                symbol_size,
                symbol_list: symbols[..len].to_vec(),
            }));
            len
        };
        symbols = &symbols[used..];
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rtc::shared::marshal::{Marshal, Unmarshal};

    #[expect(clippy::disallowed_methods, reason = "any instant will do as the origin of virtual time")]
    fn origin() -> Instant {
        Instant::now()
    }

    /// What a sender reads from a report: sequence number and arrival, in microseconds since the epoch.
    fn read(feedback: &TransportLayerCc) -> Vec<(u16, Option<i64>)> {
        let mut symbols = vec![];
        for chunk in &feedback.packet_chunks {
            match chunk {
                PacketStatusChunk::RunLengthChunk(c) => {
                    symbols.extend(std::iter::repeat_n(c.packet_status_symbol, usize::from(c.run_length)));
                }
                PacketStatusChunk::StatusVectorChunk(c) => symbols.extend(&c.symbol_list),
            }
        }
        symbols.truncate(usize::from(feedback.packet_status_count));
        let mut deltas = feedback.recv_deltas.iter();
        let mut at = i64::from(feedback.reference_time) * 64_000;
        let mut sequence = feedback.base_sequence_number;
        symbols
            .into_iter()
            .map(|symbol| {
                let arrival = (symbol != SymbolTypeTcc::PacketNotReceived).then(|| {
                    at += deltas.next().expect("a delta per received packet").delta;
                    at
                });
                let entry = (sequence, arrival);
                sequence = sequence.wrapping_add(1);
                entry
            })
            .collect()
    }

    proptest! {
        #[test]
        fn a_report_survives_the_wire_and_says_what_arrived(
            start: u16,
            steps in prop::collection::vec((1u16..5, 0u64..40_000), 1..300),
        ) {
            let epoch = origin();
            let mut arrivals = Arrivals::new(epoch);
            let (mut sequence, mut micros) = (start, 1_000_000u64);
            let mut expected = vec![];
            for (step, wait) in steps {
                micros += wait;
                arrivals.record(sequence, epoch + Duration::from_micros(micros));
                expected.push((sequence, micros as i64));
                sequence = sequence.wrapping_add(step);
            }
            let mut seen = vec![];
            let mut next = None;
            while let Some(report) = arrivals.report(1, 2) {
                let wire = report.marshal().unwrap();
                let back = TransportLayerCc::unmarshal(&mut &wire[..]).unwrap();
                let entries = read(&back);
                if let Some(next) = next {
                    prop_assert_eq!(entries[0].0, next, "reports are contiguous");
                }
                next = entries.last().map(|(s, _)| s.wrapping_add(1));
                seen.extend(entries.into_iter().filter_map(|(s, at)| at.map(|at| (s, at))));
            }
            let kept = expected.len() - seen.len();
            for ((sequence, micros), (seen_sequence, seen_micros)) in expected[kept..].iter().zip(&seen) {
                prop_assert_eq!(sequence, seen_sequence);
                prop_assert!((micros - seen_micros).abs() <= 250, "{} {}", micros, seen_micros);
            }
        }

        #[test]
        fn arbitrary_sequence_numbers_are_bounded(sequences in prop::collection::vec(any::<u16>(), 1..600)) {
            let epoch = origin();
            let mut arrivals = Arrivals::new(epoch);
            for sequence in sequences {
                arrivals.record(sequence, epoch);
                prop_assert!(arrivals.received.len() <= MAX_SPAN);
            }
            while let Some(report) = arrivals.report(1, 2) {
                prop_assert!(report.marshal().is_ok());
            }
        }
    }
}
