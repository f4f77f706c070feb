//! One server under one load: set up, settle, measure, end.

use std::{net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;

use super::{
    client::ClientSpec,
    generator::Generator,
    meter::{Meter, Totals},
    process::{self, Usage},
    server::{Peer, Published, Server, Session, Shown},
    stage::Stage,
    stream::Expected,
    track::Spec,
};
use crate::clock;

/// Requests to the signalling at a time.
pub const CONCURRENT: usize = 8;
/// Until all handshakes must be over.
const PATIENCE: Duration = Duration::from_secs(25);
/// Between the last handshake and the measurement.
const SETTLE: Duration = Duration::from_millis(2000);
/// After the measurement, for what is still on its way or being repaired.
const GRACE: Duration = Duration::from_millis(1000);

/// Who wants to hear whom, in one room.
#[derive(Clone, Debug, Default)]
pub struct Room {
    /// Tracks of each publishing participant.
    pub publishers: Vec<Vec<Spec>>,
    /// Participants who only listen.
    pub listeners: usize,
    /// Whether publishers receive the others.
    pub conference: bool,
    /// By what the server chooses who is seen and heard; without, everything is forwarded.
    pub stage: Option<Stage>,
}

impl Room {
    /// Which publisher each of the room's tracks is of.
    fn places(&self) -> impl Iterator<Item = usize> {
        self.publishers.iter().enumerate().flat_map(|(place, tracks)| std::iter::repeat_n(place, tracks.len()))
    }

    /// What the participant at a place, publishers first, wants to receive of everything that is published.
    fn wishes(&self, viewer: usize, published: &[Published]) -> Vec<Published> {
        let people = self.publishers.len();
        let shown = |place, track: &Published| match &self.stage {
            Some(stage) => stage.shown(viewer, place, people, track),
            None => Shown::Whole,
        };
        let others = self.places().zip(published).filter(|(place, _)| *place != viewer);
        others.map(|(place, track)| Published { shown: shown(place, track), ..track.clone() }).collect()
    }
}

/// What was measured of one server in one case.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Measured {
    /// Case.
    pub case: String,
    /// Server.
    pub peer: String,
    /// Connections that receive.
    pub subscribers: usize,
    /// RTP packets that came to subscribers, a second.
    pub packets_per_second: f64,
    /// Megabits of them, a second.
    pub megabits_per_second: f64,
    /// Cores that the server used.
    pub cores: f64,
    /// Cores that the generator used.
    pub generator_cores: f64,
    /// The server's CPU time for each packet that came, in microseconds.
    pub micros_per_packet: f64,
    /// Resident memory for each subscriber, in KB of 1000 bytes.
    pub kilobytes_per_subscriber: f64,
    /// Median from the publisher's send to the subscriber's socket, in milliseconds.
    pub latency_p50: f64,
    /// 99 of 100 are faster.
    pub latency_p99: f64,
    /// Share of packets that never came, in percent.
    pub loss_percent: f64,
    /// Packets for each train that the kernel handed over: more means that the server batches.
    pub packets_per_train: f64,
    /// Load average when it was measured.
    pub load_average: f64,
    /// Everything that was counted in the measurement.
    pub counted: Totals,
}

/// A server with its load connected.
pub struct Running<'a> {
    /// Of all clients.
    pub generator: &'a Generator,
    /// The server.
    pub server: Server,
    /// Tracks by room.
    pub published: Vec<Vec<Published>>,
    subscribers: usize,
    before: Usage,
}

/// The name of the publisher at a place.
fn publisher(place: usize) -> String {
    format!("publisher-{place}")
}

/// A client that connects, and neither sends nor receives.
pub fn silent<T>(session: &Session<T>) -> ClientSpec {
    let credentials = session.credentials.clone();
    ClientSpec { credentials, tracks: vec![], spacing: Duration::ZERO, streams: vec![], counted: true }
}

/// A client that receives.
pub fn receiver(session: Session<Expected>) -> (SocketAddr, ClientSpec) {
    let spec = silent(&session);
    (session.remote, ClientSpec { streams: session.media, ..spec })
}

