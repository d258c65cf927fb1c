use super::*;
use crate::area::normal;
use crate::model::Mobility;

fn profile(category: Category, environment: Environment) -> Profile {
    Profile {
        category,
        age: None,
        mobility: Mobility::Normal,
        environment,
    }
}

fn shipped() -> DistanceTable {
    DistanceTable::shipped().unwrap()
}

/// The shipped table with one line changed.
fn changed(from: &str, to: &str) -> Result<DistanceTable, TableError> {
    assert!(SHIPPED.contains(from), "{from}");
    DistanceTable::parse(&SHIPPED.replacen(from, to, 1))
}

fn told(from: &str, to: &str) -> String {
    changed(from, to).unwrap_err().to_string()
}

#[test]
fn every_profile_has_distances_and_all_but_an_abduction_four() {
    let table = shipped();
    for &category in Category::ALL {
        for &environment in Environment::ALL {
            let row = table.row(&profile(category, environment), 65).unwrap();
            let distances: Vec<f64> = row.quartiles_km.into_iter().chain(row.r95_km).collect();
            assert!(distances.is_sorted(), "{category} {environment}");
            assert_eq!(distances.len() == 3, category == Category::Abduction);
        }
    }
}

#[test]
fn a_row_of_its_own_needs_no_assumption() {
    let table = shipped();
    let row = table
        .row(&profile(Category::Dementia, Environment::Urban), 65)
        .unwrap();
    assert_eq!(
        [
            row.quartiles_km[0],
            row.quartiles_km[1],
            row.quartiles_km[2],
            row.r95_km.unwrap()
        ]
        .map(f64::to_bits),
        [0.321_869_f64, 1.126_541, 3.218_688, 12.552_883].map(f64::to_bits)
    );
    assert_eq!(row.assumptions, [""; 0]);
    assert!(row.source.starts_with("Koester 2008"));
    let any = table
        .row(&profile(Category::Runner, Environment::Default), 65)
        .unwrap();
    assert_eq!(any.assumptions, [""; 0]);
}

#[test]
fn fallbacks_go_to_the_wider_environment_then_default_then_any() {
    let table = shipped();
    let check = |category, environment, r50_km: f64, told: &str| {
        let row = table.row(&profile(category, environment), 65).unwrap();
        assert!(
            (row.quartiles_km[1] - r50_km).abs() < 1e-12,
            "{category} {environment}"
        );
        assert_eq!(row.assumptions, [told]);
    };
    check(
        Category::Child1To3,
        Environment::DryFlat,
        1.287_475,
        "no dry_flat row for child_1_3: took dry",
    );
    check(
        Category::Hiker,
        Environment::Dry,
        1.770_278,
        "no dry row for hiker: took default",
    );
    check(
        Category::Camper,
        Environment::DryFlat,
        1.126_541,
        "no dry_flat row for camper: took default",
    );
    check(
        Category::Hunter,
        Environment::Urban,
        1.609_344,
        "no urban row for hunter: took default",
    );
    check(
        Category::Runner,
        Environment::Urban,
        2.574_95,
        "no urban row for runner: took its one row",
    );
}

#[test]
fn an_unknown_adult_is_planned_for_by_age() {
    let table = shipped();
    let mut unknown = profile(Category::UnknownAdult, Environment::Urban);
    for (age, category, told) in [
        (
            Some(65),
            Category::Dementia,
            "unknown adult of 65, which is 65 or older: taken as dementia",
        ),
        (
            Some(64),
            Category::MentalIllness,
            "unknown adult of 64, under 65: taken as mental_illness",
        ),
        (
            None,
            Category::MentalIllness,
            "unknown adult of unknown age: taken as mental_illness",
        ),
    ] {
        unknown.age = age;
        let row = table.row(&unknown, 65).unwrap();
        assert_eq!(
            (row.category, &row.assumptions[..]),
            (category, &[told.to_owned()][..])
        );
    }
}

#[test]
fn teenagers_in_town_follow_the_published_log_normal() {
    let table = shipped();
    let row = table
        .row(&profile(Category::Child13To15, Environment::Urban), 65)
        .unwrap();
    for (q, km) in [0.25, 0.50, 0.75, 0.95]
        .into_iter()
        .zip(row.quartiles_km.into_iter().chain(row.r95_km))
    {
        let expected = libm::exp(-0.833_184 + 1.994_810 * normal::quantile(q));
        assert!((km - expected).abs() < 1e-6, "{q}: {km}, not {expected}");
    }
}

