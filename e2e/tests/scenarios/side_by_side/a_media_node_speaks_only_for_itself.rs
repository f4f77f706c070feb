//! With the token of a real media-node pod, the API server lets one write that pod's own MediaNode status and Lease, and
//! nothing else.

use anyhow::{Context, Result, ensure};
use callplane_crds::{
    CallRoom, MediaNode,
    names::{JOIN_KEYS_SECRET, MEDIA_NODE_MANAGER},
};
use callplane_e2e::{cluster::SYSTEM, process, scenario, scene};
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Pod, Secret},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::json;

#[test]
fn the_token_of_a_media_node_opens_only_its_own_status() {
    scenario::side_by_side("own-status", |scene| async move {
        let pool = scene.pool(2, |_| {}).await?;
        let nodes = scene.ready_nodes(&pool, 2).await?;
        let (own, other) = (nodes[0].name_any(), nodes[1].name_any());
        scene.create("standup", scene::room_on(&pool, 4)).await?;
        scene.ready("standup", scene::ROOM_READY).await?;

        let client = scene.cluster.as_bearer(&token_in(&scene.pod(&own).await?)?)?;
        let nodes: Api<MediaNode> = Api::namespaced(client.clone(), SYSTEM);
        let leases: Api<Lease> = Api::namespaced(client.clone(), SYSTEM);
        let rooms: Api<CallRoom> = Api::namespaced(client.clone(), &scene.namespace);
        let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM);
        let pods: Api<Pod> = Api::namespaced(client, SYSTEM);
        let (merge, manager) = (PatchParams::default(), PatchParams::apply(MEDIA_NODE_MANAGER));
        let version = Patch::Merge(json!({"status": {"version": "e2e"}}));
        let renew = Patch::Merge(json!({"spec": {"holderIdentity": own}}));
        let ended = Patch::Merge(json!({"spec": {"ended": true}}));
        let cordon = Patch::Merge(json!({"spec": {"cordoned": true}}));
        let route = Patch::Merge(json!({"status": {"route": null}}));

        // What it needs to work.
        nodes.patch_status(&own, &merge, &version).await.context("its own status")?;
        leases
            .patch(&own, &PatchParams { field_manager: manager.field_manager, ..merge.clone() }, &renew)
            .await
            .context("its own lease")?;
        rooms.list(&ListParams::default()).await.context("the rooms")?;

        // What it must not.
        refused("the status of another node", nodes.patch_status(&other, &merge, &version).await)?;
        refused("the lease of another node", leases.patch(&other, &merge, &renew).await)?;
        refused("its own spec", nodes.patch(&own, &merge, &cordon).await)?;
        refused("deleting a node", nodes.delete(&own, &DeleteParams::default()).await)?;
        refused("ending a call", rooms.patch("standup", &merge, &ended).await)?;
        refused("the route of a call", rooms.patch_status("standup", &merge, &route).await)?;
        refused("the signing key", secrets.get(JOIN_KEYS_SECRET).await)?;
        refused("the list of Secrets", secrets.list(&ListParams::default()).await)?;
        refused("deleting a pod", pods.delete(&other, &DeleteParams::default()).await)
    });
}

/// The token that the pod itself uses, read from its own file system.
fn token_in(pod: &Pod) -> Result<String> {
    let pid = *process::pids(pod)?.first().context("the pod runs")?;
    let path = format!("/proc/{pid}/root/var/run/secrets/kubernetes.io/serviceaccount/token");
    Ok(std::fs::read_to_string(&path).with_context(|| path)?.trim().to_owned())
}

/// 403 from RBAC, 403 or 422 from the admission policy.
fn refused<T>(what: &str, answer: kube::Result<T>) -> Result<()> {
    match answer {
        Ok(_) => anyhow::bail!("a media node was let through to {what}"),
        Err(kube::Error::Api(status)) => {
            ensure!([403, 422].contains(&status.code), "{what} failed for another reason: {status}");
            Ok(())
        }
        Err(error) => Err(error).context(what.to_owned()),
    }
}
