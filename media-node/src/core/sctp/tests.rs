//! An association with a client of `rtc::sctp`, honest and not, without a network between them.

use std::time::Duration;

use proptest::prelude::*;
use rtc::sctp::{AssociationHandle, ClientConfig};

use super::*;
use crate::core::testing::origin;

/// A client and our end, and the time.
struct Pair {
    now: Instant,
    endpoint: Endpoint,
    handle: AssociationHandle,
    client: Association,
    server: Sctp,
    /// What the client received, as (stream, identifier, message).
    received: Vec<(u16, PayloadProtocolIdentifier, Vec<u8>)>,
    /// Every packet that the client sent.
    sent: Vec<Bytes>,
    /// Packets from us are lost.
    is_deaf: bool,
}

impl Pair {
    fn opening() -> Self {
        let now = origin();
        let mut endpoint = Endpoint::new(PEER, TransportProtocol::UDP, Arc::new(EndpointConfig::new()), None);
        let config = TransportConfig::default().with_max_message_size(4 << 20).with_max_receive_buffer_size(4 << 20);
        let (handle, client) = endpoint.connect(now, ClientConfig::new(config), LOCAL).unwrap();
        let (received, sent) = (Vec::new(), Vec::new());
        Self { now, endpoint, handle, client, server: Sctp::new(), received, sent, is_deaf: false }
    }

    fn new() -> Self {
        let mut pair = Self::opening();
        pair.run(Duration::from_millis(10));
        assert!(pair.server.peer.as_ref().unwrap().is_established && !pair.client.is_handshaking());
        pair
    }

    /// One exchange of everything that wants to be sent; whether there was anything.
    fn exchange(&mut self) -> bool {
        let packets = transmits(&mut self.client, self.now);
        let mut any = !packets.is_empty();
        for packet in packets {
            self.sent.push(packet.clone());
            let _ = self.server.receive(BytesMut::from(&packet[..]), self.now);
        }
        self.server.flush(self.now);
        while let Some(packet) = self.server.poll_transmit() {
            any = true;
            if !self.is_deaf {
                self.hand_over(packet);
            }
        }
        any
    }

    fn hand_over(&mut self, packet: Bytes) {
        if let Some((handle, DatagramEvent::AssociationEvent(event))) =
            self.endpoint.handle(self.now, LOCAL, None, packet)
        {
            assert_eq!(handle, self.handle);
            self.client.handle_event(event);
        }
        while let Some(event) = self.client.poll() {
            let Event::Stream(StreamEvent::Readable { id }) = event else { continue };
            let mut stream = self.client.stream(id).unwrap();
            while let Ok(Some(chunks)) = stream.read_sctp() {
                self.received.push((id, chunks.ppi, chunks.to_payload(4 << 20).unwrap().to_vec()));
            }
        }
    }

    fn run(&mut self, duration: Duration) {
        let until = self.now + duration;
        loop {
            while self.exchange() {}
            let next = self.client.poll_timeout().into_iter().chain(self.server.timeout()).min();
            match next.filter(|at| *at <= until) {
                Some(at) => self.now = self.now.max(at),
                None => break,
            }
            self.client.handle_timeout(self.now);
            self.server.handle_timeout(self.now);
        }
        self.now = until;
    }

    fn say(&mut self, stream: u16, payload: &[u8], identifier: PayloadProtocolIdentifier) {
        if self.client.stream(stream).is_err() {
            self.client.open_stream(stream, PayloadProtocolIdentifier::Binary).unwrap();
        }
        self.client.stream(stream).unwrap().write_with_ppi(self.now, payload, identifier).unwrap();
    }

    fn messages(&mut self) -> Vec<Message> {
        std::iter::from_fn(|| self.server.poll_message()).collect()
    }

    fn send(&mut self, stream: u16, reliability: Reliability, len: usize) -> Result<(), Drop> {
        let message = Message { stream: 0, kind: Kind::Binary, payload: Bytes::from(vec![7; len]) };
        self.server.send(stream, Delivery { ordered: true, reliability }, &message, self.now)
    }

    /// The tag that packets to us bear.
    fn tag(&self) -> u32 {
        let packet = self.sent.last().unwrap();
        u32::from_be_bytes(*packet[4..].first_chunk().unwrap())
    }

