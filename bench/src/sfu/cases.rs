//! The loads that servers are put under.

use std::{path::Path, time::Duration};

use anyhow::{Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;

use super::{
    generator::Generator,
    process,
    run::{CONCURRENT, Measured, Room, Running, receiver, silent},
    server::{Peer, Server},
    stage::Stage,
    track::{Content, LAYERS, Spec, Voice},
    video::Video,
};
use crate::clock;

/// Which load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Case {
    /// One publisher, 50 subscribers, pictures of eight packets of 1200 bytes.
    Equal,
    /// One publisher, 50 subscribers, pictures as a camera gives: 1.5 Mbit/s, 30 a second.
    Camera,
    /// The same, a picture's packets 2.5 ms apart.
    Paced,
    /// The same as `camera`, 5 % of all datagrams lost in both directions.
    Loss,
    /// Rooms of 50 in which all publish a camera in three encodings and a voice. The server chooses: everyone receives nine
    /// cameras, one in its highest encoding and eight in the lowest, and the three loudest voices.
    Stage,
    /// The same without choosing, for servers that do not: nine publish one encoding each, one large and eight small, and three
    /// of them a voice; everyone receives all of it.
    Rooms50,
    /// Rooms of 5: everyone publishes camera and voice, and receives the other four.
    Rooms5,
    /// 200 connections without media: what ICE and DTLS cost.
    Handshake,
    /// 500 subscribers join ten rooms in ten seconds.
    Storm,
}

impl Case {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Equal,
        Self::Camera,
        Self::Paced,
        Self::Loss,
        Self::Stage,
        Self::Rooms50,
        Self::Rooms5,
        Self::Handshake,
        Self::Storm,
    ];

    /// Whether a server can be put under it: only callplane's chooses who is seen and heard.
    pub fn suits(self, peer: Peer) -> bool {
        self != Self::Stage || peer == Peer::Callplane
    }
}

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Seconds of measurement.
    pub seconds: f64,
    /// Rooms of 50 and rooms of 5.
    pub rooms: (usize, usize),
    /// Event loops of the server in the cases with several rooms.
    pub workers: usize,
}

/// What joining costs.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Joins {
    /// Case.
    pub case: &'static str,
    /// Server.
    pub peer: String,
    /// Clients.
    pub joins: usize,
    /// CPU time of the server for each, in milliseconds.
    pub millis_per_join: f64,
    /// Resident memory for each, in KB of 1000 bytes.
    pub kilobytes_per_join: f64,
    /// From the first join until the last client had keys, in seconds.
    pub seconds: f64,
    /// Load average when it was measured.
    pub load_average: f64,
}

/// What a case gives.
pub enum Outcome {
    /// Forwarding.
    Media(Box<Measured>),
    /// Joining.
    Joins(Joins),
}

const LARGE: Video = Video::Camera { bitrate: 1_500_000.0, rate: 30.0 };
const MIDDLE: Video = Video::Camera { bitrate: 500_000.0, rate: 30.0 };
const SMALL: Video = Video::Camera { bitrate: 200_000.0, rate: 15.0 };

/// Gives tracks their numbers.
#[derive(Default)]
struct Numbers(u32);

impl Numbers {
    fn spec(&mut self, content: Content) -> Spec {
        let spec = Spec { number: self.0, content };
        self.0 += spec.encodings().len() as u32;
        spec
    }

    fn pictures(&mut self, video: Video) -> Spec {
        self.spec(Content::Pictures(video))
    }

    fn sound(&mut self) -> Spec {
        self.spec(Content::Sound(Voice::Steady))
    }
}

fn broadcast(video: Video) -> Vec<Room> {
    let publishers = vec![vec![Numbers::default().pictures(video)]];
    vec![Room { publishers, listeners: 50, ..Room::default() }]
}

fn rooms_of_50(count: usize) -> Vec<Room> {
    let mut numbers = Numbers::default();
    let mut participant = |i: usize| {
        let mut tracks = vec![numbers.pictures(if i == 0 { LARGE } else { SMALL })];
        if i < 3 {
            tracks.push(numbers.sound());
        }
        tracks
    };
    let mut room = || Room {
        publishers: (0..9).map(&mut participant).collect(),
        listeners: 41,
        conference: true,
        ..Room::default()
    };
    (0..count).map(|_| room()).collect()
}

