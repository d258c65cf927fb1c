//! What a wave would reach, and whether that takes a second operator.

use std::collections::HashMap;

use super::release::released_cells;
use crate::area;
use crate::config::Approval;
use crate::model::{AlertId, Cell, CellRange, WaveState};
use crate::store::{Session, StoreError, plans, subscribers};

/// What a wave would reach.
#[derive(Debug)]
pub(super) struct Cost {
    /// Subscribers registered in its cells whom the case's restriction lets hear of it, and volunteers further
    /// out; counting stopped there if `at_least`.
    pub subscribers: i64,
    /// Whether there are more.
    pub at_least: bool,
    /// The rule that asks for a second operator, if one does.
    pub needs_approval: Option<String>,
    /// All subscribers by subscriber cell of its own cells, as far as they were counted.
    pub(super) by_cell: HashMap<i64, i64>,
}

/// Counts what a wave of these cells and this probability of area would reach, with the volunteers in
/// the cells `further` out who hear with it; only as far as the limits ask if there are any. In its own cells
/// only the volunteers count if the case is for volunteers only.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub(super) async fn cost_of_wave(
    session: &mut Session,
    cells: &[(Cell, f64)],
    mass: f64,
    further: &[(Cell, f64)],
    volunteers_only: bool,
    limits: Option<&Approval>,
) -> Result<Cost, StoreError> {
    let allowed = limits.map(|limits| allowed(mass, limits));
    let stop = match allowed {
        Some(allowed) if !volunteers_only => allowed.saturating_add(1),
        _ => i64::MAX,
    };
    let here = ranges(cells);
    let by_cell = subscribers::count_by_cell(session, &here, stop).await?;
    let told = if volunteers_only {
        subscribers::volunteers_by_cell(session, &here)
            .await?
            .into_values()
            .sum::<i64>()
    } else {
        by_cell.values().sum()
    };
    let volunteers = subscribers::volunteers_by_cell(session, &ranges(further)).await?;
    let subscribers = told + volunteers.into_values().sum::<i64>();
    let who = if volunteers_only {
        "volunteers"
    } else {
        "subscribers"
    };
    let needs_approval = allowed
        .filter(|allowed| subscribers > *allowed)
        .map(|allowed| {
            format!(
                "it would reach more than {allowed} {who} for {:.0} % of the probability of area",
                mass * 100.0
            )
        });
    // Volunteers are counted in full.
    let at_least = needs_approval.is_some() && !volunteers_only;
    Ok(Cost {
        subscribers,
        at_least,
        needs_approval,
        by_cell,
    })
}

/// Whether the volunteers in a wave hear one wave early: if there are any in its cells or `here`, in those of
/// the wave before, and if it would go out without a second operator.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub(super) async fn volunteers_hear_early(
    session: &mut Session,
    here: &[(Cell, f64)],
    cells: &[(Cell, f64)],
    mass: f64,
    volunteers_only: bool,
    limits: &Approval,
) -> Result<bool, StoreError> {
    // Counting everybody takes far longer than looking for volunteers.
    let both = ranges(&[here, cells].concat());
    if subscribers::volunteers_by_cell(session, &both)
        .await?
        .is_empty()
    {
        return Ok(false);
    }
    let allowed = allowed(mass, limits);
    let ranges = ranges(cells);
    let by_cell = if volunteers_only {
        subscribers::volunteers_by_cell(session, &ranges).await?
    } else {
        subscribers::count_by_cell(session, &ranges, allowed.saturating_add(1)).await?
    };
    Ok(by_cell.into_values().sum::<i64>() <= allowed)
}

/// The rule that asks for a second operator before everybody hears of what only volunteers heard of in the
/// waves released so far, if one does: together they are then what one wave is.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn widening_needs_approval(
    session: &mut Session,
    alert: AlertId,
    limits: &Approval,
) -> Result<Option<String>, StoreError> {
    let waves = plans::waves(session, alert).await?;
    let released = waves
        .iter()
        .filter(|wave| wave.state == WaveState::Released);
    let mass = released.map(|wave| wave.mass).sum::<f64>().min(1.0);
    let cells = released_cells(&waves);
    let cost = cost_of_wave(session, &cells, mass, &[], false, Some(limits)).await?;
    Ok(cost.needs_approval)
}

/// The ranges of subscriber cells that these cells are.
pub(super) fn ranges(cells: &[(Cell, f64)]) -> Vec<CellRange> {
    area::ranges(&cells.iter().map(|(cell, _)| *cell).collect::<Vec<_>>())
}

/// The most a wave may reach without a second operator.
fn allowed(mass: f64, limits: &Approval) -> i64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "people are far fewer than 2^52"
    )]
    let by_points = (limits.recipients_per_point as f64 * mass * 100.0) as i64;
    limits.recipients.min(by_points)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wave_is_wide_by_recipients_or_by_recipients_per_point() {
        let config = crate::config::Config::defaults().unwrap();
        assert_eq!(allowed(0.5, &config.approval), 100_000);
        assert_eq!(allowed(0.05, &config.approval), 50_000);
    }
}
