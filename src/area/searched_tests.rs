use std::time::Duration;

use super::*;
use crate::area::{DistanceTable, Plan, plan};
use crate::model::{Category, Environment, Mobility, Position, Profile};

fn inputs(elapsed: Duration) -> PlanInputs {
    let profile = Profile {
        category: Category::Dementia,
        age: None,
        mobility: Mobility::Normal,
        environment: Environment::Urban,
    };
    PlanInputs::new(profile, Position::new(57.149_7, -2.094_3).unwrap(), elapsed)
}

fn looked_for(after_h: u64, by: Search) -> LookedFor {
    LookedFor {
        name: String::new(),
        after: Duration::from_hours(after_h),
        by,
    }
}

fn planned(looked_for: Vec<LookedFor>) -> Plan {
    let inputs = PlanInputs {
        looked_for,
        ..inputs(Duration::from_hours(6))
    };
    plan(
        &DistanceTable::shipped().unwrap(),
        &Settings::default(),
        &inputs,
    )
    .unwrap()
}

fn alert(plan: &Plan, wave: usize, people: f64) -> Search {
    Search::Alert(
        plan.waves[wave]
            .cells
            .iter()
            .map(|one| (one.cell, people))
            .collect(),
    )
}

fn by_cell(plan: &Plan) -> HashMap<Cell, f64> {
    plan.cells().map(|one| (one.cell, one.p)).collect()
}

#[test]
fn golden_negative_evidence() {
    let cells = ["881976bb67fffff", "881976bb65fffff", "881976bb63fffff"]
        .map(|cell| cell.parse::<Cell>().unwrap());
    let settings = Settings {
        alert_effort: 1.0,
        ..Settings::default()
    };
    let mut inputs = inputs(Duration::from_hours(6));
    inputs.looked_for = vec![looked_for(
        0,
        Search::Alert(vec![(cells[0], 50.0), (cells[1], 50.0)]),
    )];
    let searches = Searches::new(&inputs, &settings, Resolution::Eight, 3.0);
    let left: Vec<f64> = [0.5, 0.3, 0.2]
        .iter()
        .zip(cells)
        .map(|(p, cell)| p * searches.unfound(cell.index(), 0.0, 6.0))
        .collect();
    let all: f64 = left.iter().sum();
    for (got, golden) in left.iter().zip([0.372_119, 0.223_271, 0.404_610]) {
        assert!((got / all - golden).abs() < 1e-6, "{left:?}");
    }
}

#[test]
fn alerted_cells_lose_the_rest_gains_and_equal_effort_keeps_the_order() {
    let before = planned(vec![]);
    let after = planned(vec![looked_for(0, alert(&before, 0, 100.0))]);
    let (old, new) = (by_cell(&before), by_cell(&after));
    let alerted: Vec<Cell> = before.waves[0].cells.iter().map(|one| one.cell).collect();
    for (cell, p) in &old {
        if alerted.contains(cell) {
            assert!(new[cell] < *p, "{cell}");
        } else {
            assert!(new.get(cell).is_none_or(|now| now > p), "{cell}");
        }
    }
    let order = |plan: &Plan| -> Vec<Cell> {
        plan.cells()
            .map(|one| one.cell)
            .filter(|cell| alerted.contains(cell))
            .collect()
    };
    assert_eq!(order(&before), order(&after));
    let sum: f64 = after.cells().map(|one| one.p).sum();
    assert!((sum + after.rest - 1.0).abs() < 1e-9);
    let effect = after.searches[0];
    assert!((effect.before - before.waves[0].mass).abs() < 1e-9);
    let (p, e) = (effect.before, libm::exp(-0.3));
    assert!(
        (effect.after - p * e / (1.0 - p + p * e)).abs() < 1e-9,
        "{effect:?}"
    );
}

#[test]
fn an_alert_takes_three_hours_to_have_all_its_effect() {
    let plan = planned(vec![]);
    let after = |hours| {
        let effect = planned(vec![looked_for(hours, alert(&plan, 0, 10.0))]).searches[0];
        effect.after / effect.before
    };
    assert!((after(6) - 1.0).abs() < 1e-9);
    assert!(after(5) < after(6) && after(4) < after(5) && after(3) < after(4));
    assert!((after(2) - after(3)).abs() < 1e-9);
}

#[test]
fn more_people_find_more_and_their_number_is_counted_against_the_usual() {
    let cells: Vec<(Cell, f64)> = planned(vec![]).waves[0]
        .cells
        .iter()
        .map(|one| (one.cell, 100.0))
        .collect();
    let settings = Settings::default();
    let unfound = |cells: &[(Cell, f64)], cell: Cell| {
        let mut inputs = inputs(Duration::from_hours(6));
        inputs.looked_for = vec![looked_for(0, Search::Alert(cells.to_vec()))];
        Searches::new(&inputs, &settings, Resolution::Eight, 3.0).unfound(cell.index(), 0.0, 6.0)
    };
    let even = unfound(&cells, cells[0].0);
    assert!((even - libm::exp(-0.3)).abs() < 1e-12);
    let tenfold: Vec<_> = cells
        .iter()
        .map(|(cell, people)| (*cell, people * 10.0))
        .collect();
    assert!((unfound(&tenfold, cells[0].0) - even).abs() < 1e-12);
    let mut uneven = cells.clone();
    uneven[0].1 = 300.0;
    assert!(unfound(&uneven, cells[0].0) < even && unfound(&uneven, cells[1].0) > even);
}

#[test]
fn searched_cells_may_be_of_any_resolution() {
    let cell: Cell = "881976bb67fffff".parse().unwrap();
    let finer: Vec<Cell> = cell
        .index()
        .children(Resolution::Nine)
        .map(Cell::from)
        .collect();
    let coarser: Cell = cell.index().parent(Resolution::Seven).unwrap().into();
    let unfound = |cells: Vec<Cell>| {
        let mut inputs = inputs(Duration::from_hours(6));
        inputs.looked_for = vec![looked_for(
            1,
            Search::Ground {
                cells,
                detection: 0.5,
            },
        )];
        Searches::new(&inputs, &Settings::default(), Resolution::Eight, 3.0).unfound(
            cell.index(),
            0.0,
            6.0,
        )
    };
    assert!((unfound(vec![cell]) - 0.5).abs() < 1e-12);
    assert!((unfound(vec![coarser]) - 0.5).abs() < 1e-12);
    assert!((unfound(finer.clone()) - 0.5).abs() < 1e-9);
    assert!(unfound(finer[..3].to_vec()) > 0.6);
    assert!((unfound(vec![]) - 1.0).abs() < 1e-12);
}

#[test]
fn a_search_says_nothing_about_who_was_seen_there_later() {
    let cell: Cell = "881976bb67fffff".parse().unwrap();
    let mut inputs = inputs(Duration::from_hours(6));
    inputs.looked_for = vec![
        looked_for(
            1,
            Search::Ground {
                cells: vec![cell],
                detection: 0.5,
            },
        ),
        looked_for(1, Search::Alert(vec![(cell, 10.0)])),
    ];
    let searches = Searches::new(&inputs, &Settings::default(), Resolution::Eight, 3.0);
    let unfound = |since_h| searches.unfound(cell.index(), since_h, 6.0);
    assert!((unfound(0.0) - 0.5 * libm::exp(-0.3)).abs() < 1e-12);
    assert!((unfound(2.5) - libm::exp(-0.15)).abs() < 1e-12);
    assert!((unfound(4.5) - 1.0).abs() < 1e-12, "both were over by then");
}
