//! Nothing that is secret gets out. A gateway that logs all that it can is used, misused, and deprived of what it needs; then
//! what it logged, measured and wrote is searched for everything that is nobody's business.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use callplane_operator::keys::{JoinKey, PRIVATE};
use serde_json::{Value, json};
use sqlx::AnyPool;

use crate::{
    kubernetes::{Kubernetes, p2p, route},
    peer::Peer,
    postgres::Postgres,
    redis_server::Server,
    world::{API_KEY, Answer, Node, answer, answer_to, sha256},
};

const WRONG_KEY: &str = "fedcba9876543210-a-key-of-somebody-else";
const ROOM_PASSWORD: &str = "xyzzy-the-rooms-password";
const WRONG_PASSWORD: &str = "plugh-a-guess-at-it";
const TURN_SECRET: &str = "turn-shared-secret-of-the-fleet";
const REDIS_PASSWORD: &str = "redis-password-of-the-test";
const DATABASE_PASSWORD: &str = "database-password-of-the-test";
const ICE_PASSWORD: &str = "ice-pwd-of-a-description";
const CHAT: &str = "what-is-said-among-friends";
const IDEMPOTENCY_KEY: &str = "order-4711-of-a-customer";
const ROOM: &str = "team.standup";

/// The gateway as it is installed, with everything in its log.
struct Program {
    process: Child,
    address: SocketAddr,
    admin: SocketAddr,
    log: PathBuf,
    client: reqwest::Client,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Program {
    async fn start(directory: PathBuf, config: &kube::Config, database: &Postgres, redis: &Server) -> Self {
        for folder in ["keys", "turn"] {
            fs::create_dir_all(directory.join(folder)).unwrap();
        }
        fs::write(directory.join("keys/shop"), sha256(API_KEY)).unwrap();
        fs::write(directory.join("turn/secret"), TURN_SECRET).unwrap();
        fs::write(directory.join("turn/urls"), "turn:turn.example:3478?transport=udp\n").unwrap();
        let cluster = json!([{"name": "c", "cluster": {"server": config.cluster_url.to_string()}}]);
        let contexts = json!([{"name": "c", "context": {"cluster": "c", "user": "u"}}]);
        let kubeconfig = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c", "clusters": cluster,
            "contexts": contexts, "users": [{"name": "u", "user": {}}]});
        fs::write(directory.join("kubeconfig"), kubeconfig.to_string()).unwrap();
        let log = directory.join("log");
        // Somebody else may have taken the ports meanwhile.
        for _ in 0..5 {
            let (address, admin) = (free(), free());
            let file = fs::File::create(&log).unwrap();
            let mut command = Command::new(env!("CARGO_BIN_EXE_callplane-gateway"));
            for proxy in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"] {
                command.env_remove(proxy);
            }
            command.env("KUBECONFIG", directory.join("kubeconfig")).env("CALLPLANE_REDIS_URL", redis.url());
            command.args([
                "--log",
                "trace",
                "--rooms-namespace",
                "team",
                "--ready-timeout",
                "1s",
                "--shutdown-delay",
                "0s",
            ]);
            command.arg("--listen").arg(address.to_string()).arg("--admin-listen").arg(admin.to_string());
            command.arg("--join-keys").arg(&directory).arg("--api-keys").arg(directory.join("keys"));
            command.arg("--turn-secret").arg(directory.join("turn"));
            command.arg("--database-url-file").arg(database.url_file());
            let process = command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            let mut program = Self { process, address, admin, log: log.clone(), client };
            if program.is_ready().await {
                return program;
            }
        }
        panic!("it does not start: {}", fs::read_to_string(&log).unwrap());
    }

    /// Waits until it is; it may also end.
    async fn is_ready(&mut self) -> bool {
        let url = format!("http://{}/readyz", self.admin);
        let wait = async {
            while self.process.try_wait().unwrap().is_none() {
                let answered = self.client.get(&url).send().await;
                if answered.is_ok_and(|answer| answer.status() == 200) {
                    return true;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            false
        };
        tokio::time::timeout(Duration::from_secs(120), wait).await.unwrap_or(false)
    }

    fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method.parse().unwrap(), format!("http://{}{path}", self.address))
    }

    async fn send(&self, method: &str, path: &str, bearer: &str, body: Value) -> Answer {
        answer_to(self.request(method, path), bearer, body).await
    }

    /// Asks as the backend again and again until the answer has `status`.
    async fn until(&self, status: u16, method: &str, path: &str, body: Value) -> Answer {
        let wait = async {
            loop {
                let answer = self.send(method, path, API_KEY, body.clone()).await;
                if answer.status == status {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), wait)
            .await
            .unwrap_or_else(|_| panic!("{method} {path}: {status}"))
    }

    async fn metrics(&self) -> String {
        let url = format!("http://{}/metrics", self.admin);
        self.client.get(url).send().await.unwrap().text().await.unwrap()
    }

    /// Lets it end, and gives all that it logged.
    async fn stop(mut self) -> String {
        Command::new("kill").arg(self.process.id().to_string()).status().unwrap();
        let wait = async {
            while self.process.try_wait().unwrap().is_none() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), wait).await.expect("it ends");
        fs::read_to_string(&self.log).unwrap()
    }
}

