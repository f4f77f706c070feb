//! RTCP as a browser sends it: reports, NACK, transport-wide feedback. And what a publisher must hear.

/// What a compound says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A sender report: the source, and the middle 32 bits of its NTP time.
    Sender(u32, u32),
    /// Packets of a source are missing.
    Nack(u32, Vec<u16>),
    /// A source is to send a key frame.
    KeyFrame(u32),
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}

/// Reads what matters to the load from a compound.
pub fn parse(mut compound: &[u8], mut each: impl FnMut(Heard)) {
    while compound.len() >= 4 {
        let len = 4 * (usize::from(u16::from_be_bytes([compound[2], compound[3]])) + 1);
        let Some((packet, rest)) = compound.split_at_checked(len) else { return };
        compound = rest;
        match (packet[1], packet[0] & 31) {
            (200, _) => {
                if let (Some(ssrc), Some(high), Some(low)) = (word(packet, 4), word(packet, 8), word(packet, 12)) {
                    each(Heard::Sender(ssrc, (high << 16) | (low >> 16)));
                }
            }
            (205, 1) => {
                let Some(ssrc) = word(packet, 8) else { continue };
                let mut missing = Vec::new();
                for pair in packet[12..].as_chunks::<4>().0 {
                    let first = u16::from_be_bytes([pair[0], pair[1]]);
                    let more = u16::from_be_bytes([pair[2], pair[3]]);
                    missing.push(first);
                    missing.extend((0..16).filter(|i| more & (1 << i) != 0).map(|i| first.wrapping_add(i + 1)));
                }
                each(Heard::Nack(ssrc, missing));
            }
            (206, 1) => {
                if let Some(ssrc) = word(packet, 8) {
                    each(Heard::KeyFrame(ssrc));
                }
            }
            (206, 4) => {
                for entry in packet.get(12..).unwrap_or_default().as_chunks::<8>().0 {
                    each(Heard::KeyFrame(u32::from_be_bytes([entry[0], entry[1], entry[2], entry[3]])));
                }
            }
            _ => {}
        }
    }
}

fn head(out: &mut Vec<u8>, count: u8, kind: u8, words: u16) {
    out.extend_from_slice(&[0x80 | count, kind]);
    out.extend_from_slice(&words.to_be_bytes());
}

/// A sender report without report blocks. `ntp`: 32.32 seconds.
pub fn sender_report(ssrc: u32, ntp: u64, timestamp: u32, packets: u32, octets: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(28);
    head(&mut out, 0, 200, 6);
    out.extend_from_slice(&ssrc.to_be_bytes());
    out.extend_from_slice(&ntp.to_be_bytes());
    for field in [timestamp, packets, octets] {
        out.extend_from_slice(&field.to_be_bytes());
    }
    out
}

/// One block of a receiver report.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    /// The stream.
    pub ssrc: u32,
    /// Share of packets lost since the last report, in 256ths.
    pub fraction_lost: u8,
    /// Extended highest sequence number.
    pub highest: u32,
    /// Middle of the last sender report's time.
    pub last_report: u32,
    /// Time since then, in 65536ths of a second.
    pub delay: u32,
}

/// Receiver reports, 31 streams each, as one compound.
pub fn receiver_reports(sender: u32, blocks: &[Block]) -> Vec<u8> {
    let mut out = Vec::new();
    for blocks in blocks.chunks(31) {
        head(&mut out, blocks.len() as u8, 201, 1 + 6 * blocks.len() as u16);
        out.extend_from_slice(&sender.to_be_bytes());
        for block in blocks {
            let fields =
                [block.ssrc, u32::from(block.fraction_lost) << 24, block.highest, 0, block.last_report, block.delay];
            for field in fields {
                out.extend_from_slice(&field.to_be_bytes());
            }
        }
    }
    out
}

/// A generic NACK (RFC 4585 §6.2.1) for ascending sequence numbers.
pub fn nack(sender: u32, ssrc: u32, missing: &[u16]) -> Vec<u8> {
    let mut pairs: Vec<(u16, u16)> = Vec::new();
    for &sequence in missing {
        match pairs.last_mut() {
            Some((first, more)) if (1..=16).contains(&sequence.wrapping_sub(*first)) => {
                *more |= 1 << (sequence.wrapping_sub(*first) - 1);
            }
            _ => pairs.push((sequence, 0)),
        }
    }
    let mut out = Vec::new();
    head(&mut out, 1, 205, 2 + pairs.len() as u16);
    out.extend_from_slice(&sender.to_be_bytes());
    out.extend_from_slice(&ssrc.to_be_bytes());
    for (first, more) in pairs {
        out.extend_from_slice(&first.to_be_bytes());
        out.extend_from_slice(&more.to_be_bytes());
    }
    out
}

/// Transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01) on arrivals by sequence
/// number, in order of arrival. `at` is in microseconds; the list is sorted here.
pub fn transport_cc(sender: u32, media: u32, count: u8, arrivals: &mut Vec<(u16, u64)>) -> Option<Vec<u8>> {
    let origin = arrivals.first()?.0;
    arrivals.sort_by_key(|(sequence, _)| sequence.wrapping_sub(origin) as i16);
    arrivals.dedup_by_key(|(sequence, _)| *sequence);
    let base = arrivals[0].0;
    let span = usize::from(arrivals.last()?.0.wrapping_sub(base)) + 1;
    let reference = arrivals.iter().map(|(_, at)| *at).min()? / 64_000;
    let mut symbols = vec![0u8; span];
    let mut deltas = Vec::new();
    let mut previous = (reference * 256) as i64;
    for (sequence, at) in arrivals.iter() {
        let ticks = (at / 250) as i64;
        let delta = ticks - previous;
        previous = ticks;
        let symbol = &mut symbols[usize::from(sequence.wrapping_sub(base))];
        if let Ok(small) = u8::try_from(delta) {
            *symbol = 1;
            deltas.push(small);
        } else {
            *symbol = 2;
            deltas.extend_from_slice(&(delta.clamp(-32_768, 32_767) as i16).to_be_bytes());
        }
    }
    let mut body = Vec::new();
    body.extend_from_slice(&sender.to_be_bytes());
    body.extend_from_slice(&media.to_be_bytes());
    body.extend_from_slice(&base.to_be_bytes());
    body.extend_from_slice(&(span as u16).to_be_bytes());
    body.extend_from_slice(&(((reference as u32) << 8) | u32::from(count)).to_be_bytes());
    for chunk in symbols.chunks(7) {
        let filled = chunk.iter().copied().chain(std::iter::repeat(0)).take(7);
        let bits = filled.fold(0u16, |bits, symbol| (bits << 2) | u16::from(symbol));
        body.extend_from_slice(&(0xc000 | bits).to_be_bytes());
    }
    body.extend_from_slice(&deltas);
    body.resize(body.len().div_ceil(4) * 4, 0);
    let mut out = Vec::with_capacity(body.len() + 4);
    head(&mut out, 15, 205, (body.len() / 4) as u16);
    out.extend_from_slice(&body);
    Some(out)
}

#[cfg(test)]
mod tests {
    use rtc::rtcp::{
        packet::unmarshal,
        receiver_report::ReceiverReport,
        transport_feedbacks::{transport_layer_cc::TransportLayerCc, transport_layer_nack::TransportLayerNack},
    };

    use super::*;

    #[test]
    fn a_nack_is_read_by_others_and_by_ourselves() {
        let missing = [65_534, 65_535, 3, 40, 41, 60];
        let bytes = nack(1, 2, &missing);
        let packets = unmarshal(&mut &bytes[..]).unwrap();
        let read = packets[0].as_any().downcast_ref::<TransportLayerNack>().unwrap();
        assert_eq!(read.nacks.iter().flat_map(|pair| pair.packet_list()).collect::<Vec<_>>(), missing);
        let mut heard = Vec::new();
        parse(&bytes, |h| heard.push(h));
        assert_eq!(heard, [Heard::Nack(2, missing.to_vec())]);
    }

    #[test]
    fn transport_wide_feedback_is_read_by_others() {
        let mut arrivals = vec![(65_534, 128_000), (65_535, 128_500), (2, 129_000), (1, 200_000)];
        let bytes = transport_cc(1, 2, 7, &mut arrivals).unwrap();
        let packets = unmarshal(&mut &bytes[..]).unwrap();
        let read = packets[0].as_any().downcast_ref::<TransportLayerCc>().unwrap();
        assert_eq!((read.base_sequence_number, read.packet_status_count, read.reference_time), (65_534, 5, 2));
        assert_eq!(read.recv_deltas.iter().map(|d| d.delta).collect::<Vec<_>>(), [0, 500, 71_500, -71_000]);
    }

    #[test]
    fn reports_are_read_by_others() {
        let block = Block { ssrc: 5, fraction_lost: 9, highest: 70_000, last_report: 1, delay: 2 };
        let bytes = receiver_reports(1, &[block; 40]);
        let packets = unmarshal(&mut &bytes[..]).unwrap();
        let read = packets[1].as_any().downcast_ref::<ReceiverReport>().unwrap();
        assert_eq!((packets.len(), read.reports.len()), (2, 9));
        assert_eq!((read.reports[8].fraction_lost, read.reports[8].last_sequence_number), (9, 70_000));
        let mut heard = Vec::new();
        parse(&sender_report(3, 0x1111_2222_3333_4444, 1, 2, 3), |h| heard.push(h));
        assert_eq!(heard, [Heard::Sender(3, 0x2222_3333)]);
    }
}
