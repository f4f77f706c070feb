//! Clients that change their address, or how they are reached, in the middle of a call.

use super::*;

fn selected(world: &World, client: usize) -> Option<SocketAddr> {
    world.core.transport_stats(TransportId(client as u64 + 1), world.now).unwrap().remote()
}

/// Takes a client elsewhere, where its checks do not get through yet.
fn move_silently(world: &mut World, client: usize, to: &str) -> SocketAddr {
    let to: SocketAddr = to.parse().unwrap();
    world.clients[client].addr = to;
    world.clients[client].checking = false;
    to
}

#[test]
fn a_subscriber_that_moves_gets_media_at_its_new_address_after_a_check_and_not_before() {
    let mut world = World::new(1);
    let (audio, video) = call(&mut world);
    world.run_for(Duration::from_secs(2));
    let old = world.clients[1].addr;
    let new = move_silently(&mut world, 1, "10.9.9.9:999");
    let count = |world: &World| world.clients[1].receiver.count(audio) + world.clients[1].receiver.count(video);
    let before = count(&world);
    // It sends feedback from there, and repeats what it sent before: neither is a check.
    for _ in 0..20 {
        let datagram = [0x81, 201, 0, 1, 0, 0, 0, 7, 0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(world.inject(new, &datagram), Fate::Dropped(Drop::UnknownTuple));
        world.run_for(Duration::from_millis(50));
    }
    assert_eq!((count(&world), selected(&world, 1)), (before, Some(old)), "nothing before a check");
    world.clients[1].checking = true;
    let took = world.run_until(Duration::from_secs(4), |world| count(world) > before);
    assert_eq!(selected(&world, 1), Some(new));
    world.run_for(Duration::from_secs(3));
    assert!(count(&world) > before + 600, "{} after {took:?}", count(&world) - before);
    // One transport, one handshake: nothing was set up anew.
    assert_eq!(states(&world, 1), [TransportState::Connecting, TransportState::Connected]);
    assert_eq!(world.stats().counter(Counter::HandshakesDone), 2);
    assert_eq!(world.clients[1].undecryptable, 0);
}

#[test]
fn a_publisher_that_moves_is_heard_from_its_new_address_after_a_check_and_not_before() {
    let mut world = World::new(2);
    let (audio, _) = call(&mut world);
    world.run_for(Duration::from_secs(2));
    move_silently(&mut world, 0, "10.9.9.8:998");
    // What was on its way still counts.
    world.run_for(Duration::from_millis(100));
    let before = world.clients[1].receiver.count(audio);
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.clients[1].receiver.count(audio), before);
    assert!(world.stats().dropped(Drop::UnknownTuple) > 150);
    world.clients[0].checking = true;
    world.run_for(Duration::from_secs(6));
    assert!(world.clients[1].receiver.count(audio) > before + 150);
    assert_eq!(world.stats().counter(Counter::HandshakesDone), 2);
}

#[test]
fn whoever_knows_no_password_moves_nobody() {
    let mut world = World::new(3);
    let (_, video) = call(&mut world);
    world.run_for(Duration::from_secs(1));
    let thief: SocketAddr = "203.0.113.66:6666".parse().unwrap();
    let old = world.clients[1].addr;
    for _ in 0..10 {
        let check = world.clients[1].check("a guess of at least 22 characters");
        assert_eq!(world.inject(thief, &check), Fate::Dropped(Drop::StunIntegrity));
    }
    let before = world.clients[1].receiver.count(video);
    world.run_for(Duration::from_secs(1));
    assert_eq!(selected(&world, 1), Some(old));
    assert!(world.clients[1].receiver.count(video) > before + 140);
}

#[test]
fn one_that_moves_where_nothing_gets_through_loses_consent_and_comes_back() {
    let mut world = World::new(4);
    let (_, video) = call(&mut world);
    world.run_for(Duration::from_secs(1));
    move_silently(&mut world, 1, "10.9.9.7:997");
    world.run_for(Duration::from_secs(32));
    assert_eq!(world.state(1), Some(TransportState::Disconnected));
    let before = world.clients[1].receiver.count(video);
    world.clients[1].checking = true;
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.state(1), Some(TransportState::Connected));
    assert!(world.clients[1].receiver.count(video) > before + 100);
}

#[test]
fn a_call_goes_on_from_udp_to_tcp_and_back_when_the_connection_ends() {
    let mut world = World::new(5);
    let (_, video) = call(&mut world);
    world.run_for(Duration::from_secs(1));
    let udp = world.clients[1].addr;
    let tcp: SocketAddr = "10.0.1.1:51000".parse().unwrap();
    world.clients[1].addr = tcp;
    world.clients[1].protocol = Protocol::Tcp;
    world.run_for(Duration::from_secs(4));
    assert_eq!(selected(&world, 1), Some(tcp));
    let before = world.clients[1].receiver.count(video);
    world.run_for(Duration::from_secs(1));
    assert!(world.clients[1].receiver.count(video) > before + 140);

    // The connection breaks; the path by UDP was validated before and is used at once.
    world.clients[1].addr = udp;
    world.clients[1].protocol = Protocol::Udp;
    world.core.disconnected(super::testing::SERVER_IP, tcp);
    assert!(!world.core.is_valid(Protocol::Tcp, super::testing::SERVER_IP, tcp));
    assert_eq!(selected(&world, 1), Some(udp));
    let before = world.clients[1].receiver.count(video);
    world.run_for(Duration::from_secs(1));
    assert!(world.clients[1].receiver.count(video) > before + 140);
    // Once more is no harm.
    world.core.disconnected(super::testing::SERVER_IP, tcp);
    assert_eq!(world.stats().counter(Counter::HandshakesDone), 2);
}

#[test]
fn a_client_by_tcp_alone_is_gone_with_its_connection_until_it_connects_again() {
    let mut world = World::new(6);
    let (_, video) = call(&mut world);
    let third = world.join_without_connect(ClientOptions::default());
    world.clients[third].protocol = Protocol::Tcp;
    world.connect(third);
    world.run_until_connected();
    let producer = *world.core.producer_keys.keys().max().unwrap();
    let (_, ssrc) = world.subscribe(third, producer, true);
    world.run_for(Duration::from_secs(1));
    assert!(world.clients[third].receiver.count(ssrc) > 40);
    let addr = world.clients[third].addr;
    world.clients[third].checking = false;
    world.core.disconnected(super::testing::SERVER_IP, addr);
    assert_eq!(selected(&world, third), None);
    world.run_for(Duration::from_secs(31));
    assert_eq!(world.state(third), Some(TransportState::Disconnected));
    world.clients[third].addr = "10.0.1.2:52000".parse().unwrap();
    world.clients[third].checking = true;
    let before = world.clients[third].receiver.count(ssrc);
    world.run_for(Duration::from_secs(2));
    assert!(world.clients[third].receiver.count(ssrc) > before + 100);
    assert!(world.clients[1].receiver.count(video) > 4000);
}