    /// The next sequence number that the client would use.
    fn next_tsn(&self) -> u32 {
        self.server.peer.as_ref().unwrap().init.1
    }

    fn forge(&mut self, chunks: &[Vec<u8>]) -> Result<(), Drop> {
        let packet = packet(self.tag(), chunks);
        self.server.receive(BytesMut::from(&packet[..]), self.now)
    }

    fn inbound(&self) -> usize {
        self.server.peer.as_ref().map_or(0, |peer| peer.inbound.held())
    }

    fn outbound(&self) -> usize {
        self.server.peer.as_ref().map_or(0, |peer| peer.outbound.held())
    }
}

fn packet(tag: u32, chunks: &[Vec<u8>]) -> Vec<u8> {
    let mut packet = vec![0x13, 0x88, 0x13, 0x88];
    packet.extend_from_slice(&tag.to_be_bytes());
    packet.extend_from_slice(&[0; 4]);
    packet.extend(chunks.concat());
    let checksum = crc32c::crc32c(&packet);
    packet[8..12].copy_from_slice(&checksum.to_le_bytes());
    packet
}

fn chunk(kind: u8, flags: u8, body: &[u8]) -> Vec<u8> {
    let mut chunk = vec![kind, flags];
    chunk.extend_from_slice(&(body.len() as u16 + 4).to_be_bytes());
    chunk.extend_from_slice(body);
    chunk.resize(chunk.len().next_multiple_of(4), 0);
    chunk
}

const FIRST: u8 = 2;
const LAST: u8 = 1;
const UNORDERED: u8 = 4;

fn data(flags: u8, tsn: u32, stream: u16, number: u16, payload: &[u8]) -> Vec<u8> {
    let mut body = tsn.to_be_bytes().to_vec();
    body.extend_from_slice(&stream.to_be_bytes());
    body.extend_from_slice(&number.to_be_bytes());
    body.extend_from_slice(&53u32.to_be_bytes());
    body.extend_from_slice(payload);
    chunk(0, flags, &body)
}

fn init_packet(tag: u32, tsn: u32) -> Vec<u8> {
    let mut body = tag.to_be_bytes().to_vec();
    body.extend_from_slice(&100_000u32.to_be_bytes());
    body.extend_from_slice(&[4, 0, 4, 0]);
    body.extend_from_slice(&tsn.to_be_bytes());
    packet(0, &[chunk(1, 0, &body)])
}

fn reset_request(number: u32, last_tsn: u32, stream: u16) -> Vec<u8> {
    let mut body = vec![0, 13, 0, 18];
    body.extend_from_slice(&number.to_be_bytes());
    body.extend_from_slice(&0u32.to_be_bytes());
    body.extend_from_slice(&last_tsn.to_be_bytes());
    body.extend_from_slice(&stream.to_be_bytes());
    chunk(130, 0, &body)
}

#[test]
fn messages_of_every_kind_and_size_arrive_whole() {
    let mut pair = Pair::new();
    let large: Vec<u8> = (0..MAX_MESSAGE).map(|i| (i % 251) as u8).collect();
    pair.say(3, b"hello", PayloadProtocolIdentifier::String);
    pair.say(3, &large, PayloadProtocolIdentifier::Binary);
    pair.say(3, &[0], PayloadProtocolIdentifier::StringEmpty);
    pair.say(3, &[0], PayloadProtocolIdentifier::BinaryEmpty);
    pair.run(Duration::from_secs(2));
    let messages = pair.messages();
    let kinds: Vec<_> = messages.iter().map(|m| (m.stream, m.kind, m.payload.len())).collect();
    let expected =
        [(3, Kind::Text, 5), (3, Kind::Binary, MAX_MESSAGE), (3, Kind::EmptyText, 1), (3, Kind::EmptyBinary, 1)];
    assert_eq!(kinds, expected);
    assert_eq!(messages[1].payload, large);
    drop(messages);

    let delivery = Delivery { ordered: true, reliability: Reliability::Reliable };
    for (kind, payload) in [(Kind::Binary, large.clone()), (Kind::EmptyText, vec![0])] {
        let message = Message { stream: 0, kind, payload: payload.into() };
        pair.server.send(9, delivery, &message, pair.now).unwrap();
    }
    pair.run(Duration::from_secs(2));
    assert_eq!(pair.received[0], (9, PayloadProtocolIdentifier::Binary, large));
    assert_eq!(pair.received[1], (9, PayloadProtocolIdentifier::StringEmpty, vec![0]));
    assert_eq!((pair.inbound(), pair.outbound()), (0, 0), "nothing is left behind");
    assert!(pair.sent.iter().any(|packet| packet.len() > 1000));
}

