//! Where an alert holds, in the form the phone checks itself against.

use h3o::LatLng;

use super::proto::v1::Area;
use crate::model::Cell;

/// How much farther than its own corners the descendants of a cell may reach from its centre.
///
/// Finer cells do not nest exactly: on a plane they reach 5 % beyond the corners, and H3's
/// projection distorts. The tests look at both.
const OVERHANG: f64 = 1.10;

/// Room for phones that measure on the ellipsoid: distances there differ by up to 0.5 % from those
/// on a sphere.
const ELLIPSOID: f64 = 1.006;

/// Steps towards the farthest cell; the circle is then within a few percent of the smallest.
const STEPS: u32 = 64;

/// Half of the Earth's circumference in metres: a circle of this radius holds everything.
const ANTIPODE_M: f64 = 20_037_509.0;

/// A point of the unit sphere.
type Vector = [f64; 3];

/// Where an alert holds: the cells, which are compacted already, and a circle round all of them
/// with all that they contain.
///
/// Without cells it is an empty area with a circle of radius 0.
#[must_use]
pub fn area(cells: &[Cell]) -> Area {
    let spots: Vec<Spot> = cells.iter().map(|cell| Spot::of(*cell)).collect();
    let centre = position(centre(&spots));
    let reach_m = spots
        .iter()
        .map(|spot| centre.distance_m(spot.centre) + spot.reach_m)
        .fold(0.0, f64::max);
    Area {
        cells: cells.iter().map(|cell| u64::from(cell.index())).collect(),
        centre_lat: centre.lat(),
        centre_lon: centre.lng(),
        radius_m: (reach_m * ELLIPSOID).ceil().min(ANTIPODE_M),
    }
}

/// A cell as a disc.
struct Spot {
    centre: LatLng,
    vector: Vector,
    reach_m: f64,
}

impl Spot {
    fn of(cell: Cell) -> Self {
        let index = cell.index();
        let centre = LatLng::from(index);
        let corner_m = index
            .boundary()
            .iter()
            .map(|corner| centre.distance_m(*corner))
            .fold(0.0, f64::max);
        Self {
            centre,
            vector: vector(centre),
            reach_m: corner_m * OVERHANG,
        }
    }
}

/// The centre of a small circle round all spots: starts at the first one and moves towards whichever
/// is farthest, a little less each time (Bădoiu and Clarkson's method).
fn centre(spots: &[Spot]) -> Vector {
    let mut at = spots.first().map_or([1.0, 0.0, 0.0], |spot| spot.vector);
    for step in 1..=STEPS {
        let farthest = spots
            .iter()
            .map(|spot| spot.vector)
            .max_by(|a, b| square_distance(at, *a).total_cmp(&square_distance(at, *b)));
        let Some(farthest) = farthest else { break };
        let share = 1.0 / f64::from(step + 1);
        let moved = [0, 1, 2].map(|axis| at[axis] + (farthest[axis] - at[axis]) * share);
        let length = libm::sqrt(moved.iter().map(|one| one * one).sum());
        // The middle of two opposite points is nowhere on the sphere: stay.
        if length > 1e-9 {
            at = moved.map(|one| one / length);
        }
    }
    at
}

fn square_distance(a: Vector, b: Vector) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

fn vector(at: LatLng) -> Vector {
    let (lat, lon) = (at.lat_radians(), at.lng_radians());
    let across = libm::cos(lat);
    [
        across * libm::cos(lon),
        across * libm::sin(lon),
        libm::sin(lat),
    ]
}

