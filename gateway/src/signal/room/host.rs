//! What hosts do to a call.

use std::time::Duration;

use axum::http::Method;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::{Command, Room};
use crate::{
    Code, Problem,
    rooms::annotations,
    signal::{
        answer::{Answer, By, Done, value},
        member::{Change, Parting},
        message::Message,
    },
};

/// How long a client may take to mute itself when it is asked to; then its sound is ended at the node.
const MUTE_WITHIN: Duration = Duration::from_secs(3);

impl Room {
    pub(super) async fn host(&mut self, user: &str, message: Message, reply: oneshot::Sender<Answer>) {
        let is_moderator = self.clients.get(user).is_some_and(|client| client.member.participant.is_moderator());
        if !is_moderator {
            self.note_refusal(user, &message);
            let _ = reply.send(Err(Problem::new(Code::NotPermitted, "this is for hosts").into()));
            return;
        }
        let noted = self.note_result(user, &message);
        match message {
            Message::Mute(target) => {
                let answer = self.pass(&target, "call:muted", value(&By { by: Some(user) })).await;
                if answer.is_ok() {
                    noted(None);
                    self.after(MUTE_WITHIN, Command::Muted { user: target });
                }
                let _ = reply.send(answer);
            }
            Message::Remove(target) => {
                let answer = self.remove(user, &target).await;
                let _ = reply.send(answer);
            }
            Message::End => self.patch(json!({"spec": {"ended": true}}), reply, noted),
            Message::Lock(locked) => {
                let annotation = if locked { Value::from("true") } else { Value::Null };
                let annotations = json!({annotations::LOCKED: annotation, annotations::LOCKED_BY: user});
                self.patch(json!({"metadata": {"annotations": annotations}}), reply, noted);
            }
            _ => {}
        }
    }

    async fn remove(&mut self, by: &str, target: &str) -> Answer {
        let Some(member) = self.state.members.get(target) else {
            return Err(Problem::new(Code::ParticipantNotFound, "there is no such participant").into());
        };
        let change = Change::Left {
            user: target.to_owned(),
            connection: member.connection_id.clone(),
            reason: Parting::Removed,
            by: Some(by.to_owned()),
            at: self.gateway.clock.now().wall,
        };
        self.commit(change).await?;
        // The nodes let go of them, too, and do not let them in again by an older token.
        let user = percent_encoding::utf8_percent_encode(target, percent_encoding::NON_ALPHANUMERIC).to_string();
        for epoch in self.routes.nodes() {
            let Ok(node) = self.node(epoch, None) else { continue };
            let path = format!("/participants/{user}/leave");
            tokio::spawn(async move {
                if node.call(Method::POST, &path).await.is_err() {
                    tracing::warn!("a media node did not remove a participant");
                }
            });
        }
        Ok(value(&Done {}))
    }

    /// Changes the CallRoom while the room goes on. Everybody is told of it when the room is seen to be so.
    fn patch(
        &self,
        mut patch: Value,
        reply: oneshot::Sender<Answer>,
        noted: impl FnOnce(Option<&Problem>) + Send + 'static,
    ) {
        // Not a later room of the same name.
        patch["metadata"]["uid"] = Value::from(self.uid.clone());
        let (gateway, id) = (self.gateway.clone(), self.id.clone());
        tokio::spawn(async move {
            let done = match gateway.kube.merge(&id, &patch).await {
                Ok(Some(_)) => Ok(()),
                Ok(None) => Err(Problem::new(Code::Conflict, "the room changed meanwhile")),
                Err(problem) => Err(problem),
            };
            noted(done.as_ref().err());
            let _ = reply.send(done.map(|()| value(&Done {})).map_err(Into::into));
        });
    }

    /// A client was asked to mute itself. If it has not, its sound is ended at the node.
    pub(super) fn insist_on_mute(&self, user: &str) {
        let is_muted = self.state.members.get(user).is_none_or(|member| member.participant.is_muted);
        if is_muted {
            return;
        }
        for epoch in self.routes.nodes() {
            let Ok(node) = self.node(epoch, None) else { continue };
            let user = user.to_owned();
            tokio::spawn(async move {
                let Ok(room) = node.call(Method::GET, "").await else { return };
                for producer in sound_of(&room, &user) {
                    let _ = node.call(Method::DELETE, &format!("/producers/{producer}")).await;
                }
            });
        }
    }

    fn after(&self, wait: Duration, command: Command) {
        let own = self.own.clone();
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            if let Some(own) = own.upgrade() {
                let _ = own.send(command).await;
            }
        });
    }
}

/// The producers of `user`'s sound, in a media node's view of a room.
fn sound_of(room: &Value, user: &str) -> Vec<String> {
    let producers = room["producers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_sound = |producer: &&Value| producer["participantId"] == user && producer["kind"] == "audio";
    producers.iter().filter(is_sound).filter_map(|producer| producer["id"].as_str().map(str::to_owned)).collect()
}
