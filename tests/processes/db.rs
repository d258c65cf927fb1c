//! A database of a test's own, looked at behind the server's back.

use std::path::Path;

use sqlx::postgres::PgRow;
use sqlx::sqlite::{SqliteConnectOptions, SqliteRow};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, FromRow, PgConnection,
    SqliteConnection,
};
use uuid::Uuid;

/// Which database a test runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Postgres,
    Sqlite,
}

/// Where a test's database is.
#[derive(Debug, Clone)]
pub struct Db {
    pub kind: Kind,
    /// For `HOMEWARD_DATABASE_URL`.
    pub url: String,
    /// The server that it was made on and its name there, if it goes with the test.
    made: Option<(String, String)>,
}

/// Where tests may make databases on PostgreSQL.
pub fn postgres_url() -> String {
    std::env::var("HOMEWARD_TEST_POSTGRES_URL")
        .expect("HOMEWARD_TEST_POSTGRES_URL is not set: run ./ops/test, or eval $(ops/services up)")
}

impl Db {
    /// A fresh database; on SQLite a file in `folder`.
    pub async fn fresh(kind: Kind, folder: &Path) -> Self {
        let (url, made) = match kind {
            Kind::Sqlite => (format!("sqlite://{}/homeward.db", folder.display()), None),
            Kind::Postgres => {
                let server = postgres_url();
                let name = format!("homeward_processes_{}", Uuid::now_v7().simple());
                let mut admin = PgConnection::connect(&server).await.unwrap();
                let sql = format!("CREATE DATABASE {name}");
                admin.execute(AssertSqlSafe(sql)).await.unwrap();
                let (base, _) = server.rsplit_once('/').unwrap();
                (format!("{base}/{name}"), Some((server, name)))
            }
        };
        Self { kind, url, made }
    }

    /// The database behind a URL, which somebody else makes and removes.
    pub fn at(url: String) -> Self {
        Self {
            kind: Kind::Postgres,
            url,
            made: None,
        }
    }

    pub async fn connect(&self) -> Connection {
        match self.kind {
            Kind::Postgres => Connection::Postgres(PgConnection::connect(&self.url).await.unwrap()),
            Kind::Sqlite => {
                let options: SqliteConnectOptions = self.url.parse().unwrap();
                Connection::Sqlite(options.connect().await.unwrap())
            }
        }
    }

    /// Removes it after a test that has passed; the others leave theirs to be looked at.
    pub async fn remove(self) {
        if let Some((server, name)) = self.made {
            let mut admin = PgConnection::connect(&server).await.unwrap();
            let sql = format!("DROP DATABASE {name} WITH (FORCE)");
            admin.execute(AssertSqlSafe(sql)).await.unwrap();
        }
    }
}

/// A connection of the test's own.
pub enum Connection {
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

impl Connection {
    pub async fn execute(&mut self, sql: &str) -> u64 {
        let sql = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Postgres(db) => db.execute(sql).await.unwrap().rows_affected(),
            Self::Sqlite(db) => db.execute(sql).await.unwrap().rows_affected(),
        }
    }

    pub async fn rows<T>(&mut self, sql: &str) -> Vec<T>
    where
        T: Send + Unpin + for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow>,
    {
        let sql = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Postgres(db) => sqlx::query_as(sql).fetch_all(db).await.unwrap(),
            Self::Sqlite(db) => sqlx::query_as(sql).fetch_all(db).await.unwrap(),
        }
    }

    /// The one number that a query gives.
    pub async fn number(&mut self, sql: &str) -> i64 {
        self.rows::<(i64,)>(sql).await[0].0
    }

    /// The same, also inside a transaction as it is now: PostgreSQL shows the activity of others as it was when
    /// the transaction first asked.
    pub async fn number_now(&mut self, sql: &str) -> i64 {
        if let Self::Postgres(_) = self {
            self.execute("SELECT pg_stat_clear_snapshot()").await;
        }
        self.number(sql).await
    }

    /// The database's clock, in milliseconds since 1970.
    pub async fn now_ms(&mut self) -> i64 {
        let sql = match self {
            Self::Postgres(_) => "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint",
            Self::Sqlite(_) => "SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER)",
        };
        self.number(sql).await
    }

    /// Holds the world still: whoever writes to the table has finished, and nobody can begin until
    /// [`Self::thaw`]. On SQLite that is every table.
    pub async fn freeze(&mut self, table: &str) {
        match self {
            Self::Postgres(_) => {
                self.execute("BEGIN").await;
                let lock = format!("LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE");
                self.execute(&lock).await;
            }
            Self::Sqlite(_) => drop(self.execute("BEGIN IMMEDIATE").await),
        }
    }

    pub async fn thaw(&mut self) {
        self.execute("ROLLBACK").await;
    }

    /// An id as it is written in a query.
    pub fn id(&self, id: &str) -> String {
        let id: Uuid = id.parse().unwrap();
        match self {
            Self::Postgres(_) => format!("'{id}'::uuid"),
            Self::Sqlite(_) => format!("x'{}'", id.simple()),
        }
    }
}
