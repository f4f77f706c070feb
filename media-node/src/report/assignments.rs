//! Decides which rooms this node serves, from what the watches say.
//!
//! Two watches show a node its rooms: those whose `status.route.node` names it and those whose
//! `status.previousRoute.node` does. A room of either is served; of a room in both the later state counts.
//!
//! A room that leaves a selection arrives as a deletion that carries its *last matching* state (that is
//! how API servers filter), so a deletion does not say whether the room ended, moved or is gone. And the
//! two watches run at their own speed: a room that comes back may have left one before it is seen in the
//! other. So a room that no watch shows any longer is looked at once ([`Order::Confirm`]), and is let go
//! only by an answer. Errors and silence change nothing: calls go on while the API server is away.

use std::collections::BTreeMap;

use callplane_crds::CallId;

use super::view::Room;
use crate::rooms::MediaRules;

/// Which watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Rooms routed here.
    Route,
    /// Rooms that were routed here until their clients have moved.
    PreviousRoute,
}

impl Source {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Route, Self::PreviousRoute];

    /// The selectable field that it selects by.
    pub const fn field(self) -> &'static str {
        match self {
            Self::Route => "status.route.node",
            Self::PreviousRoute => "status.previousRoute.node",
        }
    }
}

/// News from the API server.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// A list begins.
    ListStarted(Source),
    /// The list has this room.
    Listed(Source, Room),
    /// The list is complete.
    ListDone(Source),
    /// A room came or changed.
    Changed(Source, Room),
    /// A room was deleted or matches no longer since this version.
    Left(Source, CallId, u64),
    /// The answer to an [`Order::Confirm`]: the room as it is now, `None` when there is none.
    Confirmed(CallId, Ticket, Option<Room>),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Serve this epoch of the room; said again when its epoch or size changes.
    Serve(Service),
    /// Let go of the room.
    Release(CallId, Why),
    /// Ask the API server for this room, from now on, and report [`News::Confirmed`] with the ticket.
    Confirm(CallId, Ticket),
}

/// Tells the answers to questions about one room apart: only the latest question counts, since an answer
/// to an earlier one may speak of a time before the room was last seen to leave.
pub type Ticket = u64;

/// A room that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name.
    pub id: CallId,
    /// Which room of that name.
    pub uid: String,
    /// Epoch of the route that names this node.
    pub epoch: i64,
    /// People at once.
    pub max_participants: i32,
    /// What may be published, and who is heard and seen.
    pub rules: MediaRules,
}

/// Why a room is let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The call is over.
    Ended,
    /// The CallRoom is gone, or another one bears its name.
    Deleted,
    /// Another node serves it, and its clients have moved.
    Moved,
}

/// What is known so far.
#[derive(Debug)]
pub struct Assignments {
    node: String,
    route: Listing,
    previous_route: Listing,
    serving: BTreeMap<CallId, Held>,
    confirming: BTreeMap<CallId, Ticket>,
    tickets: Ticket,
}

#[derive(Debug)]
struct Held {
    service: Service,
    /// Latest version of the room that any watch spoke of.
    version: u64,
}

/// One watch.
#[derive(Debug, Default)]
struct Listing {
    rooms: BTreeMap<CallId, Room>,
    /// What the list that is being read has had so far.
    fresh: BTreeMap<CallId, Room>,
    complete: bool,
}

impl Held {
    /// Whether more is known of the room than what a watch shows.
    fn is_ahead_of(&self, room: &Room, node: &str) -> bool {
        let epoch = room.epoch_on(node).filter(|_| room.uid == self.service.uid);
        room.version < self.version || epoch.is_some_and(|epoch| epoch < self.service.epoch)
    }
}

impl Assignments {
    /// Nothing is known and nothing served.
    pub fn new(node: impl Into<String>) -> Self {
        Self {
            node: node.into(),
            route: Listing::default(),
            previous_route: Listing::default(),
            serving: BTreeMap::new(),
            confirming: BTreeMap::new(),
            tickets: 0,
        }
    }

    /// Whether both lists are complete (since [`Self::restarted`]) and no room is in doubt.
    pub fn settled(&self) -> bool {
        self.complete() && self.confirming.is_empty()
    }

    /// Whether the answer to this [`Order::Confirm`] is still wanted.
    pub fn awaits(&self, id: &CallId, ticket: Ticket) -> bool {
        self.confirming.get(id) == Some(&ticket)
    }

    /// Rooms that are served.
    pub fn serving(&self) -> impl Iterator<Item = &Service> {
        self.serving.values().map(|held| &held.service)
    }

