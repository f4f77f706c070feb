//! The routes, and what holds for all of them.

use std::{net::SocketAddr, sync::LazyLock, time::Duration};

use axum::{
    Extension, Json, Router,
    extract::{ConnectInfo, MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, Method, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use tower_http::cors::{AllowOrigin, Any, CorsLayer};

use crate::{Code, Gateway, Problem, access::bearer, openapi, proxy, rooms, signal::Signal};

/// Longest time that a request may take which is answered here.
const ANSWER_WITHIN: Duration = Duration::from_secs(25);

static OPENAPI: LazyLock<String> = LazyLock::new(openapi::text);

/// Everything that is served to clients. Pages of `origins` may read the answers; `*` means all.
pub fn router(gateway: Gateway, signal: &Signal, origins: &[HeaderValue]) -> Router {
    let own = Router::new()
        .nest("/v1/rooms", rooms::routes())
        .nest("/v1/meetings", rooms::routes())
        .route("/v1/users/consent", post(rooms::give_consent))
        .route("/.well-known/jwks.json", get(jwks))
        .route("/openapi.json", get(description))
        .layer(Extension(signal.clone()))
        .layer(middleware::from_fn_with_state(gateway.clone(), with_issuers_key))
        .layer(middleware::from_fn(within));
    let passed_on = Router::new()
        .route("/api/rooms/{call}", any(proxy::forward))
        .route("/api/rooms/{call}/{*rest}", any(proxy::forward))
        .merge(proxy::whip::routes().layer(Extension(signal.clone())));
    let routes = own
        .merge(passed_on)
        .merge(signal.routes())
        .fallback(no_such_route)
        .method_not_allowed_fallback(method_not_allowed);
    let routes = routes
        .layer(middleware::from_fn_with_state(gateway.clone(), per_address))
        .layer(middleware::from_fn_with_state(gateway.clone(), observe))
        .with_state(gateway);
    let routes = match origins {
        [] => routes,
        _ => routes.layer(cors(origins)),
    };
    routes.layer(middleware::from_fn(proxy::whip::advertise))
}

fn cors(origins: &[HeaderValue]) -> CorsLayer {
    let layer = CorsLayer::new()
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::IF_MATCH,
            HeaderName::from_static("idempotency-key"),
        ])
        .expose_headers([
            header::RETRY_AFTER,
            header::WWW_AUTHENTICATE,
            header::LOCATION,
            header::ETAG,
            header::LINK,
            HeaderName::from_static("accept-post"),
            HeaderName::from_static("accept-patch"),
        ])
        .max_age(Duration::from_secs(600));
    match origins.iter().any(|origin| origin == "*") {
        true => layer.allow_origin(Any),
        false => layer.allow_origin(AllowOrigin::list(origins.iter().cloned())),
    }
}

/// The public keys of join tokens (RFC 7517)
#[utoipa::path(
    get, path = "/.well-known/jwks.json", tag = "keys",
    responses((status = 200, description = "A JWK set", body = Object))
)]
pub async fn jwks(State(gateway): State<Gateway>) -> Response {
    let caching = [(header::CACHE_CONTROL, HeaderValue::from_static("max-age=60"))];
    (caching, Json(gateway.signer.jwks())).into_response()
}

async fn description() -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], OPENAPI.as_str()).into_response()
}

async fn no_such_route() -> Problem {
    Problem::new(Code::NoSuchRoute, "nothing is served here")
}

pub(crate) async fn method_not_allowed() -> Problem {
    Problem::new(Code::MethodNotAllowed, "not with this method")
}

async fn within(request: Request, next: Next) -> Result<Response, Problem> {
    let answer = tokio::time::timeout(ANSWER_WITHIN, next.run(request)).await;
    answer.map_err(|_| Problem::new(Code::Timeout, "it took too long; it may have been carried out"))
}

/// Fetches the key of a backend's token before it is looked at, if need be.
async fn with_issuers_key(State(gateway): State<Gateway>, request: Request, next: Next) -> Response {
    if let (Some(oidc), Some(token)) = (&gateway.oidc, bearer(request.headers())) {
        oidc.prepare(token, gateway.clock.now()).await;
    }
    next.run(request).await
}

async fn per_address(
    State(gateway): State<Gateway>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    gateway.limits.address(gateway.limits.client(peer.ip(), request.headers()))?;
    Ok(next.run(request).await)
}

/// Counts and logs requests: by the pattern of the route, since paths name rooms and people, and never a header.
async fn observe(State(gateway): State<Gateway>, request: Request, next: Next) -> Response {
    let began = gateway.clock.now().mono;
    let route =
        request.extensions().get::<MatchedPath>().map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    // Methods are made up at will; those of no route are not told apart.
    let method = if route == "none" { "any".to_owned() } else { known(request.method()).to_owned() };
    let response = next.run(request).await;
    let took = gateway.clock.now().mono.saturating_sub(began);
    let status = response.status().as_u16();
    gateway.metrics.answered(&route, &method, status, took);
    let code = response.extensions().get::<Code>().copied();
    if let Some(code) = code {
        gateway.metrics.problem(code);
    }
    let code = code.map(Code::text);
    tracing::debug!(route, method, status, code, milliseconds = took.as_millis() as u64, "answered");
    response
}

fn known(method: &Method) -> &str {
    match method.as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => known,
        _ => "other",
    }
}
