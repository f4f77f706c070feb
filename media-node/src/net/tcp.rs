//! ICE over TCP, passive (RFC 6544): connections that clients open to the port of the worker's socket.
//!
//! Each connection is a task that reads frames and writes what is queued. The worker's loop decides which
//! stay: one without a valid connectivity check ends after a time, one whose path the core has
//! forgotten with the next sweep, and one that takes nothing for [`STALLED`] by itself.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::framing::{Deframer, frame};
use crate::core::{Core, Drop, Fate, Protocol, Transmit};

/// Connections of one worker. One more is refused.
const MAX_CONNECTIONS: usize = 4096;
/// Of these, such as have not proved to be a client's. One more is refused.
const MAX_STRANGERS: usize = 512;
/// Of these, from one address.
const MAX_STRANGERS_OF_ADDRESS: usize = 64;
/// Frames that may come before that one.
const MAX_STRANGE_FRAMES: u32 = 16;
/// Bytes that wait for one slow connection; what comes then is dropped, as on any full path.
const MAX_QUEUED: usize = 256 * 1024;
/// What the system may keep for one connection, in bytes; it doubles it for its own needs.
const SEND_BUFFER: usize = 128 * 1024;
/// Transmits that wait for one connection.
const QUEUE: usize = 512;
/// How long a connection may take nothing while something waits.
const STALLED: Duration = Duration::from_secs(10);
/// Frames and news of all connections on their way to the loop. When full, nothing more is read.
const INCOMING: usize = 256;
/// Frames taken in one turn of the loop.
const FRAMES_PER_TURN: usize = 256;
/// How often connections are looked through while there are any.
const SWEEP: Duration = Duration::from_secs(1);
/// What is read at once, and written at once.
const READ: usize = 16 * 1024;
const WRITE: usize = 64 * 1024;
/// Connections that the system keeps until they are taken.
const BACKLOG: i32 = 256;
/// How long no connection is taken after the system refused to give one (out of file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

type Id = u64;

/// News of connections.
pub(super) enum Incoming {
    Accepted(TcpStream, SocketAddr),
    Frame(Id, Vec<u8>),
    Ended(Id),
}

/// A bound listener that no runtime watches yet.
pub(super) struct Listener {
    listener: std::net::TcpListener,
    validate_within: Duration,
}

impl Listener {
    pub fn bind(address: SocketAddr, validate_within: Duration) -> io::Result<Self> {
        let socket = super::socket::new(address, socket2::Type::STREAM, socket2::Protocol::TCP)?;
        // A restarted node finds connections of its predecessor in TIME_WAIT.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(Self { listener: socket.into(), validate_within })
    }

