//! Sets of cells as the store and the phone want them: compacted, or as runs of subscriber cells.

use std::collections::BTreeSet;

use h3o::{CellIndex, Resolution};

use crate::model::{Cell, CellRange, SUBSCRIBER_RESOLUTION};

/// The smallest set of cells with the same descendants, sorted by number: whole families give way
/// to their parent, and cells inside another cell of the set are dropped.
#[must_use]
pub fn compact(cells: &[Cell]) -> Vec<Cell> {
    let mut set: BTreeSet<CellIndex> = cells.iter().map(|cell| cell.index()).collect();
    let finest = set
        .iter()
        .map(|cell| cell.resolution())
        .max()
        .unwrap_or(Resolution::Zero);
    let within: Vec<CellIndex> = set
        .iter()
        .copied()
        .filter(|&cell| ancestors(cell).any(|one| set.contains(&one)))
        .collect();
    for cell in within {
        set.remove(&cell);
    }
    for resolution in Resolution::range(Resolution::One, finest).rev() {
        let parents: BTreeSet<CellIndex> = set
            .iter()
            .filter(|cell| cell.resolution() == resolution)
            .filter_map(|cell| resolution.pred().and_then(|coarser| cell.parent(coarser)))
            .collect();
        for parent in parents {
            if parent
                .children(resolution)
                .all(|child| set.contains(&child))
            {
                for child in parent.children(resolution) {
                    set.remove(&child);
                }
                set.insert(parent);
            }
        }
    }
    let mut compacted: Vec<Cell> = set.into_iter().map(Cell::from).collect();
    compacted.sort_unstable();
    compacted
}

fn ancestors(cell: CellIndex) -> impl Iterator<Item = CellIndex> {
    std::iter::successors(cell.resolution().pred(), |resolution| resolution.pred())
        .filter_map(move |coarser| cell.parent(coarser))
}

/// The runs of subscriber cells that a set of cells holds, sorted and as few as can be: no two of
/// them overlap or follow each other without a cell between.
///
/// A cell finer than subscribers are kept at counts as its ancestor at that resolution, so that
/// nobody in it is left out.
#[must_use]
pub fn ranges(cells: &[Cell]) -> Vec<CellRange> {
    let mut runs: Vec<(CellIndex, CellIndex)> =
        cells.iter().map(|cell| descendants(*cell)).collect();
    runs.sort_unstable();
    let mut merged: Vec<(CellIndex, CellIndex)> = Vec::with_capacity(runs.len());
    for (lo, hi) in runs {
        match merged.last_mut() {
            Some(last) if lo <= last.1 || last.1.succ() == Some(lo) => last.1 = last.1.max(hi),
            _ => merged.push((lo, hi)),
        }
    }
    let number = |cell: CellIndex| Cell::from(cell).to_i64();
    merged
        .into_iter()
        .map(|(lo, hi)| CellRange {
            lo: number(lo),
            hi: number(hi),
        })
        .collect()
}

/// The first and last subscriber cell in a cell. Between them lie its descendants and no others,
/// also in a pentagon: the numbers its missing branch would have are no cells at all.
fn descendants(cell: Cell) -> (CellIndex, CellIndex) {
    let index = cell.index();
    let resolution = index.resolution().min(SUBSCRIBER_RESOLUTION);
    let index = index.parent(resolution).unwrap_or(index);
    let first = index.center_child(SUBSCRIBER_RESOLUTION).unwrap_or(index);
    (first, last_descendant(index).unwrap_or(first))
}

/// The last child of the last child, and so on. Directions are numbered 0 to 6 and children come in
/// that order.
fn last_descendant(index: CellIndex) -> Option<CellIndex> {
    Resolution::range(index.resolution(), SUBSCRIBER_RESOLUTION)
        .skip(1)
        .try_fold(index, |parent, resolution| {
            parent.children(resolution).last()
        })
}

#[cfg(test)]
#[path = "cover_tests.rs"]
mod tests;
