use std::time::Duration;

use super::*;
use crate::area::{DistanceTable, LookedFor, SeenAt, Settings, plan};
use crate::model::{Category, Environment, Mobility, Position, Profile};

fn inputs(category: Category) -> PlanInputs {
    let profile = Profile {
        category,
        age: Some(80),
        mobility: Mobility::Normal,
        environment: Environment::Urban,
    };
    PlanInputs::new(
        profile,
        Position::new(57.149_7, -2.094_3).unwrap(),
        Duration::from_hours(2),
    )
}

fn told(inputs: &PlanInputs) -> Vec<Reason> {
    explain(
        &plan(
            &DistanceTable::shipped().unwrap(),
            &Settings::default(),
            inputs,
        )
        .unwrap(),
    )
}

fn about<'a>(reasons: &'a [Reason], about: &str) -> &'a str {
    &reasons
        .iter()
        .find(|one| one.about == about)
        .unwrap_or_else(|| panic!("no {about} in {reasons:#?}"))
        .text
}

#[test]
fn a_plain_case_needs_few_words() {
    let reasons = told(&inputs(Category::Dementia));
    let abouts: Vec<&str> = reasons.iter().map(|one| one.about.as_str()).collect();
    assert_eq!(abouts, ["distances", "law", "time", "waves"]);
    assert!(reasons[0].source.starts_with("Koester 2008"));
    assert!(
        about(&reasons, "distances").contains("half within 1.13 km"),
        "{}",
        reasons[0].text
    );
    let time = about(&reasons, "time");
    for part in [
        "2 h 00 min",
        "half are within 967 m (in the end 1.13 km)",
        "9.00 km (in the end 12.6 km)",
        "nobody is beyond 9.00 km",
    ] {
        assert!(time.contains(part), "{part} is not in {time}");
    }
}

#[test]
fn everything_that_moved_the_area_is_named() {
    let at = |lat, lon| Position::new(lat, lon).unwrap();
    let seen = |name: &str, position, withdrawn| SeenAt {
        name: name.to_owned(),
        position,
        accuracy_m: 50.0,
        after: Duration::from_hours(1),
        credibility: 0.8,
        false_reports_per_km2: None,
        withdrawn,
    };
    let mut inputs = PlanInputs {
        accuracy_m: 500.0,
        lead: Duration::from_mins(15),
        heading_deg: Some(45.0),
        sightings: vec![
            seen("S1", at(57.155, -2.09), false),
            seen("S2", at(58.0, -2.09), false),
            seen("S3", at(57.1, -2.0), true),
        ],
        looked_for: vec![LookedFor {
            name: "wave 1".to_owned(),
            after: Duration::from_mins(90),
            by: Search::Alert(vec![("881976bb67fffff".parse().unwrap(), 1_200.0)]),
        }],
        ..inputs(Category::UnknownAdult)
    };
    let reasons = told(&inputs);
    assert!(about(&reasons, "distances").starts_with("Planned for as dementia."));
    assert!(about(&reasons, "time").contains("15 min from now"));
    assert!(about(&reasons, "accuracy").contains("right to 500 m"));
    assert!(
        about(&reasons, "direction").contains("45°")
            && about(&reasons, "direction").contains("20 times")
    );
    assert!(about(&reasons, "sighting S1").contains("credible to 80 %"));
    assert!(about(&reasons, "sighting S2").contains("changes nothing"));
    assert!(about(&reasons, "sightings").contains("1 withdrawn"));
    assert!(about(&reasons, "alert wave 1").contains("1200 people were alerted 90 min after"));

    inputs.transport = Transport::SignOfVehicle;
    assert!(about(&told(&inputs), "transport").contains("20 %"));
}

#[test]
fn an_abduction_is_explained_by_its_policy() {
    let reasons = told(&inputs(Category::Abduction));
    assert!(about(&reasons, "policy").contains("circle of 200 km"));
    assert!(about(&reasons, "distances").contains("for 95 % there is no figure"));
}
