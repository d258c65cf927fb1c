//! Subscribers, person numbers and the search by cell.

use std::collections::HashMap;

use jiff::Timestamp;

use super::sql::{Numbers, Values, statements};
use super::{Session, StoreError, Tx};
use crate::model::{AppId, Candidate, Cell, CellRange, PersonNumber, SubscriberFlags};

statements! {
    SELECT_KNOWN {
        postgres: "SELECT s.token, s.person, s.seen_at, s.flags, s.cell, s.muted_until
                   FROM subscribers s
                   WHERE s.app_id = $1 AND s.token = ANY($2)"
        sqlite: "SELECT s.token, s.person, s.seen_at, s.flags, s.cell, s.muted_until
                 FROM json_each($2) t CROSS JOIN subscribers s
                 WHERE s.app_id = $1 AND s.token = unhex(t.value->>0)"
    }
    TAKE_NUMBERS {
        "UPDATE person_regions SET used = used + $2 WHERE region = $1 AND used + $2 <= 65536
         RETURNING block, used"
    }
    OPEN_BLOCK {
        "INSERT INTO person_blocks (region) VALUES ($1) RETURNING block"
    }
    USE_BLOCK {
        "INSERT INTO person_regions (region, block, used) VALUES ($1, $2, $3)
         ON CONFLICT (region) DO UPDATE SET block = excluded.block, used = excluded.used"
    }
    INSERT_PERSONS {
        postgres: "INSERT INTO persons (key, number) SELECT * FROM unnest($1::bytea[], $2::bigint[])
                   ON CONFLICT DO NOTHING"
        sqlite: "INSERT INTO persons (key, number)
                 SELECT unhex(value->>0), value->>1 FROM json_each($1) WHERE true
                 ON CONFLICT DO NOTHING"
    }
    SELECT_PERSONS {
        postgres: "SELECT key, number FROM persons WHERE key = ANY($1)"
        sqlite: "SELECT persons.key, persons.number FROM json_each($1) k CROSS JOIN persons
                 WHERE persons.key = unhex(k.value->>0)"
    }
    UPSERT {
        postgres: "INSERT INTO subscribers
                       (app_id, token, cell, person, seen_at, seen_hour, flags, muted_until)
                   SELECT $1, token, cell, person, seen_at, (seen_at / 3600000)::int, flags::int, muted_until
                   FROM unnest($2::bytea[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
                               $7::bigint[])
                        AS new(token, cell, person, seen_at, flags, muted_until)
                   ON CONFLICT (app_id, token) DO UPDATE SET cell = excluded.cell,
                       person = CASE WHEN subscribers.person <> 0 AND excluded.flags & 2 = 0
                           THEN subscribers.person ELSE excluded.person END,
                       seen_at = excluded.seen_at, seen_hour = excluded.seen_hour, flags = excluded.flags,
                       muted_until = excluded.muted_until
                   WHERE subscribers.seen_at <= excluded.seen_at"
        sqlite: "INSERT INTO subscribers
                     (app_id, token, cell, person, seen_at, seen_hour, flags, muted_until)
                 SELECT $1, unhex(value->>0), value->>1, value->>2, value->>3,
                        (value->>3) / 3600000, value->>4, value->>5
                 FROM json_each($2) WHERE true
                 ON CONFLICT (app_id, token) DO UPDATE SET cell = excluded.cell,
                     person = CASE WHEN subscribers.person <> 0 AND excluded.flags & 2 = 0
                         THEN subscribers.person ELSE excluded.person END,
                     seen_at = excluded.seen_at, seen_hour = excluded.seen_hour, flags = excluded.flags,
                     muted_until = excluded.muted_until
                 WHERE subscribers.seen_at <= excluded.seen_at"
    }
    SELECT_CANDIDATES {
        postgres: "SELECT s.app_id, s.token, s.person, s.flags, s.seen_hour, s.muted_until
                   FROM unnest($1::bigint[], $2::bigint[]) AS r(lo, hi)
                   JOIN subscribers s ON s.cell BETWEEN r.lo AND r.hi AND s.flags & 1 = 0"
        sqlite: "SELECT s.app_id, s.token, s.person, s.flags, s.seen_hour, s.muted_until
                 FROM json_each($1) r CROSS JOIN subscribers s
                 WHERE s.cell BETWEEN r.value->>0 AND r.value->>1 AND s.flags & 1 = 0"
    }
    COUNT_BY_CELL {
        postgres: "SELECT cell, count(*) AS people FROM (
                       SELECT s.cell FROM unnest($1::bigint[], $2::bigint[]) AS r(lo, hi)
                       JOIN subscribers s ON s.cell BETWEEN r.lo AND r.hi AND s.flags & 1 = 0
                       LIMIT $3) AS found
                   GROUP BY cell"
        sqlite: "SELECT cell, count(*) AS people FROM (
                     SELECT s.cell FROM json_each($1) r CROSS JOIN subscribers s
                     WHERE s.cell BETWEEN r.value->>0 AND r.value->>1 AND s.flags & 1 = 0
                     LIMIT $3) AS found
                 GROUP BY cell"
    }
    SELECT_SHARED {
        postgres: "SELECT app_id, token, person, cell, seen_at FROM subscribers
                   WHERE person = ANY($1) AND flags & 3 = 2"
        sqlite: "SELECT app_id, token, person, cell, seen_at FROM subscribers
                 WHERE person IN (SELECT value FROM json_each($1)) AND flags & 3 = 2"
    }
    COUNT_OF_APP {
        "SELECT count(*) AS registered,
                count(CASE WHEN seen_hour >= $2 THEN 1 END) AS fresh
         FROM subscribers WHERE app_id = $1 AND flags & 1 = 0"
    }
    DELETE_TOKENS {
        postgres: "UPDATE subscribers SET flags = flags | 1, seen_at = $2, cell = 0
                   WHERE app_id = $1 AND token = ANY($3) AND seen_at < $2"
        sqlite: "UPDATE subscribers SET flags = flags | 1, seen_at = $2, cell = 0
                 WHERE app_id = $1 AND seen_at < $2
                   AND token IN (SELECT unhex(value->>0) FROM json_each($3))"
    }
    PURGE_DELETED {
        "DELETE FROM subscribers WHERE flags & 1 = 1 AND seen_at < $1"
    }
}

