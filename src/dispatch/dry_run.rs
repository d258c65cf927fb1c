//! Who would be told if waves went out now, and why the others would not: read and decided as the
//! fan-out does it, with nothing written and nobody charged.

use std::collections::{BTreeMap, HashMap};

use roaring::RoaringBitmap;

use super::cost::goes_by_itself;
use super::cut::cut;
use super::decide::{Known, blocks, decide};
use super::fanout::{moment_of, people_of, room_of};
use crate::area;
use crate::audience::eligibility::WEEK;
use crate::config::Config;
use crate::model::{AlertId, App, AppId, CapBudget, Case, Cell, Reason, RoundKind};
use crate::store::plans::NewWave;
use crate::store::told::{self, Told};
use crate::store::{Session, StoreError, holders, subscribers};

/// What one round would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WouldTell {
    /// Volunteers or wave.
    pub kind: RoundKind,
    /// The wave.
    pub wave: i64,
    /// People by app and reason; together they are everybody in the round's cells.
    pub counts: BTreeMap<(AppId, Reason), i64>,
}

/// What these waves of an open alert, numbered after the wave `last`, would do if they went out now, one
/// after the other.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn dry_run(
    session: &mut Session,
    config: &Config,
    case: &Case,
    alert: AlertId,
    last: i64,
    waves: &[NewWave],
) -> Result<Vec<WouldTell>, StoreError> {
    let now = session.now().await?;
    let apps: HashMap<AppId, App> = holders::apps(session)
        .await?
        .into_iter()
        .map(|app| (app.id, app))
        .collect();
    let budget = CapBudget::of(case.urgency, case.exercise);
    let moment = moment_of(case, budget, now, config);
    let mut room = room_of(session, case, alert).await?;
    let mut told_here: BTreeMap<i64, RoaringBitmap> = BTreeMap::new();
    let mut rounds = Vec::new();
    for (place, wave) in waves.iter().enumerate() {
        let next = waves.get(place + 1).filter(|wave| !wave.held);
        let mut with_further = wave.cells.clone();
        if let Some(next) = next
            && goes_by_itself(session, &next.cells, next.mass, &config.approval).await?
        {
            with_further.extend(&next.cells);
        }
        let parts = [
            (RoundKind::Volunteers, with_further),
            (RoundKind::Wave, wave.cells.clone()),
        ];
        let number = last + 1 + i64::try_from(place).unwrap_or(i64::MAX);
        for (kind, cells) in parts {
            let all: Vec<Cell> = cells.iter().map(|(cell, _)| *cell).collect();
            let ranges = area::ranges(&all);
            let by_cell = match kind {
                RoundKind::Volunteers => subscribers::volunteers_by_cell(session, &ranges).await?,
                _ => subscribers::count_by_cell(session, &ranges, i64::MAX).await?,
            };
            if by_cell.is_empty() && kind == RoundKind::Volunteers {
                continue;
            }
            let mut counts = BTreeMap::new();
            for (_, ranges) in cut(&cells, &by_cell, config.dispatch.shard_people) {
                let found = subscribers::candidates(session, kind, &ranges).await?;
                let people = people_of(session, &found).await?;
                let blocks = blocks(&people);
                let mut lists = told::read(session, &blocks, alert, now - WEEK).await?;
                lists.extend(blocks.iter().filter_map(|block| {
                    let people = told_here.get(block)?.clone();
                    let (block, round, told_at) = (*block, THIS_ROUND, now);
                    Some(Told {
                        block,
                        alert,
                        round,
                        budget,
                        told_at,
                        people,
                    })
                }));
                let known = Known {
                    alert,
                    round: THIS_ROUND,
                    told: &lists,
                    apps: &apps,
                    moment: &moment,
                    room,
                };
                let decision = decide(&people, &known);
                for ((app, reason), people) in decision.counts {
                    *counts.entry((app, reason)).or_default() += people;
                    if let (Reason::Told, Some(room)) = (reason, &mut room) {
                        room.people -= people;
                    }
                }
                told_here.extend(decision.blocks);
            }
            rounds.push(WouldTell {
                kind,
                wave: number,
                counts,
            });
        }
    }
    Ok(rounds)
}

/// A round that no alert has: rounds count from 1.
const THIS_ROUND: i64 = 0;
