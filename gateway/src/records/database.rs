//! The database: PostgreSQL or SQLite, behind one set of statements.

use std::{
    fs, io,
    path::{Path, PathBuf},
    str::FromStr,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use callplane_crds::CallId;
use jiff::Timestamp;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use sqlx::{
    AnyConnection, AnyPool, Connection, Executor, Row, SqlSafeStr,
    any::{AnyConnectOptions, AnyPoolOptions},
    migrate::{Migration, MigrationType, Migrator},
};
use thiserror::Error;

use super::{
    event::{Action, Event, Session},
    statements::{ALL_LEFT, AUDIT, CAME_BEFORE_END, CONSENT, CONSENTS, LAST_ANSWER, LEFT, PRESENT, SESSION},
};

/// Connections to PostgreSQL: one writes records, the others are for consents. SQLite has one writer at a time anyway.
const CONNECTIONS: u32 = 4;
/// Longest time to wait for a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// Longest time that one transaction or query may take, with its connection.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Longest time that the schema may take, with the wait for another replica that is at it.
const MIGRATE_WITHIN: Duration = Duration::from_secs(60);
/// Longest URL that is read, in bytes.
const MAX_URL: u64 = 4096;
/// What a path may not have in a URL as it is.
const IN_PATH: &AsciiSet = &CONTROLS.add(b' ').add(b'?').add(b'#').add(b'%');

/// Where the database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file that holds the URL of a PostgreSQL database. Read again when the database does not answer.
    PostgresUrl(PathBuf),
    /// A file that SQLite keeps, for one replica.
    Sqlite(PathBuf),
}

/// What went wrong.
#[derive(Debug, Error)]
pub enum DatabaseError {
    /// The file with the URL cannot be read.
    #[error("cannot read the URL of the database from {}: {source}", .path.display())]
    Url {
        /// Where it should be.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is there is no URL of PostgreSQL. It is not shown: it may have a password.
    #[error("{} does not hold the URL of a PostgreSQL database (postgres://...)", .0.display())]
    NotPostgres(PathBuf),
    /// There is no randomness to tell this process from others by.
    #[error("there is no randomness")]
    NoRandomness,
    /// The schema is not there yet.
    #[error("the schema is not there yet")]
    NoSchema,
    /// It took too long.
    #[error("the database did not answer in time")]
    Timeout,
    /// The schema could not be brought up to date.
    #[error("the schema cannot be brought up to date: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// The database says no, or cannot be reached.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
}

impl DatabaseError {
    /// Whether the database will never take these values, so that trying again is in vain.
    pub fn is_refusal(&self) -> bool {
        let Self::Sql(sqlx::Error::Database(error)) = self else { return false };
        // SQLSTATE: 22 data exception, 23 integrity constraint violation.
        let of_postgres = |code: &str| code.len() == 5 && (code.starts_with("22") || code.starts_with("23"));
        !matches!(error.kind(), sqlx::error::ErrorKind::Other) || error.code().is_some_and(|code| of_postgres(&code))
    }
}

/// Somebody's answer to the question for consent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consent {
    /// Id of the answer.
    pub id: String,
    /// When it was given, to the millisecond.
    pub at: Timestamp,
    /// `metadata.uid` of the room.
    pub room_uid: String,
    /// User id.
    pub user: String,
    /// What was asked for.
    pub consent_type: String,
    /// Version of the text that was shown.
    pub version: String,
    /// `accepted` or `declined`.
    pub status: String,
    /// Who told.
    pub given_by: String,
}

/// A thing to write.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    /// Something that happened, with an id of its own.
    Event(String, Event),
    /// What is known of a room.
    Session(Session),
}

/// The database.
pub(super) struct Database {
    source: Source,
    pool: AnyPool,
    has_schema: AtomicBool,
}

impl Source {
    fn options(&self) -> Result<AnyConnectOptions, DatabaseError> {
        let url = match self {
            Self::PostgresUrl(path) => postgres_url(path)?,
            Self::Sqlite(path) => {
                format!("sqlite://{}?mode=rwc", utf8_percent_encode(&path.to_string_lossy(), IN_PATH))
            }
        };
        Ok(AnyConnectOptions::from_str(&url)?)
    }
}

fn postgres_url(path: &Path) -> Result<String, DatabaseError> {
    let unread = |source| DatabaseError::Url { path: path.to_owned(), source };
    let wrong = || DatabaseError::NotPostgres(path.to_owned());
    if fs::metadata(path).map_err(unread)?.len() > MAX_URL {
        return Err(wrong());
    }
    let url = fs::read_to_string(path).map_err(unread)?.trim().to_owned();
    let is_postgres = url.starts_with("postgres://") || url.starts_with("postgresql://");
    if is_postgres && AnyConnectOptions::from_str(&url).is_ok() { Ok(url) } else { Err(wrong()) }
}

