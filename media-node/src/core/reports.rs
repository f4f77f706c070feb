//! RTCP from us: reports, requests and feedback, each at its interval.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rtc::rtcp::goodbye::Goodbye;
use rtc::rtcp::packet::Packet;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
use rtc::rtcp::receiver_report::ReceiverReport;
use rtc::rtcp::reception_report::ReceptionReport;
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtcp::source_description::{SdesType, SourceDescription, SourceDescriptionChunk, SourceDescriptionItem};
use rtc::rtcp::transport_feedbacks::transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers};

use super::consumer::Consumer;
use super::producer::{Producer, SenderInfo, Stream};
use super::stats::Counter;
use super::transport::arm;
use super::{Core, Key};

/// A compound that grows beyond this is sent and another begun.
const MAX_COMPOUND: usize = 1100;
/// Reception report blocks in one report (RFC 3550 §6.4.1: five bits).
const MAX_BLOCKS: usize = 31;
/// What is said of a limit that no longer holds, in bits per second: Chromium keeps to the last REMB for good.
const UNLIMITED: u64 = 1_000_000_000;
/// And how often, since RTCP may get lost.
const LIFTED: u8 = 3;

pub(super) fn marshal(packet: &dyn Packet) -> Option<Vec<u8>> {
    let mut bytes = vec![0; packet.marshal_size()];
    let len = packet.marshal_to(&mut bytes).ok()?;
    bytes.truncate(len);
    Some(bytes)
}

/// RFC 3550 §6.6.
pub(super) fn goodbye(ssrc: u32) -> Option<Vec<u8>> {
    marshal(&Goodbye { sources: vec![ssrc], reason: Bytes::new() })
}

/// 32.32 fixed point seconds.
fn ntp_duration(duration: Duration) -> u64 {
    let fraction = (u64::from(duration.subsec_nanos()) << 32) / 1_000_000_000;
    (duration.as_secs() << 32) | fraction
}

impl Core {
    /// Asks a publisher for what is missing.
    pub(super) fn send_nacks(&mut self, key: Key, now: Instant) {
        let Some(transport) = self.transports.get(key) else { return };
        let (producers, ssrc) = (transport.producers.clone(), transport.ssrc);
        let mut next: Option<Instant> = None;
        for producer in producers {
            let Some(producer) = self.producers.get_mut(producer) else { continue };
            let mut requests = Vec::new();
            for stream in &mut producer.streams {
                let mut ask = Vec::new();
                let lost = stream.missings.ask(now, &self.config, &mut ask);
                self.stats.add(Counter::Lost, lost);
                if let Some(due) = stream.missings.due() {
                    arm(&mut next, due);
                }
                if let (Some(media_ssrc), false) = (stream.ssrc, ask.is_empty()) {
                    self.stats.add(Counter::NacksOut, ask.len() as u64);
                    stream.tally.nacks += 1;
                    stream.tally.nacked += ask.len() as u64;
                    let nacks = nack_pairs_from_sequence_numbers(&ask);
                    requests.extend(marshal(&TransportLayerNack { sender_ssrc: ssrc, media_ssrc, nacks }));
                }
            }
            for request in requests {
                self.send_rtcp(key, request, now);
            }
        }
        if let (Some(transport), Some(next)) = (self.transports.get_mut(key), next) {
            arm(&mut transport.deadlines.nacks, next);
        }
    }

    /// Asks a publisher for the key frames that are wanted.
    pub(super) fn send_key_frame_requests(&mut self, key: Key, now: Instant) {
        let Some(transport) = self.transports.get(key) else { return };
        if !transport.can_send() {
            return;
        }
        let (producers, ssrc) = (transport.producers.clone(), transport.ssrc);
        let interval = self.config.key_frame_interval;
        let mut next: Option<Instant> = None;
        let mut requests = Vec::new();
        for producer in producers {
            let Some(producer) = self.producers.get_mut(producer) else { continue };
            for stream in &mut producer.streams {
                let (Some(due), Some(media_ssrc)) = (stream.key_frames.due(now, interval), stream.ssrc) else {
                    continue;
                };
                if due <= now {
                    stream.key_frames.sent(now);
                    stream.tally.plis += 1;
                    requests.extend(marshal(&PictureLossIndication { sender_ssrc: ssrc, media_ssrc }));
                }
                if let Some(due) = stream.key_frames.due(now, interval) {
                    arm(&mut next, due);
                }
            }
        }
        for request in requests {
            self.stats.count(Counter::KeyFrameRequestsOut);
            self.send_rtcp(key, request, now);
        }
        if let (Some(transport), Some(next)) = (self.transports.get_mut(key), next) {
            arm(&mut transport.deadlines.key_frames, next);
        }
    }

