//! The definitions as they are installed: what the files say, and what people and old readers can rely on.

use std::{collections::BTreeMap, fs, path::Path};

use callplane_crds::{
    CallRoom, MediaPool, Presence, RouteMode, Topology, TopologyMode, all,
    callroom::Phase,
    mediapool::{Placement, ReachabilityMode},
    to_yaml,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion, JSONSchemaProps, JSONSchemaPropsOrArray,
    JSONSchemaPropsOrBool,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// Cargo runs tests in their package. A path from compile time would be of the checkout that filled the shared target folder.
fn repository() -> &'static Path {
    Path::new("..")
}

fn version(crd: &CustomResourceDefinition) -> &CustomResourceDefinitionVersion {
    crd.spec.versions.first().expect("there is one version")
}

/// Calls `visit` with every schema and its path.
fn walk(path: &str, schema: &JSONSchemaProps, visit: &mut impl FnMut(&str, &JSONSchemaProps)) {
    visit(path, schema);
    for (name, property) in schema.properties.iter().flatten() {
        walk(&format!("{path}.{name}"), property, visit);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        walk(&format!("{path}[]"), items, visit);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &schema.additional_properties {
        walk(&format!("{path}{{}}"), values, visit);
    }
}

fn every_schema(mut visit: impl FnMut(&str, &JSONSchemaProps)) {
    for crd in all() {
        let schema = version(&crd).schema.as_ref().and_then(|s| s.open_api_v3_schema.as_ref()).expect("a schema");
        walk(&crd.spec.names.kind, schema, &mut visit);
    }
}

#[test]
fn the_files_are_what_the_types_say() {
    for crd in all() {
        for folder in ["crds", "charts/callplane/crds"] {
            let file = repository().join(folder).join(format!("{}.yaml", crd.spec.names.plural));
            let written = fs::read_to_string(&file).expect("the file is there");
            assert!(written == to_yaml(&crd).expect("YAML"), "{} is out of date: run `make crds`", file.display());
        }
    }
}

#[test]
fn people_can_find_them() {
    let found: Vec<_> = all().into_iter().map(|c| (c.spec.names, c.spec.scope)).collect();
    let short: Vec<_> = found.iter().flat_map(|(n, _)| n.short_names.iter().flatten()).map(String::as_str).collect();
    assert_eq!(short, ["croom", "mnode", "mpool"]);
    for (names, scope) in &found {
        assert_eq!(names.categories.as_deref(), Some(&["callplane".to_owned()][..]), "{}", names.kind);
        assert_eq!(scope, "Namespaced", "{}", names.kind);
    }
}

#[test]
fn every_kind_has_a_status_of_its_own_and_pools_can_be_scaled() {
    for crd in all() {
        let subresources = version(&crd).subresources.as_ref().expect("subresources");
        assert!(subresources.status.is_some(), "{}", crd.spec.names.kind);
        assert_eq!(subresources.scale.is_some(), crd.spec.names.kind == "MediaPool");
    }
}

#[test]
fn nothing_is_nullable() {
    every_schema(|path, schema| assert_eq!(schema.nullable, None, "{path}: null has to mean absent"));
}

#[test]
fn numbers_are_such_that_programs_can_read_them() {
    every_schema(|path, schema| {
        if schema.type_.as_deref() == Some("integer") {
            let format = schema.format.as_deref();
            assert!(matches!(format, Some("int32" | "int64")), "{path}: {format:?} makes API servers warn");
            let (least, most) = (schema.minimum.unwrap_or(f64::MIN), schema.maximum.unwrap_or(f64::MAX));
            let readable = least >= i32::MIN.into() && most <= i32::MAX.into();
            assert!(readable || format == Some("int64"), "{path} may be a number that nobody can read");
        }
    });
}

#[test]
fn everything_is_described() {
    every_schema(|path, schema| {
        let inner = path.ends_with("[]") || path.ends_with("{}");
        assert!(inner || schema.description.as_ref().is_some_and(|d| !d.is_empty()), "{path} has no description");
    });
}

#[test]
fn every_rule_has_a_message_for_people() {
    let mut rules = 0;
    every_schema(|path, schema| {
        for rule in schema.x_kubernetes_validations.iter().flatten() {
            let message = rule.message.as_deref().unwrap_or_default();
            assert!(message.len() > 20, "{path}: {} has no message", rule.rule);
            assert!(!message.contains("self."), "{path}: {message:?} shows the rule instead of saying it");
            rules += 1;
        }
    });
    assert!(rules >= 15, "{rules} rules");
}

#[test]
fn conditions_are_merged_by_type() {
    let mut found = Vec::new();
    every_schema(|path, schema| {
        if path.ends_with(".status.conditions") {
            assert_eq!(schema.x_kubernetes_list_type.as_deref(), Some("map"), "{path}");
            assert_eq!(schema.x_kubernetes_list_map_keys.as_deref(), Some(&["type".to_owned()][..]), "{path}");
            found.push(path.to_owned());
        }
    });
    assert_eq!(found.len(), 3);
}

#[test]
fn a_definition_fits_into_the_annotation_of_kubectl_apply() {
    for crd in all() {
        let size = serde_json::to_vec(&crd).expect("JSON").len();
        assert!(size < 200_000, "{}: {size} of 262144 bytes", crd.spec.names.kind);
    }
}

/// During an upgrade, media nodes of the old version go on with their calls and must go on understanding rooms.
#[test]
fn an_old_reader_passes_over_what_it_does_not_know() {
    let newer = json!({
        "apiVersion": "callplane.io/v1alpha1", "kind": "CallRoom", "metadata": {"name": "a", "namespace": "b"},
        "spec": {"maxParticipants": 4, "lifetime": {"somethingNew": 1}, "anotherThing": {"deep": []}},
        "status": {"phase": "Ready", "more": true},
    });
    let room: CallRoom = serde_json::from_value(newer).expect("it is understood");
    assert_eq!(room.spec.max_participants, 4);
}

/// One pool that nobody can read would hide all others from a typed watch.
#[test]
fn quantities_may_be_numbers_as_everywhere_in_kubernetes() {
    let spec = json!({"template": {
        "resources": {"requests": {"cpu": 1, "memory": "64Mi"}, "limits": {"cpu": 1.5}},
        "env": [{"name": "CPUS", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": 1}}},
                {"name": "PLAIN", "value": "1"}],
    }});
    let pool: MediaPool = serde_json::from_value(json!({
        "apiVersion": "callplane.io/v1alpha1", "kind": "MediaPool", "metadata": {"name": "a"}, "spec": spec,
    }))
    .expect("it is understood");
    let back = serde_json::to_value(&pool.spec.template).expect("JSON");
    assert_eq!(back["resources"]["requests"], json!({"cpu": "1", "memory": "64Mi"}));
    assert_eq!(back["resources"]["limits"], json!({"cpu": "1.5"}));
    assert_eq!(back["env"][0]["valueFrom"]["resourceFieldRef"]["divisor"], "1");
    assert_eq!(back["env"][1]["value"], "1");
}

#[test]
fn a_pool_without_a_template_is_understood() {
    let pool: MediaPool = serde_json::from_value(json!({
        "apiVersion": "callplane.io/v1alpha1", "kind": "MediaPool", "metadata": {"name": "a"}, "spec": {},
    }))
    .expect("it is understood");
    assert_eq!(pool.spec.template, callplane_crds::mediapool::NodeTemplate::default());
    assert_eq!(pool.spec.replicas, 1);
}

/// Where the two differ: what `written` says and `read` lost, as paths.
fn lost(path: &str, written: &Value, read: &Value, out: &mut Vec<String>) {
    match (written, read) {
        (Value::Object(w), Value::Object(r)) => {
            for (key, value) in w {
                match r.get(key) {
                    Some(kept) => lost(&format!("{path}.{key}"), value, kept, out),
                    None => out.push(format!("{path}.{key}")),
                }
            }
        }
        (Value::Array(w), Value::Array(r)) if w.len() == r.len() => {
            w.iter().zip(r).for_each(|(w, r)| lost(&format!("{path}[]"), w, r, out));
        }
        (Value::Number(number), Value::String(text)) if number.to_string() == *text => {}
        (w, r) if w == r => {}
        (w, r) => out.push(format!("{path}: {w} became {r}")),
    }
}

fn understood<K: DeserializeOwned + Serialize>(document: &Value) -> Vec<String> {
    let object: K = serde_json::from_value(document.clone()).expect("it is of its kind");
    let mut losses = Vec::new();
    lost("", document, &serde_json::to_value(object).expect("JSON"), &mut losses);
    losses
}

#[test]
fn a_topology_that_says_little_has_defaults_and_none_at_all_is_none() {
    let read = |spec| serde_json::from_value::<callplane_crds::CallRoomSpec>(spec).expect("it is understood").topology;
    assert_eq!(read(json!({})), None, "rooms that say nothing are as they always were");
    let auto = Topology {
        mode: TopologyMode::Auto,
        p2p_max_participants: 2,
        packet_loss_percent: 5,
        stabilization_seconds: 30,
    };
    for spec in [json!({"topology": {}}), json!({"topology": {"mode": "Auto"}})] {
        assert_eq!(read(spec), Some(auto.clone()));
    }
    assert_eq!(auto, Topology::default());
    let written = json!({"mode": "P2P", "p2pMaxParticipants": 6, "packetLossPercent": 1, "stabilizationSeconds": 0});
    let topology = read(json!({ "topology": written })).expect("a topology");
    assert_eq!(serde_json::to_value(topology).expect("JSON"), written);
}

#[test]
fn presence_is_written_as_the_gateway_writes_it() {
    let at = "2026-01-01T00:00:00Z";
    let written = json!({"participants": 3, "since": at, "epoch": 4, "failed": {"epoch": 3, "reason": "ICE failed"},
        "sfuWanted": {"reason": "PeerConnectionFailed", "since": at}});
    let presence: Presence = serde_json::from_value(written.clone()).expect("it is understood");
    assert_eq!(serde_json::to_value(presence).expect("JSON"), written);
    let least = json!({"participants": 0, "since": at});
    let presence: Presence = serde_json::from_value(least.clone()).expect("it is understood");
    assert_eq!(serde_json::to_value(presence).expect("JSON"), least, "apply claims nulls, so there are none");
}

#[test]
fn samples_say_nothing_that_is_not_understood() {
    let samples = repository().join("manifests/samples");
    let files = [samples.clone(), samples.join("mediapools")].into_iter().flat_map(|folder| {
        let entries = fs::read_dir(folder).expect("the folder is there").map(|e| e.expect("an entry").path());
        entries.filter(|p| p.extension().is_some_and(|e| e == "yaml")).collect::<Vec<_>>()
    });
    let mut kinds = BTreeMap::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("the file is there");
        assert!(text.starts_with("# "), "{} does not say what it is", file.display());
        let document: Value = serde_yaml::from_str(&text).expect("YAML with one document");
        let kind = document["kind"].as_str().unwrap_or_default().to_owned();
        let losses = match kind.as_str() {
            "CallRoom" => understood::<CallRoom>(&document),
            "MediaPool" => understood::<MediaPool>(&document),
            other => panic!("{}: {other:?} is none of ours", file.display()),
        };
        assert!(losses.is_empty(), "{}: {losses:?}", file.display());
        *kinds.entry(kind).or_insert(0) += 1;
    }
    assert!(kinds["CallRoom"] >= 1 && kinds["MediaPool"] >= 3, "{kinds:?}");
}

/// One object that a newer version wrote must not hide all others from an older one: lists are read as a whole.
#[test]
fn a_list_with_values_of_the_future_is_read() {
    let route =
        |mode| json!({"epoch": 2, "mode": mode, "node": "a", "reason": "Scheduled", "since": "2026-01-01T00:00:00Z"});
    let room = |status| json!({"metadata": {"name": "r"}, "spec": {"maxParticipants": 4}, "status": status});
    let list = json!([
        room(json!({"phase": "Ready", "route": route("SFU")})),
        room(json!({"phase": "Levitating", "route": route("SFU")})),
        room(json!({"phase": "Ready", "route": route("Telepathy")})),
        room(json!({"phase": "Ready", "route": route("SFU"), "previousRoute": route("Telepathy")})),
    ]);
    let rooms: Vec<CallRoom> = serde_json::from_value(list).unwrap();
    assert_eq!(rooms.iter().map(CallRoom::is_understood).collect::<Vec<_>>(), [true, false, false, false]);
    let status = |i: usize| rooms[i].status.clone().unwrap();
    assert_eq!((status(1).phase, status(2).route.unwrap().mode), (Some(Phase::Unknown), RouteMode::Unknown));
    assert!(
        rooms[1..].iter().all(|r| serde_json::to_value(r).is_err()),
        "what is not understood is never written back"
    );

    let peers = json!({"epoch": 3, "mode": "P2P", "reason": "Shrunk", "since": "2026-01-01T00:00:00Z"});
    let mut nowhere = peers.clone();
    nowhere["mode"] = json!("SFU");
    let said = |mode| json!({"metadata": {"name": "r"}, "spec": {"topology": {"mode": mode}}});
    let wanted = json!({"participants": 2, "since": "2026-01-01T00:00:00Z",
        "sfuWanted": {"reason": "Boredom", "since": "2026-01-01T00:00:00Z"}});
    let list = json!([
        room(json!({"phase": "Ready", "route": peers, "previousRoute": route("SFU")})),
        room(json!({"phase": "Ready", "route": peers, "presence": wanted})),
        room(json!({"phase": "Ready", "route": nowhere})),
        said("Auto"),
        said("P2P"),
        said("SFU"),
        said("Holographic"),
    ]);
    let rooms: Vec<CallRoom> = serde_json::from_value(list).unwrap();
    let understood: Vec<bool> = rooms.iter().map(CallRoom::is_understood).collect();
    assert_eq!(understood, [true, true, false, true, true, true, false]);

    let list = json!([
        {"metadata": {"name": "p"}, "spec": {"placement": "Scattered", "reachability": {"mode": "Pigeon"}}},
        {"metadata": {"name": "q"}, "spec": {"placement": "Spread", "reachability": {"mode": "Pod"}}},
    ]);
    let pools: Vec<MediaPool> = serde_json::from_value(list).unwrap();
    let read = pools.iter().map(|p| (p.spec.placement, p.spec.reachability.mode)).collect::<Vec<_>>();
    assert_eq!(read, [(Placement::Unknown, ReachabilityMode::Unknown), (Placement::Spread, ReachabilityMode::Pod)]);
}

#[test]
fn values_of_the_future_are_not_offered() {
    for crd in all() {
        let schema = serde_json::to_string(&crd).unwrap();
        assert!(!schema.contains("\"Unknown\""), "{}", crd.spec.names.kind);
    }
}

/// etcd takes no request above 1.5 MB, and the rest of the object needs some of it.
#[test]
fn the_report_of_a_node_with_all_rooms_that_it_may_have_fits_into_one_object() {
    use callplane_crds::medianode::{MAX_LISTED_ROOMS, ServedRoom};
    let longest = "x".repeat(63);
    let room = ServedRoom {
        namespace: longest.clone(),
        name: longest,
        epoch: 99_999_999,
        participants: 99,
        empty_since: Some(serde_json::from_str("\"2026-01-01T00:00:00Z\"").unwrap()),
    };
    let bytes = MAX_LISTED_ROOMS * (serde_json::to_string(&room).unwrap().len() + 1);
    assert!(bytes < 1_000_000, "{bytes}");

    let [_, nodes, pools] = all();
    let status = |path: &str, read: &dyn Fn(&JSONSchemaProps)| {
        let mut seen = 0;
        for crd in [&nodes, &pools] {
            let schema = version(crd).schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
            walk("", schema, &mut |at, schema| {
                if at == path {
                    seen += 1;
                    read(schema);
                }
            });
        }
        seen
    };
    let most = MAX_LISTED_ROOMS as f64;
    assert_eq!(status(".spec.capacity.rooms", &|schema| assert_eq!(schema.maximum, Some(most))), 2);
    let listed = |schema: &JSONSchemaProps| {
        assert_eq!(schema.max_items, Some(MAX_LISTED_ROOMS as i64));
        // Otherwise the API server keeps as much again about who owns each field of each entry.
        assert_eq!(schema.x_kubernetes_list_type.as_deref(), Some("atomic"));
    };
    assert_eq!(status(".status.rooms", &listed), 1);
}
