//! Changing a case after filing: an agency proposes while people are being told, an operator decides.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::amendment::{apply, changes_alert, changes_area, check};
use super::steps::{open_alert, shorten};
use super::{Desk, FieldProblem, Refusal, locked, operator};
use crate::audience::eligibility::volunteers_only;
use crate::dispatch;
use crate::model::{
    Amendment, Audience, Caller, Case, CaseId, CaseState, Category, Holder, PlanCause, Urgency,
};
use crate::store::plans::Why;
use crate::store::{Tx, alerts, cases, plans, timeline};

/// A case as it was changed.
#[derive(Debug)]
pub struct Changed {
    /// The case.
    pub case: Case,
    /// What became of the update, if the change is one of what people read.
    pub update: Option<Update>,
}

/// What those hear of a change who were told before it.
#[derive(Debug, Clone, Serialize)]
pub struct Update {
    /// Update batches that go to them.
    pub batches: u64,
    /// Why none do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub none_because: Option<String>,
}

/// Changes a case. What an agency changes in an active case is kept as a proposal; anything else is
/// done at once, and told to everybody who was told if it changes what they read, until the case's updates
/// are used up.
///
/// # Errors
/// [`Refusal::Invalid`] names the fields that cannot be taken, [`Refusal::Conflict`] if the case is over.
pub async fn amend(
    tx: &mut Tx,
    desk: &Desk,
    caller: &Caller,
    id: CaseId,
    expected: Option<i64>,
    amendment: &Amendment,
    now: Timestamp,
) -> Result<Changed, Refusal> {
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
        return Ok(Changed { case, update: None });
    }
    let update = carry_out(tx, desk, caller, &mut case, amendment, now).await?;
    Ok(Changed { case, update })
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
) -> Result<Changed, Refusal> {
    operator(caller)?;
    let mut case = locked(tx, caller, id, expected).await?;
    check_open(&case)?;
    let proposal = case
        .proposal
        .take()
        .ok_or_else(|| Refusal::Conflict("the agency proposes no change".into()))?;
    let mut update = None;
    if accepted {
        update = carry_out(tx, desk, caller, &mut case, &proposal, now).await?;
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
    Ok(Changed { case, update })
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
) -> Result<Option<Update>, Refusal> {
    let alert = open_alert(tx, case.id).await?;
    let restricted = volunteers_only(case.profile.category, case.audience);
    let before = case.profile.category;
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
    // Only an operator who says why lets others hear of somebody in despair, whatever the category becomes.
    let despaired =
        before != case.profile.category && case.profile.category == Category::Despondent;
    let kept = restricted && !volunteers_only(case.profile.category, case.audience);
    if kept {
        case.audience = Some(Audience::Volunteers);
    }
    // That everybody may hear of it was said of a case of another category.
    if despaired && case.audience == Some(Audience::Everybody) {
        case.audience = None;
    }
    let narrowed = !restricted && volunteers_only(case.profile.category, case.audience);
    let urgency = case.urgency;
    if let (Some(urgency), Some(_)) = (amendment.urgency, &alert) {
        case.urgency = urgency;
    }
    let limit = desk.config.approval.updates;
    let used_up = case.updates >= limit;
    case.updates += i64::from(told_anew && !used_up);
    cases::change(tx, case).await?;
    let config = &desk.config;
    let update = match alert {
        Some(alert) if told_anew && !used_up => Some(Update {
            batches: dispatch::update(tx, config, case, &alert, now).await?,
            none_because: None,
        }),
        // What waits would tell those who may no longer hear of it.
        Some(alert) if told_anew || narrowed || case.urgency != urgency => {
            dispatch::renew(tx, config, case, &alert, now).await?;
            told_anew.then(|| Update {
                batches: 0,
                none_because: Some(format!(
                    "the limit of updates for a case, {limit}, is reached: only who is told from here on \
                     reads the change"
                )),
            })
        }
        _ => None,
    };
    let detail = json!({
        "fields": fields(amendment), "update": update,
        "audience_stays": kept.then_some(Audience::Volunteers),
        "audience_becomes": narrowed.then_some(Audience::Volunteers),
    });
    timeline::note(tx, case.id, now, &caller.holder.actor(), "changed", &detail).await?;
    if changes_area(amendment) {
        let because = match amendment.lkp {
            Some(_) => PlanCause::LkpCorrected,
            None => PlanCause::CaseChanged,
        };
        let why = Why {
            detail: Some(fields(amendment).join(", ")),
            ..Why::from(because)
        };
        desk.planner.replan_open(tx, case, why, now).await?;
    }
    Ok(update)
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
/// once, and what was approved for volunteers only is asked anew; nothing is taken back from those it leaves out.
///
/// # Errors
/// [`Refusal::Invalid`] without a reason, [`Refusal::Conflict`] if the case is over, [`Refusal::Forbidden`] for
/// the operator who verified the case if it lets in as many as take a second one.
pub async fn set_audience(
    tx: &mut Tx,
    desk: &Desk,
    caller: &Caller,
    id: CaseId,
    expected: Option<i64>,
    request: &AudienceRequest,
    now: Timestamp,
) -> Result<Case, Refusal> {
    let by = operator(caller)?;
    let mut case = locked(tx, caller, id, expected).await?;
    check_open(&case)?;
    if request.reason.trim().is_empty() {
        let problem = FieldProblem::new("reason", "is empty", "why, in a few words");
        return Err(Refusal::Invalid(vec![problem]));
    }
    let restricted = volunteers_only(case.profile.category, case.audience);
    case.audience = Some(request.audience);
    let alert = open_alert(tx, id).await?;
    let widened = alert
        .as_ref()
        .filter(|_| restricted && !volunteers_only(case.profile.category, case.audience));
    let mut asked_anew = 0;
    if let Some(alert) = widened {
        let limits = &desk.config.approval;
        let wide = dispatch::widening_needs_approval(tx, alert.id, limits).await?;
        if let Some(why) = wide
            && case.verified_by == Some(by)
        {
            return Err(Refusal::Forbidden(format!(
                "everybody is let in by another operator than the one who verified the case: {why}"
            )));
        }
        asked_anew = plans::ask_anew(tx, alert.id).await?;
    }
    cases::change(tx, &mut case).await?;
    let detail = json!({
        "audience": request.audience, "reason": shorten(request.reason.trim()),
        "waves_asked_anew": asked_anew,
    });
    let actor = caller.holder.actor();
    timeline::note(tx, id, now, &actor, "audience_changed", &detail).await?;
    if let Some(alert) = alert.filter(|alert| alert.rounds > 0)
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