    /// Tells a publisher which packets of the transport came when.
    pub(super) fn send_transport_feedback(&mut self, key: Key, now: Instant) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        let producers = &self.producers;
        let media =
            transport.producers.iter().filter_map(|p| producers.get(*p)).flat_map(|p| &p.streams).find_map(|s| s.ssrc);
        let media_ssrc = media.unwrap_or_default();
        let mut reports = Vec::new();
        while let Some(report) = transport.arrivals.report(transport.ssrc, media_ssrc) {
            reports.extend(marshal(&report));
        }
        for report in reports {
            self.stats.count(Counter::TransportCcOut);
            self.send_rtcp(key, report, now);
        }
    }

    /// Receiver reports to a publisher, sender reports to a subscriber.
    pub(super) fn send_reports(&mut self, key: Key, now: Instant) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        if !std::mem::take(&mut transport.active) {
            return;
        }
        let (producers, consumers, ssrc) = (transport.producers.clone(), transport.consumers.clone(), transport.ssrc);
        transport.deadlines.reports = Some(now + self.config.report_interval);
        // Where the path is estimated here, what that carries is told together with the limit.
        let is_told = transport.receiving.is_some();
        let room = self.rooms.get(&transport.room);
        let mut room_limit = room.and_then(|room| room.max_publish_bitrate).filter(|_| !is_told);
        if room_limit.is_some() {
            transport.limit_to_lift = LIFTED;
        } else if transport.limit_to_lift > 0 && !is_told {
            transport.limit_to_lift -= 1;
            room_limit = Some(UNLIMITED);
        }
        let (mut blocks, mut expected, mut lost) = (Vec::new(), 0, 0);
        for producer in producers {
            let Some(producer) = self.producers.get_mut(producer) else { continue };
            for interval in producer.streams.iter_mut().filter_map(|stream| stream.account(now)) {
                expected += interval.packets + interval.lost;
                lost += interval.lost;
            }
            blocks.extend(producer.streams.iter_mut().filter_map(|s| reception_report(s, now)));
        }
        self.note_loss_received(key, expected, lost, now);
        if !blocks.is_empty()
            && let Some(limit) = room_limit
        {
            // Chromium keeps below it whatever its own estimate by transport-cc says.
            let ssrcs = blocks.iter().map(|block| block.ssrc).collect();
            let limit = ReceiverEstimatedMaximumBitrate { sender_ssrc: ssrc, bitrate: limit as f32, ssrcs };
            if let Some(bytes) = marshal(&limit) {
                self.stats.count(Counter::RembOut);
                self.send_rtcp(key, bytes, now);
            }
        }
        for reports in blocks.chunks(MAX_BLOCKS) {
            let report = ReceiverReport { ssrc, reports: reports.to_vec(), profile_extensions: Bytes::new() };
            if let Some(bytes) = marshal(&report) {
                self.send_rtcp(key, bytes, now);
            }
        }
        let mut compound = Vec::new();
        for consumer in consumers {
            let Some(consumer) = self.consumers.get_mut(consumer) else { continue };
            let Some(producer) = self.producers.get(consumer.producer) else { continue };
            if let Some(report) = sender_report(consumer, producer, now) {
                compound.extend_from_slice(&report);
            }
            if compound.len() > MAX_COMPOUND {
                self.send_rtcp(key, std::mem::take(&mut compound), now);
            }
        }
        if !compound.is_empty() {
            self.send_rtcp(key, compound, now);
        }
    }
}

fn reception_report(stream: &mut Stream, now: Instant) -> Option<ReceptionReport> {
    let (ssrc, info) = (stream.ssrc?, stream.sender_info);
    let reception = stream.reception.as_mut()?;
    Some(ReceptionReport {
        ssrc,
        fraction_lost: reception.fraction_lost(),
        total_lost: reception.lost().min(0x007f_ffff) as u32,
        last_sequence_number: reception.highest() as u32,
        jitter: reception.jitter(),
        last_sender_report: info.map_or(0, |info| (info.ntp >> 16) as u32),
        delay: info.map_or(0, |info| (ntp_duration(now.saturating_duration_since(info.at)) >> 16) as u32),
    })
}

/// A sender report and the CNAME, if something was sent since the last one and the publisher has told its
/// clocks: wall clock and RTP clock are the publisher's, carried on to `now`, so that its streams stay in
/// step with each other.
fn sender_report(consumer: &mut Consumer, producer: &Producer, now: Instant) -> Option<Vec<u8>> {
    let encoding = consumer.layers.encoding()?;
    let SenderInfo { ntp, rtp, at } = producer.streams.get(encoding)?.sender_info?;
    if consumer.packets == consumer.reported_packets {
        return None;
    }
    consumer.reported_packets = consumer.packets;
    let passed = now.saturating_duration_since(at);
    let ntp_time = ntp.wrapping_add(ntp_duration(passed));
    let clock_rate = producer.codecs.first()?.clock_rate;
    let ticks = (passed.as_micros() * u128::from(clock_rate) / 1_000_000) as u32;
    consumer.last_report = Some(((ntp_time >> 16) as u32, now));
    let mut bytes = marshal(&SenderReport {
        ssrc: consumer.ssrc,
        ntp_time,
        rtp_time: rtp.wrapping_add(ticks).wrapping_add(consumer.timestamp_shift()),
        packet_count: consumer.packets,
        octet_count: consumer.octets,
        reports: Vec::new(),
        profile_extensions: Bytes::new(),
    })?;
    let description = SourceDescription {
        chunks: vec![SourceDescriptionChunk {
            source: consumer.ssrc,
            items: vec![SourceDescriptionItem {
                sdes_type: SdesType::SdesCname,
                text: Bytes::copy_from_slice(consumer.cname.as_bytes()),
            }],
        }],
    };
    bytes.extend(marshal(&description)?);
    Some(bytes)
}
