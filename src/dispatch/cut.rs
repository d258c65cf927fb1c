//! Cutting released cells into shards: pure.

use std::collections::HashMap;

use crate::area;
use crate::model::{Cell, CellRange, SUBSCRIBER_RESOLUTION};

/// One shard: probability of area of its best cell, and its cells as ranges.
pub type CutShard = (f64, Vec<CellRange>);

/// The first shard's part of a full one.
const FIRST_SHARE: i64 = 10;

/// Cuts cells (best first) into shards of about `people` subscribers, counted by subscriber cell.
///
/// The first shard is a tenth of that, so that the first batch leaves while the others are made.
/// Every cell lies in exactly one shard, empty ones too: somebody may have come since the count. A
/// coarse cell that alone holds more than a shard's worth is cut into its subscriber cells.
#[must_use]
pub fn cut(cells: &[(Cell, f64)], counts: &HashMap<i64, i64>, people: i64) -> Vec<CutShard> {
    let mut shards = Vec::new();
    let mut open = OpenShard::default();
    for (cell, probability) in cells {
        let children: Vec<Cell> = cell
            .index()
            .children(SUBSCRIBER_RESOLUTION)
            .map(Cell::from)
            .collect();
        let count = |cell: &Cell| counts.get(&cell.to_i64()).copied().unwrap_or(0);
        let whole: i64 = children.iter().map(count).sum();
        if whole <= limit(&shards, people) {
            open.add(&mut shards, *cell, whole, *probability, people);
        } else {
            for child in children {
                open.add(&mut shards, child, count(&child), *probability, people);
            }
        }
    }
    open.close(&mut shards);
    shards
}

/// The most people that the shard after these may hold.
fn limit(shards: &[CutShard], people: i64) -> i64 {
    if shards.is_empty() {
        (people / FIRST_SHARE).max(1)
    } else {
        people
    }
}

#[derive(Default)]
struct OpenShard {
    cells: Vec<Cell>,
    people: i64,
    probability: f64,
}

impl OpenShard {
    fn add(
        &mut self,
        shards: &mut Vec<CutShard>,
        cell: Cell,
        count: i64,
        probability: f64,
        people: i64,
    ) {
        if self.people > 0 && self.people + count > limit(shards, people) {
            self.close(shards);
        }
        if self.cells.is_empty() {
            self.probability = probability;
        }
        self.cells.push(cell);
        self.people += count;
    }

    fn close(&mut self, shards: &mut Vec<CutShard>) {
        if !self.cells.is_empty() {
            shards.push((self.probability, area::ranges(&self.cells)));
        }
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use h3o::Resolution;
    use proptest::prelude::*;

    use super::*;
    use crate::model::Position;

    fn disk(radius: u32) -> Vec<(Cell, f64)> {
        let centre = Cell::at(Position::new(57.15, -2.09).unwrap(), Resolution::Eight);
        let mut cells = centre.index().grid_disk::<Vec<_>>(radius);
        cells.sort();
        cells
            .into_iter()
            .zip(1_u32..)
            .map(|(cell, n)| (cell.into(), 1.0 / f64::from(n)))
            .collect()
    }

    proptest! {
        #[test]
        fn every_cell_lies_in_exactly_one_shard(
            people in 1_i64..500, seeds in proptest::collection::vec(0_i64..200, 7 * 37),
        ) {
            let cells = disk(3);
            let children: Vec<i64> = cells
                .iter()
                .flat_map(|(cell, _)| cell.index().children(SUBSCRIBER_RESOLUTION))
                .map(|cell| Cell::from(cell).to_i64())
                .collect();
            let counts: HashMap<i64, i64> =
                children.iter().copied().zip(seeds).filter(|(_, count)| *count > 0).collect();
            let shards = cut(&cells, &counts, people);
            for child in &children {
                let holders = shards
                    .iter()
                    .flat_map(|(_, ranges)| ranges)
                    .filter(|range| (range.lo..=range.hi).contains(child))
                    .count();
                prop_assert_eq!(holders, 1);
            }
            for (_, ranges) in &shards {
                let held: Vec<i64> = children
                    .iter()
                    .filter(|child| ranges.iter().any(|r| (r.lo..=r.hi).contains(*child)))
                    .map(|child| counts.get(child).copied().unwrap_or(0))
                    .collect();
                // Only a single subscriber cell may hold more than a shard's worth.
                let sum: i64 = held.iter().sum();
                prop_assert!(sum <= people || held.iter().filter(|n| **n > 0).count() == 1);
            }
            for pair in shards.windows(2) {
                prop_assert!(pair[0].0 >= pair[1].0, "best first");
            }
        }
    }
}
