//! Writes the MediaNode's status: samples every second, asks [`status`](super::status) whether that is
//! worth a write, and tries again for as long as the API server does not take it.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use callplane_crds::{
    MediaNodeStatus,
    medianode::{Endpoints, ServedRoom},
    names::MEDIA_NODE_MANAGER,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams},
};
use serde::Serialize;
use tokio::{sync::watch, time};
use tokio_util::sync::CancellationToken;

use super::{
    Settings, lease,
    metrics::{Metrics, Outcome},
    pause::{PauseGuard, Pauses},
    status::{self, Activity, Facts, Prompts, Written},
    usage::{Counters, Meter, Traffic},
    view::NodeView,
    watches,
};
use crate::rooms::{Directory, Refusal, RoomKey, RoomLoad};

/// How often the load is looked at.
const SAMPLE: Duration = Duration::from_secs(1);

/// How long one write may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(8);

/// The longest wait after a write that failed; it starts with a second and doubles.
const LONGEST_RETRY: Duration = Duration::from_secs(10);

/// What the publisher follows.
pub struct Inputs {
    /// The MediaNode.
    pub own: watch::Receiver<Option<NodeView>>,
    /// How the Lease is renewed.
    pub contact: watch::Receiver<lease::Contact>,
    /// How the rooms stand.
    pub standing: watch::Receiver<watches::Standing>,
    /// Whether the process was paused.
    pub pauses: watch::Receiver<Pauses>,
    /// Whether it was told to stop.
    pub terminating: watch::Receiver<bool>,
}

/// Writes one node's status.
pub struct Publisher {
    api: Api<NodeView>,
    node: String,
    endpoints: Endpoints,
    directory: Directory,
    traffic: Box<dyn Fn() -> Traffic + Send + Sync>,
    guard: PauseGuard,
    metrics: Metrics,
    inputs: Inputs,
    meter: Meter,
    cpu_limit_millis: i32,
    written: Option<Written>,
    news_written: u64,
    failures: u32,
    recoveries: u64,
    retry_at: Option<Instant>,
    empty_since: HashMap<RoomKey, (Instant, Timestamp)>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Apply<'a> {
    api_version: &'a str,
    kind: &'a str,
    metadata: Name<'a>,
    status: &'a MediaNodeStatus,
}

#[derive(Debug, Serialize)]
struct Name<'a> {
    name: &'a str,
}

impl Publisher {
    /// For the MediaNode of `settings`.
    pub fn new(
        client: Client,
        settings: &Settings,
        directory: Directory,
        traffic: impl Fn() -> Traffic + Send + Sync + 'static,
        guard: PauseGuard,
        metrics: Metrics,
        inputs: Inputs,
    ) -> Self {
        Self {
            api: Api::namespaced(client, &settings.namespace),
            node: settings.node.clone(),
            endpoints: settings.endpoints.clone(),
            directory,
            traffic: Box::new(traffic),
            guard,
            metrics,
            inputs,
            meter: Meter::default(),
            cpu_limit_millis: super::usage::cpu_limit_millis(),
            written: None,
            news_written: 0,
            failures: 0,
            recoveries: 0,
            retry_at: None,
            empty_since: HashMap::new(),
        }
    }

