use callplane_crds::names::{COTURN_SECRET, POSTGRESQL_SECRET, REDIS_SECRET};
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;

use super::*;
use crate::fake::{NAMESPACE, Shared, of_two_nodes, put, requests, stored};

/// Nobody listens there.
const AWAY: &str = "redis://:secret-of-redis@127.0.0.1:1/0";

fn settings(urls: &[&str], redis: RedisAt) -> Settings {
    Settings {
        realm: "callplane".into(),
        urls: urls.iter().map(|u| (*u).to_owned()).collect(),
        redis: Some(redis),
        foreign_secret: None,
        policy: Policy { rotation: Duration::from_secs(3600), overlap: Duration::from_secs(900) },
    }
}

fn keeper(server: &Shared, settings: Settings) -> (Keeper, watch::Receiver<Option<Minting>>) {
    let ctx = of_two_nodes(server, true);
    let (sender, receiver) = watch::channel(None);
    let parts = (ctx.writer.clone(), NAMESPACE.to_owned(), ctx.clock, Arc::clone(&ctx.metrics));
    (Keeper::new(parts, settings, sender), receiver)
}

fn plain() -> Settings {
    settings(&["turn:a:3478?transport=udp"], RedisAt::Url(AWAY.into()))
}

fn keys(server: &Shared) -> Keys {
    Keys::read(&stored::<Secret>(server, TURN_SECRET).unwrap()).unwrap()
}

#[tokio::test]
async fn two_that_both_take_themselves_for_the_leader_make_one_secret() {
    let server = Shared::default();
    let ((mut one, by_one), (mut two, by_two)) = (keeper(&server, plain()), keeper(&server, plain()));
    tokio::join!(one.look(Duration::ZERO), two.look(Duration::ZERO));
    // Who was slower reads what the other one made.
    tokio::join!(one.look(Duration::ZERO), two.look(Duration::ZERO));
    let secret = keys(&server).current;
    assert_eq!(secret.len(), 64);
    for seen in [by_one, by_two] {
        assert_eq!(seen.borrow().as_ref().map(|m| m.secret.clone()), Some(secret.clone()));
    }
    let coturn: Secret = stored(&server, COTURN_SECRET).unwrap();
    let line = secret::text(&coturn, "turnserver.conf").unwrap();
    assert!(line.contains("ip=127.0.0.1") && line.contains("password=secret-of-redis"), "{line}");
}

#[tokio::test]
async fn nothing_changes_while_the_api_server_or_redis_is_away() {
    let server = Shared::default();
    let (mut keeper, seen) = keeper(&server, plain());
    keeper.look(Duration::ZERO).await;
    let before = keys(&server);
    // Old enough for a rotation, which waits for Redis: coturn could not be told.
    let aged = Keys { since: Timestamp::UNIX_EPOCH, ..before.clone() };
    let mut secret: Secret = stored(&server, TURN_SECRET).unwrap();
    secret.data = Some(aged.data());
    put(&server, &secret);
    for _ in 0..3 {
        keeper.look(Duration::ZERO).await;
    }
    let after = keys(&server);
    assert_eq!((after.current.as_str(), after.next.is_some()), (before.current.as_str(), true));
    assert_eq!(seen.borrow().as_ref().unwrap().secret, before.current);

    let writes = requests(&server, "PUT") + requests(&server, "POST");
    server.lock().unwrap().fails.push(("GET".into(), 503));
    keeper.look(Duration::ZERO).await;
    assert_eq!(requests(&server, "PUT") + requests(&server, "POST"), writes, "what is not known is not replaced");
    assert_eq!(seen.borrow().as_ref().unwrap().secret, before.current);
}

#[tokio::test]
async fn what_makes_no_sense_is_left_alone() {
    let server = Shared::default();
    let (mut keeper, seen) = keeper(&server, plain());
    let strange: Secret = serde_json::from_value(
        json!({"metadata": {"name": TURN_SECRET, "namespace": NAMESPACE}, "data": {"secret": "c2hvcnQ="}}),
    )
    .unwrap();
    put(&server, &strange);
    keeper.look(Duration::ZERO).await;
    assert_eq!(stored::<Secret>(&server, TURN_SECRET).unwrap().data, strange.data);
    assert_eq!(*seen.borrow(), None);
}

