//! Decides from flags and environment what this process is, and refuses in one line what cannot be.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use tracing_subscriber::{EnvFilter, filter::ParseError};

use crate::{
    api::{IceServers, Network, Rate},
    rooms::Role,
};

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "callplane-media-node", version, about = "A callplane media node: forwards the media of WebRTC calls")]
pub struct Cli {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to serve.
    #[command(flatten)]
    pub config: Config,
}

/// For development; on Kubernetes the operator and the gateway do this.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Writes a new signing key and its public half.
    Keygen {
        /// Directory for `signing.pem` and `jwks.json`.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Prints a join token.
    Token(TokenArgs),
}

/// What the token says.
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// Private key in PKCS#8 PEM.
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// Call id.
    #[arg(long)]
    pub room: String,
    /// User id.
    #[arg(long)]
    pub user: String,
    /// Name to show.
    #[arg(long)]
    pub name: Option<String>,
    /// UID of the CallRoom; standalone rooms have none.
    #[arg(long)]
    pub room_uid: Option<String>,
    /// Route epoch.
    #[arg(long, default_value_t = 1)]
    pub epoch: i64,
    /// Part in the call.
    #[arg(long, default_value = "participant", value_parser = role)]
    pub role: Role,
    /// How long it is good for.
    #[arg(long, default_value = "10m", value_parser = duration)]
    pub ttl: Duration,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// How to serve.
#[derive(Clone, Debug, Args)]
pub struct Config {
    /// Serve without Kubernetes: rooms are created through the API.
    #[arg(long, env = "CALLPLANE_STANDALONE")]
    pub standalone: bool,
    /// Address of the API.
    #[arg(long, env = "CALLPLANE_API_LISTEN", default_value = "0.0.0.0:8080")]
    pub api_listen: SocketAddr,
    /// Address of probes and metrics.
    #[arg(long, env = "CALLPLANE_ADMIN_LISTEN", default_value = "0.0.0.0:9090")]
    pub admin_listen: SocketAddr,
    /// Address of the first media worker, for UDP and TCP; worker `i` takes the `i`th port after it. With
    /// an IPv6 address to announce, 0.0.0.0 means both families.
    #[arg(long, env = "CALLPLANE_RTC_LISTEN", default_value = "0.0.0.0:40000")]
    pub rtc_listen: SocketAddr,
    /// Whether clients may connect by TCP where UDP does not reach.
    #[arg(long, env = "CALLPLANE_ICE_TCP", default_value_t = true, action = clap::ArgAction::Set)]
    pub ice_tcp: bool,
    /// Address that clients reach the media workers at, most preferred first. With a port it is worker
    /// 0's, and worker `i` has the `i`th after it; the same address again is worker 1's, and so on.
    #[arg(long, env = "CALLPLANE_ANNOUNCE", value_name = "IP[:PORT]", value_delimiter = ',')]
    pub announce: Vec<Announce>,
    /// Media workers, one core each; 0 means one per available core.
    #[arg(long, env = "CALLPLANE_WORKERS", default_value_t = 0)]
    pub workers: usize,
    /// Public keys of tokens: a PEM or JWKS file, or a directory of such.
    #[arg(long, env = "CALLPLANE_PUBLIC_KEYS", value_name = "PATH", default_value = "/etc/callplane/keys")]
    pub public_keys: PathBuf,
    /// Longest time that a token may be good for.
    #[arg(long, env = "CALLPLANE_TOKEN_MAX_LIFETIME", default_value = "1h", value_parser = duration)]
    pub token_max_lifetime: Duration,
    /// Name of the `MediaNode`: the pod's.
    #[arg(long, env = "NODE_NAME")]
    pub node_name: Option<String>,
    /// Namespace of the `MediaNode`: the pod's.
    #[arg(long, env = "POD_NAMESPACE", default_value = "callplane-system")]
    pub namespace: String,
    /// Address under which the cluster reaches this process; found out if absent.
    #[arg(long, env = "POD_IP")]
    pub pod_ip: Option<IpAddr>,
    /// How long the process stays for its rooms after it was told to end.
    #[arg(long, env = "CALLPLANE_DRAIN_TIMEOUT", default_value = "1h", value_parser = duration)]
    pub drain_timeout: Duration,
    /// How long a participant stays without socket and media.
    #[arg(long, env = "CALLPLANE_PARTICIPANT_GRACE", default_value = "30s", value_parser = duration)]
    pub participant_grace: Duration,
    /// Web origin that may call the API; `*` for any.
    #[arg(long, env = "CALLPLANE_CORS_ORIGIN", value_name = "ORIGIN", value_delimiter = ',')]
    pub cors_origin: Vec<String>,
    /// STUN or TURN server that WHIP and WHEP clients are told of, such as `stun:stun.example.net:3478` or
    /// `turn:turn.example.net:3478?transport=udp`.
    #[arg(long, env = "CALLPLANE_ICE_SERVER", value_name = "URI", value_delimiter = ',')]
    pub ice_server: Vec<String>,
    /// File with the secret that TURN servers make credentials from (`static-auth-secret` of coturn).
    #[arg(long, env = "CALLPLANE_TURN_SECRET_FILE", value_name = "FILE")]
    pub turn_secret_file: Option<PathBuf>,
    /// Requests of one user in one room, per second and at once; `0` for no limit.
    #[arg(long, env = "CALLPLANE_RATE_PER_SUBJECT", default_value = "50:200", value_parser = rate)]
    pub rate_per_subject: Rate,
    /// Requests of one address, per second and at once; `0` for no limit.
    #[arg(long, env = "CALLPLANE_RATE_PER_ADDRESS", default_value = "200:1000", value_parser = rate)]
    pub rate_per_address: Rate,
    /// Addresses whose `X-Forwarded-For` is believed.
    #[arg(long, env = "CALLPLANE_TRUSTED_PROXY", value_name = "CIDR", value_delimiter = ',')]
    pub trusted_proxy: Vec<Network>,
    /// How the log is written.
    #[arg(long, env = "CALLPLANE_LOG_FORMAT", default_value = "json")]
    pub log_format: LogFormat,
    /// What is logged, such as `info` or `callplane_media_node=debug`. By default without the DTLS
    /// library's warnings about each browser's newer extensions, and without what the SCTP library says of each
    /// packet that it does not like. Without the Kubernetes library's lines about each failed request, unless
    /// `kube_client` is named.
    #[arg(long, env = "CALLPLANE_LOG", default_value = "info,rtc_dtls=error,rtc_sctp=off")]
    pub log: String,
}

