//! What workers publish and handles read, without either waiting for the other.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

use super::WorkerId;
use crate::core::command::Event;
use crate::core::{Gauge, Stats};

/// Numbers of one worker. Each is read on its own: a snapshot may mix moments, never tear a value.
#[derive(Debug)]
pub(super) struct Shared {
    values: [AtomicU64; Stats::LEN],
    lag_micros: AtomicU64,
    /// Rooms given to this worker that have no transport yet.
    expected_rooms: AtomicUsize,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            values: [const { AtomicU64::new(0) }; Stats::LEN],
            lag_micros: AtomicU64::new(0),
            expected_rooms: AtomicUsize::new(0),
        }
    }
}

impl Shared {
    pub fn publish(&self, stats: &Stats, lag: Duration) {
        for (slot, value) in self.values.iter().zip(stats.values()) {
            slot.store(value, Ordering::Relaxed);
        }
        self.lag_micros.store(lag.as_micros() as u64, Ordering::Relaxed);
    }

    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        stats.add_values(self.values.iter().map(|v| v.load(Ordering::Relaxed)));
        stats
    }

    pub fn lag(&self) -> Duration {
        Duration::from_micros(self.lag_micros.load(Ordering::Relaxed))
    }

    /// The load that decides where a new room goes: streams, and what is about to come.
    pub fn load(&self) -> u64 {
        let stats = self.stats();
        let streams = stats.gauge(Gauge::Consumers) + stats.gauge(Gauge::Producers) + stats.gauge(Gauge::Transports);
        streams + 8 * self.expected_rooms.load(Ordering::Relaxed) as u64
    }

    pub fn expect_room(&self) {
        self.expected_rooms.fetch_add(1, Ordering::Relaxed);
    }

    /// A room got its first transport.
    pub fn room_came(&self) {
        let _ = self.expected_rooms.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |rooms| rooms.checked_sub(1));
    }
}

/// Who wants to hear of events.
#[derive(Debug, Default)]
pub(super) struct Directory {
    listeners: Mutex<Vec<mpsc::Sender<(WorkerId, Event)>>>,
}

impl Directory {
    pub fn listen(&self, listener: mpsc::Sender<(WorkerId, Event)>) {
        self.listeners.lock().expect("nobody panics while holding it").push(listener);
    }

    /// The listeners that still listen.
    pub fn listeners(&self) -> Vec<mpsc::Sender<(WorkerId, Event)>> {
        let mut listeners = self.listeners.lock().expect("nobody panics while holding it");
        listeners.retain(|l| !l.is_closed());
        listeners.clone()
    }
}
