//! How cases ended.

use std::time::Duration;

use jiff::Timestamp;

use super::sql::statements;
use super::{Session, StoreError};
use crate::model::{AgencyId, Attribution, CaseId, Outcome, Profile};

statements! {
    SELECT_OUTCOMES {
        "SELECT cases.id, cases.profile, cases.exercise, cases.last_seen_at, cases.verified_at,
                cases.closed_at, cases.outcome, cases.attribution, cases.found_km,
                cases.found_after_s,
                (SELECT CAST(coalesce(sum(b.people), 0) AS BIGINT) FROM batches b
                     JOIN alerts a ON a.id = b.alert_id
                     WHERE a.case_id = cases.id AND b.kind = 'issue' AND b.sending_at IS NOT NULL
                ) AS told,
                (SELECT count(*) FROM sightings s WHERE s.case_id = cases.id) AS sightings
         FROM cases
         WHERE cases.state = 'closed' AND (cases.agency_id = $1 OR $1 IS NULL)
           AND (cases.id < $2 OR $2 IS NULL)
         ORDER BY cases.id DESC LIMIT $3"
    }
    SELECT_FINDS {
        "SELECT profile, found_km, found_after_s FROM cases
         WHERE state = 'closed' AND found_km IS NOT NULL AND found_after_s IS NOT NULL
           AND exercise = FALSE
         ORDER BY id"
    }
}

/// How far and how long after they were last seen somebody was found.
#[derive(Debug, Clone, Copy)]
pub struct Find {
    /// What the distance law depended on.
    pub profile: Profile,
    /// Straight line from the last known position, in km.
    pub km: f64,
    /// From last seen to the find.
    pub after: Duration,
}

/// The finds of all closed cases but drills, as far as they are known.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn finds(session: &mut Session) -> Result<Vec<Find>, StoreError> {
    let rows = session.query(&SELECT_FINDS).fetch_all().await?;
    rows.iter()
        .map(|row| {
            let after_s: i64 = row.get("found_after_s")?;
            Ok(Find {
                profile: row.json("profile")?,
                km: row.get("found_km")?,
                after: Duration::from_secs(u64::try_from(after_s).unwrap_or(0)),
            })
        })
        .collect()
}

/// How one case ended.
#[derive(Debug, Clone, serde::Serialize)]
pub struct OutcomeListing {
    /// The case.
    pub case: CaseId,
    /// What the distance law depended on.
    pub profile: Profile,
    /// Whether it was a drill.
    pub exercise: bool,
    /// When the person was last seen.
    pub last_seen_at: Timestamp,
    /// When people were first told.
    pub verified_at: Option<Timestamp>,
    /// When it was closed.
    pub closed_at: Option<Timestamp>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// What led to the find.
    pub attribution: Option<Attribution>,
    /// Straight line from the last known position to the find, in km.
    pub found_km: Option<f64>,
    /// Seconds from last seen to the find.
    pub found_after_s: Option<i64>,
    /// People told.
    pub told: i64,
    /// Sightings reported.
    pub sightings: i64,
}

/// A page of closed cases, newest first; of one agency if given.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn page(
    session: &mut Session,
    agency: Option<AgencyId>,
    before: Option<CaseId>,
    limit: i64,
) -> Result<Vec<OutcomeListing>, StoreError> {
    let rows = session
        .query(&SELECT_OUTCOMES)
        .bind(agency)
        .bind(before)
        .bind(limit)
        .fetch_all()
        .await?;
    rows.iter()
        .map(|row| {
            Ok(OutcomeListing {
                case: row.get("id")?,
                profile: row.json("profile")?,
                exercise: row.get("exercise")?,
                last_seen_at: row.time("last_seen_at")?,
                verified_at: row.time_or_none("verified_at")?,
                closed_at: row.time_or_none("closed_at")?,
                outcome: row.named_or_none("outcome")?,
                attribution: row.json_or_none("attribution")?,
                found_km: row.get("found_km")?,
                found_after_s: row.get("found_after_s")?,
                told: row.get("told")?,
                sightings: row.get("sightings")?,
            })
        })
        .collect()
}
