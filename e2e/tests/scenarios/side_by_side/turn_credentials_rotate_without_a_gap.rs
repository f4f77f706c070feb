//! Browsers that reach nobody but through coturn are in a call, over UDP, TCP and TLS. The shared secret is rotated, the old
//! one goes, and in the end all that there are: the call has no gap. What ended, was revoked or is made up is refused, and
//! nobody is relayed into the cluster's own networks but to its media nodes.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use callplane_crds::{
    CallId,
    mediapool::{PortRange, Reachability, ReachabilityMode},
};
use callplane_e2e::{
    Call, Cluster, Scene,
    browsers::{LONGEST_GAP_MS, Sample},
    clock,
    cluster::{SYSTEM, folder},
    gateway::{self, API_KEY, IceServer, MOUNTED, Replica},
    program, scenario, scene,
    turn::{self, FORBIDDEN, Login, Shared, UNAUTHORIZED},
    wait,
};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Pod, Secret},
};
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
    runtime::watcher,
};
use serde_json::json;
use tokio::process::Command;

/// Until media goes by relays, and until some more pictures have come.
const FLOWS: Duration = Duration::from_secs(120);
/// Samples, one a second, during which the call goes on after everything was revoked.
const AFTERWARDS: usize = 5;
/// Of the media node: clear of the default pool's.
const PORTS: PortRange = PortRange { from: 21_000, to: 21_009 };
/// Name and component of the coturn with TLS, and of its certificate.
const TLS: &str = "e2e-coturn-tls";
/// Nobody is relayed there, whatever the cluster's own networks are.
const PRIVATE: [&str; 5] = ["127.0.0.1", "169.254.169.254", "10.0.0.1", "172.16.0.1", "192.168.1.1"];

#[test]
fn turn_credentials_rotate_without_a_gap() {
    scenario::side_by_side("turn", |scene| async move {
        scene.operator_settled().await?;
        remove(&scene.cluster).await.context("leftovers of an earlier run")?;
        // As the chart's own pool: relays reach it at its machine's address, and not at the pod's.
        let reachability = Reachability { mode: ReachabilityMode::HostPort, ports: Some(PORTS), announce: None };
        let pool = scene.pool(1, |spec| spec.reachability = reachability).await?;
        let outcome =
            gateway::with_replicas(&scene, &pool, async |[gateway, _]| play(&scene, &pool, &gateway).await).await;
        outcome.and(remove(&scene.cluster).await)
    });
}

async fn play(scene: &Scene, pool: &str, gateway: &Replica) -> Result<()> {
    let (id, _) = gateway.make_room(pool).await?;
    Shared::of(&scene.cluster).retire().await?;
    let server = &believed(gateway, &id).await?;
    by_tls(scene, pool, gateway).await.context("TLS")?;

    let call =
        Call::relayed(&gateway.address, &link(gateway, &id).await?, &[("ann", "udp"), ("bob", "tcp")], None).await?;
    let ways = [("ann", "relay by udp"), ("bob", "relay by tcp")];
    call.until("media by relays alone", FLOWS, |sample| flows(sample, &ways).then_some(())).await?;
    let first = call.samples().len();
    let connections = connections(&call.samples());

    who_may_be_reached(scene, pool, server).await?;
    rotation(scene, server).await?;
    let mut more = AFTERWARDS;
    call.until("pictures after everything was revoked", FLOWS, |sample| {
        more -= usize::from(flows(sample, &ways));
        (more == 0).then_some(())
    })
    .await?;
    let gap = call.longest_gap_ms_since(first);
    println!("  {} s by relays; longest time without a new picture: {gap:.0} ms", call.samples().len() - first);
    ensure!(gap < LONGEST_GAP_MS, "somebody saw no new picture for {gap} ms");
    let now = self::connections(&call.samples());
    ensure!(now == connections, "somebody had to connect again: {connections:?} became {now:?}");
    call.end().await?;
    gateway::kept_silent(&scene.cluster, &[API_KEY, &server.credential]).await
}

/// What the gateway tells, once coturn believes it: an earlier run may just have revoked what the gateway still mints with.
async fn believed(gateway: &Replica, id: &CallId) -> Result<IceServer> {
    wait::polled("credentials that coturn believes", MOUNTED, || async {
        for server in gateway.ice_servers(id, "carl").await? {
            if turn::ask(&server.urls[0], &Login::Given(server.clone()), &[]).await?.allocate == 0 {
                return Ok(Some(server));
            }
        }
        Ok(None)
    })
    .await
}

