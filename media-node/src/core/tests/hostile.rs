//! What strangers and strange clients send.

use super::*;
use proptest::prelude::*;

fn stranger() -> SocketAddr {
    "203.0.113.7:4444".parse().unwrap()
}

/// Sizes of everything that a stranger might grow.
fn sizes(world: &World) -> [usize; 6] {
    let core = &world.core;
    let sources = (0..world.clients.len())
        .filter_map(|i| core.transport_keys.get(&TransportId(i as u64 + 1)))
        .filter_map(|k| core.transports.get(*k))
        .map(|t| t.sources.len())
        .sum();
    [core.transports.len(), core.producers.len(), core.tuples.len(), core.ufrags.len(), sources, core.rooms.len()]
}

#[test]
fn strangers_leave_no_trace() {
    let mut world = World::new(1);
    call(&mut world);
    world.run_for(Duration::from_secs(1));
    let before = sizes(&world);
    let seen: Vec<_> = world.network.seen.iter().cloned().collect();
    for datagram in seen.iter().filter(|d| d.direction == Direction::ToServer) {
        // Replayed from another address: STUN is the only thing that is looked at.
        if datagram.bytes[0] > 3 {
            assert_eq!(world.inject(stranger(), &datagram.bytes), Fate::Dropped(Drop::UnknownTuple));
        }
    }
    let stun = world.clients[0].check("not the password of anybody");
    assert_eq!(world.inject(stranger(), &stun), Fate::Dropped(Drop::StunIntegrity));
    let mut unknown = world.clients[0].check("x");
    unknown.truncate(40);
    assert_eq!(world.inject(stranger(), &unknown), Fate::Dropped(Drop::MalformedStun));
    assert_eq!(world.inject(stranger(), &[]), Fate::Dropped(Drop::BadSize));
    assert_eq!(world.inject(stranger(), &[0x80; 3000]), Fate::Dropped(Drop::BadSize));
    assert_eq!(world.inject(stranger(), &[0x45; 30]), Fate::Dropped(Drop::UnknownProtocol));
    let valid = world.clients[0].check(&world.clients[0].credentials.password.clone());
    assert_eq!(world.inject("10.0.0.9:0".parse().unwrap(), &valid), Fate::Dropped(Drop::BadSource));
    assert_eq!(sizes(&world), before);
}

#[test]
fn forged_and_replayed_media_is_refused_by_name() {
    let mut world = World::new(2);
    let (audio, _) = call(&mut world);
    world.run_for(Duration::from_secs(1));
    let before = sizes(&world);
    let addr = world.clients[0].addr;
    let genuine = world.clients[0].sent.iter().rev().nth(30).unwrap().clone();
    assert_eq!(world.inject(addr, &genuine), Fate::Dropped(Drop::SrtpReplay));
    let mut forged = world.clients[0].sent.back().unwrap().clone();
    let next = u16::from_be_bytes([forged[2], forged[3]]).wrapping_add(5);
    forged[2..4].copy_from_slice(&next.to_be_bytes());
    assert_eq!(world.inject(addr, &forged), Fate::Dropped(Drop::SrtpAuth));
    for ssrc in 0..500u32 {
        forged[8..12].copy_from_slice(&(ssrc + 90_000).to_be_bytes());
        assert_eq!(world.inject(addr, &forged), Fate::Dropped(Drop::UnknownSsrc));
    }
    let mut cut = genuine.clone();
    cut.truncate(13);
    assert_eq!(world.inject(addr, &cut), Fate::Dropped(Drop::MalformedRtp));
    assert_eq!(sizes(&world), before);
    let count = world.clients[1].receiver.count(audio);
    world.run_for(Duration::from_secs(1));
    assert!(world.clients[1].receiver.count(audio) > count + 45, "the call goes on");
}

