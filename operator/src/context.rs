//! What the controllers share.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use callplane_crds::CallRoom;
use kube::{Api, Client};

use crate::{
    api::Writer,
    clock::Clock,
    cluster::{Cluster, Effects, RoomKey},
    events::Events,
    metrics::Metrics,
    pool::backoff::Crashes,
    queue::{Lane, Queue},
};

/// What the controllers share.
pub struct Context {
    /// What is known. The lock is held for a decision and never across an await.
    cluster: Mutex<Cluster>,
    /// Rooms to look at.
    pub rooms: Arc<Queue<RoomKey>>,
    /// Nodes to look at.
    pub nodes: Arc<Queue<String>>,
    /// Pools to look at.
    pub pools: Arc<Queue<String>>,
    /// Rooms whose TURN Secret to look at. Unset where there is no TURN.
    pub turns: OnceLock<Arc<Queue<RoomKey>>>,
    /// The way to the API server.
    pub writer: Writer,
    /// Where the time comes from.
    pub clock: Clock,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// What people are told.
    pub events: Events,
    /// Asks nodes whether they live.
    pub probe: reqwest::Client,
    /// Namespace of pools, nodes and pods.
    pub namespace: String,
    /// The only namespace whose rooms are served, if it is one only.
    pub rooms_in: Option<String>,
    /// Image of media nodes whose pool names none.
    pub media_node_image: String,
    /// Crashes of each pool's pods, for its back-off.
    pub crashes: Mutex<HashMap<String, Crashes>>,
    /// When the disruption budget of each pool was last seen to be right.
    pub budgets: Mutex<HashMap<String, Duration>>,
    leading: AtomicBool,
}

/// What a [`Context`] is made from.
pub struct Parts {
    /// The way to the API server.
    pub writer: Writer,
    /// Where the time comes from.
    pub clock: Clock,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// What people are told.
    pub events: Events,
    /// Asks nodes whether they live.
    pub probe: reqwest::Client,
    /// Namespace of pools, nodes and pods.
    pub namespace: String,
    /// The only namespace whose rooms are served, if it is one only.
    pub rooms_in: Option<String>,
    /// Image of media nodes whose pool names none.
    pub media_node_image: String,
}

impl Context {
    /// A context that knows nothing yet.
    pub fn new(parts: Parts) -> Self {
        Self {
            cluster: Mutex::new(Cluster::new(crate::leader::LEASE_NAME)),
            rooms: Arc::default(),
            nodes: Arc::default(),
            pools: Arc::default(),
            turns: OnceLock::new(),
            writer: parts.writer,
            clock: parts.clock,
            metrics: parts.metrics,
            events: parts.events,
            probe: parts.probe,
            namespace: parts.namespace,
            rooms_in: parts.rooms_in,
            media_node_image: parts.media_node_image,
            crashes: Mutex::default(),
            budgets: Mutex::default(),
            leading: AtomicBool::new(false),
        }
    }

    /// What is known.
    pub fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All rooms that this operator serves.
    pub fn all_rooms(&self, client: Client) -> Api<CallRoom> {
        match &self.rooms_in {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        }
    }

    /// Queues whoever is to look again. A follower's caches stay warm and its queues empty.
    pub fn spread(&self, effects: Effects) {
        if !self.leading.load(Ordering::Acquire) {
            return;
        }
        if let Some(turns) = self.turns.get() {
            for room in &effects.rooms {
                turns.add(room.clone(), Lane::Normal);
            }
        }
        for room in effects.urgent {
            self.rooms.add(room, Lane::Urgent);
        }
        for room in effects.rooms {
            self.rooms.add(room, Lane::Normal);
        }
        for node in effects.nodes {
            self.nodes.add(node, Lane::Normal);
        }
        for pool in effects.pools {
            self.pools.add(pool, Lane::Normal);
        }
    }

    /// Starts to act: looks at everything.
    pub fn lead(&self) {
        self.leading.store(true, Ordering::Release);
        let everything = {
            let mut cluster = self.cluster();
            cluster.ask_anew();
            cluster.everything()
        };
        self.spread(everything);
    }

    /// Stops acting.
    pub fn follow(&self) {
        self.leading.store(false, Ordering::Release);
        self.rooms.clear();
        self.nodes.clear();
        self.pools.clear();
        if let Some(turns) = self.turns.get() {
            turns.clear();
        }
        self.crashes.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.budgets.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Waits until nothing is being worked on.
    pub async fn quiet(&self) {
        let turns = || self.turns.get().map_or(0, |turns| turns.running());
        while self.rooms.running() + self.nodes.running() + self.pools.running() + turns() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Whether this replica acts.
    pub fn leads(&self) -> bool {
        self.leading.load(Ordering::Acquire)
    }
}
