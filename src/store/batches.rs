//! Batches on their way to the apps.
//!
//! `pending -> sending -> sent -> taken | dead | expired`, or `pending -> withdrawn`. A batch whose
//! lane or queue was lost goes back to `pending` with `sending_at` kept: it may have gone out, so it
//! is never taken for unsent, and it goes out again under the same id after the same checks.

use jiff::Timestamp;
use uuid::Uuid;

use super::sql::{Row, Values, statements};
use super::{Session, StoreError, Tx};
use crate::model::{AlertId, AppId, Batch, BatchId, BatchState, Kind};

statements! {
    INSERT_BATCHES {
        postgres: "INSERT INTO batches (id, app_id, alert_id, revision, kind, round, wave, urgency,
                       probability, state, people, recipients, fence, made_at, expires_at)
                   SELECT id, app::int, $1, $2, $3, $4, $5, $6, probability, 'pending', people,
                       recipients, 0, $7, $8
                   FROM unnest($9::uuid[], $10::bigint[], $11::float8[], $12::bigint[], $13::bytea[])
                        AS new(id, app, probability, people, recipients)"
        sqlite: "INSERT INTO batches (id, app_id, alert_id, revision, kind, round, wave, urgency,
                     probability, state, people, recipients, fence, made_at, expires_at)
                 SELECT unhex(value->>0), value->>1, $1, $2, $3, $4, $5, $6, value->>2, 'pending',
                     value->>3, unhex(value->>4), 0, $7, $8
                 FROM json_each($9)"
    }
    SELECT_TOLD_BY {
        "SELECT id FROM batches
         WHERE alert_id = $1 AND kind = 'issue'
           AND (sending_at IS NOT NULL OR state NOT IN ('withdrawn', 'expired'))
         ORDER BY id"
    }
    SELECT_MAYBE_SENT {
        "SELECT id FROM batches
         WHERE alert_id = $1 AND kind = 'issue' AND sending_at IS NOT NULL ORDER BY id"
    }
    COPY_BATCHES {
        postgres: "INSERT INTO batches (id, app_id, alert_id, revision, kind, round, wave, urgency,
                       probability, state, source_id, people, recipients, fence, made_at, expires_at)
                   SELECT new.id, b.app_id, b.alert_id, $1, $2, b.round, 0, b.urgency, b.probability,
                       'pending', b.id, b.people, b.recipients, 0, $3, $4
                   FROM unnest($5::uuid[], $6::uuid[]) AS new(id, source)
                   JOIN batches b ON b.id = new.source"
        sqlite: "INSERT INTO batches (id, app_id, alert_id, revision, kind, round, wave, urgency,
                     probability, state, source_id, people, recipients, fence, made_at, expires_at)
                 SELECT unhex(new.value->>0), b.app_id, b.alert_id, $1, $2, b.round, 0, b.urgency,
                     b.probability, 'pending', b.id, b.people, b.recipients, 0, $3, $4
                 FROM json_each($5) new CROSS JOIN batches b WHERE b.id = unhex(new.value->>1)"
    }
    NEXT_BEST {
        "SELECT b.id, b.people FROM batches b
         LEFT JOIN alerts a ON a.id = b.alert_id
         LEFT JOIN cases c ON c.id = a.case_id
         LEFT JOIN batches s ON s.id = b.source_id
         WHERE b.app_id = $1 AND b.state = 'pending' AND b.expires_at > $2
           AND (b.kind IN ('recall', 'test') OR (a.closed_at IS NULL AND c.state = 'active'))
           AND (s.id IS NULL OR (s.sending_at IS NOT NULL AND s.state NOT IN ('pending', 'sending')))
         ORDER BY b.urgency DESC, b.wave, b.probability DESC, b.id LIMIT $3"
    }
    NEXT_LOWEST {
        "SELECT b.id, b.people FROM batches b
         LEFT JOIN alerts a ON a.id = b.alert_id
         LEFT JOIN cases c ON c.id = a.case_id
         LEFT JOIN batches s ON s.id = b.source_id
         WHERE b.app_id = $1 AND b.state = 'pending' AND b.expires_at > $2
           AND (b.kind IN ('recall', 'test') OR (a.closed_at IS NULL AND c.state = 'active'))
           AND (s.id IS NULL OR (s.sending_at IS NOT NULL AND s.state NOT IN ('pending', 'sending')))
         ORDER BY b.urgency, b.wave, b.probability DESC, b.id LIMIT $3"
    }
    SHARE_CASES {
        postgres: "SELECT c.id FROM cases c WHERE c.id IN (
                       SELECT a.case_id FROM alerts a JOIN batches b ON b.alert_id = a.id
                       WHERE b.id = ANY($1)) ORDER BY c.id FOR SHARE"
        sqlite: "SELECT value AS id FROM json_each($1)"
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
                             OR (a.closed_at IS NULL AND c.state = 'active'))))
                     AND NOT EXISTS (SELECT 1 FROM batches s WHERE s.id = batches.source_id
                         AND (s.sending_at IS NULL OR s.state IN ('pending', 'sending')))
                   RETURNING id, app_id, alert_id, revision, kind, people, recipients, expires_at, sending_at,
                       (SELECT content FROM revisions r WHERE r.alert_id = batches.alert_id
                            AND r.revision = batches.revision) AS content,
                       (SELECT area FROM rounds o WHERE o.alert_id = batches.alert_id
                            AND o.number = batches.round) AS area"
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
                           OR (a.closed_at IS NULL AND c.state = 'active'))))
                   AND NOT EXISTS (SELECT 1 FROM batches s WHERE s.id = batches.source_id
                       AND (s.sending_at IS NULL OR s.state IN ('pending', 'sending')))
                 RETURNING id, app_id, alert_id, revision, kind, people, recipients, expires_at, sending_at,
                     (SELECT content FROM revisions r WHERE r.alert_id = batches.alert_id
                          AND r.revision = batches.revision) AS content,
                     (SELECT area FROM rounds o WHERE o.alert_id = batches.alert_id
                          AND o.number = batches.round) AS area"
    }
    GIVE_BACK {
        postgres: "UPDATE batches SET
                       state = CASE WHEN kind IN ('recall', 'test') OR EXISTS (
                           SELECT 1 FROM alerts a WHERE a.id = alert_id AND a.closed_at IS NULL)
                           THEN 'pending' ELSE 'withdrawn' END,
                       sending_at = CASE WHEN $3 THEN NULL ELSE sending_at END
                   WHERE id = ANY($4) AND app_id = $1 AND fence = $2 AND state = 'sending'
                   RETURNING id, alert_id, kind, state, recipients"
        sqlite: "UPDATE batches SET
                     state = CASE WHEN kind IN ('recall', 'test') OR EXISTS (
                         SELECT 1 FROM alerts a WHERE a.id = alert_id AND a.closed_at IS NULL)
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
    MARK_TAKEN {
        postgres: "UPDATE batches SET state = 'taken', sent_at = coalesce(sent_at, $2), settled_at = $2
                   WHERE id = ANY($3) AND app_id = $1
                     AND (state IN ('sending', 'sent') OR (state = 'pending' AND sending_at IS NOT NULL))"
        sqlite: "UPDATE batches SET state = 'taken', sent_at = coalesce(sent_at, $2), settled_at = $2
                 WHERE id IN (SELECT unhex(value->>0) FROM json_each($3)) AND app_id = $1
                   AND (state IN ('sending', 'sent') OR (state = 'pending' AND sending_at IS NOT NULL))"
    }
    MARK_DEAD {
        "UPDATE batches SET state = 'dead', reason = $4, settled_at = $3
         WHERE id = $2 AND app_id = $1 AND state IN ('sending', 'sent')"
    }
    HOLD_BACK {
        "UPDATE batches SET state = 'expired', reason = 'held_back', settled_at = $3
         WHERE id = $2 AND app_id = $1 AND state IN ('sending', 'sent')"
    }
    REQUEUE_LOST {
        "UPDATE batches SET state = 'pending'
         WHERE app_id = $1 AND state IN ('sending', 'sent') AND expires_at > $2
           AND (state = 'sending' OR $3)
           AND (kind IN ('recall', 'test')
                OR EXISTS (SELECT 1 FROM alerts a WHERE a.id = alert_id AND a.closed_at IS NULL))"
    }
    SETTLE_LOST_OF_CLOSED {
        "UPDATE batches SET state = 'expired', reason = 'recalled', settled_at = $2
         WHERE app_id = $1 AND kind IN ('issue', 'update') AND state IN ('sending', 'sent')
           AND (state = 'sending' OR $3)
           AND EXISTS (SELECT 1 FROM alerts a WHERE a.id = alert_id AND a.closed_at IS NOT NULL)"
    }
    REPLAY_DEAD {
        "UPDATE batches SET state = 'pending', reason = NULL, settled_at = NULL
         WHERE id = $1 AND state = 'dead' AND expires_at > $2
           AND (kind IN ('recall', 'test')
                OR EXISTS (SELECT 1 FROM alerts a WHERE a.id = alert_id AND a.closed_at IS NULL))"
    }
    WITHDRAW_PENDING {
        "UPDATE batches SET state = 'withdrawn', reason = 'recalled', settled_at = $2
         WHERE alert_id = $1 AND state = 'pending' AND kind IN ('issue', 'update')
         RETURNING kind, sending_at, recipients"
    }
    SELECT_EXPIRED_ALERTS {
        "SELECT DISTINCT a.id AS alert_id, a.case_id FROM batches b JOIN alerts a ON a.id = b.alert_id
         WHERE b.expires_at <= $1 AND b.state IN ('pending', 'sending', 'sent') AND b.kind <> 'test'
         LIMIT 64"
    }
    EXPIRE_TESTS {
        "UPDATE batches SET state = 'expired', settled_at = $1
         WHERE expires_at <= $1 AND state IN ('pending', 'sending', 'sent') AND kind = 'test'"
    }
    EXPIRE_BATCHES {
        "UPDATE batches SET state = 'expired', settled_at = $2
         WHERE alert_id = $1 AND expires_at <= $2 AND state IN ('pending', 'sending', 'sent')
         RETURNING kind, sending_at, recipients"
    }
    SELECT_TALLY {
        "SELECT round, app_id, kind, state, count(*) AS batches, CAST(sum(people) AS BIGINT) AS people
         FROM batches WHERE alert_id = $1 GROUP BY round, app_id, kind, state
         ORDER BY round, app_id, kind, state"
    }
    SELECT_BACKLOG {
        "SELECT app_id, state, count(*) AS batches, CAST(sum(people) AS BIGINT) AS people,
                min(made_at) AS oldest
         FROM batches WHERE state IN ('pending', 'sending', 'sent') GROUP BY app_id, state"
    }
    SELECT_DEAD {
        "SELECT id, app_id, alert_id, kind, people, reason, settled_at, expires_at FROM batches
         WHERE state = 'dead' AND (app_id = $1 OR $1 IS NULL) ORDER BY settled_at DESC LIMIT $2"
    }
    IS_OPEN {
        "SELECT b.state, b.kind, a.closed_at FROM batches b LEFT JOIN alerts a ON a.id = b.alert_id
         WHERE b.id = $1 AND b.app_id = $2"
    }
    SELECT_LAST_OF_APP {
        "SELECT id, state, kind, sent_at, settled_at FROM batches
         WHERE app_id = $1 AND sending_at IS NOT NULL ORDER BY sending_at DESC LIMIT 1"
    }
    SELECT_SENT_SINCE {
        "SELECT b.id, b.app_id, b.alert_id, b.revision, b.kind, b.people, b.recipients, b.expires_at,
                r.content, o.area, b.sending_at FROM batches b
         JOIN revisions r ON r.alert_id = b.alert_id AND r.revision = b.revision
         LEFT JOIN rounds o ON o.alert_id = b.alert_id AND o.number = b.round
         WHERE b.app_id = $1 AND b.sending_at > $2 ORDER BY b.sending_at, b.id LIMIT 256"
    }
}

