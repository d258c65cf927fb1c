//! The store: PostgreSQL or SQLite behind one sealed type. The only place with SQL.
//!
//! The database is the truth, its clock too. Every file here is one family of operations; a
//! function takes a [`Session`] where it reads and a [`Tx`] where it writes, so that its caller
//! decides what happens together. Moments are kept as milliseconds since 1970, documents as JSON
//! text, H3 cells as their 64-bit number.

mod error;
mod session;
mod sql;

/// Declares the files with statements, and gathers those statements for the test that prepares them.
macro_rules! files {
    ($($(#[$doc:meta])* $file:ident;)*) => {
        $($(#[$doc])* pub mod $file;)*

        #[cfg(test)]
        fn all_statements() -> Vec<&'static sql::Statement> {
            [session::STATEMENTS, $($file::STATEMENTS),*].concat()
        }
    };
}

files! {
    /// Who may call: agencies, apps, operators and their keys.
    holders;
    /// Filing, reading and changing cases.
    cases;
    /// What happened to a case, and by whom.
    timeline;
    /// Plans and their waves.
    plans;
    /// Alerts and their revisions.
    alerts;
    /// Subscribers and the search by cell.
    subscribers;
    /// Subscribers as apps write them.
    uploads;
    /// Uploads of everybody an app has.
    everybody;
    /// Person numbers, and the keys that apps share.
    persons;
    /// Moves of subscribers from one person number to another.
    moves;
    /// Rounds (released waves and sweeps), shards and counts.
    rounds;
    /// The told-list.
    told;
    /// Batches: made, copied, withdrawn, expired.
    batches;
    /// The way of a batch through its lane: claimed, sent, given back.
    sending;
    /// The way of a batch out of its queue: taken, held back, dead.
    handed;
    /// Where batches are: what waits, what is dead.
    backlog;
    /// Who sends for which app, and the hold.
    lanes;
    /// Sightings.
    sightings;
    /// Areas searched on the ground.
    searches;
    /// Whom a set of cells reaches.
    reach;
    /// Receipts.
    receipts;
    /// How cases ended.
    outcomes;
    /// Answers kept for repeated requests.
    idempotency;
    /// Erasing what may no longer be kept.
    retention;
    /// Settings of the database server that make it slow.
    settings;
}

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection as _, PgConnection, PgPool, SqlitePool};

pub use error::{Cause, StoreError, without_conflict};
use session::{PostgresSession, SqliteSession};
pub use session::{Session, Tx};

/// How long a request waits for a free connection before it is told that the database is away.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections to PostgreSQL per process: two cores are kept busy by fewer than this.
const POSTGRES_CONNECTIONS: u32 = 24;
/// After so long without a word inside a transaction PostgreSQL rolls it back. Ours never pause; a
/// server that hangs or lost its network would otherwise keep its locks, and with them everybody.
const IDLE_IN_TRANSACTION_MS: &str = "10000";
/// Readers of SQLite; there is always one writer.
const SQLITE_READERS: u32 = 8;

/// The database, whichever of the two it is.
#[derive(Clone)]
pub struct Store(Pools);

#[derive(Clone)]
enum Pools {
    Postgres(PgPool),
    Sqlite {
        writer: SqlitePool,
        readers: SqlitePool,
    },
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Pools::Postgres(_) => "Store(PostgreSQL)",
            Pools::Sqlite { .. } => "Store(SQLite)",
        })
    }
}