#[test]
fn an_authentic_packet_of_an_unknown_ssrc_makes_no_state() {
    let mut world = World::new(3);
    let publisher = world.join(ClientOptions::default());
    world.run_until_connected();
    // Media before the producer exists.
    let early = Outgoing::new(TrackKind::Opus, "0", 1, world.now);
    world.clients[publisher].tracks.push(early);
    world.run_for(Duration::from_millis(500));
    assert!(world.stats().dropped(Drop::UnknownSsrc) > 20);
    assert_eq!(sizes(&world)[4], 0);
    let spec = Outgoing::spec(&[&world.clients[publisher].tracks[0]]);
    world.handle(Command::Produce { producer: ProducerId(1), transport: TransportId(1), spec });
    let dropped = world.stats().dropped(Drop::UnknownSsrc);
    world.run_for(Duration::from_secs(1));
    assert!(world.stats().dropped(Drop::UnknownSsrc) <= dropped + 1);
    assert!(world.stats().counter(Counter::RtpIn) > 40);
}

#[test]
fn a_participant_cannot_take_the_tuple_of_another() {
    let mut world = World::new(4);
    let (audio, _) = call(&mut world);
    world.run_for(Duration::from_secs(1));
    // The subscriber's own valid check, with the publisher's address as its source.
    let check = world.clients[1].check(&world.clients[1].credentials.password.clone());
    let victim = world.clients[0].addr;
    assert_eq!(world.inject(victim, &check), Fate::Dropped(Drop::TupleTaken));
    let before = world.clients[1].receiver.count(audio);
    world.run_for(Duration::from_secs(1));
    assert!(world.clients[1].receiver.count(audio) > before + 40);
}

#[test]
fn a_check_repeated_from_elsewhere_diverts_nothing() {
    let mut world = World::new(12);
    world.join(ClientOptions::default());
    world.run_until_connected();
    let addr = world.clients[0].addr;
    let check = world.clients[0].check(&world.clients[0].credentials.password.clone());
    assert_eq!(world.inject(addr, &check), Fate::Consumed);
    let before = sizes(&world);
    assert_eq!(world.inject(stranger(), &check), Fate::Dropped(Drop::StunReplay));
    assert_eq!(world.core.transport_stats(TransportId(1), world.now).unwrap().remote(), Some(addr));
    assert_eq!(sizes(&world), before);
    assert_eq!(world.inject(addr, &check), Fate::Consumed, "a client may repeat itself");
}

#[test]
fn tuples_of_one_transport_are_bounded() {
    let mut world = World::new(5);
    world.join(ClientOptions::default());
    world.run_until_connected();
    for i in 0..200u16 {
        let mut check = world.clients[0].check(&world.clients[0].credentials.password.clone());
        check.rotate_left(0);
        world.clients[0].nominate = false;
        world.inject(SocketAddr::from(([10, 7, 7, 7], 1000 + i)), &check);
    }
    assert!(sizes(&world)[2] <= world.core.config.max_tuples);
    assert_eq!(world.state(0), Some(TransportState::Connected));
}

#[test]
fn what_follows_message_integrity_is_not_believed() {
    let mut world = World::new(6);
    world.join(ClientOptions::default());
    world.run_until_connected();
    let selected = |w: &World| w.core.transport_stats(TransportId(1), w.now).unwrap().remote();
    let before = selected(&world);
    world.clients[0].nominate = false;
    let check = world.clients[0].check(&world.clients[0].credentials.password.clone());
    // USE-CANDIDATE put between MESSAGE-INTEGRITY and a FINGERPRINT made anew.
    let mut forged = check[..check.len() - 8].to_vec();
    forged.extend_from_slice(&[0x00, 0x25, 0, 0]);
    let mut message = rtc::stun::message::Message::new();
    let length = (forged.len() - 20) as u16;
    forged[2..4].copy_from_slice(&length.to_be_bytes());
    message.unmarshal_binary(&forged).unwrap();
    rtc::stun::message::Setter::add_to(&rtc::stun::fingerprint::FINGERPRINT, &mut message).unwrap();
    assert_eq!(world.inject(stranger(), &message.raw), Fate::Consumed);
    assert_eq!(selected(&world), before);
}

