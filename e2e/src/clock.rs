//! The one place where the scenarios read the clock.

use std::time::Instant;

use jiff::Timestamp;

/// Monotonic time, to measure with.
#[expect(clippy::disallowed_methods, reason = "the adapter that reads the clock for the scenarios")]
pub fn now() -> Instant {
    Instant::now()
}

/// Wall-clock time, for tokens and names.
#[expect(clippy::disallowed_methods, reason = "the adapter that reads the clock for the scenarios")]
pub fn wall() -> Timestamp {
    Timestamp::now()
}
