use super::*;
use crate::model::{Category, Environment, Mobility};

const FULL: &str = r#"{
  "profile": {"category": "dementia", "age": 81, "mobility": "reduced", "environment": "urban"},
  "lkp": {"lat": 57.1497, "lon": -2.0943}, "accuracy_m": 100, "elapsed_s": 7200, "lead_s": 900,
  "transport": "sign_of_vehicle", "heading_deg": 90,
  "known_places": [{"kind": "former_home", "position": {"lat": 57.16, "lon": -2.1}, "weight": 0.2}],
  "sightings": [{"name": "S1", "position": {"lat": 57.155, "lon": -2.09}, "accuracy_m": 50, "after_s": 3600,
    "credibility": 0.8}],
  "looked_for": [
    {"name": "wave 1", "after_s": 5400, "by": {"alert": [["881976bb67fffff", 1200]]}},
    {"name": "dogs", "after_s": 5400, "by": {"ground": {"cells": ["881976bb67fffff"], "detection": 0.7}}}
  ]
}"#;

fn full() -> PlanInputs {
    serde_json::from_str(FULL).unwrap()
}

fn told(change: impl FnOnce(&mut PlanInputs)) -> String {
    let mut inputs = full();
    change(&mut inputs);
    inputs.check().unwrap_err().to_string()
}

#[test]
fn inputs_go_through_json_and_back() {
    let inputs = full();
    assert_eq!(inputs.check(), Ok(()));
    let text = serde_json::to_string(&inputs).unwrap();
    assert_eq!(serde_json::from_str::<PlanInputs>(&text).unwrap(), inputs);
    assert!((inputs.hours() - 2.25).abs() < 1e-12);

    let short = r#"{"profile": {"category": "hiker", "mobility": "normal", "environment": "dry"},
        "lkp": {"lat": 0, "lon": 0}, "elapsed_s": 60}"#;
    let profile = Profile {
        category: Category::Hiker,
        age: None,
        mobility: Mobility::Normal,
        environment: Environment::Dry,
    };
    let expected = PlanInputs::new(
        profile,
        Position::new(0.0, 0.0).unwrap(),
        Duration::from_mins(1),
    );
    assert_eq!(serde_json::from_str::<PlanInputs>(short).unwrap(), expected);
    let unknown = short.replace("elapsed_s\": 60", "elapsed_s\": 60, \"acuracy_m\": 5");
    assert!(serde_json::from_str::<PlanInputs>(&unknown).is_err());
}

#[test]
fn a_number_out_of_bounds_is_named() {
    let minute = Duration::from_mins(1);
    for (told, expected) in [
        (
            told(|i| i.accuracy_m = -1.0),
            "accuracy_m must be 0 to 100000 m, not -1",
        ),
        (
            told(|i| i.accuracy_m = f64::NAN),
            "accuracy_m must be 0 to 100000 m, not NaN",
        ),
        (
            told(|i| i.elapsed = Duration::MAX),
            "elapsed_s + lead_s must be at most a hundred years",
        ),
        (
            told(|i| i.heading_deg = Some(361.0)),
            "heading_deg must be 0 to 360 degrees",
        ),
        (
            told(|i| i.known_places[0].weight = 1.5),
            "known_places[0].weight must be a probability, 0 to 1, not 1.5",
        ),
        (
            told(|i| i.sightings[0].credibility = -0.1),
            "sightings[0].credibility must be a probability",
        ),
        (
            told(|i| i.sightings[0].accuracy_m = 1e6),
            "sightings[0].accuracy_m must be 0 to 100000 m",
        ),
        (
            told(|i| i.sightings[0].after = i.elapsed + i.lead + minute),
            "sightings[0].after_s must be from when the person was last seen to the time planned for, not 8160",
        ),
        (
            told(|i| i.sightings[0].false_reports_per_km2 = Some(0.0)),
            "sightings[0].false_reports_per_km2 must be above 0",
        ),
        (
            told(|i| i.looked_for[0].after = Duration::from_hours(9)),
            "looked_for[0].after_s must be",
        ),
        (
            told(|i| {
                i.looked_for[0].by =
                    Search::Alert(vec![("881976bb67fffff".parse().unwrap(), -3.0)]);
            }),
            "looked_for[0].by.alert[881976bb67fffff] must be a number of people",
        ),
        (
            told(|i| {
                i.looked_for[1].by = Search::Ground {
                    cells: vec![],
                    detection: 1.0,
                }
            }),
            "looked_for[1].by.ground.detection must be a probability, 0 to 0.99, not 1",
        ),
    ] {
        assert!(told.starts_with(expected), "{told}");
    }
}
