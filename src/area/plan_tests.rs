use proptest::prelude::*;

use super::*;
use crate::area::{Chosen, great_circle_km, ranges};
use crate::model::{Category, Cell, Environment, Mobility, Position, Profile};

const STATIC: Duration = Duration::from_hours(24 * 365 * 10);

pub(super) fn inputs(
    category: Category,
    environment: Environment,
    elapsed: Duration,
) -> PlanInputs {
    let profile = Profile {
        category,
        age: None,
        mobility: Mobility::Normal,
        environment,
    };
    PlanInputs::new(profile, Position::new(57.149_7, -2.094_3).unwrap(), elapsed)
}

pub(super) fn dementia_urban(elapsed: Duration) -> PlanInputs {
    inputs(Category::Dementia, Environment::Urban, elapsed)
}

pub(super) fn planned(inputs: &PlanInputs) -> Result<Plan, AreaError> {
    plan(
        &DistanceTable::shipped().unwrap(),
        &Settings::default(),
        inputs,
    )
}

fn near(radii: Radii, expected: [f64; 3], within: f64) {
    for (got, expected) in [radii.r50, radii.r75, radii.r95].into_iter().zip(expected) {
        assert!((got - expected).abs() < within, "{radii:?}, not {expected}");
    }
}

#[test]
fn golden_accuracy_of_the_last_known_position() {
    for (accuracy_m, expected) in [
        (0.0, [1.126_541, 3.218_688, 12.552_883]),
        (100.0, [1.1292, 3.2206, 12.5539]),
        (500.0, [1.1921, 3.2656, 12.579]),
        (1_000.0, [1.3702, 3.4024, 12.6572]),
    ] {
        let plan = planned(&PlanInputs {
            accuracy_m,
            ..dementia_urban(STATIC)
        })
        .unwrap();
        near(plan.radii, expected, 6e-5);
    }
}

#[test]
fn golden_waves() {
    let plan = planned(&dementia_urban(STATIC)).unwrap();
    assert_eq!(plan.resolution, 8);
    let sizes: Vec<usize> = plan.waves.iter().map(|wave| wave.cells.len()).collect();
    assert_eq!(sizes, [7, 47, 752]);
    assert!((plan.waves[0].mass - 0.5077).abs() < 0.001);
    let delays: Vec<u64> = plan.waves.iter().map(|wave| wave.delay.as_secs()).collect();
    assert_eq!(delays, [0, 1_800, 7_200]);
}

#[test]
fn lead_is_time_as_well() {
    let hour = Duration::from_hours(1);
    let ahead = PlanInputs {
        lead: hour,
        ..dementia_urban(hour)
    };
    let plain = planned(&dementia_urban(2 * hour)).unwrap();
    assert_eq!(planned(&ahead).unwrap().radii, plain.radii);
    near(plain.radii, [0.967, 2.820, 9.0], 5.1e-4);
}

#[test]
fn mobility_shortens_reach_and_distances() {
    let with = |mobility, elapsed| {
        let mut inputs = dementia_urban(elapsed);
        inputs.profile.mobility = mobility;
        planned(&inputs).unwrap()
    };
    let reduced = with(Mobility::Reduced, STATIC);
    near(
        reduced.radii,
        [1.126_541, 3.218_688, 12.552_883].map(|km| km * 0.7),
        1e-9,
    );
    assert_eq!(reduced.resolution, 9);
    let hour = Duration::from_hours(1);
    for (mobility, reach_km) in [
        (Mobility::Reduced, 2.7),
        (Mobility::WheelchairManual, 3.0),
        (Mobility::WheelchairPowered, 8.0 / 1.2),
    ] {
        let plan = with(mobility, hour);
        assert!(
            plan.radii.r95 <= reach_km + 1e-9,
            "{mobility}: {:?}",
            plan.radii
        );
        assert!(plan.radii.r95 > reach_km * 0.99 || mobility == Mobility::WheelchairPowered);
    }
    assert!(
        reduced
            .assumptions
            .contains(&"reduced mobility: speed x 0.6, distances x 0.7".into())
    );
}

#[test]
fn a_person_just_gone_is_still_there() {
    let plan = planned(&dementia_urban(Duration::ZERO)).unwrap();
    near(plan.radii, [0.0; 3], 1e-12);
    let sizes: Vec<usize> = plan.waves.iter().map(|wave| wave.cells.len()).collect();
    assert_eq!(sizes, [1, 0, 0]);
    let uncertain = PlanInputs {
        accuracy_m: 200.0,
        ..dementia_urban(Duration::ZERO)
    };
    near(
        planned(&uncertain).unwrap().radii,
        [0.155_99, 0.220_60, 0.324_29],
        1e-4,
    );
}

#[test]
fn what_cannot_be_planned_is_refused() {
    for accuracy_m in [-1.0, f64::NAN, f64::INFINITY, 100_001.0] {
        let told = planned(&PlanInputs {
            accuracy_m,
            ..dementia_urban(STATIC)
        });
        assert!(matches!(told, Err(AreaError::Input { .. })), "{told:?}");
    }
    let settings = Settings {
        spread_exponent: 0.0,
        ..Settings::default()
    };
    let table = DistanceTable::shipped().unwrap();
    assert!(plan(&table, &settings, &dementia_urban(STATIC)).is_err());
}

