//! Subscribers and the search by cell.

use std::collections::HashMap;

use jiff::Timestamp;

use super::sql::{Numbers, Values, statements};
use super::{Session, StoreError, Tx};
use crate::model::{
    AppId, Candidate, CellRange, PersonNumber, RoundKind, SubscriberFlags,
};

// `OFFSET 0` keeps PostgreSQL to one look into the index for each range. It believes that hardly anybody is
// not deleted, and after many moves that the index costs much: then it would go through everybody once and
// compare them with every range.
statements! {
    SELECT_CANDIDATES {
        postgres: "SELECT string_agg(int8send(s.person) || int8send(s.muted_until)
                       || int8send((s.app_id::bigint << 32) | s.flags)
                       || int8send((s.seen_hour::bigint << 32) | length(s.token)) || s.token, '') AS people
                   FROM unnest($1::bigint[], $2::bigint[]) AS r(lo, hi) CROSS JOIN LATERAL (
                       SELECT * FROM subscribers
                       WHERE cell BETWEEN r.lo AND r.hi AND flags & 1 = 0 OFFSET 0) AS s"
        sqlite: "SELECT group_concat(printf('%016x%016x%016x%016x', s.person, s.muted_until,
                         (s.app_id << 32) | s.flags, (s.seen_hour << 32) | length(s.token))
                     || hex(s.token), '') AS people
                 FROM json_each($1) r CROSS JOIN subscribers s
                 WHERE s.cell BETWEEN r.value->>0 AND r.value->>1 AND s.flags & 1 = 0"
    }
    SELECT_VOLUNTEERS {
        postgres: "SELECT string_agg(int8send(s.person) || int8send(s.muted_until)
                       || int8send((s.app_id::bigint << 32) | s.flags)
                       || int8send((s.seen_hour::bigint << 32) | length(s.token)) || s.token, '') AS people
                   FROM unnest($1::bigint[], $2::bigint[]) AS r(lo, hi) CROSS JOIN LATERAL (
                       SELECT * FROM subscribers
                       WHERE cell BETWEEN r.lo AND r.hi AND flags & 17 = 16 OFFSET 0) AS s"
        sqlite: "SELECT group_concat(printf('%016x%016x%016x%016x', s.person, s.muted_until,
                         (s.app_id << 32) | s.flags, (s.seen_hour << 32) | length(s.token))
                     || hex(s.token), '') AS people
                 FROM json_each($1) r CROSS JOIN subscribers s
                 WHERE s.cell BETWEEN r.value->>0 AND r.value->>1 AND s.flags & 17 = 16"
    }
    COUNT_BY_CELL {
        postgres: "SELECT cell, count(*) AS people FROM (
                       SELECT s.cell FROM unnest($1::bigint[], $2::bigint[]) AS r(lo, hi)
                       CROSS JOIN LATERAL (
                           SELECT cell FROM subscribers
                           WHERE cell BETWEEN r.lo AND r.hi AND flags & 1 = 0 OFFSET 0) AS s
                       LIMIT $3) AS found
                   GROUP BY cell"
        sqlite: "SELECT cell, count(*) AS people FROM (
                     SELECT s.cell FROM json_each($1) r CROSS JOIN subscribers s
                     WHERE s.cell BETWEEN r.value->>0 AND r.value->>1 AND s.flags & 1 = 0
                     LIMIT $3) AS found
                 GROUP BY cell"
    }
    VOLUNTEERS_BY_CELL {
        postgres: "SELECT s.cell, count(*) AS people
                   FROM unnest($1::bigint[], $2::bigint[]) AS r(lo, hi) CROSS JOIN LATERAL (
                       SELECT cell FROM subscribers
                       WHERE cell BETWEEN r.lo AND r.hi AND flags & 17 = 16 OFFSET 0) AS s
                   GROUP BY s.cell"
        sqlite: "SELECT s.cell, count(*) AS people FROM json_each($1) r CROSS JOIN subscribers s
                 WHERE s.cell BETWEEN r.value->>0 AND r.value->>1 AND s.flags & 17 = 16
                 GROUP BY s.cell"
    }
    SELECT_SHARED {
        postgres: "SELECT app_id, token, person, seen_at FROM subscribers
                   WHERE person = ANY($1) AND flags & 3 = 2"
        sqlite: "SELECT app_id, token, person, seen_at FROM subscribers
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

/// Everybody registered in some ranges of cells, packed: a row for each of them would cost more than all
/// that is decided about them.
///
/// Of each four numbers of 64 bits (person; muted until; app and flags; hour seen and length of the token),
/// then the token.
#[derive(Default)]
pub struct Candidates(Vec<u8>);

impl Candidates {
    /// One after the other, in no order.
    pub fn iter(&self) -> impl Iterator<Item = Candidate<'_>> {
        let mut rest = self.0.as_slice();
        std::iter::from_fn(move || {
            let mut number = || {
                let (number, after) = rest.split_first_chunk()?;
                rest = after;
                Some(i64::from_be_bytes(*number))
            };
            let (person, muted_until_ms) = (number()?, number()?);
            let (app, flags) = halves(number()?);
            let (seen_hour, bytes) = halves(number()?);
            let (token, after) = rest.split_at_checked(usize::try_from(bytes).ok()?)?;
            rest = after;
            Some(Candidate {
                app: AppId(app),
                token,
                person: PersonNumber(person),
                flags: SubscriberFlags(flags),
                seen_hour,
                muted_until_ms,
                seen_at_ms: 0,
            })
        })
    }
}

/// The two numbers of 32 bits in one of 64, the upper one first.
#[expect(clippy::cast_possible_truncation, reason = "the shift and the cast take each half")]
const fn halves(number: i64) -> (i32, i32) {
    ((number >> 32) as i32, number as i32)
}

/// Everybody registered in these ranges of cells, or for a round of volunteers just those, from the
/// covering index alone.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn candidates(
    session: &mut Session,
    kind: RoundKind,
    ranges: &[CellRange],
) -> Result<Candidates, StoreError> {
    let (lo, hi) = ends(ranges);
    let row = session
        .query(match kind {
            RoundKind::Volunteers => &SELECT_VOLUNTEERS,
            RoundKind::Wave | RoundKind::Sweep => &SELECT_CANDIDATES,
        })
        .bind_columns(&[Values::Int(&lo), Values::Int(&hi)])
        .fetch_one()
        .await?;
    row.joined_bytes("people").map(Candidates)
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

/// How many volunteers are registered in each cell of these ranges.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn volunteers_by_cell(
    session: &mut Session,
    ranges: &[CellRange],
) -> Result<HashMap<i64, i64>, StoreError> {
    let (lo, hi) = ends(ranges);
    let rows = session
        .query(&VOLUNTEERS_BY_CELL)
        .bind_columns(&[Values::Int(&lo), Values::Int(&hi)])
        .fetch_all()
        .await?;
    rows.iter().map(|row| Ok((row.get("cell")?, row.get("people")?))).collect()
}

/// When a person whom several apps share was seen by one of them.
#[derive(Debug, Clone)]
pub struct SharedSeen {
    /// The person.
    pub person: PersonNumber,
    /// The app.
    pub app: AppId,
    /// The app's name for the device.
    pub token: Vec<u8>,
    /// When, in ms since 1970.
    pub seen_at_ms: i64,
}

/// Everywhere that these shared persons are registered.
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
