//! Looks after the shared secret while this replica leads: reads what there is, decides, writes the Secret, and brings
//! Redis to it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use callplane_crds::names::{COMPONENT_LABEL, COTURN_COMPONENT, TURN_SECRET};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::ListParams};
use tokio::sync::watch;

use super::{
    decide::{Policy, Verdict, World, decide},
    keys::{self, Keys},
    redis::{RedisFailure, UserDatabase},
    servers,
    settings::{RedisAt, Settings},
    store::{self, StoreError},
};
use crate::{
    api::{WriteError, Writer},
    clock::Clock,
    context::Context,
    metrics::Metrics,
    secret,
    streak::Streak,
};

/// How often Redis is compared with what it is to hold: how long a flushed one refuses new relays at most.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// How soon a change that takes several steps goes on.
const NEXT_STEP: Duration = Duration::from_millis(100);
/// What a mounted Secret takes to change (a kubelet's sync period and cache), and some more.
const MOUNT_DELAY: Duration = Duration::from_secs(300);

/// What credentials are minted with.
#[derive(Clone, PartialEq, Eq)]
pub struct Minting {
    /// The shared secret.
    pub secret: String,
    /// The servers: each one's URLs, separated by spaces.
    pub servers: Vec<String>,
}

impl std::fmt::Debug for Minting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Minting").field("servers", &self.servers).finish_non_exhaustive()
    }
}

/// Looks after the shared secret. Nothing here needs to be done by one replica alone: another's writes are read, or
/// make one's own fail.
pub struct Keeper {
    writer: Writer,
    namespace: String,
    clock: Clock,
    metrics: Arc<Metrics>,
    settings: Settings,
    database: Option<UserDatabase>,
    coturn_told: bool,
    redis_outage: Streak,
    secret_trouble: Streak,
    minting: watch::Sender<Option<Minting>>,
}

/// Looks after the shared secret until it is dropped. `longest` tells the longest life of a room's credentials.
pub async fn keep(ctx: Arc<Context>, settings: Settings, minting: watch::Sender<Option<Minting>>) {
    let parts = (ctx.writer.clone(), ctx.namespace.clone(), ctx.clock, Arc::clone(&ctx.metrics));
    let mut keeper = Keeper::new(parts, settings, minting);
    loop {
        let longest = super::rooms::longest_life(&ctx);
        let next = keeper.look(longest).await;
        tokio::time::sleep(next).await;
    }
}

impl Keeper {
    /// A keeper that has not looked yet.
    pub fn new(
        (writer, namespace, clock, metrics): (Writer, String, Clock, Arc<Metrics>),
        settings: Settings,
        minting: watch::Sender<Option<Minting>>,
    ) -> Self {
        Self {
            writer,
            namespace,
            clock,
            metrics,
            settings,
            database: None,
            coturn_told: false,
            redis_outage: Streak::default(),
            secret_trouble: Streak::default(),
            minting,
        }
    }

    /// Looks once, and says when to look again. `longest` is the longest life of credentials that rooms ask for.
    pub async fn look(&mut self, longest: Duration) -> Duration {
        let now = self.clock.now().wall;
        match self.step(longest, now).await {
            Ok(next) => {
                if let Some(failed) = self.secret_trouble.succeeded() {
                    tracing::info!(failed, "the shared secret of TURN is looked after again");
                }
                next
            }
            // Another replica's write is read now.
            Err(StoreError::Write { source: WriteError::Conflict { .. }, .. }) => NEXT_STEP,
            Err(error) => {
                if self.secret_trouble.failed() {
                    tracing::warn!(%error, "the shared secret of TURN is left as it is");
                }
                LOOK_EVERY
            }
        }
    }

    async fn step(&mut self, longest: Duration, now: Timestamp) -> Result<Duration, StoreError> {
        if self.settings.urls.is_empty() || self.settings.foreign_secret.is_some() {
            // Others look after the relays, if there are any; Redis is there for the gateways.
            self.believed().await?;
            return match self.settings.foreign_secret.clone() {
                Some(name) => self.foreign(&name).await,
                None => Ok(LOOK_EVERY),
            };
        }
        let stored = store::read(&self.writer, &self.namespace, TURN_SECRET).await?;
        let known = match &stored {
            Some(secret) => Some(Keys::read(secret).ok_or_else(|| StoreError::Unusable(TURN_SECRET.to_owned()))?),
            None => None,
        };
        let urls = self.servers(known.as_ref()).await;
        let believed = self.believed().await?;
        let fresh = store::generate()?;
        let world = World { keys: known.as_ref(), believed: believed.as_ref(), urls: &urls, fresh: &fresh };
        let policy = Policy {
            overlap: self.settings.policy.overlap.max(if longest.is_zero() { longest } else { longest + MOUNT_DELAY }),
            ..self.settings.policy
        };
        let plan = decide(&world, policy, now);
        if let Some(keys) = &plan.write {
            store::write(&self.writer, &self.namespace, stored.as_ref(), TURN_SECRET, keys.data()).await?;
            self.told(plan.verdict, keys);
        }
        self.change(&plan.add, &plan.remove).await;
        if let Some(keys) = plan.write.or(known) {
            self.metrics.turn_secrets.set(i64::try_from(keys.valid().len()).unwrap_or(i64::MAX));
            self.mint_with(keys.current, keys.urls);
        }
        Ok(if plan.verdict == Verdict::Prepared { NEXT_STEP } else { LOOK_EVERY })
    }

