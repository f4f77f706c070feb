//! Wires the parts into a process, and ends it in order.

use std::{
    fs,
    io::{self, IsTerminal},
    net::SocketAddr,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use callplane_crds::medianode::Endpoints;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    api::{self, Api, EventTimeouts, Health, Limits},
    auth::{Claims, Verifier, mint},
    config::{Cli, Command, Config, LogFormat, TokenArgs},
    core::Counter,
    metrics::{Metrics, Numbers, Sources},
    net::{self, MediaHandle},
    report,
    rooms::{Directory, Media, MediaOrder, Reason, Settings},
    system,
};

/// Orders to and news of the media loops that may be on their way. When full, whoever has more waits.
const MEDIA_QUEUE: usize = 4096;

/// How long clients may take to hear that a node ends before it does.
const FAREWELL: Duration = Duration::from_secs(2);

/// Exit code of a configuration that cannot be.
const BAD_CONFIGURATION: u8 = 2;

/// Does what the command line says.
pub fn main(cli: Cli) -> ExitCode {
    let result = match &cli.command {
        Some(command) => develop(command),
        None => serve(cli.config),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::Configuration(line)) => {
            eprintln!("callplane-media-node: {line}");
            ExitCode::from(BAD_CONFIGURATION)
        }
        Err(Error::Failed(error)) => {
            eprintln!("callplane-media-node: {error:#}");
            ExitCode::FAILURE
        }
    }
}

