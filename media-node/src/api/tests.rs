//! A call over real sockets, from the first request to its statistics.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::net::{TcpListener, UdpSocket};

use super::{Api, EventTimeouts, IceServers, Limits, Rate};
use crate::{
    auth::{Claims, Verifier, mint::Signer},
    core::{
        command::{Fingerprint, IceCredentials},
        testing::{Client, ClientOptions, Outgoing, TrackKind},
    },
    metrics::{Metrics, Sources},
    net, node,
    ortc::DtlsFingerprint,
    rooms::{Assignment, MediaRules, Role, RoomKey, Settings},
    system,
};

const CALL: &str = "default.demo";
/// However busy the machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node without Kubernetes that serves one room.
struct Node {
    api: SocketAddr,
    media: SocketAddr,
    fingerprint: Fingerprint,
    signer: Signer,
    client: reqwest::Client,
}

impl Node {
    async fn start() -> Self {
        let config =
            net::Config { listen: SocketAddr::from(([127, 0, 0, 1], 0)), workers: 1, ..net::Config::default() };
        let (media, _) = net::start(config).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], media.local_port(0)));
        let settings = Settings {
            standalone: false,
            grace: PATIENCE,
            candidates: vec![vec![address]],
            ice_tcp: false,
            fingerprint: media.fingerprint(),
        };
        let (directory, _) = node::join(settings, &media);
        let key = RoomKey::of_call_room(CALL).unwrap();
        let rules = MediaRules::default();
        let assignment = Assignment { key, uid: "uid".into(), epoch: 1, max_participants: 9, rules };
        directory.serve(assignment).await.unwrap();
        let (signer, _) = Signer::generate().unwrap();
        let keys = std::env::temp_dir().join(format!("callplane-api-{}.json", std::process::id()));
        std::fs::write(&keys, signer.jwks()).unwrap();
        let unlimited = Rate { per_second: 0.0, burst: 0.0 };
        let router = super::router(Arc::new(Api {
            directory,
            verifier: Verifier::new(keys, Duration::from_secs(3600)).unwrap(),
            standalone: false,
            limits: Limits::new(unlimited, unlimited, Vec::new()),
            metrics: Arc::new(Metrics::new(Sources::default())),
            cors_origins: Vec::new(),
            ice_servers: IceServers::default(),
            event_timeouts: EventTimeouts::default(),
        }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = listener.local_addr().unwrap();
        tokio::spawn(super::serve(listener, router, std::future::pending()));
        let fingerprint = media.fingerprint();
        Self { api, media: address, fingerprint, signer, client: reqwest::Client::new() }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/api/rooms/{CALL}{path}", self.api)
    }

    fn token(&self, user: &str) -> String {
        let iat = system::timestamp().as_second();
        let claims = Claims {
            sub: user.into(),
            room_id: CALL.into(),
            room_uid: Some("uid".into()),
            epoch: 1,
            role: Role::Participant,
            grants: None,
            name: None,
            exp: iat + 300,
            iat,
            nbf: None,
        };
        self.signer.token(&claims).unwrap()
    }

    async fn post(&self, user: &str, path: &str, body: Value) -> Value {
        let request = self.client.post(self.url(path)).bearer_auth(self.token(user)).json(&body);
        let response = request.send().await.unwrap();
        assert!(response.status().is_success(), "{path}: {}", response.text().await.unwrap());
        response.json().await.unwrap()
    }

    async fn stats(&self, user: &str, path: &str) -> Value {
        let request = self.client.get(self.url(&format!("{path}/stats"))).bearer_auth(self.token(user));
        let response = request.send().await.unwrap();
        assert!(response.status().is_success(), "{path}: {}", response.status());
        response.json().await.unwrap()
    }
}

#[expect(clippy::disallowed_methods, reason = "real sockets run in real time")]
fn clock() -> Instant {
    Instant::now()
}

/// A participant with one transport.
struct Peer {
    user: &'static str,
    transport: String,
    client: Client,
    socket: UdpSocket,
    server: SocketAddr,
}

impl Peer {
    async fn join(node: &Node, user: &'static str, direction: &str) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let created = node.post(user, "/transports", json!({"direction": direction})).await;
        let ice = &created["iceParameters"];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let credentials = IceCredentials { ufrag: text(&ice["usernameFragment"]), password: text(&ice["password"]) };
        let options = ClientOptions::default();
        let mut client = Client::new(socket.local_addr().unwrap(), credentials, options, clock());
        client.expect_server(node.fingerprint.clone());
        let transport = text(&created["id"]);
        let fingerprints: Vec<_> = client.fingerprints().iter().map(DtlsFingerprint::from).collect();
        let body = json!({"dtlsParameters": {"role": "client", "fingerprints": fingerprints}});
        node.post(user, &format!("/transports/{transport}/connect"), body).await;
        Self { user, transport, client, socket, server: node.media }
    }