    /// Both watches begin anew. Everything stays as it is until both lists are complete.
    pub fn restarted(&mut self) {
        for source in Source::ALL {
            self.listing(source).complete = false;
        }
    }

    /// What the news asks for. Releases come before what replaces them.
    pub fn hear(&mut self, news: News) -> Vec<Order> {
        match news {
            News::ListStarted(source) => {
                self.listing(source).fresh.clear();
                Vec::new()
            }
            News::Listed(source, room) => {
                let listing = self.listing(source);
                listing.fresh.insert(room.id.clone(), room.clone());
                let id = room.id.clone();
                listing.rooms.insert(id.clone(), room);
                self.settle(&id)
            }
            News::ListDone(source) => {
                let listing = self.listing(source);
                listing.rooms = std::mem::take(&mut listing.fresh);
                listing.complete = true;
                let ids: Vec<CallId> = self.serving.keys().cloned().collect();
                ids.iter().flat_map(|id| self.settle(id)).collect()
            }
            News::Changed(source, room) => {
                let id = room.id.clone();
                self.listing(source).rooms.insert(id.clone(), room);
                self.settle(&id)
            }
            News::Left(source, id, version) => {
                self.listing(source).rooms.remove(&id);
                if let Some(held) = self.serving.get_mut(&id) {
                    held.version = held.version.max(version);
                }
                self.settle(&id)
            }
            News::Confirmed(id, ticket, room) if self.awaits(&id, ticket) => self.confirmed(&id, room.as_ref()),
            News::Confirmed(..) => Vec::new(),
        }
    }

    /// Brings what is served in line with what the watches show of one room.
    fn settle(&mut self, id: &CallId) -> Vec<Order> {
        let Some(room) = self.seen(id).cloned() else {
            return if self.serving.contains_key(id) && self.complete() { vec![self.doubt(id)] } else { Vec::new() };
        };
        let held = self.serving.get(id);
        if held.is_some_and(|h| h.is_ahead_of(&room, &self.node)) {
            return Vec::new(); // This watch lags, and what it says next will be about this room.
        }
        self.confirming.remove(id);
        let replaced = held.is_some_and(|h| h.service.uid != room.uid);
        let mut orders = Vec::new();
        match room.epoch_on(&self.node) {
            Some(epoch) => {
                if replaced {
                    orders.push(Order::Release(id.clone(), Why::Deleted));
                }
                let service = Service {
                    id: id.clone(),
                    uid: room.uid.clone(),
                    epoch,
                    max_participants: room.max_participants,
                    rules: room.rules.clone(),
                };
                if held.is_none_or(|h| h.service != service) {
                    orders.push(Order::Serve(service.clone()));
                }
                let held = Held { service, version: room.version };
                self.serving.insert(id.clone(), held);
            }
            None if held.is_none() => {}
            None if room.over || replaced => {
                orders.push(Order::Release(id.clone(), if replaced { Why::Deleted } else { Why::Ended }));
                self.serving.remove(id);
            }
            // A watch shows it although no route of it is ours: not what the selection promised.
            None => orders.push(self.doubt(id)),
        }
        orders
    }

    fn confirmed(&mut self, id: &CallId, room: Option<&Room>) -> Vec<Order> {
        self.confirming.remove(id);
        let Some(served) = self.serving.get(id) else { return Vec::new() };
        let why = match room {
            None => Why::Deleted,
            Some(room) if room.uid != served.service.uid => Why::Deleted,
            Some(room) if room.over => Why::Ended,
            // It left and came back: the watch is about to say so.
            Some(room) if room.epoch_on(&self.node).is_some() => return Vec::new(),
            Some(_) => Why::Moved,
        };
        self.serving.remove(id);
        vec![Order::Release(id.clone(), why)]
    }

    fn doubt(&mut self, id: &CallId) -> Order {
        self.tickets += 1;
        self.confirming.insert(id.clone(), self.tickets);
        Order::Confirm(id.clone(), self.tickets)
    }

    /// The latest that any watch shows of a room.
    fn seen(&self, id: &CallId) -> Option<&Room> {
        let rank = |room: &&Room| (room.version, room.route.as_ref().map(|r| r.epoch));
        [&self.route, &self.previous_route].into_iter().filter_map(|l| l.rooms.get(id)).max_by_key(rank)
    }

    fn complete(&self) -> bool {
        self.route.complete && self.previous_route.complete
    }

    fn listing(&mut self, source: Source) -> &mut Listing {
        match source {
            Source::Route => &mut self.route,
            Source::PreviousRoute => &mut self.previous_route,
        }
    }
}

#[cfg(test)]
#[path = "assignments_tests.rs"]
mod tests;
