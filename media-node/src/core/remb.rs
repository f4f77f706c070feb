//! Publishers without transport-wide feedback are told what their path carries (draft-alvestrand-rmcat-remb-03).

use std::time::Instant;

use rtc::rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;

use super::bandwidth::micros_since;
use super::command::{ExtensionKind, TransportState};
use super::congestion::Receiving;
use super::reports::marshal;
use super::stats::{Counter, Gauge};
use super::{Core, Key};

impl Core {
    /// Producers of a transport came or went: whoever numbers its packets transport-wide judges its path itself.
    pub(super) fn review_receiving(&mut self, key: Key) {
        let Some(transport) = self.transports.get(key) else { return };
        let (mut takes_remb, mut is_numbered) = (false, false);
        for producer in transport.producers.iter().filter_map(|p| self.producers.get(*p)) {
            takes_remb |= producer.codecs.iter().any(|codec| codec.remb);
            is_numbered |= producer.ids.iter().any(|extension| extension.kind == ExtensionKind::TransportCc);
        }
        let bounds = self.config.bandwidth;
        let Some(transport) = self.transports.get_mut(key) else { return };
        if takes_remb && !is_numbered {
            transport.receiving.get_or_insert_with(|| Box::new(Receiving::new(bounds)));
        } else if let Some(gone) = transport.receiving.take() {
            self.note_incoming(gone.told(), None);
        }
    }

    /// Keeps the sum over all transports.
    pub(super) fn note_incoming(&mut self, before: Option<f64>, now: Option<f64>) {
        let sum = self.stats.gauge(Gauge::AvailableIncoming) as usize;
        let (before, now) = (before.unwrap_or_default() as usize, now.unwrap_or_default() as usize);
        self.stats.set(Gauge::AvailableIncoming, (sum + now).saturating_sub(before));
    }

    /// Tells a publisher what its path is taken to carry, or less where the room limits it.
    pub(super) fn send_remb(&mut self, key: Key, now: Instant) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        let limit = self.rooms.get(&transport.room).and_then(|room| room.max_publish_bitrate);
        let Some(receiving) = transport.receiving.as_mut().filter(|_| transport.state == TransportState::Connected)
        else {
            return;
        };
        let before = receiving.told();
        let estimate = receiving.tell();
        let bitrate = limit.map_or(estimate, |limit| estimate.min(limit as f64)) as f32;
        let producers = transport.producers.iter().filter_map(|p| self.producers.get(*p));
        let ssrcs = producers.flat_map(|producer| &producer.streams).filter_map(|stream| stream.ssrc).collect();
        let message = ReceiverEstimatedMaximumBitrate { sender_ssrc: transport.ssrc, bitrate, ssrcs };
        self.note_incoming(before, Some(estimate));
        if let Some(bytes) = marshal(&message) {
            self.stats.count(Counter::RembOut);
            self.send_rtcp(key, bytes, now);
        }
    }

    /// What became of a publisher's packets since the last report.
    pub(super) fn note_loss_received(&mut self, key: Key, expected: u64, lost: u64, now: Instant) {
        let micros = micros_since(self.epoch, now);
        let Some(transport) = self.transports.get_mut(key).filter(|_| expected > 0) else { return };
        let fraction = lost as f64 / expected as f64;
        let before = transport.loss_received.unwrap_or(fraction);
        transport.loss_received = Some(before + 0.5 * (fraction - before));
        if let Some(receiving) = &mut transport.receiving {
            receiving.lost(fraction, micros);
        }
    }
}
