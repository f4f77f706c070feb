//! Real sockets on the loopback interface.

mod rooms;
mod tcp;

use std::time::{Duration, Instant};

use super::*;
use crate::core::command::{
    Command, ConsumerId, ConsumerSpec, Event, ExtensionKind, HeaderExtension, IceCredentials, ProducerId, RoomId,
    TransportId, TransportState,
};
use crate::core::testing::{Client, ClientOptions, Outgoing, TrackKind};
use crate::core::{Answer, Counter, Gauge, Question, TransportStats};

#[expect(clippy::disallowed_methods, reason = "real sockets run in real time")]
fn clock() -> Instant {
    Instant::now()
}

fn local() -> Config {
    Config { listen: "127.0.0.1:0".parse().unwrap(), workers: 2, ..Config::default() }
}

async fn transport(media: &MediaHandle, worker: WorkerId, id: u64) -> Option<TransportStats> {
    match media.ask(worker, Question::Transport(TransportId(id))).await.unwrap()? {
        Answer::Transport(stats) => Some(*stats),
        other => panic!("{other:?}"),
    }
}

struct Peer {
    client: Client,
    socket: tokio::net::UdpSocket,
    server: SocketAddr,
}

/// A client at this address with a transport of its own, which may connect.
async fn announced(media: &MediaHandle, worker: WorkerId, id: u64, address: SocketAddr) -> Client {
    let credentials = IceCredentials { ufrag: format!("u{id}"), password: "a password of 22 characters".into() };
    let mut client = Client::new(address, credentials.clone(), ClientOptions::default(), clock());
    client.expect_server(media.fingerprint());
    let transport = TransportId(id);
    let order = Command::CreateTransport { transport, room: RoomId(7 + worker as u64), ice: credentials };
    media.send(worker, order).await.unwrap();
    let order = Command::ConnectTransport { transport, role: client.role(), fingerprints: client.fingerprints() };
    media.send(worker, order).await.unwrap();
    client
}

fn consumer_spec() -> ConsumerSpec {
    ConsumerSpec {
        mid: "0".into(),
        payload_types: vec![101],
        renumbered: Vec::new(),
        clock_rate: 90_000,
        ssrc: 9000,
        rtx: None,
        nack: true,
        header_extensions: vec![HeaderExtension { kind: ExtensionKind::Mid, id: 1 }],
        cname: "x".into(),
        paused: false,
    }
}

impl Peer {
    async fn new(media: &MediaHandle, worker: WorkerId, id: u64) -> Self {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let client = announced(media, worker, id, socket.local_addr().unwrap()).await;
        let server = SocketAddr::from(([127, 0, 0, 1], media.local_port(worker)));
        Self { client, socket, server }
    }

    /// From the same address to worker 0's.
    async fn at(media: &MediaHandle, server: SocketAddr, id: u64) -> Self {
        let socket = tokio::net::UdpSocket::bind(SocketAddr::new(server.ip(), 0)).await.unwrap();
        let client = announced(media, 0, id, socket.local_addr().unwrap()).await;
        Self { client, socket, server }
    }

    /// Lets the client do what it wants for a moment.
    async fn turn(&mut self) {
        let mut buffer = [0; 2048];
        let waited = tokio::time::timeout(Duration::from_millis(2), self.socket.recv_from(&mut buffer)).await;
        if let Ok(Ok((len, from))) = waited {
            assert_eq!(from, self.server);
            self.client.receive(&buffer[..len], clock());
            while let Ok((len, _)) = self.socket.try_recv_from(&mut buffer) {
                self.client.receive(&buffer[..len], clock());
            }
        }
        self.client.tick(clock());
        while let Some(bytes) = self.client.poll() {
            self.socket.send_to(&bytes, self.server).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_over_real_sockets() {
    let (media, task) = start(local()).unwrap();
    let mut events = media.subscribe();
    let worker = media.worker_for_new_room();
    let mut publisher = Peer::new(&media, worker, 1).await;
    let mut subscriber = Peer::new(&media, worker, 2).await;
    let deadline = clock() + Duration::from_secs(20);
    while !(publisher.client.connected && subscriber.client.connected) {
        assert!(clock() < deadline, "no connection");
        publisher.turn().await;
        subscriber.turn().await;
    }

    let track = Outgoing::new(TrackKind::Vp8 { packets: 8 }, "0", 4242, clock());
    let spec = Outgoing::spec(&[&track]);
    media.send(worker, Command::Produce { producer: ProducerId(1), transport: TransportId(1), spec }).await.unwrap();
    publisher.client.tracks.push(track);
    let spec = consumer_spec();
    let order = Command::Consume { consumer: ConsumerId(1), transport: TransportId(2), producer: ProducerId(1), spec };
    media.send(worker, order).await.unwrap();
    while subscriber.client.receiver.count(9000) < 160 {
        assert!(clock() < deadline, "no media: {:?}", media.stats());
        publisher.turn().await;
        subscriber.turn().await;
    }

    let stats = transport(&media, worker, 2).await.unwrap();
    assert_eq!(stats.state, TransportState::Connected);
    assert_eq!(stats.consumers, 1);
    let producer = media.ask(worker, Question::Producer(ProducerId(1))).await.unwrap();
    assert!(matches!(producer, Some(Answer::Producer(stats)) if stats.streams[0].packets >= 160));
    assert_eq!(media.ask(worker, Question::Consumer(ConsumerId(9))).await.unwrap(), None);
    tokio::time::sleep(Duration::from_millis(250)).await;
    let stats = media.stats();
    assert_eq!(stats.gauge(Gauge::Transports), 2);
    assert!(stats.counter(Counter::RtpOut) >= 160);
    // A frame of eight packets leaves in few system calls.
    assert!(stats.counter(Counter::Transmits) * 3 < stats.counter(Counter::PacketsOut), "{stats:?}");
    assert_eq!(stats.batches().iter().sum::<u64>(), stats.counter(Counter::Transmits));
    assert!(media.segments() >= 1);

    let mut connected = 0;
    while let Ok((from, event)) = events.try_recv() {
        assert_eq!(from, worker);
        connected += usize::from(matches!(event, Event::TransportState { state: TransportState::Connected, .. }));
    }
    assert_eq!(connected, 2);
    drop(media);
    assert!(tokio::time::timeout(Duration::from_secs(5), task).await.unwrap().unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_go_to_the_least_loaded_worker_and_ports_differ() {
    let (media, _task) = start(local()).unwrap();
    let [first, second] = [media.worker_for_new_room(), media.worker_for_new_room()];
    assert_ne!(first, second, "the first has been given a room");
    let ports: Vec<_> = media.workers().map(|w| media.local_port(w)).collect();
    assert!(ports[0] != 0 && ports[0] != ports[1]);
    assert_eq!(media.send(2, Command::CloseTransport { transport: TransportId(1) }).await, Err(Closed(2)));
}

#[tokio::test]
async fn a_port_in_use_is_an_error_that_names_it() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap();
    let error = start(Config { listen, workers: 1, ..local() }).unwrap_err();
    assert!(error.to_string().contains(&listen.to_string()), "{error}");
    let listen = "127.0.0.1:65535".parse().unwrap();
    assert!(matches!(
        start(Config { listen, workers: 2, ..local() }),
        Err(StartError::Ports { .. } | StartError::Socket { .. })
    ));
}
