//! ICE and DTLS: roles, losses, restarts, goodbyes.

use super::*;
use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc::srtp::protection_profile::ProtectionProfile;

/// The number of datagrams of a handshake without loss, per direction.
fn handshake(seed: u64, options: ClientOptions, lose: Option<(Direction, usize)>) -> (Duration, [usize; 2]) {
    let mut world = World::new(seed);
    let counts = Rc::new(RefCell::new([0usize; 2]));
    let seen = counts.clone();
    world.network.filter = Some(Box::new(move |datagram| {
        if !(20..64).contains(&datagram.bytes[0]) {
            return true;
        }
        let mut seen = seen.borrow_mut();
        let at = datagram.direction as usize;
        seen[at] += 1;
        lose != Some((datagram.direction, seen[at] - 1))
    }));
    world.join(options);
    let took = world.run_until_connected();
    let counts = *counts.borrow();
    (took, counts)
}

#[test]
fn the_loss_of_any_handshake_datagram_is_repaired() {
    for role in [DtlsRole::Client, DtlsRole::Server] {
        let options = ClientOptions { role, ..ClientOptions::default() };
        let (clean, [up, down]) = handshake(1, options.clone(), None);
        assert!(clean < Duration::from_millis(200), "{role:?} {clean:?}");
        for (direction, count) in [(Direction::ToServer, up), (Direction::ToClient, down)] {
            for lost in 0..count {
                let (took, _) = handshake(1, options.clone(), Some((direction, lost)));
                assert!(took < clean + Duration::from_millis(1200), "{role:?} {direction:?} {lost}: {took:?}");
            }
        }
    }
}

#[test]
fn a_fragmented_client_hello_is_put_together_in_any_loss() {
    let options = ClientOptions { mtu: 150, ..ClientOptions::default() };
    let (clean, [up, _]) = handshake(2, options.clone(), None);
    assert!(up > 4);
    for lost in 0..up {
        let (took, _) = handshake(2, options.clone(), Some((Direction::ToServer, lost)));
        assert!(took < clean + Duration::from_millis(1200), "{lost}: {took:?}");
    }
}

#[test]
fn heavy_loss_delays_a_handshake_but_does_not_end_it() {
    for seed in 0..12 {
        let mut world = World::new(seed);
        world.network.loss = 0.2;
        world.join(ClientOptions::default());
        world.join(ClientOptions { role: DtlsRole::Server, ..ClientOptions::default() });
        world.run_until_connected();
    }
}

#[test]
fn aead_is_chosen_over_the_clients_order() {
    let mut world = World::new(3);
    world.join(ClientOptions::default());
    world.run_until_connected();
    assert!(matches!(world.clients[0].profile, Some(ProtectionProfile::AeadAes128Gcm)));
}

#[test]
fn a_client_without_aead_gets_sha1_and_media_flows() {
    let profiles = vec![SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80];
    for role in [DtlsRole::Client, DtlsRole::Server] {
        let mut world = World::new(4);
        let publisher = world.join(ClientOptions { profiles: profiles.clone(), role, ..ClientOptions::default() });
        let subscriber = world.join(ClientOptions { profiles: profiles.clone(), role, ..ClientOptions::default() });
        world.run_until_connected();
        assert!(matches!(world.clients[0].profile, Some(ProtectionProfile::Aes128CmHmacSha1_80)));
        let video = Outgoing::new(TrackKind::Vp8 { packets: 4 }, "1", 2222, world.now);
        let producer = world.publish(publisher, vec![video]);
        let (_, ssrc) = world.subscribe(subscriber, producer, true);
        world.run_for(Duration::from_secs(1));
        assert!(world.clients[subscriber].receiver.count(ssrc) > 100);
        assert!(world.clients[subscriber].receiver.stream(ssrc).reports > 0);
    }
}

#[test]
fn media_flows_when_we_are_the_dtls_client() {
    let mut world = World::new(5);
    let publisher = world.join(ClientOptions { role: DtlsRole::Server, ..ClientOptions::default() });
    let subscriber = world.join(ClientOptions::default());
    world.run_until_connected();
    let audio = Outgoing::new(TrackKind::Opus, "0", 1, world.now);
    let producer = world.publish(publisher, vec![audio]);
    let (_, ssrc) = world.subscribe(subscriber, producer, false);
    world.run_for(Duration::from_secs(1));
    assert!(world.clients[subscriber].receiver.count(ssrc) > 45);
}

