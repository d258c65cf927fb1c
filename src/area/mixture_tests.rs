use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::area::DistanceTable;
use crate::area::figures::Figures;
use crate::model::{Category, Environment, Mobility, PlaceKind, Profile};

fn inputs(hours: u64) -> PlanInputs {
    let profile = Profile {
        category: Category::Dementia,
        age: None,
        mobility: Mobility::Normal,
        environment: Environment::Urban,
    };
    PlanInputs::new(
        profile,
        Position::new(57.149_7, -2.094_3).unwrap(),
        Duration::from_hours(hours),
    )
}

fn with<T>(inputs: &PlanInputs, look: impl FnOnce(&Mover) -> T) -> T {
    let settings = Settings::default();
    let figures = Figures::find(&DistanceTable::shipped().unwrap(), &settings, inputs).unwrap();
    look(&figures.mover(&settings, inputs))
}

fn km_east(km: f64) -> Position {
    Horizon::at(inputs(0).lkp).point(km, 0.0).unwrap()
}

fn place(km: f64, weight: f64) -> KnownPlace {
    KnownPlace {
        kind: PlaceKind::Home,
        position: km_east(km),
        weight,
    }
}

#[test]
fn known_places_count_for_a_tenth_to_a_quarter() {
    for (weights, expected) in [
        (&[][..], 0.0),
        (&[0.0][..], 0.0),
        (&[0.01][..], 0.10),
        (&[0.1, 0.05][..], 0.15),
        (&[0.9, 0.3][..], 0.25),
    ] {
        let mut inputs = inputs(5);
        inputs.known_places = weights.iter().map(|&weight| place(2.0, weight)).collect();
        let parts = with(&inputs, |mover| mover.parts(&mover.start(), 5.0));
        let total: f64 = parts.iter().map(|part| part.weight).sum();
        assert!((total - 1.0).abs() < 1e-12);
        let places: f64 = parts[1..].iter().map(|part| part.weight).sum();
        assert!((places - expected).abs() < 1e-12, "{weights:?}: {places}");
    }
}

#[test]
fn a_known_place_out_of_reach_on_foot_does_not_count() {
    let mut inputs = inputs(1);
    inputs.known_places = vec![place(4.4, 0.2), place(4.6, 0.1)];
    assert_eq!(with(&inputs, |mover| mover.places(1.0)).len(), 1);
    assert_eq!(with(&inputs, |mover| mover.places(2.0)).len(), 2);
    inputs.transport = Transport::VehicleOrTransit;
    assert_eq!(with(&inputs, |mover| mover.places(1.0)).len(), 2);
}

#[test]
fn vehicles_are_a_part_of_their_own() {
    let shares = |transport| {
        let inputs = PlanInputs {
            transport,
            ..inputs(2)
        };
        with(&inputs, |mover| {
            let parts = mover.parts(&mover.start(), 2.0);
            (
                parts.iter().map(|part| part.weight).collect::<Vec<_>>(),
                mover.only_walks(),
            )
        })
    };
    assert_eq!(shares(Transport::OnFoot), (vec![1.0], true));
    assert_eq!(shares(Transport::Unknown), (vec![1.0], true));
    let (sign, walks) = shares(Transport::SignOfVehicle);
    assert!((sign[1] - 0.2).abs() < 1e-12 && !walks);
    let (ride, _) = shares(Transport::VehicleOrTransit);
    assert!((ride[1] - 0.8).abs() < 1e-12);
    // 40 to 60 km after two hours, and at most 500 km ever.
    let radial = with(
        &PlanInputs {
            transport: Transport::VehicleOrTransit,
            ..inputs(2)
        },
        |mover| {
            assert_eq!(
                mover.ride_km(100.0).map(f64::to_bits),
                [VEHICLE_MAX_KM; 2].map(f64::to_bits)
            );
            mover.parts(&mover.start(), 2.0)[1].radial()
        },
    );
    assert!((radial.within(20.0) - 400.0 / 2_400.0).abs() < 1e-4);
    assert!(radial.within(59.0) < 1.0 && radial.within(60.1) >= 1.0);
}

#[test]
fn the_walkers_circle_is_not_inflated_by_vehicles() {
    let walking = with(&inputs(2), |mover| {
        mover.parts(&mover.start(), 2.0)[0].radial()
    });
    let beside = PlanInputs {
        transport: Transport::VehicleOrTransit,
        ..inputs(2)
    };
    assert_eq!(
        with(&beside, |mover| mover.parts(&mover.start(), 2.0)[0]
            .radial()),
        walking
    );
}

#[test]
fn a_heading_holds_round_the_last_known_position_only() {
    let inputs = PlanInputs {
        heading_deg: Some(90.0),
        ..inputs(3)
    };
    with(&inputs, |mover| {
        let density = |km| mover.density(&[mover.start()], 3.0, km_east(km), 0.0);
        assert!(density(2.0) > 5.0 * density(-2.0));
        let later = Centre {
            since_h: 1.0,
            ..mover.start()
        };
        assert!(mover.parts(&later, 3.0)[0].heading.is_none());
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn density_is_what_the_map_shows(
        km in 0.052..6.0_f64, hours in 2.0..10.0_f64, ride in any::<bool>(), accuracy_m in prop_oneof![Just(0.0), 20.0..800.0_f64],
    ) {
        let transport = if ride { Transport::VehicleOrTransit } else { Transport::OnFoot };
        let inputs = PlanInputs { accuracy_m, transport, ..inputs(10) };
        let (density, slope) = with(&inputs, |mover| {
            let density = mover.density(&[mover.start()], hours, km_east(km), 0.0);
            let within = |km: f64| -> f64 {
                let parts = mover.parts(&mover.start(), hours);
                parts.iter().map(|part| part.weight * part.radial().within(km)).sum()
            };
            let (inner, outer) = (km * 0.97, km * 1.03);
            (density, (within(outer) - within(inner)) / (PI * (outer * outer - inner * inner)))
        });
        // The law has kinks where its density jumps; the ring stays clear of the largest, the core's edge.
        prop_assert!((density / slope - 1.0).abs() < 0.35, "{density} {slope}");
    }

    #[test]
    fn a_ride_is_a_distribution(slow in 1.0..100.0_f64, more in 1.0..2.0_f64, km in 0.1..300.0_f64) {
        let span = [slow, slow * more];
        let (inner, outer) = (km * 0.999, km * 1.001);
        prop_assert!(ridden(span, inner) <= ridden(span, outer) + 1e-12);
        prop_assert!(ridden(span, slow * more * 1.001) >= 1.0);
        let slope = (ridden(span, outer) - ridden(span, inner)) / (PI * (outer * outer - inner * inner));
        let near_a_kink = [slow, slow * more].iter().any(|at| (inner..outer).contains(at));
        prop_assert!(near_a_kink || (slope - ride_density(span, km)).abs() < 1e-3 / (km * km), "{slope}");
    }
}
