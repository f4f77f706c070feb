use super::*;

fn facts() -> Facts {
    Facts {
        generation: Some(1),
        cordoned: false,
        capacity: Capacity { rooms: 10, participants: 100, streams: 10_000 },
        endpoints: Endpoints { api: "http://10.0.0.1:8080".into(), admin: "http://10.0.0.1:9090".into(), rtc: vec![] },
        activity: Activity::Serving,
        rooms: Vec::new(),
        streams: 0,
        rates: Rates::default(),
        cpu_limit_millis: 1000,
    }
}

fn room(participants: i32) -> ServedRoom {
    ServedRoom { namespace: "team".into(), name: "a".into(), epoch: 1, participants, empty_since: None }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn states(status: &MediaNodeStatus) -> Vec<(&str, &str, &str)> {
    status.conditions.iter().map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_str())).collect()
}

#[test]
fn the_conditions_say_what_the_node_does() {
    use Activity::{Draining, Resyncing, Serving, Starting, Stopped};
    let cases = [
        (Starting, false, 0, ("False", "Starting"), ("False", "NotCordoned")),
        (Starting, true, 0, ("False", "Starting"), ("False", "Starting")),
        (Serving, false, 0, ("True", "Serving"), ("False", "NotCordoned")),
        (Serving, true, 2, ("True", "Serving"), ("False", "ServesRooms")),
        (Serving, true, 0, ("True", "Serving"), ("True", "Empty")),
        (Resyncing, false, 2, ("False", "Resyncing"), ("False", "NotCordoned")),
        (Draining, false, 2, ("True", "Draining"), ("False", "ServesRooms")),
        (Draining, false, 0, ("True", "Draining"), ("True", "Empty")),
        (Stopped, false, 0, ("False", "Stopped"), ("True", "Empty")),
        (Stopped, false, 1, ("False", "Stopped"), ("False", "ServesRooms")),
    ];
    for (activity, cordoned, people, ready, drained) in cases {
        let rooms = if people > 0 { vec![room(people)] } else { Vec::new() };
        let status = compose(&Facts { activity, cordoned, rooms, ..facts() }, &[], at(100));
        let expected =
            [("Ready", ready.0, ready.1), ("Saturated", "False", "Available"), ("Drained", drained.0, drained.1)];
        assert_eq!(states(&status), expected, "{activity:?}, cordoned {cordoned}, {people} people");
    }
}

#[test]
fn a_saturated_node_stays_so_until_it_is_relieved() {
    let mut was = Vec::new();
    for (cpu, saturated) in [
        (0.0, "False"),
        (890.0, "False"),
        (900.0, "True"),
        (850.0, "True"),
        (800.0, "True"),
        (790.0, "False"),
        (890.0, "False"),
    ] {
        let rates = Rates { cpu_millis: cpu, ..Rates::default() };
        let status = compose(&Facts { rates, ..facts() }, &was, at(100));
        assert_eq!(status.conditions[1].status, saturated, "CPU {cpu}");
        was = status.conditions;
    }
}

#[test]
fn the_load_counts_people_and_the_fullest_dimension() {
    let rates = Rates { cpu_millis: 123.4, bits_out: 1_234_567.0, packets: 1234.0, memory: 9 << 20 };
    let status = compose(&Facts { rooms: vec![room(40)], streams: 3200, rates, ..facts() }, &[], at(100));
    let load = status.load.unwrap();
    assert_eq!((load.rooms, load.participants, load.streams), (1, 40, 3200));
    assert_eq!((load.cpu_millis, load.egress_bits_per_second, load.packets_per_second), (120, 1_230_000, 1230));
    assert_eq!(load.memory_bytes, 8 << 20);
    assert_eq!(status.utilization_percent, Some(40));
}

#[test]
fn the_transition_time_is_kept_while_the_state_holds() {
    let first = compose(&facts(), &[], at(100));
    let second = compose(&Facts { activity: Activity::Draining, ..facts() }, &first.conditions, at(200));
    assert_eq!(second.conditions[0].last_transition_time, Time(at(100)), "still ready");
    assert_eq!(second.conditions[2].last_transition_time, Time(at(200)), "drained now");
}

