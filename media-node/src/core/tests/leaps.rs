//! Publishers whose numbers jump: their SSRC, sequence numbers, timestamps. Subscribers have one stream, and it goes on.

use super::*;
use crate::core::random::Random;

/// Publisher of sound and pictures, subscriber to both.
struct Call {
    world: World,
    /// Of the streams received.
    ssrcs: [u32; 2],
}

impl Call {
    fn new(seed: u64) -> Self {
        let mut world = World::new(seed);
        let (audio, video) = call(&mut world);
        world.run_for(Duration::from_secs(2));
        Self { world, ssrcs: [audio, video] }
    }

    /// Something jumps, and three seconds pass. What comes then came at the end of a stream without a gap, within a
    /// second, and in the order of time.
    fn goes_on_after(&mut self, what: &str, mut jump: impl FnMut(&mut Outgoing)) {
        let since = self.world.now;
        self.world.clients[0].tracks.iter_mut().for_each(&mut jump);
        self.world.run_for(Duration::from_secs(3));
        for (ssrc, clock_rate) in self.ssrcs.into_iter().zip([48_000, 90_000]) {
            let stream = self.world.clients[1].receiver.stream(ssrc);
            let packets: Vec<_> = stream.packets.iter().collect();
            for pair in packets.windows(2) {
                let [(before, earlier), (index, packet)] = pair else { unreachable!("pairs") };
                assert_eq!(**index, *before + 1, "{what}: numbers go on");
                assert!(packet.counter > earlier.counter, "{what}: nothing comes twice or late");
                let step = packet.timestamp.wrapping_sub(earlier.timestamp);
                assert!(step < clock_rate, "{what}: timestamps go on: {step}");
                let pause = packet.at - earlier.at;
                assert!(pause < Duration::from_secs(1), "{what}: {pause:?} without a packet");
                let off = f64::from(step) / f64::from(clock_rate) - pause.as_secs_f64();
                assert!(off.abs() < 0.2, "{what}: timestamps go as time does: {step} in {pause:?}");
            }
            let last = packets.last().unwrap().1;
            assert!(last.at > self.world.now - Duration::from_millis(100), "{what}: it still goes on");
            let after = packets.iter().filter(|(_, packet)| packet.at > since).count();
            assert!(after > 2 * if clock_rate == 48_000 { 50 } else { 150 }, "{what}: {after}");
            // What reports say of wall clock and timestamps holds for what is sent now.
            let report = stream.report.as_ref().expect("there were reports");
            let ahead = report.rtp_time.wrapping_sub(last.timestamp) as i32;
            assert!(ahead.unsigned_abs() < 2 * clock_rate, "{what}: {ahead}");
        }
        let stats = self.world.stats();
        assert_eq!(stats.dropped(Drop::IndexReused), 0, "{what}");
        assert_eq!(self.world.clients[1].undecryptable, 0, "{what}");
    }

    fn sources(&self) -> usize {
        let core = &self.world.core;
        core.transports.get(core.transport_keys[&TransportId(1)]).unwrap().sources.len()
    }
}

#[test]
fn a_publisher_that_changes_its_ssrc_is_heard_and_seen_on() {
    let mut call = Call::new(51);
    let (before, mut random) = (call.sources(), Random::new(1));
    for (round, loss) in [(1, 0.0), (2, 0.0), (3, 0.02)] {
        call.world.network.loss = loss;
        call.goes_on_after(&format!("change {round}"), |track| {
            track.ssrc += 50_000;
            track.rtx_ssrc = track.rtx_ssrc.map(|ssrc| ssrc + 50_000);
            track.sequence = random.u32() as u16;
            track.timestamp = random.u32();
        });
        call.world.network.loss = 0.0;
        call.world.run_for(Duration::from_millis(500));
        assert_eq!(call.world.stats().counter(Counter::SsrcChanges), 2 * round);
    }
    // And back to the first, in the numbers that it had.
    call.goes_on_after("change back", |track| {
        track.ssrc -= 150_000;
        track.rtx_ssrc = track.rtx_ssrc.map(|ssrc| ssrc - 150_000);
        track.sequence = 9000;
        track.timestamp = 7;
    });
    // An RTX stream is known again once there is something to repair.
    assert!(call.sources() <= before);
    // One after the other, without end: each is forgotten but for its number.
    for _ in 0..80 {
        call.world.clients[0].tracks[0].ssrc += 1000;
        call.world.run_for(Duration::from_millis(150));
    }
    assert!(call.world.stats().counter(Counter::SsrcChanges) > 80);
    assert!(call.sources() <= before);
    let count = call.world.clients[1].receiver.count(call.ssrcs[0]);
    call.world.run_for(Duration::from_secs(1));
    assert!(call.world.clients[1].receiver.count(call.ssrcs[0]) > count + 45, "it is heard still");
}

