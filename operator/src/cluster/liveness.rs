//! Whether a media node's lease still speaks for it, and whether we could have heard it.
//!
//! Renewals are dated by our own monotonic clock at the moment the watch shows them, so clocks of other
//! machines do not matter. A watch shows changes in the order in which they were made, so a renewal that arrives,
//! whosever it is, proves that all earlier ones have been heard. Our own leader lease is renewed through the API server
//! and comes back through the same watch, so there always is one to wait for; a follower hears its leader and the nodes.
//! When nothing is heard nobody is judged, and everybody gets a full lease duration and some slack to renew once it is.

use std::time::Duration;

/// How long no renewal at all may be heard before our contact with the API server counts as interrupted.
pub const SILENCE: Duration = Duration::from_secs(5);
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
    heard: Option<Duration>,
    since: Option<Duration>,
    mass_expiry: Option<Duration>,
}

impl Contact {
    /// A renewal came through the watch: our own, or a node's.
    pub fn heard(&mut self, now: Duration) {
        if !self.is_current(now) {
            self.since = Some(now);
        }
        self.heard = Some(now);
    }

    /// Whether these expiries (all of them in the past) are too many at once, out of `serving` leases, for it to be their
    /// fault, and nobody is to be judged for that yet.
    ///
    /// The time that everybody gets for it runs from the moment at which they were too many and we could have heard
    /// otherwise. Who looks later (a new leader) does not begin it anew.
    pub fn suspect(&mut self, mut expiries: Vec<Duration>, serving: usize, now: Duration) -> bool {
        expiries.sort_unstable();
        let Some(last) = expiries.last().copied() else { return false };
        let needed = MASS_EXPIRY.max(serving.div_ceil(3));
        let mut together = expiries.into_iter().filter(|at| *at + DEFAULT_LEASE >= last);
        let Some(at) = together.nth(needed - 1) else { return false };
        let from = self.since.map_or(at, |since| since.max(at));
        self.mass_expiry = self.mass_expiry.max(Some(from));
        now < from + DEFAULT_LEASE + RETURN_SLACK
    }

    /// Whether we would hear a renewal.
    pub fn is_current(&self, now: Duration) -> bool {
        self.heard.is_some_and(|seen| now.saturating_sub(seen) <= SILENCE)
    }

    /// For how long we would have heard every renewal.
    pub fn uninterrupted(&self, now: Duration) -> Duration {
        let since = self.since.filter(|_| self.is_current(now));
        since.map_or(Duration::ZERO, |since| now.saturating_sub(since))
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
    fn a_lease_expires_only_while_renewals_arrive() {
        let mut contact = Contact::default();
        contact.heard(s(0));
        assert_eq!(contact.judge(Some(&lease(10)), s(17)), LeaseState::Fresh(s(18)));
        assert_eq!(contact.judge(Some(&lease(10)), s(18)), LeaseState::Unheard(s(19)), "nothing heard since 0");
        for t in (2..=18).step_by(2) {
            contact.heard(s(t));
        }
        assert_eq!(contact.judge(Some(&lease(10)), s(18)), LeaseState::Expired);
        assert_eq!(contact.judge(None, s(18)), LeaseState::Absent);
    }

    #[test]
    fn an_interruption_begins_the_contact_anew() {
        let mut contact = Contact::default();
        assert_eq!(contact.uninterrupted(s(9)), s(0));
        contact.heard(s(10));
        contact.heard(s(14));
        assert_eq!(contact.uninterrupted(s(16)), s(6));
        assert_eq!(contact.uninterrupted(s(20)), s(0), "nothing was heard for 6 s");
        contact.heard(s(21));
        assert_eq!(contact.uninterrupted(s(22)), s(1));
    }

    #[test]
    fn after_an_outage_everyone_gets_a_whole_lease_and_slack() {
        let mut contact = Contact::default();
        contact.heard(s(0));
        contact.heard(s(100));
        assert_eq!(contact.judge(Some(&lease(2)), s(101)), LeaseState::Unheard(s(111)));
        for t in (102..=112).step_by(2) {
            contact.heard(s(t));
        }
        assert_eq!(contact.judge(Some(&lease(2)), s(110)), LeaseState::Unheard(s(111)));
        assert_eq!(contact.judge(Some(&lease(2)), s(111)), LeaseState::Expired);
        assert_eq!(
            contact.judge(Some(&lease(103)), s(111)),
            LeaseState::Expired,
            "renewed since: on its own clock again"
        );
    }

    #[test]
    fn expiries_are_suspicious_only_together_and_only_for_a_while() {
        let mut contact = Contact::default();
        contact.heard(s(0));
        assert!(!contact.suspect(vec![], 9, s(20)));
        assert!(!contact.suspect(vec![s(20), s(20)], 2, s(20)), "two are not many");
        assert!(!contact.suspect(vec![s(20), s(20), s(20)], 10, s(20)), "three of ten are not many");
        assert!(
            !contact.suspect(vec![s(3), s(11), s(20)], 9, s(20)),
            "nor are three that have nothing to do with each other"
        );
        assert!(contact.suspect(vec![s(12), s(15), s(18)], 9, s(28)));
        assert!(!contact.suspect(vec![s(12), s(15), s(18)], 9, s(29)), "they had their chance");
    }
}
