//! What is written down of calls, and what happens when it cannot be.

use callplane_gateway::records::Source;
use serde_json::{Value, json};
use sqlx::AnyPool;

use crate::{kubernetes::p2p, peer::Peer, postgres::Postgres, world::World};

async fn rows(pool: &AnyPool, sql: &'static str) -> Vec<(String, String)> {
    sqlx::query_as(sql).fetch_all(pool).await.unwrap()
}

/// Waits until a row of `sql` is there, and its table.
async fn until_there(pool: &AnyPool, sql: &'static str) {
    let wait = async {
        while !sqlx::query(sql).fetch_all(pool).await.is_ok_and(|rows| !rows.is_empty()) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("{sql}"));
}

fn text(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[tokio::test]
async fn a_call_is_written_down_from_its_beginning_to_its_end() {
    let directory = std::env::temp_dir().join(format!("callplane-records-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("records.db");
    let world = World::with_records(Source::Sqlite(file.clone())).await;
    let _node = world.placed("team", "other").await;
    world
        .backend("POST", "/v1/rooms", json!({"hostId": "ann", "name": "standup", "settings": {"password": "secret"}}))
        .await;
    world.kubernetes.place("team", "standup", "mn-a", 1);
    world.knows("team", "standup").await;
    let (join, ann) = ("/v1/rooms/team.standup/join", world.token("team.standup", "ann", "host").await);
    let link = world.send("POST", "/v1/rooms/team.standup/links", &ann, json!({})).await;
    let wrong = json!({"linkToken": link.text("linkToken"), "password": "guess"});
    assert_eq!(world.send("POST", join, "", wrong).await.code(), "wrong-password");
    let bob = json!({"userId": "bob", "password": "secret"});
    let bob = world.backend("POST", join, bob).await.text("token");
    assert_eq!(world.send("PUT", "/v1/rooms/team.standup/end", &bob, Value::Null).await.code(), "not-permitted");
    world.send("PUT", "/v1/rooms/team.standup/lock", &ann, json!({"locked": true})).await;
    world.send("POST", "/v1/rooms/team.standup/leave", &bob, json!({})).await;
    world.send("POST", "/v1/rooms/team.standup/leave", &ann, json!({"userId": "carl"})).await;
    world.send("DELETE", &format!("/v1/rooms/team.standup/links/{}", link.text("linkId")), &ann, Value::Null).await;
    world.send("PUT", "/v1/rooms/team.standup/end", &ann, Value::Null).await;
    let status = json!({"phase": "Ended", "startedAt": "2026-11-21T14:00:01Z", "endedAt": "2026-11-21T14:00:09Z"});
    world.kubernetes.status("team", "standup", status);

    let pool = AnyPool::connect(&format!("sqlite://{}", file.display())).await.unwrap();
    until_there(&pool, "SELECT room_id, reason FROM callplane_rooms WHERE ended_ms IS NOT NULL").await;
    tokio::time::timeout(std::time::Duration::from_secs(10), world.gateway.records.close()).await.unwrap();
    let link = link.text("linkId");
    let audit = "SELECT actor || ' ' || action || ' ' || COALESCE(target, '-'), outcome FROM callplane_audit \
        WHERE room_id = 'team.standup' ORDER BY at_ms, id";
    let mut audit = rows(&pool, audit).await;
    for (what, _) in &mut audit {
        *what = what.replace(&link, "LINK");
    }
    audit.sort();
    let mut expected = text(&[
        ("backend:shop create -", "ok"),
        ("backend:shop join ann", "ok"),
        ("user:ann create-link LINK", "ok"),
        ("link:LINK join -", "wrong-password"),
        ("backend:shop join bob", "ok"),
        ("user:bob end -", "not-permitted"),
        ("user:ann lock -", "ok"),
        ("user:bob leave bob", "ok"),
        ("user:ann remove carl", "ok"),
        ("user:ann revoke-link LINK", "ok"),
        ("user:ann end -", "ok"),
    ]);
    expected.sort();
    assert_eq!(audit, expected);
    let stays = "SELECT user_id, role || ' ' || reason FROM callplane_participants ORDER BY user_id";
    assert_eq!(rows(&pool, stays).await, text(&[("ann", "host ended"), ("bob", "participant left")]));
    let sessions = "SELECT room_id, host_id || ' ' || CAST((ended_ms - started_ms) AS TEXT) FROM callplane_rooms \
        WHERE host_id IS NOT NULL";
    assert_eq!(rows(&pool, sessions).await, text(&[("team.standup", "ann 8000")]));
    pool.close().await;
    for file in std::fs::read_dir(&directory).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"secret"), "no password gets into the records");
    }
    std::fs::remove_dir_all(&directory).unwrap();
}

