//! Watches: from the API server into the index.

use std::{collections::HashSet, fmt::Debug, hash::Hash, pin::pin, sync::Arc, time::Duration};

use callplane_crds::{CallRoom, MediaNode, MediaPool, names};
use futures::StreamExt;
use k8s_openapi::{
    api::{coordination::v1::Lease, core::v1::Pod},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client, Resource,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio::{sync::watch, task::JoinSet};

use crate::{cluster::Effects, context::Context, metrics::State, streak::Streak};

/// A watch is renewed after this many seconds, and given up as dead five seconds later.
const WATCH_SECONDS: u32 = 60;
/// The same for leases, whose silence is judged within seconds.
const LEASE_WATCH_SECONDS: u32 = 20;
/// Objects per page of a list.
const PAGE: u32 = 2000;

/// First wait after an interrupted watch; doubles with each further interruption.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// Longest wait. Rooms wait as long for their node after an outage, so it is short; there are few operators.
const LONGEST_WAIT: Duration = Duration::from_secs(3);

/// Waits between tries of a watch that fails.
#[derive(Default)]
struct Backoff {
    failures: u32,
}

impl Iterator for Backoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.failures += 1;
        Some(FIRST_WAIT.saturating_mul(1 << (self.failures - 1).min(8)).min(LONGEST_WAIT))
    }
}

