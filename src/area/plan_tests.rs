use proptest::prelude::*;

use super::*;
use crate::area::{
    Chosen, KnownPlace, LookedFor, PlaceKind, Search, SeenAt, Transport, great_circle_km, ranges,
};
use crate::model::{Category, Cell, Environment, Mobility, Position, Profile};

const STATIC: Duration = Duration::from_hours(24 * 365 * 10);

fn inputs(category: Category, environment: Environment, elapsed: Duration) -> PlanInputs {
    let profile = Profile {
        category,
        age: None,
        mobility: Mobility::Normal,
        environment,
    };
    PlanInputs::new(profile, Position::new(57.149_7, -2.094_3).unwrap(), elapsed)
}

fn dementia_urban(elapsed: Duration) -> PlanInputs {
    inputs(Category::Dementia, Environment::Urban, elapsed)
}

fn planned(inputs: &PlanInputs) -> Result<Plan, AreaError> {
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

/// A case with anything in it, anywhere: the poles, the antimeridian, the sea, pentagons.
fn anything() -> impl Strategy<Value = PlanInputs> {
    let place = prop_oneof![
        (-90.0..=90.0_f64, -180.0..=180.0_f64),
        prop::sample::select(vec![
            (0.0, 10.0),
            (35.0, 135.5),
            (60.0, 25.0),
            (16.8, 180.0),
            (-89.999, 30.0),
            (90.0, 0.0),
            (64.7, 10.536_2),
        ]),
    ];
    let category = prop::sample::select(Category::ALL);
    let transport = prop::sample::select(vec![
        Transport::Unknown,
        Transport::Unknown,
        Transport::SignOfVehicle,
    ]);
    let sightings = prop::collection::vec(
        (
            -9.0..9.0_f64,
            -9.0..9.0_f64,
            0.0..1.0_f64,
            0.0..=1.0_f64,
            0.0..500.0_f64,
        ),
        0..3,
    );
    let places = prop::collection::vec((-5.0..5.0_f64, 0.0..=1.0_f64), 0..3);
    let rest = (
        0..600_u64,
        prop_oneof![Just(0.0), 1.0..2_000.0_f64],
        prop::option::of(0.0..360.0_f64),
        any::<bool>(),
    );
    (place, category, transport, sightings, places, rest).prop_map(
        |(
            (lat, lon),
            category,
            transport,
            sightings,
            places,
            (minutes, accuracy_m, heading_deg, searched),
        )| {
            let lkp = Position::new(lat, lon).unwrap();
            let horizon = crate::area::sphere::Horizon::at(lkp);
            let elapsed = Duration::from_mins(minutes);
            let seen =
                |(east, north, part, credibility, accuracy_m): (f64, f64, f64, f64, f64)| SeenAt {
                    name: String::new(),
                    position: horizon.point(east, north).unwrap(),
                    accuracy_m,
                    after: elapsed.mul_f64(part),
                    credibility,
                    false_reports_per_km2: None,
                    withdrawn: false,
                };
            let known = |(east, weight): (f64, f64)| KnownPlace {
                kind: PlaceKind::Work,
                position: horizon.point(east, 1.0).unwrap(),
                weight,
            };
            let home = Cell::at(lkp, h3o::Resolution::Eight);
            let search = LookedFor {
                name: String::new(),
                after: elapsed / 2,
                by: Search::Alert(vec![(home, 500.0)]),
            };
            PlanInputs {
                lkp,
                accuracy_m,
                transport,
                heading_deg,
                sightings: sightings.into_iter().map(seen).collect(),
                known_places: places.into_iter().map(known).collect(),
                looked_for: if searched { vec![search] } else { vec![] },
                ..inputs(category, Environment::Urban, elapsed)
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]
    #[test]
    fn whatever_is_known_probabilities_sum_to_one(inputs in anything()) {
        let plan = planned(&inputs).unwrap();
        let sum: f64 = plan.cells().map(|one| one.p).sum();
        prop_assert!((sum + plan.rest - 1.0).abs() < 1e-9 && plan.rest >= -1e-12, "{sum} {}", plan.rest);
        prop_assert!(plan.cells().all(|one| one.p > 0.0));
        let cells: std::collections::HashSet<Cell> = plan.cells().map(|one| one.cell).collect();
        prop_assert_eq!(cells.len(), plan.cells().count());
        let density = |one: &CellProbability| one.p / one.cell.index().resolution().area_km2();
        prop_assert!(plan.waves.iter().all(|wave| wave.cells.is_sorted_by(|a, b| density(a) >= density(b))));
        let covered_twice = |one: &CellProbability| {
            let coarser = std::iter::successors(one.cell.index().resolution().pred(), |one| one.pred());
            coarser.filter_map(|coarser| one.cell.index().parent(coarser)).any(|one| cells.contains(&one.into()))
        };
        prop_assert!(!plan.cells().any(covered_twice));
        let explained = crate::area::explain(&plan);
        prop_assert!(explained.len() >= 4 && explained.iter().all(|one| !one.text.contains("NaN")));
        let text = serde_json::to_string(&plan).unwrap();
        let read: Plan = serde_json::from_str(&text).unwrap();
        prop_assert!(read.cells().map(|one| one.cell).eq(plan.cells().map(|one| one.cell)));
        prop_assert!(crate::area::svg(&plan).len() > 1_000);
        let again = planned(&inputs).unwrap();
        prop_assert_eq!(again.rest.to_bits(), plan.rest.to_bits());
    }
}

#[test]
fn a_known_place_and_a_heading_move_the_area() {
    let plain = planned(&dementia_urban(Duration::from_hours(3))).unwrap();
    let east = crate::area::sphere::Horizon::at(plain.inputs.lkp)
        .point(4.0, 0.0)
        .unwrap();
    let mass_near = |plan: &Plan| -> f64 {
        let near = |one: &&CellProbability| {
            let at = h3o::LatLng::from(one.cell.index());
            great_circle_km(Position::new(at.lat(), at.lng()).unwrap(), east) < 1.5
        };
        plan.cells().filter(near).map(|one| one.p).sum()
    };
    let home = KnownPlace {
        kind: PlaceKind::Home,
        position: east,
        weight: 0.2,
    };
    let drawn = planned(&PlanInputs {
        known_places: vec![home],
        ..plain.inputs.clone()
    })
    .unwrap();
    assert!(mass_near(&drawn) > mass_near(&plain) + 0.15);
    let heading = planned(&PlanInputs {
        heading_deg: Some(90.0),
        ..plain.inputs.clone()
    })
    .unwrap();
    assert!(mass_near(&heading) > 2.0 * mass_near(&plain));
    assert_eq!(heading.radii, plain.radii);
}

#[test]
fn a_vehicle_does_not_make_the_walkers_map_coarser() {
    let walker = dementia_urban(Duration::from_hours(5));
    let mut rider = PlanInputs {
        transport: Transport::SignOfVehicle,
        ..walker.clone()
    };
    let (walked, ridden) = (planned(&walker).unwrap(), planned(&rider).unwrap());
    assert_eq!(ridden.resolution, walked.resolution);
    let best = |plan: &Plan| {
        plan.waves[0]
            .cells
            .iter()
            .map(|one| one.cell)
            .collect::<Vec<_>>()
    };
    assert!(best(&ridden).starts_with(&best(&walked)));
    let coarse = |plan: &Plan| {
        plan.cells()
            .filter(|one| one.cell.index().resolution() < h3o::Resolution::Eight)
            .count()
    };
    assert!(coarse(&ridden) > 100 && coarse(&walked) == 0);
    // A search far off is seen where only vehicles go.
    let far = crate::area::sphere::Horizon::at(walker.lkp)
        .point(60.0, 0.0)
        .unwrap();
    let cell = Cell::at(far, h3o::Resolution::Eight);
    let by = Search::Ground {
        cells: vec![cell],
        detection: 0.9,
    };
    rider.looked_for = vec![LookedFor {
        name: String::new(),
        after: Duration::ZERO,
        by,
    }];
    let effect = planned(&rider).unwrap().searches[0];
    assert!(
        effect.before > 0.0 && (effect.after / effect.before - 0.1).abs() < 0.01,
        "{effect:?}"
    );
}