/// An announced address, with worker 0's port if it is not the bound one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announce {
    /// Address.
    pub ip: IpAddr,
    /// Port.
    pub port: Option<u16>,
}

impl std::str::FromStr for Announce {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if let Ok(ip) = bare.parse() {
            return Ok(Self { ip, port: None });
        }
        match text.parse::<SocketAddr>() {
            Ok(address) if address.port() != 0 => Ok(Self { ip: address.ip(), port: Some(address.port()) }),
            _ => Err("is neither an address nor address:port (IPv6 in brackets)".into()),
        }
    }
}

impl Config {
    /// The log filter that `--log` means. What fails on the way to the API server is told by `report`, once,
    /// with a count; what events carry, which the WebSocket library writes when it is asked for details, by nobody.
    ///
    /// # Errors
    /// When it is none.
    pub fn log_filter(&self) -> Result<EnvFilter, ParseError> {
        let named = self.log.contains("kube_client");
        let quiet = if named { "" } else { ",kube_client=off,kube_client::client::tls=warn" };
        let discreet = ",tungstenite=warn,tokio_tungstenite=warn";
        EnvFilter::try_new(format!("{}{quiet}{discreet}", self.log))
    }

    /// What is wrong with it, in one line.
    ///
    /// # Errors
    /// The line.
    pub fn check(&self) -> Result<(), String> {
        if !self.standalone && self.node_name.is_none() {
            return Err("--node-name is needed on Kubernetes; without Kubernetes, say --standalone".into());
        }
        if let Some(origin) = self.cors_origin.iter().find(|origin| !is_origin(origin)) {
            return Err(format!("--cors-origin {origin}: is not scheme://host[:port] without a path, nor *"));
        }
        if !self.standalone && self.cors_origin.iter().any(|origin| origin == "*") {
            return Err("--cors-origin *: is for --standalone only".into());
        }
        let announced =
            self.announce.iter().find(|announce| announce.ip.is_unspecified() || announce.ip.is_multicast());
        if let Some(announce) = announced {
            return Err(format!("--announce {}: nobody can reach that address", announce.ip));
        }
        if self.log_filter().is_err() {
            return Err(format!("--log {}: is not a log filter", self.log));
        }
        self.ice_servers()?;
        let last_port = usize::from(self.rtc_listen.port()) + self.worker_count();
        if self.rtc_listen.port() != 0 && last_port > usize::from(u16::MAX) {
            return Err(format!(
                "--rtc-listen {}: {} workers need as many ports",
                self.rtc_listen,
                self.worker_count()
            ));
        }
        Ok(())
    }

