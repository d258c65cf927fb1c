//! An area that somebody drew, as cells.

use std::f64::consts::PI;

use h3o::{CellIndex, LatLng, Resolution};
use serde::Deserialize;

use super::disc;
use super::sphere::{self, Horizon};
use crate::model::{Cell, InvalidPosition, Position};

/// A polygon reaches no farther from its middle than this.
const MOST_KM: f64 = 100.0;

/// About as many cells make up a polygon, so that its edge is right to a few cells in a hundred.
const ENOUGH_CELLS: f64 = 4_000.0;

/// No more cells are looked at for a polygon: one that is long and narrow gets coarser cells.
const MOST_CELLS: f64 = 100_000.0;

/// The most polygons, and the most corners they may have together.
const MOST_POLYGONS: usize = 20;
const MOST_CORNERS: usize = 1_000;

/// No cells are finer than this: about 2,000 m² each.
const FINEST: Resolution = Resolution::Eleven;

/// A closed ring of longitudes and latitudes in degrees, the order of GeoJSON.
type Ring = Vec<Vec<f64>>;

/// A GeoJSON geometry that has an area (RFC 7946). The first ring of a polygon is its edge, the others
/// are holes.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "type", content = "coordinates")]
pub enum DrawnArea {
    /// One polygon.
    Polygon(Vec<Ring>),
    /// Several polygons.
    MultiPolygon(Vec<Vec<Ring>>),
}

/// Why a drawn area has no cells.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum PolygonProblem {
    /// A ring of less than four corners, the last of which repeats the first.
    #[error("each ring must have four corners or more, of which the last repeats the first")]
    Ring,
    /// A corner that is no longitude and latitude.
    #[error("each corner must be longitude and latitude in degrees")]
    Corner,
    /// A corner that is not on Earth.
    #[error("each corner must be longitude and latitude in degrees: {0}")]
    Position(#[from] InvalidPosition),
    /// Drawn finer than a search on the ground can be.
    #[error("at most {MOST_POLYGONS} polygons with {MOST_CORNERS} corners together")]
    TooFine,
    /// Wider than a search on the ground can be.
    #[error("each polygon must reach no farther than {MOST_KM} km from its middle")]
    TooWide,
    /// Not one cell has its centre in it.
    #[error(
        "each polygon must hold the centre of a cell: of 2,000 m², or of more if it is long and narrow"
    )]
    TooSmall,
}

/// The cells whose centres lie in a drawn area. Those of a polygon are all of one resolution: fine enough for
/// its edge, and not finer than needed. Polygons are to lie side by side; where they do not, cells come twice.
///
/// # Errors
/// [`PolygonProblem`] says what would be accepted.
pub fn cells_of_drawn(drawn: &DrawnArea) -> Result<Vec<Cell>, PolygonProblem> {
    let polygons = match drawn {
        DrawnArea::Polygon(rings) => std::slice::from_ref(rings),
        DrawnArea::MultiPolygon(polygons) => polygons,
    };
    let corners: usize = polygons.iter().flatten().map(Vec::len).sum();
    if polygons.len() > MOST_POLYGONS || corners > MOST_CORNERS {
        return Err(PolygonProblem::TooFine);
    }
    if polygons.is_empty() {
        return Err(PolygonProblem::Ring);
    }
    let cells: Vec<Vec<Cell>> = polygons
        .iter()
        .map(|rings| cells_of_polygon(rings))
        .collect::<Result<_, _>>()?;
    Ok(cells.concat())
}

