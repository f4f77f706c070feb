//! The way to the API server: every write is made in the name of a claim that still holds, within a
//! time limit, and is counted.

use std::{sync::Arc, time::Duration};

use kube::{Client, Config, client::ClientBuilder};
use thiserror::Error;
use tower::timeout::TimeoutLayer;

use crate::{clock::Clock, leader::Claim, metrics::Metrics, streak::Streak};

/// Longest time that one write may take. An overloaded API server goes on with a request that nobody waits for any more,
/// so giving up sooner would make it slower.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(8);

/// Why a write did not happen, or may not have happened.
#[derive(Debug, Error)]
pub enum WriteError {
    /// Somebody else leads now, or may lead soon.
    #[error("this replica does not lead")]
    NotLeader,
    /// The object changed since the decision.
    #[error("{kind} changed since it was looked at")]
    Conflict {
        /// Kind of the object.
        kind: &'static str,
    },
    /// The object is gone.
    #[error("{kind} is gone")]
    Gone {
        /// Kind of the object.
        kind: &'static str,
    },
    /// The API server refuses it and will refuse it again.
    #[error("{kind} is refused: {source}")]
    Refused {
        /// Kind of the object.
        kind: &'static str,
        /// The refusal.
        source: Box<kube::Error>,
    },
    /// No answer in time: it may have happened.
    #[error("no answer about {kind} within {}s", WRITE_TIMEOUT.as_secs())]
    Timeout {
        /// Kind of the object.
        kind: &'static str,
    },
    /// The API server could not be reached or failed: it may have happened.
    #[error("write of {kind} failed: {source}")]
    Failed {
        /// Kind of the object.
        kind: &'static str,
        /// The failure.
        source: Box<kube::Error>,
    },
}

impl WriteError {
    /// As one word for metrics and events.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NotLeader => "NotLeader",
            Self::Conflict { .. } => "Conflict",
            Self::Gone { .. } => "Gone",
            Self::Refused { .. } => "Refused",
            Self::Timeout { .. } => "Timeout",
            Self::Failed { .. } => "Failed",
        }
    }

    /// Whether it is likely to be the same for all requests: told by whoever makes requests, and not for each object.
    pub const fn is_outage(&self) -> bool {
        matches!(self, Self::Timeout { .. } | Self::Failed { .. })
    }

    /// Whether the write certainly did not happen and would not happen if tried again as it is.
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Gone { .. } | Self::Refused { .. })
    }

    /// What the API server, or the way to it, made of a write.
    pub(crate) fn of(kind: &'static str, error: kube::Error) -> Self {
        match &error {
            kube::Error::Api(status) => match status.code {
                409 => Self::Conflict { kind },
                404 | 410 => Self::Gone { kind },
                400 | 401 | 403 | 405 | 413 | 415 | 422 => Self::Refused { kind, source: Box::new(error) },
                _ => Self::Failed { kind, source: Box::new(error) },
            },
            _ => Self::Failed { kind, source: Box::new(error) },
        }
    }
}

/// Makes writes.
#[derive(Clone)]
pub struct Writer {
    /// For reads and for building requests; writes go through [`Writer::write`].
    pub client: Client,
    claim: Arc<Claim>,
    clock: Clock,
    metrics: Arc<Metrics>,
    outage: Arc<Streak>,
}

impl Writer {
    /// Writes in the name of `claim`.
    pub fn new(client: Client, claim: Arc<Claim>, clock: Clock, metrics: Arc<Metrics>) -> Self {
        Self { client, claim, clock, metrics, outage: Arc::default() }
    }

    /// Whether the claim holds, for writes elsewhere than to the API server.
    pub fn leads(&self) -> bool {
        self.claim.holds(self.clock.now().mono)
    }

    /// Makes the read `request`, which anybody may.
    ///
    /// # Errors
    /// [`WriteError::Failed`], whatever the API server said: nothing is known then.
    pub async fn read<T>(
        &self,
        kind: &'static str,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, WriteError> {
        let result = request.await.map_err(|source| WriteError::Failed { kind, source: Box::new(source) });
        self.tell(result.as_ref().err());
        result
    }

    /// Tells the beginning and the end of an outage.
    fn tell(&self, error: Option<&WriteError>) {
        match error {
            Some(error) if error.is_outage() => {
                if self.outage.failed() {
                    tracing::warn!(%error, "requests to the API server fail; calls go on, and what fails is tried again");
                }
            }
            Some(WriteError::NotLeader) => {}
            // Refused or not, the API server has answered.
            _ => {
                if let Some(failed) = self.outage.succeeded() {
                    tracing::info!(failed, "requests to the API server succeed again");
                }
            }
        }
    }

    /// Makes the write `request`, if the claim holds.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub async fn write<T>(
        &self,
        kind: &'static str,
        verb: &'static str,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, WriteError> {
        let result = if self.claim.holds(self.clock.now().mono) {
            match tokio::time::timeout(WRITE_TIMEOUT, request).await {
                Ok(Ok(done)) => Ok(done),
                Ok(Err(error)) => Err(WriteError::of(kind, error)),
                Err(_) => Err(WriteError::Timeout { kind }),
            }
        } else {
            Err(WriteError::NotLeader)
        };
        self.metrics.wrote(kind, verb, result.as_ref().map_or_else(WriteError::reason, |_| "ok"));
        self.tell(result.as_ref().err());
        result
    }
}

/// A client for reads and writes: a server that does not answer is noticed within seconds.
///
/// # Errors
/// When no client can be built from `config`.
pub fn request_client(config: &Config) -> kube::Result<Client> {
    let mut config = config.clone();
    config.connect_timeout = Some(Duration::from_secs(3));
    config.read_timeout = Some(Duration::from_secs(10));
    config.write_timeout = Some(Duration::from_secs(5));
    // Otherwise the time that a connection idled in the pool would count against the answer.
    config.reset_reader_on_write = true;
    // Its waits grow to minutes; what failed is decided anew instead, on what is true by then.
    config.default_retry = false;
    Ok(ClientBuilder::try_from(config)?.build())
}

/// How long the beginning of an answer to a list or a watch may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// How long a list or a watch may stand still: longer than any watch lasts.
const STALLED_AFTER: Duration = Duration::from_secs(75);

/// A client for watches: silence is normal there for as long as a watch lasts, and a dead connection after that.
///
/// # Errors
/// When no client can be built from `config`.
pub fn watch_client(config: &Config) -> kube::Result<Client> {
    let mut config = config.clone();
    config.connect_timeout = Some(Duration::from_secs(3));
    config.write_timeout = Some(Duration::from_secs(5));
    config.read_timeout = Some(STALLED_AFTER);
    config.reset_reader_on_write = true;
    config.default_retry = false;
    Ok(ClientBuilder::try_from(config)?.with_layer(&TimeoutLayer::new(ANSWER_WITHIN)).build())
}

#[cfg(test)]
#[path = "api_tests.rs"]
mod tests;
