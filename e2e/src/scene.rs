//! Where a scenario plays: a namespace for its rooms and pools of its own.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use callplane_crds::{
    CallId, CallRoom, CallRoomSpec, MediaNode, MediaPool, MediaPoolSpec, Route,
    condition::{self, node, room},
    names::{COMPONENT_LABEL, POOL_LABEL},
};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::{
    api::core::v1::{Event, Namespace, Pod, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity,
};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, ListParams, LogParams, PostParams},
    core::ObjectMeta,
    runtime::watcher,
};

use crate::{
    cluster::{Cluster, LEADER_LEASE, OPERATOR, SYSTEM},
    history::History,
    text::{Summary, shortened},
    token::Tokens,
    wait,
};

/// Label of everything that a scenario makes.
const SCENE: &str = "callplane.io/scene";
/// A pod is usually ready after two seconds; this is for machines that are busy.
pub const POD_READY: Duration = Duration::from_secs(120);
/// Until a room on a pool that has capacity is ready: milliseconds, but for a machine that is busy.
pub const ROOM_READY: Duration = Duration::from_secs(30);
/// Until something that was deleted is gone. Kubernetes' own controllers may take most of a minute to come back to it
/// when the API server was away.
const GONE: Duration = Duration::from_secs(90);
/// Until an event can be read: it is written after what it tells of, and events wait for each other.
const TOLD: Duration = Duration::from_secs(60);
/// Writers of a burst of rooms.
const WRITERS: usize = 8;

/// A scenario's place in the cluster.
#[derive(Clone)]
pub struct Scene {
    /// The cluster.
    pub cluster: Cluster,
    /// Name of the scenario.
    pub name: String,
    /// Namespace of its rooms.
    pub namespace: String,
    /// Signs join tokens.
    pub tokens: Arc<Tokens>,
}

impl Scene {
    /// Makes the namespace; what an earlier run left behind goes first.
    ///
    /// # Errors
    /// When callplane is not installed, or the leftovers do not go.
    pub async fn open(cluster: Cluster, name: &str) -> Result<Self> {
        let tokens = Tokens::of(&cluster).await.context("is the chart installed? e2e/cluster/install.sh does it")?;
        let scene = Self { namespace: format!("e2e-{name}"), name: name.to_owned(), tokens: Arc::new(tokens), cluster };
        scene.close().await.context("leftovers of an earlier run")?;
        let labels = BTreeMap::from([(SCENE.to_owned(), name.to_owned())]);
        let metadata = ObjectMeta { name: Some(scene.namespace.clone()), labels: Some(labels), ..Default::default() };
        let namespace = Namespace { metadata, ..Default::default() };
        scene.cluster.namespaces().create(&PostParams::default(), &namespace).await?;
        Ok(scene)
    }

    /// Removes the namespace and the pools, and waits until they, their nodes and their pods are gone.
    ///
    /// # Errors
    /// When the API server refuses, or something stays.
    pub async fn close(&self) -> Result<()> {
        let namespaces = self.cluster.namespaces();
        ignore_missing(namespaces.delete(&self.namespace, &DeleteParams::default()).await.map(drop))?;
        wait::until_gone(&namespaces, &self.namespace, GONE).await?;
        let ours = ListParams::default().labels(&format!("{SCENE}={}", self.name));
        for pool in self.cluster.pools().list(&ours).await? {
            self.remove_pool(&pool.name_any()).await?;
        }
        Ok(())
    }

    /// Removes a pool, and waits until its nodes and pods are gone.
    ///
    /// # Errors
    /// When the API server refuses, or something stays.
    pub async fn remove_pool(&self, pool: &str) -> Result<()> {
        ignore_missing(self.cluster.pools().delete(pool, &DeleteParams::default()).await.map(drop))?;
        wait::until_gone(&self.cluster.pools(), pool, GONE).await?;
        let ours = watcher::Config::default().labels(&format!("{POOL_LABEL}={pool}"));
        let pods = self.cluster.pods();
        wait::until_all(&pods, ours.clone(), "pods to be gone", GONE, |pods| pods.is_empty().then_some(())).await?;
        let nodes = self.cluster.nodes();
        wait::until_all(&nodes, ours, "media nodes to be gone", GONE, |nodes| nodes.is_empty().then_some(())).await
    }

