//! Clients of WHIP and WHEP have one token and know of no routes: here it follows the call.
//!
//! A token of an earlier epoch counts for the present one, for as long as it lasts and if the room still lets its bearer in.
//! A call that is peer to peer gets a media node for who publishes or plays this way, where that may be.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Extension,
    body::Body,
    extract::{ConnectInfo, State},
    http::{HeaderMap, HeaderValue, Method, Request, Response, header},
};
use callplane_crds::{CallId, CallRoom, RouteMode, TopologyMode, names::TOKEN_AUDIENCE};
use serde_json::Value;

use super::{call_of, current, epoch_of, heard, pass_on, whip};
use crate::{
    Code, Gateway, Problem,
    access::{JoinClaims, bearer},
    rooms,
    signal::{Need, Signal, Visitor},
};

/// How often a media node is asked for within `--ready-timeout`: what one replica tells the others may get lost.
const TRIES: u32 = 2;
/// A room for so many stays peer to peer unless that does not work for them.
const TWO: i32 = 2;

/// What a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Errand {
    /// To publish or to play.
    Open,
    /// To change or end what it has.
    Change,
}

impl Errand {
    /// Of a request whose token counts.
    fn of(method: &Method, path: &str) -> Option<Self> {
        let is_of_session = whip::below(path)?.contains('/');
        match (method, is_of_session) {
            (&Method::POST, false) => Some(Self::Open),
            (&Method::PATCH | &Method::DELETE, true) => Some(Self::Change),
            _ => None,
        }
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// It is passed on as it is.
    On,
    /// Its token counts for this epoch.
    At(i64),
    /// The call needs a media node first.
    Up,
}

/// The way of a request with a token of `epoch`, if it has one.
fn way(room: &CallRoom, errand: Errand, epoch: Option<i64>) -> Way {
    let present = current(room);
    if errand == Errand::Open && present.is_some_and(|route| route.mode == RouteMode::P2p) {
        return Way::Up;
    }
    // While a call leaves its node, what it has there is still changed and ended there.
    let previous = room.status.as_ref().and_then(|s| s.previous_route.as_ref());
    let served = [present, previous].into_iter().flatten().find(|route| route.node.is_some());
    match served.filter(|route| epoch.is_some_and(|epoch| epoch < route.epoch)) {
        Some(route) => Way::At(route.epoch),
        None => Way::On,
    }
}

/// Whether the call may leave peer to peer because somebody asks for it.
fn may_move(room: &CallRoom) -> Result<(), Problem> {
    let why = match room.spec.topology.as_ref().map(|topology| topology.mode) {
        Some(TopologyMode::P2p) => "no media node ever carries it",
        Some(TopologyMode::Auto) if room.spec.max_participants <= TWO => "a room for two stays so while that works",
        _ => return Ok(()),
    };
    let detail = format!("the call is peer to peer, and {why}: WHIP and WHEP need topology.mode SFU here");
    Err(Problem::new(Code::NoMediaNode, detail))
}

/// A verified token of a room.
struct Token {
    /// All that it says.
    claims: Value,
    /// What is read of it.
    said: JoinClaims,
}

impl Token {
    fn verified(gateway: &Gateway, room: &CallRoom, token: Option<&str>) -> Result<Self, Problem> {
        let token =
            token.ok_or_else(|| Problem::new(Code::CredentialsMissing, "this needs a join token as bearer token"))?;
        let claims: Value = gateway.signer.verify(token, TOKEN_AUDIENCE, gateway.clock.now().wall)?;
        let foreign = |_| Problem::new(Code::CredentialsInvalid, "the token is no join token");
        let said: JoinClaims = serde_json::from_value(claims.clone()).map_err(foreign)?;
        let is_of_room = said.room_id == room.call_id().to_string();
        if !is_of_room || room.metadata.uid.as_deref() != Some(&*said.room_uid) {
            return Err(Problem::new(Code::WrongRoom, "the join token is for another room"));
        }
        Ok(Self { claims, said })
    }

