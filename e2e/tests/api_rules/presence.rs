//! Who may say who is in a call, and what else they may say.

use anyhow::{Context, Result, ensure};
use callplane_crds::{
    CallRoom,
    names::{GATEWAY_MANAGER, GATEWAY_SERVICE_ACCOUNT, MEDIA_NODE_SERVICE_ACCOUNT},
};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::desk::{Desk, Keep, Objects, desk, forbidden, refused};

const AT: &str = "2026-01-01T00:00:00Z";

#[test]
fn the_gateway_writes_presence_and_nothing_else() {
    desk("presence", |desk| async move {
        let rooms = desk.all::<CallRoom>();
        rooms.create(&json!({"metadata": {"name": "call"}, "spec": {"pool": "nowhere"}}), Keep::Yes).await?;
        let gateway = desk.cluster.as_bearer(&desk.cluster.token_of(GATEWAY_SERVICE_ACCOUNT).await?)?;
        let own = Objects::of::<CallRoom>(gateway.clone(), &desk.namespace);
        let presence = json!({"participants": 2, "since": AT, "epoch": 1});
        own.tell("call", &json!({"presence": presence}), Keep::Yes).await.context("its presence")?;
        own.tell("call", &json!({"presence": {"participants": 3}}), Keep::Yes).await.context("another number")?;
        apply(&desk, &gateway, json!({"presence": {"participants": 1, "since": AT}})).await.context("by apply")?;

        let says =
            "the gateway writes only status.presence of a CallRoom: everything else of the status is the operator's";
        for (what, status) in [
            ("a count", json!({"participants": 3})),
            ("a count as well", json!({"participants": 3, "presence": {"participants": 4}})),
            ("a start", json!({"startedAt": AT})),
        ] {
            forbidden(what, own.tell("call", &status, Keep::No).await, says)?;
        }
        let ready = json!({"type": "Ready", "status": "True", "reason": "A", "message": "", "lastTransitionTime": AT});
        forbidden("a condition", own.tell("call", &json!({"conditions": [ready]}), Keep::No).await, says)?;
        let route = json!({"epoch": 7, "mode": "P2P", "reason": "Grown", "since": AT});
        forbidden("a route", own.tell("call", &json!({"route": route}), Keep::No).await, "CallRoom")?;
        forbidden("an old route", own.tell("call", &json!({"previousRoute": route}), Keep::No).await, "CallRoom")?;
        forbidden("a phase", own.tell("call", &json!({"phase": "Ended"}), Keep::No).await, "CallRoom")?;

        // What the operator has written it cannot take away.
        rooms.tell("call", &json!({"startedAt": AT, "participants": 5}), Keep::Yes).await?;
        forbidden("no start", own.tell("call", &json!({"startedAt": null}), Keep::No).await, says)?;
        own.tell("call", &json!({"presence": null}), Keep::No).await.context("no presence any more")?;
        let spec = own.change("call", &json!({"spec": {"ended": true}}), Keep::No).await;
        forbidden("a spec in a namespace that is not its own", spec, "cannot patch")?;
        forbidden("deleting a room", own.api().delete("call", &DeleteParams::default()).await, "cannot delete")
    });
}

#[test]
fn nobody_else_says_who_is_in_a_call() {
    desk("absence", |desk| async move {
        let rooms = desk.all::<CallRoom>();
        rooms.create(&json!({"metadata": {"name": "call"}, "spec": {"pool": "nowhere"}}), Keep::Yes).await?;
        let presence = json!({"presence": {"participants": 9, "since": AT}});
        let node = desk.cluster.as_bearer(&desk.cluster.token_of(MEDIA_NODE_SERVICE_ACCOUNT).await?)?;
        let nodes = Objects::of::<CallRoom>(node, &desk.namespace);
        forbidden("a media node", nodes.tell("call", &presence, Keep::No).await, "cannot patch")
    });
}

#[test]
fn presence_and_routes_are_held_to_their_schema() {
    desk("presences", |desk| async move {
        let rooms = desk.all::<CallRoom>();
        rooms.create(&json!({"metadata": {"name": "call"}, "spec": {"pool": "nowhere"}}), Keep::Yes).await?;
        let tell = |status: Value| {
            let rooms = &rooms;
            async move { rooms.tell("call", &status, Keep::No).await }
        };
        let said = |more: Value| {
            let mut presence = json!({"participants": 2, "since": AT});
            presence.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            json!({ "presence": presence })
        };
        for fine in [
            json!({}),
            json!({"participants": 0}),
            json!({"failed": {"epoch": 1, "reason": ""}}),
            json!({"sfuWanted": {"reason": "PacketLoss", "since": AT}}),
            json!({"sfuWanted": {"reason": "PeerConnectionFailed", "since": AT}, "epoch": 3}),
            json!({"sfuWanted": {"reason": "Requested", "since": AT}}),
        ] {
            tell(said(fine.clone())).await.with_context(|| fine.to_string())?;
        }
        let least = "should be greater than or equal to";
        let field = |name: &str| format!("status.presence.{name}");
        refused(tell(said(json!({"participants": -1}))).await, &field("participants"), least)?;
        refused(tell(said(json!({"epoch": 0}))).await, &field("epoch"), least)?;
        refused(tell(said(json!({"failed": {"epoch": 0, "reason": ""}}))).await, &field("failed.epoch"), least)?;
        let long = json!({"failed": {"epoch": 1, "reason": "x".repeat(1025)}});
        refused(tell(said(long)).await, &field("failed.reason"), "may not be more than 1024")?;
        let bored = json!({"sfuWanted": {"reason": "Boredom", "since": AT}});
        refused(tell(said(bored)).await, &field("sfuWanted.reason"), "Unsupported value")?;
        refused(tell(json!({"presence": {"participants": 2}})).await, "", "status.presence.since: Required value")?;

        let says = "a route through a media node names it in node, and a route of mode P2P names none";
        for (field, path) in [("route", "status.route"), ("previousRoute", "status.previousRoute")] {
            let route = |mode: &str, node: Value| json!({field: {"epoch": 1, "mode": mode, "node": node, "reason": "Scheduled", "since": AT}});
            tell(route("P2P", Value::Null)).await?;
            tell(route("SFU", json!("n"))).await?;
            refused(tell(route("SFU", Value::Null)).await, path, says)?;
            refused(tell(route("P2P", json!("n"))).await, path, says)?;
        }
        Ok(())
    });
}

/// Applies a status as the gateway does: by server-side apply, with a field manager of its own.
async fn apply(desk: &Desk, client: &kube::Client, status: Value) -> Result<()> {
    let rooms: Api<CallRoom> = Api::namespaced(client.clone(), &desk.namespace);
    let body = json!({"apiVersion": "callplane.io/v1alpha1", "kind": "CallRoom", "status": status});
    let parameters = PatchParams::apply(GATEWAY_MANAGER).force();
    let room = rooms.patch_status("call", &parameters, &Patch::Apply(&body)).await?;
    let presence = room.status.and_then(|s| s.presence).context("a presence")?;
    ensure!(presence.participants == status["presence"]["participants"], "{presence:?} instead of {status}");
    Ok(())
}
