//! What is known of a case beside its report, as the store has it.

use std::collections::HashMap;

use h3o::{CellIndex, Resolution};
use jiff::{SignedDuration, Timestamp};

use crate::area;
use crate::model::{AlertRecord, CaseId, Cell, SearchedArea, Sighting};
use crate::store::plans::Wave;
use crate::store::reach::ShardTold;
use crate::store::{Session, StoreError, reach, searches, sightings, subscribers};

/// What is known of a case beside its report.
#[derive(Debug)]
pub struct Facts {
    /// All sightings.
    pub sightings: Vec<Sighting>,
    /// All searches on the ground.
    pub searches: Vec<SearchedArea>,
    /// Whom each released wave told.
    pub alerted: Vec<Alerted>,
}

/// Whom a released wave told, and the sweeps over its cells.
#[derive(Debug, Clone, PartialEq)]
pub struct Alerted {
    /// The wave's number.
    pub wave: i64,
    /// When they were told, on average: a sweep in the morning may tell those whom the wave found asleep.
    pub at: Timestamp,
    /// Its cells in which anybody was told, with how many.
    pub cells: Vec<(Cell, f64)>,
}

impl Facts {
    /// Reads them.
    ///
    /// # Errors
    /// [`StoreError`] if the database does not answer.
    pub async fn read(
        session: &mut Session,
        case: CaseId,
        alert: Option<&AlertRecord>,
        released: &[Wave],
    ) -> Result<Self, StoreError> {
        Ok(Self {
            sightings: sightings::of_case(session, case).await?,
            searches: searches::of_case(session, case).await?,
            alerted: match alert {
                Some(alert) => {
                    let told = reach::told_by_shard(session, alert.id).await?;
                    alerted(session, &told, released).await?
                }
                None => Vec::new(),
            },
        })
    }
}

/// Whom the released waves of an alert told, as far as it is known where: how many each shard told.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn alerted(
    session: &mut Session,
    told: &[ShardTold],
    released: &[Wave],
) -> Result<Vec<Alerted>, StoreError> {
    if released.is_empty() {
        return Ok(Vec::new());
    }
    let cells: Vec<Cell> = released.iter().flat_map(cells_of).collect();
    let registered = subscribers::count_by_cell(session, &area::ranges(&cells), i64::MAX).await?;
    Ok(spread(released, told, registered))
}

fn cells_of(wave: &Wave) -> impl Iterator<Item = Cell> + '_ {
    wave.cells.iter().map(|(cell, _)| *cell)
}

/// Spreads what each shard told over its cells, in proportion to who is registered there now: how many
/// were told is known by shard only. Nobody is spread where nobody is registered any more.
fn spread(released: &[Wave], told: &[ShardTold], registered: HashMap<i64, i64>) -> Vec<Alerted> {
    let mut places: HashMap<CellIndex, (usize, usize)> = HashMap::new();
    for (w, wave) in released.iter().enumerate().rev() {
        places.extend(
            cells_of(wave)
                .enumerate()
                .map(|(c, cell)| (cell.index(), (w, c))),
        );
    }
    let mut resolutions: Vec<Resolution> = places.keys().map(|cell| cell.resolution()).collect();
    resolutions.sort_unstable();
    resolutions.dedup();
    let place = |number: i64| {
        let cell = Cell::from_i64(number).ok()?.index();
        resolutions
            .iter()
            .filter_map(|resolution| cell.parent(*resolution))
            .find_map(|ancestor| places.get(&ancestor).copied())
    };
    let mut registered: Vec<(i64, f64)> = registered
        .into_iter()
        .map(|(cell, people)| (cell, whole(people)))
        .collect();
    registered.sort_unstable_by_key(|(cell, _)| *cell);
    let mut alerted: Vec<Alerted> = released
        .iter()
        .map(|wave| Alerted {
            wave: wave.number,
            at: Timestamp::UNIX_EPOCH,
            cells: cells_of(wave).map(|cell| (cell, 0.0)).collect(),
        })
        .collect();
    // How many in each cell, and the sum of the seconds at which each was told. A sweep may have told, after
    // the text was changed, whom the wave had told: nobody counts twice.
    let mut told_by_cell = vec![(0.0, 0.0); registered.len()];
    for shard in told {
        let within: Vec<usize> = shard
            .ranges
            .iter()
            .flat_map(|range| {
                registered.partition_point(|(cell, _)| *cell < range.lo)
                    ..registered.partition_point(|(cell, _)| *cell <= range.hi)
            })
            .collect();
        let all: f64 = within.iter().map(|i| registered[*i].1).sum();
        for i in within {
            let share = whole(shard.people) * registered[i].1 / all;
            let (people, moments) = &mut told_by_cell[i];
            let share = share.min(registered[i].1 - *people);
            *people += share;
            *moments += share * whole(shard.at.as_second());
        }
    }
    let mut told_by_wave = vec![(0.0, 0.0); alerted.len()];
    for ((cell, _), (people, moments)) in registered.iter().zip(told_by_cell) {
        if let Some((w, c)) = place(*cell) {
            alerted[w].cells[c].1 += people;
            told_by_wave[w].0 += people;
            told_by_wave[w].1 += moments;
        }
    }
    for (wave, (people, moments)) in alerted.iter_mut().zip(told_by_wave) {
        if people > 0.0 {
            wave.at += SignedDuration::from_secs_f64(moments / people);
        }
    }
    // What an alert does is measured by how many are told where there are any.
    for wave in &mut alerted {
        wave.cells.retain(|(_, people)| *people > 0.0);
    }
    alerted.retain(|wave| !wave.cells.is_empty());
    alerted
}