enum Error {
    /// It cannot work like that: one line says why.
    Configuration(String),
    /// It did not work.
    Failed(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Error {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

fn develop(command: &Command) -> Result<(), Error> {
    match command {
        Command::Keygen { out } => {
            let (private, public) = mint::keygen(out)?;
            println!("{}\n{}", private.display(), public.display());
        }
        Command::Token(arguments) => println!("{}", token(arguments)?),
    }
    Ok(())
}

fn token(arguments: &TokenArgs) -> anyhow::Result<String> {
    let pem = fs::read_to_string(&arguments.key).with_context(|| arguments.key.display().to_string())?;
    let iat = system::timestamp().as_second();
    let claims = Claims {
        sub: arguments.user.clone(),
        room_id: arguments.room.clone(),
        room_uid: arguments.room_uid.clone(),
        epoch: arguments.epoch,
        role: arguments.role,
        grants: None,
        name: arguments.name.clone(),
        exp: iat.saturating_add(i64::try_from(arguments.ttl.as_secs()).unwrap_or(i64::MAX)),
        iat,
        nbf: None,
    };
    Ok(mint::Signer::from_pem(&pem)?.token(&claims)?)
}

fn serve(config: Config) -> Result<(), Error> {
    config.check().map_err(Error::Configuration)?;
    let verifier = Verifier::new(config.public_keys.clone(), config.token_max_lifetime)
        .map_err(|error| Error::Configuration(format!("--public-keys: {error}")))?;
    let filter = config.log_filter().context("--log")?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match config.log_format {
        LogFormat::Json => log.json().init(),
        LogFormat::Text => log.with_ansi(io::stderr().is_terminal()).init(),
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(run(config, verifier));
    runtime.shutdown_timeout(FAREWELL);
    result
}

async fn run(config: Config, verifier: Verifier) -> Result<(), Error> {
    let signals = Signals::new()?;
    let (health, healthy) = watch::channel(Health::Starting);
    let sources = Sources::default();
    let mut metrics = Metrics::new(sources.clone());
    let report_metrics = report::metrics::Metrics::register(metrics.registry());
    let metrics = Arc::new(metrics);
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();

    let (admin, admin_address) = listen("--admin-listen", config.admin_listen).await?;
    let admin_router = api::admin_router(healthy, metrics.clone());
    tokio::spawn(api::serve(admin, admin_router, stop.clone().cancelled_owned()));
    let (listener, api_address) = listen("--api-listen", config.api_listen).await?;

    let (media, mut loops) = net::start(media_config(&config)).context("starting the media workers")?;
    let (directory, mut rooms) = rooms(&config, &media)?;
    let guard = report::pause::PauseGuard::default();
    let directory = match config.standalone {
        true => directory,
        false => {
            let guard = guard.clone();
            directory.watching(move || guard.check().is_err())
        }
    };
    let (counted, summed) = (media.clone(), directory.clone());
    sources.set(move || Numbers {
        stats: counted.stats(),
        lag: counted.loop_lag(),
        segments: counted.segments(),
        totals: summed.totals(),
    });
    tokio::spawn(verifier.clone().keep_reading());
    let router = api::router(Arc::new(Api {
        directory: directory.clone(),
        verifier,
        standalone: config.standalone,
        limits: Limits::new(config.rate_per_subject, config.rate_per_address, config.trusted_proxy.clone()),
        metrics,
        cors_origins: config.cors_origin.clone(),
        ice_servers: config.ice_servers().map_err(Error::Configuration)?,
        event_timeouts: EventTimeouts::default(),
    }));
    let mut served = tokio::spawn(api::serve(listener, router, stop.clone().cancelled_owned()));
    health.send_replace(Health::Ready);
    info!(api = %api_address, admin = %admin_address, standalone = config.standalone, "ready");

    let work = async {
        match config.standalone {
            true => standalone(&config, &directory, signals).await,
            false => kubernetes(&config, &directory, &media, guard, report_metrics, signals).await,
        }
    };
    let result = tokio::select! {
        result = work => result,
        ended = &mut loops => Err(anyhow::anyhow!("the media workers have ended: {ended:?}").into()),
        ended = &mut rooms => Err(anyhow::anyhow!("the rooms' task has ended: {ended:?}").into()),
        ended = &mut served => Err(anyhow::anyhow!("the API has ended: {ended:?}").into()),
    };
    if result.is_err() {
        health.send_replace(Health::Failed);
    }
    // Whoever is still here is told to look for the call elsewhere.
    let _ = directory.retain(std::collections::HashSet::new(), Reason::Moved).await;
    stop.cancel();
    let _ = tokio::time::timeout(FAREWELL, served).await;
    result
}

/// Stays until nobody is left, the time is over, or it is told a second time.
async fn standalone(config: &Config, directory: &Directory, mut signals: Signals) -> Result<(), Error> {
    signals.next().await;
    info!("told to stop; staying until the calls on this node are over");
    directory.drain(true).await?;
    tokio::select! {
        () = directory.wait_empty() => info!("nobody is left"),
        () = tokio::time::sleep(config.drain_timeout) => warn!("the time to leave is over"),
        () = signals.next() => warn!("told to stop at once"),
    }
    Ok(())
}

async fn kubernetes(
    config: &Config,
    directory: &Directory,
    media: &MediaHandle,
    guard: report::pause::PauseGuard,
    metrics: report::metrics::Metrics,
    mut signals: Signals,
) -> Result<(), Error> {
    let terminate = CancellationToken::new();
    let told = terminate.clone();
    tokio::spawn(async move {
        signals.next().await;
        told.cancel();
    });
    let counted = media.clone();
    let traffic = move || {
        let stats = counted.stats();
        let packets = stats.counter(Counter::PacketsIn) + stats.counter(Counter::PacketsOut);
        report::usage::Traffic { bytes_out: stats.counter(Counter::BytesOut), packets }
    };
    let settings = report::Settings {
        node: config.node_name.clone().unwrap_or_default(),
        namespace: config.namespace.clone(),
        endpoints: endpoints(config, media)?,
        drain_timeout: config.drain_timeout,
    };
    let client = report::connection::client().await?;
    report::run(client, settings, directory.clone(), guard, traffic, metrics, terminate).await?;
    Ok(())
}

fn media_config(config: &Config) -> net::Config {
    net::Config { listen: config.rtc_socket(), tcp: config.ice_tcp, workers: config.workers, ..net::Config::default() }
}

fn endpoints(config: &Config, media: &MediaHandle) -> Result<Endpoints, Error> {
    let ip = config.own_address().map_err(Error::Configuration)?;
    let url = |port| format!("http://{}", SocketAddr::new(ip, port));
    let rtc = candidates(config, media)?.into_iter().flatten().map(|address| address.to_string()).collect();
    Ok(Endpoints { api: url(config.api_listen.port()), admin: url(config.admin_listen.port()), rtc })
}

fn candidates(config: &Config, media: &MediaHandle) -> Result<Vec<Vec<SocketAddr>>, Error> {
    let bound: Vec<u16> = media.workers().map(|worker| media.local_port(worker)).collect();
    config.candidates(&bound).map_err(Error::Configuration)
}

fn rooms(config: &Config, media: &MediaHandle) -> Result<(Directory, JoinHandle<()>), Error> {
    let settings = Settings {
        ice_tcp: config.ice_tcp,
        standalone: config.standalone,
        grace: config.participant_grace,
        candidates: candidates(config, media)?,
        fingerprint: media.fingerprint(),
    };
    Ok(join(settings, media))
}

/// The rooms, and between them and the media loops a task each way.
pub(crate) fn join(settings: Settings, media: &MediaHandle) -> (Directory, JoinHandle<()>) {
    let (orders, mut outgoing) = mpsc::channel(MEDIA_QUEUE);
    let (incoming, events) = mpsc::channel(MEDIA_QUEUE);
    let sender = media.clone();
    tokio::spawn(async move {
        while let Some((worker, order)) = outgoing.recv().await {
            let sent = match order {
                MediaOrder::Command(command) => sender.send(worker, command).await,
                MediaOrder::Ask(question, reply) => sender.ask_for(worker, question, reply).await,
                MediaOrder::Confirm(reply) => sender.confirm(worker, reply).await,
            };
            // Ends the rooms' task too, which ends the process.
            if sent.is_err() {
                break;
            }
        }
    });
    let mut news = media.subscribe();
    tokio::spawn(async move {
        while let Some((_, event)) = news.recv().await {
            if incoming.send(event).await.is_err() {
                break;
            }
        }
    });
    let chooser = media.clone();
    let next_worker = Box::new(move || chooser.worker_for_new_room());
    Directory::start(settings, system::generator(), Media { orders, events, next_worker })
}

async fn listen(flag: &str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("{flag} {address}"))?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

/// SIGTERM and SIGINT, one as good as the other.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => (),
            _ = self.interrupt.recv() => (),
        }
    }
}
