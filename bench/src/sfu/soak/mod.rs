//! Minutes of calls with people coming and going: what must not grow does not, and packets flow all the time.
//!
//! Two rooms of five, all with all, stay; every second a guest comes to the first one, publishes and receives
//! everything for some seconds, and goes: half of them say so, the others vanish first. What that comes to is judged
//! in [`verdict`].

pub mod verdict;

use std::{
    collections::{BTreeMap, VecDeque},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use tokio::time::MissedTickBehavior;

use self::verdict::{Sample, Seen};
use super::{
    client::ClientSpec,
    generator::Generator,
    process,
    run::{Room, Running, receiver, silent},
    server::{Callplane, Peer, Server},
    track::{Content, Spec, Voice},
    video::Video,
};
use crate::clock;

/// A sample is taken, and a guest comes, this often.
const STEP: Duration = Duration::from_secs(1);
/// How long a guest stays.
const STAY: Duration = Duration::from_secs(8);
/// For packets that are still on their way, or being repaired.
const GRACE: Duration = Duration::from_secs(2);
/// Until everybody's path has to be known, and until the node has to be rid of who has gone; it is asked this often.
const PATIENCE: Duration = Duration::from_secs(20);
const ASKED: Duration = Duration::from_millis(250);
/// Numbers of guests' tracks begin here.
const GUESTS: u32 = 1000;

/// Values of an exposition's lines whose names begin with `prefix`, by the rest of their names.
fn values<'a>(exposition: &'a str, prefix: &'a str) -> impl Iterator<Item = (&'a str, u64)> {
    exposition.lines().filter_map(move |line| {
        let (name, value) = line.strip_prefix(prefix)?.rsplit_once(' ')?;
        Some((name, value.parse().ok()?))
    })
}

fn drops(exposition: &str) -> BTreeMap<String, u64> {
    values(exposition, "callplane_media_packets_dropped_total{reason=\"")
        .map(|(reason, count)| (reason.trim_end_matches("\"}").to_owned(), count))
        .collect()
}

const OBJECTS: [&str; 5] = ["participants", "transports", "producers", "consumers", "tuples"];

/// Consumers whose path is taken for too narrow.
const HELD: &str = "consumers_paused_by_bandwidth";

fn gauge(exposition: &str, name: &str) -> Option<u64> {
    values(exposition, "callplane_media_").find(|(found, _)| *found == name).map(|(_, value)| value)
}

fn objects(exposition: &str) -> Vec<u64> {
    OBJECTS.iter().map(|name| gauge(exposition, name).unwrap_or_default()).collect()
}

/// Somebody who stays for a while.
struct Guest {
    user: String,
    /// The server's ufrags of its connections.
    connections: [String; 2],
    leaves: Instant,
    says_so: bool,
}

const ROOM: &str = "room-0";

impl Guest {
    async fn comes(running: &Running<'_>, number: usize, at: Instant) -> Result<Self> {
        let user = format!("guest-{number}");
        let tracks = [
            Spec { number: GUESTS, content: Content::Sound(Voice::Steady) },
            Spec { number: GUESTS + 1, content: Content::Pictures(CAMERA) },
        ];
        let publishing = running.server.publish(ROOM, &user, &tracks).await?;
        let receiving = running.server.subscribe(ROOM, &user, &running.published[0]).await?;
        let connections = [publishing.credentials.remote.0.clone(), receiving.credentials.remote.0.clone()];
        let sender = ClientSpec { tracks: tracks.to_vec(), counted: false, ..silent(&publishing) };
        let (remote, spec) = receiver(receiving);
        let receiver = ClientSpec { counted: false, ..spec };
        running.generator.add(vec![(publishing.remote, sender), (remote, receiver)])?;
        Ok(Self { user, connections, leaves: at + STAY, says_so: number.is_multiple_of(2) })
    }

    async fn goes(self, running: &Running<'_>, node: &Callplane) -> Result<()> {
        if self.says_so {
            node.leave(ROOM, &self.user).await?;
        }
        for ufrag in &self.connections {
            running.generator.remove(ufrag)?;
        }
        if !self.says_so {
            node.leave(ROOM, &self.user).await?;
        }
        Ok(())
    }
}

const CAMERA: Video = Video::Camera { bitrate: 300_000.0, rate: 15.0 };

