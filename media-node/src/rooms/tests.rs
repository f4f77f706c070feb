//! Rooms in virtual time: what happens to participants, what they are told, what the media loops are told.

mod data;
mod opening;

use std::time::{Duration, Instant};

use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng};
use serde_json::json;

use super::event::PauseReason;
use super::{Reason, RoomEvent, *};
use crate::{
    core::command::{Command, Event, Fingerprint, TransportId, TransportState},
    ortc::{DtlsFingerprint, DtlsParameters, DtlsRoleName, Kind, router_capabilities},
    system,
};

const GRACE: Duration = Duration::from_secs(30);

/// A registry whose time the test moves, and what came of each step.
struct World {
    registry: Registry,
    now: Instant,
    effects: Vec<Effect>,
}

fn key() -> RoomKey {
    RoomKey::new("default", "demo")
}

fn access(user: &str) -> Access {
    Access {
        room: key(),
        room_uid: Some("uid".into()),
        issued_at: 0,
        epoch: 3,
        user: user.into(),
        name: None,
        role: Role::Participant,
        grants: Grants { publish: true, subscribe: true },
    }
}

fn settings() -> Settings {
    Settings {
        ice_tcp: false,
        standalone: false,
        grace: GRACE,
        candidates: vec![vec!["192.0.2.1:40000".parse().unwrap()]],
        fingerprint: Fingerprint { algorithm: "sha-256".into(), digest: vec![7; 32] },
    }
}

impl World {
    fn empty() -> Self {
        let registry = Registry::new(settings(), StdRng::seed_from_u64(1));
        Self { registry, now: system::now(), effects: Vec::new() }
    }

    /// Serving `default/demo` at epoch 3 for three.
    fn new() -> Self {
        let mut world = Self::empty();
        world.serve("uid", 3);
        world
    }

    fn serve(&mut self, uid: &str, epoch: i64) {
        let assignment =
            Assignment { key: key(), uid: uid.into(), epoch, max_participants: 3, rules: MediaRules::default() };
        self.turn(|turn| turn.serve(assignment));
    }

