//! The gateway's replicas, each asked by itself, as a backend and as its users do.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use callplane_crds::{CallId, CallRoom};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
    runtime::watcher,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    cluster::{Cluster, SYSTEM},
    media::MediaApi,
    scene::{self, Scene},
    wait,
};

/// Labels of the gateway's pods.
pub const GATEWAY: &str = "app.kubernetes.io/component=gateway";
/// The scenarios' API key.
pub const API_KEY: &str = "an-api-key-of-the-scenario-that-is-long-enough";
/// SHA-256 of it.
pub const DIGEST: &str = "5ae2a6e43eef7578e1428ea800e6ac87f44869f4071a791f019b6169484a71b6";
/// Longer than the gateway waits for anything.
pub const ANSWER: Duration = Duration::from_secs(30);
/// Where the gateway finds the digests of API keys.
const API_KEYS: &str = "callplane-api-keys";
/// Until a gateway has a Secret that was changed: a kubelet that was without the API server goes by what it last knew.
pub const MOUNTED: Duration = Duration::from_secs(180);
/// Where the gateway makes rooms.
const ROOMS: &str = "default";

/// An `RTCIceServer`, as the gateway tells it.
#[derive(Clone, Debug, Deserialize)]
pub struct IceServer {
    /// `turn:` URLs.
    pub urls: Vec<String>,
    /// User name.
    pub username: String,
    /// Password.
    pub credential: String,
}

/// One replica of the gateway.
pub struct Replica {
    http: reqwest::Client,
    /// `IP:PORT`.
    pub address: String,
}

impl Replica {
    /// What it answers: the status and the body.
    ///
    /// # Errors
    /// When it does not answer in JSON.
    pub async fn ask(&self, method: &str, path: &str, bearer: &str, body: Value) -> Result<(u16, Value)> {
        let mut request = self.http.request(method.parse()?, format!("http://{}{path}", self.address));
        if !bearer.is_empty() {
            request = request.bearer_auth(bearer);
        }
        if !body.is_null() {
            request = request.json(&body);
        }
        let answer = request.send().await.with_context(|| format!("{method} {path} at {}", self.address))?;
        let (status, text) = (answer.status().as_u16(), answer.text().await?);
        Ok((status, serde_json::from_str(&text).with_context(|| format!("{method} {path}: {status} {text}"))?))
    }

    /// What it answers with `status`.
    ///
    /// # Errors
    /// When it answers otherwise.
    pub async fn expect(&self, status: u16, method: &str, path: &str, bearer: &str, body: Value) -> Result<Value> {
        let (answered, answer) = self.ask(method, path, bearer, body).await?;
        ensure!(answered == status, "{method} {path}: {answered} instead of {status}: {answer}");
        Ok(answer)
    }

    /// Waits until it has the Secret with the API key. A kubelet that was without the API server goes by what it last knew.
    async fn knows_api_key(&self) -> Result<()> {
        let path = format!("/v1/rooms/{}/end", CallId::new(ROOMS, "nobody-made-this"));
        wait::polled(&format!("the gateway at {} to know the API key", self.address), MOUNTED, || async {
            let (status, _) = self.ask("PUT", &path, API_KEY, Value::Null).await?;
            Ok((status != 401).then_some(()))
        })
        .await
    }

    /// What its metric `name` is.
    ///
    /// # Errors
    /// When it has none of that name.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        let url = format!("http://{}/metrics", self.address.replace(":8080", ":9090"));
        let text = self.http.get(&url).send().await?.error_for_status()?.text().await?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.with_context(|| format!("no metric {name} at {url}"))?.trim().parse().context(name.to_owned())
    }

    /// Makes a room on `pool` for calls through a media node.
    ///
    /// # Errors
    /// When the gateway does not.
    pub async fn make_room(&self, pool: &str) -> Result<(CallId, Value)> {
        let created = self.expect(201, "POST", "/v1/rooms", API_KEY, new_room(pool)).await?;
        Ok((text(&created, "roomId")?.parse()?, created))
    }

    /// A token for `user`, and what comes with it.
    ///
    /// # Errors
    /// When the gateway gives none.
    pub async fn admit(&self, id: &CallId, user: &str) -> Result<Value> {
        self.expect(200, "POST", &format!("/v1/rooms/{id}/join"), API_KEY, json!({"userId": user})).await
    }

    /// A token for `user`.
    ///
    /// # Errors
    /// When the gateway gives none.
    pub async fn join(&self, id: &CallId, user: &str) -> Result<String> {
        text(&self.admit(id, user).await?, "token")
    }

    /// The TURN servers that `user` is told of.
    ///
    /// # Errors
    /// When `user` is not let in.
    pub async fn ice_servers(&self, id: &CallId, user: &str) -> Result<Vec<IceServer>> {
        let admitted = self.admit(id, user).await?;
        Ok(serde_json::from_value(admitted["iceServers"].clone())?)
    }

    /// Enters the call through this replica, as a client does, and hears of it.
    ///
    /// # Errors
    /// When `user` is not let in.
    pub async fn enter(&self, id: &CallId, user: &str, token: &str) -> Result<()> {
        let api = MediaApi::at(&format!("http://{}", self.address))?;
        let mut events = api.events(id, token).await.with_context(|| format!("{user}'s events of {id}"))?;
        let room = events.until("room", ANSWER).await?;
        ensure!(room["participants"].to_string().contains(user), "{user} is not in {room}");
        let entered = api.join(id, token).await?;
        ensure!(entered.is_ok(), "{user} was refused: {entered:?}");
        Ok(())
    }
}

