//! What a pool is made of besides pods: MediaNodes and the PodDisruptionBudget.

use callplane_crds::{MediaNode, MediaNodeSpec, MediaPool, names::POOL_LABEL};
use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference},
        util::intstr::IntOrString,
    },
};
use kube::Resource;

/// More pods than any pool has, so that none may be evicted. `maxUnavailable: 0` would say it more plainly,
/// but the disruption controller reckons that from the pods' controller, and knows only built-in kinds and
/// those with a scale (it would refuse evictions too, and complain about it for ever).
pub const ALL_PODS: i32 = 100_000;

/// That `object` owns something.
pub fn owner<K: Resource<DynamicType = ()>>(object: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: object.meta().name.clone().unwrap_or_default(),
        uid: object.meta().uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

/// A node named `name` for `pool`.
pub fn node(pool: &MediaPool, name: &str, template_hash: &str, ports: Vec<i32>) -> MediaNode {
    let pool_name = pool.metadata.name.clone().unwrap_or_default();
    let mut node = MediaNode::new(
        name,
        MediaNodeSpec {
            pool: pool_name.clone(),
            region: pool.spec.region.clone(),
            cordoned: false,
            capacity: pool.spec.capacity.clone(),
            rtc_ports: ports,
            template_hash: template_hash.to_owned(),
        },
    );
    node.metadata.namespace.clone_from(&pool.metadata.namespace);
    node.metadata.labels = Some([(POOL_LABEL.to_owned(), pool_name)].into());
    node.metadata.owner_references = Some(vec![owner(pool)]);
    node
}

/// The budget that keeps every voluntary disruption away from the pool's pods.
pub fn budget(pool: &MediaPool) -> PodDisruptionBudget {
    let name = pool.metadata.name.clone().unwrap_or_default();
    PodDisruptionBudget {
        metadata: ObjectMeta {
            name: Some(budget_name(&name)),
            namespace: pool.metadata.namespace.clone(),
            labels: Some(super::pod::labels(&name)),
            owner_references: Some(vec![owner(pool)]),
            ..ObjectMeta::default()
        },
        spec: Some(PodDisruptionBudgetSpec {
            min_available: Some(IntOrString::Int(ALL_PODS)),
            selector: Some(LabelSelector {
                match_labels: Some([(POOL_LABEL.to_owned(), name)].into()),
                match_expressions: None,
            }),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}

/// The budget as it has to be put in place of `live`; `None` when that says so already. What others added to its labels and
/// annotations stays.
pub fn repaired(live: &PodDisruptionBudget, wanted: &PodDisruptionBudget) -> Option<PodDisruptionBudget> {
    let mut next = live.clone();
    next.spec.clone_from(&wanted.spec);
    next.metadata.labels.get_or_insert_default().extend(wanted.metadata.labels.clone().unwrap_or_default());
    let owners = next.metadata.owner_references.get_or_insert_default();
    let missing = wanted.metadata.owner_references.iter().flatten().filter(|w| !owners.iter().any(|o| o.uid == w.uid));
    let missing: Vec<OwnerReference> = missing.cloned().collect();
    owners.extend(missing);
    (next != *live).then_some(next)
}

/// Name of the budget of pool `pool`.
pub fn budget_name(pool: &str) -> String {
    format!("{pool}-media")
}
