//! Divides what the path to a subscriber carries among the streams that it wants
//! ([`allocate`](super::congestion::allocation)).

use std::time::{Duration, Instant};

use super::bandwidth::micros_since;
use super::command::{Event, Layers, MediaKind};
use super::congestion::allocation::{Demand, RAISE, Step, allocate};
use super::consumer::Consumer;
use super::layers::{MAX_SPATIAL, MAX_TEMPORAL};
use super::producer::Producer;
use super::{Config, Core, Gauge, Key};

/// After going down, a stream does not go up again for this long; longer each time that going up was
/// followed by going down soon.
const HOLD: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));
/// A rise that lasts this long was right.
const PROVEN: Duration = Duration::from_secs(15);
/// Where nothing can be probed with, a paused stream is tried again after this long.
const TRIAL: Duration = Duration::from_secs(10);

/// Of what the client itself holds for equal, the pictures of whoever speaks come before those of everybody else.
const fn rank(priority: u8, speaks: bool) -> u16 {
    2 * priority as u16 + speaks as u16
}

/// What one stream went through.
#[derive(Debug, Default)]
pub(crate) struct Share {
    raised: Option<Instant>,
    lowered: Option<Instant>,
    hold: Duration,
}

impl Share {
    fn is_held(&self, now: Instant) -> bool {
        self.lowered.is_some_and(|at| now.saturating_duration_since(at) < self.hold)
    }

    fn moved(&mut self, up: bool, now: Instant) {
        if up {
            self.raised = Some(now);
            return;
        }
        let was_wrong = self.raised.take().is_some_and(|at| now.saturating_duration_since(at) < PROVEN);
        self.hold = if was_wrong { (self.hold * 2).clamp(HOLD.0, HOLD.1) } else { HOLD.0 };
        self.lowered = Some(now);
    }
}

impl Core {
    /// Gives each stream of a transport its share. Returns what it takes for each to have all of it, in
    /// bits per second.
    pub(super) fn divide(&mut self, key: Key, now: Instant) -> f64 {
        let Some(transport) = self.transports.get(key) else { return 0.0 };
        let Some(congestion) = &transport.congestion else { return 0.0 };
        let micros = micros_since(self.epoch, now);
        let (available, is_harmful) = (transport.available, congestion.is_harmful(micros));
        let speaker = self.rooms.get(&transport.room).and_then(|room| room.speaker.current());
        let speaker = speaker.and_then(|p| self.producers.get(*self.producer_keys.get(&p)?)).map(|p| p.transport);
        let (mut keys, mut demands, mut sound) = (Vec::new(), Vec::new(), 0.0);
        let mut can_probe = false;
        for consumer_key in &transport.consumers {
            let Some(consumer) = self.consumers.get(*consumer_key) else { continue };
            let Some(producer) = self.producers.get(consumer.producer) else { continue };
            can_probe |= consumer.has_transport_cc && consumer.rtx.is_some();
            if consumer.paused || producer.paused {
                continue;
            }
            if producer.kind == MediaKind::Audio {
                // Its own estimate knows of what bears a number only; the subscriber's knows of everything.
                if consumer.has_transport_cc || !congestion.expects_feedback() {
                    sound += producer.bitrate(Layers::ALL, now) as f64;
                }
                continue;
            }
            let ladder = ladder(producer, consumer.layers.preferred(), now, &self.config);
            keys.push(*consumer_key);
            demands.push(Demand {
                priority: rank(consumer.priority, speaker == Some(producer.transport)),
                current: place(&ladder, consumer.layers.allowed()),
                held: consumer.share.is_held(now),
                ladder,
            });
        }
        let wanted: f64 = demands.iter().filter_map(|d| d.ladder.last()).map(|step| step.bitrate).sum();
        let chosen = match available {
            Some(available) => allocate(available - sound, is_harmful, &demands),
            None => demands.iter().map(|d| d.ladder.len().checked_sub(1)).collect(),
        };
        for ((consumer, demand), chosen) in keys.into_iter().zip(&demands).zip(chosen) {
            let tries = || !can_probe && self.consumers.get(consumer).is_some_and(|c| c.was_paused_for(TRIAL, now));
            let chosen = chosen.or_else(|| tries().then_some(0));
            let layers = match available {
                Some(_) => chosen.map(|at| demand.ladder[at].layers),
                None => Some(Layers::ALL),
            };
            self.grant(consumer, layers, now);
        }
        // With what is to be spare, or the last step would never be known to fit.
        wanted * RAISE + sound
    }

    fn grant(&mut self, key: Key, layers: Option<Layers>, now: Instant) {
        let Some(consumer) = self.consumers.get_mut(key) else { return };
        let before = consumer.layers.allowed();
        if before == layers {
            return;
        }
        consumer.layers.allow(layers);
        consumer.share.moved(layers > before, now);
        if before.is_none() == layers.is_none() {
            return;
        }
        let paused = layers.is_none();
        let held = self.stats.gauge(Gauge::ConsumersHeld) as usize;
        self.stats.set(Gauge::ConsumersHeld, if paused { held + 1 } else { held.saturating_sub(1) });
        let consumer = (consumer.id, consumer.transport);
        if let Some(transport) = self.transports.get(consumer.1) {
            let (consumer, transport) = (consumer.0, transport.id);
            self.events.push_back(Event::BandwidthPaused { consumer, transport, paused });
        }
        if !paused {
            self.want_key_frame(key, now);
        }
    }
}

impl Consumer {
    /// Bandwidth was too short for any of it for so long.
    fn was_paused_for(&self, time: Duration, now: Instant) -> bool {
        let lowered = self.share.lowered.is_some_and(|at| now.saturating_duration_since(at) > time);
        self.layers.allowed().is_none() && lowered
    }
}

/// What can be had of a producer up to `preferred`, from the lowest on; each step costs more than the one
/// before. The last is everything that is wanted. Layers that are not being received are none.
fn ladder(producer: &Producer, preferred: Layers, now: Instant, config: &Config) -> Vec<Step<Layers>> {
    let timeout = config.encoding_timeout;
    let mut ladder: Vec<Step<Layers>> = Vec::new();
    let spatial = match producer.streams.as_slice() {
        [only] => only.rates.active(now, timeout).map_or(0, |active| active.spatial),
        several => several.len() as u8 - 1,
    };
    for spatial in 0..=spatial.min(preferred.spatial).min(MAX_SPATIAL as u8) {
        let stream = producer.streams.get(usize::from(spatial)).or(producer.streams.first());
        let Some(active) = stream.and_then(|stream| stream.rates.active(now, timeout)) else { continue };
        for temporal in 0..=active.temporal.min(preferred.temporal).min(MAX_TEMPORAL as u8) {
            let layers = Layers { spatial, temporal };
            if layers > preferred {
                break;
            }
            let bitrate = producer.bitrate(layers, now) as f64;
            if ladder.last().is_none_or(|step| bitrate > step.bitrate) {
                ladder.push(Step { layers, bitrate });
            } else if let Some(step) = ladder.last_mut() {
                step.layers = layers;
            }
        }
    }
    match ladder.last_mut() {
        Some(step) => step.layers = Layers::ALL,
        // Nothing has come yet, or has been measured.
        None => ladder.push(Step { layers: Layers::ALL, bitrate: 0.0 }),
    }
    ladder
}

/// Where in a ladder what is allowed lies.
fn place(ladder: &[Step<Layers>], allowed: Option<Layers>) -> Option<usize> {
    let allowed = allowed?;
    Some(ladder.iter().rposition(|step| step.layers <= allowed).unwrap_or(0))
}
