//! Renews the Lease that says that this node lives, as kubelets do for theirs.
//!
//! The Lease bears the node's name, so that an admission policy can tell whose it is, and the MediaNode
//! owns it, so that it goes when the node goes. While the API server does not answer, the renewal is tried
//! again and again; nothing else depends on it here.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference},
};
use kube::{Api, Client, api::PostParams};
use rand::{RngExt, rngs::StdRng};
use tokio::{sync::watch, time};

use super::{
    metrics::{Metrics, Outcome},
    pause::{LEASE_DURATION, PauseGuard},
};

/// The longest time between two renewals. Each is drawn from the last tenth of it, so that nodes that
/// started together do not renew together.
pub const RENEW_EVERY: Duration = Duration::from_secs(5);

/// How long one renewal may take when the last one went well: it begins five seconds after that one and
/// leaves half a second to try again on another connection before the lease ends.
pub const RENEW_TIMEOUT: Duration = Duration::from_millis(2_500);

/// How long one may take after a failure. An API server that is slow because it is overloaded is not helped
/// by requests that are given up and sent again.
pub const PATIENT_TIMEOUT: Duration = Duration::from_millis(4_500);

/// The longest wait before a failed renewal is tried again.
pub const RETRY_WITHIN: Duration = Duration::from_millis(600);

/// Times of a renewal, for tests.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// See [`RENEW_EVERY`].
    pub every: Duration,
    /// See [`RENEW_TIMEOUT`].
    pub timeout: Duration,
    /// See [`PATIENT_TIMEOUT`].
    pub patience: Duration,
    /// See [`RETRY_WITHIN`].
    pub retry: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { every: RENEW_EVERY, timeout: RENEW_TIMEOUT, patience: PATIENT_TIMEOUT, retry: RETRY_WITHIN }
    }
}

/// Why a renewal failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or could not be reached.
    #[error("the API server did not take the renewal: {0}")]
    Api(#[from] kube::Error),
    /// It did not answer in time.
    #[error("the API server did not answer within {} ms", .0.as_millis())]
    Timeout(Duration),
}

/// How renewals go, for whoever waits for the first one or for the API server to come back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contact {
    /// A renewal has succeeded since the process started.
    pub renewed: bool,
    /// How often a renewal succeeded right after one that failed.
    pub recoveries: u64,
}

/// The node's Lease.
pub struct Renewal {
    api: Api<Lease>,
    node: String,
    pace: Pace,
    owner: watch::Receiver<Option<OwnerReference>>,
    guard: PauseGuard,
    contact: watch::Sender<Contact>,
    metrics: Metrics,
    held: Option<Lease>,
}

impl Renewal {
    /// The Lease `namespace/node`. `owner` becomes its owner as soon as it is known.
    pub fn new(
        client: Client,
        (namespace, node): (&str, &str),
        owner: watch::Receiver<Option<OwnerReference>>,
        guard: PauseGuard,
        metrics: Metrics,
    ) -> Self {
        let (contact, _) = watch::channel(Contact::default());
        let api = Api::namespaced(client, namespace);
        Self { api, node: node.to_owned(), pace: Pace::default(), owner, guard, contact, metrics, held: None }
    }

    /// With other times.
    pub fn paced(self, pace: Pace) -> Self {
        Self { pace, ..self }
    }

    /// Follows how renewals go.
    pub fn contact(&self) -> watch::Receiver<Contact> {
        self.contact.subscribe()
    }

