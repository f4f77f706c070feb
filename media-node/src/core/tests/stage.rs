//! Large rooms: the loudest are heard, those who spoke last are seen.

use rtc::rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;

use super::*;

const QUIET: u8 = 127;
const LOUD: u8 = 30;

/// Publishers with sound and pictures, the last client subscribes to all: sound and pictures by publisher.
struct Stage {
    world: World,
    audio: Vec<u32>,
    video: Vec<(ConsumerId, u32)>,
    subscriber: usize,
}

impl Stage {
    fn new(seed: u64, publishers: usize, limits: RoomLimits) -> Self {
        let mut world = World::new(seed);
        for _ in 0..=publishers {
            world.join(ClientOptions::default());
        }
        world.run_until_connected();
        world.handle(Command::LimitRoom { room: RoomId(1), limits });
        let (mut audio, mut video) = (vec![], vec![]);
        for client in 0..publishers {
            let ssrc = 1000 * (client as u32 + 1);
            let mut sound = Outgoing::new(TrackKind::Opus, "0", ssrc, world.now);
            sound.level = QUIET;
            let pictures = Outgoing::new(TrackKind::Vp8 { packets: 2 }, "1", ssrc + 100, world.now);
            let sound = world.publish(client, vec![sound]);
            let pictures = world.publish(client, vec![pictures]);
            audio.push(world.subscribe(publishers, sound, false).1);
            video.push(world.subscribe(publishers, pictures, true));
        }
        Self { world, audio, video, subscriber: publishers }
    }

    fn speak(&mut self, levels: &[u8], millis: u64) {
        for (client, level) in levels.iter().enumerate() {
            self.world.clients[client].tracks[0].level = *level;
        }
        self.world.run_for(Duration::from_millis(millis));
    }

    /// Packets that arrive of each stream within `millis`.
    fn arrivals(&mut self, ssrcs: &[u32], millis: u64) -> Vec<usize> {
        let count = |world: &World, at: usize| ssrcs.iter().map(|s| world.clients[at].receiver.count(*s)).collect();
        let before: Vec<usize> = count(&self.world, self.subscriber);
        self.world.run_for(Duration::from_millis(millis));
        let after: Vec<usize> = count(&self.world, self.subscriber);
        after.iter().zip(before).map(|(after, before)| after - before).collect()
    }

    fn pictures(&self) -> Vec<u32> {
        self.video.iter().map(|(_, ssrc)| *ssrc).collect()
    }

    /// Who is seen: the publishers whose pictures arrive.
    fn seen(&mut self) -> Vec<usize> {
        let arrivals = self.arrivals(&self.pictures(), 500);
        (0..arrivals.len()).filter(|at| arrivals[*at] > 10).collect()
    }

    fn assert_unbroken(&self, ssrc: u32) {
        let packets: Vec<_> = self.world.clients[self.subscriber].receiver.stream(ssrc).packets.iter().collect();
        assert!(packets.windows(2).all(|w| w[1].0 - w[0].0 == 1), "numbers go on without a gap");
        assert!(packets.windows(2).all(|w| w[1].1.timestamp.wrapping_sub(w[0].1.timestamp) as i32 >= 0));
    }
}

#[test]
fn the_loudest_are_heard_and_a_speaker_is_heard_from_the_first_syllable() {
    let limits = RoomLimits { loudest: Some(2), ..RoomLimits::default() };
    let mut stage = Stage::new(41, 4, limits);
    stage.speak(&[LOUD, LOUD, QUIET, QUIET], 2000);
    let audio = stage.audio.clone();
    let heard = stage.arrivals(&audio, 1000);
    assert!(heard[0] >= 48 && heard[1] >= 48, "{heard:?}");
    assert_eq!(heard[2..], [0, 0]);
    assert!(stage.world.stats().dropped(Drop::NotAmongLoudest) > 100);

    // The second falls silent, and after a pause the fourth speaks.
    stage.speak(&[LOUD, QUIET, QUIET, QUIET], 1000);
    stage.world.clients[3].tracks[0].level = LOUD;
    let said = stage.world.clients[3].tracks[0].produced;
    let heard = stage.arrivals(&audio, 1000);
    assert!(heard[1] <= 5 && heard[2] == 0, "one gives way: {heard:?}");
    let stream = stage.world.clients[stage.subscriber].receiver.stream(audio[3]);
    let first = stream.packets.values().next().map(|p| p.counter);
    assert!(first.is_some_and(|first| first <= said + 1), "the first syllable is heard: {first:?} of {said}");
    for client in [0, 1, 3] {
        stage.assert_unbroken(audio[client]);
    }

    stage.world.handle(Command::LimitRoom { room: RoomId(1), limits: RoomLimits::default() });
    let heard = stage.arrivals(&audio, 1000);
    assert!(heard.iter().all(|n| *n >= 48), "no limit any more: {heard:?}");
}

