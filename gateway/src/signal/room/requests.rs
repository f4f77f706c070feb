//! What clients ask of a room.

use callplane_crds::presence::SfuReason;
use serde_json::Value;
use tokio::sync::oneshot;

use super::Room;
use crate::{
    Code, Problem,
    signal::{
        answer::{Answer, Done, FromPeer, Refusal, Written, value},
        member::{Change, ChatMessage, Level, Parting, Wish},
        message::{Candidate, Description, Message, Report, Sdp, UpdateState},
        quality::Verdict,
        store::Direct,
    },
};

impl Room {
    /// Serves a client.
    pub(super) async fn request(
        &mut self,
        user: &str,
        connection: &str,
        message: Message,
        reply: oneshot::Sender<Answer>,
    ) {
        if let Err(refusal) = self.client(user, connection) {
            let _ = reply.send(Err(refusal));
            return;
        }
        let done = || Ok(value(&Done {}));
        let answer = match message {
            Message::Join(_) => Err(Problem::new(Code::Conflict, "this socket is in the room: leave first").into()),
            Message::Refresh => self.refresh(user),
            Message::Description(which, description) => self.pass_description(user, which, &description).await,
            Message::Candidate(candidate) => self.pass_candidate(user, &candidate).await,
            Message::Ack(ack) => {
                self.acknowledge(user, &ack).await;
                done()
            }
            Message::State(update) => self.update(user, update).await,
            Message::Chat(text) => self.chat(user, text).await,
            Message::Quality(report) => self.report(user, report).await,
            // These wait for others: meanwhile the room goes on.
            Message::Leave => return self.leave(user, connection, reply).await,
            Message::Pause(consumer) => return self.at_node(user, format!("/consumers/{consumer}/pause"), reply),
            Message::Resume(consumer) => return self.at_node(user, format!("/consumers/{consumer}/resume"), reply),
            Message::Mute(_) | Message::Remove(_) | Message::End | Message::Lock(_) => {
                return self.host(user, message, reply).await;
            }
        };
        let _ = reply.send(answer);
    }

    /// Somebody leaves, and is answered when the nodes have let go of them, so that joining again comes after that.
    async fn leave(&mut self, user: &str, connection: &str, reply: oneshot::Sender<Answer>) {
        let at = self.gateway.clock.now().wall;
        let (user, connection) = (user.to_owned(), connection.to_owned());
        // Its socket stays, for another room.
        let client = self.clients.remove(&user);
        let farewell = client.map(|client| self.farewell(client));
        let _ = self.commit(Change::Left { user, connection, reason: Parting::Left, by: None, at }).await;
        tokio::spawn(async move {
            if let Some(farewell) = farewell {
                farewell.await;
            }
            let _ = reply.send(Ok(value(&Done {})));
        });
    }

    /// Somebody left by another way than their socket, or was made to. Whoever says so tells the nodes and the records.
    pub(super) async fn part(&mut self, user: String, reason: Parting, by: Option<String>) -> bool {
        let at = self.gateway.clock.now().wall;
        let Some(member) = self.state.members.get(&user) else { return false };
        let connection = member.connection_id.clone();
        self.put(Change::Left { user, connection, reason, by, at }).await.is_ok()
    }

    /// A new token for a client, which is also what the old one is replaced by.
    pub(super) fn refresh(&mut self, user: &str) -> Answer {
        let refresh = self.refresh_at(self.gateway.clock.now().mono);
        let Some(client) = self.clients.get(user) else { return Ok(Value::Null) };
        let ticket = self.ticket(&client.member.participant, self.epoch())?;
        if let Some(client) = self.clients.get_mut(user) {
            client.refresh = refresh;
        }
        Ok(value(&ticket))
    }

