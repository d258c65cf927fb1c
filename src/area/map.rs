//! The map: the mixture of all parts, cell by cell, with what the searches leave of it.

use std::collections::HashSet;

use h3o::{CellIndex, Resolution};

use super::cells::{self, CellProbability};
use super::disc;
use super::figures::Extent;
use super::mixture::{Centre, Mover, Part};
use super::searched::{SearchEffect, Searches};

/// The share of a part that is worked out cell by cell. The rest of it may be anywhere.
const MAPPED: f64 = 0.98;

/// Of a light part more may be left out: so much of the whole map, and all of it if it is no more.
const LEFT_OUT: f64 = 0.002;

/// The probability of every cell that matters.
#[derive(Debug, Clone, PartialEq)]
pub struct Map {
    /// Those first where a km² is most likely, equal ones by cell number.
    pub cells: Vec<CellProbability>,
    /// What each search did.
    pub searches: Vec<SearchEffect>,
}

/// What one part or several have in a cell.
#[derive(Debug, Clone, Copy)]
struct Share {
    cell: CellIndex,
    /// Before any search.
    before: f64,
    /// Of that, what the searches have not found.
    unfound: f64,
}

/// A map while it is drawn.
struct Sheet<'a> {
    searches: &'a Searches,
    now_h: f64,
    extent: &'a Extent,
    shares: Vec<Share>,
    /// The probability that is in no cell.
    elsewhere: f64,
}

impl Map {
    /// Draws the parts of all centres and takes the searches into account: each cell's probability
    /// times what they left unfound, normalised together with the rest of the world.
    #[must_use]
    pub fn draw(
        mover: &Mover,
        centres: &[Centre],
        searches: &Searches,
        now_h: f64,
        extent: &Extent,
    ) -> Self {
        let mut sheet = Sheet {
            searches,
            now_h,
            extent,
            shares: Vec::new(),
            elsewhere: 0.0,
        };
        let parts = |centre: &Centre| {
            let since_h = centre.since_h;
            let parts = mover.parts(centre, now_h);
            parts.into_iter().map(move |part| (since_h, part))
        };
        let (rides, walks): (Vec<_>, Vec<_>) = centres
            .iter()
            .flat_map(parts)
            .partition(|(_, part)| part.rides());
        for (since_h, part) in &walks {
            sheet.add(part, *since_h, |far_km| {
                disc::cells_within(part.position, far_km, extent.resolution)
            });
        }
        let fine = sheet.fine_ground();
        for (since_h, part) in &rides {
            sheet.add(part, *since_h, |far_km| {
                let cells = disc::cells_within(part.position, far_km, extent.ridden);
                split(cells, &fine, extent.resolution)
            });
        }
        sheet.finished()
    }
}

impl Sheet<'_> {
    /// Adds a part, whose people come from where they were at `since_h`, with the cells that are
    /// within a distance of it in km.
    fn add(&mut self, part: &Part, since_h: f64, cells: impl FnOnce(f64) -> Vec<CellIndex>) {
        let mapped = (1.0 - LEFT_OUT / part.weight).min(MAPPED);
        if mapped <= 0.0 {
            self.elsewhere += part.weight;
            return;
        }
        let radial = part.radial();
        let resolution = if part.rides() {
            self.extent.ridden
        } else {
            self.extent.resolution
        };
        let farthest_km = cells::farthest_km(resolution).min(self.extent.most_km);
        let cells = cells(radial.reaching_km(mapped).min(farthest_km));
        let drawn = cells::by_cell(part.position, &radial, part.heading.as_ref(), &cells);
        let inside: f64 = drawn.iter().map(|(_, p)| p).sum();
        self.elsewhere += part.weight * (1.0 - inside).max(0.0);
        let (searches, now_h) = (self.searches, self.now_h);
        self.shares.extend(drawn.into_iter().map(|(cell, p)| Share {
            cell,
            before: part.weight * p,
            unfound: part.weight * p * searches.unfound(cell, since_h, now_h),
        }));
    }

    /// The cells, as coarse as those that can only be ridden to, in which finer ones matter: somebody
    /// may have walked there, or some of it was searched.
    fn fine_ground(&self) -> HashSet<CellIndex> {
        let walked = self.shares.iter().map(|share| share.cell);
        let searched = self
            .searches
            .cells()
            .filter(|cell| cell.resolution() > self.extent.ridden);
        walked
            .chain(searched)
            .filter_map(|cell| cell.parent(self.extent.ridden))
            .collect()
    }

    fn finished(self) -> Map {
        let shares = added_up(self.shares);
        let all = self.elsewhere + shares.iter().map(|share| share.unfound).sum::<f64>();
        let mut cells: Vec<CellProbability> = shares
            .iter()
            .map(|share| CellProbability {
                cell: share.cell.into(),
                p: share.unfound / all,
            })
            .collect();
        let density = |one: &CellProbability| one.p / one.cell.index().resolution().area_km2();
        cells.sort_by(|a, b| density(b).total_cmp(&density(a)).then(a.cell.cmp(&b.cell)));
        Map {
            cells,
            searches: effects(self.searches, &shares, all),
        }
    }
}

/// Cells of which those on fine ground give way to their descendants.
fn split(
    cells: Vec<CellIndex>,
    fine_ground: &HashSet<CellIndex>,
    resolution: Resolution,
) -> Vec<CellIndex> {
    let mut all = Vec::with_capacity(cells.len());
    for cell in cells {
        if fine_ground.contains(&cell) {
            all.extend(cell.children(resolution));
        } else {
            all.push(cell);
        }
    }
    all
}

/// One share for each cell, in the order of their numbers.
fn added_up(mut shares: Vec<Share>) -> Vec<Share> {
    shares.sort_by_key(|share| share.cell);
    shares.dedup_by(|next, kept| {
        let same = next.cell == kept.cell;
        if same {
            kept.before += next.before;
            kept.unfound += next.unfound;
        }
        same
    });
    shares
}

fn effects(searches: &Searches, shares: &[Share], all: f64) -> Vec<SearchEffect> {
    (0..searches.len())
        .map(|index| {
            let taken = shares
                .iter()
                .filter(|share| searches.took_in(index, share.cell));
            let (before, unfound) = taken.fold((0.0, 0.0), |(before, unfound), share| {
                (before + share.before, unfound + share.unfound)
            });
            SearchEffect {
                index,
                before,
                after: unfound / all,
            }
        })
        .collect()
}
