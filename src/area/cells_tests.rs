use h3o::LatLng;

use super::*;
use crate::area::great_circle_km;
use crate::area::law::StaticLaw;
use crate::area::settings::Movement;
use crate::model::Category;

fn static_law() -> TimeLaw {
    let law = StaticLaw::through([0.321_869, 1.126_541, 3.218_688, 12.552_883]);
    TimeLaw::new(law, Movement::shipped(Category::Dementia), 0.5, 1e5)
}

fn aberdeen() -> Position {
    Position::new(57.149_7, -2.094_3).unwrap()
}

/// How many cells, best first, reach a cumulative probability.
fn needed(cells: &[CellProbability], mass: f64) -> usize {
    let mut sum = 0.0;
    cells
        .iter()
        .take_while(|one| {
            let before = sum;
            sum += one.p;
            before < mass
        })
        .count()
}

#[test]
fn golden_cells() {
    let cells = by_cell(aberdeen(), &static_law(), 0.0, Resolution::Eight).unwrap();
    assert_eq!(cells[0].cell.to_string(), "881976bb67fffff");
    assert!((0.3016..=0.3018).contains(&cells[0].p), "{}", cells[0].p);
    let seven: f64 = cells[..7].iter().map(|one| one.p).sum();
    assert!((seven - 0.5077).abs() <= 0.001, "{seven}");
    assert_eq!(needed(&cells, 0.75), 54);
    assert!(
        (776..=804).contains(&needed(&cells, 0.95)),
        "{}",
        needed(&cells, 0.95)
    );
}

#[test]
fn cells_are_best_first_and_weigh_one_together() {
    let cells = by_cell(aberdeen(), &static_law(), 0.2, Resolution::Eight).unwrap();
    assert!(cells.iter().all(|one| one.p > 0.0));
    assert!(
        cells.is_sorted_by(|a, b| a.p > b.p || (a.p.to_bits() == b.p.to_bits() && a.cell < b.cell))
    );
    assert!((cells.iter().map(|one| one.p).sum::<f64>() - 1.0).abs() < 1e-9);
    let again = by_cell(aberdeen(), &static_law(), 0.2, Resolution::Eight).unwrap();
    assert_eq!(cells, again);
}

#[test]
fn it_works_the_same_anywhere_on_earth() {
    // Latitudes 0, 35, 60; poles; across the antimeridian; a pentagon of resolutions 8 and 9.
    for (lat, lon) in [
        (0.0, 10.0),
        (35.0, 135.5),
        (60.0, 25.0),
        (-60.0, 180.0),
        (16.8, -179.999),
        (89.999, 45.0),
        (90.0, 0.0),
        (-90.0, 0.0),
        (64.7, 10.536_2),
    ] {
        let lkp = Position::new(lat, lon).unwrap();
        let cells = by_cell(lkp, &static_law(), 0.0, Resolution::Eight).unwrap();
        assert!((cells.iter().map(|one| one.p).sum::<f64>() - 1.0).abs() < 1e-9);
        let within = |km: f64| -> f64 {
            let near = |one: &&CellProbability| {
                let centre = LatLng::from(one.cell.index());
                great_circle_km(Position::new(centre.lat(), centre.lng()).unwrap(), lkp) <= km
            };
            cells.iter().filter(near).map(|one| one.p).sum()
        };
        // A cell counts by its centre, which blurs a radius by half a cell of 0.5 km.
        for (km, share) in [(3.218_688, 0.75), (12.552_883, 0.95), (32.647_72, 0.99)] {
            assert!(
                (within(km) - share).abs() < 0.03,
                "{lat},{lon}: {} in {km} km",
                within(km)
            );
        }
    }
}

#[test]
fn a_person_just_gone_is_in_the_cell_of_the_last_known_position() {
    let law = StaticLaw::through([0.321_869, 1.126_541, 3.218_688, 12.552_883]);
    let law = TimeLaw::new(law, Movement::shipped(Category::Dementia), 0.5, 0.0);
    let cells = by_cell(aberdeen(), &law, 0.0, Resolution::Nine).unwrap();
    assert_eq!(cells.len(), 1);
    assert_eq!(cells[0].cell, Cell::at(aberdeen(), Resolution::Nine));
    assert!(
        by_cell(aberdeen(), &law, 0.1, Resolution::Nine)
            .unwrap()
            .len()
            > 1
    );
}

#[test]
fn the_resolution_follows_the_three_quarters_radius() {
    assert_eq!(resolution(2.999), Resolution::Nine);
    assert_eq!(resolution(3.0), Resolution::Eight);
}

#[test]
fn directions_do_not_drift() {
    let mut sunflower = Sunflower::default();
    let golden_angle = std::f64::consts::PI * (3.0 - libm::sqrt(5.0));
    for k in 0..POINTS {
        let (sin, cos) = sunflower.turn();
        if k % 4_096 == 4_095 {
            let (exact_sin, exact_cos) = libm::sincos(f64::from(k) * golden_angle);
            assert!(
                (sin - exact_sin).abs() < 1e-9 && (cos - exact_cos).abs() < 1e-9,
                "{k}"
            );
        }
    }
}

#[test]
fn offsets_are_standard_normal() {
    let mut offsets = Offsets::default();
    let (mut mean, mut variance, mut covariance, mut within) = ((0.0, 0.0), (0.0, 0.0), 0.0, 0.0);
    for _ in 0..POINTS {
        let (x, y) = offsets.draw();
        mean = (mean.0 + x, mean.1 + y);
        variance = (variance.0 + x * x, variance.1 + y * y);
        covariance += x * y;
        within += f64::from(u8::from(x.hypot(y) <= 1.509_6));
    }
    let n = f64::from(POINTS);
    assert!(mean.0.abs() / n < 1e-3 && mean.1.abs() / n < 1e-3);
    assert!((variance.0 / n - 1.0).abs() < 2e-3 && (variance.1 / n - 1.0).abs() < 2e-3);
    assert!((covariance / n).abs() < 2e-3);
    assert!((within / n - 0.68).abs() < 1e-3);
}
