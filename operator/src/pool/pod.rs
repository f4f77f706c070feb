//! The pod of a media node: the operator's own, with the pool's template laid over it.

use std::collections::BTreeMap;

use callplane_crds::{
    MediaNode, MediaPoolSpec,
    mediapool::ReachabilityMode,
    names::{
        ADMIN_PORT, API_PORT, COMPONENT_LABEL, JOIN_PUBLIC_SECRET, MEDIA_NODE_COMPONENT, MEDIA_NODE_SERVICE_ACCOUNT,
        POOL_LABEL, RTC_PORT, SAFE_TO_EVICT_ANNOTATION,
    },
};
use k8s_openapi::{
    api::core::v1::{
        Affinity, Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction, ObjectFieldSelector,
        Pod, PodAffinityTerm, PodAntiAffinity, PodSecurityContext, PodSpec, Probe, SeccompProfile, SecretVolumeSource,
        SecurityContext, Volume, VolumeMount,
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};

use super::objects::owner;

/// Event loops of a node whose pool names no number.
pub const DEFAULT_WORKERS: i32 = 1;
/// Where the public join keys are mounted.
pub const KEYS_PATH: &str = "/etc/callplane/keys";
/// What a pod gets on top of its drain timeout to close down.
const STOP_SLACK: i64 = 30;
/// User and group of the pods.
const USER: i64 = 65_532;
/// Name of the container.
pub const CONTAINER: &str = MEDIA_NODE_COMPONENT;

/// Hash of what a node's pod is made from: nodes with another hash were made from another template.
pub fn template_hash(spec: &MediaPoolSpec) -> String {
    let text = serde_json::to_vec(&(&spec.template, &spec.reachability)).unwrap_or_default();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &text);
    digest.as_ref().iter().take(5).map(|byte| format!("{byte:02x}")).collect()
}

/// Labels of a pool's pods.
pub fn labels(pool: &str) -> BTreeMap<String, String> {
    [
        (POOL_LABEL, pool),
        (COMPONENT_LABEL, MEDIA_NODE_COMPONENT),
        ("app.kubernetes.io/name", "callplane"),
        ("app.kubernetes.io/managed-by", "callplane-operator"),
    ]
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .into()
}

/// The pod of `node`, which bears the node's name.
pub fn pod(node: &MediaNode, pool: &MediaPoolSpec, default_image: &str) -> Pod {
    let template = &pool.template;
    let mut labels = template.labels.clone();
    labels.extend(self::labels(&node.spec.pool));
    let mut annotations = template.annotations.clone();
    // The cluster autoscaler must not take a machine away under a call.
    annotations.insert(SAFE_TO_EVICT_ANNOTATION.to_owned(), "false".to_owned());
    let host_network = pool.reachability.mode == ReachabilityMode::HostNetwork;
    Pod {
        metadata: ObjectMeta {
            name: node.metadata.name.clone(),
            namespace: node.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: Some(vec![owner(node)]),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            service_account_name: Some(MEDIA_NODE_SERVICE_ACCOUNT.to_owned()),
            // A node that ended has lost its calls' state: another takes its place, under another name.
            restart_policy: Some("Never".to_owned()),
            termination_grace_period_seconds: Some(i64::from(pool.drain_timeout_seconds) + STOP_SLACK),
            enable_service_links: Some(false),
            host_network: host_network.then_some(true),
            dns_policy: host_network.then(|| "ClusterFirstWithHostNet".to_owned()),
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                run_as_user: Some(USER),
                run_as_group: Some(USER),
                fs_group: Some(USER),
                seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
                ..PodSecurityContext::default()
            }),
            containers: vec![container(node, pool, default_image)],
            volumes: Some(vec![Volume {
                name: "keys".to_owned(),
                secret: Some(SecretVolumeSource {
                    secret_name: Some(JOIN_PUBLIC_SECRET.to_owned()),
                    ..SecretVolumeSource::default()
                }),
                ..Volume::default()
            }]),
            image_pull_secrets: none_if_empty(&template.image_pull_secrets),
            node_selector: (!template.node_selector.is_empty()).then(|| template.node_selector.clone()),
            tolerations: none_if_empty(&template.tolerations),
            affinity: affinity(template.affinity.clone(), host_network),
            topology_spread_constraints: none_if_empty(&template.topology_spread_constraints),
            priority_class_name: template.priority_class_name.clone(),
            ..PodSpec::default()
        }),
        status: None,
    }
}

