//! Changing a case after filing: an agency proposes while people are being told, an operator decides.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::amendment::{apply, changes_alert, changes_area, check};
use super::steps::{open_alert, shorten};
use super::{Desk, FieldProblem, Refusal, locked, operator};
use crate::audience::eligibility::volunteers_only;
use crate::dispatch;
use crate::model::{
    Amendment, Audience, Caller, Case, CaseId, CaseState, Holder, PlanCause, Urgency,
};
use crate::store::plans::Why;
use crate::store::{Tx, alerts, cases, timeline};

/// Changes a case. What an agency changes in an active case is kept as a proposal; anything else is
/// done at once, and told to everybody who was told if it changes what they read.
///
/// # Errors
/// [`Refusal::Invalid`] names the fields that cannot be taken, [`Refusal::Conflict`] if the case is
/// over or its updates are used up.
pub async fn amend(
    tx: &mut Tx,
    desk: &Desk,
    caller: &Caller,
    id: CaseId,
    expected: Option<i64>,
    amendment: &Amendment,
    now: Timestamp,
) -> Result<Case, Refusal> {
    let mut case = locked(tx, caller, id, expected).await?;
    check_open(&case)?;
    let by_operator = matches!(caller.holder, Holder::Operator(..));
    if amendment.urgency == Some(Urgency::Critical) && !by_operator {
        return Err(Refusal::Forbidden(
            "only an operator grants critical urgency".into(),
        ));
    }
    if !by_operator && case.state != CaseState::Submitted {
        let proposal = match case.proposal.take() {
            Some(before) => merge(before, amendment.clone()),
            None => amendment.clone(),
        };
        if let Some(report) = &case.report {
            check(&proposal, report, case.profile, now).map_err(Refusal::Invalid)?;
        }
        case.proposal = Some(proposal);
        cases::change(tx, &mut case).await?;
        let detail = json!({ "fields": fields(amendment) });
        timeline::note(
            tx,
            id,
            now,
            &caller.holder.actor(),
            "change_proposed",
            &detail,
        )
        .await?;
        return Ok(case);
    }
    carry_out(tx, desk, caller, &mut case, amendment, now).await?;
    Ok(case)
}

/// Decides about what an agency proposed: carries it out, or drops it.
///
/// # Errors
/// [`Refusal::Conflict`] if nothing is proposed.
pub async fn decide_proposal(
    tx: &mut Tx,
    desk: &Desk,
    caller: &Caller,
    id: CaseId,
    expected: Option<i64>,
    accepted: bool,
    now: Timestamp,
) -> Result<Case, Refusal> {
    operator(caller)?;
    let mut case = locked(tx, caller, id, expected).await?;
    check_open(&case)?;
    let proposal = case
        .proposal
        .take()
        .ok_or_else(|| Refusal::Conflict("the agency proposes no change".into()))?;
    if accepted {
        carry_out(tx, desk, caller, &mut case, &proposal, now).await?;
    } else {
        cases::change(tx, &mut case).await?;
        let detail = json!({ "fields": fields(&proposal) });
        timeline::note(
            tx,
            id,
            now,
            &caller.holder.actor(),
            "proposal_declined",
            &detail,
        )
        .await?;
    }
    Ok(case)
}

fn check_open(case: &Case) -> Result<(), Refusal> {
    match case.state {
        CaseState::Submitted | CaseState::Active | CaseState::Paused => Ok(()),
        state => Err(Refusal::Conflict(format!(
            "the case is {state}: reopen it to change it"
        ))),
    }
}

