//! One server, its clients, the network between them, and the only clock.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::client::{Client, ClientOptions};
use super::network::{Datagram, Direction, Network};
use super::origin;
use super::track::{Outgoing, extensions};
use crate::core::command::{
    Command, ConsumerId, ConsumerSpec, Event, ExtensionKind, IceCredentials, ProducerId, RoomId, TransportId,
    TransportState,
};
use crate::core::rtp::Ids;
use crate::core::{Config, Core, Identity, Protocol, Stats};

pub(crate) const SERVER_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

pub(crate) const SUBSCRIBER_IDS: [(ExtensionKind, u8); 5] = [
    (ExtensionKind::Mid, 1),
    (ExtensionKind::AbsSendTime, 4),
    (ExtensionKind::TransportCc, 5),
    (ExtensionKind::AudioLevel, 10),
    (ExtensionKind::DependencyDescriptor, 8),
];

/// Sees every datagram that the server sends.
pub(crate) type Tap = Box<dyn FnMut(&SocketAddr, &[u8])>;

/// What the server sent and the network has not yet taken.
#[derive(Default)]
struct Sent {
    bytes: Vec<u8>,
    /// To whom, how many bytes, in segments of which size.
    transmits: Vec<(SocketAddr, usize, usize)>,
}

impl Sent {
    /// Takes everything that is to be sent.
    fn collect(&mut self, core: &mut Core, now: Instant) {
        while let Some(transmit) = core.poll_transmit(now) {
            assert_eq!(transmit.local, SERVER_IP);
            assert_eq!(transmit.payload.chunks(transmit.segment_size).count(), transmit.packets);
            self.bytes.extend_from_slice(transmit.payload);
            self.transmits.push((transmit.remote, transmit.payload.len(), transmit.segment_size));
        }
    }
}

pub(crate) struct World {
    pub now: Instant,
    pub start: Instant,
    pub core: Core,
    pub network: Network,
    pub clients: Vec<Client>,
    pub events: Vec<Event>,
    /// Segments per transmit, summed.
    pub transmits: u64,
    /// The least time that passes in a step.
    pub grain: Duration,
    /// Makes each call of the core, so that what it allocates can be told from what the tests do.
    pub around: fn(&mut dyn FnMut()),
    sent: Sent,
    next_id: u64,
    /// What the server sent, to look at or to replay.
    pub tap: Option<Tap>,
}

impl World {
    /// Paths are taken to be wide until something else is known.
    pub fn new(seed: u64) -> Self {
        let mut config = Config::default();
        config.bandwidth.initial = config.bandwidth.most;
        Self::with(seed, config)
    }

    pub fn with(seed: u64, config: Config) -> Self {
        let now = origin();
        Self {
            now,
            start: now,
            core: Core::new(config, Identity::generate().unwrap(), seed, now),
            network: Network::new(seed),
            clients: Vec::new(),
            events: Vec::new(),
            transmits: 0,
            grain: Duration::ZERO,
            around: |call| call(),
            // As much as is ever sent at once: it is not the core that is to be seen to grow.
            sent: Sent { bytes: Vec::with_capacity(1 << 20), transmits: Vec::with_capacity(1 << 12) },
            next_id: 1,
            tap: None,
        }
    }

