//! Whether a media node's lease still speaks for it, and whether we could have heard it.
//!
//! Renewals are dated by our own monotonic clock at the moment the watch shows them, so clocks of other
//! machines do not matter. Our own leader lease is renewed through the API server and comes back through
//! the same watch as the nodes' leases: while it arrives, so would theirs. When it does not, nobody is
//! judged, and everybody gets a full lease duration and some slack to renew again once it does.

use std::time::Duration;

/// How long the canary may be silent before our contact with the API server counts as interrupted.
pub const CANARY_SILENCE: Duration = Duration::from_secs(5);
/// Time a node gets on top of its lease duration after contact was interrupted.
pub const RETURN_SLACK: Duration = Duration::from_secs(3);
/// Leases that expire within one lease duration before it looks like our fault rather than theirs: this many and a third of the fleet.
pub const MASS_EXPIRY: usize = 3;
/// What a lease is believed for when it does not say.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(8);

/// A node's lease as the watch shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenLease {
    /// `spec.renewTime`, compared for change only.
    pub renewed: Option<jiff::Timestamp>,
    /// When we saw it change.
    pub seen: Duration,
    /// `spec.leaseDurationSeconds`.
    pub duration: Duration,
}

/// What the lease says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseState {
    /// There is none.
    Absent,
    /// Renewed in time. Runs out at the given time unless renewed.
    Fresh(Duration),
    /// Not renewed in time, but it may be us who did not hear. Judged again at the given time.
    Unheard(Duration),
    /// Not renewed although we would have heard.
    Expired,
}

/// Our contact with the API server.
#[derive(Clone, Debug, Default)]
pub struct Contact {
    canary: Option<Duration>,
    since: Option<Duration>,
    mass_expiry: Option<Duration>,
}

impl Contact {
    /// Our own lease came back through the watch.
    pub fn canary_seen(&mut self, now: Duration) {
        if !self.is_current(now) {
            self.since = Some(now);
        }
        self.canary = Some(now);
    }

    /// Too many leases expired at once for it to be their fault.
    pub fn mass_expiry_seen(&mut self, now: Duration) {
        self.mass_expiry = Some(now);
    }

    /// When [`Contact::mass_expiry_seen`] was last told.
    pub fn mass_expiry(&self) -> Option<Duration> {
        self.mass_expiry
    }

    /// Whether we would hear a renewal.
    pub fn is_current(&self, now: Duration) -> bool {
        self.canary.is_some_and(|seen| now.saturating_sub(seen) <= CANARY_SILENCE)
    }

    /// What `lease` says at `now`.
    pub fn judge(&self, lease: Option<&SeenLease>, now: Duration) -> LeaseState {
        let Some(lease) = lease else { return LeaseState::Absent };
        let expires = lease.seen + lease.duration;
        if now < expires {
            return LeaseState::Fresh(expires);
        }
        let Some(since) = self.since.filter(|_| self.is_current(now)) else {
            return LeaseState::Unheard(now + Duration::from_secs(1));
        };
        let excused = |from: Duration| from + lease.duration + RETURN_SLACK;
        // The first contact of a leader's life is no interruption for leases seen after it.
        let heard_from = [Some(since).filter(|s| lease.seen < *s), self.mass_expiry].into_iter().flatten().max();
        match heard_from.map(excused) {
            Some(until) if now < until => LeaseState::Unheard(until),
            _ => LeaseState::Expired,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn lease(seen: u64) -> SeenLease {
        SeenLease { renewed: None, seen: s(seen), duration: s(8) }
    }

    #[test]
    fn a_lease_expires_only_while_our_own_renewals_arrive() {
        let mut contact = Contact::default();
        contact.canary_seen(s(0));
        assert_eq!(contact.judge(Some(&lease(10)), s(17)), LeaseState::Fresh(s(18)));
        assert_eq!(contact.judge(Some(&lease(10)), s(18)), LeaseState::Unheard(s(19)), "nothing heard since 0");
        for t in (2..=18).step_by(2) {
            contact.canary_seen(s(t));
        }
        assert_eq!(contact.judge(Some(&lease(10)), s(18)), LeaseState::Expired);
        assert_eq!(contact.judge(None, s(18)), LeaseState::Absent);
    }

    #[test]
    fn after_an_outage_everyone_gets_a_whole_lease_and_slack() {
        let mut contact = Contact::default();
        contact.canary_seen(s(0));
        contact.canary_seen(s(100));
        assert_eq!(contact.judge(Some(&lease(2)), s(101)), LeaseState::Unheard(s(111)));
        for t in (102..=112).step_by(2) {
            contact.canary_seen(s(t));
        }
        assert_eq!(contact.judge(Some(&lease(2)), s(110)), LeaseState::Unheard(s(111)));
        assert_eq!(contact.judge(Some(&lease(2)), s(111)), LeaseState::Expired);
        assert_eq!(
            contact.judge(Some(&lease(103)), s(111)),
            LeaseState::Expired,
            "renewed since: on its own clock again"
        );
    }
}
