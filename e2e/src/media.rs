//! A client of a media node's API: enough of one to be in a call, and to be refused.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use callplane_crds::{CallId, MediaNode};
use futures::StreamExt;
use kube::ResourceExt;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest, http::header::SEC_WEBSOCKET_PROTOCOL},
};

/// Longer than a node holds a request back while it waits to hear of a room.
const ANSWER: Duration = Duration::from_secs(15);

/// The API of one media node.
#[derive(Clone)]
pub struct MediaApi {
    http: reqwest::Client,
    base: String,
}

/// Why a node refused (RFC 9457).
#[derive(Clone, Debug, Deserialize)]
pub struct Problem {
    /// HTTP status.
    pub status: u16,
    /// Stable code, such as `epoch-stale`.
    pub code: String,
    /// For people.
    #[serde(default)]
    pub detail: String,
}

/// What a node answered.
pub type Answer = Result<Value, Problem>;

impl MediaApi {
    /// The API that a node says it has.
    ///
    /// # Errors
    /// When it does not say.
    pub fn of(node: &MediaNode) -> Result<Self> {
        let endpoints = node.status.as_ref().and_then(|s| s.endpoints.clone());
        let base = endpoints.with_context(|| format!("{} has not said where it is reached", node.name_any()))?.api;
        Self::at(&base)
    }

    /// The API of whatever node is reached through `base`.
    ///
    /// # Errors
    /// When no client can be made.
    pub fn at(base: &str) -> Result<Self> {
        Ok(Self { http: reqwest::Client::builder().timeout(ANSWER).build()?, base: base.to_owned() })
    }

    /// Enters `room` by opening a transport to receive on.
    ///
    /// # Errors
    /// When the node does not answer.
    pub async fn join(&self, room: &CallId, token: &str) -> Result<Answer> {
        let url = format!("{}/api/rooms/{room}/transports", self.base);
        let answer = self.http.post(&url).bearer_auth(token).json(&json!({"direction": "recv"})).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        if status.is_success() {
            return Ok(Ok(serde_json::from_str(&text)?));
        }
        let problem = serde_json::from_str(&text);
        Ok(
            Err(problem
                .with_context(|| format!("{url} answered {status} without a problem that one can read: {text}"))?),
        )
    }

    /// Leaves `room`.
    ///
    /// # Errors
    /// When the node refuses.
    pub async fn leave(&self, room: &CallId, user: &str, token: &str) -> Result<()> {
        let url = format!("{}/api/rooms/{room}/participants/{user}/leave", self.base);
        self.http.post(&url).bearer_auth(token).send().await?.error_for_status()?;
        Ok(())
    }

    /// Enters `room` by listening to its events.
    ///
    /// # Errors
    /// When the node refuses.
    pub async fn events(&self, room: &CallId, token: &str) -> Result<Events> {
        let url = format!("{}/api/rooms/{room}/events", self.base.replacen("http", "ws", 1));
        let mut request = url.into_client_request()?;
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, format!("callplane.v1, bearer.{token}").parse()?);
        let (socket, _) = tokio::time::timeout(ANSWER, connect_async(request)).await??;
        Ok(Events { socket })
    }
}

/// The events of a room, as a participant hears them.
pub struct Events {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Events {
    /// Waits for an event of this type, and yields its data.
    ///
    /// # Errors
    /// When it does not come within `budget`, or the socket closes before.
    pub async fn until(&mut self, kind: &str, budget: Duration) -> Result<Value> {
        let mut heard = Vec::new();
        let found = tokio::time::timeout(budget, async {
            while let Some(message) = self.socket.next().await {
                let Message::Text(text) = message? else { continue };
                let event: Value = serde_json::from_str(&text)?;
                if event["type"] == kind {
                    return Ok(event["data"].clone());
                }
                heard.push(event["type"].to_string());
            }
            bail!("the socket closed")
        });
        let found = found.await.unwrap_or_else(|_| bail!("not within {budget:?}"));
        found.with_context(|| format!("event {kind}, after {}", heard.join(", ")))
    }
}
