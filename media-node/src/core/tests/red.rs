//! Redundant audio: as it is to whoever knows it, its frames to everybody else, lost ones out of the copies.

use super::*;

const OPUS: u8 = 111;
const RED: u8 = 63;
const FRAME: usize = 38;
/// Samples of a frame.
const TICKS: u32 = 960;
/// Of all packets, in -dBov.
const LEVEL: u8 = 42;

fn codec(payload_type: u8, router_payload_type: u8, codec: Codec) -> ProducerCodec {
    ProducerCodec {
        payload_type,
        router_payload_type,
        codec,
        clock_rate: 48_000,
        rtx_payload_type: None,
        nack: false,
        pli: false,
        remb: false,
    }
}

/// Its count, as receivers read it, and more.
fn frame(count: u64) -> Vec<u8> {
    let mut frame = count.to_be_bytes().to_vec();
    frame.resize(FRAME, count as u8);
    frame
}

/// A frame behind copies of those before it.
fn redundant(payload_type: u8, count: u64, copies: u64) -> Vec<u8> {
    redundant_of(payload_type, count, count.saturating_sub(copies)..count)
}

fn redundant_of(payload_type: u8, count: u64, copied: impl Iterator<Item = u64> + Clone) -> Vec<u8> {
    let mut packet = Vec::new();
    for earlier in copied.clone() {
        let header = ((count - earlier) as u32 * TICKS) << 10 | FRAME as u32;
        packet.push(0x80 | payload_type);
        packet.extend_from_slice(&header.to_be_bytes()[1..]);
    }
    packet.push(payload_type);
    packet.extend(copied.flat_map(frame));
    packet.extend(frame(count));
    packet
}

/// A publisher of redundant audio, and three who listen: in the router's payload types, in others, and to Opus alone.
struct Call {
    world: World,
    ssrcs: Vec<u32>,
}

const OPUS_ALONE: usize = 3;

impl Call {
    fn new(seed: u64) -> Self {
        let mut world = World::new(seed);
        for _ in 0..4 {
            world.join(ClientOptions::default());
        }
        world.run_until_connected();
        let encoding =
            ProducerEncoding { ssrc: Some(1111), rtx_ssrc: None, rid: None, scalability: ScalabilityMode::default() };
        let level = |id| HeaderExtension { kind: ExtensionKind::AudioLevel, id };
        let spec = ProducerSpec {
            kind: MediaKind::Audio,
            mid: Some("0".into()),
            codecs: vec![codec(RED, 117, Codec::Red), codec(OPUS, 100, Codec::Opus)],
            encodings: vec![encoding],
            header_extensions: vec![level(1)],
            cname: None,
            paused: false,
        };
        world.handle(Command::Produce { producer: ProducerId(1), transport: TransportId(1), spec });
        let takes = [(vec![100, 117], vec![]), (vec![100, 117], vec![(100, 96), (117, 119)]), (vec![100], vec![])];
        let ssrcs = (1..)
            .zip(takes)
            .map(|(client, (payload_types, renumbered))| {
                let mut spec = world.consumer_spec(client, client as u64, false);
                (spec.payload_types, spec.renumbered) = (payload_types, renumbered);
                spec.header_extensions = vec![level(10)];
                world.clients[client].receiver.ids = rtp::Ids::new(&spec.header_extensions);
                let (ssrc, consumer) = (spec.ssrc, ConsumerId(client as u64));
                let transport = TransportId(client as u64 + 1);
                world.handle(Command::Consume { consumer, transport, producer: ProducerId(1), spec });
                ssrc
            })
            .collect();
        Self { world, ssrcs }
    }

    fn send(&mut self, payload_type: u8, count: u64, payload: &[u8]) {
        self.send_as(500 + count as u16, payload_type, count, payload);
    }

