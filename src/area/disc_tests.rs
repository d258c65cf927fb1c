use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::area::{great_circle_km, ranges};
use crate::model::{Cell, SUBSCRIBER_RESOLUTION};

/// Plain ground, the sea, the antimeridian, poles, pentagons, an edge between faces.
const PLACES: [(f64, f64); 8] = [
    (57.149_7, -2.094_3),
    (-48.9, -123.4),
    (16.8, 179.999),
    (90.0, 0.0),
    (-89.99, 120.0),
    (64.7, 10.536_2),
    (2.300_882, -5.245_39),
    (58.4, 11.25),
];

#[test]
fn no_cell_of_a_disc_is_missed() {
    for (lat, lon) in PLACES {
        let centre = Position::new(lat, lon).unwrap();
        for (km, rings, resolution) in [
            (0.0, 4, Resolution::Nine),
            (3.0, 20, Resolution::Nine),
            (40.0, 36, Resolution::Seven),
        ] {
            let found = cells_within(centre, km, resolution);
            assert!(found.is_sorted());
            let set: HashSet<CellIndex> = found.iter().copied().collect();
            assert_eq!(set.len(), found.len());
            // Brute force: every cell of a much larger neighbourhood, by its great-circle distance.
            let home = Cell::at(centre, resolution).index();
            for cell in home.grid_disk_safe(rings) {
                let at = LatLng::from(cell);
                let corners = cell.boundary();
                let nearest = std::iter::once(&at)
                    .chain(corners.iter())
                    .map(|at| great_circle_km(centre, Position::new(at.lat(), at.lng()).unwrap()))
                    .fold(f64::INFINITY, f64::min);
                assert!(
                    nearest > km || set.contains(&cell),
                    "{lat},{lon}: {cell} at {nearest} km"
                );
                let away = great_circle_km(centre, Position::new(at.lat(), at.lng()).unwrap());
                assert!(away <= km + 2.0 * resolution.edge_length_km() || !set.contains(&cell));
            }
            assert!(set.contains(&home));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// The subscriber cell of any point of the disc is in the ranges of the disc's cells, even where it
    /// sticks out of the coarse cell it descends from. Areas of up to 500 km.
    #[test]
    fn nobody_in_the_disc_is_missed(
        place in prop::sample::select(&PLACES[..]), km in 0.1..500.0_f64, seed in 0.0..6.3_f64,
    ) {
        let centre = Position::new(place.0, place.1).unwrap();
        let resolution = match km {
            ..5.0 => Resolution::Nine,
            ..60.0 => Resolution::Seven,
            _ => Resolution::Five,
        };
        let cells: Vec<Cell> = cells_within(centre, km, resolution).into_iter().map(Cell::from).collect();
        let runs = ranges(&cells);
        let horizon = Horizon::at(centre);
        for k in 0..2_000 {
            // Most of them close to the edge, where cells stick out.
            let part = 1.0 - 0.05 * (f64::from(k) / 2_000.0) * (f64::from(k) / 2_000.0);
            let (north, east) = libm::sincos(f64::from(k) * 2.399_963 + seed);
            let point = horizon.point(part * km * east, part * km * north).unwrap();
            prop_assert!(great_circle_km(centre, point) <= km + 1e-6);
            let number = Cell::at(point, SUBSCRIBER_RESOLUTION).to_i64();
            let after = runs.partition_point(|run| run.lo <= number);
            prop_assert!(after > 0 && runs[after - 1].hi >= number, "{place:?} {km} km: missed {point:?}");
        }
    }
}

/// How far descendants stick out is a fact about H3: measured at the edges of plain cells and
/// pentagons, two and four resolutions down.
#[test]
fn descendants_stay_within_reach() {
    let plain = PLACES
        .iter()
        .map(|&(lat, lon)| Position::new(lat, lon).unwrap());
    for resolution in [Resolution::Two, Resolution::Five, Resolution::Seven] {
        let cells: Vec<CellIndex> = plain
            .clone()
            .map(|at| Cell::at(at, resolution).index())
            .chain(resolution.pentagons().take(3))
            .collect();
        for cell in cells {
            let up = LatLng::from(cell);
            let finer = Resolution::try_from(u8::from(resolution) + 3).unwrap();
            let farthest = cell
                .children(finer)
                .flat_map(|child| child.boundary().iter().copied().collect::<Vec<_>>())
                .map(|corner| up.distance_km(corner))
                .fold(0.0, f64::max);
            assert!(farthest < reach_km(resolution), "{cell}: {farthest} km");
        }
    }
}
