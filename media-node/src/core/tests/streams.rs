//! SSRCs that are learned, simulcast, switches between encodings.

use super::*;

fn layers(world: &World) -> Vec<Outgoing> {
    [("r0", 2, 100u32), ("r1", 4, 200), ("r2", 7, 300)]
        .into_iter()
        .map(|(rid, packets, ssrc)| {
            let mut track = Outgoing::new(TrackKind::Vp8 { packets }, "1", ssrc, world.now);
            track.rid = Some(rid);
            track.signalled = false;
            track.timestamp = ssrc * 1_000_000;
            track
        })
        .collect()
}

fn encodings(world: &World) -> Vec<u8> {
    let of = |e: &Event| match e {
        Event::LayersChanged { layers, .. } => Some(layers.spatial),
        _ => None,
    };
    world.events.iter().filter_map(of).collect()
}

#[test]
fn simulcast_streams_are_learned_from_mid_and_rid_and_the_best_is_forwarded() {
    let mut world = World::new(1);
    let publisher = world.join(ClientOptions::default());
    let subscriber = world.join(ClientOptions::default());
    world.run_until_connected();
    world.network.loss = 0.02;
    let tracks = layers(&world);
    let producer = world.publish(publisher, tracks);
    let (consumer, ssrc) = world.subscribe(subscriber, producer, true);
    world.run_for(Duration::from_secs(4));
    let stats = world.core.producer_stats(producer, world.now).unwrap();
    let ssrcs: Vec<_> = stats.streams.iter().map(|s| s.ssrc).collect();
    assert_eq!(ssrcs, [Some(100), Some(200), Some(300)]);
    assert_eq!(encodings(&world).last(), Some(&2));
    assert!(world.stats().counter(Counter::Recovered) > 0, "repaired-rid was learned, too");

    world.handle(Command::PreferLayers { consumer, layers: Layers::LOWEST });
    world.run_for(Duration::from_secs(2));
    assert_eq!(encodings(&world).last(), Some(&0));
    world.handle(Command::PreferLayers { consumer, layers: Layers::ALL });
    world.run_for(Duration::from_secs(2));
    assert_eq!(encodings(&world).last(), Some(&2));

    // The highest stops, as Chromium does when bandwidth is short.
    world.clients[publisher].tracks[2].muted = true;
    world.run_for(Duration::from_secs(3));
    assert_eq!(encodings(&world).last(), Some(&1));
    world.network.loss = 0.0;
    world.run_for(Duration::from_secs(1));

    let stream = world.clients[subscriber].receiver.stream(ssrc);
    let packets: Vec<_> = stream.packets.iter().collect();
    assert!(packets.windows(2).all(|w| w[1].0 - w[0].0 == 1), "continuous sequence numbers");
    let mut switches = 0;
    for pair in packets.windows(2) {
        let (a, b) = (pair[0].1, pair[1].1);
        let step = b.timestamp.wrapping_sub(a.timestamp) as i32;
        assert!((0..=90_000).contains(&step), "timestamps go on: {step}");
        let picture = (b.picture_id.wrapping_sub(a.picture_id)) & 0x7fff;
        assert!(picture <= 1, "picture ids go on: {} {}", a.picture_id, b.picture_id);
        switches += usize::from(b.key_frame && step != 0 && b.counter != a.counter + 1);
    }
    assert!(switches >= 3, "{switches}");
    assert!(packets[0].1.key_frame);
}

