//! The model held against closed cases: what it promises against what happened.

use std::collections::BTreeMap;

use h3o::LatLng;
use serde::{Deserialize, Serialize};

use super::cells;
use super::closed::ClosedCase;
use super::disc;
use super::distances::DistanceTable;
use super::error::AreaError;
use super::figures::Figures;
use super::law::TABLE_QUANTILES;
use super::normal;
use super::plan::Radii;
use super::radial::Radial;
use super::settings::Settings;
use super::sphere::{self, Horizon, great_circle_km};
use crate::model::{Category, Cell, Environment, Position};

/// `MapScore`'s map reaches so many km north, south, east and west of the last known position.
const HALF_BOX_KM: f64 = 12.5;

/// With fewer cases, quantiles say too little: of 20 one is beyond the 95 % distance.
const ENOUGH_CASES: usize = 20;

/// Bars of the histogram.
const BARS: usize = 10;

/// What the model's promises came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// How many cases it was held against.
    pub cases: usize,
    /// How often the find was within the 25, 50, 75 and 95 % radius.
    pub coverage: Vec<Coverage>,
    /// How well the map ordered the places.
    pub rossmo: Rossmo,
    /// Where in its distribution of distances the model had the finds.
    pub transform: Transform,
    /// What these cases would make of the distance table.
    pub rows: Vec<FittedRow>,
}

/// How often the find was within a radius.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Coverage {
    /// How often it should be.
    pub promised: f64,
    /// How often it was.
    pub inside: f64,
    /// The interval that holds the true share with 95 % confidence (Wilson 1927).
    pub interval: [f64; 2],
}

/// Rossmo's score as `MapScore` defines it: `r` is the share of a box of 25 by 25 km round the last
/// known position that is likelier than the place of the find, equally likely ones by half; the score
/// is `1 - 2 r`, 1 at best, 0 for guessing, -1 at worst and outside the box.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rossmo {
    /// The mean score.
    pub mean: f64,
    /// The standard error of the mean.
    pub error: f64,
    /// The score in the middle.
    pub median: f64,
    /// How many finds were outside the box.
    pub outside: usize,
}

/// The probability integral transform: the model's probability of a find as near as it was, or
/// nearer. If the model is right, all values from 0 to 1 are equally frequent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transform {
    /// How many values are in each tenth, from 0 up.
    pub histogram: Vec<usize>,
    /// The largest distance from an even distribution (Kolmogorov and Smirnov).
    pub largest_gap: f64,
    /// The probability of a gap as large if the model were right, with Stephens' correction (1970).
    pub p_value: f64,
}

/// A row of the distance table as these cases give it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FittedRow {
    /// The category.
    pub category: Category,
    /// The environment.
    pub environment: Environment,
    /// How many cases there are of them.
    pub cases: usize,
    /// The distances in km within which 25, 50, 75 and 95 % were found, as for normal mobility;
    /// `None` where there are fewer than 20 cases or the distances do not rise.
    pub quantiles_km: Option<[f64; 4]>,
}

impl FittedRow {
    /// The row as it goes into a table of own rows.
    #[must_use]
    pub fn as_csv(&self) -> Option<String> {
        self.quantiles_km.map(|[r25, r50, r75, r95]| {
            format!(
                "{},{},{r25:.6},{r50:.6},{r75:.6},{r95:.6},\"own closed cases, n = {}\"",
                self.category, self.environment, self.cases
            )
        })
    }
}

/// What the model said of one case.
struct Verdict {
    inside: [bool; 4],
    probability: f64,
    /// Rossmo's score; `None` outside the box.
    score: Option<f64>,
    category: Category,
    /// As for normal mobility.
    distance_km: f64,
}

