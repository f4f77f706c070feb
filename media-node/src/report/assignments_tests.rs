use proptest::prelude::*;

use super::*;
use crate::report::view::RouteView;

const ME: &str = "mn-me";
const OTHER: &str = "mn-other";

fn id(name: &str) -> CallId {
    CallId::new("team", name)
}

fn route(epoch: i64, node: &str) -> Option<RouteView> {
    Some(RouteView { epoch, node: node.into() })
}

fn room(version: u64, route: Option<RouteView>, previous_route: Option<RouteView>) -> Room {
    Room {
        id: id("a"),
        uid: "u1".into(),
        version,
        max_participants: 10,
        rules: MediaRules::default(),
        route,
        previous_route,
        over: false,
    }
}

fn serve(epoch: i64) -> Order {
    Order::Serve(Service { id: id("a"), uid: "u1".into(), epoch, max_participants: 10, rules: MediaRules::default() })
}

/// Both watches are on and room `a` is served in epoch 1.
fn serving_a() -> Assignments {
    let mut rooms = Assignments::new(ME);
    for source in Source::ALL {
        rooms.hear(News::ListStarted(source));
        rooms.hear(News::ListDone(source));
    }
    assert_eq!(rooms.hear(News::Changed(Source::Route, room(1, route(1, ME), None))), [serve(1)]);
    rooms
}

/// The room leaves the first watch; `now` is what the API server says about it.
fn left(now: Option<Room>) -> Vec<Order> {
    let mut rooms = serving_a();
    let asked = rooms.hear(News::Left(Source::Route, id("a"), 2));
    let [Order::Confirm(_, ticket)] = asked[..] else { panic!("it is not asked for: {asked:?}") };
    rooms.hear(News::Confirmed(id("a"), ticket, now))
}

#[test]
fn a_room_is_let_go_for_what_the_api_server_says_of_it_now() {
    let over = Room { over: true, ..room(2, route(1, ME), None) };
    let another = Room { uid: "u2".into(), ..room(2, None, None) };
    assert_eq!(left(None), [Order::Release(id("a"), Why::Deleted)]);
    assert_eq!(left(Some(another)), [Order::Release(id("a"), Why::Deleted)]);
    assert_eq!(left(Some(over)), [Order::Release(id("a"), Why::Ended)]);
    assert_eq!(left(Some(room(2, route(2, OTHER), None))), [Order::Release(id("a"), Why::Moved)]);
    assert_eq!(left(Some(room(2, route(2, OTHER), route(1, ME)))), [], "the other watch is about to show it");
}

#[test]
fn a_call_that_went_peer_to_peer_is_served_until_its_clients_have_moved() {
    let peers = || route(2, "");
    let mut rooms = serving_a();
    assert_eq!(rooms.hear(News::Changed(Source::PreviousRoute, room(2, peers(), route(1, ME)))), []);
    assert_eq!(rooms.hear(News::Left(Source::Route, id("a"), 2)), []);
    let asked = rooms.hear(News::Left(Source::PreviousRoute, id("a"), 3));
    let [Order::Confirm(_, ticket)] = asked[..] else { panic!("it is not asked for: {asked:?}") };
    let gone = room(3, peers(), None);
    assert_eq!(rooms.hear(News::Confirmed(id("a"), ticket, Some(gone))), [Order::Release(id("a"), Why::Moved)]);

    // It comes back before they have: the node serves the newer epoch, and who is in stays in.
    let mut rooms = serving_a();
    rooms.hear(News::Changed(Source::PreviousRoute, room(2, peers(), route(1, ME))));
    rooms.hear(News::Left(Source::Route, id("a"), 2));
    assert_eq!(rooms.hear(News::Changed(Source::Route, room(3, route(3, ME), peers()))), [serve(3)]);
    assert_eq!(rooms.hear(News::Left(Source::PreviousRoute, id("a"), 3)), []);
    assert_eq!(rooms.serving().count(), 1);
}

#[test]
fn the_old_side_of_a_move_serves_its_epoch_until_the_clients_have_moved() {
    let mut rooms = serving_a();
    let moving = room(2, route(2, OTHER), route(1, ME));
    assert_eq!(rooms.hear(News::Changed(Source::PreviousRoute, moving)), []);
    assert_eq!(rooms.hear(News::Left(Source::Route, id("a"), 2)), []);
    let asked = rooms.hear(News::Left(Source::PreviousRoute, id("a"), 3));
    assert!(matches!(asked[..], [Order::Confirm(..)]), "{asked:?}");
    assert!(!rooms.settled());
}

