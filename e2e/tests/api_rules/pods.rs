//! The pods of the chart and of media pools in a namespace that enforces the restricted pod security standard: each is taken,
//! but for those of which the chart's README says what of the machine's they need, and these for nothing else.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use callplane_crds::{
    MediaPool, MediaPoolSpec,
    mediapool::{PortRange, Reachability, ReachabilityMode},
};
use callplane_e2e::{cluster::folder, scene::POD_READY, wait};
use callplane_operator::pool::{objects, pod};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::desk::{Desk, desk, refusal};

/// What is said before the reasons.
const VIOLATES: &str = "violates PodSecurity \"restricted:latest\": ";
/// Nothing of the chart is left out by these, but what excludes something else: that is in the others.
const EVERYTHING: &str = "postgresql.enabled=true";
const SHARED_MACHINE: &str = "turn.network=HostPort,turn.host=turn.example.org,turn.tls.secretName=turn-tls";
const SMALL: &str = "records.sqlite.enabled=true,gateway.replicas=1,turn.enabled=false";

#[test]
fn the_charts_pods_are_restricted_but_for_coturns_place_on_the_machine() {
    desk("restricted", |desk| async move {
        restrict(&desk).await?;
        let ours = ["crds", "gateway", "operator", "redis", "test"];
        let on_its_network = r#"host namespaces (hostNetwork=true), hostPort (container "coturn" uses hostPort 3478)"#;
        let on_its_ports = r#"hostPort (container "coturn" uses hostPorts 3478, 443)"#;
        for (values, more, coturn) in [
            (EVERYTHING, vec!["coturn", "postgresql"], Some(on_its_network)),
            (SHARED_MACHINE, vec!["coturn"], Some(on_its_ports)),
            (SMALL, vec![], None),
        ] {
            let mut expected: BTreeMap<String, String> = BTreeMap::new();
            expected.extend(ours.iter().chain(&more).map(|name| (format!("callplane-{name}"), String::new())));
            if let Some(reasons) = coturn {
                expected.insert("callplane-coturn".to_owned(), reasons.to_owned());
            }
            let rendered = render(&desk, values).await?;
            let mut found = BTreeMap::new();
            for pod in pods(&rendered)? {
                let name = pod.metadata.name.clone().context("a name")?;
                let reasons = judged(&desk, &pod).await.with_context(|| format!("{name} with {values}"))?;
                found.insert(name, reasons);
            }
            ensure!(found == expected, "with {values}:\n{found:#?}\ninstead of\n{expected:#?}");
        }
        Ok(())
    });
}

#[test]
fn media_nodes_are_restricted_where_they_take_nothing_of_the_machines() {
    desk("restricted-nodes", |desk| async move {
        restrict(&desk).await?;
        account(&desk, callplane_crds::names::MEDIA_NODE_SERVICE_ACCOUNT).await?;
        let ports = || Some(PortRange { from: 20_000, to: 20_999 });
        // On the machine's network every port of the pod is one of the machine.
        let on_its_network =
            r#"host namespaces (hostNetwork=true), hostPort (container "media-node" uses hostPorts 20000, 8080, 9090)"#;
        let on_its_ports = r#"hostPort (container "media-node" uses hostPort 20000)"#;
        for (mode, ports, reasons) in [
            (ReachabilityMode::Pod, None, ""),
            (ReachabilityMode::HostPort, ports(), on_its_ports),
            (ReachabilityMode::HostNetwork, ports(), on_its_network),
        ] {
            let given = if ports.is_some() { vec![20_000] } else { vec![] };
            let spec =
                MediaPoolSpec { reachability: Reachability { mode, ports, announce: None }, ..Default::default() };
            let mut pool = MediaPool::new("restricted", spec);
            pool.metadata.namespace = Some(desk.namespace.clone());
            pool.metadata.uid = Some("a-pool".to_owned());
            let mut node = objects::node(&pool, "restricted-a", &pod::template_hash(&pool.spec), given);
            node.metadata.uid = Some("a-node".to_owned());
            let found = judged(&desk, &pod::pod(&node, &pool.spec, "media-node")).await?;
            ensure!(found == reasons, "{mode:?}: {found:?} instead of {reasons:?}");
        }
        Ok(())
    });
}

