//! The distance table: how far people were found from their last known position, by category and
//! environment. The shipped table is `lost_person_distances.csv`; an operator may bring own rows.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::csv;
use super::error::{AreaError, TableError, TableProblem};
use crate::model::{Category, Environment, Profile};

const SHIPPED: &str = include_str!("lost_person_distances.csv");

const HEADER: [&str; 7] = [
    "category",
    "environment",
    "r25_km",
    "r50_km",
    "r75_km",
    "r95_km",
    "source",
];

/// The name in the environment column of the one row of a category without environments.
const ANY: &str = "any";

/// The checked distance table.
#[derive(Debug, Clone, PartialEq)]
pub struct DistanceTable {
    /// `None` is the row for any environment.
    rows: BTreeMap<(Category, Option<Environment>), Row>,
    digest: String,
}

/// One row: the distances in km within which 25, 50, 75 and 95 % were found.
#[derive(Debug, Clone, PartialEq)]
struct Row {
    quartiles_km: [f64; 3],
    r95_km: Option<f64>,
    source: String,
}

/// What the table has for a profile, and what had to be assumed to find it.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen<'a> {
    /// The category whose figures apply: the profile's own, unless it is an unknown adult.
    pub category: Category,
    /// The environment that the row stands for, `None` where it is the category's one row.
    pub environment: Option<Environment>,
    /// The distances in km within which 25, 50 and 75 % were found.
    pub quartiles_km: [f64; 3],
    /// The distance in km within which 95 % were found; none for an abduction.
    pub r95_km: Option<f64>,
    /// Where the figures come from.
    pub source: &'a str,
    /// Every fallback taken and assumption made, in words.
    pub assumptions: Vec<String>,
}

impl DistanceTable {
    /// The table that comes with the house.
    ///
    /// # Errors
    /// None that a build with passing tests could meet.
    pub fn shipped() -> Result<Self, TableError> {
        Self::parse(SHIPPED)
    }

    /// Reads a table and checks every row, and that every category has one to fall back on.
    ///
    /// # Errors
    /// [`TableError`], which names the row.
    pub fn parse(text: &str) -> Result<Self, TableError> {
        let rows = parse_rows(text)?;
        for &category in Category::ALL {
            let has = |environment| rows.contains_key(&(category, environment));
            if category != Category::UnknownAdult && !has(Some(Environment::Default)) && !has(None)
            {
                return Err(TableError {
                    line: 1,
                    row: category.name().to_owned(),
                    problem: TableProblem::NoFallback,
                });
            }
        }
        Ok(Self {
            rows,
            digest: hex::encode(Sha256::digest(text)),
        })
    }

    /// This table with an operator's own rows, which replace those for the same category and
    /// environment. The rows are a table like the shipped one, but of as few rows as one likes.
    ///
    /// # Errors
    /// [`TableError`], which names the row.
    pub fn with_rows(mut self, text: &str) -> Result<Self, TableError> {
        self.rows.extend(parse_rows(text)?);
        let both = [self.digest.as_bytes(), b"\n", text.as_bytes()].concat();
        self.digest = hex::encode(Sha256::digest(both));
        Ok(self)
    }

    /// SHA-256 in hexadecimal of the table's text, or of the digest, a line feed and the text of the
    /// rows that were added to it. Kept with every plan made from it.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The row for a profile: of its own environment, else of the wider one, else `default`, else
    /// `any`. An unknown adult counts as dementia from the age `dementia_from_age` on, as mental
    /// illness below it and where the age is not known [A].
    ///
    /// # Errors
    /// [`AreaError::NoRow`] where there is none, which a checked table leaves out for no category.
    pub fn row(&self, profile: &Profile, dementia_from_age: u8) -> Result<Chosen<'_>, AreaError> {
        let mut assumptions = Vec::new();
        let category = match profile.category {
            Category::UnknownAdult => {
                let (category, why) = stand_in(profile.age, dementia_from_age);
                assumptions.push(format!("unknown adult {why}: taken as {category}"));
                category
            }
            known => known,
        };
        let wanted = profile.environment;
        let (found, row) = fallbacks(wanted)
            .find_map(|one| self.rows.get(&(category, one)).map(|row| (one, row)))
            .ok_or(AreaError::NoRow {
                category,
                environment: wanted,
            })?;
        if let Some(other) = found
            && other != wanted
        {
            assumptions.push(format!("no {wanted} row for {category}: took {other}"));
        }
        if found.is_none() && wanted != Environment::Default {
            assumptions.push(format!("no {wanted} row for {category}: took its one row"));
        }
        Ok(Chosen {
            category,
            environment: found,
            quartiles_km: row.quartiles_km,
            r95_km: row.r95_km,
            source: &row.source,
            assumptions,
        })
    }
}

