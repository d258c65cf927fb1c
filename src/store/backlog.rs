//! Looking at batches: where an alert's are, what waits, what is dead, what an app was sent.

use jiff::Timestamp;

use super::batches::to_batch;
use super::sql::statements;
use super::{Session, StoreError};
use crate::model::{AlertId, AppId, Batch, BatchId, BatchState, Kind};

statements! {
    SELECT_TALLY {
        "SELECT round, app_id, kind, state, count(*) AS batches, CAST(sum(people) AS BIGINT) AS people
         FROM batches WHERE alert_id = $1 GROUP BY round, app_id, kind, state
         ORDER BY round, app_id, kind, state"
    }
    SELECT_BACKLOG {
        "SELECT app_id, state, count(*) AS batches, CAST(sum(people) AS BIGINT) AS people,
                min(made_at) AS oldest
         FROM batches WHERE live GROUP BY app_id, state"
    }
    SELECT_DEAD {
        "SELECT id, app_id, alert_id, kind, people, reason, settled_at, expires_at FROM batches
         WHERE state = 'dead' AND (app_id = $1 OR $1 IS NULL) ORDER BY settled_at DESC LIMIT $2"
    }
    SELECT_LAST_OF_APP {
        "SELECT id, state, kind, sent_at, settled_at FROM batches
         WHERE app_id = $1 AND sending_at IS NOT NULL ORDER BY sending_at DESC LIMIT 1"
    }
    SELECT_ONE_SENT {
        "SELECT id FROM batches
         WHERE alert_id = $2 AND app_id = $1 AND sending_at IS NOT NULL LIMIT 1"
    }
    SELECT_SENDING {
        "SELECT min(sending_at) AS began, max(sent_at) AS ended FROM batches
         WHERE alert_id = $1 AND kind = 'issue'"
    }
    SELECT_SENT_SINCE {
        "SELECT id, app_id, alert_id, revision, round, kind, people, recipients, expires_at, sending_at
         FROM batches WHERE app_id = $1 AND (sending_at > $2 OR (sending_at = $2 AND id > $3))
         ORDER BY sending_at, id LIMIT 256"
    }
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
    let rows = session
        .query(&SELECT_DEAD)
        .bind(app)
        .bind(limit)
        .fetch_all()
        .await?;
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
    let row = session
        .query(&SELECT_LAST_OF_APP)
        .bind(app)
        .fetch_optional()
        .await?;
    row.map(|row| {
        Ok((
            row.get("id")?,
            row.named("state")?,
            row.named("kind")?,
            row.time_or_none("sent_at")?,
        ))
    })
    .transpose()
}

/// Whether an app was, or may have been, sent a batch of an alert.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn was_sent(
    session: &mut Session,
    app: AppId,
    alert: AlertId,
) -> Result<bool, StoreError> {
    let row = session
        .query(&SELECT_ONE_SENT)
        .bind(app)
        .bind(alert)
        .fetch_optional()
        .await?;
    Ok(row.is_some())
}

/// When the first issue of an alert was claimed for sending, and when a queue confirmed the last; none if
/// nothing was.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn sending(
    session: &mut Session,
    alert: AlertId,
) -> Result<Option<(Timestamp, Timestamp)>, StoreError> {
    let row = session.query(&SELECT_SENDING).bind(alert).fetch_one().await?;
    Ok(row.time_or_none("began")?.zip(row.time_or_none("ended")?))
}

/// How far somebody has looked at what an app was sent: the moment it was claimed for sending, and the batch.
pub type Seen = (Timestamp, BatchId);

/// What an app was sent since, in order, at most 256 batches.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn sent_since(
    session: &mut Session,
    app: AppId,
    (at, id): Seen,
) -> Result<Vec<(Seen, Batch)>, StoreError> {
    let rows = session
        .query(&SELECT_SENT_SINCE)
        .bind(app)
        .bind(at.as_millisecond())
        .bind(id)
        .fetch_all()
        .await?;
    rows.iter()
        .map(|row| {
            let batch = to_batch(row)?;
            Ok(((row.time("sending_at")?, batch.id), batch))
        })
        .collect()
}
