//! Which waves follow from a plan: pure.

use std::collections::HashSet;

use h3o::{CellIndex, Resolution};
use jiff::{SignedDuration, Timestamp};

use crate::area::Plan;
use crate::model::Cell;
use crate::store::plans::NewWave;

/// What the waves of a plan depend on beside the plan.
#[derive(Debug)]
pub struct Schedule<'a> {
    /// The cells released so far.
    pub released: &'a [Cell],
    /// When the waves' delays began.
    pub from: Timestamp,
    /// Now; for a paused case, when it was paused.
    pub now: Timestamp,
    /// The number in its plan of the last wave that was due already: it and those before stay due.
    pub due_through: Option<i64>,
    /// The number in its plan of the first wave that an operator holds back.
    pub held_from: Option<i64>,
}

impl Schedule<'_> {
    /// The plan's waves without the cells that are released already, those that are due now in one; and
    /// the probability that the released cells have by this plan.
    #[must_use]
    pub fn next(&self, plan: &Plan) -> (Vec<NewWave>, f64) {
        let released: HashSet<CellIndex> = self.released.iter().map(|cell| cell.index()).collect();
        let coarsest = released
            .iter()
            .map(|cell| cell.resolution())
            .min()
            .unwrap_or(Resolution::Fifteen);
        let is_released = |cell: Cell| {
            let cell = cell.index();
            Resolution::range(coarsest, cell.resolution())
                .filter_map(|resolution| cell.parent(resolution))
                .any(|ancestor| released.contains(&ancestor))
        };
        // The circles of a policy go by the time since the person was taken.
        let from = match plan.basis.movement {
            Some(_) => self.from,
            None => self.now,
        };
        let mut waves: Vec<NewWave> = Vec::new();
        let mut released_mass = 0.0;
        for planned in &plan.waves {
            let (gone, cells): (Vec<_>, Vec<_>) = planned
                .cells
                .iter()
                .map(|one| (one.cell, one.p))
                .partition(|(cell, _)| is_released(*cell));
            released_mass += gone.iter().map(|(_, p)| p).sum::<f64>();
            let plan_wave = i64::from(planned.number);
            let delay = SignedDuration::try_from(planned.delay).unwrap_or(SignedDuration::MAX);
            let due_at = if self.due_through.is_some_and(|number| plan_wave <= number) {
                self.now
            } else {
                from.saturating_add(delay)
                    .unwrap_or(Timestamp::MAX)
                    .max(self.now)
            };
            let held = self.held_from.is_some_and(|number| plan_wave >= number);
            let mass = cells.iter().map(|(_, p)| p).sum();
            match waves.last_mut() {
                _ if cells.is_empty() => {}
                Some(last) if due_at <= self.now && last.held == held => {
                    last.plan_wave = plan_wave;
                    last.mass += mass;
                    last.cells.extend(cells);
                }
                _ => waves.push(NewWave {
                    plan_wave,
                    mass,
                    cells,
                    due_at,
                    held,
                }),
            }
        }
        (waves, released_mass)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::area::{DistanceTable, PlanInputs, Settings, compact, plan};
    use crate::model::{Category, Environment, Mobility, Position, Profile};

    fn planned(category: Category) -> Plan {
        let profile = Profile {
            category,
            age: None,
            mobility: Mobility::Normal,
            environment: Environment::Urban,
        };
        let lkp = Position::new(57.149_7, -2.094_3).unwrap();
        let inputs = PlanInputs::new(profile, lkp, Duration::from_mins(90));
        plan(
            &DistanceTable::shipped().unwrap(),
            &Settings::default(),
            &inputs,
        )
        .unwrap()
    }

    fn at(minutes: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes)
    }

    fn cells(plan: &Plan, wave: usize) -> Vec<Cell> {
        plan.waves[wave].cells.iter().map(|one| one.cell).collect()
    }

    fn schedule(released: &[Cell], now: i64, held_from: Option<i64>) -> Schedule<'_> {
        Schedule {
            released,
            from: at(0),
            now: at(now),
            due_through: None,
            held_from,
        }
    }

    #[test]
    fn at_first_the_waves_are_the_plans() {
        let plan = planned(Category::Dementia);
        let (waves, mass) = schedule(&[], 0, None).next(&plan);
        assert!(mass.abs() < 1e-12);
        for (i, (wave, minutes)) in waves.iter().zip([0, 30, 120]).enumerate() {
            assert_eq!(wave.due_at, at(minutes));
            assert_eq!(wave.plan_wave, i64::try_from(i).unwrap() + 1);
            assert_eq!(wave.cells.len(), plan.waves[i].cells.len());
            assert!((wave.mass - plan.waves[i].mass).abs() < 1e-12);
        }
        assert_eq!(waves.len(), 3);
    }

    #[test]
    fn what_is_released_stays_out_and_what_is_due_goes_together() {
        let plan = planned(Category::Dementia);
        let first = cells(&plan, 0);
        let (some, mass) = schedule(&compact(&first[1..]), 40, None).next(&plan);
        // One cell of the first wave is left, and goes with the second, which is due.
        assert_eq!(some.len(), 2);
        assert_eq!(some[0].plan_wave, 2);
        assert_eq!(some[0].cells.len(), plan.waves[1].cells.len() + 1);
        assert_eq!((some[0].due_at, some[1].due_at), (at(40), at(120)));
        let all: f64 = some.iter().map(|wave| wave.mass).sum();
        assert!((all + mass + plan.rest - 1.0).abs() < 1e-9);
        let everything: Vec<Cell> = plan.cells().map(|one| one.cell).collect();
        assert!(schedule(&everything, 40, None).next(&plan).0.is_empty());
    }

    #[test]
    fn what_was_due_stays_due() {
        let plan = planned(Category::Dementia);
        let schedule = Schedule {
            due_through: Some(2),
            ..schedule(&[], 5, None)
        };
        let (waves, _) = schedule.next(&plan);
        let due: Vec<Timestamp> = waves.iter().map(|wave| wave.due_at).collect();
        assert_eq!(due, [at(5), at(120)]);
    }

    #[test]
    fn a_hold_stays_on_the_waves_it_was_on() {
        let plan = planned(Category::Dementia);
        let (waves, _) = schedule(&[], 500, Some(2)).next(&plan);
        let held: Vec<bool> = waves.iter().map(|wave| wave.held).collect();
        assert_eq!(held, [false, true], "the two held ones are due together");
    }

    #[test]
    fn the_circles_of_a_policy_are_due_by_the_time_since() {
        let plan = planned(Category::Abduction);
        let (waves, _) = schedule(&[], 600, None).next(&plan);
        let due: Vec<Timestamp> = waves.iter().map(|wave| wave.due_at).collect();
        assert_eq!(due, [at(600), at(630), at(690)]);
    }
}
