//! Transport-wide congestion control feedback from subscribers, read in place
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1).

/// RTCP header, two SSRCs, base, count, reference time, feedback count.
const FIXED: usize = 20;
/// More packets than any client reports at once: a quarter of a second at 45 Mbit/s. A count beyond
/// that costs time and says nothing.
const MAX_STATUSES: u16 = 1024;
/// Unit of the reference time in microseconds.
const REFERENCE_MICROS: i64 = 64_000;
/// Unit of the deltas in microseconds.
const DELTA_MICROS: i64 = 250;

/// What became of a packet, as the subscriber says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// It has not arrived (yet).
    Missing,
    /// It arrived at this many microseconds of the subscriber's clock.
    Arrived(i64),
    /// It arrived, and nothing is said about when.
    Untimed,
}

/// A feedback packet whose lengths agree with each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Feedback<'a> {
    base: u16,
    count: u16,
    /// 24 bits, wraps after twelve days.
    reference: u32,
    chunks: &'a [u8],
    deltas: &'a [u8],
}

impl<'a> Feedback<'a> {
    /// Reads one RTCP packet, header included; `None` if it contradicts itself.
    pub fn parse(packet: &'a [u8]) -> Option<Self> {
        let fixed: &[u8; FIXED] = packet.first_chunk()?;
        let mut end = packet.len();
        if fixed[0] & 0x20 != 0 {
            end = end.checked_sub(usize::from(*packet.last()?))?;
        }
        let body = packet.get(FIXED..end)?;
        let count = u16::from_be_bytes([fixed[14], fixed[15]]);
        if count == 0 || count > MAX_STATUSES {
            return None;
        }
        let (mut left, mut at, mut need) = (count, 0, 0);
        while left > 0 {
            let chunk = Chunk::read(body, at)?;
            at += 2;
            let symbols = chunk.len().min(left);
            need += (0..symbols).map(|i| delta_len(chunk.symbol(i))).sum::<usize>();
            left -= symbols;
        }
        let (chunks, deltas) = body.split_at(at);
        if deltas.len() < need {
            return None;
        }
        Some(Self {
            base: u16::from_be_bytes([fixed[12], fixed[13]]),
            count,
            reference: u32::from_be_bytes([0, fixed[16], fixed[17], fixed[18]]),
            chunks,
            deltas,
        })
    }

    /// First sequence number reported on.
    pub fn base(&self) -> u16 {
        self.base
    }

    /// How many are reported on.
    pub fn count(&self) -> u16 {
        self.count
    }

    /// 24 bits, in units of 64 ms.
    pub fn reference(&self) -> u32 {
        self.reference
    }

    /// Calls `each` for every packet reported on, in the order of sequence numbers. `reference` is the
    /// reference time without its wraps.
    pub fn walk(&self, reference: i64, mut each: impl FnMut(u16, Status)) {
        let mut clock = reference.wrapping_mul(REFERENCE_MICROS);
        let (mut sequence, mut left, mut deltas) = (self.base, self.count, self.deltas);
        for at in (0..self.chunks.len()).step_by(2) {
            let Some(chunk) = Chunk::read(self.chunks, at) else { return };
            let symbols = chunk.len().min(left);
            for i in 0..symbols {
                let symbol = chunk.symbol(i);
                let Some((delta, rest)) = deltas.split_at_checked(delta_len(symbol)) else { return };
                deltas = rest;
                let ticks = match *delta {
                    [small] => i64::from(small),
                    [high, low] => i64::from(i16::from_be_bytes([high, low])),
                    _ => 0,
                };
                clock += ticks * DELTA_MICROS;
                let status = match symbol {
                    0 => Status::Missing,
                    1 | 2 => Status::Arrived(clock),
                    _ => Status::Untimed,
                };
                each(sequence, status);
                sequence = sequence.wrapping_add(1);
            }
            left -= symbols;
        }
    }
}

/// Bytes of the delta that belongs to a symbol.
fn delta_len(symbol: u8) -> usize {
    match symbol {
        1 => 1,
        2 => 2,
        _ => 0,
    }
}

