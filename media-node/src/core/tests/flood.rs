//! Floods: what they cost in memory, to the byte that was allocated, and what a call notices of them.

use allocation_counter::measure;

use super::*;

/// Packets of sound that came in this time, and the longest gap between two.
fn heard(world: &mut World, ssrc: u32, time: Duration, mut meanwhile: impl FnMut(&mut World)) -> (usize, Duration) {
    let (since, until) = (world.now, world.now + time);
    while world.now < until {
        meanwhile(world);
        world.run_for(Duration::from_millis(10));
    }
    let stream = world.clients[1].receiver.stream(ssrc);
    let mut times: Vec<_> = stream.packets.values().map(|packet| packet.at).filter(|at| *at > since).collect();
    times.sort_unstable();
    let longest = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
    (times.len(), longest)
}

/// A publisher of sound and a subscriber to it: the SSRC received under.
fn talk(world: &mut World) -> u32 {
    world.join(ClientOptions::default());
    world.join(ClientOptions::default());
    world.run_until_connected();
    let track = Outgoing::new(TrackKind::Opus, "0", 1111, world.now);
    let producer = world.publish(0, vec![track]);
    world.subscribe(1, producer, false).1
}

fn stranger(number: u32) -> SocketAddr {
    let [_, b, c, d] = number.to_be_bytes();
    SocketAddr::from(([198, 18 + b, c, d], 1024 + (number % 60_000) as u16))
}

#[test]
fn connectivity_checks_of_strangers_leave_nothing_behind() {
    let mut world = World::new(1);
    let audio = talk(&mut world);
    world.run_for(Duration::from_secs(2));
    let own = world.clients[0].credentials.clone();
    let forged = world.clients[0].check("not the password of anybody");
    world.clients[0].credentials.ufrag = "nobody".into();
    let unknown = world.clients[0].check(&own.password);
    world.clients[0].credentials = own;
    let mut cut = forged.clone();
    cut.truncate(forged.len() - 4);
    let (gauges, mut number) = (world.stats().gauge(Gauge::Tuples), 0);
    const CHECKS: u32 = 60_000;
    let cost = measure(|| {
        for _ in 0..CHECKS {
            number += 1;
            let check = [&forged, &unknown, &cut][number as usize % 3];
            world.inject(stranger(number), check);
        }
    });
    println!("{CHECKS} checks: {} bytes kept, {} at most", cost.bytes_current, cost.bytes_max);
    assert!(cost.bytes_current <= 1024 && cost.bytes_max < 64 * 1024, "{cost:?}");
    assert_eq!(world.stats().gauge(Gauge::Tuples), gauges);
    let dropped = [Drop::StunIntegrity, Drop::UnknownUfrag, Drop::MalformedStun].map(|r| world.stats().dropped(r));
    assert_eq!(dropped, [20_000; 3]);
    // A thousand a second, beside a call.
    let (packets, longest) = heard(&mut world, audio, Duration::from_secs(5), |world| {
        for _ in 0..10 {
            number += 1;
            world.inject(stranger(number), [&forged, &unknown, &cut][number as usize % 3]);
        }
    });
    assert!((245..=255).contains(&packets) && longest < Duration::from_millis(40), "{packets} {longest:?}");
}

#[test]
fn thousands_of_handshakes_that_nobody_finishes_are_bounded_and_given_back() {
    const HALF_OPEN: u64 = 1000;
    let mut world = World::new(2);
    // The first datagrams of a handshake, as a client sends them.
    let hello: Rc<RefCell<Vec<Vec<u8>>>> = Rc::default();
    let kept = hello.clone();
    world.network.filter = Some(Box::new(move |datagram| {
        if datagram.bytes[0] == 22 && datagram.direction == Direction::ToServer && kept.borrow().len() < 2 {
            kept.borrow_mut().push(datagram.bytes.clone());
        }
        true
    }));
    let audio = talk(&mut world);
    world.run_for(Duration::from_secs(2));
    world.network.filter = None;
    let hello = hello.borrow().clone();
    assert!(!hello.is_empty());
    world.events.clear();
    let own = world.clients[0].credentials.clone();
    let fingerprints = world.clients[0].fingerprints();
    let before = world.stats().gauge(Gauge::Transports);

    let open = |world: &mut World, number: u64| {
        let (transport, room) = (TransportId(10_000 + number), RoomId(2));
        let ice = IceCredentials { ufrag: format!("half-open-{number}"), password: own.password.clone() };
        world.handle(Command::CreateTransport { transport, room, ice: ice.clone() });
        let (role, fingerprints) = (DtlsRole::Client, fingerprints.clone());
        world.handle(Command::ConnectTransport { transport, role, fingerprints });
        world.clients[0].credentials = ice;
        let check = world.clients[0].check(&own.password);
        world.clients[0].credentials = own.clone();
        let from = stranger(number as u32);
        assert_eq!(world.inject(from, &check), Fate::Consumed);
        for datagram in &hello {
            world.inject(from, datagram);
        }
    };
    let mut left = [0; 2];
    for (round, left) in left.iter_mut().enumerate() {
        let (mut opened, mut packets, mut longest) = (0, 0, Duration::ZERO);
        let open_all = measure(|| {
            // All within a second, beside a call.
            (packets, longest) = heard(&mut world, audio, Duration::from_secs(1), |world| {
                for _ in 0..HALF_OPEN / 100 {
                    open(world, round as u64 * HALF_OPEN + opened);
                    opened += 1;
                }
            });
        });
        let each = open_all.bytes_current / HALF_OPEN as i64;
        println!("{HALF_OPEN} half-open handshakes: {each} bytes each");
        assert_eq!(world.stats().gauge(Gauge::Transports), before + HALF_OPEN);
        assert!(each < 32 * 1024, "{each} bytes each");
        assert!((48..=52).contains(&packets) && longest < Duration::from_millis(40), "{packets} {longest:?}");
        assert_eq!(world.state(1), Some(TransportState::Connected));

        // More of the same datagrams on the same handshakes end them: that is beyond what any handshake needs.
        let again = measure(|| {
            for number in 0..HALF_OPEN {
                for datagram in hello.iter().cycle().take(80) {
                    world.inject(stranger((round as u64 * HALF_OPEN + number) as u32), datagram);
                }
            }
            world.run_for(Duration::from_millis(100));
            world.events.clear();
        });
        println!("80 datagrams more on each: {} bytes", again.bytes_current);
        assert!(again.bytes_current < 1024 * HALF_OPEN as i64, "{again:?}");

        // Whoever has not finished in time has failed, and the rooms close what has failed.
        let closed = measure(|| {
            let (packets, longest) = heard(&mut world, audio, Duration::from_secs(35), |_| ());
            assert!((1740..=1760).contains(&packets) && longest < Duration::from_millis(40), "{packets} {longest:?}");
            for number in 0..HALF_OPEN {
                let transport = TransportId(10_000 + round as u64 * HALF_OPEN + number);
                world.handle(Command::CloseTransport { transport });
            }
            world.run_for(Duration::from_millis(100));
            world.events = Vec::new();
        });
        *left = open_all.bytes_current + again.bytes_current + closed.bytes_current;
        println!("after they were closed: {left} bytes");
        assert_eq!(world.stats().gauge(Gauge::Transports), before);
        assert!(*left < open_all.bytes_max as i64 / 2, "{left}");
    }
    // The places in the tables are kept and taken again. What the call itself remembers is the tests' own.
    assert!(left[1] < 2 << 20, "{left:?}");
}
