//! What subscribers can take, and what they get of it.

use super::*;
use crate::core::twcc::Arrivals;

fn available(world: &World, client: usize) -> Option<u64> {
    world.core.transport_stats(TransportId(client as u64 + 1), world.now).unwrap().available_outgoing_bitrate
}

/// A subscriber that reports arrivals, behind a link of its own.
fn subscriber(world: &mut World, rate: f64) -> usize {
    let client = world.join(ClientOptions::default());
    world.clients[client].receiver.arrivals = Some(Arrivals::new(world.start));
    let link = Link::new(rate, Duration::from_millis(400), world.now);
    world.network.links.push((Direction::ToClient, world.clients[client].addr, link));
    client
}

fn link(world: &mut World, client: usize) -> &mut Link {
    let address = world.clients[client].addr;
    world.network.downlink(address)
}

/// A camera in three encodings of about 500, 1000 and 1800 kbit/s.
fn camera(world: &World, mid: &'static str, ssrc: u32) -> Vec<Outgoing> {
    [("r0", 2, 0u32), ("r1", 4, 10), ("r2", 7, 20)]
        .into_iter()
        .map(|(rid, packets, offset)| {
            let mut track = Outgoing::new(TrackKind::Vp8 { packets }, mid, ssrc + offset, world.now);
            track.rid = Some(rid);
            track.signalled = false;
            track
        })
        .collect()
}

fn told(world: &World) -> Vec<u8> {
    let of = |e: &Event| match e {
        Event::LayersChanged { layers, .. } => Some(layers.spatial),
        _ => None,
    };
    world.events.iter().filter_map(of).collect()
}

fn pauses(world: &World) -> Vec<bool> {
    let of = |e: &Event| match e {
        Event::BandwidthPaused { paused, .. } => Some(*paused),
        _ => None,
    };
    world.events.iter().filter_map(of).collect()
}

/// A publisher with sound and a camera, a subscriber to both behind a link: SSRCs received under.
fn conversation(seed: u64, rate: f64) -> (World, usize, u32, u32) {
    let mut world = World::with(seed, Config::default());
    let publisher = world.join(ClientOptions::default());
    let subscriber = subscriber(&mut world, rate);
    world.run_until_connected();
    let audio = Outgoing::new(TrackKind::Opus, "0", 1111, world.now);
    let audio = world.publish(publisher, vec![audio]);
    let tracks = camera(&world, "1", 100);
    let video = world.publish(publisher, tracks);
    let (_, audio) = world.subscribe(subscriber, audio, false);
    let (_, video) = world.subscribe(subscriber, video, true);
    (world, subscriber, audio, video)
}

/// Packets of sound that came, and the longest time without any, since a moment.
fn sound(world: &World, client: usize, ssrc: u32, since: std::time::Instant) -> (usize, Duration) {
    let stream = world.clients[client].receiver.stream(ssrc);
    let mut times: Vec<_> = stream.packets.values().map(|p| p.at).filter(|at| *at >= since).collect();
    times.sort_unstable();
    let longest = times.windows(2).map(|w| w[1] - w[0]).max().unwrap_or_default();
    (times.len(), longest)
}

#[test]
fn everybody_gets_the_best_that_fits_and_it_does_not_flap() {
    for seed in [1, 2] {
        for (rate, expected) in [(5e6, 2), (1.6e6, 1), (800e3, 0)] {
            let (mut world, client, audio, video) = conversation(seed, rate);
            let took = world.run_until(Duration::from_secs(10), |w| told(w).last() == Some(&expected));
            println!("{rate}: layer {expected} after {took:?}");
            world.run_for(Duration::from_secs(8));
            let (before, since) = (told(&world).len(), world.now);
            link(&mut world, client).longest = Duration::ZERO;
            world.run_for(Duration::from_secs(60));
            let changes = told(&world).len() - before;
            println!("{rate}: {:?}", told(&world));
            assert!(changes <= 2, "{rate}: {:?}", told(&world));
            assert_eq!(told(&world).last(), Some(&expected));
            let (heard, longest) = sound(&world, client, audio, since);
            assert!(heard >= 2990 && longest < Duration::from_millis(150), "{rate}: {heard} {longest:?}");
            let queue = link(&mut world, client).longest;
            assert!(queue < Duration::from_millis(250), "{rate}: {queue:?}");
            let last = world.clients[client].receiver.stream(video).packets.last_key_value().unwrap().1.at;
            assert!(last > world.now - Duration::from_millis(200));
        }
    }
}