/// The batches of one shard.
#[derive(Debug)]
pub struct NewBatches<'a> {
    /// The alert.
    pub alert: AlertId,
    /// Its revision.
    pub revision: i64,
    /// What they say.
    pub kind: Kind,
    /// The round.
    pub round: i64,
    /// The wave.
    pub wave: i64,
    /// Rank of the urgency.
    pub urgency: i64,
    /// When they expire.
    pub expires_at: Timestamp,
    /// App, probability of area, people, recipients (protobuf).
    pub batches: &'a [(AppId, f64, i64, Vec<u8>)],
}

/// Batches that go no further.
#[derive(Debug)]
pub struct Withdrawn {
    /// The recipients (protobuf) of each issue that surely was not sent, for the told-list.
    pub unsent: Vec<Vec<u8>>,
    /// How many batches went no further, the unsent among them.
    pub batches: u64,
}

/// Adds batches that wait for their lane.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn add(tx: &mut Tx, new: &NewBatches<'_>, now: Timestamp) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = new.batches.iter().map(|_| Uuid::now_v7()).collect();
    let apps: Vec<i64> = new.batches.iter().map(|batch| i64::from(batch.0.0)).collect();
    let probabilities: Vec<f64> = new.batches.iter().map(|batch| batch.1).collect();
    let people: Vec<i64> = new.batches.iter().map(|batch| batch.2).collect();
    let recipients: Vec<Vec<u8>> = new.batches.iter().map(|batch| batch.3.clone()).collect();
    tx.query(&INSERT_BATCHES)
        .bind(new.alert)
        .bind(new.revision)
        .bind(new.kind.name())
        .bind(new.round)
        .bind(new.wave)
        .bind(new.urgency)
        .bind(now.as_millisecond())
        .bind(new.expires_at.as_millisecond())
        .bind_columns(&[
            Values::Uuid(&ids),
            Values::Int(&apps),
            Values::Float(&probabilities),
            Values::Int(&people),
            Values::Bytes(&recipients),
        ])
        .execute()
        .await
        .map(drop)
}

