//! Media nodes that exist on paper: MediaNode, status and Lease are real, and the probe is answered, but no media flows.

use std::{net::SocketAddr, time::Duration};

use anyhow::Result;
use callplane_crds::{
    MediaNode, MediaNodeSpec, MediaNodeStatus,
    condition::{self, Status, condition, node},
    medianode::{Capacity, Endpoints, Load},
    names::{MEDIA_NODE_MANAGER, POOL_LABEL},
};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, Time},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
    core::ObjectMeta,
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

use crate::{api_server::NAMESPACE, clock};

/// Pool that the nodes say they belong to. There is no such MediaPool, so the operator makes and removes none.
pub const POOL: &str = "bench";
/// Each node has room for so many rooms; the other dimensions do not bind.
pub const ROOMS_PER_NODE: i32 = 1000;
/// Believed for this long, and renewed four times as often: a thirtieth of a real fleet's writes.
const LEASE_SECONDS: i32 = 240;
const WRITERS: usize = 8;

/// The nodes, and what keeps them alive.
pub struct Fleet {
    tasks: Vec<JoinHandle<()>>,
}

impl Fleet {
    /// Makes `count` nodes that are Ready.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn start(client: Client, count: usize) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let probes = listener.local_addr()?;
        let answering = tokio::spawn(answer_probes(listener));
        let make = |i: usize| make_node(client.clone(), i, probes);
        stream::iter(0..count).map(make).buffer_unordered(WRITERS).try_collect::<()>().await?;
        let renewing = tokio::spawn(renew(client, count));
        Ok(Self { tasks: vec![answering, renewing] })
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

fn name(i: usize) -> String {
    format!("node-{i:04}")
}

async fn make_node(client: Client, i: usize, probes: SocketAddr) -> Result<()> {
    let nodes = Api::<MediaNode>::namespaced(client.clone(), NAMESPACE);
    let leases = Api::<Lease>::namespaced(client, NAMESPACE);
    let (name, now) = (name(i), clock::wall());
    let metadata = ObjectMeta { name: Some(name.clone()), ..Default::default() };
    let spec = LeaseSpec {
        holder_identity: Some(name.clone()),
        lease_duration_seconds: Some(LEASE_SECONDS),
        renew_time: Some(MicroTime(now)),
        ..Default::default()
    };
    leases.create(&PostParams::default(), &Lease { metadata, spec: Some(spec) }).await?;
    let capacity = Capacity { rooms: ROOMS_PER_NODE, participants: 100_000, streams: 100_000_000 };
    let mut node = MediaNode::new(&name, MediaNodeSpec { pool: POOL.to_owned(), capacity, ..Default::default() });
    node.metadata.labels = Some([(POOL_LABEL.to_owned(), POOL.to_owned())].into());
    let made = nodes.create(&PostParams::default(), &node).await?;
    let url = format!("http://{probes}");
    let status = MediaNodeStatus {
        observed_generation: made.metadata.generation,
        version: Some("bench".to_owned()),
        endpoints: Some(Endpoints { api: url.clone(), admin: url, rtc: Vec::new() }),
        load: Some(Load { cpu_limit_millis: 1000, ..Default::default() }),
        utilization_percent: Some(0),
        rooms: Vec::new(),
        reported_at: Some(Time(now)),
        conditions: vec![
            condition(&[], node::READY, Status::True, "Serving", "", made.metadata.generation, now),
            condition(&[], node::SATURATED, condition::Status::False, "Idle", "", made.metadata.generation, now),
        ],
    };
    let status = json!({"apiVersion": "callplane.io/v1alpha1", "kind": "MediaNode", "status": status});
    nodes.patch_status(&name, &PatchParams::apply(MEDIA_NODE_MANAGER).force(), &Patch::Apply(&status)).await?;
    Ok(())
}

/// Renews one lease after the other, evenly spread over a quarter of their duration.
async fn renew(client: Client, count: usize) {
    let leases = Api::<Lease>::namespaced(client, NAMESPACE);
    let round = Duration::from_secs(u64::from(LEASE_SECONDS.unsigned_abs()) / 4);
    let mut tick = tokio::time::interval(round / u32::try_from(count.max(1)).unwrap_or(u32::MAX));
    for i in (0..count).cycle() {
        tick.tick().await;
        let renewed = Patch::Merge(json!({"spec": {"renewTime": MicroTime(clock::wall())}}));
        if let Err(error) = leases.patch(&name(i), &PatchParams::default(), &renewed).await {
            eprintln!("a lease could not be renewed: {error}");
        }
    }
}

/// Says 200 to whatever is asked.
async fn answer_probes(listener: TcpListener) {
    while let Ok((mut socket, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut request = [0; 4096];
            while let Ok(1..) = socket.read(&mut request).await {
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                if socket.write_all(answer).await.is_err() {
                    return;
                }
            }
        });
    }
}