#[test]
fn helm_says_beforehand_what_such_a_namespace_would_refuse() {
    desk("restricted-chart", |desk| async move {
        restrict(&desk).await?;
        let refused = "enforces the restricted pod security standard, which refuses ";
        for (values, expected) in [
            ("defaultPool.enabled=false", Some("coturn: it needs the machine's network")),
            ("defaultPool.enabled=false,turn.network=HostPort", Some("coturn: it needs ports of the machine")),
            ("turn.enabled=false", Some("media nodes with defaultPool.reachability.mode HostPort")),
            ("turn.enabled=false,defaultPool.reachability.mode=Pod", None),
        ] {
            // Helm looks at the cluster only when it is told to; that callplane is in it already is another matter.
            let looks = ["--dry-run=server", "--take-ownership"];
            let outcome = template(&desk, values, &looks).await.map_err(|error| format!("{error:#}"));
            let is_as_expected = match (&outcome, expected) {
                (Ok(_), None) => true,
                (Err(said), Some(words)) => said.contains(&format!("{refused}{words}")),
                _ => false,
            };
            ensure!(is_as_expected, "{values}: {outcome:?}");
        }
        Ok(())
    });
}

/// Has the namespace enforce the standard, and waits until it is: a pod that says nothing of its security is refused.
async fn restrict(desk: &Desk) -> Result<()> {
    let label = Patch::Merge(json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}));
    desk.cluster.namespaces().patch(&desk.namespace, &PatchParams::default(), &label).await?;
    account(desk, "default").await?;
    let spec = json!({"containers": [{"name": "careless", "image": "none"}]});
    let careless: Pod = serde_json::from_value(json!({"metadata": {"name": "careless"}, "spec": spec}))?;
    wait::polled("the standard to be enforced", POD_READY, || async {
        let reasons = judged(desk, &careless).await?;
        Ok(reasons.contains("runAsNonRoot != true").then_some(()))
    })
    .await
}

/// Makes a service account that pods may have: without it they are refused for that.
async fn account(desk: &Desk, name: &str) -> Result<()> {
    let accounts: Api<ServiceAccount> = Api::namespaced(desk.cluster.client.clone(), &desk.namespace);
    let mut account = ServiceAccount::default();
    account.metadata.name = Some(name.to_owned());
    match accounts.create(&PostParams::default(), &account).await {
        Err(kube::Error::Api(status)) if status.code != 409 => bail!("{name}: {}", status.message),
        Err(kube::Error::Api(_)) | Ok(_) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The chart with these values, as `helm install` would send it, hooks and tests too.
async fn template(desk: &Desk, values: &str, more: &[&str]) -> Result<String> {
    let chart = folder().join("../charts/callplane").display().to_string();
    let mut arguments = vec!["template", "callplane", &chart, "--namespace", &desk.namespace, "--set", values];
    arguments.extend(more);
    desk.cluster.run("helm", &arguments, "").await
}

/// What the chart makes with these values, and the service accounts of its pods.
async fn render(desk: &Desk, values: &str) -> Result<Vec<Value>> {
    let text = template(desk, values, &[]).await?;
    let mut documents = Vec::new();
    for document in serde_yaml::Deserializer::from_str(&text) {
        documents.push(Value::deserialize(document)?);
    }
    for document in documents.iter().filter(|document| document["kind"] == "ServiceAccount") {
        account(desk, document["metadata"]["name"].as_str().context("a name")?).await?;
    }
    Ok(documents)
}

/// The pods that these objects are or make, each under the name of what makes it.
fn pods(documents: &[Value]) -> Result<Vec<Pod>> {
    let mut found = Vec::new();
    for document in documents {
        let (template, name) = match document["kind"].as_str() {
            Some("Deployment" | "StatefulSet" | "DaemonSet" | "Job") => {
                (&document["spec"]["template"], &document["metadata"]["name"])
            }
            Some("CronJob") => bail!("a CronJob: how its pods are made is not known here"),
            Some("Pod") => (document, &document["metadata"]["name"]),
            _ => continue,
        };
        let metadata = json!({"name": name, "labels": template["metadata"]["labels"]});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]});
        found.push(serde_json::from_value(pod).with_context(|| format!("the pod of {name}"))?);
    }
    Ok(found)
}

/// For which reasons the API server refuses `pod` by the standard; empty if it takes it. It is not kept.
async fn judged(desk: &Desk, pod: &Pod) -> Result<String> {
    let pods: Api<Pod> = Api::namespaced(desk.cluster.client.clone(), &desk.namespace);
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let outcome = pods.create(&dry_run, pod).await;
    if outcome.is_ok() {
        return Ok(String::new());
    }
    let status = refusal(outcome)?;
    let reasons = status.message.split_once(VIOLATES).map(|(_, reasons)| reasons.to_owned());
    reasons.with_context(|| format!("refused for another reason: {}", status.message))
}