async fn carry_out(
    tx: &mut Tx,
    desk: &Desk,
    caller: &Caller,
    case: &mut Case,
    amendment: &Amendment,
    now: Timestamp,
) -> Result<(), Refusal> {
    let alert = open_alert(tx, case.id).await?;
    let mut told_anew = false;
    if let Some(report) = &mut case.report {
        check(amendment, report, case.profile, now).map_err(Refusal::Invalid)?;
        told_anew = alert.is_some() && changes_alert(amendment, report, case.profile);
        apply(amendment, report, &mut case.profile);
        case.last_seen_at = report.lkp.at;
        if let (Some(urgency), None) = (amendment.urgency, &alert) {
            report.requested_urgency = urgency;
        }
    }
    let before = case.urgency;
    if let (Some(urgency), Some(_)) = (amendment.urgency, &alert) {
        case.urgency = urgency;
    }
    let limit = desk.config.approval.updates;
    if told_anew && case.updates >= limit {
        return Err(Refusal::Conflict(format!(
            "the alert was updated {limit} times already, which is the limit"
        )));
    }
    case.updates += i64::from(told_anew);
    cases::change(tx, case).await?;
    let config = &desk.config;
    let batches = match alert {
        Some(alert) if told_anew => Some(dispatch::update(tx, config, case, &alert, now).await?),
        Some(alert) if case.urgency != before => {
            dispatch::renew(tx, config, case, &alert, now).await?;
            None
        }
        _ => None,
    };
    let detail = json!({ "fields": fields(amendment), "update_batches": batches });
    timeline::note(tx, case.id, now, &caller.holder.actor(), "changed", &detail).await?;
    if changes_area(amendment) {
        let why = Why::from(PlanCause::CaseChanged);
        desk.planner.replan_open(tx, case, why, now).await?;
    }
    Ok(())
}

/// Who is told of a case, and why.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AudienceRequest {
    /// Who is told from here on.
    pub audience: Audience,
    /// Why, for the timeline: nothing personal.
    pub reason: String,
}

/// Says who is told, whatever the policy for the category. Those whom it lets in are told by a sweep at
/// once; nothing is taken back from those it leaves out.
///
/// # Errors
/// [`Refusal::Invalid`] without a reason, [`Refusal::Conflict`] if the case is over.
pub async fn set_audience(
    tx: &mut Tx,
    caller: &Caller,
    id: CaseId,
    expected: Option<i64>,
    request: &AudienceRequest,
    now: Timestamp,
) -> Result<Case, Refusal> {
    operator(caller)?;
    let mut case = locked(tx, caller, id, expected).await?;
    check_open(&case)?;
    if request.reason.trim().is_empty() {
        let problem = FieldProblem::new("reason", "is empty", "why, in a few words");
        return Err(Refusal::Invalid(vec![problem]));
    }
    case.audience = Some(request.audience);
    cases::change(tx, &mut case).await?;
    let detail = json!({ "audience": request.audience, "reason": shorten(request.reason.trim()) });
    let actor = caller.holder.actor();
    timeline::note(tx, id, now, &actor, "audience_changed", &detail).await?;
    let open = open_alert(tx, id).await?.filter(|alert| alert.rounds > 0);
    if let Some(alert) = open
        && !volunteers_only(case.profile.category, case.audience)
    {
        alerts::sweep_at(tx, alert.id, Some(now)).await?;
    }
    Ok(case)
}

/// A later proposal wins field by field.
fn merge(before: Amendment, after: Amendment) -> Amendment {
    Amendment {
        description: after.description.or(before.description),
        clothing: after.clothing.or(before.clothing),
        photo_reference: after.photo_reference.or(before.photo_reference),
        circumstances: after.circumstances.or(before.circumstances),
        contact: after.contact.or(before.contact),
        consent: after.consent.or(before.consent),
        urgency: after.urgency.or(before.urgency),
        lkp: after.lkp.or(before.lkp),
        category: after.category.or(before.category),
        mobility: after.mobility.or(before.mobility),
        environment: after.environment.or(before.environment),
        clues: after.clues.or(before.clues),
    }
}

/// The names of the fields that an amendment changes; never what they say.
fn fields(amendment: &Amendment) -> Vec<&'static str> {
    let given = [
        ("description", amendment.description.is_some()),
        ("clothing", amendment.clothing.is_some()),
        ("photo_reference", amendment.photo_reference.is_some()),
        ("circumstances", amendment.circumstances.is_some()),
        ("contact", amendment.contact.is_some()),
        ("consent", amendment.consent.is_some()),
        ("urgency", amendment.urgency.is_some()),
        ("lkp", amendment.lkp.is_some()),
        ("category", amendment.category.is_some()),
        ("mobility", amendment.mobility.is_some()),
        ("environment", amendment.environment.is_some()),
        ("clues", amendment.clues.is_some()),
    ];
    given
        .into_iter()
        .filter(|(_, given)| *given)
        .map(|(name, _)| name)
        .collect()
}
