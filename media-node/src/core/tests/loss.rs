//! Loss, reordering, repetition, and an hour of it.

use super::*;
use rtc::srtp::protection_profile::ProtectionProfile;

fn gaps(world: &World, client: usize, ssrc: u32) -> u64 {
    let stream = world.clients[client].receiver.stream(ssrc);
    let (first, last) = (stream.packets.first_key_value().unwrap().0, stream.packets.last_key_value().unwrap().0);
    last - first + 1 - stream.packets.len() as u64
}

#[test]
fn five_percent_loss_each_way_is_repaired() {
    for seed in [1, 2, 3] {
        let mut world = World::new(seed);
        let (audio, video) = call(&mut world);
        world.network.loss = 0.05;
        world.network.jitter = Duration::from_millis(8);
        world.network.duplicate = 0.02;
        world.run_for(Duration::from_secs(20));
        world.network.loss = 0.0;
        for track in &mut world.clients[0].tracks {
            track.muted = true;
        }
        world.run_for(Duration::from_secs(1));
        let stats = world.stats();
        assert!(stats.counter(Counter::Recovered) > 50, "{stats:?}");
        assert_eq!(stats.counter(Counter::Lost), 0, "{stats:?}");
        assert!(stats.counter(Counter::ResentRtx) > 50, "{stats:?}");
        assert!(stats.counter(Counter::ResentVerbatim) > 10, "{stats:?}");
        assert_eq!(stats.dropped(Drop::IndexReused), 0);
        assert_eq!(stats.dropped(Drop::SrtpAuth), 0);
        assert_eq!([gaps(&world, 1, audio), gaps(&world, 1, video)], [0, 0], "{stats:?}");
        assert_eq!(world.clients[1].undecryptable, 0);
        let counters: Vec<_> = world.clients[1].receiver.stream(video).packets.values().map(|p| p.counter).collect();
        assert!(counters.windows(2).all(|w| w[1] == w[0] + 1));
        // Repair costs little more than what was lost.
        let resent = stats.counter(Counter::ResentRtx) as f64;
        assert!(resent < 0.13 * stats.counter(Counter::RtpOut) as f64, "{stats:?}");
    }
}

#[test]
fn the_same_seed_tells_the_same_story() {
    let run = || {
        let mut world = World::new(77);
        world.network.loss = 0.03;
        call(&mut world);
        world.run_for(Duration::from_secs(3));
        let stats = world.stats();
        // Sizes of DTLS messages vary with their signatures; what happened to media may not.
        [Counter::RtpIn, Counter::RtpOut, Counter::NacksIn, Counter::NacksOut, Counter::ResentRtx]
            .map(|c| stats.counter(c))
    };
    assert_eq!(run(), run());
}

#[test]
fn what_is_sent_again_under_the_same_number_is_the_same_ciphertext() {
    let mut world = World::new(5);
    let sealed = Rc::new(RefCell::new(BTreeMap::<(SocketAddr, u32, u16), Vec<u8>>::new()));
    let repeats = Rc::new(RefCell::new(0));
    let (seen, count) = (sealed.clone(), repeats.clone());
    world.tap = Some(Box::new(move |to, bytes| {
        if bytes[0] >> 6 != 2 || (192..224).contains(&bytes[1]) {
            return;
        }
        let sequence = u16::from_be_bytes([bytes[2], bytes[3]]);
        let ssrc = u32::from_be_bytes(bytes[8..12].try_into().unwrap());
        if let Some(before) = seen.borrow_mut().insert((*to, ssrc, sequence), bytes.to_vec()) {
            assert_eq!(before, bytes, "nonce reused");
            *count.borrow_mut() += 1;
        }
    }));
    call(&mut world);
    world.network.loss = 0.1;
    world.run_for(Duration::from_secs(20));
    assert!(*repeats.borrow() > 20, "{}", repeats.borrow());
    assert!(matches!(world.clients[1].profile, Some(ProtectionProfile::AeadAes128Gcm)));
}

#[test]
fn a_long_outage_of_the_publisher_ends_with_a_key_frame_not_a_flood_of_nacks() {
    let mut world = World::new(6);
    let (_, video) = call(&mut world);
    world.run_for(Duration::from_secs(2));
    let nacks = world.stats().counter(Counter::NacksOut);
    let requests = world.clients[0].tracks[1].key_frame_requests;
    let publisher = world.clients[0].addr;
    world.network.filter =
        Some(Box::new(move |d| !(d.direction == Direction::ToServer && d.client == publisher && d.bytes[0] >> 6 == 2)));
    world.run_for(Duration::from_secs(2));
    world.network.filter = None;
    world.run_for(Duration::from_secs(2));
    assert!(world.stats().counter(Counter::NacksOut) - nacks < 250);
    assert!(world.clients[0].tracks[1].key_frame_requests > requests);
    let stream = world.clients[1].receiver.stream(video);
    assert!(stream.packets.last_key_value().unwrap().1.at > world.now - Duration::from_millis(100));
}

#[test]
fn an_hour_goes_by() {
    let mut world = World::new(7);
    let publisher = world.join(ClientOptions::default());
    let subscriber = world.join(ClientOptions::default());
    world.run_until_connected();
    let mut audio = Outgoing::new(TrackKind::Opus, "0", 1111, world.now);
    audio.sequence = 30_000;
    let producer = world.publish(publisher, vec![audio]);
    let (_, ssrc) = world.subscribe(subscriber, producer, false);
    world.network.loss = 0.01;
    world.network.jitter = Duration::from_millis(30);
    world.run_for(Duration::from_secs(3600));
    let stream = world.clients[subscriber].receiver.stream(ssrc);
    let received = stream.packets.len() as u64;
    assert!((179_000..=180_100).contains(&received), "{received}");
    assert!(received > 2 * 65_536, "rolled over twice");
    let missing = gaps(&world, subscriber, ssrc);
    assert!(missing < 20, "{missing}");
    assert_eq!(world.clients[subscriber].undecryptable, 0);
    assert_eq!(world.stats().dropped(Drop::SrtpAuth), 0);
    assert_eq!(world.state(subscriber), Some(TransportState::Connected));
    let producer = world.core.producers.get(world.core.producer_keys[&producer]).unwrap();
    assert!(producer.streams[0].history.allocated() <= 32 * 1024);
    assert!(producer.streams[0].missings.len() < 20);
}