fn container(node: &MediaNode, pool: &MediaPoolSpec, default_image: &str) -> Container {
    let template = &pool.template;
    let mut env = vec![
        field("NODE_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        field("POD_IP", "status.podIP"),
        field("HOST_IP", "status.hostIP"),
    ];
    // Who the node is and where, no template says: it would write its reports and its lease in another's name.
    let own: Vec<String> = env.iter().map(|variable| variable.name.clone()).collect();
    env.extend(template.env.iter().filter(|variable| !own.contains(&variable.name)).cloned());
    Container {
        name: CONTAINER.to_owned(),
        image: Some(template.image.clone().unwrap_or_else(|| default_image.to_owned())),
        image_pull_policy: template.image_pull_policy.clone(),
        args: Some(arguments(node, pool)),
        env: Some(env),
        ports: Some(ports(node, pool)),
        resources: template.resources.clone(),
        readiness_probe: Some(probe("/readyz", 1)),
        // A hung process is found by its lease within seconds; this only makes sure that it ends some day.
        liveness_probe: Some(Probe { failure_threshold: Some(6), ..probe("/livez", 10) }),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(vec![VolumeMount {
            name: "keys".to_owned(),
            mount_path: KEYS_PATH.to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        }]),
        ..Container::default()
    }
}

/// Event loop `i` listens on the first port plus `i`. Inside its own network the pod uses its own ports.
fn arguments(node: &MediaNode, pool: &MediaPoolSpec) -> Vec<String> {
    let workers = pool.template.workers.unwrap_or(DEFAULT_WORKERS);
    let reach = &pool.reachability;
    let first = node.spec.rtc_ports.first();
    let listen = match (reach.mode, first) {
        (ReachabilityMode::HostNetwork, Some(port)) => *port,
        _ => i32::from(RTC_PORT),
    };
    let address = match (&reach.announce, reach.mode) {
        (Some(fixed), _) => fixed.as_str(),
        (None, ReachabilityMode::Pod | ReachabilityMode::Unknown) => "$(POD_IP)",
        (None, ReachabilityMode::HostPort | ReachabilityMode::HostNetwork) => "$(HOST_IP)",
    };
    // A port of the machine is forwarded to another of the pod; in the other modes they are the same.
    let announce = match (reach.mode, first) {
        (ReachabilityMode::HostPort, Some(port)) if address.contains(':') => format!("[{address}]:{port}"),
        (ReachabilityMode::HostPort, Some(port)) => format!("{address}:{port}"),
        _ => address.to_owned(),
    };
    vec![
        format!("--rtc-listen=0.0.0.0:{listen}"),
        format!("--workers={workers}"),
        format!("--announce={announce}"),
        format!("--drain-timeout={}s", pool.drain_timeout_seconds),
    ]
}

fn ports(node: &MediaNode, pool: &MediaPoolSpec) -> Vec<ContainerPort> {
    let tcp = |name: &str, port: u16| ContainerPort {
        name: Some(name.to_owned()),
        container_port: port.into(),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    };
    let mut ports = vec![tcp("api", API_PORT), tcp("admin", ADMIN_PORT)];
    let workers = pool.template.workers.unwrap_or(DEFAULT_WORKERS);
    for worker in 0..workers {
        let given = usize::try_from(worker).ok().and_then(|i| node.spec.rtc_ports.get(i)).copied();
        let own = i32::from(RTC_PORT) + worker;
        let (container_port, host_port) = match pool.reachability.mode {
            ReachabilityMode::Pod | ReachabilityMode::Unknown => (own, None),
            ReachabilityMode::HostPort => (own, given),
            // On the machine's network the two are the same, and naming it keeps the scheduler from giving it twice.
            ReachabilityMode::HostNetwork => (given.unwrap_or(own), given),
        };
        // Clients that UDP does not reach connect to the same number.
        for (name, protocol) in [("rtc", "UDP"), ("rtc-tcp", "TCP")] {
            ports.push(ContainerPort {
                name: Some(format!("{name}-{worker}")),
                container_port,
                host_port,
                protocol: Some(protocol.to_owned()),
                ..ContainerPort::default()
            });
        }
    }
    ports
}

/// On the machine's network the API's port can be used once: such pods keep away from each other.
fn affinity(own: Option<Affinity>, host_network: bool) -> Option<Affinity> {
    if !host_network {
        return own;
    }
    let apart = PodAffinityTerm {
        label_selector: Some(LabelSelector {
            match_labels: Some([(COMPONENT_LABEL.to_owned(), MEDIA_NODE_COMPONENT.to_owned())].into()),
            match_expressions: None,
        }),
        topology_key: "kubernetes.io/hostname".to_owned(),
        ..PodAffinityTerm::default()
    };
    let mut affinity = own.unwrap_or_default();
    let anti = affinity.pod_anti_affinity.get_or_insert_with(PodAntiAffinity::default);
    anti.required_during_scheduling_ignored_during_execution.get_or_insert_default().push(apart);
    Some(affinity)
}

fn probe(path: &str, period: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(ADMIN_PORT.into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(2),
        ..Probe::default()
    }
}

fn field(name: &str, path: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector { field_path: path.to_owned(), ..ObjectFieldSelector::default() }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    }
}

fn none_if_empty<T: Clone>(list: &[T]) -> Option<Vec<T>> {
    (!list.is_empty()).then(|| list.to_vec())
}

#[cfg(test)]
#[path = "pod_tests.rs"]
mod tests;
