//! Plans with everything in them.

use proptest::prelude::*;

use super::tests::{dementia_urban, inputs, planned};
use super::*;
use crate::area::{LookedFor, Search, SeenAt, great_circle_km};
use crate::model::{Category, Cell, Environment, KnownPlace, PlaceKind, Position, Transport};

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
    let (on_foot, ridden) = (planned(&walker).unwrap(), planned(&rider).unwrap());
    assert_eq!(ridden.resolution, on_foot.resolution);
    let best = |plan: &Plan| {
        plan.waves[0]
            .cells
            .iter()
            .map(|one| one.cell)
            .collect::<Vec<_>>()
    };
    assert!(best(&ridden).starts_with(&best(&on_foot)));
    let coarse = |plan: &Plan| {
        plan.cells()
            .filter(|one| one.cell.index().resolution() < h3o::Resolution::Eight)
            .count()
    };
    assert!(coarse(&ridden) > 100 && coarse(&on_foot) == 0);
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
