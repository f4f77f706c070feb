//! What is answered to who asks, against what the network did.

use super::*;

/// Bytes that AES-GCM adds to a packet.
const TAG: usize = 16;

/// Datagrams of one kind that passed, and how many of them were lost on purpose.
#[derive(Default)]
struct Seen {
    packets: u64,
    bytes: u64,
    lost: u64,
}

fn is_rtp(bytes: &[u8], ssrc: u32) -> bool {
    bytes[0] >> 6 == 2 && !(192..224).contains(&bytes[1]) && bytes[8..12] == ssrc.to_be_bytes()
}

/// Counts the packets of a stream in one direction, and loses one in `period` of them up to the `until`th.
fn lose(world: &mut World, direction: Direction, ssrc: u32, period: u64, until: u64) -> Rc<RefCell<Seen>> {
    let seen: Rc<RefCell<Seen>> = Rc::default();
    let counted = seen.clone();
    world.network.filter = Some(Box::new(move |datagram| {
        if datagram.direction != direction || !is_rtp(&datagram.bytes, ssrc) {
            return true;
        }
        let mut seen = counted.borrow_mut();
        seen.packets += 1;
        seen.bytes += (datagram.bytes.len() - TAG) as u64;
        let passes = seen.packets > until || seen.packets % period != period / 2;
        seen.lost += u64::from(!passes);
        passes
    }));
    seen
}

fn producer(world: &World, id: ProducerId) -> StreamStats {
    world.core.producer_stats(id, world.now).unwrap().streams.remove(0)
}

fn consumer(world: &World, id: ConsumerId) -> ConsumerStats {
    world.core.consumer_stats(id, world.now).unwrap()
}

fn transport(world: &World, client: usize) -> TransportStats {
    world.core.transport_stats(TransportId(client as u64 + 1), world.now).unwrap()
}

/// A publisher of one track and a subscriber to it.
fn talk(seed: u64, kind: TrackKind) -> (World, ProducerId, ConsumerId, u32) {
    let mut world = World::new(seed);
    let publisher = world.join(ClientOptions::default());
    let subscriber = world.join(ClientOptions::default());
    world.run_until_connected();
    let track = Outgoing::new(kind, "0", 2222, world.now);
    let producer = world.publish(publisher, vec![track]);
    let (consumer, ssrc) = world.subscribe(subscriber, producer, kind != TrackKind::Opus);
    (world, producer, consumer, ssrc)
}

fn silence(world: &mut World) {
    world.clients[0].tracks[0].muted = true;
    world.run_for(Duration::from_secs(1));
}

#[test]
fn fifty_of_a_thousand_packets_of_a_publisher_are_lost_and_repaired() {
    let (mut world, id, _, _) = talk(1, TrackKind::Vp8 { packets: 5 });
    let seen = lose(&mut world, Direction::ToServer, 2222, 20, 1000);
    let limit = Duration::from_secs(20);
    world.run_until(limit, |_| seen.borrow().packets >= 1000);
    let running = producer(&world, id);
    silence(&mut world);
    let (stats, seen) = (producer(&world, id), seen.borrow());
    assert_eq!(seen.lost, 50);
    assert_eq!((stats.lost, stats.repaired, stats.packets), (50, 50, seen.packets), "{stats:?}");
    assert_eq!((stats.ssrc, stats.rtx_ssrc), (Some(2222), Some(2223)));
    assert!((50..60).contains(&stats.resent), "{stats:?}");
    assert!((50..60).contains(&stats.nacked) && stats.nacks <= stats.nacked, "{stats:?}");
    assert_eq!((stats.discarded, stats.plis), (0, u64::from(world.clients[0].tracks[0].key_frame_requests)));
    // One of twenty is 12 or 13 of 256.
    assert!((8..18).contains(&running.fraction_lost), "{running:?}");
    assert!(running.score >= 9, "nearly all were repaired at once: {running:?}");
    // 150 packets a second of about a thousand bytes.
    assert!((1_150_000..1_350_000).contains(&running.bitrate), "{running:?}");
    assert!(running.layers.is_empty(), "VP8 without layers");
}

