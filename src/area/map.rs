//! The map: the mixture of all parts, cell by cell, with what the searches leave of it.

use h3o::{CellIndex, Resolution};

use super::cells::{self, CellProbability};
use super::mixture::{Centre, Mover};
use super::searched::{SearchEffect, Searches};

/// The share of a part that is worked out cell by cell. The rest of it may be anywhere.
const MAPPED: f64 = 0.99;

/// Of a light part more may be left out: so much of the whole map, and all of it if it is no more.
const LEFT_OUT: f64 = 0.002;

/// The probability of every cell that matters.
#[derive(Debug, Clone, PartialEq)]
pub struct Map {
    /// Best first, equal ones by cell number.
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

impl Map {
    /// Draws the parts of all centres, no farther than `farthest_km` each, and takes the searches into account: each cell's probability
    /// times what they left unfound, normalised together with the rest of the world.
    #[must_use]
    pub fn draw(
        mover: &Mover,
        centres: &[Centre],
        searches: &Searches,
        now_h: f64,
        (resolution, farthest_km): (Resolution, f64),
    ) -> Self {
        let mut shares = Vec::new();
        let mut elsewhere = 0.0;
        for centre in centres {
            for part in mover.parts(centre, now_h) {
                let mapped = (1.0 - LEFT_OUT / part.weight).min(MAPPED);
                if mapped <= 0.0 {
                    elsewhere += part.weight;
                    continue;
                }
                let radial = part.radial();
                let far_km = radial.reaching_km(mapped).min(farthest_km);
                let drawn = cells::by_cell(
                    part.position,
                    &radial,
                    part.heading.as_ref(),
                    far_km,
                    resolution,
                );
                elsewhere +=
                    part.weight * (1.0 - drawn.iter().map(|(_, p)| p).sum::<f64>()).max(0.0);
                shares.extend(drawn.into_iter().map(|(cell, p)| Share {
                    cell,
                    before: part.weight * p,
                    unfound: part.weight * p * searches.unfound(cell, centre.since_h, now_h),
                }));
            }
        }
        let shares = added_up(shares);
        let all = elsewhere + shares.iter().map(|share| share.unfound).sum::<f64>();
        let mut cells: Vec<CellProbability> = shares
            .iter()
            .map(|share| CellProbability {
                cell: share.cell.into(),
                p: share.unfound / all,
            })
            .collect();
        cells.sort_by(|a, b| b.p.total_cmp(&a.p).then(a.cell.cmp(&b.cell)));
        Self {
            cells,
            searches: effects(searches, &shares, all),
        }
    }
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
