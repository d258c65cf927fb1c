//! What a wave would reach, and whether that takes a second operator.

use std::collections::HashMap;

use crate::area;
use crate::config::Approval;
use crate::model::Cell;
use crate::store::plans::Wave;
use crate::store::{Session, StoreError, subscribers};

/// What a wave would reach.
#[derive(Debug)]
pub(super) struct Cost {
    /// Subscribers registered in its cells; counting stopped there if `at_least`.
    pub subscribers: i64,
    /// Whether there are more.
    pub at_least: bool,
    /// The rule that asks for a second operator, if one does.
    pub needs_approval: Option<String>,
    pub(super) by_cell: HashMap<i64, i64>,
}

/// Counts what a wave would reach, only as far as the limits ask if there are any.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub(super) async fn cost_of_wave(
    session: &mut Session,
    wave: &Wave,
    limits: Option<&Approval>,
) -> Result<Cost, StoreError> {
    let cells: Vec<Cell> = wave.cells.iter().map(|(cell, _)| *cell).collect();
    let allowed = limits.map(|limits| allowed(wave.mass, limits));
    let stop = allowed.map_or(i64::MAX, |allowed| allowed.saturating_add(1));
    let by_cell = subscribers::count_by_cell(session, &area::ranges(&cells), stop).await?;
    let subscribers = by_cell.values().sum::<i64>();
    let needs_approval = allowed.filter(|allowed| subscribers > *allowed).map(|allowed| {
        format!(
            "it would reach more than {allowed} subscribers for {:.0} % of the probability of area",
            wave.mass * 100.0
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