#[test]
fn a_wrong_fingerprint_fails_at_once() {
    for role in [DtlsRole::Client, DtlsRole::Server] {
        let mut world = World::new(6);
        let client = world.join_without_connect(ClientOptions { role, ..ClientOptions::default() });
        let fingerprints = vec![Fingerprint { algorithm: "sha-256".into(), digest: vec![0; 32] }];
        world.handle(Command::ConnectTransport { transport: TransportId(1), role, fingerprints });
        world.run_until(Duration::from_secs(2), |w| w.state(client) == Some(TransportState::Failed));
        world.run_for(Duration::from_secs(1));
        assert_eq!(states(&world, client), [TransportState::Connecting, TransportState::Failed]);
        assert_eq!(world.stats().counter(Counter::HandshakesFailed), 1);
        assert_eq!(world.stats().counter(Counter::HandshakesDone), 0);
    }
}

#[test]
fn a_handshake_that_begins_before_the_parameters_are_known_completes_after() {
    let mut world = World::new(7);
    let client = world.join_without_connect(ClientOptions::default());
    world.run_for(Duration::from_millis(300));
    assert_eq!(states(&world, client), [TransportState::Connecting]);
    world.connect(client);
    let took = world.run_until_connected();
    assert!(took < Duration::from_millis(300), "{took:?}");
}

#[test]
fn a_handshake_nobody_finishes_fails_in_time() {
    let mut world = World::new(8);
    let client = world.join(ClientOptions::default());
    let mut hellos = 0;
    world.network.filter = Some(Box::new(move |datagram| {
        // The first ClientHello comes, then the client is gone, except for ICE.
        let dtls = (20..64).contains(&datagram.bytes[0]);
        hellos += usize::from(dtls);
        !dtls || hellos < 2
    }));
    world.run_for(Duration::from_secs(29));
    assert_eq!(world.state(client), Some(TransportState::Connecting));
    world.run_for(Duration::from_secs(3));
    assert_eq!(world.state(client), Some(TransportState::Failed));
    let repeated = world.stats().counter(Counter::FlightsRepeated);
    assert!((10..45).contains(&repeated), "{repeated}");
}

#[test]
fn a_client_that_believes_to_be_controlled_is_corrected() {
    let mut world = World::new(9);
    world.join(ClientOptions { confused: true, ..ClientOptions::default() });
    world.run_until_connected();
    assert!(world.clients[0].role_conflicts > 0);
    assert!(world.stats().counter(Counter::RoleConflicts) > 0);
}

#[test]
fn a_client_that_says_goodbye_is_closed_and_stays_closed() {
    let mut world = World::new(10);
    let client = world.join(ClientOptions::default());
    world.run_until_connected();
    let now = world.now;
    world.clients[client].close(now);
    world.run_for(Duration::from_millis(200));
    assert_eq!(world.state(client), Some(TransportState::Closed));
    // A late datagram must not open another association.
    let hello = world
        .network
        .seen
        .iter()
        .find(|d| d.direction == Direction::ToServer && d.bytes[0] == 22)
        .map(|d| d.bytes.clone())
        .unwrap_or_else(|| vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
    let addr = world.clients[client].addr;
    assert_eq!(world.inject(addr, &hello), Fate::Dropped(Drop::DtlsClosed));
    assert_eq!(world.inject(addr, &[0x80; 60]), Fate::Dropped(Drop::NoKeys));
    assert_eq!(world.state(client), Some(TransportState::Closed));
}

#[test]
fn a_transport_whose_client_finds_no_way_here_fails_after_a_while() {
    let mut world = World::new(13);
    let lost = world.join(ClientOptions::default());
    world.clients[lost].checking = false;
    let idle = world.join_without_connect(ClientOptions::default());
    world.clients[idle].checking = false;
    let well = world.join(ClientOptions::default());
    world.run_for(Duration::from_secs(59));
    assert_eq!(world.state(lost), Some(TransportState::New));
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.state(lost), Some(TransportState::Failed));
    let told = world.events.iter().any(|event| {
        matches!(event, Event::TransportState { transport: TransportId(1), state: TransportState::Failed, .. })
    });
    assert!(told, "rooms are told, and forget it");
    world.run_for(Duration::from_secs(600));
    assert_eq!(
        world.state(idle),
        Some(TransportState::New),
        "a client connects with its first track, whenever that is"
    );
    assert_eq!(world.state(well), Some(TransportState::Connected));
}

