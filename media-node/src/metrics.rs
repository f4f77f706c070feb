//! What is counted, in OpenMetrics. No label holds the name of a room, a user or an address.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, MetricEncoder, text},
    metrics::{
        MetricType,
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::ConstGauge,
        info::Info,
    },
    registry::{Registry, Unit},
};

use crate::{
    core::{self, Stats},
    rooms::Totals,
};

/// Prefix of every name.
const PREFIX: &str = "callplane_media";

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    route: String,
    status: u16,
}

/// The counters of this process.
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
}

/// What is looked up at each scrape.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    /// Of the packet cores.
    pub stats: Stats,
    /// How late the latest event loop was in the last second.
    pub lag: Duration,
    /// Datagrams that one system call can send at most.
    pub segments: usize,
    /// Of the rooms.
    pub totals: Totals,
}

type Source = Box<dyn Fn() -> Numbers + Send + Sync>;

/// Where the numbers of rooms and of media come from, once there are any.
#[derive(Clone, Default)]
pub struct Sources(Arc<OnceLock<Source>>);

impl Sources {
    /// Sets it; later calls change nothing.
    pub fn set(&self, source: impl Fn() -> Numbers + Send + Sync + 'static) {
        let _ = self.0.set(Box::new(source));
    }
}

impl Metrics {
    /// With numbers of rooms and media from `sources` at each scrape.
    pub fn new(sources: Sources) -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let requests = Family::<RequestLabels, Counter>::default();
        registry.register("http_requests", "Requests answered, by route pattern and status", requests.clone());
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The running version", version);
        registry.register_collector(Box::new(AtScrape(sources)));
        Self { registry, requests }
    }

    /// Where other parts register their own.
    pub fn registry(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// Counts an answered request.
    pub fn request(&self, route: String, status: u16) {
        self.requests.get_or_create(&RequestLabels { route, status }).inc();
    }

    /// Everything as text.
    ///
    /// # Errors
    /// When formatting fails.
    pub fn exposition(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

struct AtScrape(Sources);

impl fmt::Debug for AtScrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AtScrape")
    }
}

impl Collector for AtScrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(source) = self.0.0.get() else { return Ok(()) };
        let Numbers { stats, lag, segments, totals } = source();
        for counter in core::Counter::ALL {
            let metric = ConstCounter::new(stats.counter(*counter));
            let help = "Counted by the packet core";
            metric.encode(encoder.encode_descriptor(counter.name(), help, None, metric.metric_type())?)?;
        }
        for gauge in [
            core::Gauge::Connected,
            core::Gauge::Tuples,
            core::Gauge::ConsumersHeld,
            core::Gauge::AvailableOutgoing,
            core::Gauge::AvailableIncoming,
        ] {
            let metric = ConstGauge::new(i64::try_from(stats.gauge(gauge)).unwrap_or(i64::MAX));
            let help = "Existing now in the packet core";
            metric.encode(encoder.encode_descriptor(gauge.name(), help, None, metric.metric_type())?)?;
        }
        for (name, value, help) in [
            ("rooms", totals.rooms, "Rooms served"),
            ("participants", totals.participants, "Participants of all rooms"),
            ("transports", totals.transports, "WebRTC transports of all rooms"),
            ("producers", totals.producers, "Tracks published in all rooms"),
            ("consumers", totals.consumers, "Tracks subscribed to in all rooms"),
        ] {
            let metric = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)?;
        }
        let layers = Layers(&stats);
        let help = "Consumers of layered tracks, by the highest spatial layer that they were given last";
        layers.encode(encoder.encode_descriptor("consumers_by_spatial_layer", help, None, layers.metric_type())?)?;
        let batches = Batches(&stats);
        let help = "Datagrams that left in one transmit";
        batches.encode(encoder.encode_descriptor("transmit_packets", help, None, batches.metric_type())?)?;
        let most = ConstGauge::new(i64::try_from(segments).unwrap_or(i64::MAX));
        let help = "Datagrams that one system call can send; 1 where the system does not segment";
        most.encode(encoder.encode_descriptor("segmentation_offload_packets", help, None, most.metric_type())?)?;
        let late = ConstGauge::new(lag.as_secs_f64());
        let help = "How late the latest event loop was in the last second";
        let unit = Some(&Unit::Seconds);
        late.encode(encoder.encode_descriptor("event_loop_lag", help, unit, late.metric_type())?)?;
        let drops = Drops(&stats);
        let help = "Packets that went nowhere, by reason";
        drops.encode(encoder.encode_descriptor("packets_dropped", help, None, drops.metric_type())?)
    }
}

struct Drops<'a>(&'a Stats);

impl EncodeMetric for Drops<'_> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        for reason in core::Drop::ALL {
            let labels = [("reason", reason.name())];
            ConstCounter::new(self.0.dropped(*reason)).encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

struct Layers<'a>(&'a Stats);

impl EncodeMetric for Layers<'_> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let layers = [core::Gauge::SpatialLayer0, core::Gauge::SpatialLayer1, core::Gauge::SpatialLayer2];
        for (layer, gauge) in ["0", "1", "2"].into_iter().zip(layers) {
            let count = i64::try_from(self.0.gauge(gauge)).unwrap_or(i64::MAX);
            ConstGauge::new(count).encode(encoder.encode_family(&[("layer", layer)])?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

/// How much segmentation offload is made use of.
struct Batches<'a>(&'a Stats);

impl EncodeMetric for Batches<'_> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let bounds = core::BATCHES.iter().map(|most| *most as f64).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(self.0.batches().iter().copied()).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabels>(self.0.counter(core::Counter::PacketsOut) as f64, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

/// No exemplars are kept, so theirs are none.
type NoLabels = [(&'static str, &'static str); 0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exposition_names_units_and_reasons_and_no_objects() {
        let sources = Sources::default();
        let metrics = Metrics::new(sources.clone());
        metrics.request("/api/rooms/{call_id}/".into(), 200);
        assert!(!metrics.exposition().unwrap().contains("rooms "), "nothing before there is anything");
        let totals = Totals { rooms: 2, participants: 5, ..Totals::default() };
        sources.set(move || Numbers { totals, ..Numbers::default() });
        let text = metrics.exposition().unwrap();
        for line in [
            "callplane_media_http_requests_total{route=\"/api/rooms/{call_id}/\",status=\"200\"} 1",
            "callplane_media_rooms 2",
            "callplane_media_participants 5",
            "callplane_media_packets_in_total 0",
            "callplane_media_consumers_by_spatial_layer{layer=\"2\"} 0",
            "callplane_media_transmit_packets_bucket{le=\"8.0\"} 0",
            "callplane_media_transmit_packets_bucket{le=\"+Inf\"} 0",
            "callplane_media_available_incoming_bitrate 0",
            "callplane_media_segmentation_offload_packets 0",
            "callplane_media_lost_by_subscribers_total 0",
            "callplane_media_event_loop_lag_seconds 0.0",
            "callplane_media_packets_dropped_total{reason=\"srtp_replay\"} 0",
            "# EOF",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
