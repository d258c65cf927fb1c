//! Subscribers as apps write them: what is known of their tokens, and rows written.

use jiff::Timestamp;

use super::sql::{Values, statements};
use super::{Session, StoreError, Tx};
use crate::model::{AppId, Cell, PersonNumber, SubscriberFlags};

// `OFFSET 0` keeps PostgreSQL to one look into the index for each token, whatever it believes of a table
// that is being filled: it would go through everybody for each chunk of an upload.
statements! {
    SELECT_KNOWN {
        postgres: "SELECT array_agg(t.place) AS places, array_agg(s.person) AS persons,
                       array_agg(s.seen_at) AS seen_at, array_agg(s.flags) AS flags,
                       array_agg(s.cell) AS cells, array_agg(s.muted_until) AS muted_until
                   FROM unnest($2::bytea[]) WITH ORDINALITY AS t(token, place) CROSS JOIN LATERAL (
                       SELECT * FROM subscribers
                       WHERE app_id = $1 AND subscribers.token = t.token OFFSET 0) AS s"
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
                       seen_at = excluded.seen_at, seen_hour = excluded.seen_hour,
                       flags = excluded.flags | (excluded.flags & 1) * (subscribers.flags & 2),
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
                     seen_at = excluded.seen_at, seen_hour = excluded.seen_hour,
                     flags = excluded.flags | (excluded.flags & 1) * (subscribers.flags & 2),
                     muted_until = excluded.muted_until
                 WHERE subscribers.seen_at <= excluded.seen_at"
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
/// two of the same time the one that comes later counts). A token keeps the person number that it has
/// (see [`super::persons::follow_keys`]), and a deleted one still shows that it came with a person key.
/// Says how many rows changed.
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
