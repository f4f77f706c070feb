//! Data channels between clients.

use std::collections::BTreeSet;

use super::*;
use crate::core::data_limits::MAX_MESSAGE;
use rtc::sctp::PayloadProtocolIdentifier;

const ORDERED: Delivery = Delivery { ordered: true, reliability: Reliability::Reliable };
const UNORDERED: Delivery = Delivery { ordered: false, reliability: Reliability::Reliable };

fn transport(client: usize) -> TransportId {
    TransportId(client as u64 + 1)
}

/// Clients with SCTP, connected.
fn crowd(world: &mut World, count: usize) {
    for client in 0..count {
        world.join(ClientOptions::default());
        world.handle(Command::EnableSctp { transport: transport(client) });
    }
    world.run_until_connected();
    for client in &mut world.clients {
        client.open_data(world.now);
    }
    world.run_until(Duration::from_secs(30), |world| world.clients.iter().all(|c| c.data().connected));
}

fn produce(world: &mut World, client: usize, stream: u16, delivery: Delivery) -> DataProducerId {
    let data_producer = DataProducerId(client as u64 * 1000 + u64::from(stream));
    let ordered = delivery.ordered;
    world.handle(Command::ProduceData { data_producer, transport: transport(client), stream, ordered });
    data_producer
}

fn consume(
    world: &mut World,
    client: usize,
    data_producer: DataProducerId,
    stream: u16,
    delivery: Delivery,
) -> DataConsumerId {
    let data_consumer = DataConsumerId(client as u64 * 1000 + u64::from(stream));
    let transport = transport(client);
    world.handle(Command::ConsumeData { data_consumer, transport, data_producer, stream, delivery });
    data_consumer
}

fn say(world: &mut World, client: usize, stream: u16, delivery: Delivery, text: &str) {
    let now = world.now;
    world.clients[client].data_mut().send(stream, delivery, text, now);
    world.clients[client].tick(now);
    world.pump();
}

fn texts(world: &World, client: usize, stream: u16) -> Vec<String> {
    world.clients[client].data().texts(stream)
}

#[test]
fn every_message_arrives_once_and_in_order_on_an_ordered_channel_whatever_the_network_does() {
    for seed in 1..=4 {
        let mut world = World::new(seed);
        crowd(&mut world, 3);
        let ordered = produce(&mut world, 0, 4, ORDERED);
        let unordered = produce(&mut world, 0, 5, UNORDERED);
        for client in [1, 2] {
            consume(&mut world, client, ordered, 10, ORDERED);
            consume(&mut world, client, unordered, 11, UNORDERED);
        }
        world.network.loss = 0.05;
        world.network.duplicate = 0.05;
        world.network.jitter = Duration::from_millis(30);
        let mut sent = Vec::new();
        for i in 0..150 {
            // Every tenth is in several packets.
            let text = format!("{i} {}", "x".repeat(if i % 10 == 0 { 5000 } else { i }));
            say(&mut world, 0, 4, ORDERED, &text);
            say(&mut world, 0, 5, UNORDERED, &text);
            sent.push(text);
            world.run_for(Duration::from_millis(10));
        }
        world.run_until(Duration::from_secs(120), |world| {
            [1, 2].iter().all(|client| texts(world, *client, 10).len() + texts(world, *client, 11).len() >= 300)
        });
        world.run_for(Duration::from_secs(5));
        let all: BTreeSet<_> = sent.iter().cloned().collect();
        for client in [1, 2] {
            assert_eq!(texts(&world, client, 10), sent, "seed {seed}");
            let unordered = texts(&world, client, 11);
            assert_eq!((unordered.len(), unordered.into_iter().collect::<BTreeSet<_>>()), (150, all.clone()));
        }
        assert!(world.network.lost > 20);
        assert_eq!(world.stats().counter(Counter::DataMessagesOut), 600);
    }
}

