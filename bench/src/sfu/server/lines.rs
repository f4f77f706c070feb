//! Another server behind a script of ours, in `bench/peers`, that speaks a JSON object a line:
//! `{"id", "op": "publish" | "subscribe", …}` in, `{"id", "ok": …}` or `{"id", "error": …}` out.

use std::{
    collections::HashMap,
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, Command},
    sync::oneshot,
};

use super::{super::rtp, Answer, PASSWORD, Peer, Published, Session, Spec, UFRAG};
use crate::sfu::stream::Expected;

/// How long a server may take for an answer.
const PATIENCE: Duration = Duration::from_secs(40);

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Result<Value, String>>>>>;

/// A server and the script that started it.
pub struct Lines {
    child: Child,
    pids: Vec<u32>,
    input: tokio::sync::Mutex<Option<ChildStdin>>,
    waiting: Waiting,
    next: AtomicU64,
    fingerprint: String,
}

/// Where `bench/peers/build.sh` puts what it builds.
pub fn folder(peer: Peer) -> PathBuf {
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from);
    let cache = std::env::var_os("CALLPLANE_CACHE").map_or_else(|| home.join(".cache/callplane"), PathBuf::from);
    cache.join("peers").join(peer.name())
}

impl Lines {
    pub(super) async fn start(peer: Peer, workers: usize, fingerprint: &str, log: &Path) -> Result<Self> {
        let folder = folder(peer);
        ensure!(folder.join("stamp").exists(), "ABSENT: bench/peers/build.sh {} has not built it", peer.name());
        let mut child = Command::new("node")
            .arg("adapter.mjs")
            .arg(workers.to_string())
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(log)?)
            .kill_on_drop(true)
            .spawn()
            .context("node")?;
        let input = child.stdin.take();
        let mut lines = BufReader::new(child.stdout.take().context("its output is piped")?).lines();
        let first = tokio::time::timeout(PATIENCE, lines.next_line()).await.context("it says nothing")??;
        let first: Value = serde_json::from_str(&first.context("it ended at once")?)?;
        let pids = first["pids"].as_array().context("pids")?;
        let pids = pids.iter().filter_map(|pid| pid.as_u64().map(|pid| pid as u32)).collect();
        let waiting = Waiting::default();
        let answered = waiting.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let Ok(mut answer) = serde_json::from_str::<Value>(&line) else { continue };
                let waiter = answer["id"].as_u64().and_then(|id| answered.lock().ok()?.remove(&id));
                let result = match answer["error"].as_str() {
                    Some(error) => Err(error.to_owned()),
                    None => Ok(answer["ok"].take()),
                };
                // Who asked may have given up.
                drop(waiter.map(|waiter| waiter.send(result)));
            }
        });
        let (input, next) = (tokio::sync::Mutex::new(input), AtomicU64::new(1));
        Ok(Self { child, pids, input, waiting, next, fingerprint: fingerprint.to_owned() })
    }

    pub(super) fn pids(&self) -> &[u32] {
        &self.pids
    }

    async fn call(&self, mut request: Value) -> Result<Answer> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        for (key, value) in [("ufrag", UFRAG), ("password", PASSWORD), ("fingerprint", &self.fingerprint)] {
            request[key] = json!(value);
        }
        request["id"] = json!(id);
        let (reply, answer) = oneshot::channel();
        self.waiting.lock().map_err(|_| anyhow!("a task has panicked"))?.insert(id, reply);
        let mut input = self.input.lock().await;
        input.as_mut().context("it has been stopped")?.write_all(format!("{request}\n").as_bytes()).await?;
        drop(input);
        let answer = tokio::time::timeout(PATIENCE, answer).await.context("no answer")?;
        let answer = answer.context("the server has ended")?.map_err(|error| anyhow!(error))?;
        Ok(serde_json::from_value(answer)?)
    }

    pub(super) async fn publish(&self, room: &str, user: &str, tracks: &[Spec]) -> Result<Session<Published>> {
        let of = |t: &Spec| json!({"kind": t.kind(), "mid": t.mid(), "ssrc": t.ssrc(), "rtx": t.rtx_ssrc()});
        let tracks_json: Vec<_> = tracks.iter().map(of).collect();
        let request = json!({"op": "publish", "room": room, "user": user, "tracks": tracks_json,
            "extensions": rtp::EXTENSIONS, "payloadTypes": {"opus": rtp::OPUS, "vp8": rtp::VP8, "rtx": rtp::RTX}});
        self.call(request).await?.published(user, tracks)
    }

    pub(super) async fn subscribe(&self, room: &str, user: &str, wanted: &[Published]) -> Result<Session<Expected>> {
        let of = |p: &Published| json!({"user": p.user, "track": p.id, "kind": p.spec.kind()});
        let wanted_json: Vec<_> = wanted.iter().map(of).collect();
        let request = json!({"op": "subscribe", "room": room, "user": user, "wanted": wanted_json});
        self.call(request).await?.expected(wanted)
    }

    /// The script ends its server when its input ends.
    pub(super) async fn stop(&mut self) {
        drop(self.input.lock().await.take());
        if tokio::time::timeout(Duration::from_secs(5), self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }
}
