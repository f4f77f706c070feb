//! What the packet path costs. Run by hand, optimised:
//! `cargo test --release -p callplane-media-node --lib core::tests::path -- --ignored --nocapture`

use super::*;

/// One publisher, fifty subscribers, no sockets: the floor under every figure that is measured with some.
#[test]
#[ignore = "a measurement"]
#[expect(clippy::disallowed_methods, reason = "measures real time")]
fn forwarding_to_fifty_subscribers() {
    let mut world = World::new(1);
    let publisher = world.join(ClientOptions::default());
    let crowd: Vec<_> = (0..50).map(|_| world.join(ClientOptions::default())).collect();
    world.run_until_connected();
    let video = Outgoing::new(TrackKind::Vp8 { packets: 8 }, "0", 7, world.now);
    let producer = world.publish(publisher, vec![video]);
    for client in &crowd {
        world.subscribe(*client, producer, true);
    }
    world.run_for(Duration::from_secs(1));
    let mut track = world.clients[publisher].tracks.pop().unwrap();
    let mut spent = Duration::ZERO;
    let (before, transmits) = (world.stats().counter(Counter::RtpOut), world.stats().counter(Counter::Transmits));
    let addr = world.clients[publisher].addr;
    let local = "10.0.0.1".parse().unwrap();
    let mut transport_cc = 20_000;
    for _ in 0..300 {
        world.now += Duration::from_micros(33_333);
        let mut packets = Vec::new();
        track.produce(world.now, &mut transport_cc, &mut packets);
        let mut sealed: Vec<_> = Vec::new();
        for packet in packets {
            world.clients[publisher].send_rtp(&packet);
            sealed.push(world.clients[publisher].poll().unwrap());
        }
        let start = std::time::Instant::now();
        for packet in &mut sealed {
            world.core.receive(world.now, local, addr, packet);
        }
        let flush = world.now + world.core.config.batch_delay;
        while world.core.poll_transmit(flush).is_some() {}
        spent += start.elapsed();
    }
    let packets = world.stats().counter(Counter::RtpOut) - before;
    let transmits = world.stats().counter(Counter::Transmits) - transmits;
    println!("{packets} packets in {spent:?}: {:?} each; {transmits} transmits", spent / packets as u32);
}
