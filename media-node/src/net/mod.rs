//! Sockets, event loops and the clock: gives the packet core what it must not have itself.
//!
//! Each worker is a thread with one UDP socket, a TCP listener on the same port, and one [`Core`](crate::core::Core); a room lives on one
//! worker. A worker sleeps until there is a datagram, an order, or something to send; an idle one is
//! never woken.

mod announcer;
pub(crate) mod framing;
mod handle;
mod shared;
mod socket;
mod tcp;
mod worker;

#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::core::{self, Identity, IdentityError};

pub use handle::{Closed, MediaHandle};

use shared::{Directory, Shared};
use socket::Socket;
use tcp::Listener;
use worker::Worker;

/// Index of a worker, from zero.
pub type WorkerId = usize;

/// Orders and questions that wait for one worker. When full, [`MediaHandle::send`] waits.
const ORDERS: usize = 1024;

/// Ports of the system's choice that are tried for UDP and TCP together.
const MAX_PORTS_TRIED: usize = 32;

/// Where and how to run.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address and port of the first worker's socket; worker `i` takes the `i`th port after it. Port zero
    /// lets the system choose each.
    pub listen: SocketAddr,
    /// Whether clients may connect by TCP, to the same ports.
    pub tcp: bool,
    /// How long a connection has to bring a valid connectivity check.
    pub tcp_validate_within: Duration,
    /// Number of workers; zero means one per available core.
    pub workers: usize,
    /// Kernel buffer in each direction, in bytes, as far as the system allows.
    pub socket_buffer: usize,
    /// The core's limits and intervals.
    pub core: core::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 40_000)),
            tcp: true,
            tcp_validate_within: Duration::from_secs(10),
            workers: 0,
            socket_buffer: 4 << 20,
            core: core::Config::default(),
        }
    }
}

/// The media plane could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No certificate.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The ports after the first leave the range.
    #[error("{workers} workers need ports beyond 65535 when the first is {first}")]
    Ports {
        /// Port of the first worker.
        first: u16,
        /// Number of workers.
        workers: usize,
    },
    /// A socket could not be made.
    #[error("{protocol} socket {address}: {error}")]
    Socket {
        /// `UDP` or `TCP`.
        protocol: &'static str,
        /// What was to be bound.
        address: SocketAddr,
        /// Why it was not.
        error: io::Error,
    },
    /// A thread could not be made.
    #[error("media worker thread: {0}")]
    Thread(io::Error),
}

/// A worker ended although there were handles left.
#[derive(Debug, thiserror::Error)]
#[error("media worker {0} has ended")]
pub struct WorkerEnded(pub WorkerId);

/// Starts the workers. Must be called within a tokio runtime. The task ends when all handles are gone,
/// or with an error as soon as a worker does.
///
/// # Errors
///
/// [`StartError`]; nothing is running then.
pub fn start(config: Config) -> Result<(MediaHandle, JoinHandle<Result<(), WorkerEnded>>), StartError> {
    let identity = Identity::generate()?;
    let workers = match config.workers {
        0 => std::thread::available_parallelism().map_or(1, NonZero::get),
        workers => workers,
    };
    let directory = Arc::new(Directory::default());
    let mut seats = Vec::with_capacity(workers);
    for id in 0..workers {
        let address = address(&config, id, workers)?;
        seats.push(bind(address, &config)?);
    }
    let mut links = Vec::with_capacity(workers);
    let mut ends = Vec::with_capacity(workers);
    for (id, (sockets, bound)) in seats.into_iter().enumerate() {
        let (orders, inbox) = mpsc::channel(ORDERS);
        let (alive, ended) = oneshot::channel::<()>();
        let shared = Arc::new(Shared::default());
        let worker = Worker::new(id, sockets, inbox, shared.clone(), directory.clone(), &config, identity.clone());
        std::thread::Builder::new()
            .name(format!("media-{id}"))
            .spawn(move || {
                let _alive = alive;
                worker.run();
            })
            .map_err(StartError::Thread)?;
        links.push(handle::Link { orders, shared, port: bound.port() });
        ends.push(ended);
    }
    let handle = MediaHandle::new(links, directory, identity.fingerprint());
    let open: Vec<_> = handle.orders().map(mpsc::Sender::downgrade).collect();
    let watch = tokio::spawn(async move {
        let ends = ends.into_iter().enumerate().map(|(id, end)| {
            Box::pin(async move {
                let _ = end.await;
                id
            })
        });
        let mut rest: Vec<_> = ends.collect();
        while !rest.is_empty() {
            let (id, _, left) = futures::future::select_all(rest).await;
            if open[id].upgrade().is_some() {
                return Err(WorkerEnded(id));
            }
            rest = left;
        }
        Ok(())
    });
    Ok((handle, watch))
}

type Sockets = (Socket, Option<Listener>);

/// Both sockets of a worker, on one port.
fn bind(address: SocketAddr, config: &Config) -> Result<(Sockets, SocketAddr), StartError> {
    let mut attempts = 0;
    loop {
        let failed = |protocol, error| StartError::Socket { protocol, address, error };
        let socket = Socket::bind(address, config.socket_buffer).map_err(|error| failed("UDP", error))?;
        let bound = socket.local_addr().map_err(|error| failed("UDP", error))?;
        if !config.tcp {
            return Ok(((socket, None), bound));
        }
        match Listener::bind(bound, config.tcp_validate_within) {
            Ok(listener) => return Ok(((socket, Some(listener)), bound)),
            // The system chose a port that is free for one protocol only.
            Err(_) if address.port() == 0 && attempts < MAX_PORTS_TRIED => attempts += 1,
            Err(error) => return Err(StartError::Socket { protocol: "TCP", address: bound, error }),
        }
    }
}

fn address(config: &Config, id: WorkerId, workers: usize) -> Result<SocketAddr, StartError> {
    let mut address = config.listen;
    let first = address.port();
    if first != 0 {
        let port = u16::try_from(id).ok().and_then(|i| first.checked_add(i));
        address.set_port(port.ok_or(StartError::Ports { first, workers })?);
    }
    Ok(address)
}
