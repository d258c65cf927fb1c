//! What a sighting does to the map: a new centre of the weight that the report deserves.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use super::inputs::{SeenAt, hours};
use super::mixture::{Centre, Mover, SIGMAS_95, sigma_km};
use super::plan::Radii;
use super::sphere::great_circle_km;

/// False reports come from no smaller a circle than the core of the distance law.
const NEAREST_KM: f64 = 0.05;

/// What a sighting did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SightingEffect {
    /// Which of the inputs' sightings, counted from 0.
    pub index: usize,
    /// The probability that it was truly the person, after looking at the map as it was then.
    pub weight: f64,
    /// How much of the map it still stands for, after the later sightings.
    pub remaining: f64,
    /// The map's probability per km² of a true report from there, at the time.
    pub true_per_km2: f64,
    /// The density per km² of false reports.
    pub false_per_km2: f64,
    /// It was farther than the person could have walked, and so without effect.
    pub out_of_reach: bool,
    /// The distances in km from there within which such people are by now.
    pub radii: Radii,
}

/// The probability that a report is truly the person: `c q / (c q + (1 - c) u)` of the credibility
/// `c`, the density `q` of true reports and that of false ones, `u`, per km².
#[must_use]
pub fn weight(credibility: f64, true_per_km2: f64, false_per_km2: f64) -> f64 {
    let truly = credibility * true_per_km2;
    if truly <= 0.0 || truly.is_nan() {
        0.0
    } else if truly.is_infinite() {
        1.0
    } else {
        truly / (truly + (1.0 - credibility) * false_per_km2)
    }
}

/// Applies the sightings in the order of their times. Gives the centres the map is then drawn round,
/// the last known position first, and what each sighting did.
#[must_use]
pub fn applied(mover: &Mover, now_h: f64) -> (Vec<Centre>, Vec<SightingEffect>) {
    let mut seen: Vec<(usize, &SeenAt)> = mover
        .inputs
        .sightings
        .iter()
        .enumerate()
        .filter(|(_, seen)| !seen.withdrawn)
        .collect();
    seen.sort_by_key(|(_, seen)| seen.after);
    let mut centres = vec![mover.start()];
    let mut effects: Vec<SightingEffect> = Vec::with_capacity(seen.len());
    for (index, seen) in seen {
        let effect = effect(mover, &centres, index, seen, now_h);
        for centre in &mut centres {
            centre.weight *= 1.0 - effect.weight;
        }
        for before in &mut effects {
            before.remaining *= 1.0 - effect.weight;
        }
        centres.push(Centre {
            position: seen.position,
            sigma_km: sigma_km(seen.accuracy_m),
            since_h: hours(seen.after),
            weight: effect.weight,
        });
        effects.push(effect);
    }
    (centres, effects)
}

fn effect(
    mover: &Mover,
    centres: &[Centre],
    index: usize,
    seen: &SeenAt,
    now_h: f64,
) -> SightingEffect {
    let (then_h, sigma) = (hours(seen.after), sigma_km(seen.accuracy_m));
    let start = mover.start();
    let slack_km = SIGMAS_95 * libm::hypot(start.sigma_km, sigma);
    let out_of_reach = mover.only_walks()
        && great_circle_km(start.position, seen.position) > mover.reach_km(then_h) + slack_km;
    let true_per_km2 = mover.density(centres, then_h, seen.position, sigma);
    let false_per_km2 = seen.false_reports_per_km2.unwrap_or_else(|| {
        let r95 = Radii::of(&mover.law(0.0, then_h), start.sigma_km)
            .r95
            .max(NEAREST_KM);
        1.0 / (PI * r95 * r95)
    });
    let weight = if out_of_reach {
        0.0
    } else {
        weight(seen.credibility, true_per_km2, false_per_km2)
    };
    SightingEffect {
        index,
        weight,
        remaining: weight,
        // Stored as JSON, which knows no infinity.
        true_per_km2: true_per_km2.min(f64::MAX),
        false_per_km2,
        out_of_reach,
        radii: Radii::of(&mover.law(then_h, now_h), sigma),
    }
}

#[cfg(test)]
#[path = "sightings_tests.rs"]
mod tests;
