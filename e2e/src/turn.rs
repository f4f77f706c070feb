//! TURN as the operator, coturn and its clients have it: the shared secrets, and what a server grants to whom.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use callplane_crds::names::TURN_SECRET;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{
    cluster::{self, Cluster},
    gateway::IceServer,
    program, wait,
};

/// Until the operator, which looks every 3 s, has done something about the shared secret.
const LOOKED_AFTER: Duration = Duration::from_secs(120);
/// Until coturn refuses what was taken out of its Redis.
const REFUSED: Duration = Duration::from_secs(120);
/// Of coturn: who it is, is not believed.
pub const UNAUTHORIZED: u16 = 401;
/// Of coturn: this peer is not relayed to.
pub const FORBIDDEN: u16 = 403;

/// Who asks.
#[derive(Clone, Debug)]
pub enum Login {
    /// With what the gateway gave.
    Given(IceServer),
    /// With something minted here.
    Minted {
        /// The shared secret.
        secret: String,
        /// When it ends, in seconds from now.
        ends: i64,
    },
}

/// What a server said: 0 is yes, and everything else the code of the refusal.
#[derive(Clone, Debug, Deserialize)]
pub struct Verdict {
    /// To a relay.
    pub allocate: u16,
    /// To packets from there to these addresses.
    pub peers: BTreeMap<String, u16>,
}

/// Asks the server at `url` for a relay, and whether it would reach `peers` from there.
///
/// # Errors
/// When it does not answer.
pub async fn ask(url: &str, login: &Login, peers: &[&str]) -> Result<Verdict> {
    let question = match login {
        Login::Given(server) => {
            json!({"url": url, "username": server.username, "credential": server.credential, "peers": peers})
        }
        Login::Minted { secret, ends } => json!({"url": url, "secret": secret, "ends": ends, "peers": peers}),
    };
    let mut node = Command::new("node");
    node.arg(cluster::folder().join("browser/turn.mjs"));
    let said = program::output(&mut node, &question.to_string()).await.with_context(|| url.to_owned())?;
    serde_json::from_str(&said).with_context(|| format!("{url}: {said}"))
}

/// Waits until the server at `url` does not believe `login` any more.
///
/// # Errors
/// When it goes on believing it.
pub async fn until_refused(url: &str, login: &Login) -> Result<()> {
    wait::polled(&format!("{url} to refuse a credential"), REFUSED, || async {
        Ok((ask(url, login, &[]).await?.allocate == UNAUTHORIZED).then_some(()))
    })
    .await
}

/// The shared secrets as the operator keeps them.
pub struct Shared {
    secrets: Api<Secret>,
}

impl Shared {
    /// Those of a cluster.
    pub fn of(cluster: &Cluster) -> Self {
        Self { secrets: cluster.secrets() }
    }

    /// What credentials are minted with.
    ///
    /// # Errors
    /// When there is none in time.
    pub async fn current(&self) -> Result<String> {
        self.until("to hold a shared secret", |secret| text(secret, "secret")).await
    }

    /// Asks for a rotation, and waits until another secret is current and the one before it is still good. Yields both,
    /// the older one first.
    ///
    /// # Errors
    /// When it does not come about in time.
    pub async fn rotate(&self) -> Result<(String, String)> {
        // There are never more than two: one that is left from earlier would have to go first.
        self.retire().await?;
        let old = self.current().await?;
        let asked = json!({"metadata": {"annotations": {"callplane.io/rotate": "now"}}});
        self.change(&asked).await?;
        let new = self.until("to be rotated", |secret| {
            let previous = text(secret, "previous")?;
            (previous == old).then(|| text(secret, "secret").filter(|new| *new != old))?
        });
        Ok((old.clone(), new.await?))
    }

    /// Lets the time of the previous secret be over, as it would be after `turn.overlap`, and waits until it is gone.
    ///
    /// # Errors
    /// When it stays.
    pub async fn retire(&self) -> Result<()> {
        self.current().await?;
        let secret = self.secrets.get(TURN_SECRET).await?;
        if text(&secret, "next").is_some() {
            // It becomes current first.
            self.until("to be rotated", |secret| text(secret, "next").is_none().then_some(())).await?;
        }
        if text(&self.secrets.get(TURN_SECRET).await?, "previous").is_none() {
            return Ok(());
        }
        self.change(&json!({"stringData": {"previous-until": "2000-01-01T00:00:00Z"}})).await?;
        self.until("to hold one shared secret", |secret| text(secret, "previous").is_none().then_some(())).await
    }

    /// Revokes everything: the Secret goes, and the operator makes another one. Yields what is current then.
    ///
    /// # Errors
    /// When there is none in time.
    pub async fn revoke(&self) -> Result<String> {
        let old = self.current().await?;
        self.secrets.delete(TURN_SECRET, &DeleteParams::default()).await?;
        self.until("to be made anew", |secret| text(secret, "secret").filter(|new| *new != old)).await
    }

    async fn change(&self, patch: &Value) -> Result<()> {
        let changed = self.secrets.patch(TURN_SECRET, &PatchParams::default(), &Patch::Merge(patch)).await;
        changed.map(drop).context(TURN_SECRET)
    }

    /// Not [`wait::until`], which would show the Secret when it fails.
    async fn until<T>(&self, what: &str, check: impl Fn(&Secret) -> Option<T>) -> Result<T> {
        wait::polled(&format!("Secret {TURN_SECRET} {what}"), LOOKED_AFTER, || async {
            Ok(self.secrets.get_opt(TURN_SECRET).await?.as_ref().and_then(&check))
        })
        .await
    }
}

fn text(secret: &Secret, key: &str) -> Option<String> {
    String::from_utf8(secret.data.as_ref()?.get(key)?.0.clone()).ok()
}
