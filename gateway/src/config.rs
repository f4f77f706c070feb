//! Flags and environment.

use std::{net::SocketAddr, num::NonZeroU32, path::PathBuf, time::Duration};

use callplane_operator::turn::is_turn_url;
use clap::{Args, Parser, Subcommand};
use ipnet::IpNet;
use tracing::Level;
use tracing_subscriber::EnvFilter;

use crate::{
    access::{Demand, Issuer},
    limits::Rate,
    records::Source,
};

/// The gateway of callplane: rooms by REST, join tokens, and the way to each room's media node.
#[derive(Clone, Debug, Parser)]
#[command(name = "callplane-gateway", version, about)]
pub struct Config {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How it serves.
    #[command(flatten)]
    pub serve: Serve,
}

/// What to do instead of serving.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum Command {
    /// Print the OpenAPI description.
    Openapi,
}

/// How it serves.
#[derive(Clone, Debug, Args)]
pub struct Serve {
    /// Namespace of the media nodes.
    #[arg(long, env = "POD_NAMESPACE", default_value = "callplane-system")]
    pub namespace: String,
    /// Namespace that rooms are created and listed in.
    #[arg(long, env = "CALLPLANE_ROOMS_NAMESPACE", default_value = "default")]
    pub rooms_namespace: String,
    /// Let people join the CallRooms of this namespace only. Those of every namespace otherwise.
    #[arg(long, env = "WATCH_NAMESPACE")]
    pub watch_namespace: Option<String>,
    /// Where the API is served.
    #[arg(long, env = "CALLPLANE_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Where /livez, /readyz and /metrics are served.
    #[arg(long, env = "CALLPLANE_ADMIN_LISTEN", default_value = "0.0.0.0:9090")]
    pub admin_listen: SocketAddr,
    /// Base of the URLs that clients are told, such as https://calls.example.org. Without it they are told paths.
    #[arg(long, env = "CALLPLANE_PUBLIC_URL", default_value = "", value_parser = public_url)]
    pub public_url: String,
    /// Directory with private.pem, the key that signs join tokens and share links; jwks.json, the keys whose join tokens are
    /// believed besides; and previous.json, those whose share links are. Re-read every 5 s.
    #[arg(long, env = "CALLPLANE_JOIN_KEYS", value_name = "PATH", default_value = "/etc/callplane/join-keys")]
    pub join_keys: PathBuf,
    /// Directory with one file for each backend that may call: its name is the caller's, its content the SHA-256 of
    /// the API key in hexadecimal. Re-read every 5 s. Without it no backend may call.
    #[arg(long, env = "CALLPLANE_API_KEYS", value_name = "PATH", default_value = "/etc/callplane/api-keys")]
    pub api_keys: PathBuf,
    /// Directory with the web app (clients/web/dist), read at the start. Without it none is served.
    #[arg(long, env = "CALLPLANE_WEB_ROOT", value_name = "PATH")]
    pub web_root: Option<PathBuf>,
    /// OpenID Connect issuer whose tokens make their bearers backends, such as https://login.example.org. Its keys are
    /// discovered, fetched again every 10 min, and at most every 10 s when a token names one that is not known.
    #[arg(long, env = "CALLPLANE_OIDC_ISSUER", value_name = "URL", requires = "oidc_audience")]
    pub oidc_issuer: Option<String>,
    /// Audience of the issuer's tokens that are for backends.
    #[arg(long, env = "CALLPLANE_OIDC_AUDIENCE", requires = "oidc_issuer")]
    pub oidc_audience: Option<String>,
    /// What the issuer's tokens have to have besides, such as scope=callplane or realm_access.roles=backend: the claim, or the way
    /// to it, and a word of it. All of them where several are given.
    #[arg(
        long,
        env = "CALLPLANE_OIDC_REQUIRE",
        value_name = "CLAIM=VALUE",
        value_delimiter = ',',
        requires = "oidc_issuer"
    )]
    pub oidc_require: Vec<Demand>,
    /// File with certificates in PEM of authorities that vouch for the issuer, besides the system's.
    #[arg(long, env = "CALLPLANE_OIDC_CA", value_name = "PATH", requires = "oidc_issuer")]
    pub oidc_ca: Option<PathBuf>,
    /// Directory with `secret`, the shared secret of TURN servers, and `urls`, one server's a line. Re-read every 5 s.
    /// Without it nobody is told of TURN servers.
    #[arg(long, env = "CALLPLANE_TURN_SECRET", value_name = "PATH", default_value = "/etc/callplane/turn")]
    pub turn_secret: PathBuf,
    /// URLs of TURN servers, such as turn:turn.example.org:3478?transport=udp, instead of those in `urls`.
    #[arg(long, env = "CALLPLANE_TURN_URL", value_name = "URL", value_delimiter = ',', value_parser = turn_url)]
    pub turn_url: Vec<String>,
    /// Life of join tokens, 1m to 10m.
    #[arg(long, env = "CALLPLANE_TOKEN_TTL", default_value = "10m", value_parser = token_ttl)]
    pub token_ttl: Duration,
    /// How long a request waits for a room to become ready, up to 10s.
    #[arg(long, env = "CALLPLANE_READY_TIMEOUT", default_value = "3s", value_parser = ready_timeout)]
    pub ready_timeout: Duration,
    /// How long requests are still taken after SIGTERM, so that nobody is sent here any more when that ends.
    #[arg(long, env = "CALLPLANE_SHUTDOWN_DELAY", default_value = "5s", value_parser = duration)]
    pub shutdown_delay: Duration,
    /// Origins of web pages that may call, such as https://app.example.org.
    #[arg(long, env = "CALLPLANE_CORS_ORIGIN", value_name = "ORIGIN", value_delimiter = ',')]
    pub cors_origin: Vec<String>,
    /// Requests of one API key, user or share link, per second and at once.
    #[arg(long, env = "CALLPLANE_RATE_PER_CALLER", default_value = "50:200", value_parser = rate)]
    pub rate_per_caller: Rate,
    /// Requests of one address, per second and at once.
    #[arg(long, env = "CALLPLANE_RATE_PER_ADDRESS", default_value = "200:1000", value_parser = rate)]
    pub rate_per_address: Rate,
    /// Addresses whose X-Forwarded-For is believed.
    #[arg(long, env = "CALLPLANE_TRUSTED_PROXY", value_name = "CIDR", value_delimiter = ',')]
    pub trusted_proxy: Vec<IpNet>,
    /// File with the URL of the PostgreSQL database that keeps records, such as
    /// postgres://user:password@host/database?sslmode=verify-full. Read again when the database does not answer.
    #[arg(long, env = "CALLPLANE_DATABASE_URL_FILE", value_name = "PATH", conflicts_with = "sqlite")]
    pub database_url_file: Option<PathBuf>,
    /// File in which SQLite keeps records, for one replica. Without it and without a URL none are kept.
    #[arg(long, env = "CALLPLANE_SQLITE", value_name = "PATH")]
    pub sqlite: Option<PathBuf>,
    /// WebSockets that are passed on at a time.
    #[arg(long, env = "CALLPLANE_MAX_SOCKETS", default_value_t = 10_000)]
    pub max_sockets: u16,
    /// Redis that replicas share rooms' state through, such as redis://callplane-redis:6379. Without it there may be one
    /// replica only.
    #[arg(long, env = "CALLPLANE_REDIS_URL", hide_env_values = true)]
    pub redis_url: Option<String>,
    /// Socket.IO sockets at a time.
    #[arg(long, env = "CALLPLANE_MAX_SIGNALLING_SOCKETS", default_value_t = 10_000)]
    pub max_signalling_sockets: usize,
    /// What is logged, in the syntax of tracing's EnvFilter. What libraries would write of the messages that they carry is left
    /// out whatever it says: there are tokens in them.
    #[arg(long, env = "RUST_LOG", default_value = "info", value_parser = filter)]
    pub log: String,
}