#[test]
fn an_error_names_the_row() {
    let first = "autism,urban,0.321869,0.965606,3.862426,8.04672";
    let at = |row: &str| format!("autism,urban,{row}");
    for (changed, expected) in [
        (
            at("0.3,0.2,3.8,8.0"),
            "line 3 (autism,urban): each distance must be longer",
        ),
        (
            at("0.3,0.9,far,8.0"),
            "line 3 (autism,urban): r75_km must be a number of km above 0",
        ),
        (at("0,0.9,3.8,8.0"), "line 3 (autism,urban): r25_km must be"),
        (
            at("0.3,0.9,3.8,NaN"),
            "line 3 (autism,urban): r95_km must be",
        ),
        (
            at("0.3,0.9,3.8"),
            "line 3 (autism,urban): has 6 fields instead of 7",
        ),
        (
            "autism,jungle,0.3,0.9,3.8,8.0".to_owned(),
            "(autism,jungle): unknown environment 'jungle'",
        ),
        (
            "wizard,urban,0.3,0.9,3.8,8.0".to_owned(),
            "(wizard,urban): unknown category 'wizard'",
        ),
        (
            "autism,default,0.3,0.9,3.8,8.0".to_owned(),
            "line 4 (autism,default): stands there a second",
        ),
        (
            "unknown_adult,any,0.3,0.9,3.8,8.0".to_owned(),
            "(unknown_adult,any): an unknown adult is",
        ),
    ] {
        let told = told(first, &changed);
        assert!(told.contains(expected), "{told}");
    }
    assert!(
        told(
            "\"Koester 2008, Lost Person Behavior (ISRID), quoted in miles: 0.9/1.6/2.1/3.6\"",
            " "
        )
        .contains("(runner,any): names no source")
    );
    assert!(
        told("runner,any", "runner,urban").contains("(runner): has no row for the environments")
    );
    assert!(told("r95_km", "p95").contains("line 1"));
    assert!(DistanceTable::parse("").is_err());
}

#[test]
fn the_digest_is_of_the_text() {
    let table = shipped();
    assert_eq!(table.digest().len(), 64);
    assert_ne!(
        changed("0.321869", "0.321870").unwrap().digest(),
        table.digest()
    );
    let abc = hex::encode(Sha256::digest("abc"));
    assert_eq!(
        abc,
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
}

#[test]
fn own_rows_go_over_the_shipped_ones() {
    let header = HEADER.join(",");
    let own = format!("{header}\ndementia,urban,0.2,0.8,2.0,7.0,own cases 2019 to 2026\n");
    let table = shipped().with_rows(&own).unwrap();
    let urban = profile(Category::Dementia, Environment::Urban);
    let row = table.row(&urban, 65).unwrap();
    assert_eq!(row.source, "own cases 2019 to 2026");
    assert_eq!(row.r95_km, Some(7.0));
    let other = profile(Category::Hiker, Environment::Urban);
    assert_eq!(
        table.row(&other, 65).unwrap(),
        shipped().row(&other, 65).unwrap()
    );
    assert_ne!(table.digest(), shipped().digest());
    let twice = shipped().with_rows(&own).unwrap();
    assert_eq!(table.digest(), twice.digest());
    assert_ne!(
        table.digest(),
        shipped()
            .with_rows(&own.replace("7.0", "7.1"))
            .unwrap()
            .digest()
    );
    let wrong = shipped().with_rows(&own.replace("0.8", "0.1")).unwrap_err();
    assert!(
        wrong
            .to_string()
            .contains("line 2 (dementia,urban): each distance"),
        "{wrong}"
    );
    let none = shipped().with_rows("").unwrap_err();
    assert!(
        none.to_string()
            .contains("the columns must be category,environment,r25_km"),
        "{none}"
    );
}

#[test]
fn only_an_abduction_may_do_without_the_last_distance() {
    let told = told(
        "autism,urban,0.321869,0.965606,3.862426,8.04672",
        "autism,urban,0.3,0.9,3.8,",
    );
    assert!(
        told.contains("line 3 (autism,urban): r95_km must be a number of km above 0"),
        "{told}"
    );
}
