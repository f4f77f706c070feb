//! Nothing that is secret gets out: an operator that logs all that it can makes its keys, passwords and credentials, is refused and
//! left alone, and what it logged, measured and wrote elsewhere is searched for them.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use callplane_crds::{
    CallRoom,
    callroom::{Provision, Turn},
    names::{JOIN_KEYS_SECRET, POSTGRESQL_SECRET, REDIS_SECRET, TURN_SECRET},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;
use tokio::sync::watch;

use super::{
    decide::Policy,
    keeper::Keeper,
    keys::Keys,
    rooms::{self, ICE_SERVERS},
    settings::{RedisAt, Settings},
    store,
};
use crate::{
    cluster::fixtures::{key, room},
    fake::{NAMESPACE, elsewhere, of_two_nodes, put, sees, stored},
    keys::{self, NEXT, PRIVATE},
    secret::text,
};

const REDIS_PASSWORD: &str = "password-of-the-redis-that-is-away";

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn nothing_secret_is_logged_measured_or_put_into_other_objects() {
    let log = Log::default();
    let writer = log.clone();
    let everything = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false);
    let _here = tracing::subscriber::set_default(everything.with_writer(move || writer.clone()).finish());

    let server = crate::fake::Shared::default();
    let ctx = of_two_nodes(&server, true);
    let days = Some(Duration::from_secs(86_400));
    let join_keys = keys::Keeper::new(&ctx, keys::Policy { rotation: days, lead: Duration::from_secs(300) });
    join_keys.look().await;
    // Old enough for another one.
    let kept: Secret = stored(&server, JOIN_KEYS_SECRET).unwrap();
    let aged = keys::Keys { since: Some(Timestamp::UNIX_EPOCH), ..keys::Keys::read(&kept).unwrap() };
    put(&server, &aged.secret(Some(&kept)));
    for _ in 0..4 {
        join_keys.look().await;
    }
    store::redis_url(&ctx.writer, NAMESPACE, "callplane-redis.team.svc:6379").await.unwrap();
    store::ensure_postgresql(&ctx.writer, NAMESPACE, "callplane-postgresql.team.svc:5432").await.unwrap();
    let settings = Settings {
        realm: "callplane".into(),
        urls: vec!["turn:a:3478?transport=udp".into()],
        redis: Some(RedisAt::Url(format!("redis://:{REDIS_PASSWORD}@127.0.0.1:1/0"))),
        foreign_secret: None,
        policy: Policy { rotation: Duration::from_secs(3600), overlap: Duration::from_secs(900) },
    };
    let (sender, minting) = watch::channel(None);
    let parts = (ctx.writer.clone(), NAMESPACE.to_owned(), ctx.clock, Arc::clone(&ctx.metrics));
    let mut keeper = Keeper::new(parts, settings, sender);
    keeper.look(Duration::ZERO).await;
    // Old enough for another one.
    let mut kept: Secret = stored(&server, TURN_SECRET).unwrap();
    let aged = Keys { since: Timestamp::UNIX_EPOCH, ..Keys::read(&kept).unwrap() };
    kept.data = Some(aged.data());
    put(&server, &kept);
    for _ in 0..3 {
        keeper.look(Duration::ZERO).await;
    }
    let mut asking = room("r", 5, 4);
    asking.spec.turn = Some(Turn { provision: Provision::Secret, ttl_seconds: 600 });
    put(&server, &asking);
    sees(&ctx, asking);
    rooms::reconcile(key("r"), Arc::clone(&ctx), Arc::default(), minting.clone()).await;

    let secret = |name: &str| stored::<Secret>(&server, name).unwrap();
    let servers = secret("r-turn").data.unwrap()[ICE_SERVERS].0.clone();
    let servers: Value = serde_json::from_slice(&servers).unwrap();
    let mut secrets = vec![
        REDIS_PASSWORD.to_owned(),
        text(&secret(REDIS_SECRET), "password").unwrap(),
        text(&secret(POSTGRESQL_SECRET), "password").unwrap(),
        text(&secret(JOIN_KEYS_SECRET), PRIVATE).unwrap().lines().nth(1).unwrap().to_owned(),
        text(&secret(JOIN_KEYS_SECRET), NEXT).unwrap().lines().nth(1).unwrap().to_owned(),
        servers[0]["credential"].as_str().unwrap().to_owned(),
    ];
    secrets.extend(Keys::read(&secret(TURN_SECRET)).unwrap().valid());
    assert_eq!(secrets.len(), 8, "the present secret and the next one are among them");

    // Nothing is answered any more, and then what is there makes no sense.
    server.lock().unwrap().fails.push(("GET".into(), 503));
    keeper.look(Duration::ZERO).await;
    server.lock().unwrap().fails = vec![("PATCH".into(), 422)];
    rooms::reconcile(key("r"), Arc::clone(&ctx), Arc::default(), minting).await;
    let mut spoilt = secret(TURN_SECRET);
    spoilt.data.as_mut().unwrap().remove("since");
    put(&server, &spoilt);
    keeper.look(Duration::ZERO).await;

    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    for known in [
        "made the key of join tokens",
        "made the next key of join tokens",
        "made the next shared secret",
        "is left as it is",
        "Redis",
        POSTGRESQL_SECRET,
    ] {
        assert!(log.contains(known), "{known} is not in {log}");
    }
    assert_eq!(stored::<CallRoom>(&server, "r").unwrap().status.unwrap().turn_secret_name.as_deref(), Some("r-turn"));
    for (place, said) in [("log", log), ("metrics", ctx.metrics.text().unwrap()), ("objects", elsewhere(&server))] {
        for secret in &secrets {
            assert!(secret.len() > 15 && !said.contains(secret.as_str()), "a secret is in the {place}: {said}");
        }
    }
}
