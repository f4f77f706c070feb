//! Which Secrets the operator may write: RBAC gives it all of them, and an admission policy takes most of them back.

use anyhow::{Context, Result};
use callplane_crds::names::{JOIN_KEYS_SECRET, JOIN_PUBLIC_SECRET, REDIS_SECRET, TURN_SECRET_TYPE};
use callplane_e2e::{cluster::SYSTEM, scene::ignore_missing};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

use crate::desk::{Desk, desk, forbidden};

const OPERATOR: &str = "callplane-operator";
/// A Secret of somebody else in the operator's own namespace.
const OTHER: &str = "e2e-somebody-elses";
const OPAQUE: &str = "Opaque";
const WRITES: &str = "the operator may write Secrets of the type callplane.io/turn and a few of its own namespace only";
const STRANGE: &str = "it is not the operator's";

#[test]
fn the_operator_writes_only_secrets_of_rooms_and_a_few_of_its_own() {
    desk("secrets", |desk| async move {
        let all: Api<Secret> = desk.cluster.secrets();
        ignore_missing(all.delete(OTHER, &DeleteParams::default()).await.map(drop))?;
        all.create(&PostParams::default(), &secret(OTHER, OPAQUE)).await?;
        let outcome = try_everything(&desk).await;
        all.delete(OTHER, &DeleteParams::default()).await?;
        outcome
    });
}

async fn try_everything(desk: &Desk) -> Result<()> {
    let client = desk.cluster.as_bearer(&desk.cluster.token_of(OPERATOR).await?)?;
    let (there, own): (Api<Secret>, Api<Secret>) =
        (Api::namespaced(client.clone(), &desk.namespace), Api::namespaced(client, SYSTEM));
    let make = PostParams { dry_run: true, ..PostParams::default() };
    let change = PatchParams { dry_run: true, ..PatchParams::default() };
    let remove = DeleteParams { dry_run: true, ..DeleteParams::default() };
    let label = Patch::Merge(json!({"metadata": {"labels": {"e2e": "yes"}}}));

    for (secrets, place) in [(&there, "elsewhere"), (&own, "at home")] {
        secrets
            .create(&make, &secret("room-turn", TURN_SECRET_TYPE))
            .await
            .with_context(|| format!("a room's {place}"))?;
        forbidden(place, secrets.create(&make, &secret("anything", OPAQUE)).await, WRITES)?;
    }
    // The names are those of its own namespace.
    forbidden("its name elsewhere", there.create(&make, &secret(REDIS_SECRET, OPAQUE)).await, WRITES)?;
    for name in [JOIN_PUBLIC_SECRET, REDIS_SECRET] {
        own.patch(name, &change, &label).await.with_context(|| name.to_owned())?;
        forbidden("deleting its own", own.delete(name, &remove).await, STRANGE)?;
    }
    // Kubernetes fills such a one with the token of the account that it names.
    let token = "kubernetes.io/service-account-token";
    forbidden("somebody's token", own.create(&make, &secret(JOIN_KEYS_SECRET, token)).await, WRITES)?;
    forbidden("changing another's", own.patch(OTHER, &change, &label).await, WRITES)?;
    forbidden("deleting another's", own.delete(OTHER, &remove).await, STRANGE)
}

fn secret(name: &str, kind: &str) -> Secret {
    let mut secret = Secret { type_: Some(kind.to_owned()), ..Secret::default() };
    secret.metadata.name = Some(name.to_owned());
    if kind.ends_with("token") {
        let account = ("kubernetes.io/service-account.name".to_owned(), "callplane-gateway".to_owned());
        secret.metadata.annotations = Some([account].into());
    }
    secret
}