#[test]
fn a_room_that_comes_back_is_served_in_its_new_epoch() {
    let mut rooms = serving_a();
    rooms.hear(News::Changed(Source::PreviousRoute, room(2, route(2, OTHER), route(1, ME))));
    rooms.hear(News::Left(Source::Route, id("a"), 2));
    let back = room(3, route(3, ME), route(2, OTHER));
    assert_eq!(rooms.hear(News::Changed(Source::Route, back)), [serve(3)]);
    assert_eq!(rooms.hear(News::Left(Source::PreviousRoute, id("a"), 3)), []);
}

#[test]
fn a_call_that_ends_is_let_go_at_once() {
    let mut rooms = serving_a();
    let over = Room { over: true, ..room(2, route(1, ME), None) };
    assert_eq!(rooms.hear(News::Changed(Source::Route, over.clone())), [Order::Release(id("a"), Why::Ended)]);
    assert_eq!(rooms.hear(News::Changed(Source::Route, over)), []);
    assert_eq!(rooms.serving().count(), 0);
}

#[test]
fn a_new_room_of_the_same_name_replaces_the_old_one() {
    let mut rooms = serving_a();
    let orders = rooms.hear(News::Changed(Source::Route, Room { uid: "u2".into(), ..room(5, route(1, ME), None) }));
    let new = Service { id: id("a"), uid: "u2".into(), epoch: 1, max_participants: 10, rules: MediaRules::default() };
    assert_eq!(orders, [Order::Release(id("a"), Why::Deleted), Order::Serve(new)]);
}

#[test]
fn half_a_list_lets_nothing_go() {
    let mut rooms = serving_a();
    rooms.restarted();
    for source in [Source::Route, Source::PreviousRoute, Source::Route] {
        assert_eq!(rooms.hear(News::ListStarted(source)), []);
    }
    assert_eq!(rooms.hear(News::ListDone(Source::Route)), [], "the other list is not complete");
    assert!(!rooms.settled());
    let asked = rooms.hear(News::ListDone(Source::PreviousRoute));
    assert!(matches!(asked[..], [Order::Confirm(..)]), "{asked:?}");
}

#[test]
fn a_watch_that_lags_does_not_bring_back_what_is_over() {
    let mut rooms = serving_a();
    rooms.hear(News::Changed(Source::PreviousRoute, room(2, route(2, OTHER), route(1, ME))));
    rooms.hear(News::Left(Source::Route, id("a"), 2));
    assert_eq!(rooms.hear(News::Changed(Source::Route, room(3, route(3, ME), route(2, OTHER)))), [serve(3)]);
    assert_eq!(rooms.hear(News::Left(Source::Route, id("a"), 4)), [], "the other watch still shows version 2");
    assert_eq!(rooms.hear(News::Left(Source::PreviousRoute, id("a"), 3)).len(), 1);
    assert_eq!(rooms.hear(News::Changed(Source::PreviousRoute, room(4, route(4, OTHER), route(3, ME)))), []);
    assert_eq!(rooms.serving().map(|s| s.epoch).collect::<Vec<_>>(), [3]);
}

#[test]
fn an_answer_to_an_earlier_question_does_not_count() {
    let mut rooms = serving_a();
    rooms.hear(News::Left(Source::Route, id("a"), 2));
    let back = room(3, route(2, ME), None);
    rooms.hear(News::Changed(Source::Route, back.clone()));
    rooms.hear(News::Left(Source::Route, id("a"), 4));
    assert_eq!(rooms.hear(News::Confirmed(id("a"), 1, Some(back))), []);
    assert!(!rooms.settled());
    assert_eq!(rooms.hear(News::Confirmed(id("a"), 2, None)), [Order::Release(id("a"), Why::Deleted)]);
    assert!(rooms.settled());
}

/// An API server with a history, two watches on it, and questions under way.
struct Server {
    now: BTreeMap<CallId, Room>,
    history: Vec<(Option<Room>, Option<Room>)>,
    uids: u64,
    watches: [Watch; 2],
    asked: Vec<(CallId, Ticket)>,
    read: Vec<News>,
}

