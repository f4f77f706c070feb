//! Serves the web app: a few files, read at the start and kept, so that nothing in a request ever becomes a path of
//! the file system.
//!
//! `/` and `/join/<anything>` are the app's page (the app reads the address itself), `/assets/<name>` its files.

use std::{
    collections::HashMap,
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::{
    Router,
    body::Bytes,
    extract::{Path as Wildcard, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

use crate::{Code, Problem};

/// Files that are served at most.
const MAX_FILES: usize = 64;
/// Bytes of all files together at most.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// Everything comes from here: no script or style in the page itself, no other site, no frame around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// What the page may ask the person for.
const PERMISSIONS: &str =
    "camera=(self), microphone=(self), display-capture=(self), speaker-selection=(self), geolocation=(), payment=()";

/// The web app. By default there is none.
#[derive(Clone, Default)]
pub struct Web {
    page: Option<File>,
    assets: Arc<HashMap<String, File>>,
}

#[derive(Clone)]
struct File {
    content: Bytes,
    kind: HeaderValue,
    /// `ETag`: a digest of the content.
    tag: HeaderValue,
}

/// Why the web app cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// A file or directory cannot be read.
    #[error("cannot read {path}: {error}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is too much to be the web app.
    #[error("{0} has more than {MAX_FILES} files or {MAX_BYTES} bytes: is this the built web app?")]
    TooMuch(PathBuf),
}

impl Web {
    /// Reads `index.html` and the files of `assets` below `root`.
    ///
    /// # Errors
    /// When they cannot be read, or are more than 64 files or 16 MiB.
    pub fn read(root: &Path) -> Result<Self, WebError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error| WebError::Read { path, error }
        };
        let page = root.join("index.html");
        let page = File::new(&page, std::fs::read(&page).map_err(failed(&page))?);
        let directory = root.join("assets");
        let mut assets = HashMap::new();
        let mut bytes = page.content.len();
        for entry in std::fs::read_dir(&directory).map_err(failed(&directory))? {
            let path = entry.map_err(failed(&directory))?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|_| path.is_file()) else {
                continue;
            };
            let size = path.metadata().map_err(failed(&path))?.len();
            bytes = bytes.saturating_add(usize::try_from(size).unwrap_or(usize::MAX));
            if bytes > MAX_BYTES || assets.len() >= MAX_FILES {
                return Err(WebError::TooMuch(root.to_owned()));
            }
            let file = File::new(&path, std::fs::read(&path).map_err(failed(&path))?);
            assets.insert(name.to_owned(), file);
        }
        Ok(Self { page: Some(page), assets: Arc::new(assets) })
    }

    /// The web app, and everything else by `rest`.
    pub fn before(self, rest: Router) -> Router {
        if self.page.is_none() {
            return rest;
        }
        Router::new()
            .route("/", get(page))
            .route("/join/{*call}", get(page))
            .route("/assets/{name}", get(asset))
            .method_not_allowed_fallback(crate::http::method_not_allowed)
            .with_state(self)
            .fallback_service(rest)
    }
}