/// Copies the batches that told somebody as updates of a revision. An update waits until the batch
/// it is copied from has settled.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn copy_as_update(
    tx: &mut Tx,
    alert: AlertId,
    revision: i64,
    now: Timestamp,
    expires_at: Timestamp,
) -> Result<u64, StoreError> {
    let rows = tx.query(&SELECT_TOLD_BY).bind(alert).fetch_all().await?;
    copy(tx, &rows, revision, Kind::Update, now, expires_at).await
}

/// Copies every batch that was or may have been sent as a recall. A recall waits until the batch it
/// is copied from has settled.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn copy_as_recall(
    tx: &mut Tx,
    alert: AlertId,
    revision: i64,
    now: Timestamp,
    expires_at: Timestamp,
) -> Result<u64, StoreError> {
    let rows = tx.query(&SELECT_MAYBE_SENT).bind(alert).fetch_all().await?;
    copy(tx, &rows, revision, Kind::Recall, now, expires_at).await
}

async fn copy(
    tx: &mut Tx,
    sources: &[Row],
    revision: i64,
    kind: Kind,
    now: Timestamp,
    expires_at: Timestamp,
) -> Result<u64, StoreError> {
    let sources = sources.iter().map(|row| row.get("id")).collect::<Result<Vec<Uuid>, _>>()?;
    let ids: Vec<Uuid> = sources.iter().map(|_| Uuid::now_v7()).collect();
    tx.query(&COPY_BATCHES)
        .bind(revision)
        .bind(kind.name())
        .bind(now.as_millisecond())
        .bind(expires_at.as_millisecond())
        .bind_columns(&[Values::Uuid(&ids), Values::Uuid(&sources)])
        .execute()
        .await
}