#[test]
fn a_second_stream_that_claims_to_be_the_first_is_refused_while_that_goes_on() {
    let mut call = Call::new(52);
    let kind = call.world.clients[0].tracks[1].kind;
    let twin = Outgoing::new(kind, "1", 77_000, call.world.now);
    call.world.clients[0].tracks.push(twin);
    let before = (call.sources(), call.world.stats().dropped(Drop::UnknownSsrc));
    call.goes_on_after("a twin", |_| ());
    assert_eq!(call.sources(), before.0);
    assert!(call.world.stats().dropped(Drop::UnknownSsrc) > before.1 + 400);
    assert_eq!(call.world.stats().counter(Counter::SsrcChanges), 0);
}

#[test]
fn sequence_numbers_that_jump_ahead_leave_no_gap() {
    let mut call = Call::new(53);
    for jump in [300, 1100, 2000, 20_000] {
        if jump > 1024 {
            call.goes_on_after(&format!("{jump} ahead"), |track| track.sequence = track.sequence.wrapping_add(jump));
        } else {
            // What may have been lost is shown as lost, and a key frame follows.
            let asked = call.world.clients[0].tracks[1].key_frame_requests;
            call.world.clients[0].tracks[1].sequence += jump;
            call.world.run_for(Duration::from_secs(1));
            assert!(call.world.clients[0].tracks[1].key_frame_requests > asked);
            call = Call::new(54);
        }
    }
    let sent = call.world.stats().counter(Counter::NacksOut);
    assert!(sent < 100, "nobody asks for what never was: {sent}");
    // More than half of all: it takes the pause that tells it from something old.
    let mut call = Call::new(55);
    let old = call.world.stats().dropped(Drop::SrtpTooOld);
    call.goes_on_after("40 000 ahead", |track| track.sequence = track.sequence.wrapping_add(40_000));
    let refused = call.world.stats().dropped(Drop::SrtpTooOld) - old;
    assert!((1..60).contains(&refused), "{refused}");
    call.goes_on_after("and over the end of the numbers", |track| track.sequence = track.sequence.wrapping_add(30_000));
    assert_eq!(call.world.stats().dropped(Drop::SrtpAuth), 0);
}

