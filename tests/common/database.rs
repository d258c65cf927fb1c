//! A fresh database of either kind, and plain SQL on it for what the store has no word for.

use std::path::Path;

use sqlx::{
    AssertSqlSafe, Column as _, ConnectOptions as _, Connection as _, Executor as _, PgConnection,
    Row as _, SqliteConnection,
};
use uuid::Uuid;

/// Which database a test runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    /// A file in a temporary folder.
    Sqlite,
    /// A database on the server that `ops/test` starts.
    Postgres,
}

/// A database nobody else uses.
pub struct Fresh {
    kind: Database,
    url: String,
    name: String,
}

impl Fresh {
    pub(super) async fn make(kind: Database, folder: &Path) -> Self {
        let name = format!("homeward_test_{}", Uuid::now_v7().simple());
        let url = match kind {
            Database::Sqlite => format!("sqlite://{}", folder.join("house.db").display()),
            Database::Postgres => {
                let mut server = server().await;
                server
                    .execute(AssertSqlSafe(format!("CREATE DATABASE {name}")))
                    .await
                    .expect("a database for this test");
                let url = server_url();
                let (base, _) = url.rsplit_once('/').expect("a URL with a database");
                format!("{base}/{name}")
            }
        };
        Self { kind, url, name }
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub(super) async fn drop(&self) {
        if self.kind == Database::Postgres {
            let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
            let _ = server().await.execute(AssertSqlSafe(drop)).await;
        }
    }

    /// An id as SQL writes it.
    pub fn id(&self, id: &str) -> String {
        let id: Uuid = id.parse().expect("an id");
        match self.kind {
            Database::Sqlite => format!("x'{}'", id.simple()),
            Database::Postgres => format!("'{id}'"),
        }
    }

    /// Executes a statement; says how many rows it changed.
    pub async fn execute(&self, sql: &str) -> u64 {
        let sql = AssertSqlSafe(sql.to_owned());
        match self.kind {
            Database::Sqlite => self
                .sqlite()
                .await
                .execute(sql)
                .await
                .unwrap()
                .rows_affected(),
            Database::Postgres => self
                .postgres()
                .await
                .execute(sql)
                .await
                .unwrap()
                .rows_affected(),
        }
    }

    /// The one number a statement gives.
    pub async fn number(&self, sql: &str) -> i64 {
        let sql = AssertSqlSafe(sql.to_owned());
        match self.kind {
            Database::Sqlite => self.sqlite().await.fetch_one(sql).await.unwrap().get(0),
            Database::Postgres => self.postgres().await.fetch_one(sql).await.unwrap().get(0),
        }
    }

    /// Everything in every table, a line for each row: `table: row`, in lower case, bytes in
    /// hexadecimal.
    pub async fn dump(&self) -> Vec<String> {
        let mut lines = Vec::new();
        match self.kind {
            Database::Sqlite => {
                let mut connection = self.sqlite().await;
                let tables = "SELECT name FROM sqlite_master WHERE type = 'table'";
                for table in connection.fetch_all(tables).await.unwrap() {
                    let table: String = table.get(0);
                    let columns = format!("SELECT name FROM pragma_table_info('{table}')");
                    let columns = connection.fetch_all(AssertSqlSafe(columns)).await.unwrap();
                    let quoted: Vec<String> = columns
                        .iter()
                        .map(|row| format!("quote({})", row.get::<String, _>(0)))
                        .collect();
                    let rows = format!("SELECT {} FROM {table}", quoted.join(" || ',' || "));
                    for row in connection.fetch_all(AssertSqlSafe(rows)).await.unwrap() {
                        let row: String = row.get(0);
                        lines.push(format!("{table}: {}", row.to_lowercase()));
                    }
                }
            }
            Database::Postgres => {
                let mut connection = self.postgres().await;
                let tables = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'";
                for table in connection.fetch_all(tables).await.unwrap() {
                    let table: String = table.get(0);
                    let rows = format!("SELECT t::text AS line FROM {table} t");
                    for row in connection.fetch_all(AssertSqlSafe(rows)).await.unwrap() {
                        debug_assert_eq!(row.columns()[0].name(), "line");
                        let row: String = row.get(0);
                        lines.push(format!("{table}: {}", row.to_lowercase()));
                    }
                }
            }
        }
        lines
    }

    async fn sqlite(&self) -> SqliteConnection {
        let options: sqlx::sqlite::SqliteConnectOptions = self.url.parse().unwrap();
        let options = options.busy_timeout(std::time::Duration::from_secs(10));
        options.connect().await.unwrap()
    }

    async fn postgres(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.unwrap()
    }
}

fn server_url() -> String {
    std::env::var("HOMEWARD_TEST_POSTGRES_URL").expect(
        "HOMEWARD_TEST_POSTGRES_URL is not set: run ./ops/test, which starts a PostgreSQL for the \
         tests and ends it afterwards",
    )
}

async fn server() -> PgConnection {
    PgConnection::connect(&server_url())
        .await
        .expect("the PostgreSQL server of the tests")
}
