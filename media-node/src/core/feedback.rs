//! RTCP from clients: what subscribers missed, what publishers report, who wants a key frame.
//!
//! A compound is split here, and only the packets that mean something are given to `rtc::rtcp`: one
//! that is unknown or malformed costs the rest nothing.

use std::time::{Duration, Instant};

use rtc::rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::receiver_report::ReceiverReport;
use rtc::rtcp::reception_report::ReceptionReport;
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use rtc::shared::marshal::Unmarshal;

use super::bandwidth::micros_since;
use super::consumer::Stamps;
use super::forward::{abs_send_time, descriptor, understand};
use super::lane::Lane;
use super::producer::SenderInfo;
use super::rtp::{Header, Values};
use super::stats::{Counter, Drop, Fate};
use super::tally::Outflow;
use super::{Core, Key};

/// More packets than this were never lost: a negative number in 24 bits (RFC 3550 §6.4.1), as duplicates make it.
const MAX_LOST: u32 = 0x007f_ffff;

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;
const NACK: u8 = 1;
const TRANSPORT_CC: u8 = 15;
const PLI: u8 = 1;
const FIR: u8 = 4;
const APPLICATION: u8 = 15;

/// Splits a compound into its packets, header included; ends at the first that is cut short.
fn packets(mut compound: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let &[first, _, l0, l1] = compound.first_chunk()?;
        let len = 4 * (usize::from(u16::from_be_bytes([l0, l1])) + 1);
        if first >> 6 != 2 || len > compound.len() {
            return None;
        }
        let (packet, rest) = compound.split_at(len);
        compound = rest;
        Some(packet)
    })
}

impl Core {
    pub(super) fn on_rtcp(&mut self, key: Key, datagram: &mut [u8], now: Instant) -> Result<Fate, Drop> {
        let transport = self.transports.get_mut(key).filter(|t| !t.is_over()).ok_or(Drop::NoKeys)?;
        let srtp = transport.srtp.as_mut().ok_or(Drop::NoKeys)?;
        let sources = &transport.sources;
        let is_source = |ssrc| sources.contains_key(&ssrc);
        let len = srtp.inbound.open_rtcp(datagram, self.config.max_rtcp_senders, is_source)?;
        let mut any = false;
        for packet in packets(&datagram[..len]) {
            any = true;
            let mut bytes = packet;
            match (packet[1], packet[0] & 0x1f) {
                (SENDER_REPORT, _) => {
                    if let Ok(report) = SenderReport::unmarshal(&mut bytes) {
                        self.on_sender_report(key, &report, now);
                    }
                }
                (RECEIVER_REPORT, _) => {
                    if let Ok(report) = ReceiverReport::unmarshal(&mut bytes) {
                        self.on_reception_reports(key, &report.reports, now);
                    }
                }
                (TRANSPORT_FEEDBACK, NACK) => {
                    if let Ok(nack) = TransportLayerNack::unmarshal(&mut bytes) {
                        self.on_nack(key, &nack, now);
                    }
                }
                (TRANSPORT_FEEDBACK, TRANSPORT_CC) => self.on_transport_feedback(key, packet, now),
                (PAYLOAD_FEEDBACK, PLI) => {
                    if let Ok(pli) = PictureLossIndication::unmarshal(&mut bytes) {
                        self.on_key_frame_request(key, pli.media_ssrc, |tally| tally.plis += 1, now);
                    }
                }
                (PAYLOAD_FEEDBACK, FIR) => {
                    if let Ok(fir) = FullIntraRequest::unmarshal(&mut bytes) {
                        for entry in &fir.fir {
                            self.on_key_frame_request(key, entry.ssrc, |tally| tally.firs += 1, now);
                        }
                    }
                }
                (PAYLOAD_FEEDBACK, APPLICATION) => self.on_remb(key, packet, now),
                _ => {}
            }
        }
        if !any {
            return Err(Drop::MalformedRtcp);
        }
        self.stats.count(Counter::RtcpIn);
        Ok(Fate::Consumed)
    }

