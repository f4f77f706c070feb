//! What a media node's identity may write. All media nodes share a service account; the API server tells them apart by
//! the pod that a token was made for.

use anyhow::{Context, Result, ensure};
use callplane_crds::{
    CallRoom, MediaNode, MediaPool,
    names::{JOIN_KEYS_SECRET, MEDIA_NODE_SERVICE_ACCOUNT},
};
use callplane_e2e::{
    cluster::{LEADER_LEASE, SYSTEM},
    scene::ignore_missing,
};
use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    coordination::v1::Lease,
    core::v1::{Container, Pod, PodSpec, Secret, ServiceAccount},
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::desk::{Desk, Keep, Objects, desk, forbidden};

const OWN: &str = "e2e-identity-a";
const OTHER: &str = "e2e-identity-b";

#[test]
fn a_media_node_writes_only_what_bears_its_name() {
    desk("identities", |desk| async move {
        let settled = prepare(&desk).await;
        let outcome = match settled {
            Ok(()) => try_everything(&desk).await,
            Err(error) => Err(error),
        };
        outcome.and(remove(&desk).await)
    });
}

async fn try_everything(desk: &Desk) -> Result<()> {
    let bound = desk.cluster.as_bearer(&token(desk, Some(OWN)).await?)?;
    let loose = desk.cluster.as_bearer(&token(desk, None).await?)?;
    let status = json!({"version": "e2e"});
    let says = "a media node may write only the MediaNode status and the Lease that bear its pod's name";

    let nodes = Objects::of::<MediaNode>(bound.clone(), SYSTEM);
    nodes.tell(OWN, &status, Keep::Yes).await.context("its own status")?;
    let not_other = format!("{says}: this token belongs to pod {OWN}, not to {OTHER}");
    forbidden("another's status", nodes.tell(OTHER, &status, Keep::No).await, &not_other)?;
    let without_pod = format!("{says}: this token belongs to no pod, not to {OWN}");
    let loose_nodes = Objects::of::<MediaNode>(loose.clone(), SYSTEM);
    forbidden("a status without a pod", loose_nodes.tell(OWN, &status, Keep::No).await, &without_pod)?;
    forbidden("its own spec", nodes.change(OWN, &json!({"spec": {"cordoned": true}}), Keep::No).await, "cannot patch")?;
    let made = nodes.create(&json!({"metadata": {"name": "made"}, "spec": {"pool": "p"}}), Keep::No).await;
    forbidden("a MediaNode", made, "cannot create")?;

    let leases: Api<Lease> = Api::namespaced(bound.clone(), SYSTEM);
    leases.create(&PostParams::default(), &lease(OWN)).await.context("its own lease")?;
    let renewal = Patch::Merge(json!({"spec": {"holderIdentity": OWN, "renewTime": "2026-01-01T00:00:00.000000Z"}}));
    let renew = PatchParams::default();
    leases.patch(OWN, &renew, &renewal).await.context("renewing its own lease")?;
    let renewed = leases.get(OWN).await.context("reading its own lease")?;
    leases.replace(OWN, &PostParams::default(), &renewed).await.context("replacing its own lease")?;
    forbidden("another's new lease", leases.create(&PostParams::default(), &lease(OTHER)).await, &not_other)?;
    let admin: Api<Lease> = desk.cluster.leases();
    admin.create(&PostParams::default(), &lease(OTHER)).await?;
    forbidden("another's lease", leases.patch(OTHER, &renew, &renewal).await, &not_other)?;
    forbidden("deleting a lease", leases.delete(OWN, &DeleteParams::default()).await, "cannot delete")?;
    if admin.get_opt(LEADER_LEASE).await?.is_some() {
        forbidden("the operator's lease", leases.patch(LEADER_LEASE, &renew, &renewal).await, says)?;
    }
    let loose_leases: Api<Lease> = Api::namespaced(loose, SYSTEM);
    forbidden("a lease without a pod", loose_leases.patch(OWN, &renew, &renewal).await, &without_pod)?;

    try_the_rest(desk, bound).await
}

