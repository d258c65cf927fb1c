//! Batches: made by fan-out, copied as updates and recalls, withdrawn, expired.

use std::collections::HashMap;

use jiff::Timestamp;
use uuid::Uuid;

use super::sql::{Row, Values, statements};
use super::{Session, StoreError, Tx};
use crate::model::{AlertId, AppId, Batch, CaseId, Contents, Edition, Kind};

statements! {
    INSERT_BATCHES {
        postgres: "INSERT INTO batches (id, app_id, alert_id, revision, kind, round, wave, urgency,
                       probability, state, people, recipients, fence, made_at, expires_at)
                   SELECT id, app::int, $1, $2, $3, $4, $5, $6, $7, 'pending', people, recipients,
                       0, $8, $9
                   FROM unnest($10::uuid[], $11::bigint[], $12::bigint[], $13::bytea[])
                        AS new(id, app, people, recipients)"
        sqlite: "INSERT INTO batches (id, app_id, alert_id, revision, kind, round, wave, urgency,
                     probability, state, people, recipients, fence, made_at, expires_at)
                 SELECT unhex(value->>0), value->>1, $1, $2, $3, $4, $5, $6, $7, 'pending',
                     value->>2, unhex(value->>3), 0, $8, $9
                 FROM json_each($10)"
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
    SELECT_CONTENTS {
        "SELECT r.content, o.area FROM revisions r
         LEFT JOIN rounds o ON o.alert_id = r.alert_id AND o.number = $3
         WHERE r.alert_id = $1 AND r.revision = $2"
    }
    WITHDRAW_PENDING {
        "UPDATE batches SET state = 'withdrawn', reason = 'recalled', settled_at = $2
         WHERE alert_id = $1 AND state = 'pending' AND kind IN ('issue', 'update')
         RETURNING kind, sending_at, recipients"
    }
    WITHDRAW_UNSENT {
        "UPDATE batches SET state = 'withdrawn', reason = 'renewed', settled_at = $2
         WHERE alert_id = $1 AND state = 'pending' AND kind = 'issue' AND sending_at IS NULL
         RETURNING kind, sending_at, recipients"
    }
    SELECT_EXPIRED_ALERTS {
        "SELECT DISTINCT a.id AS alert_id, a.case_id FROM batches b JOIN alerts a ON a.id = b.alert_id
         WHERE b.expires_at <= $1 AND b.live AND b.kind <> 'test'
         LIMIT 64"
    }
    EXPIRE_TESTS {
        "UPDATE batches SET state = 'expired', settled_at = $1
         WHERE expires_at <= $1 AND live AND kind = 'test'"
    }
    EXPIRE_BATCHES {
        "UPDATE batches SET state = 'expired', settled_at = $2
         WHERE alert_id = $1 AND expires_at <= $2 AND live
         RETURNING kind, sending_at, recipients"
    }
}

/// The batches of one shard.
#[derive(Debug)]
pub struct NewBatches {
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
    /// Probability of area.
    pub probability: f64,
    /// When they expire.
    pub expires_at: Timestamp,
    /// The batches.
    pub batches: Vec<NewBatch>,
}

/// One of them.
#[derive(Debug)]
pub struct NewBatch {
    /// Whose subscribers it tells.
    pub app: AppId,
    /// How many people.
    pub people: i64,
    /// Who (protobuf).
    pub recipients: Vec<u8>,
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
pub async fn add(tx: &mut Tx, new: NewBatches, now: Timestamp) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = new.batches.iter().map(|_| Uuid::now_v7()).collect();
    let apps: Vec<i64> = new.batches.iter().map(|batch| i64::from(batch.app.0)).collect();
    let people: Vec<i64> = new.batches.iter().map(|batch| batch.people).collect();
    let recipients: Vec<Vec<u8>> =
        new.batches.into_iter().map(|batch| batch.recipients).collect();
    tx.query(&INSERT_BATCHES)
        .bind(new.alert)
        .bind(new.revision)
        .bind(new.kind.name())
        .bind(new.round)
        .bind(new.wave)
        .bind(new.urgency)
        .bind(new.probability)
        .bind(now.as_millisecond())
        .bind(new.expires_at.as_millisecond())
        .bind_columns(&[
            Values::Uuid(&ids),
            Values::Int(&apps),
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

/// Withdraws the issues of an alert that surely were not sent. The caller takes their people off the
/// told-list.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn withdraw_unsent(
    tx: &mut Tx,
    alert: AlertId,
    now: Timestamp,
) -> Result<Withdrawn, StoreError> {
    let rows = tx
        .query(&WITHDRAW_UNSENT)
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
) -> Result<Vec<(AlertId, CaseId)>, StoreError> {
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

/// What editions say and where they hold, each once; left out is what is not there any more.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn contents(
    session: &mut Session,
    editions: impl Iterator<Item = Edition>,
) -> Result<HashMap<Edition, Contents>, StoreError> {
    let mut contents = HashMap::new();
    for edition in editions {
        if contents.contains_key(&edition) {
            continue;
        }
        let row = session
            .query(&SELECT_CONTENTS)
            .bind(edition.alert)
            .bind(edition.revision)
            .bind(edition.round)
            .fetch_optional()
            .await?;
        if let Some(row) = row {
            let area = row.get::<Option<Vec<u8>>>("area")?.unwrap_or_default();
            let words = row.get("content")?;
            contents.insert(edition, Contents { words, area });
        }
    }
    Ok(contents)
}

pub(super) fn to_batch(row: &Row) -> Result<Batch, StoreError> {
    Ok(Batch {
        id: row.get("id")?,
        app: row.get("app_id")?,
        edition: Edition {
            alert: row.get("alert_id")?,
            revision: row.get("revision")?,
            round: row.get("round")?,
        },
        kind: row.named("kind")?,
        people: row.get("people")?,
        recipients: row.get("recipients")?,
        expires_at: row.time("expires_at")?,
    })
}