/// A subscriber's row as an app wrote it, with its person number.
#[derive(Debug, Clone)]
pub struct SubscriberRow {
    /// The app's name for the device.
    pub token: Vec<u8>,
    /// Where the app last saw them; `None` for a deletion.
    pub cell: Option<Cell>,
    /// The number of the person; 0 for the deletion of a token never seen.
    pub person: PersonNumber,
    /// When the app wrote this.
    pub seen_at: Timestamp,
    /// What they allow.
    pub flags: SubscriberFlags,
    /// When they may be disturbed again, in ms since 1970; 0 if at any time.
    pub muted_until_ms: i64,
}

/// What is known of a token.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// The number of the person.
    pub person: PersonNumber,
    /// When the app last wrote.
    pub seen_at: Timestamp,
    /// What they allow.
    pub flags: SubscriberFlags,
    /// Where the app last saw them, as a number; 0 after a deletion.
    pub cell: i64,
    /// When they may be disturbed again, in ms since 1970.
    pub muted_until_ms: i64,
}

/// What is known of these tokens of an app, deleted ones too.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn known(
    session: &mut Session,
    app: AppId,
    tokens: &[Vec<u8>],
) -> Result<HashMap<Vec<u8>, Known>, StoreError> {
    let rows = session
        .query(&SELECT_KNOWN)
        .bind(app)
        .bind_columns(&[Values::Bytes(tokens)])
        .fetch_all()
        .await?;
    rows.iter()
        .map(|row| {
            let known = Known {
                person: row.get("person")?,
                seen_at: row.time("seen_at")?,
                flags: SubscriberFlags(row.get("flags")?),
                cell: row.get("cell")?,
                muted_until_ms: row.get("muted_until")?,
            };
            Ok((row.get("token")?, known))
        })
        .collect()
}

/// Gives out `count` (at most 65,536) person numbers of a region that nobody has. Regions must be
/// asked in ascending order within a transaction, so that two never wait for each other.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn give_out_numbers(
    tx: &mut Tx,
    region: Cell,
    count: u16,
) -> Result<impl Iterator<Item = PersonNumber> + use<>, StoreError> {
    let count = i64::from(count);
    let taken =
        tx.query(&TAKE_NUMBERS).bind(region.to_i64()).bind(count).fetch_optional().await?;
    let (block, used): (i64, i64) = if let Some(row) = taken {
        (row.get("block")?, row.get("used")?)
    } else {
        let block: i64 =
            tx.query(&OPEN_BLOCK).bind(region.to_i64()).fetch_one().await?.get("block")?;
        tx.query(&USE_BLOCK).bind(region.to_i64()).bind(block).bind(count).execute().await?;
        (block, count)
    };
    Ok((used - count..used).map(move |place| PersonNumber((block << 16) | place)))
}

/// The numbers of persons by key; those not known yet get the number offered with them.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn numbers_by_key(
    tx: &mut Tx,
    keys: &[Vec<u8>],
    offered: &[PersonNumber],
) -> Result<HashMap<Vec<u8>, PersonNumber>, StoreError> {
    let numbers: Vec<i64> = offered.iter().map(|number| number.0).collect();
    tx.query(&INSERT_PERSONS)
        .bind_columns(&[Values::Bytes(keys), Values::Int(&numbers)])
        .execute()
        .await?;
    known_keys(tx, keys).await
}

/// The numbers of those persons whose key is known.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn known_keys(
    session: &mut Session,
    keys: &[Vec<u8>],
) -> Result<HashMap<Vec<u8>, PersonNumber>, StoreError> {
    let rows =
        session.query(&SELECT_PERSONS).bind_columns(&[Values::Bytes(keys)]).fetch_all().await?;
    rows.iter().map(|row| Ok((row.get("key")?, row.get("number")?))).collect()
}

