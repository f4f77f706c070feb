//! Clients that connect by TCP.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::core::Drop;
use crate::net::framing::{Deframer, frame};

/// A client on a connection.
struct Connected {
    client: Client,
    stream: TcpStream,
    deframer: Deframer,
    /// Reads nothing.
    is_deaf: bool,
}

impl Connected {
    async fn new(media: &MediaHandle, server: SocketAddr, id: u64) -> Self {
        let stream = TcpStream::connect(server).await.unwrap();
        let client = announced(media, 0, id, stream.local_addr().unwrap()).await;
        Self { client, stream, deframer: Deframer::default(), is_deaf: false }
    }

    async fn turn(&mut self) {
        let mut buffer = [0; 65_536];
        if !self.is_deaf {
            let waited = tokio::time::timeout(Duration::from_millis(2), self.stream.read(&mut buffer)).await;
            if let Ok(Ok(length)) = waited {
                let client = &mut self.client;
                self.deframer.push(&buffer[..length], |frame| client.receive(frame, clock())).unwrap();
            }
        }
        self.client.tick(clock());
        while let Some(bytes) = self.client.poll() {
            // In two pieces, as a network may.
            let framed = frame(&bytes, bytes.len());
            let (first, second) = framed.split_at(framed.len() / 2);
            self.stream.write_all(first).await.unwrap();
            self.stream.write_all(second).await.unwrap();
        }
    }
}

async fn produce(media: &MediaHandle, publisher: &mut Client, id: u64) {
    let track = Outgoing::new(TrackKind::Vp8 { packets: 8 }, "0", 4242, clock());
    let order =
        Command::Produce { producer: ProducerId(1), transport: TransportId(id), spec: Outgoing::spec(&[&track]) };
    media.send(0, order).await.unwrap();
    publisher.tracks.push(track);
}

async fn consume(media: &MediaHandle, id: u64) {
    let (consumer, producer) = (ConsumerId(id), ProducerId(1));
    let order = Command::Consume { consumer, transport: TransportId(id), producer, spec: consumer_spec() };
    media.send(0, order).await.unwrap();
}

/// Whether the other end closes within this time.
async fn closes(stream: &mut TcpStream, within: Duration) -> bool {
    let mut buffer = [0; 64];
    matches!(tokio::time::timeout(within, stream.read(&mut buffer)).await, Ok(Ok(0) | Err(_)))
}

