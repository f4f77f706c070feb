//! The media node's core without sockets: one publisher, fifty subscribers, virtual time. What remains is
//! the work in memory, the floor under every figure that is measured with the network.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use callplane_media_node::{
    core::{
        Config, Core, Counter, Identity as CoreIdentity,
        command::{Command, ConsumerId, DtlsRole, Fingerprint, IceCredentials, ProducerId, RoomId, TransportId},
    },
    ortc::{self, ConsumerIds, Kind, RtpParameters},
};

use super::{
    client::{Client, ClientSpec, Now},
    handshake::{Credentials, Identity},
    meter::Meter,
    server::{rtp_parameters, stream_of},
    track::{Content, Spec},
    video::Video,
};
use crate::clock;

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const SUBSCRIBERS: u64 = 50;
const PICTURES: usize = 100;
const PUBLISHER: TransportId = TransportId(1);
const VIDEO: Video = Video::Equal { packets: 8, bytes: 1200, rate: 30.0 };
const TRACK: Spec = Spec { number: 0, content: Content::Pictures(VIDEO) };

struct World {
    core: Core,
    clients: Vec<Client>,
    start: Instant,
    elapsed: Duration,
    /// Real time in the core.
    spent: Duration,
    meter: Meter,
}

fn address(client: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 1, client as u8], 40_000 + client as u16))
}

impl World {
    fn now(&self) -> Now {
        let wall = 1_800_000_000_000_000_000 + self.elapsed.as_nanos() as u64;
        Now { monotonic: self.start + self.elapsed, wall }
    }

    fn join(&mut self, identity: &Identity, tracks: Vec<Spec>, streams: Vec<super::stream::Expected>) -> TransportId {
        let transport = TransportId(self.clients.len() as u64 + 1);
        let (ufrag, password) = (format!("ufrag{}", transport.0), "password-of-22-characters".to_owned());
        let credentials = Credentials {
            remote: (ufrag.clone(), password.clone()),
            local: ("load".to_owned(), "load".to_owned()),
            address: (SERVER, 0).into(),
        };
        let spec = ClientSpec { credentials, tracks, spacing: Duration::ZERO, streams, counted: true };
        let now = self.now();
        self.clients.push(Client::new(identity.clone(), spec, now.monotonic));
        let ice = IceCredentials { ufrag, password };
        self.core.handle(Command::CreateTransport { transport, room: RoomId(1), ice }, now.monotonic);
        let digest = identity.fingerprint.split(':').filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
        let fingerprints = vec![Fingerprint { algorithm: "sha-256".to_owned(), digest }];
        let role = DtlsRole::Client;
        self.core.handle(Command::ConnectTransport { transport, role, fingerprints }, now.monotonic);
        transport
    }

    /// Hands everything to and fro until nobody has anything to say, then lets a millisecond pass.
    fn step(&mut self) -> Result<()> {
        let now = self.now();
        loop {
            let mut quiet = true;
            for (i, client) in self.clients.iter_mut().enumerate() {
                client.tick(now, &mut self.meter)?;
                for mut datagram in std::mem::take(&mut client.out) {
                    quiet = false;
                    let began = clock::now();
                    self.core.receive(now.monotonic, SERVER, address(i), &mut datagram);
                    self.spent += began.elapsed();
                }
            }
            let began = clock::now();
            self.core.tick(now.monotonic);
            self.spent += began.elapsed();
            loop {
                let began = clock::now();
                let transmit = self.core.poll_transmit(now.monotonic);
                self.spent += began.elapsed();
                let Some(transmit) = transmit else { break };
                quiet = false;
                let client = &mut self.clients[usize::from(transmit.remote.port() - 40_000)];
                for datagram in transmit.payload.chunks(transmit.segment_size) {
                    client.receive(&mut datagram.to_vec(), now.wall, now, &mut self.meter);
                }
            }
            while self.core.poll_event().is_some() {}
            if quiet {
                self.elapsed += Duration::from_millis(1);
                return Ok(());
            }
        }
    }
}

