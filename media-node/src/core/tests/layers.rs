//! Layers in whole calls: what a subscriber gets of each codec, and that it can decode it.

use super::*;
use crate::core::layers::ScalabilityMode;
use crate::core::random::Random;

fn mode(text: &str) -> ScalabilityMode {
    text.parse().unwrap()
}

fn layers(spatial: u8, temporal: u8) -> Layers {
    Layers { spatial, temporal }
}

/// A publisher, a subscriber, and one track in layers between them.
struct Call {
    world: World,
    producer: ProducerId,
    consumer: ConsumerId,
    ssrc: u32,
}

impl Call {
    fn of(codec: Codec, modes: &[&str], seed: u64) -> Self {
        let mut world = World::new(seed);
        let publisher = world.join(ClientOptions::default());
        let subscriber = world.join(ClientOptions::default());
        world.run_until_connected();
        let tracks = modes.iter().zip(["r0", "r1", "r2"]).zip(1u8..).map(|((text, rid), n)| {
            let kind = TrackKind::Layered { codec, mode: mode(text), packets: n };
            let mut track = Outgoing::new(kind, "1", u32::from(n) * 100, world.now);
            track.timestamp = u32::from(n) * 1_000_000_000;
            if modes.len() > 1 {
                track.rid = Some(rid);
                track.signalled = false;
            }
            track
        });
        let tracks = tracks.collect();
        let producer = world.publish(publisher, tracks);
        let (consumer, ssrc) = world.subscribe(subscriber, producer, true);
        Self { world, producer, consumer, ssrc }
    }

    fn prefer(&mut self, spatial: u8, temporal: u8) {
        let layers = layers(spatial, temporal);
        self.world.handle(Command::PreferLayers { consumer: self.consumer, layers });
    }

    fn allow(&mut self, layers: Option<Layers>) {
        let key = self.world.core.consumer_keys[&self.consumer];
        let consumer = self.world.core.consumers.get_mut(key).unwrap();
        consumer.layers.allow(layers);
        // Nobody else is to decide on it.
        self.world.core.transports.get_mut(consumer.transport).unwrap().congestion = None;
    }

    fn run(&mut self, millis: u64) {
        self.world.run_for(Duration::from_millis(millis));
    }

    fn decoded(&self) -> Decoded {
        decode(self.world.clients[1].receiver.stream(self.ssrc))
    }

    /// The highest layers of the pictures of the last `count`.
    fn latest(&self, count: usize) -> Layers {
        let pictures = self.decoded().pictures;
        let last = &pictures[pictures.len() - count..];
        layers(last.iter().map(|p| p.1).max().unwrap(), last.iter().map(|p| p.2).max().unwrap())
    }

    fn told(&self) -> Vec<Layers> {
        let of = |e: &Event| match e {
            Event::LayersChanged { layers, .. } => Some(*layers),
            _ => None,
        };
        self.world.events.iter().filter_map(of).collect()
    }

    /// Everything that was sent could be decoded, and nothing is missing.
    fn is_whole(&self) {
        let decoded = self.decoded();
        assert_eq!((decoded.gaps, decoded.broken, decoded.cut), (0, 0, 0), "{decoded:?}");
        assert_eq!(decoded.unmarked, 0, "{decoded:?}");
    }
}

#[test]
fn temporal_layers_of_vp8_are_left_out_and_taken_up_where_a_decoder_can() {
    let mut call = Call::of(Codec::Vp8, &["L1T3"], 1);
    call.run(1000);
    assert_eq!(call.latest(8).temporal, 2);
    let before = call.decoded().pictures.len();
    call.prefer(0, 0);
    call.run(2000);
    let slow = call.decoded().pictures.len() - before;
    assert!((14..=18).contains(&slow), "a quarter of 30 fps: {slow}");
    assert_eq!(call.latest(8).temporal, 0);
    call.prefer(0, 1);
    call.run(1000);
    assert_eq!(call.latest(8).temporal, 1);
    let requests = call.world.clients[0].tracks[0].key_frame_requests;
    call.prefer(0, 2);
    call.run(1000);
    assert_eq!(call.latest(8).temporal, 2);
    call.is_whole();
    assert_eq!(call.world.clients[0].tracks[0].key_frame_requests, requests, "no key frame was needed");
    let ids = call.decoded().picture_ids;
    assert!(ids.windows(2).all(|w| w[1] == (w[0] + 1) & 0x7fff), "picture ids have no holes: {ids:?}");
    assert_eq!(call.decoded().misnumbered, [], "nor have TL0PICIDX and KEYIDX");
    let told: Vec<_> = call.told().iter().map(|l| l.temporal).collect();
    assert_eq!(told, [2, 0, 1, 2]);
    assert!(call.world.stats().dropped(Drop::ConsumerLayer) > 50);
}