fn position([x, y, z]: Vector) -> LatLng {
    let (lat, lon) = (libm::atan2(z, libm::hypot(x, y)), libm::atan2(y, x));
    // Both angles are finite, which is all that LatLng asks for.
    LatLng::from_radians(lat, lon).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use h3o::{CellIndex, Resolution};
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Position, SUBSCRIBER_RESOLUTION};

    fn cell(lat: f64, lon: f64, resolution: Resolution) -> Cell {
        Cell::at(Position::new(lat, lon).unwrap(), resolution)
    }

    /// How far the farthest corner of a cell is from the centre of the circle, in metres.
    fn farthest(area: &Area, cell: CellIndex) -> f64 {
        let centre = LatLng::new(area.centre_lat, area.centre_lon).unwrap();
        cell.boundary()
            .iter()
            .map(|corner| centre.distance_m(*corner))
            .fold(0.0, f64::max)
    }

    /// Walks down to a subscriber's cell, always to the child farthest from the centre.
    fn outermost(area: &Area, mut cell: CellIndex) -> CellIndex {
        while let Some(finer) = cell
            .resolution()
            .succ()
            .filter(|finer| *finer <= SUBSCRIBER_RESOLUTION)
        {
            let child = cell
                .children(finer)
                .max_by(|a, b| farthest(area, *a).total_cmp(&farthest(area, *b)));
            cell = child.unwrap();
        }
        cell
    }

    fn holds(area: &Area, cells: &[Cell]) {
        for cell in cells {
            let reach = farthest(area, cell.index());
            assert!(
                reach <= area.radius_m,
                "{cell}: {reach} of {}",
                area.radius_m
            );
            let outermost = outermost(area, cell.index());
            let reach = farthest(area, outermost);
            assert!(
                reach <= area.radius_m,
                "{cell} {outermost}: {reach} of {}",
                area.radius_m
            );
        }
    }

    #[test]
    fn one_cell() {
        let cells = [cell(57.15, -2.09, SUBSCRIBER_RESOLUTION)];
        let area = area(&cells);
        assert_eq!(area.cells, [u64::from(cells[0].index())]);
        holds(&area, &cells);
        // Corners of a cell of this resolution are about 200 m from its centre.
        assert!((150.0..300.0).contains(&area.radius_m), "{}", area.radius_m);
    }

    #[test]
    fn no_cell() {
        let nowhere = area(&[]);
        assert!(nowhere.cells.is_empty() && nowhere.radius_m == 0.0);
    }

    #[test]
    fn a_disc_is_circled_tightly_wherever_it_lies() {
        for (lat, lon) in [
            (0.0, 0.0),
            (-17.0, 180.0),
            (90.0, 0.0),
            (-90.0, 77.0),
            (64.7, 10.5),
        ] {
            let middle = cell(lat, lon, SUBSCRIBER_RESOLUTION);
            let mut disc: Vec<CellIndex> = middle.index().grid_disk_safe(12).collect();
            let centre = LatLng::from(middle.index());
            let true_radius = disc
                .iter()
                .flat_map(|cell| cell.boundary().to_vec())
                .map(|corner| centre.distance_m(corner))
                .fold(0.0, f64::max);
            CellIndex::compact(&mut disc).unwrap();
            let cells: Vec<Cell> = disc.into_iter().map(Cell::from).collect();
            let area = area(&cells);
            holds(&area, &cells);
            assert!(
                area.radius_m < true_radius * 1.25,
                "{lat} {}",
                area.radius_m / true_radius
            );
        }
    }

    #[test]
    fn pentagons_too() {
        for resolution in [Resolution::Five, Resolution::Seven, SUBSCRIBER_RESOLUTION] {
            for pentagon in resolution.pentagons() {
                let cells = [Cell::from(pentagon)];
                holds(&area(&cells), &cells);
            }
        }
    }

    #[test]
    fn opposite_ends_of_the_earth() {
        let cells = [
            cell(0.0, 0.0, Resolution::Nine),
            cell(0.0, 180.0, Resolution::Nine),
        ];
        let area = area(&cells);
        assert!(area.radius_m.is_finite());
        holds(&area, &cells);
    }

    proptest! {
        #[test]
        fn the_circle_holds_all_cells_and_all_they_contain(
            lat in -90.0..=90.0_f64,
            lon in -180.0..=180.0_f64,
            spread in 0.001..3.0_f64,
            spots in prop::collection::vec((-1.0..1.0_f64, -1.0..1.0_f64, 3_u8..=9), 1..20),
        ) {
            let cells: Vec<Cell> = spots
                .into_iter()
                .map(|(north, east, resolution)| {
                    let lon = (lon + east * spread + 540.0).rem_euclid(360.0) - 180.0;
                    let resolution = Resolution::try_from(resolution).unwrap();
                    cell((lat + north * spread).clamp(-90.0, 90.0), lon, resolution)
                })
                .collect();
            holds(&area(&cells), &cells);
        }
    }
}
