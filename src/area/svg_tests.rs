use std::time::Duration;

use super::*;
use crate::area::{DistanceTable, PlanInputs, SeenAt, Settings, plan};
use crate::model::{Category, Environment, KnownPlace, Mobility, PlaceKind, Profile};

fn drawn(lat: f64, lon: f64) -> (Plan, String) {
    let profile = Profile {
        category: Category::Dementia,
        age: None,
        mobility: Mobility::Normal,
        environment: Environment::Urban,
    };
    let horizon = Horizon::at(Position::new(lat, lon).unwrap());
    let seen = |km, after_h| SeenAt {
        name: "<b>".to_owned(),
        position: horizon.point(km, km).unwrap(),
        accuracy_m: 100.0,
        after: Duration::from_hours(after_h),
        credibility: 0.7,
        false_reports_per_km2: None,
        withdrawn: false,
    };
    let inputs = PlanInputs {
        sightings: vec![seen(1.5, 1), seen(-1.0, 2)],
        known_places: vec![KnownPlace {
            kind: PlaceKind::Home,
            position: horizon.point(-3.0, 1.0).unwrap(),
            weight: 0.1,
        }],
        ..PlanInputs::new(
            profile,
            Position::new(lat, lon).unwrap(),
            Duration::from_hours(3),
        )
    };
    let plan = plan(
        &DistanceTable::shipped().unwrap(),
        &Settings::default(),
        &inputs,
    )
    .unwrap();
    let picture = svg(&plan);
    (plan, picture)
}

#[test]
fn every_cell_sign_and_radius_is_drawn() {
    let (plan, picture) = drawn(57.149_7, -2.094_3);
    let count = |what: &str| picture.matches(what).count();
    assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
    assert_eq!(count("class=\"wave\""), 3);
    assert_eq!(count("Z") - count("-8Z"), plan.cells().count());
    // On the map and in the legend.
    assert_eq!(count("class=\"sighting\""), 4);
    assert_eq!(count("class=\"place\""), 2);
    let of_sightings = plan
        .sightings
        .iter()
        .filter(|one| one.remaining >= FAINT)
        .count();
    assert_eq!(count("<circle"), 2 * (3 + 2 * of_sightings));
    for part in [
        " km²",
        "elsewhere",
        "last known position",
        "50 % are within",
    ] {
        assert!(picture.contains(part), "{part}");
    }
    assert!(
        !picture.contains("http://") || count("http") == 1,
        "nothing is loaded from elsewhere"
    );
    assert!(
        !picture.contains("<b>"),
        "names of sightings are not for the picture"
    );
}

/// Also at the antimeridian, at a pole and with nobody anywhere but here.
#[test]
fn the_map_fills_the_picture() {
    for (lat, lon) in [
        (57.149_7, -2.094_3),
        (16.8, 179.999),
        (89.99, 0.0),
        (-90.0, 0.0),
    ] {
        let (_, picture) = drawn(lat, lon);
        let waves = picture
            .lines()
            .filter(|line| line.contains("class=\"wave\""));
        let mut numbers: Vec<f64> = Vec::new();
        for wave in waves {
            let path = wave.split(" d=\"").nth(1).unwrap();
            numbers.extend(
                path.split(|c: char| !(c.is_ascii_digit() || c == '.'))
                    .filter_map(|one| one.parse::<f64>().ok()),
            );
        }
        let (least, most) = (
            numbers.iter().copied().fold(f64::INFINITY, f64::min),
            numbers.iter().copied().fold(0.0, f64::max),
        );
        assert!(
            least >= MARGIN && most <= MARGIN + SIZE,
            "{lat},{lon}: {least} to {most}"
        );
        assert!(
            least < MARGIN + 0.05 * SIZE || most > MARGIN + 0.95 * SIZE,
            "{lat},{lon}: {least} to {most}"
        );
    }
}

#[test]
fn lengths_are_round() {
    for (km, text) in [
        (0.25, "250 m"),
        (1.0, "1 km"),
        (2.34, "2.3 km"),
        (12.6, "13 km"),
        (500.0, "500 km"),
    ] {
        assert_eq!(length(km), text);
    }
}
