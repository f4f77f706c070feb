//! The way to one client's socket. Never waits: what a client does not take in time ends its socket.

use std::time::Duration;

use serde::Serialize;
use socketioxide::extract::SocketRef;
use tokio_util::sync::CancellationToken;

/// A socket to speak to.
pub struct Outlet {
    socket: SocketRef,
    is_stuck: bool,
}

impl Outlet {
    /// To this socket.
    pub fn new(socket: SocketRef) -> Self {
        Self { socket, is_stuck: false }
    }

    /// A second way to the same socket.
    pub fn again(&self) -> Self {
        Self { socket: self.socket.clone(), is_stuck: false }
    }

    /// Tells the client, if it takes anything; answers whether it does.
    pub fn tell(&mut self, event: &str, data: &impl Serialize) -> bool {
        self.is_stuck |= self.socket.emit(event, data).is_err();
        !self.is_stuck
    }

    /// It is to be let go.
    pub fn give_up(&mut self) {
        self.is_stuck = true;
    }

    /// Whether it took nothing any more.
    pub fn is_stuck(&self) -> bool {
        self.is_stuck
    }

    /// Ends the socket, after what it was told and the answers to what it asked before. A client does not come again by itself
    /// after that.
    pub fn close(&self) {
        if let Some(closing) = self.socket.extensions.get::<Closing>() {
            closing.0.cancel();
        }
    }
}

/// How long a socket that is to end may wait for the answer to what it asked.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// That a socket is to end: the word from its room to the task that serves it, and answers what it asked.
#[derive(Clone, Default)]
pub struct Closing(CancellationToken);

impl Closing {
    /// Waits until the socket is to end.
    pub async fn asked(&self) {
        self.0.cancelled().await;
    }

    /// Waits until the socket is to end whatever it still waits for.
    pub async fn overdue(&self) {
        self.asked().await;
        tokio::time::sleep(ANSWER_WITHIN).await;
    }
}

/// How often it is tried to end a socket that has no room for the word, and for how long: one that reads nothing is
/// ended by its heartbeat by then.
const RETRY: Duration = Duration::from_millis(100);
const TRIES: usize = 400;

/// Ends a socket now. A client does not come again by itself after that.
pub fn end(socket: &SocketRef) {
    if socket.clone().disconnect().is_ok() {
        return;
    }
    let socket = socket.clone();
    tokio::spawn(async move {
        for _ in 0..TRIES {
            tokio::time::sleep(RETRY).await;
            if !socket.connected() || socket.clone().disconnect().is_ok() {
                return;
            }
        }
    });
}