#[derive(Clone, Copy, Default)]
struct Watch {
    at: usize,
    listed: bool,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Create { room: usize, here: bool },
    Route { room: usize, here: bool },
    Settle { room: usize },
    End { room: usize },
    Delete { room: usize },
    Resize { room: usize, to: i32 },
    Deliver { watch: usize, events: usize },
    Relist { watch: usize, fails: bool },
    Restart,
    Read { question: usize },
    Answer { answer: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let room = 0..3_usize;
    prop_oneof![
        3 => (room.clone(), any::<bool>()).prop_map(|(room, here)| Step::Create { room, here }),
        5 => (room.clone(), any::<bool>()).prop_map(|(room, here)| Step::Route { room, here }),
        4 => room.clone().prop_map(|room| Step::Settle { room }),
        1 => room.clone().prop_map(|room| Step::End { room }),
        2 => room.clone().prop_map(|room| Step::Delete { room }),
        1 => (room, 2..50).prop_map(|(room, to)| Step::Resize { room, to }),
        8 => (0..2_usize, 1..4_usize).prop_map(|(watch, events)| Step::Deliver { watch, events }),
        2 => (0..2_usize, any::<bool>()).prop_map(|(watch, fails)| Step::Relist { watch, fails }),
        1 => Just(Step::Restart),
        4 => (0..4_usize).prop_map(|question| Step::Read { question }),
        4 => (0..4_usize).prop_map(|answer| Step::Answer { answer }),
    ]
}

impl Server {
    fn new() -> Self {
        let watches = [Watch::default(); 2];
        Self { now: BTreeMap::new(), history: Vec::new(), uids: 0, watches, asked: Vec::new(), read: Vec::new() }
    }

    fn write(&mut self, id: &CallId, next: Option<Room>) {
        let version = self.history.len() as u64 + 1;
        let before = self.now.remove(id);
        let next = next.map(|room| Room { version, ..room });
        self.history.push((before, next.clone()));
        self.now.extend(next.map(|room| (id.clone(), room)));
    }

    fn change(&mut self, room: usize, change: impl FnOnce(&mut Room)) {
        let id = id(&room.to_string());
        let Some(mut next) = self.now.get(&id).cloned() else { return };
        change(&mut next);
        self.write(&id, Some(next));
    }

    fn selects(source: Source, room: &Room) -> bool {
        let route = if source == Source::Route { &room.route } else { &room.previous_route };
        route.as_ref().is_some_and(|r| r.node == ME)
    }

    /// The next event of a watch, as API servers make it.
    fn deliver(&mut self, watch: usize) -> Option<News> {
        let source = Source::ALL[watch];
        while self.watches[watch].listed && self.watches[watch].at < self.history.len() {
            let (before, after) = &self.history[self.watches[watch].at];
            self.watches[watch].at += 1;
            let version = self.watches[watch].at as u64;
            match (
                before.as_ref().filter(|r| Self::selects(source, r)),
                after.as_ref().filter(|r| Self::selects(source, r)),
            ) {
                (_, Some(now)) => return Some(News::Changed(source, now.clone())),
                (Some(last), None) => return Some(News::Left(source, last.id.clone(), version)),
                (None, None) => {}
            }
        }
        None
    }

    fn relist(&mut self, watch: usize, fails: bool) -> Vec<News> {
        let source = Source::ALL[watch];
        let mut news = vec![News::ListStarted(source)];
        news.extend(self.now.values().filter(|r| Self::selects(source, r)).map(|r| News::Listed(source, r.clone())));
        if fails {
            news.truncate(news.len().div_ceil(2));
        } else {
            news.push(News::ListDone(source));
        }
        self.watches[watch] = Watch { at: self.history.len(), listed: !fails };
        news
    }