fn stand_in(age: Option<u8>, dementia_from_age: u8) -> (Category, String) {
    match age {
        Some(age) if age >= dementia_from_age => (
            Category::Dementia,
            format!("of {age}, which is {dementia_from_age} or older"),
        ),
        Some(age) => (
            Category::MentalIllness,
            format!("of {age}, under {dementia_from_age}"),
        ),
        None => (Category::MentalIllness, "of unknown age".to_owned()),
    }
}

/// Where to look, in order. The shipped table splits `dry` by terrain for some categories only.
fn fallbacks(wanted: Environment) -> impl Iterator<Item = Option<Environment>> {
    let wider = match wanted {
        Environment::DryFlat | Environment::DryMountain => Some(Environment::Dry),
        _ => None,
    };
    [Some(wanted), wider, Some(Environment::Default)]
        .into_iter()
        .flatten()
        .map(Some)
        .chain([None])
}

type Key = (Category, Option<Environment>);

/// The rows of a table's text.
fn parse_rows(text: &str) -> Result<BTreeMap<Key, Row>, TableError> {
    let mut records = csv::records(text);
    let header = records.next().unwrap_or_default();
    if header.fields != HEADER {
        return Err(TableError {
            line: 1,
            row: header.fields.join(","),
            problem: TableProblem::Header {
                expected: HEADER.join(","),
            },
        });
    }
    let mut rows = BTreeMap::new();
    for record in records {
        let read = parse_row(&record.fields).and_then(|(key, row)| {
            rows.insert(key, row)
                .map_or(Ok(()), |_| Err(TableProblem::Twice))
        });
        read.map_err(|problem| TableError {
            line: record.line,
            row: record.fields[..record.fields.len().min(2)].join(","),
            problem,
        })?;
    }
    Ok(rows)
}

fn parse_row(fields: &[String]) -> Result<(Key, Row), TableProblem> {
    let [category, environment, r25, r50, r75, r95, source] = fields else {
        return Err(TableProblem::Fields {
            expected: HEADER.len(),
            found: fields.len(),
        });
    };
    let category = category.parse::<Category>()?;
    if category == Category::UnknownAdult {
        return Err(TableProblem::StandIn);
    }
    let environment = match environment.as_str() {
        ANY => None,
        name => Some(name.parse::<Environment>()?),
    };
    let quartiles_km = [
        kilometres(r25, 2)?,
        kilometres(r50, 3)?,
        kilometres(r75, 4)?,
    ];
    let r95_km = match category {
        Category::Abduction if r95.is_empty() => None,
        _ => Some(kilometres(r95, 5)?),
    };
    let rising = quartiles_km
        .iter()
        .chain(&r95_km)
        .is_sorted_by(|near, far| near < far);
    if !rising {
        return Err(TableProblem::NotRising);
    }
    if source.trim().is_empty() {
        return Err(TableProblem::NoSource);
    }
    Ok((
        (category, environment),
        Row {
            quartiles_km,
            r95_km,
            source: source.clone(),
        },
    ))
}

/// No distance on Earth is longer than half its circumference.
fn kilometres(text: &str, column: usize) -> Result<f64, TableProblem> {
    text.parse::<f64>()
        .ok()
        .filter(|km| *km > 0.0 && *km < 20_015.0)
        .ok_or_else(|| TableProblem::Distance {
            column: HEADER[column],
            given: text.chars().take(40).collect(),
        })
}

#[cfg(test)]
#[path = "distances_tests.rs"]
mod tests;
