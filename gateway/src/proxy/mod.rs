//! Passes requests and WebSockets under `/api/rooms/<call id>`, and those of WHIP and WHEP, on to the media node that
//! serves the call.
//!
//! The token says which epoch it is for, so that while a call moves, each client's requests go to the side that its
//! token is for. The node verifies it: what is read of it here only picks the way. What the node answers is passed
//! on as it is, problems included.

mod follow;
mod headers;
mod socket;
pub mod whip;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    body::Body,
    extract::{ConnectInfo, State},
    http::{Request, Response, StatusCode, Uri, uri::PathAndQuery},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use callplane_crds::{CallId, CallRoom, Route, call_id::InvalidCallId};
use http_body_util::{LengthLimitError, Limited};
use hyper::upgrade::OnUpgrade;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower_http::timeout::TimeoutBody;

use crate::{Code, Gateway, Problem, metrics::Metrics};

/// Longest body that is passed on to a node; nodes take half of it.
const MAX_BODY: usize = 128 * 1024;
/// How long connecting to a node may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// How long a node may take to begin its answer; it gives up itself after 15 s.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// How long an answer may stand still.
const STALLED: Duration = Duration::from_secs(30);
/// How long a request may wait for this replica to hear of the room or the epoch that its token is for.
const HEARD_WITHIN: Duration = Duration::from_secs(1);
/// Where media nodes have something of a call. Its id follows.
const OF_CALLS: [&str; 3] = ["/api/rooms/", whip::WHIP, whip::WHEP];
/// Requests that are passed on at a time.
const MAX_REQUESTS: usize = 2048;
/// Requests that wait at a time for a call to get a media node. More are refused as [`Code::Busy`].
const MAX_MOVERS: usize = 256;

/// The way to media nodes.
pub struct Forwarder {
    client: Client<HttpConnector, Body>,
    requests: Semaphore,
    movers: Semaphore,
    sockets: Arc<Semaphore>,
    open: TaskTracker,
    stop: CancellationToken,
    metrics: Metrics,
}

impl Forwarder {
    /// Passes on up to `max_sockets` WebSockets at a time. They are closed when `stop` is cancelled.
    pub fn new(max_sockets: usize, stop: CancellationToken, metrics: Metrics) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_WITHIN));
        connector.set_nodelay(true);
        let mut client = Client::builder(TokioExecutor::new());
        client.pool_idle_timeout(Duration::from_secs(30)).pool_max_idle_per_host(32);
        Self {
            client: client.build(connector),
            requests: Semaphore::new(MAX_REQUESTS),
            movers: Semaphore::new(MAX_MOVERS),
            sockets: Arc::new(Semaphore::new(max_sockets)),
            open: TaskTracker::new(),
            stop,
            metrics,
        }
    }

    /// Waits until all WebSockets are closed.
    pub async fn closed(&self) {
        self.open.close();
        self.open.wait().await;
    }

    async fn ask(&self, request: Request<Body>) -> Result<Response<hyper::body::Incoming>, Problem> {
        match tokio::time::timeout(ANSWER_WITHIN, self.client.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) if is_too_large(&error) => {
                Err(Problem::new(Code::TooLarge, format!("a body may have {MAX_BODY} bytes")))
            }
            Ok(Err(error)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "a media node does not answer");
                Err(Problem::new(Code::NodeUnreachable, "the media node of the room does not answer"))
            }
            Err(_) => Err(Problem::new(Code::NodeTimeout, "the media node of the room took too long")),
        }
    }
}

fn is_too_large(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| error.is::<LengthLimitError>())
}

/// Everything under `/api/rooms`.
pub async fn forward(
    State(gateway): State<Gateway>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request<Body>,
) -> Result<Response<Body>, Problem> {
    let id = call_of(request.uri().path())?;
    let client = gateway.limits.client(peer.ip(), request.headers());
    pass_on(&gateway, &id, client, request).await
}

/// The call that a path is of.
fn call_of(path: &str) -> Result<CallId, Problem> {
    let below = OF_CALLS.iter().find_map(|prefix| path.strip_prefix(prefix)).unwrap_or_default();
    let none = |error: InvalidCallId| Problem::new(Code::RoomNotFound, error.to_string());
    below.split('/').next().unwrap_or_default().parse().map_err(none)
}