fn cells_of_polygon(rings: &[Ring]) -> Result<Vec<Cell>, PolygonProblem> {
    let corners = rings.iter().map(vectors).collect::<Result<Vec<_>, _>>()?;
    let middle = middle(corners.iter().flatten())?;
    let horizon = Horizon::at(middle);
    // On the plane round the middle, so that poles and the antimeridian are nothing special.
    let rings: Vec<Vec<[f64; 2]>> = corners
        .iter()
        .map(|ring| ring.iter().map(|at| horizon.offset(*at)).collect())
        .collect();
    let far_km = rings
        .iter()
        .flatten()
        .map(|[east, north]| libm::hypot(*east, *north))
        .fold(0.0, f64::max);
    if far_km > MOST_KM {
        return Err(PolygonProblem::TooWide);
    }
    let km2: f64 = rings
        .iter()
        .map(|ring| libm::fabs(enclosed_km2(ring)))
        .sum();
    let looked_at_km2 = PI * far_km * far_km;
    let enough = |resolution: &Resolution| km2 / resolution.area_km2() >= ENOUGH_CELLS;
    let affordable: Vec<Resolution> = Resolution::range(Resolution::Zero, FINEST)
        .take_while(|resolution| looked_at_km2 / resolution.area_km2() <= MOST_CELLS)
        .collect();
    let finest = affordable.last().copied().unwrap_or(Resolution::Zero);
    let resolution = affordable.into_iter().find(enough).unwrap_or(finest);
    let inside = |cell: &CellIndex| {
        let at = LatLng::from(*cell);
        let offset = horizon.offset(Horizon::vector(at.lat(), at.lng()));
        rings.iter().filter(|ring| encloses(ring, offset)).count() % 2 == 1
    };
    let cells: Vec<Cell> = disc::cells_within(middle, far_km, resolution)
        .into_iter()
        .filter(inside)
        .map(Cell::from)
        .collect();
    if cells.is_empty() {
        return Err(PolygonProblem::TooSmall);
    }
    Ok(cells)
}

/// The corners of a ring, the repeated one left out.
fn vectors(ring: &Ring) -> Result<Vec<sphere::Vector>, PolygonProblem> {
    if ring.len() < 4 || ring.first() != ring.last() {
        return Err(PolygonProblem::Ring);
    }
    ring[1..]
        .iter()
        .map(|corner| match corner[..] {
            [lon, lat] | [lon, lat, _] => Ok(sphere::vector(Position::new(lat, lon)?)),
            _ => Err(PolygonProblem::Corner),
        })
        .collect()
}

fn middle<'a>(
    corners: impl Iterator<Item = &'a sphere::Vector>,
) -> Result<Position, PolygonProblem> {
    let sum = corners.fold([0.0; 3], |sum: sphere::Vector, at| {
        std::array::from_fn(|i| sum[i] + at[i])
    });
    // No corners at all, or corners all round the Earth.
    if sum.iter().all(|part| libm::fabs(*part) < 1e-9) {
        return Err(PolygonProblem::Ring);
    }
    Ok(Horizon::position(sum)?)
}

/// The area inside a ring, negative if it runs clockwise.
fn enclosed_km2(ring: &[[f64; 2]]) -> f64 {
    0.5 * edges(ring)
        .map(|([ax, ay], [bx, by])| ax * by - bx * ay)
        .sum::<f64>()
}

/// Whether a point lies inside a ring: a line from it to the east crosses the ring an odd number of
/// times.
fn encloses(ring: &[[f64; 2]], [x, y]: [f64; 2]) -> bool {
    let crosses = |([ax, ay], [bx, by]): &([f64; 2], [f64; 2])| {
        (*ay > y) != (*by > y) && x < ax + (y - ay) / (by - ay) * (bx - ax)
    };
    edges(ring).filter(crosses).count() % 2 == 1
}

