//! What a candidate does about the lease that it sees.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;

use super::{LEASE_DURATION, RENEW_EVERY};

/// The lease as this candidate saw it, dated by its own clock.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// The Lease; `None` when there is none.
    pub lease: Option<Lease>,
    /// When its version changed last, as far as we saw.
    pub changed: Duration,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Create it in our name.
    Create,
    /// Put our name on it.
    Take,
    /// Renew it.
    Renew,
    /// Look again after this time.
    Wait(Duration),
}

impl Observed {
    /// Takes in another look.
    pub fn see(&mut self, lease: Option<Lease>, now: Duration) {
        let version = |l: &Option<Lease>| l.as_ref().and_then(|l| l.metadata.resource_version.clone());
        if version(&lease) != version(&self.lease) {
            self.changed = now;
        }
        self.lease = lease;
    }

    /// Who holds it.
    pub fn holder(&self) -> Option<&str> {
        self.lease.as_ref()?.spec.as_ref()?.holder_identity.as_deref().filter(|h| !h.is_empty())
    }
}

/// Decides for candidate `me`.
pub fn decide(observed: &Observed, me: &str, now: Duration, look_every: Duration) -> Step {
    if observed.lease.is_none() {
        return Step::Create;
    }
    match observed.holder() {
        None => Step::Take,
        Some(holder) if holder == me => {
            let next = observed.changed + RENEW_EVERY;
            if now >= next { Step::Renew } else { Step::Wait(next - now) }
        }
        Some(_) => {
            let duration = observed
                .lease
                .as_ref()
                .and_then(|l| l.spec.as_ref()?.lease_duration_seconds)
                .and_then(|s| u64::try_from(s).ok())
                .map_or(LEASE_DURATION, Duration::from_secs);
            match (observed.changed + duration).checked_sub(now) {
                Some(rest) if !rest.is_zero() => Step::Wait(rest.min(look_every)),
                _ => Step::Take,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{api::coordination::v1::LeaseSpec, apimachinery::pkg::apis::meta::v1::ObjectMeta};
    use proptest::prelude::*;

    use super::*;
    use crate::leader::{Claim, LOOK_EVERY};

    fn lease(holder: &str, version: u64) -> Lease {
        Lease {
            metadata: ObjectMeta { resource_version: Some(version.to_string()), ..ObjectMeta::default() },
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.to_owned()),
                lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
                ..LeaseSpec::default()
            }),
        }
    }

    #[test]
    fn a_candidate_takes_what_is_free_and_waits_out_what_is_not() {
        let s = Duration::from_secs;
        let seen = |lease, changed| Observed { lease, changed: s(changed) };
        for (observed, now, expected) in [
            (seen(None, 0), 1, Step::Create),
            (seen(Some(lease("", 1)), 0), 1, Step::Take),
            (seen(Some(lease("b", 1)), 0), 11, Step::Wait(LOOK_EVERY)),
            (seen(Some(lease("b", 1)), 0), 12, Step::Take),
            (seen(Some(lease("a", 1)), 0), 1, Step::Wait(s(1))),
            (seen(Some(lease("a", 1)), 0), 2, Step::Renew),
        ] {
            assert_eq!(decide(&observed, "a", s(now), LOOK_EVERY), expected, "{observed:?} at {now}");
        }
    }

    /// A server with one lease, and candidates that may stall at any point between reading, deciding and writing.
    #[derive(Default)]
    struct Server {
        version: u64,
        holder: Option<String>,
    }

    proptest! {
        #[test]
        fn two_claims_never_hold_at_once(steps in prop::collection::vec((0usize..3, 0u64..3_000, prop::bool::ANY), 1..200)) {
            let mut server = Server::default();
            let mut now = Duration::ZERO;
            let names = ["a", "b", "c"];
            let mut seen: [Observed; 3] = Default::default();
            let claims: [Claim; 3] = Default::default();
            for (who, advance, stalls) in steps {
                let sent = now;
                let read = server.holder.as_deref().map(|h| lease(h, server.version));
                seen[who].see(read, now);
                let step = decide(&seen[who], names[who], now, LOOK_EVERY);
                // A stalled candidate's write arrives later; others may have written meanwhile, and then its version is refused.
                if stalls { now += Duration::from_millis(advance); }
                if matches!(step, Step::Create | Step::Take | Step::Renew) {
                    let based_on = seen[who].lease.as_ref().map_or(0, |l| l.metadata.resource_version.as_ref().unwrap().parse().unwrap());
                    if based_on == server.version {
                        server.version += 1;
                        server.holder = Some(names[who].to_owned());
                        let answer = lease(names[who], server.version);
                        seen[who].see(Some(answer), now);
                        claims[who].renewed(sent);
                    }
                }
                prop_assert!(claims.iter().filter(|c| c.holds(now)).count() <= 1);
                now += Duration::from_millis(advance);
            }
        }
    }
}
