//! The databases themselves, each of them real.

use std::collections::BTreeMap;

use callplane_crds::CallId;
use jiff::Timestamp;
use sqlx::{AnyPool, Executor, SqlSafeStr};
use tokio::task::JoinSet;

use super::{
    Action, Actor, Consent, Event, QUEUE, Records, RoomRef, Session, Source,
    database::{Database, Entry},
    statements,
};
use crate::{
    Code,
    access::Role,
    metrics::Metrics,
    testing::{Postgres, Scratch},
};

fn at(millisecond: i64) -> Timestamp {
    Timestamp::from_millisecond(1_800_000_000_000 + millisecond).unwrap()
}

fn event(millisecond: i64, action: Action) -> Event {
    let room = RoomRef { id: "team.standup".parse().unwrap(), uid: Some("uid-1".into()) };
    Event { at: at(millisecond), room, by: Actor::Backend("shop".into()), action, refused: None }
}

fn entry(id: &str, millisecond: i64, action: Action) -> Entry {
    Entry::Event(id.into(), event(millisecond, action))
}

fn join(user: &str) -> Action {
    Action::Join { user: user.into(), role: Role::Guest }
}

fn enter(user: &str) -> Action {
    Action::Enter { user: user.into(), role: Role::Guest }
}

fn leave(user: &str) -> Action {
    Action::Leave { user: user.into(), reason: "left" }
}

/// Both databases, with the schema, and a way to look into each.
struct Both {
    postgres: Postgres,
    _scratch: Scratch,
    databases: Vec<(Database, AnyPool)>,
}

impl Both {
    async fn new() -> Self {
        let (postgres, scratch) = (Postgres::start(), Scratch::new());
        let file = scratch.path().join("records #1 100%?.db");
        let sources = [Source::PostgresUrl(postgres.url_file()), Source::Sqlite(file)];
        let mut databases = Vec::new();
        for source in sources {
            let database = Database::new(source).unwrap();
            database.migrate().await.unwrap();
            let look = database.pool().clone();
            databases.push((database, look));
        }
        Self { postgres, _scratch: scratch, databases }
    }
}

/// Rows of two columns of text each.
async fn rows(pool: &AnyPool, sql: &'static str) -> Vec<(String, String)> {
    sqlx::query_as(sql).fetch_all(pool).await.unwrap()
}

#[tokio::test]
async fn both_databases_understand_every_statement() {
    let both = Both::new().await;
    for (_, pool) in &both.databases {
        let mut connection = pool.acquire().await.unwrap();
        for statement in statements::ALL {
            let refused = (&mut *connection).prepare(statement.into_sql_str()).await.err();
            assert!(refused.is_none(), "{}: {statement}: {refused:?}", connection.backend_name());
        }
        connection.close().await.unwrap();
    }
}

#[tokio::test]
async fn replicas_that_start_together_make_the_schema_once_and_an_old_one_bears_a_newer_schema() {
    let postgres = Postgres::start();
    let replica = || Database::new(Source::PostgresUrl(postgres.url_file())).unwrap();
    let replicas = [replica(), replica(), replica()];
    let [a, b, c] = &replicas;
    let (a, b, c) = tokio::join!(a.migrate(), b.migrate(), c.migrate());
    a.unwrap();
    b.unwrap();
    c.unwrap();
    let pool = replicas[0].pool();
    let newer = "INSERT INTO callplane_migrations (version, description, success, checksum, execution_time) \
        VALUES (99, 'of a newer version', true, '', 0)";
    pool.execute(newer).await.unwrap();
    replicas[1].migrate().await.unwrap();
}

