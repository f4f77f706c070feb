//! TURN from end to end without a cluster: a real Redis, a real coturn, the operator's code that looks after the shared
//! secret, and credentials that the gateway's code minted.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod client;
mod programs;

use std::{fs, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use callplane_crds::names::{COTURN_SECRET, TURN_SECRET};
use callplane_gateway::ice::{IceServer, TurnServers};
use callplane_operator::{
    api::{Writer, request_client},
    clock::Clock,
    leader::Claim,
    metrics::Metrics,
    turn::{
        Keeper, RedisAt, Settings,
        decide::Policy,
        keys::{ROTATE, SECRET, URLS},
    },
};
use client::{Client, Way};
use programs::{REALM, Running, Scratch, Secrets, free_port, redis, redis_url, turnserver};
use tokio::sync::watch;

/// How long a replaced secret stays good here.
const OVERLAP: Duration = Duration::from_secs(10);
/// Within this time coturn notices that its Redis is back: each of its threads that check credentials finds out by itself.
const HEALED: Duration = Duration::from_secs(60);

struct World {
    scratch: Scratch,
    secrets: Secrets,
    keeper: Keeper,
    claim: Arc<Claim>,
    clock: Clock,
    turn: TurnServers,
    redis_port: u16,
    redis: Option<Running>,
    port: u16,
    arguments: Vec<String>,
    coturn: Option<Running>,
}

impl World {
    async fn new(arguments: &[&str]) -> Self {
        // What goes wrong is told with the test that it breaks.
        let _ = tracing_subscriber::fmt().with_test_writer().try_init();
        let (scratch, secrets, clock) = (Scratch::new(), Secrets::default(), Clock::start());
        let (redis_port, port) = (free_port(), free_port());
        let redis = redis(&scratch.0, redis_port);
        let api = secrets.serve().await;
        let config = kube::Config::new(format!("http://{api}").parse().unwrap());
        let (claim, metrics) = (Arc::new(Claim::default()), Metrics::new());
        let writer = Writer::new(request_client(&config).unwrap(), Arc::clone(&claim), clock, Arc::clone(&metrics));
        let settings = Settings {
            realm: REALM.to_owned(),
            urls: vec![format!("turn:127.0.0.1:{port}?transport=udp"), format!("turn:127.0.0.1:{port}?transport=tcp")],
            redis: Some(RedisAt::Url(redis_url(redis_port))),
            foreign_secret: None,
            policy: Policy { rotation: Duration::from_secs(3600), overlap: OVERLAP },
        };
        let keeper = Keeper::new((writer, "calls".to_owned(), clock, metrics), settings, watch::channel(None).0);
        let mount = scratch.0.join("mount");
        fs::create_dir(&mount).unwrap();
        let mut world = Self {
            turn: TurnServers::new(mount, vec![]),
            scratch,
            secrets,
            keeper,
            claim,
            clock,
            redis_port,
            redis: Some(redis),
            port,
            arguments: arguments.iter().map(|a| (*a).to_owned()).collect(),
            coturn: None,
        };
        world.look().await;
        let line = world.secrets.text(COTURN_SECRET, "turnserver.conf").expect("the operator writes coturn's line");
        world.scratch.write("turnserver.conf", &line);
        world.start_coturn();
        world.mount();
        world
    }

    fn config(&self) -> PathBuf {
        self.scratch.0.join("turnserver.conf")
    }

    fn start_coturn(&mut self) {
        self.coturn = None;
        self.coturn = Some(turnserver(&self.config(), self.port, &self.arguments));
    }

    /// The operator looks once, as the leader.
    async fn look(&mut self) {
        self.claim.renewed(self.clock.now().mono);
        self.keeper.look(Duration::ZERO).await;
    }

    /// The kubelet brings the Secret to the gateway.
    fn mount(&self) {
        for key in [SECRET, URLS] {
            self.scratch.write(&format!("mount/{key}"), &self.secrets.text(TURN_SECRET, key).unwrap());
        }
        self.turn.reload();
    }

    /// What the gateway hands out at `seconds` from now.
    fn mint(&self, user: &str, seconds: i64) -> IceServer {
        let now = self.clock.now().wall + jiff::SignedDuration::from_secs(seconds);
        let servers = self.turn.mint("uid-of-the-room", user, Duration::from_secs(600), now);
        servers.into_iter().next().expect("there is a server")
    }

    fn server(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    fn relay(&self, server: &IceServer) -> Result<Client, u16> {
        let mut client = Client::new(Way::udp(self.server()), server);
        client.allocate().map(|()| client)
    }

    async fn until_relayed(&self, server: &IceServer) {
        let healed = async {
            while self.relay(server).is_err() {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        };
        tokio::time::timeout(HEALED, healed).await.expect("coturn believes it in the end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn relays_are_let_in_through_a_rotation_and_old_credentials_are_refused_after_it() {
    let mut world = World::new(&[]).await;
    let ann = world.mint("ann", 0);
    let mut early = world.relay(&ann).unwrap();
    let mut by_tcp = Client::new(Way::tcp(world.server()), &ann);
    by_tcp.allocate().unwrap();
    let forged = IceServer { credential: world.mint("bob", 0).credential, ..ann.clone() };
    assert_eq!(world.relay(&forged).err(), Some(401));
    assert_eq!(world.relay(&world.mint("ann", -700)).err(), Some(401), "it ended 100 s ago");

    world.secrets.change(TURN_SECRET, |secret| secret["metadata"]["annotations"][ROTATE] = "now".into());
    world.look().await;
    world.relay(&ann).unwrap();
    world.look().await;
    let told = || world.secrets.text(TURN_SECRET, SECRET).unwrap();
    let old = fs::read_to_string(world.scratch.0.join("mount").join(SECRET)).unwrap();
    assert_ne!(told(), old, "the next secret is current");
    // A gateway whose mount lags behind still mints with the one before.
    world.relay(&world.mint("carl", 0)).unwrap();
    world.mount();
    let dora = world.mint("dora", 0);
    world.relay(&dora).unwrap();
    world.relay(&ann).unwrap();

    tokio::time::sleep(OVERLAP).await;
    world.look().await;
    assert_eq!(world.relay(&ann).err(), Some(401), "what was minted with the old secret is over");
    world.relay(&dora).unwrap();
    for relay in [&mut early, &mut by_tcp] {
        relay.refresh().expect("relays outlive the secret that let them in");
        relay.permit([8, 8, 8, 8].into()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_secret_revokes_every_credential() {
    let mut world = World::new(&[]).await;
    let ann = world.mint("ann", 0);
    world.relay(&ann).unwrap();
    world.secrets.delete(TURN_SECRET);
    world.look().await;
    assert_eq!(world.relay(&ann).err(), Some(401));
    world.mount();
    world.relay(&world.mint("ann", 0)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_lost_everything_and_a_coturn_that_began_anew_cost_no_relay_that_there_is() {
    let mut world = World::new(&[]).await;
    let ann = world.mint("ann", 0);
    let mut early = world.relay(&ann).unwrap();

    let client = redis::Client::open(redis_url(world.redis_port)).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("FLUSHALL").query_async::<()>(&mut connection).await.unwrap();
    assert_eq!(world.relay(&ann).err(), Some(401));
    world.look().await;
    world.relay(&ann).unwrap();

    world.redis = None;
    world.look().await;
    assert!(world.relay(&ann).is_err(), "who cannot be checked is not let in");
    early.refresh().expect("a relay that there is needs no Redis");
    world.redis = Some(redis(&world.scratch.0, world.redis_port));
    world.look().await;
    world.until_relayed(&ann).await;
    early.refresh().unwrap();

    world.start_coturn();
    world.until_relayed(&ann).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_relayed_into_private_networks_and_the_media_nodes_are_reached() {
    let chart = fs::read_to_string("../charts/callplane/tests/cases/everything.golden.yaml").unwrap();
    let peers = chart.lines().map(|line| line.trim().trim_start_matches("- "));
    let peers: Vec<&str> =
        peers.filter(|l| l.starts_with("--denied-peer-ip=") || l.starts_with("--allowed-peer-ip=")).collect();
    assert!(peers.len() > 10, "the chart's golden file has the peers that are refused");
    let world = World::new(&[&peers[..], &["--no-multicast-peers"]].concat()).await;
    let mut relay = world.relay(&world.mint("ann", 0)).unwrap();
    for peer in [
        "0.0.0.1",
        "10.0.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "127.8.8.8",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.168.1.1",
        "198.18.0.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
    ] {
        assert_eq!(relay.permit(peer.parse().unwrap()), Err(403), "{peer}");
    }
    for peer in ["8.8.8.8", "172.32.0.1", "192.0.2.20", "10.20.3.4"] {
        assert_eq!(relay.permit(peer.parse().unwrap()), Ok(()), "{peer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_participant_cannot_take_all_relays() {
    let world = World::new(&["--user-quota=2", "--total-quota=3"]).await;
    let (ann, bob) = (world.mint("ann", 0), world.mint("bob", 0));
    let relays = [world.relay(&ann).unwrap(), world.relay(&ann).unwrap()];
    assert_eq!(world.relay(&ann).err(), Some(486));
    let other = world.relay(&bob).unwrap();
    assert_eq!(world.relay(&bob).err(), Some(486), "the whole server has its limit as well");
    drop((relays, other));
}

#[tokio::test(flavor = "multi_thread")]
async fn relays_are_let_in_over_tls() {
    let scratch = Scratch::new();
    let (key, certificate) = (scratch.0.join("tls.key"), scratch.0.join("tls.crt"));
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=turn.example", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let port = free_port();
    let world = World::new(&[
        &format!("--tls-listening-port={port}"),
        &format!("--cert={}", certificate.display()),
        &format!("--pkey={}", key.display()),
    ])
    .await;
    let mut client = Client::new(Way::tls(([127, 0, 0, 1], port).into()), &world.mint("ann", 0));
    client.allocate().unwrap();
    let mut late = Client::new(Way::tls(([127, 0, 0, 1], port).into()), &world.mint("ann", -700));
    assert_eq!(late.allocate(), Err(401));
}
