//! One leader at a time, by a Lease.
//!
//! The claim carries its expiry on our own monotonic clock, counted from the moment *before* the renewal
//! was sent, and is asked at every write. It ends earlier than others may take the lease, so there is a
//! pause between two leaders rather than an overlap. A process that was paused for longer finds its claim
//! expired; a request that was on its way meanwhile is stopped by its resource version.

mod decide;
mod lease;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

pub use decide::{Observed, Step, decide};
pub use lease::{Election, Leading};

/// For how long a lease that is not renewed keeps others out. Long enough to lead through a few seconds in
/// which an overloaded API server answers nobody: changing leaders then would only add to its load.
pub const LEASE_DURATION: Duration = Duration::from_secs(12);
/// How often the leader renews.
pub const RENEW_EVERY: Duration = Duration::from_secs(2);
/// How often a follower looks.
pub const LOOK_EVERY: Duration = Duration::from_millis(700);
/// How much earlier the leader stops than others may start.
pub const MARGIN: Duration = Duration::from_secs(3);
/// Name of the Lease.
pub const LEASE_NAME: &str = "callplane-operator";

/// The right to act, until it expires.
#[derive(Debug, Default)]
pub struct Claim {
    /// Milliseconds on the monotonic clock; 0 when there is no claim.
    until: AtomicU64,
}

impl Claim {
    /// Whether it holds at `now`.
    pub fn holds(&self, now: Duration) -> bool {
        now.as_millis() < u128::from(self.until.load(Ordering::Acquire))
    }

    /// Extends it: the lease was renewed by a request sent at `sent`.
    pub fn renewed(&self, sent: Duration) {
        let until = u64::try_from((sent + LEASE_DURATION - MARGIN).as_millis()).unwrap_or(u64::MAX);
        self.until.store(until, Ordering::Release);
    }

    /// Gives it up.
    pub fn drop_now(&self) {
        self.until.store(0, Ordering::Release);
    }
}

const _: () = assert!(
    crate::pool::decide::CORDON_AGE.as_secs()
        >= LEASE_DURATION.as_secs() - MARGIN.as_secs() + crate::api::WRITE_TIMEOUT.as_secs(),
    "a former leader's last write has to be over before a cordoned node goes"
);
