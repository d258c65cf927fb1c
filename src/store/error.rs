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

/// How often something is tried before a conflict is handed on.
const TRIES: u32 = 5;

/// Does something in a transaction of its own, and tries again, a few times, when another transaction was
/// in the way.
///
/// # Errors
/// Those of `step`; [`Cause::Conflict`] if another was in the way each time.
pub async fn without_conflict<T, F>(step: impl Fn() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut tries = 1;
    loop {
        match step().await {
            Err(error) if error.cause() == Cause::Conflict && tries < TRIES => tries += 1,
            result => return result,
        }
    }
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
                19 => Cause::Constraint(constraint_name(error.message())),
                _ => Cause::Defect,
            };
        }
        match code.as_ref() {
            "40001" | "40P01" | "55P03" => Cause::Conflict,
            "53100" => Cause::DiskFull,
            "25P03" | "57P01" | "57P02" | "57P03" | "53300" => Cause::Unavailable,
            other if other.starts_with("08") => Cause::Unavailable,
            _ => Cause::Defect,
        }
    }
}

/// The name of the constraint that SQLite says was broken. Of a unique one it names the columns
/// instead, and ours are called after those.
fn constraint_name(message: &str) -> String {
    let Some((kind, broken)) = message.split_once(" constraint failed: ") else {
        return message.to_owned();
    };
    let (true, Some((table, _))) = (kind == "UNIQUE", broken.split_once('.')) else {
        return broken.to_owned();
    };
    let columns = broken.split(", ").filter_map(|one| one.split_once('.'));
    let columns: Vec<&str> = columns.map(|(_, column)| column).collect();
    format!("{table}_{}_unique", columns.join("_"))
}

#[cfg(test)]
mod tests {
    use super::constraint_name;

    #[test]
    fn a_broken_constraint_has_the_same_name_on_both_databases() {
        for (message, name) in [
            (
                "UNIQUE constraint failed: agencies.name",
                "agencies_name_unique",
            ),
            (
                "UNIQUE constraint failed: plans.case_id, plans.version",
                "plans_case_id_version_unique",
            ),
            (
                "CHECK constraint failed: apps_rate_positive",
                "apps_rate_positive",
            ),
            (
                "FOREIGN KEY constraint failed",
                "FOREIGN KEY constraint failed",
            ),
        ] {
            assert_eq!(constraint_name(message), name);
        }
    }
}