#[test]
fn a_path_that_narrows_is_followed_and_one_that_widens_is_used() {
    let (mut world, client, audio, _) = conversation(3, 5e6);
    world.run_for(Duration::from_secs(5));
    assert_eq!(told(&world).last(), Some(&2));
    let since = world.now;
    link(&mut world, client).rate = 900e3;
    world.run_for(Duration::from_millis(2000));
    assert_eq!(told(&world).last(), Some(&0), "{:?}", available(&world, client));
    world.run_for(Duration::from_millis(3000));
    link(&mut world, client).longest = Duration::ZERO;
    world.run_for(Duration::from_secs(8));
    let queue = link(&mut world, client).longest;
    assert!(queue < Duration::from_millis(250), "{queue:?}");
    let (heard, longest) = sound(&world, client, audio, since);
    assert!(heard > 440 && longest < Duration::from_millis(500), "{heard} {longest:?}");
    assert!(pauses(&world).is_empty());
    link(&mut world, client).rate = 5e6;
    let took = world.run_until(Duration::from_secs(20), |w| told(w).last() == Some(&2));
    assert!(took < Duration::from_secs(12), "{took:?}");
}

#[test]
fn where_no_picture_fits_there_is_sound_and_pictures_come_back() {
    let (mut world, client, audio, video) = conversation(4, 5e6);
    world.run_for(Duration::from_secs(5));
    link(&mut world, client).rate = 250e3;
    world.run_for(Duration::from_secs(5));
    assert_eq!(pauses(&world), [true], "{:?}", available(&world, client));
    assert_eq!(world.stats().gauge(Gauge::ConsumersHeld), 1);
    let since = world.now;
    world.run_for(Duration::from_secs(20));
    let (heard, longest) = sound(&world, client, audio, since);
    assert!(heard >= 995 && longest < Duration::from_millis(150), "{heard} {longest:?}");
    link(&mut world, client).rate = 5e6;
    let count = world.clients[client].receiver.count(video);
    let took = world.run_until(Duration::from_secs(20), |w| w.clients[client].receiver.count(video) > count + 100);
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(pauses(&world).last(), Some(&false));
    assert_eq!(world.stats().gauge(Gauge::ConsumersHeld), 0);
    world.run_until(Duration::from_secs(20), |w| told(w).last() == Some(&2));
}

/// A browser on a busy machine: its delays grow all the time, and its path is free.
#[test]
fn a_subscriber_that_dozes_keeps_the_only_picture_that_there_is() {
    for (seed, packets) in (20..26).zip([4, 8, 12].into_iter().cycle()) {
        let mut world = World::with(seed, Config::default());
        let publisher = world.join(ClientOptions::default());
        let client = subscriber(&mut world, 100e6);
        world.run_until_connected();
        let address = world.clients[client].addr;
        world.network.dozes = Some((address, world.now..world.now));
        let track = Outgoing::new(TrackKind::Vp8 { packets }, "1", 2222, world.now);
        let producer = world.publish(publisher, vec![track]);
        let (_, video) = world.subscribe(client, producer, true);
        world.run_for(Duration::from_secs(1));
        let before = world.clients[client].receiver.count(video);
        world.run_for(Duration::from_secs(30));
        let came = world.clients[client].receiver.count(video) - before;
        println!("{packets}: {came} packets, {:?}", available(&world, client));
        assert_eq!(pauses(&world), [false; 0], "{seed}");
        // What is asleep at either end counts there.
        assert!(came.abs_diff(30 * 30 * packets) <= 6 * packets, "{seed}: {came}");
    }
}

