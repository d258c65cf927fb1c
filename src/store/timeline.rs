//! What happened to a case, and by whom.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::sql::{statements, to_json};
use super::{Session, StoreError, Tx};
use crate::model::{Actor, CaseId};

statements! {
    INSERT_EVENT {
        "INSERT INTO timeline (case_id, at, actor, what, detail) VALUES ($1, $2, $3, $4, $5)"
    }
    SELECT_EVENTS {
        "SELECT id, at, actor, what, detail FROM timeline
         WHERE case_id = $1 AND id > $2 ORDER BY id LIMIT $3"
    }
}

/// Something that happened to a case.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    /// Rises with time within a case.
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// Who did it.
    pub actor: String,
    /// What was done.
    pub what: String,
    /// The figures that belong to it; never anything personal.
    pub detail: Value,
}

/// Writes down what happened. `detail` outlives erasure: nothing personal belongs into it.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn note(
    tx: &mut Tx,
    case: CaseId,
    at: Timestamp,
    actor: &Actor,
    what: &str,
    detail: &Value,
) -> Result<(), StoreError> {
    tx.query(&INSERT_EVENT)
        .bind(case)
        .bind(at.as_millisecond())
        .bind(actor.to_string())
        .bind(what)
        .bind(to_json(detail)?)
        .execute()
        .await
        .map(drop)
}

/// A page of what happened after event `after`, in order.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn page(
    session: &mut Session,
    case: CaseId,
    after: i64,
    limit: i64,
) -> Result<Vec<Event>, StoreError> {
    let rows =
        session.query(&SELECT_EVENTS).bind(case).bind(after).bind(limit).fetch_all().await?;
    rows.iter()
        .map(|row| {
            Ok(Event {
                id: row.get("id")?,
                at: row.time("at")?,
                actor: row.get("actor")?,
                what: row.get("what")?,
                detail: row.json("detail")?,
            })
        })
        .collect()
}
