//! Every rule of intake, one at a time.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::model::PublishedField;

/// Now, in these tests.
pub fn now() -> Timestamp {
    "2026-03-03T16:00:00Z".parse().unwrap()
}

/// A complete filing.
pub fn body() -> Value {
    json!({
        "person": {
            "name": "Margaret Hall", "age": 82, "sex": "female",
            "description": "grey hair, 1.60 m, walks with a stick",
            "clothing": "red coat, brown boots"
        },
        "category": "dementia",
        "environment": "urban",
        "lkp": {
            "lat": 57.1497, "lon": -2.0943, "accuracy_m": 50.0,
            "at": "2026-03-03T14:05:00Z", "place": "Union Street, Aberdeen"
        },
        "circumstances": "Left home to buy milk.\nHas not come back.",
        "contact": {"name": "Jane Hall", "phone": "+44 1224 496 0123", "relation": "daughter"},
        "consent": {"given_by": "Jane Hall", "publish": ["name", "age", "description", "clothing"]}
    })
}

/// A filing with one value changed (`null` removes it), checked.
pub fn checked(changes: &[(&str, Value)]) -> Result<CheckedFiling, Vec<FieldProblem>> {
    let mut body = body();
    for (path, value) in changes {
        let (parent, name) = path.rsplit_once('/').unwrap();
        let parent = body.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        match value {
            Value::Null => parent.remove(name),
            value => parent.insert(name.to_owned(), value.clone()),
        };
    }
    serde_json::from_value::<CaseFiling>(body)
        .unwrap()
        .check(now(), "Europe/London")
}

/// The fields with problems after one change.
fn refused(path: &str, value: Value) -> Vec<String> {
    let problems = checked(&[(path, value)]).unwrap_err();
    assert!(
        problems
            .iter()
            .all(|one| !one.problem.is_empty() && !one.accepted.is_empty())
    );
    problems.into_iter().map(|one| one.field).collect()
}

#[test]
fn a_complete_filing_is_taken() {
    let filing = checked(&[]).unwrap();
    assert_eq!(filing.profile.category, Category::Dementia);
    assert_eq!(filing.profile.age, Some(82));
    assert_eq!(filing.profile.mobility, Mobility::Normal);
    assert_eq!(filing.time_zone, "Europe/London");
    assert_eq!(filing.last_seen_at, filing.report.lkp.at);
    assert_eq!(filing.report.languages, [Language::English]);
    assert_eq!(filing.report.requested_urgency, Urgency::Normal);
    assert!(!filing.exercise);
    assert_eq!(format!("{filing:?}"), "CheckedFiling(..)");
}

#[test]
fn texts_are_trimmed() {
    let filing = checked(&[("/person/name", json!("  Margaret Hall \n"))]).unwrap();
    assert_eq!(filing.report.person.name.as_deref(), Some("Margaret Hall"));
}

#[test]
fn chinese_maps_are_put_right() {
    let lkp = json!({"lat": 39.908_74, "lon": 116.397_13, "datum": "gcj02", "accuracy_m": 10.0,
        "at": "2026-03-03T14:05:00Z"});
    let filing = checked(&[("/lkp", lkp), ("/time_zone", json!("asia/shanghai"))]).unwrap();
    assert!((filing.report.lkp.position.lat() - 39.907_34).abs() < 2e-4);
    assert_eq!(filing.time_zone, "Asia/Shanghai");
}

