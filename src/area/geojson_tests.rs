use std::time::Duration;

use super::*;
use crate::area::{DistanceTable, PlanInputs, SeenAt, Settings, plan};
use crate::model::{Category, Environment, KnownPlace, Mobility, PlaceKind, Profile};

fn map(lat: f64, lon: f64) -> (Plan, Value) {
    let profile = Profile {
        category: Category::Child1To3,
        age: None,
        mobility: Mobility::Normal,
        environment: Environment::Urban,
    };
    let lkp = Position::new(lat, lon).unwrap();
    let inputs = PlanInputs {
        accuracy_m: 50.0,
        ..PlanInputs::new(profile, lkp, Duration::from_hours(2))
    };
    let plan = plan(
        &DistanceTable::shipped().unwrap(),
        &Settings::default(),
        &inputs,
    )
    .unwrap();
    let map = feature_collection(&plan).unwrap();
    (plan, map)
}

/// All rings of a feature's geometry.
fn rings(feature: &Value) -> Vec<Vec<Corner>> {
    let geometry = &feature["geometry"];
    let coordinates = geometry["coordinates"].clone();
    let polygons: Vec<Vec<Vec<Corner>>> = match geometry["type"].as_str().unwrap() {
        "Polygon" => vec![serde_json::from_value(coordinates).unwrap()],
        "MultiPolygon" => serde_json::from_value(coordinates).unwrap(),
        _ => vec![],
    };
    polygons.into_iter().flatten().collect()
}

/// Twice the signed area in square degrees, above 0 for anticlockwise.
fn area(ring: &[Corner]) -> f64 {
    ring.windows(2)
        .map(|edge| edge[0][0] * edge[1][1] - edge[1][0] * edge[0][1])
        .sum()
}

#[test]
fn every_cell_circle_and_the_position_are_on_the_map() {
    let (plan, map) = map(57.149_7, -2.094_3);
    assert_eq!(map["type"], "FeatureCollection");
    let features = map["features"].as_array().unwrap();
    assert_eq!(features.len(), 1 + 4 + plan.cells().count());
    assert_eq!(
        features[0]["geometry"]["coordinates"],
        json!([-2.094_3, 57.149_7])
    );
    assert_eq!(features[0]["properties"]["radii_km"]["r95"], plan.radii.r95);
    assert_eq!(features[4]["properties"]["name"], "r95");
    let best = plan.cells().next().unwrap();
    let shown = &features[5]["properties"];
    assert_eq!(shown["cell"], best.cell.to_string());
    assert_eq!((&shown["p"], &shown["wave"]), (&json!(best.p), &json!(1)));
    assert_eq!(features.last().unwrap()["properties"]["wave"], 3);
}

#[test]
fn rings_are_closed_anticlockwise_and_on_the_map() {
    for (lat, lon) in [
        (57.149_7, -2.094_3),
        (16.8, 179.999),
        (-16.8, -179.999),
        (0.0, 180.0),
        (90.0, 0.0),
        (-90.0, 77.0),
        (89.995, -179.99),
        (64.7, 10.536_2),
    ] {
        let (_, map) = map(lat, lon);
        for feature in &map["features"].as_array().unwrap()[1..] {
            for ring in rings(feature) {
                assert!(ring.len() >= 4 && ring.first() == ring.last());
                assert!(area(&ring) > 0.0, "{lat},{lon}: {ring:?}");
                assert!(
                    ring.iter()
                        .all(|at| at[0].abs() <= 180.0 && at[1].abs() <= 90.0)
                );
                let widest = ring.windows(2).map(|edge| (edge[0][0] - edge[1][0]).abs());
                let along_pole = ring.iter().any(|at| at[1].abs() > 89.999_999);
                assert!(along_pole || lat.abs() > 89.0 || widest.fold(0.0, f64::max) < 1.0);
            }
        }
    }
}

#[test]
fn shapes_across_the_antimeridian_are_cut() {
    let (_, map) = map(16.8, 179.999);
    let circle = &map["features"][4];
    assert_eq!(circle["geometry"]["type"], "MultiPolygon");
    let parts = rings(circle);
    assert_eq!(parts.len(), 2);
    // Together they are as large as the same circle elsewhere.
    let whole: f64 = parts.iter().map(|ring| area(ring)).sum();
    let elsewhere: f64 = rings(&self::map(16.8, 20.0).1["features"][4])
        .iter()
        .map(|ring| area(ring))
        .sum();
    assert!(
        (whole / elsewhere - 1.0).abs() < 1e-6,
        "{whole} {elsewhere}"
    );
}

#[test]
fn a_circle_round_a_pole_reaches_it() {
    for lat in [90.0, -90.0] {
        let (_, map) = map(lat, 30.0);
        let parts = rings(&map["features"][4]);
        let corners = || parts.iter().flatten();
        assert!(corners().any(|at| (at[1] - lat).abs() < 1e-12));
        for edge in [-180.0, 180.0] {
            assert!(
                corners().any(|at| (at[0] - edge).abs() < 1e-9),
                "{lat}: {parts:?}"
            );
        }
        // A full turn, 360 degrees wide, down to the circle's distance.
        let height = 2.0 * parts.iter().map(|ring| area(ring)).sum::<f64>() / 4.0 / 360.0;
        let km = map["features"][4]["properties"]["km"].as_f64().unwrap();
        assert!((height * 111.195 - km).abs() < 1e-3 * km, "{height} {km}");
    }
}

#[test]
fn a_circle_of_no_radius_is_still_a_ring() {
    let centre = Position::new(1.0, 2.0).unwrap();
    let shape = geometry(&circle(centre, 0.0).unwrap());
    assert_eq!(shape["type"], "Polygon");
}

#[test]
fn sightings_and_known_places_are_points() {
    let (plan, _) = map(57.149_7, -2.094_3);
    let position = Position::new(57.15, -2.09).unwrap();
    let seen = SeenAt {
        name: String::new(),
        position,
        accuracy_m: 50.0,
        after: Duration::from_hours(1),
        credibility: 0.8,
        false_reports_per_km2: None,
        withdrawn: false,
    };
    let withdrawn = SeenAt {
        withdrawn: true,
        ..seen.clone()
    };
    let inputs = PlanInputs {
        sightings: vec![withdrawn, seen],
        known_places: vec![KnownPlace {
            kind: PlaceKind::FormerHome,
            position,
            weight: 0.1,
        }],
        ..plan.inputs
    };
    let plan = crate::area::plan(
        &DistanceTable::shipped().unwrap(),
        &Settings::default(),
        &inputs,
    )
    .unwrap();
    let map = feature_collection(&plan).unwrap();
    let of_kind = |kind: &str| -> Vec<Value> {
        let features = map["features"].as_array().unwrap().iter();
        features
            .filter(|one| one["properties"]["kind"] == kind)
            .cloned()
            .collect()
    };
    let sightings = of_kind("sighting");
    assert_eq!(sightings.len(), 1);
    assert_eq!(sightings[0]["properties"]["number"], 2);
    assert_eq!(
        sightings[0]["properties"]["radii_km"]["r95"],
        plan.sightings[0].radii.r95
    );
    assert_eq!(
        sightings[0]["geometry"]["coordinates"],
        json!([-2.09, 57.15])
    );
    assert_eq!(
        of_kind("known_place")[0]["properties"]["place"],
        "former_home"
    );
}
