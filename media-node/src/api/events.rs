//! The event socket: one WebSocket per page.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{
        State, WebSocketUpgrade,
        ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code, rejection::WebSocketUpgradeRejection},
    },
    http::StatusCode,
    response::Response,
};
use bytes::Bytes;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use super::{Api, Problem, caller::Caller};
use crate::rooms::{Directory, Intent, Subscription};

/// The subprotocol that the server selects.
const PROTOCOL: &str = "callplane.v1";

/// How long the other end of an event socket may take. The defaults are what production runs with; tests shorten them.
#[derive(Clone, Copy, Debug)]
pub struct EventTimeouts {
    /// How often a ping is sent.
    pub ping: Duration,
    /// How long a client may be silent, pongs included, before it counts as dead: several pings long.
    pub silence: Duration,
    /// How long the client's end may be full before it counts as dead.
    pub send: Duration,
}

impl Default for EventTimeouts {
    fn default() -> Self {
        Self { ping: Duration::from_secs(15), silence: Duration::from_secs(40), send: Duration::from_secs(10) }
    }
}

/// Clients have nothing to say here but pongs.
const MAX_MESSAGE: usize = 1024;

pub(super) async fn events(
    State(api): State<Arc<Api>>,
    caller: Caller,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let upgrade = upgrade
        .map_err(|rejection| Problem::new(StatusCode::UPGRADE_REQUIRED, "websocket-required", rejection.body_text()))?;
    let access = caller.admitted(&api, Intent::Look).await?;
    let subscription = api.directory.subscribe(access).await?;
    let (directory, timeouts) = (api.directory.clone(), api.event_timeouts);
    // If the upgrade fails the subscription is dropped, which the directory notices.
    Ok(upgrade
        .protocols([PROTOCOL])
        .max_message_size(MAX_MESSAGE)
        .on_upgrade(move |socket| talk(socket, subscription, directory, timeouts)))
}

async fn talk(mut socket: WebSocket, mut subscription: Subscription, directory: Directory, timeouts: EventTimeouts) {
    let farewell = relay(&mut socket, &mut subscription, timeouts).await;
    directory.unsubscribe(subscription.room, subscription.socket).await;
    if let Some(code) = farewell {
        let frame = CloseFrame { code, reason: Utf8Bytes::from_static("closed by the media node") };
        let _ = timeout(timeouts.send, socket.send(Message::Close(Some(frame)))).await;
    }
}

/// Relays until either end has had enough; the code to close with, unless the client is gone.
async fn relay(socket: &mut WebSocket, subscription: &mut Subscription, timeouts: EventTimeouts) -> Option<u16> {
    let mut ping = interval(timeouts.ping);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ping.reset();
    let mut silent_at = after(timeouts.silence);
    loop {
        let message = tokio::select! {
            message = subscription.messages.recv() => match message.map(Utf8Bytes::try_from) {
                Some(Ok(text)) => Message::Text(text),
                Some(Err(_)) => continue,
                None => return Some(close_code::AWAY),
            },
            received = socket.recv() => match received {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {
                    silent_at = after(timeouts.silence);
                    continue;
                }
            },
            _ = ping.tick() => Message::Ping(Bytes::new()),
            () = sleep_until(silent_at) => return Some(close_code::POLICY),
        };
        if !matches!(timeout(timeouts.send, socket.send(message)).await, Ok(Ok(()))) {
            return None;
        }
    }
}

fn after(duration: Duration) -> Instant {
    Instant::from_std(crate::system::now()) + duration
}