    fn turn<T>(&mut self, operation: impl FnOnce(&mut Turn<'_>) -> T) -> T {
        self.effects.clear();
        operation(&mut Turn {
            registry: &mut self.registry,
            now: self.now,
            timestamp: jiff::Timestamp::UNIX_EPOCH,
            next_worker: &|| 0,
            effects: &mut self.effects,
        })
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.turn(|turn| turn.tick());
    }

    fn users(&self) -> Vec<String> {
        let view = self.registry.describe(&key()).unwrap();
        view.participants.into_iter().map(|participant| participant.id).collect()
    }

    /// A transport of a user, with the core's id of it.
    fn transport(&mut self, user: &str, direction: Direction) -> (String, TransportId) {
        let id = self.turn(|turn| turn.create_transport(&access(user), direction)).unwrap().id;
        let created = self.commands().into_iter().find_map(|command| match command {
            Command::CreateTransport { transport, .. } => Some(transport),
            _ => None,
        });
        (id, created.unwrap())
    }

    fn state(&mut self, transport: TransportId, state: TransportState) {
        let event = Event::TransportState { transport, state, remote: None };
        self.turn(|turn| turn.media_event(&event));
    }

    fn publish(&mut self, user: &str, transport: &str, ssrc: u32) -> Result<String, Refusal> {
        let parameters = serde_json::from_value(json!({
            "codecs": [{"mimeType": "audio/opus", "payloadType": 111, "clockRate": 48000, "channels": 2}],
            "encodings": [{"ssrc": ssrc}],
        }));
        let parameters = parameters.unwrap();
        self.turn(|turn| turn.produce(&access(user), transport, Kind::Audio, parameters, false, json!({"tag": "mic"})))
    }

    fn subscribe(&mut self, user: &str, transport: &str, producer: &str) -> Result<ConsumerView, Refusal> {
        let wanted = Consumed {
            transport: transport.into(),
            producer: producer.into(),
            capabilities: router_capabilities().clone(),
            paused: true,
        };
        self.turn(|turn| turn.consume(&access(user), &wanted))
    }

    fn socket(&mut self, user: &str) -> SocketId {
        self.turn(|turn| turn.open_socket(&access(user))).unwrap().0
    }

    fn commands(&self) -> Vec<Command> {
        let media = |effect: &Effect| match effect {
            Effect::Media(_, command) => Some(command.clone()),
            _ => None,
        };
        self.effects.iter().filter_map(media).collect()
    }

    /// What one socket was told in the last step.
    fn told(&self, socket: SocketId) -> Vec<RoomEvent> {
        let told = |effect: &Effect| match effect {
            Effect::Tell(sockets, event) if sockets.contains(&socket) => Some(event.clone()),
            _ => None,
        };
        self.effects.iter().filter_map(told).collect()
    }

    fn is_closed(&self, socket: SocketId) -> bool {
        self.effects.iter().any(|effect| matches!(effect, Effect::Close(sockets) if sockets.contains(&socket)))
    }
}

#[test]
fn a_later_epoch_takes_the_participants_over_and_an_earlier_one_is_ignored() {
    let mut world = World::new();
    let (transport, _) = world.transport("ann", Direction::Send);
    world.serve("uid", 5);
    world.serve("uid", 4);
    assert_eq!((world.registry.snapshot()[0].epoch, world.users()), (5, vec!["ann".to_owned()]));
    // The token of epoch 3 is good for what ann has, and for nothing new.
    for intent in [Intent::Use, Intent::Look, Intent::Leave] {
        assert_eq!(world.registry.admit(&access("ann"), intent, false), Admission::Granted);
    }
    let stale = Admission::Refused(Refusal::EpochStale { token: 3, served: 5 });
    assert_eq!(world.registry.admit(&access("ann"), Intent::Join, false), stale);
    assert_eq!(world.registry.admit(&access("bob"), Intent::Look, false), stale);
    assert!(world.publish("ann", &transport, 1).is_ok());
}

#[test]
fn a_room_of_the_same_name_and_another_uid_is_another_room() {
    let mut world = World::new();
    let socket = world.socket("ann");
    let assignment =
        Assignment { key: key(), uid: "other".into(), epoch: 1, max_participants: 3, rules: MediaRules::default() };
    world.turn(|turn| turn.serve(assignment));
    assert_eq!(world.told(socket), [RoomEvent::RoomClosed { reason: Reason::Deleted }]);
    assert!(world.is_closed(socket) && world.users().is_empty());
    assert_eq!(world.registry.snapshot()[0].epoch, 1);
}

#[test]
fn a_token_is_for_one_room_and_not_for_another_of_its_name() {
    let mut world = World::new();
    world.socket("ann");
    let replaced = Admission::Wait(Refusal::RoomReplaced);
    for (epoch, intent) in [(3, Intent::Join), (2, Intent::Use), (9, Intent::Look), (9, Intent::Leave)] {
        let earlier = Access { room_uid: Some("earlier".into()), epoch, role: Role::Admin, ..access("ann") };
        assert_eq!(world.registry.admit(&earlier, intent, false), replaced, "{epoch} {intent:?}");
        assert_eq!(world.turn(|turn| turn.admit_at_last(&earlier, intent, false)), Err(Refusal::RoomReplaced));
        assert_eq!(world.registry.admit(&earlier, intent, true), Admission::Refused(Refusal::Resyncing));
    }
    assert_eq!(world.registry.admit(&access("bob"), Intent::Join, false), Admission::Granted);
}

#[test]
fn tokens_ahead_of_what_is_known_wait_and_fenced_nodes_admit_nobody_new() {
    let mut world = World::new();
    world.socket("ann");
    let ahead = Access { epoch: 4, ..access("ann") };
    let superseded = Refusal::EpochSuperseded { token: 4, served: 3 };
    assert_eq!(world.registry.admit(&ahead, Intent::Use, false), Admission::Wait(superseded));
    let elsewhere = Access { room: RoomKey::new("default", "other"), ..access("ann") };
    assert_eq!(world.registry.admit(&elsewhere, Intent::Join, false), Admission::Wait(Refusal::RoomNotFound));
    assert_eq!(world.registry.admit(&access("bob"), Intent::Use, false), Admission::Refused(Refusal::NotInRoom));

    assert_eq!(world.registry.admit(&access("bob"), Intent::Look, true), Admission::Refused(Refusal::Resyncing));
    world.registry.fenced = true;
    let resyncing = Admission::Refused(Refusal::Resyncing);
    assert_eq!(world.registry.admit(&access("bob"), Intent::Look, false), resyncing);
    assert_eq!(world.registry.admit(&access("ann"), Intent::Join, false), resyncing);
    assert_eq!(world.registry.admit(&elsewhere, Intent::Join, false), resyncing);
    assert_eq!(world.registry.admit(&access("ann"), Intent::Use, false), Admission::Granted);
}

#[test]
fn a_full_room_refuses_others_but_not_those_who_are_in_it() {
    let mut world = World::new();
    for user in ["ann", "bob", "cat"] {
        world.transport(user, Direction::Send);
    }
    let full = world.turn(|turn| turn.create_transport(&access("dan"), Direction::Send)).unwrap_err();
    assert_eq!(full, Refusal::RoomFull { max: 3 });
    world.transport("ann", Direction::Recv);
    world.turn(|turn| turn.leave(&access("bob"), "bob")).unwrap();
    world.transport("dan", Direction::Send);
}

#[test]
fn a_participant_ends_with_its_last_transport_unless_a_socket_is_left() {
    let mut world = World::new();
    let ann = world.socket("ann");
    let (_, bob) = world.transport("bob", Direction::Send);
    world.state(bob, TransportState::Connected);
    world.state(bob, TransportState::Closed);
    assert_eq!(world.told(ann), [RoomEvent::ParticipantLeft { id: "bob".into() }]);

    let (_, transport) = world.transport("ann", Direction::Send);
    world.state(transport, TransportState::Failed);
    assert_eq!(world.users(), ["ann"]);
    world.turn(|turn| turn.socket_closed(&key(), ann));
    assert!(world.users().is_empty());
    assert_eq!(world.registry.snapshot()[0].empty_since, Some(world.now));
}

#[test]
fn whoever_has_neither_socket_nor_connected_transport_leaves_after_the_grace() {
    let mut world = World::new();
    let (_, ann) = world.transport("ann", Direction::Send);
    let (_, bob) = world.transport("bob", Direction::Send);
    world.state(bob, TransportState::Connected);
    world.wait(GRACE - Duration::from_secs(1));
    assert_eq!(world.users(), ["ann", "bob"]);
    world.wait(Duration::from_secs(1));
    assert_eq!(world.users(), ["bob"]);
    assert!(matches!(world.commands()[..], [Command::CloseTransport { transport }] if transport == ann));

    world.state(bob, TransportState::Disconnected);
    world.wait(GRACE / 2);
    world.state(bob, TransportState::Connected);
    world.wait(GRACE);
    assert_eq!(world.users(), ["bob"], "it came back in time");
    world.state(bob, TransportState::Disconnected);
    world.wait(GRACE);
    assert!(world.users().is_empty());
}

#[test]
fn whoever_leaves_takes_media_along_at_once() {
    let mut world = World::new();
    let (id, ann) = world.transport("ann", Direction::Send);
    let tracks = [11, 22].map(|ssrc| world.publish("ann", &id, ssrc).unwrap());
    world.turn(|turn| turn.close_producer(&access("ann"), &tracks[0])).unwrap();
    assert!(matches!(world.commands()[..], [Command::CloseProducer { .. }]));
    world.turn(|turn| turn.leave(&access("ann"), "ann")).unwrap();
    // A packet that came between two commands would belong to nobody.
    assert!(matches!(world.commands()[..], [Command::CloseTransport { transport }] if transport == ann));
}

#[test]
fn a_silent_transport_gives_way_to_a_newer_one_of_its_direction_and_a_live_one_never_does() {
    let mut world = World::new();
    world.socket("ann");
    let (live, live_media) = world.transport("ann", Direction::Send);
    world.state(live_media, TransportState::Connected);
    let (_, newer) = world.transport("ann", Direction::Send);
    world.state(newer, TransportState::Connected);
    world.wait(GRACE * 2);
    let producer = world.publish("ann", &live, 1).expect("both live transports are there");

    // The older one falls silent with the newer in place: closed after the grace, with its tracks.
    let bob = world.socket("bob");
    world.state(live_media, TransportState::Disconnected);
    world.wait(GRACE / 2);
    assert!(world.commands().is_empty());
    world.wait(GRACE / 2);
    let closed = RoomEvent::ProducerClosed { producer_id: producer, participant_id: "ann".into(), closed_by: None };
    assert_eq!(world.told(bob), [closed]);

    // It was silent before the next one came: closed at once.
    world.state(newer, TransportState::Disconnected);
    world.transport("ann", Direction::Recv);
    assert_eq!(world.registry.totals().transports, 2, "the other direction is no successor");
    world.transport("ann", Direction::Send);
    assert_eq!(world.registry.totals().transports, 2);
}

#[test]
fn a_track_reaches_those_who_subscribe_and_its_end_too() {
    let mut world = World::new();
    let (ann, bob) = (world.socket("ann"), world.socket("bob"));
    let (send, _) = world.transport("ann", Direction::Send);
    let (recv, _) = world.transport("bob", Direction::Recv);
    let producer = world.publish("ann", &send, 1).unwrap();
    assert!(world.told(ann).is_empty());
    let [RoomEvent::NewProducer(view)] = &world.told(bob)[..] else { panic!("{:?}", world.effects) };
    assert_eq!(
        (view.id.as_str(), view.participant_id.as_str(), view.app_data["tag"].as_str()),
        (producer.as_str(), "ann", Some("mic"))
    );

    let first = world.subscribe("bob", &recv, &producer).unwrap();
    let second = world.subscribe("bob", &recv, &producer).unwrap();
    assert_ne!(first.rtp_parameters.mid, second.rtp_parameters.mid);
    assert_ne!(first.rtp_parameters.encodings[0].ssrc, second.rtp_parameters.encodings[0].ssrc);
    assert!(matches!(world.commands()[..], [Command::Consume { ref spec, .. }] if spec.paused));
    world.turn(|turn| turn.close_consumer(&access("bob"), &second.id)).unwrap();

    let (consumer_id, producer_id) = (first.id, producer);
    world.turn(|turn| turn.pause_producer(&access("ann"), &producer_id, true)).unwrap();
    let paused = RoomEvent::ConsumerPaused {
        consumer_id: consumer_id.clone(),
        producer_id: producer_id.clone(),
        reason: PauseReason::Producer,
    };
    assert_eq!(world.told(bob), [paused]);
    world.turn(|turn| turn.pause_producer(&access("ann"), &producer_id, true)).unwrap();
    assert!(world.effects.is_empty(), "paused already");

    world.turn(|turn| turn.close_producer(&access("ann"), &producer_id)).unwrap();
    let closed = [
        RoomEvent::ConsumerClosed { consumer_id, producer_id: producer_id.clone() },
        RoomEvent::ProducerClosed { producer_id, participant_id: "ann".into(), closed_by: None },
    ];
    assert_eq!(world.told(bob), closed);
    assert_eq!(world.registry.totals().consumers, 0);
}

#[test]
fn nobody_touches_what_is_not_theirs() {
    let mut world = World::new();
    let (send, _) = world.transport("ann", Direction::Send);
    let (recv, _) = world.transport("bob", Direction::Recv);
    let producer = world.publish("ann", &send, 1).unwrap();
    let consumer = world.subscribe("bob", &recv, &producer).unwrap().id;
    let not_found = |what| Err(Refusal::NotFound(what));
    assert_eq!(world.publish("bob", &send, 2), not_found("transport").map(|()| String::new()));
    assert_eq!(world.turn(|turn| turn.end_transport(&access("bob"), &send)), not_found("transport"));
    assert_eq!(world.turn(|turn| turn.pause_producer(&access("bob"), &producer, true)), not_found("producer"));
    assert_eq!(world.turn(|turn| turn.pause_consumer(&access("ann"), &consumer, false)), not_found("consumer"));
    assert_eq!(world.turn(|turn| turn.close_consumer(&access("ann"), &consumer)), not_found("consumer"));
    let forbidden = Refusal::Forbidden("end tracks of others");
    assert_eq!(world.turn(|turn| turn.close_producer(&access("bob"), &producer)), Err(forbidden));
    assert_eq!(world.turn(|turn| turn.leave(&access("bob"), "ann")), Err(Refusal::Forbidden("remove others")));
    let host = Access { role: Role::Host, ..access("bob") };
    assert_eq!(world.turn(|turn| turn.close_producer(&host, &producer)), Ok(()));
    assert_eq!(world.turn(|turn| turn.leave(&host, "ann")), Ok(()));
    assert_eq!(world.users(), ["bob"]);
}

#[test]
fn grants_and_directions_are_kept_apart() {
    let mut world = World::new();
    let deaf = Access { grants: Grants { publish: true, subscribe: false }, ..access("ann") };
    let mute = Access { grants: Grants { publish: false, subscribe: true }, ..access("ann") };
    let refused = |world: &mut World, access: &Access, direction| {
        world.turn(|turn| turn.create_transport(access, direction)).unwrap_err()
    };
    assert_eq!(refused(&mut world, &deaf, Direction::Recv), Refusal::Forbidden("subscribe"));
    assert_eq!(refused(&mut world, &mute, Direction::Send), Refusal::Forbidden("publish"));
    assert!(world.users().is_empty(), "a refusal lets nobody in");
    let (send, _) = world.transport("ann", Direction::Send);
    let (recv, _) = world.transport("ann", Direction::Recv);
    assert!(matches!(world.publish("ann", &recv, 1), Err(Refusal::Conflict(_))));
    let producer = world.publish("ann", &send, 1).unwrap();
    assert!(matches!(world.subscribe("ann", &send, &producer), Err(Refusal::Conflict(_))));
    assert!(matches!(world.publish("ann", &send, 1), Err(Refusal::Parameters(_))), "the SSRC is taken");
}

#[test]
fn connecting_twice_is_once_and_otherwise_is_refused() {
    let mut world = World::new();
    let (send, _) = world.transport("ann", Direction::Send);
    let with = |byte: &str| DtlsParameters {
        role: DtlsRoleName::Client,
        fingerprints: vec![DtlsFingerprint { algorithm: "sha-256".into(), value: [byte; 32].join(":") }],
    };
    world.turn(|turn| turn.connect(&access("ann"), &send, &with("0A"))).unwrap();
    assert!(matches!(world.commands()[..], [Command::ConnectTransport { .. }]));
    world.turn(|turn| turn.connect(&access("ann"), &send, &with("0A"))).unwrap();
    assert!(world.effects.is_empty());
    assert!(matches!(world.turn(|turn| turn.connect(&access("ann"), &send, &with("0B"))), Err(Refusal::Conflict(_))));
}

#[test]
fn what_one_participant_may_have_is_bounded() {
    let mut world = World::new();
    let (send, _) = world.transport("ann", Direction::Send);
    for ssrc in 1..=16 {
        world.publish("ann", &send, ssrc).unwrap();
    }
    assert!(matches!(world.publish("ann", &send, 17), Err(Refusal::TooMany { .. })));
    for _ in 1..16 {
        world.transport("ann", Direction::Send);
    }
    let more = world.turn(|turn| turn.create_transport(&access("ann"), Direction::Send));
    assert!(matches!(more, Err(Refusal::TooMany { max: 16, .. })));
    let first = world.socket("bob");
    for _ in 0..8 {
        world.socket("bob");
    }
    assert!(world.is_closed(first));
}

#[test]
fn a_moved_room_tells_its_participants_and_closes_their_transports() {
    let mut world = World::new();
    let ann = world.socket("ann");
    let (_, transport) = world.transport("ann", Direction::Send);
    world.turn(|turn| turn.release(&key(), Reason::Moved));
    assert_eq!(world.told(ann), [RoomEvent::RouteChanged { reason: Reason::Moved, served_epoch: 3 }]);
    assert!(matches!(world.commands()[..], [Command::CloseTransport { transport: closed }] if closed == transport));
    assert_eq!(world.registry.totals(), Totals::default());
    // What the media loop says of it later concerns nobody.
    world.state(transport, TransportState::Closed);
    assert!(world.effects.is_empty());
}

#[test]
fn an_encoder_that_never_connects_does_not_use_up_what_its_participant_may_have() {
    let offer = include_str!("../../tests/captures/sdp/gstreamer.sdp");
    let offer = crate::sdp::Offer::parse(offer).unwrap();
    let publication = crate::sdp::Publication::new(offer, router_capabilities()).unwrap();
    let mut world = World::new();
    // A page of the same participant keeps it in the room.
    let (_, page) = world.transport("ann", Direction::Recv);
    world.state(page, TransportState::Connected);
    for _ in 0..100 {
        world.turn(|turn| turn.publish_offer(&access("ann"), &publication)).unwrap();
        world.wait(Duration::from_secs(5));
    }
    let connected = world.turn(|turn| turn.publish_offer(&access("ann"), &publication)).unwrap();
    let transport = world.commands().into_iter().find_map(|command| match command {
        Command::CreateTransport { transport, .. } => Some(transport),
        _ => None,
    });
    world.state(transport.unwrap(), TransportState::Connected);
    world.wait(GRACE);
    world.wait(GRACE);
    let view = world.registry.describe(&key()).unwrap();
    assert_eq!(view.producers.len(), 2, "those of the one that came");
    let end = |turn: &mut Turn<'_>| turn.end_session(&access("ann"), Protocol::Whip, &connected.id);
    assert_eq!(world.turn(end), Ok(()));
    assert_eq!(world.users(), ["ann"]);
}

#[test]
fn whoever_was_removed_comes_back_only_with_a_token_issued_since() {
    let mut world = World::new();
    let host = Access { role: Role::Host, ..access("bob") };
    let issued = |issued_at| Access { issued_at, ..access("ann") };
    let admit = |world: &World, access: &Access, intent| world.registry.admit(access, intent, false);
    world.turn(|turn| turn.create_transport(&issued(2), Direction::Send)).unwrap();
    world.turn(|turn| turn.leave(&host, "ann")).unwrap();
    for issued_at in [0, 2] {
        for intent in [Intent::Join, Intent::Look, Intent::Use, Intent::Leave] {
            assert_eq!(admit(&world, &issued(issued_at), intent), Admission::Refused(Refusal::Removed), "{intent:?}");
        }
    }
    assert_eq!(admit(&world, &issued(3), Intent::Join), Admission::Granted, "she was invited again");
    world.serve("uid", 4);
    let next = Access { epoch: 4, ..access("ann") };
    assert_eq!(admit(&world, &next, Intent::Join), Admission::Refused(Refusal::Removed), "whatever the epoch");
    // Leaving by oneself is no removal.
    let own = Access { epoch: 4, ..access("cat") };
    world.turn(|turn| turn.create_transport(&own, Direction::Send)).unwrap();
    world.turn(|turn| turn.leave(&own, "cat")).unwrap();
    assert_eq!(admit(&world, &own, Intent::Join), Admission::Granted);
    // Many removals do not grow for ever, and the latest count.
    for i in 0..3000 {
        world.turn(|turn| turn.leave(&host, &format!("user-{i}"))).unwrap();
    }
    let late = Access { epoch: 4, issued_at: -1, ..access("user-2999") };
    assert!(world.registry.room(&key()).unwrap().removed.len() <= 1024);
    assert_eq!(admit(&world, &late, Intent::Join), Admission::Refused(Refusal::Removed));
    let at_once = Access { issued_at: 0, ..late };
    assert_eq!(admit(&world, &at_once, Intent::Join), Admission::Granted, "invited again within the second");
}

#[test]
fn a_publisher_learns_that_a_moderator_ended_its_track_and_who() {
    let mut world = World::new();
    let sockets = [world.socket("ann"), world.socket("ann"), world.socket("bob")];
    let (send, _) = world.transport("ann", Direction::Send);
    let closed = |producer_id: &str, closed_by: Option<&str>| RoomEvent::ProducerClosed {
        producer_id: producer_id.into(),
        participant_id: "ann".into(),
        closed_by: closed_by.map(str::to_owned),
    };
    let producer = world.publish("ann", &send, 1).unwrap();
    world.turn(|turn| turn.close_producer(&Access { role: Role::Host, ..access("bob") }, &producer)).unwrap();
    assert!(sockets.iter().all(|socket| world.told(*socket) == [closed(&producer, Some("bob"))]));
    // What it ended itself it knows.
    for moderates in [Role::Participant, Role::Host] {
        let producer = world.publish("ann", &send, 1).unwrap();
        world.turn(|turn| turn.close_producer(&Access { role: moderates, ..access("ann") }, &producer)).unwrap();
        assert_eq!(sockets.map(|socket| world.told(socket).len()), [0, 0, 1]);
        assert_eq!(world.told(sockets[2]), [closed(&producer, None)]);
    }
}

/// What somebody may try whose token is of this service.
#[derive(Clone, Copy, Debug)]
enum Try {
    Admit(Intent),
    Enter,
    Listen,
    Leave(bool),
    Unpublish,
    Hang,
}

fn tries() -> impl Strategy<Value = Try> {
    prop_oneof![
        prop::sample::select(vec![Intent::Join, Intent::Look, Intent::Use, Intent::Leave]).prop_map(Try::Admit),
        Just(Try::Enter),
        Just(Try::Listen),
        prop::bool::ANY.prop_map(Try::Leave),
        Just(Try::Unpublish),
        Just(Try::Hang),
    ]
}

proptest! {
    /// Whatever epoch or room a token is for, and whatever is done with it: others keep what they have. Only moderators may
    /// remove others, and not by an epoch either.
    #[test]
    fn no_token_ends_the_media_of_others(
        steps in prop::collection::vec((tries(), -1i64..8, prop::sample::select(vec!["uid", "earlier"]), prop::bool::ANY), 1..40)
    ) {
        let mut world = World::new();
        let ann = world.socket("ann");
        let (send, media) = world.transport("ann", Direction::Send);
        world.state(media, TransportState::Connected);
        let producer = world.publish("ann", &send, 1).unwrap();
        for (what, epoch, uid, fenced) in steps {
            let role = if matches!(what, Try::Leave(_) | Try::Unpublish) { Role::Guest } else { Role::Admin };
            let eve = Access { epoch, room_uid: Some(uid.into()), role, ..access("eve") };
            let door = |world: &mut World, intent| world.turn(|turn| turn.admit_at_last(&eve, intent, fenced)).is_ok();
            match what {
                Try::Admit(intent) => drop(door(&mut world, intent)),
                Try::Enter if door(&mut world, Intent::Join) => drop(world.turn(|turn| turn.create_transport(&eve, Direction::Recv))),
                Try::Listen if door(&mut world, Intent::Look) => drop(world.turn(|turn| turn.open_socket(&eve))),
                Try::Leave(own) if door(&mut world, Intent::Leave) => {
                    drop(world.turn(|turn| turn.leave(&eve, if own { "eve" } else { "ann" })));
                }
                Try::Unpublish if door(&mut world, Intent::Use) => drop(world.turn(|turn| turn.close_producer(&eve, &producer))),
                Try::Hang => world.wait(GRACE),
                _ => continue,
            }
            let closes = |command: &Command| matches!(command, Command::CloseTransport { transport } if *transport == media);
            let ended = world.commands().iter().any(closes);
            let is_end = |event: &RoomEvent| {
                use RoomEvent::{ProducerClosed, RoomClosed, RouteChanged};
                matches!(event, RoomClosed { .. } | RouteChanged { .. } | ProducerClosed { .. })
            };
            let told = world.told(ann).iter().any(is_end);
            prop_assert!(!ended && !told && !world.is_closed(ann));
            prop_assert!(world.users().contains(&"ann".to_owned()));
            let view = world.registry.describe(&key()).unwrap();
            prop_assert!(view.producers.iter().any(|p| p.id == producer));
        }
    }
}
