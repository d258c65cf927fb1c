//! Plans and their waves.

use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::sql::{Row, statements, to_json};
use super::{Session, StoreError, Tx};
use crate::model::{
    AlertId, CaseId, Cell, OperatorId, PlanCause, PlanId, SightingId, WaveState,
};

statements! {
    NEXT_VERSION {
        "SELECT coalesce(max(version), 0) + 1 AS version FROM plans WHERE case_id = $1"
    }
    INSERT_PLAN {
        "INSERT INTO plans (id, case_id, version, made_at, why, change, document)
         VALUES ($1, $2, $3, $4, $5, $6, $7)"
    }
    SELECT_LATEST {
        "SELECT * FROM plans
         WHERE case_id = $1 AND document IS NOT NULL ORDER BY version DESC LIMIT 1"
    }
    SELECT_VERSION {
        "SELECT * FROM plans WHERE case_id = $1 AND version = $2 AND document IS NOT NULL"
    }
    SELECT_HISTORY {
        "SELECT version, made_at, why, change FROM plans WHERE case_id = $1 ORDER BY version"
    }
    SELECT_MADE {
        "SELECT made_at FROM plans WHERE id = $1"
    }
    INSERT_WAVE {
        "INSERT INTO waves (alert_id, number, plan_id, plan_wave, mass, cells, due_at, state)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
    }
    SELECT_WAVES {
        "SELECT * FROM waves WHERE alert_id = $1 ORDER BY number"
    }
    LOCK_WAVE {
        postgres: "SELECT * FROM waves WHERE alert_id = $1 AND number = $2 FOR UPDATE"
        sqlite: "SELECT * FROM waves WHERE alert_id = $1 AND number = $2"
    }
    UPDATE_WAVE {
        "UPDATE waves SET state = $3, approval = $4, approved_by = $5, released_at = $6, due_at = $7
         WHERE alert_id = $1 AND number = $2"
    }
    MOVE_WAVES {
        "UPDATE waves SET due_at = due_at + $2
         WHERE alert_id = $1 AND state IN ('waiting', 'approval', 'held')"
    }
    WITHDRAW_WAVES {
        "UPDATE waves SET state = 'withdrawn'
         WHERE alert_id = $1 AND state IN ('waiting', 'approval', 'held')"
    }
    ASK_ANEW {
        "UPDATE waves SET state = 'waiting', approval = NULL, approved_by = NULL
         WHERE alert_id = $1
           AND (state = 'approval' OR state = 'waiting' AND approved_by IS NOT NULL)"
    }
    DROP_WAVES {
        "DELETE FROM waves WHERE alert_id = $1 AND state IN ('waiting', 'approval', 'held')"
    }
    SELECT_DUE {
        "SELECT waves.alert_id, waves.number, alerts.case_id FROM waves
         JOIN alerts ON alerts.id = waves.alert_id AND alerts.closed_at IS NULL
         JOIN cases ON cases.id = alerts.case_id AND cases.state = 'active'
         WHERE waves.state = 'waiting' AND waves.due_at <= $1
           AND (alerts.rounds = 0 OR waves.due_at <= $2 OR NOT EXISTS (
               SELECT 1 FROM sightings
               WHERE case_id = cases.id AND state = 'new' AND received_at > $2))
         ORDER BY CASE alerts.urgency WHEN 'critical' THEN 0 WHEN 'high' THEN 1 ELSE 2 END,
                  waves.number, waves.due_at
         LIMIT 16"
    }
}

/// A plan as it was stored.
#[derive(Debug)]
pub struct StoredPlan<P> {
    /// Its id.
    pub id: PlanId,
    /// Counts the plans of a case.
    pub version: i64,
    /// When it was made.
    pub made_at: Timestamp,
    /// Why it was made.
    pub why: Why,
    /// The plan with all its inputs.
    pub plan: P,
}

/// Why a plan was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// What happened.
    pub cause: PlanCause,
    /// The sighting it happened to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sighting: Option<SightingId>,
    /// The number of the search it happened to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<i64>,
    /// More of it: the names of the fields that were corrected, or of a sighting its source and credibility.
    /// Never anybody's own words: it outlives the case's personal data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl From<PlanCause> for Why {
    fn from(cause: PlanCause) -> Self {
        Self {
            cause,
            sighting: None,
            search: None,
            detail: None,
        }
    }
}