/// Which end of the backlog to take from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Most urgent first.
    Best,
    /// Least urgent first, so that nothing starves.
    Lowest,
}

/// The batches an app's lane should send next: id and people.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn next(
    session: &mut Session,
    app: AppId,
    now: Timestamp,
    order: Order,
    limit: i64,
) -> Result<Vec<(BatchId, i64)>, StoreError> {
    let statement = match order {
        Order::Best => &NEXT_BEST,
        Order::Lowest => &NEXT_LOWEST,
    };
    let rows = session
        .query(statement)
        .bind(app)
        .bind(now.as_millisecond())
        .bind(limit)
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
}

/// Claims batches for sending, best first. Left out is what was claimed or withdrawn meanwhile, what
/// belongs to a case that is no longer active, and everything if the lane is no longer this owner's
/// or lanes are held.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn claim(
    tx: &mut Tx,
    app: AppId,
    owner: Uuid,
    fence: i64,
    ids: &[BatchId],
    now: Timestamp,
) -> Result<Vec<Claimed>, StoreError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    // Whoever closes or pauses a case waits for this, or this sees what they did.
    tx.query(&SHARE_CASES).bind_columns(&[Values::Uuid(&ids)]).execute().await?;
    let rows = tx
        .query(&CLAIM_BATCHES)
        .bind(app)
        .bind(owner)
        .bind(fence)
        .bind(now.as_millisecond())
        .bind_columns(&[Values::Uuid(&ids)])
        .fetch_all()
        .await?;
    let mut claimed = rows
        .iter()
        .map(|row| {
            let first = row.time("sending_at")?.as_millisecond() == now.as_millisecond();
            Ok(Claimed { batch: to_batch(row)?, first })
        })
        .collect::<Result<Vec<_>, StoreError>>()?;
    claimed.sort_by_key(|claimed| ids.iter().position(|id| *id == claimed.batch.id.0));
    Ok(claimed)
}

