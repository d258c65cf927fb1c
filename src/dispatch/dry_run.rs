//! Who would be told if waves went out now, and why the others would not: read, shared out and decided as
//! the fan-out does it, with nothing written and nobody charged.

use std::collections::{BTreeMap, HashMap};

use roaring::RoaringBitmap;
use uuid::Uuid;

use super::cost::{ranges, volunteers_hear_early};
use super::cut::{CutShard, cut};
use super::decide::{Known, Room, blocks, decide};
use super::fanout::{moment_of, people_of, room_of, tighter};
use super::shards::{Likely, SoFar, share};
use crate::audience::eligibility::{Moment, WEEK};
use crate::config::Config;
use crate::model::{AlertId, App, AppId, CapBudget, Case, PlanId, Reason, RoundKind, WaveState};
use crate::planning::Draft;
use crate::store::plans::{NewWave, Wave};
use crate::store::reach::ShardTold;
use crate::store::told::{self, Told};
use crate::store::{Session, StoreError, holders, subscribers};

/// What one round would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WouldTell {
    /// Volunteers or wave.
    pub kind: RoundKind,
    /// The wave, by the number it has once the plan is made.
    pub wave: i64,
    /// People by app and reason; together they are everybody in the round's cells.
    pub counts: BTreeMap<(AppId, Reason), i64>,
}

/// What the waves that would follow from a plan of an open alert would do if they went out now, one after
/// the other.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn dry_run(
    session: &mut Session,
    config: &Config,
    case: &Case,
    alert: AlertId,
    draft: &Draft,
) -> Result<Vec<WouldTell>, StoreError> {
    let now = session.now().await?;
    let apps = holders::apps(session).await?;
    let budget = CapBudget::of(case.urgency, case.exercise);
    let so_far = match case.budget {
        Some(budget) => Some(SoFar {
            released: draft.released.clone(),
            likely: Likely::by(Some(&draft.plan)),
            ..SoFar::read(session, case.id, alert, budget).await?
        }),
        None => None,
    };
    let mut run = Run {
        config,
        case,
        alert,
        budget,
        apps: apps.into_iter().map(|app| (app.id, app)).collect(),
        moment: moment_of(case, budget, now, config),
        room: room_of(session, case, alert).await?,
        so_far,
        told: BTreeMap::new(),
    };
    let mut rounds = Vec::new();
    for (number, place) in (draft.last_number + 1..).zip(0..draft.waves.len()) {
        rounds.extend(run.release(session, number, &draft.waves[place..]).await?);
    }
    Ok(rounds)
}

/// A dry run on its way.
struct Run<'a> {
    config: &'a Config,
    case: &'a Case,
    alert: AlertId,
    budget: CapBudget,
    apps: HashMap<AppId, App>,
    moment: Moment,
    room: Option<Room>,
    so_far: Option<SoFar>,
    /// Who would have been told by now, beside those who were.
    told: BTreeMap<i64, RoaringBitmap>,
}

impl Run<'_> {
    /// Releases the first of these waves: to the volunteers there and in the next one, then to everybody.
    async fn release(
        &mut self,
        session: &mut Session,
        number: i64,
        waves: &[NewWave],
    ) -> Result<Vec<WouldTell>, StoreError> {
        let Some((wave, later)) = waves.split_first() else {
            return Ok(Vec::new());
        };
        let shard_people = self.config.dispatch.shard_people;
        let by_cell = subscribers::count_by_cell(session, &ranges(&wave.cells), i64::MAX).await?;
        let (shards, quotas) = match &mut self.so_far {
            Some(so_far) => {
                so_far.released.push(released(self.alert, number, wave));
                so_far.waiting = later.iter().flat_map(|wave| wave.cells.clone()).collect();
                share(
                    session,
                    self.config,
                    self.case,
                    so_far,
                    &wave.cells,
                    &by_cell,
                )
                .await?
            }
            None => (cut(&wave.cells, &by_cell, shard_people), Vec::new()),
        };
        let mut rounds = Vec::new();
        let only = self.moment.volunteers_only;
        let mut further = wave.cells.clone();
        if let Some(next) = later.first().filter(|wave| !wave.held)
            && volunteers_hear_early(
                session,
                &wave.cells,
                &next.cells,
                next.mass,
                only,
                &self.config.approval,
            )
            .await?
        {
            further.extend(&next.cells);
        }
        let by_cell = subscribers::volunteers_by_cell(session, &ranges(&further)).await?;
        if !by_cell.is_empty() {
            let kind = RoundKind::Volunteers;
            let shards = cut(&further, &by_cell, shard_people);
            let counts = self.round(session, kind, shards, &[]).await?;
            rounds.push(WouldTell {
                kind,
                wave: number,
                counts,
            });
        }
        let kind = RoundKind::Wave;
        let counts = self.round(session, kind, shards, &quotas).await?;
        rounds.push(WouldTell {
            kind,
            wave: number,
            counts,
        });
        Ok(rounds)
    }

    /// Fans out the shards of a round, of which each may tell as many as its quota, if there are any.
    async fn round(
        &mut self,
        session: &mut Session,
        kind: RoundKind,
        shards: Vec<CutShard>,
        quotas: &[i64],
    ) -> Result<BTreeMap<(AppId, Reason), i64>, StoreError> {
        let mut all = BTreeMap::new();
        for (place, (_, ranges)) in shards.into_iter().enumerate() {
            let found = subscribers::candidates(session, kind, &ranges).await?;
            let people = people_of(session, &found).await?;
            let blocks = blocks(&people);
            let since = self.moment.now - WEEK;
            let mut lists = told::read(session, &blocks, self.alert, since).await?;
            lists.extend(blocks.iter().filter_map(|block| self.told_in(*block)));
            let known = Known {
                alert: self.alert,
                round: THIS_ROUND,
                told: &lists,
                apps: &self.apps,
                moment: &self.moment,
                room: tighter(self.room, quotas.get(place).copied()),
            };
            let decision = decide(&people, &known);
            let mut told = 0;
            for ((app, reason), people) in decision.counts {
                *all.entry((app, reason)).or_default() += people;
                if reason == Reason::Told {
                    told += people;
                }
            }
            self.told.extend(decision.blocks);
            if let Some(room) = &mut self.room {
                room.people -= told;
            }
            if let Some(so_far) = &mut self.so_far {
                so_far.left -= told;
                let at = self.moment.now;
                so_far.told.push(ShardTold {
                    ranges,
                    people: told,
                    at,
                });
            }
        }
        Ok(all)
    }

    /// Who of a block would have been told by now.
    fn told_in(&self, block: i64) -> Option<Told> {
        Some(Told {
            block,
            alert: self.alert,
            round: THIS_ROUND,
            budget: self.budget,
            told_at: self.moment.now,
            people: self.told.get(&block)?.clone(),
        })
    }
}

/// A round that no alert has: rounds count from 1.
const THIS_ROUND: i64 = 0;

/// A wave as it stands once it has gone out.
fn released(alert: AlertId, number: i64, wave: &NewWave) -> Wave {
    Wave {
        alert,
        number,
        plan: PlanId(Uuid::nil()),
        plan_wave: wave.plan_wave,
        mass: wave.mass,
        cells: wave.cells.clone(),
        due_at: wave.due_at,
        state: WaveState::Released,
        approval: None,
        approved_by: None,
        released_at: None,
    }
}