#[test]
fn a_stream_without_ssrc_and_rid_is_learned_from_mid() {
    let mut world = World::new(2);
    let publisher = world.join(ClientOptions::default());
    let subscriber = world.join(ClientOptions::default());
    world.run_until_connected();
    let mut audio = Outgoing::new(TrackKind::Opus, "0", 77, world.now);
    audio.signalled = false;
    let mut video = Outgoing::new(TrackKind::Vp8 { packets: 3 }, "1", 88, world.now);
    video.signalled = false;
    let audio = world.publish(publisher, vec![audio]);
    let video = world.publish(publisher, vec![video]);
    let (_, heard) = world.subscribe(subscriber, audio, false);
    let (_, seen) = world.subscribe(subscriber, video, true);
    world.run_for(Duration::from_secs(2));
    assert!(world.clients[subscriber].receiver.count(heard) > 90);
    assert!(world.clients[subscriber].receiver.count(seen) > 150);
    assert!(world.clients[subscriber].receiver.stream(seen).packets.values().all(|p| p.payload_type == 101));
}

#[test]
fn an_ssrc_can_be_published_again_after_its_producer_closed() {
    for signalled in [true, false] {
        let mut world = World::new(3);
        let publisher = world.join(ClientOptions::default());
        let subscriber = world.join(ClientOptions::default());
        world.run_until_connected();
        let mut audio = Outgoing::new(TrackKind::Opus, "0", 77, world.now);
        audio.sequence = 65_000;
        audio.signalled = signalled;
        let producer = world.publish(publisher, vec![audio]);
        world.run_for(Duration::from_secs(15));
        let replayed = world.clients[publisher].sent.back().unwrap().clone();
        world.run_for(Duration::from_millis(100));
        world.handle(Command::CloseProducer { producer });
        world.run_for(Duration::from_secs(1));
        // The client never stopped sending, and has rolled over since.
        let spec = Outgoing::spec(&[&world.clients[publisher].tracks[0]]);
        let producer = ProducerId(4000);
        world.handle(Command::Produce { producer, transport: TransportId(1), spec });
        let addr = world.clients[publisher].addr;
        assert_eq!(world.inject(addr, &replayed), Fate::Dropped(Drop::SrtpReplay));
        let (_, ssrc) = world.subscribe(subscriber, producer, false);
        world.run_for(Duration::from_secs(1));
        assert!(world.clients[subscriber].receiver.count(ssrc) > 40);
        assert_eq!(world.stats().dropped(Drop::SrtpAuth), 0);
    }
}

#[test]
fn a_subscriber_out_of_reach_does_not_keep_others_from_a_key_frame() {
    let mut world = World::new(6);
    let publisher = world.join(ClientOptions::default());
    let subscriber = world.join(ClientOptions::default());
    world.run_until_connected();
    let video = Outgoing::new(TrackKind::Vp8 { packets: 3 }, "1", 2222, world.now);
    let video = world.publish(publisher, vec![video]);
    world.run_for(Duration::from_secs(1));
    // The publisher hears no request for longer than one is repeated by itself.
    let deaf = world.clients[publisher].addr;
    world.network.filter = Some(Box::new(move |d| d.client != deaf || d.bytes[0] < 128 || d.bytes[1] & 0x7f < 72));
    let (_, seen) = world.subscribe(subscriber, video, true);
    let absent = world.join_without_connect(ClientOptions::default());
    world.clients[absent].checking = false;
    world.subscribe(absent, video, true);
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.clients[subscriber].receiver.count(seen), 0);
    world.network.filter = None;
    world.run_for(Duration::from_secs(1));
    assert!(world.clients[subscriber].receiver.count(seen) > 30);
}

#[test]
fn a_paused_producer_is_silent_and_resumes_with_a_key_frame() {
    let mut world = World::new(4);
    let (_, video) = call(&mut world);
    world.run_for(Duration::from_secs(1));
    let producer = *world.core.producer_keys.keys().max().unwrap();
    world.handle(Command::PauseProducer { producer, paused: true });
    world.run_for(Duration::from_millis(100));
    let before = world.clients[1].receiver.count(video);
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.clients[1].receiver.count(video), before);
    assert!(world.stats().dropped(Drop::ProducerPaused) > 100);
    world.handle(Command::PauseProducer { producer, paused: false });
    world.run_until(Duration::from_millis(200), |w| w.clients[1].receiver.count(video) > before);
    let stream = world.clients[1].receiver.stream(video);
    assert!(stream.packets.values().nth(before).unwrap().key_frame);
    assert_eq!(world.stats().counter(Counter::NacksOut), 0, "a pause is no loss");
}

