//! The steps of a case's life: verify, reject, pause, resume, close, reopen; and its waves.

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::json;

use super::lifecycle::{Step, after};
use super::verification::{granted_urgency, missing_checks};
use super::{Desk, FieldProblem, Refusal, locked, opening, operator};
use crate::area::great_circle_km;
use crate::dispatch::{self, Recalled};
use crate::model::{
    AlertRecord, Attribution, Audience, Caller, Case, CaseId, Check, Datum, OperatorId, Outcome,
    Urgency, Verification, WaveState,
};
use crate::store::{Session, Tx, alerts, cases, holders, plans, sightings, timeline};

/// What an operator says when verifying or confirming.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyRequest {
    /// The points that were checked; all of them are required.
    pub checks: Vec<Check>,
    /// The urgency granted; what the agency asked for if left out.
    pub urgency: Option<Urgency>,
    /// The most people the case may tell altogether.
    pub budget: Option<i64>,
}

/// Why something was done.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// For the timeline: nothing personal.
    #[serde(default)]
    pub reason: Option<String>,
}

/// How a case ended.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloseRequest {
    /// How it ended.
    pub outcome: Outcome,
    /// What led to it, if known.
    pub attribution: Option<Attribution>,
    /// Where and when the person was found.
    pub found: Option<Found>,
}

/// Where and when the person was found. Only the distance and the time it took are kept.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// Degrees north.
    pub lat: f64,
    /// Degrees east.
    pub lon: f64,
    /// The datum of the coordinates.
    #[serde(default)]
    pub datum: Datum,
    /// When.
    pub at: Timestamp,
}

/// Verifies a submitted case, or confirms one that verified itself (which lifts its ceiling).
///
/// # Errors
/// [`Refusal::Invalid`] if a check is missing, [`Refusal::Illegal`] if the case is elsewhere.
pub async fn verify(
    tx: &mut Tx,
    desk: &Desk,
    caller: &Caller,
    id: CaseId,
    expected: Option<i64>,
    request: &VerifyRequest,
    now: Timestamp,
) -> Result<Case, Refusal> {
    let by = operator(caller)?;
    let mut case = locked(tx, caller, id, expected).await?;
    let confirms = case.verification.as_ref().is_some_and(|v| v.self_verified);
    let step = if confirms {
        Step::Confirm
    } else {
        Step::Verify
    };
    case.state = after(case.state, step)?;
    check_request(request)?;
    let requested = case
        .report
        .as_ref()
        .map_or(Urgency::Normal, |r| r.requested_urgency);
    case.urgency = granted_urgency(request.urgency.unwrap_or(requested), true);
    case.budget = request.budget;
    case.ceiling = None;
    case.verified_by = Some(by);
    case.verified_at = case.verified_at.or(Some(now));
    case.verification = Some(Verification {
        checks: request.checks.clone(),
        by: caller.holder.actor().to_string(),
        at: now,
        self_verified: false,
    });
    cases::change(tx, &mut case).await?;
    let detail = json!({
        "checks": request.checks, "urgency": case.urgency, "budget": case.budget,
    });
    let what = if confirms { "confirmed" } else { "verified" };
    timeline::note(tx, id, now, &caller.holder.actor(), what, &detail).await?;
    if confirms {
        confirm_alert(tx, desk, &case, by, now).await?;
    } else {
        opening::open_alert(tx, desk, &case, now).await?;
    }
    Ok(case)
}

/// Lets the alert of a case that verified itself go on as an operator's: those whom the ceiling held
/// back are told at once, and approvals by the same operator no longer count.
async fn confirm_alert(
    tx: &mut Tx,
    desk: &Desk,
    case: &Case,
    by: OperatorId,
    now: Timestamp,
) -> Result<(), Refusal> {
    let Some(alert) = open_alert(tx, case.id).await? else {
        return Ok(());
    };
    for mut wave in plans::waves(tx, alert.id).await? {
        let unreleased = matches!(wave.state, WaveState::Waiting | WaveState::Approval);
        if unreleased && wave.approved_by == Some(by) {
            wave.approved_by = None;
            plans::change_wave(tx, &wave).await?;
        }
    }
    if alert.urgency != case.urgency {
        dispatch::renew(tx, &desk.config, case, &alert, now).await?;
    } else if alert.rounds > 0 {
        alerts::sweep_at(tx, alert.id, Some(now)).await?;
    }
    Ok(())
}