/// Seconds after the last write when `next` is due.
fn wait(last: &Facts, next: &Facts, prompts: Prompts<'_>) -> u64 {
    let now = crate::system::now();
    let status = compose(last, &[], at(100));
    let next = compose(next, &status.conditions, at(101));
    let written = Written { status, at: now, version: 5, uid: "u1".into() };
    due(Some(&written), &next, prompts, now).saturating_duration_since(now).as_secs()
}

#[test]
fn what_matters_is_written_at_once_and_what_does_not_waits() {
    let quiet = Prompts::default();
    let cordoned = Facts { cordoned: true, generation: Some(2), ..facts() };
    let serving = Facts { rooms: vec![room(2)], ..facts() };
    let joined = Facts { rooms: vec![room(3)], ..facts() };
    let busy = |cpu: f64| Facts { rates: Rates { cpu_millis: cpu, ..Rates::default() }, ..facts() };
    let sending = |bits: f64| Facts { rates: Rates { bits_out: bits, ..Rates::default() }, ..facts() };
    let draining = Facts { activity: Activity::Draining, ..serving.clone() };
    assert_eq!(wait(&facts(), &cordoned, quiet), 0);
    assert_eq!(wait(&serving, &draining, quiet), 0);
    assert_eq!(wait(&facts(), &serving, quiet), 1);
    assert_eq!(wait(&serving, &joined, quiet), 1);
    assert_eq!(wait(&busy(400.0), &busy(500.0), quiet), 1);
    assert_eq!(wait(&busy(600.0), &busy(650.0), quiet), 10, "within a tenth");
    assert_eq!(wait(&busy(0.0), &busy(40.0), quiet), 10, "within the noise");
    assert_eq!(wait(&sending(0.0), &sending(2e6), quiet), 1);
    assert_eq!(wait(&sending(50e6), &sending(52e6), quiet), 10);
    assert_eq!(wait(&busy(3.0), &busy(4.0), quiet), 300, "an idle process is not worth a write");
    assert_eq!(wait(&serving, &serving, quiet), 10);
    assert_eq!(wait(&cordoned, &cordoned, quiet), 10);
}

#[test]
fn what_somebody_else_writes_over_ours_is_put_right() {
    let ours = compose(&facts(), &[], at(100)).conditions;
    let mut lost = ours.clone();
    "Unknown".clone_into(&mut lost[0].status);
    "NodeLost".clone_into(&mut lost[0].reason);
    let mut more = ours.clone();
    more.push(Condition { type_: "Sunny".into(), ..ours[0].clone() });
    let seen = |uid, version, conditions| Prompts { seen: Some((uid, version, conditions)), routes_changed: false };
    let last = facts();
    assert_eq!(wait(&last, &last, seen("u1", 6, &lost)), 1);
    assert_eq!(wait(&last, &last, seen("u1", 4, &lost)), 300, "that was before our write");
    assert_eq!(wait(&last, &last, seen("u1", 6, &more)), 300, "a condition that is not ours");
    assert_eq!(wait(&last, &last, seen("u2", 9, &[])), 0, "a new object of the same name");
}

#[test]
fn a_report_follows_a_change_of_routes_although_nothing_else_changed() {
    let serving = Facts { rooms: vec![room(0)], ..facts() };
    assert_eq!(wait(&serving, &serving, Prompts { seen: None, routes_changed: true }), 1);
    let now = crate::system::now();
    assert_eq!(due(None, &compose(&facts(), &[], at(1)), Prompts::default(), now), now, "nothing is written yet");
}

#[test]
fn a_report_lists_no_more_than_fits_leaves_out_the_empty_and_counts_all() {
    let room = |i: usize, participants| ServedRoom {
        namespace: "team".into(),
        name: format!("r{i:05}"),
        epoch: 1,
        participants,
        empty_since: None,
    };
    let report = |rooms: Vec<ServedRoom>| compose(&Facts { rooms, ..facts() }, &[], at(0));
    let few: Vec<ServedRoom> = (0..MAX_LISTED_ROOMS).map(|i| room(i, 0)).collect();
    assert_eq!(report(few.clone()).rooms, few);
    let many = report((0..5000).map(|i| room(i, i32::from(i >= 4500))).collect());
    assert_eq!((many.rooms.len(), many.load.unwrap().rooms), (MAX_LISTED_ROOMS, 5000));
    assert_eq!(many.rooms.iter().filter(|r| r.participants > 0).count(), 500, "whoever has people in it is there");
    assert!(many.rooms.is_sorted_by(|a, b| a.name < b.name));
}