/// Passes a request of `client` on to the node that serves `id` for the epoch of the request's token.
///
/// # Errors
/// Why it did not get there.
pub async fn pass_on(
    gateway: &Gateway,
    id: &CallId,
    client: IpAddr,
    mut request: Request<Body>,
) -> Result<Response<Body>, Problem> {
    let forwarder = &gateway.forwarder;
    let busy = |_| Problem::new(Code::Busy, "as many requests as can be are under way");
    let _permit = forwarder.requests.try_acquire().map_err(busy)?;
    let epoch = headers::token(request.headers()).and_then(epoch_of);
    let node = serving(gateway, id, epoch).await?;
    let api = gateway.cache.node_api(&node)?;
    let upgrade = headers::is_websocket(request.headers()).then(|| request.extensions_mut().remove::<OnUpgrade>());
    let upgrade = match upgrade.flatten() {
        Some(upgrade) => {
            let closed = |_| Problem::new(Code::Busy, "as many WebSockets as can be are open");
            Some((upgrade, Arc::clone(&forwarder.sockets).try_acquire_owned().map_err(closed)?))
        }
        None => None,
    };

    let (parts, body) = request.into_parts();
    let mut onward = Request::new(Body::new(Limited::new(body, MAX_BODY)));
    *onward.method_mut() = parts.method;
    *onward.uri_mut() = at(&api, parts.uri.path_and_query())?;
    *onward.headers_mut() = headers::onward(&parts.headers, client, upgrade.is_some());
    let mut response = forwarder.ask(onward).await?;
    match upgrade {
        Some(upgrade) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
            Ok(switch(forwarder, response, upgrade))
        }
        _ => {
            let headers = headers::back(response.headers(), false);
            *response.headers_mut() = headers;
            Ok(response.map(|body| Body::new(TimeoutBody::new(STALLED, Box::pin(body)))))
        }
    }
}

/// Ties the two ends of a WebSocket together.
fn switch(
    forwarder: &Forwarder,
    mut response: Response<hyper::body::Incoming>,
    (client, permit): (OnUpgrade, OwnedSemaphorePermit),
) -> Response<Body> {
    let node = hyper::upgrade::on(&mut response);
    let (stop, metrics) = (forwarder.stop.clone(), forwarder.metrics.clone());
    forwarder.open.spawn(async move {
        let _permit = permit;
        // The client's end is there once it has our answer; one that went away never is.
        let ends = tokio::time::timeout(ANSWER_WITHIN, async { tokio::join!(client, node) }).await;
        if let Ok((Ok(client), Ok(node))) = ends {
            let _open = metrics.socket();
            tokio::select! {
                () = socket::relay(client, node) => {}
                () = stop.cancelled() => {}
            }
        }
    });
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *answer.headers_mut() = headers::back(response.headers(), true);
    answer
}

/// The room, as soon as this replica has heard of the epoch that a token is for, or as it is after a moment.
async fn heard(gateway: &Gateway, id: &CallId, epoch: Option<i64>) -> Option<Arc<CallRoom>> {
    let known = gateway.cache.room(id);
    let is_behind = |room: &CallRoom| !room.is_over() && current(room).is_none_or(|route| Some(route.epoch) < epoch);
    // Another replica, or this one a moment ago, made the token: what it knew is on its way here.
    match (&known, epoch) {
        (Some(room), Some(_)) if is_behind(room) => gateway.cache.wait(id, HEARD_WITHIN, |room| !is_behind(room)).await,
        (None, Some(_)) => gateway.cache.wait(id, HEARD_WITHIN, |room| !is_behind(room)).await,
        _ => known,
    }
}

/// The node to ask. A token of an epoch that is served no more goes to the node of the current one, which says so.
async fn serving(gateway: &Gateway, id: &CallId, epoch: Option<i64>) -> Result<String, Problem> {
    let room = match heard(gateway, id, epoch).await {
        Some(room) => room,
        None if !gateway.cache.is_complete() => {
            return Err(Problem::new(Code::KubernetesUnavailable, "the rooms are not known yet"));
        }
        None => return Err(Problem::new(Code::RoomNotFound, format!("there is no room {id}"))),
    };
    if room.is_over() {
        return Err(Problem::new(Code::RoomEnded, format!("the call {id} is over")));
    }
    let previous = room.status.as_ref().and_then(|s| s.previous_route.as_ref());
    let route = previous.filter(|route| Some(route.epoch) == epoch).or_else(|| current(&room));
    let route = route.ok_or_else(|| Problem::new(Code::RoomNotReady, "the room has no media node yet"))?;
    let none = || Problem::new(Code::NoMediaNode, "the call is peer to peer: no media node carries it");
    route.node.clone().ok_or_else(none)
}

/// The media node that serves `epoch` of a room.
pub(crate) fn node_of(room: &CallRoom, epoch: i64) -> Option<String> {
    let status = room.status.as_ref()?;
    let mut routes = status.route.iter().chain(&status.previous_route);
    routes.find(|route| route.epoch == epoch).and_then(|route| route.node.clone())
}

fn current(room: &CallRoom) -> Option<&Route> {
    room.status.as_ref()?.route.as_ref()
}

/// The epoch that a token says it is for. Not verified.
fn epoch_of(token: &str) -> Option<i64> {
    #[derive(Deserialize)]
    struct Epoch {
        epoch: i64,
    }
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice::<Epoch>(&payload).ok().map(|claims| claims.epoch)
}

/// The same path at the node.
fn at(api: &Uri, path: Option<&PathAndQuery>) -> Result<Uri, Problem> {
    let mut parts = api.clone().into_parts();
    parts.path_and_query = path.cloned();
    Uri::from_parts(parts).map_err(|_| Problem::new(Code::NodeNotReady, "the media node's address is none"))
}
