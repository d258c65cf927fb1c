//! Sightings.

use jiff::{SignedDuration, Timestamp};

use super::sql::{Row, statements, to_json};
use super::{Session, StoreError, Tx};
use crate::model::{CaseId, Sighting, SightingId};

statements! {
    INSERT_SIGHTING {
        "INSERT INTO sightings (id, case_id, reported_by, source, seen_at, received_at, credibility,
             state, report)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
    }
    SELECT_SIGHTING {
        "SELECT * FROM sightings WHERE id = $1"
    }
    LOCK_SIGHTING {
        postgres: "SELECT * FROM sightings WHERE id = $1 FOR UPDATE"
        sqlite: "SELECT * FROM sightings WHERE id = $1"
    }
    SELECT_OF_CASE {
        "SELECT * FROM sightings WHERE case_id = $1 AND (id > $2 OR $2 IS NULL) ORDER BY id LIMIT $3"
    }
    SELECT_ALL {
        "SELECT * FROM sightings WHERE case_id = $1 ORDER BY id"
    }
    COUNT_UNCHECKED {
        "SELECT count(*) AS unchecked, max(received_at) AS last_at FROM sightings
         WHERE case_id = $1 AND state = 'new' AND received_at > $2"
    }
    UPDATE_SIGHTING {
        "UPDATE sightings SET credibility = $2, state = $3 WHERE id = $1"
    }
    BELIEVE {
        "UPDATE sightings SET believed_since = $2 WHERE id = $1"
    }
    MOVE_BELIEVED {
        "UPDATE sightings SET believed_since = believed_since + $2 WHERE case_id = $1"
    }
}

/// Keeps a sighting.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn add(tx: &mut Tx, sighting: &Sighting) -> Result<(), StoreError> {
    tx.query(&INSERT_SIGHTING)
        .bind(sighting.id)
        .bind(sighting.case)
        .bind(sighting.reported_by.as_str())
        .bind(sighting.source.name())
        .bind(sighting.seen_at.as_millisecond())
        .bind(sighting.received_at.as_millisecond())
        .bind(sighting.credibility)
        .bind(sighting.state.name())
        .bind(sighting.report.as_ref().map(to_json).transpose()?)
        .execute()
        .await
        .map(drop)
}

/// One sighting.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn get(session: &mut Session, id: SightingId) -> Result<Option<Sighting>, StoreError> {
    let row = session.query(&SELECT_SIGHTING).bind(id).fetch_optional().await?;
    row.as_ref().map(to_sighting).transpose()
}

/// One sighting, which nobody else can change until this transaction ends.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn lock(tx: &mut Tx, id: SightingId) -> Result<Option<Sighting>, StoreError> {
    let row = tx.query(&LOCK_SIGHTING).bind(id).fetch_optional().await?;
    row.as_ref().map(to_sighting).transpose()
}

/// A page of a case's sightings after one of them, oldest first.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn page(
    session: &mut Session,
    case: CaseId,
    after: Option<SightingId>,
    limit: i64,
) -> Result<Vec<Sighting>, StoreError> {
    let rows =
        session.query(&SELECT_OF_CASE).bind(case).bind(after).bind(limit).fetch_all().await?;
    rows.iter().map(to_sighting).collect()
}

/// All sightings of a case, oldest first.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn of_case(session: &mut Session, case: CaseId) -> Result<Vec<Sighting>, StoreError> {
    session.query(&SELECT_ALL).bind(case).fetch_all().await?.iter().map(to_sighting).collect()
}

/// How many sightings of a case that came in after a moment nobody has decided about, and when the last
/// of them came in.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn unchecked(
    session: &mut Session,
    case: CaseId,
    after: Timestamp,
) -> Result<(i64, Option<Timestamp>), StoreError> {
    let row = session
        .query(&COUNT_UNCHECKED)
        .bind(case)
        .bind(after.as_millisecond())
        .fetch_one()
        .await?;
    Ok((row.get("unchecked")?, row.time_or_none("last_at")?))
}

/// Writes back credibility and state of a sighting that was locked.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn change(tx: &mut Tx, sighting: &Sighting) -> Result<(), StoreError> {
    tx.query(&UPDATE_SIGHTING)
        .bind(sighting.id)
        .bind(sighting.credibility)
        .bind(sighting.state.name())
        .execute()
        .await
        .map(drop)
}

/// Says since when plans believe a sighting, if they do.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn believe(
    tx: &mut Tx,
    id: SightingId,
    since: Option<Timestamp>,
) -> Result<(), StoreError> {
    tx.query(&BELIEVE)
        .bind(id)
        .bind(since.map(Timestamp::as_millisecond))
        .execute()
        .await
        .map(drop)
}

/// Moves the moments since when a case's sightings are believed, because it was paused that long.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn move_believed(
    tx: &mut Tx,
    case: CaseId,
    by: SignedDuration,
) -> Result<(), StoreError> {
    let by_ms = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
    tx.query(&MOVE_BELIEVED).bind(case).bind(by_ms).execute().await.map(drop)
}

fn to_sighting(row: &Row) -> Result<Sighting, StoreError> {
    Ok(Sighting {
        id: row.get("id")?,
        case: row.get("case_id")?,
        reported_by: row.get("reported_by")?,
        source: row.named("source")?,
        seen_at: row.time("seen_at")?,
        received_at: row.time("received_at")?,
        credibility: row.get("credibility")?,
        state: row.named("state")?,
        believed_since: row.time_or_none("believed_since")?,
        report: row.json_or_none("report")?,
    })
}