/// Microseconds of one core for each forwarded packet: open, copy, rewrite, seal, batch, and the feedback on it.
///
/// # Errors
/// When the clients do not connect, or packets do not come out.
pub fn measure(identity: &Identity) -> Result<f64> {
    let start = clock::now();
    let core = Core::new(Config::default(), CoreIdentity::generate()?, 1, start);
    let mut world =
        World { core, clients: vec![], start, elapsed: Duration::ZERO, spent: Duration::ZERO, meter: Meter::default() };
    world.meter.know(TRACK.number);
    world.join(identity, vec![TRACK], vec![]);
    // What goes into the core is made as the node makes it: from mediasoup's parameters.
    let router = ortc::router_capabilities();
    let published: RtpParameters = serde_json::from_value(rtp_parameters(TRACK))?;
    let spec = ortc::producer_spec(Kind::Video, &published, router, false)?;
    let offered = ortc::consumable(Kind::Video, &published, router);
    let id = ProducerId(1);
    world.core.handle(Command::Produce { producer: id, transport: PUBLISHER, spec }, start);
    for i in 0..SUBSCRIBERS {
        let ids = ConsumerIds { mid: "0".to_owned(), ssrc: 0x5000_0000 + 2 * i as u32, cname: "load".to_owned() };
        let (parameters, spec) = ortc::consumer_rtp_parameters(&offered, router, ids, false)?;
        let stream = stream_of(&serde_json::to_value(parameters)?)
            .context("consumer parameters")?
            .expected(Some(TRACK.number), TRACK);
        let transport = world.join(identity, vec![], vec![stream]);
        let consumer_id = ConsumerId(i + 1);
        world.core.handle(Command::Consume { consumer: consumer_id, transport, producer: id, spec }, start);
    }
    while world.clients.iter().any(|client| !client.is_connected()) {
        ensure!(world.elapsed < Duration::from_secs(5), "the clients do not connect");
        world.step()?;
    }
    // A bandwidth estimate needs a while to believe the path.
    let mut datagrams = Vec::new();
    let warm = world.elapsed + Duration::from_secs(2);
    while world.elapsed < warm {
        let now = world.now();
        if world.clients[0].tracks[0].due() <= now.monotonic {
            world.clients[0].send(0, now, &mut |datagram| datagrams.push(datagram.to_vec()), &mut world.meter)?;
            for mut datagram in datagrams.drain(..) {
                world.core.receive(now.monotonic, SERVER, address(0), &mut datagram);
            }
        }
        world.step()?;
    }
    let before = world.core.stats().counter(Counter::RtpOut);
    let mut rounds = Vec::new();
    for _ in 0..PICTURES {
        let now = world.now();
        let mut datagrams = VecDeque::new();
        let mut out = |datagram: &[u8]| datagrams.push_back(datagram.to_vec());
        world.clients[0].send(0, now, &mut out, &mut world.meter)?;
        let forwarded = world.core.stats().counter(Counter::RtpOut);
        world.spent = Duration::ZERO;
        let began = clock::now();
        for datagram in &mut datagrams {
            world.core.receive(now.monotonic, SERVER, address(0), datagram);
        }
        world.spent += began.elapsed();
        // Until the next picture: sending, and the feedback of all that came.
        for _ in 0..33 {
            world.step()?;
        }
        // Congestion control may still hold some back.
        let forwarded = world.core.stats().counter(Counter::RtpOut) - forwarded;
        if forwarded > 0 {
            rounds.push(world.spent.as_secs_f64() * 1e6 / forwarded as f64);
        }
    }
    let packets = world.core.stats().counter(Counter::RtpOut) - before;
    ensure!(packets >= SUBSCRIBERS * PICTURES as u64 * 8 / 2, "only {packets} packets came out");
    Ok(crate::report::median(rounds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_of_the_load_connect_to_the_core_and_get_every_packet() {
        let cost = measure(&Identity::generate().unwrap()).unwrap();
        assert!(cost > 0.0);
    }
}
