//! Sharing out what is left of a case's budget of recipients: pure.

use crate::area::{self, Crowd};
use crate::model::{Cell, SUBSCRIBER_RESOLUTION};

use super::cut::CutShard;

/// A cell and who may still be told in it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Untold {
    /// The cell.
    pub cell: Cell,
    /// Its probability of area.
    pub p: f64,
    /// How many people there have not been told.
    pub people: i64,
}

/// Shares out `left` recipients over the cells of a round and those of later ones (Koopman's optimum, see
/// [`area::allocate`]), and gives the round's cells that get some: a shard each, in the order of the cells,
/// with how many may be told there.
///
/// `effort` is what an alert does to a cell where as many people are as usual: see the area's settings.
/// "Usual" is the mean density of those of these cells where there is anybody.
#[must_use]
pub fn share_out(
    round: &[Untold],
    later: &[Untold],
    effort: f64,
    left: i64,
) -> Vec<(Cell, CutShard, i64)> {
    let all: Vec<Untold> = round.iter().chain(later).copied().collect();
    let km2 = |one: &Untold| one.cell.index().resolution().area_km2();
    let (people, where_any) = all
        .iter()
        .filter(|one| one.people > 0)
        .fold((0.0, 0.0), |(people, area), one| {
            (people + whole(one.people), area + km2(one))
        });
    let usual = people / f64::max(where_any, f64::MIN_POSITIVE);
    let crowds: Vec<Crowd> = all
        .iter()
        .map(|one| Crowd {
            p: one.p,
            alpha: effort / (usual * km2(one)),
            people: whole(one.people),
        })
        .collect();
    let shares = rounded(&area::allocate(&crowds, whole(left)).people, &all, left);
    round
        .iter()
        .zip(shares)
        .filter(|(_, share)| *share > 0)
        .map(|(one, share)| (one.cell, (one.p, area::ranges(&[one.cell])), share))
        .collect()
}

/// Cells of which those with more people than a shard has give way to their subscriber cells, on which
/// `people_of` says how many are there.
#[must_use]
pub fn small_enough(
    cells: Vec<Untold>,
    shard_people: i64,
    people_of: impl Fn(Cell) -> i64,
) -> Vec<Untold> {
    let mut small = Vec::with_capacity(cells.len());
    for one in cells {
        if one.people <= shard_people {
            small.push(one);
            continue;
        }
        let children = one
            .cell
            .index()
            .children_count(SUBSCRIBER_RESOLUTION)
            .max(1);
        let p = one.p / whole(i64::try_from(children).unwrap_or(i64::MAX));
        small.extend(
            one.cell
                .index()
                .children(SUBSCRIBER_RESOLUTION)
                .map(|child| Untold {
                    cell: child.into(),
                    p,
                    people: people_of(child.into()),
                }),
        );
    }
    small
}

/// Whole people that sum to the budget, or to all there are: each share rounded down, and those with the
/// largest remainders one more.
fn rounded(shares: &[f64], cells: &[Untold], left: i64) -> Vec<i64> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "no share is above the people of a cell"
    )]
    let mut people: Vec<i64> = shares
        .iter()
        .zip(cells)
        .map(|(share, cell)| (share.floor() as i64).min(cell.people))
        .collect();
    let mut by_remainder: Vec<usize> = (0..shares.len()).collect();
    by_remainder.sort_by(|a, b| (shares[*b].fract()).total_cmp(&shares[*a].fract()));
    let mut over = left - people.iter().sum::<i64>();
    for i in by_remainder {
        if over > 0 && shares[i] > 0.0 && people[i] < cells[i].people {
            people[i] += 1;
            over -= 1;
        }
    }
    people
}

#[expect(clippy::cast_precision_loss, reason = "people are far fewer than 2^52")]
const fn whole(people: i64) -> f64 {
    people as f64
}

#[cfg(test)]
mod tests {
    use h3o::Resolution;
    use proptest::prelude::*;

    use super::*;
    use crate::model::Position;

    fn cells(people: &[(f64, i64)]) -> Vec<Untold> {
        let centre = Cell::at(Position::new(57.15, -2.09).unwrap(), Resolution::Nine);
        let disk = centre.index().grid_disk::<Vec<_>>(4);
        people
            .iter()
            .zip(disk)
            .map(|((p, people), cell)| Untold {
                cell: cell.into(),
                p: *p,
                people: *people,
            })
            .collect()
    }

    fn shares(round: &[Untold], later: &[Untold], left: i64) -> Vec<(Cell, i64)> {
        share_out(round, later, 0.3, left)
            .into_iter()
            .map(|(cell, _, share)| (cell, share))
            .collect()
    }

    #[test]
    fn the_likeliest_are_told_first() {
        let round = cells(&[(0.3, 100), (0.1, 100), (0.02, 100)]);
        assert_eq!(shares(&round, &[], 60), [(round[0].cell, 60)]);
        // All of the first, and then the next.
        assert_eq!(
            shares(&round, &[], 130),
            [(round[0].cell, 100), (round[1].cell, 30)]
        );
        assert_eq!(shares(&round, &[], 1_000).len(), 3);
        assert!(shares(&round, &[], 0).is_empty());
    }

    #[test]
    fn where_very_many_are_not_all_of_them_are_needed() {
        let round = cells(&[(0.3, 10_000), (0.2, 100), (0.2, 100), (0.2, 100)]);
        let told = shares(&round, &[], 5_000);
        assert_eq!(told.len(), 4);
        assert!(told[0].1 < 5_000, "{told:?}");
        assert_eq!(told.iter().map(|(_, share)| share).sum::<i64>(), 5_000);
    }

    #[test]
    fn something_is_kept_for_later_where_it_does_more() {
        let all = cells(&[(0.3, 10_000), (0.29, 100)]);
        let told = shares(&all[..1], &all[1..], 5_000);
        assert_eq!(told, [(all[0].cell, 4_900)]);
    }

    #[test]
    fn a_crowded_cell_is_cut_into_smaller_ones() {
        let mut one = cells(&[(0.7, 70)]);
        one[0].cell = one[0]
            .cell
            .index()
            .parent(Resolution::Eight)
            .unwrap()
            .into();
        let small = small_enough(one, 50, |_| 10);
        assert_eq!(small.len(), 7);
        assert!((small[0].p - 0.1).abs() < 1e-12 && small[0].people == 10);
    }

    proptest! {
        #[test]
        fn nobody_too_many_and_as_many_as_there_are(
            crowd in proptest::collection::vec((1e-6_f64..0.2, 0_i64..300), 1..30),
            left in 0_i64..5_000,
        ) {
            let round = cells(&crowd);
            let told = shares(&round, &[], left);
            let there: i64 = round.iter().map(|one| one.people).sum();
            prop_assert_eq!(told.iter().map(|(_, share)| share).sum::<i64>(), left.min(there));
            for (cell, share) in told {
                let one = round.iter().find(|one| one.cell == cell).unwrap();
                prop_assert!(share <= one.people);
            }
        }
    }
}
