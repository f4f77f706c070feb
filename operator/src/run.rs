//! Wires the operator together and runs it until it is told to stop.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use kube::Client;
use tokio::{
    sync::watch as channel,
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

use crate::{
    admin::{self, Admin},
    api::{Writer, request_client, watch_client},
    clock::Clock,
    config::Run,
    context::{Context, Parts},
    events::Events,
    keys,
    leader::{Claim, Election, Leading},
    metrics::Metrics,
    node, pool, queue, room, turn, watch,
};

/// Nodes judged at the same time: all of a large fleet's may fall silent at once.
const NODE_CONCURRENCY: usize = 32;
/// Pools handled at the same time.
const POOL_CONCURRENCY: usize = 4;
/// Rooms whose TURN Secrets are written at the same time: they are renewed minutes ahead.
const TURN_CONCURRENCY: usize = 4;
/// How long writes in flight may take when the process ends.
const FINISH_WITHIN: Duration = Duration::from_secs(3);
/// How often what is kept is looked at.
const KEPT_EVERY: Duration = Duration::from_secs(300);
/// How soon that is tried again.
const KEPT_AGAIN: Duration = Duration::from_secs(5);

/// Runs the controllers until SIGTERM or SIGINT.
///
/// # Errors
/// When the operator cannot start.
pub async fn run(namespace: String, config: Run) -> anyhow::Result<()> {
    let cluster = kube::Config::infer().await.context("cannot tell how to reach the Kubernetes API")?;
    let client = request_client(&cluster).context("cannot make a Kubernetes client")?;
    let watches = watch_client(&cluster).context("cannot make a Kubernetes client")?;
    let clock = Clock::start();
    let metrics = Metrics::new();
    let claim = Arc::new(Claim::default());
    let me = format!("{}_{}", config.identity, chance());
    let (events, publish) = Events::new(client.clone(), config.identity.clone(), Arc::clone(&metrics));
    // Probes go to pods, without TLS: an image without certificate authorities will do.
    let probe = reqwest::Client::builder()
        .tls_certs_only([])
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .context("cannot make an HTTP client")?;
    let ctx = Arc::new(Context::new(Parts {
        writer: Writer::new(client.clone(), Arc::clone(&claim), clock, Arc::clone(&metrics)),
        clock,
        metrics,
        events,
        probe,
        namespace: namespace.clone(),
        rooms_in: config.watch_namespace,
        media_node_image: config.media_node_image,
    }));

    let stop = CancellationToken::new();
    let listener = tokio::net::TcpListener::bind(config.admin_listen)
        .await
        .with_context(|| format!("cannot listen on {}", config.admin_listen))?;
    let (synced, complete) = channel::channel(false);
    let mut tasks = JoinSet::new();
    tasks.spawn(publish);
    let app = admin::router(Admin { ctx: Arc::clone(&ctx), synced: complete });
    tasks.spawn(async move {
        if let Err(error) = axum::serve(listener, app).await {
            tracing::error!(%error, "admin server ended");
        }
    });
    let duties = Duties {
        room_concurrency: usize::from(config.room_concurrency),
        turn: config.turn.settings(),
        database: config.postgresql_address,
        join_keys: config.join_keys.policy(),
    };
    if duties.turn.is_some() {
        let _ = ctx.turns.set(Arc::default());
    }
    let election = Election::new(client, &namespace, me, claim, clock, Arc::clone(&ctx.metrics));
    let election = begin(&ctx, &watches, election, duties, synced, stop.clone(), &mut tasks);

    tokio::select! {
        signal = stopped() => tracing::info!(signal, "stops"),
        Some(ended) = tasks.join_next() => tracing::error!(?ended, "a task ended that should run for ever"),
    }
    stop.cancel();
    election.await.context("the election failed")?;
    Ok(())
}

/// What a leader does, as it was configured.
struct Duties {
    /// Rooms written at the same time.
    room_concurrency: usize,
    /// How TURN is provided for, if it is.
    turn: Option<turn::Settings>,
    /// Where the database is whose password is made.
    database: Option<String>,
    /// When the keys of join tokens change.
    join_keys: keys::Policy,
}

/// Starts the watches, and returns the candidacy, which ends some time after `stop`.
///
/// Before all caches are complete (then `synced` is told) nothing is decided and nothing is written. Nor does this replica run
/// for leader: another may be able to act.
fn begin(
    ctx: &Arc<Context>,
    watches: &Client,
    election: Election,
    duties: Duties,
    synced: channel::Sender<bool>,
    stop: CancellationToken,
    tasks: &mut JoinSet<()>,
) -> JoinHandle<()> {
    let caches = watch::start(ctx, watches, tasks);
    let (leading, leads) = channel::channel(Leading::No);
    let (idle, mut all_idle) = channel::channel(true);
    let (acting, candidate, mut complete) = (Arc::clone(ctx), Arc::clone(ctx), synced.subscribe());
    tasks.spawn(async move {
        watch::complete(caches).await;
        synced.send_replace(true);
        act_while_leading(acting, leads, duties, idle).await;
    });
    let drained = async move {
        let _ = tokio::time::timeout(FINISH_WITHIN, all_idle.wait_for(|idle| *idle)).await;
    };
    tokio::spawn(async move {
        let ready =
            tokio::select! { () = stop.cancelled() => false, done = complete.wait_for(|done| *done) => done.is_ok() };
        if ready {
            tracing::info!(rooms = candidate.cluster().room_count(), "all caches complete");
            election.run(leading, stop, drained).await;
        }
    })
}

/// Runs the controllers whenever this replica leads.
async fn act_while_leading(
    ctx: Arc<Context>,
    mut leads: channel::Receiver<Leading>,
    Duties { room_concurrency, turn, database, join_keys }: Duties,
    idle: channel::Sender<bool>,
) {
    loop {
        if leads.wait_for(|l| *l == Leading::Yes).await.is_err() {
            return;
        }
        idle.send_replace(false);
        let mut controllers = JoinSet::new();
        controllers.spawn(keys::keep(Arc::clone(&ctx), join_keys));
        if let Some(address) = database.clone() {
            let of_database = Arc::clone(&ctx);
            controllers.spawn(keep("password of the database", async move || {
                turn::store::ensure_postgresql(&of_database.writer, &of_database.namespace, &address).await
            }));
        }
        let rooms = Arc::clone(&ctx);
        controllers.spawn(queue::run(Arc::clone(&ctx.rooms), room_concurrency, move |key| {
            room::reconcile(key, Arc::clone(&rooms))
        }));
        let nodes = Arc::clone(&ctx);
        controllers.spawn(queue::run(Arc::clone(&ctx.nodes), NODE_CONCURRENCY, move |name| {
            node::reconcile(name, Arc::clone(&nodes))
        }));
        let pools = Arc::clone(&ctx);
        controllers.spawn(queue::run(Arc::clone(&ctx.pools), POOL_CONCURRENCY, move |name| {
            pool::reconcile(name, Arc::clone(&pools))
        }));
        if let Some(settings) = &turn {
            provide_turn(&ctx, settings.clone(), &mut controllers);
        }
        ctx.lead();
        let went_on = leads.wait_for(|l| *l == Leading::No).await.is_ok();
        // Nothing new is taken up; what is being written is written to the end or not at all.
        ctx.follow();
        let _ = tokio::time::timeout(FINISH_WITHIN, ctx.quiet()).await;
        controllers.shutdown().await;
        idle.send_replace(true);
        if !went_on {
            return;
        }
        tracing::info!("follows");
    }
}

/// Looks after the shared secret of TURN and the Secrets of rooms.
fn provide_turn(ctx: &Arc<Context>, settings: turn::Settings, controllers: &mut JoinSet<()>) {
    let (sender, minting) = channel::channel(None);
    controllers.spawn(turn::keep(Arc::clone(ctx), settings, sender));
    let Some(queue) = ctx.turns.get().map(Arc::clone) else { return };
    let (secrets, mut changes) = (Arc::<turn::rooms::RoomSecrets>::default(), minting.clone());
    let (rooms, waking) = (Arc::clone(ctx), Arc::clone(&queue));
    controllers.spawn(async move {
        while changes.changed().await.is_ok() {
            for room in rooms.cluster().everything().rooms {
                waking.add(room, queue::Lane::Normal);
            }
        }
    });
    let rooms = Arc::clone(ctx);
    controllers.spawn(queue::run(queue, TURN_CONCURRENCY, move |key| {
        turn::rooms::reconcile(key, Arc::clone(&rooms), Arc::clone(&secrets), minting.clone())
    }));
}

/// Sees to it, again and again, that `what` is there as `ensure` makes it.
async fn keep<E: std::fmt::Display>(what: &str, ensure: impl AsyncFn() -> Result<(), E>) {
    loop {
        let again = match ensure().await {
            Ok(()) => KEPT_EVERY,
            Err(error) => {
                tracing::error!(%error, "{what}");
                KEPT_AGAIN
            }
        };
        tokio::time::sleep(again).await;
    }
}

async fn stopped() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return std::future::pending().await;
    };
    tokio::select! { _ = term.recv() => "SIGTERM", _ = int.recv() => "SIGINT" }
}

/// Tells this process from an earlier one of the same pod.
#[expect(clippy::disallowed_methods, reason = "this is where the identity gets its chance part")]
fn chance() -> String {
    format!("{:08x}", rand::random::<u32>())
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
