//! Decides how long to wait for the API server, and for how long not to ask it again.
//!
//! Nothing here may hang: a connection whose other end is gone without a word would otherwise keep a watch
//! silent, and a paused node fenced, for as long as the kernel believes in it. So every answer has to
//! begin within [`ANSWER_WITHIN`], every list has to go on within [`LIST_STALLED`], and a watch is begun
//! again every [`WATCH_SECONDS`]. A stream of watch events goes on after every error, waiting between
//! attempts, but no longer than until the lease shows that the API server is back.

use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use kube::{
    Api, Client, Config, Resource,
    client::ClientBuilder,
    runtime::{
        utils::Backoff,
        watcher::{self, DefaultBackoff, Event},
    },
};
use serde::de::DeserializeOwned;
use tokio::{sync::watch, time};
use tower::timeout::TimeoutLayer;

use super::{
    lease,
    metrics::{Metrics, Watched},
};

/// How long the API server keeps a watch open. A connection that died silently is noticed this late.
const WATCH_SECONDS: u32 = 120;

/// How long a connection to the API server may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the beginning of an answer may take. An overloaded API server needs seconds to list thousands
/// of rooms, and giving up early would make it list them again.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(12);

/// How long a list may stand still.
const LIST_STALLED: Duration = Duration::from_secs(30);

/// A client for this process, in a cluster or with a kubeconfig.
///
/// # Errors
/// When there is neither.
pub async fn client() -> Result<Client, Error> {
    let config = Config::infer().await.map_err(kube::Error::InferConfig)?;
    client_of(config)
}

/// A client with the patience that is right here.
///
/// # Errors
/// When the configuration is of no use.
pub fn client_of(mut config: Config) -> Result<Client, Error> {
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    // Its waits grow to minutes. Everything here tries again by itself, and with what is true by then.
    config.default_retry = false;
    Ok(ClientBuilder::try_from(config)?.with_layer(&TimeoutLayer::new(ANSWER_WITHIN)).build())
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
#[error("no way to reach the Kubernetes API: {0}")]
pub struct Error(#[from] kube::Error);

/// Events of the objects that `fields` selects. Never ends.
pub fn events<K>(
    api: Api<K>,
    fields: &str,
    kind: Watched,
    contact: watch::Receiver<lease::Contact>,
    metrics: Metrics,
) -> impl Stream<Item = Event<K>> + Send + 'static
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let fields = fields.to_owned();
    let config = watcher::Config::default().fields(&fields).timeout(WATCH_SECONDS);
    let start = move || watcher::watcher(api.clone(), config.clone()).boxed();
    let events = start();
    let backoff = DefaultBackoff::default();
    let watching = Watching { start, events, fields, kind, metrics, contact, backoff, listing: true, failed: 0 };
    stream::unfold(watching, |mut watching| async { Some((watching.next().await?, watching)) })
}

type Events<K> = stream::BoxStream<'static, watcher::Result<Event<K>>>;

struct Watching<K, S> {
    start: S,
    events: Events<K>,
    fields: String,
    kind: Watched,
    metrics: Metrics,
    contact: watch::Receiver<lease::Contact>,
    backoff: DefaultBackoff,
    listing: bool,
    /// Errors since the last event.
    failed: u64,
}

impl<K, S: Fn() -> Events<K>> Watching<K, S> {
    /// The next event; never `None`.
    async fn next(&mut self) -> Option<Event<K>> {
        loop {
            let next = self.events.next();
            let next = if self.listing { time::timeout(LIST_STALLED, next).await } else { Ok(next.await) };
            let error = match next {
                Ok(Some(Ok(event))) => {
                    self.listing = match event {
                        Event::Init => true,
                        Event::InitDone => false,
                        _ => self.listing,
                    };
                    // A list that merely begins has not heard from anybody yet.
                    if !matches!(event, Event::Init) {
                        self.succeeded();
                    }
                    return Some(event);
                }
                Ok(Some(Err(error))) => error.to_string(),
                Ok(None) => return None,
                Err(_) => {
                    self.events = (self.start)();
                    "the list stood still".to_owned()
                }
            };
            self.metrics.watch_error(self.kind);
            self.wait_after(&error).await;
        }
    }

    fn succeeded(&mut self) {
        self.metrics.contact(crate::system::timestamp());
        let failed = std::mem::take(&mut self.failed);
        if failed > 0 {
            tracing::info!(failed, fields = self.fields, "the watch is on again");
        }
        self.backoff.reset();
    }

    async fn wait_after(&mut self, error: &str) {
        self.failed += 1;
        if self.failed == 1 {
            tracing::warn!(
                error,
                fields = self.fields,
                "the watch broke and is begun again; nothing is let go for that"
            );
        }
        let recoveries = self.contact.borrow().recoveries;
        let wait = time::sleep(self.backoff.next().unwrap_or(Duration::from_secs(30)));
        tokio::select! {
            () = wait => {}
            Ok(_) = self.contact.wait_for(|c| c.recoveries > recoveries) => {
                // A server that just came back may know our kinds a moment later than leases.
                self.backoff.reset();
            }
        }
    }
}
