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
