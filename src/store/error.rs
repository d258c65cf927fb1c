//! What can go wrong with the database, sorted by what a caller can do about it.

/// A statement that did not do what it should.
///
/// Its text names the statement and the cause for the log; it never goes to a client.
#[derive(Debug, thiserror::Error)]
#[error("database statement {statement} failed: {source}")]
pub struct StoreError {
    statement: &'static str,
    #[source]
    source: sqlx::Error,
}

/// What a caller can do about a [`StoreError`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The database cannot be reached or is starting: try again later.
    Unavailable,
    /// Another transaction was in the way: the same again will do.
    Conflict,
    /// There is no room left on its disk.
    DiskFull,
    /// A named constraint refused the row.
    Constraint(String),
    /// Anything else: a defect, here or in the data.
    Defect,
}

impl StoreError {
    pub(super) const fn new(statement: &'static str, source: sqlx::Error) -> Self {
        Self { statement, source }
    }

    /// What a caller can do about it.
    #[must_use]
    pub fn cause(&self) -> Cause {
        use sqlx::Error as E;
        match &self.source {
            E::Io(_) | E::Tls(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed => {
                Cause::Unavailable
            }
            E::Database(error) => Self::database_cause(error.as_ref()),
            _ => Cause::Defect,
        }
    }

    fn database_cause(error: &dyn sqlx::error::DatabaseError) -> Cause {
        let code = error.code().unwrap_or_default();
        if let Some(constraint) = error.constraint() {
            return Cause::Constraint(constraint.to_owned());
        }
        if error
            .try_downcast_ref::<sqlx::sqlite::SqliteError>()
            .is_some()
        {
            // Extended result codes keep the primary code in the low byte.
            return match code.parse::<u32>().unwrap_or_default() & 0xff {
                5 | 6 => Cause::Conflict,
                10 | 14 => Cause::Unavailable,
                13 => Cause::DiskFull,
                19 => Cause::Constraint(error.message().to_owned()),
                _ => Cause::Defect,
            };
        }
        match code.as_ref() {
            "40001" | "40P01" | "55P03" => Cause::Conflict,
            "53100" => Cause::DiskFull,
            "57P01" | "57P02" | "57P03" | "53300" => Cause::Unavailable,
            other if other.starts_with("08") => Cause::Unavailable,
            _ => Cause::Defect,
        }
    }
}
