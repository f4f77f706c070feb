//! What a media node's pod looks like: the operator's part, and what a pool's template may and may not change of it.

use callplane_crds::{
    MediaPool,
    mediapool::{Placement, PortRange, Reachability},
};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::*;
use crate::{cluster::fixtures::pool, pool::objects};

#[test]
fn a_pod_is_restricted_owned_and_knows_its_port() {
    let mut pool = pool("p", 1, Placement::Packed);
    pool.spec.template.workers = Some(2);
    pool.spec.reachability.mode = ReachabilityMode::HostPort;
    let node = objects::node(&pool, "p-abcde", "hash", vec![20_000, 20_001]);
    assert_eq!(node.metadata.owner_references.as_ref().unwrap()[0].kind, "MediaPool");
    let pod = pod(&node, &pool.spec, "default-image");
    assert_eq!((pod.name_any().as_str(), pod.owner_references()[0].kind.as_str()), ("p-abcde", "MediaNode"));
    assert_eq!(pod.annotations()["cluster-autoscaler.kubernetes.io/safe-to-evict"], "false");
    let spec = pod.spec.unwrap();
    assert_eq!((spec.restart_policy.as_deref(), spec.termination_grace_period_seconds), (Some("Never"), Some(3630)));
    let container = &spec.containers[0];
    assert_eq!(
        container.args.as_ref().unwrap().as_slice(),
        ["--rtc-listen=0.0.0.0:40000", "--workers=2", "--announce=$(HOST_IP):20000", "--drain-timeout=3600s"]
    );
    for protocol in ["UDP", "TCP"] {
        let is_rtc = |port: &&ContainerPort| port.name.as_deref().is_some_and(|name| name.starts_with("rtc"));
        let ports = container.ports.iter().flatten().filter(is_rtc);
        let ports = ports.filter(|port| port.protocol.as_deref() == Some(protocol));
        assert_eq!(
            ports.map(|p| (p.container_port, p.host_port)).collect::<Vec<_>>(),
            [(40_000, Some(20_000)), (40_001, Some(20_001))]
        );
    }
    let security = container.security_context.as_ref().unwrap();
    assert_eq!((security.allow_privilege_escalation, security.read_only_root_filesystem), (Some(false), Some(true)));
    assert_eq!(objects::budget(&pool).spec.unwrap().min_available, Some(IntOrString::Int(objects::ALL_PODS)));
}

#[test]
fn the_template_hash_changes_with_the_template_and_with_nothing_else() {
    let pool = pool("p", 1, Placement::Packed);
    let hash = template_hash(&pool.spec);
    let mut other = pool.spec.clone();
    other.replicas = 7;
    assert_eq!(template_hash(&other), hash);
    other.template.image = Some("newer".into());
    assert_ne!(template_hash(&other), hash);
}

/// The pod of a node of a pool that is like this, as JSON.
fn made(change: impl FnOnce(&mut MediaPool), ports: &[i32]) -> Value {
    let mut pool = pool("p", 1, Placement::Packed);
    change(&mut pool);
    let node = objects::node(&pool, "p-abcde", "hash", ports.to_vec());
    serde_json::to_value(pod(&node, &pool.spec, "default-image")).unwrap()
}