/// One of the plans of a case, without what is in it.
#[derive(Debug, Clone, Serialize)]
pub struct PlanListing<C> {
    /// Counts the plans of a case.
    pub version: i64,
    /// When it was made.
    pub made_at: Timestamp,
    /// Why it was made.
    pub why: Why,
    /// What it changed against the plan before.
    pub change: Option<C>,
}

/// A wave about to be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct NewWave {
    /// Its number in the plan.
    pub plan_wave: i64,
    /// Probability of area of its cells.
    pub mass: f64,
    /// Its cells with their probability of area, best first.
    pub cells: Vec<(Cell, f64)>,
    /// When it goes out.
    pub due_at: Timestamp,
    /// Whether an operator's hold is on it.
    pub held: bool,
}

/// A wave as it waits in the database.
#[derive(Debug, Clone)]
pub struct Wave {
    /// The alert it belongs to.
    pub alert: AlertId,
    /// 1 for the first.
    pub number: i64,
    /// The plan it comes from.
    pub plan: PlanId,
    /// Its number in that plan.
    pub plan_wave: i64,
    /// Probability of area of its cells.
    pub mass: f64,
    /// Its cells with their probability of area, best first.
    pub cells: Vec<(Cell, f64)>,
    /// When it goes out.
    pub due_at: Timestamp,
    /// Where it stands.
    pub state: WaveState,
    /// Why it needs approval.
    pub approval: Option<Approval>,
    /// Who approved it.
    pub approved_by: Option<OperatorId>,
    /// When it went out.
    pub released_at: Option<Timestamp>,
}

/// Why a wave needs a second operator.
#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize)]
pub struct Approval {
    /// The rule that asks for it, in words.
    pub why: String,
    /// Subscribers counted in its cells; counting stopped at the limit if `at_least`.
    pub subscribers: i64,
    /// Whether there are more than that.
    pub at_least: bool,
}

/// Stores a plan and gives its id and version.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn add<P: Serialize + Sync, C: Serialize + Sync>(
    tx: &mut Tx,
    case: CaseId,
    now: Timestamp,
    why: &Why,
    change: Option<&C>,
    plan: &P,
) -> Result<(PlanId, i64), StoreError> {
    let version = tx.query(&NEXT_VERSION).bind(case).fetch_one().await?.get("version")?;
    let id = PlanId::fresh();
    tx.query(&INSERT_PLAN)
        .bind(id)
        .bind(case)
        .bind(version)
        .bind(now.as_millisecond())
        .bind(to_json(why)?)
        .bind(change.map(to_json).transpose()?)
        .bind(to_json(plan)?)
        .execute()
        .await?;
    Ok((id, version))
}

/// The newest plan of a case.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn latest<P: DeserializeOwned>(
    session: &mut Session,
    case: CaseId,
) -> Result<Option<StoredPlan<P>>, StoreError> {
    let row = session.query(&SELECT_LATEST).bind(case).fetch_optional().await?;
    row.as_ref().map(to_plan).transpose()
}

/// An earlier plan of a case.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn version<P: DeserializeOwned>(
    session: &mut Session,
    case: CaseId,
    version: i64,
) -> Result<Option<StoredPlan<P>>, StoreError> {
    let row = session.query(&SELECT_VERSION).bind(case).bind(version).fetch_optional().await?;
    row.as_ref().map(to_plan).transpose()
}

/// All plans of a case in order, without what is in them.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn history<C: DeserializeOwned>(
    session: &mut Session,
    case: CaseId,
) -> Result<Vec<PlanListing<C>>, StoreError> {
    let rows = session.query(&SELECT_HISTORY).bind(case).fetch_all().await?;
    rows.iter()
        .map(|row| {
            Ok(PlanListing {
                version: row.get("version")?,
                made_at: row.time("made_at")?,
                why: row.json("why")?,
                change: row.json_or_none("change")?,
            })
        })
        .collect()
}

/// When a plan was made.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn made_at(session: &mut Session, id: PlanId) -> Result<Timestamp, StoreError> {
    session.query(&SELECT_MADE).bind(id).fetch_one().await?.time("made_at")
}