/// Writes rows of an app, each token once and in order of token; an older row never overwrites a
/// newer one (of two of the same time the one that comes later counts), and a token keeps its person number unless a person key says otherwise. Says how many
/// rows changed.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn write(tx: &mut Tx, app: AppId, rows: &[SubscriberRow]) -> Result<u64, StoreError> {
    let tokens: Vec<Vec<u8>> = rows.iter().map(|row| row.token.clone()).collect();
    let cells: Vec<i64> = rows.iter().map(|row| row.cell.map_or(0, Cell::to_i64)).collect();
    let persons: Vec<i64> = rows.iter().map(|row| row.person.0).collect();
    let seen: Vec<i64> = rows.iter().map(|row| row.seen_at.as_millisecond()).collect();
    let flags: Vec<i64> = rows.iter().map(|row| i64::from(row.flags.0)).collect();
    let muted: Vec<i64> = rows.iter().map(|row| row.muted_until_ms).collect();
    tx.query(&UPSERT)
        .bind(app)
        .bind_columns(&[
            Values::Bytes(&tokens),
            Values::Int(&cells),
            Values::Int(&persons),
            Values::Int(&seen),
            Values::Int(&flags),
            Values::Int(&muted),
        ])
        .execute()
        .await
}

/// Everybody registered in these ranges of cells, from the covering index alone.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn candidates(
    session: &mut Session,
    ranges: &[CellRange],
) -> Result<Vec<Candidate>, StoreError> {
    let (lo, hi) = ends(ranges);
    let rows = session
        .query(&SELECT_CANDIDATES)
        .bind_columns(&[Values::Int(&lo), Values::Int(&hi)])
        .fetch_all()
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Candidate {
                app: row.get("app_id")?,
                token: row.get("token")?,
                person: row.get("person")?,
                flags: SubscriberFlags(row.get("flags")?),
                seen_hour: row.get("seen_hour")?,
                muted_until_ms: row.get("muted_until")?,
                seen_at_ms: 0,
            })
        })
        .collect()
}

/// How many are registered in each cell of these ranges; counting stops at `limit` in all.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn count_by_cell(
    session: &mut Session,
    ranges: &[CellRange],
    limit: i64,
) -> Result<HashMap<i64, i64>, StoreError> {
    let (lo, hi) = ends(ranges);
    let rows = session
        .query(&COUNT_BY_CELL)
        .bind_columns(&[Values::Int(&lo), Values::Int(&hi)])
        .bind(limit)
        .fetch_all()
        .await?;
    rows.iter().map(|row| Ok((row.get("cell")?, row.get("people")?))).collect()
}

/// Where a person whom several apps share was seen by one of them.
#[derive(Debug, Clone)]
pub struct SharedSeen {
    /// The person.
    pub person: PersonNumber,
    /// The app.
    pub app: AppId,
    /// The app's name for the device.
    pub token: Vec<u8>,
    /// Where, as a subscriber cell's number.
    pub cell: i64,
    /// When, in ms since 1970.
    pub seen_at_ms: i64,
}

/// All places where these shared persons are registered.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn shared(
    session: &mut Session,
    persons: &[PersonNumber],
) -> Result<Vec<SharedSeen>, StoreError> {
    let numbers: Vec<i64> = persons.iter().map(|person| person.0).collect();
    let rows = session.query(&SELECT_SHARED).bind(Numbers(&numbers)).fetch_all().await?;
    rows.iter()
        .map(|row| {
            Ok(SharedSeen {
                person: row.get("person")?,
                app: row.get("app_id")?,
                token: row.get("token")?,
                cell: row.get("cell")?,
                seen_at_ms: row.get("seen_at")?,
            })
        })
        .collect()
}

/// How many an app has registered, and how many of them were seen in or after an hour.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn count_of_app(
    session: &mut Session,
    app: AppId,
    fresh_from_hour: i32,
) -> Result<(i64, i64), StoreError> {
    let row = session.query(&COUNT_OF_APP).bind(app).bind(fresh_from_hour).fetch_one().await?;
    Ok((row.get("registered")?, row.get("fresh")?))
}

/// Deletes tokens that the app says are gone. The rows remember the person number for a while, so
/// that registering again does not reset cap or told-list.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn delete(
    tx: &mut Tx,
    app: AppId,
    tokens: &[Vec<u8>],
    now: Timestamp,
) -> Result<u64, StoreError> {
    tx.query(&DELETE_TOKENS)
        .bind(app)
        .bind(now.as_millisecond())
        .bind_columns(&[Values::Bytes(tokens)])
        .execute()
        .await
}

/// Forgets rows deleted before a moment.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn purge_deleted(tx: &mut Tx, before: Timestamp) -> Result<u64, StoreError> {
    tx.query(&PURGE_DELETED).bind(before.as_millisecond()).execute().await
}

fn ends(ranges: &[CellRange]) -> (Vec<i64>, Vec<i64>) {
    ranges.iter().map(|range| (range.lo, range.hi)).unzip()
}