/// A database URL that cannot be used, or a database that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL names neither database.
    #[error("the database URL must begin with postgres:// or sqlite://")]
    Scheme,
    /// The database could not be opened.
    #[error("cannot open the database: is it there, and is HOMEWARD_DATABASE_URL right?")]
    Open(#[source] sqlx::Error),
    /// A migration failed.
    #[error("cannot bring the database's schema up to date")]
    Migrate(#[source] sqlx::migrate::MigrateError),
}

impl Store {
    /// Opens the database behind `postgres://...` or `sqlite://FILE`; a missing SQLite file is made.
    ///
    /// # Errors
    /// [`OpenError`] if the URL is of another kind or the database does not answer.
    pub async fn open(url: &str) -> Result<Self, OpenError> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let options = PgConnectOptions::from_str(url)
                .map_err(OpenError::Open)?
                .application_name("homeward")
                .options([
                    // Both turned a 4 ms look-up into 17 to 40 ms.
                    ("jit", "off"),
                    ("max_parallel_workers_per_gather", "0"),
                    (
                        "idle_in_transaction_session_timeout",
                        IDLE_IN_TRANSACTION_MS,
                    ),
                ]);
            // The pool would try again until its time is up, and then not say why it failed.
            let first = PgConnection::connect_with(&options)
                .await
                .map_err(OpenError::Open)?;
            first.close().await.map_err(OpenError::Open)?;
            let pool = PgPoolOptions::new()
                .max_connections(POSTGRES_CONNECTIONS)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .connect_lazy_with(options);
            return Ok(Self(Pools::Postgres(pool)));
        }
        if !url.starts_with("sqlite:") {
            return Err(OpenError::Scheme);
        }
        let options = SqliteConnectOptions::from_str(url)
            .map_err(OpenError::Open)?
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5))
            .pragma("cache_size", "-65536");
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(ACQUIRE_TIMEOUT * 6)
            .connect_with(options.clone())
            .await
            .map_err(OpenError::Open)?;
        let readers = SqlitePoolOptions::new()
            .max_connections(SQLITE_READERS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(options.pragma("query_only", "on"))
            .await
            .map_err(OpenError::Open)?;
        Ok(Self(Pools::Sqlite { writer, readers }))
    }

    /// Brings the schema up to date. Servers that start together wait for each other.
    ///
    /// # Errors
    /// [`OpenError::Migrate`] if a migration cannot be applied.
    pub async fn migrate(&self) -> Result<(), OpenError> {
        match &self.0 {
            Pools::Postgres(pool) => sqlx::migrate!("migrations/postgres").run(pool).await,
            Pools::Sqlite { writer, .. } => sqlx::migrate!("migrations/sqlite").run(writer).await,
        }
        .map_err(OpenError::Migrate)
    }

    /// A session to read with, outside any transaction.
    ///
    /// # Errors
    /// [`StoreError`] if no connection can be had.
    pub async fn read(&self) -> Result<Session, StoreError> {
        match &self.0 {
            Pools::Postgres(pool) => pool
                .acquire()
                .await
                .map(|connection| Session::Postgres(PostgresSession::Read(connection))),
            Pools::Sqlite { readers, .. } => readers
                .acquire()
                .await
                .map(|connection| Session::Sqlite(SqliteSession::Read(connection))),
        }
        .map_err(|error| StoreError::new("ACQUIRE", error))
    }

    /// Begins a transaction. On SQLite it holds the one writer from its start.
    ///
    /// # Errors
    /// [`StoreError`] if no connection can be had.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        let pools = self.0.clone();
        // A caller that hangs up must not drop a half-begun transaction back into the pool.
        let begun = tokio::spawn(async move {
            match pools {
                Pools::Postgres(pool) => pool
                    .begin_with("BEGIN")
                    .await
                    .map(|tx| Session::Postgres(PostgresSession::Write(tx))),
                Pools::Sqlite { writer, .. } => writer
                    .begin_with("BEGIN IMMEDIATE")
                    .await
                    .map(|tx| Session::Sqlite(SqliteSession::Write(tx))),
            }
        })
        .await;
        match begun {
            Ok(Ok(session)) => Ok(Tx(session)),
            Ok(Err(error)) => Err(StoreError::new("BEGIN", error)),
            Err(_) => Err(StoreError::new("BEGIN", sqlx::Error::WorkerCrashed)),
        }
    }

    /// The database's clock (see [`Session::now`]).
    ///
    /// # Errors
    /// [`StoreError`] if the database does not answer.
    pub async fn now(&self) -> Result<jiff::Timestamp, StoreError> {
        self.read().await?.now().await
    }

    /// Closes all connections, after those in use have been given back.
    pub async fn close(&self) {
        match &self.0 {
            Pools::Postgres(pool) => pool.close().await,
            Pools::Sqlite { writer, readers } => {
                readers.close().await;
                writer.close().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use sqlx::{AssertSqlSafe, Executor as _, SqlSafeStr as _};

    use super::*;

    #[tokio::test]
    async fn every_statement_is_prepared_on_sqlite() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("test.db").display());
        let store = Store::open(&url).await.unwrap();
        store.migrate().await.unwrap();
        let Pools::Sqlite { writer, .. } = &store.0 else {
            unreachable!()
        };
        let mut refused = Vec::new();
        for statement in all_statements() {
            if let Err(error) = writer.prepare(statement.sqlite.into_sql_str()).await {
                refused.push(format!("{}: {error}", statement.name));
            }
        }
        assert!(refused.is_empty(), "{refused:#?}");
    }

    #[tokio::test]
    async fn every_statement_is_prepared_on_postgresql() {
        let url = std::env::var("HOMEWARD_TEST_POSTGRES_URL").expect(
            "HOMEWARD_TEST_POSTGRES_URL is not set: run ./ops/test, or eval $(ops/services up)",
        );
        let name = format!("homeward_statements_{}", uuid::Uuid::now_v7().simple());
        let mut admin = PgConnection::connect(&url).await.unwrap();
        admin
            .execute(AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .await
            .unwrap();
        let (base, _) = url.rsplit_once('/').unwrap();
        let store = Store::open(&format!("{base}/{name}")).await.unwrap();
        store.migrate().await.unwrap();
        let Pools::Postgres(pool) = &store.0 else {
            unreachable!()
        };
        let mut refused = Vec::new();
        for statement in all_statements() {
            if let Err(error) = pool.prepare(statement.postgres.into_sql_str()).await {
                refused.push(format!("{}: {error}", statement.name));
            }
        }
        assert!(refused.is_empty(), "{refused:#?}");
        store.close().await;
        admin
            .execute(AssertSqlSafe(format!("DROP DATABASE {name}")))
            .await
            .unwrap();
    }
}