/// Adds a wave of a plan to an alert.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn add_wave(
    tx: &mut Tx,
    alert: AlertId,
    plan: PlanId,
    number: i64,
    wave: &NewWave,
) -> Result<(), StoreError> {
    let state = if wave.held { WaveState::Held } else { WaveState::Waiting };
    tx.query(&INSERT_WAVE)
        .bind(alert)
        .bind(number)
        .bind(plan)
        .bind(wave.plan_wave)
        .bind(wave.mass)
        .bind(to_json(&wave.cells)?)
        .bind(wave.due_at.as_millisecond())
        .bind(state.name())
        .execute()
        .await
        .map(drop)
}

/// The waves of an alert, in order.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn waves(session: &mut Session, alert: AlertId) -> Result<Vec<Wave>, StoreError> {
    session.query(&SELECT_WAVES).bind(alert).fetch_all().await?.iter().map(to_wave).collect()
}

/// One wave, which nobody else can change until this transaction ends.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn lock_wave(
    tx: &mut Tx,
    alert: AlertId,
    number: i64,
) -> Result<Option<Wave>, StoreError> {
    let row = tx.query(&LOCK_WAVE).bind(alert).bind(number).fetch_optional().await?;
    row.as_ref().map(to_wave).transpose()
}

/// Writes back state, approval and times of a wave that was locked.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn change_wave(tx: &mut Tx, wave: &Wave) -> Result<(), StoreError> {
    tx.query(&UPDATE_WAVE)
        .bind(wave.alert)
        .bind(wave.number)
        .bind(wave.state.name())
        .bind(wave.approval.as_ref().map(to_json).transpose()?)
        .bind(wave.approved_by)
        .bind(wave.released_at.map(Timestamp::as_millisecond))
        .bind(wave.due_at.as_millisecond())
        .execute()
        .await
        .map(drop)
}

/// Moves the due times of all waves not yet released, because the case was paused that long.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn move_waves(tx: &mut Tx, alert: AlertId, by: SignedDuration) -> Result<(), StoreError> {
    let by_ms = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
    tx.query(&MOVE_WAVES).bind(alert).bind(by_ms).execute().await.map(drop)
}

/// Takes back all waves not yet released.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn withdraw_waves(tx: &mut Tx, alert: AlertId) -> Result<u64, StoreError> {
    tx.query(&WITHDRAW_WAVES).bind(alert).execute().await
}

/// Takes back what was asked and approved of waves not yet released, because they would reach others; gives
/// how many those are.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn ask_anew(tx: &mut Tx, alert: AlertId) -> Result<u64, StoreError> {
    tx.query(&ASK_ANEW).bind(alert).execute().await
}

/// Forgets all waves not yet released, because a new plan replaces them.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn drop_waves(tx: &mut Tx, alert: AlertId) -> Result<u64, StoreError> {
    tx.query(&DROP_WAVES).bind(alert).execute().await
}

/// The waves that are due, most urgent first: alert, number, case. All but an alert's first wait for
/// its unchecked sightings, if those came in and the wave was due after `waits_since`.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn due(
    session: &mut Session,
    now: Timestamp,
    waits_since: Timestamp,
) -> Result<Vec<(AlertId, i64, CaseId)>, StoreError> {
    let rows = session
        .query(&SELECT_DUE)
        .bind(now.as_millisecond())
        .bind(waits_since.as_millisecond())
        .fetch_all()
        .await?;
    rows.iter()
        .map(|row| Ok((row.get("alert_id")?, row.get("number")?, row.get("case_id")?)))
        .collect()
}

fn to_plan<P: DeserializeOwned>(row: &Row) -> Result<StoredPlan<P>, StoreError> {
    Ok(StoredPlan {
        id: row.get("id")?,
        version: row.get("version")?,
        made_at: row.time("made_at")?,
        why: row.json("why")?,
        plan: row.json("document")?,
    })
}

fn to_wave(row: &Row) -> Result<Wave, StoreError> {
    Ok(Wave {
        alert: row.get("alert_id")?,
        number: row.get("number")?,
        plan: row.get("plan_id")?,
        plan_wave: row.get("plan_wave")?,
        mass: row.get("mass")?,
        cells: row.json("cells")?,
        due_at: row.time("due_at")?,
        state: row.named("state")?,
        approval: row.json_or_none("approval")?,
        approved_by: row.get("approved_by")?,
        released_at: row.time_or_none("released_at")?,
    })
}
