//! Making a case active: alert, plan and waves in one transaction.

use jiff::Timestamp;

use super::{Desk, Refusal};
use crate::dispatch;
use crate::model::{Case, Kind};
use crate::store::{Tx, alerts};

/// Opens the alert of a case, with its first plan, the waves and what people read. The case must be
/// locked and about to be active.
pub(super) async fn open_alert(
    tx: &mut Tx,
    desk: &Desk,
    case: &Case,
    now: Timestamp,
) -> Result<(), Refusal> {
    let alert = alerts::open(tx, case, now).await?;
    desk.planner.plan_first(tx, case, alert, now).await?;
    let expires_at = now + desk.config.dispatch.issue_life();
    dispatch::write_revision(tx, case, alert, 1, Kind::Issue, now, expires_at).await?;
    Ok(())
}
