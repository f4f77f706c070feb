//! What forwarding allocates, counted: next to nothing, however many subscribers there are.

use allocation_counter::measure;
use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;

use super::*;
use crate::core::testing::Datagram;
use crate::core::twcc::Arrivals;

/// Sound and pictures of one publisher to so many subscribers, who say what arrived.
fn broadcast(seed: u64, subscribers: usize, profile: SrtpProtectionProfile) -> World {
    let mut world = World::new(seed);
    for _ in 0..=subscribers {
        let at = world.join(ClientOptions { profiles: vec![profile], ..ClientOptions::default() });
        world.clients[at].receiver.arrivals = Some(Arrivals::new(world.now));
    }
    world.run_until_connected();
    let audio = Outgoing::new(TrackKind::Opus, "0", 1111, world.now);
    let video = Outgoing::new(TrackKind::Vp8 { packets: 6 }, "1", 2222, world.now);
    let audio = world.publish(0, vec![audio]);
    let video = world.publish(0, vec![video]);
    for subscriber in 1..=subscribers {
        world.subscribe(subscriber, audio, false);
        world.subscribe(subscriber, video, true);
    }
    world
}

/// Goes on with the call, and counts: allocations while media was taken in and while anything was sent, and packets
/// forwarded.
fn count(world: &mut World, time: Duration) -> (u64, u64) {
    let forwarded = world.stats().counter(Counter::RtpOut);
    let mut allocations = 0;
    // Room enough that keeping what was sent allocates nothing.
    let mut sent: Vec<u8> = Vec::with_capacity(8 << 20);
    let mut cuts: Vec<(SocketAddr, usize)> = Vec::with_capacity(1 << 16);
    let until = world.now + time;
    while world.now < until {
        world.now += Duration::from_millis(1);
        let now = world.now;
        for client in &mut world.clients {
            client.tick(now);
            while let Some(bytes) = client.poll() {
                world.network.send(Datagram { direction: Direction::ToServer, client: client.addr, bytes }, now);
            }
        }
        while let Some(mut datagram) = world.network.deliver(now) {
            let (from, bytes) = (datagram.client, &mut datagram.bytes);
            if datagram.direction == Direction::ToClient {
                let client = world.clients.iter_mut().find(|client| client.addr == from);
                client.unwrap().receive(bytes, now);
            } else if bytes[0] >> 6 == 2 && !(192..224).contains(&bytes[1]) {
                allocations += measure(|| _ = world.core.receive(now, SERVER_IP, from, bytes)).count_total;
            } else {
                world.core.receive(now, SERVER_IP, from, bytes);
            }
        }
        world.core.tick(now);
        let sending = measure(|| {
            while let Some(transmit) = world.core.poll_transmit(now) {
                for packet in transmit.payload.chunks(transmit.segment_size) {
                    sent.extend_from_slice(packet);
                    cuts.push((transmit.remote, sent.len()));
                }
            }
        });
        allocations += sending.count_total;
        let mut start = 0;
        for (client, end) in cuts.drain(..) {
            let bytes = sent[start..end].to_vec();
            world.network.send(Datagram { direction: Direction::ToClient, client, bytes }, now);
            start = end;
        }
        sent.clear();
        while world.core.poll_event().is_some() {}
    }
    (allocations, world.stats().counter(Counter::RtpOut) - forwarded)
}

#[test]
fn forwarding_to_fifty_subscribers_allocates_nothing_once_it_is_warm() {
    for profile in [SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm, SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80] {
        let mut world = broadcast(61, 50, profile);
        count(&mut world, Duration::from_millis(2500));
        let (allocations, forwarded) = count(&mut world, Duration::from_secs(1));
        println!("{profile:?}: {allocations} allocations for {forwarded} packets");
        assert!(forwarded > 50 * 200, "{forwarded}");
        assert!(allocations * 100 < forwarded, "{allocations} allocations for {forwarded} packets");
    }
}
