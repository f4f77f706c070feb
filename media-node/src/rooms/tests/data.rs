//! Data channels in rooms.

use super::*;
use crate::{
    core::command::{DataConsumerId, Delivery, Reliability},
    ortc::{NumSctpStreams, SctpStreamParameters},
};

impl World {
    fn data_transport(&mut self, user: &str, direction: Direction, streams: u16) -> (String, TransportId) {
        let (id, media) = self.transport(user, direction);
        let wanted = NumSctpStreams { os: streams, mis: streams };
        self.turn(|turn| turn.enable_sctp(&access(user), &id, wanted)).unwrap();
        assert!(matches!(self.commands()[..], [Command::EnableSctp { transport }] if transport == media));
        (id, media)
    }

    fn publish_data(&mut self, user: &str, transport: &str, stream: u16) -> Result<String, Refusal> {
        let parameters = SctpStreamParameters { stream_id: stream, max_retransmits: Some(2), ..Default::default() };
        let published =
            PublishedData { parameters, label: "chat".into(), protocol: "p".into(), app_data: json!({"tag": 1}) };
        self.turn(|turn| turn.produce_data(&access(user), transport, published))
    }

    fn subscribe_data(&mut self, user: &str, transport: &str, producer: &str) -> Result<DataConsumerView, Refusal> {
        let wanted = ConsumedData {
            transport: transport.into(),
            producer: producer.into(),
            ordered: None,
            max_packet_life_time: None,
            max_retransmits: None,
        };
        self.turn(|turn| turn.consume_data(&access(user), &wanted))
    }

    /// What the core was told to consume in the last step.
    fn consumed(&self) -> (DataConsumerId, u16, Delivery) {
        match self.commands()[..] {
            [Command::ConsumeData { data_consumer, stream, delivery, .. }] => (data_consumer, stream, delivery),
            _ => panic!("{:?}", self.effects),
        }
    }
}

#[test]
fn a_data_channel_reaches_those_who_subscribe_and_its_end_too() {
    let mut world = World::new();
    let (ann, bob) = (world.socket("ann"), world.socket("bob"));
    let (send, _) = world.data_transport("ann", Direction::Send, 16);
    let (recv, _) = world.data_transport("bob", Direction::Recv, 16);
    let producer = world.publish_data("ann", &send, 7).unwrap();
    assert!(world.told(ann).is_empty());
    let [RoomEvent::NewDataProducer(view)] = &world.told(bob)[..] else { panic!("{:?}", world.effects) };
    assert_eq!((view.label.as_str(), view.protocol.as_str(), view.sctp_stream_parameters.stream_id), ("chat", "p", 7));
    assert!(matches!(world.commands()[..], [Command::ProduceData { stream: 7, ordered: false, .. }]));
    assert_eq!(world.registry.describe(&key()).unwrap().data_producers[0].id, producer);

    let first = world.subscribe_data("bob", &recv, &producer).unwrap();
    let limited = Delivery { ordered: false, reliability: Reliability::Retransmits(2) };
    assert_eq!((world.consumed().1, world.consumed().2), (0, limited), "as its publisher sends it");
    assert_eq!((first.participant_id.as_str(), first.app_data["tag"].as_i64()), ("ann", Some(1)));
    let wanted = ConsumedData {
        transport: recv.clone(),
        producer: producer.clone(),
        ordered: Some(true),
        max_packet_life_time: Some(100),
        max_retransmits: None,
    };
    world.turn(|turn| turn.consume_data(&access("bob"), &wanted)).unwrap();
    let other = Delivery { ordered: true, reliability: Reliability::Lifetime(100) };
    assert_eq!((world.consumed().1, world.consumed().2), (1, other), "as the subscriber wants it");
    world.turn(|turn| turn.close_data_consumer(&access("bob"), &first.id)).unwrap();
    assert_eq!(world.subscribe_data("bob", &recv, &producer).unwrap().sctp_stream_parameters.stream_id, 2);

    world.turn(|turn| turn.close_data_producer(&access("ann"), &producer)).unwrap();
    let told = world.told(bob);
    let ended =
        |event: &&RoomEvent| matches!(event, RoomEvent::DataConsumerClosed { reason: DataConsumerEnd::Producer, .. });
    assert_eq!(told.iter().filter(ended).count(), 2);
    let closed =
        RoomEvent::DataProducerClosed { data_producer_id: producer, participant_id: "ann".into(), closed_by: None };
    assert_eq!(told.last(), Some(&closed));
    assert!(world.registry.describe(&key()).unwrap().data_producers.is_empty());
}

#[test]
fn streams_are_given_out_in_turn_and_no_more_than_there_are() {
    let mut world = World::new();
    let (send, _) = world.data_transport("ann", Direction::Send, 4);
    let (recv, _) = world.data_transport("bob", Direction::Recv, 3);
    let producer = world.publish_data("ann", &send, 0).unwrap();
    let taken: Vec<_> = (0..3).map(|_| world.subscribe_data("bob", &recv, &producer).unwrap()).collect();
    assert_eq!(taken.iter().map(|view| view.sctp_stream_parameters.stream_id).collect::<Vec<_>>(), [0, 1, 2]);
    let more = world.subscribe_data("bob", &recv, &producer).unwrap_err();
    assert_eq!(more, Refusal::TooMany { what: "data consumers of one transport", max: 3 });
    world.turn(|turn| turn.close_data_consumer(&access("bob"), &taken[1].id)).unwrap();
    assert_eq!(world.subscribe_data("bob", &recv, &producer).unwrap().sctp_stream_parameters.stream_id, 1);

    assert!(matches!(world.publish_data("ann", &send, 0), Err(Refusal::Parameters(_))), "taken");
    assert!(matches!(world.publish_data("ann", &send, 4), Err(Refusal::Parameters(_))), "no such stream");
    let (wide, _) = world.data_transport("ann", Direction::Send, 1024);
    for stream in 1..64 {
        world.publish_data("ann", &wide, stream).unwrap();
    }
    let more = world.publish_data("ann", &wide, 64).unwrap_err();
    assert_eq!(more, Refusal::TooMany { what: "data producers of one participant", max: 64 });
}

