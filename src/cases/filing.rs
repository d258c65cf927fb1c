//! Filing a case.

use jiff::Timestamp;
use serde_json::json;

use super::duplicates::{self, Description, NEAR_IN_TIME};
use super::intake::CaseFiling;
use super::opening;
use super::verification::{granted_urgency, may_self_verify};
use super::{Desk, Refusal};
use crate::model::{
    Actor, Agency, Case, CaseId, CaseState, Category, PlanCause, Urgency, Verification,
};
use crate::store::{Tx, cases, timeline};

/// Files a case for an agency. Likely duplicates are noted on both cases, never dropped; a trusted
/// agency's complete case verifies itself, with its ceiling.
///
/// # Errors
/// [`Refusal::Invalid`] names every field that cannot be taken.
pub async fn file(
    tx: &mut Tx,
    desk: &Desk,
    agency: &Agency,
    filing: CaseFiling,
    now: Timestamp,
) -> Result<Case, Refusal> {
    let checked = filing
        .check(now, &agency.time_zone)
        .map_err(Refusal::Invalid)?;
    cases::queue_filings(tx, agency.id).await?;
    let mut case = Case {
        id: CaseId::fresh(),
        agency: agency.id,
        state: CaseState::Submitted,
        version: 1,
        urgency: Urgency::Normal,
        exercise: checked.exercise,
        time_zone: checked.time_zone,
        profile: checked.profile,
        report: Some(checked.report),
        proposal: None,
        last_seen_at: checked.last_seen_at,
        submitted_at: now,
        verification: None,
        verified_by: None,
        verified_at: None,
        ceiling: None,
        budget: None,
        audience: None,
        updates: 0,
        paused_at: None,
        paused_by_operator: false,
        closed_at: None,
        outcome: None,
        attribution: None,
        found_km: None,
        found_after_s: None,
        erase_at: None,
        erased_at: None,
    };
    cases::file(tx, &case).await?;
    let actor = Actor::Agency(agency.id, agency.name.clone());
    timeline::note(
        tx,
        case.id,
        now,
        &actor,
        "filed",
        &json!({ "exercise": case.exercise }),
    )
    .await?;
    let duplicates = note_duplicates(tx, &case, now).await?;
    verify_itself(tx, desk, agency, &mut case, duplicates, now).await?;
    Ok(case)
}

/// Notes the open cases that may be about the same person; says how many there are.
async fn note_duplicates(tx: &mut Tx, case: &Case, now: Timestamp) -> Result<usize, Refusal> {
    let Some(report) = &case.report else {
        return Ok(0);
    };
    let this = Description::of(report, case.profile);
    let (from, to) = (
        case.last_seen_at - NEAR_IN_TIME,
        case.last_seen_at + NEAR_IN_TIME,
    );
    let mut found = 0;
    for other in cases::near_in_time(tx, from, to, case.id).await? {
        let Some(report) = &other.report else {
            continue;
        };
        let Some(likeness) = duplicates::similarity(&this, &Description::of(report, other.profile))
        else {
            continue;
        };
        found += 1;
        cases::note_duplicate(tx, case.id, other.id, likeness.score, &likeness.reasons).await?;
        // Not which case: it may be another agency's, and each reads its own timeline.
        let detail = json!({ "score": likeness.score, "reasons": likeness.reasons });
        for id in [case.id, other.id] {
            timeline::note(tx, id, now, &Actor::Homeward, "likely_duplicate", &detail).await?;
        }
    }
    Ok(found)
}

/// Lets a trusted agency's complete case become active by itself.
async fn verify_itself(
    tx: &mut Tx,
    desk: &Desk,
    agency: &Agency,
    case: &mut Case,
    duplicates: usize,
    now: Timestamp,
) -> Result<(), Refusal> {
    let Some(report) = &case.report else {
        return Ok(());
    };
    if !agency.trusted {
        return Ok(());
    }
    let mut missing = may_self_verify(agency.trusted, report, case.profile, duplicates)
        .err()
        .unwrap_or_default();
    match case.profile.category {
        Category::Despondent => {
            missing.push("an operator decides who is told of somebody in despair".into());
        }
        // Its circles are 100 to 500 km wide.
        Category::Abduction => {
            missing.push("an operator decides who is told of an abduction".into());
        }
        _ if report.clues.policy.is_some() => {
            missing.push("an operator decides whether a policy draws the area".into());
        }
        _ => {}
    }
    let plan = desk.planner.draft(tx, case, None, PlanCause::Verified, now);
    match plan.await.map_err(Refusal::from) {
        Ok(_) => {}
        Err(Refusal::Store(error)) => return Err(error.into()),
        Err(refusal) => missing.push(refusal.to_string()),
    }
    if !missing.is_empty() {
        let detail = json!({ "missing": missing });
        timeline::note(
            tx,
            case.id,
            now,
            &Actor::Homeward,
            "waits_for_operator",
            &detail,
        )
        .await?;
        return Ok(());
    }
    let ceiling = desk.config.approval.self_verified_recipients;
    case.urgency = granted_urgency(report.requested_urgency, false);
    case.state = CaseState::Active;
    case.verified_at = Some(now);
    case.ceiling = Some(ceiling);
    case.verification = Some(Verification {
        checks: Vec::new(),
        by: agency.name.clone(),
        at: now,
        self_verified: true,
    });
    cases::change(tx, case).await?;
    let actor = Actor::Agency(agency.id, agency.name.clone());
    let detail = json!({ "urgency": case.urgency, "ceiling": ceiling });
    timeline::note(tx, case.id, now, &actor, "verified_itself", &detail).await?;
    opening::open_alert(tx, desk, case, now).await
}