    /// Takes the secret that somebody else looks after.
    async fn foreign(&mut self, name: &str) -> Result<Duration, StoreError> {
        let stored = store::read(&self.writer, &self.namespace, name).await?;
        let secret = stored.as_ref().and_then(|s| secret::text(s, keys::SECRET)).map(|text| text.trim().to_owned());
        let secret = secret.filter(|s| keys::is_usable(s)).ok_or_else(|| StoreError::Absent(name.to_owned()))?;
        self.mint_with(secret, servers::configured(&self.settings.urls));
        Ok(LOOK_EVERY)
    }

    fn mint_with(&self, secret: String, servers: Vec<String>) {
        let new = Some(Minting { secret, servers });
        self.minting.send_if_modified(|known| {
            *known != new && {
                *known = new;
                true
            }
        });
    }

    fn told(&self, verdict: Verdict, keys: &Keys) {
        match verdict {
            Verdict::Made => tracing::info!("made the shared secret of TURN"),
            Verdict::Prepared => tracing::info!("made the next shared secret of TURN"),
            Verdict::Rotated => {
                self.metrics.turn_rotations.inc();
                let until = keys.previous.as_ref().map(|(_, until)| until.to_string());
                tracing::info!(previous_until = until, "the shared secret of TURN is another one");
            }
            Verdict::Retired => tracing::info!("the previous shared secret of TURN is believed no more"),
            Verdict::Moved => tracing::info!(servers = keys.urls.len(), "the TURN servers are others"),
            Verdict::Unchanged => {}
        }
    }

    /// The servers at present; those known where the API server does not tell.
    async fn servers(&self, known: Option<&Keys>) -> Vec<String> {
        if !servers::are_pods(&self.settings.urls) {
            return servers::configured(&self.settings.urls);
        }
        let pods: Api<Pod> = Api::namespaced(self.writer.client.clone(), &self.namespace);
        let coturn = ListParams::default().labels(&format!("{COMPONENT_LABEL}={COTURN_COMPONENT}"));
        match self.writer.read("Pod", pods.list(&coturn)).await {
            Ok(list) => {
                let addresses = list.items.iter().filter_map(servers::address).collect();
                servers::servers(&self.settings.urls, &addresses)
            }
            Err(_) => known.map(|keys| keys.urls.clone()).unwrap_or_default(),
        }
    }

    /// What Redis holds; `None` while it is away.
    async fn believed(&mut self) -> Result<Option<BTreeSet<String>>, StoreError> {
        if self.database.is_none() {
            let url = match &self.settings.redis {
                Some(RedisAt::Url(url)) => url.clone(),
                Some(RedisAt::Own(address)) => store::redis_url(&self.writer, &self.namespace, address).await?,
                None => return Ok(None),
            };
            if !self.coturn_told && !self.settings.urls.is_empty() && self.settings.foreign_secret.is_none() {
                match store::tell_coturn(&self.writer, &self.namespace, &url).await {
                    // A coturn elsewhere may know a way to it that ours does not.
                    Err(StoreError::Redis(error)) => tracing::warn!(%error, "coturn of this release has no Redis"),
                    told => told?,
                }
                self.coturn_told = true;
            }
            self.database = Some(UserDatabase::new(&url, &self.settings.realm)?);
        }
        let Some(database) = &mut self.database else { return Ok(None) };
        let believed = database.believed().await;
        Ok(self.heed(believed))
    }

    async fn change(&mut self, add: &BTreeSet<String>, remove: &BTreeSet<String>) {
        let Some(database) = &mut self.database else { return };
        // Who leads no more may know less than who does.
        if add.is_empty() && remove.is_empty() || !self.writer.leads() {
            return;
        }
        let changed = database.change(add, remove).await;
        if self.heed(changed).is_some() {
            self.metrics.turn_repairs.inc();
            tracing::info!(added = add.len(), removed = remove.len(), "told Redis which secrets of TURN are good");
        }
    }

    fn heed<T>(&self, answer: Result<T, RedisFailure>) -> Option<T> {
        match answer {
            Ok(answer) => {
                self.metrics.turn_redis_up.set(1);
                if let Some(failed) = self.redis_outage.succeeded() {
                    tracing::info!(failed, "Redis answers again");
                }
                Some(answer)
            }
            Err(error) => {
                self.metrics.turn_redis_up.set(0);
                if self.redis_outage.failed() {
                    tracing::warn!(%error, reason = error.reason(), "Redis does not answer: calls go on, and no new relay is let in until it does");
                }
                None
            }
        }
    }
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;