/// What is nobody's business, and what it is called.
#[derive(Default)]
struct Secrets(Vec<(String, String)>);

impl Secrets {
    fn add(&mut self, name: &str, secret: &str) {
        assert!(secret.len() > 15, "{name} is too short to be looked for: {secret:?}");
        self.0.push((name.to_owned(), secret.to_owned()));
    }

    /// A token, and what makes it one.
    fn token(&mut self, name: &str, token: &str) -> String {
        self.add(name, token);
        self.add(&format!("signature of {name}"), token.rsplit('.').next().unwrap());
        token.to_owned()
    }

    /// What somebody was let in with.
    fn joined(&mut self, name: &str, joined: &Answer) -> String {
        assert_eq!(joined.status, 200, "{joined:?}");
        self.add(&format!("TURN credential of {name}"), joined.body["iceServers"][0]["credential"].as_str().unwrap());
        self.token(&format!("join token of {name}"), &joined.text("token"))
    }

    /// Fails if `text` has any of them, in whichever of the ways that programs write bytes.
    fn must_not_be_in(&self, place: &str, text: &str) {
        let lower = text.to_lowercase();
        let mut found = Vec::new();
        for (name, secret) in &self.0 {
            let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
            let numbers = format!("{:?}", secret.as_bytes());
            let base64 = STANDARD.encode(secret);
            let is_there = text.contains(secret.as_str())
                || lower.contains(&hex)
                || text.contains(numbers.trim_matches(['[', ']']))
                || text.contains(base64.trim_end_matches('='));
            if is_there {
                let at = text.lines().find(|line| line.contains(secret.as_str()) || line.to_lowercase().contains(&hex));
                found.push(format!("{name}: {:.400}", at.unwrap_or_default()));
            }
        }
        assert!(found.is_empty(), "{place}:\n{}", found.join("\n"));
    }
}