    /// Renews until `stop`, then gives the Lease back (once, if the API server answers).
    pub async fn run(mut self, mut random: StdRng, stop: tokio_util::sync::CancellationToken) {
        let mut failed = 0u64;
        while !stop.is_cancelled() {
            let wait = match self.renew().await {
                Ok(()) => {
                    if failed > 0 {
                        tracing::info!(failed, "the lease is renewed again");
                    }
                    self.contact.send_modify(|c| {
                        c.recoveries += u64::from(failed > 0);
                        c.renewed = true;
                    });
                    failed = 0;
                    self.pace.every.mul_f64(random.random_range(0.9..1.0))
                }
                Err(error) => {
                    if failed == 0 {
                        tracing::warn!(%error, "the lease could not be renewed; calls go on");
                    }
                    failed += 1;
                    self.pace.retry.mul_f64(random.random_range(0.5..1.0))
                }
            };
            tokio::select! {
                () = time::sleep(wait) => {}
                () = stop.cancelled() => {}
            }
        }
        if let Err(error) = self.release().await {
            tracing::warn!(%error, "the lease was not given back; it runs out by itself");
        }
    }

    /// One renewal.
    ///
    /// # Errors
    /// When the API server refused it, could not be reached or was too slow. What it wrote may be there
    /// nevertheless.
    pub async fn renew(&mut self) -> Result<(), Error> {
        let sent = self.guard.moment();
        let timeout = if self.held.is_some() { self.pace.timeout } else { self.pace.patience };
        let renewed = match time::timeout(timeout, self.write()).await {
            Ok(result) => result.map_err(Error::Api),
            Err(_) => Err(Error::Timeout(timeout)),
        };
        self.metrics.lease(Outcome::of(&renewed));
        if renewed.is_ok() {
            self.guard.renewed(sent);
            self.metrics.contact(self.guard.moment().wall);
        }
        let (held, result) = match renewed {
            Ok(lease) => (Some(lease), Ok(())),
            // The next one reads the Lease first: it may have been written all the same.
            Err(error) => (None, Err(error)),
        };
        self.held = held;
        result
    }

    async fn write(&self) -> Result<Lease, kube::Error> {
        let params = PostParams::default();
        if let Some(held) = &self.held {
            let lease = self.lease(Some(held));
            match self.api.replace(&self.node, &params, &lease).await {
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                result => return result,
            }
        }
        match self.api.get_opt(&self.node).await? {
            Some(found) => self.api.replace(&self.node, &params, &self.lease(Some(&found))).await,
            None => self.api.create(&params, &self.lease(None)).await,
        }
    }

    fn lease(&self, found: Option<&Lease>) -> Lease {
        renewed(found, &self.node, self.owner.borrow().clone(), self.guard.moment().wall)
    }

    /// Ends the lease now, so that nobody waits for it to run out.
    async fn release(mut self) -> Result<(), Error> {
        let Some(held) = self.held.take() else { return Ok(()) };
        let mut lease = self.lease(Some(&held));
        if let Some(spec) = &mut lease.spec {
            // As client-go gives a lease back.
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
        }
        let params = PostParams::default();
        match time::timeout(self.pace.timeout, self.api.replace(&self.node, &params, &lease)).await {
            Ok(result) => result.map(drop).map_err(Error::Api),
            Err(_) => Err(Error::Timeout(self.pace.timeout)),
        }
    }
}

/// The Lease as it is to be written, from what was `found`.
fn renewed(found: Option<&Lease>, node: &str, owner: Option<OwnerReference>, now: Timestamp) -> Lease {
    let was = found.and_then(|l| l.spec.clone()).unwrap_or_default();
    let ours = was.holder_identity.as_deref() == Some(node);
    let transitions = was.lease_transitions.unwrap_or(0);
    let mut metadata = found.map_or_else(ObjectMeta::default, |l| l.metadata.clone());
    metadata.name = Some(node.to_owned());
    metadata.managed_fields = None;
    if let Some(owner) = owner {
        metadata.owner_references = Some(vec![owner]);
    }
    let acquired = was.acquire_time.filter(|_| ours).unwrap_or(MicroTime(now));
    Lease {
        metadata,
        spec: Some(LeaseSpec {
            holder_identity: Some(node.to_owned()),
            lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
            acquire_time: Some(acquired),
            renew_time: Some(MicroTime(now)),
            lease_transitions: Some(if ours || found.is_none() { transitions } else { transitions + 1 }),
            ..LeaseSpec::default()
        }),
    }
}
