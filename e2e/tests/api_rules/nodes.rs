//! MediaNodes.

use callplane_crds::{MediaNode, medianode::MAX_LISTED_ROOMS};
use serde_json::json;

use crate::desk::{Case, Keep, capacities, desk, refused};

#[test]
fn a_node_says_what_is_wrong_with_it() {
    desk("nodes", |desk| async move {
        let (fine, refused) = (Case::fine, Case::refused);
        let long = "x".repeat(64);
        let mut cases = vec![
            fine(json!({"pool": "default"})),
            fine(
                json!({"pool": "default", "region": "eu", "cordoned": true, "rtcPorts": [1, 65535], "templateHash": "a"}),
            ),
            refused(json!({}), "spec.pool", "Required value"),
            refused(json!({"pool": ""}), "spec.pool", "should be at least 1 chars long"),
            refused(json!({"pool": long}), "spec.pool", "may not be more than 63"),
            refused(json!({"pool": "a", "region": ""}), "spec.region", "should be at least 1 chars long"),
            refused(json!({"pool": "a", "region": long}), "spec.region", "may not be more than 63"),
            refused(json!({"pool": "a", "rtcPorts": [0]}), "spec.rtcPorts[0]", "should be greater than or equal to 1"),
            refused(
                json!({"pool": "a", "rtcPorts": [65536]}),
                "spec.rtcPorts[0]",
                "should be less than or equal to 65535",
            ),
            refused(json!({"pool": "a", "rtcPorts": vec![1; 65]}), "spec.rtcPorts", "must have at most 64 items"),
            refused(json!({"pool": "a", "cordon": true}), "", r#"unknown field "spec.cordon""#),
        ];
        cases.extend(capacities(|capacity| json!({"pool": "a", "capacity": capacity})));
        desk.try_all::<MediaNode>(cases).await
    });
}

#[test]
fn a_report_lists_as_many_rooms_as_fit_into_one_object() {
    desk("reports", |desk| async move {
        let nodes = desk.all::<MediaNode>();
        nodes.create(&json!({"metadata": {"name": "a"}, "spec": {"pool": "p"}}), Keep::Yes).await?;
        let report = |rooms: usize| {
            let room = |i| json!({"namespace": "team", "name": format!("r{i}"), "epoch": 1, "participants": 0});
            json!({"rooms": (0..rooms).map(room).collect::<Vec<_>>()})
        };
        nodes.tell("a", &report(MAX_LISTED_ROOMS), Keep::No).await?;
        let one_more = nodes.tell("a", &report(MAX_LISTED_ROOMS + 1), Keep::No).await;
        refused(one_more, "status.rooms", "must have at most 4000 items")
    });
}

#[test]
fn a_node_stays_in_its_pool_and_region() {
    desk("homes", |desk| async move {
        let nodes = desk.all::<MediaNode>();
        nodes.create(&json!({"metadata": {"name": "a"}, "spec": {"pool": "p", "region": "r"}}), Keep::Yes).await?;
        let change = |spec| {
            let nodes = &nodes;
            async move { nodes.change("a", &json!({ "spec": spec }), Keep::No).await }
        };
        let pool = "pool cannot be changed: a MediaNode belongs to the MediaPool that made it";
        refused(change(json!({"pool": "q"})).await, "spec", pool)?;
        let region = "region cannot be changed: the pod runs where it runs";
        refused(change(json!({"region": "q"})).await, "spec", region)?;
        refused(change(json!({"region": null})).await, "spec", region)?;
        change(json!({"cordoned": true, "capacity": {"rooms": 7}})).await?;
        Ok(())
    });
}