    /// To be called on the thread that will use it.
    pub fn watch(self) -> io::Result<Connections> {
        let listener = TcpListener::from_std(self.listener)?;
        let (sender, incoming) = mpsc::channel(INCOMING);
        let accepted = sender.clone();
        let accepting = tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, remote)) => {
                        if accepted.send(Incoming::Accepted(stream, remote)).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => {
                        tracing::debug!(%error, "accepting a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        });
        Ok(Connections {
            sender,
            incoming,
            open: HashMap::new(),
            by_path: HashMap::new(),
            last: 0,
            validate_within: self.validate_within,
            swept: None,
            accepting,
        })
    }
}

/// What the loop knows of a connection.
struct Connection {
    local: IpAddr,
    remote: SocketAddr,
    since: Instant,
    is_valid: bool,
    frames: u32,
    outgoing: mpsc::Sender<Vec<u8>>,
    queued: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

/// The connections of one worker.
pub(super) struct Connections {
    sender: mpsc::Sender<Incoming>,
    incoming: mpsc::Receiver<Incoming>,
    open: HashMap<Id, Connection>,
    by_path: HashMap<(IpAddr, SocketAddr), Id>,
    last: Id,
    validate_within: Duration,
    swept: Option<Instant>,
    accepting: tokio::task::JoinHandle<()>,
}

impl std::ops::Drop for Connections {
    fn drop(&mut self) {
        self.accepting.abort();
        for connection in self.open.values() {
            connection.task.abort();
        }
    }
}

impl Connections {
    /// The next news. Safe to give up waiting for.
    pub async fn next(&mut self) -> Option<Incoming> {
        self.incoming.recv().await
    }

    /// When [`Connections::turn`] is to be called, if nothing else happens.
    pub fn due(&self) -> Option<Instant> {
        self.swept.map(|swept| swept + SWEEP)
    }

    /// Takes news, `first` before what else there is, and looks through all connections from time to time.
    pub fn turn(&mut self, first: Option<Incoming>, core: &mut Core, now: Instant) {
        let mut next = first.or_else(|| self.incoming.try_recv().ok());
        let mut left = FRAMES_PER_TURN;
        while let Some(news) = next {
            self.take(news, core, now);
            left -= 1;
            next = if left > 0 { self.incoming.try_recv().ok() } else { None };
        }
        if self.swept.is_some_and(|swept| now >= swept + SWEEP) {
            self.sweep(core, now);
        }
    }

    /// Sends one transmit of the core. Returns how many of its datagrams were not sent.
    pub fn send(&self, transmit: &Transmit<'_>) -> usize {
        let id = self.by_path.get(&(transmit.local, transmit.remote));
        let Some(connection) = id.and_then(|id| self.open.get(id)) else { return transmit.packets };
        if connection.queued.load(Ordering::Relaxed) + transmit.payload.len() > MAX_QUEUED {
            return transmit.packets;
        }
        let framed = frame(transmit.payload, transmit.segment_size);
        let length = framed.len();
        connection.queued.fetch_add(length, Ordering::Relaxed);
        match connection.outgoing.try_send(framed) {
            Ok(()) => 0,
            Err(_) => {
                connection.queued.fetch_sub(length, Ordering::Relaxed);
                transmit.packets
            }
        }
    }

    fn take(&mut self, news: Incoming, core: &mut Core, now: Instant) {
        match news {
            Incoming::Accepted(stream, remote) => self.accept(stream, remote, core, now),
            Incoming::Frame(id, mut frame) => self.receive(id, &mut frame, core, now),
            Incoming::Ended(id) => self.end(id, core),
        }
    }

    fn accept(&mut self, stream: TcpStream, remote: SocketAddr, core: &mut Core, now: Instant) {
        let Ok(local) = stream.local_addr() else { return };
        let local = local.ip().to_canonical();
        let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
        let strangers = || self.open.values().filter(|connection| !connection.is_valid);
        let of_address = strangers().filter(|connection| connection.remote.ip() == remote.ip()).count();
        if self.open.len() >= MAX_CONNECTIONS
            || strangers().count() >= MAX_STRANGERS
            || of_address >= MAX_STRANGERS_OF_ADDRESS
        {
            tracing::debug!(%remote, "too many connections");
            return;
        }
        // The system knows one connection of this path: an older one has ended and did not say so.
        if let Some(older) = self.by_path.get(&(local, remote)) {
            self.end(*older, core);
        }
        // Without it small datagrams wait for acknowledgments of earlier ones.
        let _ = stream.set_nodelay(true);
        // What waits in the system is late media, too.
        let _ = socket2::SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER);
        self.last += 1;
        let id = self.last;
        let (outgoing, queue) = mpsc::channel(QUEUE);
        let queued = Arc::new(AtomicUsize::new(0));
        let task = tokio::spawn(run(id, stream, queue, queued.clone(), self.sender.clone()));
        let connection = Connection { local, remote, since: now, is_valid: false, frames: 0, outgoing, queued, task };
        self.open.insert(id, connection);
        self.by_path.insert((local, remote), id);
        self.swept.get_or_insert(now);
    }

    fn receive(&mut self, id: Id, frame: &mut [u8], core: &mut Core, now: Instant) {
        let Some(connection) = self.open.get_mut(&id) else { return };
        let (local, remote) = (connection.local, connection.remote);
        let fate = core.receive_by(Protocol::Tcp, now, local, remote, frame);
        if connection.is_valid {
            return;
        }
        connection.frames += 1;
        connection.is_valid = core.is_valid(Protocol::Tcp, local, remote);
        // A client begins with a check. One that comes too early for its transport is repeated.
        let is_hopeless = matches!(fate, Fate::Dropped(reason) if reason != Drop::UnknownUfrag);
        if !connection.is_valid && (is_hopeless || connection.frames >= MAX_STRANGE_FRAMES) {
            self.end(id, core);
        }
    }

    fn sweep(&mut self, core: &mut Core, now: Instant) {
        let within = self.validate_within;
        let is_over = |connection: &Connection| match connection.is_valid {
            true => !core.is_valid(Protocol::Tcp, connection.local, connection.remote),
            false => now >= connection.since + within,
        };
        let over: Vec<Id> = self.open.iter().filter(|(_, c)| is_over(c)).map(|(id, _)| *id).collect();
        for id in over {
            self.end(id, core);
        }
        self.swept = (!self.open.is_empty()).then_some(now);
    }

    fn end(&mut self, id: Id, core: &mut Core) {
        let Some(connection) = self.open.remove(&id) else { return };
        // What is queued still leaves (DTLS close_notify): the task ends when it has.
        drop(connection.outgoing);
        if self.by_path.get(&(connection.local, connection.remote)) == Some(&id) {
            self.by_path.remove(&(connection.local, connection.remote));
            core.disconnected(connection.local, connection.remote);
        }
        if !connection.is_valid {
            connection.task.abort();
        }
    }
}

/// Reads and writes until either end has had enough.
async fn run(
    id: Id,
    stream: TcpStream,
    mut queue: mpsc::Receiver<Vec<u8>>,
    queued: Arc<AtomicUsize>,
    news: mpsc::Sender<Incoming>,
) {
    let (mut reader, mut writer) = stream.into_split();
    let reading = async {
        let mut deframer = Deframer::default();
        let mut buffer = vec![0; READ];
        while let Ok(length @ 1..) = reader.read(&mut buffer).await {
            let mut frames = Vec::new();
            let sound = deframer.push(&buffer[..length], |frame| frames.push(frame.to_vec()));
            for frame in frames {
                if news.send(Incoming::Frame(id, frame)).await.is_err() {
                    return;
                }
            }
            if sound.is_err() {
                return;
            }
        }
    };
    let writing = async {
        while let Some(mut bytes) = queue.recv().await {
            while bytes.len() < WRITE
                && let Ok(more) = queue.try_recv()
            {
                bytes.extend_from_slice(&more);
            }
            let written = tokio::time::timeout(STALLED, writer.write_all(&bytes)).await;
            queued.fetch_sub(bytes.len(), Ordering::Relaxed);
            if !matches!(written, Ok(Ok(()))) {
                return;
            }
        }
    };
    tokio::select! {
        () = reading => {}
        () = writing => {}
    }
    // The loop is gone when nobody hears this.
    let _ = news.send(Incoming::Ended(id)).await;
}