    /// What happens, and what the node hears of it.
    fn step(&mut self, step: Step) -> Vec<News> {
        match step {
            Step::Create { room, here } => {
                let id = id(&room.to_string());
                if !self.now.contains_key(&id) {
                    self.uids += 1;
                    let route = route(1, if here { ME } else { OTHER });
                    let uid = self.uids.to_string();
                    let new = Room {
                        id: id.clone(),
                        uid,
                        version: 0,
                        max_participants: 10,
                        rules: MediaRules::default(),
                        route,
                        previous_route: None,
                        over: false,
                    };
                    self.write(&id, Some(new));
                }
            }
            Step::Route { room, here } => self.change(room, |r| {
                r.previous_route = r.route.take();
                let epoch = r.previous_route.as_ref().map_or(1, |p| p.epoch + 1);
                r.route = route(epoch, if here { ME } else { OTHER });
            }),
            Step::Settle { room } => self.change(room, |r| r.previous_route = None),
            Step::End { room } => self.change(room, |r| r.over = true),
            Step::Resize { room, to } => self.change(room, |r| r.max_participants = to),
            Step::Delete { room } => {
                let id = id(&room.to_string());
                if self.now.contains_key(&id) {
                    self.write(&id, None);
                }
            }
            Step::Deliver { watch, events } => return (0..events).filter_map(|_| self.deliver(watch)).collect(),
            Step::Relist { watch, fails } => return self.relist(watch, fails),
            Step::Restart => self.watches = [Watch::default(); 2],
            Step::Read { question } if question < self.asked.len() => {
                let (id, ticket) = self.asked.remove(question);
                let now = self.now.get(&id).cloned();
                self.read.push(News::Confirmed(id, ticket, now));
            }
            Step::Answer { answer } if answer < self.read.len() => return vec![self.read.remove(answer)],
            Step::Read { .. } | Step::Answer { .. } => {}
        }
        Vec::new()
    }

    /// Whether the history ever says that this room is not the node's.
    fn ever_left(&self, service: &Service) -> bool {
        let was_ours = |room: &Room| room.uid == service.uid && room.epoch_on(ME).is_some();
        self.history
            .iter()
            .any(|(before, after)| before.as_ref().is_some_and(was_ours) && !after.as_ref().is_some_and(was_ours))
    }
}

/// What a directory does with the orders.
fn obey(server: &mut Server, rooms: &mut Assignments, served: &mut BTreeMap<CallId, Service>, news: News) {
    for order in rooms.hear(news) {
        match order {
            Order::Serve(service) => {
                if let Some(old) = served.insert(service.id.clone(), service.clone()) {
                    assert!(old.uid == service.uid && old.epoch <= service.epoch, "{old:?} became {service:?}");
                }
            }
            Order::Release(id, _) => {
                let gone = served.remove(&id).expect("only what is served is let go");
                assert!(server.ever_left(&gone), "nobody took {gone:?} away");
            }
            Order::Confirm(id, ticket) => server.asked.push((id, ticket)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_order_of_the_news_the_node_ends_with_the_rooms_that_the_api_server_gives_it(
        steps in prop::collection::vec(step(), 0..80),
    ) {
        let (mut server, mut rooms, mut served) = (Server::new(), Assignments::new(ME), BTreeMap::new());
        for step in steps {
            if matches!(step, Step::Restart) {
                rooms.restarted();
            }
            for news in server.step(step) {
                obey(&mut server, &mut rooms, &mut served, news);
            }
        }
        // The API server is there again and nothing changes any more.
        for watch in 0..2 {
            if !server.watches[watch].listed {
                for news in server.relist(watch, false) {
                    obey(&mut server, &mut rooms, &mut served, news);
                }
            }
            while let Some(news) = server.deliver(watch) {
                obey(&mut server, &mut rooms, &mut served, news);
            }
        }
        while !server.asked.is_empty() || !server.read.is_empty() {
            for step in [Step::Read { question: 0 }, Step::Answer { answer: 0 }] {
                for news in server.step(step) {
                    obey(&mut server, &mut rooms, &mut served, news);
                }
            }
        }
        let wanted: Vec<_> = server.now.values()
            .filter_map(|r| Some((r.id.clone(), r.uid.clone(), r.epoch_on(ME)?, r.max_participants)))
            .collect();
        let got: Vec<_> = served.values().map(|s| (s.id.clone(), s.uid.clone(), s.epoch, s.max_participants)).collect();
        prop_assert_eq!(&got, &wanted);
        prop_assert_eq!(served.into_values().collect::<Vec<_>>(), rooms.serving().cloned().collect::<Vec<_>>());
        prop_assert!(rooms.settled());
    }
}