    fn send_as(&mut self, sequence: u16, payload_type: u8, count: u64, payload: &[u8]) {
        let timestamp = count as u32 * TICKS;
        let mut packet = vec![0x90, payload_type];
        packet.extend_from_slice(&sequence.to_be_bytes());
        packet.extend_from_slice(&timestamp.to_be_bytes());
        packet.extend_from_slice(&1111u32.to_be_bytes());
        packet.extend_from_slice(&[0xbe, 0xde, 0, 1, 1 << 4, 0x80 | LEVEL, 0, 0]);
        packet.extend_from_slice(payload);
        self.world.clients[0].send_rtp(&packet);
        // Until it has come to everybody.
        self.world.run_for(Duration::from_millis(100));
    }

    fn heard(&self, client: usize) -> &testing::Stream {
        self.world.clients[client].receiver.stream(self.ssrcs[client - 1])
    }

    /// Counts and timestamps of what the one without redundancy has heard, in the order of its sequence numbers, which
    /// have no gap.
    fn heard_frames(&self) -> Vec<(u64, u32)> {
        let packets: Vec<_> = self.heard(OPUS_ALONE).packets.iter().collect();
        assert!(packets.windows(2).all(|w| w[1].0 - w[0].0 == 1), "numbers go on without a gap");
        packets.iter().map(|(_, packet)| (packet.counter, packet.timestamp)).collect()
    }
}

fn frames(counts: impl IntoIterator<Item = u64>) -> Vec<(u64, u32)> {
    counts.into_iter().map(|count| (count, count as u32 * TICKS)).collect()
}

#[test]
fn who_knows_it_gets_the_copies_and_who_does_not_the_frames() {
    let mut call = Call::new(1);
    let expected = |client: usize, opus: bool, count: u64| match (client, opus) {
        (2, true) => (96, frame(count)),
        (1, false) => (117, redundant(100, count, 2)),
        (2, false) => (119, redundant(96, count, 2)),
        _ => (100, frame(count)),
    };
    for count in 0..60u64 {
        // Browsers send what is too long to be copied as it is.
        let opus = count % 7 == 3;
        let (payload_type, payload) = if opus { (OPUS, frame(count)) } else { (RED, redundant(OPUS, count, 2)) };
        call.send(payload_type, count, &payload);
        for client in 1..=3 {
            let stream = call.heard(client);
            let (_, packet) = stream.packets.last_key_value().unwrap();
            assert_eq!((packet.payload_type, stream.latest.clone()), expected(client, opus, count), "{client} {count}");
            assert_eq!((packet.level, packet.timestamp), (Some(LEVEL), count as u32 * TICKS), "{client} {count}");
        }
    }
    for client in 1..=3 {
        let numbers: Vec<u64> = call.heard(client).packets.keys().copied().collect();
        assert!(numbers.len() == 60 && numbers.windows(2).all(|w| w[1] == w[0] + 1), "{client}");
    }
    assert_eq!(call.heard_frames(), frames(0..60));
}

#[test]
fn what_is_lost_on_the_way_everybody_hears_from_a_copy() {
    let mut call = Call::new(2);
    // One by one, and two in a row.
    let is_lost =
        |count: u64| count % 10 == 4 || (count % 10).abs_diff(7) == 1 && count > 30 || [21, 22].contains(&count);
    for count in (0..60).filter(|count| !is_lost(*count)) {
        call.send(RED, count, &redundant(OPUS, count, 2));
    }
    assert_eq!(call.heard_frames(), frames(0..60));
    // The others find them themselves: each has what was sent, once.
    for client in 1..OPUS_ALONE {
        let counts: Vec<u64> = call.heard(client).packets.values().map(|packet| packet.counter).collect();
        assert!(counts.iter().copied().eq((0..60).filter(|count| !is_lost(*count))), "{client}: {counts:?}");
    }
    assert_eq!(call.world.stats().dropped(Drop::IndexReused), 0);

    // Three in a row are more than two copies make up for: none is put in a place that may not be its own.
    call.send(RED, 63, &redundant(OPUS, 63, 2));
    let late = call.heard(OPUS_ALONE).packets.len();
    assert_eq!(late, 61);
}