#[tokio::test]
async fn the_machines_with_a_ready_coturn_are_the_servers() {
    let server = Shared::default();
    let urls = ["turn:*:3478?transport=udp", "turn:*:3478?transport=tcp"];
    let (mut keeper, seen) = keeper(&server, settings(&urls, RedisAt::Url(AWAY.into())));
    let pod = |name: &str, address: &str, ready: &str| -> Pod {
        serde_json::from_value(json!({"metadata": {"name": name, "namespace": NAMESPACE},
            "status": {"hostIP": address, "conditions": [{"type": "Ready", "status": ready}]}}))
        .unwrap()
    };
    put(&server, &pod("one", "192.0.2.1", "True"));
    put(&server, &pod("two", "192.0.2.2", "False"));
    keeper.look(Duration::ZERO).await;
    let told = || seen.borrow().as_ref().unwrap().servers.clone();
    assert_eq!(told(), ["turn:192.0.2.1:3478?transport=udp turn:192.0.2.1:3478?transport=tcp"]);
    put(&server, &pod("two", "192.0.2.2", "True"));
    keeper.look(Duration::ZERO).await;
    assert_eq!((told().len(), keys(&server).urls.len()), (2, 2));
    server.lock().unwrap().fails.push(("GET /api/v1/namespaces/team/pods".into(), 503));
    keeper.look(Duration::ZERO).await;
    assert_eq!(told().len(), 2, "unknown is not none");
}

#[tokio::test]
async fn the_password_of_redis_is_made_once() {
    let server = Shared::default();
    let own = || settings(&[], RedisAt::Own("callplane-redis.team.svc:6379".into()));
    let (mut one, seen) = keeper(&server, own());
    let made = store::redis_url(&one.writer, NAMESPACE, "callplane-redis.team.svc:6379").await.unwrap();
    let again = store::redis_url(&one.writer, NAMESPACE, "callplane-redis.team.svc:6379").await.unwrap();
    assert_eq!(made, again);
    let secret: Secret = stored(&server, REDIS_SECRET).unwrap();
    let password = secret::text(&secret, "password").unwrap();
    assert_eq!(made, format!("redis://:{password}@callplane-redis.team.svc:6379/0"));
    assert_eq!(secret::text(&secret, "redis.conf").unwrap(), format!("requirepass {password}\n"));
    one.settings.redis = Some(RedisAt::Url(AWAY.into()));
    one.look(Duration::ZERO).await;
    assert_eq!(*seen.borrow(), None, "nobody relays, so nothing is minted");
    assert_eq!(stored::<Secret>(&server, TURN_SECRET), None);
}

#[tokio::test]
async fn the_password_of_postgresql_is_made_once() {
    let server = Shared::default();
    let (keeper, _seen) = keeper(&server, plain());
    let ensure = || store::ensure_postgresql(&keeper.writer, NAMESPACE, "callplane-postgresql.team.svc:5432");
    ensure().await.unwrap();
    let secret: Secret = stored(&server, POSTGRESQL_SECRET).unwrap();
    let password = secret::text(&secret, "password").unwrap();
    assert!(password.len() == 64 && password.bytes().all(|b| b.is_ascii_hexdigit()), "nothing that SQL has to quote");
    let url = secret::text(&secret, "url").unwrap();
    let at = "callplane-postgresql.team.svc:5432/callplane?sslmode=disable";
    assert_eq!(url, format!("postgres://callplane:{password}@{at}"));
    let writes = requests(&server, "POST");
    ensure().await.unwrap();
    assert_eq!((stored(&server, POSTGRESQL_SECRET), requests(&server, "POST")), (Some(secret), writes));

    let emptied: Secret = serde_json::from_value(
        json!({"metadata": {"name": POSTGRESQL_SECRET, "namespace": NAMESPACE}, "data": {"password": "c2VjcmV0"}}),
    )
    .unwrap();
    put(&server, &emptied);
    let refused = ensure().await.unwrap_err();
    assert!(matches!(&refused, store::StoreError::Unusable(name) if name == POSTGRESQL_SECRET), "{refused}");
    server.lock().unwrap().fails.push(("GET".into(), 503));
    assert!(ensure().await.is_err(), "what is not known is not replaced");
    assert_eq!(requests(&server, "POST"), writes);
}

#[tokio::test]
async fn a_secret_of_others_is_taken_as_it_is() {
    let server = Shared::default();
    let theirs = Settings { foreign_secret: Some("theirs".into()), redis: None, ..plain() };
    let (mut keeper, seen) = keeper(&server, theirs);
    keeper.look(Duration::ZERO).await;
    assert_eq!(*seen.borrow(), None, "it is not there yet");
    let secret: Secret = serde_json::from_value(
        json!({"metadata": {"name": "theirs", "namespace": NAMESPACE}, "data": {"secret": "MDEyMzQ1Njc4OWFiY2RlZgo="}}),
    )
    .unwrap();
    put(&server, &secret);
    keeper.look(Duration::ZERO).await;
    let minting = seen.borrow().clone().unwrap();
    assert_eq!((minting.secret.as_str(), minting.servers.len()), ("0123456789abcdef", 1));
    assert_eq!(requests(&server, "POST") + requests(&server, "PUT"), 0);
}
