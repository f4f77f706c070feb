//! A call between real browsers, held by a program of `e2e/browser` until the scenario ends it.

use std::{
    collections::BTreeMap,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, Command},
    sync::watch,
};

use crate::{cluster, scene::Scene};

/// Starting a browser on a busy machine takes most of this.
const CONNECTED: Duration = Duration::from_secs(120);
/// The same for the program itself, which then says what is missing: somewhat less.
const CONNECTED_SECONDS: &str = "90";
/// No picture for this long would be a call that was interrupted. Two browsers and a cluster on two cores have pauses of
/// their own; that nobody had to connect again is asked besides.
pub const LONGEST_GAP_MS: f64 = 5000.0;
/// Lines of the program's error output that a failure shows.
const SHOWN_LINES: usize = 12;

/// What one page says of one other participant.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Remote {
    /// From joining, or from the other's track being announced, to the first picture.
    pub first_frame_ms: Option<f64>,
    /// Longest wait between two pictures since the last sample.
    pub longest_gap_ms: Option<f64>,
    /// Pictures on the screen so far.
    pub frames_presented: f64,
    /// Received video.
    pub video: Video,
    /// Received audio.
    pub audio: Audio,
}

/// Received video.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Video {
    /// Frames a second, lately.
    pub fps: f64,
    /// Frames decoded so far.
    pub frames_decoded: f64,
}

/// Received audio.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Audio {
    /// Root mean square lately, 0 to 1.
    pub level: f64,
    /// Samples that were received and not made up.
    pub real_samples: f64,
}

/// Something that happened in a page.
#[derive(Clone, Debug, Deserialize)]
pub struct PageEvent {
    /// Milliseconds since 1970.
    pub at: f64,
    /// What.
    #[serde(rename = "type")]
    pub kind: String,
    /// More about it.
    #[serde(default)]
    pub detail: serde_json::Value,
    /// Epoch of the session that it concerns.
    pub epoch: Option<i64>,
}

/// One participant's page at one time.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Page {
    /// `joined`, `rejoining` and so on.
    pub state: String,
    /// Who.
    pub user: String,
    /// Epoch of its session.
    pub epoch: Option<i64>,
    /// Times that it has moved to another session.
    pub rejoins: u32,
    /// The others, by name.
    pub remotes: BTreeMap<String, Remote>,
    /// What happened since the last sample.
    #[serde(default)]
    pub events: Vec<PageEvent>,
    /// How each of its connections reaches the other side, as far as the page tells: `relay by tcp`.
    #[serde(default)]
    pub paths: Vec<String>,
}

impl Page {
    /// Whether it is in the call on `epoch` or later and sees everyone move right now.
    pub fn sees_all(&self, others: usize, epoch: i64) -> bool {
        self.is_with_all(others, epoch)
            && self.remotes.values().all(|r| r.video.fps > 5.0 && r.longest_gap_ms.is_some_and(|gap| gap < 1000.0))
    }

    /// Whether it is in the call on `epoch` or later and nobody's picture has stopped: what holds at every moment of a call
    /// that goes on, also on a machine that is busy.
    pub fn is_with_all(&self, others: usize, epoch: i64) -> bool {
        self.state == "joined"
            && self.epoch >= Some(epoch)
            && self.remotes.len() == others
            && self.remotes.values().all(|r| r.longest_gap_ms.is_some_and(|gap| gap < LONGEST_GAP_MS))
    }
}

/// All pages at one time.
#[derive(Clone, Debug, Deserialize)]
pub struct Sample {
    /// Milliseconds since 1970.
    pub at: f64,
    /// One for each participant.
    pub pages: Vec<Page>,
}

impl Sample {
    /// The longest wait between two pictures that anyone had since the last sample, in milliseconds.
    pub fn longest_gap_ms(&self) -> f64 {
        let remotes = self.pages.iter().flat_map(|p| p.remotes.values());
        remotes.filter_map(|r| r.longest_gap_ms).fold(0.0, f64::max)
    }
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Line {
    Connected {},
    Stats(Sample),
    Result { ok: bool, failures: Vec<String> },
}

#[derive(Default)]
struct Heard {
    connected: bool,
    samples: Vec<Sample>,
    result: Option<(bool, Vec<String>)>,
    errors: Vec<String>,
}

type Shared = Arc<Mutex<Heard>>;

/// A running call. Dropping it ends the browsers: the program quits when its standard input does.
pub struct Call {
    child: Child,
    input: Option<ChildStdin>,
    heard: Shared,
    changed: watch::Receiver<()>,
}

impl Call {
    /// Starts `participants` browsers in the call `room` of a scene, and returns when everyone sees and hears everyone.
    ///
    /// # Errors
    /// When there is no such call in time.
    pub async fn start(scene: &Scene, room: &str, participants: usize) -> Result<Self> {
        let mut command = Command::new("node");
        command
            .arg(cluster::folder().join("browser/demo.mjs"))
            .args(["--hold", "--participants", &participants.to_string(), "--connect-timeout", CONNECTED_SECONDS])
            .args(["--room", &scene.call_id(room).to_string()])
            .arg("--kubeconfig")
            .arg(&scene.cluster.kubeconfig)
            .env("KUBECTL", cluster::cache().join("bin/kubectl"));
        Self::run(command).await
    }

