//! A Socket.IO client, protocol 5 on Engine.IO 4, by WebSocket.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{Error, Message},
};

const WITHIN: Duration = Duration::from_secs(25);

pub struct Peer {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    asked: u64,
    events: VecDeque<(String, Value)>,
    pub user: String,
    /// The place of the last event.
    pub seq: String,
}

/// What comes from the server.
#[derive(Debug)]
enum Came {
    Event(String, Value),
    Answer(u64, Value),
    Over,
}

impl Peer {
    /// Connected, and in no room.
    pub async fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).await.expect("connected")
    }

    pub async fn try_connect(address: SocketAddr) -> Result<Self, Error> {
        let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket");
        let (socket, _) = tokio_tungstenite::connect_async(url).await?;
        let mut peer = Self { socket, asked: 0, events: VecDeque::new(), user: String::new(), seq: String::new() };
        assert!(peer.text().await.unwrap().starts_with("0{"));
        peer.send("40").await;
        // The first ping may come before that.
        while !peer.text().await.unwrap().starts_with("40{") {}
        peer.send("3").await;
        Ok(peer)
    }

    /// In the room, and what it was answered.
    pub async fn joined(address: SocketAddr, room: &str, token: &str) -> (Self, Value) {
        let mut peer = Self::connect(address).await;
        let joined = peer.ask("join-room", json!({"roomId": room, "token": token})).await;
        assert!(joined["session"].is_string(), "{joined}");
        assert_eq!(peer.expect("call:joined").await, joined);
        peer.user = joined["self"]["userId"].as_str().unwrap().to_owned();
        (peer, joined)
    }

    pub async fn send(&mut self, text: impl Into<String>) {
        self.socket.send(Message::text(text.into())).await.unwrap();
    }

    pub async fn try_send(&mut self, text: String) -> Result<(), Error> {
        self.socket.send(Message::text(text)).await
    }

    /// Sends an event and gives its acknowledgement.
    pub async fn ask(&mut self, event: &str, data: Value) -> Value {
        let id = self.emit(event, data).await;
        self.answer(id).await
    }

    /// Sends an event that asks for an acknowledgement.
    pub async fn emit(&mut self, event: &str, data: Value) -> u64 {
        let id = self.asked;
        self.asked += 1;
        self.send(format!("42{id}{}", json!([event, data]))).await;
        id
    }

    pub async fn answer(&mut self, id: u64) -> Value {
        self.answer_that(|answered, _| answered == id).await
    }

    /// The next answer of which `is` holds.
    pub async fn answer_that(&mut self, is: impl Fn(u64, &Value) -> bool) -> Value {
        loop {
            match self.next().await {
                Came::Event(event, data) => self.events.push_back((event, data)),
                Came::Answer(answered, data) if is(answered, &data) => return data,
                Came::Answer(..) => {}
                Came::Over => panic!("the socket of {} is over", self.user),
            }
        }
    }

    /// The next event of this name; earlier ones of others are forgotten.
    pub async fn expect(&mut self, name: &str) -> Value {
        loop {
            let (event, data) = match self.events.pop_front() {
                Some(event) => event,
                None => match self.next().await {
                    Came::Event(event, data) => (event, data),
                    Came::Answer(..) => continue,
                    Came::Over => panic!("the socket of {} is over, and {name} did not come", self.user),
                },
            };
            if let Some(seq) = data["seq"].as_str() {
                self.seq = seq.to_owned();
            }
            if event == name {
                return data;
            }
        }
    }

    /// The names of the events that came until now, of all that was sent before this.
    pub async fn heard(&mut self) -> Vec<String> {
        let id = self.emit("no-such-event", Value::Null).await;
        let answer = self.answer(id).await;
        assert_eq!(answer["error"]["code"], "no-such-event");
        self.events.drain(..).map(|(event, _)| event).collect()
    }

    /// Waits until the server ends the socket, and gives the events until then.
    pub async fn until_over(&mut self) -> Vec<(String, Value)> {
        loop {
            match self.next().await {
                Came::Event(event, data) => self.events.push_back((event, data)),
                Came::Answer(..) => {}
                Came::Over => return self.events.drain(..).collect(),
            }
        }
    }

    async fn next(&mut self) -> Came {
        tokio::time::timeout(WITHIN, self.come()).await.expect("something came")
    }

    async fn come(&mut self) -> Came {
        loop {
            let Some(text) = self.text().await else { return Came::Over };
            if text == "2" {
                self.send("3").await;
            } else if let Some(event) = text.strip_prefix("42") {
                let mut event: Vec<Value> = serde_json::from_str(event).unwrap();
                let data = if event.len() > 1 { event.remove(1) } else { Value::Null };
                return Came::Event(event.remove(0).as_str().unwrap().to_owned(), data);
            } else if let Some(answer) = text.strip_prefix("43") {
                let from = answer.find('[').unwrap();
                let mut data: Vec<Value> = serde_json::from_str(&answer[from..]).unwrap();
                return Came::Answer(answer[..from].parse().unwrap(), data.remove(0));
            } else if text == "41" || text == "1" {
                return Came::Over;
            }
        }
    }

    async fn text(&mut self) -> Option<String> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => return Some(text.as_str().to_owned()),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }
}
