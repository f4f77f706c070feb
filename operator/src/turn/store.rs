//! The Secrets of TURN, Redis and PostgreSQL in the operator's own namespace.

use aws_lc_rs::rand::fill;
use callplane_crds::names::{COTURN_SECRET, POSTGRESQL_SECRET, REDIS_SECRET};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use thiserror::Error;

use super::redis::{RedisFailure, coturn_line};
use crate::{
    api::{WriteError, Writer},
    secret::{self, Data, text},
};

/// Field manager of these Secrets.
pub const MANAGER: &str = "callplane-turn";
/// Bytes of a new secret.
const STRENGTH: usize = 32;

/// What can go wrong with the Secrets.
#[derive(Debug, Error)]
pub enum StoreError {
    /// One could not be read.
    #[error("cannot read Secret {name}: {source}")]
    Read {
        /// Its name.
        name: String,
        /// Why.
        source: WriteError,
    },
    /// One could not be written.
    #[error("cannot write Secret {name}: {source}")]
    Write {
        /// Its name.
        name: String,
        /// Why.
        source: WriteError,
    },
    /// One says nothing usable. It is not replaced: somebody may have meant something by it.
    #[error("Secret {0} makes no sense: delete it to get a new one")]
    Unusable(String),
    /// There is no such Secret.
    #[error("there is no Secret {0} with a secret of 16 to 256 characters under `secret`")]
    Absent(String),
    /// The Redis is not one for coturn.
    #[error(transparent)]
    Redis(#[from] RedisFailure),
    /// There is no randomness.
    #[error("no secret could be generated")]
    Generate,
}

/// A secret that nobody guesses, in hexadecimal.
pub fn generate() -> Result<String, StoreError> {
    let mut bytes = [0; STRENGTH];
    fill(&mut bytes).map_err(|_| StoreError::Generate)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Reads the Secret `name`.
pub async fn read(writer: &Writer, namespace: &str, name: &str) -> Result<Option<Secret>, StoreError> {
    let api: Api<Secret> = Api::namespaced(writer.client.clone(), namespace);
    let read = writer.read("Secret", api.get_opt(name)).await;
    read.map_err(|source| StoreError::Read { name: name.to_owned(), source })
}

/// Makes `new`, or puts it in place of `old` if nobody else has changed that one meanwhile.
pub async fn write(
    writer: &Writer,
    namespace: &str,
    old: Option<&Secret>,
    name: &str,
    data: Data,
) -> Result<(), StoreError> {
    let api: Api<Secret> = Api::namespaced(writer.client.clone(), namespace);
    let mut new = secret::named(name, data);
    let parameters = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    let written = match old {
        None => writer.write("Secret", "create", api.create(&parameters, &new)).await,
        Some(old) => {
            new.metadata.resource_version.clone_from(&old.metadata.resource_version);
            new.metadata.uid.clone_from(&old.metadata.uid);
            writer.write("Secret", "replace", api.replace(name, &parameters, &new)).await
        }
    };
    written.map(|_| ()).map_err(|source| StoreError::Write { name: name.to_owned(), source })
}

/// The URL of the Redis at `address`, whose password is made if there is none yet.
pub async fn redis_url(writer: &Writer, namespace: &str, address: &str) -> Result<String, StoreError> {
    let secret = made_once(writer, namespace, REDIS_SECRET, |password| {
        [
            ("password", password.to_owned()),
            ("url", format!("redis://:{password}@{address}/0")),
            ("redis.conf", format!("requirepass {password}\n")),
        ]
    });
    text(&secret.await?, "url").ok_or_else(|| StoreError::Unusable(REDIS_SECRET.to_owned()))
}

/// Sees to it that there is a password for the PostgreSQL at `address`. One that is there is not touched.
pub async fn ensure_postgresql(writer: &Writer, namespace: &str, address: &str) -> Result<(), StoreError> {
    let secret = made_once(writer, namespace, POSTGRESQL_SECRET, |password| {
        [
            ("password", password.to_owned()),
            // Inside the cluster, and without a certificate.
            ("url", format!("postgres://callplane:{password}@{address}/callplane?sslmode=disable")),
        ]
    });
    let secret = secret.await?;
    let usable = ["password", "url"].iter().all(|key| text(&secret, key).is_some_and(|text| !text.is_empty()));
    usable.then_some(()).ok_or_else(|| StoreError::Unusable(POSTGRESQL_SECRET.to_owned()))
}

/// The Secret `name`, with what `data` makes of a new password if there is none yet. Whoever made it first wins.
async fn made_once<const N: usize>(
    writer: &Writer,
    namespace: &str,
    name: &str,
    data: impl Fn(&str) -> [(&'static str, String); N],
) -> Result<Secret, StoreError> {
    for _ in 0..2 {
        if let Some(secret) = read(writer, namespace, name).await? {
            return Ok(secret);
        }
        match write(writer, namespace, None, name, secret::data(data(&generate()?))).await {
            Ok(()) => tracing::info!(name, "made a password"),
            // Somebody was faster: theirs is the password.
            Err(StoreError::Write { source: WriteError::Conflict { .. }, .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Err(StoreError::Unusable(name.to_owned()))
}

/// Sees to it that coturn's configuration names the Redis at `url`.
pub async fn tell_coturn(writer: &Writer, namespace: &str, url: &str) -> Result<(), StoreError> {
    let line = coturn_line(url)?;
    let known = read(writer, namespace, COTURN_SECRET).await?;
    if known.as_ref().and_then(|secret| text(secret, "turnserver.conf")).as_deref() == Some(line.as_str()) {
        return Ok(());
    }
    let data = secret::data([("turnserver.conf", line)]);
    let api: Api<Secret> = Api::namespaced(writer.client.clone(), namespace);
    if known.is_none() {
        return write(writer, namespace, None, COTURN_SECRET, data).await;
    }
    let wanted = secret::named(COTURN_SECRET, data);
    let patch = Patch::Apply(&wanted);
    let parameters = PatchParams::apply(MANAGER).force();
    let applied = writer.write("Secret", "apply", api.patch(COTURN_SECRET, &parameters, &patch)).await;
    applied.map(|_| ()).map_err(|source| StoreError::Write { name: COTURN_SECRET.to_owned(), source })
}