    /// Starts browsers that reach nobody but through a TURN server, in the web app at `link` of the gateway at `address`,
    /// and returns when everyone sees and hears everyone. `people` are names with `udp`, `tcp` or `tls`; `tls` is the
    /// server for the last of these.
    ///
    /// # Errors
    /// When there is no such call in time.
    pub async fn relayed(address: &str, link: &str, people: &[(&str, &str)], tls: Option<&str>) -> Result<Self> {
        let mut command = Command::new("node");
        command
            .arg(cluster::folder().join("browser/relay.mjs"))
            .args(["--gateway", address, "--link", link, "--connect-timeout", CONNECTED_SECONDS])
            .args(people.iter().flat_map(|(name, way)| ["--person".to_owned(), format!("{name}={way}")]))
            .args(tls.iter().flat_map(|url| ["--tls", url]));
        Self::run(command).await
    }

    async fn run(mut command: Command) -> Result<Self> {
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = started.with_context(|| format!("{command:?}"))?;
        let (sender, changed) = watch::channel(());
        let heard = Shared::default();
        let output = child.stdout.take().context("standard output is piped")?;
        let errors = child.stderr.take().context("standard error is piped")?;
        tokio::spawn(read(output, heard.clone(), sender.clone(), |heard, line| match serde_json::from_str(&line) {
            Ok(Line::Connected {}) => heard.connected = true,
            Ok(Line::Stats(sample)) => heard.samples.push(sample),
            Ok(Line::Result { ok, failures }) => heard.result = Some((ok, failures)),
            Err(error) => heard.errors.push(format!("not understood ({error}): {line}")),
        }));
        tokio::spawn(read(errors, heard.clone(), sender, |heard, line| heard.errors.push(line)));
        let call = Self { input: child.stdin.take(), child, heard, changed };
        call.heard_until("the browsers to see each other", CONNECTED, |heard| heard.connected.then_some(())).await?;
        Ok(call)
    }

    /// Waits for a sample taken from now on that `check` accepts.
    ///
    /// # Errors
    /// When there is none within `budget`, with the last sample.
    pub async fn until<T>(
        &self,
        what: &str,
        budget: Duration,
        mut check: impl FnMut(&Sample) -> Option<T>,
    ) -> Result<T> {
        let mut next = self.samples().len();
        self.heard_until(what, budget, |heard| {
            let fresh = heard.samples.get(next..).unwrap_or_default();
            next = heard.samples.len();
            fresh.iter().find_map(&mut check)
        })
        .await
    }

    /// Everything sampled so far, oldest first.
    pub fn samples(&self) -> Vec<Sample> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).samples.clone()
    }

    /// The longest wait between two pictures that anyone had since sample number `first`, in milliseconds.
    pub fn longest_gap_ms_since(&self, first: usize) -> f64 {
        self.samples().iter().skip(first).map(Sample::longest_gap_ms).fold(0.0, f64::max)
    }

    /// What happened in the pages since sample number `first`, as text for a failure or a report.
    pub fn events_since(&self, first: usize) -> Vec<(String, PageEvent)> {
        let samples = self.samples();
        let pages = samples.into_iter().skip(first).flat_map(|s| s.pages);
        pages.flat_map(|p| p.events.into_iter().map(move |e| (p.user.clone(), e))).collect()
    }

    /// Ends the call, and judges the whole of it: everyone saw and heard everyone, at a good rate from start to end.
    ///
    /// # Errors
    /// When the call was not good enough.
    pub async fn finish(self) -> Result<()> {
        let (ok, failures) = self.conclude().await?;
        ensure!(ok, "the call was not good enough: {}", failures.join("; "));
        Ok(())
    }

    /// Ends the call without judging the whole of it: it was interrupted on purpose.
    ///
    /// # Errors
    /// When the browsers do not end.
    pub async fn end(self) -> Result<()> {
        self.conclude().await.map(drop)
    }

    async fn conclude(mut self) -> Result<(bool, Vec<String>)> {
        if let Some(mut input) = self.input.take() {
            input.write_all(b"quit\n").await?;
        }
        let budget = Duration::from_secs(60);
        let result = self.heard_until("the browsers to end the call", budget, |heard| heard.result.clone()).await?;
        tokio::time::timeout(budget, self.child.wait()).await.context("the browsers to be gone")??;
        Ok(result)
    }

    async fn heard_until<T>(
        &self,
        what: &str,
        budget: Duration,
        mut check: impl FnMut(&Heard) -> Option<T>,
    ) -> Result<T> {
        let mut changed = self.changed.clone();
        let found = tokio::time::timeout(budget, async {
            loop {
                changed.mark_unchanged();
                {
                    let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(found) = check(&heard) {
                        return Ok(found);
                    }
                    if let Some((_, failures)) = &heard.result {
                        bail!("the call ended: {}", failures.join("; "));
                    }
                }
                if changed.changed().await.is_err() {
                    bail!("the browsers' program ended");
                }
            }
        });
        let problem = match found.await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("not within {budget:?}"),
        };
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let errors = heard.errors.iter().rev().take(SHOWN_LINES).rev().cloned().collect::<Vec<_>>().join("\n  ");
        bail!("{what}: {problem}; last sample {:?}; the program said:\n  {errors}", heard.samples.last())
    }
}

async fn read(
    from: impl AsyncRead + Unpin,
    heard: Shared,
    changed: watch::Sender<()>,
    take: impl Fn(&mut Heard, String),
) {
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        take(&mut heard.lock().unwrap_or_else(PoisonError::into_inner), line);
        changed.send_replace(());
    }
}