#[test]
fn spatial_layers_within_one_stream_go_up_at_a_key_picture_and_down_at_any() {
    for (codec, text) in [
        (Codec::Vp9, "L3T3_KEY"),
        (Codec::Vp9, "L3T3"),
        (Codec::Vp9, "L2T1"),
        (Codec::Av1, "L3T3_KEY"),
        (Codec::Av1, "L3T3"),
        (Codec::Av1, "L1T2"),
    ] {
        let mut call = Call::of(codec, &[text], 2);
        let highest = mode(text).highest();
        call.run(1500);
        assert_eq!(call.latest(8), highest, "{codec:?} {text}");
        for wanted in [layers(0, 0), layers(1, 1), layers(0, 2), layers(2, 0), layers(1, 2), Layers::ALL] {
            let requests = call.world.clients[0].tracks[0].key_frame_requests;
            let goes_up = wanted.spatial.min(highest.spatial) > call.latest(8).spatial;
            call.prefer(wanted.spatial, wanted.temporal);
            call.run(1500);
            assert_eq!(call.latest(6), wanted.within(highest), "{codec:?} {text} {wanted:?}");
            let asked = call.world.clients[0].tracks[0].key_frame_requests - requests;
            assert!(asked <= u32::from(goes_up), "{codec:?} {text} {wanted:?}: {asked}");
        }
        call.is_whole();
        let told = call.told();
        assert_eq!(told.first(), Some(&highest), "{codec:?} {text}");
        assert_eq!(told.last(), Some(&highest), "{codec:?} {text}");
    }
}

#[test]
fn simulcast_of_every_codec_goes_on_in_one_stream() {
    for codec in [Codec::Vp8, Codec::Vp9, Codec::Av1] {
        let mut call = Call::of(codec, &["L1T3", "L1T3", "L1T3"], 3);
        call.run(2500);
        assert_eq!(call.told().last(), Some(&layers(2, 2)), "{codec:?}");
        for wanted in [layers(0, 0), layers(2, 0), layers(1, 2), layers(0, 1), Layers::ALL] {
            call.prefer(wanted.spatial, wanted.temporal);
            call.run(1500);
            let expected = wanted.within(layers(2, 2));
            assert_eq!(call.told().last(), Some(&expected), "{codec:?} {wanted:?}");
            assert_eq!(call.latest(6).temporal, expected.temporal, "{codec:?} {wanted:?}");
        }
        let decoded = call.decoded();
        assert_eq!((decoded.gaps, decoded.broken), (0, 0), "{codec:?} {decoded:?}");
        assert!(decoded.cut <= 6, "at most the last frame before a switch: {decoded:?}");
        assert!(decoded.longest < 90_000 / 2, "{codec:?} {}", decoded.longest);
        let steps = decoded.pictures.windows(2).map(|w| w[1].0.wrapping_sub(w[0].0) as i32);
        assert!(steps.min().unwrap() > 0, "timestamps go on");
        let ids = &decoded.picture_ids;
        match codec {
            Codec::Vp8 => {
                assert!(ids.windows(2).all(|w| w[1] == (w[0] + 1) & 0x7fff), "{ids:?}");
                // Each encoding numbers for itself, and asks for key frames at its own times.
                assert_eq!(decoded.misnumbered, [], "TL0PICIDX and KEYIDX go on");
            }
            Codec::Vp9 => assert!(ids.windows(2).all(|w| (1..=4).contains(&(w[1].wrapping_sub(w[0]) & 0x7fff)))),
            _ => {
                let stream = call.world.clients[1].receiver.stream(call.ssrc);
                let numbers: Vec<u16> = stream.packets.values().map(|p| p.frame_number.unwrap()).collect();
                assert!(numbers.windows(2).all(|w| w[1].wrapping_sub(w[0]) <= 4), "{numbers:?}");
            }
        }
    }
}