#[tokio::test]
async fn who_was_connected_and_what_hosts_did_there_is_written_down() {
    let directory = std::env::temp_dir().join(format!("callplane-records-signal-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("records.db");
    let world = World::with_records(Source::Sqlite(file.clone())).await;
    world.kubernetes.room("team", "standup");
    world.kubernetes.route("team", "standup", p2p(1, "Scheduled"), None);
    world.knows("team", "standup").await;
    let mut peers = vec![];
    for (user, role) in [("ann", "host"), ("bob", "participant"), ("carl", "participant"), ("dora", "guest")] {
        let token = world.token("team.standup", user, role).await;
        peers.push(Peer::joined(world.address, "team.standup", &token).await.0);
    }
    let [ann, bob, carl, dora] = peers.as_mut_slice() else { unreachable!("four were let in") };
    assert_eq!(bob.ask("host:end", json!({})).await["error"]["code"], "not-permitted");
    assert_eq!(bob.ask("host:mute", json!({"userId": "ann"})).await["error"]["code"], "not-permitted");
    assert_eq!(ann.ask("host:mute", json!({"userId": "bob"})).await, json!({}));
    assert_eq!(ann.ask("host:lock", json!({"locked": true})).await, json!({}));
    assert_eq!(ann.ask("host:remove", json!({"userId": "bob"})).await, json!({}));
    assert_eq!(world.backend("POST", "/v1/rooms/team.standup/leave", json!({"userId": "carl"})).await.status, 200);
    carl.until_over().await;
    assert_eq!(dora.ask("leave-room", json!({})).await, json!({}));
    assert_eq!(ann.ask("host:end", json!({})).await, json!({}));
    tokio::time::timeout(std::time::Duration::from_secs(10), world.gateway.records.close()).await.unwrap();

    let pool = AnyPool::connect(&format!("sqlite://{}", file.display())).await.unwrap();
    let audit = "SELECT actor || ' ' || action || ' ' || COALESCE(target, '-'), outcome FROM callplane_audit \
        WHERE action <> 'join'";
    let mut expected = text(&[
        ("user:ann enter ann", "ok"),
        ("user:bob enter bob", "ok"),
        ("user:carl enter carl", "ok"),
        ("user:dora enter dora", "ok"),
        ("user:bob end -", "not-permitted"),
        ("user:bob mute ann", "not-permitted"),
        ("user:ann mute bob", "ok"),
        ("user:ann lock -", "ok"),
        ("user:ann remove bob", "ok"),
        ("backend:shop remove carl", "ok"),
        ("user:dora leave dora", "ok"),
        ("user:ann end -", "ok"),
    ]);
    let mut audit = rows(&pool, audit).await;
    audit.sort();
    expected.sort();
    assert_eq!(audit, expected);
    let stays = "SELECT user_id, reason FROM callplane_participants \
        WHERE joined_ms IS NOT NULL AND left_ms IS NOT NULL ORDER BY user_id";
    assert_eq!(rows(&pool, stays).await, text(&[("bob", "removed"), ("carl", "removed"), ("dora", "left")]));
    pool.close().await;
    std::fs::remove_dir_all(&directory).unwrap();
}

#[tokio::test]
async fn while_the_database_is_away_joins_go_on_and_nothing_of_them_is_lost() {
    let mut postgres = Postgres::start();
    let world = World::with_records(Source::PostgresUrl(postgres.url_file())).await;
    let _node = world.placed("team", "standup").await;
    world.token("team.standup", "user-first", "participant").await;
    let pool = AnyPool::connect(&postgres.url()).await.unwrap();
    until_there(&pool, "SELECT room_id, action FROM callplane_audit").await;

    postgres.kill();
    for n in 0..40 {
        // Twice, while it is away and while it comes back.
        world.token("team.standup", &format!("user-{n}"), "participant").await;
        if n == 20 {
            postgres.start_again();
        }
    }
    until_there(&pool, "SELECT action, action FROM callplane_audit GROUP BY action HAVING COUNT(*) >= 41").await;
    let joined = "SELECT action, CAST(COUNT(DISTINCT target) AS TEXT) || ' of ' || CAST(COUNT(*) AS TEXT) \
        FROM callplane_audit GROUP BY action";
    assert_eq!(rows(&pool, joined).await, text(&[("join", "41 of 41")]));
    let there = "SELECT room_uid, CAST(COUNT(*) AS TEXT) FROM callplane_participants GROUP BY room_uid";
    assert_eq!(rows(&pool, there).await[0].1, "41");
    assert!(!world.gateway.metrics.text().unwrap().contains("records_dropped_total{"));
}