#[test]
fn transport_wide_numbers_towards_a_subscriber_have_no_holes() {
    let mut world = World::new(5);
    call(&mut world);
    world.run_for(Duration::from_secs(2));
    let numbers = &world.clients[1].receiver.transport_cc;
    assert!(numbers.len() > 250);
    assert!(numbers.windows(2).all(|w| w[1] == w[0].wrapping_add(1)), "video only, as negotiated");
}

#[test]
fn a_parked_stream_goes_on_with_another_producer_under_the_same_numbers() {
    let mut world = World::new(5);
    let (first, second) = (world.join(ClientOptions::default()), world.join(ClientOptions::default()));
    let viewer = world.join(ClientOptions::default());
    world.run_until_connected();
    let mut tracks = [first, second].map(|_| Outgoing::new(TrackKind::Vp8 { packets: 3 }, "1", 88, world.now));
    tracks[1].timestamp = 3_000_000_000;
    let producers = tracks.into_iter().zip([first, second]).map(|(track, client)| world.publish(client, vec![track]));
    let [before, after]: [ProducerId; 2] = producers.collect::<Vec<_>>().try_into().unwrap();

    // A viewer with numbers of its own: the router's VP8 is 101.
    let ssrc = 0x6000_0000;
    let consume = |consumer, producer| Command::Consume {
        consumer: ConsumerId(consumer),
        transport: TransportId(viewer as u64 + 1),
        producer,
        spec: ConsumerSpec {
            mid: "v".into(),
            payload_types: vec![101],
            renumbered: vec![(101, 120)],
            clock_rate: 90_000,
            ssrc,
            rtx: Some((ssrc + 1, 121)),
            nack: true,
            header_extensions: Vec::new(),
            cname: "room".into(),
            paused: false,
        },
    };
    world.clients[viewer].receiver.rtx.insert(ssrc + 1, (ssrc, 120));
    world.handle(consume(9000, before));
    world.run_for(Duration::from_secs(2));
    let seen = world.clients[viewer].receiver.count(ssrc);
    assert!(seen > 150, "{seen}");

    world.handle(Command::ParkConsumer { consumer: ConsumerId(9000) });
    world.handle(Command::CloseProducer { producer: before });
    world.run_for(Duration::from_secs(3));
    let refused = world.stats().counter(Counter::CommandsRefused);
    world.handle(consume(9001, after));
    assert_eq!(world.stats().counter(Counter::CommandsRefused), refused, "its SSRC may be used again");
    world.run_for(Duration::from_secs(2));

    let stream = world.clients[viewer].receiver.stream(ssrc);
    let packets: Vec<_> = stream.packets.iter().collect();
    assert!(packets.len() > seen + 150, "{} after {seen}", packets.len());
    assert!(packets.iter().all(|(_, packet)| packet.payload_type == 120));
    assert!(packets.windows(2).all(|w| w[1].0 - w[0].0 == 1), "continuous sequence numbers");
    let steps = packets.windows(2).map(|w| w[1].1.timestamp.wrapping_sub(w[0].1.timestamp) as i32);
    assert!(steps.clone().all(|step| (0..=90_000 * 4).contains(&step)), "timestamps go on");
    assert!(steps.max() > Some(90_000 * 2), "by as much as time has passed");
    assert_eq!(world.clients[viewer].undecryptable, 0);

    // A third one at the same time would seal with the same nonces.
    let refused = world.stats().counter(Counter::CommandsRefused);
    world.handle(consume(9002, after));
    assert_eq!(world.stats().counter(Counter::CommandsRefused), refused + 1);
}
