//! Making a case active: plan, waves and alert in one transaction.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{Desk, Refusal};
use crate::area::{self, Plan, PlanInputs};
use crate::dispatch;
use crate::model::{Actor, Case, Cell, Kind};
use crate::store::{Tx, alerts, plans, timeline};

/// Plans the area of a case as of now, with the lead that readers need.
pub(super) fn plan(desk: &Desk, case: &Case, now: Timestamp) -> Result<Plan, Refusal> {
    let report = case
        .report
        .as_ref()
        .ok_or_else(|| Refusal::Conflict("the case's personal data have been erased".into()))?;
    let elapsed = now.duration_since(report.lkp.at).max(SignedDuration::ZERO);
    let elapsed = Duration::try_from(elapsed).unwrap_or(Duration::ZERO);
    let inputs = PlanInputs {
        accuracy_m: report.lkp.accuracy_m,
        lead: desk.config.dispatch.lead(),
        ..PlanInputs::new(case.profile, report.lkp.position, elapsed)
    };
    Ok(area::plan(&desk.table, &desk.settings, &inputs)?)
}

/// Stores plan, waves with their due times and the alert. The case must be locked and about to be
/// active.
pub(super) async fn open_alert(
    tx: &mut Tx,
    desk: &Desk,
    case: &Case,
    now: Timestamp,
) -> Result<(), Refusal> {
    let plan = plan(desk, case, now)?;
    let (plan_id, version) = plans::add(tx, case.id, now, &plan).await?;
    let alert = alerts::open(tx, case, now).await?;
    let mut waves = 0_i64;
    for wave in plan.waves.iter().filter(|wave| !wave.cells.is_empty()) {
        waves += 1;
        let cells: Vec<(Cell, f64)> = wave.cells.iter().map(|one| (one.cell, one.p)).collect();
        let due_at = now + SignedDuration::try_from(wave.delay).unwrap_or(SignedDuration::ZERO);
        plans::add_wave(tx, alert, plan_id, waves, wave.mass, &cells, due_at).await?;
    }
    let expires_at = now + desk.config.dispatch.issue_life();
    dispatch::write_revision(tx, case, alert, 1, Kind::Issue, now, expires_at).await?;
    let detail = json!({
        "alert": alert, "plan": version, "radii_km": plan.radii, "waves": waves,
        "resolution": plan.resolution,
    });
    timeline::note(tx, case.id, now, &Actor::Homeward, "planned", &detail).await?;
    Ok(())
}