/// Gives back claimed batches that the queue surely did not take. Those never handed to a queue
/// before (`first`) count as unsent again. If their alert was closed meanwhile they are withdrawn,
/// with the recalls that were to follow them; their recipients are given, by alert, for the caller
/// to take off the told-list.
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
    app: AppId,
    id: BatchId,
    reason: &str,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let changed = tx
        .query(&MARK_DEAD)
        .bind(app)
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

/// What became of an app's batches whose lane or queue was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovered {
    /// Go out again.
    pub requeued: u64,
    /// Belong to closed alerts, whose recall follows.
    pub recalled: u64,
}

/// Takes up what a lost lane was sending (and, if its queue is lost, too, what was sent but not
/// taken): it goes out again under the same ids, unless its alert is closed.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn recover(
    tx: &mut Tx,
    app: AppId,
    queue_lost: bool,
    now: Timestamp,
) -> Result<Recovered, StoreError> {
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
    Ok(Recovered { requeued, recalled })
}

/// Lets a dead letter go out again; `false` if it is not dead, has expired or is over.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn replay(tx: &mut Tx, id: BatchId, now: Timestamp) -> Result<bool, StoreError> {
    Ok(tx.query(&REPLAY_DEAD).bind(id).bind(now.as_millisecond()).execute().await? == 1)
}

/// Withdraws what waits of an alert. The caller takes the unsent off the told-list.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn withdraw(
    tx: &mut Tx,
    alert: AlertId,
    now: Timestamp,
) -> Result<Withdrawn, StoreError> {
    let rows = tx
        .query(&WITHDRAW_PENDING)
        .bind(alert)
        .bind(now.as_millisecond())
        .fetch_all()
        .await?;
    to_withdrawn(&rows)
}

fn to_withdrawn(rows: &[Row]) -> Result<Withdrawn, StoreError> {
    let mut unsent = Vec::new();
    for row in rows {
        let never_sent = row.time_or_none("sending_at")?.is_none();
        if never_sent && row.named::<Kind>("kind")? == Kind::Issue {
            unsent.push(row.get("recipients")?);
        }
    }
    let batches = u64::try_from(rows.len()).unwrap_or(u64::MAX);
    Ok(Withdrawn { unsent, batches })
}

/// The alerts (and their cases) that have batches whose time is over.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn with_expired(
    session: &mut Session,
    now: Timestamp,
) -> Result<Vec<(AlertId, crate::model::CaseId)>, StoreError> {
    let rows = session.query(&SELECT_EXPIRED_ALERTS).bind(now.as_millisecond()).fetch_all().await?;
    rows.iter().map(|row| Ok((row.get("alert_id")?, row.get("case_id")?))).collect()
}

/// Expires test batches whose time is over.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn expire_tests(tx: &mut Tx, now: Timestamp) -> Result<u64, StoreError> {
    tx.query(&EXPIRE_TESTS).bind(now.as_millisecond()).execute().await
}

/// Expires what is over of an alert. The caller takes the unsent off the told-list.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn expire(
    tx: &mut Tx,
    alert: AlertId,
    now: Timestamp,
) -> Result<Withdrawn, StoreError> {
    let rows = tx
        .query(&EXPIRE_BATCHES)
        .bind(alert)
        .bind(now.as_millisecond())
        .fetch_all()
        .await?;
    to_withdrawn(&rows)
}

/// Whether a reader may hand a batch on: it is on its way, and its alert is open (a recall always
/// may).
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn may_hand_on(
    session: &mut Session,
    app: AppId,
    id: BatchId,
) -> Result<bool, StoreError> {
    let Some(row) = session.query(&IS_OPEN).bind(id).bind(app).fetch_optional().await? else {
        return Ok(false);
    };
    let on_its_way = matches!(
        row.named::<BatchState>("state")?,
        BatchState::Pending | BatchState::Sending | BatchState::Sent
    );
    let over = matches!(row.named::<Kind>("kind")?, Kind::Issue | Kind::Update)
        && row.time_or_none("closed_at")?.is_some();
    Ok(on_its_way && !over)
}

