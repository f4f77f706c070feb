//! The load: one thread with all clients, a socket each, as many packets as one core carries.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io::{self, IoSliceMut},
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Weak, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use mio::{Events, Interest, Poll, Token, Waker};
use quinn_udp::{RecvMeta, UdpSockRef, UdpSocketState};

use super::{
    client::{Client, ClientSpec, Now},
    handshake::Identity,
    meter::Meter,
    video::Random,
};
use crate::clock;

/// Trains taken from a socket in one call, and the most that one holds.
const TRAINS: usize = 8;
const TRAIN_BYTES: usize = 65_536;
/// Clients are asked what is due this often; tracks have a queue of their own.
const TICK: Duration = Duration::from_millis(5);
const WAKER: Token = Token(usize::MAX);
const SOCKET_BUFFER: usize = 4 << 20;

/// What the generator is told.
enum Order {
    Add(Vec<(SocketAddr, ClientSpec)>),
    Remove(String),
    Layers(u32, Option<u8>),
    Window(u64, u64),
    Loss(f64),
    Meter(mpsc::Sender<Meter>),
    Clear,
}

/// How the generator behaves.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Takes trains from the kernel as they are (UDP_GRO); otherwise it splits them, at the sender's expense.
    pub gro: bool,
}

/// The way to the generator's thread, which ends when nobody has it any more.
struct Orders {
    orders: mpsc::Sender<Order>,
    waker: Arc<Waker>,
}

impl Orders {
    fn give(&self, order: Order) -> Result<()> {
        self.orders.send(order).map_err(|_| anyhow!("the load generator has ended"))?;
        Ok(self.waker.wake()?)
    }
}

/// Tells the generator which encodings anybody wants, for as long as it is there.
#[derive(Clone)]
pub struct Layers(Weak<Orders>);

impl Layers {
    /// Encodings of the simulcast track with this number are wanted up to `highest`, or none.
    ///
    /// # Errors
    /// When the generator has ended.
    pub fn want(&self, number: u32, highest: Option<u8>) -> Result<()> {
        let orders = self.0.upgrade().context("the load generator has ended")?;
        orders.give(Order::Layers(number, highest))
    }
}

/// The generator as others see it.
pub struct Generator {
    orders: Option<Arc<Orders>>,
    waker: Arc<Waker>,
    thread: Option<thread::JoinHandle<()>>,
    /// Of all clients.
    pub identity: Identity,
}