/// Sixteen bits that stand for one or more symbols.
#[derive(Clone, Copy)]
struct Chunk(u16);

impl Chunk {
    fn read(bytes: &[u8], at: usize) -> Option<Self> {
        Some(Self(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?)))
    }

    fn len(self) -> u16 {
        match self.0 >> 14 {
            0 | 1 => self.0 & 0x1fff,
            2 => 14,
            _ => 7,
        }
    }

    fn symbol(self, i: u16) -> u8 {
        let symbol = match self.0 >> 14 {
            0 | 1 => self.0 >> 13,
            2 => (self.0 >> (13 - i)) & 1,
            _ => self.0 >> (12 - 2 * i),
        };
        (symbol & 3) as u8
    }
}

/// Carries the 24 bits of reference times on across wraps, whichever order they come in.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct References {
    last: Option<i64>,
}

impl References {
    /// The reference time without its wraps.
    pub fn unwrap(&mut self, reference: u32) -> i64 {
        let unwrapped = match self.last {
            // Far from zero, so that a step back stays positive.
            None => (1 << 24) + i64::from(reference),
            Some(last) => {
                let ahead = (i64::from(reference) - last) & 0x00ff_ffff;
                last + if ahead < 1 << 23 { ahead } else { ahead - (1 << 24) }
            }
        };
        self.last = Some(unwrapped);
        unwrapped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rtc::rtcp::transport_feedbacks::transport_layer_cc::{
        PacketStatusChunk, RecvDelta, RunLengthChunk, StatusChunkTypeTcc, StatusVectorChunk, SymbolSizeTypeTcc,
        SymbolTypeTcc, TransportLayerCc,
    };
    use rtc::shared::marshal::Marshal;

    fn symbol(of: u8) -> SymbolTypeTcc {
        match of {
            0 => SymbolTypeTcc::PacketNotReceived,
            1 => SymbolTypeTcc::PacketReceivedSmallDelta,
            2 => SymbolTypeTcc::PacketReceivedLargeDelta,
            _ => SymbolTypeTcc::PacketReceivedWithoutDelta,
        }
    }

    /// Chunks as some client might choose them: a run or a vector of either size, by turns.
    fn chunks(mut symbols: &[u8], choices: &[u8]) -> Vec<PacketStatusChunk> {
        let (mut chunks, mut turn) = (vec![], 0);
        while let Some(&first) = symbols.first() {
            let choice = choices[turn % choices.len()] % 3;
            turn += 1;
            let run = symbols.iter().take_while(|s| **s == first).count();
            let used = if choice == 1 && symbols.iter().take(14).all(|s| *s < 2) {
                symbols.len().min(14)
            } else if choice == 2 {
                symbols.len().min(7)
            } else {
                run
            };
            chunks.push(if choice == 0 || (choice == 1 && used != symbols.len().min(14)) {
                PacketStatusChunk::RunLengthChunk(RunLengthChunk {
                    type_tcc: StatusChunkTypeTcc::RunLengthChunk,
                    packet_status_symbol: symbol(first),
                    run_length: run as u16,
                })
            } else {
                let one_bit = symbols[..used].iter().all(|s| *s < 2) && choice == 1;
                let symbol_size = if one_bit { SymbolSizeTypeTcc::OneBit } else { SymbolSizeTypeTcc::TwoBit };
                let used = used.min(if one_bit { 14 } else { 7 });
                let symbol_list = symbols[..used].iter().map(|s| symbol(*s)).collect();
                symbols = &symbols[used..];
                chunks.push(PacketStatusChunk::StatusVectorChunk(StatusVectorChunk {
                    type_tcc: StatusChunkTypeTcc::StatusVectorChunk,
                    symbol_size,
                    symbol_list,
                }));
                continue;
            });
            symbols = &symbols[run..];
        }
        chunks
    }

    fn wire(base: u16, reference: u32, statuses: &[(u8, i64)], choices: &[u8]) -> Vec<u8> {
        let symbols: Vec<u8> = statuses.iter().map(|(s, _)| *s).collect();
        let deltas = statuses.iter().filter(|(s, _)| matches!(s, 1 | 2)).map(|(s, ticks)| RecvDelta {
            type_tcc_packet: symbol(*s),
            delta: if *s == 1 { ticks.rem_euclid(256) } else { *ticks } * DELTA_MICROS,
        });
        TransportLayerCc {
            sender_ssrc: 1,
            media_ssrc: 2,
            base_sequence_number: base,
            packet_status_count: statuses.len() as u16,
            reference_time: reference,
            fb_pkt_count: 3,
            packet_chunks: chunks(&symbols, choices),
            recv_deltas: deltas.collect(),
        }
        .marshal()
        .unwrap()
        .to_vec()
    }

    fn read(feedback: &Feedback<'_>, reference: i64) -> Vec<(u16, Status)> {
        let mut seen = vec![];
        feedback.walk(reference, |sequence, status| seen.push((sequence, status)));
        seen
    }

    proptest! {
        #[test]
        fn what_another_implementation_writes_is_read(
            base: u16,
            reference in 0u32..1 << 24,
            statuses in prop::collection::vec((0u8..4, -30_000i64..30_000), 1..400),
            choices in prop::collection::vec(any::<u8>(), 1..8),
        ) {
            let bytes = wire(base, reference, &statuses, &choices);
            let feedback = Feedback::parse(&bytes).expect("well formed");
            prop_assert_eq!((feedback.base(), feedback.count()), (base, statuses.len() as u16));
            prop_assert_eq!(feedback.reference(), reference);
            let mut clock = i64::from(reference) * 64_000;
            let mut expected = vec![];
            for (i, (symbol, ticks)) in statuses.iter().enumerate() {
                clock += match symbol { 1 => ticks.rem_euclid(256), 2 => *ticks, _ => 0 } * 250;
                let status = match symbol {
                    0 => Status::Missing,
                    1 | 2 => Status::Arrived(clock),
                    _ => Status::Untimed,
                };
                expected.push((base.wrapping_add(i as u16), status));
            }
            prop_assert_eq!(read(&feedback, i64::from(reference)), expected);
        }

        #[test]
        fn damage_is_refused_or_bounded(
            statuses in prop::collection::vec((0u8..4, -300i64..300), 1..60),
            at in 0usize..200,
            byte: u8,
            cut in 0usize..100,
        ) {
            let mut bytes = wire(65_500, 7, &statuses, &[0, 1, 2]);
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(bytes.len().saturating_sub(cut));
            if let Some(feedback) = Feedback::parse(&bytes) {
                prop_assert_eq!(read(&feedback, 0).len(), usize::from(feedback.count()));
            }
        }

        #[test]
        fn noise_never_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            if let Some(first) = bytes.first_mut() {
                *first |= 0x80;
            }
            if let Some(feedback) = Feedback::parse(&bytes) {
                prop_assert!(read(&feedback, i64::from(feedback.reference())).len() <= usize::from(MAX_STATUSES));
            }
        }
    }

    #[test]
    fn counts_that_the_body_does_not_bear_out_are_refused() {
        let good = wire(1, 1, &[(1, 4); 20], &[0]);
        assert!(Feedback::parse(&good).is_some());
        for (high, low) in [(0, 0), (0xff, 0xff), (0x04, 0x01)] {
            let mut bad = good.clone();
            (bad[14], bad[15]) = (high, low);
            assert!(Feedback::parse(&bad).is_none(), "{high} {low}");
        }
        assert!(Feedback::parse(&good[..good.len() - 4]).is_none());
        // Runs of nothing lead nowhere.
        let mut empty = good;
        empty[20..].fill(0);
        assert!(Feedback::parse(&empty).is_none());
    }

    #[test]
    fn reference_times_go_on_across_a_wrap_and_back() {
        let mut references = References::default();
        let first = references.unwrap(0x00ff_ffff);
        assert_eq!(references.unwrap(2) - first, 3);
        assert_eq!(references.unwrap(0x00ff_fffe) - first, -1);
        assert_eq!(references.unwrap(1) - first, 2);
    }
}
