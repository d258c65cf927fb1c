//! Filing, reading and changing cases.

use jiff::Timestamp;

use super::sql::{Row, statements, to_json};
use super::{Session, StoreError, Tx};
use crate::model::{AgencyId, Case, CaseId, CaseState};

statements! {
    INSERT_CASE {
        "INSERT INTO cases (id, agency_id, state, version, urgency, exercise, time_zone, profile,
             report, last_seen_at, submitted_at, updates, paused_by_operator)
         VALUES ($1, $2, $3, 1, $4, $5, $6, $7, $8, $9, $10, 0, FALSE)"
    }
    SELECT_CASE {
        "SELECT * FROM cases WHERE id = $1"
    }
    LOCK_CASE {
        postgres: "SELECT * FROM cases WHERE id = $1 FOR UPDATE"
        sqlite: "SELECT * FROM cases WHERE id = $1"
    }
    QUEUE_ALONE {
        postgres: "SELECT pg_advisory_xact_lock(hashtextextended($1::uuid::text, 0))"
        sqlite: "SELECT $1 AS id"
    }
    QUEUE_SHARED {
        postgres: "SELECT pg_advisory_xact_lock_shared(hashtextextended($1::uuid::text, 0))"
        sqlite: "SELECT $1 AS id"
    }
    SELECT_PAGE {
        "SELECT * FROM cases
         WHERE (agency_id = $1 OR $1 IS NULL) AND (state = $2 OR $2 IS NULL)
           AND (id < $3 OR $3 IS NULL)
         ORDER BY id DESC LIMIT $4"
    }
    SELECT_NEAR_IN_TIME {
        "SELECT * FROM cases
         WHERE last_seen_at BETWEEN $1 AND $2 AND id <> $3 AND report IS NOT NULL
           AND (state IN ('submitted', 'active', 'paused')
                OR (verification IS NOT NULL AND verified_by IS NULL))
         ORDER BY id DESC LIMIT 500"
    }
    UPDATE_CASE {
        "UPDATE cases SET state = $2, version = version + 1, urgency = $3, report = $4, proposal = $5,
             verification = $6, verified_by = $7, verified_at = $8, ceiling = $9, budget = $10,
             updates = $11, paused_at = $12, paused_by_operator = $19, closed_at = $13, outcome = $14, attribution = $15,
             found_km = $16, found_after_s = $17, erase_at = $18, profile = $20, last_seen_at = $21,
             audience = $22
         WHERE id = $1"
    }
    INSERT_DUPLICATE {
        "INSERT INTO duplicates (case_id, other_id, score, reasons) VALUES ($1, $2, $3, $4)
         ON CONFLICT DO NOTHING"
    }
    SELECT_DUPLICATES {
        "SELECT duplicates.other_id, duplicates.score, duplicates.reasons, cases.state,
                cases.agency_id
         FROM duplicates JOIN cases ON cases.id = duplicates.other_id
         WHERE duplicates.case_id = $1 ORDER BY duplicates.score DESC"
    }
}

/// A case that may be about the same person.
#[derive(Debug, Clone)]
pub struct Duplicate {
    /// The other case.
    pub other: CaseId,
    /// The agency of the other case.
    pub agency: AgencyId,
    /// Where the other case stands.
    pub state: CaseState,
    /// How alike they are, 0 to 1.
    pub score: f64,
    /// What is alike.
    pub reasons: Vec<String>,
}

/// Files a new case.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn file(tx: &mut Tx, case: &Case) -> Result<(), StoreError> {
    tx.query(&INSERT_CASE)
        .bind(case.id)
        .bind(case.agency)
        .bind(case.state.name())
        .bind(case.urgency.name())
        .bind(case.exercise)
        .bind(case.time_zone.as_str())
        .bind(to_json(&case.profile)?)
        .bind(case.report.as_ref().map(to_json).transpose()?)
        .bind(case.last_seen_at.as_millisecond())
        .bind(case.submitted_at.as_millisecond())
        .execute()
        .await
        .map(drop)
}

/// One case.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn get(session: &mut Session, id: CaseId) -> Result<Option<Case>, StoreError> {
    session.query(&SELECT_CASE).bind(id).fetch_optional().await?.as_ref().map(to_case).transpose()
}

/// One case, which nobody else can change or fan out until this transaction ends.
///
/// Row locks alone would let those who share the case overlap for ever while this waits; the advisory
/// lock is a queue, first come first served.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn lock(tx: &mut Tx, id: CaseId) -> Result<Option<Case>, StoreError> {
    tx.query(&QUEUE_ALONE).bind(id).execute().await?;
    tx.query(&LOCK_CASE).bind(id).fetch_optional().await?.as_ref().map(to_case).transpose()
}

/// One case, which nobody can change until this transaction ends; others may share it.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn share(tx: &mut Tx, id: CaseId) -> Result<Option<Case>, StoreError> {
    tx.query(&QUEUE_SHARED).bind(id).execute().await?;
    get(tx, id).await
}