#[test]
fn what_comes_late_is_not_heard_twice() {
    let mut call = Call::new(3);
    for count in [0, 1, 3, 2, 4, 6, 5, 7] {
        call.send(RED, count, &redundant(OPUS, count, 1));
    }
    assert_eq!(call.heard_frames(), frames(0..8));
    for client in 1..OPUS_ALONE {
        let counts: Vec<u64> = call.heard(client).packets.values().map(|packet| packet.counter).collect();
        assert_eq!(counts, [0, 1, 2, 3, 4, 5, 6, 7]);
    }
    let stats = call.world.stats();
    assert_eq!((stats.dropped(Drop::ConsumerHasFrame), stats.dropped(Drop::IndexReused)), (2, 0));
}

#[test]
fn silence_that_is_not_sent_changes_no_place() {
    let mut call = Call::new(6);
    // With DTX timestamps go on and sequence numbers do not. What is lost is the last before the silence, and the first after.
    let sent = [0, 1, 2, 3, 12, 13, 14, 24, 25, 26];
    for (at, pair) in sent.windows(2).enumerate().filter(|(_, pair)| ![3, 24].contains(&pair[1])) {
        call.send_as(501 + at as u16, RED, pair[1], &redundant_of(OPUS, pair[1], [pair[0]].into_iter()));
    }
    assert_eq!(call.heard_frames(), frames(sent.into_iter().skip(1)));
}

#[test]
fn copies_whose_place_is_not_theirs_are_left() {
    let mut call = Call::new(4);
    for count in 0..5 {
        call.send(RED, count, &redundant(OPUS, count, 1));
    }
    // One is lost, and the next has a copy of another than that: of what was heard, of the time of the packet itself, of
    // nothing, and from before the call.
    for (count, (offset, length)) in [(6, (3 * TICKS, FRAME)), (9, (0, FRAME)), (12, (TICKS, 0)), (15, (0x3fff, FRAME))]
    {
        let before = call.heard(OPUS_ALONE).packets.len();
        let [_, header @ ..] = (offset << 10 | length as u32).to_be_bytes();
        let copied = frame(count - 3);
        let payload = [&[0x80 | OPUS], &header[..], &[OPUS], &copied[..length], &frame(count)].concat();
        call.send(RED, count, &payload);
        assert_eq!(call.heard(OPUS_ALONE).packets.len(), before + 1, "{count}");
        // What follows is whole again.
        call.send(RED, count + 1, &redundant(OPUS, count + 1, 1));
    }
}

#[test]
fn what_is_malformed_is_dropped_and_counted() {
    let mut call = Call::new(5);
    call.send(RED, 0, &redundant(OPUS, 0, 0));
    let copies = |count: usize| [[0x80 | OPUS, 0, 0, 0].repeat(count), vec![OPUS], frame(9)].concat();
    for (number, payload) in [
        // A copy longer than the packet, headers cut short, copies and nothing else, and more than anybody sends.
        vec![0x80 | OPUS, 0, 3, 0xff, OPUS, 1, 2],
        vec![0x80 | OPUS, 0],
        redundant(OPUS, 2, 2)[..9 + 2 * FRAME].to_vec(),
        copies(9),
        copies(4000 / 4),
        // Of a codec that was not announced, of redundancy itself, and of two codecs.
        redundant(50, 1, 1),
        redundant(RED, 1, 1),
        [&[0x80 | 50, 0, 0, 1, OPUS, 7][..], &frame(9)].concat(),
    ]
    .into_iter()
    .enumerate()
    {
        let before = call.world.stats().dropped(Drop::MalformedRed);
        call.send(RED, 1 + number as u64, &payload[..payload.len().min(1200)]);
        assert_eq!(call.world.stats().dropped(Drop::MalformedRed), before + 1, "{number}");
    }
    for client in 1..=3 {
        assert_eq!(call.heard(client).packets.len(), 1);
    }
    call.send(RED, 20, &redundant(OPUS, 20, 1));
    assert!((1..=3).all(|client| call.heard(client).packets.len() == 2), "what is sound goes on");
}
