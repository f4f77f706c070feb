//! What `kubectl get` shows, and what can be selected by field.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use callplane_crds::{CallRoom, MediaNode, MediaPool};
use futures::{StreamExt, TryStreamExt};
use kube::{
    CustomResourceExt, Resource, ResourceExt,
    api::{DynamicObject, ListParams, Patch, PatchParams, WatchEvent, WatchParams},
    core::Request,
};
use serde_json::{Value, json};

use crate::desk::{Desk, Keep, desk};

/// What `kubectl get` asks for.
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

#[test]
fn kubectl_get_shows_what_a_person_looks_for() {
    desk("columns", |desk| async move {
        for (shown, expected) in [
            (columns::<CallRoom>(&desk).await?, "Name Ready Mode Node Epoch Participants Age"),
            (columns::<MediaNode>(&desk).await?, "Name Pool Ready Rooms Load Cordoned Age"),
            (columns::<MediaPool>(&desk).await?, "Name Desired Ready Cordoned Load Age"),
        ] {
            ensure!(shown == expected, "{shown} instead of {expected}");
        }
        Ok(())
    });
}

/// The columns that a person sees who asks for nothing in particular.
async fn columns<K: CustomResourceExt>(desk: &Desk) -> Result<String> {
    let url = DynamicObject::url_path(&K::api_resource(), Some(&desk.namespace));
    let mut request = Request::new(url).list(&ListParams::default())?;
    request.headers_mut().insert("accept", TABLE.parse()?);
    let table: Value = desk.cluster.client.request(request).await?;
    let columns = table["columnDefinitions"].as_array().context("a table")?;
    let names = columns.iter().filter(|c| c["priority"] == 0).filter_map(|c| c["name"].as_str());
    Ok(names.collect::<Vec<_>>().join(" "))
}

/// What a person sees of one object of each kind, asked for with `--output wide`. The answer to a write that is not kept
/// is a table, too, so nobody else can have written meanwhile.
#[test]
fn kubectl_get_fills_every_column() {
    desk("cells", |desk| async move {
        let ready = |reason: &str| {
            let at = "2026-01-01T00:00:00Z";
            json!([{"type": "Ready", "status": "True", "reason": reason, "message": "", "lastTransitionTime": at}])
        };
        let route = json!({"epoch": 7, "mode": "SFU", "node": "node-a", "reason": "Scheduled", "since": "2026-01-01T00:00:00Z"});
        let room = json!({"conditions": ready("Routed"), "phase": "Ready", "participants": 3, "route": route});
        let cells = row::<CallRoom>(&desk, json!({"pool": "nowhere"}), room).await?;
        expect(&cells, json!(["object", "True", "SFU", "node-a", 7, 3, "Ready", "Routed"]))?;

        let load = json!({"rooms": 4, "participants": 9, "streams": 1, "cpuMillis": 1, "cpuLimitMillis": 1, "memoryBytes": 1,
            "egressBitsPerSecond": 1, "packetsPerSecond": 1});
        let endpoints = json!({"api": "http://10.0.0.7:8080", "admin": "http://10.0.0.7:9090"});
        let node = json!({"conditions": ready("Serving"), "load": load, "utilizationPercent": 42, "version": "1.2.3",
            "endpoints": endpoints});
        let cells = row::<MediaNode>(&desk, json!({"pool": "p", "cordoned": true}), node).await?;
        expect(&cells, json!(["object", "p", "True", 4, 42, true, 9, "http://10.0.0.7:8080", "1.2.3"]))?;

        let pool = json!({"replicas": 6, "readyReplicas": 5, "cordonedReplicas": 1, "utilizationPercent": 37});
        let cells = row::<MediaPool>(&desk, json!({"replicas": 8, "region": "eu"}), pool).await?;
        expect(&cells, json!(["object", 8, 5, 1, 37, "eu"]))
    });
}

