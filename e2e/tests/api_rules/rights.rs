//! Who may do what, asked of the API server's own authorizer.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use callplane_e2e::{Cluster, clock, cluster::SYSTEM};
use k8s_openapi::api::{
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
    rbac::v1::{RoleBinding, RoleRef, Subject},
};
use kube::{
    Api,
    api::{ObjectMeta, PostParams},
};

use crate::desk::desk;

/// Until the authorizer has seen a new binding.
const SETTLED: Duration = Duration::from_secs(60);

#[derive(Clone, Copy)]
struct Ask<'a> {
    user: &'a str,
    namespace: &'a str,
    group: &'a str,
    /// With its subresource, as RBAC writes it.
    resource: &'a str,
    name: &'a str,
}

impl Ask<'_> {
    async fn may(&self, cluster: &Cluster, verb: &str) -> Result<bool> {
        let (resource, subresource) = self.resource.split_once('/').unwrap_or((self.resource, ""));
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let attributes = ResourceAttributes {
            namespace: some(self.namespace),
            group: some(self.group),
            resource: some(resource),
            subresource: some(subresource),
            name: some(self.name),
            verb: some(verb),
            ..Default::default()
        };
        let spec = SubjectAccessReviewSpec {
            user: Some(self.user.to_owned()),
            groups: Some(vec!["system:authenticated".to_owned()]),
            resource_attributes: Some(attributes),
            ..Default::default()
        };
        let review = SubjectAccessReview { spec, ..Default::default() };
        let answer = Api::all(cluster.client.clone()).create(&PostParams::default(), &review).await?;
        Ok(answer.status.context("an answer")?.allowed)
    }

    /// Which of all verbs it may.
    async fn verbs(&self, cluster: &Cluster) -> Result<Vec<&'static str>> {
        let mut allowed = Vec::new();
        for verb in ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"] {
            if self.may(cluster, verb).await? {
                allowed.push(verb);
            }
        }
        Ok(allowed)
    }
}

const OURS: &str = "callplane.io";
const EVENTS: &str = "events.k8s.io";
const LEASES: &str = "coordination.k8s.io";

/// Everything that somebody may do, and samples of what not: (namespace, group, resource, name, verbs).
type Table<'a> = Vec<(&'a str, &'a str, &'a str, &'a str, &'a str)>;

async fn judge(cluster: &Cluster, user: &str, table: Table<'_>) -> Result<()> {
    let mut wrong = Vec::new();
    for (namespace, group, resource, name, expected) in table {
        let verbs = Ask { user, namespace, group, resource, name }.verbs(cluster).await?.join(" ");
        if verbs != expected {
            wrong.push(format!("{group}/{resource} {name} in {namespace:?}: may [{verbs}] instead of [{expected}]"));
        }
    }
    ensure!(wrong.is_empty(), "{user}:\n  {}", wrong.join("\n  "));
    Ok(())
}

#[test]
fn the_operator_may_do_what_it_does_and_no_more() {
    desk("operator", |desk| async move {
        let there = desk.namespace.as_str();
        let table = vec![
            (there, OURS, "callrooms", "", "get list watch delete"),
            (there, OURS, "callrooms/status", "", "patch"),
            (there, EVENTS, "events", "", "create patch"),
            (there, OURS, "medianodes", "", ""),
            (there, OURS, "mediapools", "", ""),
            (there, "", "pods", "", ""),
            // For rooms with turn.provision: Secret; the policy callplane-turn-secrets says which.
            (there, "", "secrets", "", "create patch delete"),
            (there, LEASES, "leases", "", ""),
            (SYSTEM, OURS, "mediapools", "", "list watch"),
            (SYSTEM, OURS, "mediapools/status", "", "patch"),
            (SYSTEM, OURS, "mediapools/scale", "", ""),
            (SYSTEM, OURS, "medianodes", "", "get list watch create patch delete"),
            (SYSTEM, OURS, "medianodes/status", "", "patch"),
            (SYSTEM, "", "pods", "", "get list watch create"),
            (SYSTEM, "", "pods/exec", "", ""),
            (SYSTEM, "", "pods/log", "", ""),
            (SYSTEM, "", "serviceaccounts/token", "callplane-media-node", ""),
            (SYSTEM, "", "configmaps", "", ""),
            (SYSTEM, "policy", "poddisruptionbudgets", "", "get create update"),
            (SYSTEM, LEASES, "leases", "", "get list watch create update"),
            (SYSTEM, "", "secrets", "", "create patch delete"),
            (SYSTEM, "", "secrets", "callplane-join-keys", "get create update patch delete"),
            (SYSTEM, "", "secrets", "callplane-join-public", "get create patch delete"),
            (SYSTEM, "", "secrets", "another", "create patch delete"),
            ("", "", "nodes", "", ""),
            ("", "", "namespaces", "", ""),
            ("", "apiextensions.k8s.io", "customresourcedefinitions", "callrooms.callplane.io", ""),
            ("", "admissionregistration.k8s.io", "validatingadmissionpolicies", "callplane-routes", ""),
        ];
        judge(&desk.cluster, &format!("system:serviceaccount:{SYSTEM}:callplane-operator"), table).await
    });
}

