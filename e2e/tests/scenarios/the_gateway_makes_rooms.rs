//! A backend makes a room by REST at one replica of the gateway, people join it at the other and reach its media node
//! through either; a room made with kubectl is joined the same way; and joining goes on while the API server is away.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use callplane_crds::CallId;
use callplane_e2e::{Scene, clock, cluster::SYSTEM, machine, media::MediaApi, scenario, scene, wait};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, PostParams},
    runtime::watcher,
};
use serde_json::{Value, json};

/// Labels of the gateway's pods.
const GATEWAY: &str = "app.kubernetes.io/component=gateway";
/// Where the gateway finds the digests of API keys.
const API_KEYS: &str = "callplane-api-keys";
const API_KEY: &str = "an-api-key-of-the-scenario-that-is-long-enough";
/// SHA-256 of it.
const DIGEST: &str = "5ae2a6e43eef7578e1428ea800e6ac87f44869f4071a791f019b6169484a71b6";
/// Longer than the gateway waits for anything.
const ANSWER: Duration = Duration::from_secs(30);
/// Until rooms can be made again after an outage. Most of it is kube-proxy's.
const BACK: Duration = Duration::from_secs(90);

/// One replica of the gateway.
struct Replica {
    http: reqwest::Client,
    url: String,
}

impl Replica {
    async fn ask(&self, method: &str, path: &str, bearer: &str, body: Value) -> Result<(u16, Value)> {
        let mut request = self.http.request(method.parse()?, format!("{}{path}", self.url));
        if !bearer.is_empty() {
            request = request.bearer_auth(bearer);
        }
        if !body.is_null() {
            request = request.json(&body);
        }
        let answer = request.send().await.with_context(|| format!("{method} {path} at {}", self.url))?;
        let (status, text) = (answer.status().as_u16(), answer.text().await?);
        Ok((status, serde_json::from_str(&text).with_context(|| format!("{method} {path}: {status} {text}"))?))
    }

    async fn expect(&self, status: u16, method: &str, path: &str, bearer: &str, body: Value) -> Result<Value> {
        let (answered, answer) = self.ask(method, path, bearer, body).await?;
        ensure!(answered == status, "{method} {path}: {answered} instead of {status}: {answer}");
        Ok(answer)
    }

    /// A token for `user`, and what comes with it.
    async fn join(&self, id: &CallId, user: &str) -> Result<String> {
        let path = format!("/v1/rooms/{id}/join");
        text(&self.expect(200, "POST", &path, API_KEY, json!({"userId": user})).await?, "token")
    }

    /// Enters the call through this replica, as a client does, and hears of it.
    async fn enter(&self, id: &CallId, user: &str, token: &str) -> Result<()> {
        let api = MediaApi::at(&self.url)?;
        let mut events = api.events(id, token).await.with_context(|| format!("{user}'s events of {id}"))?;
        let room = events.until("room", ANSWER).await?;
        ensure!(room["participants"].to_string().contains(user), "{user} is not in {room}");
        let entered = api.join(id, token).await?;
        ensure!(entered.is_ok(), "{user} was refused: {entered:?}");
        Ok(())
    }
}

fn text(answer: &Value, field: &str) -> Result<String> {
    Ok(answer[field].as_str().with_context(|| format!("no {field} in {answer}"))?.to_owned())
}