impl<'a> Running<'a> {
    /// Starts a server and connects everyone.
    ///
    /// # Errors
    /// When the server is absent, refuses, or does not connect everyone.
    pub async fn start(
        generator: &'a Generator,
        peer: Peer,
        workers: usize,
        rooms: &[Room],
        spacing: Duration,
        logs: &Path,
    ) -> Result<Self> {
        generator.clear()?;
        let server = Server::start(peer, workers, &generator.identity.fingerprint, logs).await?;
        let mut running = Self { generator, server, published: vec![], subscribers: 0, before: Usage::default() };
        running.published = running.publish(rooms, spacing).await?;
        tokio::time::sleep(SETTLE / 2).await;
        running.before = process::usage(running.server.pids())?;
        let receivers = running.subscribe(rooms, &running.published).await?;
        running.subscribers = receivers.len();
        let connected = generator.meter()?.totals.connected;
        // Not all in the same instant: that is another case.
        for some in receivers.chunks(25) {
            generator.add(some.to_vec())?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        running.until_connected(connected + receivers.len() as u64).await?;
        running.listen(rooms).await?;
        Ok(running)
    }

    /// Lets publishers of rooms with a stage hear what is wanted of them. From then on there are pictures.
    async fn listen(&mut self, rooms: &[Room]) -> Result<()> {
        for (r, room) in rooms.iter().enumerate().filter(|(_, room)| room.stage.is_some()) {
            for place in 0..room.publishers.len() {
                let user = publisher(place);
                let own = self.published[r].iter().filter(|track| track.user == user).cloned().collect();
                self.server.listen(&format!("room-{r}"), &user, own, self.generator.layers()).await?;
            }
        }
        Ok(())
    }

    /// Connects all publishers; their tracks by room.
    async fn publish(&self, rooms: &[Room], spacing: Duration) -> Result<Vec<Vec<Published>>> {
        let mut by_room = Vec::new();
        let mut count = 0;
        for (r, room) in rooms.iter().enumerate() {
            let mut published = Vec::new();
            self.server.open(&format!("room-{r}"), room.stage.as_ref()).await?;
            for (place, tracks) in room.publishers.iter().enumerate() {
                let session = self.server.publish(&format!("room-{r}"), &publisher(place), tracks).await?;
                let spec = ClientSpec { tracks: tracks.clone(), spacing, ..silent(&session) };
                self.generator.add(vec![(session.remote, spec)])?;
                published.extend(session.media);
                count += 1;
            }
            by_room.push(published);
        }
        self.until_connected(count).await?;
        Ok(by_room)
    }

    /// Agrees on what everybody receives, without connecting.
    async fn subscribe(&self, rooms: &[Room], published: &[Vec<Published>]) -> Result<Vec<(SocketAddr, ClientSpec)>> {
        let mut wishes = Vec::new();
        for (r, (room, published)) in rooms.iter().zip(published).enumerate() {
            let publishers = room.publishers.len();
            let first = if room.conference { 0 } else { publishers };
            for viewer in first..publishers + room.listeners {
                let user = if viewer < publishers { publisher(viewer) } else { format!("listener-{viewer}") };
                wishes.push((format!("room-{r}"), user, room.wishes(viewer, published)));
            }
        }
        stream::iter(wishes)
            .map(|(room, user, wanted)| async move { self.server.subscribe(&room, &user, &wanted).await.map(receiver) })
            .buffered(CONCURRENT)
            .try_collect()
            .await
    }

    /// Waits until so many clients have keys.
    ///
    /// # Errors
    /// When they have not in time, or one has failed.
    pub async fn until_connected(&self, wanted: u64) -> Result<()> {
        let deadline = clock::now() + PATIENCE;
        loop {
            let Totals { connected, failed, .. } = self.generator.meter()?.totals;
            if connected >= wanted {
                return Ok(());
            }
            ensure!(
                clock::now() < deadline,
                "{connected} of {wanted} clients are connected after {PATIENCE:?}, {failed} bad records"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Measures for so long.
    ///
    /// # Errors
    /// When the server has ended.
    pub async fn measure(&self, case: &str, peer: Peer, duration: Duration) -> Result<Measured> {
        tokio::time::sleep(SETTLE).await;
        let resident = process::usage(self.server.pids())?.resident;
        let from = clock::wall_nanos() + 20_000_000;
        self.generator.window(from, from + duration.as_nanos() as u64)?;
        tokio::time::sleep(Duration::from_millis(20)).await;
        let began = clock::now();
        let (usage, own, counted) = self.sample()?;
        tokio::time::sleep(duration).await;
        let (usage_after, own_after, counted_after) = self.sample()?;
        let seconds = began.elapsed().as_secs_f64();
        let load_average = process::load_average();
        tokio::time::sleep(GRACE).await;
        let meter = self.generator.meter()?;
        let spent = usage_after.cpu - usage.cpu;
        let counted = counted_after.totals - counted.totals;
        let forwarded = counted.rtp_in as f64;
        ensure!(meter.delivered > 0, "nothing came: {:?}", meter.totals);
        let lost = meter.expected().saturating_sub(meter.delivered);
        let grown = resident.saturating_sub(self.before.resident) as f64;
        Ok(Measured {
            case: case.to_owned(),
            peer: peer.name().to_owned(),
            subscribers: self.subscribers,
            packets_per_second: forwarded / seconds,
            megabits_per_second: counted.bytes_in as f64 * 8e-6 / seconds,
            cores: spent / seconds,
            generator_cores: (own_after - own) / seconds,
            micros_per_packet: spent * 1e6 / forwarded,
            kilobytes_per_subscriber: grown / 1000.0 / self.subscribers.max(1) as f64,
            latency_p50: meter.latency.percentile(0.5),
            latency_p99: meter.latency.percentile(0.99),
            loss_percent: lost as f64 * 100.0 / meter.expected() as f64,
            packets_per_train: forwarded / counted.trains_in.max(1) as f64,
            load_average,
            counted,
        })
    }

    fn sample(&self) -> Result<(Usage, f64, Meter)> {
        let usage = process::usage(self.server.pids()).context("while measuring")?;
        Ok((usage, process::own_cpu()?, self.generator.meter()?))
    }

    /// Ends server and clients.
    ///
    /// # Errors
    /// When the generator has ended.
    pub async fn stop(self) -> Result<()> {
        self.generator.clear()?;
        self.server.stop().await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sfu::{
        track::{Content, Voice},
        video::Video,
    };

    fn room(stage: Option<Stage>) -> (Room, Vec<Published>) {
        let video = Video::Camera { bitrate: 1e5, rate: 15.0 };
        let tracks = |place: u32| {
            let picture = Spec { number: 10 * place, content: Content::Layers([video; 3]) };
            vec![picture, Spec { number: 10 * place + 3, content: Content::Sound(Voice::Silent) }]
        };
        let publishers: Vec<_> = (0..4).map(tracks).collect();
        let published = |(place, spec): (usize, &Spec)| Published {
            user: publisher(place),
            id: spec.number.to_string(),
            spec: *spec,
            shown: Shown::Whole,
        };
        let room = Room { publishers, listeners: 1, conference: true, stage };
        let published = room.places().zip(room.publishers.iter().flatten()).map(published).collect();
        (room, published)
    }

    fn wishes(room: &Room, viewer: usize, published: &[Published]) -> Vec<(u32, Shown)> {
        room.wishes(viewer, published).iter().map(|wish| (wish.spec.number, wish.shown)).collect()
    }

    #[test]
    fn everyone_wants_all_that_the_others_publish() {
        let (room, published) = room(None);
        assert_eq!(wishes(&room, 1, &published), [0, 3, 20, 23, 30, 33].map(|number| (number, Shown::Whole)));
        assert_eq!(wishes(&room, 4, &published).len(), 8);
    }

    #[test]
    fn a_stage_says_how_the_others_are_shown() {
        let (room, published) = room(Some(Stage { last_n: 2, loudest: 1, talkers: vec![2] }));
        let (large, small, none) = (Shown::Layer(2), Shown::Layer(0), Shown::Nothing);
        let of = [(10, small), (13, none), (20, large), (23, Shown::Whole), (30, none), (33, none)];
        assert_eq!(wishes(&room, 0, &published), of);
    }
}
