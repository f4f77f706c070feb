//! Rooms, written at a given rate or as fast as some writers can.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use callplane_crds::{
    CallRoom, CallRoomSpec, CallRoomStatus, Route, RouteMode,
    callroom::Phase,
    condition::{Status, condition, room},
    names::ROOM_MANAGER,
};
use futures::{StreamExt, TryStreamExt, future::try_join_all, stream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::{api_server::NAMESPACE, clock, fleet::POOL};

/// Writers that write as fast as they can.
pub const WRITERS: usize = 16;
/// Everyone who talks, sees and hears in such a room forwards twelve streams.
const PARTICIPANTS: i32 = 4;

/// Writes rooms.
#[derive(Clone)]
pub struct Load {
    rooms: Api<CallRoom>,
}

impl Load {
    /// Writes through `client`.
    pub fn new(client: Client) -> Self {
        Self { rooms: Api::namespaced(client, NAMESPACE) }
    }

    async fn create(&self, name: &str) -> Result<CallRoom> {
        let spec =
            CallRoomSpec { pool: Some(POOL.to_owned()), max_participants: PARTICIPANTS, ..CallRoomSpec::default() };
        self.rooms.create(&PostParams::default(), &CallRoom::new(name, spec)).await.with_context(|| name.to_owned())
    }

    /// Creates one room; yields when the request was sent.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn one(&self, name: &str) -> Result<Instant> {
        let sent = clock::now();
        self.create(name).await?;
        Ok(sent)
    }

    /// What the API server can do by itself: `count` rooms, each created and given the status that the operator would
    /// give it. Yields the time that it took.
    ///
    /// # Errors
    /// When the API server refuses one.
    pub async fn raw(&self, prefix: &str, count: usize) -> Result<Duration> {
        let began = clock::now();
        let each = |name: String| async move {
            let made = self.create(&name).await?;
            let status = placed(&made);
            let apply = PatchParams::apply(ROOM_MANAGER).force();
            self.rooms.patch_status(&name, &apply, &Patch::Apply(&status)).await?;
            anyhow::Ok(())
        };
        self.by_writers(prefix, count, each).await?;
        Ok(began.elapsed())
    }

    /// Creates `count` rooms as fast as the writers can.
    ///
    /// # Errors
    /// When the API server refuses one.
    pub async fn flat_out(&self, prefix: &str, count: usize) -> Result<()> {
        let each = |name: String| async move { self.create(&name).await.map(drop) };
        self.by_writers(prefix, count, each).await
    }

    async fn by_writers<F: Future<Output = Result<()>>>(
        &self,
        prefix: &str,
        count: usize,
        each: impl Fn(String) -> F + Copy,
    ) -> Result<()> {
        let writer = |first: usize| async move {
            for i in (first..count).step_by(WRITERS) {
                each(format!("{prefix}{i}")).await?;
            }
            anyhow::Ok(())
        };
        try_join_all((0..WRITERS).map(writer)).await.map(drop)
    }

    /// Creates `count` rooms at `rate` a second, whether or not earlier ones are done. Yields when each request was sent.
    ///
    /// # Errors
    /// When the API server refuses one.
    pub async fn at_rate(&self, prefix: &str, count: usize, rate: f64) -> Result<HashMap<String, Instant>> {
        let mut tick = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
        let mut tasks = Vec::with_capacity(count);
        for i in 0..count {
            tick.tick().await;
            let (load, name) = (self.clone(), format!("{prefix}{i}"));
            tasks.push(tokio::spawn(async move {
                let sent = load.one(&name).await?;
                anyhow::Ok((name, sent))
            }));
        }
        stream::iter(tasks).then(|task| async { task.await? }).try_collect().await
    }

    /// Deletes all rooms.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn clear(&self) -> Result<()> {
        self.rooms.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
        Ok(())
    }
}

/// The status that the operator writes: as large, and written in the same way.
fn placed(made: &CallRoom) -> serde_json::Value {
    let now = clock::wall();
    let generation = made.metadata.generation;
    let holds = |type_, message: &str| condition(&[], type_, Status::True, "Placed", message, generation, now);
    let status = CallRoomStatus {
        observed_generation: generation,
        phase: Some(Phase::Ready),
        participants: Some(0),
        route: Some(Route {
            epoch: 1,
            mode: RouteMode::Sfu,
            node: Some("node-0000".to_owned()),
            reason: "Placed".to_owned(),
            since: Time(now),
        }),
        previous_route: None,
        presence: None,
        turn_secret_name: None,
        started_at: Some(Time(now)),
        ended_at: None,
        conditions: vec![
            holds(room::PLACED, "media flows through node-0000"),
            holds(room::READY, "can be joined on node-0000"),
        ],
    };
    let version = &made.metadata.resource_version;
    json!({
        "apiVersion": "callplane.io/v1alpha1", "kind": "CallRoom",
        "metadata": {"resourceVersion": version}, "status": status,
    })
}
