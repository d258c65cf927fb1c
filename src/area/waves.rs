//! Waves: which cells are released together, and when.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cells::CellProbability;
use super::seconds;

/// The cumulative probability that each wave brings the alerted area to.
pub const WAVE_MASSES: [f64; 3] = [0.50, 0.75, 0.95];

/// The cells released at one time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedWave {
    /// Counted from 1.
    pub number: u16,
    /// How long after verification it is released, if nobody was found before.
    #[serde(rename = "delay_s", with = "seconds")]
    pub delay: Duration,
    /// The probability that this wave adds.
    pub mass: f64,
    /// Its cells, best first. Empty where the waves before reached its mass already.
    pub cells: Vec<CellProbability>,
}

/// Cuts cells, best first, into waves: each is the smallest set that reaches its cumulative mass,
/// less the waves before. What is past the last wave is for an operator to release, and not cut.
#[must_use]
pub fn cut(cells: &[CellProbability], delays: [Duration; 3]) -> Vec<PlannedWave> {
    let mut rest = cells.iter().copied();
    let mut reached = 0.0;
    let mut waves = Vec::with_capacity(WAVE_MASSES.len());
    for ((number, delay), target) in (1..).zip(delays).zip(WAVE_MASSES) {
        let before = reached;
        let mut cells = Vec::new();
        while reached < target
            && let Some(one) = rest.next()
        {
            reached += one.p;
            cells.push(one);
        }
        waves.push(PlannedWave {
            number,
            delay,
            mass: reached - before,
            cells,
        });
    }
    waves
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Cell;

    fn cells(shares: &[f64]) -> Vec<CellProbability> {
        let any: Cell = "891976bb667ffff".parse().unwrap();
        shares
            .iter()
            .map(|&p| CellProbability { cell: any, p })
            .collect()
    }

    fn cut_sizes(shares: &[f64]) -> (Vec<usize>, Vec<f64>) {
        let waves = cut(&cells(shares), [Duration::ZERO; 3]);
        assert_eq!(
            waves.iter().map(|wave| wave.number).collect::<Vec<_>>(),
            [1, 2, 3]
        );
        let sizes = waves.iter().map(|wave| wave.cells.len()).collect();
        (sizes, waves.iter().map(|wave| wave.mass).collect())
    }

    #[test]
    fn each_wave_is_the_smallest_set_that_reaches_its_mass() {
        let (sizes, masses) = cut_sizes(&[0.25, 0.25, 0.125, 0.125, 0.125, 0.0625, 0.0625]);
        assert_eq!(sizes, [2, 2, 3]);
        assert_eq!(masses, [0.5, 0.25, 0.25]);
    }

    #[test]
    fn a_wave_whose_mass_is_reached_already_is_empty() {
        let (sizes, masses) = cut_sizes(&[0.75, 0.125, 0.125]);
        assert_eq!(sizes, [1, 0, 2]);
        assert_eq!(masses, [0.75, 0.0, 0.25]);
        assert_eq!(cut_sizes(&[1.0]).0, [1, 0, 0]);
        assert_eq!(cut_sizes(&[]).0, [0, 0, 0]);
    }
}
