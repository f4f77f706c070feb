use super::*;

#[test]
fn two_clients_connect_and_one_hears_and_sees_the_other() {
    let mut world = World::new(1);
    let (audio, video) = call(&mut world);
    world.run_for(Duration::from_secs(3));
    let receiver = &world.clients[1].receiver;
    assert!(receiver.count(audio) > 140, "{}", receiver.count(audio));
    assert!(receiver.count(video) > 420, "{}", receiver.count(video));
    let stream = receiver.stream(video);
    assert!(stream.packets.values().next().unwrap().key_frame, "starts with a key frame");
    assert_eq!(stream.missing.len(), 0);
    assert_eq!(world.clients[1].undecryptable, 0);
    let counters: Vec<_> = stream.packets.values().map(|p| p.counter).collect();
    assert!(counters.windows(2).all(|w| w[1] == w[0] + 1), "nothing missing, nothing moved");
    let indexes: Vec<_> = stream.packets.keys().copied().collect();
    assert!(indexes.windows(2).all(|w| w[1] == w[0] + 1), "continuous sequence numbers");
    assert!(stream.packets.values().all(|p| p.payload_type == 101 && p.mid.is_some()));
    assert!(stream.reports >= 2, "sender reports arrive");
    assert_eq!(world.stats().dropped_total(), world.stats().dropped(Drop::ConsumerAwaitsKeyFrame));
}

#[test]
fn packets_of_a_frame_leave_in_one_transmit() {
    let mut world = World::new(2);
    let (_, video) = call(&mut world);
    world.run_for(Duration::from_secs(1));
    let (transmits, packets) = (world.stats().counter(Counter::Transmits), world.stats().counter(Counter::PacketsOut));
    world.run_for(Duration::from_secs(5));
    let transmits = world.stats().counter(Counter::Transmits) - transmits;
    let packets = world.stats().counter(Counter::PacketsOut) - packets;
    assert!(world.clients[1].receiver.count(video) > 800);
    // 150 frames of five packets and 250 packets of sound, and feedback to the publisher.
    assert!(transmits < 150 + 250 + 120, "{transmits} for {packets}");
}

#[test]
fn an_idle_call_wakes_nobody() {
    let mut world = World::new(3);
    call(&mut world);
    world.run_for(Duration::from_secs(2));
    for client in &mut world.clients {
        client.tracks.clear();
    }
    world.run_for(Duration::from_secs(5));
    for client in &mut world.clients {
        client.checking = false;
    }
    world.run_for(Duration::from_secs(1));
    let next = world.core.poll_timeout().expect("consent expires some day");
    assert!(next > world.now + Duration::from_secs(20), "{:?}", next - world.now);
}

#[test]
fn a_pause_leaves_no_gap_and_resumes_with_a_key_frame() {
    let mut world = World::new(4);
    let (_, video) = call(&mut world);
    world.run_for(Duration::from_secs(2));
    let consumer = ConsumerId(u64::from(video - 0x5000_0000) / 16);
    world.handle(Command::PauseConsumer { consumer, paused: true });
    world.run_for(Duration::from_millis(100));
    let before = world.clients[1].receiver.count(video);
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.clients[1].receiver.count(video), before);
    let requests = world.clients[0].tracks[1].key_frame_requests;
    world.handle(Command::PauseConsumer { consumer, paused: false });
    let took = world.run_until(Duration::from_secs(2), |w| w.clients[1].receiver.count(video) > before);
    assert!(took < Duration::from_millis(120), "{took:?}");
    assert_eq!(world.clients[0].tracks[1].key_frame_requests, requests + 1);
    world.run_for(Duration::from_secs(1));
    let stream = world.clients[1].receiver.stream(video);
    let packets: Vec<_> = stream.packets.iter().collect();
    assert!(packets.windows(2).all(|w| w[1].0 - w[0].0 == 1), "continuous sequence numbers");
    assert!(packets[before].1.key_frame);
    let jump = packets[before].1.timestamp.wrapping_sub(packets[before - 1].1.timestamp);
    assert!((2 * 90_000..3 * 90_000).contains(&jump), "the clock went on: {jump}");
    assert_eq!(world.clients[0].tracks[1].key_frame_requests, requests + 1, "asked once");
}

#[test]
fn a_crowd_that_subscribes_at_once_asks_for_few_key_frames() {
    let mut world = World::new(5);
    let publisher = world.join(ClientOptions::default());
    let crowd: Vec<_> = (0..50).map(|_| world.join(ClientOptions::default())).collect();
    world.run_until_connected();
    let video = Outgoing::new(TrackKind::Vp8 { packets: 3 }, "0", 7, world.now);
    let producer = world.publish(publisher, vec![video]);
    world.run_for(Duration::from_secs(2));
    let before = world.clients[publisher].tracks[0].key_frame_requests;
    let ssrcs: Vec<_> = crowd
        .iter()
        .map(|c| {
            world.run_for(Duration::from_millis(5));
            world.subscribe(*c, producer, true).1
        })
        .collect();
    world.run_for(Duration::from_secs(1));
    for (client, ssrc) in crowd.iter().zip(ssrcs) {
        assert!(world.clients[*client].receiver.count(ssrc) > 30);
    }
    let asked = world.clients[publisher].tracks[0].key_frame_requests - before;
    assert!((1..=3).contains(&asked), "{asked}");
}