fn expect(cells: &[Value], expected: Value) -> Result<()> {
    ensure!(json!(cells) == expected, "{} instead of {expected}", json!(cells));
    Ok(())
}

/// Makes an object with `spec`, and yields its cells as they would be with `status`, but for its age.
async fn row<K: CustomResourceExt>(desk: &Desk, spec: Value, status: Value) -> Result<Vec<Value>> {
    let made = desk.all::<K>().create(&json!({"metadata": {"name": "object"}, "spec": spec}), Keep::Yes).await;
    made.with_context(|| format!("a {}", K::api_resource().kind))?;
    let url = DynamicObject::url_path(&K::api_resource(), Some(&desk.namespace));
    let parameters = PatchParams { dry_run: true, ..PatchParams::default() };
    let patch = Patch::Merge(json!({ "status": status }));
    let mut request = Request::new(url).patch_subresource("status", "object", &parameters, &patch)?;
    request.headers_mut().insert("accept", TABLE.parse()?);
    let table: Value = desk.cluster.client.request(request).await?;
    let columns = table["columnDefinitions"].as_array().context("a table")?;
    let cells = table["rows"][0]["cells"].as_array().context("a row")?;
    ensure!(columns.len() == cells.len(), "{} columns and {} cells", columns.len(), cells.len());
    Ok(columns.iter().zip(cells).filter(|(column, _)| column["name"] != "Age").map(|(_, cell)| cell.clone()).collect())
}

/// A media node follows its own rooms, as a kubelet follows its own pods. Whatever the operator makes of these routes
/// to nowhere comes later than the event that is waited for.
#[test]
fn rooms_can_be_followed_by_node_and_by_phase() {
    desk("fields", |desk| async move {
        let rooms = desk.all::<CallRoom>();
        for room in ["mine", "other"] {
            rooms.create(&json!({"metadata": {"name": room}, "spec": {"pool": "nowhere"}}), Keep::Yes).await?;
        }
        let route = |node: &str| json!({"epoch": 1, "mode": "SFU", "node": node, "reason": "Placed", "since": "2026-01-01T00:00:00Z"});
        for (field, value, other, mine) in [
            ("status.route.node", "node-a", json!({"route": route("node-b")}), json!({"route": route("node-a")})),
            (
                "status.previousRoute.node",
                "node-a",
                json!({"previousRoute": route("node-b")}),
                json!({"previousRoute": route("node-a")}),
            ),
            ("status.phase", "Ended", json!({"phase": "Ready"}), json!({"phase": "Ended"})),
        ] {
            let selected = WatchParams::default().fields(&format!("{field}={value}"));
            let api = rooms.api();
            let mut events = api.watch(&selected, "0").await?.boxed();
            rooms.tell("other", &other, Keep::Yes).await?;
            rooms.tell("mine", &mine, Keep::Yes).await?;
            let first = tokio::time::timeout(Duration::from_secs(60), async {
                loop {
                    match events.try_next().await? {
                        Some(WatchEvent::Added(room)) => return anyhow::Ok(room.name_any()),
                        Some(_) => {}
                        None => anyhow::bail!("the watch ended"),
                    }
                }
            });
            let first = first.await.with_context(|| format!("no event for {field}={value}"))??;
            ensure!(first == "mine", "{field}={value} selects {first}");
        }
        Ok(())
    });
}

#[test]
fn nodes_can_be_listed_by_pool() {
    desk("pools-nodes", |desk| async move {
        let nodes = desk.all::<MediaNode>();
        for (node, pool) in [("a", "p"), ("b", "q")] {
            nodes.create(&json!({"metadata": {"name": node}, "spec": {"pool": pool}}), Keep::Yes).await?;
        }
        let listed = nodes.api().list(&ListParams::default().fields("spec.pool=q")).await?;
        let names: Vec<_> = listed.iter().map(ResourceExt::name_any).collect();
        ensure!(names == ["b"], "{names:?}");
        Ok(())
    });
}