#[test]
fn a_plan_says_what_it_assumed_and_from_which_table() {
    let table = DistanceTable::shipped().unwrap();
    let mut inputs = inputs(Category::UnknownAdult, Environment::DryFlat, STATIC);
    inputs.profile.age = Some(70);
    let plan = planned(&inputs).unwrap();
    let Chosen { category, .. } = table.row(&inputs.profile, 65).unwrap();
    assert_eq!(category, Category::Dementia);
    assert_eq!(plan.table_digest, table.digest());
    let told = plan.assumptions.join("\n");
    for part in [
        "taken as dementia",
        "1.98966 h",
        "5.4 km/h",
        "power 0.5",
        "0, 30 and 120 min",
    ] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
}

#[test]
fn a_plan_survives_the_store() {
    let inputs = PlanInputs {
        accuracy_m: 80.0,
        ..dementia_urban(Duration::from_millis(1_500))
    };
    let plan = planned(&inputs).unwrap();
    let stored = serde_json::to_value(&plan).unwrap();
    assert_eq!(stored["inputs"]["elapsed_s"], 1.5);
    assert_eq!(stored["waves"][1]["delay_s"], 1_800.0);
    let keys: Vec<&String> = stored["radii"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["r25", "r50", "r75", "r95"]);
    assert_eq!(serde_json::from_value::<Plan>(stored).unwrap(), plan);
    assert_eq!(planned(&inputs).unwrap(), plan);
}

/// Two ways to the same people: a point's subscriber cell lies in the ranges of the waves just if
/// its ancestor is one of their cells.
#[test]
fn ranges_hold_the_subscribers_of_the_waves() {
    for environment in [Environment::Urban, Environment::Default] {
        let plan = planned(&inputs(
            Category::Dementia,
            environment,
            Duration::from_hours(2),
        ))
        .unwrap();
        let resolution = plan.resolution.try_into().unwrap();
        let cells: Vec<Cell> = plan.cells().map(|one| one.cell).collect();
        let runs = ranges(&cells);
        assert!(runs.len() < cells.len());
        let horizon = crate::area::sphere::Horizon::at(plan.inputs.lkp);
        let mut told = 0;
        for k in 0..20_000 {
            let km = 12.0 * libm::sqrt(f64::from(k) / 20_000.0);
            let (north, east) = libm::sincos(f64::from(k) * 2.4);
            let point = horizon.point(km * east, km * north).unwrap();
            assert!((great_circle_km(point, plan.inputs.lkp) - km).abs() < 1e-6);
            let home = Cell::at(point, crate::model::SUBSCRIBER_RESOLUTION);
            let number = home.to_i64();
            let holding = runs
                .iter()
                .filter(|run| (run.lo..=run.hi).contains(&number))
                .count();
            let released = cells.contains(&home.index().parent(resolution).unwrap().into());
            assert_eq!(holding, usize::from(released));
            told += holding;
        }
        assert!(told > 1_000);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn probabilities_sum_to_one_anywhere(
        category in prop::sample::select(Category::ALL), environment in prop::sample::select(Environment::ALL),
        lat in -90.0..=90.0_f64, lon in -180.0..=180.0_f64, accuracy_m in 0.0..2_000.0_f64,
        minutes in 0..3_000_u64,
    ) {
        prop_assume!(category != Category::Abduction);
        let inputs = PlanInputs {
            lkp: Position::new(lat, lon).unwrap(),
            accuracy_m,
            ..inputs(category, environment, Duration::from_mins(minutes))
        };
        let plan = planned(&inputs).unwrap();
        prop_assert!(plan.cells().all(|one| one.p > 0.0));
        let sum: f64 = plan.cells().map(|one| one.p).sum();
        prop_assert!((sum + plan.rest - 1.0).abs() < 1e-9);
        let masses: f64 = plan.waves.iter().map(|wave| wave.mass).sum();
        prop_assert!((sum - masses).abs() < 1e-9 && masses >= 0.95 && plan.rest >= 0.0);
        let cells: std::collections::HashSet<Cell> = plan.cells().map(|one| one.cell).collect();
        prop_assert_eq!(cells.len(), plan.cells().count());
        prop_assert!(plan.cells().is_sorted_by(|a, b| a.p >= b.p));

        let elsewhere = PlanInputs { lkp: Position::new(0.0, 0.0).unwrap(), ..inputs.clone() };
        prop_assert_eq!(planned(&elsewhere).unwrap().radii, plan.radii);
        let vaguer = PlanInputs { accuracy_m: accuracy_m + 50.0, ..inputs };
        let vaguer = planned(&vaguer).unwrap().radii;
        prop_assert!(vaguer.r25 > plan.radii.r25 && vaguer.r50 > plan.radii.r50);
        prop_assert!(vaguer.r75 > plan.radii.r75 && vaguer.r95 > plan.radii.r95);
    }
}