#[test]
fn a_message_above_the_limit_is_dropped_and_the_next_one_is_not() {
    let mut pair = Pair::new();
    pair.say(1, &vec![1; MAX_MESSAGE + 1], PayloadProtocolIdentifier::Binary);
    pair.say(1, b"after", PayloadProtocolIdentifier::String);
    pair.run(Duration::from_secs(3));
    assert_eq!(pair.server.take_dropped(), [Drop::DataTooLarge]);
    assert_eq!(pair.messages().iter().map(|m| m.payload.len()).collect::<Vec<_>>(), [5]);
    assert_eq!(pair.inbound(), 0);
}

#[test]
fn our_packets_fit_into_a_datagram_of_1200_bytes() {
    let mut pair = Pair::new();
    pair.send(0, Reliability::Reliable, MAX_MESSAGE).unwrap();
    pair.server.flush(pair.now);
    let lengths: Vec<_> = std::iter::from_fn(|| pair.server.poll_transmit()).map(|packet| packet.len()).collect();
    assert!(lengths.iter().all(|len| *len <= MTU as usize) && lengths.contains(&1160), "{lengths:?}");
}

#[test]
fn a_repeated_init_is_answered_as_the_first_and_another_takes_its_place() {
    let mut pair = Pair::opening();
    let init = transmits(&mut pair.client, pair.now).remove(0);
    let mut receive = |packet: &[u8]| {
        let result = pair.server.receive(BytesMut::from(packet), pair.now);
        result.map(|()| std::iter::from_fn(|| pair.server.poll_transmit()).collect::<Vec<_>>())
    };
    let first = receive(&init).unwrap();
    assert_eq!(receive(&init).unwrap(), first, "the answer was lost");
    let other = receive(&init_packet(99, 1)).unwrap();
    assert_ne!(other, first);
    // An INIT flood makes no more than one association.
    for tag in 100..10_000 {
        assert_eq!(receive(&init_packet(tag, 1)).unwrap().len(), 1);
    }
    let again = receive(&init).unwrap();
    pair.hand_over(again[0].clone());
    pair.run(Duration::from_millis(10));
    assert!(!pair.client.is_handshaking());
    // What comes late, or is forged, does not touch what is established.
    let receive = |pair: &mut Pair, packet: &[u8]| pair.server.receive(BytesMut::from(packet), pair.now);
    assert_eq!(receive(&mut pair, &init), Err(Drop::SctpUnexpected));
    assert_eq!(receive(&mut pair, &init_packet(7, 1)), Err(Drop::SctpUnexpected));
    pair.say(1, b"still", PayloadProtocolIdentifier::String);
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.messages().len(), 1);
}

#[test]
fn nothing_but_an_init_begins_an_association() {
    let mut server = Sctp::new();
    let mut receive = |packet: &[u8]| server.receive(BytesMut::from(packet), origin());
    assert_eq!(receive(&packet(1, &[data(FIRST | LAST, 1, 1, 0, b"x")])), Err(Drop::SctpUnexpected));
    assert_eq!(receive(&[]), Err(Drop::SctpUnexpected));
    let mut broken = init_packet(7, 1);
    broken[9] ^= 1;
    assert_eq!(receive(&broken), Err(Drop::MalformedSctp));
    let no_tag = init_packet(0, 1);
    assert_eq!(receive(&no_tag), Err(Drop::MalformedSctp));
    assert!(server.peer.is_none() && server.timeout().is_none());
}