#[tokio::test]
async fn somebodys_stay_is_one_row_whatever_is_told_first_and_however_often() {
    let both = Both::new().await;
    let ended = Session {
        uid: "uid-1".into(),
        id: CallId::new("team", "standup"),
        host: None,
        created: at(0),
        started: Some(at(5)),
        ended: Some((at(900), "EmptyTimeout".into())),
    };
    let told = [
        entry("1", 10, join("ann")),
        entry("2", 20, enter("ann")),
        // Another replica knew of the socket before this one knew of the token.
        entry("3", 21, enter("bob")),
        entry("4", 15, join("bob")),
        entry("5", 30, leave("ann")),
        entry("6", 40, join("ann")),
        Entry::Session(ended.clone()),
        // Told only after the room ended.
        entry("7", 50, enter("carl")),
    ];
    for (database, pool) in &both.databases {
        for _ in 0..2 {
            // Again is what a lost answer makes of it.
            database.write(&told).await.unwrap();
        }
        let later = Session { started: None, ended: Some((at(999), "Deleted".into())), ..ended.clone() };
        database.write(&[Entry::Session(later)]).await.unwrap();
        let stays = "SELECT user_id, CAST(COALESCE(admitted_ms, 0) % 1000 AS TEXT) || '-' || \
            CAST(COALESCE(joined_ms, 0) % 1000 AS TEXT) || '-' || CAST(left_ms % 1000 AS TEXT) || ' ' || reason \
            FROM callplane_participants ORDER BY user_id, left_ms";
        let expected = [
            ("ann", "10-20-30 left"),
            ("ann", "40-0-900 ended"),
            ("bob", "15-21-900 ended"),
            ("carl", "0-50-900 ended"),
        ];
        assert_eq!(rows(pool, stays).await, expected.map(|(user, stay)| (user.to_owned(), stay.to_owned())));
        let sessions = "SELECT room_id, reason || ' ' || CAST(started_ms % 1000 AS TEXT) FROM callplane_rooms";
        assert_eq!(rows(pool, sessions).await, [("team.standup".to_owned(), "EmptyTimeout 5".to_owned())]);
        let audit = "SELECT id, actor FROM callplane_audit";
        assert_eq!(rows(pool, audit).await.len(), 7);
    }
}

#[tokio::test]
async fn who_was_refused_is_in_the_audit_and_was_not_there() {
    let both = Both::new().await;
    let refused = Event { refused: Some(Code::WrongPassword), ..event(1, join("eve")) };
    let nowhere = Event { room: RoomRef { uid: None, ..event(1, Action::End).room }, ..event(1, Action::End) };
    for (database, pool) in &both.databases {
        database.write(&[Entry::Event("1".into(), refused.clone())]).await.unwrap();
        database.write(&[Entry::Event("2".into(), nowhere.clone())]).await.unwrap();
        let audit = "SELECT action || ' ' || COALESCE(target, '-'), outcome FROM callplane_audit ORDER BY id";
        let expected = [("join eve", "wrong-password"), ("end -", "ok")];
        assert_eq!(rows(pool, audit).await, expected.map(|(what, outcome)| (what.to_owned(), outcome.to_owned())));
        assert_eq!(rows(pool, "SELECT id, user_id FROM callplane_participants").await, []);
    }
}

#[tokio::test]
async fn consents_come_in_pages_in_the_order_that_they_were_given() {
    let both = Both::new().await;
    let room = CallId::new("team", "standup");
    let consent = |n: i64| Consent {
        id: format!("{n:04}"),
        // Two at a time, as a busy moment has it.
        at: at(n / 2),
        room_uid: format!("uid-{}", n % 2),
        user: format!("user-{n}"),
        consent_type: "recording_ai".into(),
        version: "2026-11".into(),
        status: "accepted".into(),
        given_by: "backend:shop".into(),
    };
    for (database, _) in &both.databases {
        for n in [5, 0, 3, 1, 4, 2] {
            database.add_consent(&room, &consent(n)).await.unwrap();
        }
        database.add_consent(&CallId::new("team", "other"), &Consent { id: "x".into(), ..consent(0) }).await.unwrap();
        let (mut all, mut after) = (Vec::new(), (0, String::new()));
        loop {
            let page = database.consents(&room, None, (after.0, &after.1), 4).await.unwrap();
            let Some(last) = page.last() else { break };
            after = (last.at.as_millisecond(), last.id.clone());
            all.extend(page);
        }
        assert_eq!(all, (0..6).map(consent).collect::<Vec<_>>());
        let last = async |user: &str| database.last_answer(&room, "uid-1", user, "recording_ai").await.unwrap();
        assert_eq!(
            (last("user-5").await.as_deref(), last("user-4").await),
            (Some("accepted"), None),
            "that is uid-0's"
        );
        let declined = Consent { id: "y".into(), at: at(9), status: "declined".into(), ..consent(5) };
        database.add_consent(&room, &declined).await.unwrap();
        assert_eq!(last("user-5").await.as_deref(), Some("declined"));
        assert_eq!(database.last_answer(&room, "uid-1", "user-5", "marketing").await.unwrap(), None);
        let of_one = database.consents(&room, Some("uid-1"), (0, ""), 100).await.unwrap();
        assert_eq!(of_one, [consent(1), consent(3), consent(5), declined]);
    }
}

