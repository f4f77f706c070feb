//! What people may change by hand, even those who may do everything that RBAC has to give.

use std::time::Duration;

use anyhow::Result;
use callplane_crds::{CallRoom, MediaNode};
use callplane_e2e::{scene::ignore_missing, wait};
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleRef, Subject};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, ObjectMeta, PostParams},
};
use serde_json::json;

use crate::desk::{Desk, Keep, Objects, desk, forbidden};

const CHIEF: &str = "e2e-rules-chief";

#[test]
fn an_administrator_leaves_to_the_operator_what_is_the_operators() {
    desk("people", |desk| async move {
        let bindings: Api<ClusterRoleBinding> = Api::all(desk.cluster.client.clone());
        ignore_missing(bindings.delete(CHIEF, &DeleteParams::default()).await.map(drop))?;
        bindings.create(&PostParams::default(), &binding()).await?;
        let outcome = try_everything(&desk).await;
        bindings.delete(CHIEF, &DeleteParams::default()).await?;
        outcome
    });
}

async fn try_everything(desk: &Desk) -> Result<()> {
    let chief = acting(desk, "system:authenticated")?;
    let rooms = Objects::of::<CallRoom>(chief.clone(), &desk.namespace);
    let nodes = Objects::of::<MediaNode>(chief, &desk.namespace);
    let (own_rooms, own_nodes) = (desk.all::<CallRoom>(), desk.all::<MediaNode>());
    own_rooms.create(&json!({"metadata": {"name": "call"}, "spec": {"pool": "nowhere"}}), Keep::Yes).await?;
    let node = json!({"metadata": {"name": "node"}, "spec": {"pool": "p", "region": "r", "templateHash": "a"}});
    own_nodes.create(&node, Keep::Yes).await?;

    wait::polled("the authorizer to know of the binding", Duration::from_secs(60), || async {
        Ok(nodes.api().list(&ListParams::default()).await.ok().map(drop))
    })
    .await?;
    let says =
        "only the operator makes routes: status.route and status.previousRoute of a CallRoom cannot be written by hand";
    let route = json!({"epoch": 7, "mode": "SFU", "node": "n", "reason": "Placed", "since": "2026-01-01T00:00:00Z"});
    forbidden("a route", rooms.tell("call", &json!({"route": route}), Keep::No).await, says)?;
    forbidden("an old route", rooms.tell("call", &json!({"previousRoute": route}), Keep::No).await, says)?;
    let says = "only the operator says what phase a CallRoom is in: set spec.ended to end a call";
    forbidden("a phase", rooms.tell("call", &json!({"phase": "Ended"}), Keep::No).await, says)?;
    let says = "only the gateway says who is in a call: status.presence of a CallRoom cannot be written by hand";
    let presence = json!({"participants": 3, "since": "2026-01-01T00:00:00Z"});
    forbidden("a presence", rooms.tell("call", &json!({"presence": presence}), Keep::No).await, says)?;
    rooms.tell("call", &json!({"participants": 3}), Keep::No).await?;
    rooms.change("call", &json!({"spec": {"ended": true}}), Keep::No).await?;

    let says = "only the operator creates MediaNodes: raise spec.replicas of a MediaPool instead";
    let made = nodes.create(&json!({"metadata": {"name": "made"}, "spec": {"pool": "p"}}), Keep::No).await;
    forbidden("a MediaNode", made, says)?;
    let says = "only spec.cordoned of a MediaNode may be changed by hand: the rest comes from its MediaPool";
    for change in [
        json!({"templateHash": "b"}),
        json!({"templateHash": null}),
        json!({"rtcPorts": [20000]}),
        json!({"capacity": {"rooms": 1}}),
        json!({"cordoned": true, "capacity": {"rooms": 1}}),
    ] {
        let what = format!("{change}");
        forbidden(&what, nodes.change("node", &json!({ "spec": change }), Keep::No).await, says)?;
    }
    for cordoned in [true, false] {
        nodes.change("node", &json!({"spec": {"cordoned": cordoned}}), Keep::Yes).await?;
    }
    nodes.change("node", &json!({"metadata": {"labels": {"note": "mine"}}}), Keep::No).await?;

    // Who may break the glass may do all of it.
    let saviour = acting(desk, "system:masters")?;
    let rooms = Objects::of::<CallRoom>(saviour.clone(), &desk.namespace);
    let nodes = Objects::of::<MediaNode>(saviour, &desk.namespace);
    rooms.tell("call", &json!({"route": route, "phase": "Ready", "presence": presence}), Keep::No).await?;
    nodes.change("node", &json!({"spec": {"templateHash": "b"}}), Keep::No).await?;
    nodes.create(&json!({"metadata": {"name": "made"}, "spec": {"pool": "p"}}), Keep::No).await?;
    Ok(())
}

/// A client of a person who has the role `cluster-admin` and is in `group`.
fn acting(desk: &Desk, group: &str) -> Result<Client> {
    let mut config = desk.cluster.config.clone();
    config.auth_info.impersonate = Some(CHIEF.to_owned());
    config.auth_info.impersonate_groups = Some(vec![group.to_owned()]);
    Ok(Client::try_from(config)?)
}

fn binding() -> ClusterRoleBinding {
    ClusterRoleBinding {
        metadata: ObjectMeta { name: Some(CHIEF.to_owned()), ..Default::default() },
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".to_owned(),
            kind: "ClusterRole".to_owned(),
            name: "cluster-admin".to_owned(),
        },
        subjects: Some(vec![Subject {
            api_group: Some("rbac.authorization.k8s.io".to_owned()),
            kind: "User".to_owned(),
            name: CHIEF.to_owned(),
            namespace: None,
        }]),
    }
}