    async fn pass_description(&mut self, user: &str, which: Sdp, description: &Description) -> Answer {
        let event = match which {
            Sdp::Offer => "webrtc:offer",
            Sdp::Answer => "webrtc:answer",
        };
        let data =
            FromPeer { source_user_id: user, sdp: Some(&description.sdp), candidate: None, epoch: description.epoch };
        self.pass(&description.target_user_id, event, value(&data)).await
    }

    async fn pass_candidate(&mut self, user: &str, candidate: &Candidate) -> Answer {
        let data =
            FromPeer { source_user_id: user, sdp: None, candidate: Some(&candidate.candidate), epoch: candidate.epoch };
        self.pass(&candidate.target_user_id, "webrtc:ice-candidate", value(&data)).await
    }

    /// To one other member, wherever their socket is.
    pub(super) async fn pass(&mut self, target: &str, event: &'static str, data: Value) -> Answer {
        let absent = |detail: &str| Refusal::from(Problem::new(Code::ParticipantNotFound, detail));
        if let Some(client) = self.clients.get_mut(target) {
            client.outlet.tell(event, &data);
            return Ok(value(&Done {}));
        }
        match self.state.members.get(target) {
            None => Err(absent("there is no such participant")),
            Some(member) if member.dropped.is_some() => Err(absent("the participant is not connected at present")),
            Some(_) if self.store.is_local() => Err(absent("the participant is not connected at present")),
            Some(_) => {
                let direct = Direct::Tell { user: target.to_owned(), event: event.to_owned(), data };
                self.direct(direct).await;
                Ok(value(&Done {}))
            }
        }
    }

    async fn update(&mut self, user: &str, update: UpdateState) -> Answer {
        let Some(client) = self.clients.get_mut(user) else { return Ok(Value::Null) };
        let own = &mut client.member.participant;
        let before = (own.is_muted, own.is_video_on);
        own.is_muted = update.is_muted.unwrap_or(own.is_muted);
        own.is_video_on = update.is_video_on.unwrap_or(own.is_video_on);
        if before != (own.is_muted, own.is_video_on) {
            let member = client.member.clone();
            self.commit(Change::State { member }).await?;
        }
        Ok(value(&Done {}))
    }

    async fn chat(&mut self, user: &str, text: String) -> Answer {
        let Some(client) = self.clients.get(user) else { return Ok(Value::Null) };
        let (id, at) = (crate::rooms::chance()?, self.gateway.clock.now().wall);
        let display_name = client.member.participant.display_name.clone();
        let message = ChatMessage { id: id.clone(), user_id: user.to_owned(), display_name, text, at };
        self.commit(Change::Chat { message }).await?;
        Ok(value(&Written { id, at }))
    }

    async fn report(&mut self, user: &str, report: Report) -> Answer {
        let (now, epoch) = (self.gateway.clock.now(), self.epoch());
        let limit = self.loss_limit();
        let Some(client) = self.clients.get_mut(user) else { return Ok(Value::Null) };
        let mut is_news = false;
        // What it was like on another route says nothing of this one.
        if report.epoch == epoch {
            let verdict = client.window.report(now.mono, report.packet_loss_percent > limit);
            match (verdict, client.member.wish) {
                (Verdict::Wanted, None) => {
                    client.member.wish = Some(Wish { reason: SfuReason::PacketLoss, since: now.wall_seconds() });
                    is_news = true;
                }
                (Verdict::Recovered, Some(Wish { reason: SfuReason::PacketLoss, .. })) => {
                    client.member.wish = None;
                    is_news = true;
                }
                _ => {}
            }
        }
        let level = report.level.unwrap_or(match report.packet_loss_percent {
            loss if loss > limit => Level::Poor,
            loss if loss > limit / 2.0 => Level::Fair,
            _ => Level::Good,
        });
        let is_other = client.level.replace(level) != Some(level);
        let member = client.member.clone();
        if is_news {
            self.commit(Change::Updated { member }).await?;
        }
        if is_other {
            self.commit(Change::Quality { user: user.to_owned(), level }).await?;
        }
        Ok(value(&Done {}))
    }
}