/// Who talks in a stage's room: in the middle of it, so that coming first is not enough to be seen.
const TALKERS: [usize; 3] = [10, 20, 30];

fn stages(count: usize) -> Vec<Room> {
    let mut numbers = Numbers::default();
    let stage = Stage { last_n: 9, loudest: TALKERS.len(), talkers: TALKERS.to_vec() };
    let layers: [Video; LAYERS] = [SMALL, MIDDLE, LARGE];
    let mut participant = |place| {
        let voice = Content::Sound(stage.voice(place));
        vec![numbers.spec(Content::Layers(layers)), numbers.spec(voice)]
    };
    let mut publishers = || (0..50).map(&mut participant).collect();
    let rooms: Vec<Vec<Vec<Spec>>> = (0..count).map(|_| publishers()).collect();
    let room = |publishers| Room { publishers, listeners: 0, conference: true, stage: Some(stage.clone()) };
    rooms.into_iter().map(room).collect()
}

fn rooms_of_5(count: usize) -> Vec<Room> {
    let mut numbers = Numbers::default();
    let mut participant = |_| vec![numbers.sound(), numbers.pictures(MIDDLE)];
    let mut room = || Room { publishers: (0..5).map(&mut participant).collect(), conference: true, ..Room::default() };
    (0..count).map(|_| room()).collect()
}

/// Runs a case.
///
/// # Errors
/// When the server is absent, refuses or fails.
pub async fn run(case: Case, peer: Peer, size: Size, generator: &Generator, logs: &Path) -> Result<Outcome> {
    let name = |rooms: usize| match case {
        Case::Equal => "1→50, equal packets of 1200 B".to_owned(),
        Case::Camera => "1→50, camera 1.5 Mbit/s".to_owned(),
        Case::Paced => "1→50, camera, packets 2.5 ms apart".to_owned(),
        Case::Loss => "1→50, camera, 5 % loss each way".to_owned(),
        Case::Stage => format!("{rooms} rooms of 50, all publish: last-N 9, loudest 3, {LAYERS} layers"),
        Case::Rooms50 => format!("{rooms} rooms of 50, 9 cameras + 3 voices, all forwarded"),
        Case::Rooms5 => format!("{rooms} rooms of 5, all with all"),
        Case::Handshake | Case::Storm => String::new(),
    };
    let (rooms, workers) = match case {
        Case::Equal => (broadcast(Video::Equal { packets: 8, bytes: 1200, rate: 30.0 }), 1),
        Case::Camera | Case::Paced | Case::Loss => (broadcast(LARGE), 1),
        Case::Stage => (stages(size.rooms.0), size.workers),
        Case::Rooms50 => (rooms_of_50(size.rooms.0), size.workers),
        Case::Rooms5 => (rooms_of_5(size.rooms.1), size.workers),
        Case::Handshake => return handshakes(peer, generator, logs).await.map(Outcome::Joins),
        Case::Storm => return storm(peer, size, generator, logs).await.map(Outcome::Joins),
    };
    let spacing = if case == Case::Paced { Duration::from_micros(2500) } else { Duration::ZERO };
    let running = Running::start(generator, peer, workers, &rooms, spacing, logs).await?;
    if case == Case::Loss {
        generator.lose(0.05)?;
    }
    let measured = running.measure(&name(rooms.len()), peer, Duration::from_secs_f64(size.seconds)).await;
    running.stop().await?;
    Ok(Outcome::Media(Box::new(measured?)))
}