    /// Makes a pool of `replicas` small nodes and waits until all are ready. `adjust` has the last word on its spec.
    ///
    /// # Errors
    /// When the nodes are not ready in time.
    pub async fn pool(&self, replicas: i32, adjust: impl FnOnce(&mut MediaPoolSpec)) -> Result<String> {
        let name = format!("e2e-{}", self.name);
        let mut spec = MediaPoolSpec { replicas, drain_timeout_seconds: 600, ..Default::default() };
        let little = [("cpu", "20m"), ("memory", "32Mi")].map(|(k, v)| (k.to_owned(), Quantity(v.to_owned())));
        spec.template.resources = Some(ResourceRequirements { requests: Some(little.into()), ..Default::default() });
        adjust(&mut spec);
        let mut pool = MediaPool::new(&name, spec);
        pool.metadata.labels = Some(BTreeMap::from([(SCENE.to_owned(), self.name.clone())]));
        self.cluster.pools().create(&PostParams::default(), &pool).await?;
        self.ready_nodes(&name, usize::try_from(replicas)?).await?;
        Ok(name)
    }

    /// Waits until exactly `count` nodes of a pool are ready and take rooms.
    ///
    /// # Errors
    /// When they are not in time.
    pub async fn ready_nodes(&self, pool: &str, count: usize) -> Result<Vec<MediaNode>> {
        let ours = watcher::Config::default().labels(&format!("{POOL_LABEL}={pool}"));
        let what = format!("{count} ready nodes in pool {pool}");
        wait::until_all(&self.cluster.nodes(), ours, &what, POD_READY, |nodes| {
            let ready = |n: &&MediaNode| {
                let conditions = n.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
                !n.spec.cordoned
                    && n.metadata.deletion_timestamp.is_none()
                    && condition::is_true(conditions, node::READY)
            };
            let ready: Vec<_> = nodes.values().filter(ready).cloned().collect();
            (ready.len() == count).then_some(ready)
        })
        .await
    }

    /// Rooms of this scene.
    pub fn rooms(&self) -> Api<CallRoom> {
        self.cluster.rooms(&self.namespace)
    }

    /// Id under which clients know a room.
    pub fn call_id(&self, name: &str) -> CallId {
        CallId::new(&self.namespace, name)
    }

