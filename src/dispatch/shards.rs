//! The shards of a round: its cells in runs, or where the case has a budget, its shares of that.

use std::collections::{HashMap, HashSet};

use super::Dispatch;
use super::budget::{Untold, share_out, small_enough};
use super::cut::{CutShard, cut};
use super::fanout::moment_of;
use crate::area::{self, Plan};
use crate::config::Config;
use crate::model::{AlertId, CapBudget, Case, CaseId, Cell, SUBSCRIBER_RESOLUTION, WaveState};
use crate::planning::alerted;
use crate::store::plans::{self, Wave};
use crate::store::reach::ShardTold;
use crate::store::{Session, StoreError, alerts, reach};

/// Cuts the cells of a round (best first) into shards; `by_cell` counts their subscribers. With a budget
/// it also says how many may be told in each, see [`share`].
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub(super) async fn of_round(
    session: &mut Session,
    dispatch: &Dispatch,
    case: &Case,
    alert: AlertId,
    cells: &[(Cell, f64)],
    by_cell: &HashMap<i64, i64>,
) -> Result<(Vec<CutShard>, Vec<i64>), StoreError> {
    let config = &dispatch.config;
    let Some(budget) = case.budget else {
        return Ok((
            cut(cells, by_cell, config.dispatch.shard_people),
            Vec::new(),
        ));
    };
    let so_far = SoFar::read(session, case.id, alert, budget).await?;
    share(session, config, case, &so_far, cells, by_cell).await
}

/// How far an alert with a budget has come.
pub(super) struct SoFar {
    /// Recipients left of the budget.
    pub left: i64,
    /// How many each of its shards told, where and when.
    pub told: Vec<ShardTold>,
    /// The waves that went out.
    pub released: Vec<Wave>,
    /// The cells of the others, with their probability of area.
    pub waiting: Vec<(Cell, f64)>,
    /// What the newest plan says of each cell.
    pub likely: Likely,
}

impl SoFar {
    /// As the store has it.
    ///
    /// # Errors
    /// [`StoreError`] if the database does not answer.
    pub async fn read(
        session: &mut Session,
        case: CaseId,
        alert: AlertId,
        budget: i64,
    ) -> Result<Self, StoreError> {
        let (released, waiting): (Vec<Wave>, Vec<Wave>) = plans::waves(session, alert)
            .await?
            .into_iter()
            .partition(|wave| wave.state == WaveState::Released);
        let plan = plans::latest::<Plan>(session, case).await?;
        Ok(Self {
            left: (budget - alerts::issued(session, alert).await?).max(0),
            told: reach::told_by_shard(session, alert).await?,
            released,
            waiting: waiting.into_iter().flat_map(|wave| wave.cells).collect(),
            likely: Likely::by(plan.as_ref().map(|stored| &stored.plan)),
        })
    }
}

/// Cuts the cells of a round of a case with a budget into shards, and says how many may be told in each:
/// the likeliest are told first, and those for whom nothing is left are in shards in which nobody may be.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub(super) async fn share(
    session: &mut Session,
    config: &Config,
    case: &Case,
    so_far: &SoFar,
    cells: &[(Cell, f64)],
    by_cell: &HashMap<i64, i64>,
) -> Result<(Vec<CutShard>, Vec<i64>), StoreError> {
    let shard_people = config.dispatch.shard_people;
    let likely = &so_far.likely;
    let cap_budget = CapBudget::of(case.urgency, case.exercise);
    let now = session.now().await?;
    let wanted = moment_of(case, cap_budget, now, config).wanted();
    let told: HashMap<Cell, f64> = alerted(session, &so_far.told, &so_far.released)
        .await?
        .into_iter()
        .flat_map(|wave| wave.cells)
        .collect();
    let here: Vec<Cell> = cells.iter().map(|(cell, _)| *cell).collect();
    let tellable = reach::tellable_by_cell(session, &area::ranges(&here), &wanted).await?;
    let round: Vec<Untold> = cells
        .iter()
        .map(|one| likely.untold(*one, &tellable, told.get(&one.0).copied()))
        .collect();
    let people_of = |cell: Cell| tellable.get(&cell.to_i64()).copied().unwrap_or(0);
    let round = small_enough(round, shard_people, people_of);
    let there: Vec<Cell> = so_far.waiting.iter().map(|(cell, _)| *cell).collect();
    let later = reach::tellable_by_cell(session, &area::ranges(&there), &wanted).await?;
    let later: Vec<Untold> = so_far
        .waiting
        .iter()
        .map(|one| likely.untold(*one, &later, None))
        .collect();
    let effort = config.area.settings.alert_effort;
    let told_here = share_out(&round, &later, effort, so_far.left);
    let told_now: HashSet<Cell> = told_here.iter().map(|(cell, ..)| *cell).collect();
    let rest: Vec<(Cell, f64)> = round
        .iter()
        .filter(|one| !told_now.contains(&one.cell))
        .map(|one| (one.cell, one.p))
        .collect();
    let (mut shards, mut quotas): (Vec<CutShard>, Vec<i64>) = told_here
        .into_iter()
        .map(|(_, shard, share)| (shard, share))
        .unzip();
    shards.extend(cut(&rest, by_cell, shard_people));
    quotas.resize(shards.len(), 0);
    Ok((shards, quotas))
}

/// A plan's probability of each cell.
pub(super) struct Likely(HashMap<Cell, f64>);

impl Likely {
    /// By this plan, if there is one.
    pub(super) fn by(plan: Option<&Plan>) -> Self {
        let cells = plan.iter().flat_map(|plan| plan.cells());
        Self(cells.map(|one| (one.cell, one.p)).collect())
    }

    /// Who may still be told in a cell, of those counted by subscriber cell. A cell that the newest plan no
    /// longer has keeps the probability it was released with.
    fn untold(
        &self,
        (cell, released_p): (Cell, f64),
        counts: &HashMap<i64, i64>,
        told: Option<f64>,
    ) -> Untold {
        let tellable: i64 = cell
            .index()
            .children(SUBSCRIBER_RESOLUTION)
            .filter_map(|child| counts.get(&Cell::from(child).to_i64()))
            .sum();
        #[expect(
            clippy::cast_possible_truncation,
            reason = "people are far fewer than 2^52"
        )]
        let told = told.unwrap_or(0.0).round() as i64;
        Untold {
            cell,
            p: self.0.get(&cell).copied().unwrap_or(released_p),
            people: (tellable - told).max(0),
        }
    }
}
