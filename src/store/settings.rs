//! Settings of the database server that would make a big audience slow (`ops/bench/README.md` has the
//! figures).

use super::sql::statements;
use super::{Session, StoreError};

statements! {
    SELECT_SLOW {
        postgres: "SELECT name, found, wanted, CAST(size / 1048576 AS BIGINT) AS size_mib FROM (
                       SELECT pg_total_relation_size('subscribers') AS size) AS audience,
                   LATERAL (VALUES
                       ('autovacuum', current_setting('autovacuum'), 'on',
                        current_setting('autovacuum') = 'off'),
                       ('shared_buffers', current_setting('shared_buffers'), pg_size_pretty(size),
                        size > 134217728 AND pg_size_bytes(current_setting('shared_buffers')) < size),
                       ('max_wal_size', current_setting('max_wal_size'), '4GB',
                        size > 134217728 AND pg_size_bytes(current_setting('max_wal_size')) < 4294967296)
                   ) AS setting(name, found, wanted, slow)
                   WHERE slow"
        sqlite: "SELECT '' AS name, '' AS found, '' AS wanted, 0 AS size_mib WHERE false"
    }
}

/// A setting that would better be another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlowSetting {
    /// The server's name for it.
    pub name: String,
    /// What it is.
    pub found: String,
    /// What it should be, or at least be.
    pub wanted: String,
    /// The size of the subscribers with their indexes, in MiB.
    pub size_mib: i64,
}

/// The settings under which searches or uploads are slow, given how many subscribers there are.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn slow(session: &mut Session) -> Result<Vec<SlowSetting>, StoreError> {
    let rows = session.query(&SELECT_SLOW).fetch_all().await?;
    rows.iter()
        .map(|row| {
            Ok(SlowSetting {
                name: row.get("name")?,
                found: row.get("found")?,
                wanted: row.get("wanted")?,
                size_mib: row.get("size_mib")?,
            })
        })
        .collect()
}