#[test]
fn pieces_without_end_end_the_association_before_they_cost_much() {
    let mut pair = Pair::new();
    let first = pair.next_tsn();
    let mut highest = 0;
    for i in 0..100_000u32 {
        let flags = if i == 0 { FIRST } else { 0 };
        let result = pair.forge(&[data(flags, first.wrapping_add(i), 1, 0, &[1; 1100])]);
        highest = highest.max(pair.inbound());
        if result == Err(Drop::SctpOverflow) {
            break;
        }
        pair.server.flush(pair.now);
        while pair.server.poll_transmit().is_some() {}
    }
    assert!(pair.server.take_lost() && !pair.server.take_lost());
    assert!(pair.server.peer.is_none());
    assert!((RECEIVE_WINDOW as usize..=MAX_INBOUND).contains(&highest), "{highest}");
    let packets: Vec<_> = std::iter::from_fn(|| pair.server.poll_transmit()).collect();
    assert!(packets.iter().any(|packet| packet[12] == 6), "the peer is told by an ABORT");
    assert_eq!(pair.send(1, Reliability::Reliable, 1), Err(Drop::DataNotConnected));
}

#[test]
fn grains_that_wait_for_one_that_never_comes_are_bounded_too() {
    for (flags, number) in [(FIRST | LAST, 1u32), (FIRST | UNORDERED, 0)] {
        let mut pair = Pair::new();
        let first = pair.next_tsn();
        let (mut highest, mut i) = (0, 0u32);
        // Whole messages after a missing one, or beginnings of messages: one byte each, many to a packet.
        while pair.server.peer.is_some() && i < 2_000_000 {
            let chunk = |k: u32| data(flags, first.wrapping_add(i + k), 1, (number + i + k) as u16, b"x");
            let chunks: Vec<_> = (0..40).map(chunk).collect();
            let _ = pair.forge(&chunks);
            highest = highest.max(pair.inbound());
            i += 40;
            pair.server.flush(pair.now);
            while pair.server.poll_transmit().is_some() {}
        }
        assert!(pair.server.peer.is_none(), "{i} grains");
        assert!(highest <= MAX_INBOUND);
    }
}

#[test]
fn leaps_of_sequence_numbers_are_refused() {
    let mut pair = Pair::new();
    let next = pair.next_tsn();
    let forward = |tsn: u32| chunk(192, 0, &tsn.to_be_bytes());
    assert_eq!(pair.forge(&[forward(next.wrapping_add(0x7000_0000))]), Err(Drop::SctpRefused));
    assert_eq!(pair.forge(&[forward(next.wrapping_add(10_000))]), Err(Drop::SctpRefused));
    let far = next.wrapping_add(9000);
    assert_eq!(pair.forge(&[data(FIRST | LAST, far, 1, 0, b"x")]), Err(Drop::SctpRefused));
    assert_eq!(pair.inbound(), 0);
    // A sound one is followed.
    assert_eq!(pair.forge(&[forward(next.wrapping_add(99))]), Ok(()));
    assert_eq!(pair.forge(&[data(FIRST | LAST, next.wrapping_add(100), 1, 0, b"x")]), Ok(()));
    assert_eq!(pair.messages().len(), 1);
}

#[test]
fn empty_data_unknown_chunks_and_too_many_streams_are_taken_out() {
    let mut pair = Pair::new();
    let next = pair.next_tsn();
    assert_eq!(pair.forge(&[data(FIRST | LAST, next, 1, 0, b"")]), Err(Drop::SctpRefused));
    assert_eq!(pair.forge(&[data(FIRST | LAST, next, 1024, 0, b"x")]), Err(Drop::SctpRefused));
    for kind in [2, 5, 9, 11, 12, 13, 64, 129, 193, 255] {
        assert_eq!(pair.forge(&[chunk(kind, 0, &[0; 8])]), Err(Drop::SctpRefused), "{kind}");
    }
    // What is sound beside them counts.
    assert_eq!(
        pair.forge(&[chunk(9, 0, &[0; 8]), data(FIRST | LAST, next, 1, 0, b"x"), chunk(132, 0, &[0; 20])]),
        Ok(())
    );
    assert_eq!(pair.messages().len(), 1);
    for stream in 2..200u16 {
        let _ = pair.forge(&[data(FIRST | LAST, next.wrapping_add(stream.into()) - 1, stream, 0, b"x")]);
    }
    let open = pair.server.peer.as_ref().unwrap().association.stream_ids().len();
    assert_eq!(open, 64, "streams of nobody");
    assert_eq!(pair.messages().len(), 63);
}