#[test]
fn data_needs_the_grant_the_direction_and_sctp_and_belongs_to_its_owner() {
    let mut world = World::new();
    let (send, _) = world.data_transport("ann", Direction::Send, 16);
    let (recv, _) = world.data_transport("bob", Direction::Recv, 16);
    let (plain, _) = world.transport("ann", Direction::Send);
    assert!(matches!(world.publish_data("ann", &plain, 0), Err(Refusal::Conflict(_))));
    assert!(matches!(world.publish_data("bob", &recv, 0), Err(Refusal::Conflict(_))));
    assert_eq!(world.publish_data("bob", &send, 0), Err(Refusal::NotFound("transport")));
    let producer = world.publish_data("ann", &send, 0).unwrap();
    let (plain, _) = world.transport("bob", Direction::Recv);
    assert!(matches!(world.subscribe_data("bob", &plain, &producer), Err(Refusal::Conflict(_))));
    assert!(matches!(world.subscribe_data("ann", &send, &producer), Err(Refusal::Conflict(_))));
    assert_eq!(world.subscribe_data("bob", &recv, "none").unwrap_err(), Refusal::NotFound("data producer"));

    let of = |publish, subscribe| Access { grants: Grants { publish, subscribe }, ..access("ann") };
    let published = PublishedData {
        parameters: SctpStreamParameters::default(),
        label: String::new(),
        protocol: String::new(),
        app_data: json!({}),
    };
    let mute = world.turn(|turn| turn.produce_data(&of(false, true), &send, published.clone()));
    assert_eq!(mute, Err(Refusal::Forbidden("publish")));
    let label = PublishedData { label: "x".repeat(257), ..published };
    assert!(matches!(world.turn(|turn| turn.produce_data(&access("ann"), &send, label)), Err(Refusal::Parameters(_))));
    let wanted = ConsumedData {
        transport: recv.clone(),
        producer: producer.clone(),
        ordered: None,
        max_packet_life_time: None,
        max_retransmits: None,
    };
    let deaf = world.turn(|turn| turn.consume_data(&of(true, false), &wanted));
    assert_eq!(deaf.unwrap_err(), Refusal::Forbidden("subscribe"));

    let consumer = world.subscribe_data("bob", &recv, &producer).unwrap().id;
    let not_yours = world.turn(|turn| turn.close_data_consumer(&access("ann"), &consumer));
    assert_eq!(not_yours, Err(Refusal::NotFound("data consumer")));
    let not_yours = world.turn(|turn| turn.close_data_producer(&access("bob"), &producer));
    assert_eq!(not_yours, Err(Refusal::Forbidden("end data channels of others")));
    let host = Access { role: Role::Host, ..access("bob") };
    assert_eq!(world.turn(|turn| turn.close_data_producer(&host, &producer)), Ok(()));
}

#[test]
fn what_the_core_ends_is_told_to_whom_it_concerns() {
    let mut world = World::new();
    let (ann, bob) = (world.socket("ann"), world.socket("bob"));
    let (send, sender) = world.data_transport("ann", Direction::Send, 16);
    let (recv, receiver) = world.data_transport("bob", Direction::Recv, 16);
    let producer = world.publish_data("ann", &send, 0).unwrap();
    let view = world.subscribe_data("bob", &recv, &producer).unwrap();
    let (data_consumer, ..) = world.consumed();
    let overflow = Event::DataConsumerOverflow { transport: receiver, data_consumer };
    world.turn(|turn| turn.media_event(&overflow));
    let ended = |id: &str, reason| RoomEvent::DataConsumerClosed {
        data_consumer_id: id.into(),
        data_producer_id: producer.clone(),
        reason,
    };
    assert_eq!(world.told(bob), [ended(&view.id, DataConsumerEnd::Overflow)]);
    assert!(world.commands().is_empty() && world.told(ann).is_empty());
    world.turn(|turn| turn.media_event(&overflow));
    assert!(world.effects.is_empty(), "it is known");

    let view = world.subscribe_data("bob", &recv, &producer).unwrap();
    world.turn(|turn| turn.media_event(&Event::SctpClosed { transport: receiver }));
    assert_eq!(world.told(bob), [ended(&view.id, DataConsumerEnd::Sctp)]);
    assert!(matches!(world.commands()[..], [Command::CloseDataConsumer { .. }]));

    let view = world.subscribe_data("bob", &recv, &producer).unwrap();
    world.turn(|turn| turn.media_event(&Event::SctpClosed { transport: sender }));
    let closed = RoomEvent::DataProducerClosed {
        data_producer_id: producer.clone(),
        participant_id: "ann".into(),
        closed_by: None,
    };
    assert_eq!(world.told(bob), [ended(&view.id, DataConsumerEnd::Producer), closed]);

    // The end of a transport is the end of what it carried.
    let producer = world.publish_data("ann", &send, 0).unwrap();
    world.subscribe_data("bob", &recv, &producer).unwrap();
    world.turn(|turn| turn.end_transport(&access("bob"), &recv)).unwrap();
    world.turn(|turn| turn.leave(&access("ann"), "ann")).unwrap();
    assert!(world.told(bob).iter().any(|event| matches!(event, RoomEvent::DataProducerClosed { .. })));
    assert!(!world.told(bob).iter().any(|event| matches!(event, RoomEvent::DataConsumerClosed { .. })));
}
