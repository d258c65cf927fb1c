//! The way of a batch through its lane: claimed, handed to a queue, given back, taken up again.
//!
//! `pending -> sending -> sent -> taken | dead | expired`. A batch whose lane or queue was lost goes
//! back to `pending` with `sending_at` kept: it may have gone out, so it is never taken for unsent,
//! and it goes out again under the same id after the same checks.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::batches::to_batch;
use super::sql::{Values, statements};
use super::{Session, StoreError, Tx, lanes};
use crate::model::{AlertId, AppId, Batch, BatchId, BatchState, Kind, Urgency};

statements! {
    NEXT {
        postgres: "SELECT b.id, b.people FROM batches b
         LEFT JOIN alerts a ON a.id = b.alert_id
         LEFT JOIN cases c ON c.id = a.case_id
         LEFT JOIN batches s ON s.id = b.source_id
         WHERE b.app_id = $1 AND b.waiting AND b.expires_at > $2 AND b.urgency <= $3
           AND (b.kind IN ('recall', 'test') OR (a.closed_at IS NULL AND c.state = 'active'
                AND (a.urgency = 'critical' OR c.time_zone <> ALL ($5))))
           AND (s.id IS NULL OR (s.sending_at IS NOT NULL AND s.state NOT IN ('pending', 'sending')))
         ORDER BY b.urgency DESC, b.wave, b.probability DESC, b.id LIMIT $4"
        sqlite: "SELECT b.id, b.people FROM batches b
         LEFT JOIN alerts a ON a.id = b.alert_id
         LEFT JOIN cases c ON c.id = a.case_id
         LEFT JOIN batches s ON s.id = b.source_id
         WHERE b.app_id = $1 AND b.waiting AND b.expires_at > $2 AND b.urgency <= $3
           AND (b.kind IN ('recall', 'test') OR (a.closed_at IS NULL AND c.state = 'active'
                AND (a.urgency = 'critical' OR c.time_zone NOT IN (SELECT value->>0 FROM json_each($5)))))
           AND (s.id IS NULL OR (s.sending_at IS NOT NULL AND s.state NOT IN ('pending', 'sending')))
         ORDER BY b.urgency DESC, b.wave, b.probability DESC, b.id LIMIT $4"
    }
    SHARE_CASES {
        postgres: "SELECT pg_advisory_xact_lock_shared(hashtextextended(id::text, 0)) FROM (
                       SELECT DISTINCT a.case_id AS id FROM alerts a
                       JOIN batches b ON b.alert_id = a.id
                       WHERE b.id = ANY($1) AND a.case_id IS NOT NULL ORDER BY 1) AS ordered"
        sqlite: "SELECT value AS id FROM json_each($1)"
    }
    SHARE_CASES_OF_APP {
        postgres: "SELECT pg_advisory_xact_lock_shared(hashtextextended(id::text, 0)) FROM (
                       SELECT DISTINCT a.case_id AS id FROM alerts a
                       JOIN batches b ON b.alert_id = a.id
                       WHERE b.app_id = $1 AND b.live AND b.state IN ('sending', 'sent')
                         AND a.case_id IS NOT NULL ORDER BY 1) AS ordered"
        sqlite: "SELECT $1 AS id"
    }
    KEEP_LANE {
        postgres: "SELECT fence FROM lanes WHERE app_id = $1 FOR SHARE"
        sqlite: "SELECT fence FROM lanes WHERE app_id = $1"
    }
    ACTIVE_ZONES {
        "SELECT DISTINCT time_zone FROM cases WHERE state = 'active'"
    }
    CLAIM_BATCHES {
        postgres: "UPDATE batches SET state = 'sending', fence = $3,
                       sending_at = coalesce(sending_at, $4)
                   WHERE id = ANY($5) AND app_id = $1 AND state = 'pending' AND expires_at > $4
                     AND EXISTS (SELECT 1 FROM lanes l WHERE l.app_id = $1 AND l.owner = $2
                                 AND l.fence = $3 AND l.lease_until > $4)
                     AND NOT EXISTS (SELECT 1 FROM switches WHERE name = 'lanes_held' AND is_on)
                     AND (kind = 'test' OR EXISTS (
                         SELECT 1 FROM alerts a JOIN cases c ON c.id = a.case_id
                         WHERE a.id = batches.alert_id AND (batches.kind = 'recall'
                             OR (a.closed_at IS NULL AND c.state = 'active'
                                 AND (a.urgency = 'critical' OR c.time_zone <> ALL ($6))))))
                     AND NOT EXISTS (SELECT 1 FROM batches s WHERE s.id = batches.source_id
                         AND (s.sending_at IS NULL OR s.state IN ('pending', 'sending')))
                   RETURNING id, app_id, alert_id, revision, kind, people, recipients, expires_at, sending_at, made_at, round"
        sqlite: "UPDATE batches SET state = 'sending', fence = $3,
                     sending_at = coalesce(sending_at, $4)
                 WHERE id IN (SELECT unhex(value->>0) FROM json_each($5)) AND app_id = $1
                   AND state = 'pending' AND expires_at > $4
                   AND EXISTS (SELECT 1 FROM lanes l WHERE l.app_id = $1 AND l.owner = $2
                               AND l.fence = $3 AND l.lease_until > $4)
                   AND NOT EXISTS (SELECT 1 FROM switches WHERE name = 'lanes_held' AND is_on)
                   AND (kind = 'test' OR EXISTS (
                       SELECT 1 FROM alerts a JOIN cases c ON c.id = a.case_id
                       WHERE a.id = batches.alert_id AND (batches.kind = 'recall'
                           OR (a.closed_at IS NULL AND c.state = 'active'
                               AND (a.urgency = 'critical' OR c.time_zone NOT IN
                                   (SELECT value->>0 FROM json_each($6)))))))
                   AND NOT EXISTS (SELECT 1 FROM batches s WHERE s.id = batches.source_id
                       AND (s.sending_at IS NULL OR s.state IN ('pending', 'sending')))
                 RETURNING id, app_id, alert_id, revision, kind, people, recipients, expires_at, sending_at, made_at, round"
    }
    GIVE_BACK {
        postgres: "UPDATE batches SET
                       state = CASE WHEN kind IN ('recall', 'test') OR EXISTS (
                           SELECT 1 FROM alerts a WHERE a.id = alert_id AND a.closed_at IS NULL
                               AND (NOT $3 OR a.revision = batches.revision))
                           THEN 'pending' ELSE 'withdrawn' END,
                       sending_at = CASE WHEN $3 THEN NULL ELSE sending_at END
                   WHERE id = ANY($4) AND app_id = $1 AND fence = $2 AND state = 'sending'
                   RETURNING id, alert_id, kind, state, recipients"
        sqlite: "UPDATE batches SET
                     state = CASE WHEN kind IN ('recall', 'test') OR EXISTS (
                         SELECT 1 FROM alerts a WHERE a.id = alert_id AND a.closed_at IS NULL
                             AND (NOT $3 OR a.revision = batches.revision))
                         THEN 'pending' ELSE 'withdrawn' END,
                     sending_at = CASE WHEN $3 THEN NULL ELSE sending_at END
                 WHERE id IN (SELECT unhex(value->>0) FROM json_each($4)) AND app_id = $1
                   AND fence = $2 AND state = 'sending'
                 RETURNING id, alert_id, kind, state, recipients"
    }
    WITHDRAW_COPIES {
        postgres: "UPDATE batches SET state = 'withdrawn', reason = 'never_sent'
                   WHERE source_id = ANY($1) AND state = 'pending'"
        sqlite: "UPDATE batches SET state = 'withdrawn', reason = 'never_sent'
                 WHERE source_id IN (SELECT unhex(value->>0) FROM json_each($1))
                   AND state = 'pending'"
    }
    MARK_SENT {
        postgres: "UPDATE batches SET state = 'sent', sent_at = $3
                   WHERE id = ANY($4) AND app_id = $1 AND fence = $2 AND state = 'sending'"
        sqlite: "UPDATE batches SET state = 'sent', sent_at = $3
                 WHERE id IN (SELECT unhex(value->>0) FROM json_each($4)) AND app_id = $1
                   AND fence = $2 AND state = 'sending'"
    }
    REQUEUE_LOST {
        "UPDATE batches SET state = 'pending'
         WHERE app_id = $1 AND live AND state IN ('sending', 'sent') AND expires_at > $2
           AND (state = 'sending' OR $3)
           AND (kind IN ('recall', 'test')
                OR EXISTS (SELECT 1 FROM alerts a WHERE a.id = alert_id AND a.closed_at IS NULL))"
    }
    SETTLE_LOST_OF_CLOSED {
        "UPDATE batches SET state = 'expired', reason = 'recalled', settled_at = $2
         WHERE app_id = $1 AND kind IN ('issue', 'update') AND live AND state IN ('sending', 'sent')
           AND (state = 'sending' OR $3)
           AND EXISTS (SELECT 1 FROM alerts a WHERE a.id = alert_id AND a.closed_at IS NOT NULL)"
    }
}