    /// Lets the client do what it wants for a moment.
    async fn turn(&mut self) {
        let mut buffer = [0; 2048];
        let waited = tokio::time::timeout(Duration::from_millis(2), self.socket.recv(&mut buffer)).await;
        if let Ok(Ok(len)) = waited {
            self.client.receive(&buffer[..len], clock());
            while let Ok(len) = self.socket.try_recv(&mut buffer) {
                self.client.receive(&buffer[..len], clock());
            }
        }
        self.client.tick(clock());
        while let Some(bytes) = self.client.poll() {
            self.socket.send_to(&bytes, self.server).await.unwrap();
        }
    }

    async fn transport_stat(&self, node: &Node) -> Value {
        node.stats(self.user, &format!("/transports/{}", self.transport)).await[0].clone()
    }
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("no {key} in {value}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_statistics_of_a_call_are_those_of_its_packets() {
    let node = Node::start().await;
    let mut ann = Peer::join(&node, "ann", "send").await;
    let mut bob = Peer::join(&node, "bob", "recv").await;
    let fresh = ann.transport_stat(&node).await;
    let states = |stat: &Value| [stat["iceState"].clone(), stat["dtlsState"].clone()];
    assert_eq!(states(&fresh), ["new", "new"]);
    assert_eq!((fresh.get("iceSelectedTuple"), number(&fresh, "bytesReceived")), (None, 0));

    let deadline = clock() + PATIENCE;
    while !(ann.client.connected && bob.client.connected) {
        assert!(clock() < deadline, "no connection");
        ann.turn().await;
        bob.turn().await;
    }
    let codec = json!({"mimeType": "audio/opus", "clockRate": 48000, "channels": 2});
    let mut sent = codec.clone();
    sent["payloadType"] = 111.into();
    let parameters = json!({"mid": "0", "codecs": [sent], "encodings": [{"ssrc": 1111}]});
    let body = json!({"kind": "audio", "rtpParameters": parameters});
    let produced = node.post("ann", &format!("/transports/{}/produce", ann.transport), body).await;
    let producer = produced["id"].as_str().unwrap().to_owned();
    let mut known = codec;
    (known["kind"], known["preferredPayloadType"]) = ("audio".into(), 100.into());
    let body = json!({
        "transportId": bob.transport, "producerId": producer, "paused": false, "rtpCapabilities": {"codecs": [known]},
    });
    let consumed = node.post("bob", "/consume", body).await;
    let ssrc = consumed["rtpParameters"]["encodings"][0]["ssrc"].as_u64().unwrap() as u32;
    let consumer = format!("/consumers/{}", consumed["id"].as_str().unwrap());
    ann.client.tracks.push(Outgoing::new(TrackKind::Opus, "0", 1111, clock()));
    while bob.client.receiver.count(ssrc) < 60 {
        assert!(clock() < deadline, "no sound");
        ann.turn().await;
        bob.turn().await;
    }
    ann.client.tracks[0].muted = true;
    let produced = ann.client.tracks[0].produced;
    while (bob.client.receiver.count(ssrc) as u64) < produced {
        assert!(clock() < deadline, "something is missing");
        ann.turn().await;
        bob.turn().await;
    }

    let inbound = node.stats("ann", &format!("/producers/{producer}")).await;
    let inbound = &inbound[0];
    assert_eq!(
        (&inbound["type"], &inbound["kind"], &inbound["mimeType"]),
        (&json!("inbound-rtp"), &json!("audio"), &json!("audio/opus"))
    );
    let counts = ["ssrc", "packetCount", "packetsLost", "nackCount"].map(|key| number(inbound, key));
    assert_eq!(counts, [1111, produced, 0, 0]);
    let both = node.stats("bob", &consumer).await;
    let (outbound, source) = (&both[0], &both[1]);
    assert_eq!((number(outbound, "ssrc"), number(outbound, "packetCount")), (u64::from(ssrc), produced));
    assert_eq!(number(source, "byteCount"), number(inbound, "byteCount"));
    let (ann_stat, bob_stat) = (ann.transport_stat(&node).await, bob.transport_stat(&node).await);
    for (peer, stat) in [(&ann, &ann_stat), (&bob, &bob_stat)] {
        assert_eq!(states(stat), ["completed", "connected"]);
        let tuple = &stat["iceSelectedTuple"];
        let ports = [number(tuple, "localPort"), number(tuple, "remotePort")];
        assert_eq!(ports, [node.media.port(), peer.client.addr.port()].map(u64::from));
        assert_eq!((&tuple["protocol"], &stat["transportId"]), (&json!("udp"), &json!(peer.transport)));
    }
    assert_eq!(number(&ann_stat, "rtpBytesReceived"), number(inbound, "byteCount"));
    assert_eq!(number(&bob_stat, "rtpBytesSent"), number(outbound, "byteCount"));
    assert!(number(&ann_stat, "bytesReceived") > number(&ann_stat, "rtpBytesReceived"));
    assert!(number(&bob_stat, "bytesSent") > number(&bob_stat, "rtpBytesSent"));
}
