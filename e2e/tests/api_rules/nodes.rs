//! MediaNodes.

use callplane_crds::MediaNode;
use serde_json::json;

use crate::desk::{Case, Keep, desk, refused};

#[test]
fn a_node_says_what_is_wrong_with_it() {
    desk("nodes", |desk| async move {
        let (fine, refused) = (Case::fine, Case::refused);
        let cases = vec![
            fine(json!({"pool": "default"})),
            fine(
                json!({"pool": "default", "region": "eu", "cordoned": true, "rtcPorts": [1, 65535], "templateHash": "a"}),
            ),
            refused(json!({}), "spec.pool", "Required value"),
            refused(json!({"pool": ""}), "spec.pool", "should be at least 1 chars long"),
            refused(json!({"pool": "a", "region": ""}), "spec.region", "should be at least 1 chars long"),
            refused(json!({"pool": "a", "rtcPorts": [0]}), "spec.rtcPorts[0]", "should be greater than or equal to 1"),
            refused(
                json!({"pool": "a", "rtcPorts": [65536]}),
                "spec.rtcPorts[0]",
                "should be less than or equal to 65535",
            ),
            refused(json!({"pool": "a", "rtcPorts": vec![1; 65]}), "spec.rtcPorts", "must have at most 64 items"),
            refused(
                json!({"pool": "a", "capacity": {"rooms": 0}}),
                "spec.capacity.rooms",
                "should be greater than or equal to 1",
            ),
            refused(json!({"pool": "a", "cordon": true}), "", r#"unknown field "spec.cordon""#),
        ];
        desk.try_all::<MediaNode>(cases).await
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
