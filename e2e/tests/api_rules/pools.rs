//! MediaPools.

use anyhow::ensure;
use callplane_crds::MediaPool;
use k8s_openapi::api::autoscaling::v1::Scale;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::desk::{Case, Keep, capacities, desk, refusal, refused};

#[test]
fn a_pool_says_what_is_wrong_with_it() {
    desk("pools", |desk| async move {
        let (fine, refused) = (Case::fine, Case::refused);
        let reach = |reachability| json!({ "reachability": reachability });
        let template = |template| json!({ "template": template });
        let ports = |from: i32, to: i32| json!({"mode": "HostPort", "ports": {"from": from, "to": to}});
        let with_workers =
            |workers: i32| json!({"reachability": ports(20000, 20003), "template": {"workers": workers}});
        let long = "x".repeat(64);
        let mut cases = vec![
            fine(json!({})),
            fine(json!({"replicas": 0})),
            fine(json!({"replicas": 1000, "region": "eu", "placement": "Spread", "drainTimeoutSeconds": 86_400})),
            fine(json!({})).named(&long[..52]),
            fine(reach(ports(20000, 20000))),
            fine(reach(
                json!({"mode": "HostNetwork", "ports": {"from": 1024, "to": 65535}, "announce": "203.0.113.7"}),
            )),
            fine(reach(json!({"mode": "Pod", "announce": "2001:db8::7"}))),
            fine(with_workers(4)),
            fine(template(json!({
                "image": "a", "imagePullPolicy": "Never", "resources": {"requests": {"cpu": 1, "memory": "64Mi"}}}))),
            fine(template(json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}]}))),
            refused(json!({"replicas": -1}), "spec.replicas", "should be greater than or equal to 0"),
            refused(json!({"replicas": 1001}), "spec.replicas", "should be less than or equal to 1000"),
            refused(json!({"region": ""}), "spec.region", "should be at least 1 chars long"),
            refused(json!({"region": long}), "spec.region", "may not be more than 63"),
            refused(json!({"placement": "Random"}), "spec.placement", r#"supported values: "Packed", "Spread""#),
            refused(
                json!({"drainTimeoutSeconds": -1}),
                "spec.drainTimeoutSeconds",
                "should be greater than or equal to 0",
            ),
            refused(
                json!({"drainTimeoutSeconds": 86_401}),
                "spec.drainTimeoutSeconds",
                "should be less than or equal to 86400",
            ),
            refused(
                reach(json!({"mode": "NodePort"})),
                "spec.reachability.mode",
                r#"supported values: "HostPort", "HostNetwork", "Pod""#,
            ),
            refused(
                reach(json!({"mode": "HostPort"})),
                "spec.reachability",
                "mode HostPort or HostNetwork needs ports: {from, to}, the UDP ports that the firewall lets in",
            ),
            refused(
                reach(json!({"mode": "HostNetwork"})),
                "spec.reachability",
                "mode HostPort or HostNetwork needs ports: {from, to}, the UDP ports that the firewall lets in",
            ),
            refused(
                reach(json!({"mode": "Pod", "ports": {"from": 20000, "to": 20001}})),
                "spec.reachability",
                "ports has no meaning with mode Pod: remove it, or choose HostPort or HostNetwork",
            ),
            refused(
                reach(ports(20001, 20000)),
                "spec.reachability.ports",
                "ports.from must not be greater than ports.to",
            ),
            refused(
                reach(ports(1023, 20000)),
                "spec.reachability.ports.from",
                "should be greater than or equal to 1024",
            ),
            refused(reach(ports(20000, 65536)), "spec.reachability.ports.to", "should be less than or equal to 65535"),
            // These two cannot be wrong alone: the other end is out of its bounds as well, or on the wrong side.
            refused(
                reach(ports(65536, 65536)),
                "",
                "spec.reachability.ports.from in body should be less than or equal to 65535",
            ),
            refused(
                reach(ports(1023, 1023)),
                "",
                "spec.reachability.ports.to in body should be greater than or equal to 1024",
            ),
            refused(
                reach(json!({"announce": "media.example.com"})),
                "spec.reachability.announce",
                "announce must be an IP address, such as 203.0.113.7: browsers do not resolve names in candidates",
            ),
            refused(reach(json!({"announce": "1"})), "spec.reachability.announce", "should be at least 2 chars long"),
            refused(
                reach(json!({"announce": "1".repeat(46)})),
                "spec.reachability.announce",
                "may not be more than 45",
            ),
            refused(
                with_workers(5),
                "spec",
                "reachability.ports holds fewer ports than template.workers: a node needs one port for each of its workers",
            ),
            refused(template(json!({"workers": 0})), "spec.template.workers", "should be greater than or equal to 1"),
            refused(template(json!({"workers": 65})), "spec.template.workers", "should be less than or equal to 64"),
            refused(template(json!({"image": ""})), "spec.template.image", "should be at least 1 chars long"),
            refused(template(json!({"image": "x".repeat(1025)})), "spec.template.image", "may not be more than 1024"),
            refused(
                template(json!({"imagePullPolicy": "Sometimes"})),
                "spec.template.imagePullPolicy",
                "imagePullPolicy must be Always, IfNotPresent or Never",
            ),
            refused(
                template(json!({"resources": {"requests": {"cpu": "much"}}})),
                "spec.template.resources.requests.cpu",
                "should match",
            ),
            // What does not fit into the type that programs read it with would hide every pool from them.
            refused(
                template(json!({"topologySpreadConstraints": [
                    {"maxSkew": 3_000_000_000_u32, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]})),
                "spec.template.topologySpreadConstraints[0].maxSkew",
                "should be less than or equal to 2147483647",
            ),
            refused(template(json!({"labels": {"a": 1}})), "spec.template.labels.a", "must be of type string"),
            refused(json!({"replica": 2}), "", r#"unknown field "spec.replica""#),
            refused(template(json!({"worker": 2})), "", r#"unknown field "spec.template.worker""#),
            refused(reach(json!({"port": 2})), "", r#"unknown field "spec.reachability.port""#),
            refused(
                json!({}),
                "<nil>",
                "the name of a MediaPool may have at most 52 characters: its pods are named after it",
            )
            .named(&long[..53]),
        ];
        cases.extend(capacities(|capacity| json!({ "capacity": capacity })));
        desk.try_all::<MediaPool>(cases).await
    });
}

#[test]
fn a_pool_stays_in_its_region() {
    desk("regions", |desk| async move {
        let pools = desk.all::<MediaPool>();
        pools.create(&json!({"metadata": {"name": "there"}, "spec": {"region": "eu"}}), Keep::Yes).await?;
        pools.create(&json!({"metadata": {"name": "anywhere"}, "spec": {}}), Keep::Yes).await?;
        let says = "region cannot be changed, since rooms are bound to it: create another MediaPool";
        for (pool, region) in [("there", json!("us")), ("there", json!(null)), ("anywhere", json!("eu"))] {
            refused(pools.change(pool, &json!({"spec": {"region": region}}), Keep::No).await, "spec", says)?;
        }
        let rest = json!({"spec": {"replicas": 3, "placement": "Spread", "template": {"workers": 2}}});
        pools.change("there", &rest, Keep::No).await?;
        Ok(())
    });
}

#[test]
fn an_autoscaler_can_drive_a_pool() {
    desk("scale", |desk| async move {
        let pools = desk.all::<MediaPool>();
        pools.create(&json!({"metadata": {"name": "elastic"}, "spec": {"replicas": 2}}), Keep::Yes).await?;
        let status = json!({"replicas": 2, "readyReplicas": 1, "cordonedReplicas": 0, "utilizationPercent": 40,
            "selector": "callplane.io/pool=elastic"});
        pools.tell("elastic", &status, Keep::Yes).await?;

        let api = pools.api();
        let scale: Scale = api.get_scale("elastic").await?;
        let seen = scale.status.unwrap_or_default();
        ensure!(scale.spec.unwrap_or_default().replicas == Some(2) && seen.replicas == 2, "{seen:?}");
        ensure!(seen.selector.as_deref() == Some("callplane.io/pool=elastic"), "{seen:?}");

        let to = |replicas: i32| Patch::Merge(json!({"spec": {"replicas": replicas}}));
        api.patch_scale("elastic", &PatchParams::default(), &to(5)).await?;
        let replicas = api.get("elastic").await?.data["spec"]["replicas"].clone();
        ensure!(replicas == 5, "{replicas}");
        let too_many = refusal(api.patch_scale("elastic", &PatchParams::default(), &to(1001)).await)?;
        ensure!(too_many.message.contains("should be less than or equal to 1000"), "{}", too_many.message);
        Ok(())
    });
}