/// The time zones of all active cases.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn active_zones(session: &mut Session) -> Result<Vec<String>, StoreError> {
    let rows = session.query(&ACTIVE_ZONES).fetch_all().await?;
    rows.iter().map(|row| row.get("time_zone")).collect()
}

/// The batches an app's lane should send next, best first, of an urgency of at most this rank: id and people.
/// Left out is what would disturb people in time zones where it is night (`quiet`), unless it is critical.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn next(
    session: &mut Session,
    app: AppId,
    now: Timestamp,
    most_urgent: Urgency,
    limit: u32,
    quiet: &[String],
) -> Result<Vec<(BatchId, i64)>, StoreError> {
    let rows = session
        .query(&NEXT)
        .bind(app)
        .bind(now.as_millisecond())
        .bind(most_urgent.rank())
        .bind(i64::from(limit))
        .bind_columns(&[Values::Text(quiet)])
        .fetch_all()
        .await?;
    rows.iter().map(|row| Ok((row.get("id")?, row.get("people")?))).collect()
}

/// A batch that a lane claimed.
#[derive(Debug)]
pub struct Claimed {
    /// The batch.
    pub batch: Batch,
    /// Whether it was never handed to a queue before.
    pub first: bool,
    /// How long it is still worth delivering.
    pub life: Duration,
    /// When fan-out made it.
    pub made_at: Timestamp,
}

