//! What it says about the map that the person was looked for and not found.

use std::collections::HashMap;

use h3o::{CellIndex, LatLng, Resolution};
use serde::{Deserialize, Serialize};

use super::inputs::{LookedFor, PlanInputs, Search, hours};
use super::settings::Settings;
use super::sphere::{self, Horizon};
use crate::model::Cell;

/// What an alert or a search on the ground did to the map.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SearchEffect {
    /// Which of the inputs', counted from 0.
    pub index: usize,
    /// The probability of its cells if nobody had been looked for anywhere.
    pub before: f64,
    /// The probability of its cells with all that was looked for.
    pub after: f64,
}

/// The effort of every search by cell, at the resolution of the map or coarser.
///
/// A search leaves `exp(-effort)` of those who were there unfound. Of an alert the effort is
/// `alert_effort`, times the density of alerted people in units of their mean density inside the
/// 75 % radius, times the part of `alert_effort_h` that has passed: with the density of an average
/// cell, and in the end, `alert_effort`. Of a search on the ground it is `-ln(1 - detection)`.
#[derive(Debug, Clone)]
pub struct Searches {
    all: Vec<OneSearch>,
    resolutions: Vec<Resolution>,
}

#[derive(Debug, Clone)]
struct OneSearch {
    since_h: f64,
    /// How long it takes to have all of its effect, in hours.
    takes_h: f64,
    efforts: HashMap<CellIndex, f64>,
}

impl Searches {
    /// The searches of a plan whose cells are of `resolution` and whose 75 % radius is `r75_km`.
    #[must_use]
    pub fn new(
        inputs: &PlanInputs,
        settings: &Settings,
        resolution: Resolution,
        r75_km: f64,
    ) -> Self {
        let usual = usual_density(inputs, r75_km);
        let one = |search: &LookedFor| {
            let (takes_h, efforts) = match &search.by {
                Search::Alert(cells) => {
                    let effort = |(cell, people): &(Cell, f64)| {
                        let density = people / cell.index().resolution().area_km2();
                        let units = if density > 0.0 { density / usual } else { 0.0 };
                        (cell.index(), settings.alert_effort * units)
                    };
                    (
                        settings.alert_effort_h,
                        collected(cells.iter().map(effort), resolution),
                    )
                }
                Search::Ground { cells, detection } => {
                    let effort = -libm::log1p(-detection);
                    let efforts = cells.iter().map(|cell| (cell.index(), effort));
                    (0.0, collected(efforts, resolution))
                }
            };
            OneSearch {
                since_h: hours(search.after),
                takes_h,
                efforts,
            }
        };
        let all: Vec<OneSearch> = inputs.looked_for.iter().map(one).collect();
        let mut resolutions: Vec<Resolution> = all
            .iter()
            .flat_map(|one| one.efforts.keys().map(|cell| cell.resolution()))
            .collect();
        resolutions.sort_unstable();
        resolutions.dedup();
        Self { all, resolutions }
    }

    /// The share of people of a cell who would not have been found by `now_h`, if they came from
    /// where they were at `since_h`: what was looked for before says nothing about them.
    #[must_use]
    pub fn unfound(&self, cell: CellIndex, since_h: f64, now_h: f64) -> f64 {
        if self.all.is_empty() {
            return 1.0;
        }
        let effort = |one: &OneSearch| self.effort(one, cell) * one.part(since_h, now_h);
        libm::exp(-self.all.iter().map(effort).sum::<f64>())
    }

    /// Whether a search, counted from 0, took in a cell.
    #[must_use]
    pub fn took_in(&self, index: usize, cell: CellIndex) -> bool {
        self.effort(&self.all[index], cell) > 0.0
    }

    /// Every cell that was searched, at the resolution of the map or coarser.
    pub fn cells(&self) -> impl Iterator<Item = CellIndex> {
        self.all.iter().flat_map(|one| one.efforts.keys().copied())
    }

    /// How many searches there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.all.len()
    }

    fn effort(&self, one: &OneSearch, cell: CellIndex) -> f64 {
        self.resolutions
            .iter()
            .filter_map(|&resolution| cell.parent(resolution))
            .filter_map(|ancestor| one.efforts.get(&ancestor))
            .sum()
    }
}

impl OneSearch {
    fn part(&self, since_h: f64, now_h: f64) -> f64 {
        if self.takes_h > 0.0 {
            let from_h = self.since_h.max(since_h);
            let until_h = now_h.min(self.since_h + self.takes_h);
            ((until_h - from_h) / self.takes_h).clamp(0.0, 1.0)
        } else {
            f64::from(u8::from(since_h <= self.since_h))
        }
    }
}

/// Effort by cell. Cells finer than the map's count as their part of the map's cell.
fn collected(
    efforts: impl Iterator<Item = (CellIndex, f64)>,
    resolution: Resolution,
) -> HashMap<CellIndex, f64> {
    let mut collected = HashMap::new();
    for (cell, effort) in efforts {
        let coarser = cell.resolution().min(resolution);
        let ancestor = cell.parent(coarser).unwrap_or(cell);
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
        let parts = ancestor.children_count(cell.resolution()) as f64;
        *collected.entry(ancestor).or_insert(0.0) += effort / parts;
    }
    collected
}

/// The mean density of alerted people per km², inside the 75 % radius where any were, else anywhere.
fn usual_density(inputs: &PlanInputs, r75_km: f64) -> f64 {
    let lkp = sphere::vector(inputs.lkp);
    let alerted = inputs
        .looked_for
        .iter()
        .filter_map(|search| match &search.by {
            Search::Alert(cells) => Some(cells),
            Search::Ground { .. } => None,
        });
    let (mut near, mut all) = ((0.0, 0.0), (0.0, 0.0));
    for (cell, people) in alerted.flatten() {
        let (at, km2) = (
            LatLng::from(cell.index()),
            cell.index().resolution().area_km2(),
        );
        all = (all.0 + people, all.1 + km2);
        if sphere::distance_km(lkp, Horizon::vector(at.lat(), at.lng())) <= r75_km {
            near = (near.0 + people, near.1 + km2);
        }
    }
    let (people, km2) = if near.0 > 0.0 { near } else { all };
    people / km2
}

#[cfg(test)]
#[path = "searched_tests.rs"]
mod tests;