impl kube::runtime::utils::Backoff for Backoff {
    fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Which caches are complete.
pub type Synced = Vec<watch::Receiver<bool>>;

/// Starts all watches.
pub fn start(ctx: &Arc<Context>, client: &Client, tasks: &mut JoinSet<()>) -> Synced {
    let own = &ctx.namespace;
    let rooms = ctx.all_rooms(client.clone());
    let config = || watcher::Config::default().page_size(PAGE).timeout(WATCH_SECONDS);
    let component = format!("{}={}", names::COMPONENT_LABEL, names::MEDIA_NODE_COMPONENT);
    vec![
        spawn::<CallRoom, _>(
            ctx,
            rooms,
            config(),
            tasks,
            Handler {
                prune: prune_room,
                key: |r| Arc::new(r.call_id()),
                apply: |ctx, room| ctx.cluster().apply_room(room, ctx.clock.now().mono),
                remove: |ctx, room| ctx.cluster().remove_room(&Arc::new(room.call_id()), room.metadata.uid.as_deref()),
                retain: |ctx, listed| ctx.cluster().retain_rooms(listed),
            },
        ),
        spawn::<MediaNode, _>(
            ctx,
            Api::namespaced(client.clone(), own),
            config(),
            tasks,
            Handler {
                prune: |n| drop_unread(&mut n.metadata),
                key: name_of,
                apply: |ctx, node| ctx.cluster().apply_node(node, ctx.clock.now().mono),
                remove: |ctx, node| ctx.cluster().remove_node(&name_of(&node), node.metadata.uid.as_deref()),
                retain: |ctx, listed| ctx.cluster().retain_nodes(listed),
            },
        ),
        spawn::<MediaPool, _>(
            ctx,
            Api::namespaced(client.clone(), own),
            config(),
            tasks,
            Handler {
                prune: |p| drop_unread(&mut p.metadata),
                key: name_of,
                apply: |ctx, pool| ctx.cluster().apply_pool(pool),
                remove: |ctx, pool| ctx.cluster().remove_pool(&name_of(&pool)),
                retain: |ctx, listed: &HashSet<String>| {
                    let mut cluster = ctx.cluster();
                    let gone: Vec<String> =
                        cluster.pools().map(|(n, _)| n.to_owned()).filter(|n| !listed.contains(n)).collect();
                    gone.iter().fold(Effects::default(), |mut effects, name| {
                        effects.merge(cluster.remove_pool(name));
                        effects
                    })
                },
            },
        ),
        spawn::<Pod, _>(
            ctx,
            Api::namespaced(client.clone(), own),
            config().labels(&component),
            tasks,
            Handler {
                prune: |p| {
                    drop_unread(&mut p.metadata);
                    p.spec = None;
                },
                key: name_of,
                apply: |ctx, pod| ctx.cluster().apply_pod(&pod),
                remove: |ctx, pod| ctx.cluster().remove_pod(&name_of(&pod)),
                retain: |ctx, listed| ctx.cluster().retain_pods(listed),
            },
        ),
        spawn::<Lease, _>(
            ctx,
            Api::namespaced(client.clone(), own),
            config().timeout(LEASE_WATCH_SECONDS),
            tasks,
            Handler {
                prune: |l| drop_unread(&mut l.metadata),
                key: name_of,
                apply: |ctx, lease| ctx.cluster().apply_lease(&lease, ctx.clock.now().mono),
                remove: |ctx, lease| ctx.cluster().remove_lease(&name_of(&lease)),
                retain: |ctx, listed| ctx.cluster().retain_leases(listed),
            },
        ),
    ]
}

/// What becomes of the objects of one kind.
struct Handler<K, Key> {
    prune: fn(&mut K),
    key: fn(&K) -> Key,
    apply: fn(&Context, K) -> Effects,
    remove: fn(&Context, K) -> Effects,
    retain: fn(&Context, &HashSet<Key>) -> Effects,
}

fn spawn<K, Key>(
    ctx: &Arc<Context>,
    api: Api<K>,
    config: watcher::Config,
    tasks: &mut JoinSet<()>,
    handler: Handler<K, Key>,
) -> watch::Receiver<bool>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
    Key: Eq + Hash + Send + 'static,
{
    let (synced, receiver) = watch::channel(false);
    let ctx = Arc::clone(ctx);
    tasks.spawn(async move {
        let (mut listed, streak) = (HashSet::new(), Streak::default());
        let mut stream = pin!(watcher(api, config).backoff(Backoff::default()));
        while let Some(event) = stream.next().await {
            // A list that merely begins has not heard from anybody yet.
            if !matches!(event, Err(_) | Ok(Event::Init))
                && let Some(interruptions) = streak.succeeded()
            {
                tracing::info!(kind = %K::kind(&()), interruptions, "watch goes on");
            }
            let effects = match event {
                Ok(Event::Init) => {
                    listed.clear();
                    continue;
                }
                Ok(Event::InitApply(mut object)) => {
                    (handler.prune)(&mut object);
                    listed.insert((handler.key)(&object));
                    (handler.apply)(&ctx, object)
                }
                Ok(Event::InitDone) => {
                    let effects = (handler.retain)(&ctx, &std::mem::take(&mut listed));
                    if !synced.send_replace(true) {
                        tracing::info!(kind = %K::kind(&()), "cache complete");
                    }
                    effects
                }
                Ok(Event::Apply(mut object)) => {
                    (handler.prune)(&mut object);
                    (handler.apply)(&ctx, object)
                }
                Ok(Event::Delete(object)) => (handler.remove)(&ctx, object),
                Err(error) => {
                    if streak.failed() {
                        tracing::warn!(kind = %K::kind(&()), %error, "watch interrupted");
                    }
                    let label = State { state: K::kind(&()).into_owned() };
                    ctx.metrics.watch_errors.get_or_create(&label).inc();
                    continue;
                }
            };
            ctx.spread(effects);
        }
    });
    receiver
}

/// Waits until every cache is complete.
pub async fn complete(mut synced: Synced) {
    for cache in &mut synced {
        if cache.wait_for(|done| *done).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Drops what is never read of a room, so that a hundred thousand fit.
pub fn prune_room(room: &mut CallRoom) {
    drop_unread(&mut room.metadata);
    room.metadata.labels = None;
    room.metadata.annotations = None;
    room.metadata.owner_references = None;
    room.metadata.finalizers = None;
}

fn drop_unread(metadata: &mut ObjectMeta) {
    metadata.managed_fields = None;
    metadata.generate_name = None;
    metadata.self_link = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
}

fn name_of<K: Resource>(object: &K) -> String {
    object.meta().name.clone().unwrap_or_default()
}