#[test]
fn every_rule_names_its_field() {
    for (path, value, field) in [
        ("/person/name", Value::Null, "person.name"),
        ("/person/name", json!(" "), "person.name"),
        (
            "/person/name",
            json!("x".repeat(NAME_MAX + 1)),
            "person.name",
        ),
        ("/person/name", json!("Margaret\u{7}"), "person.name"),
        ("/person/name", json!("Margaret\nHall"), "person.name"),
        ("/person/alias", json!("\u{202e}llaH"), "person.alias"),
        (
            "/person/description",
            json!("x".repeat(DESCRIPTION_MAX + 1)),
            "person.description",
        ),
        ("/person/clothing", json!("a\tb"), "person.clothing"),
        (
            "/person/photo_reference",
            json!(""),
            "person.photo_reference",
        ),
        ("/person/age", json!(121), "person.age"),
        ("/lkp/lat", json!(90.5), "lkp.lat"),
        ("/lkp/lon", json!(-181), "lkp.lon"),
        ("/lkp/accuracy_m", json!(0.5), "lkp.accuracy_m"),
        ("/lkp/accuracy_m", json!(50_001), "lkp.accuracy_m"),
        ("/lkp/at", json!("2026-03-03T16:01:01Z"), "lkp.at"),
        ("/lkp/at", json!("2026-02-01T15:59:59Z"), "lkp.at"),
        ("/lkp/place", json!("x".repeat(PLACE_MAX + 1)), "lkp.place"),
        ("/circumstances", json!("\0"), "circumstances"),
        ("/contact/name", json!(""), "contact.name"),
        ("/contact/phone", json!(""), "contact.phone"),
        ("/contact/phone", json!("unknown"), "contact.phone"),
        ("/contact/relation", json!(""), "contact.relation"),
        ("/consent/given_by", json!("  "), "consent.given_by"),
        ("/consent/publish", json!([]), "consent.publish"),
        (
            "/consent/publish",
            json!(["age", "sex", "last_seen"]),
            "consent.publish",
        ),
        (
            "/consent/publish",
            json!(["name", "name"]),
            "consent.publish",
        ),
        ("/consent/publish", json!(["photo"]), "consent.publish"),
        ("/person/age", json!(17), "consent.legal_basis"),
        ("/languages", json!([]), "languages"),
        ("/languages", json!(["en", "de", "en"]), "languages"),
        ("/time_zone", json!("Mars/Olympus"), "time_zone"),
        ("/time_zone", json!("Etc/Unknown"), "time_zone"),
    ] {
        assert_eq!(refused(path, value.clone()), [field], "{path} = {value}");
    }
}

#[test]
fn what_is_just_within_bounds_is_taken() {
    for (path, value) in [
        ("/person/name", json!("é".repeat(NAME_MAX))),
        ("/person/age", json!(120)),
        ("/lkp/lat", json!(-90)),
        ("/lkp/accuracy_m", json!(1)),
        ("/lkp/accuracy_m", json!(50_000)),
        ("/lkp/at", json!("2026-03-03T16:01:00Z")),
        ("/lkp/at", json!("2026-02-01T16:00:00Z")),
        ("/languages", json!(["ja", "en", "de", "fr", "es"])),
        ("/time_zone", json!("UTC")),
    ] {
        checked(&[(path, value)]).unwrap();
    }
}

#[test]
fn all_problems_come_at_once() {
    let problems = checked(&[
        ("/person/name", Value::Null),
        ("/lkp/lat", json!(100)),
        ("/lkp/lon", json!(200)),
        ("/contact/phone", json!("")),
        ("/consent/given_by", json!("")),
        ("/languages", json!([])),
        ("/time_zone", json!("Nowhere")),
    ])
    .unwrap_err();
    let fields: Vec<_> = problems.iter().map(|one| one.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "person.name",
            "lkp.lat",
            "lkp.lon",
            "contact.phone",
            "consent.given_by",
            "languages",
            "time_zone"
        ]
    );
}

#[test]
fn an_alias_is_as_good_as_a_name() {
    checked(&[
        ("/person/name", Value::Null),
        ("/person/alias", json!("Peggy")),
    ])
    .unwrap();
}

