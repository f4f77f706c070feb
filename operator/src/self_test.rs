//! `callplane-operator self-test`, which `helm test` runs: whether this installation can carry a call.
//!
//! Decides from outside, as a user would: makes a CallRoom, waits until it is Ready, and removes it again.

use std::time::Duration;

use callplane_crds::{
    CallRoom, CallRoomSpec,
    callroom::Lifetime,
    condition::{is_true, room},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, PostParams},
    runtime::wait::{await_condition, conditions::is_deleted},
};
use thiserror::Error;
use tokio::time::timeout;

use crate::clock::Clock;

/// Until the room is ready. Enough for a pool that has to start its first node.
pub const READY_WITHIN: Duration = Duration::from_secs(60);
/// Until the room is gone.
const GONE_WITHIN: Duration = Duration::from_secs(20);
/// The room goes by itself if this process does not live to remove it.
const LEFTOVER_SECONDS: i32 = 120;

/// What went wrong.
#[derive(Debug, Error)]
pub enum SelfTestError {
    /// The API server did not take the room.
    #[error("cannot create a CallRoom: {0}")]
    Create(#[source] kube::Error),
    /// The room could not be followed.
    #[error("cannot follow the CallRoom: {0}")]
    Watch(#[source] kube::runtime::wait::Error),
    /// The room did not become ready.
    #[error("CallRoom {name} was not Ready within {} s: {conditions}", READY_WITHIN.as_secs())]
    NotReady {
        /// Its name.
        name: String,
        /// What the operator says about it.
        conditions: String,
    },
    /// The room could not be removed.
    #[error("cannot delete the CallRoom: {0}")]
    Delete(#[source] kube::Error),
    /// The room did not go.
    #[error("CallRoom {0} was not gone within {limit} s of being deleted", limit = GONE_WITHIN.as_secs())]
    NotGone(String),
}

/// Makes a room in `namespace`, waits until it is ready, removes it, and says in a line how that went.
///
/// # Errors
/// When any of it fails; the room is removed either way.
pub async fn run(client: Client, namespace: &str, clock: Clock) -> Result<String, SelfTestError> {
    let rooms: Api<CallRoom> = Api::namespaced(client, namespace);
    let began = clock.now().mono;
    let room = rooms.create(&PostParams::default(), &wanted()).await.map_err(SelfTestError::Create)?;
    let name = room.name_any();
    let outcome = timeout(READY_WITHIN, await_condition(rooms.clone(), &name, is_ready)).await;
    let took = clock.now().mono.saturating_sub(began);
    let outcome = match outcome {
        Ok(Ok(room)) => {
            let place = room.and_then(|r| r.status?.route).map_or_else(String::new, |route| route.place());
            Ok(format!("CallRoom {namespace}/{name} was Ready {place} after {} ms", took.as_millis()))
        }
        Ok(Err(error)) => Err(SelfTestError::Watch(error)),
        Err(_) => {
            let last = rooms.get(&name).await.ok().and_then(|r| r.status);
            let conditions = told(last.as_ref().map_or(&[][..], |s| &s.conditions));
            Err(SelfTestError::NotReady { name: name.clone(), conditions })
        }
    };
    let removed = remove(&rooms, &room).await;
    let line = outcome?;
    removed?;
    Ok(line)
}

async fn remove(rooms: &Api<CallRoom>, room: &CallRoom) -> Result<(), SelfTestError> {
    let name = room.name_any();
    rooms.delete(&name, &DeleteParams::default()).await.map_err(SelfTestError::Delete)?;
    let uid = room.uid().unwrap_or_default();
    let gone = await_condition(rooms.clone(), &name, is_deleted(&uid));
    match timeout(GONE_WITHIN, gone).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(SelfTestError::Watch(error)),
        Err(_) => Err(SelfTestError::NotGone(name)),
    }
}

fn wanted() -> CallRoom {
    let lifetime = Lifetime {
        empty_timeout_seconds: Some(LEFTOVER_SECONDS),
        max_duration_seconds: Some(LEFTOVER_SECONDS),
        ttl_seconds_after_ended: Some(0),
    };
    let mut room = CallRoom::new("", CallRoomSpec { max_participants: 2, lifetime, ..CallRoomSpec::default() });
    room.metadata.name = None;
    room.metadata.generate_name = Some("self-test-".to_owned());
    room
}

fn is_ready(room: Option<&CallRoom>) -> bool {
    room.and_then(|r| r.status.as_ref()).is_some_and(|s| s.route.is_some() && is_true(&s.conditions, room::READY))
}

/// What the conditions say, for a person.
fn told(conditions: &[Condition]) -> String {
    if conditions.is_empty() {
        return "the operator has said nothing about it; is it running?".to_owned();
    }
    let one = |c: &Condition| format!("{}={} ({}): {}", c.type_, c.status, c.reason, c.message);
    conditions.iter().map(one).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use callplane_crds::condition::{Status, condition};
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn a_failure_says_what_the_operator_says() {
        assert_eq!(told(&[]), "the operator has said nothing about it; is it running?");
        let full =
            condition(&[], room::PLACED, Status::False, "NoCapacity", "no node fits", None, Timestamp::UNIX_EPOCH);
        assert_eq!(told(&[full]), "Placed=False (NoCapacity): no node fits");
    }

    #[test]
    fn the_room_goes_by_itself_if_nobody_removes_it() {
        let room = wanted();
        assert!(room.metadata.name.is_none(), "the API server makes the name");
        assert_eq!(room.spec.lifetime.ttl_seconds_after_ended, Some(0));
        assert!(room.spec.lifetime.empty_timeout_seconds.is_some());
    }
}