/// Lets an agency's filings go one after the other, so that each sees the one before.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn queue_filings(tx: &mut Tx, agency: AgencyId) -> Result<(), StoreError> {
    tx.query(&QUEUE_ALONE).bind(agency).execute().await.map(drop)
}

/// A page of cases, newest first, from before `before`; of one agency and in one state if given.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn page(
    session: &mut Session,
    agency: Option<AgencyId>,
    state: Option<CaseState>,
    before: Option<CaseId>,
    limit: i64,
) -> Result<Vec<Case>, StoreError> {
    let rows = session
        .query(&SELECT_PAGE)
        .bind(agency)
        .bind(state.map(CaseState::name))
        .bind(before)
        .bind(limit)
        .fetch_all()
        .await?;
    rows.iter().map(to_case).collect()
}

/// Cases last seen between two moments that a new one could be about, too: those that are open, and
/// those that verified themselves, closed or not.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn near_in_time(
    session: &mut Session,
    from: Timestamp,
    to: Timestamp,
    except: CaseId,
) -> Result<Vec<Case>, StoreError> {
    let rows = session
        .query(&SELECT_NEAR_IN_TIME)
        .bind(from.as_millisecond())
        .bind(to.as_millisecond())
        .bind(except)
        .fetch_all()
        .await?;
    rows.iter().map(to_case).collect()
}

/// Writes back a case that was locked, and counts its version up.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn change(tx: &mut Tx, case: &mut Case) -> Result<(), StoreError> {
    let ms = |at: Option<Timestamp>| at.map(Timestamp::as_millisecond);
    tx.query(&UPDATE_CASE)
        .bind(case.id)
        .bind(case.state.name())
        .bind(case.urgency.name())
        .bind(case.report.as_ref().map(to_json).transpose()?)
        .bind(case.proposal.as_ref().map(to_json).transpose()?)
        .bind(case.verification.as_ref().map(to_json).transpose()?)
        .bind(case.verified_by)
        .bind(ms(case.verified_at))
        .bind(case.ceiling)
        .bind(case.budget)
        .bind(case.updates)
        .bind(ms(case.paused_at))
        .bind(ms(case.closed_at))
        .bind(case.outcome.map(crate::model::Outcome::name))
        .bind(case.attribution.as_ref().map(to_json).transpose()?)
        .bind(case.found_km)
        .bind(case.found_after_s)
        .bind(ms(case.erase_at))
        .bind(case.paused_by_operator)
        .bind(to_json(&case.profile)?)
        .bind(case.last_seen_at.as_millisecond())
        .bind(case.audience.map(crate::model::Audience::name))
        .execute()
        .await?;
    case.version += 1;
    Ok(())
}

/// Notes that two cases may be about the same person.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn note_duplicate(
    tx: &mut Tx,
    case: CaseId,
    other: CaseId,
    score: f64,
    reasons: &[String],
) -> Result<(), StoreError> {
    for (one, two) in [(case, other), (other, case)] {
        tx.query(&INSERT_DUPLICATE)
            .bind(one)
            .bind(two)
            .bind(score)
            .bind(to_json(&reasons)?)
            .execute()
            .await?;
    }
    Ok(())
}

/// The cases that may be about the same person, likeliest first.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn duplicates(session: &mut Session, case: CaseId) -> Result<Vec<Duplicate>, StoreError> {
    let rows = session.query(&SELECT_DUPLICATES).bind(case).fetch_all().await?;
    rows.iter()
        .map(|row| {
            Ok(Duplicate {
                other: row.get("other_id")?,
                agency: row.get("agency_id")?,
                state: row.named("state")?,
                score: row.get("score")?,
                reasons: row.json("reasons")?,
            })
        })
        .collect()
}

fn to_case(row: &Row) -> Result<Case, StoreError> {
    Ok(Case {
        id: row.get("id")?,
        agency: row.get("agency_id")?,
        state: row.named("state")?,
        version: row.get("version")?,
        urgency: row.named("urgency")?,
        exercise: row.get("exercise")?,
        time_zone: row.get("time_zone")?,
        profile: row.json("profile")?,
        report: row.json_or_none("report")?,
        proposal: row.json_or_none("proposal")?,
        last_seen_at: row.time("last_seen_at")?,
        submitted_at: row.time("submitted_at")?,
        verification: row.json_or_none("verification")?,
        verified_by: row.get("verified_by")?,
        verified_at: row.time_or_none("verified_at")?,
        ceiling: row.get("ceiling")?,
        budget: row.get("budget")?,
        audience: row.named_or_none("audience")?,
        updates: row.get("updates")?,
        paused_at: row.time_or_none("paused_at")?,
        paused_by_operator: row.get("paused_by_operator")?,
        closed_at: row.time_or_none("closed_at")?,
        outcome: row.named_or_none("outcome")?,
        attribution: row.json_or_none("attribution")?,
        found_km: row.get("found_km")?,
        found_after_s: row.get("found_after_s")?,
        erase_at: row.time_or_none("erase_at")?,
        erased_at: row.time_or_none("erased_at")?,
    })
}