    pub fn stats(&self) -> &Stats {
        self.core.stats()
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub fn credentials(&mut self) -> IceCredentials {
        let id = self.id();
        IceCredentials { ufrag: format!("ufrag{id}"), password: format!("password-{id}-of-at-least-22") }
    }

    /// A client with a transport in room 1, connecting from now on. Its transport id is its index plus one.
    pub fn join(&mut self, options: ClientOptions) -> usize {
        let index = self.join_without_connect(options);
        self.connect(index);
        index
    }

    pub fn join_without_connect(&mut self, options: ClientOptions) -> usize {
        let index = self.clients.len();
        let credentials = self.credentials();
        let addr = SocketAddr::from(([10, 0, 1, index as u8], 40_000 + index as u16));
        let mut client = Client::new(addr, credentials.clone(), options, self.now);
        client.expect_server(self.core.identity.fingerprint());
        client.receiver.ids = Ids::new(&extensions(&SUBSCRIBER_IDS));
        client.receiver.nack = true;
        let transport = TransportId(index as u64 + 1);
        self.handle(Command::CreateTransport { transport, room: RoomId(1), ice: credentials });
        self.clients.push(client);
        index
    }

    pub fn connect(&mut self, index: usize) {
        let client = &self.clients[index];
        let (role, fingerprints) = (client.role(), client.fingerprints());
        self.handle(Command::ConnectTransport { transport: TransportId(index as u64 + 1), role, fingerprints });
    }

    pub fn handle(&mut self, command: Command) {
        let (core, now) = (&mut self.core, self.now);
        // What it is made of is the core's from then on.
        (self.around)(&mut || core.handle(command.clone(), now));
        self.pump();
    }

    /// Publishes tracks as the encodings of one producer.
    pub fn publish(&mut self, client: usize, tracks: Vec<Outgoing>) -> ProducerId {
        let producer = ProducerId(self.id());
        let spec = Outgoing::spec(&tracks.iter().collect::<Vec<_>>());
        self.handle(Command::Produce { producer, transport: TransportId(client as u64 + 1), spec });
        self.clients[client].tracks.extend(tracks);
        producer
    }

    /// Subscribes; returns the consumer and the SSRC that it will be received under.
    pub fn subscribe(&mut self, client: usize, producer: ProducerId, video: bool) -> (ConsumerId, u32) {
        let consumer = ConsumerId(self.id());
        let spec = self.consumer_spec(client, consumer.0, video);
        let ssrc = spec.ssrc;
        self.handle(Command::Consume { consumer, transport: TransportId(client as u64 + 1), producer, spec });
        (consumer, ssrc)
    }

    /// What a client asks for as its subscription `id`.
    pub fn consumer_spec(&mut self, client: usize, id: u64, video: bool) -> ConsumerSpec {
        let ssrc = 0x5000_0000 + id as u32 * 16;
        let rtx = video.then_some((ssrc + 1, 102));
        if let Some((rtx_ssrc, _)) = rtx {
            self.clients[client].receiver.rtx.insert(rtx_ssrc, (ssrc, 101));
        }
        ConsumerSpec {
            mid: id.to_string(),
            payload_types: vec![if video { 101 } else { 100 }],
            renumbered: Vec::new(),
            clock_rate: if video { 90_000 } else { 48_000 },
            ssrc,
            rtx,
            nack: true,
            header_extensions: extensions(if video { &SUBSCRIBER_IDS } else { &SUBSCRIBER_IDS[..2] }),
            cname: "publisher".to_owned(),
            paused: false,
        }
    }

    /// How whoever has this address is reached.
    fn protocol(&self, addr: SocketAddr) -> Protocol {
        self.clients.iter().find(|client| client.addr == addr).map_or(Protocol::Udp, |client| client.protocol)
    }

    /// A datagram from anywhere, past the network.
    pub fn inject(&mut self, from: SocketAddr, bytes: &[u8]) -> crate::core::Fate {
        let mut bytes = bytes.to_vec();
        let fate = self.core.receive(self.now, SERVER_IP, from, &mut bytes);
        self.pump();
        fate
    }

    /// Takes everything that is to be sent.
    pub fn pump(&mut self) {
        let (core, sent, now) = (&mut self.core, &mut self.sent, self.now);
        (self.around)(&mut || {
            core.tick(now);
            sent.collect(core, now);
        });
        let mut rest = &self.sent.bytes[..];
        for (remote, len, segment) in self.sent.transmits.drain(..) {
            self.transmits += 1;
            let (payload, after) = rest.split_at(len);
            rest = after;
            for bytes in payload.chunks(segment) {
                if let Some(tap) = &mut self.tap {
                    tap(&remote, bytes);
                }
                let datagram = Datagram { direction: Direction::ToClient, client: remote, bytes: bytes.to_vec() };
                self.network.send(datagram, now);
            }
        }
        self.sent.bytes.clear();
        self.events.extend(std::iter::from_fn(|| self.core.poll_event()));
        for client in &mut self.clients {
            let mut reports = Vec::new();
            for track in &mut client.tracks {
                if client.connected {
                    reports.extend(track.report(self.now));
                }
            }
            for report in reports {
                client.send_rtcp(&report);
            }
            while let Some(bytes) = client.poll() {
                let datagram = Datagram { direction: Direction::ToServer, client: client.addr, bytes };
                self.network.send(datagram, self.now);
            }
        }
    }

    /// One step to whatever happens next.
    fn step(&mut self, until: Instant) {
        self.pump();
        let next = self
            .clients
            .iter()
            .filter_map(Client::timeout)
            .chain(self.core.poll_timeout())
            .chain(self.network.next())
            .min()
            .map_or(until, |next| next.max(self.now + self.grain).min(until));
        self.now = next;
        while let Some(mut datagram) = self.network.deliver(self.now) {
            match datagram.direction {
                Direction::ToServer => {
                    let protocol = self.protocol(datagram.client);
                    let (core, now, client) = (&mut self.core, self.now, datagram.client);
                    (self.around)(&mut || _ = core.receive_by(protocol, now, SERVER_IP, client, &mut datagram.bytes));
                }
                Direction::ToClient => {
                    if let Some(client) = self.clients.iter_mut().find(|c| c.addr == datagram.client) {
                        client.receive(&datagram.bytes, self.now);
                    }
                }
            }
        }
        for client in &mut self.clients {
            client.tick(self.now);
        }
        self.pump();
    }

    pub fn run_for(&mut self, duration: Duration) {
        let until = self.now + duration;
        while self.now < until {
            self.step(until);
        }
    }

    /// Runs until `done`; panics after `limit`. Returns how long it took.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&World) -> bool) -> Duration {
        let began = self.now;
        let until = self.now + limit;
        while !done(self) {
            assert!(self.now < until, "not within {limit:?}: {:?}", self.events);
            self.step(until);
        }
        self.now - began
    }

    pub fn state(&self, client: usize) -> Option<TransportState> {
        self.core.transport_stats(TransportId(client as u64 + 1), self.now).map(|s| s.state)
    }

    pub fn run_until_connected(&mut self) -> Duration {
        self.run_until(Duration::from_secs(20), |world| {
            (0..world.clients.len())
                .all(|i| world.clients[i].connected && world.state(i) == Some(TransportState::Connected))
        })
    }
}
