//! What the records are told of a call's signalling.

use super::Room;
use crate::{
    Code, Problem,
    access::Role,
    records::{Action, Actor, RoomRef},
    signal::{
        member::{Change, Parting},
        message::Message,
    },
};

impl Room {
    /// Somebody was connected.
    pub(super) fn note_entrance(&self, user: &str, role: &str) {
        let action = Action::Enter { user: user.to_owned(), role: Role::of_claim(role) };
        self.note(Actor::User(user.to_owned()), action);
    }

    /// A change that this replica makes, and no other one.
    pub(super) fn note_parting(&self, change: &Change) {
        let Change::Left { user, reason, by, .. } = change else { return };
        let user = user.clone();
        match (reason, by) {
            (Parting::Removed, Some(by)) => self.note(Actor::User(by.clone()), Action::Remove { user }),
            (reason, _) => self.note(Actor::User(user.clone()), Action::Leave { user, reason: word(*reason) }),
        }
    }

    /// Who is no host asked for what hosts do.
    pub(super) fn note_refusal(&self, by: &str, message: &Message) {
        if let Some(action) = action(message) {
            let room = RoomRef::from(&*self.room);
            self.gateway.note(room, Actor::User(by.to_owned()), action, Some(Code::NotPermitted));
        }
    }

    /// What came of a change of the room that a host asked for.
    pub(super) fn note_result(&self, by: &str, message: &Message) -> impl FnOnce(Option<&Problem>) + Send + 'static {
        let (gateway, room, by) = (self.gateway.clone(), RoomRef::from(&*self.room), Actor::User(by.to_owned()));
        let action = action(message);
        move |problem| {
            if let Some(action) = action {
                let result = problem.map_or(Ok(()), |problem| Err(problem.clone()));
                gateway.note_result(room, by, action, &result);
            }
        }
    }

    fn note(&self, by: Actor, action: Action) {
        self.gateway.note(RoomRef::from(&*self.room), by, action, None);
    }
}

fn action(message: &Message) -> Option<Action> {
    match message {
        Message::Mute(user) => Some(Action::Mute { user: user.clone() }),
        Message::Remove(user) => Some(Action::Remove { user: user.clone() }),
        Message::End => Some(Action::End),
        Message::Lock(true) => Some(Action::Lock),
        Message::Lock(false) => Some(Action::Unlock),
        _ => None,
    }
}

const fn word(reason: Parting) -> &'static str {
    match reason {
        Parting::Left => "left",
        Parting::Disconnected => "disconnected",
        Parting::Removed => "removed",
    }
}
