//! Probability by H3 cell: the distribution round a centre, integrated over each cell.

use std::f64::consts::{PI, TAU};

use h3o::{CellIndex, LatLng, Resolution};
use serde::{Deserialize, Serialize};

use super::radial::Radial;
use super::sphere::Horizon;
use crate::model::{Cell, Position};

/// The longest stretch of a cell's edge that is integrated in one go, as a share of its distance.
const STRETCH: f64 = 0.25;

/// Gauss and Legendre's points and weights for three points on -1 to 1.
const GAUSS: [(f64, f64); 3] = [
    (-0.774_596_669_241_483_4, 5.0 / 9.0),
    (0.0, 8.0 / 9.0),
    (0.774_596_669_241_483_4, 5.0 / 9.0),
];

/// The integral along edges is right to about this. Cells with less count as the rest of the world.
const NEGLIGIBLE: f64 = 1e-8;

/// More cells than this within the 95 % distance are too many for one plan.
const MOST_CELLS: f64 = 30_000.0;

/// A cell and the probability that the person is in it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CellProbability {
    /// The cell.
    pub cell: Cell,
    /// Its probability.
    pub p: f64,
}

/// A likelier direction: a von Mises factor on the density, whose mean over all directions is 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Heading {
    east: f64,
    north: f64,
    concentration: f64,
    scale: f64,
}

impl Heading {
    /// Towards a bearing, in degrees clockwise from north.
    #[must_use]
    pub fn new(bearing_deg: f64, concentration: f64) -> Self {
        const POINTS: u32 = 64;
        let (east, north) = libm::sincos(bearing_deg.to_radians());
        // The mean over the circle, I0 of the concentration: exact for this many points.
        let total: f64 = (0..POINTS)
            .map(|i| libm::exp(concentration * libm::cos(TAU * f64::from(i) / f64::from(POINTS))))
            .sum();
        Self {
            east,
            north,
            concentration,
            scale: f64::from(POINTS) / total,
        }
    }

    /// The factor in the direction of a point so many km east and north.
    #[must_use]
    pub fn factor(&self, [east, north]: [f64; 2]) -> f64 {
        let km = libm::sqrt(east * east + north * north);
        let along = (east * self.east + north * self.north) / km.max(f64::MIN_POSITIVE);
        self.scale * libm::exp(self.concentration * along)
    }
}

/// The resolution of a case's cells: 9 (0.1 km²) where three quarters are found within 3 km in the
/// end, 8 (0.7 km²) where they are not, and coarser where `far_km`, the distance that holds 95 %,
/// would have more than 30,000 cells. On foot both depend on the case alone, so that the resolution
/// stays the same for its life.
#[must_use]
pub fn resolution(static_r75_km: f64, far_km: f64) -> Resolution {
    let finest = if static_r75_km < 3.0 {
        Resolution::Nine
    } else {
        Resolution::Eight
    };
    std::iter::successors(Some(finest), |resolution| resolution.pred())
        .find(|resolution| PI * far_km * far_km < MOST_CELLS * resolution.area_km2())
        .unwrap_or(finest)
}

/// The distance in km that has so many cells in it as one plan can take: twice those of
/// [`resolution`].
#[must_use]
pub fn farthest_km(resolution: Resolution) -> f64 {
    libm::sqrt(2.0 * MOST_CELLS * resolution.area_km2() / PI)
}

/// The probability of each of some cells, in their order, without those that have next to none.
///
/// By Gauss's theorem the integral of the density over a cell is that of `F(r) / 2 pi` over the
/// angle along its border, once round. Neighbours have their edge in common and opposite, so the
/// cells' sum is exact whatever the error along an edge, and nothing is lost between them. (Points
/// drawn from the distribution, as many as time allows, leave holes far out.)
#[must_use]
pub fn by_cell(
    centre: Position,
    radial: &Radial,
    heading: Option<&Heading>,
    cells: &[CellIndex],
) -> Vec<(CellIndex, f64)> {
    let horizon = Horizon::at(centre);
    cells
        .iter()
        .map(|&cell| (cell, probability(cell, &horizon, radial, heading)))
        .filter(|(_, p)| *p > NEGLIGIBLE)
        .collect()
}

fn probability(
    cell: CellIndex,
    horizon: &Horizon,
    radial: &Radial,
    heading: Option<&Heading>,
) -> f64 {
    let corner = |at: &LatLng| horizon.offset(Horizon::vector(at.lat(), at.lng()));
    let boundary = cell.boundary();
    let Some(last) = boundary.last() else {
        return 0.0;
    };
    let mut from = corner(last);
    let mut turned = 0.0;
    for at in boundary.iter() {
        let to = corner(at);
        turned += along_edge(from, to, radial, heading);
        from = to;
    }
    turned / TAU
}

/// The integral of `F(r)`, times the heading's factor, over the angle from one point to another in
/// a straight line, in radians anticlockwise.
fn along_edge(from: [f64; 2], to: [f64; 2], radial: &Radial, heading: Option<&Heading>) -> f64 {
    let edge = [to[0] - from[0], to[1] - from[1]];
    let length = libm::sqrt(edge[0] * edge[0] + edge[1] * edge[1]);
    if length <= 0.0 {
        return 0.0;
    }
    let along = [edge[0] / length, edge[1] / length];
    // The nearest point of the line is `aside` to the left of the centre, signed.
    let aside = from[0] * along[1] - from[1] * along[0];
    let distance = libm::fabs(aside);
    if distance < 1e-9 {
        return 0.0;
    }
    let start = from[0] * along[0] + from[1] * along[1];
    let end = start + length;
    let foot = [from[0] - start * along[0], from[1] - start * along[1]];
    let stretch = |low: f64, high: f64| -> f64 {
        let (middle, half) = (f64::midpoint(low, high), 0.5 * (high - low));
        let at = |(x, weight): (f64, f64)| {
            let s = middle + half * x;
            let squared = aside * aside + s * s;
            let factor = heading.map_or(1.0, |heading| {
                heading.factor([foot[0] + s * along[0], foot[1] + s * along[1]])
            });
            weight * half * aside / squared * factor * radial.within(libm::sqrt(squared))
        };
        GAUSS.into_iter().map(at).sum()
    };
    let nearest = libm::hypot(distance, start.max(0.0).max(-end));
    if length <= STRETCH * nearest {
        return stretch(start, end);
    }
    // Close by, steps that are even in asinh(s / distance) are even by the logarithm of the
    // distance from the centre.
    let (first, last) = (libm::asinh(start / distance), libm::asinh(end / distance));
    let parts = libm::ceil((last - first) / STRETCH);
    let point = |i: f64| distance * libm::sinh(first + (last - first) * i / parts);
    let mut sum = 0.0;
    let mut i = 0.0;
    while i < parts {
        sum += stretch(point(i), point(i + 1.0));
        i += 1.0;
    }
    sum
}

#[cfg(test)]
#[path = "cells_tests.rs"]
mod tests;
