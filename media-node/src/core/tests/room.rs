//! A full room: fifty who publish and watch each other, over a bad network.

use super::*;
use crate::core::random::Random;

const PEOPLE: usize = 50;
const SEEN: usize = 9;
const HEARD: usize = 3;

/// What came of one stream to one subscriber.
#[derive(Debug, PartialEq)]
struct Told {
    subscriber: usize,
    ssrc: u32,
    packets: usize,
    last: u64,
    /// Of what was in the packets.
    digest: u64,
}

struct Room {
    world: World,
    random: Random,
    /// Of each subscriber: the SSRCs that it receives pictures and sound under.
    video: Vec<Vec<u32>>,
    audio: Vec<Vec<u32>>,
}

impl Room {
    fn new(seed: u64) -> Self {
        let mut world = World::new(seed);
        // Fewer steps than there are datagrams.
        world.grain = Duration::from_millis(1);
        for _ in 0..PEOPLE {
            world.join(ClientOptions::default());
        }
        world.run_until_connected();
        let limits = RoomLimits { last_n: Some(SEEN), loudest: Some(HEARD), ..RoomLimits::default() };
        world.handle(Command::LimitRoom { room: RoomId(1), limits });
        let mut published = Vec::new();
        for client in 0..PEOPLE {
            let ssrc = 1000 * (client as u32 + 1);
            let mut sound = Outgoing::new(TrackKind::Opus, "0", ssrc, world.now);
            let mut pictures = Outgoing::new(TrackKind::Vp8 { packets: 1 }, "1", ssrc + 100, world.now);
            // 25 packets and 10 pictures a second.
            (sound.level, sound.slowness, pictures.slowness) = (127, 2, 3);
            let sound = world.publish(client, vec![sound]);
            published.push((sound, world.publish(client, vec![pictures])));
        }
        let (mut audio, mut video) = (vec![Vec::new(); PEOPLE], vec![Vec::new(); PEOPLE]);
        for subscriber in 0..PEOPLE {
            for (publisher, (sound, pictures)) in published.iter().enumerate() {
                if publisher != subscriber {
                    audio[subscriber].push(world.subscribe(subscriber, *sound, false).1);
                    video[subscriber].push(world.subscribe(subscriber, *pictures, true).1);
                }
            }
        }
        Self { world, random: Random::new(seed), video, audio }
    }

    /// Five others raise their voices, and talk for so long.
    fn talk(&mut self, millis: u64) {
        for client in &mut self.world.clients {
            client.tracks[0].level = 127;
        }
        for level in [20, 22, 24, 40, 45] {
            let speaker = self.random.u64() as usize % PEOPLE;
            self.world.clients[speaker].tracks[0].level = level;
        }
        self.world.run_for(Duration::from_millis(millis));
    }

    /// How many of these streams brought somebody a packet since then.
    fn alive(&self, subscriber: usize, ssrcs: &[u32], since: std::time::Instant) -> usize {
        let streams = &self.world.clients[subscriber].receiver.streams;
        let newest = |ssrc: &&u32| streams.get(ssrc).and_then(|s| s.packets.values().map(|p| p.at).max());
        ssrcs.iter().filter(|ssrc| newest(ssrc).is_some_and(|at| at > since)).count()
    }

    /// The core gives nobody more pictures than the room allows.
    fn holds_to_last_n(&self) {
        let core = &self.world.core;
        for subscriber in 0..PEOPLE {
            let transport = core.transports.get(core.transport_keys[&TransportId(subscriber as u64 + 1)]).unwrap();
            let consumers = transport.consumers.iter().filter_map(|key| core.consumers.get(*key));
            let seen = consumers.filter(|consumer| consumer.rtx.is_some() && !consumer.paused).count();
            assert!(seen <= SEEN, "subscriber {subscriber} sees {seen}");
        }
    }

    /// Everything that can be told of what came.
    fn story(&self) -> Vec<Told> {
        let mut story = Vec::new();
        for (subscriber, client) in self.world.clients.iter().enumerate() {
            for (ssrc, stream) in &client.receiver.streams {
                let last = stream.packets.last_key_value().map_or(0, |(index, _)| *index);
                let digest = stream.packets.values().fold(0u64, |sum, packet| sum.wrapping_mul(31) ^ packet.counter);
                story.push(Told { subscriber, ssrc: *ssrc, packets: stream.packets.len(), last, digest });
            }
        }
        story
    }
}

fn play(seed: u64) -> (Vec<Told>, Vec<u64>) {
    let mut room = Room::new(seed);
    room.talk(500);
    room.world.network.loss = 0.02;
    room.world.network.jitter = Duration::from_millis(15);
    for _ in 0..4 {
        room.talk(800);
        room.holds_to_last_n();
    }
    (room.world.network.loss, room.world.network.jitter) = (0.0, Duration::ZERO);
    room.world.run_for(Duration::from_millis(1500));
    room.holds_to_last_n();
    let now = room.world.now;
    let [a_moment, a_second] = [300, 1000].map(|millis| now - Duration::from_millis(millis));
    let (mut packets, mut gaps) = (0, 0);
    for subscriber in 0..PEOPLE {
        let [seen, heard] = [&room.video, &room.audio].map(|of| room.alive(subscriber, &of[subscriber], a_moment));
        assert_eq!(seen, SEEN, "subscriber {subscriber} sees as many as there may be, and none is frozen");
        assert!((2..=HEARD).contains(&heard), "subscriber {subscriber} hears {heard}");
        for (ssrc, is_video) in
            room.video[subscriber].iter().map(|s| (s, true)).chain(room.audio[subscriber].iter().map(|s| (s, false)))
        {
            let Some(stream) = room.world.clients[subscriber].receiver.streams.get(ssrc) else { continue };
            let (Some((first, _)), Some((last, _))) =
                (stream.packets.first_key_value(), stream.packets.last_key_value())
            else {
                continue;
            };
            packets += stream.packets.len() as u64;
            gaps += last - first + 1 - stream.packets.len() as u64;
            // Since the network is good again.
            let recent: Vec<_> = stream.packets.iter().filter(|(_, p)| p.at > a_second && !p.repaired).collect();
            for pair in recent.windows(2) {
                let [(before, earlier), (index, packet)] = pair else { unreachable!("pairs") };
                assert_eq!(**index, *before + 1, "numbers go on");
                assert!(packet.timestamp.wrapping_sub(earlier.timestamp) as i32 > 0, "so does time");
                let next = (earlier.picture_id + 1) & 0x7fff;
                assert!(!is_video || packet.picture_id == next || packet.key_frame, "and so do pictures");
            }
        }
        assert_eq!(room.world.clients[subscriber].undecryptable, 0);
    }
    println!("{packets} packets, {gaps} never came");
    // What is lost just before somebody goes off stage or falls silent is not asked for any more.
    assert!(gaps * 200 < packets, "{gaps} of {packets}");
    let stats = room.world.stats();
    assert_eq!((stats.dropped(Drop::IndexReused), stats.dropped(Drop::SrtpAuth)), (0, 0));
    let counters =
        [Counter::RtpIn, Counter::RtpOut, Counter::NacksIn, Counter::NacksOut, Counter::ResentRtx, Counter::KeyFrames];
    (room.story(), counters.map(|counter| stats.counter(counter)).to_vec())
}

#[test]
fn fifty_people_see_nine_and_hear_three_and_the_same_seed_tells_the_same_story() {
    let first = play(71);
    let second = play(71);
    assert_eq!(first.1, second.1);
    assert!(first == second, "the same packets to the same people under the same numbers");
}
