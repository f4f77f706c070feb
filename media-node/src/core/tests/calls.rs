use super::*;

/// A publisher with sound and pictures, a subscriber to both.
fn call(world: &mut World) -> (u32, u32) {
    let publisher = world.join(ClientOptions::default());
    let subscriber = world.join(ClientOptions::default());
    world.run_until_connected();
    let audio = Outgoing::new(TrackKind::Opus, "0", 1111, world.now);
    let video = Outgoing::new(TrackKind::Vp8 { packets: 5 }, "1", 2222, world.now);
    let audio = world.publish(publisher, vec![audio]);
    let video = world.publish(publisher, vec![video]);
    let (_, audio) = world.subscribe(subscriber, audio, false);
    let (_, video) = world.subscribe(subscriber, video, true);
    (audio, video)
}

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
    println!("{:?}", world.stats());
}
