//! The named policy `abduction_by_vehicle`: circles that widen by the hour. China's child alert
//! draws 100, 200, 300 and 500 km at up to 1, up to 2, up to 3 and more than 3 hours [S].

use std::time::Duration;

use h3o::LatLng;

use super::cells::CellProbability;
use super::disc;
use super::sphere::{self, Horizon};
use super::waves::PlannedWave;
use crate::model::Position;

/// Until when, in hours after the abduction, each circle holds, and its radius in km.
pub const CIRCLES: [(f64, f64); 4] = [
    (1.0, 100.0),
    (2.0, 200.0),
    (3.0, 300.0),
    (f64::INFINITY, 500.0),
];

/// The radius of the last circle in km.
pub const WIDEST_KM: f64 = CIRCLES[3].1;

/// The radius in km of the circle that holds after so many hours.
#[must_use]
pub fn radius_km(hours: f64) -> f64 {
    CIRCLES
        .iter()
        .find(|(until_h, _)| hours <= *until_h)
        .map_or(WIDEST_KM, |(_, km)| *km)
}

/// One wave for the circle that holds after so many hours, at once, and one for each wider circle
/// when its time comes. A cell belongs to the first circle that it, or a descendant, touches. A wave has its
/// circle's number, so that it keeps it in every later plan.
#[must_use]
pub fn waves(cells: &[CellProbability], lkp: Position, hours: f64) -> Vec<PlannedWave> {
    let up = sphere::vector(lkp);
    let far_km = |one: &CellProbability| {
        let at = LatLng::from(one.cell.index());
        sphere::distance_km(up, Horizon::vector(at.lat(), at.lng()))
            - disc::reach_km(one.cell.index().resolution())
    };
    let mut rest: Vec<(f64, CellProbability)> =
        cells.iter().map(|one| (far_km(one), *one)).collect();
    let due_h = std::iter::once(0.0).chain(CIRCLES.iter().map(|(until_h, _)| *until_h));
    let mut waves = Vec::new();
    for (number, (from_h, (until_h, km))) in (1..).zip(due_h.zip(CIRCLES)) {
        if until_h < hours {
            continue;
        }
        let (inside, outside) = rest.into_iter().partition(|(far_km, _)| *far_km <= km);
        rest = outside;
        let inside: Vec<(f64, CellProbability)> = inside;
        let cells: Vec<CellProbability> = inside.into_iter().map(|(_, one)| one).collect();
        waves.push(PlannedWave {
            number,
            delay: Duration::from_secs_f64(((from_h - hours) * 3_600.0).max(0.0)),
            mass: cells.iter().map(|one| one.p).sum(),
            cells,
        });
    }
    waves
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