async fn call_by_tcp(listen: &str) {
    let (media, _task) = start(Config { listen: listen.parse().unwrap(), workers: 1, ..Config::default() }).unwrap();
    let server = SocketAddr::new(listen.parse::<SocketAddr>().unwrap().ip(), media.local_port(0));
    let mut publisher = Connected::new(&media, server, 1).await;
    let mut subscriber = Connected::new(&media, server, 2).await;
    let mut other = Peer::at(&media, server, 3).await;
    let deadline = clock() + Duration::from_secs(30);
    while !(publisher.client.connected && subscriber.client.connected && other.client.connected) {
        assert!(clock() < deadline, "no connection: {:?}", media.stats());
        publisher.turn().await;
        subscriber.turn().await;
        other.turn().await;
    }
    produce(&media, &mut publisher.client, 1).await;
    consume(&media, 2).await;
    consume(&media, 3).await;
    while subscriber.client.receiver.count(9000) < 160 || other.client.receiver.count(9000) < 160 {
        assert!(clock() < deadline, "no media: {:?}", media.stats());
        publisher.turn().await;
        subscriber.turn().await;
        other.turn().await;
    }
    assert_eq!(subscriber.client.undecryptable, 0);
    let remote = transport(&media, 0, 2).await.unwrap().remote();
    assert_eq!(remote, Some(subscriber.stream.local_addr().unwrap()));
    // The end of a connection is the end of its path; of a transport, of its connection.
    drop(subscriber);
    media.send(0, Command::CloseTransport { transport: TransportId(1) }).await.unwrap();
    while !publisher.client.closed {
        assert!(clock() < deadline, "no goodbye");
        publisher.turn().await;
    }
    assert!(closes(&mut publisher.stream, Duration::from_secs(10)).await);
    let remote = transport(&media, 0, 2).await.unwrap().remote();
    assert_eq!(remote, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_by_tcp_and_udp_on_one_port() {
    call_by_tcp("127.0.0.1:0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_by_tcp_and_udp_over_ipv6() {
    call_by_tcp("[::1]:0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_families_reach_a_socket_of_both() {
    let config = Config { listen: "[::]:0".parse().unwrap(), workers: 1, ..Config::default() };
    let (media, _task) = start(config).unwrap();
    let deadline = clock() + Duration::from_secs(20);
    for (id, ip) in [(1, "127.0.0.1"), (2, "::1")] {
        let server = SocketAddr::new(ip.parse().unwrap(), media.local_port(0));
        let mut udp = Peer::at(&media, server, id).await;
        let mut tcp = Connected::new(&media, server, id + 10).await;
        while !(udp.client.connected && tcp.client.connected) {
            assert!(clock() < deadline, "no connection to {server}");
            udp.turn().await;
            tcp.turn().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_strangers_are_few_and_short() {
    let config = Config { tcp_validate_within: Duration::from_secs(2), workers: 1, ..local() };
    let (media, _task) = start(config).unwrap();
    let server = SocketAddr::from(([127, 0, 0, 1], media.local_port(0)));
    let connect = || async move { TcpStream::connect(server).await.unwrap() };
    // What is no check ends a connection at once.
    for nonsense in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0, 0], &[0xff; 40], &frame(&[22; 60], 60), &frame(&[0; 20], 20)]
    {
        let mut stream = connect().await;
        stream.write_all(nonsense).await.unwrap();
        assert!(closes(&mut stream, Duration::from_millis(1500)).await, "{nonsense:?}");
    }
    // Those that say nothing take few places, for a short time.
    let began = clock();
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(connect().await);
    }
    let mut refused = 0;
    for stream in &mut silent {
        refused += usize::from(closes(stream, Duration::from_millis(5)).await);
    }
    assert!((30..=40).contains(&refused) || clock() > began + Duration::from_secs(2), "{refused}");
    for stream in &mut silent {
        assert!(closes(stream, Duration::from_secs(10)).await);
    }
    // Then there is room again.
    let mut peer = Connected::new(&media, server, 1).await;
    let deadline = clock() + Duration::from_secs(20);
    while !peer.client.connected {
        assert!(clock() < deadline, "no connection");
        peer.turn().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_takes_nothing_is_dropped_for_and_holds_up_nobody() {
    let (media, _task) = start(Config { workers: 1, ..local() }).unwrap();
    let server = SocketAddr::from(([127, 0, 0, 1], media.local_port(0)));
    let mut publisher = Peer::at(&media, server, 1).await;
    let mut deaf = Connected::new(&media, server, 2).await;
    let mut other = Connected::new(&media, server, 3).await;
    let deadline = clock() + Duration::from_secs(60);
    while !(publisher.client.connected && deaf.client.connected && other.client.connected) {
        assert!(clock() < deadline, "no connection");
        publisher.turn().await;
        deaf.turn().await;
        other.turn().await;
    }
    produce(&media, &mut publisher.client, 1).await;
    consume(&media, 2).await;
    consume(&media, 3).await;
    deaf.is_deaf = true;
    while media.stats().dropped(Drop::SendFailed) < 50 {
        assert!(clock() < deadline, "nothing was dropped: {:?}", media.stats());
        publisher.turn().await;
        other.turn().await;
        deaf.client.tick(clock());
        while let Some(bytes) = deaf.client.poll() {
            let _ = deaf.stream.write_all(&frame(&bytes, bytes.len())).await;
        }
    }
    let before = other.client.receiver.count(9000);
    while other.client.receiver.count(9000) < before + 100 {
        assert!(clock() < deadline, "the others are held up");
        publisher.turn().await;
        other.turn().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_tcp_is_off_nobody_connects() {
    let (media, _task) = start(Config { tcp: false, workers: 1, ..local() }).unwrap();
    let server = SocketAddr::from(([127, 0, 0, 1], media.local_port(0)));
    assert!(TcpStream::connect(server).await.is_err());
}
