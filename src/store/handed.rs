//! The way of a batch out of its queue: taken by the app, put off, held back, a dead letter.

use jiff::Timestamp;
use uuid::Uuid;

use super::sending::share_cases;
use super::sql::{Values, statements};
use super::{Session, StoreError, Tx};
use crate::model::{AppId, BatchId, BatchState, Kind, Urgency};

statements! {
    MARK_TAKEN {
        postgres: "UPDATE batches SET state = 'taken', sent_at = coalesce(sent_at, $2), settled_at = $2
                   WHERE id = ANY($3) AND app_id = $1
                     AND (state IN ('sending', 'sent')
                        OR (state = 'pending' AND sending_at IS NOT NULL))"
        sqlite: "UPDATE batches SET state = 'taken', sent_at = coalesce(sent_at, $2), settled_at = $2
                 WHERE id IN (SELECT unhex(value->>0) FROM json_each($3)) AND app_id = $1
                   AND (state IN ('sending', 'sent') OR (state = 'pending' AND sending_at IS NOT NULL))"
    }
    MARK_DEAD {
        "UPDATE batches SET state = 'dead', reason = $3, settled_at = $2
         WHERE id = $1 AND state IN ('sending', 'sent')"
    }
    HOLD_BACK {
        "UPDATE batches SET state = 'expired', reason = 'held_back', settled_at = $3
         WHERE id = $2 AND app_id = $1 AND state IN ('sending', 'sent')"
    }
    REPLAY_DEAD {
        "UPDATE batches SET state = 'pending', reason = NULL, settled_at = NULL
         WHERE id = $1 AND state = 'dead' AND expires_at > $2
           AND (kind IN ('recall', 'test')
                OR EXISTS (SELECT 1 FROM alerts a WHERE a.id = alert_id AND a.closed_at IS NULL))"
    }
    IS_OPEN {
        "SELECT b.state, b.kind, b.expires_at, a.closed_at, a.urgency, c.time_zone FROM batches b
         LEFT JOIN alerts a ON a.id = b.alert_id LEFT JOIN cases c ON c.id = a.case_id
         WHERE b.id = $1 AND b.app_id = $2"
    }
    PUT_OFF {
        "UPDATE batches SET state = CASE WHEN EXISTS (
             SELECT 1 FROM alerts a WHERE a.id = alert_id AND a.closed_at IS NULL)
             THEN 'pending' ELSE 'expired' END
         WHERE id = $2 AND app_id = $1 AND state IN ('sending', 'sent')"
    }
}

/// Records that the app has batches.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn taken(
    tx: &mut Tx,
    app: AppId,
    ids: &[BatchId],
    now: Timestamp,
) -> Result<u64, StoreError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    tx.query(&MARK_TAKEN)
        .bind(app)
        .bind(now.as_millisecond())
        .bind_columns(&[Values::Uuid(&ids)])
        .execute()
        .await
}

/// Records that a batch was refused too often.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn dead(
    tx: &mut Tx,
    id: BatchId,
    reason: &str,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let changed = tx
        .query(&MARK_DEAD)
        .bind(id)
        .bind(now.as_millisecond())
        .bind(reason)
        .execute()
        .await?;
    Ok(changed == 1)
}

/// Settles a batch that a reader held back, because its alert was recalled or its time is over.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn hold_back(
    tx: &mut Tx,
    app: AppId,
    id: BatchId,
    now: Timestamp,
) -> Result<(), StoreError> {
    tx.query(&HOLD_BACK).bind(app).bind(id).bind(now.as_millisecond()).execute().await.map(drop)
}

/// Lets a dead letter go out again; `false` if it is not dead, has expired or is over.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn replay(tx: &mut Tx, id: BatchId, now: Timestamp) -> Result<bool, StoreError> {
    share_cases(tx, &[id.0]).await?;
    Ok(tx.query(&REPLAY_DEAD).bind(id).bind(now.as_millisecond()).execute().await? == 1)
}

/// What a reader does with a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandOn {
    /// Hands it on.
    Yes,
    /// Hands it on unless it is night in this time zone.
    ByDay(String),
    /// Holds it back: its alert was recalled, its time is over, or it is settled.
    No,
}

/// Whether a reader may hand a batch on.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn may_hand_on(
    session: &mut Session,
    app: AppId,
    id: BatchId,
    now: Timestamp,
) -> Result<HandOn, StoreError> {
    let row = session.query(&IS_OPEN).bind(id).bind(app).fetch_optional().await?;
    let Some(row) = row else { return Ok(HandOn::No) };
    let on_its_way = matches!(
        row.named::<BatchState>("state")?,
        BatchState::Pending | BatchState::Sending | BatchState::Sent
    );
    if !on_its_way || row.time("expires_at")? <= now {
        return Ok(HandOn::No);
    }
    if matches!(row.named::<Kind>("kind")?, Kind::Recall | Kind::Test) {
        return Ok(HandOn::Yes);
    }
    if row.time_or_none("closed_at")?.is_some() {
        return Ok(HandOn::No);
    }
    let zone: Option<String> = row.get("time_zone")?;
    match (row.named_or_none::<Urgency>("urgency")?, zone) {
        (Some(Urgency::Normal | Urgency::High), Some(zone)) => Ok(HandOn::ByDay(zone)),
        _ => Ok(HandOn::Yes),
    }
}

/// Lets a batch that is in a queue go out again later, because it is night: it waits in the database.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn put_off(tx: &mut Tx, app: AppId, id: BatchId) -> Result<(), StoreError> {
    share_cases(tx, &[id.0]).await?;
    tx.query(&PUT_OFF).bind(app).bind(id).execute().await.map(drop)
}
