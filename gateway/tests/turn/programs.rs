//! A real Redis and a real coturn on loopback, and as much of an API server as Secrets need.

use std::{
    collections::HashMap,
    fs,
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Path as Named, State},
    http::StatusCode,
    routing::get,
};
use serde_json::{Value, json};

/// Programs that are ready answer within this time.
const READY: Duration = Duration::from_secs(60);
/// How often they are asked. They tell nobody when they are.
const STEP: Duration = Duration::from_millis(20);
pub const REALM: &str = "callplane";
pub const PASSWORD: &str = "a-password-of-redis";

/// A program that ends with the test.
pub struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A directory that goes with the test.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Self {
        let mut name = [0; 8];
        aws_lc_rs::rand::fill(&mut name).unwrap();
        let path = std::env::temp_dir().join(format!("callplane-turn-{:016x}", u64::from_be_bytes(name)));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A port that is free for UDP and TCP.
pub fn free_port() -> u16 {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn run(command: &mut Command, port: u16) -> Running {
    let program = command.get_program().to_string_lossy().into_owned();
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null()).spawn();
    let running =
        Running(child.unwrap_or_else(|error| {
            panic!("{program} does not start ({error}): e2e/cluster/tools.sh unit installs it")
        }));
    for _ in 0..READY.as_millis() / STEP.as_millis() {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return running;
        }
        std::thread::sleep(STEP);
    }
    panic!("{program} does not listen on {port}");
}

pub fn redis(directory: &Path, port: u16) -> Running {
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--requirepass", PASSWORD]);
    run(command.arg("--port").arg(port.to_string()).current_dir(directory), port)
}

pub fn redis_url(port: u16) -> String {
    format!("redis://:{PASSWORD}@127.0.0.1:{port}/0")
}

/// coturn as the chart configures it: with `config`, and `arguments` of the chart or the test.
pub fn turnserver(config: &Path, port: u16, arguments: &[String]) -> Running {
    let mut command = Command::new("turnserver");
    command.arg("-c").arg(config).args(["--use-auth-secret", "--no-cli", "--log-file=stdout", "--no-stdout-log"]);
    command.args(["--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1", "--no-dtls"]);
    command.arg(format!("--realm={REALM}")).arg(format!("--listening-port={port}"));
    command.arg(format!("--pidfile={}", config.with_extension("pid").display()));
    let running = run(command.args(arguments), port);
    // It listens by TCP first.
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(STEP * 10)).unwrap();
    let binding = [&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat();
    for _ in 0..READY.as_millis() / STEP.as_millis() {
        if socket.send(&binding).is_ok() && socket.recv(&mut [0; 512]).is_ok() {
            return running;
        }
        std::thread::sleep(STEP);
    }
    panic!("turnserver does not answer by UDP on {port}");
}

/// Secrets, as an API server keeps them.
#[derive(Clone, Default)]
pub struct Secrets(Arc<Mutex<HashMap<String, Value>>>);

type Answer = (StatusCode, Json<Value>);

impl Secrets {
    /// Serves them.
    pub async fn serve(&self) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new()
            .route("/api/v1/namespaces/{namespace}/secrets", axum::routing::post(create))
            .route("/api/v1/namespaces/{namespace}/secrets/{name}", get(read).put(replace))
            .with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        address
    }

    pub fn change(&self, name: &str, change: impl FnOnce(&mut Value)) {
        change(self.0.lock().unwrap().get_mut(name).unwrap());
    }

    pub fn delete(&self, name: &str) {
        self.0.lock().unwrap().remove(name);
    }

    /// The text under `key`.
    pub fn text(&self, name: &str, key: &str) -> Option<String> {
        use base64::{Engine, engine::general_purpose::STANDARD};
        let secrets = self.0.lock().unwrap();
        let value = secrets.get(name)?["data"][key].as_str()?.to_owned();
        Some(String::from_utf8(STANDARD.decode(value).unwrap()).unwrap())
    }

    fn store(&self, name: &str, mut secret: Value) -> Value {
        let mut secrets = self.0.lock().unwrap();
        let version = secrets
            .get(name)
            .map_or(1, |s| s["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap() + 1);
        secret["metadata"]["resourceVersion"] = version.to_string().into();
        secrets.insert(name.to_owned(), secret.clone());
        secret
    }
}

fn refused(code: StatusCode, reason: &str) -> Answer {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code.as_u16(),
        "reason": reason, "message": reason});
    (code, Json(status))
}

async fn read(State(secrets): State<Secrets>, Named((_, name)): Named<(String, String)>) -> Answer {
    let found = secrets.0.lock().unwrap().get(&name).cloned();
    found.map_or_else(|| refused(StatusCode::NOT_FOUND, "NotFound"), |secret| (StatusCode::OK, Json(secret)))
}

async fn create(State(secrets): State<Secrets>, Json(secret): Json<Value>) -> Answer {
    let name = secret["metadata"]["name"].as_str().unwrap().to_owned();
    if secrets.0.lock().unwrap().contains_key(&name) {
        return refused(StatusCode::CONFLICT, "Conflict");
    }
    (StatusCode::CREATED, Json(secrets.store(&name, secret)))
}

async fn replace(
    State(secrets): State<Secrets>,
    Named((_, name)): Named<(String, String)>,
    Json(secret): Json<Value>,
) -> Answer {
    let known = secrets.0.lock().unwrap().get(&name).cloned();
    match known {
        None => refused(StatusCode::NOT_FOUND, "NotFound"),
        Some(known) if known["metadata"]["resourceVersion"] != secret["metadata"]["resourceVersion"] => {
            refused(StatusCode::CONFLICT, "Conflict")
        }
        Some(_) => (StatusCode::OK, Json(secrets.store(&name, secret))),
    }
}