impl Serve {
    /// Who vouches for backends besides their API keys.
    pub fn issuer(&self) -> Option<Issuer> {
        let (url, audience) = (self.oidc_issuer.clone()?, self.oidc_audience.clone()?);
        let (demands, authorities) = (self.oidc_require.clone(), self.oidc_ca.clone());
        Some(Issuer { url, audience, demands, authorities })
    }

    /// Where records are kept, if any are.
    pub fn records(&self) -> Option<Source> {
        let postgres = self.database_url_file.clone().map(Source::PostgresUrl);
        postgres.or_else(|| self.sqlite.clone().map(Source::Sqlite))
    }
}

/// Libraries that write what they carry into the log when they are asked for details.
const TALKATIVE: [&str; 2] = ["tungstenite", "tokio_tungstenite"];

/// Whether `target` may log at `level`.
pub fn is_discreet(target: &str, level: Level) -> bool {
    let library = target.split("::").next().unwrap_or_default();
    level <= Level::INFO || !TALKATIVE.contains(&library)
}

fn filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed: jiff::SignedDuration = text.parse().map_err(|_| "is not a duration such as 90s or 10m".to_owned())?;
    Duration::try_from(parsed).map_err(|_| "is negative".to_owned())
}

fn token_ttl(text: &str) -> Result<Duration, String> {
    let ttl = duration(text)?;
    let allowed = Duration::from_secs(60)..=callplane_operator::token::LONGEST;
    if allowed.contains(&ttl) { Ok(ttl) } else { Err("a token is good for 1m to 10m".to_owned()) }
}

