//! What operators decide about the waves of a case that have not gone out.

use jiff::Timestamp;
use serde_json::json;

use super::steps::{Reason, open_alert, shorten};
use super::{Desk, Refusal, locked, operator};
use crate::model::{Caller, CaseId, PlanCause, WaveState};
use crate::store::plans::{self, Why};
use crate::store::{Tx, timeline};

/// Makes a new plan as things stand: waves that have not gone out are replaced, the others stay.
///
/// # Errors
/// [`Refusal::Conflict`] if the case has no open alert.
pub async fn replan(
    tx: &mut Tx,
    desk: &Desk,
    caller: &Caller,
    id: CaseId,
    reason: &Reason,
    now: Timestamp,
) -> Result<i64, Refusal> {
    operator(caller)?;
    let case = locked(tx, caller, id, None).await?;
    let detail = json!({ "reason": reason.reason.as_deref().map(shorten) });
    timeline::note(
        tx,
        id,
        now,
        &caller.holder.actor(),
        "replan_requested",
        &detail,
    )
    .await?;
    // The operator's words stay in the note above, which goes when the case's personal data do.
    let why = Why::from(PlanCause::Requested);
    desk.planner
        .replan_open(tx, &case, why, now)
        .await?
        .ok_or_else(no_alert)
}

/// Approves a wide or held wave, or one that is not due yet; it goes out when due.
///
/// # Errors
/// [`Refusal::Forbidden`] for the operator who verified the case, [`Refusal::Conflict`] if the wave
/// has gone out.
pub async fn approve(
    tx: &mut Tx,
    caller: &Caller,
    id: CaseId,
    number: i64,
    now: Timestamp,
) -> Result<(), Refusal> {
    let by = operator(caller)?;
    let case = locked(tx, caller, id, None).await?;
    if case.verified_by == Some(by) {
        return Err(Refusal::Forbidden(
            "a wave is approved by another operator than the one who verified the case".into(),
        ));
    }
    let mut wave = waiting_wave(tx, id, number).await?;
    wave.state = WaveState::Waiting;
    wave.approved_by = Some(by);
    plans::change_wave(tx, &wave).await?;
    let detail = json!({ "wave": number });
    timeline::note(
        tx,
        id,
        now,
        &caller.holder.actor(),
        "wave_approved",
        &detail,
    )
    .await?;
    Ok(())
}

/// Holds back a wave that has not gone out, until it is approved.
///
/// # Errors
/// [`Refusal::Conflict`] if the wave has gone out.
pub async fn hold(
    tx: &mut Tx,
    caller: &Caller,
    id: CaseId,
    number: i64,
    now: Timestamp,
) -> Result<(), Refusal> {
    locked(tx, caller, id, None).await?;
    let mut wave = waiting_wave(tx, id, number).await?;
    wave.state = WaveState::Held;
    wave.approved_by = None;
    plans::change_wave(tx, &wave).await?;
    let detail = json!({ "wave": number });
    timeline::note(tx, id, now, &caller.holder.actor(), "wave_held", &detail).await?;
    Ok(())
}

async fn waiting_wave(tx: &mut Tx, id: CaseId, number: i64) -> Result<plans::Wave, Refusal> {
    let alert = open_alert(tx, id).await?.ok_or_else(no_alert)?;
    let wave = plans::lock_wave(tx, alert.id, number)
        .await?
        .ok_or(Refusal::NotFound("wave"))?;
    if matches!(wave.state, WaveState::Released | WaveState::Withdrawn) {
        return Err(Refusal::Conflict(format!(
            "wave {number} is {} already",
            wave.state
        )));
    }
    Ok(wave)
}

fn no_alert() -> Refusal {
    Refusal::Conflict("the case has no open alert: it has to be verified first".into())
}