#[test]
fn a_template_is_laid_over_the_pod_and_takes_nothing_away_from_it() {
    let template = json!({
        "image": "registry.example.com/media:1",
        "imagePullPolicy": "Always",
        "imagePullSecrets": [{"name": "registry"}],
        "resources": {"requests": {"cpu": "2", "memory": "1Gi"}, "limits": {"memory": "1Gi"}},
        "env": [
            {"name": "RUST_BACKTRACE", "value": "1"},
            {"name": "NODE_NAME", "value": "another"},
            {"name": "WHERE", "value": "$(HOST_IP)"},
        ],
        "labels": {
            "team": "voice",
            "callplane.io/pool": "another",
            "app.kubernetes.io/component": "gateway",
            "app.kubernetes.io/managed-by": "hand",
        },
        "annotations": {"note": "mine", "cluster-autoscaler.kubernetes.io/safe-to-evict": "true"},
        "nodeSelector": {"disk": "none"},
        "tolerations": [{"key": "media", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a", "b"]}]}]}}},
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
        "priorityClassName": "calls",
    });
    let parsed = serde_json::from_value(template.clone()).unwrap();
    let (plain, laid) = (made(|_| (), &[]), made(|pool| pool.spec.template = parsed, &[]));

    let (metadata, spec, container) = (&laid["metadata"], &laid["spec"], &laid["spec"]["containers"][0]);
    for (key, value) in [
        ("team", "voice"),
        ("callplane.io/pool", "p"),
        ("app.kubernetes.io/component", "media-node"),
        ("app.kubernetes.io/name", "callplane"),
        ("app.kubernetes.io/managed-by", "callplane-operator"),
    ] {
        assert_eq!(metadata["labels"][key], value, "{key}");
    }
    let annotations = json!({"note": "mine", "cluster-autoscaler.kubernetes.io/safe-to-evict": "false"});
    assert_eq!(metadata["annotations"], annotations, "a machine with calls on it is not taken away");
    for (there, field) in [
        (container, "image"),
        (container, "imagePullPolicy"),
        (container, "resources"),
        (spec, "imagePullSecrets"),
        (spec, "nodeSelector"),
        (spec, "tolerations"),
        (spec, "affinity"),
        (spec, "topologySpreadConstraints"),
        (spec, "priorityClassName"),
    ] {
        assert_eq!(there[field], template[field], "{field}");
    }

    // What its own come to refer to is there before them, and who it is remains the operator's word.
    let names = |pod: &Value| -> Vec<String> {
        let env = pod["spec"]["containers"][0]["env"].as_array().unwrap();
        env.iter().map(|variable| variable["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&laid), [names(&plain), vec!["RUST_BACKTRACE".into(), "WHERE".into()]].concat());
    let own = container["env"].as_array().unwrap().iter().find(|variable| variable["name"] == "NODE_NAME");
    assert_eq!(own.unwrap()["valueFrom"]["fieldRef"]["fieldPath"], "metadata.name");

    let untouched = [
        "/metadata/name",
        "/metadata/ownerReferences",
        "/spec/restartPolicy",
        "/spec/securityContext",
        "/spec/serviceAccountName",
        "/spec/terminationGracePeriodSeconds",
        "/spec/volumes",
        "/spec/containers/0/args",
        "/spec/containers/0/ports",
        "/spec/containers/0/readinessProbe",
        "/spec/containers/0/livenessProbe",
        "/spec/containers/0/securityContext",
        "/spec/containers/0/volumeMounts",
    ];
    for path in untouched {
        assert!(plain.pointer(path).is_some(), "{path}");
        assert_eq!(laid.pointer(path), plain.pointer(path), "{path}");
    }
}

#[test]
fn a_pod_on_the_machines_network_listens_where_it_is_told_and_alone() {
    let on_the_machine = |pool: &mut MediaPool| {
        pool.spec.template.workers = Some(2);
        pool.spec.reachability = Reachability {
            mode: ReachabilityMode::HostNetwork,
            ports: Some(PortRange { from: 20_000, to: 20_003 }),
            announce: None,
        };
    };
    let pod = made(on_the_machine, &[20_000, 20_001]);
    let (spec, container) = (&pod["spec"], &pod["spec"]["containers"][0]);
    assert_eq!((&spec["hostNetwork"], &spec["dnsPolicy"]), (&json!(true), &json!("ClusterFirstWithHostNet")));
    assert_eq!(
        container["args"],
        json!(["--rtc-listen=0.0.0.0:20000", "--workers=2", "--announce=$(HOST_IP)", "--drain-timeout=3600s"])
    );
    let ports = container["ports"].as_array().unwrap().iter();
    let media = ports.filter(|port| port["name"].as_str().is_some_and(|name| name.starts_with("rtc")));
    let media: Vec<_> = media.map(|p| (p["containerPort"].clone(), p["hostPort"].clone())).collect();
    let both = |port: i32| (json!(port), json!(port));
    assert_eq!(media, [both(20_000), both(20_000), both(20_001), both(20_001)], "UDP and TCP of each worker");
    let apart = json!([{"labelSelector": {"matchLabels": {"app.kubernetes.io/component": "media-node"}},
        "topologyKey": "kubernetes.io/hostname"}]);
    let required = "/affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution";
    assert_eq!(spec.pointer(required), Some(&apart), "the API's port can be used once on a machine");

    // A pool's own wish stays, and does not take the place of this one.
    let wish = json!({"labelSelector": {"matchLabels": {"app": "database"}}, "topologyKey": "zone"});
    let affinity = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [wish]}});
    let with_a_wish = |pool: &mut MediaPool| {
        on_the_machine(pool);
        pool.spec.template.affinity = Some(serde_json::from_value(affinity).unwrap());
        pool.spec.reachability.announce = Some("203.0.113.7".into());
    };
    let pod = made(with_a_wish, &[20_000, 20_001]);
    assert_eq!(pod["spec"].pointer(required), Some(&json!([wish, apart[0]])));
    assert_eq!(pod["spec"]["containers"][0]["args"][2], "--announce=203.0.113.7");

    let inside = made(|_| (), &[]);
    for field in ["hostNetwork", "dnsPolicy", "affinity"] {
        assert_eq!(inside["spec"].get(field), None, "{field}");
    }
}

#[test]
fn an_address_of_version_6_is_told_from_its_port() {
    let announce = |mode, address: &str| {
        let reach = Reachability { mode, ports: None, announce: Some(address.into()) };
        made(|pool| pool.spec.reachability = reach, &[20_000])["spec"]["containers"][0]["args"][2].clone()
    };
    assert_eq!(announce(ReachabilityMode::HostPort, "2001:db8::7"), "--announce=[2001:db8::7]:20000");
    assert_eq!(announce(ReachabilityMode::HostPort, "203.0.113.7"), "--announce=203.0.113.7:20000");
    assert_eq!(announce(ReachabilityMode::Pod, "2001:db8::7"), "--announce=2001:db8::7");
}
