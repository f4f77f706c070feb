//! Letting people in, and letting them go.

use std::{net::IpAddr, time::Duration};

use tokio::sync::oneshot;

use super::{Client, Room, Visitor, full, switch};
use crate::{
    Code, Problem,
    signal::{
        answer::{Answer, By, Joined, Ticket, value},
        member::{Change, Member, Participant, Parting},
        message::Resume,
        outlet::Outlet,
        quality::Window,
        route::Mode,
        state::Missed,
    },
};

/// Somebody with a socket.
pub struct JoinRequest {
    /// Who, as their token says.
    pub visitor: Visitor,
    /// Name to show.
    pub name: Option<String>,
    /// Where they come back from.
    pub resume: Option<Resume>,
    /// The microphone is off.
    pub is_muted: Option<bool>,
    /// The camera is on.
    pub is_video_on: Option<bool>,
    /// Their socket's id.
    pub connection: String,
    /// Where they are.
    pub address: IpAddr,
    /// Their socket.
    pub outlet: Outlet,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Answer>,
}

impl JoinRequest {
    /// They are not let in.
    pub fn refuse(self, problem: Problem) {
        let _ = self.reply.send(Err(problem.into()));
    }
}

/// A join that is in the store.
pub(super) struct Pending {
    request: Box<JoinRequest>,
    pub(super) change: Change,
    is_resumed: bool,
    pub(super) is_gone: bool,
}

impl Pending {
    pub(super) fn refuse(self, problem: Problem) {
        self.request.refuse(problem);
    }
}

impl Room {
    /// Lets somebody in, if the room does.
    pub(super) async fn join(&mut self, request: Box<JoinRequest>) {
        if let Err(problem) = self.may_enter(&request.visitor) {
            return request.refuse(problem);
        }
        if self.must_ask_node() {
            return self.waiting.push(*request);
        }
        let now = self.gateway.clock.now();
        let Visitor { user, role, .. } = &request.visitor;
        let known = self.state.members.get(user);
        let back = request.resume.as_ref().and_then(|resume| {
            let member = known.filter(|member| member.session == resume.session)?;
            self.state.log.missed(&resume.seq, user).map(|_| member.clone())
        });
        let is_resumed = back.is_some();
        let session = match crate::rooms::chance() {
            Ok(session) => session,
            Err(problem) => return request.refuse(problem),
        };
        let change = match back {
            Some(mut member) => {
                member.participant.role.clone_from(role);
                member.participant.is_muted = request.is_muted.unwrap_or(member.participant.is_muted);
                member.participant.is_video_on = request.is_video_on.unwrap_or(member.participant.is_video_on);
                member.connection_id.clone_from(&request.connection);
                member.replica.clone_from(&self.replica);
                member.dropped = None;
                Change::Resumed { member }
            }
            None => {
                let participant = Participant {
                    user_id: user.clone(),
                    display_name: request.name.clone(),
                    role: role.clone(),
                    is_muted: request.is_muted.unwrap_or(false),
                    is_video_on: request.is_video_on.unwrap_or(true),
                    joined_at: now.wall,
                };
                let member = Member {
                    participant,
                    connection_id: request.connection.clone(),
                    session,
                    replica: self.replica.clone(),
                    acked: 0,
                    failed: 0,
                    wish: None,
                    dropped: None,
                };
                Change::Joined { member, again: known.is_some() }
            }
        };
        let connection = request.connection.clone();
        self.pending
            .insert(connection.clone(), Pending { request, change: change.clone(), is_resumed, is_gone: false });
        if let Err(problem) = self.commit(change).await
            && let Some(pending) = self.pending.remove(&connection)
        {
            pending.refuse(problem);
        }
    }

    /// Whether the room lets somebody in whose token is good.
    pub(super) fn may_enter(&self, visitor: &Visitor) -> Result<(), Problem> {
        let is_known = self.state.members.contains_key(&visitor.user);
        let is_moderator = matches!(visitor.role.as_str(), "host" | "admin");
        if self.state.removed.get(&visitor.user).is_some_and(|at| visitor.issued <= *at) {
            return Err(Problem::new(Code::Removed, "you were removed from the room after the token was made"));
        }
        if self.locked && !is_known && !is_moderator {
            return Err(Problem::new(Code::RoomLocked, "the room is locked"));
        }
        if self.routes.current.is_none() {
            return Err(crate::rooms::not_ready(&self.room));
        }
        Ok(())
    }

