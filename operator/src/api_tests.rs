//! Clients in front of an API server that takes requests and then does nothing.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use callplane_crds::MediaNode;
use futures::StreamExt;
use kube::{Api, api::WatchParams};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::Notify,
    time::Instant,
};

use super::*;

/// A server on loopback that answers each request with `answer`, and then keeps the connection open in silence.
struct Mute {
    config: Config,
    requests: Arc<AtomicUsize>,
    asked: Arc<Notify>,
}

impl Mute {
    async fn start(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = Config::new(format!("http://{}", listener.local_addr().unwrap()).parse().unwrap());
        let (requests, asked) = (Arc::<AtomicUsize>::default(), Arc::<Notify>::default());
        let (count, tell) = (Arc::clone(&requests), Arc::clone(&asked));
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (count, tell) = (Arc::clone(&count), Arc::clone(&tell));
                tokio::spawn(async move {
                    let mut request = [0; 4096];
                    while stream.read(&mut request).await.is_ok_and(|n| n > 0) {
                        count.fetch_add(1, Ordering::SeqCst);
                        stream.write_all(answer.as_bytes()).await.unwrap();
                        tell.notify_one();
                    }
                });
            }
        });
        Self { config, requests, asked }
    }

    /// How long `request` takes from when the server has it, by a clock that runs as fast as nothing happens.
    async fn time<T>(&self, request: impl Future<Output = T>) -> (T, Duration) {
        let mut request = std::pin::pin!(request);
        tokio::select! {
            _ = &mut request => panic!("it ended before the server had it"),
            () = self.asked.notified() => {}
        }
        tokio::time::pause();
        let started = now();
        let result = tokio::time::timeout(Duration::from_secs(600), request).await.expect("it is given up");
        let took = started.elapsed();
        tokio::time::resume();
        (result, took)
    }
}

#[expect(clippy::disallowed_methods, reason = "a paused clock")]
fn now() -> Instant {
    Instant::now()
}

fn nodes(client: Client) -> Api<MediaNode> {
    Api::namespaced(client, "team")
}

const SILENCE: &str = "";
const UNAVAILABLE: &str = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n";
const BEGINNING: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";

#[tokio::test]
async fn a_watch_that_is_never_answered_is_given_up() {
    let server = Mute::start(SILENCE).await;
    let api = nodes(watch_client(&server.config).unwrap());
    let parameters = WatchParams::default();
    let (result, took) = server.time(async { api.watch(&parameters, "0").await.map(drop) }).await;
    assert!(result.is_err());
    assert!(took <= ANSWER_WITHIN + Duration::from_millis(50), "{took:?}");
    assert_eq!(server.requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_watch_that_begins_and_then_stands_still_is_given_up() {
    let server = Mute::start(BEGINNING).await;
    let api = nodes(watch_client(&server.config).unwrap());
    let mut events = api.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    server.asked.notified().await;
    tokio::time::pause();
    let started = now();
    let event = tokio::time::timeout(2 * STALLED_AFTER, events.next()).await.expect("it is noticed");
    assert!(event.is_none_or(|e| e.is_err()));
    let took = started.elapsed();
    assert!(took <= STALLED_AFTER + Duration::from_millis(50), "{took:?}");
    assert!(took > Duration::from_secs(60), "silence is normal for as long as a watch lasts: {took:?}");
}

#[tokio::test]
async fn a_read_that_is_never_answered_is_given_up() {
    let server = Mute::start(SILENCE).await;
    let api = nodes(request_client(&server.config).unwrap());
    let (result, took) = server.time(api.get("a")).await;
    assert!(result.is_err());
    assert!(took <= Duration::from_secs(10) + Duration::from_millis(50), "{took:?}");
    assert_eq!(server.requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_failed_is_decided_anew_and_not_sent_again() {
    for client in [request_client, watch_client] {
        let server = Mute::start(UNAVAILABLE).await;
        let api = nodes(client(&server.config).unwrap());
        let answer = tokio::time::timeout(Duration::from_secs(5), api.get("a")).await.expect("at once");
        assert!(matches!(answer, Err(kube::Error::Api(status)) if status.code == 503));
        assert_eq!(server.requests.load(Ordering::SeqCst), 1);
    }
}

/// What a subscriber writes, for a test to read.
#[derive(Clone, Default)]
struct Lines(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What twenty reads that fail, and one that does not, leave in the log.
async fn log_of_an_outage(filter: tracing_subscriber::EnvFilter) -> Vec<String> {
    let lines = Lines::default();
    let sink = lines.clone();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(move || sink.clone());
    let guard = tracing::subscriber::set_default(log.finish());
    let writer = |config: &Config| {
        let client = request_client(config).unwrap();
        Writer::new(client, Arc::default(), Clock::start(), Metrics::new())
    };
    let away = Config::new("http://127.0.0.1:9".parse().unwrap());
    let writer = writer(&away);
    for _ in 0..20 {
        assert!(writer.read("MediaNode", nodes(writer.client.clone()).get("a")).await.is_err());
    }
    writer.read("MediaNode", async { Ok(()) }).await.unwrap();
    drop(guard);
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn an_outage_is_logged_once_with_a_count() {
    let lines = log_of_an_outage(crate::config::log_filter("info").unwrap()).await;
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines[0].contains("WARN") && lines[0].contains("requests to the API server fail"), "{lines:#?}");
    assert!(lines[1].contains("succeed again") && lines[1].contains("failed=20"), "{lines:#?}");

    let asked_for = crate::config::log_filter("info,kube_client=error").unwrap();
    assert_eq!(log_of_an_outage(asked_for).await.len(), 22, "who wants the library's lines gets them");
}