/// Holds the model against closed cases: each is planned for as of its find, without what was learnt
/// on the way.
///
/// # Errors
/// [`AreaError`] where a case cannot be planned for.
pub fn calibrate(
    table: &DistanceTable,
    settings: &Settings,
    cases: &[ClosedCase],
) -> Result<Calibration, AreaError> {
    settings.check()?;
    let verdicts: Vec<Verdict> = cases
        .iter()
        .map(|case| verdict(table, settings, case))
        .collect::<Result<_, _>>()?;
    let coverage = (0..4).map(|i| {
        let inside = verdicts.iter().filter(|one| one.inside[i]).count();
        coverage(TABLE_QUANTILES[i], inside, verdicts.len())
    });
    Ok(Calibration {
        cases: cases.len(),
        coverage: coverage.collect(),
        rossmo: rossmo(&verdicts),
        transform: transform(verdicts.iter().map(|one| one.probability).collect()),
        rows: rows(cases, &verdicts),
    })
}

fn verdict(
    table: &DistanceTable,
    settings: &Settings,
    case: &ClosedCase,
) -> Result<Verdict, AreaError> {
    let inputs = &case.inputs;
    inputs.check()?;
    let figures = Figures::find(table, settings, inputs)?;
    let mover = figures.mover(settings, inputs);
    let (start, now_h) = (mover.start(), inputs.hours());
    let radii = Radii::of(&mover.law(0.0, now_h), start.sigma_km).at_most(figures.most_km(now_h));
    let km = great_circle_km(inputs.lkp, case.found);
    let radial = mover.parts(&start, now_h)[0].radial();
    let resolution = figures.extent(&mover, now_h).resolution;
    let scale = match figures.basis.movement {
        Some(_) => {
            settings
                .motion(figures.basis.category, inputs.profile.mobility)
                .distance_factor
        }
        None => 1.0,
    };
    Ok(Verdict {
        inside: [radii.r25, radii.r50, radii.r75, radii.r95].map(|radius| km <= radius),
        probability: radial.within(km),
        score: score(inputs.lkp, case.found, &radial, resolution),
        category: figures.basis.category,
        distance_km: km / scale,
    })
}