#[test]
fn resets_of_streams_cannot_be_piled_up() {
    let mut pair = Pair::new();
    let next = pair.next_tsn();
    // Each waits for data that does not come.
    let results: Vec<_> =
        (0..100u32).map(|i| pair.forge(&[reset_request(next.wrapping_add(i), next.wrapping_add(50), 1)])).collect();
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 2, "{results:?}");
    assert_eq!(pair.forge(&[reset_request(next.wrapping_add(90), next, 1)]), Err(Drop::SctpRefused), "out of order");

    // Streams opened and reset again and again by a peer that answers nothing.
    let mut pair = Pair::new();
    let next = pair.next_tsn();
    let mut i = 0u32;
    while pair.server.peer.is_some() && i < 10_000 {
        let tsn = next.wrapping_add(i);
        let _ = pair.forge(&[data(FIRST | LAST, tsn, 1, 0, b"x")]);
        let _ = pair.forge(&[reset_request(tsn, tsn, 1)]);
        while pair.server.poll_transmit().is_some() {}
        i += 1;
    }
    assert!((2000..3000).contains(&i), "{i}");
}

#[test]
fn a_closed_channel_is_closed_on_both_sides_and_its_stream_can_be_used_again() {
    let mut pair = Pair::new();
    for round in 0..3u8 {
        pair.say(1, &[round], PayloadProtocolIdentifier::Binary);
        pair.run(Duration::from_millis(300));
        assert_eq!(pair.messages().len(), 1, "round {round}");
        let now = pair.now;
        pair.client.stream(1).unwrap().close(now).unwrap();
        pair.run(Duration::from_secs(3));
        assert!(pair.client.stream(1).is_err(), "our half was closed too");
        assert!(!pair.server.peer.as_ref().unwrap().association.stream_ids().contains(&1));
    }
    for _ in 0..3 {
        pair.send(5, Reliability::Reliable, 100).unwrap();
        pair.run(Duration::from_millis(300));
        let now = pair.now;
        pair.server.close_stream(5, now);
        pair.run(Duration::from_secs(3));
        assert!(pair.client.stream(5).is_err());
    }
    assert_eq!(pair.received.len(), 3);
}

#[test]
fn a_reset_is_asked_for_until_the_peer_is_done_with_it_and_never_two_at_once() {
    let mut pair = Pair::new();
    for stream in [5, 7] {
        pair.send(stream, Reliability::Reliable, 100).unwrap();
    }
    pair.run(Duration::from_millis(300));
    let asked = |pair: &mut Pair| -> Vec<(u32, u16)> {
        let packets = std::iter::from_fn(|| pair.server.poll_transmit());
        let requests = packets.filter(|packet| packet[12] == 130 && packet[16..18] == [0, 13]);
        let number = |packet: &Bytes| u32::from_be_bytes(*packet[20..].first_chunk().unwrap());
        requests.map(|packet| (number(&packet), u16::from_be_bytes(*packet[32..].first_chunk().unwrap()))).collect()
    };
    let wait = |pair: &mut Pair, duration| {
        pair.now += duration;
        pair.server.handle_timeout(pair.now);
    };
    let answer = |number: u32, result: u32| {
        let parameter = [&[0, 16, 0, 12][..], &number.to_be_bytes(), &result.to_be_bytes()].concat();
        vec![chunk(130, 0, &parameter)]
    };

    for stream in [5, 7] {
        let now = pair.now;
        pair.server.close_stream(stream, now);
    }
    let &[(first, 5)] = &asked(&mut pair)[..] else { panic!("the first alone") };
    // Lost: the same again, however often.
    for _ in 0..5 {
        wait(&mut pair, Duration::from_secs(1));
        assert_eq!(asked(&mut pair), [(first, 5)]);
    }
    // Not yet: another number, or Chromium would say so for ever.
    let _ = pair.forge(&answer(first, 6));
    assert_eq!(asked(&mut pair), []);
    wait(&mut pair, Duration::from_millis(200));
    assert_eq!(asked(&mut pair), [(first + 1, 5)]);
    assert_eq!(pair.forge(&answer(first + 7, 1)), Err(Drop::SctpRefused), "nobody asked");
    pair.forge(&answer(first + 1, 1)).unwrap();
    // Done: the second, and then nothing any more.
    assert_eq!(asked(&mut pair), [(first + 2, 7)]);
    pair.forge(&answer(first + 2, 1)).unwrap();
    for _ in 0..10 {
        wait(&mut pair, Duration::from_secs(1));
        assert_eq!(asked(&mut pair), []);
    }
    assert_eq!(pair.server.peer.as_ref().unwrap().guard.requests.len(), 0);
}