#[tokio::test]
async fn before_the_schema_is_there_consents_are_not_asked_for() {
    let scratch = Scratch::new();
    let database = Database::new(Source::Sqlite(scratch.path().join("records.db"))).unwrap();
    let asked = database.consents(&CallId::new("team", "standup"), None, (0, ""), 1).await;
    assert_eq!(asked.unwrap_err().to_string(), "the schema is not there yet");
}

#[tokio::test]
async fn a_full_queue_drops_the_newest_and_counts_it() {
    let scratch = Scratch::new();
    let file = scratch.path().join("url");
    std::fs::write(&file, format!("postgres://a:geheim@localhost/x?host={}", scratch.path().display())).unwrap();
    let (metrics, mut tasks) = (Metrics::default(), JoinSet::new());
    let records = Records::new(Source::PostgresUrl(file), metrics.clone(), &mut tasks).unwrap();
    for n in 0..i64::try_from(QUEUE).unwrap() + 3 {
        records.note(event(n, Action::Lock));
    }
    assert_eq!(records.waiting(), QUEUE);
    let text = metrics.text().unwrap();
    assert!(text.contains("callplane_gateway_records_dropped_total{why=\"queue-full\"} 3\n"), "{text}");
    assert!(text.contains(&format!("callplane_gateway_records_waiting {QUEUE}\n")), "{text}");
}

#[tokio::test]
async fn what_the_database_refuses_is_dropped_alone_and_closing_waits_for_the_rest() {
    let mut both = Both::new().await;
    let (metrics, mut tasks) = (Metrics::default(), JoinSet::new());
    let records = Records::new(Source::PostgresUrl(both.postgres.url_file()), metrics.clone(), &mut tasks).unwrap();
    for n in 0..1000 {
        records.note(event(n, join(&format!("user-{n}"))));
    }
    // PostgreSQL keeps no NUL in texts.
    records.note(event(1, join("a\0b")));
    records.note(event(2, Action::Lock));
    both.postgres.kill();
    let close = tokio::spawn({
        let records = records.clone();
        async move { records.close().await }
    });
    tokio::task::yield_now().await;
    both.postgres.start_again();
    tokio::time::timeout(std::time::Duration::from_secs(30), close).await.unwrap().unwrap();
    records.note(event(3, Action::End));
    let counted = "SELECT action, CAST(COUNT(*) AS TEXT) FROM callplane_audit GROUP BY action";
    let counted: BTreeMap<_, _> = rows(&both.databases[0].1, counted).await.into_iter().collect();
    assert_eq!(counted, BTreeMap::from([("join".into(), "1000".into()), ("lock".into(), "1".into())]));
    let text = metrics.text().unwrap();
    for line in ["dropped_total{why=\"refused\"} 1\n", "dropped_total{why=\"stopping\"} 1\n", "waiting 0\n"] {
        assert!(text.contains(&format!("callplane_gateway_records_{line}")), "{line}: {text}");
    }
}

#[tokio::test]
async fn a_replaced_password_is_found_and_a_wrong_source_is_named_without_it() {
    let (postgres, scratch) = (Postgres::start(), Scratch::new());
    let file = scratch.path().join("url");
    std::fs::write(&file, "postgres://a:geheim@localhost:1/x").unwrap();
    let database = Database::new(Source::PostgresUrl(file.clone())).unwrap();
    let refused = database.migrate().await.unwrap_err();
    assert!(!format!("{refused} {refused:?}").contains("geheim"), "{refused:?}");
    std::fs::write(&file, "mysql://a:geheim@localhost/x").unwrap();
    let wrong = database.look_again().unwrap_err();
    assert!(wrong.to_string().contains("does not hold the URL") && !format!("{wrong:?}").contains("geheim"));
    std::fs::write(&file, postgres.url()).unwrap();
    database.look_again().unwrap();
    database.migrate().await.unwrap();
    assert!(Database::new(Source::PostgresUrl(scratch.path().join("nothing"))).is_err());
}
