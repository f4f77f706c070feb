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
    /// Datagrams that one system call can send.
    segments: AtomicUsize,
    /// Rooms given to this worker that have no transport yet.
    expected_rooms: AtomicUsize,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            values: [const { AtomicU64::new(0) }; Stats::LEN],
            lag_micros: AtomicU64::new(0),
            segments: AtomicUsize::new(1),
            expected_rooms: AtomicUsize::new(0),
        }
    }
}

impl Shared {
    pub fn publish(&self, stats: &Stats, lag: Duration, segments: usize) {
        self.segments.store(segments, Ordering::Relaxed);
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

    pub fn segments(&self) -> usize {
        self.segments.load(Ordering::Relaxed)
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

/// Whoever hears of events.
pub(super) type Listener = mpsc::Sender<(WorkerId, Event)>;

/// Who wants to hear of events.
#[derive(Debug, Default)]
pub(super) struct Directory {
    /// Counts the listeners that ever came; each has its number.
    latest: AtomicU64,
    listeners: Mutex<Vec<(u64, Listener)>>,
}

impl Directory {
    pub fn listen(&self, listener: Listener) {
        let mut listeners = self.listeners.lock().expect("nobody panics while holding it");
        listeners.retain(|(_, l)| !l.is_closed());
        let number = self.latest.load(Ordering::Relaxed) + 1;
        listeners.push((number, listener));
        self.latest.store(number, Ordering::Release);
    }

    /// Those who came after number `known`, which moves on.
    pub fn newcomers(&self, known: &mut u64) -> Vec<Listener> {
        if self.latest.load(Ordering::Acquire) == *known {
            return Vec::new();
        }
        let listeners = self.listeners.lock().expect("nobody panics while holding it");
        let new = listeners.iter().filter(|(number, _)| number > known).map(|(_, l)| l.clone()).collect();
        *known = self.latest.load(Ordering::Relaxed);
        new
    }
}
