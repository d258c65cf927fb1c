use std::time::Duration;

use super::*;
use crate::area::{DistanceTable, Plan, PlanInputs, Settings, great_circle_km, plan, ranges};
use crate::model::{Category, Cell, Environment, Mobility, Profile, SUBSCRIBER_RESOLUTION};

fn abduction(elapsed: Duration) -> Plan {
    let profile = Profile {
        category: Category::Abduction,
        age: Some(7),
        mobility: Mobility::Normal,
        environment: Environment::Urban,
    };
    let inputs = PlanInputs::new(profile, Position::new(57.149_7, -2.094_3).unwrap(), elapsed);
    plan(
        &DistanceTable::shipped().unwrap(),
        &Settings::default(),
        &inputs,
    )
    .unwrap()
}

#[test]
fn the_circle_widens_by_the_hour() {
    for (hours, km) in [
        (0.0, 100.0),
        (1.0, 100.0),
        (1.01, 200.0),
        (2.0, 200.0),
        (2.5, 300.0),
        (3.0, 300.0),
        (3.1, 500.0),
        (90.0, 500.0),
    ] {
        assert_eq!(radius_km(hours).to_bits(), f64::to_bits(km), "{hours} h");
    }
}

#[test]
fn each_circle_is_a_wave_when_its_time_comes() {
    let delays = |plan: &Plan| -> Vec<u64> {
        plan.waves
            .iter()
            .map(|wave| wave.delay.as_secs() / 60)
            .collect()
    };
    let plan = abduction(Duration::from_mins(30));
    assert_eq!(delays(&plan), [0, 30, 90, 150]);
    assert_eq!(delays(&abduction(Duration::from_mins(150))), [0, 30]);
    assert_eq!(delays(&abduction(Duration::from_hours(4))), [0]);
    assert_eq!(
        plan.waves
            .iter()
            .map(|wave| wave.number)
            .collect::<Vec<_>>(),
        [1, 2, 3, 4]
    );
    assert!(plan.radii.r95 <= 100.0 && plan.radii.r75 > 19.3 && plan.radii.r75 < 19.4);
    let sum: f64 = plan.cells().map(|one| one.p).sum();
    assert!(
        (sum + plan.rest - 1.0).abs() < 1e-9 && plan.rest < 0.06,
        "{}",
        plan.rest
    );
}

#[test]
fn a_circle_has_everybody_in_it() {
    let plan = abduction(Duration::from_mins(30));
    let horizon = Horizon::at(plan.inputs.lkp);
    let mut cells: Vec<Cell> = Vec::new();
    for (wave, (_, km)) in plan.waves.iter().zip(CIRCLES) {
        cells.extend(wave.cells.iter().map(|one| one.cell));
        let runs = ranges(&cells);
        for k in 0..5_000 {
            let (north, east) = libm::sincos(f64::from(k) * 2.399_963);
            let part = km * (1.0 - 0.1 * f64::from(k) / 5_000.0);
            let point = horizon.point(part * east, part * north).unwrap();
            let number = Cell::at(point, SUBSCRIBER_RESOLUTION).to_i64();
            let after = runs.partition_point(|run| run.lo <= number);
            assert!(
                after > 0 && runs[after - 1].hi >= number,
                "{km} km: {}",
                great_circle_km(point, plan.inputs.lkp)
            );
        }
    }
}

#[test]
fn a_child_may_be_planned_for_as_abducted() {
    let mut inputs = abduction(Duration::from_hours(4)).inputs;
    inputs.profile.category = Category::Child7To9;
    inputs.policy = Some(crate::model::Policy::AbductionByVehicle);
    let taken = plan(
        &DistanceTable::shipped().unwrap(),
        &Settings::default(),
        &inputs,
    )
    .unwrap();
    assert_eq!(taken.basis.category, Category::Abduction);
    assert_eq!(taken.waves.len(), 1);
    assert!(taken.assumptions.iter().any(|one| one.contains("500 km")));
}