#[test]
fn what_is_not_lost_is_counted_to_the_byte() {
    let (mut world, id, consumer_id, ssrc) = talk(2, TrackKind::Opus);
    let seen = lose(&mut world, Direction::ToServer, 2222, 1 << 40, 0);
    world.run_for(Duration::from_secs(10));
    silence(&mut world);
    let (stats, seen) = (producer(&world, id), seen.borrow());
    assert_eq!((stats.packets, stats.bytes), (seen.packets, seen.bytes));
    assert_eq!((stats.lost, stats.fraction_lost, stats.repaired, stats.resent, stats.nacks), (0, 0, 0, 0, 0));
    assert_eq!((stats.discarded, stats.rtx_discarded, stats.score), (0, 0, 10));
    let sent = consumer(&world, consumer_id);
    assert_eq!(sent.sent.packets as usize, world.clients[1].receiver.count(ssrc));
    assert_eq!((sent.ssrc, sent.rtx_ssrc, sent.discarded, sent.resent), (ssrc, None, 0, 0));
    assert_eq!(sent.stream.as_ref().map(|stream| (stream.packets, stream.bytes)), Some((seen.packets, seen.bytes)));
}

#[test]
fn a_subscriber_that_loses_packets_gets_them_again_and_says_how_many_it_lost() {
    let (mut world, _, id, ssrc) = talk(3, TrackKind::Vp8 { packets: 5 });
    let seen = lose(&mut world, Direction::ToClient, ssrc, 10, 1000);
    world.run_until(Duration::from_secs(20), |_| seen.borrow().packets >= 1000);
    assert!(consumer(&world, id).feedback.is_some_and(|feedback| feedback.lost == 0), "as it has reported");
    silence(&mut world);
    let reported = |total_lost: u32, world: &mut World| {
        world.clients[1].receiver.claims = Some(Claims { fraction_lost: 25, total_lost, jitter: 33 });
        world.run_for(Duration::from_millis(1200));
    };
    reported(100, &mut world);
    let stats = consumer(&world, id);
    assert_eq!((seen.borrow().lost, stats.sent.packets), (100, seen.borrow().packets));
    assert_eq!((stats.repaired, stats.discarded), (100, 0), "{stats:?}");
    assert!((100..120).contains(&stats.resent) && (100..120).contains(&stats.nacked), "{stats:?}");
    assert!((1..=stats.nacked).contains(&stats.nacks));
    let feedback = stats.feedback.unwrap();
    assert_eq!((feedback.lost, feedback.fraction_lost, feedback.jitter), (100, 25, 33));
    assert!(feedback.round_trip_micros.is_some_and(|micros| (15_000..60_000).contains(&micros)), "{feedback:?}");
    assert_eq!(world.stats().counter(Counter::LostBySubscribers), 100);
    // Duplicates make the number negative: nothing is lost then.
    reported(0x00ff_fff0, &mut world);
    assert_eq!(consumer(&world, id).feedback.unwrap().lost, 0);
    assert_eq!(world.stats().counter(Counter::LostBySubscribers), 100);
}

#[test]
fn datagrams_and_states_of_a_transport_are_those_of_the_network() {
    let mut world = World::new(4);
    let totals: Rc<RefCell<BTreeMap<SocketAddr, [u64; 2]>>> = Rc::default();
    let (to_client, to_server) = (totals.clone(), totals.clone());
    world.tap = Some(Box::new(move |to, bytes| {
        to_client.borrow_mut().entry(*to).or_default()[0] += bytes.len() as u64;
    }));
    world.network.filter = Some(Box::new(move |datagram| {
        if datagram.direction == Direction::ToServer {
            to_server.borrow_mut().entry(datagram.client).or_default()[1] += datagram.bytes.len() as u64;
        }
        true
    }));
    let fresh = world.join_without_connect(ClientOptions::default());
    assert_eq!((transport(&world, fresh).ice, transport(&world, fresh).dtls), (IceState::New, DtlsState::New));
    world.run_until(Duration::from_secs(2), |w| transport(w, fresh).ice == IceState::Completed);
    assert_eq!(transport(&world, fresh).dtls, DtlsState::New, "nobody has said with whom");
    world.connect(fresh);
    world.run_until_connected();
    call_of(&mut world, fresh);
    world.run_for(Duration::from_secs(5));
    let middle = transport(&world, fresh);
    assert_eq!((middle.ice, middle.dtls, middle.sctp), (IceState::Completed, DtlsState::Connected, None));
    let remote = world.clients[fresh].addr;
    assert_eq!(middle.tuple, Some(SelectedTuple { protocol: Protocol::Udp, local: SERVER_IP, remote }));
    // Five packets in 33 ms; RTCP and connectivity checks are little beside it.
    assert!(middle.received.bitrate > middle.rtp_received.bitrate && middle.rtp_received.bitrate > 1_100_000);
    assert!(middle.received.bitrate < middle.rtp_received.bitrate * 11 / 10, "{middle:?}");
    assert_eq!(middle.rtx_received.bytes, 0);
    assert_eq!(middle.rtp_packet_loss_received, Some(0.0));
    // All that is on its way arrives.
    for client in &mut world.clients {
        client.checking = false;
        client.tracks.clear();
    }
    world.run_until(Duration::from_secs(1), |w| {
        w.clients.iter().enumerate().all(|(at, client)| {
            let stats = transport(w, at);
            totals.borrow()[&client.addr] == [stats.sent.bytes, stats.received.bytes]
        })
    });
    let stats = world.stats();
    let sum =
        |of: fn(&TransportStats) -> Flow| (0..2).map(|client| of(&transport(&world, client)).packets).sum::<u64>();
    assert_eq!(sum(|stats| stats.sent), stats.counter(Counter::PacketsOut));
    assert_eq!(sum(|stats| stats.rtp_sent), stats.counter(Counter::RtpOut));
    assert_eq!(stats.batches().iter().sum::<u64>(), stats.counter(Counter::Transmits));

    world.run_for(Duration::from_secs(31));
    assert_eq!(transport(&world, fresh).ice, IceState::Disconnected);
    assert_eq!(transport(&world, fresh).received.bitrate, 0);
}