#[test]
fn children_fit_their_category() {
    for (age, category) in [
        (0, "child_1_3"),
        (3, "child_1_3"),
        (4, "child_4_6"),
        (12, "child_10_12"),
        (15, "child_13_15"),
    ] {
        let basis = ("/consent/legal_basis", json!("court order 12"));
        let of_age = ("/person/age", json!(age));
        checked(&[
            ("/category", json!(category)),
            of_age.clone(),
            basis.clone(),
        ])
        .unwrap();
        // Abduction and illnesses have no ages.
        checked(&[
            ("/category", json!("abduction")),
            of_age.clone(),
            basis.clone(),
        ])
        .unwrap();
        let adult = checked(&[("/category", json!("unknown_adult")), of_age, basis]).unwrap_err();
        assert_eq!(adult[0].field, "category");
        assert!(adult[0].accepted.contains(category), "{adult:?}");
    }
    let too_old = checked(&[
        ("/category", json!("child_13_15")),
        ("/person/age", json!(16)),
        ("/consent/legal_basis", json!("court order 12")),
    ]);
    assert_eq!(too_old.unwrap_err()[0].field, "category");
}

#[test]
fn a_minor_by_category_alone_needs_a_legal_basis() {
    let child = [
        ("/category", json!("child_4_6")),
        ("/person/age", Value::Null),
    ];
    assert_eq!(checked(&child).unwrap_err()[0].field, "consent.legal_basis");
}

#[test]
fn the_contacts_number_stays_private() {
    for (path, field) in [
        ("/circumstances", "circumstances"),
        ("/person/description", "person.description"),
        ("/lkp/place", "lkp.place"),
    ] {
        for number in [
            "01224 4960123",
            "(0044) 1224-496-0123",
            "０１２２４４９６０１２３",
        ] {
            assert_eq!(
                refused(path, json!(format!("call {number} now"))),
                [field],
                "{number}"
            );
        }
    }
    checked(&[("/circumstances", json!("house 0123, since 1998"))]).unwrap();
}

#[test]
fn the_agencys_time_zone_may_be_the_one_that_is_wrong() {
    let filing: CaseFiling = serde_json::from_value(body()).unwrap();
    let problems = filing.check(now(), "Nowhere").unwrap_err();
    assert!(problems[0].problem.contains("agency"), "{problems:?}");
}

#[test]
fn numbers_that_are_none_are_refused() {
    for number in [f64::NAN, f64::INFINITY] {
        let mut filing: CaseFiling = serde_json::from_value(body()).unwrap();
        filing.lkp.accuracy_m = number;
        filing.lkp.lat = number;
        let problems = filing.check(now(), "UTC").unwrap_err();
        assert_eq!(problems.len(), 2, "{problems:?}");
    }
}

fn json_problem(body: &str) -> FieldProblem {
    let mut reader = serde_json::Deserializer::from_str(body);
    match serde_path_to_error::deserialize::<_, CaseFiling>(&mut reader) {
        Ok(_) => panic!("it was taken"),
        Err(error) => FieldProblem::of_json(&error),
    }
}

fn json_problem_with(path: &str, value: Value) -> (String, String, String) {
    let mut body = body();
    let (parent, name) = path.rsplit_once('/').unwrap();
    let parent = body.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match value {
        Value::Null => parent.remove(name),
        value => parent.insert(name.to_owned(), value),
    };
    let FieldProblem {
        field,
        problem,
        accepted,
    } = json_problem(&body.to_string());
    (field, problem, accepted)
}

