//! Watches of CallRooms and MediaNodes that fill the cache. They go on after every error; what was known stays
//! known meanwhile.

use std::{fmt::Debug, hash::Hash, pin::pin, time::Duration};

use callplane_crds::{CallRoom, MediaNode};
use futures::StreamExt;
use kube::{
    Api, Client, Resource, ResourceExt,
    runtime::{
        WatchStreamExt, reflector,
        utils::Backoff,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio::{sync::watch, task::JoinSet};

use super::Cache;
use crate::metrics::Metrics;

/// Longest time that a watch is left open: a connection that died silently is noticed this late.
const WATCH_SECONDS: u32 = 120;
/// Objects in one page of a list.
const PAGE: u32 = 500;
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(3);

/// Waits between tries of a watch that fails: never long, since joins of new rooms hang on it.
#[derive(Default)]
struct Waits(u32);

impl Iterator for Waits {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let wait = FIRST_WAIT.saturating_mul(1 << self.0.min(8)).min(LONGEST_WAIT);
        self.0 += 1;
        Some(wait)
    }
}

impl Backoff for Waits {
    fn reset(&mut self) {
        self.0 = 0;
    }
}

/// Starts the watches: of the rooms of one namespace or of all, and of the media nodes of `namespace`.
pub fn start(
    client: &Client,
    namespace: &str,
    rooms_in: Option<&str>,
    metrics: &Metrics,
    tasks: &mut JoinSet<()>,
) -> Cache {
    let rooms = rooms_in.map_or_else(|| Api::all(client.clone()), |only| Api::namespaced(client.clone(), only));
    let (tick, changes) = watch::channel(());
    let (rooms, rooms_synced) = spawn::<CallRoom>(rooms, tick.clone(), metrics, tasks);
    let (nodes, nodes_synced) = spawn::<MediaNode>(Api::namespaced(client.clone(), namespace), tick, metrics, tasks);
    Cache::new(rooms, nodes, namespace.to_owned(), changes, [rooms_synced, nodes_synced])
}

fn spawn<K>(
    api: Api<K>,
    tick: watch::Sender<()>,
    metrics: &Metrics,
    tasks: &mut JoinSet<()>,
) -> (reflector::Store<K>, watch::Receiver<bool>)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Eq + Hash,
{
    let (store, mut writer) = reflector::store::<K>();
    let (synced, is_synced) = watch::channel(false);
    let metrics = metrics.clone();
    let config = watcher::Config::default().page_size(PAGE).timeout(WATCH_SECONDS);
    tasks.spawn(async move {
        let mut events = pin!(watcher(api, config).backoff(Waits::default()));
        while let Some(event) = events.next().await {
            let mut event = match event {
                Ok(event) => event,
                Err(error) => {
                    tracing::warn!(kind = %K::kind(&()), %error, "watch interrupted; what was known stays known");
                    metrics.watch_failed(&K::kind(&()));
                    continue;
                }
            };
            if let Event::Apply(object) | Event::InitApply(object) = &mut event {
                object.managed_fields_mut().clear();
                object.annotations_mut().remove("kubectl.kubernetes.io/last-applied-configuration");
            }
            writer.apply_watcher_event(&event);
            if matches!(event, Event::InitDone) && !synced.send_replace(true) {
                tracing::info!(kind = %K::kind(&()), "cache complete");
            }
            tick.send_replace(());
        }
    });
    (store, is_synced)
}
