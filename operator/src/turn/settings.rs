//! Flags and environment of TURN.

use std::time::Duration;

use clap::Args;

use super::{credential::is_turn_url, decide::Policy};

/// Where coturn's user database is.
#[derive(Clone, PartialEq, Eq)]
pub enum RedisAt {
    /// Somewhere, with its credentials in the URL.
    Url(String),
    /// At this `host:port`, with a password that the operator makes.
    Own(String),
}

impl std::fmt::Debug for RedisAt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Url(_) => "Url",
            Self::Own(_) => "Own",
        })
    }
}

/// How TURN is provided for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// coturn's realm.
    pub realm: String,
    /// URLs that clients are told. A host `*` stands for each machine with a coturn pod that is ready.
    pub urls: Vec<String>,
    /// coturn's user database; without it the shared secret is somebody else's.
    pub redis: Option<RedisAt>,
    /// A Secret of somebody else with the shared secret under `secret`, instead of one that the operator makes.
    pub foreign_secret: Option<String>,
    /// When secrets change.
    pub policy: Policy,
}

/// Flags of TURN.
#[derive(Clone, Debug, Args)]
pub struct TurnArgs {
    /// URLs of TURN servers that clients are told, such as turn:turn.example.org:3478?transport=udp. The host * stands
    /// for each machine with a coturn pod of this release that is ready. Without any there is no TURN.
    #[arg(long, env = "CALLPLANE_TURN_URL", value_name = "URL", value_delimiter = ',', value_parser = url)]
    pub turn_url: Vec<String>,
    /// coturn's realm.
    #[arg(long, env = "CALLPLANE_TURN_REALM", default_value = "callplane", value_parser = realm)]
    pub turn_realm: String,
    /// A Secret of this namespace that holds, under `secret`, the shared secret of TURN servers which others look
    /// after. Without it the operator makes the secret, changes it, and tells coturn by Redis.
    #[arg(long, env = "CALLPLANE_TURN_FOREIGN_SECRET", value_name = "NAME")]
    pub turn_foreign_secret: Option<String>,
    /// Age at which the shared secret is replaced, 30s to 8760h.
    #[arg(long, env = "CALLPLANE_TURN_ROTATION", default_value = "24h", value_parser = rotation)]
    pub turn_rotation: Duration,
    /// How long coturn believes a replaced secret at least, 10s to 8760h: the longest life of a credential (10m with
    /// join tokens) and the time that a mounted Secret takes to change. Rooms with a longer turn.ttlSeconds prolong it.
    #[arg(long, env = "CALLPLANE_TURN_OVERLAP", default_value = "15m", value_parser = overlap)]
    pub turn_overlap: Duration,
    /// Redis that coturn looks in: redis://:PASSWORD@HOST:PORT/DB.
    #[arg(long, env = "CALLPLANE_REDIS_URL", value_name = "URL", hide_env_values = true)]
    pub redis_url: Option<String>,
    /// HOST:PORT of a Redis whose password the operator makes, and keeps in the Secret callplane-redis.
    #[arg(long, env = "CALLPLANE_REDIS_ADDRESS", value_name = "HOST:PORT", conflicts_with = "redis_url")]
    pub redis_address: Option<String>,
}

impl TurnArgs {
    /// What they amount to; `None` when there is neither TURN nor a Redis to look after.
    pub fn settings(&self) -> Option<Settings> {
        let redis = self.redis_url.clone().map(RedisAt::Url).or_else(|| self.redis_address.clone().map(RedisAt::Own));
        if self.turn_url.is_empty() && redis.is_none() {
            return None;
        }
        Some(Settings {
            realm: self.turn_realm.clone(),
            urls: self.turn_url.clone(),
            redis,
            foreign_secret: self.turn_foreign_secret.clone(),
            policy: Policy { rotation: self.turn_rotation, overlap: self.turn_overlap },
        })
    }
}

fn url(text: &str) -> Result<String, String> {
    match is_turn_url(text) {
        true => Ok(text.to_owned()),
        false => Err("is no turn: or turns: URL, such as turn:turn.example.org:3478?transport=udp".to_owned()),
    }
}

fn realm(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    match (1..=120).contains(&text.len()) && text.chars().all(allowed) {
        true => Ok(text.to_owned()),
        false => Err("a realm is 1 to 120 letters, digits, '.', '-' and '_'".to_owned()),
    }
}

fn rotation(text: &str) -> Result<Duration, String> {
    between(text, 30)
}

fn overlap(text: &str) -> Result<Duration, String> {
    between(text, 10)
}

fn between(text: &str, least: u64) -> Result<Duration, String> {
    let parsed: jiff::SignedDuration = text.parse().map_err(|_| "is not a duration such as 90s, 15m or 24h")?;
    match Duration::try_from(parsed) {
        Ok(time) if (least..=8760 * 3600).contains(&time.as_secs()) => Ok(time),
        _ => Err(format!("is not between {least}s and 8760h")),
    }
}