impl Database {
    /// The database at `source`, to which nothing is connected yet.
    ///
    /// # Errors
    /// When `source` names none.
    pub(super) fn new(source: Source) -> Result<Self, DatabaseError> {
        sqlx::any::install_default_drivers();
        let options = source.options()?;
        let (connections, settings): (_, &'static [&'static str]) = match source {
            Source::PostgresUrl(_) => (CONNECTIONS, &["SET statement_timeout = 5000", "SET lock_timeout = 3000"]),
            // A reader never waits for the writer, and what was written is there after a crash of the process.
            Source::Sqlite(_) => (1, &["PRAGMA journal_mode = WAL", "PRAGMA busy_timeout = 3000"]),
        };
        let pool = AnyPoolOptions::new().max_connections(connections).acquire_timeout(CONNECT_WITHIN).after_connect(
            move |connection, _| {
                Box::pin(async move {
                    for setting in settings {
                        (&mut *connection).execute(*setting).await?;
                    }
                    Ok(())
                })
            },
        );
        Ok(Self { source, pool: pool.connect_lazy_with(options), has_schema: AtomicBool::new(false) })
    }

    /// Its connections, to look into it.
    #[cfg(test)]
    pub(super) fn pool(&self) -> &AnyPool {
        &self.pool
    }

    /// Looks for another URL: a password may have been replaced.
    pub(super) fn look_again(&self) -> Result<(), DatabaseError> {
        let options = self.source.options()?;
        if options.database_url != self.pool.connect_options().database_url {
            tracing::info!("another URL of the database");
            self.pool.set_connect_options(options);
        }
        Ok(())
    }

    /// Brings the schema up to date. Replicas that start together do it one after the other, by an advisory lock.
    pub(super) async fn migrate(&self) -> Result<(), DatabaseError> {
        // On a connection of its own: when this fails half-way, closing it gives the lock back.
        let migrate = async {
            let mut connection = AnyConnection::connect_with(&*self.pool.connect_options()).await?;
            let done = migrator().run_direct(None, &mut connection, false).await;
            let closed = connection.close().await;
            done?;
            Ok::<_, DatabaseError>(closed?)
        };
        tokio::time::timeout(MIGRATE_WITHIN, migrate).await.map_err(|_| DatabaseError::Timeout)??;
        self.has_schema.store(true, Ordering::Release);
        Ok(())
    }

    /// Writes all of `entries`, or nothing.
    pub(super) async fn write(&self, entries: &[Entry]) -> Result<(), DatabaseError> {
        let write = async {
            let mut transaction = self.pool.begin().await?;
            for entry in entries {
                match entry {
                    Entry::Event(id, event) => happened(&mut transaction, id, event).await?,
                    Entry::Session(session) => lasted(&mut transaction, session).await?,
                }
            }
            Ok(transaction.commit().await?)
        };
        within(write).await
    }

    /// Writes an answer.
    pub(super) async fn add_consent(&self, room: &CallId, consent: &Consent) -> Result<(), DatabaseError> {
        self.schema()?;
        let insert = sqlx::query(CONSENT)
            .bind(consent.id.as_str())
            .bind(consent.at.as_millisecond())
            .bind(consent.room_uid.as_str())
            .bind(room.to_string())
            .bind(consent.user.as_str())
            .bind(consent.consent_type.as_str())
            .bind(consent.version.as_str())
            .bind(consent.status.as_str())
            .bind(consent.given_by.as_str());
        within(async { Ok(insert.execute(&self.pool).await?) }).await.map(drop)
    }

    /// At most `limit` answers that were given in `room` after the one with the time and id of `after`, of the room with this
    /// uid only if there is one.
    pub(super) async fn consents(
        &self,
        room: &CallId,
        uid: Option<&str>,
        after: (i64, &str),
        limit: u32,
    ) -> Result<Vec<Consent>, DatabaseError> {
        self.schema()?;
        let select = sqlx::query(CONSENTS)
            .bind(room.to_string())
            .bind(uid.unwrap_or_default())
            .bind(after.0)
            .bind(after.1)
            .bind(i64::from(limit));
        let rows = within(async { Ok(select.fetch_all(&self.pool).await?) }).await?;
        let consents = rows.iter().map(|row| -> Result<Consent, DatabaseError> {
            Ok(Consent {
                id: row.try_get("id")?,
                at: Timestamp::from_millisecond(row.try_get("at_ms")?).unwrap_or(Timestamp::UNIX_EPOCH),
                room_uid: row.try_get("room_uid")?,
                user: row.try_get("user_id")?,
                consent_type: row.try_get("consent_type")?,
                version: row.try_get("version")?,
                status: row.try_get("status")?,
                given_by: row.try_get("given_by")?,
            })
        });
        consents.collect()
    }

    /// What `user` answered last when asked for `consent_type` in `room` with this uid.
    pub(super) async fn last_answer(
        &self,
        room: &CallId,
        uid: &str,
        user: &str,
        consent_type: &str,
    ) -> Result<Option<String>, DatabaseError> {
        self.schema()?;
        let select = sqlx::query(LAST_ANSWER).bind(room.to_string()).bind(uid).bind(user).bind(consent_type);
        let row = within(async { Ok(select.fetch_optional(&self.pool).await?) }).await?;
        row.map(|row| Ok(row.try_get("status")?)).transpose()
    }

    fn schema(&self) -> Result<(), DatabaseError> {
        if self.has_schema.load(Ordering::Acquire) { Ok(()) } else { Err(DatabaseError::NoSchema) }
    }
}

