//! Receipts: what apps report back about their batches.

use jiff::Timestamp;

use super::sql::statements;
use super::{Session, StoreError, Tx};
use crate::model::{AlertId, AppId, BatchId, ReceiptKind};

statements! {
    PUT_RECEIPT {
        "INSERT INTO receipts (batch_id, kind, people, last_at)
         SELECT id, $3, CASE WHEN $4 > people THEN people ELSE $4 END, $5 FROM batches
         WHERE id = $2 AND app_id = $1
         ON CONFLICT (batch_id, kind) DO UPDATE SET
             people = CASE WHEN receipts.people > excluded.people
                      THEN receipts.people ELSE excluded.people END,
             last_at = excluded.last_at"
    }
    SELECT_SUMS {
        "SELECT receipts.kind, CAST(sum(receipts.people) AS BIGINT) AS people FROM receipts
         JOIN batches ON batches.id = receipts.batch_id
         WHERE batches.alert_id = $1 AND batches.kind = 'issue' GROUP BY receipts.kind ORDER BY 1"
    }
}

/// Keeps what an app reports of a batch: how many people so far (at most the batch's), so that a
/// repeated receipt changes nothing. `false` if the app has no such batch.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn put(
    tx: &mut Tx,
    app: AppId,
    batch: BatchId,
    kind: ReceiptKind,
    people: i64,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let written = tx
        .query(&PUT_RECEIPT)
        .bind(app)
        .bind(batch)
        .bind(kind.name())
        .bind(people)
        .bind(now.as_millisecond())
        .execute()
        .await?;
    Ok(written == 1)
}

/// What apps reported of an alert's issues, by kind.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn sums(
    session: &mut Session,
    alert: AlertId,
) -> Result<Vec<(ReceiptKind, i64)>, StoreError> {
    let rows = session.query(&SELECT_SUMS).bind(alert).fetch_all().await?;
    rows.iter()
        .map(|row| Ok((row.named("kind")?, row.get("people")?)))
        .collect()
}