    fn on_sender_report(&mut self, key: Key, report: &SenderReport, now: Instant) {
        if let Some(transport) = self.transports.get(key)
            && let Some(source) = transport.sources.get(&report.ssrc)
            && !source.rtx
            && let Some(producer) = self.producers.get_mut(source.producer)
        {
            let info = SenderInfo { ntp: report.ntp_time, rtp: report.rtp_time, at: now };
            let producer_key = source.producer;
            if producer.streams[source.encoding].sender_info.replace(info).is_none() {
                // Until now there was nothing to tell subscribers.
                self.arm_reports(producer_key, now);
            }
        }
        self.on_reception_reports(key, &report.reports, now);
    }

    fn on_reception_reports(&mut self, key: Key, reports: &[ReceptionReport], now: Instant) {
        let Some(transport) = self.transports.get(key) else { return };
        for report in reports {
            let Some(consumer) = transport.sinks.get(&report.ssrc).and_then(|c| self.consumers.get_mut(*c)) else {
                continue;
            };
            if report.ssrc != consumer.ssrc {
                continue;
            }
            let feedback = consumer.feedback.get_or_insert_default();
            feedback.fraction_lost = report.fraction_lost;
            feedback.lost = if report.total_lost > MAX_LOST { 0 } else { report.total_lost };
            feedback.jitter = report.jitter;
            self.stats.add(Counter::LostBySubscribers, consumer.tally.close(feedback.lost));
            if let Some((middle, sent)) = consumer.last_report
                && middle == report.last_sender_report
            {
                let held = Duration::from_micros((u64::from(report.delay) * 1_000_000) >> 16);
                let round_trip = now.saturating_duration_since(sent).saturating_sub(held);
                feedback.round_trip_micros = Some(round_trip.as_micros().min(10_000_000) as u32);
            }
        }
    }

    fn on_key_frame_request(&mut self, key: Key, ssrc: u32, note: fn(&mut Outflow), now: Instant) {
        let Some(&consumer) = self.transports.get(key).and_then(|t| t.sinks.get(&ssrc)) else { return };
        if let Some(consumer) = self.consumers.get_mut(consumer) {
            note(&mut consumer.tally);
        }
        self.stats.count(Counter::KeyFrameRequestsIn);
        self.want_key_frame(consumer, now);
    }

    fn on_nack(&mut self, key: Key, nack: &TransportLayerNack, now: Instant) {
        let Some(&consumer_key) = self.transports.get(key).and_then(|t| t.sinks.get(&nack.media_ssrc)) else {
            return;
        };
        let Some(consumer) = self.consumers.get_mut(consumer_key) else { return };
        if !consumer.nack || consumer.ssrc != nack.media_ssrc {
            return;
        }
        consumer.tally.nacks += 1;
        for pair in &nack.nacks {
            let sequences = std::iter::once(pair.packet_id).chain(
                (0..16)
                    .filter(|bit| pair.lost_packets & (1 << bit) != 0)
                    .map(|bit| pair.packet_id.wrapping_add(bit + 1)),
            );
            for sequence in sequences {
                self.stats.count(Counter::NacksIn);
                if let Some(consumer) = self.consumers.get_mut(consumer_key) {
                    consumer.tally.nacked += 1;
                }
                if let Err(reason) = self.resend(key, consumer_key, sequence, now) {
                    self.stats.drop(reason);
                }
            }
        }
    }

