//! Erasing what may no longer be kept.

use jiff::Timestamp;

use super::sql::statements;
use super::{Session, StoreError, Tx};
use crate::model::CaseId;

statements! {
    SELECT_TO_ERASE {
        "SELECT id FROM cases WHERE erased_at IS NULL AND erase_at <= $1 ORDER BY erase_at LIMIT 64"
    }
    ERASE_CASE {
        "UPDATE cases SET report = NULL, proposal = NULL, verification = NULL, erased_at = $2,
             version = version + 1
         WHERE id = $1 AND erased_at IS NULL AND erase_at <= $2"
    }
    ERASE_SIGHTINGS {
        "UPDATE sightings SET report = NULL WHERE case_id = $1"
    }
    ERASE_PLANS {
        "UPDATE plans SET document = NULL WHERE case_id = $1"
    }
    ERASE_REASONS {
        "UPDATE timeline SET detail = '{}'
         WHERE case_id = $1 AND what IN ('rejected', 'paused', 'resumed', 'reopened')"
    }
    ERASE_WAVES {
        "UPDATE waves SET cells = '[]' WHERE alert_id IN (SELECT id FROM alerts WHERE case_id = $1)"
    }
    ERASE_SHARDS {
        "UPDATE shards SET ranges = '[]' WHERE alert_id IN (SELECT id FROM alerts WHERE case_id = $1)"
    }
    ERASE_ROUNDS {
        postgres: "UPDATE rounds SET area = ''::bytea
                   WHERE alert_id IN (SELECT id FROM alerts WHERE case_id = $1)"
        sqlite: "UPDATE rounds SET area = x''
                 WHERE alert_id IN (SELECT id FROM alerts WHERE case_id = $1)"
    }
    ERASE_REVISIONS {
        postgres: "UPDATE revisions SET content = ''::bytea
                   WHERE alert_id IN (SELECT id FROM alerts WHERE case_id = $1)"
        sqlite: "UPDATE revisions SET content = x''
                 WHERE alert_id IN (SELECT id FROM alerts WHERE case_id = $1)"
    }
    END_BATCHES {
        "UPDATE batches SET state = 'expired', reason = 'erased', settled_at = $2
         WHERE alert_id IN (SELECT id FROM alerts WHERE case_id = $1)
           AND state IN ('pending', 'sending', 'sent', 'dead')"
    }
    ERASE_RECIPIENTS {
        postgres: "UPDATE batches SET recipients = ''::bytea
                   WHERE alert_id IN (SELECT id FROM alerts WHERE case_id = $1)"
        sqlite: "UPDATE batches SET recipients = x''
                 WHERE alert_id IN (SELECT id FROM alerts WHERE case_id = $1)"
    }
    FORGET_TOLD {
        "DELETE FROM told WHERE told_at < $1 AND alert_id IN (
             SELECT id FROM alerts WHERE closed_at < $1)"
    }
}

/// The cases whose personal data are due to be erased.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn due(session: &mut Session, now: Timestamp) -> Result<Vec<CaseId>, StoreError> {
    let rows = session.query(&SELECT_TO_ERASE).bind(now.as_millisecond()).fetch_all().await?;
    rows.iter().map(|row| row.get("id")).collect()
}

/// Erases everything personal of a case whose time has come: report, sightings, positions, texts,
/// tokens. What stays: profile, times, counts, outcome, distance to the find. `false` if it was not
/// due.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn erase(tx: &mut Tx, case: CaseId, now: Timestamp) -> Result<bool, StoreError> {
    let erased = tx.query(&ERASE_CASE).bind(case).bind(now.as_millisecond()).execute().await?;
    if erased == 0 {
        return Ok(false);
    }
    // What has nobody to go to and nothing to say must not go out any more.
    tx.query(&END_BATCHES).bind(case).bind(now.as_millisecond()).execute().await?;
    for statement in [
        &ERASE_SIGHTINGS,
        &ERASE_PLANS,
        &ERASE_REASONS,
        &ERASE_WAVES,
        &ERASE_SHARDS,
        &ERASE_ROUNDS,
        &ERASE_REVISIONS,
        &ERASE_RECIPIENTS,
    ] {
        tx.query(statement).bind(case).execute().await?;
    }
    Ok(true)
}

/// Forgets told-lists older than a moment of alerts closed by then.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn forget_told(tx: &mut Tx, before: Timestamp) -> Result<u64, StoreError> {
    tx.query(&FORGET_TOLD).bind(before.as_millisecond()).execute().await
}
