//! What a wave would reach, and whether that takes a second operator.

use std::collections::HashMap;

use crate::area;
use crate::config::Approval;
use crate::model::Cell;
use crate::store::{Session, StoreError, subscribers};

/// What a wave would reach.
#[derive(Debug)]
pub(super) struct Cost {
    /// Subscribers registered in its cells, and volunteers further out; counting stopped there if `at_least`.
    pub subscribers: i64,
    /// Whether there are more.
    pub at_least: bool,
    /// The rule that asks for a second operator, if one does.
    pub needs_approval: Option<String>,
    /// Subscribers by subscriber cell of its own cells, as far as they were counted.
    pub(super) by_cell: HashMap<i64, i64>,
}

/// Counts what a wave of these cells and this probability of area would reach, with the volunteers in
/// the cells `further` out who hear with it; only as far as the limits ask if there are any.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub(super) async fn cost_of_wave(
    session: &mut Session,
    cells: &[(Cell, f64)],
    mass: f64,
    further: &[(Cell, f64)],
    limits: Option<&Approval>,
) -> Result<Cost, StoreError> {
    let ranges = |cells: &[(Cell, f64)]| {
        area::ranges(&cells.iter().map(|(cell, _)| *cell).collect::<Vec<_>>())
    };
    let allowed = limits.map(|limits| allowed(mass, limits));
    let stop = allowed.map_or(i64::MAX, |allowed| allowed.saturating_add(1));
    let by_cell = subscribers::count_by_cell(session, &ranges(cells), stop).await?;
    let volunteers = subscribers::volunteers_by_cell(session, &ranges(further)).await?;
    let subscribers = by_cell.values().chain(volunteers.values()).sum::<i64>();
    let needs_approval = allowed.filter(|allowed| subscribers > *allowed).map(|allowed| {
        format!(
            "it would reach more than {allowed} subscribers for {:.0} % of the probability of area",
            mass * 100.0
        )
    });
    let at_least = needs_approval.is_some();
    Ok(Cost {
        subscribers,
        at_least,
        needs_approval,
        by_cell,
    })
}

/// Whether a wave would go out without a second operator: only then its volunteers may hear one wave
/// early.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub(super) async fn goes_by_itself(
    session: &mut Session,
    cells: &[(Cell, f64)],
    mass: f64,
    limits: &Approval,
) -> Result<bool, StoreError> {
    let cost = cost_of_wave(session, cells, mass, &[], Some(limits)).await?;
    Ok(cost.needs_approval.is_none())
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
