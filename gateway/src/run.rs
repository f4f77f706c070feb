//! Wires the gateway together and runs it until it is told to stop.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use axum::{http::HeaderValue, serve::ListenerExt};
use callplane_operator::{
    api::{request_client, watch_client},
    clock::Clock,
};
use socket2::SockRef;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterExt, filter_fn},
    fmt,
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::{
    Gateway, Parts,
    access::{ApiKeys, Oidc, Passwords, Signer},
    admin::{self, Admin},
    cluster::{self, Kube, Secrets},
    config::{Command, Config, Serve, is_discreet},
    http,
    ice::TurnServers,
    limits::Limits,
    metrics::Metrics,
    openapi,
    proxy::Forwarder,
    records::{FLUSH_WITHIN, Records},
    signal::{
        Signal,
        store::{Redis, Store},
    },
    web::Web,
};

/// How long requests under way may take when the process ends.
const FINISH_WITHIN: Duration = Duration::from_secs(10);

/// Does what `config` says.
///
/// # Errors
/// When that fails.
pub async fn main(config: Config) -> anyhow::Result<()> {
    if let Some(Command::Openapi) = config.command {
        print!("{}", openapi::text());
        return Ok(());
    }
    let filter = EnvFilter::try_new(&config.serve.log).with_context(|| format!("--log {:?}", config.serve.log))?;
    let discreet = filter_fn(|metadata| is_discreet(metadata.target(), *metadata.level()));
    let log = fmt::layer().json().flatten_event(true).with_filter(filter.and(discreet));
    tracing_subscriber::registry().with(log).init();
    serve(config.serve).await
}

async fn serve(config: Serve) -> anyhow::Result<()> {
    let cluster = kube::Config::infer().await.context("cannot tell how to reach the Kubernetes API")?;
    let client = request_client(&cluster).context("cannot make a Kubernetes client")?;
    let watches = watch_client(&cluster).context("cannot make a Kubernetes client")?;
    let origins = config.cors_origin.iter().map(|origin| origin.parse());
    let origins: Vec<HeaderValue> = origins.collect::<Result<_, _>>().context("--cors-origin")?;
    let web = config.web_root.as_deref().map(Web::read).transpose().context("--web-root")?.unwrap_or_default();
    let (issuer, source) = (config.issuer(), config.records());
    let (clock, metrics, closing) = (Clock::start(), Metrics::default(), CancellationToken::new());
    let signer = Signer::new(config.join_keys);
    let api_keys = ApiKeys::new(config.api_keys).context("cannot read the API keys")?;
    let passwords = Passwords::new(Secrets::new(client.clone(), &config.namespace));
    let turn = TurnServers::new(config.turn_secret, config.turn_url);

    let mut tasks = JoinSet::new();
    tasks.spawn(turn.clone().keep_reading());
    tasks.spawn(signer.clone().keep_reading());
    tasks.spawn(api_keys.clone().keep_reading());
    tasks.spawn(passwords.clone().keep_ready());
    let oidc = issuer.map(Oidc::new).transpose().context("--oidc-issuer")?;
    if let Some(oidc) = oidc.clone() {
        tasks.spawn(oidc.keep_fetching(clock));
    }
    let records = match source {
        Some(source) => Records::new(source, metrics.clone(), &mut tasks).context("cannot keep records")?,
        None => Records::off(),
    };
    let only = config.watch_namespace;
    let gateway = Gateway::new(Parts {
        cache: cluster::start(&watches, &config.namespace, only.as_deref(), &metrics, &mut tasks),
        kube: Kube::new(client, config.rooms_namespace, only),
        signer,
        turn,
        api_keys,
        oidc,
        passwords,
        records: records.clone(),
        limits: Limits::new(config.rate_per_caller, config.rate_per_address, config.trusted_proxy),
        forwarder: Forwarder::new(usize::from(config.max_sockets), closing.clone(), metrics.clone()),
        metrics,
        clock,
        public_url: config.public_url,
        ready_timeout: config.ready_timeout,
        token_ttl: config.token_ttl,
    });

    tasks.spawn(records.clone().follow(gateway.clone()));
    let store = match &config.redis_url {
        Some(url) => {
            let (redis, keep) = Redis::new(url, gateway.metrics.clone()).context("--redis-url")?;
            tasks.spawn(keep);
            Store::Redis(redis)
        }
        None => Store::Local,
    };
    let signal = Signal::new(gateway.clone(), store, config.max_signalling_sockets);
    tasks.spawn(signal.clone().follow());

    let stopping = CancellationToken::new();
    let admin = Admin { gateway: gateway.clone(), signal: signal.clone(), stopping: stopping.clone() };
    let admin = admin::router(admin);
    let listener = listen(config.admin_listen).await?;
    tasks.spawn(async move {
        if let Err(error) = axum::serve(listener, admin).await {
            tracing::error!(%error, "admin server ended");
        }
    });
    let listener = listen(config.listen).await?.tap_io(|stream| {
        // A client that takes nothing any more is let go, whatever waits for it.
        if let Err(error) = SockRef::from(&*stream).set_tcp_user_timeout(Some(UNREAD_WITHIN)) {
            tracing::debug!(%error, "a connection without a time limit");
        }
    });
    let app = web.before(http::router(gateway.clone(), &signal, &origins));
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    let finished = closing.clone().cancelled_owned();
    let mut server = tokio::spawn(async move { axum::serve(listener, app).with_graceful_shutdown(finished).await });
    tracing::info!(listen = %config.listen, "serves");

    tokio::select! {
        signal = stopped() => tracing::info!(signal, "stops"),
        Some(ended) = tasks.join_next() => anyhow::bail!("a task ended that should run for ever: {ended:?}"),
        ended = &mut server => anyhow::bail!("the server ended: {ended:?}"),
    }
    // Not ready from now on, but still there for those who have not heard of it.
    stopping.cancel();
    tokio::time::sleep(config.shutdown_delay).await;
    signal.shut_down().await;
    // WebSockets are closed, so that their clients go to another replica; requests are answered.
    closing.cancel();
    let finished = async {
        gateway.forwarder.closed().await;
        let _ = server.await;
    };
    if tokio::time::timeout(FINISH_WITHIN, finished).await.is_err() {
        tracing::warn!("some requests were not answered");
    }
    if tokio::time::timeout(FLUSH_WITHIN, records.close()).await.is_err() {
        tracing::error!(records = records.waiting(), "the database did not take all records in time; these are lost");
    }
    Ok(())
}

/// How long a client may take nothing of what is sent to it.
const UNREAD_WITHIN: Duration = Duration::from_secs(30);

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

async fn stopped() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return std::future::pending().await;
    };
    tokio::select! { _ = term.recv() => "SIGTERM", _ = int.recv() => "SIGINT" }
}
