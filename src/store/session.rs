//! Sessions with either database: a plain connection to read with, or a transaction.

use std::ops::{Deref, DerefMut};

use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, Postgres, Sqlite, SqliteConnection, Transaction};

use super::error::StoreError;
use super::sql::statements;

statements! {
    NOW {
        postgres: "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now"
        sqlite: "SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER) AS now"
    }
}

/// A connection on which statements run one after the other.
pub enum Session {
    /// PostgreSQL.
    #[doc(hidden)]
    Postgres(PostgresSession),
    /// SQLite.
    #[doc(hidden)]
    Sqlite(SqliteSession),
}

/// A session with PostgreSQL.
#[doc(hidden)]
pub enum PostgresSession {
    Read(PoolConnection<Postgres>),
    Write(Transaction<'static, Postgres>),
}

/// A session with SQLite.
#[doc(hidden)]
pub enum SqliteSession {
    Read(PoolConnection<Sqlite>),
    Write(Transaction<'static, Sqlite>),
}

impl PostgresSession {
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        match self {
            Self::Read(connection) => connection,
            Self::Write(transaction) => transaction,
        }
    }
}

impl SqliteSession {
    pub(super) fn connection(&mut self) -> &mut SqliteConnection {
        match self {
            Self::Read(connection) => connection,
            Self::Write(transaction) => transaction,
        }
    }
}

impl Session {
    /// The database's clock, which decides due times, leases and caps.
    ///
    /// # Errors
    /// [`StoreError`] if the database does not answer.
    pub async fn now(&mut self) -> Result<jiff::Timestamp, StoreError> {
        self.query(&NOW).fetch_one().await?.time("now")
    }
}

/// A session in which everything happens or nothing: dropped without [`Tx::commit`], it is undone.
pub struct Tx(pub(super) Session);

impl Tx {
    /// Makes everything done in this transaction last.
    ///
    /// # Errors
    /// [`StoreError`] if the database does not confirm it; it may then have happened or not.
    pub async fn commit(self) -> Result<(), StoreError> {
        match self.0 {
            Session::Postgres(PostgresSession::Write(tx)) => tx.commit().await,
            Session::Sqlite(SqliteSession::Write(tx)) => tx.commit().await,
            Session::Postgres(_) | Session::Sqlite(_) => Ok(()),
        }
        .map_err(|error| StoreError::new("COMMIT", error))
    }
}

impl Deref for Tx {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.0
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut Session {
        &mut self.0
    }
}
