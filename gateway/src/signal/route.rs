//! What a CallRoom says about where its media flows, as far as signalling needs it. Pure.

use callplane_crds::{CallRoom, Route, RouteMode};

use super::answer::RouteView;

/// Where media flows, or flowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leg {
    /// Which.
    pub epoch: i64,
    /// Peer to peer, or through a node.
    pub mode: Mode,
    /// Why, as one word.
    pub reason: String,
}

/// How media flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Between the clients.
    P2p,
    /// Through a media node.
    Sfu,
}

impl Leg {
    fn of(route: &Route) -> Option<Self> {
        let mode = match route.mode {
            RouteMode::P2p => Mode::P2p,
            RouteMode::Sfu => Mode::Sfu,
            RouteMode::Unknown => return None,
        };
        Some(Self { epoch: route.epoch, mode, reason: route.reason.clone() })
    }

    /// As clients are told it.
    pub fn view(&self) -> RouteView {
        let mode = match self.mode {
            Mode::P2p => RouteMode::P2p,
            Mode::Sfu => RouteMode::Sfu,
        };
        RouteView { epoch: self.epoch, mode: mode.as_str() }
    }

    /// Whether a switch to it undoes an earlier one.
    pub fn is_roll_back(&self) -> bool {
        self.reason == "RolledBack"
    }
}

/// The routes of a room that this version understands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// Where media flows.
    pub current: Option<Leg>,
    /// Where it flows until all have moved.
    pub previous: Option<Leg>,
}

impl Routes {
    /// Of a room.
    pub fn of(room: &CallRoom) -> Self {
        let status = room.status.as_ref();
        let leg = |route: Option<&Route>| route.and_then(Leg::of);
        Self {
            current: leg(status.and_then(|s| s.route.as_ref())),
            previous: leg(status.and_then(|s| s.previous_route.as_ref())),
        }
    }

    /// The epochs that media nodes serve.
    pub fn nodes(&self) -> impl Iterator<Item = i64> + '_ {
        let legs = [&self.previous, &self.current].into_iter().flatten();
        legs.filter(|leg| leg.mode == Mode::Sfu).map(|leg| leg.epoch)
    }
}

/// Whom `user` sends an offer when all move to peer to peer: of each pair the lower user id does.
pub fn offers_to<'a>(user: &str, others: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    others.filter(|other| user < *other).collect()
}
