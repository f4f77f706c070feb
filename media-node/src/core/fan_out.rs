//! A packet's copies: one for each subscriber, decided on, written and sealed by its consumer, and put where it leaves from.

use std::time::Instant;

use super::bandwidth::micros_since;
use super::command::{Event, Layers, MediaKind};
use super::congestion::Micros;
use super::consumer::{Consumer, Incoming, Stamps};
use super::forward::abs_send_time;
use super::lane::Lane;
use super::layers::Choice;
use super::outbox::Outbox;
use super::producer::Producer;
use super::stats::{Counter, Drop, Stats};
use super::transport::{Transport, arm};
use super::{Core, Key};

impl Core {
    /// Sends a packet to all who want it. Returns to how many.
    pub(super) fn fan_out(&mut self, producer_key: Key, incoming: &Incoming<'_>, now: Instant) -> usize {
        let Some(producer) = self.producers.get(producer_key) else { return 0 };
        // More packets to the same subscriber will come, but after the last one of a picture: what waits has come together.
        let is_last = producer.kind == MediaKind::Video && incoming.header.marker;
        let flush_at = if is_last { now } else { now + self.config.batch_delay };
        let mut path = Path {
            flush_at,
            outbox: &mut self.outbox,
            stats: &mut self.stats,
            abs_send_time: abs_send_time(self.epoch, now),
            micros: micros_since(self.epoch, now),
            reports_unarmed: false,
            now,
        };
        let timeout = self.config.encoding_timeout;
        let Some(stream) = producer.streams.get(incoming.encoding) else { return 0 };
        let active = stream.rates.active(now, timeout).unwrap_or(Layers::LOWEST);
        // What a client gets is told at the end of a picture, when all layers of it have been seen.
        let tells = incoming.header.marker && producer.is_layered();
        let (mut sent, mut wanted) = (0, None);
        for &consumer_key in &producer.consumers {
            let Some(consumer) = self.consumers.get_mut(consumer_key) else { continue };
            if consumer.paused {
                continue;
            }
            let Some(transport) = self.transports.get_mut(consumer.transport) else { continue };
            let aim = consumer.aim(producer, now, timeout, incoming.encoding);
            let delivered = path.deliver(incoming, consumer, transport, producer, aim);
            let reachable = delivered != Err(Drop::ConsumerNotConnected);
            match delivered {
                Ok(true) => sent += 1,
                Ok(false) => {}
                Err(reason) => {
                    consumer.tally.discarded += u64::from(matches!(reason, Drop::ConsumerTooLate | Drop::PacerFull));
                    path.stats.drop(reason);
                }
            }
            let Some(aim) = aim.filter(|_| reachable) else { continue };
            if consumer.needs_key_frame_of(incoming, aim, active) {
                wanted = Some(consumer_key);
            }
            if tells
                && consumer.layers.encoding() == Some(incoming.encoding)
                && let Some(layers) = consumer.gets(producer, active)
                && consumer.told != Some(layers)
            {
                let before = consumer.told.replace(layers);
                path.stats.layer_moved(before.map(|layers| layers.spatial), Some(layers.spatial));
                path.stats.count(Counter::LayerSwitches);
                let (consumer, transport) = (consumer.id, transport.id);
                self.events.push_back(Event::LayersChanged { consumer, transport, layers });
            }
        }
        let reports_unarmed = path.reports_unarmed;
        // One request serves all that wait for the same stream.
        if let Some(consumer) = wanted {
            self.want_key_frame(consumer, now);
        }
        if reports_unarmed {
            self.arm_reports(producer_key, now);
        }
        sent
    }

    /// Subscribers that just got their first packets are to get a sender report soon, and their share.
    pub(super) fn arm_reports(&mut self, producer: Key, now: Instant) {
        let Some(producer) = self.producers.get(producer) else { return };
        let transports: Vec<Key> =
            producer.consumers.iter().filter_map(|c| self.consumers.get(*c)).map(|c| c.transport).collect();
        for key in transports {
            let Some(transport) = self.transports.get_mut(key) else { continue };
            transport.active = true;
            let mut moved = arm(&mut transport.deadlines.reports, now + self.config.report_interval / 10);
            moved |= transport.congestion.is_some() && arm(&mut transport.deadlines.bandwidth, now);
            if moved {
                self.reschedule(key);
            }
        }
    }
}

/// What every subscriber's copy of a packet has in common.
struct Path<'a> {
    /// When what it puts into batches is to leave.
    flush_at: Instant,
    outbox: &'a mut Outbox,
    stats: &'a mut Stats,
    abs_send_time: u32,
    /// Since the epoch.
    micros: Micros,
    /// Some subscriber's transport has no report scheduled.
    reports_unarmed: bool,
    now: Instant,
}

impl Path<'_> {
    /// Returns whether the packet went into the subscriber's batch.
    fn deliver(
        &mut self,
        incoming: &Incoming<'_>,
        consumer: &mut Consumer,
        transport: &mut Transport,
        producer: &Producer,
        aim: Option<Choice>,
    ) -> Result<bool, Drop> {
        if !transport.can_send() {
            return Err(Drop::ConsumerNotConnected);
        }
        let Some(place) = consumer.admit(incoming, aim, producer, self.now)? else {
            return Ok(false);
        };
        if place.fill {
            self.stats.count(Counter::Filled);
        }
        let key = consumer.transport;
        let unarmed = transport.congestion.is_some() && transport.deadlines.bandwidth.is_none();
        self.reports_unarmed |= unarmed || transport.deadlines.reports.is_none();
        self.outbox.queue(key, transport, self.flush_at);
        transport.active = true;
        let srtp = transport.srtp.as_mut().ok_or(Drop::ConsumerNotConnected)?;
        let (batch, paced) = (&mut transport.batch, &mut transport.paced);
        let pool = &mut self.outbox.pool;
        let mut lane = Lane::of(consumer.has_transport_cc, batch, paced, &mut transport.congestion, pool)?;
        let stamps =
            Stamps { transport_cc: lane.transport_cc(), abs_send_time: self.abs_send_time, micros: self.micros };
        let sealed = consumer.seal(incoming, place, stamps, &mut srtp.outbound, lane.buffer(), self.now);
        lane.end(sealed.map(|_| ()), self.micros)?;
        transport.traffic.rtp_sent.add(sealed?, self.micros);
        self.stats.count(Counter::RtpOut);
        Ok(true)
    }
}