/// Another client that gets pictures of this one.
fn call_of(world: &mut World, publisher: usize) {
    let subscriber = world.join(ClientOptions::default());
    world.run_until_connected();
    let track = Outgoing::new(TrackKind::Vp8 { packets: 5 }, "0", 2222, world.now);
    let producer = world.publish(publisher, vec![track]);
    world.subscribe(subscriber, producer, true);
}

#[test]
fn a_stream_that_is_not_sent_scores_nothing_and_begins_anew() {
    let (mut world, id, _, _) = talk(5, TrackKind::Vp8 { packets: 2 });
    world.run_for(Duration::from_secs(3));
    assert_eq!(producer(&world, id).score, 10);
    world.clients[0].tracks[0].muted = true;
    world.run_for(Duration::from_secs(2));
    let stats = producer(&world, id);
    assert_eq!((stats.score, stats.bitrate), (0, 0));
    world.clients[0].tracks[0].muted = false;
    world.run_for(Duration::from_millis(500));
    assert_eq!(producer(&world, id).score, 10);
}

#[test]
fn loss_that_nobody_repairs_lowers_the_score() {
    let mut world = World::new(6);
    world.join(ClientOptions::default());
    world.run_until_connected();
    let track = Outgoing::new(TrackKind::Opus, "0", 2222, world.now);
    let mut spec = Outgoing::spec(&[&track]);
    spec.codecs[0].nack = false;
    world.handle(Command::Produce { producer: ProducerId(1), transport: TransportId(1), spec });
    world.clients[0].tracks.push(track);
    let seen = lose(&mut world, Direction::ToServer, 2222, 4, u64::MAX);
    world.run_for(Duration::from_secs(20));
    let stats = producer(&world, ProducerId(1));
    assert!((1..=4).contains(&stats.score), "{stats:?}");
    assert!((58..70).contains(&stats.fraction_lost), "a quarter: {stats:?}");
    assert!(transport(&world, 0).rtp_packet_loss_received.is_some_and(|loss| (0.22..0.28).contains(&loss)));
    assert!(stats.lost.abs_diff(seen.borrow().lost) <= 1 && stats.nacks == 0, "{stats:?}");
}

#[test]
fn layers_are_told_apart() {
    let mode: ScalabilityMode = "L3T3".parse().unwrap();
    let (mut world, id, _, _) = talk(7, TrackKind::Layered { codec: Codec::Vp9, mode, packets: 2 });
    world.run_for(Duration::from_secs(4));
    let stats = producer(&world, id);
    let rates: Vec<u64> = stats.layers.iter().map(|(_, bitrate)| *bitrate).collect();
    assert_eq!(stats.layers.len(), 9);
    assert!(rates.iter().all(|rate| *rate > 0) && rates.is_sorted(), "{rates:?}");
    assert_eq!(rates.last(), Some(&stats.bitrate));
    assert_eq!(world.stats().gauge(Gauge::SpatialLayer2), 1);
    world.handle(Command::CloseProducer { producer: id });
    assert_eq!(world.stats().gauge(Gauge::SpatialLayer2), 0);
}

#[test]
fn what_is_not_there_is_not_answered() {
    let (mut world, ..) = talk(8, TrackKind::Opus);
    for question in [
        Question::Transport(TransportId(99)),
        Question::Producer(ProducerId(99)),
        Question::Consumer(ConsumerId(99)),
        Question::DataProducer(DataProducerId(99)),
        Question::DataConsumer(DataConsumerId(99)),
    ] {
        assert_eq!(world.core.answer(question, world.now), None, "{question:?}");
    }
}