impl File {
    fn new(path: &Path, content: Vec<u8>) -> Self {
        let kind = match path.extension().and_then(|extension| extension.to_str()) {
            Some("html") => "text/html; charset=utf-8",
            Some("js") => "text/javascript; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("svg") => "image/svg+xml",
            Some("png") => "image/png",
            Some("json" | "map" | "webmanifest") => "application/json",
            _ => "application/octet-stream",
        };
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &content);
        let mut tag = String::from('"');
        for byte in digest.as_ref().iter().take(12) {
            let _ = write!(tag, "{byte:02x}");
        }
        tag.push('"');
        let tag = HeaderValue::try_from(tag).unwrap_or(HeaderValue::from_static("\"\""));
        Self { content: content.into(), kind: HeaderValue::from_static(kind), tag }
    }

    /// The file, or 304 where the browser has it already (RFC 9110 §13.1.2).
    fn answer(self, asked: &HeaderMap) -> Response {
        let headers = [
            (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
            (HeaderName::from_static("permissions-policy"), HeaderValue::from_static(PERMISSIONS)),
            (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
            (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
            // An upgrade is seen at once; what has not changed is not sent again.
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
            (header::ETAG, self.tag.clone()),
        ];
        let known = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let tag = self.tag.to_str().unwrap_or_default();
        if known.flat_map(|value| value.split(',')).any(|value| value.trim().trim_start_matches("W/") == tag) {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        (headers, [(header::CONTENT_TYPE, self.kind)], self.content).into_response()
    }
}

async fn page(State(web): State<Web>, headers: HeaderMap) -> Result<Response, Problem> {
    let page = web.page.ok_or_else(nothing)?;
    Ok(page.answer(&headers))
}

async fn asset(
    State(web): State<Web>,
    Wildcard(name): Wildcard<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let file = web.assets.get(&name).cloned().ok_or_else(nothing)?;
    Ok(file.answer(&headers))
}

fn nothing() -> Problem {
    Problem::new(Code::NoSuchRoute, "nothing is served here")
}

#[cfg(test)]
mod tests {
    use axum::{
        body::Body,
        http::{Method, Request},
    };
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    struct Root(PathBuf);

    impl Root {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("callplane-web-{name}-{}", std::process::id()));
            std::fs::create_dir_all(path.join("assets/deep")).unwrap();
            std::fs::write(path.join("index.html"), "<!doctype html>").unwrap();
            std::fs::write(path.join("secret"), "not for anyone").unwrap();
            std::fs::write(path.join("assets/app.js"), "call()").unwrap();
            std::fs::write(path.join("assets/deep/er"), "not for anyone").unwrap();
            Self(path)
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    async fn ask(app: &Router, method: Method, path: &str, tag: &str) -> (StatusCode, HeaderMap, String) {
        let request = Request::builder().method(method).uri(path).header(header::IF_NONE_MATCH, tag);
        let response = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status, parts.headers, String::from_utf8_lossy(&body).into_owned())
    }

    fn rest() -> Router {
        Router::new().route("/v1/rooms", get(|| async { "rooms" })).fallback(|| async { nothing() })
    }

    #[tokio::test]
    async fn the_app_is_served_beside_the_api() {
        let root = Root::new("served");
        let app = Web::read(&root.0).unwrap().before(rest());
        for path in ["/", "/join/default.demo", "/join/a/b?c"] {
            let (status, headers, body) = ask(&app, Method::GET, path, "").await;
            assert_eq!((status, body.as_str()), (StatusCode::OK, "<!doctype html>"), "{path}");
            assert_eq!(headers[header::CONTENT_TYPE], "text/html; charset=utf-8");
            let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
            assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        }
        let (_, headers, body) = ask(&app, Method::GET, "/assets/app.js", "").await;
        assert_eq!(
            (&headers[header::CONTENT_TYPE], body.as_str()),
            (&"text/javascript; charset=utf-8".parse().unwrap(), "call()")
        );
        let tag = headers[header::ETAG].to_str().unwrap();
        for known in [tag.to_owned(), format!("W/{tag}"), format!("\"x\", {tag}")] {
            let (status, headers, body) = ask(&app, Method::GET, "/assets/app.js", &known).await;
            assert_eq!((status, body.as_str()), (StatusCode::NOT_MODIFIED, ""), "{known}");
            assert_eq!(headers[header::ETAG], *tag);
        }
        assert_eq!(ask(&app, Method::GET, "/v1/rooms", "").await.2, "rooms");
        assert_eq!(ask(&app, Method::POST, "/join/x", "").await.0, StatusCode::METHOD_NOT_ALLOWED);
    }

    #[tokio::test]
    async fn nothing_else_of_the_disk_is_served() {
        let root = Root::new("closed");
        let app = Web::read(&root.0).unwrap().before(rest());
        for path in [
            "/secret",
            "/index.html",
            "/assets/../secret",
            "/assets/..%2fsecret",
            "/assets/%2e%2e%2fsecret",
            "/assets/deep/er",
            "/assets/deep%2fer",
            "/assets/deep",
            "/assets/",
            "/assets//etc/passwd",
            "/assets/%2fetc%2fpasswd",
        ] {
            let (status, _, body) = ask(&app, Method::GET, path, "").await;
            assert!(status == StatusCode::NOT_FOUND && !body.contains("not for anyone"), "{path}: {status} {body}");
        }
    }

    #[tokio::test]
    async fn without_the_app_there_is_no_page() {
        assert_eq!(ask(&Web::default().before(rest()), Method::GET, "/", "").await.0, StatusCode::NOT_FOUND);
        let wrong = Web::read(Path::new("/nonexistent")).err().map(|error| error.to_string());
        assert!(wrong.is_some_and(|text| text.starts_with("cannot read /nonexistent/index.html")));
    }

    #[test]
    fn what_cannot_be_the_app_is_not_read() {
        let root = Root::new("much");
        for file in 0..=MAX_FILES {
            std::fs::write(root.0.join(format!("assets/{file}")), "").unwrap();
        }
        assert!(matches!(Web::read(&root.0), Err(WebError::TooMuch(_))));
    }
}