    /// Sends a packet again: by RTX where the subscriber takes it, else the identical ciphertext (a changed
    /// packet under the same index would reuse the nonce).
    fn resend(&mut self, key: Key, consumer_key: Key, sequence: u16, now: Instant) -> Result<(), Drop> {
        let consumer = self.consumers.get_mut(consumer_key).ok_or(Drop::NackMiss)?;
        let transport = self.transports.get_mut(key).ok_or(Drop::NackMiss)?;
        if !transport.can_send() || consumer.paused {
            return Err(Drop::ConsumerNotConnected);
        }
        let (out_index, source, shift) = consumer.origin(sequence).ok_or(Drop::NackMiss)?;
        // Where a queue has built up, receiver reports say so too late, and every answer would go out twice.
        let queued = transport.congestion.as_ref().map_or(0, |congestion| congestion.round_trip());
        let round_trip = Duration::from_micros(queued.max(consumer.round_trip().into()));
        let flush_at = now + self.config.batch_delay;
        let micros = micros_since(self.epoch, now);
        if consumer.rtx.is_none() {
            if consumer.sealed(out_index).is_none() {
                return Err(Drop::NackMiss);
            }
            let first = !consumer.resends.has(out_index);
            if !consumer.resends.allow(out_index, now, round_trip, &self.config) {
                return Err(Drop::NackSuppressed);
            }
            let sealed = consumer.sealed(out_index).ok_or(Drop::NackMiss)?;
            let overhead = transport.srtp.as_ref().map_or(0, |srtp| srtp.outbound.rtp_overhead());
            self.outbox.push(key, transport, sealed, flush_at);
            transport.traffic.rtx_sent.add(sealed.len().saturating_sub(overhead), micros);
            consumer.tally.resent += 1;
            consumer.tally.repaired += u64::from(first);
            self.stats.count(Counter::ResentVerbatim);
            return Ok(());
        }
        let producer = self.producers.get(consumer.producer).ok_or(Drop::NackMiss)?;
        let stream = producer.streams.get(shift.encoding).ok_or(Drop::NackMiss)?;
        let packet = stream.history.get(source).ok_or(Drop::NackMiss)?;
        let header = Header::parse(packet).ok_or(Drop::NackMiss)?;
        let codec = producer.codec(header.payload_type).ok_or(Drop::NackMiss)?;
        let values = Values::read(packet, &header.extensions, &producer.ids);
        let dependency = descriptor(codec.codec, &values).and_then(|descriptor| stream.recall(descriptor));
        let incoming =
            understand((codec, &producer.codecs), packet, header, values, dependency).ok_or(Drop::NackMiss)?;
        let first = !consumer.resends.has(out_index);
        if !consumer.resends.allow(out_index, now, round_trip, &self.config) {
            return Err(Drop::NackSuppressed);
        }
        self.outbox.queue(key, transport, flush_at);
        let srtp = transport.srtp.as_mut().ok_or(Drop::ConsumerNotConnected)?;
        let (batch, paced) = (&mut transport.batch, &mut transport.paced);
        let pool = &mut self.outbox.pool;
        let mut lane = Lane::of(consumer.has_transport_cc, batch, paced, &mut transport.congestion, pool)?;
        let stamps =
            Stamps { transport_cc: lane.transport_cc(), abs_send_time: abs_send_time(self.epoch, now), micros };
        let sealed = consumer.seal_rtx(&incoming, sequence, shift, stamps, &mut srtp.outbound, lane.buffer());
        lane.end(sealed.map(|_| ()), micros)?;
        transport.traffic.rtx_sent.add(sealed?, micros);
        consumer.tally.resent += 1;
        consumer.tally.repaired += u64::from(first);
        self.stats.count(Counter::ResentRtx);
        self.stats.count(Counter::RtpOut);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_compound_is_split_and_a_cut_packet_ends_it() {
        let compound = [0x80, 201, 0, 1, 0, 0, 0, 1, 0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2];
        assert_eq!(packets(&compound).map(<[u8]>::len).collect::<Vec<_>>(), [8, 12]);
        assert_eq!(packets(&compound[..19]).count(), 1);
        assert_eq!(packets(&[0x40, 201, 0, 0]).count(), 0);
    }

    proptest! {
        /// The parsers that an authenticated client reaches.
        #[test]
        fn arbitrary_feedback_never_panics(
            kind in prop::sample::select(vec![200u8, 201, 205, 206]),
            count in 0u8..32,
            body in prop::collection::vec(any::<u8>(), 0..120),
        ) {
            let mut packet = vec![0x80 | count, kind, 0, (body.len() / 4) as u8];
            packet.extend_from_slice(&body[..body.len() / 4 * 4]);
            let _ = SenderReport::unmarshal(&mut &packet[..]);
            let _ = ReceiverReport::unmarshal(&mut &packet[..]);
            let _ = TransportLayerNack::unmarshal(&mut &packet[..]);
            let _ = PictureLossIndication::unmarshal(&mut &packet[..]);
            let _ = FullIntraRequest::unmarshal(&mut &packet[..]);
        }
    }
}
