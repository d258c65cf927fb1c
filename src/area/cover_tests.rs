use h3o::LatLng;
use proptest::prelude::*;

use super::*;

/// A pentagon of resolution 7, in the sea off Norway.
fn pentagon(resolution: Resolution) -> CellIndex {
    resolution
        .pentagons()
        .find(|cell| LatLng::from(*cell).lat() > 60.0)
        .unwrap()
}

fn holds(ranges: &[CellRange], cell: CellIndex) -> usize {
    let number = Cell::from(cell).to_i64();
    ranges
        .iter()
        .filter(|range| (range.lo..=range.hi).contains(&number))
        .count()
}

fn disk(centre: CellIndex, k: u32) -> Vec<Cell> {
    centre
        .grid_disk::<Vec<_>>(k)
        .into_iter()
        .map(Cell::from)
        .collect()
}

fn at(lat: f64, lon: f64, resolution: Resolution) -> CellIndex {
    LatLng::new(lat, lon).unwrap().to_cell(resolution)
}

#[test]
fn whole_families_give_way_to_their_parent() {
    for parent in [
        at(57.1, -2.1, Resolution::Seven),
        pentagon(Resolution::Seven),
    ] {
        let children: Vec<Cell> = parent.children(Resolution::Nine).map(Cell::from).collect();
        assert_eq!(compact(&children), [Cell::from(parent)]);
        let mut most = children.clone();
        most.swap_remove(3);
        let compacted = compact(&most);
        assert!(!compacted.contains(&parent.into()) && compacted.len() < most.len());
        let mixed: Vec<Cell> = children
            .iter()
            .copied()
            .chain([parent.into()])
            .rev()
            .collect();
        assert_eq!(compact(&mixed), [Cell::from(parent)]);
    }
    assert_eq!(compact(&[]), []);
}

#[test]
fn a_pentagon_is_one_range_of_its_descendants() {
    for resolution in [Resolution::Eight, Resolution::Nine, Resolution::Six] {
        let pentagon = pentagon(resolution);
        let ranges = ranges(&[pentagon.into()]);
        assert_eq!(ranges.len(), 1);
        for near in disk(at(64.7, 10.536_2, Resolution::Nine), 12) {
            let inside = near.index().parent(resolution) == Some(pentagon);
            assert_eq!(holds(&ranges, near.index()), usize::from(inside));
        }
        assert!(
            pentagon
                .children(Resolution::Nine)
                .all(|child| holds(&ranges, child) == 1)
        );
    }
}

#[test]
fn neighbours_in_number_make_one_range() {
    let cell = at(57.1, -2.1, Resolution::Nine);
    let next = cell.succ().unwrap();
    let merged = ranges(&[next.into(), cell.into(), cell.into()]);
    let number = |cell: CellIndex| Cell::from(cell).to_i64();
    assert_eq!(
        merged,
        [CellRange {
            lo: number(cell),
            hi: number(next)
        }]
    );
    // The children of a pentagon, whose numbers leave a gap where the missing branch would be.
    let pentagon = pentagon(Resolution::Eight);
    let children: Vec<Cell> = pentagon
        .children(Resolution::Nine)
        .map(Cell::from)
        .collect();
    assert_eq!(ranges(&children), ranges(&[pentagon.into()]));
}

#[test]
fn a_cell_finer_than_subscribers_counts_as_its_ancestor() {
    let fine = at(57.1, -2.1, Resolution::Eleven);
    let ancestor = fine.parent(Resolution::Nine).unwrap();
    assert_eq!(ranges(&[fine.into()]), ranges(&[ancestor.into()]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// On plain ground, across the antimeridian, round the pole and round a pentagon.
    #[test]
    fn covers_match_brute_force(
        place in prop::sample::select(vec![(57.1, -2.1), (16.8, 179.999), (89.999, 0.0), (64.7, 10.5362)]),
        resolution in prop::sample::select(vec![Resolution::Seven, Resolution::Eight, Resolution::Nine]),
        keep in prop::collection::vec(any::<bool>(), 37),
    ) {
        let all = disk(at(place.0, place.1, resolution), 3);
        let kept: Vec<Cell> =
            all.iter().zip(&keep).filter(|(_, keep)| **keep).map(|(cell, _)| *cell).collect();
        let compacted = compact(&kept);
        let mut library: Vec<CellIndex> = kept.iter().map(|cell| cell.index()).collect();
        CellIndex::compact(&mut library).unwrap();
        library.sort_unstable();
        let ours: Vec<CellIndex> = compacted.iter().map(|cell| cell.index()).collect();
        prop_assert_eq!(ours, library);

        let runs = ranges(&kept);
        prop_assert_eq!(&ranges(&compacted), &runs);
        prop_assert!(runs.windows(2).all(|pair| pair[0].hi < pair[1].lo));
        for cell in &all {
            let inside = usize::from(kept.contains(cell));
            for child in cell.index().children(Resolution::Nine) {
                prop_assert_eq!(holds(&runs, child), inside);
            }
        }
    }
}