    /// The same for another epoch of the room: whose it is, what it allows, and when it was made and ends stay.
    fn at(mut self, gateway: &Gateway, epoch: i64) -> Result<String, Problem> {
        self.claims["epoch"] = epoch.into();
        gateway.signer.sign(&self.claims)
    }
}

/// Passes a request on to the media node of the call, where need be with a token that counts there.
pub(super) async fn follow(
    State(gateway): State<Gateway>,
    Extension(signal): Extension<Signal>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request<Body>,
) -> Result<Response<Body>, Problem> {
    let id = call_of(request.uri().path())?;
    let client = gateway.limits.client(peer.ip(), request.headers());
    if let Some(errand) = Errand::of(request.method(), request.uri().path())
        && let Some(token) = replacement(&signal, &id, errand, request.headers()).await?
    {
        let header = HeaderValue::from_str(&format!("Bearer {token}"));
        let mut header = header.map_err(|_| Problem::new(Code::NoSigningKey, "the key does not sign"))?;
        header.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, header);
    }
    pass_on(&gateway, &id, client, request).await
}

/// The token that takes the place of the request's own, where one has to.
async fn replacement(
    signal: &Signal,
    id: &CallId,
    errand: Errand,
    headers: &HeaderMap,
) -> Result<Option<String>, Problem> {
    let (gateway, token) = (signal.gateway(), bearer(headers));
    let epoch = token.and_then(epoch_of);
    let room = heard(gateway, id, epoch).await;
    // Why a request is not for a room like this is said where it is passed on.
    let Some(room) = room.filter(|room| !room.is_over()) else { return Ok(None) };
    match way(&room, errand, epoch) {
        Way::On => Ok(None),
        Way::At(epoch) => {
            // Of a token that is not good the node says so, as ever.
            let Ok(token) = Token::verified(gateway, &room, token) else { return Ok(None) };
            gateway.limits.caller(&(&token.said.room_id, &token.said.sub))?;
            if errand == Errand::Open {
                signal.knock(&room, Visitor::of(&token.said), Need::Entry).await?;
            }
            token.at(gateway, epoch).map(Some)
        }
        Way::Up => {
            let token = Token::verified(gateway, &room, token)?;
            gateway.limits.caller(&(&token.said.room_id, &token.said.sub))?;
            may_move(&room)?;
            let epoch = moved_up(signal, &room, &Visitor::of(&token.said)).await?;
            token.at(gateway, epoch).map(Some)
        }
    }
}

