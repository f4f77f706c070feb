//! One UDP socket with segmentation offload in both directions, as far as the system has it.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Type};
use tokio::io::Interest;

/// Datagram trains taken from the kernel in one call.
const TRAINS: usize = 8;
/// The kernel joins at most this much into one train.
const TRAIN_BYTES: usize = 65_536;
/// How long a full send buffer may hold up the loop before datagrams are dropped.
const PATIENCE: Duration = Duration::from_millis(2);

/// The one wait for room in the send buffer that a round of sending has, however much there is to send.
#[derive(Debug, Default)]
pub(super) struct Patience {
    spent: bool,
}

impl Patience {
    /// Whether to wait.
    fn spend(&mut self) -> bool {
        !std::mem::replace(&mut self.spent, true)
    }
}

/// A socket for this address that does not block; on the unspecified IPv6 address it serves IPv4 too.
pub(super) fn new(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if let IpAddr::V6(ip) = address.ip() {
        socket.set_only_v6(ip != Ipv6Addr::UNSPECIFIED)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// A bound socket that no runtime watches yet.
pub(super) struct Socket {
    socket: UdpSocket,
}

impl Socket {
    pub fn bind(address: SocketAddr, buffer: usize) -> io::Result<Self> {
        let socket = new(address, Type::DGRAM, Protocol::UDP)?;
        // Less than wanted is not worth failing for: the system's limit is the administrator's word.
        let _ = socket.set_recv_buffer_size(buffer);
        let _ = socket.set_send_buffer_size(buffer);
        socket.bind(&address.into())?;
        Ok(Self { socket: socket.into() })
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// To be called on the thread that will use it.
    pub fn watch(self) -> io::Result<Port> {
        let state = UdpSocketState::new(UdpSockRef::from(&self.socket))?;
        let bound = self.socket.local_addr()?;
        let io = tokio::net::UdpSocket::from_std(self.socket)?;
        let buffers = std::array::from_fn(|_| vec![0; TRAIN_BYTES].into_boxed_slice());
        Ok(Port { io, state, bound, buffers, meta: [RecvMeta::default(); TRAINS] })
    }
}

/// What became of a transmit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    /// Datagrams that were not sent.
    pub failed: usize,
    /// Parts that the system refused to segment: their datagrams were sent one by one.
    pub refused: usize,
}

/// A socket in use.
pub(super) struct Port {
    io: tokio::net::UdpSocket,
    state: UdpSocketState,
    bound: SocketAddr,
    buffers: [Box<[u8]>; TRAINS],
    meta: [RecvMeta; TRAINS],
}

impl Port {
    pub async fn readable(&self) -> io::Result<()> {
        self.io.readable().await
    }

    /// Takes what has arrived, up to a bound, and gives each datagram to `each` with our address and the
    /// sender's. Returns whether there may be more.
    pub fn receive(&mut self, mut each: impl FnMut(IpAddr, SocketAddr, &mut [u8])) -> io::Result<bool> {
        let Self { io, state, buffers, meta, bound } = self;
        let received = io.try_io(Interest::READABLE, || {
            let mut buffers = buffers.iter_mut();
            let mut slices: [IoSliceMut<'_>; TRAINS] =
                std::array::from_fn(|_| IoSliceMut::new(buffers.next().expect("one buffer per train")));
            state.recv(UdpSockRef::from(&*io), &mut slices, meta)
        });
        let trains = match received {
            Ok(trains) => trains,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        for (buffer, meta) in buffers.iter_mut().zip(meta.iter()).take(trains) {
            let local = meta.dst_ip.unwrap_or(bound.ip()).to_canonical();
            let remote = SocketAddr::new(meta.addr.ip().to_canonical(), meta.addr.port());
            for datagram in buffer[..meta.len].chunks_mut(meta.stride.max(1)) {
                each(local, remote, datagram);
            }
        }
        Ok(trains > 0)
    }

    /// Datagrams that one system call can send: 1 where the system does not segment, which may show with the first attempt.
    pub fn segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// Sends one transmit of the core.
    pub async fn send(&self, transmit: &crate::core::Transmit<'_>, patience: &mut Patience) -> Sent {
        let segments = transmit.packets.min(self.segments()).max(1);
        let mut total = Sent::default();
        for part in transmit.payload.chunks(segments * transmit.segment_size) {
            let mut sent = self.send_part(transmit, part);
            if is_full(&sent) && patience.spend() {
                let _ = tokio::time::timeout(PATIENCE, self.io.writable()).await;
                sent = self.send_part(transmit, part);
            }
            total.refused += usize::from(is_refused(&sent, part, transmit.segment_size));
            total.failed += unsent(sent, part, transmit.segment_size, |datagram| self.send_part(transmit, datagram));
        }
        total
    }

    fn send_part(&self, transmit: &crate::core::Transmit<'_>, part: &[u8]) -> io::Result<()> {
        let (destination, src_ip) = self.route(transmit);
        let message = Transmit {
            destination,
            ecn: None,
            contents: part,
            segment_size: (part.len() > transmit.segment_size).then_some(transmit.segment_size),
            src_ip,
        };
        self.io.try_io(Interest::WRITABLE, || self.state.try_send(UdpSockRef::from(&self.io), &message))
    }

    /// Destination and source in the form that this socket takes.
    fn route(&self, transmit: &crate::core::Transmit<'_>) -> (SocketAddr, Option<IpAddr>) {
        let choose_source = self.bound.ip().is_unspecified();
        match (self.bound, transmit.remote) {
            (SocketAddr::V6(_), SocketAddr::V4(v4)) => {
                (SocketAddr::new(IpAddr::V6(v4.ip().to_ipv6_mapped()), v4.port()), None)
            }
            _ => (transmit.remote, choose_source.then_some(transmit.local)),
        }
    }
}

fn is_full(sent: &io::Result<()>) -> bool {
    sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

/// Whether segmentation was refused, as some interfaces do.
fn is_refused(sent: &io::Result<()>, part: &[u8], segment_size: usize) -> bool {
    sent.is_err() && !is_full(sent) && part.len() > segment_size
}

/// How many datagrams of a part stay unsent after the attempt to send it as a whole.
fn unsent(
    whole: io::Result<()>,
    part: &[u8],
    segment_size: usize,
    mut attempt: impl FnMut(&[u8]) -> io::Result<()>,
) -> usize {
    let datagrams = part.chunks(segment_size);
    match whole {
        Ok(()) => 0,
        // The datagrams one by one.
        Err(_) if is_refused(&whole, part, segment_size) => datagrams.filter(|d| attempt(d).is_err()).count(),
        Err(_) => datagrams.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_buffer_is_waited_for_once() {
        let mut patience = Patience::default();
        assert!(patience.spend());
        assert!(!patience.spend());
        assert!(!patience.spend());
    }

    #[test]
    fn a_refused_train_goes_singly_and_one_that_found_no_room_does_not() {
        let part = [0; 250];
        let tried = |kind: Option<io::ErrorKind>, size: usize| {
            let mut lengths = Vec::new();
            let failed = unsent(kind.map_or(Ok(()), |kind| Err(kind.into())), &part, size, |datagram| {
                lengths.push(datagram.len());
                if lengths.len() == 2 { Err(io::ErrorKind::InvalidInput.into()) } else { Ok(()) }
            });
            (failed, lengths)
        };
        assert_eq!(tried(None, 100), (0, vec![]));
        assert_eq!(tried(Some(io::ErrorKind::InvalidInput), 100), (1, vec![100, 100, 50]));
        assert_eq!(tried(Some(io::ErrorKind::WouldBlock), 100), (3, vec![]));
        assert_eq!(tried(Some(io::ErrorKind::InvalidInput), 250), (1, vec![]));
    }
}
