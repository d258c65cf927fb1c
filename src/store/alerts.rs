//! Alerts and their revisions.

use jiff::{SignedDuration, Timestamp};

use super::sql::{Row, statements};
use super::{Session, StoreError, Tx};
use crate::model::{AlertId, AlertRecord, Case, CaseId, Kind, Urgency};

statements! {
    INSERT_ALERT {
        "INSERT INTO alerts (id, case_id, urgency, exercise, opened_at, revision, rounds, waves_from)
         VALUES ($1, $2, $3, $4, $5, 0, 0, $5)"
    }
    SELECT_ALERT {
        "SELECT * FROM alerts WHERE id = $1 AND case_id IS NOT NULL"
    }
    LOCK_ALERT {
        postgres: "SELECT * FROM alerts WHERE id = $1 AND case_id IS NOT NULL FOR UPDATE"
        sqlite: "SELECT * FROM alerts WHERE id = $1 AND case_id IS NOT NULL"
    }
    SELECT_NEWEST {
        "SELECT * FROM alerts WHERE case_id = $1 ORDER BY opened_at DESC, id DESC LIMIT 1"
    }
    SELECT_OF_CASE {
        "SELECT * FROM alerts WHERE case_id = $1 ORDER BY opened_at, id"
    }
    INSERT_REVISION {
        "INSERT INTO revisions (alert_id, revision, kind, content, made_at)
         VALUES ($1, $2, $3, $4, $5)"
    }
    COUNT_REVISION {
        "UPDATE alerts SET revision = $2 WHERE id = $1"
    }
    SELECT_CONTENT {
        "SELECT content FROM revisions WHERE alert_id = $1 AND revision = $2"
    }
    CLOSE_ALERT {
        "UPDATE alerts SET closed_at = $2, next_sweep_at = NULL WHERE id = $1 AND closed_at IS NULL"
    }
    SET_URGENCY {
        "UPDATE alerts SET urgency = $2 WHERE id = $1"
    }
    SWEEP_AT {
        "UPDATE alerts SET next_sweep_at = $2 WHERE id = $1"
    }
    MOVE_SWEEP {
        "UPDATE alerts SET next_sweep_at = next_sweep_at + $2, waves_from = waves_from + $2
         WHERE id = $1"
    }
    WAVES_FROM {
        "UPDATE alerts SET waves_from = $2 WHERE id = $1"
    }
    SELECT_DUE_SWEEPS {
        "SELECT alerts.id, alerts.case_id FROM alerts
         JOIN cases ON cases.id = alerts.case_id AND cases.state = 'active'
         WHERE alerts.closed_at IS NULL AND alerts.next_sweep_at <= $1
         ORDER BY alerts.next_sweep_at LIMIT 16"
    }
    COUNT_ISSUED {
        "SELECT CAST(coalesce(sum(people), 0) AS BIGINT) AS people FROM batches
         WHERE alert_id = $1 AND kind = 'issue'
           AND NOT (state IN ('withdrawn', 'expired') AND sending_at IS NULL)"
    }
}

/// Opens a new alert for a case.
///
/// # Errors
/// Constraint `alerts_case_id_unique` if one is open already; [`StoreError`] otherwise.
pub async fn open(tx: &mut Tx, case: &Case, now: Timestamp) -> Result<AlertId, StoreError> {
    let id = AlertId::fresh();
    tx.query(&INSERT_ALERT)
        .bind(id)
        .bind(case.id)
        .bind(case.urgency.name())
        .bind(case.exercise)
        .bind(now.as_millisecond())
        .execute()
        .await?;
    Ok(id)
}

/// Opens an alert that belongs to no case: a test of an app's way to its phones.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn open_test(tx: &mut Tx, now: Timestamp) -> Result<AlertId, StoreError> {
    let id = AlertId::fresh();
    tx.query(&INSERT_ALERT)
        .bind(id)
        .bind(None::<CaseId>)
        .bind(Urgency::Normal.name())
        .bind(true)
        .bind(now.as_millisecond())
        .execute()
        .await?;
    Ok(id)
}

/// One alert of a case.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn get(session: &mut Session, id: AlertId) -> Result<Option<AlertRecord>, StoreError> {
    session.query(&SELECT_ALERT).bind(id).fetch_optional().await?.as_ref().map(to_alert).transpose()
}

/// One alert of a case, which nobody else can change until this transaction ends.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn lock(tx: &mut Tx, id: AlertId) -> Result<Option<AlertRecord>, StoreError> {
    tx.query(&LOCK_ALERT).bind(id).fetch_optional().await?.as_ref().map(to_alert).transpose()
}