#[test]
fn a_channel_that_is_closed_behind_lost_messages_closes_when_they_have_come() {
    let mut pair = Pair::new();
    pair.send(5, Reliability::Reliable, 100).unwrap();
    pair.run(Duration::from_millis(300));
    pair.send(5, Reliability::Reliable, 3000).unwrap();
    pair.server.flush(pair.now);
    assert!(pair.server.poll_transmit().is_some(), "lost");
    let now = pair.now;
    pair.server.close_stream(5, now);
    pair.run(Duration::from_secs(5));
    assert_eq!(pair.received.iter().map(|(.., message)| message.len()).collect::<Vec<_>>(), [100, 3000]);
    assert!(pair.client.stream(5).is_err());
    assert_eq!(pair.server.peer.as_ref().unwrap().guard.requests.len(), 0);
}

#[test]
fn a_channel_that_is_opened_in_band_is_answered() {
    let mut pair = Pair::new();
    let mut open = vec![3, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0];
    open.extend_from_slice(b"chat");
    pair.say(0, &open, PayloadProtocolIdentifier::Dcep);
    pair.say(0, b"hello", PayloadProtocolIdentifier::String);
    pair.say(2, b"junk", PayloadProtocolIdentifier::Dcep);
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.received, [(0, PayloadProtocolIdentifier::Dcep, vec![2])]);
    assert_eq!(pair.messages().len(), 1);

    // By a peer that acknowledges nothing, without end.
    let mut pair = Pair::new();
    pair.is_deaf = true;
    for _ in 0..50_000 {
        pair.say(0, &open, PayloadProtocolIdentifier::Dcep);
        let packets = transmits(&mut pair.client, pair.now);
        for packet in packets {
            let _ = pair.server.receive(BytesMut::from(&packet[..]), pair.now);
        }
    }
    assert!(pair.outbound() <= MAX_OUTBOUND);
}

#[test]
fn a_client_that_does_not_listen_fills_its_bounds_and_no_more() {
    let mut pair = Pair::new();
    pair.is_deaf = true;
    let mut sent = 0;
    while pair.send(1, Reliability::Reliable, 50_000).is_ok() {
        sent += 1;
        pair.server.flush(pair.now);
    }
    assert_eq!(sent, MAX_QUEUED / 50_000);
    assert_eq!(pair.send(1, Reliability::Retransmits(0), 50_000), Err(Drop::DataQueueFull));
    assert_eq!(pair.send(2, Reliability::Reliable, 50_000), Ok(()), "another stream");
    // Streams that are closed with something in them and opened anew do not help.
    for stream in 2..500 {
        while pair.send(stream, Reliability::Reliable, 50_000).is_ok() {}
        let now = pair.now;
        pair.server.close_stream(stream, now);
    }
    let held = pair.outbound();
    assert!((MAX_OUTBOUND - 100_000..=MAX_OUTBOUND).contains(&held), "{held}");
    // Small ones count by what they cost, not by their length.
    assert_eq!(pair.send(600, Reliability::Reliable, 100_000), Err(Drop::DataQueueFull));
    pair.is_deaf = false;
    pair.run(Duration::from_secs(100));
    assert_eq!(pair.outbound(), 0, "it listens again");
    assert_eq!(pair.send(600, Reliability::Reliable, 100_000), Ok(()));
}

#[test]
fn what_is_limited_is_given_up() {
    for reliability in [Reliability::Retransmits(1), Reliability::Lifetime(500)] {
        let mut pair = Pair::new();
        pair.send(1, reliability, 1).unwrap();
        pair.run(Duration::from_secs(1));
        pair.is_deaf = true;
        for _ in 0..10 {
            pair.send(1, reliability, 3000).unwrap();
        }
        pair.run(Duration::from_secs(20));
        pair.is_deaf = false;
        pair.run(Duration::from_secs(60));
        let given_up = 11 - pair.received.len();
        assert!(given_up > 0, "{reliability:?}");
        pair.send(1, reliability, 10).unwrap();
        pair.run(Duration::from_secs(5));
        assert_eq!(pair.received.last().map(|(_, _, message)| message.len()), Some(10), "{reliability:?}");
        assert_eq!(pair.outbound(), 0);
    }
}