#[test]
fn the_largest_message_of_either_kind_arrives_and_an_empty_one_stays_empty() {
    let mut world = World::new(5);
    crowd(&mut world, 2);
    let producer = produce(&mut world, 0, 0, ORDERED);
    consume(&mut world, 1, producer, 0, ORDERED);
    let payload: Vec<u8> = (0..MAX_MESSAGE).map(|i| (i % 253) as u8).collect();
    let now = world.now;
    let data = world.clients[0].data_mut();
    for identifier in [PayloadProtocolIdentifier::Binary, PayloadProtocolIdentifier::String] {
        data.send_as(0, ORDERED, &payload, identifier, now);
    }
    for identifier in [PayloadProtocolIdentifier::BinaryEmpty, PayloadProtocolIdentifier::StringEmpty] {
        data.send_as(0, ORDERED, &[0], identifier, now);
    }
    world.run_until(Duration::from_secs(20), |world| world.clients[1].data().received.len() == 4);
    let received = &world.clients[1].data().received;
    let kinds: Vec<_> = received.iter().map(|message| (message.identifier, message.payload.len())).collect();
    let expected = [
        (PayloadProtocolIdentifier::Binary, MAX_MESSAGE),
        (PayloadProtocolIdentifier::String, MAX_MESSAGE),
        (PayloadProtocolIdentifier::BinaryEmpty, 1),
        (PayloadProtocolIdentifier::StringEmpty, 1),
    ];
    assert_eq!(kinds, expected);
    assert_eq!(received[0].payload, payload);
    // A message in two hundred packets does not cost two hundred system calls.
    let (transmits, packets) = (world.stats().counter(Counter::Transmits), world.stats().counter(Counter::PacketsOut));
    assert!(transmits * 2 < packets, "{transmits} for {packets}");
}

#[test]
fn what_may_be_lost_is_lost_and_holds_up_nothing() {
    let mut world = World::new(6);
    crowd(&mut world, 2);
    let delivery = Delivery { ordered: false, reliability: Reliability::Retransmits(0) };
    let producer = produce(&mut world, 0, 0, delivery);
    consume(&mut world, 1, producer, 0, delivery);
    world.network.loss = 0.1;
    for i in 0..400 {
        // In pieces: what is left of a message whose other half was given up must go, too.
        say(&mut world, 0, 0, delivery, &format!("{i} {}", "y".repeat(1500)));
        world.run_for(Duration::from_millis(5));
    }
    world.network.loss = 0.0;
    world.run_for(Duration::from_secs(10));
    let lossy = texts(&world, 1, 0).len();
    assert!((150..400).contains(&lossy), "{lossy}");
    say(&mut world, 0, 0, delivery, "last");
    let took = world.run_until(Duration::from_secs(5), |world| texts(world, 1, 0).contains(&"last".to_owned()));
    assert!(took < Duration::from_millis(200), "{took:?}");
    assert_eq!(world.stats().counter(Counter::SctpLost), 0);
}

#[test]
fn a_subscriber_that_does_not_listen_costs_a_bounded_queue_and_others_nothing() {
    let mut world = World::new(7);
    crowd(&mut world, 3);
    let limited = Delivery { ordered: true, reliability: Reliability::Retransmits(3) };
    let reliable = produce(&mut world, 0, 0, ORDERED);
    let unreliable = produce(&mut world, 0, 1, ORDERED);
    let deaf = consume(&mut world, 1, reliable, 0, ORDERED);
    consume(&mut world, 1, unreliable, 1, limited);
    consume(&mut world, 2, reliable, 0, ORDERED);
    consume(&mut world, 2, unreliable, 1, limited);
    let away = world.clients[1].addr;
    world.network.filter = Some(Box::new(move |datagram| {
        // Checks get through, so consent lasts; nothing else does.
        datagram.client != away || datagram.bytes[0] < 4
    }));
    let text = "z".repeat(20_000);
    for _ in 0..100 {
        say(&mut world, 0, 0, ORDERED, &text);
        say(&mut world, 0, 1, ORDERED, &text);
        world.run_for(Duration::from_millis(100));
    }
    world.run_for(Duration::from_secs(2));
    assert_eq!(texts(&world, 2, 0).len(), 100);
    assert_eq!(texts(&world, 2, 1).len(), 100);
    let overflown = Event::DataConsumerOverflow { transport: transport(1), data_consumer: deaf };
    assert_eq!(world.events.iter().filter(|event| **event == overflown).count(), 1, "told once");
    assert_eq!(world.stats().gauge(Gauge::DataConsumers), 3, "the limited one goes on");
    let dropped = world.stats().dropped(Drop::DataQueueFull);
    assert!((40..=60).contains(&dropped), "{dropped}");
    // It comes back: what was limited reaches it again, what was reliable has ended.
    world.network.filter = None;
    world.run_for(Duration::from_secs(70));
    let before = texts(&world, 1, 1).len();
    say(&mut world, 0, 1, ORDERED, "again");
    world.run_for(Duration::from_secs(2));
    assert!(texts(&world, 1, 1).len() > before);
    assert!(world.clients[1].data().closed.contains(&0), "the ended channel is closed at the client, too");
}

