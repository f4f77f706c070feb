//! Two replicas with clients by HTTP long polling, which is what is left where WebSockets are blocked.

use std::{collections::VecDeque, time::Duration};

use serde_json::{Value, json};

use crate::{
    redis_server::Server,
    replicas::{ROOM, replicas},
    world::World,
};

const WITHIN: Duration = Duration::from_secs(40);
/// Between the packets of one answer.
const SEPARATOR: char = '\u{1e}';

/// A Socket.IO client, protocol 5 on Engine.IO 4, by long polling of one replica.
struct Poller<'a> {
    world: &'a World,
    sid: String,
    asked: u64,
    packets: VecDeque<String>,
    events: VecDeque<(String, Value)>,
}

impl<'a> Poller<'a> {
    /// Connected, and in no room.
    async fn connect(world: &'a World) -> Self {
        let mut poller =
            Self { world, sid: String::new(), asked: 0, packets: VecDeque::new(), events: VecDeque::new() };
        let open = poller.packet().await;
        let open: Value = serde_json::from_str(open.strip_prefix('0').unwrap()).unwrap();
        poller.sid = open["sid"].as_str().unwrap().to_owned();
        poller.send("40").await;
        while !poller.packet().await.starts_with("40{") {}
        poller
    }

    /// In the room, as `user`, and what it was answered.
    async fn joined(world: &'a World, user: &str, resume: Option<Value>) -> (Self, Value) {
        let token = world.token(ROOM, user, "participant").await;
        let mut poller = Self::connect(world).await;
        let mut join = json!({"roomId": ROOM, "token": token});
        if let Some(resume) = resume {
            join["resume"] = resume;
        }
        let joined = poller.ask("join-room", join).await;
        assert!(joined["session"].is_string(), "{joined}");
        (poller, joined)
    }

    fn path(&self) -> String {
        let sid = if self.sid.is_empty() { String::new() } else { format!("&sid={}", self.sid) };
        format!("/socket.io/?EIO=4&transport=polling{sid}")
    }

    async fn send(&self, packet: impl Into<String>) {
        let sent = self.world.request("POST", &self.path()).header("content-type", "text/plain").body(packet.into());
        assert_eq!(sent.send().await.unwrap().status(), 200);
    }

    /// The next packet.
    async fn packet(&mut self) -> String {
        let poll = async {
            loop {
                if let Some(packet) = self.packets.pop_front() {
                    if packet != "2" {
                        return packet;
                    }
                    self.send("3").await;
                    continue;
                }
                let answer = self.world.request("GET", &self.path()).send().await.unwrap();
                assert_eq!(answer.status(), 200);
                self.packets.extend(answer.text().await.unwrap().split(SEPARATOR).map(str::to_owned));
            }
        };
        tokio::time::timeout(WITHIN, poll).await.expect("something came")
    }

    /// Sends an event and gives its acknowledgement.
    async fn ask(&mut self, event: &str, data: Value) -> Value {
        let answer = format!("43{}[", self.asked);
        self.send(format!("42{}{}", self.asked, json!([event, data]))).await;
        self.asked += 1;
        loop {
            let packet = self.packet().await;
            if let Some(rest) = packet.strip_prefix(&answer) {
                return serde_json::from_str::<Vec<Value>>(&format!("[{rest}")).unwrap().remove(0);
            }
            self.keep(&packet);
        }
    }

    fn keep(&mut self, packet: &str) {
        if let Some(event) = packet.strip_prefix("42") {
            let (event, data) = serde_json::from_str::<(String, Value)>(event).unwrap();
            self.events.push_back((event, data));
        }
    }

    /// The next event of this name; earlier ones of others are forgotten.
    async fn expect(&mut self, name: &str) -> Value {
        loop {
            while let Some((event, data)) = self.events.pop_front() {
                if event == name {
                    return data;
                }
            }
            let packet = self.packet().await;
            self.keep(&packet);
        }
    }
}

#[tokio::test]
async fn who_polls_is_in_the_call_with_those_of_other_replicas_and_comes_back_at_any() {
    let server = Server::start();
    let (one, two) = replicas(&server).await;
    let (mut ann, joined) = Poller::joined(&one, "ann", None).await;
    let (mut bob, _) = Poller::joined(&two, "bob", None).await;
    assert_eq!(ann.expect("call:participant-joined").await["userId"], "bob");
    bob.ask("chat", json!({"text": "hi"})).await;
    let (a, b) = (ann.expect("chat").await, bob.expect("chat").await);
    assert_eq!(a, b, "the same, in the same place");

    // A session of Engine.IO is one replica's: behind a Service its requests have to stick to that one.
    let astray = two.request("GET", &ann.path()).send().await.unwrap();
    assert_eq!(astray.status(), 400, "the other replica knows of no such session");
    ann.ask("chat", json!({"text": "still here"})).await;
    assert_eq!(bob.expect("chat").await["text"], "still here");
    let seen = ann.expect("chat").await["seq"].clone();

    // Whose requests go to another replica from now on begins another session, and resumes the same participant there.
    bob.ask("chat", json!({"text": "missed"})).await;
    let resume = json!({"session": joined["session"], "seq": seen});
    let (mut again, joined) = Poller::joined(&two, "ann", Some(resume)).await;
    assert_eq!(joined["resumed"], true, "{joined}");
    assert_eq!(joined["missed"][0]["data"]["text"], "missed");
    again.ask("chat", json!({"text": "back"})).await;
    while bob.expect("chat").await["text"] != "back" {}
}
