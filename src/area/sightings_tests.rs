use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::area::figures::Figures;
use crate::area::inputs::PlanInputs;
use crate::area::sphere::Horizon;
use crate::area::{DistanceTable, Plan, Settings, plan};
use crate::model::{Category, Environment, Mobility, Position, Profile, Transport};

const STATIC: Duration = Duration::from_hours(24 * 365 * 10);

fn inputs(elapsed: Duration) -> PlanInputs {
    let profile = Profile {
        category: Category::Dementia,
        age: None,
        mobility: Mobility::Normal,
        environment: Environment::Urban,
    };
    PlanInputs::new(profile, Position::new(57.149_7, -2.094_3).unwrap(), elapsed)
}

fn seen(km_east: f64, after: Duration, credibility: f64) -> SeenAt {
    SeenAt {
        name: String::new(),
        position: Horizon::at(inputs(after).lkp).point(km_east, 0.0).unwrap(),
        accuracy_m: 0.0,
        after,
        credibility,
        false_reports_per_km2: None,
        withdrawn: false,
    }
}

fn planned(inputs: &PlanInputs) -> Plan {
    plan(
        &DistanceTable::shipped().unwrap(),
        &Settings::default(),
        inputs,
    )
    .unwrap()
}

fn with(elapsed: Duration, sightings: Vec<SeenAt>) -> Plan {
    planned(&PlanInputs {
        sightings,
        ..inputs(elapsed)
    })
}

fn weight_of(elapsed: Duration, sighting: SeenAt) -> f64 {
    with(elapsed, vec![sighting]).sightings[0].weight
}

#[test]
fn golden_weights() {
    let settings = Settings::default();
    for (km, golden) in [
        (1.0, [0.8085, 0.9441, 0.9935]),
        (2.0, [0.5411, 0.8251, 0.9770]),
        (5.0, [0.1209, 0.3548, 0.8319]),
        (12.0, [0.0105, 0.0407, 0.2762]),
        (20.0, [0.0020, 0.0079, 0.0667]),
    ] {
        for (credibility, expected) in [0.2, 0.5, 0.9].into_iter().zip(golden) {
            let inputs = PlanInputs {
                sightings: vec![seen(km, STATIC, credibility)],
                ..inputs(STATIC)
            };
            let figures =
                Figures::find(&DistanceTable::shipped().unwrap(), &settings, &inputs).unwrap();
            let (_, effects) = applied(&figures.mover(&settings, &inputs), inputs.hours());
            let got = effects[0].weight;
            assert!(
                (got - expected).abs() < 6e-5,
                "{km} km, {credibility}: {got}, not {expected}"
            );
        }
    }
}

#[test]
fn no_credibility_changes_nothing() {
    let hours = Duration::from_hours;
    let without = with(hours(3), vec![]);
    let useless = with(hours(3), vec![seen(1.0, hours(2), 0.0)]);
    assert_eq!(useless.waves, without.waves);
}

#[test]
fn certain_and_on_the_spot_it_makes_a_new_start() {
    // At the same place and time as the last known position, and somewhere else at once.
    let hours = Duration::from_hours;
    let again = with(hours(3), vec![seen(0.0, Duration::ZERO, 1.0)]);
    assert_eq!(again.sightings[0].weight.to_bits(), 1.0_f64.to_bits());
    assert_eq!(again.waves, with(hours(3), vec![]).waves);

    let moved = with(hours(3), vec![seen(2.0, hours(3), 1.0)]);
    assert_eq!(moved.cells().count(), 1);
    let there = seen(2.0, hours(3), 1.0).position;
    let resolution = moved.resolution.try_into().unwrap();
    assert_eq!(
        moved.cells().next().unwrap().cell,
        crate::model::Cell::at(there, resolution)
    );
}

#[test]
fn out_of_reach_on_foot_it_changes_nothing() {
    let hours = Duration::from_hours;
    let without = with(hours(3), vec![]);
    // 5.4 km/h for an hour, on streets: 4.5 km.
    let far = with(hours(3), vec![seen(4.6, hours(1), 0.95)]);
    assert!(far.sightings[0].out_of_reach);
    assert_eq!(far.waves, without.waves);
    assert!(!with(hours(3), vec![seen(4.4, hours(1), 0.95)]).sightings[0].out_of_reach);
    let rider = PlanInputs {
        transport: Transport::SignOfVehicle,
        sightings: vec![seen(20.0, hours(1), 0.95)],
        ..inputs(hours(3))
    };
    let effect = &planned(&rider).sightings[0];
    assert!(!effect.out_of_reach && effect.weight > 0.05, "{effect:?}");
}

#[test]
fn sightings_apply_in_the_order_of_their_times_and_withdrawn_ones_not_at_all() {
    let hours = Duration::from_hours;
    let (first, second) = (seen(1.0, hours(1), 0.8), seen(-1.5, hours(2), 0.5));
    let plan = with(hours(4), vec![first.clone(), second.clone()]);
    let swapped = with(hours(4), vec![second.clone(), first.clone()]);
    assert_eq!(plan.waves, swapped.waves);
    assert_eq!(
        swapped
            .sightings
            .iter()
            .map(|one| one.index)
            .collect::<Vec<_>>(),
        [1, 0]
    );
    let withdrawn = SeenAt {
        withdrawn: true,
        ..first
    };
    let rest = with(hours(4), vec![withdrawn, second.clone()]);
    assert_eq!(rest.waves, with(hours(4), vec![second]).waves);
    // Conflicting ones mix; none is forgotten.
    let [a, b] = &plan.sightings[..] else {
        panic!("two sightings")
    };
    assert!((a.remaining - a.weight * (1.0 - b.weight)).abs() < 1e-12 && a.remaining > 0.0);
}

#[test]
fn known_false_reports_take_the_place_of_the_assumed() {
    let hours = Duration::from_hours;
    let mut crowded = seen(2.0, hours(2), 0.5);
    let usual = weight_of(hours(3), crowded.clone());
    crowded.false_reports_per_km2 = Some(1.0);
    assert!(weight_of(hours(3), crowded) < usual / 2.0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]
    #[test]
    // Over a step that is longer than the knots of the distance law are sharp: there the density rises a little.
    fn weight_rises_with_credibility_and_falls_with_distance(
        km in 0.1..6.0_f64, further in 1.25..1.6_f64, credibility in 0.05..0.9_f64, accuracy_m in prop_oneof![Just(0.0), 10.0..500.0_f64],
    ) {
        let at = |km, credibility| {
            weight_of(Duration::from_hours(3), SeenAt { accuracy_m, ..seen(km, Duration::from_hours(2), credibility) })
        };
        let base = at(km, credibility);
        prop_assert!((0.0..=1.0).contains(&base));
        prop_assert!(at(km, credibility + 0.05) >= base - 1e-12);
        prop_assert!(at(km * further, credibility) <= base + 1e-6, "{} {base}", at(km * further, credibility));
    }

    #[test]
    fn weight_is_a_probability(c in 0.0..=1.0_f64, q in 0.0..1e6_f64, u in 1e-9..1e6_f64) {
        let w = weight(c, q, u);
        prop_assert!((0.0..=1.0).contains(&w));
        prop_assert!(weight(c, q * 2.0, u) >= w);
        prop_assert!(weight(c, q, u * 2.0) <= w);
    }
}
