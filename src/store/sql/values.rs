//! Many values that go to the database as one parameter, or one for each column.

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::{Encode, Postgres, Sqlite, Type};

/// Columns of equal length that go to the database in one statement: arrays for `unnest` on
/// PostgreSQL, one JSON array of rows (bytes in hex) for `json_each` on SQLite.
pub(in crate::store) enum Values<'a> {
    Int(&'a [i64]),
    Bytes(&'a [Vec<u8>]),
    Text(&'a [String]),
    Uuid(&'a [uuid::Uuid]),
}

/// The rows of these columns as JSON.
pub(super) fn rows_as_json(columns: &[Values<'_>]) -> Result<String, BoxDynError> {
    use std::fmt::Write as _;
    let length = columns.first().map_or(0, |column| match column {
        Values::Int(values) => values.len(),
        Values::Uuid(values) => values.len(),
        Values::Bytes(values) => values.len(),
        Values::Text(values) => values.len(),
    });
    let mut json = String::with_capacity(length * columns.len() * 16);
    json.push('[');
    for row in 0..length {
        json.push_str(if row == 0 { "[" } else { ",[" });
        for (place, column) in columns.iter().enumerate() {
            if place > 0 {
                json.push(',');
            }
            match column {
                Values::Int(values) => write!(json, "{}", values[row])?,
                Values::Uuid(values) => write!(json, "\"{}\"", values[row].simple())?,
                Values::Bytes(values) => write!(json, "\"{}\"", hex::encode(&values[row]))?,
                Values::Text(values) => json.push_str(&serde_json::to_string(&values[row])?),
            }
        }
        json.push(']');
    }
    json.push(']');
    Ok(json)
}

/// A list of numbers as one parameter: BIGINT[] on PostgreSQL, JSON on SQLite.
pub(in crate::store) struct Numbers<'a>(pub &'a [i64]);

impl Type<Postgres> for Numbers<'_> {
    fn type_info() -> sqlx::postgres::PgTypeInfo {
        <[i64] as Type<Postgres>>::type_info()
    }
}

impl Encode<'_, Postgres> for Numbers<'_> {
    fn encode_by_ref(
        &self,
        buffer: &mut sqlx::postgres::PgArgumentBuffer,
    ) -> Result<IsNull, BoxDynError> {
        <&[i64] as Encode<'_, Postgres>>::encode(self.0, buffer)
    }
}

impl Type<Sqlite> for Numbers<'_> {
    fn type_info() -> sqlx::sqlite::SqliteTypeInfo {
        <String as Type<Sqlite>>::type_info()
    }
}

impl Encode<'_, Sqlite> for Numbers<'_> {
    fn encode_by_ref(
        &self,
        buffer: &mut sqlx::sqlite::SqliteArgumentsBuffer,
    ) -> Result<IsNull, BoxDynError> {
        <String as Encode<'_, Sqlite>>::encode(serde_json::to_string(self.0)?, buffer)
    }
}
