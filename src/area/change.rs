//! What a new plan changes: two plans of one case side by side.

use std::collections::{BTreeMap, HashSet};

use h3o::{CellIndex, Resolution};
use serde::{Deserialize, Serialize};

use super::plan::{Plan, Radii};

/// Two plans side by side. Cells are those of the waves; where the plans have cells of different
/// size, the larger ones are counted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PlanChange {
    /// How many cells only the new plan has.
    pub cells_gained: usize,
    /// How many cells only the old plan had.
    pub cells_lost: usize,
    /// How many cells both have.
    pub cells_kept: usize,
    /// How much of the probability is somewhere else now, 0 to 1: half the sum of what the cells, and
    /// what is outside of them, gained and lost.
    pub mass_moved: f64,
    /// The old plan's radii in km.
    pub radii_km_before: Radii,
    /// The new plan's radii in km.
    pub radii_km: Radii,
}

/// Lays two plans side by side.
#[must_use]
pub fn change(before: &Plan, after: &Plan) -> PlanChange {
    let all: HashSet<CellIndex> = before
        .cells()
        .chain(after.cells())
        .map(|one| one.cell.index())
        .collect();
    let coarsest = all
        .iter()
        .map(|cell| cell.resolution())
        .min()
        .unwrap_or(Resolution::Zero);
    let common = |cell: CellIndex| {
        Resolution::range(coarsest, cell.resolution())
            .filter_map(|resolution| cell.parent(resolution))
            .find(|ancestor| all.contains(ancestor))
            .unwrap_or(cell)
    };
    let mut shares: BTreeMap<CellIndex, [Option<f64>; 2]> = BTreeMap::new();
    for (side, plan) in [before, after].into_iter().enumerate() {
        for one in plan.cells() {
            let share = shares.entry(common(one.cell.index())).or_default();
            *share[side].get_or_insert(0.0) += one.p;
        }
    }
    let count = |wanted: [bool; 2]| {
        let is = |share: &&[Option<f64>; 2]| share.map(|p| p.is_some()) == wanted;
        shares.values().filter(is).count()
    };
    let moved: f64 = shares
        .values()
        .map(|[old, new]| libm::fabs(new.unwrap_or(0.0) - old.unwrap_or(0.0)))
        .sum();
    PlanChange {
        cells_gained: count([false, true]),
        cells_lost: count([true, false]),
        cells_kept: count([true, true]),
        mass_moved: (0.5 * (moved + libm::fabs(after.rest - before.rest))).min(1.0),
        radii_km_before: before.radii,
        radii_km: after.radii,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::area::{DistanceTable, PlanInputs, SeenAt, Settings, plan};
    use crate::model::{Category, Environment, Mobility, Position, Profile};

    fn planned(environment: Environment, sightings: Vec<SeenAt>) -> Plan {
        let profile = Profile {
            category: Category::Dementia,
            age: None,
            mobility: Mobility::Normal,
            environment,
        };
        let lkp = Position::new(57.149_7, -2.094_3).unwrap();
        let inputs = PlanInputs {
            sightings,
            ..PlanInputs::new(profile, lkp, Duration::from_hours(2))
        };
        plan(
            &DistanceTable::shipped().unwrap(),
            &Settings::default(),
            &inputs,
        )
        .unwrap()
    }

    fn seen(credibility: f64) -> Vec<SeenAt> {
        vec![SeenAt {
            name: "one".to_owned(),
            position: Position::new(57.165, -2.094_3).unwrap(),
            accuracy_m: 50.0,
            after: Duration::from_hours(1),
            credibility,
            false_reports_per_km2: None,
            withdrawn: false,
        }]
    }

    #[test]
    fn the_same_plan_changes_nothing() {
        let one = planned(Environment::Urban, Vec::new());
        let same = change(&one, &one);
        assert_eq!((same.cells_gained, same.cells_lost), (0, 0));
        assert_eq!(same.cells_kept, one.cells().count());
        assert!(same.mass_moved.abs() < 1e-12);
    }

    #[test]
    fn the_more_credible_the_more_moves_and_the_way_back_is_as_long() {
        let none = planned(Environment::Urban, Vec::new());
        let [little, much] = [0.1, 0.95].map(|c| planned(Environment::Urban, seen(c)));
        let (some, more) = (change(&none, &little), change(&none, &much));
        assert!(
            0.0 < some.mass_moved && some.mass_moved < more.mass_moved && more.mass_moved < 1.0
        );
        let back = change(&much, &none);
        assert!((back.mass_moved - more.mass_moved).abs() < 1e-12);
        assert_eq!(
            (back.cells_gained, back.cells_lost),
            (more.cells_lost, more.cells_gained)
        );
        // A true sighting narrows the area.
        assert!(more.cells_lost > more.cells_gained);
    }

    #[test]
    fn cells_of_different_size_are_held_against_each_other() {
        let (fine, coarse) = (
            planned(Environment::Default, Vec::new()),
            planned(Environment::Urban, Vec::new()),
        );
        assert!(fine.resolution > coarse.resolution);
        let both = change(&coarse, &fine);
        assert!(both.cells_kept > 50 && both.mass_moved < 0.2, "{both:?}");
    }
}
