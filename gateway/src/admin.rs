//! `/livez`, `/readyz` and `/metrics`.

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use tokio_util::sync::CancellationToken;

use crate::{Gateway, signal::Signal};

/// What the answers are made from.
#[derive(Clone)]
pub struct Admin {
    /// What is known.
    pub gateway: Gateway,
    /// Signalling.
    pub signal: Signal,
    /// It was told to stop.
    pub stopping: CancellationToken,
}

/// The routes.
pub fn router(admin: Admin) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(admin)
}

/// Ready is who can let people join. The API server being away changes nothing about that.
async fn readyz(State(admin): State<Admin>) -> (StatusCode, &'static str) {
    let not = |why| (StatusCode::SERVICE_UNAVAILABLE, why);
    if admin.stopping.is_cancelled() {
        not("it stops\n")
    } else if !admin.gateway.cache.is_complete() {
        not("rooms and media nodes are not known yet\n")
    } else if !admin.gateway.signer.is_ready() {
        not("there is no key of join tokens yet\n")
    } else if !admin.signal.is_store_up() {
        // Calls go on, and new ones begin: to take every replica away would end them.
        (StatusCode::OK, "ok, but Redis is away: each replica goes on by itself\n")
    } else {
        (StatusCode::OK, "ok\n")
    }
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    match admin.gateway.metrics.text() {
        Ok(text) => {
            (StatusCode::OK, [(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, [(CONTENT_TYPE, "text/plain")], error.to_string()),
    }
}