    /// What the first media worker binds.
    pub fn rtc_socket(&self) -> SocketAddr {
        let announces_v6 = self.announce.iter().any(|announce| announce.ip.is_ipv6());
        match self.rtc_listen.ip() {
            ip if ip == Ipv4Addr::UNSPECIFIED && announces_v6 => {
                SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), self.rtc_listen.port())
            }
            _ => self.rtc_listen,
        }
    }

    /// Servers that clients are told of.
    ///
    /// # Errors
    /// What is wrong with them, in one line.
    pub fn ice_servers(&self) -> Result<IceServers, String> {
        IceServers::new(self.ice_server.clone(), self.turn_secret_file.clone())
            .map_err(|error| format!("--ice-server: {error}"))
    }

    /// Media workers to start.
    pub fn worker_count(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            workers => workers,
        }
    }

    /// The address under which the cluster reaches this process.
    ///
    /// # Errors
    /// When none is given and none can be found out.
    pub fn own_address(&self) -> Result<IpAddr, String> {
        let found = self.pod_ip.or_else(outgoing_address);
        found.ok_or_else(|| "--pod-ip is needed: no route to anywhere tells this machine's address".into())
    }

    /// Announced addresses of each worker, given the ports that were bound.
    ///
    /// # Errors
    /// When none is given and none can be found out.
    pub fn candidates(&self, bound: &[u16]) -> Result<Vec<Vec<SocketAddr>>, String> {
        let mut announced: Vec<(IpAddr, Vec<u16>)> = Vec::new();
        for announce in &self.announce {
            match announced.iter_mut().find(|(ip, _)| *ip == announce.ip) {
                Some((_, ports)) => ports.extend(announce.port),
                None => announced.push((announce.ip, announce.port.into_iter().collect())),
            }
        }
        if announced.is_empty() {
            let ip = match self.rtc_listen.ip() {
                ip if ip.is_unspecified() => outgoing_address()
                    .ok_or("--announce is needed: no route to anywhere tells this machine's address")?,
                ip => ip,
            };
            announced.push((ip, Vec::new()));
        }
        let port = |ports: &[u16], worker: usize| match ports {
            [] => bound.get(worker).copied(),
            ports => match ports.get(worker) {
                Some(port) => Some(*port),
                None => u16::try_from(worker + 1 - ports.len()).ok().and_then(|more| ports.last()?.checked_add(more)),
            },
        };
        Ok((0..bound.len())
            .map(|worker| {
                let of_worker = |(ip, ports): &(IpAddr, Vec<u16>)| Some(SocketAddr::new(*ip, port(ports, worker)?));
                announced.iter().filter_map(of_worker).collect()
            })
            .collect())
    }
}

/// The address that this machine would send from. Nothing is sent: connecting a datagram socket only
/// looks up the route.
fn outgoing_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
}

fn is_origin(origin: &str) -> bool {
    let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    origin == "*"
        || host
            .is_some_and(|host| !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic() && !b"/?#@".contains(&b)))
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed: jiff::SignedDuration = text.parse().map_err(|_| "is not a duration such as 30s, 10m or 1h")?;
    Duration::try_from(parsed).map_err(|_| "is negative".into())
}

fn rate(text: &str) -> Result<Rate, String> {
    let (per_second, burst) = text.split_once(':').unwrap_or((text, text));
    let number = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
    match (number(per_second), number(burst)) {
        (Some(per_second), Some(burst)) => Ok(Rate { per_second, burst: burst.max(1.0) }),
        _ => Err("is not per-second:burst, such as 50:200".into()),
    }
}

