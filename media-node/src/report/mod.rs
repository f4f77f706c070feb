//! The Kubernetes side of a media node: which rooms it serves, that it lives, what it carries, and how it
//! leaves.
//!
//! | file | decides |
//! |---|---|
//! | [`assignments`] | which rooms are served (pure), carried out by [`watches`] |
//! | [`lease`] | when the Lease is renewed |
//! | [`pause`] | whether the process was paused and must ask before it lets anybody in |
//! | [`status`] | what the MediaNode's status says and when it is written (pure), carried out by [`publish`] |
//! | [`own`] | what the MediaNode asks of the node |
//! | [`drain`] | when a node that was told to stop may |
//!
//! While the API server is away nothing changes for calls: no room is let go, newcomers with valid tokens
//! get in, and everything here tries again for as long as it takes.

pub mod assignments;
pub mod connection;
pub mod drain;
pub mod lease;
pub mod metrics;
pub mod own;
pub mod pause;
pub mod publish;
pub mod status;
pub mod usage;
pub mod view;
pub mod watches;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

use std::time::Duration;

use callplane_crds::medianode::Endpoints;
use kube::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::{metrics::Metrics, pause::PauseGuard, usage::Traffic};
use crate::rooms::{Directory, Refusal};

/// Who the node is, and how long it may take to leave.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of its MediaNode, of its Lease and of its pod.
    pub node: String,
    /// Namespace of all three.
    pub namespace: String,
    /// Where it is reached.
    pub endpoints: Endpoints,
    /// The longest that it waits for its calls to end when it is told to stop.
    pub drain_timeout: Duration,
}

/// The Kubernetes side was interrupted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The rooms are gone, and with them everything that there was to report.
    #[error("the rooms' task has ended: {0}")]
    Directory(#[from] Refusal),
    /// A task panicked.
    #[error("a task ended: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// Runs until `terminate`, and then until the node is empty or its time to leave is over.
///
/// `directory` has to ask `guard` at each admission ([`Directory::watching`]): a join may be ahead of
/// everything else after a pause.
///
/// # Errors
/// When a part of the process that it depends on has ended.
pub async fn run(
    client: Client,
    settings: Settings,
    directory: Directory,
    guard: PauseGuard,
    traffic: impl Fn() -> Traffic + Send + Sync + 'static,
    metrics: Metrics,
    terminate: CancellationToken,
) -> Result<drain::Done, Error> {
    let place = (settings.namespace.as_str(), settings.node.as_str());
    let (own_sender, own) = watch::channel(None);
    let (owner_sender, owner) = watch::channel(None);
    let (terminating_sender, terminating) = watch::channel(false);
    let stop = CancellationToken::new();
    let last_word = stop.child_token();
    // Whatever ends this function ends the tasks.
    let _stop = stop.clone().drop_guard();

    let renewal = lease::Renewal::new(client.clone(), place, owner, guard.clone(), metrics.clone());
    let contact = renewal.contact();
    let watches = watches::Watches::new(
        client.clone(),
        place.1,
        directory.clone(),
        guard.clone(),
        contact.clone(),
        metrics.clone(),
    );
    let inputs = publish::Inputs {
        own,
        contact: contact.clone(),
        standing: watches.standing(),
        pauses: guard.watch(),
        terminating,
    };
    let publisher = publish::Publisher::new(
        client.clone(),
        &settings,
        directory.clone(),
        traffic,
        guard.clone(),
        metrics.clone(),
        inputs,
    );

    let (namespace, node) = (settings.namespace.clone(), settings.node.clone());
    let follow =
        async move { own::follow(client, (&namespace, &node), contact, metrics, own_sender, owner_sender).await };
    let looking = tokio::spawn(stop.clone().run_until_cancelled_owned(guard.run()));
    let following = tokio::spawn(stop.clone().run_until_cancelled_owned(follow));
    let mut renewing = tokio::spawn(renewal.run(crate::system::generator(), stop.clone()));
    let mut watching = tokio::spawn(watches.run(stop.clone()));
    let mut publishing = tokio::spawn(publisher.run(last_word.clone()));

    let leave = async {
        terminate.cancelled().await;
        tracing::info!("told to stop; staying until the calls on this node are over");
        terminating_sender.send_replace(true);
        drain::until_empty(&directory, settings.drain_timeout).await
    };
    let done = tokio::select! {
        done = leave => done,
        // None of these ends before it is told to, unless something is broken.
        ended = &mut renewing => { ended?; return Err(Refusal::Busy.into()) }
        ended = &mut watching => { ended??; return Err(Refusal::Busy.into()) }
        ended = &mut publishing => { ended??; return Err(Refusal::Busy.into()) }
    };
    tracing::info!(?done, "leaving");
    last_word.cancel();
    publishing.await??;
    stop.cancel();
    renewing.await?;
    watching.await??;
    looking.await?;
    following.await?;
    Ok(done)
}
