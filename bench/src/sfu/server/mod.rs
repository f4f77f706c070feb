//! The servers that are measured, behind one signalling: who publishes what, who receives it, where to connect.

mod callplane;
mod lines;

use std::{net::SocketAddr, path::Path};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::{generator::Layers, handshake::Credentials, stage::Stage, stream::Expected, track::Spec};
pub use callplane::Callplane;
pub(super) use callplane::{rtp_parameters, stream_of};
pub use lines::Lines;

/// Our ufrag in every connection: servers that are ICE-lite do not look at it.
const UFRAG: &str = "load";
/// And our password, for servers that want to see one, and that check us.
const PASSWORD: &str = "load-load-load-load-load-load";

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Peer {
    /// This project's media node.
    Callplane,
    /// mediasoup's worker.
    Mediasoup,
    /// Janus with its video room.
    Janus,
    /// LiveKit's server.
    Livekit,
}

impl Peer {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Callplane, Self::Mediasoup, Self::Janus, Self::Livekit];

    /// Its name, in the table and in the file system.
    pub fn name(self) -> &'static str {
        match self {
            Self::Callplane => "callplane",
            Self::Mediasoup => "mediasoup",
            Self::Janus => "janus",
            Self::Livekit => "livekit",
        }
    }
}

/// How somebody gets a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// As it is published.
    Whole,
    /// One encoding of simulcast, the lowest is 0.
    Layer(u8),
    /// Not at all: the server is told that it is wanted, and chooses others.
    Nothing,
}

/// A track as a server knows it.
#[derive(Clone, Debug)]
pub struct Published {
    /// Who publishes it.
    pub user: String,
    /// The server's name for it.
    pub id: String,
    /// What it is.
    pub spec: Spec,
    /// How whoever asks for it has to get it.
    pub shown: Shown,
}

impl Published {
    /// Number in the load of the track whose packets have to come.
    fn expected(&self) -> Option<u32> {
        match self.shown {
            Shown::Whole => Some(self.spec.number),
            Shown::Layer(layer) => Some(self.spec.number + u32::from(layer)),
            Shown::Nothing => None,
        }
    }
}

/// Where a client connects, with what both sides said.
#[derive(Clone, Debug)]
pub struct Session<T> {
    /// The server's address.
    pub remote: SocketAddr,
    /// ICE credentials.
    pub credentials: Credentials,
    /// What was agreed on.
    pub media: Vec<T>,
}

/// A server's answer.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    address: SocketAddr,
    ufrag: String,
    password: String,
    #[serde(default)]
    ids: Vec<String>,
    #[serde(default)]
    streams: Vec<AnsweredStream>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AnsweredStream {
    ssrc: u32,
    rtx: Option<u32>,
    transport_cc: Option<u8>,
}

impl AnsweredStream {
    /// What a client is to expect of this stream, which carries that track.
    pub(super) fn expected(&self, track: Option<u32>, spec: Spec) -> Expected {
        Expected {
            track,
            ssrc: self.ssrc,
            rtx: self.rtx,
            transport_cc: self.transport_cc.unwrap_or(0),
            // Browsers do not ask for lost sound unless it is negotiated; pictures they do.
            nack: spec.is_video(),
        }
    }
}

impl Answer {
    fn session<T>(&self, media: Vec<T>) -> Session<T> {
        let remote = (self.ufrag.clone(), self.password.clone());
        let local = (UFRAG.to_owned(), PASSWORD.to_owned());
        Session { remote: self.address, credentials: Credentials { remote, local, address: self.address }, media }
    }

    fn published(&self, user: &str, tracks: &[Spec]) -> Result<Session<Published>> {
        anyhow::ensure!(self.ids.len() == tracks.len(), "{} of {} tracks were taken", self.ids.len(), tracks.len());
        let of = |(id, spec): (&String, &Spec)| Published {
            user: user.to_owned(),
            id: id.clone(),
            spec: *spec,
            shown: Shown::Whole,
        };
        Ok(self.session(self.ids.iter().zip(tracks).map(of).collect()))
    }