fn role(text: &str) -> Result<Role, String> {
    serde_json::from_value(text.into()).map_err(|_| "is none of host, participant, guest, admin".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(arguments: &[&str]) -> Config {
        Cli::try_parse_from([&["callplane-media-node"], arguments].concat()).unwrap().config
    }

    fn candidates(arguments: &[&str], bound: &[u16]) -> Vec<Vec<String>> {
        let candidates = config(arguments).candidates(bound).unwrap();
        candidates.into_iter().map(|worker| worker.iter().map(ToString::to_string).collect()).collect()
    }

    #[test]
    fn each_worker_announces_its_port() {
        assert_eq!(
            candidates(&["--announce", "192.0.2.7"], &[40000, 40001]),
            [["192.0.2.7:40000"], ["192.0.2.7:40001"]]
        );
        assert_eq!(
            candidates(&["--announce", "192.0.2.7:31000,[2001:db8::7]"], &[40000, 40001]),
            [["192.0.2.7:31000", "[2001:db8::7]:40000"], ["192.0.2.7:31001", "[2001:db8::7]:40001"]]
        );
        assert_eq!(
            candidates(&["--announce", "192.0.2.7:31000", "--announce", "192.0.2.7:31555"], &[1, 2, 3]),
            [["192.0.2.7:31000"], ["192.0.2.7:31555"], ["192.0.2.7:31556"]]
        );
        assert_eq!(candidates(&["--rtc-listen", "127.0.0.1:0"], &[5]), [["127.0.0.1:5"]]);
    }

    #[test]
    fn both_families_are_bound_where_both_are_announced() {
        let bound = |arguments: &[&str]| config(arguments).rtc_socket().to_string();
        assert_eq!(bound(&[]), "0.0.0.0:40000");
        assert_eq!(bound(&["--announce", "192.0.2.7"]), "0.0.0.0:40000");
        assert_eq!(bound(&["--announce", "192.0.2.7,2001:db8::7"]), "[::]:40000");
        assert_eq!(bound(&["--announce", "2001:db8::7", "--rtc-listen", "10.0.0.1:5000"]), "10.0.0.1:5000");
        assert!(config(&[]).ice_tcp && !config(&["--ice-tcp=false"]).ice_tcp);
    }

    #[test]
    fn what_cannot_be_is_refused_in_one_line() {
        for (arguments, part) in [
            (vec![], "--node-name"),
            (vec!["--standalone", "--cors-origin", "localhost"], "--cors-origin"),
            (vec!["--standalone", "--cors-origin", "http://a/b"], "--cors-origin"),
            (vec!["--node-name", "n", "--cors-origin", "*"], "--cors-origin"),
            (vec!["--standalone", "--announce", "0.0.0.0"], "--announce"),
            (vec!["--standalone", "--log", "=="], "--log"),
            (vec!["--standalone", "--ice-server", "example.net"], "--ice-server"),
            (vec!["--standalone", "--ice-server", "turn:example.net"], "--ice-server"),
            (vec!["--standalone", "--rtc-listen", "0.0.0.0:65535", "--workers", "2"], "--rtc-listen"),
        ] {
            let line = config(&arguments).check().unwrap_err();
            assert!(line.starts_with(part) && !line.contains('\n'), "{line}");
        }
        assert_eq!(config(&["--standalone", "--cors-origin", "*"]).check(), Ok(()));
        for arguments in [
            ["--announce", "example.org"],
            ["--announce", "1.2.3.4:0"],
            ["--drain-timeout", "soon"],
            ["--rate-per-subject", "x"],
            ["--trusted-proxy", "10.0.0.0/64"],
        ] {
            assert!(Cli::try_parse_from([&["x"], &arguments[..]].concat()).is_err(), "{arguments:?}");
        }
    }

    #[test]
    fn durations_and_rates_are_read_as_people_write_them() {
        let config = config(&["--drain-timeout", "90s", "--rate-per-subject", "0", "--rate-per-address", "5:20"]);
        assert_eq!(config.drain_timeout, Duration::from_secs(90));
        assert_eq!(config.rate_per_subject.per_second, 0.0);
        assert_eq!(config.rate_per_address, Rate { per_second: 5.0, burst: 20.0 });
    }

    #[test]
    fn libraries_are_quiet_unless_named_and_never_tell_what_they_carry() {
        use tracing_subscriber::layer::SubscriberExt;
        let logged = |arguments: &[&str]| {
            let layer = tracing_subscriber::fmt::layer().with_test_writer();
            let subscriber = tracing_subscriber::registry().with(config(arguments).log_filter().unwrap()).with(layer);
            tracing::subscriber::with_default(subscriber, || {
                [
                    tracing::enabled!(target: "kube_client::client::builder", tracing::Level::ERROR),
                    tracing::enabled!(target: "kube_client::client::tls", tracing::Level::WARN),
                    tracing::enabled!(target: "callplane_media_node::report", tracing::Level::INFO),
                    tracing::enabled!(target: "tungstenite::protocol", tracing::Level::TRACE),
                ]
            })
        };
        assert_eq!(logged(&["--standalone"]), [false, true, true, false]);
        assert_eq!(logged(&["--standalone", "--log", "info"]), [false, true, true, false]);
        assert_eq!(logged(&["--standalone", "--log", "warn,kube_client=error"]), [true, false, false, false]);
        for all in ["trace", "info,tungstenite=trace"] {
            assert!(!logged(&["--standalone", "--log", all])[3], "{all}");
        }
    }
}