#[test]
fn whoever_speaks_is_seen_best() {
    let mut world = World::with(5, Config::default());
    let people: Vec<_> = (0..2).map(|_| world.join(ClientOptions::default())).collect();
    // All of the speaker and the least of the other for 2.3 Mbit/s, but no more than that: 2.8 and their headers.
    let subscriber = subscriber(&mut world, 2.9e6);
    world.run_until_connected();
    let mut ssrcs = vec![];
    for (i, person) in people.iter().enumerate() {
        let mut audio = Outgoing::new(TrackKind::Opus, "0", 1111, world.now);
        audio.level = if i == 1 { 20 } else { 90 };
        let audio = world.publish(*person, vec![audio]);
        world.subscribe(subscriber, audio, false);
        let tracks = camera(&world, "1", 100);
        let video = world.publish(*person, tracks);
        ssrcs.push(world.subscribe(subscriber, video, true).1);
    }
    world.run_for(Duration::from_secs(15));
    let rates: Vec<_> = ssrcs
        .iter()
        .map(|ssrc| {
            let stream = world.clients[subscriber].receiver.stream(*ssrc);
            stream.packets.values().filter(|p| p.at > world.now - Duration::from_secs(3)).count()
        })
        .collect();
    assert!(rates[1] > 2 * rates[0], "{rates:?} {:?}", available(&world, subscriber));
    assert!(rates[0] > 100, "{rates:?}");
}

#[test]
fn a_free_path_adds_no_delay() {
    let mut world = World::with(6, Config::default());
    let publisher = world.join(ClientOptions::default());
    let client = subscriber(&mut world, 50e6);
    world.run_until_connected();
    let track = Outgoing::new(TrackKind::Vp8 { packets: 5 }, "1", 2222, world.now);
    let start = world.now;
    let producer = world.publish(publisher, vec![track]);
    let (_, video) = world.subscribe(client, producer, true);
    world.run_for(Duration::from_secs(12));
    assert!(available(&world, client).unwrap() > 1_300_000, "{:?}", available(&world, client));
    assert!(world.clients[client].receiver.padding > 5);
    // Twice ten milliseconds of network, and a packet on the link.
    let path = Duration::from_micros(20_180);
    let frame = Duration::from_micros(33_333);
    let stream = world.clients[client].receiver.stream(video);
    let mut added: Vec<Duration> = stream
        .packets
        .values()
        .rev()
        .take(1000)
        .map(|p| p.at.saturating_duration_since(start + frame * (p.counter / 5) as u32 + path))
        .collect();
    added.sort_unstable();
    let (median, worst) = (added[added.len() / 2], added[added.len() - 1]);
    println!("added: {median:?}, at worst {worst:?}");
    // The rest of its picture may be before it on the link: nothing waits for more to come.
    assert!(median < Duration::from_micros(900), "{median:?}");
    assert!(worst < Duration::from_millis(30), "{worst:?}");
    assert_eq!(world.stats().dropped(Drop::PacerFull), 0);
}

#[test]
fn a_subscriber_that_never_reports_is_not_held_back() {
    let (mut world, client, audio, _) = conversation(7, 50e6);
    world.clients[client].receiver.arrivals = None;
    world.run_for(Duration::from_secs(8));
    assert_eq!(available(&world, client), None);
    assert_eq!(told(&world).last(), Some(&2));
    assert!(world.clients[client].receiver.count(audio) > 380);
    assert!(pauses(&world).is_empty());
}

#[test]
fn a_path_without_reports_costs_bounded_memory_and_recovers() {
    let (mut world, client, _, video) = conversation(8, 5e6);
    world.run_for(Duration::from_secs(3));
    let address = world.clients[client].addr;
    world.network.filter =
        Some(Box::new(move |d| d.client != address || d.direction == Direction::ToClient || d.bytes[0] < 64));
    world.run_for(Duration::from_secs(10));
    let key = world.core.transport_keys[&TransportId(client as u64 + 1)];
    let waiting = world.core.transports.get(key).unwrap().paced.waiting();
    assert!(waiting <= 600 * 1024, "{waiting}");
    world.network.filter = None;
    world.run_until(Duration::from_secs(20), |w| available(w, client).unwrap() > 2_000_000);
    world.run_for(Duration::from_secs(3));
    let last = world.clients[client].receiver.stream(video).packets.last_key_value().unwrap().1.at;
    assert!(last > world.now - Duration::from_millis(100));
}