#[test]
fn a_media_node_may_read_rooms_and_write_about_itself() {
    desk("media-node", |desk| async move {
        let there = desk.namespace.as_str();
        let table = vec![
            (there, OURS, "callrooms", "", "get list watch"),
            (there, OURS, "callrooms/status", "", ""),
            (there, OURS, "medianodes/status", "", ""),
            (there, LEASES, "leases", "", ""),
            (there, "", "secrets", "", ""),
            (SYSTEM, OURS, "medianodes", "", "get list watch"),
            (SYSTEM, OURS, "medianodes/status", "", "patch"),
            (SYSTEM, OURS, "mediapools", "", ""),
            (SYSTEM, LEASES, "leases", "", "get create update patch"),
            (SYSTEM, "", "pods", "", ""),
            (SYSTEM, "", "secrets", "", ""),
            (SYSTEM, "", "secrets", "callplane-join-keys", ""),
            (SYSTEM, "", "secrets", "callplane-join-public", ""),
            (SYSTEM, "", "configmaps", "", ""),
            (SYSTEM, EVENTS, "events", "", ""),
            ("", "", "nodes", "", ""),
        ];
        judge(&desk.cluster, &format!("system:serviceaccount:{SYSTEM}:callplane-media-node"), table).await
    });
}

#[test]
fn the_gateway_may_write_the_status_of_rooms_everywhere() {
    desk("gateway", |desk| async move {
        let there = desk.namespace.as_str();
        let table = vec![
            (there, OURS, "callrooms", "", "get list watch"),
            (there, OURS, "callrooms/status", "", "patch"),
            (there, OURS, "medianodes", "", ""),
            (SYSTEM, OURS, "medianodes", "", "get list watch"),
            (SYSTEM, OURS, "medianodes/status", "", ""),
            (SYSTEM, OURS, "mediapools", "", ""),
            (SYSTEM, LEASES, "leases", "", ""),
            (SYSTEM, "", "pods", "", ""),
            ("", "", "nodes", "", ""),
        ];
        judge(&desk.cluster, &format!("system:serviceaccount:{SYSTEM}:callplane-gateway"), table).await
    });
}

#[test]
fn the_clusters_own_roles_cover_rooms() {
    desk("roles", |desk| async move {
        let bindings: Api<RoleBinding> = Api::namespaced(desk.cluster.client.clone(), &desk.namespace);
        for role in ["view", "edit", "admin"] {
            bindings.create(&PostParams::default(), &binding(role)).await?;
            let user = format!("e2e-{role}");
            let ask = Ask { user: &user, namespace: &desk.namespace, group: OURS, resource: "callrooms", name: "" };
            let began = clock::now();
            while !ask.may(&desk.cluster, "get").await? {
                ensure!(began.elapsed() < SETTLED, "role {role} does not let anyone read rooms");
            }
        }
        let there = desk.namespace.as_str();
        let (read, everything) = ("get list watch", "get list watch create update patch delete deletecollection");
        for (user, rooms, pools, nodes) in [
            ("e2e-view", read, read, read),
            ("e2e-edit", everything, read, read),
            ("e2e-admin", everything, "get list watch create update patch delete", "get list watch update patch"),
        ] {
            let table = vec![
                (there, OURS, "callrooms", "", rooms),
                (there, OURS, "callrooms/status", "", ""),
                (there, OURS, "mediapools", "", pools),
                (there, OURS, "mediapools/status", "", ""),
                (there, OURS, "medianodes", "", nodes),
                (there, OURS, "medianodes/status", "", ""),
                (SYSTEM, OURS, "callrooms", "", ""),
            ];
            judge(&desk.cluster, user, table).await?;
        }
        Ok(())
    });
}

fn binding(role: &str) -> RoleBinding {
    RoleBinding {
        metadata: ObjectMeta { name: Some(format!("e2e-{role}")), ..Default::default() },
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".to_owned(),
            kind: "ClusterRole".to_owned(),
            name: role.to_owned(),
        },
        subjects: Some(vec![Subject {
            api_group: Some("rbac.authorization.k8s.io".to_owned()),
            kind: "User".to_owned(),
            name: format!("e2e-{role}"),
            namespace: None,
        }]),
    }
}