/// The newest alert of a case, open or not.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn newest(session: &mut Session, case: CaseId) -> Result<Option<AlertRecord>, StoreError> {
    let row = session.query(&SELECT_NEWEST).bind(case).fetch_optional().await?;
    row.as_ref().map(to_alert).transpose()
}

/// All alerts of a case, oldest first.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn of_case(session: &mut Session, case: CaseId) -> Result<Vec<AlertRecord>, StoreError> {
    session.query(&SELECT_OF_CASE).bind(case).fetch_all().await?.iter().map(to_alert).collect()
}

/// Adds a revision (protobuf of the alert as people read it), which becomes the newest.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn add_revision(
    tx: &mut Tx,
    alert: AlertId,
    revision: i64,
    kind: Kind,
    content: &[u8],
    now: Timestamp,
) -> Result<(), StoreError> {
    tx.query(&INSERT_REVISION)
        .bind(alert)
        .bind(revision)
        .bind(kind.name())
        .bind(content)
        .bind(now.as_millisecond())
        .execute()
        .await?;
    tx.query(&COUNT_REVISION).bind(alert).bind(revision).execute().await.map(drop)
}

/// The alert as people read it at a revision (protobuf).
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn content(
    session: &mut Session,
    alert: AlertId,
    revision: i64,
) -> Result<Option<Vec<u8>>, StoreError> {
    let row =
        session.query(&SELECT_CONTENT).bind(alert).bind(revision).fetch_optional().await?;
    row.map(|row| row.get("content")).transpose()
}

/// Closes an alert: nothing of it but its recall goes out from here on.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn close(tx: &mut Tx, id: AlertId, now: Timestamp) -> Result<(), StoreError> {
    tx.query(&CLOSE_ALERT).bind(id).bind(now.as_millisecond()).execute().await.map(drop)
}

/// Changes the urgency of what goes out from here on.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn set_urgency(tx: &mut Tx, id: AlertId, urgency: Urgency) -> Result<(), StoreError> {
    tx.query(&SET_URGENCY).bind(id).bind(urgency.name()).execute().await.map(drop)
}

/// Sets when the next sweep is due; none if `None`.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn sweep_at(
    tx: &mut Tx,
    id: AlertId,
    at: Option<Timestamp>,
) -> Result<(), StoreError> {
    tx.query(&SWEEP_AT).bind(id).bind(at.map(Timestamp::as_millisecond)).execute().await.map(drop)
}

/// Lets the delays of the waves begin anew.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn waves_from(tx: &mut Tx, id: AlertId, from: Timestamp) -> Result<(), StoreError> {
    tx.query(&WAVES_FROM).bind(id).bind(from.as_millisecond()).execute().await.map(drop)
}

/// Moves the next sweep and when the waves' delays began, because the case was paused that long.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn move_sweep(tx: &mut Tx, id: AlertId, by: SignedDuration) -> Result<(), StoreError> {
    let by_ms = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
    tx.query(&MOVE_SWEEP).bind(id).bind(by_ms).execute().await.map(drop)
}

/// The alerts whose sweep is due.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn due_sweeps(
    session: &mut Session,
    now: Timestamp,
) -> Result<Vec<(AlertId, CaseId)>, StoreError> {
    let rows = session.query(&SELECT_DUE_SWEEPS).bind(now.as_millisecond()).fetch_all().await?;
    rows.iter().map(|row| Ok((row.get("id")?, row.get("case_id")?))).collect()
}

/// How many people the alert has told or is about to tell (what was withdrawn in time left out).
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn issued(session: &mut Session, id: AlertId) -> Result<i64, StoreError> {
    session.query(&COUNT_ISSUED).bind(id).fetch_one().await?.get("people")
}

fn to_alert(row: &Row) -> Result<AlertRecord, StoreError> {
    Ok(AlertRecord {
        id: row.get("id")?,
        case: row.get("case_id")?,
        urgency: row.named("urgency")?,
        exercise: row.get("exercise")?,
        opened_at: row.time("opened_at")?,
        closed_at: row.time_or_none("closed_at")?,
        revision: row.get("revision")?,
        expires_at: row.time_or_none("expires_at")?,
        next_sweep_at: row.time_or_none("next_sweep_at")?,
        rounds: row.get("rounds")?,
        waves_from: row.time("waves_from")?,
    })
}