fn check_request(request: &VerifyRequest) -> Result<(), Refusal> {
    let mut problems = Vec::new();
    let missing = missing_checks(&request.checks);
    if !missing.is_empty() {
        let names: Vec<_> = missing.iter().map(|check| check.name()).collect();
        problems.push(FieldProblem::new(
            "checks",
            format!("not every point was checked: {} missing", names.join(", ")),
            "all of them, each done by you",
        ));
    }
    if request.budget.is_some_and(|budget| budget < 1) {
        problems.push(FieldProblem::new(
            "budget",
            "nobody could be told",
            "at least 1, or none",
        ));
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Refusal::Invalid(problems))
    }
}

/// A step that needs nothing but a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlainStep {
    /// Does not take a case on; operators only.
    Reject,
    /// Halts a case: nothing goes out, nothing is recalled. An agency can do it without waiting.
    Pause,
    /// Lets a paused case go on; its due times move by as long as it was paused.
    Resume,
    /// Takes a closed or rejected case up again. It has to be verified anew and gets a new alert.
    Reopen,
}

/// Takes a step that needs nothing but a reason.
///
/// # Errors
/// [`Refusal::Illegal`] if the life cycle does not allow it now, [`Refusal::Conflict`] for reopening
/// a case that was erased.
#[expect(clippy::too_many_arguments, reason = "each is a part of the request")]
pub async fn take(
    tx: &mut Tx,
    desk: &Desk,
    caller: &Caller,
    id: CaseId,
    expected: Option<i64>,
    step: PlainStep,
    reason: &Reason,
    now: Timestamp,
) -> Result<Case, Refusal> {
    let by_operator = operator(caller).is_ok();
    if step == PlainStep::Reject {
        operator(caller)?;
    }
    let mut case = locked(tx, caller, id, expected).await?;
    if step == PlainStep::Resume && case.paused_by_operator && !by_operator {
        return Err(Refusal::Forbidden(
            "an operator paused it: only an operator resumes it".into(),
        ));
    }
    let (which, what) = match step {
        PlainStep::Reject => (Step::Reject, "rejected"),
        PlainStep::Pause => (Step::Pause, "paused"),
        PlainStep::Resume => (Step::Resume, "resumed"),
        PlainStep::Reopen => (Step::Reopen, "reopened"),
    };
    case.state = after(case.state, which)?;
    match step {
        PlainStep::Reject => {
            case.closed_at = Some(now);
            case.erase_at = Some(erase_at(tx, desk, &case, now).await?);
        }
        PlainStep::Pause => {
            case.paused_at = Some(now);
            case.paused_by_operator = by_operator;
        }
        PlainStep::Resume => move_due_times(tx, &mut case, now).await?,
        PlainStep::Reopen => start_over(&mut case)?,
    }
    cases::change(tx, &mut case).await?;
    let detail = json!({ "reason": reason.reason.as_deref().map(shorten) });
    timeline::note(tx, id, now, &caller.holder.actor(), what, &detail).await?;
    Ok(case)
}

/// Moves what is due by as long as the case was paused.
async fn move_due_times(tx: &mut Tx, case: &mut Case, now: Timestamp) -> Result<(), Refusal> {
    let paused_at = case.paused_at.take();
    case.paused_by_operator = false;
    let paused_for = paused_at.map_or(SignedDuration::ZERO, |at| now.duration_since(at));
    if let Some(alert) = open_alert(tx, case.id).await? {
        plans::move_waves(tx, alert.id, paused_for).await?;
        alerts::move_sweep(tx, alert.id, paused_for).await?;
        sightings::move_believed(tx, case.id, paused_for).await?;
    }
    Ok(())
}

