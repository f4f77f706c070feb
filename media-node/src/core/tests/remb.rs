//! Publishers that leave it to the node to judge their paths.

use super::*;
use rtc::rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;

/// What the publisher was told last, in bits per second.
fn told(world: &World) -> Option<f64> {
    let mut packets = world.clients[0].rtcp.iter().rev();
    let remb = packets.find_map(|packet| packet.as_any().downcast_ref::<ReceiverEstimatedMaximumBitrate>())?;
    Some(f64::from(remb.bitrate))
}

/// A publisher of pictures without transport-wide numbers, behind a link of its own.
fn publisher(seed: u64, rate: f64) -> World {
    let mut world = World::with(seed, Config::default());
    world.join(ClientOptions::default());
    world.run_until_connected();
    let address = world.clients[0].addr;
    let link = Link::new(rate, Duration::from_millis(400), world.now);
    world.network.links.push((Direction::ToServer, address, link));
    let track = Outgoing::new(TrackKind::Vp8 { packets: 1 }, "0", 2222, world.now);
    let mut spec = Outgoing::spec(&[&track]);
    spec.header_extensions.retain(|extension| extension.kind != ExtensionKind::TransportCc);
    spec.codecs[0].remb = true;
    // Browsers do not repeat within a round trip what they have repeated already; this publisher would.
    spec.codecs[0].nack = false;
    world.handle(Command::Produce { producer: ProducerId(1), transport: TransportId(1), spec });
    world.clients[0].tracks.push(track);
    world
}

/// The publisher sends what it was told last, 300 kbit/s before.
fn obey(world: &mut World, time: Duration) -> Vec<f64> {
    let until = world.now + time;
    let mut seen = Vec::new();
    while world.now < until {
        let bitrate = told(world).unwrap_or(300e3);
        seen.push(bitrate);
        // Pictures of whole packets, and never of one: the next larger would be twice as large, more than is let grow.
        let packets = (bitrate / 30.0 / 8.0 / 1120.0).round().clamp(2.0, 400.0) as usize;
        world.clients[0].tracks[0].kind = TrackKind::Vp8 { packets };
        world.run_for(Duration::from_millis(50));
    }
    seen
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[test]
fn what_the_path_carries_is_found_and_its_queue_stays_short() {
    for (seed, rate) in [(1, 700e3), (2, 1.5e6), (3, 4e6)] {
        let mut world = publisher(seed, rate);
        world.network.jitter = Duration::from_millis(3);
        obey(&mut world, Duration::from_secs(10));
        world.network.links[0].2.longest = Duration::ZERO;
        let dropped = world.network.links[0].2.dropped;
        let estimate = mean(&obey(&mut world, Duration::from_secs(30)));
        let link = &world.network.links[0].2;
        println!("{rate}: {:.0} %, queue {:?}", estimate / rate * 100.0, link.longest);
        assert!((0.55..1.05).contains(&(estimate / rate)), "{rate}: {estimate}");
        assert!(link.longest < Duration::from_millis(350), "{rate}: {:?}", link.longest);
        assert!(link.dropped - dropped < 40, "{rate}: {}", link.dropped - dropped);
        let stats = world.core.transport_stats(TransportId(1), world.now).unwrap();
        let available = stats.available_incoming_bitrate.unwrap();
        assert!((0.4..1.3).contains(&(available as f64 / rate)), "{available}");
        assert_eq!(world.stats().gauge(Gauge::AvailableIncoming), available);
    }
}

#[test]
fn a_path_that_narrows_is_followed_and_a_free_one_is_used_within_seconds() {
    let mut world = publisher(4, 20e6);
    obey(&mut world, Duration::from_secs(5));
    assert!(told(&world).is_some_and(|bitrate| bitrate > 3e6), "{:?}", told(&world));
    world.network.links[0].2.rate = 1e6;
    obey(&mut world, Duration::from_secs(4));
    assert!(told(&world).is_some_and(|bitrate| bitrate < 1.1e6), "{:?}", told(&world));
    // The full queue that it came upon costs some time.
    obey(&mut world, Duration::from_secs(20));
    let estimate = mean(&obey(&mut world, Duration::from_secs(5)));
    assert!((0.4e6..1.1e6).contains(&estimate), "{estimate}");
    world.handle(Command::CloseProducer { producer: ProducerId(1) });
    assert_eq!(world.stats().gauge(Gauge::AvailableIncoming), 0);
}

#[test]
fn the_limit_of_the_room_holds_for_estimates_too() {
    let mut world = publisher(5, 20e6);
    let limits = RoomLimits { max_publish_bitrate: Some(800_000), ..RoomLimits::default() };
    world.handle(Command::LimitRoom { room: RoomId(1), limits });
    obey(&mut world, Duration::from_secs(5));
    let bitrate = told(&world).unwrap();
    assert!((790e3..801e3).contains(&bitrate), "{bitrate}");
    let stats = world.core.transport_stats(TransportId(1), world.now).unwrap();
    assert_eq!(stats.max_incoming_bitrate, Some(800_000));
}

#[test]
fn who_judges_its_path_itself_or_heeds_no_remb_is_told_nothing() {
    let mut world = World::new(6);
    call(&mut world);
    world.run_for(Duration::from_secs(3));
    assert_eq!(told(&world), None);
    let stats = world.core.transport_stats(TransportId(1), world.now).unwrap();
    assert_eq!(stats.available_incoming_bitrate, None);

    // With a second track that has transport-wide numbers, the first needs no REMB any more.
    let mut world = publisher(7, 20e6);
    obey(&mut world, Duration::from_secs(1));
    assert!(told(&world).is_some());
    let other = Outgoing::new(TrackKind::Opus, "1", 1111, world.now);
    world.publish(0, vec![other]);
    let before = world.stats().counter(Counter::RembOut);
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.stats().counter(Counter::RembOut), before);
}