#[test]
fn refused_orders_change_nothing() {
    let mut world = World::new(7);
    let (_, video) = call(&mut world);
    let before = sizes(&world);
    let spec = Outgoing::spec(&[&world.clients[0].tracks[1]]);
    let ice = world.clients[0].credentials.clone();
    for command in [
        Command::CreateTransport { transport: TransportId(1), room: RoomId(1), ice: ice.clone() },
        Command::CreateTransport { transport: TransportId(99), room: RoomId(2), ice },
        Command::Produce { producer: ProducerId(98), transport: TransportId(1), spec: spec.clone() },
        Command::Produce { producer: ProducerId(98), transport: TransportId(97), spec },
        Command::CloseProducer { producer: ProducerId(1234) },
        Command::PauseConsumer { consumer: ConsumerId(1234), paused: true },
        Command::CloseTransport { transport: TransportId(1234) },
        Command::ConnectTransport { transport: TransportId(1), role: DtlsRole::Client, fingerprints: vec![] },
    ] {
        let refused = world.stats().counter(Counter::CommandsRefused);
        world.handle(command.clone());
        assert_eq!(world.stats().counter(Counter::CommandsRefused), refused + 1, "{command:?}");
        assert_eq!(sizes(&world), before, "{command:?}");
    }
    // An SSRC that a closed consumer used must not be sealed under again.
    let consumer = ConsumerId(u64::from(video - 0x5000_0000) / 16);
    let producer = world.core.consumers.get(world.core.consumer_keys[&consumer]).unwrap().producer;
    let producer = world.core.producers.get(producer).unwrap().id;
    world.handle(Command::CloseConsumer { consumer });
    let spec = ConsumerSpec {
        mid: "9".into(),
        payload_types: vec![101],
        renumbered: Vec::new(),
        clock_rate: 90_000,
        ssrc: video,
        rtx: None,
        nack: true,
        header_extensions: vec![],
        cname: "x".into(),
        paused: false,
    };
    let refused = world.stats().counter(Counter::CommandsRefused);
    world.handle(Command::Consume { consumer: ConsumerId(500), transport: TransportId(2), producer, spec });
    assert_eq!(world.stats().counter(Counter::CommandsRefused), refused + 1);
}

#[test]
fn handshake_records_without_end_are_bounded() {
    let mut world = World::new(8);
    call(&mut world);
    let addr = world.clients[0].addr;
    // Fragments of messages that never complete, each with a new record number, in epoch zero.
    for i in 0..400u32 {
        let mut record = vec![22, 0xfe, 0xfd, 0, 0, 0, 0];
        record.extend_from_slice(&(5000 + i).to_be_bytes());
        record.extend_from_slice(&[0, 13, 1, 0, 0x3f, 0xff]);
        record.extend_from_slice(&(100 + i as u16).to_be_bytes());
        record.extend_from_slice(&[0, 0, 0, 0, 0, 1, 0xaa]);
        world.inject(addr, &record);
    }
    assert!(world.stats().dropped(Drop::HandshakeBudget) > 300);
    assert_eq!(world.state(0), Some(TransportState::Connected));
    // Plain alerts, as anybody could forge them, end nothing.
    let alert = [21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 2, 2, 40];
    world.inject(addr, &alert);
    let close = [21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0x20, 1, 0, 2, 1, 0];
    world.inject(addr, &close);
    assert_eq!(world.state(0), Some(TransportState::Connected));

    // Pieces of one message, chained: each datagram that is taken has few, and few are taken.
    let client = world.join(ClientOptions::default());
    world.network.filter = Some(Box::new(|d| !(20..64).contains(&d.bytes[0])));
    world.run_for(Duration::from_millis(100));
    let addr = world.clients[client].addr;
    let mut at = 0u16;
    let mut chain = |pieces: u16| {
        let mut datagram = Vec::new();
        for _ in 0..pieces {
            datagram.extend_from_slice(&[22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0]);
            datagram.extend_from_slice(&at.to_be_bytes());
            datagram.extend_from_slice(&[0, 13, 1, 0, 0x3f, 0xff, 0, 0, 0]);
            datagram.extend_from_slice(&at.to_be_bytes());
            datagram.extend_from_slice(&[0, 0, 1, 0xaa]);
            at += 1;
        }
        datagram
    };
    assert_eq!(world.inject(addr, &chain(78)), Fate::Dropped(Drop::MalformedDtls));
    assert_eq!(world.inject(addr, &chain(9)), Fate::Dropped(Drop::MalformedDtls));
    let taken = (0..200).take_while(|_| world.inject(addr, &chain(8)) == Fate::Consumed).count();
    assert!(taken < 60, "{taken}");
    assert_eq!(world.state(client), Some(TransportState::Failed));
}