fn rooms() -> Vec<Room> {
    let participant = |number: u32| {
        vec![
            Spec { number: 2 * number, content: Content::Sound(Voice::Steady) },
            Spec { number: 2 * number + 1, content: Content::Pictures(CAMERA) },
        ]
    };
    let room = |r: u32| Room {
        publishers: (0..5).map(|p| participant(5 * r + p)).collect(),
        conference: true,
        ..Room::default()
    };
    (0..2).map(room).collect()
}

/// Runs the load for so long. `told` hears of each sample.
///
/// # Errors
/// When the node does not start, refuses somebody, or ends.
pub async fn run(generator: &Generator, duration: Duration, logs: &Path, told: impl FnMut(&Sample)) -> Result<Seen> {
    let running = Running::start(generator, Peer::Callplane, 1, &rooms(), Duration::ZERO, logs).await?;
    let seen = soak(&running, duration, told).await;
    running.stop().await?;
    seen
}

async fn soak(running: &Running<'_>, duration: Duration, mut told: impl FnMut(&Sample)) -> Result<Seen> {
    let Server::Callplane(node) = &running.server else { bail!("only callplane's node tells what it has dropped") };
    // What is taken for the capacity of a path begins below what four cameras need.
    let exposition = until(node, |exposition| gauge(exposition, HELD) == Some(0)).await?;
    ensure!(gauge(&exposition, HELD) == Some(0), "some get no pictures {PATIENCE:?} after they have connected");
    let before = objects(&exposition);
    ensure!(before.iter().all(|count| *count > 0), "the node tells of no {OBJECTS:?}: {before:?}");
    let connected = running.generator.meter()?.totals.connected;
    let began = clock::now();
    let from = clock::wall_nanos();
    running.generator.window(from, from + duration.as_nanos() as u64)?;
    let mut seen = Seen::default();
    let mut guests = VecDeque::new();
    let mut steps = tokio::time::interval(STEP);
    // A busy machine makes it late, and nothing of that is made up for.
    steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    steps.tick().await;
    while began.elapsed() < duration {
        let now = clock::now();
        // Nobody comes who could not leave in time.
        if now + STAY < began + duration {
            guests.push_back(Guest::comes(running, seen.guests, now).await.context("a guest comes")?);
            seen.guests += 1;
        }
        while guests.front().is_some_and(|guest: &Guest| guest.leaves <= now) {
            if let Some(guest) = guests.pop_front() {
                guest.goes(running, node).await.context("a guest goes")?;
            }
        }
        steps.tick().await;
        let resident = process::usage(running.server.pids())?.resident;
        let packets = running.generator.meter()?.totals.rtp_in;
        let sample = Sample { at: began.elapsed(), resident, packets };
        told(&sample);
        seen.samples.push(sample);
    }
    for guest in guests {
        guest.goes(running, node).await.context("a guest goes")?;
    }
    tokio::time::sleep(GRACE).await;
    let exposition = until(node, |exposition| objects(exposition) == before).await?;
    let meter = running.generator.meter()?;
    let missing = meter.expected().saturating_sub(meter.delivered);
    seen.lost = missing as f64 * 100.0 / meter.expected().max(1) as f64;
    seen.strangers = (2 * seen.guests as u64).saturating_sub(meter.totals.connected - connected);
    seen.drops = drops(&exposition);
    let after = objects(&exposition);
    seen.objects =
        OBJECTS.iter().zip(before.into_iter().zip(after)).map(|(n, (b, a))| ((*n).to_owned(), b, a)).collect();
    Ok(seen)
}

/// The node's metrics once they are as they should be, or when it has had time enough for that.
async fn until(node: &Callplane, settled: impl Fn(&str) -> bool) -> Result<String> {
    let deadline = clock::now() + PATIENCE;
    loop {
        let exposition = node.metrics().await?;
        if settled(&exposition) || clock::now() > deadline {
            return Ok(exposition);
        }
        tokio::time::sleep(ASKED).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exposition_is_read_by_reason_and_by_name() {
        let text = "# TYPE x counter\ncallplane_media_packets_dropped_total{reason=\"no_keys\"} 7\n\
                    callplane_media_transports 20\ncallplane_media_transports_connected 19\n";
        assert_eq!(drops(text), BTreeMap::from([("no_keys".to_owned(), 7)]));
        assert_eq!(objects(text), [0, 20, 0, 0, 0]);
        assert_eq!(gauge(text, "transports_connected"), Some(19));
        assert_eq!(gauge(text, HELD), None);
    }
}