#[test]
fn sender_reports_keep_sound_and_pictures_in_step() {
    let mut world = World::new(6);
    let (audio, video) = call(&mut world);
    world.run_for(Duration::from_secs(4));
    let receiver = &world.clients[1].receiver;
    // Of both streams: the publisher's wall clock, in seconds, at the RTP time of a packet it sent at once.
    let wall = |ssrc: u32, clock: f64| {
        let stream = receiver.stream(ssrc);
        let report = stream.report.as_ref().expect("a sender report");
        let (_, packet) = stream.packets.last_key_value().unwrap();
        let ahead = f64::from(packet.timestamp.wrapping_sub(report.rtp_time) as i32) / clock;
        let at = (packet.at - world.start).as_secs_f64();
        report.ntp_time as f64 / f64::from(u32::MAX) + ahead - at
    };
    let apart = wall(audio, 48_000.0) - wall(video, 90_000.0);
    assert!(apart.abs() < 0.06, "{apart}");
    assert!(
        world
            .core
            .consumer_stats(ConsumerId(u64::from(audio - 0x5000_0000) / 16), world.now)
            .and_then(|stats| stats.feedback?.round_trip_micros)
            .is_some_and(|micros| (15_000..30_000).contains(&micros))
    );
}

#[test]
fn publishers_get_transport_feedback_and_receiver_reports() {
    let mut world = World::new(7);
    call(&mut world);
    world.run_for(Duration::from_secs(3));
    let count = |f: fn(&dyn std::any::Any) -> bool| world.clients[0].rtcp.iter().filter(|p| f(p.as_any())).count();
    let feedback = count(|p| p.is::<rtc::rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc>());
    assert!((25..=60).contains(&feedback), "{feedback}");
    let reports = count(|p| p.is::<rtc::rtcp::receiver_report::ReceiverReport>());
    assert!((2..=4).contains(&reports), "{reports}");
}

#[test]
fn a_closed_producer_says_bye_and_leaves_nothing() {
    let mut world = World::new(8);
    call(&mut world);
    world.run_for(Duration::from_secs(1));
    world.handle(Command::CloseTransport { transport: TransportId(1) });
    world.run_for(Duration::from_millis(100));
    let byes = world.clients[1].rtcp.iter().filter(|p| p.as_any().is::<rtc::rtcp::goodbye::Goodbye>()).count();
    assert_eq!(byes, 2);
    assert!(world.clients[0].closed, "close_notify was sent");
    assert_eq!(world.stats().gauge(Gauge::Producers), 0);
    assert_eq!(world.stats().gauge(Gauge::Consumers), 0);
    assert_eq!(world.stats().gauge(Gauge::Transports), 1);
    world.handle(Command::CloseTransport { transport: TransportId(2) });
    assert_eq!(world.stats().gauge(Gauge::Rooms), 0);
    assert_eq!(world.stats().gauge(Gauge::Tuples), 0);
    assert_eq!(world.stats().gauge(Gauge::Connected), 0);
    assert_eq!(world.core.poll_timeout(), None);
}

#[test]
fn who_speaks_is_told() {
    let mut world = World::new(9);
    call(&mut world);
    world.run_for(Duration::from_secs(1));
    let speaks = |e: &Event| matches!(e, Event::ActiveSpeaker { producer: Some(_), .. });
    assert_eq!(world.events.iter().filter(|e| speaks(e)).count(), 1);
    world.clients[0].tracks[0].level = 127;
    world.run_for(Duration::from_secs(4));
    let silent = |e: &Event| matches!(e, Event::ActiveSpeaker { producer: None, .. });
    assert_eq!(world.events.iter().filter(|e| silent(e)).count(), 1);

    // Whoever is muted in the middle of a word is silent at once, and is told of again after it.
    world.clients[0].tracks[0].level = 20;
    world.run_for(Duration::from_secs(1));
    let speaker = world.events.iter().rev().find_map(|e| match e {
        Event::ActiveSpeaker { producer, .. } => *producer,
        _ => None,
    });
    let producer = speaker.unwrap();
    world.handle(Command::PauseProducer { producer, paused: true });
    assert_eq!(world.events.iter().filter(|e| silent(e)).count(), 2);
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.events.iter().filter(|e| speaks(e)).count(), 2, "what comes of it meanwhile counts for nothing");
    world.handle(Command::PauseProducer { producer, paused: false });
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.events.iter().filter(|e| speaks(e)).count(), 3);
}

#[test]
fn a_subscriber_that_is_away_costs_the_publisher_no_key_frames() {
    let mut world = World::new(10);
    let (_, video) = call(&mut world);
    let absent = world.join(ClientOptions::default());
    world.clients[absent].checking = false;
    world.run_for(Duration::from_secs(2));
    let before = world.clients[0].tracks[1].key_frame_requests;
    let producer = *world.core.producer_keys.keys().max().unwrap();
    world.subscribe(absent, producer, true);
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.clients[0].tracks[1].key_frame_requests, before);
    assert!(world.stats().dropped(Drop::ConsumerNotConnected) > 100);
    assert!(world.clients[1].receiver.count(video) > 900);
    world.clients[absent].checking = true;
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.clients[0].tracks[1].key_frame_requests, before + 1, "one, when it has come");
}
