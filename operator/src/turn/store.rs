//! The Secrets of TURN and Redis in the operator's own namespace.

use aws_lc_rs::rand::fill;
use callplane_crds::names::{COTURN_SECRET, REDIS_SECRET};
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

/// The URL of the Redis at `address`, whose password is made if there is none yet. Whoever made it first wins.
pub async fn redis_url(writer: &Writer, namespace: &str, address: &str) -> Result<String, StoreError> {
    for _ in 0..2 {
        if let Some(secret) = read(writer, namespace, REDIS_SECRET).await? {
            return text(&secret, "url").ok_or_else(|| StoreError::Unusable(REDIS_SECRET.to_owned()));
        }
        let password = generate()?;
        let data = secret::data([
            ("password", password.clone()),
            ("url", format!("redis://:{password}@{address}/0")),
            ("redis.conf", format!("requirepass {password}\n")),
        ]);
        match write(writer, namespace, None, REDIS_SECRET, data).await {
            Ok(()) => tracing::info!("made the password of Redis"),
            // Somebody was faster: theirs is the password.
            Err(StoreError::Write { source: WriteError::Conflict { .. }, .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Err(StoreError::Unusable(REDIS_SECRET.to_owned()))
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
