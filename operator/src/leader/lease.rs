//! The election loop: reads and writes the Lease, and says who leads.

use std::{sync::Arc, time::Duration};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, api::PostParams};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Claim, LEASE_DURATION, LEASE_NAME, LOOK_EVERY, Observed, Step, decide};
use crate::{api::WriteError, clock::Clock, metrics::Metrics, streak::Streak};

/// Longest time for one request about the lease.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

const KIND: &str = "Lease";

/// Whether this replica leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leading {
    /// It does.
    Yes,
    /// Another does, or nobody.
    No,
}

/// A candidate.
pub struct Election {
    api: Api<Lease>,
    me: String,
    claim: Arc<Claim>,
    clock: Clock,
    metrics: Arc<Metrics>,
    observed: Observed,
    streak: Streak,
}

impl Election {
    /// A candidate named `me` for the lease in `namespace`.
    pub fn new(
        client: Client,
        namespace: &str,
        me: String,
        claim: Arc<Claim>,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            me,
            claim,
            clock,
            metrics,
            observed: Observed::default(),
            streak: Streak::default(),
        }
    }

    /// Runs until `stop`; then gives the lease back, so that another takes over at once.
    ///
    /// `drained` is awaited between the two: what is being written is finished while the claim still holds.
    pub async fn run(
        mut self,
        leading: watch::Sender<Leading>,
        stop: CancellationToken,
        drained: impl Future<Output = ()>,
    ) {
        while !stop.is_cancelled() {
            let pause = self.step().await;
            let leads = self.claim.holds(self.clock.now().mono);
            leading.send_if_modified(|l| {
                let now = if leads { Leading::Yes } else { Leading::No };
                std::mem::replace(l, now) != now
            });
            tokio::select! { () = stop.cancelled() => {}, () = tokio::time::sleep(pause) => {} }
        }
        leading.send_replace(Leading::No);
        drained.await;
        self.release().await;
    }

    async fn step(&mut self) -> Duration {
        let now = self.clock.now().mono;
        // The holder knows its own lease; only others need to look.
        if self.observed.holder() != Some(self.me.as_str()) {
            match timed(self.api.get_opt(LEASE_NAME)).await {
                Ok(lease) => {
                    self.observed.see(lease, now);
                    self.reached();
                }
                Err(error) => {
                    if self.streak.failed() {
                        tracing::warn!(%error, "cannot read the leader lease");
                    }
                    return LOOK_EVERY;
                }
            }
        }
        let step = decide(&self.observed, &self.me, now, LOOK_EVERY);
        let takes = match step {
            Step::Wait(rest) => return rest,
            Step::Create | Step::Take => true,
            Step::Renew => false,
        };
        let sent = self.clock.now();
        let lease = self.next_lease(takes, sent.wall);
        let answer = if step == Step::Create {
            self.counted("create", timed(self.api.create(&PostParams::default(), &lease)).await)
        } else {
            self.replace(&lease).await
        };
        match answer {
            Ok(lease) => {
                self.observed.see(Some(lease), sent.mono);
                self.claim.renewed(sent.mono);
                self.reached();
                if takes {
                    tracing::info!(holder = %self.me, "leads");
                }
                super::RENEW_EVERY
            }
            Err(error) => {
                if !matches!(error, LeaseError::Api(WriteError::Conflict { .. })) && self.streak.failed() {
                    tracing::warn!(%error, "cannot write the leader lease");
                }
                // Whatever happened, the next look shows it. The claim runs on until it expires by itself.
                self.look().await;
                LOOK_EVERY
            }
        }
    }

    /// The API server answered.
    fn reached(&self) {
        if let Some(failed) = self.streak.succeeded() {
            tracing::info!(failed, "the leader lease is read and written again");
        }
    }

    async fn look(&mut self) {
        if let Ok(lease) = timed(self.api.get_opt(LEASE_NAME)).await {
            let now = self.clock.now().mono;
            self.observed.see(lease, now);
            if self.observed.holder() != Some(self.me.as_str()) {
                self.claim.drop_now();
            }
        }
    }

    async fn release(&mut self) {
        if self.observed.holder() != Some(self.me.as_str()) {
            return;
        }
        self.claim.drop_now();
        let mut lease = self.next_lease(false, self.clock.now().wall);
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = Some(String::new());
        }
        match self.replace(&lease).await {
            Ok(_) => tracing::info!("gave the leader lease back"),
            Err(error) => tracing::warn!(%error, "cannot give the leader lease back; it expires by itself"),
        }
    }

    async fn replace(&self, lease: &Lease) -> Result<Lease, LeaseError> {
        self.counted("replace", timed(self.api.replace(LEASE_NAME, &PostParams::default(), lease)).await)
    }

    fn counted<T>(&self, verb: &'static str, answer: Result<T, LeaseError>) -> Result<T, LeaseError> {
        self.metrics.wrote(KIND, verb, answer.as_ref().map_or_else(LeaseError::reason, |_| "ok"));
        answer
    }

    fn next_lease(&self, takes: bool, now: jiff::Timestamp) -> Lease {
        let known = self.observed.lease.clone().unwrap_or_else(|| Lease {
            metadata: ObjectMeta { name: Some(LEASE_NAME.to_owned()), ..ObjectMeta::default() },
            spec: None,
        });
        let old = known.spec.unwrap_or_default();
        let transitions = old.lease_transitions.unwrap_or(0);
        Lease {
            metadata: known.metadata,
            spec: Some(LeaseSpec {
                holder_identity: Some(self.me.clone()),
                lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
                renew_time: Some(MicroTime(now)),
                acquire_time: if takes { Some(MicroTime(now)) } else { old.acquire_time },
                lease_transitions: Some(if takes { transitions + 1 } else { transitions }),
                ..LeaseSpec::default()
            }),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum LeaseError {
    #[error("no answer within {}s", REQUEST_TIMEOUT.as_secs())]
    Timeout,
    #[error("{0}")]
    Api(WriteError),
}

impl LeaseError {
    /// As one word for metrics.
    const fn reason(&self) -> &'static str {
        match self {
            Self::Timeout => "Timeout",
            Self::Api(error) => error.reason(),
        }
    }
}

async fn timed<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, LeaseError> {
    match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(LeaseError::Api(WriteError::of(KIND, error))),
        Err(_) => Err(LeaseError::Timeout),
    }
}