async fn within<T>(work: impl Future<Output = Result<T, DatabaseError>>) -> Result<T, DatabaseError> {
    tokio::time::timeout(ANSWER_WITHIN, work).await.map_err(|_| DatabaseError::Timeout)?
}

fn migrator() -> Migrator {
    let records = include_str!("../../migrations/0001_records.sql").into_sql_str();
    let mut migrator =
        Migrator::with_migrations(vec![Migration::new(1, "records".into(), MigrationType::Simple, records, false)]);
    migrator.dangerous_set_table_name("callplane_migrations");
    // A newer version's are left alone, so that replicas of two versions can run side by side.
    migrator.set_ignore_missing(true);
    migrator
}

async fn happened(connection: &mut AnyConnection, id: &str, event: &Event) -> Result<(), sqlx::Error> {
    let (at, uid) = (event.at.as_millisecond(), event.room.uid.as_deref());
    let outcome = event.refused.map_or_else(|| "ok".to_owned(), crate::Code::text);
    let written = sqlx::query(AUDIT)
        .bind(id)
        .bind(at)
        .bind(event.by.to_string())
        .bind(event.action.name())
        .bind(event.room.id.to_string())
        .bind(uid)
        .bind(event.action.target())
        .bind(outcome)
        .execute(&mut *connection)
        .await?;
    let (Some(uid), None) = (uid, event.refused) else { return Ok(()) };
    if written.rows_affected() == 0 {
        // The answer to an earlier try was lost.
        return Ok(());
    }
    let (user, role, admitted, joined) = match &event.action {
        Action::Join { user, role } => (user, role, Some(at), None),
        Action::Enter { user, role } => (user, role, None, Some(at)),
        Action::Leave { user, reason } => return left(connection, uid, user, at, reason).await,
        Action::Remove { user } => return left(connection, uid, user, at, "removed").await,
        _ => return Ok(()),
    };
    let present =
        sqlx::query(PRESENT).bind(id).bind(uid).bind(user.as_str()).bind(role.as_str()).bind(admitted).bind(joined);
    present.execute(&mut *connection).await?;
    sqlx::query(CAME_BEFORE_END).bind(uid).bind(user.as_str()).execute(connection).await.map(drop)
}

async fn left(c: &mut AnyConnection, uid: &str, user: &str, at: i64, reason: &str) -> Result<(), sqlx::Error> {
    sqlx::query(LEFT).bind(uid).bind(user).bind(at).bind(reason).execute(c).await.map(drop)
}

async fn lasted(connection: &mut AnyConnection, session: &Session) -> Result<(), sqlx::Error> {
    let ended = session.ended.as_ref().map(|(at, _)| at.as_millisecond());
    let upsert = sqlx::query(SESSION)
        .bind(session.uid.as_str())
        .bind(session.id.to_string())
        .bind(session.host.as_deref())
        .bind(session.created.as_millisecond())
        .bind(session.started.map(|at| at.as_millisecond()))
        .bind(ended)
        .bind(session.ended.as_ref().map(|(_, reason)| reason.as_str()));
    upsert.execute(&mut *connection).await?;
    let Some(ended) = ended else { return Ok(()) };
    sqlx::query(ALL_LEFT).bind(session.uid.as_str()).bind(ended).execute(connection).await.map(drop)
}
