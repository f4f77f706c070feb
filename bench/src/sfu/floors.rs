//! What no server can go below on this machine: a send, a send of a train, a seal, a seal of our own core.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use rtc::crypto::AeadAlgorithm;
use serde::Serialize;

use super::{handshake::Identity, path};
use crate::clock;

const BYTES: usize = 1200;
const RECEIVERS: usize = 50;
const ROUNDS: usize = 200;

/// One floor.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Floor {
    /// What is done to a packet of 1200 bytes.
    pub name: String,
    /// Microseconds for each packet, the median of the rounds.
    pub micros_per_packet: f64,
}

fn socket() -> Result<socket2::Socket> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    Ok(socket)
}

/// The middle of `ROUNDS` measurements of `packets` packets each.
fn median(packets: usize, mut round: impl FnMut() -> Result<Duration>) -> Result<f64> {
    let times: Result<Vec<_>> = (0..ROUNDS).map(|_| Ok(round()?.as_secs_f64() * 1e6 / packets as f64)).collect();
    Ok(crate::report::median(times?))
}

/// Sends trains of `segments` packets to each of 50 sockets; what they got is taken while no clock runs.
fn send(segments: usize, gro: bool) -> Result<f64> {
    let sender = socket()?;
    let state = UdpSocketState::new(UdpSockRef::from(&sender))?;
    let receivers: Vec<_> = (0..RECEIVERS).map(|_| socket()).collect::<Result<_>>()?;
    let mut states = Vec::new();
    let mut addresses = Vec::new();
    for receiver in &receivers {
        addresses.push(receiver.local_addr()?.as_socket().context("an IP socket")?);
        if gro {
            states.push(UdpSocketState::new(UdpSockRef::from(receiver))?);
        }
    }
    let bytes = vec![7; BYTES * segments];
    let mut buffer = vec![0; 65_536];
    median(RECEIVERS * segments, || {
        let began = clock::now();
        for to in &addresses {
            let segment_size = (segments > 1).then_some(BYTES);
            let transmit = Transmit { destination: *to, ecn: None, contents: &bytes, segment_size, src_ip: None };
            state.try_send(UdpSockRef::from(&sender), &transmit)?;
        }
        let took = began.elapsed();
        for (i, receiver) in receivers.iter().enumerate() {
            let mut left = segments;
            while left > 0 {
                let got = match states.get(i) {
                    Some(state) => {
                        let mut meta = [RecvMeta::default()];
                        let mut slices = [std::io::IoSliceMut::new(&mut buffer)];
                        let _ = state.recv(UdpSockRef::from(receiver), &mut slices, &mut meta)?;
                        meta[0].len.div_ceil(BYTES)
                    }
                    None => usize::from(std::io::Read::read(&mut &*receiver, &mut buffer)? > 0),
                };
                left = left.saturating_sub(got.max(1));
            }
        }
        Ok(took)
    })
}

fn seal(identity: &Identity) -> Result<f64> {
    let crypto = identity.provider().crypto();
    let mut aead = crypto.new_aead(AeadAlgorithm::Aes128Gcm, &[7; 16]).map_err(|e| anyhow!("{e}"))?;
    let (mut body, mut tag, mut index) = (vec![7; BYTES - 28 - 16], [0; 16], 0u64);
    median(400, || {
        let began = clock::now();
        for _ in 0..400 {
            index += 1;
            let mut nonce = [0; 12];
            nonce[4..].copy_from_slice(&index.to_be_bytes());
            aead.seal_in_place(&nonce, &[7; 28], &mut body, &mut tag).map_err(|e| anyhow!("{e}"))?;
        }
        Ok(began.elapsed())
    })
}

/// All floors.
///
/// # Errors
/// When the system refuses a socket.
pub fn measure(identity: &Identity) -> Result<Vec<Floor>> {
    let mut floors = vec![Floor { name: "AEAD_AES_128_GCM seal".to_owned(), micros_per_packet: seal(identity)? }];
    let core = path::measure(identity)?;
    floors.push(Floor { name: "callplane's core alone, without sockets".to_owned(), micros_per_packet: core });
    floors.push(Floor { name: "sendto".to_owned(), micros_per_packet: send(1, false)? });
    for segments in [2, 4, 8] {
        for gro in [true, false] {
            let towards = if gro { "taken as a train (UDP_GRO)" } else { "taken singly" };
            let name = format!("GSO of {segments}, {towards}");
            floors.push(Floor { name, micros_per_packet: send(segments, gro)? });
        }
    }
    Ok(floors)
}