#[test]
fn loss_and_reordering_on_both_sides_break_no_picture_in_any_layer() {
    for (seed, codec, modes) in [
        (11, Codec::Vp8, &["L1T3"][..]),
        (12, Codec::Vp9, &["L3T3_KEY"]),
        (13, Codec::Vp9, &["L3T3"]),
        (14, Codec::Av1, &["L3T3_KEY"]),
        (15, Codec::Av1, &["L2T2"]),
        (16, Codec::Vp8, &["L1T3", "L1T3", "L1T3"]),
        (17, Codec::Av1, &["L1T2", "L1T2"]),
    ] {
        let mut call = Call::of(codec, modes, seed);
        call.run(1000);
        call.world.network.loss = 0.03;
        call.world.network.jitter = Duration::from_millis(12);
        call.world.network.duplicate = 0.02;
        for round in 0..12u8 {
            call.prefer(round % 3, (round * 2) % 3);
            call.run(900);
        }
        call.prefer(9, 9);
        call.world.network.loss = 0.0;
        call.world.network.jitter = Duration::ZERO;
        call.run(2500);
        call.world.clients[0].tracks.iter_mut().for_each(|track| track.muted = true);
        call.run(1000);
        let (decoded, what) = (call.decoded(), format!("{seed} {codec:?} {modes:?}"));
        assert_eq!(decoded.gaps, 0, "{what}: {decoded:?}");
        assert_eq!(call.world.stats().dropped(Drop::IndexReused), 0);
        // What comes late of a layer that is no longer or not yet wanted goes out whole, and may lack what it
        // was made from: such frames are above what is shown, and few.
        let strays = decoded.broken + decoded.cut;
        assert!(strays * 100 <= decoded.frames, "{what}: {strays} of {}", decoded.frames);
        assert!(decoded.longest < 90_000, "{what}: never stood still for a second: {}", decoded.longest);
        let highest = if modes.len() > 1 { (modes.len() - 1) as u8 } else { mode(modes[0]).highest().spatial };
        assert_eq!(call.told().last().unwrap().spatial, highest, "{what}");
    }
}

#[test]
fn a_late_packet_of_a_layer_that_was_left_out_becomes_padding() {
    let mut call = Call::of(Codec::Vp9, &["L3T1_KEY"], 4);
    call.prefer(0, 0);
    call.run(1000);
    let publisher = call.world.clients[0].addr;
    let mut count = 0;
    // Now and then one packet of the publisher is lost, and repaired by RTX after others have come.
    call.world.network.filter = Some(Box::new(move |d| {
        let is_media = d.direction == Direction::ToServer && d.client == publisher && d.bytes.len() > 700;
        count += u32::from(is_media);
        !(is_media && count % 40 == 0)
    }));
    call.run(4000);
    call.world.network.filter = None;
    call.run(1000);
    call.is_whole();
    assert!(call.world.stats().counter(Counter::Filled) > 5);
    assert_eq!(call.latest(30).spatial, 0);
    let stream = call.world.clients[1].receiver.stream(call.ssrc);
    assert!(stream.fills.len() as u64 <= call.world.stats().counter(Counter::Filled));
    assert!(stream.packets.values().all(|p| p.part.as_ref().unwrap().spatial == 0), "padding instead");
}

#[test]
fn the_least_of_what_is_wanted_and_what_is_permitted_is_sent() {
    let mut call = Call::of(Codec::Vp9, &["L3T3_KEY"], 5);
    call.run(1000);
    call.allow(Some(layers(1, 1)));
    call.run(1000);
    assert_eq!(call.latest(8), layers(1, 1));
    call.prefer(0, 9);
    call.run(1000);
    assert_eq!(call.latest(8), layers(0, 2));
    call.allow(None);
    call.run(100);
    let before = call.decoded().pictures.len();
    call.run(1000);
    assert_eq!(call.decoded().pictures.len(), before, "nothing is permitted");
    assert!(call.world.stats().dropped(Drop::ConsumerHeld) > 100);
    call.allow(Some(Layers::ALL));
    call.prefer(9, 9);
    call.run(1000);
    assert_eq!(call.latest(8), layers(2, 2));
    call.is_whole();
}

#[test]
fn a_layer_that_the_publisher_leaves_out_is_told_and_comes_back() {
    let mut call = Call::of(Codec::Vp9, &["L3T3_KEY"], 6);
    call.run(1000);
    call.world.clients[0].tracks[0].max_spatial = 1;
    call.run(2000);
    assert_eq!(call.told(), [layers(2, 2), layers(1, 2)]);
    // It comes back with a key picture, as it does in encoders.
    call.world.clients[0].tracks[0].max_spatial = 2;
    call.world.clients[0].tracks[0].key_frame = true;
    call.run(1000);
    assert_eq!(call.told().last(), Some(&layers(2, 2)));
    call.is_whole();
}