/// Asks for a media node, and waits a moment for the route to it: its epoch.
async fn moved_up(signal: &Signal, room: &Arc<CallRoom>, visitor: &Visitor) -> Result<i64, Problem> {
    let (gateway, id) = (signal.gateway(), room.call_id());
    let busy = |_| Problem::new(Code::Busy, "as many requests as can be wait for media nodes");
    let _permit = gateway.forwarder.movers.try_acquire().map_err(busy)?;
    let is_same = |found: &CallRoom| found.metadata.uid == room.metadata.uid;
    let epoch = |found: &CallRoom| current(found).filter(|route| route.node.is_some()).map(|route| route.epoch);
    let is_settled = |found: &CallRoom| !is_same(found) || found.is_over() || epoch(found).is_some();
    let mut last = Arc::clone(room);
    for _ in 0..TRIES {
        signal.knock(room, visitor.clone(), Need::MediaNode).await?;
        let found = gateway.cache.wait(&id, gateway.ready_timeout / TRIES, is_settled).await;
        last = found.filter(|found| is_same(found) && !found.is_over()).ok_or_else(|| rooms::ended(room))?;
        if let Some(epoch) = epoch(&last) {
            return Ok(epoch);
        }
    }
    let why = rooms::why_not_placed(&last);
    Err(Problem::new(
        Code::RoomNotReady,
        format!("the call is peer to peer, and a media node was asked for: ask again{why}"),
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn room(spec: Value, status: Value) -> CallRoom {
        let room = json!({
            "apiVersion": "callplane.io/v1alpha1", "kind": "CallRoom", "metadata": {"name": "r", "namespace": "team"},
            "spec": spec, "status": status,
        });
        serde_json::from_value(room).unwrap()
    }

    fn route(epoch: i64, node: Option<&str>) -> Value {
        let mode = if node.is_some() { "SFU" } else { "P2P" };
        json!({"epoch": epoch, "mode": mode, "node": node, "reason": "Scheduled", "since": "2026-11-21T14:00:00Z"})
    }

    #[test]
    fn only_what_opens_or_changes_a_session_is_looked_at() {
        for (method, path, expected) in [
            (Method::POST, "/whip/team.r", Some(Errand::Open)),
            (Method::POST, "/whep/team.r", Some(Errand::Open)),
            (Method::PATCH, "/whip/team.r/s1", Some(Errand::Change)),
            (Method::DELETE, "/whep/team.r/s1", Some(Errand::Change)),
            (Method::POST, "/whip/team.r/s1", None),
            (Method::DELETE, "/whip/team.r", None),
            (Method::GET, "/whep/team.r", None),
            (Method::POST, "/api/rooms/team.r", None),
        ] {
            assert_eq!(Errand::of(&method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn a_token_follows_the_call_to_the_newest_route_through_a_node() {
        let (sfu, p2p) = (|epoch| route(epoch, Some("mn-a")), |epoch| route(epoch, None));
        let (one, two) = (json!({"route": sfu(3)}), json!({"route": sfu(3), "previousRoute": sfu(2)}));
        let (up, down) =
            (json!({"route": sfu(3), "previousRoute": p2p(2)}), json!({"route": p2p(3), "previousRoute": sfu(2)}));
        let (peers, none) = (json!({"route": p2p(3)}), json!({}));
        for (status, epoch, open, change) in [
            (&one, Some(3), Way::On, Way::On),
            (&one, Some(1), Way::At(3), Way::At(3)),
            // The gateway may not have heard of it yet, which the node says better.
            (&one, Some(4), Way::On, Way::On),
            (&one, None, Way::On, Way::On),
            (&two, Some(2), Way::At(3), Way::At(3)),
            (&up, Some(2), Way::At(3), Way::At(3)),
            (&down, Some(1), Way::Up, Way::At(2)),
            (&down, Some(2), Way::Up, Way::On),
            (&down, Some(3), Way::Up, Way::On),
            (&peers, Some(3), Way::Up, Way::On),
            (&peers, None, Way::Up, Way::On),
            (&none, Some(1), Way::On, Way::On),
        ] {
            let room = room(json!({"maxParticipants": 4}), status.clone());
            let ways = [Errand::Open, Errand::Change].map(|errand| way(&room, errand, epoch));
            assert_eq!(ways, [open, change], "{epoch:?} of {status}");
        }
    }

    #[test]
    fn a_room_for_two_and_one_that_is_to_be_peer_to_peer_are_left_alone() {
        for (spec, is_allowed) in [
            (json!({"maxParticipants": 3, "topology": {"mode": "Auto"}}), true),
            (json!({"maxParticipants": 2, "topology": {"mode": "Auto"}}), false),
            (json!({"maxParticipants": 6, "topology": {"mode": "P2P"}}), false),
            // It is on its way there in any case.
            (json!({"maxParticipants": 2, "topology": {"mode": "SFU"}}), true),
            (json!({"maxParticipants": 2}), true),
        ] {
            let code = may_move(&room(spec.clone(), json!({}))).map_err(|problem| problem.code());
            assert_eq!(code, if is_allowed { Ok(()) } else { Err(Code::NoMediaNode) }, "{spec}");
        }
    }
}