/// Connections are agreed on first; then all connect within two seconds, and nothing else happens.
async fn handshakes(peer: Peer, generator: &Generator, logs: &Path) -> Result<Joins> {
    const COUNT: usize = 200;
    generator.clear()?;
    let server = Server::start(peer, 1, &generator.identity.fingerprint, logs).await?;
    server.open("room", None).await?;
    // Its publisher connects and says nothing, so there is no media.
    let publisher = server.publish("room", "publisher", &[Numbers::default().sound()]).await?;
    generator.add(vec![(publisher.remote, silent(&publisher))])?;
    until(generator, 1).await?;
    let published = publisher.media;
    let subscribe = |user: String| {
        let (server, published) = (&server, &published);
        async move { server.subscribe("room", &user, published).await.map(receiver) }
    };
    // Several at a time: servers give up on those who have agreed and do not connect for half a minute.
    let users = (0..COUNT).map(|i| format!("listener-{i}"));
    let receivers: Vec<_> = stream::iter(users).map(subscribe).buffered(CONCURRENT).try_collect().await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = process::usage(server.pids())?;
    let began = clock::now();
    let joins = connect(&receivers, 10, Duration::from_millis(100), generator).await;
    let seconds = began.elapsed().as_secs_f64();
    let after = process::usage(server.pids());
    generator.clear()?;
    server.stop().await;
    joins?;
    Ok(joins_of("handshake: ICE and DTLS alone", peer, COUNT, before, after?, seconds))
}

async fn connect(
    receivers: &[(std::net::SocketAddr, super::client::ClientSpec)],
    at_once: usize,
    interval: Duration,
    generator: &Generator,
) -> Result<()> {
    let before = generator.meter()?.totals.connected;
    for some in receivers.chunks(at_once) {
        generator.add(some.to_vec())?;
        tokio::time::sleep(interval).await;
    }
    until(generator, before + receivers.len() as u64).await
}

async fn until(generator: &Generator, wanted: u64) -> Result<()> {
    let deadline = clock::now() + Duration::from_secs(20);
    while generator.meter()?.totals.connected < wanted {
        ensure!(clock::now() < deadline, "{} of {wanted} are connected", generator.meter()?.totals.connected);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

fn joins_of(
    case: &'static str,
    peer: Peer,
    joins: usize,
    before: process::Usage,
    after: process::Usage,
    seconds: f64,
) -> Joins {
    Joins {
        case,
        peer: peer.name().to_owned(),
        joins,
        millis_per_join: (after.cpu - before.cpu) * 1000.0 / joins as f64,
        kilobytes_per_join: after.resident.saturating_sub(before.resident) as f64 / 1000.0 / joins as f64,
        seconds,
        load_average: process::load_average(),
    }
}

/// Ten rooms with a voice each; 500 subscribers, 50 a second, from signalling to keys.
async fn storm(peer: Peer, size: Size, generator: &Generator, logs: &Path) -> Result<Joins> {
    const COUNT: usize = 500;
    let mut numbers = Numbers::default();
    let room = |numbers: &mut Numbers| Room { publishers: vec![vec![numbers.sound()]], ..Room::default() };
    let rooms: Vec<_> = (0..10).map(|_| room(&mut numbers)).collect();
    let running = Running::start(generator, peer, size.workers, &rooms, Duration::ZERO, logs).await?;
    let before = process::usage(running.server.pids())?;
    let connected = generator.meter()?.totals.connected;
    let began = clock::now();
    let join = |i: usize| {
        let (running, due, room) = (&running, began + Duration::from_millis(20) * i as u32, i % rooms.len());
        async move {
            tokio::time::sleep(due.saturating_duration_since(clock::now())).await;
            let (name, user) = (format!("room-{room}"), format!("l-{i}"));
            let session = running.server.subscribe(&name, &user, &running.published[room]).await?;
            generator.add(vec![receiver(session)])
        }
    };
    // Nobody waits for who came before, unless the server is a second behind.
    stream::iter(0..COUNT).map(join).buffer_unordered(50).try_collect::<()>().await?;
    let result = until(generator, connected + COUNT as u64).await;
    let seconds = began.elapsed().as_secs_f64();
    let after = process::usage(running.server.pids());
    running.stop().await?;
    result?;
    Ok(joins_of("storm: 500 join 10 rooms with a voice, 50 a second", peer, COUNT, before, after?, seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tracks_of_all_rooms_have_numbers_of_their_own_with_room_for_their_encodings() {
        for rooms in [stages(3), rooms_of_50(3), rooms_of_5(3)] {
            let specs = rooms.iter().flat_map(|room| &room.publishers).flatten();
            let numbers: Vec<_> = specs.flat_map(|spec| spec.encodings()).map(|spec| spec.number).collect();
            assert_eq!(numbers, (0..numbers.len() as u32).collect::<Vec<_>>());
        }
        assert_eq!(stages(1)[0].publishers.len(), 50);
    }
}