/// Forgets how a case was verified and how it ended.
fn start_over(case: &mut Case) -> Result<(), Refusal> {
    if case.report.is_none() {
        return Err(Refusal::Conflict(
            "the case's personal data have been erased: file a new one".into(),
        ));
    }
    case.verification = None;
    case.verified_by = None;
    case.verified_at = None;
    case.ceiling = None;
    case.budget = None;
    // That only volunteers hear of it stays until an operator says otherwise.
    case.audience = case
        .audience
        .filter(|audience| *audience == Audience::Volunteers);
    case.updates = 0;
    case.closed_at = None;
    case.outcome = None;
    case.attribution = None;
    case.found_km = None;
    case.found_after_s = None;
    case.erase_at = None;
    Ok(())
}

/// Ends a case with its outcome and takes its alert back from everybody who was told. An agency can
/// do it without waiting.
///
/// # Errors
/// [`Refusal::Illegal`] if the case is closed already, [`Refusal::Invalid`] if the find cannot be.
pub async fn close(
    tx: &mut Tx,
    desk: &Desk,
    caller: &Caller,
    id: CaseId,
    expected: Option<i64>,
    request: &CloseRequest,
    now: Timestamp,
) -> Result<(Case, Option<Recalled>), Refusal> {
    let mut case = locked(tx, caller, id, expected).await?;
    case.state = after(case.state, Step::Close)?;
    if let Some(found) = &request.found {
        let (km, after) = check_found(&case, found, now)?;
        case.found_km = km;
        case.found_after_s = Some(after.as_secs());
    }
    case.outcome = Some(request.outcome);
    case.attribution.clone_from(&request.attribution);
    case.closed_at = Some(now);
    case.paused_at = None;
    case.paused_by_operator = false;
    case.erase_at = Some(erase_at(tx, desk, &case, now).await?);
    cases::change(tx, &mut case).await?;
    let recalled = match open_alert(tx, id).await? {
        Some(alert) => Some(dispatch::recall(tx, &desk.config, &case, &alert, now).await?),
        None => None,
    };
    let detail = json!({
        "outcome": request.outcome, "attribution": request.attribution, "recall": recalled,
        "found_km": case.found_km,
    });
    timeline::note(tx, id, now, &caller.holder.actor(), "closed", &detail).await?;
    Ok((case, recalled))
}

fn check_found(
    case: &Case,
    found: &Found,
    now: Timestamp,
) -> Result<(Option<f64>, SignedDuration), Refusal> {
    let position = found
        .datum
        .to_wgs84(found.lat, found.lon)
        .map_err(|error| {
            Refusal::Invalid(vec![FieldProblem::new(
                "found",
                error.to_string(),
                "the position of the find, in degrees",
            )])
        })?;
    if found.at < case.last_seen_at || found.at > now + SignedDuration::from_mins(1) {
        return Err(Refusal::Invalid(vec![FieldProblem::new(
            "found.at",
            "lies before the person was last seen, or in the future",
            "a time between the two",
        )]));
    }
    let km = case
        .report
        .as_ref()
        .map(|report| great_circle_km(report.lkp.position, position));
    Ok((km, found.at.duration_since(case.last_seen_at)))
}

/// The open alert of a case.
pub(super) async fn open_alert(
    session: &mut Session,
    case: CaseId,
) -> Result<Option<AlertRecord>, Refusal> {
    Ok(alerts::newest(session, case)
        .await?
        .filter(|alert| alert.closed_at.is_none()))
}

/// Reasons are a note, not a file.
pub(super) fn shorten(reason: &str) -> String {
    reason.chars().take(200).collect()
}

/// When the retention period is over; never before the recall has had its time.
async fn erase_at(
    tx: &mut Tx,
    desk: &Desk,
    case: &Case,
    now: Timestamp,
) -> Result<Timestamp, Refusal> {
    let agency = holders::agency(tx, case.agency)
        .await?
        .ok_or(Refusal::NotFound("agency"))?;
    let retention = SignedDuration::from_hours(24 * agency.retention_days);
    Ok(now + retention.max(desk.config.dispatch.recall_life()))
}