    /// Publishes until `stop`, then says that the node has stopped (once, if the API server answers).
    ///
    /// # Errors
    /// [`Refusal::Busy`] when the directory has ended: there is nothing left to report on.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Refusal> {
        let mut sample = time::interval(SAMPLE);
        sample.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        let mut leaving = None;
        while !stop.is_cancelled() {
            let (activity, leaves) = self.look();
            if leaving.replace(leaves) != Some(leaves) {
                self.directory.drain(leaves).await?;
            }
            let due = self.publish(activity).await?;
            let now = self.guard.moment().monotonic;
            tokio::select! {
                () = stop.cancelled() => {}
                _ = sample.tick() => {}
                () = time::sleep(due.saturating_duration_since(now)) , if due > now => {}
                Ok(()) = self.inputs.own.changed() => {}
                Ok(()) = self.inputs.contact.changed() => {}
                Ok(()) = self.inputs.standing.changed() => {}
                Ok(()) = self.inputs.pauses.changed() => {}
                Ok(()) = self.inputs.terminating.changed() => {}
            }
        }
        self.retry_at = None;
        self.publish(Activity::Stopped).await.map(drop)
    }

    /// What the node does, and whether it is to be emptied. Reads every input, so that none is left to wake for.
    fn look(&mut self) -> (Activity, bool) {
        let Inputs { own, contact, standing, pauses, terminating } = &mut self.inputs;
        let cordoned = own.borrow_and_update().as_ref().is_some_and(NodeView::cordoned);
        let contact = *contact.borrow_and_update();
        let listed = standing.borrow_and_update().listed;
        let fenced = pauses.borrow_and_update().fenced;
        let terminating = *terminating.borrow_and_update();
        let activity = match () {
            () if !listed || !contact.renewed => Activity::Starting,
            () if fenced => Activity::Resyncing,
            () if terminating => Activity::Draining,
            () => Activity::Serving,
        };
        if contact.recoveries > self.recoveries {
            // The API server is back: no need to wait any longer.
            (self.recoveries, self.retry_at) = (contact.recoveries, None);
        }
        (activity, cordoned || terminating)
    }

    /// Writes if it is time to; returns when to look again.
    async fn publish(&mut self, activity: Activity) -> Result<Instant, Refusal> {
        let news = self.inputs.standing.borrow().news;
        let loads = self.directory.snapshot().await?;
        let now = self.guard.moment();
        let rates = self.meter.read(now.monotonic, Counters::read((self.traffic)()));
        let streams = loads.iter().map(|r| i64::try_from(r.streams).unwrap_or(i64::MAX)).sum();
        let rooms = self.served(loads, now.monotonic, now.wall);
        let later = now.monotonic + SAMPLE;
        let Some(own) = self.inputs.own.borrow().clone() else { return Ok(later) };
        let facts = Facts {
            generation: own.metadata.generation,
            cordoned: own.cordoned(),
            capacity: own.capacity(),
            endpoints: self.endpoints.clone(),
            activity,
            rooms,
            streams,
            rates,
            cpu_limit_millis: self.cpu_limit_millis,
        };
        let previous = match &self.written {
            Some(written) if own.uid() == written.uid && own.version() <= written.version => &written.status.conditions,
            _ => own.conditions(),
        };
        let next = status::compose(&facts, previous, now.wall);
        let prompts = Prompts {
            seen: Some((own.uid(), own.version(), own.conditions())),
            routes_changed: news > self.news_written,
        };
        let due = status::due(self.written.as_ref(), &next, prompts, now.monotonic);
        let due = self.retry_at.map_or(due, |at| at.max(due));
        if due > now.monotonic {
            return Ok(due);
        }
        let written = self.write(&next).await;
        self.metrics.status(Outcome::of(&written));
        match written {
            Ok(after) => {
                self.metrics.contact(self.guard.moment().wall);
                let failed = std::mem::take(&mut self.failures);
                if failed > 0 {
                    tracing::info!(failed, "the status is written again");
                }
                self.retry_at = None;
                self.news_written = news;
                let uid = after.uid().to_owned();
                self.written = Some(Written { status: next, at: now.monotonic, version: after.version(), uid });
                Ok(later)
            }
            Err(error) => {
                if self.failures == 0 {
                    tracing::warn!(%error, "the status could not be written; calls go on");
                }
                // It may stand there nevertheless: what comes next is written whatever it is.
                self.written = None;
                let wait = SAMPLE.saturating_mul(1 << self.failures.min(6)).min(LONGEST_RETRY);
                self.failures = self.failures.saturating_add(1);
                let again = now.monotonic + wait;
                self.retry_at = Some(again);
                Ok(again)
            }
        }
    }

    async fn write(&self, status: &MediaNodeStatus) -> Result<NodeView, Error> {
        let (api_version, kind) = (NodeView::api_version(&()), NodeView::kind(&()));
        let apply = Apply { api_version: &api_version, kind: &kind, metadata: Name { name: &self.node }, status };
        // By force: the operator writes `Ready` over ours when it gives the node up, and a node that is back says so.
        let params = PatchParams::apply(MEDIA_NODE_MANAGER).force();
        let patch = Patch::Apply(&apply);
        match time::timeout(WRITE_TIMEOUT, self.api.patch_status(&self.node, &params, &patch)).await {
            Ok(result) => result.map_err(Error::Api),
            Err(_) => Err(Error::Timeout),
        }
    }

    /// The rooms for the status. Since when a room is empty is told by the wall clock once and then kept:
    /// two clocks drift, and a time that trembles would be a change.
    fn served(&mut self, loads: Vec<RoomLoad>, now: Instant, wall: Timestamp) -> Vec<ServedRoom> {
        let known = std::mem::take(&mut self.empty_since);
        let mut rooms = Vec::with_capacity(loads.len());
        for load in loads {
            let empty_since = load.empty_since.map(|since| {
                let kept = known.get(&load.key).filter(|(then, _)| *then == since).map(|(_, at)| *at);
                let at = kept.unwrap_or_else(|| {
                    let ago = SignedDuration::try_from(now.saturating_duration_since(since)).unwrap_or_default();
                    wall.saturating_sub(ago)
                        .ok()
                        .and_then(|t| Timestamp::from_second(t.as_second()).ok())
                        .unwrap_or(wall)
                });
                self.empty_since.insert(load.key.clone(), (since, at));
                Time(at)
            });
            rooms.push(ServedRoom {
                namespace: load.key.namespace,
                name: load.key.name,
                epoch: load.epoch,
                participants: i32::try_from(load.participants).unwrap_or(i32::MAX),
                empty_since,
            });
        }
        rooms
    }
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the API server did not take the status: {0}")]
    Api(#[from] kube::Error),
    #[error("the API server did not answer within {} s", WRITE_TIMEOUT.as_secs())]
    Timeout,
}
