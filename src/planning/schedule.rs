//! Which waves follow from a plan: pure.

use std::collections::HashSet;

use h3o::{CellIndex, Resolution};
use jiff::{SignedDuration, Timestamp};

use crate::area::Plan;
use crate::model::{Cell, WaveState};
use crate::store::plans::{NewWave, Wave};

/// What the waves of a plan depend on beside the plan.
#[derive(Debug)]
pub struct Schedule<'a> {
    /// The cells released so far.
    pub released: &'a [Cell],
    /// From when the waves' delays count.
    pub from: Timestamp,
    /// Now; for a paused case, when it was paused.
    pub now: Timestamp,
    /// When the first of the waves that are replaced is or was due; now if none is.
    pub next_due: Timestamp,
    /// Whether the waves go on as they were: then nothing goes out before the next one would have, and what
    /// was due does not become due anew.
    pub goes_on: bool,
    /// The number in its plan of the last wave that was due already: it and those before stay due.
    pub due_through: Option<i64>,
    /// The number in its plan of the first wave that an operator holds back.
    pub held_from: Option<i64>,
    /// The cells of waves that wait for a second operator: what takes their place is asked about by itself,
    /// not lost in a larger wave.
    pub asked_about: HashSet<Cell>,
}

impl Schedule<'_> {
    /// The plan's waves without the cells that are released already, those that are due together in one; and
    /// the probability that the released cells have by this plan.
    #[must_use]
    pub fn next(&self, plan: &Plan) -> (Vec<NewWave>, f64) {
        let released = Released::new(self.released);
        // The circles of a policy go by the time since the person was taken.
        let from = match plan.basis.movement {
            Some(_) => self.from,
            None => self.now,
        };
        let mut waves: Vec<NewWave> = Vec::new();
        let mut asked_about_last = false;
        let mut released_mass = 0.0;
        for planned in &plan.waves {
            let (gone, cells): (Vec<_>, Vec<_>) = planned
                .cells
                .iter()
                .flat_map(|one| released.apart(one.cell, one.p))
                .partition(|(cell, _)| released.has(*cell));
            released_mass += gone.iter().map(|(_, p)| p).sum::<f64>();
            let plan_wave = i64::from(planned.number);
            let delay = SignedDuration::try_from(planned.delay).unwrap_or(SignedDuration::MAX);
            let by_delay = from.saturating_add(delay).unwrap_or(Timestamp::MAX);
            let was_due = self.due_through.is_some_and(|number| plan_wave <= number);
            let due_at = if !self.goes_on {
                // What was overdue stays so; what only now turns out to be is due now, and waits for sightings
                // that are being checked.
                by_delay.max(self.next_due.min(self.now))
            } else if was_due || by_delay <= self.now {
                self.next_due
            } else {
                by_delay.max(self.next_due)
            };
            let held = self.held_from.is_some_and(|number| plan_wave >= number);
            let mass = cells.iter().map(|(_, p)| p).sum();
            let asked_about = cells
                .iter()
                .any(|(cell, _)| self.asked_about.contains(cell));
            let alike = |last: &NewWave| last.held == held && asked_about_last == asked_about;
            match waves.last_mut() {
                _ if cells.is_empty() => continue,
                Some(last) if due_at <= self.now.max(last.due_at) && alike(last) => {
                    last.plan_wave = plan_wave;
                    last.due_at = due_at;
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
            asked_about_last = asked_about;
        }
        (waves, released_mass)
    }
}

/// Cells that were released, of whatever resolutions.
struct Released {
    cells: HashSet<CellIndex>,
    /// All cells that hold one of them.
    around: HashSet<CellIndex>,
    finest: Resolution,
}

impl Released {
    fn new(cells: &[Cell]) -> Self {
        let cells: HashSet<CellIndex> = cells.iter().map(|cell| cell.index()).collect();
        let coarser = |cell: &CellIndex| {
            let cell = *cell;
            let resolutions = Resolution::range(Resolution::Zero, cell.resolution());
            resolutions.filter_map(move |resolution| cell.parent(resolution))
        };
        let around = cells.iter().flat_map(coarser).collect();
        let finest = cells.iter().map(|cell| cell.resolution()).max();
        Self {
            around,
            finest: finest.unwrap_or(Resolution::Zero),
            cells,
        }
    }

    /// Whether a cell lies in a released one.
    fn has(&self, cell: Cell) -> bool {
        let cell = cell.index();
        Resolution::range(Resolution::Zero, cell.resolution())
            .filter_map(|resolution| cell.parent(resolution))
            .any(|ancestor| self.cells.contains(&ancestor))
    }

    /// A cell and its probability; where it holds cells that were released (by a finer plan), it comes apart
    /// into cells that were and cells that were not.
    fn apart(&self, cell: Cell, p: f64) -> Vec<(Cell, f64)> {
        if self.has(cell) || !self.around.contains(&cell.index()) {
            return vec![(cell, p)];
        }
        let parts: Vec<CellIndex> = cell.index().children(self.finest).collect();
        let each = p / f64::from(u32::try_from(parts.len()).unwrap_or(u32::MAX));
        parts
            .into_iter()
            .map(|part| (Cell::from(part), each))
            .collect()
    }
}

/// From which wave of a new plan on an operator's hold stays, given the waves that it replaces, in order. A
/// hold on the first of them is one on whatever goes out in its place, unless somebody learnt where the
/// person is (`stays`).
#[must_use]
pub fn held_from(open: &[Wave], stays: bool) -> Option<i64> {
    let is_held = |wave: &Wave| wave.state == WaveState::Held;
    if stays && open.first().is_some_and(is_held) {
        return Some(1);
    }
    open.iter()
        .filter(|wave| is_held(wave))
        .map(|wave| wave.plan_wave)
        .min()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::area::{DistanceTable, PlanInputs, Settings, compact, plan};
    use crate::model::{AlertId, Category, Environment, Mobility, PlanId, Position, Profile};

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
            asked_about: HashSet::new(),
            released,
            from: at(0),
            now: at(now),
            next_due: at(now),
            goes_on: false,
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
        // One that was overdue is not due anew.
        let released = compact(&first[1..]);
        let overdue = Schedule {
            next_due: at(35),
            ..schedule(&released, 40, None)
        };
        assert_eq!(overdue.next(&plan).0[0].due_at, at(35));
        let all: f64 = some.iter().map(|wave| wave.mass).sum();
        assert!((all + mass + plan.rest - 1.0).abs() < 1e-9);
        let everything: Vec<Cell> = plan.cells().map(|one| one.cell).collect();
        assert!(schedule(&everything, 40, None).next(&plan).0.is_empty());
    }

    #[test]
    fn what_a_finer_plan_released_stays_out_of_a_coarser_one() {
        let plan = planned(Category::Dementia);
        let best = plan.waves[0].cells[0];
        let finer = best.cell.index().resolution().succ().unwrap();
        let parts: Vec<Cell> = best.cell.index().children(finer).map(Cell::from).collect();
        let (waves, mass) = schedule(&parts[..3], 0, None).next(&plan);
        assert!((mass - best.p * 3.0 / 7.0).abs() < 1e-12, "{mass}");
        let left: Vec<Cell> = waves[0].cells.iter().map(|(cell, _)| *cell).collect();
        assert!(parts[3..].iter().all(|part| left.contains(part)));
        assert!(!left.contains(&best.cell) && !left.contains(&parts[0]));
        let all: f64 = waves.iter().map(|wave| wave.mass).sum();
        assert!((all + mass + plan.rest - 1.0).abs() < 1e-9);
    }

    #[test]
    fn what_a_second_operator_is_asked_about_is_not_lost_in_a_larger_wave() {
        let plan = planned(Category::Dementia);
        let asked = HashSet::from([cells(&plan, 1)[0]]);
        let schedule = Schedule {
            asked_about: asked,
            ..schedule(&[], 500, None)
        };
        let (waves, _) = schedule.next(&plan);
        let numbers: Vec<i64> = waves.iter().map(|wave| wave.plan_wave).collect();
        assert_eq!(numbers, [1, 2, 3], "all are due, and the second by itself");
    }

    #[test]
    fn what_was_due_stays_due() {
        let plan = planned(Category::Dementia);
        let schedule = Schedule {
            due_through: Some(2),
            next_due: at(3),
            goes_on: true,
            ..schedule(&[], 5, None)
        };
        let (waves, _) = schedule.next(&plan);
        let due: Vec<Timestamp> = waves.iter().map(|wave| wave.due_at).collect();
        assert_eq!(due, [at(3), at(120)], "since when it was");
    }

    #[test]
    fn nothing_goes_out_before_the_next_wave_would_have() {
        let plan = planned(Category::Dementia);
        let schedule = Schedule {
            next_due: at(30),
            goes_on: true,
            ..schedule(&[], 10, None)
        };
        let (waves, _) = schedule.next(&plan);
        let due: Vec<Timestamp> = waves.iter().map(|wave| wave.due_at).collect();
        assert_eq!(due, [at(30), at(120)], "the likeliest, too");
    }

    #[test]
    fn a_hold_on_what_comes_next_stays_on_whatever_does() {
        let wave = |plan_wave, state| Wave {
            alert: AlertId::fresh(),
            number: plan_wave,
            plan: PlanId::fresh(),
            plan_wave,
            mass: 0.5,
            cells: Vec::new(),
            due_at: at(30),
            state,
            approval: None,
            approved_by: None,
            released_at: None,
        };
        let (held, free) = (WaveState::Held, WaveState::Waiting);
        assert_eq!(held_from(&[wave(2, free), wave(3, free)], true), None);
        assert_eq!(held_from(&[wave(2, free), wave(3, held)], true), Some(3));
        assert_eq!(held_from(&[wave(2, held), wave(3, free)], true), Some(1));
        // Somebody learnt where the person is: that goes out.
        assert_eq!(held_from(&[wave(2, held), wave(3, free)], false), Some(2));
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
