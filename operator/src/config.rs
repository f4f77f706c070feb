//! Flags and environment.

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use callplane_crds::CallId;
use clap::{Args, Parser, Subcommand};
use tracing_subscriber::{EnvFilter, filter::ParseError};

use crate::{keys::JoinKeyArgs, turn::TurnArgs};

/// The operator of callplane: decides where calls run and how much capacity there is.
#[derive(Clone, Debug, Parser)]
#[command(name = "callplane-operator", version, about)]
pub struct Config {
    /// Namespace of the pools, media nodes, their pods and leases, and of the join keys.
    #[arg(long, env = "POD_NAMESPACE", default_value = "callplane-system", global = true, value_parser = namespace)]
    pub namespace: String,

    /// What to do instead of running the controllers.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// How the controllers run.
    #[command(flatten)]
    pub run: Run,
}

/// How the controllers run.
#[derive(Clone, Debug, Args)]
pub struct Run {
    /// Serve the CallRooms of this namespace only. Every namespace otherwise.
    #[arg(long, env = "WATCH_NAMESPACE", value_parser = namespace)]
    pub watch_namespace: Option<String>,

    /// Name of this replica in the leader lease. A chance part is added.
    #[arg(long, env = "POD_NAME", default_value = "callplane-operator")]
    pub identity: String,

    /// Image of media nodes whose pool names none.
    #[arg(long, env = "MEDIA_NODE_IMAGE", default_value = concat!("callplane/media-node:", env!("CARGO_PKG_VERSION")))]
    pub media_node_image: String,

    /// Where /livez, /readyz and /metrics are served.
    #[arg(long, env = "ADMIN_LISTEN", default_value = "0.0.0.0:9090")]
    pub admin_listen: SocketAddr,

    /// Rooms that are written at the same time, 16 to 512.
    #[arg(long, env = "ROOM_CONCURRENCY", default_value_t = 32, value_parser = clap::value_parser!(u16).range(16..=512))]
    pub room_concurrency: u16,

    /// When the keys of join tokens change.
    #[command(flatten)]
    pub join_keys: JoinKeyArgs,

    /// How TURN is provided for.
    #[command(flatten)]
    pub turn: TurnArgs,

    /// HOST:PORT of a PostgreSQL whose password the operator makes, and keeps in the Secret callplane-postgresql.
    #[arg(long, env = "CALLPLANE_POSTGRESQL_ADDRESS", value_name = "HOST:PORT", value_parser = address)]
    pub postgresql_address: Option<String>,

    /// What is logged, in the syntax of tracing's EnvFilter. Without the Kubernetes library's lines about each failed
    /// request, unless kube_client is named.
    #[arg(long, env = "RUST_LOG", default_value = "info", value_parser = filter)]
    pub log: String,
}

/// What to do instead of running the controllers.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Bring the CustomResourceDefinitions in the cluster to those of this program.
    ApplyCrds,
    /// Make a CallRoom, wait until it is ready, and remove it.
    SelfTest,
    /// Print a token that lets one person into one call, for trying things out.
    JoinToken(JoinToken),
}

/// Who is to be let into what.
#[derive(Clone, Debug, Args)]
pub struct JoinToken {
    /// The CallRoom, as NAMESPACE/NAME.
    #[arg(long, value_parser = room)]
    pub room: CallId,
    /// User id, unique in the call.
    #[arg(long)]
    pub user: String,
    /// Name to show.
    #[arg(long)]
    pub name: Option<String>,
    /// Part in the call.
    #[arg(long, default_value = "participant", value_parser = ["host", "participant", "guest", "admin"])]
    pub role: String,
    /// How long the token is good for, 10m at most.
    #[arg(long, default_value = "10m", value_parser = ttl)]
    pub ttl: Duration,
}

