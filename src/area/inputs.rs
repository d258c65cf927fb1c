//! All that a plan is made from, and the bounds of every number in it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::AreaError;
use super::seconds;
use crate::model::{Cell, KnownPlace, Policy, Position, Profile, Transport};

/// Beyond this, a position says too little to plan with.
const MAX_ACCURACY_M: f64 = 100_000.0;

/// Longer ago than this nobody is looked for by an alert.
const MAX_ELAPSED: Duration = Duration::from_hours(24 * 365 * 100);

/// All that a plan is made from, beside the distance table and the settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanInputs {
    /// Who is missing, and in what country.
    pub profile: Profile,
    /// The last known position.
    pub lkp: Position,
    /// The radius in metres that holds 68 % of the last known position's error.
    #[serde(default)]
    pub accuracy_m: f64,
    /// Time since the person was last seen.
    #[serde(rename = "elapsed_s", with = "seconds")]
    pub elapsed: Duration,
    /// How far ahead to plan, because people read an alert a while after it is planned.
    #[serde(rename = "lead_s", with = "seconds", default)]
    pub lead: Duration,
    /// How the person left.
    #[serde(default)]
    pub transport: Transport,
    /// Where the person was heading, in degrees clockwise from north.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heading_deg: Option<f64>,
    /// Places the person may be drawn to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known_places: Vec<KnownPlace>,
    /// Reports that the person was seen, in any order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sightings: Vec<SeenAt>,
    /// Where the person was looked for and not found, in any order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub looked_for: Vec<LookedFor>,
    /// A schedule by which the area is released instead of by its probability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
}

/// A report that the person was seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeenAt {
    /// What the explanation calls it, such as its id.
    #[serde(default)]
    pub name: String,
    /// Where.
    pub position: Position,
    /// The radius in metres that holds 68 % of the position's error.
    #[serde(default)]
    pub accuracy_m: f64,
    /// How long after the person was last seen at the last known position.
    #[serde(rename = "after_s", with = "seconds")]
    pub after: Duration,
    /// The probability, 0 to 1, that it was truly the person, before looking at the map.
    pub credibility: f64,
    /// How many of the false reports there are come from a km² there, where that is known: the
    /// density of subscribers, as a share of those in the alerted area.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub false_reports_per_km2: Option<f64>,
    /// Taken back: kept with the plan, but without effect.
    #[serde(default)]
    pub withdrawn: bool,
}

/// Where the person was looked for and not found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LookedFor {
    /// What the explanation calls it, such as "wave 1".
    #[serde(default)]
    pub name: String,
    /// How long after the person was last seen it began.
    #[serde(rename = "after_s", with = "seconds")]
    pub after: Duration,
    /// Who looked.
    pub by: Search,
}

/// How a person was looked for. Cells may be of any resolution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Search {
    /// People were alerted, so many in each cell.
    Alert(Vec<(Cell, f64)>),
    /// A search on the ground.
    Ground {
        /// The cells that were searched.
        cells: Vec<Cell>,
        /// The probability of detection: that the person would have been found if there, 0 to 0.99.
        detection: f64,
    },
}

impl PlanInputs {
    /// Somebody last seen a while ago, of whom no more is known.
    #[must_use]
    pub fn new(profile: Profile, lkp: Position, elapsed: Duration) -> Self {
        Self {
            profile,
            lkp,
            accuracy_m: 0.0,
            elapsed,
            lead: Duration::ZERO,
            transport: Transport::default(),
            heading_deg: None,
            known_places: Vec::new(),
            sightings: Vec::new(),
            looked_for: Vec::new(),
            policy: None,
        }
    }

    /// The time that is planned for, in hours after the person was last seen.
    #[must_use]
    pub fn hours(&self) -> f64 {
        hours(self.elapsed.saturating_add(self.lead))
    }

    /// Checks every number.
    ///
    /// # Errors
    /// [`AreaError::Input`] with the field, what was given and what is accepted.
    pub fn check(&self) -> Result<(), AreaError> {
        accuracy("accuracy_m", self.accuracy_m)?;
        let ahead = self.elapsed.saturating_add(self.lead);
        within(
            "elapsed_s + lead_s",
            ahead.as_secs_f64(),
            0.0..=MAX_ELAPSED.as_secs_f64(),
            "at most a hundred years",
        )?;
        if let Some(bearing) = self.heading_deg {
            within(
                "heading_deg",
                bearing,
                0.0..=360.0,
                "0 to 360 degrees clockwise from north",
            )?;
        }
        for (i, place) in self.known_places.iter().enumerate() {
            within(
                &format!("known_places[{i}].weight"),
                place.weight,
                0.0..=1.0,
                "a probability, 0 to 1",
            )?;
        }
        for (i, seen) in self.sightings.iter().enumerate() {
            seen.check(&format!("sightings[{i}]"), ahead)?;
        }
        for (i, search) in self.looked_for.iter().enumerate() {
            search.check(&format!("looked_for[{i}]"), ahead)?;
        }
        Ok(())
    }
}

impl SeenAt {
    fn check(&self, name: &str, ahead: Duration) -> Result<(), AreaError> {
        accuracy(&format!("{name}.accuracy_m"), self.accuracy_m)?;
        not_later(&format!("{name}.after_s"), self.after, ahead)?;
        within(
            &format!("{name}.credibility"),
            self.credibility,
            0.0..=1.0,
            "a probability, 0 to 1",
        )?;
        match self.false_reports_per_km2 {
            Some(density) => within(
                &format!("{name}.false_reports_per_km2"),
                density,
                1e-12..=1e6,
                "above 0 and at most a million",
            ),
            None => Ok(()),
        }
    }
}

impl LookedFor {
    fn check(&self, name: &str, ahead: Duration) -> Result<(), AreaError> {
        not_later(&format!("{name}.after_s"), self.after, ahead)?;
        match &self.by {
            Search::Ground { detection, .. } => within(
                &format!("{name}.by.ground.detection"),
                *detection,
                0.0..=0.99,
                "a probability, 0 to 0.99",
            ),
            Search::Alert(cells) => cells.iter().try_for_each(|(cell, people)| {
                within(
                    &format!("{name}.by.alert[{cell}]"),
                    *people,
                    0.0..=1e9,
                    "a number of people, 0 to a billion",
                )
            }),
        }
    }
}

/// A duration in hours.
#[must_use]
pub fn hours(duration: Duration) -> f64 {
    duration.as_secs_f64() / 3_600.0
}

fn accuracy(field: &str, given_m: f64) -> Result<(), AreaError> {
    within(field, given_m, 0.0..=MAX_ACCURACY_M, "0 to 100000 m")
}

fn not_later(field: &str, after: Duration, ahead: Duration) -> Result<(), AreaError> {
    within(
        field,
        after.as_secs_f64(),
        0.0..=ahead.as_secs_f64(),
        "from when the person was last seen to the time planned for",
    )
}

fn within(
    field: &str,
    given: f64,
    bounds: std::ops::RangeInclusive<f64>,
    accepted: &'static str,
) -> Result<(), AreaError> {
    if bounds.contains(&given) {
        return Ok(());
    }
    Err(AreaError::Input {
        field: field.to_owned(),
        given,
        accepted,
    })
}

#[cfg(test)]
#[path = "inputs_tests.rs"]
mod tests;
