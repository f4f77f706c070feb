//! An hour in virtual time, and what is left of it in memory.

use std::cell::Cell;

use allocation_counter::measure;

use super::*;
use crate::core::twcc::Arrivals;

thread_local! {
    /// Bytes that the core holds, but for what it had when it was made.
    static HELD: Cell<i64> = const { Cell::new(0) };
}

fn metered(call: &mut dyn FnMut()) {
    let bytes = measure(call).bytes_current;
    HELD.set(HELD.get() + bytes);
}

/// Sound of 2.5 packets and pictures of one a second.
fn tracks(world: &World, client: usize) -> [Outgoing; 2] {
    let ssrc = 1000 * (client as u32 + 1);
    let mut sound = Outgoing::new(TrackKind::Opus, "0", ssrc, world.now);
    let mut pictures = Outgoing::new(TrackKind::Vp8 { packets: 2 }, "1", ssrc + 100, world.now);
    (sound.slowness, pictures.slowness) = (20, 30);
    [sound, pictures]
}

/// Publishes both: the producers.
fn publish(world: &mut World, client: usize) -> [ProducerId; 2] {
    tracks(world, client).map(|track| world.publish(client, vec![track]))
}

fn subscribe(world: &mut World, client: usize, to: [ProducerId; 2]) -> [u32; 2] {
    [world.subscribe(client, to[0], false).1, world.subscribe(client, to[1], true).1]
}

/// Somebody comes, sees and is seen for half a minute, and leaves.
fn visit(world: &mut World, hosts: [[ProducerId; 2]; 2]) {
    let left = world.now + Duration::from_secs(60);
    let guest = world.join(ClientOptions::default());
    world.run_until(Duration::from_secs(20), |world| {
        world.clients[guest].connected && world.state(guest) == Some(TransportState::Connected)
    });
    let published = publish(world, guest);
    let seen = hosts.map(|host| subscribe(world, guest, host));
    let shown = subscribe(world, 0, published);
    world.run_for(Duration::from_secs(30));
    for (client, ssrc) in seen.into_iter().flatten().map(|ssrc| (guest, ssrc)).chain(shown.map(|ssrc| (0, ssrc))) {
        assert!(world.clients[client].receiver.count(ssrc) > 20, "it was a call");
    }
    world.handle(Command::CloseTransport { transport: TransportId(guest as u64 + 1) });
    world.clients.pop();
    // What the tests themselves remember is of no interest.
    world.clients[0].receiver.streams.retain(|ssrc, _| !shown.contains(ssrc));
    world.events.clear();
    world.clients.iter_mut().for_each(|client| client.rtcp.clear());
    world.run_for(left - world.now);
}

#[test]
fn an_hour_of_people_who_come_and_go_leaves_memory_as_it_was() {
    HELD.set(0);
    let mut world = World::new(72);
    world.around = metered;
    world.grain = Duration::from_millis(1);
    world.join(ClientOptions::default());
    world.join(ClientOptions::default());
    world.run_until_connected();
    for host in 0..2 {
        world.clients[host].receiver.arrivals = Some(Arrivals::new(world.now));
    }
    let hosts = [publish(&mut world, 0), publish(&mut world, 1)];
    let [heard, seen] = subscribe(&mut world, 0, hosts[1]);
    subscribe(&mut world, 1, hosts[0]);
    world.network.loss = 0.01;
    world.network.jitter = Duration::from_millis(30);
    // Rates are what they are at that moment; all else is to be as it was.
    let gauges = |world: &World| {
        let rate = |gauge: &&Gauge| matches!(gauge, Gauge::AvailableOutgoing | Gauge::AvailableIncoming);
        let all = Gauge::ALL.iter().filter(|gauge| !rate(gauge));
        all.map(|gauge| (gauge.name(), world.stats().gauge(*gauge))).collect::<Vec<_>>()
    };
    let mut held = Vec::new();
    let mut before = None;
    for minute in 1..=60 {
        visit(&mut world, hosts);
        held.push(HELD.get());
        if minute == 10 {
            before = Some(gauges(&world));
        }
    }
    println!("bytes held after each minute: {held:?}");
    assert_eq!(before, Some(gauges(&world)));
    let (tenth, last) = (held[9], held[59]);
    assert!(tenth > 50_000, "it is the core that is measured: {tenth}");
    // An SSRC that was sent from is never used again: that is remembered, in four bytes and what a tree adds.
    assert!(last - tenth < 16 * 1024, "{tenth} bytes after ten minutes, {last} after sixty");
    for ssrc in [heard, seen] {
        let stream = world.clients[0].receiver.stream(ssrc);
        assert!(stream.packets.len() > 3600 * 9 / 5, "{}", stream.packets.len());
        assert!(stream.packets.last_key_value().unwrap().1.at > world.now - Duration::from_secs(3));
    }
    assert_eq!(world.clients[0].undecryptable, 0);
}