impl Generator {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no room for it.
    pub fn start(options: Options) -> Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let identity = Identity::generate()?;
        let (orders, inbox) = mpsc::channel();
        let of_clients = identity.clone();
        let thread = thread::Builder::new().name("generator".into()).spawn(move || {
            if let Err(error) = Loop::new(poll, inbox, of_clients, options).run() {
                eprintln!("the load generator has failed: {error:#}");
            }
        })?;
        let orders = Some(Arc::new(Orders { orders, waker: waker.clone() }));
        Ok(Self { orders, waker, thread: Some(thread), identity })
    }

    fn order(&self, order: Order) -> Result<()> {
        self.orders.as_ref().context("the load generator has ended")?.give(order)
    }

    /// For those who hear which encodings anybody wants.
    pub fn layers(&self) -> Layers {
        Layers(self.orders.as_ref().map_or_else(Weak::new, Arc::downgrade))
    }

    /// Clients that begin at once, each towards its server.
    ///
    /// # Errors
    /// When the generator has ended.
    pub fn add(&self, clients: Vec<(SocketAddr, ClientSpec)>) -> Result<()> {
        self.order(Order::Add(clients))
    }

    /// Ends one client without a word, as one whose machine has died. `ufrag`: the server's, of its connection.
    ///
    /// # Errors
    /// When the generator has ended.
    pub fn remove(&self, ufrag: &str) -> Result<()> {
        self.order(Order::Remove(ufrag.to_owned()))
    }

    /// From when to when packets count, in wall-clock nanoseconds of their stamps.
    ///
    /// # Errors
    /// When the generator has ended.
    pub fn window(&self, from: u64, to: u64) -> Result<()> {
        self.order(Order::Window(from, to))
    }

    /// The share of datagrams that is thrown away in each direction.
    ///
    /// # Errors
    /// When the generator has ended.
    pub fn lose(&self, share: f64) -> Result<()> {
        self.order(Order::Loss(share))
    }

    /// What was counted so far.
    ///
    /// # Errors
    /// When the generator has ended.
    pub fn meter(&self) -> Result<Meter> {
        let (reply, answer) = mpsc::channel();
        self.order(Order::Meter(reply))?;
        answer.recv_timeout(Duration::from_secs(10)).context("the load generator does not answer")
    }

    /// Ends all clients and forgets what was counted.
    ///
    /// # Errors
    /// When the generator has ended.
    pub fn clear(&self) -> Result<()> {
        self.order(Order::Clear)
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        self.orders = None;
        let _ = self.waker.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Seat {
    /// The server's ufrag, which tells its connections apart.
    ufrag: String,
    socket: mio::net::UdpSocket,
    remote: SocketAddr,
    client: Client,
    due: Instant,
    scheduled: bool,
}

struct Loop {
    poll: Poll,
    inbox: mpsc::Receiver<Order>,
    identity: Identity,
    options: Options,
    state: Option<UdpSocketState>,
    /// By token. Places of those who have gone stay empty: what was meant for them must reach nobody else.
    seats: Vec<Option<Seat>>,
    /// When which track of which client sends.
    tracks: BinaryHeap<Reverse<(Instant, usize, usize)>>,
    meter: Meter,
    loss: f64,
    random: Random,
    buffers: Vec<Box<[u8]>>,
    next_tick: Instant,
}

fn now() -> Now {
    Now { monotonic: clock::now(), wall: clock::wall_nanos() }
}

impl Loop {
    fn new(poll: Poll, inbox: mpsc::Receiver<Order>, identity: Identity, options: Options) -> Self {
        Self {
            poll,
            inbox,
            identity,
            options,
            state: None,
            seats: Vec::new(),
            tracks: BinaryHeap::new(),
            meter: Meter::default(),
            loss: 0.0,
            random: Random(1),
            buffers: (0..TRAINS).map(|_| vec![0; TRAIN_BYTES].into_boxed_slice()).collect(),
            next_tick: clock::now(),
        }
    }

    fn run(mut self) -> Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            let wake = self.tracks.peek().map_or(self.next_tick, |Reverse((at, ..))| self.next_tick.min(*at));
            let patience = wake.saturating_duration_since(clock::now());
            match self.poll.poll(&mut events, Some(patience)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
                _ => {}
            }
            for event in &events {
                if event.token() != WAKER {
                    self.receive(event.token().0)?;
                }
            }
            loop {
                match self.inbox.try_recv() {
                    Ok(order) => self.carry_out(order)?,
                    Err(mpsc::TryRecvError::Empty) => break,
                    Err(mpsc::TryRecvError::Disconnected) => return Ok(()),
                }
            }
            self.send_tracks()?;
            if clock::now() >= self.next_tick {
                self.tick()?;
            }
        }
    }

    fn carry_out(&mut self, order: Order) -> Result<()> {
        match order {
            Order::Add(clients) => {
                for (remote, spec) in clients {
                    self.add(remote, spec)?;
                }
            }
            Order::Remove(ufrag) => {
                if let Some(seat) = self.seats.iter_mut().find(|s| s.as_ref().is_some_and(|s| s.ufrag == ufrag)) {
                    *seat = None;
                }
            }
            Order::Layers(number, highest) => {
                let now = clock::now();
                for (at, seat) in self.seats.iter_mut().enumerate() {
                    let woken = seat.iter_mut().flat_map(|seat| seat.client.want_layers(number, highest, now));
                    self.tracks.extend(woken.map(|track| Reverse((now, at, track))));
                }
            }
            Order::Window(from, to) => {
                self.meter.window = (from, to);
                self.meter.sent.fill(0);
                self.meter.delivered = 0;
                self.meter.latency = Default::default();
            }
            Order::Loss(share) => self.loss = share,
            // Who asked and went away needs no answer.
            Order::Meter(reply) => drop(reply.send(self.meter.clone())),
            Order::Clear => {
                self.seats.clear();
                self.tracks.clear();
                self.meter = Meter::default();
                self.loss = 0.0;
            }
        }
        Ok(())
    }

    fn add(&mut self, remote: SocketAddr, spec: ClientSpec) -> Result<()> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
        // The system's limit is the administrator's word.
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
        socket.set_nonblocking(true)?;
        // Servers are on loopback, except those that refuse to be: they are on an address of this machine.
        socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())?;
        if self.options.gro {
            self.state = Some(UdpSocketState::new(UdpSockRef::from(&socket))?);
        }
        let mut socket = mio::net::UdpSocket::from_std(socket.into());
        self.poll.registry().register(&mut socket, Token(self.seats.len()), Interest::READABLE)?;
        for track in spec.tracks.iter().flat_map(|track| track.encodings()) {
            self.meter.know(track.number);
        }
        for track in spec.streams.iter().filter_map(|stream| stream.track) {
            self.meter.know(track);
            self.meter.subscribers[track as usize] += u64::from(spec.counted);
        }
        let at = clock::now();
        let ufrag = spec.credentials.remote.0.clone();
        let client = Client::new(self.identity.clone(), spec, at);
        self.seats.push(Some(Seat { ufrag, socket, remote, client, due: at, scheduled: false }));
        Ok(())
    }

    fn receive(&mut self, at: usize) -> Result<()> {
        let Some(Some(seat)) = self.seats.get_mut(at) else { return Ok(()) };
        loop {
            let arrived = match (&self.state, self.options.gro) {
                (Some(state), true) => trains(state, &seat.socket, &mut self.buffers),
                _ => single(&seat.socket, &mut self.buffers),
            };
            let arrived = match arrived {
                Ok(arrived) => arrived,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // An ICMP error of an earlier send: the server is not there (any more).
                Err(_) => break,
            };
            let now = now();
            let full = arrived.len() == TRAINS || !self.options.gro;
            for (buffer, (len, stride, stamp)) in self.buffers.iter_mut().zip(arrived) {
                self.meter.totals.trains_in += 1;
                for datagram in buffer[..len].chunks_mut(stride.max(1)) {
                    if self.loss > 0.0 && self.random.unit() < self.loss {
                        self.meter.totals.thrown_away += 1;
                        continue;
                    }
                    seat.client.receive(datagram, stamp.unwrap_or(now.wall), now, &mut self.meter);
                }
            }
            if !full {
                break;
            }
        }
        if seat.client.publishes() && !seat.scheduled {
            seat.scheduled = true;
            for (i, track) in seat.client.tracks.iter().enumerate() {
                self.tracks.push(Reverse((track.due(), at, i)));
            }
        }
        flush(seat, self.loss, &mut self.random, &mut self.meter);
        seat.due = seat.client.due();
        Ok(())
    }

    fn send_tracks(&mut self) -> Result<()> {
        while let Some(&Reverse((due, at, track))) = self.tracks.peek() {
            let now = now();
            if due > now.monotonic {
                return Ok(());
            }
            self.tracks.pop();
            let Some(Some(Seat { socket, remote, client, .. })) = self.seats.get_mut(at) else { continue };
            let (loss, random, mut unsent, mut thrown_away) = (self.loss, &mut self.random, 0, 0);
            let mut out = |datagram: &[u8]| {
                if loss > 0.0 && random.unit() < loss {
                    thrown_away += 1;
                } else if socket.send_to(datagram, *remote).is_err() {
                    unsent += 1;
                }
            };
            let next = client.send(track, now, &mut out, &mut self.meter)?;
            self.meter.totals.unsent += unsent;
            self.meter.totals.thrown_away += thrown_away;
            self.tracks.extend(next.map(|next| Reverse((next, at, track))));
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<()> {
        let now = now();
        self.next_tick = now.monotonic + TICK;
        for seat in self.seats.iter_mut().flatten() {
            if seat.due <= now.monotonic {
                seat.client.tick(now, &mut self.meter)?;
                flush(seat, self.loss, &mut self.random, &mut self.meter);
                seat.due = seat.client.due();
            }
        }
        Ok(())
    }
}

fn flush(seat: &mut Seat, loss: f64, random: &mut Random, meter: &mut Meter) {
    while let Some(datagram) = seat.client.out.pop_front() {
        if loss > 0.0 && random.unit() < loss {
            meter.totals.thrown_away += 1;
        } else if seat.socket.send_to(&datagram, seat.remote).is_err() {
            meter.totals.unsent += 1;
        }
    }
}

/// Length, size of each datagram, and when it arrived in wall-clock nanoseconds, of what is in each buffer.
type Arrived = Vec<(usize, usize, Option<u64>)>;

fn trains(state: &UdpSocketState, socket: &mio::net::UdpSocket, buffers: &mut [Box<[u8]>]) -> io::Result<Arrived> {
    let mut meta = [RecvMeta::default(); TRAINS];
    let mut slices: Vec<_> = buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
    let count = state.recv(UdpSockRef::from(socket), &mut slices, &mut meta)?;
    Ok(meta[..count].iter().map(|m| (m.len, m.stride, m.timestamp.map(|t| t.as_nanos() as u64))).collect())
}

fn single(socket: &mio::net::UdpSocket, buffers: &mut [Box<[u8]>]) -> io::Result<Arrived> {
    let (len, _) = socket.recv_from(&mut buffers[0])?;
    Ok(vec![(len, len, None)])
}
