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

/// Wherever somebody was seen on a circle.
#[test]
fn labels_of_circles_cover_no_sighting() {
    let (usual, _) = drawn(57.149_7, -2.094_3);
    let horizon = Horizon::at(usual.inputs.lkp);
    for bearing in 0..36 {
        let (sin, cos) = libm::sincos(f64::from(10 * bearing).to_radians());
        let mut inputs = usual.inputs.clone();
        let km = usual.radii.r50;
        inputs.sightings[0].position = horizon.point(km * sin, km * cos).unwrap();
        let table = DistanceTable::shipped().unwrap();
        let plan = plan(&table, &Settings::default(), &inputs).unwrap();
        let canvas = Canvas::of(&plan);
        let seen = canvas.place(inputs.sightings[0].position);
        let picture = canvas.circles(&plan);
        let label = picture.lines().find(|line| line.contains(">50 %")).unwrap();
        let number = |name: &str| -> f64 {
            let value = label.split(&format!(" {name}=\"")).nth(1).unwrap();
            value.split('"').next().unwrap().parse().unwrap()
        };
        let (across, down) = (number("x") - seen[0], number("y") - seen[1]);
        assert!(
            across.abs() > 60.0 || down.abs() > 20.0,
            "bearing {bearing}0: {across}, {down}"
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
