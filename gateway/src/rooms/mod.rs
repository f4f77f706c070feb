//! Rooms as REST has them: each is a CallRoom, whoever made it.

pub(crate) mod annotations;
mod consent;
mod create;
mod join;
mod leave;
mod links;
mod manage;
mod once;
mod topology;
mod view;

use std::sync::Arc;

use axum::{
    Router,
    routing::{delete, get, post, put},
};
use callplane_crds::{CallId, CallRoom, condition};

pub use consent::{ConsentList, ConsentView, GiveConsent, GivenConsent, give_consent};
pub use create::{CreateRoom, CreatedRoom, Settings};
pub use join::{JoinRoom, JoinedRoom, RouteView};
pub use leave::LeaveRoom;
pub use links::{CreateLink, ShareLink};
pub use manage::LockRoom;
pub use topology::{ModeSetting, TopologySettings};
pub use view::{Room, RoomList, RoomStatus};

pub(crate) use consent::{__path_consents, __path_give_consent};
pub(crate) use create::{__path_create, chance};
pub(crate) use join::__path_join;
pub(crate) use leave::__path_leave;
pub(crate) use links::{__path_create_link, __path_revoke_link};
pub(crate) use manage::{__path_end, __path_lock};
pub(crate) use view::{__path_list, __path_read};

use crate::{Code, Gateway, Problem};

/// The routes under `/v1/rooms`.
pub fn routes() -> Router<Gateway> {
    Router::new()
        .route("/", post(create::create).get(view::list))
        .route("/{id}", get(view::read))
        .route("/{id}/join", post(join::join))
        .route("/{id}/leave", post(leave::leave))
        .route("/{id}/end", put(manage::end))
        .route("/{id}/lock", put(manage::lock))
        .route("/{id}/consents", get(consent::consents))
        .route("/{id}/links", post(links::create_link))
        .route("/{id}/links/{link}", delete(links::revoke_link))
}

/// User id of the room's host, where one was named.
pub(crate) fn host(room: &CallRoom) -> Option<&str> {
    annotations::text(room, annotations::HOST_ID)
}

/// What a path names.
fn call_id(text: &str) -> Result<CallId, Problem> {
    text.parse().map_err(|error: callplane_crds::call_id::InvalidCallId| {
        Problem::new(Code::RoomNotFound, error.to_string()).field("id")
    })
}

impl Gateway {
    /// The room: as it is known, or else as the API server has it. Call it for those only who may ask.
    async fn room(&self, id: &CallId) -> Result<Arc<CallRoom>, Problem> {
        match self.cache.room(id) {
            Some(room) => Ok(room),
            None => self.kube.room(id).await.map(Arc::new),
        }
    }

    /// The room when it can be joined, is over, or the time for that is up.
    async fn settled(&self, room: Arc<CallRoom>) -> Arc<CallRoom> {
        let now = self.clock.now().wall;
        if is_settled(&room, now) {
            return room;
        }
        let (id, uid) = (room.call_id(), room.metadata.uid.clone());
        // A room that was deleted and made again is another one.
        let same = |found: &CallRoom| found.metadata.uid == uid;
        let found = self.cache.wait(&id, self.ready_timeout, |found| same(found) && is_settled(found, now)).await;
        found.filter(|found| same(found)).unwrap_or(room)
    }

    /// Where clients find the room's API.
    pub(crate) fn api_url(&self, id: &CallId) -> String {
        format!("{}/api/rooms/{id}", self.public_url)
    }
}

fn is_settled(room: &CallRoom, now: jiff::Timestamp) -> bool {
    room.is_over()
        || room.opens_at().is_some_and(|opens| opens > now)
        || room.status.as_ref().is_some_and(|s| s.route.is_some())
}

/// Why the room has no route.
pub(crate) fn not_ready(room: &CallRoom) -> Problem {
    Problem::new(Code::RoomNotReady, format!("the room has no media node yet{}", why_not_placed(room)))
}

/// Why no media node could be found for it, as the operator says, to be put behind something.
pub(crate) fn why_not_placed(room: &CallRoom) -> String {
    let conditions = room.status.as_ref().map(|s| s.conditions.as_slice()).unwrap_or_default();
    let placed = conditions.iter().find(|c| c.type_ == condition::room::PLACED && c.status == "False");
    placed.map_or_else(String::new, |c| format!(": {}: {}", c.reason, c.message))
}

pub(crate) fn ended(room: &CallRoom) -> Problem {
    Problem::new(Code::RoomEnded, format!("the call {} is over", room.call_id()))
}

/// Text that a person or a program chose: not empty, not too long, no control characters.
fn check_text(field: &str, text: &str, longest: usize) -> Result<(), Problem> {
    match !text.is_empty() && text.len() <= longest && !text.chars().any(char::is_control) {
        true => Ok(()),
        false => {
            let detail = format!("is 1 to {longest} bytes without control characters");
            Err(Problem::new(Code::Invalid, detail).field(field))
        }
    }
}

fn unsupported(field: &str) -> Problem {
    Problem::new(Code::UnsupportedSetting, format!("{field} does not work yet: leave it out")).field(field)
}