#[test]
fn those_who_spoke_last_are_seen_and_subscribers_are_told() {
    let limits = RoomLimits { last_n: Some(2), ..RoomLimits::default() };
    let mut stage = Stage::new(42, 4, limits);
    stage.speak(&[QUIET; 4], 1000);
    assert_eq!(stage.seen(), [0, 1], "before anybody has spoken, those who came first");
    stage.speak(&[QUIET, QUIET, LOUD, QUIET], 1000);
    assert_eq!(stage.seen(), [0, 2]);
    stage.speak(&[QUIET, QUIET, QUIET, LOUD], 4000);
    assert_eq!(stage.seen(), [2, 3]);
    stage.speak(&[QUIET, LOUD, QUIET, QUIET], 4000);
    assert_eq!(stage.seen(), [1, 3]);
    for (_, ssrc) in stage.video.clone() {
        stage.assert_unbroken(ssrc);
        let packets = &stage.world.clients[stage.subscriber].receiver.stream(ssrc).packets;
        assert!(packets.values().next().is_some_and(|p| p.key_frame));
    }
    let told = |stage: &Stage, of: usize| -> Vec<bool> {
        let of = stage.video[of].0;
        let off = |e: &Event| match e {
            Event::OffStage { consumer, off_stage, .. } if *consumer == of => Some(*off_stage),
            _ => None,
        };
        stage.world.events.iter().filter_map(off).collect()
    };
    assert_eq!(told(&stage, 1), [true, false]);
    assert_eq!(told(&stage, 3), [true, false]);

    // What a client pauses itself takes nobody's place, and who leaves neither.
    stage.world.handle(Command::PauseConsumer { consumer: stage.video[1].0, paused: true });
    assert_eq!(stage.seen(), [2, 3]);
    stage.world.handle(Command::CloseTransport { transport: TransportId(4) });
    assert_eq!(stage.seen(), [0, 2]);
    stage.world.handle(Command::LimitRoom { room: RoomId(1), limits: RoomLimits::default() });
    assert_eq!(stage.seen(), [0, 2], "what the client paused stays paused");
    stage.world.handle(Command::PauseConsumer { consumer: stage.video[1].0, paused: false });
    assert_eq!(stage.seen(), [0, 1, 2]);
}

#[test]
fn publishers_are_asked_to_keep_to_the_rooms_bitrate() {
    let limits = RoomLimits { max_publish_bitrate: Some(300_000), ..RoomLimits::default() };
    let mut stage = Stage::new(43, 1, limits);
    stage.world.run_for(Duration::from_secs(3));
    let asked = |stage: &Stage, client: usize| -> Vec<f32> {
        let rtcp = &stage.world.clients[client].rtcp;
        rtcp.iter()
            .filter_map(|p| p.as_any().downcast_ref::<ReceiverEstimatedMaximumBitrate>())
            .map(|remb| remb.bitrate)
            .collect()
    };
    let bitrates = asked(&stage, 0);
    assert!(bitrates.len() >= 2, "{bitrates:?}");
    assert!(bitrates.iter().all(|b| (295_000.0..=300_000.0).contains(b)), "{bitrates:?}");
    assert_eq!(asked(&stage, 1), [0.0; 0], "who only subscribes is not asked");

    // Browsers keep to what they were told last, so they are told when it is over.
    stage.world.handle(Command::LimitRoom { room: RoomId(1), limits: RoomLimits::default() });
    stage.world.run_for(Duration::from_secs(8));
    let lifted: Vec<f32> = asked(&stage, 0).into_iter().filter(|b| *b > 300_000.0).collect();
    assert!(lifted.len() == 3 && lifted.iter().all(|b| *b > 900e6), "{lifted:?}");
}