/// Datagrams as they were seen in a call, to be damaged.
fn shapes() -> Vec<Vec<u8>> {
    let mut world = World::new(9);
    let kept: Rc<RefCell<Vec<Vec<u8>>>> = Rc::default();
    let keep = kept.clone();
    world.network.filter = Some(Box::new(move |d| {
        if d.direction == Direction::ToServer && d.client.port() == 40_000 {
            keep.borrow_mut().push(d.bytes.clone());
        }
        true
    }));
    call(&mut world);
    world.run_for(Duration::from_millis(300));
    let all = kept.borrow();
    let mut shapes: Vec<Vec<u8>> = all.iter().filter(|b| b[0] < 64).cloned().collect();
    shapes.extend(all.iter().filter(|b| b[0] >= 64).take(30).cloned());
    shapes
}

thread_local! {
    static SHAPES: Vec<Vec<u8>> = shapes();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn arbitrary_datagrams_never_panic(
        noise in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 0..60),
        connect: bool,
    ) {
        let mut world = World::new(10);
        let client = world.join_without_connect(ClientOptions::default());
        world.run_for(Duration::from_millis(60));
        if connect {
            world.connect(client);
        }
        let addr = world.clients[client].addr;
        for bytes in &noise {
            world.inject(addr, bytes);
            world.inject(stranger(), bytes);
        }
        let shapes = SHAPES.with(Clone::clone);
        for (which, at, byte, cut) in damage {
            let mut bytes = which.get(&shapes).clone();
            let at = at.index(bytes.len());
            bytes[at] ^= byte;
            if cut {
                bytes.truncate(at);
            }
            world.inject(addr, &bytes);
        }
        world.run_for(Duration::from_millis(50));
    }

    /// After the handshake, what only a participant can send.
    #[test]
    fn arbitrary_authentic_media_never_panics(
        packets in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..60)), 1..30),
    ) {
        let mut world = World::new(11);
        call(&mut world);
        world.run_for(Duration::from_millis(100));
        for (rtx, body) in packets {
            let mut packet = vec![0x80 | (body.first().copied().unwrap_or(0) & 0x3f), if rtx { 97 } else { 96 }];
            packet.extend_from_slice(&body.get(..2).map_or([9, 9], |b| [b[0], b[1]]));
            packet.extend_from_slice(&[0, 0, 0, 1]);
            packet.extend_from_slice(&(if rtx { 2223u32 } else { 2222 }).to_be_bytes());
            packet.extend_from_slice(&body);
            if rtc::rtp::Header::unmarshal(&mut &packet[..]).is_ok() {
                world.clients[0].send_rtp(&packet);
            }
            let mut rtcp = vec![0x80 | (body.last().copied().unwrap_or(0) & 0x1f), 200 + (body.len() % 8) as u8, 0, (body.len() / 4) as u8];
            rtcp.extend_from_slice(&[0, 0, 0, 1]);
            rtcp.extend_from_slice(&body);
            world.clients[1].send_rtcp(&rtcp);
        }
        world.run_for(Duration::from_millis(100));
    }
}

use rtc::shared::marshal::Unmarshal;
