//! The entry to the model: from a profile, a place and a time to radii, cells and waves.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cells::{self, CellProbability};
use super::distances::DistanceTable;
use super::error::AreaError;
use super::law::StaticLaw;
use super::seconds;
use super::settings::Settings;
use super::travel::TimeLaw;
use super::waves::{self, PlannedWave};
use crate::model::{Position, Profile};

/// An accuracy radius holds 68 % of a normal error in the plane: 1.5096 of its standard deviations.
const SIGMAS_IN_ACCURACY: f64 = 1.509_6;

/// Beyond this, a last known position says too little to plan with.
const MAX_ACCURACY_M: f64 = 100_000.0;

/// All that a plan is made from, beside the distance table and the settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanInputs {
    /// Who is missing, and in what country.
    pub profile: Profile,
    /// The last known position.
    pub lkp: Position,
    /// The radius in metres that holds 68 % of the last known position's error.
    pub accuracy_m: f64,
    /// Time since the person was last seen.
    #[serde(rename = "elapsed_s", with = "seconds")]
    pub elapsed: Duration,
    /// How far ahead to plan, because people read an alert a while after it is planned.
    #[serde(rename = "lead_s", with = "seconds")]
    pub lead: Duration,
}

/// The distances in km within which 25, 50, 75 and 95 % of such people are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Radii {
    /// 25 %.
    pub r25: f64,
    /// 50 %.
    pub r50: f64,
    /// 75 %.
    pub r75: f64,
    /// 95 %.
    pub r95: f64,
}

/// The model's answer for one case at one time, with what went in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// What it was made from.
    pub inputs: PlanInputs,
    /// Distances from the last known position, its accuracy included.
    pub radii: Radii,
    /// The H3 resolution of the cells.
    pub resolution: u8,
    /// The three waves. Together their cells are the smallest set that holds 95 %.
    pub waves: Vec<PlannedWave>,
    /// The probability outside all waves. With theirs it sums to 1.
    pub rest: f64,
    /// Every fallback taken and assumption made, in words.
    pub assumptions: Vec<String>,
    /// SHA-256 of the distance table, in hexadecimal.
    pub table_digest: String,
}

impl Plan {
    /// The cells of all waves, best first.
    pub fn cells(&self) -> impl Iterator<Item = &CellProbability> {
        self.waves.iter().flat_map(|wave| &wave.cells)
    }
}

impl Radii {
    /// The quantiles of a time law, each widened by the error of the last known position: the
    /// hypotenuse of the law's quantile and the error's (Rayleigh, `sqrt(-2 ln(1 - q))` deviations).
    fn of(law: &TimeLaw, sigma_km: f64) -> Self {
        let radius = |q: f64| {
            let error_km = sigma_km * libm::sqrt(-2.0 * libm::log(1.0 - q));
            libm::hypot(law.quantile(q), error_km)
        };
        Self {
            r25: radius(0.25),
            r50: radius(0.50),
            r75: radius(0.75),
            r95: radius(0.95),
        }
    }
}

/// Works out where a person is likely to be.
///
/// # Errors
/// [`AreaError`] where the table has no full row for the profile, or a number is out of bounds.
pub fn plan(
    table: &DistanceTable,
    settings: &Settings,
    inputs: &PlanInputs,
) -> Result<Plan, AreaError> {
    settings.check()?;
    if !(0.0..=MAX_ACCURACY_M).contains(&inputs.accuracy_m) {
        return Err(AreaError::Accuracy {
            given_m: inputs.accuracy_m,
            max_m: MAX_ACCURACY_M,
        });
    }
    let chosen = table.row(&inputs.profile, settings.dementia_from_age)?;
    let motion = settings.motion(chosen.category, inputs.profile.mobility);
    let distances_km = chosen.quantiles_km.map(|km| km * motion.distance_factor);
    let hours = inputs.elapsed.saturating_add(inputs.lead).as_secs_f64() / 3600.0;
    let law = TimeLaw::new(
        StaticLaw::through(distances_km),
        motion.movement,
        settings.spread_exponent,
        hours,
    );
    let sigma_km = inputs.accuracy_m / 1_000.0 / SIGMAS_IN_ACCURACY;
    let resolution = cells::resolution(distances_km[2]);
    let by_cell = cells::by_cell(inputs.lkp, &law, sigma_km, resolution)?;

    let minutes = settings.wave_delays_min;
    let waves = waves::cut(
        &by_cell,
        minutes.map(|delay| Duration::from_mins(u64::from(delay))),
    );
    let mut assumptions = chosen.assumptions;
    assumptions.extend(motion.assumptions);
    assumptions.push(format!(
        "waves after {}, {} and {} min",
        minutes[0], minutes[1], minutes[2]
    ));
    Ok(Plan {
        inputs: inputs.clone(),
        radii: Radii::of(&law, sigma_km),
        resolution: resolution.into(),
        rest: 1.0 - waves.iter().map(|wave| wave.mass).sum::<f64>(),
        waves,
        assumptions,
        table_digest: table.digest().to_owned(),
    })
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