impl Config {
    /// Reads the command line and the environment.
    ///
    /// # Errors
    /// The code to exit with: 0 after help was printed, 2 after a line about what cannot be.
    pub fn read() -> Result<Self, ExitCode> {
        Self::try_parse().map_err(|error| {
            if !error.use_stderr() {
                // Help and version.
                let _ = error.print();
                return ExitCode::SUCCESS;
            }
            let text = error.to_string();
            let lines = text.lines().map(str::trim).take_while(|l| !l.is_empty() && !l.starts_with("Usage:"));
            let line = lines.collect::<Vec<_>>().join(" ");
            eprintln!("callplane-operator: {}", line.trim_start_matches("error: "));
            ExitCode::from(2)
        })
    }
}

/// The log filter that `text` means. The Kubernetes library's lines about each failed request are left out unless `text`
/// speaks of them: what fails is told here, once, with a count.
///
/// # Errors
/// When `text` is no filter.
pub fn log_filter(text: &str) -> Result<EnvFilter, ParseError> {
    let quiet = ",kube_client=off,kube_client::client::tls=warn";
    EnvFilter::try_new(if text.contains("kube_client") { text.to_owned() } else { format!("{text}{quiet}") })
}

fn filter(text: &str) -> Result<String, String> {
    log_filter(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

fn namespace(text: &str) -> Result<String, String> {
    let label = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if (1..=63).contains(&text.len()) && text.chars().all(label) && !text.starts_with('-') && !text.ends_with('-') {
        Ok(text.to_owned())
    } else {
        Err("a namespace is made of lower-case letters, digits and '-'".to_owned())
    }
}

fn address(text: &str) -> Result<String, String> {
    let name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    match text.split_once(':') {
        Some((host, port))
            if !host.is_empty() && host.chars().all(name) && port.parse::<u16>().is_ok_and(|port| port > 0) =>
        {
            Ok(text.to_owned())
        }
        _ => Err("is not HOST:PORT".to_owned()),
    }
}

fn room(text: &str) -> Result<CallId, String> {
    let (namespace, name) = text.split_once('/').ok_or("a room is NAMESPACE/NAME")?;
    CallId::new(namespace, name).to_string().parse().map_err(|e: callplane_crds::call_id::InvalidCallId| e.to_string())
}

fn ttl(text: &str) -> Result<Duration, String> {
    let parsed: jiff::SignedDuration = text.parse().map_err(|_| "is not a duration such as 90s or 10m")?;
    match Duration::try_from(parsed) {
        Ok(ttl) if (Duration::from_secs(1)..=crate::token::LONGEST).contains(&ttl) => Ok(ttl),
        _ => Err("a token is good for 1s to 10m".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        use clap::CommandFactory;
        Config::command().debug_assert();
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for wrong in [
            &["--namespace", "Team"][..],
            &["--room-concurrency", "4"],
            &["--admin-listen", "9090"],
            &["--log", "callplane=loud"],
            &["--join-key-rotation", "1h"],
            &["--join-key-lead", "0"],
            &["--turn-url", "stun:turn.example.org"],
            &["--turn-overlap", "1s"],
            &["--turn-rotation", "soon"],
            &["--turn-realm", "two words"],
            &["--redis-url", "redis://x", "--redis-address", "x:6379"],
            &["--postgresql-address", "postgres://x"],
            &["--postgresql-address", "x"],
            &["--postgresql-address", "user@x:5432"],
            &["join-token", "--room", "standup", "--user", "ann"],
            &["join-token", "--room", "team/standup", "--user", "ann", "--ttl", "1h"],
            &["join-token", "--room", "team/standup", "--user", "ann", "--role", "king"],
        ] {
            let line = [&["callplane-operator"][..], wrong].concat();
            assert!(Config::try_parse_from(line).is_err(), "{wrong:?}");
        }
        let line =
            ["callplane-operator", "join-token", "--room", "team/stand.up", "--user", "ann", "--namespace", "cp"];
        let config = Config::try_parse_from(line).unwrap();
        assert_eq!(config.namespace, "cp");
        let Some(Command::JoinToken(token)) = config.command else { panic!("{config:?}") };
        assert_eq!((token.room, token.ttl), (CallId::new("team", "stand.up"), Duration::from_secs(600)));
    }
}