#[test]
fn consent_expires_and_comes_back_with_a_key_frame() {
    let mut world = World::new(11);
    let (_, video) = call(&mut world);
    world.run_for(Duration::from_secs(2));
    world.clients[1].checking = false;
    world.run_for(Duration::from_secs(34));
    assert_eq!(world.state(1), Some(TransportState::Disconnected));
    assert_eq!(world.state(0), Some(TransportState::Connected));
    let before = world.clients[1].receiver.count(video);
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.clients[1].receiver.count(video), before, "nothing is sent without consent");
    world.clients[1].checking = true;
    world.run_until(Duration::from_secs(2), |w| w.clients[1].receiver.count(video) > before);
    let stream = world.clients[1].receiver.stream(video);
    assert!(stream.packets.values().nth(before).unwrap().key_frame);
    let keys: Vec<_> = stream.packets.keys().collect();
    assert!(keys.windows(2).all(|w| w[1] - w[0] == 1));
    let expected = [
        TransportState::Connecting,
        TransportState::Connected,
        TransportState::Disconnected,
        TransportState::Connected,
    ];
    assert_eq!(states(&world, 1), expected);
}

#[test]
fn an_ice_restart_moves_to_new_credentials_and_forgets_the_old() {
    let mut world = World::new(12);
    let (_, video) = call(&mut world);
    world.run_for(Duration::from_secs(1));
    let fresh = world.credentials();
    let old = world.clients[1].credentials.clone();
    world.handle(Command::RestartIce { transport: TransportId(2), ice: fresh.clone() });
    world.run_for(Duration::from_secs(3));
    assert_eq!(world.stats().dropped(Drop::UnknownUfrag), 0, "the old ones hold until the new ones are used");
    world.clients[1].credentials = fresh;
    // A new network, too.
    world.clients[1].addr = "10.9.9.9:999".parse().unwrap();
    let before = world.clients[1].receiver.count(video);
    world.run_for(Duration::from_secs(5));
    assert!(world.clients[1].receiver.count(video) > before + 200);
    world.clients[1].credentials = old;
    world.run_for(Duration::from_secs(3));
    assert!(world.stats().dropped(Drop::UnknownUfrag) > 0);
    assert_eq!(states(&world, 1), [TransportState::Connecting, TransportState::Connected]);
}

#[test]
fn consent_is_to_the_selected_tuple() {
    let mut world = World::new(13);
    call(&mut world);
    world.run_for(Duration::from_secs(1));
    let other: SocketAddr = "10.8.8.8:888".parse().unwrap();
    let selected = |w: &World| w.core.transport_stats(TransportId(2), w.now).unwrap().remote();
    world.clients[1].checking = false;
    world.clients[1].nominate = false;
    let password = world.clients[1].credentials.password.clone();
    for second in 0..40 {
        let check = world.clients[1].check(&password);
        assert_eq!(world.inject(other, &check), Fate::Consumed);
        let expected = if second < 25 { Some(world.clients[1].addr) } else { selected(&world) };
        assert_eq!(selected(&world), expected, "{second}");
        world.run_for(Duration::from_secs(1));
    }
    assert_eq!(selected(&world), Some(other), "nothing was heard of the nominated one");
    assert_eq!(world.state(1), Some(TransportState::Connected));
    world.run_for(Duration::from_secs(31));
    assert_eq!(world.state(1), Some(TransportState::Disconnected));
    // Whence it is heard of again, there it is, nominated or not.
    let check = world.clients[1].check(&password);
    let addr = world.clients[1].addr;
    world.inject(addr, &check);
    assert_eq!(selected(&world), Some(addr));
    assert_eq!(world.state(1), Some(TransportState::Connected));
}

#[test]
fn a_transport_whose_only_tuple_went_to_another_is_disconnected() {
    let mut world = World::new(14);
    call(&mut world);
    world.clients[0].checking = false;
    world.run_for(Duration::from_secs(6));
    let check = world.clients[1].check(&world.clients[1].credentials.password.clone());
    let addr = world.clients[0].addr;
    world.network.filter = Some(Box::new(move |d| d.direction == Direction::ToServer || d.client != addr));
    assert_eq!(world.inject(addr, &check), Fate::Consumed);
    world.run_for(Duration::from_secs(31));
    assert_eq!(world.state(0), Some(TransportState::Disconnected));
    assert_eq!(world.state(1), Some(TransportState::Connected));
}

#[test]
fn alerts_that_nothing_authenticates_do_not_end_a_handshake() {
    for role in [DtlsRole::Client, DtlsRole::Server] {
        let mut world = World::new(15);
        let client = world.join(ClientOptions { role, ..ClientOptions::default() });
        let addr = world.clients[client].addr;
        world.run_for(Duration::from_millis(15));
        for turn in 0..30 {
            for (level, description) in [(2, 40), (1, 0), (2, 0)] {
                let alert = [21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0x20, turn, 0, 2, level, description];
                assert_eq!(world.inject(addr, &alert), Fate::Dropped(Drop::PlainAlert));
            }
        }
        world.run_until_connected();
    }
}
