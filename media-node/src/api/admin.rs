//! The port for the kubelet and for Prometheus.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tokio::sync::watch;

use crate::metrics::Metrics;

/// Whether the process works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Sockets are not bound yet.
    Starting,
    /// Rooms are served. A node that drains stays ready: its rooms still need it.
    Ready,
    /// A part has ended that cannot be without; the process is about to.
    Failed,
}

#[derive(Clone)]
struct Admin {
    health: watch::Receiver<Health>,
    metrics: Arc<Metrics>,
}

/// `/livez`, `/readyz` and `/metrics`.
pub fn router(health: watch::Receiver<Health>, metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(exposition))
        .with_state(Admin { health, metrics })
}

async fn livez(State(admin): State<Admin>) -> impl IntoResponse {
    match *admin.health.borrow() {
        Health::Failed => (StatusCode::SERVICE_UNAVAILABLE, "failed\n"),
        Health::Starting | Health::Ready => (StatusCode::OK, "ok\n"),
    }
}

async fn readyz(State(admin): State<Admin>) -> impl IntoResponse {
    match *admin.health.borrow() {
        Health::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        Health::Failed => (StatusCode::SERVICE_UNAVAILABLE, "failed\n"),
        Health::Ready => (StatusCode::OK, "ok\n"),
    }
}

async fn exposition(State(admin): State<Admin>) -> impl IntoResponse {
    let content_type = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    match admin.metrics.exposition() {
        Ok(text) => (StatusCode::OK, content_type, text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
