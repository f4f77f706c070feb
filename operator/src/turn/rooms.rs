//! A room's ICE servers as a Secret, for rooms that ask for it (`turn.provision: Secret`): made when the room is,
//! renewed at half of its life, gone when the room ends.
//!
//! The operator may write such Secrets and not read them. What one holds follows from the time, the room and the shared
//! secret alone, so a new leader writes the same again, which changes nothing.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use callplane_crds::{
    CallRoom,
    callroom::{Provision, Turn},
    names::{TURN_MANAGER, TURN_SECRET_TYPE},
};
use jiff::Timestamp;
use k8s_openapi::{
    ByteString,
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
    runtime::events::EventType,
};
use serde_json::json;
use tokio::sync::watch;

use super::{
    credential::{Credential, ice_servers, opaque_id},
    keeper::Minting,
};
use crate::{api::WriteError, clock::Now, cluster::RoomKey, context::Context, queue::Next};

/// Key of the ICE servers in the Secret.
pub const ICE_SERVERS: &str = "iceServers";
/// How soon a Secret that the API server refused is tried again: somebody has to do something about it.
const REFUSED_AGAIN: Duration = Duration::from_secs(60);
/// How long a room waits at most for a shared secret that there is not yet, or for the API server.
const SOON: Duration = Duration::from_secs(2);

/// What was written for a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    uid: String,
    /// When the credential in it ends, and what it was made from.
    made: Made,
}

/// What a Secret's content follows from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// When the credential ends.
    pub ends: Timestamp,
    /// Stands for the shared secret and the servers.
    pub from: String,
}

/// What to do for a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Nothing until the time is up, if one is named.
    Rest(Option<Duration>),
    /// Write the Secret.
    Write(Made),
    /// The Secret goes.
    Delete,
}

/// The Secrets that this replica wrote.
#[derive(Default)]
pub struct RoomSecrets {
    written: Mutex<HashMap<RoomKey, Written>>,
}

/// Name of the Secret of the room `room`.
pub fn secret_name(room: &str) -> String {
    format!("{room}-turn")
}

/// What `room` is to be given, if it is to be.
fn wanted(room: &CallRoom) -> Option<&Turn> {
    room.spec.turn.as_ref().filter(|turn| turn.provision == Provision::Secret && !room.is_over())
}

/// The longest life of the credentials that rooms ask for; zero when none does.
pub fn longest_life(ctx: &Context) -> Duration {
    let longest = ctx.cluster().rooms().filter_map(|room| wanted(room)).map(|turn| turn.ttl_seconds).max();
    Duration::from_secs(longest.and_then(|s| u64::try_from(s).ok()).unwrap_or_default())
}

/// When a credential of `uid` that is handed out at `now` ends: the same for half of its life, so that it is written
/// once in that time, and at different times for different rooms.
fn ends(uid: &str, ttl: i32, now: Timestamp) -> Timestamp {
    let half = i64::from(ttl.max(2)) / 2;
    let shift = uid.bytes().fold(0i64, |sum, byte| (sum * 31 + i64::from(byte)) % half);
    let begins = (now.as_second() + shift).div_euclid(half) * half - shift;
    Timestamp::from_second(begins + 2 * half).unwrap_or(now)
}

/// Decides about one room: `from` stands for what its credentials are minted with, `written` is what was written.
pub fn decide(room: &CallRoom, from: Option<&str>, written: Option<&Written>, now: Timestamp) -> Plan {
    let uid = room.metadata.uid.as_deref().unwrap_or_default();
    let named = room.status.as_ref().and_then(|s| s.turn_secret_name.as_deref());
    // A call that begins later has nobody who could use it.
    let opens = room.opens_at().and_then(|opens| Duration::try_from(opens.duration_since(now)).ok());
    let opens = opens.filter(|rest| !rest.is_zero());
    let Some(turn) = wanted(room).filter(|_| opens.is_none()) else {
        // The name in the status goes last: whoever finds it there has the Secret to remove.
        let there = named.is_some() || written.is_some_and(|w| w.uid == uid);
        let is_kept = !there || room.metadata.deletion_timestamp.is_some();
        return if is_kept { Plan::Rest(opens.filter(|_| wanted(room).is_some())) } else { Plan::Delete };
    };
    let Some(from) = from else { return Plan::Rest(Some(SOON)) };
    let made = Made { ends: ends(uid, turn.ttl_seconds, now), from: from.to_owned() };
    let same = |w: &Written| w.uid == uid && w.made == made;
    if !written.is_some_and(same)
        || named != Some(secret_name(room.metadata.name.as_deref().unwrap_or_default()).as_str())
    {
        return Plan::Write(made);
    }
    let half = i64::from(turn.ttl_seconds.max(2)) / 2;
    let rest = made.ends.as_second() - half - now.as_second();
    Plan::Rest(Some(Duration::from_secs(u64::try_from(rest).unwrap_or_default().max(1))))
}