#[tokio::test]
async fn nothing_secret_is_logged_measured_or_written() {
    let (postgres, mut redis) = (Postgres::start(), Server::with_password(REDIS_PASSWORD));
    let url = postgres.url();
    fs::write(postgres.url_file(), url.replace("callplane@", &format!("callplane:{DATABASE_PASSWORD}@"))).unwrap();
    let (kubernetes, config) = Kubernetes::start().await;
    let mut name = [0; 8];
    aws_lc_rs::rand::fill(&mut name).unwrap();
    let directory = std::env::temp_dir().join(format!("callplane-secrets-{:016x}", u64::from_be_bytes(name)));
    fs::create_dir_all(&directory).unwrap();
    let join_key = JoinKey::generate().unwrap().pem;
    fs::write(directory.join(PRIVATE), &join_key).unwrap();
    let gateway = Program::start(directory.clone(), &config, &postgres, &redis).await;

    let mut secrets = Secrets::default();
    for (name, secret) in [
        ("API key", API_KEY),
        ("wrong API key", WRONG_KEY),
        ("password of the room", ROOM_PASSWORD),
        ("wrong password", WRONG_PASSWORD),
        ("TURN secret", TURN_SECRET),
        ("password of Redis", REDIS_PASSWORD),
        ("password of the database", DATABASE_PASSWORD),
        ("ICE password", ICE_PASSWORD),
        ("line of the chat", CHAT),
        ("Idempotency-Key", IDEMPOTENCY_KEY),
        ("join key", join_key.lines().nth(1).unwrap()),
    ] {
        secrets.add(name, secret);
    }

    // A room with all that can be asked of people.
    let settings = json!({"password": ROOM_PASSWORD, "consent": {"required": true}});
    let body = json!({"hostId": "ann", "name": "standup", "settings": settings});
    let create = gateway.request("POST", "/v1/rooms").header("idempotency-key", IDEMPOTENCY_KEY).bearer_auth(API_KEY);
    let created = answer(create.json(&body)).await;
    assert_eq!(created.status, 202, "{created:?}");
    assert_eq!(gateway.send("POST", "/v1/rooms", WRONG_KEY, body.clone()).await.status, 401);
    let key = kubernetes.object("secrets", "callplane-system", "callplane-room-passwords").unwrap();
    let key = key["data"].as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned();
    secrets.add("key of passwords", &key);
    let key: String = STANDARD.decode(key).unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
    secrets.add("key of passwords in hexadecimal", &key);
    kubernetes.route("team", "standup", p2p(1, "Scheduled"), None);

    // Consents, and joins that are right and wrong.
    let consent = |status: &str| json!({"meetingId": ROOM, "consentType": "recording_ai", "status": status});
    let (join, path) = (format!("/v1/rooms/{ROOM}/join"), "/v1/users/consent");
    let mut tokens = Vec::new();
    for user in ["ann", "bob"] {
        let mut says = consent("accepted");
        says["userId"] = json!(user);
        let given = gateway.until(200, "POST", path, says).await.text("consentToken");
        let given = secrets.token(&format!("consent token of {user}"), &given);
        let entering =
            json!({"userId": user, "consentToken": given, "password": ROOM_PASSWORD, "displayName": "Somebody"});
        let mut wrong = entering.clone();
        wrong["password"] = json!(WRONG_PASSWORD);
        if user != "ann" {
            assert_eq!(gateway.send("POST", &join, API_KEY, wrong).await.code(), "wrong-password");
        }
        let joined = gateway.until(200, "POST", &join, entering).await;
        tokens.push(secrets.joined(user, &joined));
    }
    let [host, bob] = tokens.as_slice() else { unreachable!("two were let in") };
    let link = gateway.send("POST", &format!("/v1/rooms/{ROOM}/links"), host, json!({})).await;
    let link_token = secrets.token("link token", &link.text("linkToken"));
    let mut says = consent("accepted");
    says["linkToken"] = json!(link_token);
    let given = gateway.send("POST", path, "", says).await.text("consentToken");
    let given = secrets.token("consent token of a guest", &given);
    let entering = |password: &str| json!({"linkToken": link_token, "consentToken": given, "password": password});
    assert_eq!(gateway.send("POST", &join, "", entering(WRONG_PASSWORD)).await.code(), "wrong-password");
    let guest = gateway.send("POST", &join, "", entering(ROOM_PASSWORD)).await;
    let guest = secrets.joined("a guest", &guest);
    // Tokens in the wrong places, and broken ones.
    for wrong in [&guest[..guest.len() - 2], &link_token, &given] {
        assert_eq!(gateway.send("GET", &format!("/v1/rooms/{ROOM}"), wrong, Value::Null).await.status, 401);
    }
    let bodies = [format!("{{\"password\": \"{ROOM_PASSWORD}\""), format!("{{\"pass\": \"{ROOM_PASSWORD}\"}}")];
    for body in bodies {
        let request = gateway.request("POST", &join).bearer_auth(API_KEY).header("content-type", "application/json");
        assert_eq!(answer(request.body(body)).await.status, 400);
    }

    // In the call, and beside it.
    let (mut ann, joined) = Peer::joined(gateway.address, ROOM, host).await;
    secrets.token("token of call:joined", joined["token"].as_str().unwrap());
    secrets.add("session", joined["session"].as_str().unwrap());
    let (mut peer, joined) = Peer::joined(gateway.address, ROOM, bob).await;
    secrets.add("another session", joined["session"].as_str().unwrap());
    let refreshed = peer.ask("refresh-token", json!({})).await;
    secrets.token("refreshed token", refreshed["token"].as_str().unwrap());
    peer.ask("chat", json!({"text": CHAT})).await;
    assert_eq!(ann.expect("chat").await["text"], CHAT);
    let sdp = format!("v=0\r\na=ice-pwd:{ICE_PASSWORD}\r\n");
    peer.ask("webrtc:offer", json!({"targetUserId": "ann", "sdp": sdp, "epoch": 1})).await;
    ann.expect("webrtc:offer").await;
    let mut stranger = Peer::connect(gateway.address).await;
    let wrong = json!({"roomId": ROOM, "token": link_token});
    assert_eq!(stranger.ask("join-room", wrong).await["error"]["code"], "credentials-invalid");
    ann.ask("host:lock", json!({"locked": true})).await;

    // Through a media node.
    let node = Node::start().await;
    kubernetes.node("mn-a", &node.url);
    kubernetes.route("team", "standup", route("mn-a", 2), None);
    let switch = ann.expect("call:mode-switch").await;
    let of_node = secrets.token("token of call:mode-switch", switch["token"].as_str().unwrap());
    let proxied = gateway.send("GET", &format!("/api/rooms/{ROOM}"), &of_node, Value::Null).await;
    assert_eq!(proxied.status, 200, "{proxied:?}");
    ann.expect("room").await;

    // Away with everybody, and with what it relies on.
    assert_eq!(gateway.send("POST", path, bob, consent("declined")).await.status, 200);
    assert_eq!(peer.until_over().await.last().unwrap().0, "call:removed");
    let links = format!("/v1/rooms/{ROOM}/links/{}", link.text("linkId"));
    assert_eq!(gateway.send("DELETE", &links, API_KEY, Value::Null).await.status, 204);
    gateway.until(200, "GET", &format!("/v1/rooms/{ROOM}/consents"), Value::Null).await;
    let kept = kept(&url).await;
    let metrics = gateway.metrics().await;
    redis.kill();
    drop(postgres);
    gateway.until(503, "GET", &format!("/v1/rooms/{ROOM}/consents"), Value::Null).await;
    kubernetes.is_up(false);
    gateway.until(503, "PUT", &format!("/v1/rooms/{ROOM}/end"), Value::Null).await;
    kubernetes.is_up(true);
    gateway.until(200, "PUT", &format!("/v1/rooms/{ROOM}/end"), Value::Null).await;
    let later = gateway.metrics().await;
    let log = gateway.stop().await;

    // It was all looked at that there is.
    for known in ["\"level\":\"TRACE\"", "/v1/rooms/{id}/join", "the database could not be asked", "Redis is away"] {
        assert!(log.contains(known), "{known} is not in the log of {} bytes", log.len());
    }
    assert!(metrics.contains("/v1/users/consent") && kept.contains("recording_ai"), "{metrics} {kept}");
    assert!(kubernetes.dump_without_secrets().contains("callplane.io/password-hash"));
    for (place, text) in [
        ("the log", &log),
        ("the metrics", &metrics),
        ("the metrics at the end", &later),
        ("the records", &kept),
        ("objects", &kubernetes.dump_without_secrets()),
    ] {
        secrets.must_not_be_in(place, text);
    }
    fs::remove_dir_all(&directory).unwrap();
}

/// All of the database, as text, once the last thing that is waited for is there.
async fn kept(url: &str) -> String {
    sqlx::any::install_default_drivers();
    let pool = AnyPool::connect(url).await.unwrap();
    let wait = async {
        let revoked = "SELECT id FROM callplane_audit WHERE action = 'revoke-link'";
        while sqlx::query(revoked).fetch_all(&pool).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect("it is written");
    let mut all = String::new();
    for rows in [
        "SELECT COALESCE(string_agg(CAST(t AS TEXT), ' '), '') FROM callplane_rooms t",
        "SELECT COALESCE(string_agg(CAST(t AS TEXT), ' '), '') FROM callplane_participants t",
        "SELECT COALESCE(string_agg(CAST(t AS TEXT), ' '), '') FROM callplane_consents t",
        "SELECT COALESCE(string_agg(CAST(t AS TEXT), ' '), '') FROM callplane_audit t",
    ] {
        all += &sqlx::query_scalar::<_, String>(rows).fetch_one(&pool).await.unwrap();
    }
    pool.close().await;
    all
}
