//! Whole calls in virtual time with one hostile participant: whatever it does, the others go on.

use std::net::SocketAddr;
use std::time::Duration;

use super::records;
use crate::core::Gauge;
use crate::core::rtp::Header;
use crate::core::testing::{ClientOptions, Outgoing, TrackKind, World};

/// Records looked at in one input: more would only make it slow.
const MAX_RECORDS: usize = 64;

/// Two who talk, and what the second hears of the first.
fn call() -> (World, u32) {
    let mut world = World::new(1);
    let publisher = world.join(ClientOptions::default());
    let subscriber = world.join(ClientOptions::default());
    world.run_until_connected();
    let track = Outgoing::new(TrackKind::Opus, "0", 0x1111, world.now);
    let producer = world.publish(publisher, vec![track]);
    let (_, ssrc) = world.subscribe(subscriber, producer, false);
    (world, ssrc)
}

/// The call goes on: 50 packets a second reach the subscriber.
fn assert_alive(world: &mut World, ssrc: u32) {
    let before = world.clients[1].receiver.count(ssrc);
    world.run_for(Duration::from_millis(400));
    let heard = world.clients[1].receiver.count(ssrc) - before;
    assert!(heard >= 15, "only {heard} packets in 400 ms");
}

/// Datagrams from anywhere, into a call and into a handshake.
pub(super) fn datagrams(data: &[u8]) {
    let (mut world, ssrc) = call();
    let victim = world.join(ClientOptions::default());
    for (kind, content) in records(data).take(MAX_RECORDS) {
        let from = match kind >> 2 & 3 {
            0 => world.clients[0].addr,
            1 => world.clients[victim].addr,
            2 => SocketAddr::from(([10, 9, 0, kind >> 4], 1000)),
            _ => SocketAddr::from(([10, 9, 0, 1], u16::from(kind))),
        };
        match kind & 3 {
            0 => world.run_for(Duration::from_millis(u64::from(kind >> 2))),
            _ => {
                world.inject(from, content);
            }
        }
    }
    assert!(world.stats().gauge(Gauge::Tuples) <= 3 * 8, "tuples are bounded");
    assert_alive(&mut world, ssrc);
}

/// A participant with keys that sends what it likes: RTP, RTCP and bytes into its DTLS association.
pub(super) fn member(data: &[u8]) {
    let (mut world, ssrc) = call();
    let hostile = world.join(ClientOptions::default());
    world.run_until_connected();
    let audio = Outgoing::new(TrackKind::Opus, "1", 0x2222, world.now);
    let mut video = Outgoing::new(TrackKind::Vp8 { packets: 2 }, "2", 0x3333, world.now);
    video.signalled = false;
    for (track, is_video) in [(audio, false), (video, true)] {
        let producer = world.publish(hostile, vec![track]);
        world.subscribe(1, producer, is_video);
        world.subscribe(hostile, producer, is_video);
    }
    // From here on it speaks for itself.
    world.clients[hostile].tracks.clear();
    let addr = world.clients[hostile].addr;
    for (kind, content) in records(data).take(MAX_RECORDS) {
        match kind & 3 {
            0 => world.run_for(Duration::from_millis(u64::from(kind >> 2))),
            1 => {
                let mut packet = content.to_vec();
                let known = [0x2222_u32, 0x3333, 0x3334].get(usize::from(kind >> 2));
                if let (Some(known), Some(field)) = (known, packet.get_mut(8..12)) {
                    field.copy_from_slice(&known.to_be_bytes());
                }
                if Header::parse(&packet).is_some() {
                    world.clients[hostile].try_send_rtp(&packet);
                    world.pump();
                }
            }
            2 => {
                world.clients[hostile].try_send_rtcp(content);
                world.pump();
            }
            _ => {
                world.inject(addr, content);
            }
        }
    }
    assert_alive(&mut world, ssrc);
}