#[test]
fn channels_end_with_those_who_have_them() {
    let mut world = World::new(8);
    crowd(&mut world, 3);
    let producer = produce(&mut world, 0, 0, ORDERED);
    let first = consume(&mut world, 1, producer, 0, ORDERED);
    consume(&mut world, 2, producer, 0, ORDERED);
    say(&mut world, 0, 0, ORDERED, "one");
    world.run_for(Duration::from_secs(1));
    world.handle(Command::CloseDataConsumer { data_consumer: first });
    say(&mut world, 0, 0, ORDERED, "two");
    world.run_for(Duration::from_secs(1));
    assert_eq!(texts(&world, 1, 0), ["one"]);
    assert!(world.clients[1].data().closed.contains(&0));
    assert_eq!(texts(&world, 2, 0), ["one", "two"]);
    world.handle(Command::CloseDataProducer { data_producer: producer });
    say(&mut world, 0, 0, ORDERED, "three");
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.stats().dropped(Drop::DataUnknownStream), 1);
    assert!(world.clients[2].data().closed.contains(&0));
    assert_eq!(world.stats().gauge(Gauge::DataConsumers) + world.stats().gauge(Gauge::DataProducers), 0);
    // The same stream again.
    let producer = produce(&mut world, 0, 0, ORDERED);
    consume(&mut world, 2, producer, 1, ORDERED);
    say(&mut world, 0, 0, ORDERED, "four");
    world.run_for(Duration::from_secs(1));
    assert_eq!(texts(&world, 2, 1), ["four"]);
    for client in 0..3 {
        world.handle(Command::CloseTransport { transport: transport(client) });
    }
    assert_eq!(world.stats().gauge(Gauge::DataConsumers) + world.stats().gauge(Gauge::DataProducers), 0);
    world.run_for(Duration::from_millis(10));
    assert_eq!(world.core.poll_timeout(), None);
}

#[test]
fn orders_that_make_no_sense_are_refused() {
    let mut world = World::new(9);
    crowd(&mut world, 2);
    world.join(ClientOptions::default());
    let refused = |world: &mut World, command: Command| {
        let before = world.stats().counter(Counter::CommandsRefused);
        world.handle(command);
        world.stats().counter(Counter::CommandsRefused) - before
    };
    let data_producer = produce(&mut world, 0, 0, ORDERED);
    let produce = |id, client, stream| Command::ProduceData {
        data_producer: DataProducerId(id),
        transport: transport(client),
        stream,
        ordered: true,
    };
    assert_eq!(refused(&mut world, produce(77, 0, 0)), 1, "the stream is taken");
    assert_eq!(refused(&mut world, produce(data_producer.0, 0, 1)), 1, "the id is taken");
    assert_eq!(refused(&mut world, produce(77, 0, 1024)), 1, "no such stream");
    assert_eq!(refused(&mut world, produce(77, 2, 0)), 1, "without SCTP");
    let consume = |client, stream| Command::ConsumeData {
        data_consumer: DataConsumerId(u64::from(stream) + 10 * client as u64),
        transport: transport(client),
        data_producer,
        stream,
        delivery: ORDERED,
    };
    assert_eq!(refused(&mut world, consume(2, 0)), 1, "without SCTP");
    assert_eq!(refused(&mut world, consume(1, 0)), 0);
    assert_eq!(refused(&mut world, consume(1, 0)), 1, "the stream is taken");
    assert_eq!(refused(&mut world, Command::EnableSctp { transport: transport(9) }), 1);
}

#[test]
fn data_for_a_transport_without_it_is_dropped_by_name() {
    let mut world = World::new(10);
    let client = world.join(ClientOptions::default());
    world.run_until_connected();
    world.clients[client].open_data(world.now);
    world.run_for(Duration::from_secs(5));
    assert!(world.stats().dropped(Drop::DtlsData) > 1);
    assert!(!world.clients[client].data().connected);
    assert_eq!(world.state(client), Some(TransportState::Connected));
}

#[test]
fn an_association_that_ends_is_told_and_the_call_goes_on() {
    let mut world = World::new(11);
    let (audio, _) = call(&mut world);
    world.handle(Command::EnableSctp { transport: transport(0) });
    world.clients[0].open_data(world.now);
    world.run_until(Duration::from_secs(5), |world| world.clients[0].data().connected);
    world.clients[0].data_mut().abort();
    world.run_for(Duration::from_secs(1));
    let closed = Event::SctpClosed { transport: transport(0) };
    assert_eq!(world.events.iter().filter(|event| **event == closed).count(), 1);
    let before = world.clients[1].receiver.count(audio);
    world.run_for(Duration::from_secs(1));
    assert!(world.clients[1].receiver.count(audio) > before + 45);
    world.clients[0].open_data(world.now);
    world.run_until(Duration::from_secs(5), |world| world.clients[0].data().connected);
}
