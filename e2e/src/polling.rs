//! A Socket.IO client, protocol 5 on Engine.IO 4, by long polling: what is left to people whose networks let no WebSocket
//! through. Each request is a connection of its own, so a Service decides anew each time where it goes.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

/// Longer than the gateway holds a request back.
const ANSWER: Duration = Duration::from_secs(60);
/// Between the packets of one answer.
const SEPARATOR: char = '\u{1e}';

/// A session with one replica, behind whatever leads there.
pub struct Poller {
    http: reqwest::Client,
    path: String,
    asked: u64,
    /// Requests until now.
    pub requests: usize,
}

impl Poller {
    /// Connected at `address` (`IP:PORT`), and in no room.
    ///
    /// # Errors
    /// When the requests of the session do not all reach the replica that has it.
    pub async fn connect(address: &str) -> Result<Self> {
        let http = reqwest::Client::builder().no_proxy().timeout(ANSWER).pool_max_idle_per_host(0).build()?;
        let path = format!("http://{address}/socket.io/?EIO=4&transport=polling");
        let mut poller = Self { http, path, asked: 0, requests: 0 };
        let open = poller.poll().await?.into_iter().next().context("an answer has a packet")?;
        let open: Value = serde_json::from_str(open.strip_prefix('0').context("it begins with how it goes on")?)?;
        let sid = open["sid"].as_str().context("a session has an id")?;
        poller.path = format!("{}&sid={sid}", poller.path);
        poller.send("40").await?;
        poller.until("40{").await?;
        Ok(poller)
    }

    /// Sends an event, and yields its acknowledgement.
    ///
    /// # Errors
    /// As [`Poller::connect`], or when the gateway refuses.
    pub async fn ask(&mut self, event: &str, data: Value) -> Result<Value> {
        let id = self.asked;
        self.asked += 1;
        self.send(&format!("42{id}{}", json!([event, data]))).await?;
        let answer = self.until(&format!("43{id}[")).await?;
        let answer: Value = serde_json::from_str::<Vec<Value>>(&format!("[{answer}"))?.swap_remove(0);
        ensure!(answer.get("error").is_none(), "{event}: {answer}");
        Ok(answer)
    }

    /// What follows `beginning` in the next packet that begins so.
    async fn until(&mut self, beginning: &str) -> Result<String> {
        let mut found = None;
        while found.is_none() {
            for packet in self.poll().await? {
                match packet.as_str() {
                    "2" => self.send("3").await?,
                    "1" | "41" => bail!("the gateway ended the session"),
                    other => found = found.or_else(|| other.strip_prefix(beginning).map(str::to_owned)),
                }
            }
        }
        found.context("it was found")
    }

    async fn poll(&mut self) -> Result<Vec<String>> {
        self.requests += 1;
        let answer = self.http.get(&self.path).send().await?;
        let (status, text) = (answer.status().as_u16(), answer.text().await?);
        ensure!(status == 200, "request {} of a session: {status} {text}", self.requests);
        Ok(text.split(SEPARATOR).map(str::to_owned).collect())
    }

    async fn send(&mut self, packet: &str) -> Result<()> {
        self.requests += 1;
        let sent =
            self.http.post(&self.path).header("content-type", "text/plain").body(packet.to_owned()).send().await?;
        let (status, text) = (sent.status().as_u16(), sent.text().await?);
        ensure!(status == 200, "request {} of a session: {status} {text}", self.requests);
        Ok(())
    }
}
