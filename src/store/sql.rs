//! The thin layer that lets one Rust function serve both databases: a statement written once (or
//! once per database), typed parameters, typed columns.

mod values;

use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments as _, Decode, Encode, Postgres, Row as _, Sqlite, Type};

use super::error::StoreError;
use super::session::Session;
use values::rows_as_json;
pub(super) use values::{Numbers, Values};

/// One SQL statement under a name, in the words of each database.
#[derive(Debug)]
pub(super) struct Statement {
    pub name: &'static str,
    pub postgres: &'static str,
    pub sqlite: &'static str,
}

/// Declares the statements of a file as constants, and `STATEMENTS`, the list of all of them, which
/// a test prepares on both databases.
macro_rules! statements {
    ($($name:ident { $($form:tt)* })*) => {
        $(const $name: $crate::store::sql::Statement =
            $crate::store::sql::statements!(@one $name $($form)*);)*
        #[cfg(test)]
        pub(super) const STATEMENTS: &[&$crate::store::sql::Statement] = &[$(&$name),*];
    };
    (@one $name:ident $both:literal) => {
        $crate::store::sql::Statement { name: stringify!($name), postgres: $both, sqlite: $both }
    };
    (@one $name:ident postgres: $postgres:literal sqlite: $sqlite:literal) => {
        $crate::store::sql::Statement {
            name: stringify!($name), postgres: $postgres, sqlite: $sqlite,
        }
    };
}
pub(super) use statements;

/// A parameter both databases take.
pub(super) trait Parameter<'q>:
    Encode<'q, Postgres> + Type<Postgres> + Encode<'q, Sqlite> + Type<Sqlite>
{
}
impl<'q, T> Parameter<'q> for T where
    T: Encode<'q, Postgres> + Type<Postgres> + Encode<'q, Sqlite> + Type<Sqlite>
{
}

/// A column value both databases give.
pub(super) trait Column:
    for<'r> Decode<'r, Postgres> + Type<Postgres> + for<'r> Decode<'r, Sqlite> + Type<Sqlite>
{
}
impl<T> Column for T where
    T: for<'r> Decode<'r, Postgres> + Type<Postgres> + for<'r> Decode<'r, Sqlite> + Type<Sqlite>
{
}

/// A statement on its way to a session, with the parameters bound so far.
pub(super) struct Query<'s> {
    session: &'s mut Session,
    statement: &'static Statement,
    arguments: Result<Arguments, BoxDynError>,
}

enum Arguments {
    Postgres(PgArguments),
    Sqlite(SqliteArguments),
}

impl Session {
    /// Starts a statement on this session.
    pub(super) fn query(&mut self, statement: &'static Statement) -> Query<'_> {
        let arguments = match self {
            Self::Postgres(_) => Arguments::Postgres(PgArguments::default()),
            Self::Sqlite(_) => Arguments::Sqlite(SqliteArguments::default()),
        };
        Query {
            session: self,
            statement,
            arguments: Ok(arguments),
        }
    }
}

impl Query<'_> {
    /// Binds the next parameter.
    pub(super) fn bind<'q, T: Parameter<'q>>(mut self, value: T) -> Self {
        self.arguments = self.arguments.and_then(|mut arguments| {
            match &mut arguments {
                Arguments::Postgres(list) => list.add(value)?,
                Arguments::Sqlite(list) => list.add(value)?,
            }
            Ok(arguments)
        });
        self
    }

    /// Binds the columns of many rows: `$k..$k+n` as arrays on PostgreSQL; on SQLite `$k` is a JSON
    /// array of rows and the other numbers are left unused, so that later parameters keep theirs.
    pub(super) fn bind_columns(mut self, columns: &[Values<'_>]) -> Self {
        self.arguments = self.arguments.and_then(|mut arguments| {
            match &mut arguments {
                Arguments::Postgres(list) => {
                    for column in columns {
                        match column {
                            Values::Int(values) => list.add(*values)?,
                            Values::Uuid(values) => list.add(*values)?,
                            Values::Bytes(values) => list.add(*values)?,
                            Values::Text(values) => list.add(*values)?,
                        }
                    }
                }
                Arguments::Sqlite(list) => {
                    list.add(rows_as_json(columns)?)?;
                    for _ in 1..columns.len() {
                        list.add(None::<i64>)?;
                    }
                }
            }
            Ok(arguments)
        });
        self
    }

    /// Runs the statement and says how many rows it changed.
    pub(super) async fn execute(self) -> Result<u64, StoreError> {
        let name = self.statement.name;
        let failed = |error| StoreError::new(name, error);
        match (
            self.session,
            self.arguments.map_err(|e| failed(sqlx::Error::Encode(e)))?,
        ) {
            (Session::Postgres(pg), Arguments::Postgres(list)) => {
                sqlx::query_with(self.statement.postgres, list)
                    .execute(pg.connection())
                    .await
                    .map(|done| done.rows_affected())
                    .map_err(failed)
            }
            (Session::Sqlite(lite), Arguments::Sqlite(list)) => {
                sqlx::query_with(self.statement.sqlite, list)
                    .execute(lite.connection())
                    .await
                    .map(|done| done.rows_affected())
                    .map_err(failed)
            }
            _ => Err(failed(sqlx::Error::Protocol(
                "parameters of another database".into(),
            ))),
        }
    }

    /// All rows.
    pub(super) async fn fetch_all(self) -> Result<Vec<Row>, StoreError> {
        let name = self.statement.name;
        let failed = |error| StoreError::new(name, error);
        match (
            self.session,
            self.arguments.map_err(|e| failed(sqlx::Error::Encode(e)))?,
        ) {
            (Session::Postgres(pg), Arguments::Postgres(list)) => {
                let rows = sqlx::query_with(self.statement.postgres, list)
                    .fetch_all(pg.connection())
                    .await
                    .map_err(failed)?;
                Ok(rows
                    .into_iter()
                    .map(|row| Row {
                        name,
                        row: AnyRow::Postgres(row),
                    })
                    .collect())
            }
            (Session::Sqlite(lite), Arguments::Sqlite(list)) => {
                let rows = sqlx::query_with(self.statement.sqlite, list)
                    .fetch_all(lite.connection())
                    .await
                    .map_err(failed)?;
                Ok(rows
                    .into_iter()
                    .map(|row| Row {
                        name,
                        row: AnyRow::Sqlite(row),
                    })
                    .collect())
            }
            _ => Err(failed(sqlx::Error::Protocol(
                "parameters of another database".into(),
            ))),
        }
    }

    /// The first row, if there is one.
    pub(super) async fn fetch_optional(self) -> Result<Option<Row>, StoreError> {
        Ok(self.fetch_all().await?.into_iter().next())
    }

    /// The one row the statement always gives.
    pub(super) async fn fetch_one(self) -> Result<Row, StoreError> {
        let name = self.statement.name;
        self.fetch_optional()
            .await?
            .ok_or_else(|| StoreError::new(name, sqlx::Error::RowNotFound))
    }
}

/// One row of either database.
pub(super) struct Row {
    name: &'static str,
    row: AnyRow,
}

enum AnyRow {
    Postgres(PgRow),
    Sqlite(SqliteRow),
}

impl Row {
    /// The value of a column.
    pub(super) fn get<T: Column>(&self, column: &str) -> Result<T, StoreError> {
        match &self.row {
            AnyRow::Postgres(row) => row.try_get(column),
            AnyRow::Sqlite(row) => row.try_get(column),
        }
        .map_err(|error| StoreError::new(self.name, error))
    }

