//! `/livez`, `/readyz` and `/metrics`.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Router, extract::State, http::StatusCode, http::header::CONTENT_TYPE, response::IntoResponse, routing::get,
};
use callplane_crds::{RouteMode, callroom::Phase};
use tokio::sync::watch;

use crate::{
    cluster::node::Standing,
    context::Context,
    metrics::{Controller, State as Label},
};

/// What the answers are made from.
#[derive(Clone)]
pub struct Admin {
    /// What is known.
    pub ctx: Arc<Context>,
    /// All caches are complete.
    pub synced: watch::Receiver<bool>,
}

/// The routes.
pub fn router(admin: Admin) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(admin)
}

/// A follower with complete caches is ready: it can take over at once.
async fn readyz(State(admin): State<Admin>) -> (StatusCode, &'static str) {
    if *admin.synced.borrow() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "caches are not complete yet\n")
    }
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    gather(&admin.ctx);
    match admin.ctx.metrics.text() {
        Ok(text) => {
            (StatusCode::OK, [(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, [(CONTENT_TYPE, "text/plain")], error.to_string()),
    }
}

/// Brings up to date what is a state and no event.
fn gather(ctx: &Context) {
    let metrics = &ctx.metrics;
    let now = ctx.clock.now().mono;
    let cluster = ctx.cluster();
    for mode in [RouteMode::P2p, RouteMode::Sfu] {
        let count = cluster.modes().get(&mode).copied().unwrap_or(0);
        metrics.routes.get_or_create(&Label { state: mode.as_str().to_owned() }).set(count);
    }
    for phase in [Phase::Pending, Phase::Ready, Phase::Ended] {
        let count = cluster.phases().get(&phase).copied().unwrap_or(0);
        metrics.rooms.get_or_create(&Label { state: format!("{phase:?}") }).set(count);
    }
    metrics.rooms_waiting.set(i64::try_from(cluster.waiting_count()).unwrap_or(i64::MAX));
    let mut standings: BTreeMap<Standing, i64> = BTreeMap::new();
    for (_, node) in cluster.nodes() {
        *standings.entry(node.standing(cluster.contact(), now)).or_default() += 1;
    }
    drop(cluster);
    for standing in Standing::ALL {
        let count = standings.get(&standing).copied().unwrap_or(0);
        metrics.nodes.get_or_create(&Label { state: format!("{standing:?}") }).set(count);
    }
    let depths = [("room", ctx.rooms.depth()), ("node", ctx.nodes.depth()), ("pool", ctx.pools.depth())];
    let turn = ctx.turns.get().map(|turns| ("turn", turns.depth()));
    for (controller, depth) in depths.into_iter().chain(turn) {
        metrics.queue_depth.get_or_create(&Controller { controller }).set(i64::try_from(depth).unwrap_or(i64::MAX));
    }
    metrics.leader.set(ctx.leads().into());
}

#[cfg(test)]
#[path = "admin_tests.rs"]
pub(crate) mod tests;