#[test]
fn a_channel_whose_first_messages_were_all_given_up_goes_on() {
    let mut pair = Pair::new();
    pair.server.bind(1, false);
    pair.client.open_stream(1, PayloadProtocolIdentifier::Binary).unwrap();
    let now = pair.now;
    let mut stream = pair.client.stream(1).unwrap();
    stream.set_reliability_params(false, ReliabilityType::Rexmit, 0).unwrap();
    stream.write_with_ppi(now, b"lost", PayloadProtocolIdentifier::Binary).unwrap();
    assert!(!transmits(&mut pair.client, now).is_empty(), "and they are lost");
    pair.run(Duration::from_secs(10));
    pair.say(1, b"next", PayloadProtocolIdentifier::String);
    pair.run(Duration::from_secs(5));
    assert_eq!(pair.messages().iter().map(|message| message.kind).collect::<Vec<_>>(), [Kind::Text]);
}

#[test]
fn the_end_of_an_association_is_told_once_and_it_may_begin_anew() {
    let mut pair = Pair::new();
    pair.client.abort().unwrap();
    pair.run(Duration::from_millis(10));
    assert!(pair.server.take_lost());
    let (sent, server) = (std::mem::take(&mut pair.sent), pair.server);
    let mut again = Pair { server, ..Pair::opening() };
    again.run(Duration::from_millis(10));
    again.say(1, b"anew", PayloadProtocolIdentifier::String);
    again.run(Duration::from_secs(1));
    assert_eq!(again.messages().len(), 1);
    // Packets of the former are nothing to the latter.
    for packet in sent.iter().skip(1) {
        assert!(again.server.receive(BytesMut::from(&packet[..]), again.now).is_err());
    }

    let mut pair = Pair::new();
    pair.client.shutdown().unwrap();
    pair.run(Duration::from_secs(1));
    assert!(pair.server.take_lost());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn forged_packets_never_panic_nor_grow(
        packets in prop::collection::vec(
            prop::collection::vec(
                (
                    prop_oneof![0u8..15, 128..=132u8, Just(192u8), any::<u8>()],
                    any::<u8>(),
                    prop::collection::vec(prop_oneof![Just(0u8), 0u8..20, any::<u8>()], 0..60),
                    prop::option::of(0u32..20_000),
                ),
                1..8,
            ),
            1..40,
        ),
        cut in prop::option::of(0usize..60),
    ) {
        let mut pair = Pair::new();
        let next = pair.next_tsn();
        for chunks in packets {
            let mut bytes = Vec::new();
            for (kind, flags, mut body, tsn) in chunks {
                if let (Some(tsn), Some(at)) = (tsn, body.first_chunk_mut::<4>()) {
                    *at = next.wrapping_add(tsn).to_be_bytes();
                }
                bytes.push(chunk(kind, flags, &body));
            }
            let mut forged = packet(pair.tag(), &bytes);
            if let Some(cut) = cut {
                forged.truncate(forged.len().saturating_sub(cut).max(12));
                forged[8..12].fill(0);
                let checksum = crc32c::crc32c(&forged);
                forged[8..12].copy_from_slice(&checksum.to_le_bytes());
            }
            let _ = pair.server.receive(BytesMut::from(&forged[..]), pair.now);
            pair.now += Duration::from_millis(100);
            pair.server.handle_timeout(pair.now);
            while pair.server.poll_transmit().is_some() {}
        }
        prop_assert!(pair.inbound() <= MAX_INBOUND && pair.server.held() <= MAX_HELD);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(prop_oneof![Just(0u8), 0u8..20, any::<u8>()], 0..100)) {
        let mut server = Sctp::new();
        let _ = server.receive(BytesMut::from(&bytes[..]), origin());
        let mut init = init_packet(1, 1);
        init.extend_from_slice(&bytes);
        init.resize(init.len().next_multiple_of(4), 0);
        let length = (init.len() as u16 - 12).to_be_bytes();
        init[14..16].copy_from_slice(&length);
        init[8..12].fill(0);
        let checksum = crc32c::crc32c(&init);
        init[8..12].copy_from_slice(&checksum.to_le_bytes());
        let _ = server.receive(BytesMut::from(&init[..]), origin());
    }
}
