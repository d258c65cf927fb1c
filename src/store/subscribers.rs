//! Subscribers and the search by cell.

use std::collections::HashMap;

use jiff::Timestamp;

use super::sql::{Numbers, Values, statements};
use super::{Session, StoreError, Tx};
use crate::model::{
    AppId, Candidate, Cell, CellRange, PersonNumber, RoundKind, SubscriberFlags,
};

// `OFFSET 0` keeps PostgreSQL to one look into the index for each range. It believes that hardly anybody is
// not deleted, and after many moves that the index costs much: then it would go through everybody once and
// compare them with every range.
statements! {
    SELECT_KNOWN {
        postgres: "SELECT array_agg(t.place) AS places, array_agg(s.person) AS persons,
                       array_agg(s.seen_at) AS seen_at, array_agg(s.flags) AS flags,
                       array_agg(s.cell) AS cells, array_agg(s.muted_until) AS muted_until
                   FROM unnest($2::bytea[]) WITH ORDINALITY AS t(token, place)
                   JOIN subscribers s ON s.app_id = $1 AND s.token = t.token"
        sqlite: "SELECT json_group_array(t.key + 1) AS places, json_group_array(s.person) AS persons,
                     json_group_array(s.seen_at) AS seen_at, json_group_array(s.flags) AS flags,
                     json_group_array(s.cell) AS cells,
                     json_group_array(s.muted_until) AS muted_until
                 FROM json_each($2) t CROSS JOIN subscribers s
                 WHERE s.app_id = $1 AND s.token = unhex(t.value->>0)"
    }
    UPSERT {
        postgres: "INSERT INTO subscribers
                       (app_id, token, cell, person, seen_at, seen_hour, flags, muted_until)
                   SELECT $1, token, cell, person, seen_at, (seen_at / 3600000)::int, flags::int, muted_until
                   FROM unnest($2::bytea[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
                               $7::bigint[])
                        AS new(token, cell, person, seen_at, flags, muted_until)
                   ON CONFLICT (app_id, token) DO UPDATE SET cell = excluded.cell,
                       person = CASE WHEN subscribers.person <> 0
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
                     person = CASE WHEN subscribers.person <> 0
                         THEN subscribers.person ELSE excluded.person END,
                     seen_at = excluded.seen_at, seen_hour = excluded.seen_hour, flags = excluded.flags,
                     muted_until = excluded.muted_until
                 WHERE subscribers.seen_at <= excluded.seen_at"
    }
    SELECT_CANDIDATES {
        postgres: "SELECT array_agg(s.app_id) AS apps, array_agg(s.person) AS persons,
                       array_agg(s.flags) AS flags, array_agg(s.seen_hour) AS seen_hours,
                       array_agg(s.muted_until) AS muted_until,
                       array_agg(length(s.token)) AS token_bytes, string_agg(s.token, '') AS tokens
                   FROM unnest($1::bigint[], $2::bigint[]) AS r(lo, hi) CROSS JOIN LATERAL (
                       SELECT * FROM subscribers
                       WHERE cell BETWEEN r.lo AND r.hi AND flags & 1 = 0 OFFSET 0) AS s"
        sqlite: "SELECT json_group_array(s.app_id) AS apps, json_group_array(s.person) AS persons,
                     json_group_array(s.flags) AS flags, json_group_array(s.seen_hour) AS seen_hours,
                     json_group_array(s.muted_until) AS muted_until,
                     json_group_array(length(s.token)) AS token_bytes,
                     group_concat(hex(s.token), '') AS tokens
                 FROM json_each($1) r CROSS JOIN subscribers s
                 WHERE s.cell BETWEEN r.value->>0 AND r.value->>1 AND s.flags & 1 = 0"
    }
    SELECT_VOLUNTEERS {
        postgres: "SELECT array_agg(s.app_id) AS apps, array_agg(s.person) AS persons,
                       array_agg(s.flags) AS flags, array_agg(s.seen_hour) AS seen_hours,
                       array_agg(s.muted_until) AS muted_until,
                       array_agg(length(s.token)) AS token_bytes, string_agg(s.token, '') AS tokens
                   FROM unnest($1::bigint[], $2::bigint[]) AS r(lo, hi) CROSS JOIN LATERAL (
                       SELECT * FROM subscribers
                       WHERE cell BETWEEN r.lo AND r.hi AND flags & 17 = 16 OFFSET 0) AS s"
        sqlite: "SELECT json_group_array(s.app_id) AS apps, json_group_array(s.person) AS persons,
                     json_group_array(s.flags) AS flags, json_group_array(s.seen_hour) AS seen_hours,
                     json_group_array(s.muted_until) AS muted_until,
                     json_group_array(length(s.token)) AS token_bytes,
                     group_concat(hex(s.token), '') AS tokens
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
    /// When the app last wrote, in ms since 1970.
    pub seen_at_ms: i64,
    /// What they allow.
    pub flags: SubscriberFlags,
    /// Where the app last saw them, as a number; 0 after a deletion.
    pub cell: i64,
    /// When they may be disturbed again, in ms since 1970.
    pub muted_until_ms: i64,
}

/// What is known of these tokens of an app, in their order; deleted ones are known, too.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn known(
    session: &mut Session,
    app: AppId,
    tokens: &[Vec<u8>],
) -> Result<Vec<Option<Known>>, StoreError> {
    let row = session
        .query(&SELECT_KNOWN)
        .bind(app)
        .bind_columns(&[Values::Bytes(tokens)])
        .fetch_one()
        .await?;
    let (persons, seen_at) = (row.list("persons")?, row.list("seen_at")?);
    let (flags, cells) = (row.list("flags")?, row.list("cells")?);
    let muted_until = row.list("muted_until")?;
    let mut known = vec![None; tokens.len()];
    for (row, place) in row.list::<i64>("places")?.into_iter().enumerate() {
        let place = usize::try_from(place - 1).ok();
        if let Some(known) = place.and_then(|place| known.get_mut(place)) {
            *known = Some(Known {
                person: PersonNumber(persons[row]),
                seen_at_ms: seen_at[row],
                flags: SubscriberFlags(flags[row]),
                cell: cells[row],
                muted_until_ms: muted_until[row],
            });
        }
    }
    Ok(known)
}

/// Writes rows of an app in this order, each token once; an older row never overwrites a newer one (of
/// two of the same time the one that comes later counts). A token keeps the person number that it has;
/// see [`super::persons::follow_keys`]. Says how many rows changed.
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

/// Everybody registered in some ranges of cells, column by column: a row for each of them would cost
/// more than all that is decided about them.
#[derive(Default)]
pub struct Candidates {
    apps: Vec<i32>,
    persons: Vec<i64>,
    flags: Vec<i32>,
    seen_hours: Vec<i32>,
    muted_until_ms: Vec<i64>,
    token_bytes: Vec<i32>,
    tokens: Vec<u8>,
}

impl Candidates {
    /// One after the other, in no order.
    pub fn iter(&self) -> impl Iterator<Item = Candidate<'_>> {
        let mut rest = self.tokens.as_slice();
        (0..self.persons.len()).map_while(move |place| {
            let bytes = usize::try_from(self.token_bytes[place]).ok()?;
            let (token, after) = rest.split_at_checked(bytes)?;
            rest = after;
            Some(Candidate {
                app: AppId(self.apps[place]),
                token,
                person: PersonNumber(self.persons[place]),
                flags: SubscriberFlags(self.flags[place]),
                seen_hour: self.seen_hours[place],
                muted_until_ms: self.muted_until_ms[place],
                seen_at_ms: 0,
            })
        })
    }
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
    Ok(Candidates {
        apps: row.list("apps")?,
        persons: row.list("persons")?,
        flags: row.list("flags")?,
        seen_hours: row.list("seen_hours")?,
        muted_until_ms: row.list("muted_until")?,
        token_bytes: row.list("token_bytes")?,
        tokens: row.joined_bytes("tokens")?,
    })
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