    fn expected(&self, wanted: &[Published]) -> Result<Session<Expected>> {
        let (got, asked) = (self.streams.len(), wanted.len());
        anyhow::ensure!(got == asked, "{got} of {asked} tracks are given");
        Ok(self.session(self.streams.iter().zip(wanted).map(|(s, p)| s.expected(p.expected(), p.spec)).collect()))
    }
}

/// A server that runs.
pub enum Server {
    /// Ours.
    Callplane(Callplane),
    /// Another, behind a script that knows its signalling.
    Lines(Lines),
}

impl Server {
    /// Starts a server with so many event loops, where it has such a number. `fingerprint`: the clients'.
    ///
    /// # Errors
    /// When it is absent or does not start.
    pub async fn start(peer: Peer, workers: usize, fingerprint: &str, logs: &Path) -> Result<Self> {
        std::fs::create_dir_all(logs)?;
        let log = logs.join(format!("{}.log", peer.name()));
        let started = match peer {
            Peer::Callplane => Callplane::start(workers, fingerprint, &log).await.map(Self::Callplane),
            _ => Lines::start(peer, workers, fingerprint, &log).await.map(Self::Lines),
        };
        started.with_context(|| format!("starting {} (log: {})", peer.name(), log.display()))
    }

    /// The processes that forward media; signalling scripts of ours are not among them.
    pub fn pids(&self) -> &[u32] {
        match self {
            Self::Callplane(server) => server.pids(),
            Self::Lines(server) => server.pids(),
        }
    }

    /// Opens a room; one without a stage forwards everything.
    ///
    /// # Errors
    /// What the server says, or when it has no rooms that choose.
    pub async fn open(&self, room: &str, stage: Option<&Stage>) -> Result<()> {
        match (self, stage) {
            (Self::Callplane(server), _) => server.open(room, stage).await.with_context(|| format!("opening {room}")),
            // Their rooms are there when somebody comes.
            (Self::Lines(_), None) => Ok(()),
            (Self::Lines(_), Some(_)) => anyhow::bail!("it does not choose who is seen and heard"),
        }
    }

    /// Hears from now on which encodings of somebody's tracks anybody wants, and tells the generator.
    ///
    /// # Errors
    /// What the server says, or when it does not tell.
    pub async fn listen(&mut self, room: &str, user: &str, tracks: Vec<Published>, layers: Layers) -> Result<()> {
        match self {
            Self::Callplane(server) => server.listen(room, user, tracks, layers).await,
            Self::Lines(_) => anyhow::bail!("it does not say which encodings are wanted"),
        }
    }

    /// Publishes tracks over a connection of their own.
    ///
    /// # Errors
    /// What the server says.
    pub async fn publish(&self, room: &str, user: &str, tracks: &[Spec]) -> Result<Session<Published>> {
        let published = match self {
            Self::Callplane(server) => server.publish(room, user, tracks).await,
            Self::Lines(server) => server.publish(room, user, tracks).await,
        };
        published.with_context(|| format!("publishing in {room}"))
    }

    /// Subscribes to tracks over a connection of their own; media flows as soon as it stands.
    ///
    /// # Errors
    /// What the server says.
    pub async fn subscribe(&self, room: &str, user: &str, wanted: &[Published]) -> Result<Session<Expected>> {
        let expected = match self {
            Self::Callplane(server) => server.subscribe(room, user, wanted).await,
            Self::Lines(server) => server.subscribe(room, user, wanted).await,
        };
        expected.with_context(|| format!("subscribing in {room}"))
    }

    /// Ends the server and waits until it has.
    pub async fn stop(self) {
        match self {
            Self::Callplane(mut server) => server.stop().await,
            Self::Lines(mut server) => server.stop().await,
        }
    }
}