/// Claims batches for sending, best first. Left out is what was claimed or withdrawn meanwhile, what
/// belongs to a case that is no longer active, and everything if the lane is no longer this owner's
/// or lanes are held.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn claim(
    tx: &mut Tx,
    (app, owner, fence): (AppId, Uuid, i64),
    ids: &[BatchId],
    quiet: &[String],
    now: Timestamp,
) -> Result<Vec<Claimed>, StoreError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    share_cases(tx, &ids).await?;
    tx.query(&KEEP_LANE).bind(app).execute().await?;
    let rows = tx
        .query(&CLAIM_BATCHES)
        .bind(app)
        .bind(owner)
        .bind(fence)
        .bind(now.as_millisecond())
        .bind_columns(&[Values::Uuid(&ids)])
        .bind_columns(&[Values::Text(quiet)])
        .fetch_all()
        .await?;
    let mut claimed = rows
        .iter()
        .map(|row| {
            let first = row.time("sending_at")?.as_millisecond() == now.as_millisecond();
            let life = row.time("expires_at")?.duration_since(now);
            Ok(Claimed {
                batch: to_batch(row)?,
                first,
                life: life.try_into().unwrap_or(Duration::ZERO),
                made_at: row.time("made_at")?,
            })
        })
        .collect::<Result<Vec<_>, StoreError>>()?;
    claimed.sort_by_cached_key(|claimed| ids.iter().position(|id| *id == claimed.batch.id.0));
    Ok(claimed)
}

/// Whoever closes or pauses the cases of these batches waits for this transaction, or it sees what
/// they did.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn share_cases(tx: &mut Tx, ids: &[Uuid]) -> Result<(), StoreError> {
    if ids.is_empty() {
        return Ok(());
    }
    tx.query(&SHARE_CASES).bind_columns(&[Values::Uuid(ids)]).execute().await.map(drop)
}

/// Gives back claimed batches that the queue surely did not take. Those never handed to a queue
/// before (`first`) count as unsent again. If their alert was closed or renewed meanwhile they are
/// withdrawn, with what was to follow them; their recipients are given, by alert, for the caller
/// to take off the told-list. Their cases must be shared ([`share_cases`]).
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn give_back(
    tx: &mut Tx,
    app: AppId,
    fence: i64,
    ids: &[BatchId],
    first: bool,
) -> Result<Vec<(AlertId, Vec<u8>)>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows = tx
        .query(&GIVE_BACK)
        .bind(app)
        .bind(fence)
        .bind(first)
        .bind_columns(&[Values::Uuid(&ids)])
        .fetch_all()
        .await?;
    let (mut sources, mut unsent) = (Vec::new(), Vec::new());
    for row in &rows {
        let withdrawn = row.named::<BatchState>("state")? == BatchState::Withdrawn;
        if withdrawn && first && row.named::<Kind>("kind")? == Kind::Issue {
            sources.push(row.get::<Uuid>("id")?);
            unsent.push((row.get("alert_id")?, row.get("recipients")?));
        }
    }
    tx.query(&WITHDRAW_COPIES).bind_columns(&[Values::Uuid(&sources)]).execute().await?;
    Ok(unsent)
}

/// Records that the app queue confirmed batches which this lane claimed.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn sent(
    tx: &mut Tx,
    app: AppId,
    fence: i64,
    ids: &[BatchId],
    now: Timestamp,
) -> Result<u64, StoreError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    tx.query(&MARK_SENT)
        .bind(app)
        .bind(fence)
        .bind(now.as_millisecond())
        .bind_columns(&[Values::Uuid(&ids)])
        .execute()
        .await
}

/// What became of an app's batches whose lane or queue was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovered {
    /// Go out again.
    pub requeued: u64,
    /// Belong to closed alerts, whose recall follows.
    pub recalled: u64,
}

/// Takes up what a lost lane was sending (and, if its queue is lost, too, what was sent but not
/// taken): it goes out again under the same ids, unless its alert is closed. None if the lane is not this
/// owner's.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn recover(
    tx: &mut Tx,
    (app, owner, fence): (AppId, Uuid, i64),
    queue_lost: bool,
    now: Timestamp,
) -> Result<Option<Recovered>, StoreError> {
    tx.query(&SHARE_CASES_OF_APP).bind(app).execute().await?;
    if !lanes::keep(tx, app, owner, fence, now).await? {
        return Ok(None);
    }
    let recalled = tx
        .query(&SETTLE_LOST_OF_CLOSED)
        .bind(app)
        .bind(now.as_millisecond())
        .bind(queue_lost)
        .execute()
        .await?;
    let requeued = tx
        .query(&REQUEUE_LOST)
        .bind(app)
        .bind(now.as_millisecond())
        .bind(queue_lost)
        .execute()
        .await?;
    Ok(Some(Recovered { requeued, recalled }))
}