fn edges(ring: &[[f64; 2]]) -> impl Iterator<Item = ([f64; 2], [f64; 2])> + '_ {
    ring.iter()
        .zip(ring.iter().cycle().skip(1))
        .map(|(a, b)| (*a, *b))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn square(lat: f64, lon: f64, half: f64) -> Ring {
        let across = |degrees: f64| libm::remainder(degrees, 360.0);
        [
            (-1.0, -1.0),
            (1.0, -1.0),
            (1.0, 1.0),
            (-1.0, 1.0),
            (-1.0, -1.0),
        ]
        .map(|(east, north)| {
            let wide = half / libm::cos(lat.to_radians());
            vec![across(lon + east * wide), lat + north * half]
        })
        .to_vec()
    }

    fn km2(cells: &[Cell]) -> f64 {
        cells.iter().map(|cell| cell.index().area_km2()).sum()
    }

    #[test]
    fn the_cells_cover_what_was_drawn() {
        for (lat, lon) in [(57.15, -2.09), (-16.8, 179.999), (0.0, 0.0), (89.0, 10.0)] {
            let drawn = DrawnArea::Polygon(vec![square(lat, lon, 0.02)]);
            let cells = cells_of_drawn(&drawn).unwrap();
            let side_km = 0.04 * 111.195;
            let share = km2(&cells) / (side_km * side_km);
            assert!((0.97..1.03).contains(&share), "{lat} {lon}: {share}");
            let held = cells.contains(&Cell::at(
                Position::new(lat, lon).unwrap(),
                cells[0].index().resolution(),
            ));
            assert!(held, "{lat} {lon}");
        }
    }

    #[test]
    fn holes_are_left_out_and_parts_add_up() {
        let (outer, inner) = (square(57.15, -2.09, 0.02), square(57.15, -2.09, 0.01));
        let whole = cells_of_drawn(&DrawnArea::Polygon(vec![outer.clone()])).unwrap();
        let ring = cells_of_drawn(&DrawnArea::Polygon(vec![outer.clone(), inner])).unwrap();
        let share = km2(&ring) / km2(&whole);
        assert!((0.73..0.77).contains(&share), "{share}");
        let two = DrawnArea::MultiPolygon(vec![vec![outer], vec![square(57.25, -2.09, 0.02)]]);
        let share = km2(&cells_of_drawn(&two).unwrap()) / km2(&whole);
        assert!((1.95..2.05).contains(&share), "{share}");
    }

    #[test]
    fn a_small_report_is_a_small_piece_of_work() {
        // Two gardens far apart, and a path across the country.
        let gardens = [57.15, 58.9].map(|lat| vec![square(lat, -2.09, 0.000_5)]);
        let cells = cells_of_drawn(&DrawnArea::MultiPolygon(gardens.to_vec())).unwrap();
        assert!((4..40).contains(&cells.len()), "{}", cells.len());
        let path = [
            [-2.0, 57.0],
            [-1.0, 57.8],
            [-1.0, 57.81],
            [-2.0, 57.01],
            [-2.0, 57.0],
        ];
        let path = path.map(|corner| corner.to_vec()).to_vec();
        let cells = cells_of_drawn(&DrawnArea::Polygon(vec![path.clone()])).unwrap();
        assert!((100..20_000).contains(&cells.len()), "{}", cells.len());
        let many = DrawnArea::MultiPolygon(vec![vec![path.clone()]; MOST_POLYGONS + 1]);
        assert_eq!(cells_of_drawn(&many), Err(PolygonProblem::TooFine));
        let jagged = DrawnArea::Polygon(vec![path; MOST_CORNERS]);
        assert_eq!(cells_of_drawn(&jagged), Err(PolygonProblem::TooFine));
    }

    #[test]
    fn what_is_no_area_is_refused() {
        let refused = |drawn| cells_of_drawn(&drawn).unwrap_err();
        let mut open = square(57.15, -2.09, 0.02);
        open.pop();
        assert_eq!(
            refused(DrawnArea::Polygon(vec![open])),
            PolygonProblem::Ring
        );
        assert_eq!(refused(DrawnArea::Polygon(vec![])), PolygonProblem::Ring);
        let far = DrawnArea::Polygon(vec![square(57.15, -2.09, 2.0)]);
        assert_eq!(refused(far), PolygonProblem::TooWide);
        let dot = DrawnArea::Polygon(vec![square(57.15, -2.09, 0.000_01)]);
        assert_eq!(refused(dot), PolygonProblem::TooSmall);
        let swapped =
            json!({"type": "Polygon", "coordinates": [[[0, 91], [1, 91], [1, 92], [0, 91]]]});
        let swapped: DrawnArea = serde_json::from_value(swapped).unwrap();
        assert!(matches!(refused(swapped), PolygonProblem::Position(_)));
        assert!(
            serde_json::from_value::<DrawnArea>(json!({"type": "Point", "coordinates": [0, 0]}))
                .is_err()
        );
    }
}
