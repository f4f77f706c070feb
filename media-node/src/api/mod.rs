//! The HTTP API: mediasoup's object model, so that an unmodified `mediasoup-client` works.
//!
//! Every request bears a join token. What it may do is decided in [`rooms`](crate::rooms); here it is
//! read, bounded and answered. Errors are `application/problem+json` (RFC 9457) with a stable `code`.

mod admin;
mod body;
mod caller;
mod data;
mod events;
mod handlers;
mod limits;
mod problem;
mod server;
mod stats;
#[cfg(test)]
mod tests;
mod whip;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::Response,
    routing::{delete, get, post},
};
use tower_http::cors::{AllowOrigin, CorsLayer};

pub use admin::{Health, router as admin_router};
pub use events::EventTimeouts;
pub use limits::{Limits, Network, Rate};
pub use problem::Problem;
pub use server::serve;
pub use whip::{IceServers, InvalidIceServer};

use crate::{auth::Verifier, metrics::Metrics, rooms::Directory};

/// Longest that a request may take, its body included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Largest body.
const MAX_BODY: usize = 64 * 1024;

/// Everything that requests are answered with.
pub struct Api {
    /// The rooms.
    pub directory: Directory,
    /// Whose tokens count.
    pub verifier: Verifier,
    /// Rooms are created here rather than by Kubernetes.
    pub standalone: bool,
    /// Request rates.
    pub limits: Limits,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Web origins that may call, `*` for all; none by default.
    pub cors_origins: Vec<String>,
    /// Servers that WHIP and WHEP clients are told of.
    pub ice_servers: IceServers,
    /// When the sockets of events are given up.
    pub event_timeouts: EventTimeouts,
}

/// All routes of the API.
pub fn router(api: Arc<Api>) -> Router {
    let room = Router::new()
        .route("/", get(handlers::describe))
        .route("/create", post(handlers::create_room))
        .route("/events", get(events::events))
        .route("/transports", post(handlers::create_transport))
        .route("/transports/{transport}", delete(handlers::close_transport))
        .route("/transports/{transport}/connect", post(handlers::connect))
        .route("/transports/{transport}/restart-ice", post(handlers::restart_ice))
        .route("/transports/{transport}/produce", post(handlers::produce))
        .route("/transports/{transport}/stats", get(stats::transport))
        .route("/producers/{producer}/stats", get(stats::producer))
        .route("/consumers/{consumer}/stats", get(stats::consumer))
        .route("/data-producers/{producer}/stats", get(stats::data_producer))
        .route("/data-consumers/{consumer}/stats", get(stats::data_consumer))
        .route("/producers/{producer}", delete(handlers::close_producer))
        .route("/producers/{producer}/pause", post(handlers::pause_producer))
        .route("/producers/{producer}/resume", post(handlers::resume_producer))
        .route("/transports/{transport}/produce-data", post(data::produce_data))
        .route("/data-producers/{producer}", delete(data::close_data_producer))
        .route("/consume-data", post(data::consume_data))
        .route("/data-consumers/{consumer}", delete(data::close_data_consumer))
        .route("/consume", post(handlers::consume))
        .route("/consumers/{consumer}", delete(handlers::close_consumer))
        .route("/consumers/{consumer}/pause", post(handlers::pause_consumer))
        .route("/consumers/{consumer}/resume", post(handlers::resume_consumer))
        .route("/consumers/{consumer}/preferred-layers", post(handlers::prefer_layers))
        .route("/consumers/{consumer}/priority", post(handlers::prioritize).delete(handlers::unset_priority))
        .route("/participants/{user}/leave", post(handlers::leave));
    Router::new()
        .nest("/api/rooms/{call_id}", room)
        .merge(whip::routes())
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "no-such-route", "there is no such route") })
        .method_not_allowed_fallback(|| async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "the route has other methods")
        })
        .layer(axum::extract::DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(api.clone(), limits::per_address))
        .layer(middleware::from_fn(timeout))
        .layer(cors(&api.cors_origins))
        .layer(middleware::from_fn(whip::advertise))
        .layer(middleware::from_fn_with_state(api.clone(), count))
        .with_state(api)
}

async fn timeout(request: Request, next: Next) -> Result<Response, Problem> {
    tokio::time::timeout(REQUEST_TIMEOUT, next.run(request))
        .await
        .map_err(|_| Problem::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the request took too long"))
}

async fn count(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    // The pattern, never the path: labels must be few.
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let response = next.run(request).await;
    api.metrics.request(route.unwrap_or_else(|| "other".into()), response.status().as_u16());
    response
}

fn cors(origins: &[String]) -> CorsLayer {
    let allowed = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()))
    };
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST, Method::PATCH, Method::DELETE])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, header::IF_MATCH])
        .expose_headers([
            header::RETRY_AFTER,
            header::WWW_AUTHENTICATE,
            header::LOCATION,
            header::ETAG,
            header::LINK,
            HeaderName::from_static("accept-post"),
            HeaderName::from_static("accept-patch"),
        ])
        .max_age(Duration::from_secs(3600))
}