#[test]
fn remb_is_heeded_where_it_is_all_there_is() {
    use rtc::rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
    use rtc::shared::marshal::Marshal;
    let (mut world, client, _, _) = conversation(9, 50e6);
    world.clients[client].receiver.arrivals = None;
    world.run_for(Duration::from_secs(5));
    assert_eq!(told(&world).last(), Some(&2));
    let say = |world: &mut World, bitrate| {
        for _ in 0..4 {
            let remb = ReceiverEstimatedMaximumBitrate { sender_ssrc: 1, bitrate, ssrcs: vec![] };
            world.clients[client].send_rtcp(&remb.marshal().unwrap());
            world.run_for(Duration::from_secs(1));
        }
    };
    say(&mut world, 800e3);
    assert_eq!(available(&world, client).map(|b| b / 10_000), Some(80));
    assert_eq!(told(&world).last(), Some(&0));
    say(&mut world, 4e6);
    assert_eq!(told(&world).last(), Some(&2));
    assert_eq!(world.stats().counter(Counter::RembIn), 8);
}

/// aiortc says at first what it measured of the little that had come. Held back whole, it would never measure more.
#[test]
fn who_measures_by_itself_is_never_held_back_whole() {
    use rtc::rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
    use rtc::shared::marshal::Marshal;
    let mut world = World::with(10, Config::default());
    let publisher = world.join(ClientOptions::default());
    let client = world.join(ClientOptions::default());
    world.run_until_connected();
    let tracks = camera(&world, "1", 100);
    let video = world.publish(publisher, tracks);
    let spec = ConsumerSpec {
        header_extensions: vec![HeaderExtension { kind: ExtensionKind::Mid, id: 1 }],
        ..world.consumer_spec(client, 7, true)
    };
    let (consumer, transport) = (ConsumerId(7), TransportId(client as u64 + 1));
    let ssrc = spec.ssrc;
    world.handle(Command::Consume { consumer, transport, producer: video, spec });
    world.run_for(Duration::from_secs(3));
    for _ in 0..20 {
        let remb = ReceiverEstimatedMaximumBitrate { sender_ssrc: 1, bitrate: 50e3, ssrcs: vec![] };
        world.clients[client].send_rtcp(&remb.marshal().unwrap());
        world.run_for(Duration::from_secs(1));
    }
    assert_eq!(pauses(&world), [false; 0]);
    assert_eq!(told(&world).last(), Some(&0), "the lowest layer");
    let stream = &world.clients[client].receiver.stream(ssrc).packets;
    assert!(stream.last_key_value().is_some_and(|(_, p)| p.at > world.now - Duration::from_millis(100)));
}

#[test]
fn the_same_seed_divides_the_same() {
    let run = || {
        let (mut world, client, _, _) = conversation(10, 1.4e6);
        world.network.jitter = Duration::from_millis(4);
        world.run_for(Duration::from_secs(10));
        (available(&world, client), told(&world), world.stats().counter(Counter::PaddingOut))
    };
    assert_eq!(run(), run());
}

#[test]
fn what_the_client_holds_for_more_important_rises_first() {
    let mut world = World::with(9, Config::default());
    let publishers = [world.join(ClientOptions::default()), world.join(ClientOptions::default())];
    // Both in the lowest encoding and one in the next, for 1.5 Mbit/s, but not both in the next, for 2.0 and their headers.
    let subscriber = subscriber(&mut world, 2.0e6);
    world.run_until_connected();
    let consumers = publishers.map(|publisher| {
        let tracks = camera(&world, "1", 100 + 100 * publisher as u32);
        let producer = world.publish(publisher, tracks);
        world.subscribe(subscriber, producer, true).0
    });
    let gets = |world: &World, consumer: ConsumerId| {
        world.core.consumer_stats(consumer, world.now).and_then(|stats| stats.layers).map(|layers| layers.spatial)
    };
    for (first, second) in [(1, 0), (0, 1)] {
        world.handle(Command::Prioritize { consumer: consumers[first], priority: 200 });
        world.handle(Command::Prioritize { consumer: consumers[second], priority: 1 });
        world.run_until(Duration::from_secs(60), |w| {
            gets(w, consumers[first]) == Some(1) && gets(w, consumers[second]) == Some(0)
        });
        world.run_for(Duration::from_secs(5));
        assert_eq!([gets(&world, consumers[first]), gets(&world, consumers[second])], [Some(1), Some(0)]);
    }
    let refused = world.stats().counter(Counter::CommandsRefused);
    world.handle(Command::Prioritize { consumer: ConsumerId(999), priority: 2 });
    assert_eq!(world.stats().counter(Counter::CommandsRefused), refused + 1);
}
