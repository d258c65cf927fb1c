//! The cells of a circle on the Earth, found from the coarsest cells downwards. Needs no step from
//! neighbour to neighbour, so poles, the antimeridian and pentagons are nothing special.

use h3o::{CellIndex, LatLng, Resolution};

use super::sphere::{self, Horizon};
use crate::model::Position;

/// No descendant of a cell reaches farther from the cell's centre than this many of its average
/// edges. Cells are up to 1.3 of those in radius, and descendants stick out by up to a fifth.
const REACH_OF_DESCENDANTS: f64 = 1.75;

/// Every cell of a resolution that has a point, or a descendant with a point, within `km` of
/// `centre`, in the order of their numbers. A few more that lie close by come with them.
#[must_use]
pub fn cells_within(centre: Position, km: f64, resolution: Resolution) -> Vec<CellIndex> {
    let mut found = Vec::new();
    let up = Horizon::vector(centre.lat(), centre.lon());
    for base in CellIndex::base_cells() {
        descend(base, up, km, resolution, &mut found);
    }
    found
}

/// How far from a cell's centre its descendants can reach, in km.
#[must_use]
pub fn reach_km(resolution: Resolution) -> f64 {
    REACH_OF_DESCENDANTS * resolution.edge_length_km()
}

fn descend(
    cell: CellIndex,
    up: sphere::Vector,
    km: f64,
    resolution: Resolution,
    found: &mut Vec<CellIndex>,
) {
    let at = LatLng::from(cell);
    let away_km = sphere::distance_km(up, Horizon::vector(at.lat(), at.lng()));
    if away_km > km + reach_km(cell.resolution()) {
        return;
    }
    match cell.resolution().succ() {
        Some(finer) if cell.resolution() < resolution => {
            for child in cell.children(finer) {
                descend(child, up, km, resolution, found);
            }
        }
        _ => found.push(cell),
    }
}

#[cfg(test)]
#[path = "disc_tests.rs"]
mod tests;