fn ready_timeout(text: &str) -> Result<Duration, String> {
    let wait = duration(text)?;
    if wait <= Duration::from_secs(10) { Ok(wait) } else { Err("is longer than 10s".to_owned()) }
}

fn rate(text: &str) -> Result<Rate, String> {
    let wrong = || "is not PER_SECOND:AT_ONCE, such as 50:200".to_owned();
    let (per_second, burst) = text.split_once(':').ok_or_else(wrong)?;
    let number = |text: &str| text.parse::<NonZeroU32>().map_err(|_| wrong());
    Ok(Rate { per_second: number(per_second)?, burst: number(burst)? })
}

fn turn_url(text: &str) -> Result<String, String> {
    match is_turn_url(text) && !text.contains('*') {
        true => Ok(text.to_owned()),
        false => Err("is no turn: or turns: URL, such as turn:turn.example.org:3478?transport=udp".to_owned()),
    }
}

fn public_url(text: &str) -> Result<String, String> {
    let has_scheme = text.starts_with("https://") || text.starts_with("http://");
    match text.is_empty() || has_scheme && text.parse::<axum::http::Uri>().is_ok() {
        true => Ok(text.trim_end_matches('/').to_owned()),
        false => Err("is not the beginning of an http or https URL".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        Config::command().debug_assert();
    }

    #[test]
    fn libraries_keep_to_themselves_what_they_carry() {
        for (target, level, expected) in [
            ("tungstenite::protocol", Level::TRACE, false),
            ("tungstenite::protocol", Level::DEBUG, false),
            ("tungstenite", Level::WARN, true),
            ("tungstenites", Level::TRACE, true),
            ("callplane_gateway::signal", Level::TRACE, true),
        ] {
            assert_eq!(is_discreet(target, level), expected, "{target} {level}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for wrong in [
            ["--token-ttl", "1h"],
            ["--token-ttl", "10s"],
            ["--ready-timeout", "1m"],
            ["--rate-per-caller", "50"],
            ["--rate-per-address", "0:10"],
            ["--trusted-proxy", "10.0.0.0/64"],
            ["--public-url", "calls.example.org"],
            ["--log", "x=loud"],
            ["--turn-url", "stun:turn.example.org"],
            ["--turn-url", "turn:*:3478"],
            ["--oidc-require", "scope"],
        ] {
            assert!(Config::try_parse_from([&["x"], &wrong[..]].concat()).is_err(), "{wrong:?}");
        }
        for together in [
            &["--oidc-issuer", "https://login.example.org"][..],
            &["--oidc-audience", "callplane"],
            &["--oidc-require", "scope=callplane"],
            &["--sqlite", "/x", "--database-url-file", "/y"],
        ] {
            assert!(Config::try_parse_from([&["x"], together].concat()).is_err(), "{together:?}");
        }
        let config = Config::try_parse_from(["x", "--public-url", "https://calls.example.org/"]).unwrap();
        assert_eq!(config.serve.public_url, "https://calls.example.org");
    }
}