#[expect(clippy::cast_precision_loss, reason = "people are far fewer than 2^52")]
const fn whole(people: i64) -> f64 {
    people as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AlertId, PlanId, Position, SUBSCRIBER_RESOLUTION, WaveState};

    fn wave(number: i64, cells: &[CellIndex]) -> Wave {
        Wave {
            alert: AlertId::fresh(),
            number,
            plan: PlanId::fresh(),
            plan_wave: number,
            mass: 0.5,
            cells: cells.iter().map(|cell| ((*cell).into(), 0.1)).collect(),
            due_at: Timestamp::UNIX_EPOCH,
            state: WaveState::Released,
            approval: None,
            approved_by: None,
            released_at: Some(Timestamp::UNIX_EPOCH),
        }
    }

    #[test]
    fn whom_a_shard_told_is_spread_over_who_is_there() {
        let here = Cell::at(Position::new(57.15, -2.09).unwrap(), Resolution::Eight).index();
        let coarse = here.grid_disk::<Vec<_>>(1);
        let [one, two] = [coarse[0], coarse[1]];
        let waves = [wave(1, &[one]), wave(2, &[two])];
        let child = |cell: CellIndex, n: usize| -> Cell {
            cell.children(SUBSCRIBER_RESOLUTION).nth(n).unwrap().into()
        };
        let registered = HashMap::from([
            (child(one, 0).to_i64(), 30),
            (child(one, 1).to_i64(), 10),
            (child(two, 0).to_i64(), 40),
        ]);
        let told = |cells: &[CellIndex], people, at| {
            let cells: Vec<Cell> = cells.iter().copied().map(Cell::from).collect();
            let at = Timestamp::from_second(at).unwrap();
            ShardTold {
                ranges: area::ranges(&cells),
                people,
                at,
            }
        };
        // A wave told 20 in the one, and a sweep 24 in both.
        let both = [told(&[one], 20, 0), told(&[one, two], 24, 640)];
        let alerted = spread(&waves, &both, registered.clone());
        let people = |alerted: &[Alerted]| -> Vec<f64> {
            alerted.iter().map(|wave| wave.cells[0].1).collect()
        };
        assert_eq!(people(&alerted), [20.0 + 12.0, 12.0]);
        // When they were told on average, by the waves' cells.
        let at = |wave: &Alerted| wave.at.as_second();
        assert_eq!((at(&alerted[0]), at(&alerted[1])), (240, 640));
        // Never more than there are.
        let often = spread(
            &waves,
            &[told(&[one], 40, 0), told(&[one], 40, 640)],
            registered,
        );
        assert_eq!((people(&often), at(&often[0])), (vec![40.0], 0));
        assert!(spread(&waves, &both, HashMap::new()).is_empty());
    }
}
