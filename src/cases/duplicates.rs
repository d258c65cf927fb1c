//! Whether two cases are likely to be about the same person.
//!
//! The thresholds are assumptions: no figures are published. They lean towards showing a case too
//! many, because an operator dismisses it at a glance, while a duplicate that goes out costs the
//! next missing person an audience.

mod words;

use jiff::{SignedDuration, Timestamp};

use crate::area::great_circle_km;
use crate::model::{Category, Position, Profile, Report};

/// Farther apart than this, two reports are taken to be about two people, in km (assumed: the most
/// that somebody on foot covers in a day).
pub const NEAR_KM: f64 = 20.0;
/// Longer apart than this, two reports are taken to be about two people (assumed).
pub const NEAR_IN_TIME: SignedDuration = SignedDuration::from_hours(72);
/// From this score on a case is shown as a likely duplicate (assumed).
pub const LIKELY: f64 = 0.6;
/// Jaro-Winkler similarity below which two names are different names (assumed: spellings of one
/// name score above .85, unrelated names about .5).
const NAME_SIMILAR: f64 = 0.85;
/// Overlap of words above which two descriptions are similar (assumed).
const TEXT_SIMILAR: f64 = 0.5;
/// How much a description that matches fully counts beside a name that does (assumed).
const TEXT_WEIGHT: f64 = 0.9;
/// How much counts that nothing speaks against it where names cannot be compared (assumed): alone it
/// is likely only with the same age, or very near.
const NAMELESS: f64 = 0.7;
/// What age, place and time each take off if they do not fit at all (assumed).
const FIT_WEIGHT: f64 = 0.1;
/// Ages that far apart are two estimates of one age.
const AGE_SIMILAR: u8 = 2;
/// Ages farther apart than this belong to two people.
const AGE_POSSIBLE: u8 = 5;

/// What two reports are compared by.
#[derive(Clone)]
pub struct Description<'a> {
    names: Vec<&'a str>,
    age: Option<u8>,
    looks: Vec<&'a str>,
    position: Position,
    last_seen_at: Timestamp,
    category: Category,
}

impl<'a> Description<'a> {
    /// What a report is compared by.
    #[must_use]
    pub fn of(report: &'a Report, profile: Profile) -> Self {
        let person = &report.person;
        Self {
            names: [&person.name, &person.alias]
                .into_iter()
                .flatten()
                .map(String::as_str)
                .collect(),
            age: profile.age,
            looks: [&person.description, &person.clothing]
                .into_iter()
                .flatten()
                .map(String::as_str)
                .collect(),
            position: report.lkp.position,
            last_seen_at: report.lkp.at,
            category: profile.category,
        }
    }
}

/// How alike two reports are.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Likeness {
    /// 0 to 1; from [`LIKELY`] on.
    pub score: f64,
    /// What is alike, without anything personal.
    pub reasons: Vec<String>,
}

/// How alike two reports are; none if they are not likely to be about the same person.
#[must_use]
pub fn similarity(a: &Description<'_>, b: &Description<'_>) -> Option<Likeness> {
    let km = great_circle_km(a.position, b.position);
    let apart = a.last_seen_at.duration_since(b.last_seen_at).abs();
    if km > NEAR_KM || apart > NEAR_IN_TIME {
        return None;
    }
    let mut reasons = Vec::new();
    let person = same_person(a, b, &mut reasons)?;
    let age = age_fit(a, b, &mut reasons);
    reasons.push(place_reason(km));
    reasons.push(time_reason(apart));
    let place = 1.0 - km / NEAR_KM;
    let time = 1.0 - apart.as_secs_f64() / NEAR_IN_TIME.as_secs_f64();
    let misfit = (1.0 - age) + (1.0 - place) + (1.0 - time);
    let score = (person * (1.0 - FIT_WEIGHT * misfit)).clamp(0.0, 1.0);
    (score >= LIKELY).then_some(Likeness { score, reasons })
}

/// How far names and looks speak for one person; none if they speak for two.
fn same_person(a: &Description<'_>, b: &Description<'_>, reasons: &mut Vec<String>) -> Option<f64> {
    let names = words::name_likeness(&a.names, &b.names);
    let looks =
        words::text_likeness(&a.looks, &b.looks).filter(|likeness| *likeness >= TEXT_SIMILAR);
    if looks.is_some() {
        reasons.push("similar description".to_owned());
    }
    let by_looks = looks.map(|likeness| likeness * TEXT_WEIGHT);
    let by_name = match names {
        Some(likeness) if likeness >= NAME_SIMILAR => {
            let same = likeness > 1.0 - f64::EPSILON;
            reasons.insert(
                0,
                if same { "same name" } else { "similar name" }.to_owned(),
            );
            Some(likeness)
        }
        Some(_) => None,
        // Without names to compare, ages that cannot be one person's decide.
        None => (age_difference(a, b) <= Some(AGE_POSSIBLE)).then_some(NAMELESS),
    };
    match (by_name, by_looks) {
        (Some(name), Some(looks)) => Some(name.max(looks)),
        (one, other) => one.or(other),
    }
}

fn age_difference(a: &Description<'_>, b: &Description<'_>) -> Option<u8> {
    Some(a.age?.abs_diff(b.age?))
}

/// How well ages fit, 0 to 1; categories stand in where an age is missing.
fn age_fit(a: &Description<'_>, b: &Description<'_>, reasons: &mut Vec<String>) -> f64 {
    match age_difference(a, b) {
        Some(years) if years <= AGE_SIMILAR => {
            reasons.push("similar age".to_owned());
            1.0
        }
        Some(years) if years > AGE_POSSIBLE => 0.0,
        None if a.category == b.category => {
            reasons.push("same category".to_owned());
            0.75
        }
        _ => 0.5,
    }
}

/// The distance as a range that gives nobody's position away.
fn place_reason(km: f64) -> String {
    let limit = [1.0, 5.0]
        .into_iter()
        .find(|limit| km <= *limit)
        .unwrap_or(NEAR_KM);
    format!("places within {limit} km")
}

/// The time between as a range.
fn time_reason(apart: SignedDuration) -> String {
    let hours = [1, 24]
        .into_iter()
        .find(|hours| apart <= SignedDuration::from_hours(*hours));
    match hours.unwrap_or_else(|| NEAR_IN_TIME.as_hours()) {
        1 => "times within 1 hour".to_owned(),
        hours => format!("times within {hours} hours"),
    }
}

#[cfg(test)]
#[path = "duplicates_tests.rs"]
mod tests;