/// What it may read, and what it may not even read.
async fn try_the_rest(desk: &Desk, client: Client) -> Result<()> {
    let all = ListParams::default();
    Api::<CallRoom>::all(client.clone()).list(&all).await.context("rooms of all namespaces")?;
    Api::<MediaNode>::namespaced(client.clone(), SYSTEM).list(&all).await.context("media nodes")?;

    desk.all::<CallRoom>()
        .create(&json!({"metadata": {"name": "call"}, "spec": {"pool": "nowhere"}}), Keep::Yes)
        .await?;
    let rooms = Objects::of::<CallRoom>(client.clone(), &desk.namespace);
    forbidden("a room's status", rooms.tell("call", &json!({"participants": 1}), Keep::No).await, "cannot patch")?;
    forbidden("a room's end", rooms.change("call", &json!({"spec": {"ended": true}}), Keep::No).await, "cannot patch")?;
    forbidden("deleting a room", rooms.api().delete("call", &DeleteParams::default()).await, "cannot delete")?;
    forbidden("pools", Api::<MediaPool>::namespaced(client.clone(), SYSTEM).list(&all).await, "cannot list")?;
    forbidden("pods", Api::<Pod>::namespaced(client.clone(), SYSTEM).list(&all).await, "cannot list")?;
    let secrets: Api<Secret> = Api::namespaced(client, SYSTEM);
    forbidden("secrets", secrets.list(&all).await, "cannot list")?;
    forbidden("the signing key", secrets.get(JOIN_KEYS_SECRET).await, "cannot get")
}

/// Two MediaNodes, and a pod for each that no machine will ever run.
async fn prepare(desk: &Desk) -> Result<()> {
    remove(desk).await.context("leftovers of an earlier run")?;
    let nodes = Objects::of::<MediaNode>(desk.cluster.client.clone(), SYSTEM);
    for name in [OWN, OTHER] {
        nodes.create(&json!({"metadata": {"name": name}, "spec": {"pool": "nowhere"}}), Keep::Yes).await?;
        let spec = PodSpec {
            service_account_name: Some(MEDIA_NODE_SERVICE_ACCOUNT.to_owned()),
            node_selector: Some([("callplane.io/nowhere".to_owned(), "true".to_owned())].into()),
            containers: vec![Container { name: "none".into(), image: Some("none".into()), ..Default::default() }],
            ..Default::default()
        };
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..Default::default() };
        let pod = Pod { metadata, spec: Some(spec), status: None };
        desk.cluster.pods().create(&PostParams::default(), &pod).await.context("is the chart installed?")?;
    }
    Ok(())
}

async fn remove(desk: &Desk) -> Result<()> {
    for name in [OWN, OTHER] {
        let now = DeleteParams::default().grace_period(0);
        ignore_missing(desk.cluster.pods().delete(name, &now).await.map(drop))?;
        ignore_missing(desk.cluster.leases().delete(name, &now).await.map(drop))?;
        ignore_missing(desk.cluster.nodes().delete(name, &now).await.map(drop))?;
    }
    Ok(())
}

fn lease(name: &str) -> Lease {
    Lease { metadata: ObjectMeta { name: Some(name.to_owned()), ..Default::default() }, spec: None }
}

/// A token of the media nodes' service account, for one pod or for none.
async fn token(desk: &Desk, pod: Option<&str>) -> Result<String> {
    let accounts: Api<ServiceAccount> = Api::namespaced(desk.cluster.client.clone(), SYSTEM);
    let bound_object_ref = pod.map(|name| BoundObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(name.to_owned()),
        uid: None,
    });
    let spec = TokenRequestSpec { audiences: Vec::new(), bound_object_ref, expiration_seconds: Some(600) };
    let request = TokenRequest { spec, ..Default::default() };
    let answer = accounts.create_token_request(MEDIA_NODE_SERVICE_ACCOUNT, &PostParams::default(), &request).await?;
    let token = answer.status.context("a token")?.token;
    ensure!(!token.is_empty(), "the token is empty");
    Ok(token)
}