/// Batches and people by round, app, kind and state.
#[derive(Debug, Clone)]
pub struct Tally {
    /// The round.
    pub round: i64,
    /// The app.
    pub app: AppId,
    /// What they say.
    pub kind: Kind,
    /// Where they are.
    pub state: BatchState,
    /// How many batches.
    pub batches: i64,
    /// How many people in them.
    pub people: i64,
}

/// Where an alert's batches are.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn tally(session: &mut Session, alert: AlertId) -> Result<Vec<Tally>, StoreError> {
    let rows = session.query(&SELECT_TALLY).bind(alert).fetch_all().await?;
    rows.iter()
        .map(|row| {
            Ok(Tally {
                round: row.get("round")?,
                app: row.get("app_id")?,
                kind: row.named("kind")?,
                state: row.named("state")?,
                batches: row.get("batches")?,
                people: row.get("people")?,
            })
        })
        .collect()
}

/// What waits or is on its way for an app.
#[derive(Debug, Clone)]
pub struct Backlog {
    /// The app.
    pub app: AppId,
    /// Where the batches are.
    pub state: BatchState,
    /// How many batches.
    pub batches: i64,
    /// How many people in them.
    pub people: i64,
    /// When the oldest was made.
    pub oldest: Timestamp,
}

/// What waits or is on its way, by app.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn backlog(session: &mut Session) -> Result<Vec<Backlog>, StoreError> {
    let rows = session.query(&SELECT_BACKLOG).fetch_all().await?;
    rows.iter()
        .map(|row| {
            Ok(Backlog {
                app: row.get("app_id")?,
                state: row.named("state")?,
                batches: row.get("batches")?,
                people: row.get("people")?,
                oldest: row.time("oldest")?,
            })
        })
        .collect()
}

/// A batch that was refused too often.
#[derive(Debug, Clone, serde::Serialize)]
pub struct DeadLetter {
    /// Its id.
    pub id: BatchId,
    /// The app.
    pub app: AppId,
    /// The alert.
    pub alert: AlertId,
    /// What it says.
    pub kind: Kind,
    /// How many people it would tell.
    pub people: i64,
    /// Why it was given up.
    pub reason: Option<String>,
    /// When it was given up.
    pub since: Timestamp,
    /// When it can no longer be replayed.
    pub expires_at: Timestamp,
}

/// Dead letters, newest first; of one app if given.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn dead_letters(
    session: &mut Session,
    app: Option<AppId>,
    limit: i64,
) -> Result<Vec<DeadLetter>, StoreError> {
    let rows = session.query(&SELECT_DEAD).bind(app).bind(limit).fetch_all().await?;
    rows.iter()
        .map(|row| {
            Ok(DeadLetter {
                id: row.get("id")?,
                app: row.get("app_id")?,
                alert: row.get("alert_id")?,
                kind: row.named("kind")?,
                people: row.get("people")?,
                reason: row.get("reason")?,
                since: row.time("settled_at")?,
                expires_at: row.time("expires_at")?,
            })
        })
        .collect()
}

/// The batch an app was last sent: id, state, what it says, when.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn last_of_app(
    session: &mut Session,
    app: AppId,
) -> Result<Option<(BatchId, BatchState, Kind, Option<Timestamp>)>, StoreError> {
    let row = session.query(&SELECT_LAST_OF_APP).bind(app).fetch_optional().await?;
    row.map(|row| {
        Ok((row.get("id")?, row.named("state")?, row.named("kind")?, row.time_or_none("sent_at")?))
    })
    .transpose()
}

/// What an app was sent after a moment, in order, with the moment of each.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn sent_since(
    session: &mut Session,
    app: AppId,
    since: Timestamp,
) -> Result<Vec<(Timestamp, Batch)>, StoreError> {
    let rows = session
        .query(&SELECT_SENT_SINCE)
        .bind(app)
        .bind(since.as_millisecond())
        .fetch_all()
        .await?;
    rows.iter().map(|row| Ok((row.time("sending_at")?, to_batch(row)?))).collect()
}

fn to_batch(row: &Row) -> Result<Batch, StoreError> {
    Ok(Batch {
        id: row.get("id")?,
        app: row.get("app_id")?,
        alert: row.get("alert_id")?,
        revision: row.get("revision")?,
        kind: row.named("kind")?,
        people: row.get("people")?,
        recipients: row.get("recipients")?,
        content: row.get("content")?,
        area: row.get::<Option<Vec<u8>>>("area")?.unwrap_or_default(),
        expires_at: row.time("expires_at")?,
    })
}
