//! The program itself: its command line, its ports, and how it ends.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::{
    net::{SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use common::scratch;
use reqwest::StatusCode;
use rtc::stun::{
    attributes::ATTR_USERNAME,
    fingerprint::FINGERPRINT,
    integrity::MessageIntegrity,
    message::{BINDING_REQUEST, BINDING_SUCCESS, Message, TransactionId},
    textattrs::TextAttribute,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

const PATIENCE: Duration = Duration::from_secs(20);

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_callplane-media-node"));
    command.kill_on_drop(true).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn output(arguments: &[&str]) -> Output {
    program().args(arguments).output().await.unwrap()
}

struct Node {
    child: Child,
    keys: PathBuf,
    api: String,
    admin: String,
    client: reqwest::Client,
}

impl Node {
    async fn start(arguments: &[&str]) -> Self {
        let keys = scratch();
        assert!(output(&["keygen", "--out", keys.to_str().unwrap()]).await.status.success());
        let mut command = program();
        command.args(["--standalone", "--api-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
        command.args(["--rtc-listen", "127.0.0.1:0", "--workers", "2", "--public-keys"]);
        let mut child = command.arg(keys.join("jwks.json")).args(arguments).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let ready = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                let line: Value = serde_json::from_str(&line).unwrap();
                if line["fields"]["message"] == "ready" {
                    return line["fields"].clone();
                }
            }
            panic!("ended before it was ready");
        };
        let ready = tokio::time::timeout(PATIENCE, ready).await.expect("ready in time");
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let url = |key: &str| format!("http://{}", ready[key].as_str().unwrap());
        Self { child, keys, api: url("api"), admin: url("admin"), client: reqwest::Client::new() }
    }

    async fn token(&self, user: &str, role: &str) -> String {
        let key = self.keys.join("signing.pem");
        let arguments = ["token", "--key", key.to_str().unwrap(), "--room", "demo", "--user", user, "--role", role];
        String::from_utf8(output(&arguments).await.stdout).unwrap().trim().to_owned()
    }

    async fn post(&self, user: &str, role: &str, path: &str, body: Value) -> (StatusCode, Value) {
        let request = self.client.post(format!("{}/api/rooms/demo{path}", self.api));
        let response = request.bearer_auth(self.token(user, role).await).json(&body).send().await.unwrap();
        (response.status(), response.json().await.unwrap())
    }

    async fn admin(&self, path: &str) -> (StatusCode, String) {
        let response = self.client.get(format!("{}{path}", self.admin)).send().await.unwrap();
        (response.status(), response.text().await.unwrap())
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args([signal, &id]).status().unwrap().success());
    }

    async fn ended(&mut self) -> Option<i32> {
        tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("ended in time").unwrap().code()
    }
}

fn is_authentic(message: &mut Message, password: &str) -> bool {
    let provider = rtc::crypto::default_provider().unwrap();
    MessageIntegrity::check(message, password.as_bytes(), provider.crypto()).is_ok()
}

/// A connectivity check as a browser makes it; whether it was answered as one.
fn check(transport: &Value) -> bool {
    let candidate = &transport["iceCandidates"][0];
    let address = format!("{}:{}", candidate["address"].as_str().unwrap(), candidate["port"]);
    let address: SocketAddr = address.parse().unwrap();
    let text = |key: &str| transport["iceParameters"][key].as_str().unwrap().to_owned();
    let username = TextAttribute::new(ATTR_USERNAME, format!("{}:client", text("usernameFragment")));
    let provider = rtc::crypto::default_provider().unwrap();
    let integrity = MessageIntegrity::new_short_term_integrity_with_provider(text("password"), provider.crypto());
    let mut request = Message::new();
    request
        .build(&[
            Box::new(TransactionId::new()),
            Box::new(BINDING_REQUEST),
            Box::new(username),
            Box::new(integrity),
            Box::new(FINGERPRINT),
        ])
        .unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut buffer = [0; 1500];
    for _ in 0..5 {
        socket.send_to(&request.raw, address).unwrap();
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let mut answer = Message { raw: buffer[..length].to_vec(), ..Message::default() };
            answer.decode().unwrap();
            return from == address && answer.typ == BINDING_SUCCESS && is_authentic(&mut answer, &text("password"));
        }
    }
    false
}

#[tokio::test]
async fn a_node_stays_for_its_call_when_it_is_told_to_stop() {
    let mut node = Node::start(&[]).await;
    assert_eq!(node.admin("/livez").await.0, StatusCode::OK);
    assert_eq!(node.admin("/readyz").await.0, StatusCode::OK);
    let (status, room) = node.post("ops", "admin", "/create", json!({})).await;
    assert_eq!((status, &room["epoch"]), (StatusCode::CREATED, &json!(1)), "{room}");
    let (status, transport) = node.post("ann", "participant", "/transports", json!({"direction": "send"})).await;
    assert_eq!(status, StatusCode::CREATED, "{transport}");
    assert!(check(&transport), "the media worker answers connectivity checks");
    // The worker answers first, and publishes what it counted after that.
    let mut text = String::new();
    for line in ["callplane_media_rooms 1", "callplane_media_participants 1", "callplane_media_ice_checks_total 1"] {
        for _ in 0..100 {
            text = node.admin("/metrics").await.1;
            if text.contains(line) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(text.contains(line), "{line} is not in\n{text}");
    }

    node.signal("-TERM");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(node.admin("/readyz").await.0, StatusCode::OK, "a node that drains is ready: its call needs it");
    let (status, _) = node.post("bob", "participant", "/transports", json!({"direction": "recv"})).await;
    assert_eq!(status, StatusCode::CREATED, "and others may still come to it");
    for user in ["ann", "bob"] {
        node.post(user, "participant", &format!("/participants/{user}/leave"), json!({})).await;
    }
    assert_eq!(node.ended().await, Some(0));
}

#[tokio::test]
async fn a_node_that_is_told_twice_or_has_no_time_ends_at_once() {
    for (arguments, signals) in [(&[][..], 2), (&["--drain-timeout", "1s"][..], 1)] {
        let mut node = Node::start(arguments).await;
        node.post("ops", "admin", "/create", json!({})).await;
        node.post("ann", "participant", "/transports", json!({"direction": "send"})).await;
        for _ in 0..signals {
            node.signal("-TERM");
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        assert_eq!(node.ended().await, Some(0));
    }
}

#[tokio::test]
async fn what_cannot_work_ends_with_one_line_and_code_2() {
    async fn refused(arguments: &[&str], part: &str) {
        let output = output(arguments).await;
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), error.trim().lines().count()), (Some(2), 1), "{error}");
        assert!(error.contains(part), "{error}");
    }
    refused(&["--standalone", "--public-keys", "/nonexistent"], "/nonexistent").await;
    refused(&["--public-keys", "/nonexistent"], "--node-name").await;
    let directory = scratch();
    assert!(output(&["keygen", "--out", directory.to_str().unwrap()]).await.status.success());
    let private: &Path = &directory.join("signing.pem");
    refused(&["--standalone", "--public-keys", private.to_str().unwrap()], "private key").await;
    assert_eq!(output(&["--no-such-flag"]).await.status.code(), Some(2));
}