    /// Whether `user` would find a place. Before somebody is turned away it is looked at what other replicas know, and while
    /// that cannot be seen nobody is: who is in may not be known here.
    pub(super) async fn place_for(&mut self, user: &str) -> Result<(), Problem> {
        let max = self.max();
        if self.state.has_place(user, max) {
            return Ok(());
        }
        self.touch().await;
        match self.state.has_place(user, max) || !self.store.is_up() {
            true => Ok(()),
            false => Err(full(max)),
        }
    }

    /// A join came back from the store, here or from another replica.
    pub(super) fn admitted(&mut self, member: Member) {
        let user = member.user().to_owned();
        if self.clients.get(&user).is_some_and(|client| client.member.connection_id != member.connection_id)
            && let Some(mut replaced) = self.clients.remove(&user)
        {
            replaced.outlet.tell("call:replaced", &crate::signal::answer::Done {});
            replaced.outlet.close();
        }
        let Some(pending) = self.pending.remove(&member.connection_id) else { return };
        let Pending { request, is_resumed, is_gone, .. } = pending;
        let JoinRequest { address, mut outlet, reply, resume, .. } = *request;
        // What happened until now: from now on the socket is told.
        let missed = resume.filter(|_| is_resumed).and_then(|resume| self.state.log.missed(&resume.seq, &user));
        let ticket = match self.ticket(&member.participant, self.epoch()) {
            Ok(ticket) => ticket,
            Err(problem) => {
                let _ = reply.send(Err(problem.into()));
                outlet.close();
                return;
            }
        };
        let now = self.gateway.clock.now().mono;
        let is_switch = self.routes.previous.is_some();
        let acked = member.acked;
        let joined = value(&self.joined(&member, ticket, missed));
        outlet.tell("call:joined", &joined);
        let _ = reply.send(Ok(joined));
        if is_gone {
            // It went while it was on its way in: it goes as any other does.
            outlet.give_up();
        }
        let client = Client {
            told: switch::Told::new(self.epoch(), is_switch && acked < self.epoch(), now),
            refresh: self.refresh_at(now),
            window: Window::new(now),
            level: None,
            media: std::collections::BTreeMap::new(),
            member,
            outlet,
            address,
        };
        if !is_resumed {
            self.note_entrance(&user, &client.member.participant.role);
        }
        self.clients.insert(user, client);
        self.gateway.metrics.joined();
    }

    fn joined<'a>(&'a self, member: &'a Member, ticket: Ticket, missed: Option<Vec<Missed>>) -> Joined<'a> {
        let is_p2p = self.routes.current.as_ref().is_some_and(|leg| leg.mode == Mode::P2p);
        let others = || self.state.members.values().filter(|other| other.user() != member.user());
        let is_newcomer = missed.is_none();
        let present = others().filter(|other| other.dropped.is_none());
        let view = |leg: &crate::signal::route::Leg| leg.view();
        Joined {
            room_id: self.id.to_string(),
            session: &member.session,
            seq: self.state.log.last(),
            resumed: missed.is_some(),
            missed,
            own: &member.participant,
            participants: others().map(|other| &other.participant).collect(),
            route: self
                .routes
                .current
                .as_ref()
                .map(view)
                .unwrap_or(crate::signal::answer::RouteView { epoch: 0, mode: "SFU" }),
            previous_route: self.routes.previous.as_ref().map(view),
            ticket,
            api_url: self.gateway.api_url(&self.id),
            rtp_capabilities: self.capability(self.epoch()),
            initiator: match is_p2p && is_newcomer {
                true => present.map(Member::user).collect(),
                false => vec![],
            },
            chat: self.state.chat.iter().collect(),
            locked: self.locked,
            p2p_max_participants: self.p2p_max(),
        }
    }

    /// Somebody left: their socket, if it is here, is let go.
    pub(super) fn parted(&mut self, user: &str, connection: &str, reason: Parting, by: Option<&str>) {
        let is_here = self.clients.get(user).is_some_and(|client| client.member.connection_id == connection);
        let Some(mut client) = is_here.then(|| self.clients.remove(user)).flatten() else { return };
        // Who leaves by their socket has let go of it before.
        if reason != Parting::Disconnected {
            client.outlet.tell("call:removed", &By { by });
            client.outlet.close();
        }
    }

    /// When a token that is made now is to be replaced.
    pub(super) fn refresh_at(&self, now: Duration) -> Duration {
        let life = self.gateway.token_ttl;
        now + life - (life / 4).min(Duration::from_secs(60))
    }
}
