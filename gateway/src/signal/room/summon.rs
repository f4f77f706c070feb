//! People whom signalling does not know: a client of WHIP or WHEP has no socket, so the proxy asks in its name whether it may
//! come in, and for a media node where the call has none.

use std::time::Duration;

use callplane_crds::presence::SfuReason;
use jiff::Timestamp;
use tokio::sync::oneshot;

use super::Room;
use crate::{
    Problem,
    access::JoinClaims,
    signal::{member::Wish, store::Direct},
};

/// How long after somebody asked for a media node the call is not to do without. By then they are at the node, which says so,
/// or will not come.
const HOLDS: Duration = Duration::from_secs(60);

/// Somebody whose token is good.
#[derive(Clone, Debug)]
pub struct Visitor {
    /// User id.
    pub user: String,
    /// `host`, `participant`, `guest` or `admin`.
    pub role: String,
    /// When the token was made.
    pub issued: Timestamp,
}

impl Visitor {
    /// Whom a verified token is for.
    pub fn of(claims: &JoinClaims) -> Self {
        let issued = Timestamp::from_second(claims.iat).unwrap_or_default();
        Self { user: claims.sub.clone(), role: claims.role.clone(), issued }
    }
}

/// What a visitor needs of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// To be let in.
    Entry,
    /// A media node as well.
    MediaNode,
}

/// What a visitor asks of a room.
pub struct Knock {
    /// Who.
    pub visitor: Visitor,
    /// For what.
    pub need: Need,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Result<(), Problem>>,
}

/// That somebody asked for a media node not long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Summons {
    /// Since when, for the operator.
    pub(super) wish: Wish,
    /// Until when.
    pub(super) until: Duration,
}

impl Summons {
    /// Of somebody who asks `now`, maybe after others.
    fn renewed(before: Option<Self>, now: Duration, wall: Timestamp) -> Self {
        let since = before.map_or(wall, |before| before.wish.since);
        Self { wish: Wish { reason: SfuReason::Requested, since }, until: now + HOLDS }
    }
}

impl Room {
    /// Answers a visitor, and asks for a media node where they need one and there is none.
    pub(super) async fn knocked(&mut self, Knock { visitor, need, answer }: Knock) {
        let admitted = self.may_enter(&visitor);
        if admitted.is_ok() && need == Need::MediaNode && self.is_p2p() {
            self.summoned();
            // Another replica may be the one that writes to the CallRoom; where none is, this one becomes it first.
            self.direct(Direct::Summoned).await;
            self.next_touch = self.gateway.clock.now().mono;
        }
        let _ = answer.send(admitted);
    }

    /// Somebody asks for a media node, here or at another replica.
    pub(super) fn summoned(&mut self) {
        let now = self.gateway.clock.now();
        self.summons = Some(Summons::renewed(self.summons, now.mono, now.wall_seconds()));
        self.count();
    }

    /// Forgets it when its time is up.
    pub(super) fn forget_summons(&mut self) {
        let now = self.gateway.clock.now().mono;
        if self.summons.take_if(|summons| summons.until <= now).is_some() {
            self.count();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_again_prolongs_it_and_writes_nothing_new() {
        let (at, wall) = (Duration::from_secs, |seconds| Timestamp::from_second(seconds).unwrap());
        let first = Summons::renewed(None, at(10), wall(1000));
        assert_eq!((first.wish.reason, first.wish.since, first.until), (SfuReason::Requested, wall(1000), at(70)));
        let again = Summons::renewed(Some(first), at(50), wall(1040));
        assert_eq!((again.wish, again.until), (first.wish, at(110)));
    }
}
