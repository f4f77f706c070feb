//! The one place where the benchmarks read the clock.

use std::time::Instant;

use jiff::Timestamp;

/// Monotonic time, to measure with.
#[expect(clippy::disallowed_methods, reason = "the adapter that reads the clock for the benchmarks")]
pub fn now() -> Instant {
    Instant::now()
}

/// Wall-clock time, for what goes into objects.
#[expect(clippy::disallowed_methods, reason = "the adapter that reads the clock for the benchmarks")]
pub fn wall() -> Timestamp {
    Timestamp::now()
}

/// Wall-clock time in nanoseconds, as the kernel stamps datagrams.
pub fn wall_nanos() -> u64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64)
}