#[test]
fn bitrates_are_measured_by_layer() {
    let mut call = Call::of(Codec::Vp9, &["L3T3_KEY"], 7);
    call.run(3000);
    let key = call.world.core.producer_keys[&call.producer];
    let producer = call.world.core.producers.get(key).unwrap();
    assert_eq!((producer.is_layered(), producer.is_simulcast(), producer.highest()), (true, false, layers(2, 2)));
    let rate = |spatial, temporal| producer.bitrate(layers(spatial, temporal), call.world.now);
    // 30 fps of 1, 2 and 3 packets of 800 to 1000 bytes.
    let whole = rate(2, 2);
    assert!((1_150_000..1_450_000).contains(&whole), "{whole}");
    assert!(rate(0, 2) * 5 < whole && rate(1, 2) * 5 < whole * 3);
    let quarter = rate(2, 0);
    assert!((whole / 5..whole / 3).contains(&quarter), "{quarter} of {whole}");
    assert!(rate(2, 1) > quarter * 3 / 2);

    let call = Call { ..Call::of(Codec::Vp8, &["L1T1", "L1T1"], 8) };
    let mut call = call;
    call.run(2000);
    let producer = call.world.core.producers.get(call.world.core.producer_keys[&call.producer]).unwrap();
    let rate = |spatial| producer.bitrate(layers(spatial, 9), call.world.now);
    assert!(rate(1) > rate(0) * 3 / 2 && rate(0) > 100_000, "each encoding for itself");
}

#[test]
fn a_publisher_is_told_what_nobody_watches() {
    let mut call = Call::of(Codec::Vp8, &["L1T1", "L1T1", "L1T1"], 9);
    let wanted = |world: &World| -> Vec<Option<u8>> {
        let of = |e: &Event| match e {
            Event::LayersWanted { spatial, .. } => Some(*spatial),
            _ => None,
        };
        world.events.iter().filter_map(of).collect()
    };
    call.run(3000);
    assert_eq!(wanted(&call.world), [], "everything is wanted from the start");
    call.prefer(0, 9);
    call.run(1900);
    assert_eq!(wanted(&call.world), [], "not before it has lasted");
    call.prefer(1, 9);
    call.run(200);
    assert_eq!(wanted(&call.world), [Some(1)], "what is wanted when the time has come");
    call.prefer(2, 9);
    call.run(100);
    assert_eq!(wanted(&call.world), [Some(1), Some(2)], "at once");
    // There and back within the time is no news.
    call.prefer(0, 9);
    call.run(1000);
    call.prefer(2, 9);
    call.run(4000);
    assert_eq!(wanted(&call.world).len(), 2);
    // A second subscriber wants less: the most counts.
    let (second, _) = call.world.subscribe(1, call.producer, true);
    call.world.handle(Command::PreferLayers { consumer: second, layers: layers(0, 0) });
    call.run(3000);
    assert_eq!(wanted(&call.world).len(), 2);
    call.world.handle(Command::PauseConsumer { consumer: call.consumer, paused: true });
    call.run(2100);
    assert_eq!(wanted(&call.world).last(), Some(&Some(0)));
    call.world.handle(Command::CloseConsumer { consumer: second });
    call.run(2100);
    assert_eq!(wanted(&call.world).last(), Some(&None), "nobody");
    call.world.handle(Command::PauseConsumer { consumer: call.consumer, paused: false });
    call.run(100);
    assert_eq!(wanted(&call.world), [Some(1), Some(2), Some(0), None, Some(2)]);
}

#[test]
fn a_publisher_that_lies_about_its_layers_spoils_only_what_it_sends_then() {
    for (seed, codec, modes) in [
        (31, Codec::Vp8, &["L1T3"][..]),
        (32, Codec::Vp9, &["L3T3"]),
        (33, Codec::Av1, &["L3T3_KEY"]),
        (34, Codec::Vp9, &["L1T3", "L1T3"]),
        (35, Codec::Av1, &["L1T2", "L1T2", "L1T2"]),
    ] {
        let mut call = Call::of(codec, modes, seed);
        call.run(1500);
        call.world.network.loss = 0.01;
        for track in &mut call.world.clients[0].tracks {
            track.mangle = Some(Random::new(seed));
        }
        for round in 0..10u8 {
            call.prefer(round % 4, round % 3);
            call.allow(if round == 5 { None } else { Some(layers(round % 3, 9)) });
            call.run(400);
        }
        let what = format!("{codec:?} {modes:?}");
        for track in &mut call.world.clients[0].tracks {
            track.mangle = None;
            track.key_frame = true;
        }
        call.world.network.loss = 0.0;
        call.allow(Some(Layers::ALL));
        call.prefer(9, 9);
        call.run(3000);
        let stats = call.world.stats();
        assert_eq!((stats.dropped(Drop::IndexReused), stats.dropped(Drop::SrtpAuth)), (0, 0), "{what}");
        assert_eq!(call.world.clients[1].undecryptable, 0, "{what}");
        let highest = mode(modes[0]).highest();
        assert_eq!(call.latest(8), highest, "{what}: all is well again");
        let spatial = if modes.len() > 1 { (modes.len() - 1) as u8 } else { highest.spatial };
        assert_eq!(call.told().last(), Some(&layers(spatial, call.told().last().unwrap().temporal)), "{what}");
    }
}
