//! What time it is. Everything else is told.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// Time since the process started. Never jumps: what deadlines are counted by.
    pub mono: Duration,
    /// Date and time: what is written into objects, compared only with what others wrote there.
    pub wall: Timestamp,
}

impl Now {
    /// The date and time in whole seconds, as Kubernetes writes it.
    pub fn wall_seconds(self) -> Timestamp {
        Timestamp::from_second(self.wall.as_second()).unwrap_or(self.wall)
    }
}

/// The machine's clocks. The monotonic one is that of tokio's timers, so what waits and what is dated never disagree, and a
/// test that pauses the one has paused the other.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// A clock whose monotonic side starts at zero.
    #[expect(clippy::disallowed_methods, reason = "this is where the time comes from")]
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// What time it is.
    #[expect(clippy::disallowed_methods, reason = "this is where the time comes from")]
    pub fn now(&self) -> Now {
        Now { mono: self.started.elapsed(), wall: Timestamp::now() }
    }
}