/// Everybody sees the other, in the way that is theirs.
fn flows(sample: &Sample, ways: &[(&str, &str)]) -> bool {
    ways.iter().all(|(user, way)| {
        sample.pages.iter().any(|page| {
            let sees = |r: &callplane_e2e::browsers::Remote| r.video.fps > 5.0 && r.audio.real_samples > 0.0;
            page.user == *user
                && page.remotes.len() + 1 == ways.len()
                && page.remotes.values().all(sees)
                && !page.paths.is_empty()
                && page.paths.iter().all(|path| path == way)
        })
    })
}

/// Connections that each page has made so far.
fn connections(samples: &[Sample]) -> BTreeMap<String, u32> {
    samples.last().into_iter().flat_map(|s| &s.pages).map(|page| (page.user.clone(), page.rejoins)).collect()
}

async fn link(gateway: &Replica, id: &CallId) -> Result<String> {
    let path = format!("/v1/rooms/{id}/links");
    let link = gateway.expect(201, "POST", &path, API_KEY, json!({"role": "participant"})).await?;
    Ok(format!("/join/{id}#{}", gateway::text(&link, "linkToken")?))
}

/// Two secrets are good at a time; then the old one is not; then none that there was.
async fn rotation(scene: &Scene, server: &IceServer) -> Result<()> {
    let shared = Shared::of(&scene.cluster);
    let given = Login::Given(server.clone());
    let (old, new) = shared.rotate().await?;
    let minted = |secret: &str, ends| Login::Minted { secret: secret.to_owned(), ends };
    for url in &server.urls {
        for (login, what, expected) in [
            (&given, "what was given before the rotation", 0),
            (&minted(&new, 600), "what is minted with the new secret", 0),
            (&minted(&old, -100), "what has ended, by the old secret", UNAUTHORIZED),
            (&minted(&new, -100), "what has ended, by the new secret", UNAUTHORIZED),
            (&minted("made-up-by-somebody-else", 600), "what somebody made up", UNAUTHORIZED),
        ] {
            let code = turn::ask(url, login, &[]).await?.allocate;
            ensure!(code == expected, "{url}: {code} instead of {expected} to {what}");
        }
    }
    println!("  rotated: what was given before is good, and what is minted with the new secret");

    let began = clock::now();
    shared.retire().await?;
    for url in &server.urls {
        turn::until_refused(url, &given).await?;
        let code = turn::ask(url, &minted(&new, 600), &[]).await?.allocate;
        ensure!(code == 0, "{url}: {code} to what is minted with the new secret");
    }
    println!("  the old secret went: what was given with it is refused {:.1} s later", began.elapsed().as_secs_f64());

    let began = clock::now();
    let anew = shared.revoke().await?;
    for url in &server.urls {
        turn::until_refused(url, &minted(&new, 600)).await?;
        let code = turn::ask(url, &minted(&anew, 600), &[]).await?.allocate;
        ensure!(code == 0, "{url}: {code} to what is minted with the secret that was made anew");
    }
    println!("  everything revoked: refused {:.1} s later", began.elapsed().as_secs_f64());
    Ok(())
}

/// The media nodes are, and nothing else that is private: neither what all have, nor pods that are really there.
async fn who_may_be_reached(scene: &Scene, pool: &str, server: &IceServer) -> Result<()> {
    let mut refused: Vec<String> = PRIVATE.map(str::to_owned).into();
    for pod in scene.cluster.pods().list(&ListParams::default()).await? {
        let status = pod.status.clone().unwrap_or_default();
        // The address of a pod on the machine's network is the machine's.
        refused.extend(status.pod_ip.filter(|ip| status.host_ip.as_ref() != Some(ip)));
    }
    let nodes = scene.ready_nodes(pool, 1).await?;
    let endpoints =
        nodes.first().and_then(|n| n.status.as_ref()?.endpoints.clone()).context("a media node's endpoints")?;
    let reached = endpoints.rtc.iter().filter_map(|at| at.rsplit_once(':')).map(|(ip, _)| ip).next();
    let reached = reached.context("the media node announces an address")?;
    let asked: Vec<&str> = refused.iter().map(String::as_str).chain([reached]).collect();
    let verdict = turn::ask(&server.urls[0], &Login::Given(server.clone()), &asked).await?;
    ensure!(verdict.allocate == 0, "no relay: {}", verdict.allocate);
    for (peer, code) in &verdict.peers {
        let expected = if peer == reached { 0 } else { FORBIDDEN };
        ensure!(*code == expected, "{peer}: {code} instead of {expected}");
    }
    println!("  relayed to {reached}, and to none of {} private addresses", refused.len());
    Ok(())
}

