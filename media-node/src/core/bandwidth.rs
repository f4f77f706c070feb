//! What subscribers can take: their reports, what is probed, and when what waits may leave.

use std::time::{Duration, Instant};

use super::congestion::Micros;
use super::consumer::Stamps;
use super::forward::abs_send_time;
use super::lane::Lane;
use super::stats::{Counter, Gauge};
use super::transport::arm;
use super::{Core, Key};

/// How often a subscriber's share is looked at while something is sent.
const INTERVAL: Duration = Duration::from_millis(200);
/// Padding packets made up at once.
const MAX_PADDING: usize = 256;

/// The core's time as congestion control counts it.
pub(super) fn micros_since(epoch: Instant, now: Instant) -> Micros {
    now.saturating_duration_since(epoch).as_micros() as Micros
}

impl Core {
    /// Transport-wide feedback from a subscriber.
    pub(super) fn on_transport_feedback(&mut self, key: Key, packet: &[u8], now: Instant) {
        self.stats.count(Counter::TransportCcIn);
        let micros = micros_since(self.epoch, now);
        let Some(transport) = self.transports.get_mut(key) else { return };
        let Some(congestion) = &mut transport.congestion else { return };
        let before = congestion.available(micros);
        congestion.on_feedback(packet, micros);
        let sooner = congestion.available(micros) < before || congestion.has_result();
        if sooner && arm(&mut transport.deadlines.bandwidth, now) {
            self.reschedule(key);
        }
    }

    /// A payload-specific message of a subscriber that may be its estimate.
    pub(super) fn on_remb(&mut self, key: Key, packet: &[u8], now: Instant) {
        let micros = micros_since(self.epoch, now);
        let Some(congestion) = self.transports.get_mut(key).and_then(|t| t.congestion.as_mut()) else { return };
        if congestion.on_remb(packet, micros) {
            self.stats.count(Counter::RembIn);
        }
    }

    /// Looks at a subscriber's share, and whether to probe for more.
    pub(super) fn manage_bandwidth(&mut self, key: Key, now: Instant) {
        let micros = micros_since(self.epoch, now);
        let Some(transport) = self.transports.get_mut(key) else { return };
        let can_probe = transport.can_send();
        let Some(congestion) = &mut transport.congestion else { return };
        congestion.tick(micros);
        let (before, available) = (transport.available, congestion.available(micros));
        transport.available = available;
        self.note_available(before, available);
        let wanted = self.divide(key, now);
        let Some(transport) = self.transports.get_mut(key) else { return };
        let Some(congestion) = &mut transport.congestion else { return };
        congestion.want(wanted);
        if can_probe && congestion.plan_probe(micros) {
            self.stats.count(Counter::Probes);
            transport.deadlines.pacing = Some(now);
        }
        // While pictures are held back, only probes are sent: they must not end.
        if !congestion.is_idle(micros) || wanted > transport.available.unwrap_or(f64::MAX) {
            transport.deadlines.bandwidth = Some(now + INTERVAL);
        }
    }

    /// Keeps the sum over all transports.
    pub(super) fn note_available(&mut self, before: Option<f64>, now: Option<f64>) {
        let sum = self.stats.gauge(Gauge::AvailableOutgoing) as usize;
        let (before, now) = (before.unwrap_or_default() as usize, now.unwrap_or_default() as usize);
        self.stats.set(Gauge::AvailableOutgoing, (sum + now).saturating_sub(before));
    }

    /// What waited may be due, or a probe goes on.
    pub(super) fn continue_sending(&mut self, key: Key, now: Instant) {
        self.feed_probe(key, now);
        let Some(transport) = self.transports.get_mut(key) else { return };
        self.outbox.queue(key, transport, now);
    }

    /// Makes up what a probe lacks at this moment.
    fn feed_probe(&mut self, key: Key, now: Instant) {
        let micros = micros_since(self.epoch, now);
        let Some(transport) = self.transports.get_mut(key) else { return };
        let Some(congestion) = &mut transport.congestion else { return };
        let due = congestion.probe_due(micros);
        let carrier = transport
            .consumers
            .iter()
            .copied()
            .find(|c| self.consumers.get(*c).is_some_and(|c| c.has_transport_cc && c.rtx.is_some()));
        let Some(consumer) = carrier.and_then(|c| self.consumers.get_mut(c)) else {
            congestion.give_up_probe(micros);
            return;
        };
        let Some(srtp) = &mut transport.srtp else { return };
        for _ in 0..MAX_PADDING {
            if transport.paced.waiting() >= due {
                break;
            }
            let (batch, paced, pool) = (&mut transport.batch, &mut transport.paced, &mut self.outbox.pool);
            let lane = Lane::of(true, batch, paced, &mut transport.congestion, pool);
            let Ok(mut lane) = lane else { break };
            let (transport_cc, abs_send_time) = (lane.transport_cc(), abs_send_time(self.epoch, now));
            let stamps = Stamps { transport_cc, abs_send_time, micros };
            let sealed = consumer.seal_padding(stamps, &mut srtp.outbound, lane.buffer());
            if lane.end(sealed.map(|_| ()), micros).is_err() {
                break;
            }
            transport.traffic.probation_sent.add(sealed.unwrap_or_default(), micros);
            self.stats.count(Counter::PaddingOut);
        }
    }

    /// A transport has been flushed: what is left waits for its turn.
    pub(super) fn pace(&mut self, key: Key, now: Instant) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        transport.paced.compact();
        let Some(congestion) = &mut transport.congestion else { return };
        congestion.probe_step();
        if congestion.is_probing() || !transport.paced.is_empty() {
            let at = now + Duration::from_micros(congestion.wait());
            if arm(&mut transport.deadlines.pacing, at) {
                self.reschedule(key);
            }
        }
    }
}