#[test]
fn timestamps_that_jump_are_brought_back_in_line() {
    let mut call = Call::new(56);
    for jump in [600i32, -600, 5, -5, 20_000] {
        call.goes_on_after(&format!("{jump} s"), |track| {
            let ticks = jump.wrapping_mul(track.clock_rate() as i32) as u32;
            track.timestamp = track.timestamp.wrapping_add(ticks);
        });
    }
    let asked = call.world.clients[0].tracks[1].key_frame_requests;
    assert!(asked <= 2, "nothing is missing: {asked}");
    // A pause in which the publisher's clock goes on, or stands still: neither is a jump.
    for ticks_on in [true, false] {
        let since = call.world.now;
        call.world.clients[0].tracks.iter_mut().for_each(|track| track.muted = true);
        call.world.run_for(Duration::from_secs(20));
        let ticks = if ticks_on { 20 } else { 0 };
        for track in &mut call.world.clients[0].tracks {
            track.unmute(call.world.now);
            track.timestamp = track.timestamp.wrapping_add(ticks * track.clock_rate());
        }
        call.world.run_for(Duration::from_secs(2));
        for (ssrc, clock_rate) in call.ssrcs.into_iter().zip([48_000u32, 90_000]) {
            let stream = call.world.clients[1].receiver.stream(ssrc);
            let packets: Vec<_> = stream.packets.values().filter(|packet| packet.at > since).collect();
            let pause = packets.windows(2).max_by_key(|pair| pair[1].at - pair[0].at).unwrap();
            let step = f64::from(pause[1].timestamp.wrapping_sub(pause[0].timestamp)) / f64::from(clock_rate);
            let expected = if ticks_on { 19.0..21.0 } else { 0.01..0.05 };
            assert!(expected.contains(&step), "{ticks_on} {step}");
        }
    }
}

#[test]
fn what_is_older_than_the_window_is_refused_by_name() {
    let mut call = Call::new(57);
    let addr = call.world.clients[0].addr;
    let is_video = |packet: &&Vec<u8>| packet[8..12] == 2222u32.to_be_bytes();
    let old = call.world.clients[0].sent.iter().rev().find(is_video).unwrap().clone();
    call.world.run_for(Duration::from_secs(4));
    assert_eq!(call.world.inject(addr, &old), Fate::Dropped(Drop::SrtpReplay), "within the window");
    call.world.run_for(Duration::from_secs(4));
    assert_eq!(call.world.inject(addr, &old), Fate::Dropped(Drop::SrtpTooOld));
    // Once nothing else comes it is opened, as something from far ahead, and proves to be none.
    call.world.clients[0].tracks.iter_mut().for_each(|track| track.muted = true);
    call.world.run_for(Duration::from_millis(200));
    assert_eq!(call.world.inject(addr, &old), Fate::Dropped(Drop::SrtpAuth));
    call.world.clients[0].tracks.iter_mut().for_each(|track| track.muted = false);
    let before = call.world.clients[1].receiver.count(call.ssrcs[1]);
    call.world.run_for(Duration::from_secs(1));
    assert!(call.world.clients[1].receiver.count(call.ssrcs[1]) > before + 140, "the call goes on");
}

#[test]
fn a_consumer_that_is_never_resumed_costs_nothing() {
    let mut world = World::new(58);
    let (_, video) = call(&mut world);
    let idle = world.join(ClientOptions::default());
    world.run_until_connected();
    world.run_for(Duration::from_secs(2));
    let asked = world.clients[0].tracks[1].key_frame_requests;
    let mut producers: Vec<ProducerId> = world.core.producer_keys.keys().copied().collect();
    producers.sort_by_key(|producer| producer.0);
    for (producer, is_video) in producers.into_iter().zip([false, true]) {
        let consumer = ConsumerId(900 + u64::from(is_video));
        let spec = ConsumerSpec { paused: true, ..world.consumer_spec(idle, consumer.0, is_video) };
        world.handle(Command::Consume { consumer, transport: TransportId(3), producer, spec });
    }
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.clients[0].tracks[1].key_frame_requests, asked, "no key frame for one who looks away");
    assert!(world.clients[idle].receiver.streams.values().all(|stream| stream.packets.is_empty()));
    let transport = world.core.transports.get(world.core.transport_keys[&TransportId(3)]).unwrap();
    assert!(transport.batch.has_no_room() && transport.paced.has_no_room(), "nothing waits");
    assert_eq!(transport.consumers.len(), 2);
    for key in &transport.consumers {
        let consumer = world.core.consumers.get(*key).unwrap();
        assert_eq!((consumer.packets, consumer.octets), (0, 0));
    }
    assert!(world.events.iter().all(|e| !matches!(e, Event::LayersChanged { transport: TransportId(3), .. })));
    assert!(world.clients[1].receiver.count(video) > 60 * 140, "the others see on");
}
