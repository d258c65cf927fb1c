//! The entry to the model: from a profile, a place and a time to radii, cells and waves.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cells::CellProbability;
use super::distances::DistanceTable;
use super::error::AreaError;
use super::figures::{Basis, Figures};
use super::inputs::PlanInputs;
use super::map::Map;
use super::policy;
use super::searched::{SearchEffect, Searches};
use super::settings::Settings;
use super::sightings::{self, SightingEffect};
use super::travel::TimeLaw;
use super::waves::{self, PlannedWave};
use crate::model::Policy;

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
    /// The settings it was made with.
    pub settings: Settings,
    /// The figures that apply to the person.
    pub basis: Basis,
    /// Distances from the last known position, its accuracy included, as if nobody had seen the
    /// person since. What vehicles and known places add is no part of it.
    pub radii: Radii,
    /// What each sighting did, in the order of their times.
    pub sightings: Vec<SightingEffect>,
    /// What each search did, in the order of the inputs.
    pub searches: Vec<SearchEffect>,
    /// The H3 resolution of the cells. Those that can only be reached by vehicle may be coarser.
    pub resolution: u8,
    /// The waves. Without a policy they are three, and their cells together are the smallest set that
    /// holds 95 %.
    pub waves: Vec<PlannedWave>,
    /// The probability outside all waves. With theirs it sums to 1.
    pub rest: f64,
    /// Every fallback taken and assumption made, in words.
    pub assumptions: Vec<String>,
    /// SHA-256 of the distance table, in hexadecimal.
    pub table_digest: String,
}

impl Plan {
    /// The cells of all waves, in each those first where a km² is most likely.
    pub fn cells(&self) -> impl Iterator<Item = &CellProbability> {
        self.waves.iter().flat_map(|wave| &wave.cells)
    }
}

impl Radii {
    /// The quantiles of a time law, each widened by the error of where it starts.
    #[must_use]
    pub fn of(law: &TimeLaw, sigma_km: f64) -> Self {
        let radius = |share| radius_km(law, sigma_km, share);
        Self {
            r25: radius(0.25),
            r50: radius(0.50),
            r75: radius(0.75),
            r95: radius(0.95),
        }
    }

    /// None of them beyond so many km.
    #[must_use]
    pub(super) fn at_most(self, km: f64) -> Self {
        Self {
            r25: self.r25.min(km),
            r50: self.r50.min(km),
            r75: self.r75.min(km),
            r95: self.r95.min(km),
        }
    }
}

/// The quantile of a time law, widened by the error of where it starts: the hypotenuse of the law's
/// quantile and the error's (Rayleigh, `sqrt(-2 ln(1 - q))` deviations).
fn radius_km(law: &TimeLaw, sigma_km: f64, share: f64) -> f64 {
    let error_km = sigma_km * libm::sqrt(-2.0 * libm::log(1.0 - share));
    libm::hypot(law.quantile(share), error_km)
}

/// How far such people are from the last known position: what a plan's radii are read from.
#[derive(Debug, Clone, PartialEq)]
pub struct HowFar {
    law: TimeLaw,
    sigma_km: f64,
    most_km: f64,
}

impl HowFar {
    /// By the figures that a [`plan`] takes.
    ///
    /// # Errors
    /// Those of [`plan`].
    pub fn of(
        table: &DistanceTable,
        settings: &Settings,
        inputs: &PlanInputs,
    ) -> Result<Self, AreaError> {
        settings.check()?;
        inputs.check()?;
        let figures = Figures::find(table, settings, inputs)?;
        let mover = figures.mover(settings, inputs);
        Ok(Self {
            law: mover.law(0.0, inputs.hours()),
            sigma_km: mover.start().sigma_km,
            most_km: figures.most_km(inputs.hours()),
        })
    }

    /// The probability of being within `km`, if the last known position is exact.
    #[must_use]
    pub fn within(&self, km: f64) -> f64 {
        if km < self.most_km {
            self.law.cdf(km)
        } else {
            1.0
        }
    }

    /// The distance in km that holds a share of such people, above 0 and below 1; the last known position's
    /// accuracy included.
    #[must_use]
    pub fn holding(&self, share: f64) -> f64 {
        radius_km(&self.law, self.sigma_km, share).min(self.most_km)
    }
}

/// Works out where a person is likely to be.
///
/// # Errors
/// [`AreaError`] where the table has no row for the profile, or a number is out of bounds.
pub fn plan(
    table: &DistanceTable,
    settings: &Settings,
    inputs: &PlanInputs,
) -> Result<Plan, AreaError> {
    settings.check()?;
    inputs.check()?;
    let now_h = inputs.hours();
    let figures = Figures::find(table, settings, inputs)?;
    let mover = figures.mover(settings, inputs);
    let radii = Radii::of(&mover.law(0.0, now_h), mover.start().sigma_km);
    let radii = radii.at_most(figures.most_km(now_h));
    let extent = figures.extent(&mover, now_h);
    let resolution = extent.resolution;
    let (centres, sightings) = sightings::applied(&mover, now_h);
    let searches = Searches::new(inputs, settings, resolution, radii.r75);
    let map = Map::draw(&mover, &centres, &searches, now_h, &extent);
    let minutes = settings.wave_delays_min;
    let waves = match figures.policy {
        Some(Policy::AbductionByVehicle) => policy::waves(&map.cells, inputs.lkp, now_h),
        None => waves::cut(
            &map.cells,
            minutes.map(|delay| Duration::from_mins(u64::from(delay))),
        ),
    };
    Ok(Plan {
        inputs: inputs.clone(),
        settings: settings.clone(),
        assumptions: figures.assumptions(&mover, now_h),
        basis: figures.basis,
        radii,
        sightings,
        searches: map.searches,
        resolution: resolution.into(),
        // Where nothing is left, rounding may leave a little less.
        rest: (1.0 - waves.iter().map(|wave| wave.mass).sum::<f64>()).max(0.0),
        waves,
        table_digest: table.digest().to_owned(),
    })
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "plan_anything_tests.rs"]
mod anything_tests;