/// The chart's coturn with a certificate, beside the one that is installed: port 443, and the same Redis.
async fn by_tls(scene: &Scene, pool: &str, gateway: &Replica) -> Result<()> {
    certificate(&scene.cluster).await?;
    let deployment = rendered(&scene.cluster).await?;
    scene.cluster.deployments().create(&PostParams::default(), &deployment).await?;
    let ours = watcher::Config::default().labels(&format!("app.kubernetes.io/component={TLS}"));
    let pods = scene.cluster.pods();
    let address = wait::until_all(&pods, ours, "a coturn with TLS", scene::POD_READY, |pods| {
        let ready = pods.values().find(|pod: &&Pod| scene::is_ready(pod))?;
        ready.status.as_ref()?.host_ip.clone()
    })
    .await?;
    let url = format!("turns:{address}:443?transport=tcp");
    let ended = Login::Minted { secret: Shared::of(&scene.cluster).current().await?, ends: -100 };
    let code = turn::ask(&url, &ended, &[]).await?.allocate;
    ensure!(code == UNAUTHORIZED, "{url}: {code} to what has ended");
    let (id, _) = gateway.make_room(pool).await?;
    let people = [("ann", "tls"), ("bob", "udp")];
    let call = Call::relayed(&gateway.address, &link(gateway, &id).await?, &people, Some(&url)).await?;
    let ways = [("ann", "relay by tls"), ("bob", "relay by udp")];
    call.until("media by relays alone", FLOWS, |sample| flows(sample, &ways).then_some(())).await?;
    println!("  a call by {url}");
    call.end().await
}

async fn certificate(cluster: &Cluster) -> Result<()> {
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]);
    openssl.args(["-subj", "/CN=turn.example", "-keyout", "-"]);
    // Both are in what it writes, and whoever reads one skips the other.
    let both = program::output(&mut openssl, "").await?;
    let data = [("tls.crt".to_owned(), both.clone()), ("tls.key".to_owned(), both)].into();
    let mut secret = Secret { string_data: Some(data), ..Default::default() };
    secret.metadata.name = Some(TLS.to_owned());
    cluster.secrets().create(&PostParams::default(), &secret).await.map(drop).context("the certificate")
}

/// What the chart makes of the values that are installed and a certificate, under another name.
async fn rendered(cluster: &Cluster) -> Result<Deployment> {
    let of_release = ["--namespace", SYSTEM, "get", "values", "callplane", "--output", "json"];
    let values = cluster.run("helm", &of_release, "").await?;
    let chart = folder().join("../charts/callplane").display().to_string();
    let ours = format!("turn.host=turn.example,turn.replicas=1,turn.tls.secretName={TLS}");
    let template = ["--namespace", SYSTEM, "template", "callplane", &chart, "--values", "-", "--set", &ours];
    let of_coturn = ["--show-only", "templates/turn/deployment.yaml"];
    let made = cluster.run("helm", &[&template[..], &of_coturn].concat(), &values).await?;
    let mut deployment: Deployment = serde_yaml::from_str(&made)?;
    let component = ("app.kubernetes.io/component".to_owned(), TLS.to_owned());
    deployment.metadata.name = Some(TLS.to_owned());
    deployment.labels_mut().extend([component.clone()]);
    let spec = deployment.spec.as_mut().context("a spec")?;
    spec.selector.match_labels.get_or_insert_default().extend([component.clone()]);
    let labels = spec.template.metadata.get_or_insert_default();
    labels.labels.get_or_insert_default().extend([component]);
    Ok(deployment)
}

async fn remove(cluster: &Cluster) -> Result<()> {
    scene::ignore_missing(cluster.deployments().delete(TLS, &DeleteParams::default()).await.map(drop))?;
    scene::ignore_missing(cluster.secrets().delete(TLS, &DeleteParams::default()).await.map(drop))?;
    let ours = watcher::Config::default().labels(&format!("app.kubernetes.io/component={TLS}"));
    wait::until_all(&cluster.pods(), ours, "coturn with TLS to be gone", scene::POD_READY, |pods| {
        pods.is_empty().then_some(())
    })
    .await
}