/// What a backend says to make a room on `pool` for calls through a media node.
pub fn new_room(pool: &str) -> Value {
    json!({"hostId": "ann", "settings": {"maxParticipants": 4, "pool": pool, "topology": {"mode": "SFU"}}})
}

/// The text in `field` of an answer.
///
/// # Errors
/// When there is none.
pub fn text(answer: &Value, field: &str) -> Result<String> {
    Ok(answer[field].as_str().with_context(|| format!("no {field} in {answer}"))?.to_owned())
}

/// Plays at both replicas of the gateway, and takes the rooms away that were made on `pool` by REST. That scenarios may call
/// stays: they share the key.
///
/// # Errors
/// When `play` fails, or there are not two replicas that let the scenario call in time.
pub async fn with_replicas(
    scene: &Scene,
    pool: &str,
    play: impl AsyncFnOnce([Replica; 2]) -> Result<()>,
) -> Result<()> {
    let replicas = replicas(scene).await?;
    let outcome = match <[Replica; 2]>::try_from(replicas) {
        Ok(both) => play(both).await,
        Err(other) => Err(anyhow!("there are {} gateways", other.len())),
    };
    outcome.and(leave(&scene.cluster, pool).await)
}

/// `IP:PORT` of the Service in front of all replicas, as this machine reaches it.
///
/// # Errors
/// When there is none.
pub async fn service(cluster: &Cluster) -> Result<String> {
    let services: Api<Service> = Api::namespaced(cluster.client.clone(), SYSTEM);
    let service = services.get("callplane-gateway").await.context("the gateway's Service")?;
    let ip = service.spec.and_then(|s| s.cluster_ip).context("the gateway's Service has an address")?;
    Ok(format!("{ip}:80"))
}

/// Lets scenarios call, and waits for all replicas to know that.
async fn replicas(scene: &Scene) -> Result<Vec<Replica>> {
    let key = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": API_KEYS},
        "stringData": {"e2e": DIGEST},
    });
    let apply = PatchParams::apply("e2e").force();
    scene.cluster.secrets().patch(API_KEYS, &apply, &Patch::Apply(key)).await?;
    let ours = ListParams::default().labels(GATEWAY);
    let deployments = scene.cluster.deployments().list(&ours).await?;
    let count =
        deployments.iter().filter_map(|d| d.spec.as_ref()?.replicas).next().context("the gateway's Deployment")?;
    let count = usize::try_from(count)?;
    let config = watcher::Config::default().labels(GATEWAY);
    let pods = scene.cluster.pods();
    let pods = wait::until_all(&pods, config, "all gateways", scene::POD_READY, |pods| {
        let ready: Vec<Pod> = pods.values().filter(|pod| scene::is_ready(pod)).cloned().collect();
        (ready.len() == count).then_some(ready)
    });
    let http = reqwest::Client::builder().no_proxy().timeout(ANSWER).build()?;
    let ip = |pod: &Pod| pod.status.as_ref().and_then(|s| s.pod_ip.clone()).context("a ready pod has an address");
    let replica = |pod: &Pod| anyhow::Ok(Replica { http: http.clone(), address: format!("{}:8080", ip(pod)?) });
    let replicas: Vec<Replica> = pods.await?.iter().map(replica).collect::<Result<_>>()?;
    for replica in &replicas {
        replica.knows_api_key().await?;
    }
    Ok(replicas)
}

/// Takes away the rooms that were made on `pool` by REST: they are in a namespace that stays.
async fn leave(cluster: &Cluster, pool: &str) -> Result<()> {
    let rooms: Api<CallRoom> = cluster.rooms(ROOMS);
    for room in rooms.list(&ListParams::default()).await? {
        if room.spec.pool.as_deref() == Some(pool) {
            scene::ignore_missing(rooms.delete(&room.name_any(), &DeleteParams::default()).await.map(drop))?;
        }
    }
    Ok(())
}

/// Checks that no gateway wrote any of `secrets` into its log.
///
/// # Errors
/// When one did.
pub async fn kept_silent(cluster: &Cluster, secrets: &[&str]) -> Result<()> {
    for pod in cluster.pods().list(&ListParams::default().labels(GATEWAY)).await? {
        let log = cluster.pods().logs(&pod.name_any(), &Default::default()).await.unwrap_or_default();
        for secret in secrets {
            ensure!(!log.contains(secret), "a secret is in the log of {SYSTEM}/{}", pod.name_any());
        }
    }
    Ok(())
}