#[test]
fn json_that_does_not_fit_names_its_field_too() {
    let is = |field: &str, problem: &str, accepted: &str| {
        (field.to_owned(), problem.to_owned(), accepted.to_owned())
    };
    assert_eq!(
        json_problem_with("/lkp/lat", json!("Aberdeen")),
        is("lkp.lat", "is a string", "a number")
    );
    assert_eq!(
        json_problem_with("/lkp/accuracy_m", Value::Null),
        is(
            "lkp.accuracy_m",
            "is missing",
            "a value; this field is required"
        )
    );
    assert_eq!(
        json_problem_with("/contact", Value::Null),
        is("contact", "is missing", "a value; this field is required")
    );
    assert_eq!(
        json_problem_with("/person/age", json!(300)),
        is(
            "person.age",
            "has a value that is not accepted",
            "a whole number from 0 to 255"
        )
    );
    assert_eq!(
        json_problem_with("/lkp/at", json!("yesterday")),
        is(
            "lkp.at",
            "is no time",
            "a time such as 2026-03-01T14:30:00Z"
        )
    );
    let (field, problem, accepted) = json_problem_with("/lkp/lng", json!(3));
    assert_eq!(
        (field.as_str(), problem.as_str()),
        ("lkp.lng", "is no field of this request")
    );
    assert!(accepted.contains("lon"), "{accepted}");
    let (field, _, accepted) = json_problem_with("/lkp/datum", json!("mars"));
    assert_eq!(field, "lkp.datum");
    assert!(accepted.contains("gcj02"), "{accepted}");
    let (field, _, accepted) = json_problem_with("/consent/publish", json!(["name", "phone"]));
    assert_eq!(field, "consent.publish[1]");
    assert!(accepted.starts_with("one of name, age"), "{accepted}");
    let (field, problem, accepted) = json_problem_with("/category", json!("cat"));
    assert_eq!(
        (field.as_str(), problem.as_str()),
        ("category", "is refused: unknown category 'cat'")
    );
    assert!(accepted.contains("dementia"), "{accepted}");
    let (field, problem, _) = json_problem_with("/person", json!(7));
    assert_eq!(
        (field.as_str(), problem.as_str()),
        ("person", "is a whole number")
    );
}

#[test]
fn what_is_no_json_is_said_of_the_body() {
    let problem = json_problem("{\"person\": ");
    assert_eq!(
        (problem.field.as_str(), problem.accepted.as_str()),
        ("(body)", "a JSON object")
    );
    assert_eq!(json_problem("[]").field, "(body)");
}

#[test]
fn a_text_that_was_sent_is_not_repeated() {
    let (_, problem, accepted) = json_problem_with("/person/age", json!("Margaret, expected 5"));
    assert!(
        !format!("{problem}{accepted}").contains("Margaret"),
        "{problem} {accepted}"
    );
}

proptest! {
    #[test]
    fn anything_taken_is_within_the_rules(
        name in prop::option::of(".{0,120}"),
        clothing in prop::option::of("\\PC{0,40}"),
        age in prop::option::of(any::<u8>()),
        category in prop::sample::select(Category::ALL),
        lat in -100.0..100.0,
        lon in -200.0..200.0,
        seconds in -3_000_000_i64..1_000,
        publish in prop::sample::subsequence(PublishedField::ALL, 0..=8),
        legal_basis in prop::option::of("[a-z ]{0,10}"),
    ) {
        let mut filing: CaseFiling = serde_json::from_value(body()).unwrap();
        filing.person.name = name;
        filing.person.clothing = clothing;
        filing.person.age = age;
        filing.category = category;
        (filing.lkp.lat, filing.lkp.lon) = (lat, lon);
        filing.lkp.at = now() + SignedDuration::from_secs(seconds);
        filing.consent.publish = publish;
        filing.consent.legal_basis = legal_basis;
        let Ok(taken) = filing.check(now(), "UTC") else { return Ok(()) };
        let report = &taken.report;
        let name = report.person.name.as_deref().unwrap();
        prop_assert!(!name.is_empty() && name.chars().count() <= NAME_MAX);
        prop_assert!(!name.chars().any(char::is_control));
        prop_assert!(is_recognisable(&report.person, &report.consent));
        prop_assert!(!is_minor(taken.profile) || report.consent.legal_basis.is_some());
        prop_assert!(taken.last_seen_at <= now() + CLOCK_SKEW);
        prop_assert!(taken.profile.age.is_none_or(|age| age <= AGE_MAX));
    }
}
