//! Closed cases from a table, to calibrate the model with.

use std::collections::HashMap;
use std::time::Duration;

use super::csv;
use super::inputs::PlanInputs;
use super::sphere::Horizon;
use crate::model::{Category, Environment, InvalidPosition, Mobility, Position, Profile};

/// Where cases of which no place is kept are put: no pentagon is near.
const SOMEWHERE: [f64; 2] = [50.0, 10.0];

/// `pi (3 - sqrt 5)`: whatever their number, directions this far apart are spread evenly.
const GOLDEN_ANGLE: f64 = 2.399_963_229_728_653;

const NEEDED: [&str; 7] = [
    "lkp_lat",
    "lkp_lon",
    "find_lat",
    "find_lon",
    "hours",
    "category",
    "environment",
];
const OPTIONAL: [&str; 3] = ["age", "mobility", "accuracy_m"];

/// A case of which the end is known.
#[derive(Debug, Clone, PartialEq)]
pub struct ClosedCase {
    /// What was known: the profile, the last known position and its accuracy, and as `elapsed` the
    /// time until the find.
    pub inputs: PlanInputs,
    /// Where the person was found.
    pub found: Position,
}

impl ClosedCase {
    /// A case of which only the distance from the last known position to the find is kept, the `nth` of
    /// them. The model's map of such a case is alike in every direction, so any two places that far apart
    /// stand for it; the bearings of all cases are spread evenly, by the golden angle.
    ///
    /// # Errors
    /// [`InvalidPosition`] for a distance that is not finite.
    pub fn at_distance(
        profile: Profile,
        km: f64,
        after: Duration,
        nth: usize,
    ) -> Result<Self, InvalidPosition> {
        let lkp = Position::new(SOMEWHERE[0], SOMEWHERE[1])?;
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 cases")]
        let (north, east) = libm::sincos(nth as f64 * GOLDEN_ANGLE);
        Ok(Self {
            inputs: PlanInputs::new(profile, lkp, after),
            found: Horizon::at(lkp).point(km * east, km * north)?,
        })
    }
}

/// A row that is no closed case.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct WrongRow {
    /// Counted from 1, the header included.
    pub line: usize,
    /// What is wrong with it and what would be accepted.
    pub problem: String,
}

/// Reads a table of closed cases: the columns `lkp_lat`, `lkp_lon`, `find_lat`, `find_lon` (degrees),
/// `hours` (until the find), `category` and `environment`, and if there are any, `age`, `mobility` and
/// `accuracy_m`, in any order.
///
/// # Errors
/// Every [`WrongRow`].
pub fn closed_cases(text: &str) -> Result<Vec<ClosedCase>, Vec<WrongRow>> {
    let mut records = csv::records(text);
    let header = records.next().unwrap_or_default().fields;
    check_header(&header).map_err(|problem| vec![WrongRow { line: 1, problem }])?;
    let (mut cases, mut wrong) = (Vec::new(), Vec::new());
    for record in records {
        match case(&header, &record.fields) {
            Ok(case) => cases.push(case),
            Err(problem) => wrong.push(WrongRow {
                line: record.line,
                problem,
            }),
        }
    }
    if wrong.is_empty() {
        Ok(cases)
    } else {
        Err(wrong)
    }
}

fn check_header(header: &[String]) -> Result<(), String> {
    let has = |name: &&str| header.iter().filter(|column| column == name).count() == 1;
    let known = |column: &String| NEEDED.iter().chain(&OPTIONAL).any(|name| name == column);
    if NEEDED.iter().all(has)
        && header.iter().all(known)
        && OPTIONAL.iter().filter(|name| has(name)).count() + NEEDED.len() == header.len()
    {
        return Ok(());
    }
    Err(format!(
        "the columns must be {} and may be {}, each once, not '{}'",
        NEEDED.join(", "),
        OPTIONAL.join(", "),
        header.join(",")
    ))
}

fn case(header: &[String], fields: &[String]) -> Result<ClosedCase, String> {
    if fields.len() != header.len() {
        return Err(format!(
            "has {} fields instead of {}",
            fields.len(),
            header.len()
        ));
    }
    let row: HashMap<&str, &str> = header
        .iter()
        .map(String::as_str)
        .zip(fields.iter().map(|field| field.trim()))
        .collect();
    let text = |column: &str| row.get(column).copied().unwrap_or_default();
    let position = |lat, lon| {
        let place = Position::new(number(lat, text(lat))?, number(lon, text(lon))?);
        place.map_err(|error| format!("{lat},{lon}: {error}"))
    };
    let hours = number("hours", text("hours"))?;
    let elapsed = Duration::try_from_secs_f64(hours * 3_600.0).map_err(|_| {
        format!(
            "hours must be the time until the find, 0 or more, not '{}'",
            text("hours")
        )
    })?;
    let profile = Profile {
        category: text("category")
            .parse::<Category>()
            .map_err(|error| error.to_string())?,
        age: match text("age") {
            "" => None,
            age => Some(age.parse().map_err(|_| {
                format!("age must be whole years, 0 to 255, or empty, not '{age}'")
            })?),
        },
        mobility: match text("mobility") {
            "" => Mobility::Normal,
            mobility => mobility
                .parse()
                .map_err(|error: crate::model::UnknownName| error.to_string())?,
        },
        environment: text("environment")
            .parse::<Environment>()
            .map_err(|error| error.to_string())?,
    };
    let accuracy_m = match text("accuracy_m") {
        "" => 0.0,
        accuracy => number("accuracy_m", accuracy)?,
    };
    let inputs = PlanInputs {
        accuracy_m,
        ..PlanInputs::new(profile, position("lkp_lat", "lkp_lon")?, elapsed)
    };
    inputs.check().map_err(|error| error.to_string())?;
    Ok(ClosedCase {
        inputs,
        found: position("find_lat", "find_lon")?,
    })
}

fn number(column: &str, text: &str) -> Result<f64, String> {
    text.parse::<f64>()
        .ok()
        .filter(|number| number.is_finite())
        .ok_or_else(|| {
            format!(
                "{column} must be a number, not '{}'",
                text.chars().take(40).collect::<String>()
            )
        })
}

#[cfg(test)]
#[path = "closed_tests.rs"]
mod tests;