    /// Begins to record what happens to the rooms.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn history(&self) -> Result<History> {
        History::of(self.rooms()).await
    }

    /// Creates a room.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn create(&self, name: &str, spec: CallRoomSpec) -> Result<CallRoom> {
        let room = self.rooms().create(&PostParams::default(), &CallRoom::new(name, spec)).await;
        room.with_context(|| format!("creating room {name}"))
    }

    /// Creates `names` as fast as some writers can, all alike.
    ///
    /// # Errors
    /// When the API server refuses one.
    pub async fn create_many(&self, names: Vec<String>, spec: CallRoomSpec) -> Result<()> {
        let create = |name: String| {
            let spec = spec.clone();
            async move { self.create(&name, spec).await.map(drop) }
        };
        stream::iter(names).map(create).buffer_unordered(WRITERS).try_collect().await
    }

    /// Waits until a room can be joined.
    ///
    /// # Errors
    /// When it cannot within `budget`.
    pub async fn ready(&self, name: &str, budget: Duration) -> Result<(CallRoom, Route)> {
        wait::until(&self.rooms(), name, "to be ready", budget, |found| {
            let (found, status) = (found?, found?.status.as_ref()?);
            condition::is_true(&status.conditions, room::READY).then(|| Some((found.clone(), status.route.clone()?)))?
        })
        .await
    }

    /// Deletes a room and waits until it is gone.
    ///
    /// # Errors
    /// When it stays.
    pub async fn delete(&self, name: &str) -> Result<()> {
        self.rooms().delete(name, &DeleteParams::default()).await?;
        wait::until_gone(&self.rooms(), name, GONE).await
    }

    /// Waits for an event with `reason` about this very object, and yields its message.
    ///
    /// # Errors
    /// When there is none in time.
    pub async fn told<K: Resource<DynamicType = ()>>(&self, object: &K, reason: &str) -> Result<String> {
        let (name, uid) = (object.name_any(), object.uid().context("a stored object has a UID")?);
        let namespace = object.namespace().context("an object in a namespace")?;
        let events: Api<Event> = Api::namespaced(self.cluster.client.clone(), &namespace);
        // An object of an earlier run may have borne the same name.
        let ours = watcher::Config::default().fields(&format!("involvedObject.uid={uid},reason={reason}"));
        let what = format!("an event {reason} about {name}");
        let message = wait::until_all(&events, ours, &what, TOLD, |events| {
            events.values().next().map(|event| event.message.clone().unwrap_or_default())
        })
        .await?;
        println!("  event {reason} about {name}: {message}");
        Ok(message)
    }

    /// Waits until these pods of callplane are ready.
    ///
    /// # Errors
    /// When they are not in time.
    pub async fn pods_ready(&self, names: &[&str]) -> Result<()> {
        for name in names {
            wait::until(&self.cluster.pods(), name, "to be ready", POD_READY, |pod| is_ready(pod?).then_some(()))
                .await?;
        }
        Ok(())
    }

    /// The pod of a media node.
    ///
    /// # Errors
    /// When there is none.
    pub async fn pod(&self, node: &str) -> Result<Pod> {
        self.cluster.pods().get(node).await.with_context(|| format!("the pod of media node {node}"))
    }

    /// The operator's pod that leads now.
    ///
    /// # Errors
    /// When nobody does.
    pub async fn leader(&self) -> Result<Pod> {
        let lease = self.cluster.leases().get(LEADER_LEASE).await.context("the operator's lease")?;
        let holder = lease.spec.and_then(|s| s.holder_identity).context("nobody holds the operator's lease")?;
        let pods = self.cluster.pods().list(&ListParams::default().labels(OPERATOR)).await?;
        let names: Vec<_> = pods.iter().map(ResourceExt::name_any).collect();
        let leader = pods.into_iter().find(|p| holder.starts_with(&p.name_any()));
        leader.with_context(|| format!("the leader {holder} is none of {names:?}"))
    }

    /// Waits until all replicas of the operator are ready, and one of them leads.
    ///
    /// # Errors
    /// When they are not in time.
    pub async fn operator_settled(&self) -> Result<()> {
        let config = watcher::Config::default().labels(OPERATOR);
        wait::until_all(&self.cluster.deployments(), config, "the operator's replicas", POD_READY, |found| {
            let deployment = found.values().next()?;
            let status = deployment.status.as_ref()?;
            let wanted = deployment.spec.as_ref()?.replicas;
            let settled = status.observed_generation == deployment.metadata.generation
                && status.updated_replicas == wanted
                && status.ready_replicas == wanted
                && status.replicas == wanted;
            settled.then_some(())
        })
        .await?;
        let config = watcher::Config::default().labels(OPERATOR);
        let pods = self.cluster.pods();
        let names = wait::until_all(&pods, config, "the operator's pods", POD_READY, |pods| {
            let there = pods.values().all(|p| p.metadata.deletion_timestamp.is_none());
            there.then(|| pods.keys().cloned().collect::<Vec<_>>())
        });
        let names = names.await?;
        ensure!(!names.is_empty(), "no pod has the labels {OPERATOR}");
        wait::until(&self.cluster.leases(), LEADER_LEASE, "to be held by one of them", POD_READY, |lease| {
            let holder = lease?.spec.as_ref()?.holder_identity.as_ref()?;
            names.iter().any(|name| holder.starts_with(name)).then_some(())
        })
        .await
    }

    /// What a person would look at after a failure.
    pub async fn diagnosis(&self) -> String {
        let all = ListParams::default();
        let mut lines = vec![format!("--- what there was in {} and {SYSTEM}", self.namespace)];
        let rooms = self.rooms().list(&all.clone().limit(12)).await;
        lines.extend(rooms.into_iter().flatten().map(|o| o.summary()));
        lines.extend(self.cluster.pools().list(&all).await.into_iter().flatten().map(|o| o.summary()));
        lines.extend(self.cluster.nodes().list(&all).await.into_iter().flatten().map(|o| o.summary()));
        let pods = self.cluster.pods().list(&all).await.map(|pods| pods.items).unwrap_or_default();
        lines.extend(pods.iter().map(Summary::summary));
        for namespace in [self.namespace.as_str(), SYSTEM] {
            let events = Api::<Event>::namespaced(self.cluster.client.clone(), namespace).list(&all).await;
            let events = events.map(|events| events.items).unwrap_or_default();
            lines.extend(events.iter().rev().take(12).map(Summary::summary));
        }
        let ours = format!("e2e-{}", self.name);
        let concerned = |p: &&Pod| p.labels().get(POOL_LABEL).is_none_or(|pool| *pool == ours);
        for pod in pods.iter().filter(|p| p.labels().contains_key(COMPONENT_LABEL)).filter(concerned) {
            let few = LogParams { tail_lines: Some(25), ..Default::default() };
            let text = self.cluster.pods().logs(&pod.name_any(), &few).await.unwrap_or_else(|e| e.to_string());
            lines.push(format!("--- log of {}", pod.name_any()));
            lines.extend(text.lines().map(|line| shortened(line, 300)));
        }
        lines.join("\n")
    }
}

/// Whether a pod says that it is ready.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

/// What is not there need not be removed.
///
/// # Errors
/// Every other error.
pub fn ignore_missing(done: kube::Result<()>) -> Result<()> {
    match done {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        done => Ok(done?),
    }
}

/// The spec of a room for `max_participants` on `pool`.
pub fn room_on(pool: &str, max_participants: i32) -> CallRoomSpec {
    CallRoomSpec { pool: Some(pool.to_owned()), max_participants, ..Default::default() }
}