/// Rossmo's score of a find in the box, by the areas of the cells.
fn score(
    lkp: Position,
    found: Position,
    radial: &Radial,
    resolution: h3o::Resolution,
) -> Option<f64> {
    let horizon = Horizon::at(lkp);
    let in_box = |offset: [f64; 2]| offset.iter().all(|km| libm::fabs(*km) <= HALF_BOX_KM);
    if !in_box(horizon.offset(sphere::vector(found))) {
        return None;
    }
    let home = Cell::at(found, resolution).index();
    let far_km = HALF_BOX_KM * std::f64::consts::SQRT_2;
    let drawn = cells::by_cell(
        lkp,
        radial,
        None,
        &disc::cells_within(lkp, far_km, resolution),
    );
    let density_at_find = drawn
        .iter()
        .find(|(cell, _)| *cell == home)
        .map_or(0.0, |(cell, p)| p / cell.area_km2());
    let (mut likelier, mut alike, mut less) = (0.0, 0.0, 0.0);
    for (cell, p) in drawn {
        let at = LatLng::from(cell);
        if in_box(horizon.offset(Horizon::vector(at.lat(), at.lng()))) {
            let km2 = cell.area_km2();
            match (p / km2).total_cmp(&density_at_find) {
                std::cmp::Ordering::Greater => likelier += km2,
                std::cmp::Ordering::Equal => alike += km2,
                std::cmp::Ordering::Less => less += km2,
            }
        }
    }
    let all = 4.0 * HALF_BOX_KM * HALF_BOX_KM;
    // Cells that are as good as impossible are not drawn, and alike.
    let impossible = (all - likelier - alike - less).max(0.0);
    let alike = if density_at_find > 0.0 {
        alike
    } else {
        impossible
    };
    Some(1.0 - 2.0 * ((likelier + 0.5 * alike) / all).min(1.0))
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 cases")]
fn coverage(promised: f64, inside: usize, cases: usize) -> Coverage {
    let (k, n) = (inside as f64, cases as f64);
    let z = normal::quantile(0.975);
    let centre = (k + 0.5 * z * z) / (n + z * z);
    let half = z * libm::sqrt(k * (n - k) / n.max(1.0) + 0.25 * z * z) / (n + z * z);
    Coverage {
        promised,
        inside: k / n.max(1.0),
        interval: [(centre - half).max(0.0), (centre + half).min(1.0)],
    }
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 cases")]
fn rossmo(verdicts: &[Verdict]) -> Rossmo {
    let mut scores: Vec<f64> = verdicts
        .iter()
        .map(|one| one.score.unwrap_or(-1.0))
        .collect();
    scores.sort_by(f64::total_cmp);
    let n = scores.len().max(1) as f64;
    let mean = scores.iter().sum::<f64>() / n;
    let variance = scores
        .iter()
        .map(|score| (score - mean) * (score - mean))
        .sum::<f64>()
        / (n - 1.0).max(1.0);
    Rossmo {
        mean,
        error: libm::sqrt(variance / n),
        median: if scores.is_empty() {
            0.0
        } else {
            sample_quantile(&scores, 0.5)
        },
        outside: verdicts.iter().filter(|one| one.score.is_none()).count(),
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "far fewer than 2^52 cases; a probability times ten"
)]
fn transform(mut values: Vec<f64>) -> Transform {
    values.sort_by(f64::total_cmp);
    let mut histogram = vec![0; BARS];
    for value in &values {
        histogram[((value * BARS as f64) as usize).min(BARS - 1)] += 1;
    }
    let n = values.len().max(1) as f64;
    let gap = |(i, value): (usize, &f64)| (value - i as f64 / n).max((i + 1) as f64 / n - value);
    let largest_gap = values.iter().enumerate().map(gap).fold(0.0, f64::max);
    let root = libm::sqrt(n);
    Transform {
        histogram,
        largest_gap,
        p_value: kolmogorov((root + 0.12 + 0.11 / root) * largest_gap),
    }
}

/// The probability that Kolmogorov's statistic is above `x`: `2 sum (-1)^(k-1) exp(-2 k² x²)`.
fn kolmogorov(x: f64) -> f64 {
    if x < 0.2 {
        return 1.0;
    }
    let term = |k: i32| {
        let sign = if k % 2 == 1 { 2.0 } else { -2.0 };
        sign * libm::exp(-2.0 * f64::from(k * k) * x * x)
    };
    (1..=100).map(term).sum::<f64>().clamp(0.0, 1.0)
}

fn rows(cases: &[ClosedCase], verdicts: &[Verdict]) -> Vec<FittedRow> {
    let mut distances: BTreeMap<(Category, Environment), Vec<f64>> = BTreeMap::new();
    for (case, verdict) in cases.iter().zip(verdicts) {
        let key = (verdict.category, case.inputs.profile.environment);
        distances.entry(key).or_default().push(verdict.distance_km);
    }
    let row = |((category, environment), mut km): ((Category, Environment), Vec<f64>)| {
        km.sort_by(f64::total_cmp);
        let quantiles = TABLE_QUANTILES.map(|q| sample_quantile(&km, q));
        let usable =
            km.len() >= ENOUGH_CASES && quantiles[0] > 0.0 && quantiles.is_sorted_by(|a, b| a < b);
        FittedRow {
            category,
            environment,
            cases: km.len(),
            quantiles_km: usable.then_some(quantiles),
        }
    };
    distances.into_iter().map(row).collect()
}

/// The quantile of sorted values, at least one, straight between them (Hyndman and Fan's type 7).
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "far fewer than 2^52 cases"
)]
fn sample_quantile(sorted: &[f64], q: f64) -> f64 {
    let last = sorted.len() - 1;
    let place = q * last as f64;
    let below = (place as usize).min(last);
    let above = (below + 1).min(last);
    sorted[below] + (place - below as f64) * (sorted[above] - sorted[below])
}

#[cfg(test)]
#[path = "calibration_tests.rs"]
mod tests;