/// Lets the scenario call, and waits for all replicas to know that.
async fn replicas(scene: &Scene) -> Result<Vec<Replica>> {
    let secrets = scene.cluster.secrets();
    scene::ignore_missing(secrets.delete(API_KEYS, &DeleteParams::default()).await.map(drop))?;
    let mut secret = Secret { string_data: Some([("e2e".to_owned(), DIGEST.to_owned())].into()), ..Default::default() };
    secret.metadata.name = Some(API_KEYS.to_owned());
    secrets.create(&PostParams::default(), &secret).await?;
    // A new pod has the Secret at once; an old one only after a minute or so.
    let ours = ListParams::default().labels(GATEWAY);
    let old: Vec<_> = scene.cluster.pods().list(&ours).await?.iter().map(ResourceExt::name_any).collect();
    for pod in &old {
        scene.cluster.pods().delete(pod, &DeleteParams::default()).await?;
    }
    let config = watcher::Config::default().labels(GATEWAY);
    let all = scene.cluster.pods();
    let pods = wait::until_all(&all, config, "two new gateways", scene::POD_READY, |pods| {
        let ready: Vec<Pod> =
            pods.values().filter(|pod| !old.contains(&pod.name_any()) && is_ready(pod)).cloned().collect();
        (ready.len() == 2).then_some(ready)
    });
    let http = reqwest::Client::builder().no_proxy().timeout(ANSWER).build()?;
    let ip = |pod: &Pod| pod.status.as_ref().and_then(|s| s.pod_ip.clone()).context("a ready pod has an address");
    pods.await?.iter().map(|pod| Ok(Replica { http: http.clone(), url: format!("http://{}:8080", ip(pod)?) })).collect()
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

#[test]
fn the_gateway_makes_rooms_and_lets_people_in_also_while_the_api_server_is_away() {
    scenario("gateway", |scene| async move {
        scene.operator_settled().await?;
        let pool = scene.pool(2, |_| {}).await?;
        let replicas = replicas(&scene).await?;
        let [one, two] = replicas.as_slice() else { anyhow::bail!("there are {} gateways", replicas.len()) };
        let outcome = play(&scene, &pool, one, two).await;
        // These are in a namespace that stays.
        let rooms: Api<callplane_crds::CallRoom> = scene.cluster.rooms("default");
        for room in rooms.list(&ListParams::default()).await? {
            if room.spec.pool.as_ref() == Some(&pool) {
                rooms.delete(&room.name_any(), &DeleteParams::default()).await?;
            }
        }
        scene.cluster.secrets().delete(API_KEYS, &DeleteParams::default()).await?;
        outcome
    });
}

async fn play(scene: &Scene, pool: &str, one: &Replica, two: &Replica) -> Result<()> {
    let body =
        || json!({"hostId": "ann", "settings": {"maxParticipants": 4, "pool": pool, "topology": {"mode": "SFU"}}});
    let began = clock::now();
    let created = one.expect(201, "POST", "/v1/rooms", API_KEY, body()).await?;
    println!("  a room by REST could be joined after {:?}", began.elapsed());
    let id: CallId = text(&created, "roomId")?.parse()?;
    one.enter(&id, "ann", &text(&created, "joinToken")?).await?;
    let bob = two.join(&id, "bob").await?;
    two.enter(&id, "bob", &bob).await?;
    let path = format!("/v1/rooms/{id}");
    let link = one.expect(201, "POST", &format!("{path}/links"), API_KEY, json!({})).await?;
    let guest = json!({"linkToken": link["linkToken"], "displayName": "Eve"});
    let joined = two.expect(200, "POST", &format!("{path}/join"), "", guest.clone()).await?;
    one.enter(&id, &text(&joined, "userId")?, &text(&joined, "token")?).await?;
    two.expect(401, "POST", &format!("{path}/join"), "", json!({"userId": "eve"})).await?;

    scene.create("by-hand", scene::room_on(pool, 4)).await?;
    scene.ready("by-hand", scene::ROOM_READY).await?;
    let by_hand = scene.call_id("by-hand");
    let token = two.join(&by_hand, "carl").await?;
    one.enter(&by_hand, "carl", &token).await?;
    let refused = one.expect(403, "PUT", &format!("/v1/rooms/{by_hand}/end"), API_KEY, Value::Null).await?;
    ensure!(refused["code"] == "kubernetes-refused", "the gateway has no rights in {}: {refused}", scene.namespace);

    let outage = machine::Outage::of_api_server().await?;
    for (replica, room, user) in [(one, &id, "dora"), (two, &by_hand, "emil")] {
        replica.enter(room, user, &replica.join(room, user).await?).await?;
    }
    one.expect(200, "POST", &format!("{path}/join"), "", guest.clone()).await?;
    let away = two.expect(503, "POST", "/v1/rooms", API_KEY, body()).await?;
    ensure!(away["code"] == "kubernetes-unavailable", "{away}");
    outage.end().await?;

    wait::within("a room by REST after the outage", BACK, async {
        loop {
            match two.ask("POST", "/v1/rooms", API_KEY, body()).await? {
                (201, _) => return Ok(()),
                (202 | 503, _) => tokio::time::sleep(Duration::from_millis(500)).await,
                other => anyhow::bail!("{other:?}"),
            }
        }
    })
    .await?;
    one.expect(200, "PUT", &format!("{path}/end"), API_KEY, Value::Null).await?;
    wait::until(&scene.cluster.rooms(&id.namespace), &id.name, "to be over", scene::ROOM_READY, |room| {
        room.is_some_and(callplane_crds::CallRoom::is_over).then_some(())
    })
    .await?;
    wait::within("the end to be known at both gateways", scene::ROOM_READY, async {
        for replica in [one, two] {
            while replica.ask("POST", &format!("{path}/join"), "", guest.clone()).await?.0 != 410 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    })
    .await?;
    // What it bears it does not tell.
    for pod in scene.cluster.pods().list(&ListParams::default().labels(GATEWAY)).await? {
        let log = scene.cluster.pods().logs(&pod.name_any(), &Default::default()).await.unwrap_or_default();
        for secret in [API_KEY, bob.as_str(), DIGEST] {
            ensure!(!log.contains(secret), "a secret is in the log of {SYSTEM}/{}", pod.name_any());
        }
    }
    Ok(())
}