    /// A column of many rows gathered into one value: an array on PostgreSQL, a JSON array on SQLite.
    pub(super) fn list<T>(&self, column: &str) -> Result<Vec<T>, StoreError>
    where
        T: serde::de::DeserializeOwned,
        Vec<T>: for<'r> Decode<'r, Postgres> + Type<Postgres>,
    {
        match &self.row {
            // No rows at all are no array.
            AnyRow::Postgres(row) => row
                .try_get::<Option<Vec<T>>, _>(column)
                .map(Option::unwrap_or_default)
                .map_err(|error| StoreError::new(self.name, error)),
            AnyRow::Sqlite(_) => self.json(column),
        }
    }

    /// The bytes of many rows joined into one value: bytes on PostgreSQL, hex on SQLite.
    pub(super) fn joined_bytes(&self, column: &str) -> Result<Vec<u8>, StoreError> {
        match &self.row {
            AnyRow::Postgres(row) => row
                .try_get::<Option<Vec<u8>>, _>(column)
                .map(Option::unwrap_or_default),
            AnyRow::Sqlite(row) => row.try_get::<Option<String>, _>(column).and_then(|text| {
                hex::decode(text.unwrap_or_default())
                    .map_err(|error| sqlx::Error::Decode(Box::new(error)))
            }),
        }
        .map_err(|error| StoreError::new(self.name, error))
    }

    /// The value of a JSON column.
    pub(super) fn json<T: serde::de::DeserializeOwned>(
        &self,
        column: &str,
    ) -> Result<T, StoreError> {
        let text: String = self.get(column)?;
        serde_json::from_str(&text)
            .map_err(|error| StoreError::new(self.name, sqlx::Error::Decode(Box::new(error))))
    }

    /// The value of a JSON column that may be empty.
    pub(super) fn json_or_none<T: serde::de::DeserializeOwned>(
        &self,
        column: &str,
    ) -> Result<Option<T>, StoreError> {
        let Some(text) = self.get::<Option<String>>(column)? else {
            return Ok(None);
        };
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|error| StoreError::new(self.name, sqlx::Error::Decode(Box::new(error))))
    }

    /// A moment kept as milliseconds since 1970.
    pub(super) fn time(&self, column: &str) -> Result<jiff::Timestamp, StoreError> {
        self.moment(self.get(column)?)
    }

    /// A moment that may be missing.
    pub(super) fn time_or_none(&self, column: &str) -> Result<Option<jiff::Timestamp>, StoreError> {
        self.get::<Option<i64>>(column)?
            .map(|ms| self.moment(ms))
            .transpose()
    }

    fn moment(&self, ms: i64) -> Result<jiff::Timestamp, StoreError> {
        jiff::Timestamp::from_millisecond(ms)
            .map_err(|error| StoreError::new(self.name, sqlx::Error::Decode(Box::new(error))))
    }

    /// A text column that names one value of a set.
    pub(super) fn named<T>(&self, column: &str) -> Result<T, StoreError>
    where
        T: std::str::FromStr,
        T::Err: std::error::Error + Send + Sync + 'static,
    {
        self.get::<String>(column)?
            .parse()
            .map_err(|error| StoreError::new(self.name, sqlx::Error::Decode(Box::new(error))))
    }

    /// A text column that names one value of a set, or nothing.
    pub(super) fn named_or_none<T>(&self, column: &str) -> Result<Option<T>, StoreError>
    where
        T: std::str::FromStr,
        T::Err: std::error::Error + Send + Sync + 'static,
    {
        let Some(text) = self.get::<Option<String>>(column)? else {
            return Ok(None);
        };
        text.parse().map(Some).map_err(|error: T::Err| {
            StoreError::new(self.name, sqlx::Error::Decode(Box::new(error)))
        })
    }
}

/// A value kept as JSON text.
pub(super) fn to_json<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value)
        .map_err(|error| StoreError::new("to_json", sqlx::Error::Encode(Box::new(error))))
}