/// Looks at one room and does what its Secret needs.
pub async fn reconcile(
    key: RoomKey,
    ctx: Arc<Context>,
    secrets: Arc<RoomSecrets>,
    minting: watch::Receiver<Option<Minting>>,
) -> Next {
    let started = ctx.clock.now();
    let Some(room) = ctx.cluster().room(&key).map(|entry| Arc::clone(&entry.object)) else {
        // Its owner is gone, so Kubernetes removes the Secret.
        secrets.forget(&key);
        return Next::Rest;
    };
    let minting = minting.borrow().clone();
    let from = minting.as_ref().map(|m| opaque_id(&[&m.secret, &m.servers.join("\n")]));
    let written = secrets.of(&key);
    let result = match decide(&room, from.as_deref(), written.as_ref(), started.wall) {
        Plan::Rest(rest) => return rest.map_or(Next::Rest, Next::After),
        Plan::Write(made) => {
            let Some(minting) = &minting else { return Next::After(SOON) };
            write(&key, &room, &made, minting, &ctx).await.map(|()| {
                let uid = room.metadata.uid.clone().unwrap_or_default();
                secrets.note(&key, Written { uid, made });
            })
        }
        Plan::Delete => delete(&key, &room, &ctx).await.map(|()| secrets.forget(&key)),
    };
    told(&key, &room, result.as_ref().err(), started, &ctx);
    match result {
        Ok(()) => Next::After(Duration::from_secs(1)),
        Err(WriteError::Refused { .. }) => Next::After(REFUSED_AGAIN),
        Err(_) => Next::RetrySoon,
    }
}

async fn write(
    key: &RoomKey,
    room: &CallRoom,
    made: &Made,
    minting: &Minting,
    ctx: &Context,
) -> Result<(), WriteError> {
    let name = secret_name(&key.name);
    let wanted = secret(room, &name, made, minting);
    let api: Api<Secret> = Api::namespaced(ctx.writer.client.clone(), &key.namespace);
    let parameters = PatchParams::apply(TURN_MANAGER).force();
    // A Secret of somebody else under this name has another type, which cannot change: the write is refused.
    ctx.writer.write("Secret", "apply", api.patch(&name, &parameters, &Patch::Apply(&wanted))).await?;
    name_in_status(key, room, Some(&name), ctx).await
}

async fn delete(key: &RoomKey, room: &CallRoom, ctx: &Context) -> Result<(), WriteError> {
    let api: Api<Secret> = Api::namespaced(ctx.writer.client.clone(), &key.namespace);
    let gone =
        ctx.writer.write("Secret", "delete", api.delete(&secret_name(&key.name), &DeleteParams::default())).await;
    match gone {
        Ok(_) | Err(WriteError::Gone { .. }) => name_in_status(key, room, None, ctx).await,
        Err(error) => Err(error),
    }
}

/// Writes `status.turnSecretName`, which has a field manager of its own.
async fn name_in_status(key: &RoomKey, room: &CallRoom, name: Option<&str>, ctx: &Context) -> Result<(), WriteError> {
    if room.status.as_ref().and_then(|s| s.turn_secret_name.as_deref()) == name {
        return Ok(());
    }
    let api: Api<CallRoom> = Api::namespaced(ctx.writer.client.clone(), &key.namespace);
    let mut status = serde_json::Map::new();
    if let Some(name) = name {
        status.insert("turnSecretName".to_owned(), name.into());
    }
    let body = json!({
        "apiVersion": "callplane.io/v1alpha1", "kind": "CallRoom",
        "metadata": {"name": key.name, "namespace": key.namespace, "uid": room.metadata.uid},
        "status": status,
    });
    let parameters = PatchParams::apply(TURN_MANAGER).force();
    let patch = Patch::Apply(&body);
    match ctx.writer.write("CallRoom/status", "apply", api.patch_status(&key.name, &parameters, &patch)).await {
        Ok(_) | Err(WriteError::Gone { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The Secret of `room`.
pub fn secret(room: &CallRoom, name: &str, made: &Made, minting: &Minting) -> Secret {
    let uid = room.metadata.uid.clone().unwrap_or_default();
    let credential = Credential::mint(&minting.secret, &opaque_id(&[&uid]), made.ends);
    let servers = serde_json::to_vec(&ice_servers(&minting.servers, &uid, &credential)).unwrap_or_default();
    let data: BTreeMap<String, ByteString> = [
        (ICE_SERVERS.to_owned(), ByteString(servers)),
        ("expiresAt".to_owned(), ByteString(made.ends.to_string().into_bytes())),
    ]
    .into();
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some([("app.kubernetes.io/managed-by".to_owned(), "callplane".to_owned())].into()),
            owner_references: Some(vec![OwnerReference {
                api_version: "callplane.io/v1alpha1".to_owned(),
                kind: "CallRoom".to_owned(),
                name: room.metadata.name.clone().unwrap_or_default(),
                uid,
                controller: Some(true),
                block_owner_deletion: None,
            }]),
            ..ObjectMeta::default()
        },
        data: Some(data),
        type_: Some(TURN_SECRET_TYPE.to_owned()),
        ..Secret::default()
    }
}

fn told(key: &RoomKey, room: &CallRoom, error: Option<&WriteError>, started: Now, ctx: &Context) {
    let word = error.map_or("ok", WriteError::reason);
    ctx.metrics.reconciled("turn", word, ctx.clock.now().mono.saturating_sub(started.mono));
    match error {
        Some(error @ WriteError::Refused { .. }) => {
            tracing::warn!(room = %key, %error, "the Secret with the room's TURN credentials is not written");
            let note = format!("Secret {} with TURN credentials: {error}", secret_name(&key.name));
            ctx.events.tell(room, EventType::Warning, "TurnSecretRefused", "ProvisionTurn", note);
        }
        Some(error) => tracing::debug!(room = %key, %error, "the Secret with the room's TURN credentials waits"),
        None => tracing::debug!(room = %key, "the Secret with the room's TURN credentials is right"),
    }
}

impl RoomSecrets {
    fn of(&self, key: &RoomKey) -> Option<Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn note(&self, key: &RoomKey, written: Written) {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), written);
    }

    fn forget(&self, key: &RoomKey) {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

#[cfg(test)]
#[path = "rooms_tests.rs"]
mod tests;
