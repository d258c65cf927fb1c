//! Probability by H3 cell, from a fixed set of equally likely points.

use h3o::{CellIndex, Resolution};
use serde::{Deserialize, Serialize};

use super::locate::Locator;
use super::normal;
use super::travel::TimeLaw;
use crate::model::{Cell, InvalidPosition, Position};

/// How many points stand for the law. Half as many miss the best cell of the golden case by 0.0001.
/// A power of two, so that sums of whole points are exact.
const POINTS: u32 = 131_072;

/// A cell and the probability that the person is in it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CellProbability {
    /// The cell.
    pub cell: Cell,
    /// Its probability.
    pub p: f64,
}

/// The resolution of a case's cells, fixed for its life: 9 (0.1 km²) where three quarters are found
/// within 3 km in the end, 8 (0.7 km²) where they are not.
#[must_use]
pub fn resolution(static_r75_km: f64) -> Resolution {
    if static_r75_km < 3.0 {
        Resolution::Nine
    } else {
        Resolution::Eight
    }
}

/// The probability of every cell that the law reaches, best first, equal ones by cell number.
///
/// Point `k` of a sunflower lies at the distance of the `k`-th of equally likely people, in the
/// direction of `k` golden angles. Where the last known position is uncertain by a normal error of
/// `sigma_km` along each axis, each point is moved by an offset of that distribution.
///
/// # Errors
/// [`InvalidPosition`] where the law gives distances that are not finite.
pub fn by_cell(
    lkp: Position,
    law: &TimeLaw,
    sigma_km: f64,
    resolution: Resolution,
) -> Result<Vec<CellProbability>, InvalidPosition> {
    let mut sunflower = Sunflower::default();
    let mut offsets = Offsets::default();
    let mut locator = Locator::new(lkp, resolution);
    let mut hits = Vec::with_capacity(POINTS as usize);
    for km in law.evenly(POINTS) {
        let (sin, cos) = sunflower.turn();
        let (mut east, mut north) = (km * sin, km * cos);
        if sigma_km > 0.0 {
            let (x, y) = offsets.draw();
            east += sigma_km * x;
            north += sigma_km * y;
        }
        hits.push(locator.cell(east, north)?);
    }
    Ok(tally(hits))
}

fn tally(mut hits: Vec<CellIndex>) -> Vec<CellProbability> {
    let each = 1.0 / f64::from(POINTS);
    hits.sort_unstable();
    let mut cells: Vec<CellProbability> = hits
        .chunk_by(|a, b| a == b)
        .map(|same| CellProbability {
            cell: same[0].into(),
            p: same.iter().map(|_| each).sum(),
        })
        .collect();
    cells.sort_by(|a, b| b.p.total_cmp(&a.p).then(a.cell.cmp(&b.cell)));
    cells
}

/// Directions a golden angle apart, pi (3 - sqrt 5), as sine and cosine of the bearing.
struct Sunflower {
    next: (f64, f64),
    step: (f64, f64),
}

impl Default for Sunflower {
    fn default() -> Self {
        let golden_angle = std::f64::consts::PI * (3.0 - libm::sqrt(5.0));
        Self {
            next: (0.0, 1.0),
            step: libm::sincos(golden_angle),
        }
    }
}

impl Sunflower {
    /// The next direction. Turned by the addition theorems, which keep to 1e-11 over all points.
    fn turn(&mut self) -> (f64, f64) {
        let ((sin, cos), (step_sin, step_cos)) = (self.next, self.step);
        self.next = (
            sin * step_cos + cos * step_sin,
            cos * step_cos - sin * step_sin,
        );
        (sin, cos)
    }
}

/// Standard normal offsets in the plane: the additive recurrence with the plastic number (Roberts'
/// R2 sequence), started in the middle of the square so that no coordinate is ever 0, through Φ⁻¹.
struct Offsets {
    next: (f64, f64),
}

impl Default for Offsets {
    fn default() -> Self {
        Self { next: (0.5, 0.5) }
    }
}

impl Offsets {
    /// The real root of x³ = x + 1.
    const PLASTIC: f64 = 1.324_717_957_244_746;

    fn draw(&mut self) -> (f64, f64) {
        let (x, y) = self.next;
        self.next = (
            (x + 1.0 / Self::PLASTIC).fract(),
            (y + 1.0 / (Self::PLASTIC * Self::PLASTIC)).fract(),
        );
        (normal::quantile(x), normal::quantile(y))
    }
}

#[cfg(test)]
#[path = "cells_tests.rs"]
mod tests;
