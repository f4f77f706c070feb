//! coturn's user database in Redis: the set of shared secrets that it believes.

use std::{collections::BTreeSet, time::Duration};

use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, RedisError, aio::MultiplexedConnection};
use thiserror::Error;

/// How long connecting and each command may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// How many seconds coturn waits for a connection to Redis: its threads that check credentials stand still meanwhile.
const COTURN_CONNECTS_WITHIN: u32 = 2;

/// What can go wrong with Redis.
#[derive(Debug, Error)]
pub enum RedisFailure {
    /// The URL is none.
    #[error("not a URL of Redis: {0}")]
    Url(RedisError),
    /// coturn knows no TLS and no user names towards Redis.
    #[error("coturn cannot use this Redis: {0}")]
    NotForCoturn(&'static str),
    /// It could not be reached.
    #[error("cannot connect to Redis: {0}")]
    Connect(RedisError),
    /// A command failed.
    #[error("Redis refused {command}: {source}")]
    Command {
        /// The command.
        command: &'static str,
        /// Why.
        source: RedisError,
    },
}

impl RedisFailure {
    /// As one word for metrics.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Url(_) => "Url",
            Self::NotForCoturn(_) => "NotForCoturn",
            Self::Connect(_) => "Connect",
            Self::Command { .. } => "Command",
        }
    }
}

/// The set of secrets of one realm.
pub struct UserDatabase {
    client: Client,
    key: String,
    connection: Option<MultiplexedConnection>,
}

impl UserDatabase {
    /// That of `realm` at `url` (`redis://` or `rediss://`).
    ///
    /// # Errors
    /// [`RedisFailure::Url`].
    pub fn new(url: &str, realm: &str) -> Result<Self, RedisFailure> {
        let client = Client::open(url).map_err(RedisFailure::Url)?;
        Ok(Self { client, key: format!("turn/realm/{realm}/secret"), connection: None })
    }

    /// What coturn believes at present.
    ///
    /// # Errors
    /// When Redis does not tell.
    pub async fn believed(&mut self) -> Result<BTreeSet<String>, RedisFailure> {
        let mut command = redis::cmd("SMEMBERS");
        command.arg(&self.key);
        let mut connection = self.connect().await?;
        let answer = command.query_async(&mut connection).await;
        self.heed(answer, "SMEMBERS")
    }

    /// Adds and removes, at once or not at all.
    ///
    /// # Errors
    /// When Redis does not confirm it: it may have happened.
    pub async fn change(&mut self, add: &BTreeSet<String>, remove: &BTreeSet<String>) -> Result<(), RedisFailure> {
        let mut pipe = redis::pipe();
        pipe.atomic();
        if !add.is_empty() {
            pipe.cmd("SADD").arg(&self.key).arg(add).ignore();
        }
        if !remove.is_empty() {
            pipe.cmd("SREM").arg(&self.key).arg(remove).ignore();
        }
        let mut connection = self.connect().await?;
        let answer = pipe.query_async(&mut connection).await;
        self.heed(answer, "SADD and SREM")
    }

    async fn connect(&mut self) -> Result<MultiplexedConnection, RedisFailure> {
        if let Some(connection) = &self.connection {
            return Ok(connection.clone());
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(ANSWER_WITHIN))
            .set_response_timeout(Some(ANSWER_WITHIN));
        let connection =
            self.client.get_multiplexed_async_connection_with_config(&config).await.map_err(RedisFailure::Connect)?;
        Ok(self.connection.insert(connection).clone())
    }

    fn heed<T>(&mut self, answer: Result<T, RedisError>, command: &'static str) -> Result<T, RedisFailure> {
        answer.map_err(|source| {
            // A new one next time, whatever it was: a connection costs little here.
            self.connection = None;
            RedisFailure::Command { command, source }
        })
    }
}

/// The line of coturn's configuration that names the Redis at `url`.
///
/// # Errors
/// When coturn could not use it: it speaks neither TLS nor user names to Redis, and its parser splits at spaces.
pub fn coturn_line(url: &str) -> Result<String, RedisFailure> {
    let info = url.into_connection_info().map_err(RedisFailure::Url)?;
    let redis::ConnectionAddr::Tcp(host, port) = info.addr() else {
        return Err(RedisFailure::NotForCoturn("it knows TCP without TLS only"));
    };
    let settings = info.redis_settings();
    if settings.username().is_some_and(|user| user != "default") {
        return Err(RedisFailure::NotForCoturn("it logs in as the user \"default\" only"));
    }
    let password = match settings.password() {
        Some(password) if !password.bytes().all(|b| b.is_ascii_graphic() && b != b'"') => {
            return Err(RedisFailure::NotForCoturn("its password has characters that coturn's parser splits at"));
        }
        Some(password) => format!(" password={password}"),
        None => String::new(),
    };
    Ok(format!(
        "redis-userdb=\"ip={host} dbname={} port={port}{password} connect_timeout={COTURN_CONNECTS_WITHIN}\"\n",
        settings.db()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coturn_is_told_the_redis_that_the_url_names() {
        assert_eq!(
            coturn_line("redis://:secret@callplane-redis.calls.svc:6379/2").unwrap(),
            "redis-userdb=\"ip=callplane-redis.calls.svc dbname=2 port=6379 password=secret connect_timeout=2\"\n"
        );
        assert_eq!(
            coturn_line("redis://redis").unwrap(),
            "redis-userdb=\"ip=redis dbname=0 port=6379 connect_timeout=2\"\n"
        );
    }

    #[test]
    fn a_redis_that_coturn_cannot_use_is_refused_in_words() {
        for (url, word) in [
            ("rediss://redis:6379", "TLS"),
            ("redis://ann:secret@redis", "default"),
            ("redis://:two%20words@redis", "password"),
            ("redis://:a%22b@redis", "password"),
            ("http://redis", "not a URL"),
        ] {
            let refusal = coturn_line(url).unwrap_err().to_string();
            assert!(refusal.contains(word), "{url}: {refusal}");
            assert!(!refusal.contains("secret"), "{refusal}");
        }
    }
}
