//! The one place that reads the clocks and the operating system's randomness.
//!
//! Everything else is told the time and given a generator, so that tests decide both.

use std::time::Instant;

use rand::{SeedableRng, rngs::StdRng};

/// The monotonic clock.
#[expect(clippy::disallowed_methods, reason = "the clock's adapter")]
pub fn now() -> Instant {
    Instant::now()
}

/// The wall clock.
#[expect(clippy::disallowed_methods, reason = "the clock's adapter")]
pub fn timestamp() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// A cryptographic generator, seeded by the operating system.
#[expect(clippy::disallowed_methods, reason = "the generator's adapter")]
pub fn generator() -> StdRng {
    StdRng::from_rng(&mut rand::rng())
}
