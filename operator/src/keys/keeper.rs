//! Looks after the keys while this replica leads: reads what there is, decides, brings the list to it, and writes the
//! private keys.

use std::{sync::Arc, time::Duration};

use callplane_crds::names::{JOIN_KEYS_SECRET, JOIN_PUBLIC_SECRET};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use thiserror::Error;

use super::{
    JWKS, JoinKey, Keys, KeysError, PREVIOUS, Public,
    decide::{Policy, Verdict, World, decide},
};
use crate::{
    api::{WriteError, Writer},
    clock::Clock,
    context::Context,
    metrics::Metrics,
    secret,
    streak::Streak,
};

/// Field manager of both Secrets.
const MANAGER: &str = "callplane-join-keys";
/// How often the Secrets are looked at: how long a key that somebody put there is not listed at most.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How soon a change that takes several steps goes on.
const NEXT_STEP: Duration = Duration::from_millis(100);

/// Why the keys are left as they are.
#[derive(Debug, Error)]
enum KeeperError {
    /// A Secret could not be read.
    #[error("cannot read Secret {name}: {source}")]
    Read { name: &'static str, source: WriteError },
    /// A Secret could not be written.
    #[error("cannot write Secret {name}: {source}")]
    Write { name: &'static str, source: WriteError },
    /// The private keys are none.
    #[error(transparent)]
    Keys(#[from] KeysError),
}

/// A pass that went to its end.
#[derive(Debug)]
struct Done {
    verdict: Verdict,
    /// Whether anything was written, so that there may be more to do.
    wrote: bool,
}

/// Looks after the keys. Nothing here needs to be done by one replica alone: another's writes are read, or make one's
/// own fail.
pub struct Keeper {
    writer: Writer,
    namespace: String,
    clock: Clock,
    metrics: Arc<Metrics>,
    policy: Policy,
    trouble: Streak,
}

/// Looks after the keys until it is dropped.
pub async fn keep(ctx: Arc<Context>, policy: Policy) {
    let keeper = Keeper::new(&ctx, policy);
    loop {
        let next = keeper.look().await;
        tokio::time::sleep(next).await;
    }
}

impl Keeper {
    /// A keeper that has not looked yet.
    pub fn new(ctx: &Context, policy: Policy) -> Self {
        Self {
            writer: ctx.writer.clone(),
            namespace: ctx.namespace.clone(),
            clock: ctx.clock,
            metrics: Arc::clone(&ctx.metrics),
            policy,
            trouble: Streak::default(),
        }
    }

    /// Looks once, and says when to look again.
    pub async fn look(&self) -> Duration {
        match self.pass(self.clock.now().wall_seconds()).await {
            Ok(done) => {
                if let Some(failed) = self.trouble.succeeded() {
                    tracing::info!(failed, "the keys of join tokens are looked after again");
                }
                if !done.wrote {
                    return LOOK_EVERY;
                }
                tracing::debug!(verdict = ?done.verdict, "wrote the keys of join tokens");
                NEXT_STEP
            }
            // Another replica's write is read now.
            Err(KeeperError::Write { source: WriteError::Conflict { .. }, .. }) => NEXT_STEP,
            Err(error) => {
                if self.trouble.failed() {
                    tracing::error!(%error, "the keys of join tokens are left as they are");
                }
                LOOK_EVERY
            }
        }
    }

    async fn pass(&self, now: Timestamp) -> Result<Done, KeeperError> {
        // The list first, and written only if nobody else has meanwhile: so no list ever follows from older private
        // keys than the one before it did, and what was listed for a key that signs now is not taken out.
        let listed = self.read(JOIN_PUBLIC_SECRET).await?;
        let stored = self.read(JOIN_KEYS_SECRET).await?;
        let keys = stored.as_ref().map(Keys::read).transpose()?;
        let public = listed.as_ref().map(Public::read).unwrap_or_default();
        let fresh = JoinKey::generate()?;
        let world = World { keys: keys.as_ref(), public: &public, fresh: &fresh };
        let plan = decide(&world, self.policy, now);
        let mut wrote = plan.write.is_some();
        if let Some(wanted) = &plan.public {
            wrote |= self.list(listed.as_ref(), wanted).await?;
            self.metrics.join_keys.set(i64::try_from(wanted.tokens.len()).unwrap_or(i64::MAX));
        }
        if let Some(keys) = &plan.write {
            self.store(stored.as_ref(), keys).await?;
            self.told(plan.verdict, keys);
        }
        Ok(Done { verdict: plan.verdict, wrote })
    }

    fn told(&self, verdict: Verdict, keys: &Keys) {
        let kid = &keys.current.kid;
        let next = keys.next.as_ref().map(|next| &next.key.kid);
        match verdict {
            Verdict::Made => tracing::info!(kid, "made the key of join tokens"),
            Verdict::Adopted => tracing::info!(kid, "took over the key of join tokens that is there"),
            Verdict::Prepared => tracing::info!(next, "made the next key of join tokens"),
            Verdict::Listed => tracing::info!(next, "the next key of join tokens is listed, and signs after its lead"),
            Verdict::Unlisted => {
                tracing::warn!(next, "the next key of join tokens is not listed: its lead begins anew")
            }
            Verdict::Rotated => {
                self.metrics.join_key_rotations.inc();
                tracing::info!(kid, "the key of join tokens is another one");
            }
            Verdict::Dropped => tracing::info!(kid, "the next key of join tokens signs already"),
            Verdict::Unchanged => {}
        }
    }

    async fn read(&self, name: &'static str) -> Result<Option<Secret>, KeeperError> {
        let read = self.writer.read("Secret", self.secrets().get_opt(name)).await;
        read.map_err(|source| KeeperError::Read { name, source })
    }

    /// Brings the list to `wanted`, if it still is as it was in `known`. Whether that took a write.
    async fn list(&self, known: Option<&Secret>, wanted: &Public) -> Result<bool, KeeperError> {
        let data = wanted.data();
        // As text: what this does not understand of it does not stay there.
        let is_said = |key: &str| known.and_then(|known| known.data.as_ref()?.get(key)) == data.get(key);
        if is_said(JWKS) && is_said(PREVIOUS) {
            return Ok(false);
        }
        let mut wanted = secret::named(JOIN_PUBLIC_SECRET, data);
        let api = self.secrets();
        let written = match known {
            None => self.writer.write("Secret", "create", api.create(&post(), &wanted)).await,
            Some(known) => {
                wanted.metadata.resource_version.clone_from(&known.metadata.resource_version);
                let parameters = PatchParams::apply(MANAGER).force();
                let patch = Patch::Apply(&wanted);
                self.writer.write("Secret", "apply", api.patch(JOIN_PUBLIC_SECRET, &parameters, &patch)).await
            }
        };
        written.map(|_| true).map_err(|source| KeeperError::Write { name: JOIN_PUBLIC_SECRET, source })
    }

    /// Makes the private keys `keys`, if they still are as they were in `known`.
    async fn store(&self, known: Option<&Secret>, keys: &Keys) -> Result<(), KeeperError> {
        let (api, wanted) = (self.secrets(), keys.secret(known));
        let written = match known {
            None => self.writer.write("Secret", "create", api.create(&post(), &wanted)).await,
            // With the resource version that it was read with.
            Some(_) => self.writer.write("Secret", "replace", api.replace(JOIN_KEYS_SECRET, &post(), &wanted)).await,
        };
        written.map(drop).map_err(|source| KeeperError::Write { name: JOIN_KEYS_SECRET, source })
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.writer.client.clone(), &self.namespace)
    }
}

fn post() -> PostParams {
    PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() }
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;
