//! Many points to their cells. Asking the index library for each is most of a plan's time, so a
//! point well inside a cell that was found before is answered from memory.

use std::collections::HashMap;

use h3o::{CellIndex, LatLng, Resolution};

use super::sphere::{Horizon, Vector, cross, dot};
use crate::model::{Cell, InvalidPosition, Position};

/// How much of the circle inscribed in a cell is trusted: less than all, against rounding.
const TRUSTED: f64 = 0.99;

/// Finds the cells of points round one place.
pub struct Locator {
    horizon: Horizon,
    resolution: Resolution,
    square_km: f64,
    /// The cells found in each square of the tangent plane.
    squares: HashMap<(i64, i64), Vec<Found>>,
}

/// A cell that some point of a square was in.
struct Found {
    cell: CellIndex,
    /// Made when a second point falls into the cell: far out, most cells are met only once.
    disc: Option<Disc>,
}

/// A circle inside a cell.
struct Disc {
    centre: Vector,
    squared_radius: f64,
}

impl Locator {
    /// For points round `place`.
    #[must_use]
    pub fn new(place: Position, resolution: Resolution) -> Self {
        Self {
            horizon: Horizon::at(place),
            resolution,
            square_km: resolution.edge_length_km(),
            squares: HashMap::new(),
        }
    }

    /// The cell of the point so many km off, as the index library gives it.
    ///
    /// # Errors
    /// [`InvalidPosition`] for distances that are not finite.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "which square is only a key"
    )]
    pub fn cell(&mut self, east_km: f64, north_km: f64) -> Result<CellIndex, InvalidPosition> {
        let point = self.horizon.direction(east_km, north_km);
        let square = [east_km, north_km]
            .map(|km| libm::floor(km / self.square_km) as i64)
            .into();
        let found = self.squares.entry(square).or_default();
        let inside = |one: &&Found| one.disc.as_ref().is_some_and(|disc| disc.holds(point));
        if let Some(one) = found.iter().find(inside) {
            return Ok(one.cell);
        }
        let cell = Cell::at(Horizon::position(point)?, self.resolution).index();
        match found.iter_mut().find(|one| one.cell == cell) {
            Some(again) => {
                again.disc.get_or_insert_with(|| Disc::inside(cell));
            }
            None => found.push(Found { cell, disc: None }),
        }
        Ok(cell)
    }
}

impl Disc {
    fn inside(cell: CellIndex) -> Self {
        let vector = |at: &LatLng| Horizon::vector(at.lat(), at.lng());
        let centre = vector(&LatLng::from(cell));
        let corners: Vec<Vector> = cell.boundary().iter().map(vector).collect();
        let nexts = corners.iter().cycle().skip(1);
        // The sine of the angle from the centre to an edge, which is a little less than the chord.
        let squared_radius = corners
            .iter()
            .zip(nexts)
            .map(|(&a, &b)| {
                let normal = cross(a, b);
                let height = dot(centre, normal);
                height * height / dot(normal, normal)
            })
            .fold(f64::INFINITY, f64::min);
        Self {
            centre,
            squared_radius: squared_radius * TRUSTED * TRUSTED,
        }
    }

    fn holds(&self, point: Vector) -> bool {
        let off: Vector = std::array::from_fn(|i| point[i] - self.centre[i]);
        dot(off, off) < self.squared_radius
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Places with something to trip over: a pole, the antimeridian, a pentagon, an edge between
    /// faces of the icosahedron, and plain ones.
    const PLACES: [(f64, f64); 7] = [
        (57.149_7, -2.094_3),
        (90.0, 0.0),
        (-89.99, 120.0),
        (16.8, 179.999),
        (64.7, 10.536_2),
        (58.4, 11.25),
        (-33.4, -70.6),
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn answers_as_the_library_does(
            place in prop::sample::select(&PLACES[..]), seed in 0.0..1.0_f64, fine in any::<bool>(),
        ) {
            let place = Position::new(place.0, place.1).unwrap();
            let resolution = if fine { Resolution::Nine } else { Resolution::Eight };
            let mut locator = Locator::new(place, resolution);
            for k in 0..3_000 {
                let km = 6.0 * libm::sqrt(f64::from(k) / 3_000.0);
                let (north, east) = libm::sincos(f64::from(k) * 2.399_963 + seed);
                let expected = Horizon::at(place).point(km * east, km * north).unwrap();
                let expected = Cell::at(expected, resolution).index();
                prop_assert_eq!(locator.cell(km * east, km * north).unwrap(), expected);
            }
        }
    }
}
