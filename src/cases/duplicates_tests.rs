//! Which reports are taken to be about one person.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::intake::CheckedFiling;
use super::super::intake::tests::checked;
use super::*;

fn filing(changes: &[(&str, Value)]) -> CheckedFiling {
    checked(changes).unwrap()
}

fn likeness(a: &CheckedFiling, b: &CheckedFiling) -> Option<Likeness> {
    similarity(
        &Description::of(&a.report, a.profile),
        &Description::of(&b.report, b.profile),
    )
}

/// The likeness of the sample filing to the same one with changes.
fn with(changes: &[(&str, Value)]) -> Option<Likeness> {
    likeness(&filing(&[]), &filing(changes))
}

fn named(a: &str, b: &str) -> Option<Likeness> {
    // Nothing but the name to go by.
    let bare = |name: &str| {
        filing(&[
            ("/person/name", json!(name)),
            ("/person/age", Value::Null),
            ("/person/description", Value::Null),
            ("/person/clothing", Value::Null),
        ])
    };
    likeness(&bare(a), &bare(b))
}

#[test]
fn the_same_report_twice() {
    let likeness = with(&[]).unwrap();
    assert!((likeness.score - 1.0).abs() < 1e-9);
    assert_eq!(
        likeness.reasons,
        [
            "same name",
            "similar description",
            "similar age",
            "places within 1 km",
            "times within 1 hour"
        ]
    );
}

#[test]
fn spellings_of_one_name() {
    for (a, b) in [
        ("Margaret Hall", "Hall, Margaret"),
        ("Margaret Hall", "margaret  HALL"),
        ("Margaret Hall", "Margret Hall"),
        ("Margaret Hall", "Margaret Anne Hall"),
        ("Jürgen Müller", "Juergen Mueller"),
        ("José Peña", "Jose Pena"),
        ("Łukasz Øster", "Lukasz Oster"),
        ("Мария Иванова", "Maria Ivanova"),
        ("Γιώργος Παπαδόπουλος", "Giorgos Papadopoulos"),
        ("ﾔﾏﾀﾞ", "ヤマダ"),
        ("山田 花子", "花子 山田"),
    ] {
        let found = named(a, b);
        let reasons = found.map(|one| one.reasons).unwrap_or_default();
        assert!(
            reasons
                .first()
                .is_some_and(|reason| reason.ends_with("name")),
            "{a} {b}"
        );
    }
}

#[test]
fn different_names() {
    for (a, b) in [
        ("Margaret Hall", "John Smith"),
        ("Margaret Hall", "Margaret Thompson"),
        ("Anna Schmidt", "Peter Meier"),
        ("Мария Иванова", "Пётр Сидоров"),
        ("山田花子", "鈴木一郎"),
    ] {
        assert_eq!(named(a, b), None, "{a} {b}");
    }
}

#[test]
fn a_name_in_a_script_we_cannot_compare_counts_for_neither() {
    // All else is the same, so it is shown, but not because of the name.
    let found = with(&[("/person/name", json!("玛格丽特"))]).unwrap();
    assert!(
        !found.reasons.iter().any(|reason| reason.contains("name")),
        "{found:?}"
    );
}

#[test]
fn an_alias_is_compared_with_names() {
    let changes = [
        ("/person/name", Value::Null),
        ("/person/alias", json!("Margaret Hall")),
    ];
    assert_eq!(with(&changes).unwrap().reasons[0], "same name");
}

#[test]
fn a_description_alone_is_enough_if_it_matches_well() {
    let found = with(&[("/person/name", json!("Peggy"))]).unwrap();
    assert_eq!(found.reasons[0], "similar description");
    let other = [
        ("/person/name", json!("Peggy")),
        ("/person/description", json!("tall, bald, beard")),
        ("/person/clothing", json!("blue jeans")),
    ];
    assert_eq!(with(&other), None);
}

#[test]
fn descriptions_without_spaces() {
    let bare = |clothing: &str| {
        filing(&[
            ("/person/name", json!("花子")),
            ("/person/description", Value::Null),
            ("/person/clothing", json!(clothing)),
        ])
    };
    let other = |clothing: &str| {
        let mut other = bare(clothing);
        other.report.person.name = Some("太郎".to_owned());
        other
    };
    let red = bare("赤いコートと茶色のブーツ");
    assert!(likeness(&red, &other("赤いコート、茶色のブーツ")).is_some());
    assert_eq!(likeness(&red, &other("青いシャツ、白い帽子")), None);
}

#[test]
fn far_in_place_or_time_is_somebody_else() {
    // A degree of latitude is 111 km.
    assert!(with(&[("/lkp/lat", json!(57.1497 + 0.17))]).is_some());
    assert_eq!(with(&[("/lkp/lat", json!(57.1497 + 0.19))]), None);
    assert!(with(&[("/lkp/at", json!("2026-02-28T15:00:00Z"))]).is_some());
    assert_eq!(with(&[("/lkp/at", json!("2026-02-28T14:00:00Z"))]), None);
}

#[test]
fn near_across_the_antimeridian() {
    let at = |lon: f64| filing(&[("/lkp/lat", json!(-17.0)), ("/lkp/lon", json!(lon))]);
    let found = likeness(&at(179.999), &at(-179.999)).unwrap();
    assert!(
        found.reasons.contains(&"places within 1 km".to_owned()),
        "{found:?}"
    );
}

#[test]
fn somebody_nobody_can_name() {
    let nameless = [
        ("/person/name", Value::Null),
        ("/person/alias", json!("?")),
        ("/person/description", Value::Null),
        ("/person/clothing", Value::Null),
        ("/consent/publish", json!(["name"])),
    ];
    let mut found = filing(&nameless);
    found.report.person.alias = None;
    assert!(likeness(&filing(&[]), &found).is_some());
    found.profile.age = Some(20);
    assert_eq!(likeness(&filing(&[]), &found), None);
}

proptest! {
    #[test]
    fn it_does_not_matter_which_was_first_and_nothing_personal_is_told(
        names in prop::array::uniform2("[A-Z][a-z]{2,8} [A-Z][a-z]{2,8}"),
        ages in prop::array::uniform2(60_u8..90),
        lats in prop::array::uniform2(57.0..57.2),
        hours in prop::array::uniform2(0_i64..60),
    ) {
        let one = |i: usize| {
            let mut filing = filing(&[("/person/name", json!(names[i])), ("/person/age", json!(ages[i])),
                ("/lkp/lat", json!(lats[i]))]);
            filing.report.lkp.at -= SignedDuration::from_hours(hours[i]);
            filing
        };
        let (a, b) = (one(0), one(1));
        let (there, back) = (likeness(&a, &b), likeness(&b, &a));
        prop_assert_eq!(&there, &back);
        if let Some(likeness) = there {
            prop_assert!((LIKELY..=1.0).contains(&likeness.score));
            let told = likeness.reasons.join(" ");
            for personal in names.iter().flat_map(|name| name.split(' ')).chain(["red", "57.", "dementia"]) {
                prop_assert!(!told.contains(personal), "{} in {}", personal, told);
            }
        }
    }
}
