//! The way to a media node in somebody's name, and its events on their way to them.

use std::{net::IpAddr, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, Method, Request, header},
};
use callplane_crds::CallId;
use futures::StreamExt;
use serde::Deserialize;
use serde_json::Value;
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest, protocol::WebSocketConfig};

use super::{
    answer::{Answer, Refusal},
    member::Participant,
    outlet::Outlet,
};
use crate::{Code, Gateway, Problem, proxy};

/// Longest answer of a node that is read here.
const MAX_ANSWER: usize = 512 * 1024;
/// How long a node may take to say what it can; clients ask it themselves otherwise.
const CAPABLE_WITHIN: Duration = Duration::from_millis(1500);
/// How long connecting to a node's events may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Waits between tries: the first, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Silence after which a node's socket counts as gone: nodes send a ping every 15 s.
const SILENT: Duration = Duration::from_secs(45);
/// Bytes of a WebSocket's read buffer.
const BUFFER: usize = 4096;
/// Longest event of a node that is passed on: a room of a thousand producers.
const MAX_EVENT: usize = 1024 * 1024;

/// A media node, and in whose name it is spoken to.
pub struct Node {
    /// Everything else.
    pub gateway: Gateway,
    /// The room.
    pub id: CallId,
    /// Where who asks is.
    pub address: IpAddr,
    /// Their token, of the node's epoch.
    pub token: String,
}

impl Node {
    /// Asks for `path` under the room.
    ///
    /// # Errors
    /// The node's problem, or why it was not reached.
    pub async fn call(&self, method: Method, path: &str) -> Answer {
        let unreachable = || Problem::new(Code::NodeUnreachable, "the media node of the room does not answer");
        let request = Request::builder()
            .method(method)
            .uri(format!("/api/rooms/{}{path}", self.id))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from("{}"))
            .map_err(|_| Problem::new(Code::Invalid, "cannot be in a path"))?;
        let response = proxy::pass_on(&self.gateway, &self.id, self.address, request).await?;
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), MAX_ANSWER).await.map_err(|_| unreachable())?;
        let body = serde_json::from_slice(&body).unwrap_or_else(|_| Value::Object(serde_json::Map::new()));
        if status.is_success() { Ok(body) } else { Err(Refusal::of_node(body)) }
    }

    /// What the node can (mediasoup's `RtpCapabilities`), if it says so in time.
    pub async fn capabilities(&self) -> Option<Value> {
        let room = tokio::time::timeout(CAPABLE_WITHIN, self.call(Method::GET, "")).await;
        room.ok()?.ok()?.get_mut("routerRtpCapabilities").map(Value::take)
    }
}

/// A node's events on their way to one client, for as long as this lives.
pub struct Relay(tokio::task::JoinHandle<()>);

impl Drop for Relay {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Deserialize)]
struct Event {
    r#type: String,
    #[serde(default)]
    data: Value,
}

impl Relay {
    /// Begins to relay the events of the node of `epoch` to `outlet`, and tries again for as long as it lives.
    pub fn start(gateway: Gateway, id: CallId, who: Participant, epoch: i64, mut outlet: Outlet) -> Self {
        Self(tokio::spawn(async move {
            let mut wait = FIRST_WAIT;
            loop {
                match relay(&gateway, &id, &who, epoch, &mut outlet).await {
                    Ended::Socket => return,
                    Ended::Node(was_open) => {
                        wait = if was_open { FIRST_WAIT } else { wait };
                        tokio::time::sleep(wait).await;
                        wait = (wait * 2).min(LONGEST_WAIT);
                    }
                }
            }
        }))
    }
}

/// Which end went.
enum Ended {
    /// The client takes nothing any more.
    Socket,
    /// The node's; whether it was there.
    Node(bool),
}

async fn relay(gateway: &Gateway, id: &CallId, who: &Participant, epoch: i64, outlet: &mut Outlet) -> Ended {
    let Some(request) = request(gateway, id, who, epoch) else { return Ended::Node(false) };
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .max_message_size(Some(MAX_EVENT))
        .max_frame_size(Some(MAX_EVENT));
    let connect = tokio_tungstenite::connect_async_with_config(request, Some(config), true);
    let Ok(Ok((mut socket, _))) = tokio::time::timeout(CONNECT_WITHIN, connect).await else {
        return Ended::Node(false);
    };
    while let Ok(Some(Ok(message))) = tokio::time::timeout(SILENT, socket.next()).await {
        let Message::Text(text) = message else { continue };
        let Ok(mut event) = serde_json::from_str::<Event>(&text) else { continue };
        if let Some(data) = event.data.as_object_mut() {
            // While two nodes serve the room, clients tell their events apart by this.
            data.insert("epoch".to_owned(), Value::from(epoch));
        }
        if !outlet.tell(&event.r#type, &event.data) {
            return Ended::Socket;
        }
    }
    Ended::Node(true)
}

fn request(
    gateway: &Gateway,
    id: &CallId,
    who: &Participant,
    epoch: i64,
) -> Option<tokio_tungstenite::tungstenite::handshake::client::Request> {
    let room = gateway.cache.room(id)?;
    let node = proxy::node_of(&room, epoch)?;
    let api = gateway.cache.node_api(&node).ok()?;
    let token = gateway.pass(&room, &who.user_id, who.display_name.as_deref(), &who.role, epoch).ok()?.token;
    let url = format!("ws://{}/api/rooms/{id}/events", api.authority()?);
    let mut request = url.into_client_request().ok()?;
    let bearer = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    request.headers_mut().insert(header::AUTHORIZATION, bearer);
    Some(request)
}
