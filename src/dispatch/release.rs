//! Releasing due waves and sweeps: they wait in the database until the database's clock says so.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::cut::{CutShard, cut};
use super::{Dispatch, pause};
use prost::Message as _;

use crate::alert::area::area as area_for_phones;
use crate::area;
use crate::config::Approval;
use crate::model::{Actor, AlertId, AlertRecord, CaseId, CaseState, Cell, RoundKind, WaveState};
use crate::store::plans::{self, Wave};
use crate::store::rounds::{self, NewRound};
use crate::store::{StoreError, Tx, alerts, cases, subscribers, timeline};

/// How long a sweep waits for fan-out that is still going on.
const SWEEP_AGAIN: SignedDuration = SignedDuration::from_secs(1);

/// Releases whatever is due, until shutdown.
pub(super) async fn run(dispatch: Dispatch, shutdown: CancellationToken) {
    let mut wake = dispatch.wake.due.subscribe();
    loop {
        match release_due(&dispatch).await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(error = %error, "could not release what is due, trying again");
            }
        }
        if !pause(&mut wake, dispatch.config.dispatch.poll(), &shutdown).await {
            return;
        }
    }
}

/// Releases what is due now; says whether anything was. What fails does not keep the others waiting.
async fn release_due(dispatch: &Dispatch) -> Result<bool, StoreError> {
    let mut session = dispatch.store.read().await?;
    let now = session.now().await?;
    let waves = plans::due(&mut session, now).await?;
    let sweeps = alerts::due_sweeps(&mut session, now).await?;
    drop(session);
    let mut released = false;
    for (alert, number, case) in waves {
        match release_wave(dispatch, case, alert, number).await {
            Ok(()) => released = true,
            Err(error) => {
                tracing::warn!(case.id = %case, wave = number, error = %error, "wave not released");
            }
        }
    }
    for (alert, case) in sweeps {
        match release_sweep(dispatch, case, alert).await {
            Ok(()) => released = true,
            Err(error) => tracing::warn!(case.id = %case, error = %error, "sweep not released"),
        }
    }
    Ok(released)
}

/// Begins a transaction in which the case stays active and the alert open; `None` if they are not.
async fn begin_for(
    dispatch: &Dispatch,
    case: CaseId,
    alert: AlertId,
) -> Result<Option<(Tx, AlertRecord)>, StoreError> {
    let mut tx = dispatch.store.begin().await?;
    let active = cases::share(&mut tx, case)
        .await?
        .is_some_and(|c| c.state == CaseState::Active);
    let open = alerts::lock(&mut tx, alert)
        .await?
        .filter(|alert| alert.closed_at.is_none());
    Ok(open.filter(|_| active).map(|alert| (tx, alert)))
}

async fn release_wave(
    dispatch: &Dispatch,
    case: CaseId,
    alert: AlertId,
    number: i64,
) -> Result<(), StoreError> {
    let Some((mut tx, mut alert)) = begin_for(dispatch, case, alert).await? else {
        return Ok(());
    };
    let now = tx.now().await?;
    let Some(mut wave) = plans::lock_wave(&mut tx, alert.id, number).await? else {
        return Ok(());
    };
    if wave.state != WaveState::Waiting || wave.due_at > now {
        return Ok(());
    }
    let config = &dispatch.config.dispatch;
    let limit = wave
        .approved_by
        .is_none()
        .then_some(&dispatch.config.approval);
    let cost = cost_of_wave(&mut tx, &wave, limit).await?;
    if let Some(why) = &cost.needs_approval {
        wave.state = WaveState::Approval;
        wave.approval = Some(plans::Approval {
            why: why.clone(),
            subscribers: cost.subscribers,
            at_least: cost.at_least,
        });
        plans::change_wave(&mut tx, &wave).await?;
        let detail = json!({ "wave": number, "why": why, "subscribers": cost.subscribers });
        timeline::note(
            &mut tx,
            case,
            now,
            &Actor::Homeward,
            "wave_needs_approval",
            &detail,
        )
        .await?;
        tx.commit().await?;
        tracing::warn!(case.id = %case, wave = number, "wave needs a second operator's approval");
        return Ok(());
    }
    wave.state = WaveState::Released;
    wave.released_at = Some(now);
    plans::change_wave(&mut tx, &wave).await?;
    let waves = plans::waves(&mut tx, alert.id).await?;
    let (expires_at, next_sweep_at) = (now + config.issue_life(), now + config.sweep_every());
    let mut further = wave.cells.clone();
    further.extend(next_cells(&waves, number));
    let mut release = Release {
        alert: &mut alert,
        wave: number,
        released: released_cells(&waves),
        expires_at,
        next_sweep_at,
        shard_people: config.shard_people,
        now,
    };
    release.volunteers(&mut tx, &further).await?;
    let shards = cut(&wave.cells, &cost.by_cell, config.shard_people);
    let round = release
        .round(&mut tx, RoundKind::Wave, &shards, &[])
        .await?;
    let detail = json!({
        "wave": number, "round": round, "shards": shards.len(), "probability": wave.mass,
        "subscribers": cost.subscribers,
    });
    timeline::note(
        &mut tx,
        case,
        now,
        &Actor::Homeward,
        "wave_released",
        &detail,
    )
    .await?;
    tx.commit().await?;
    dispatch.metrics.rounds_released.inc();
    dispatch.wake.shards();
    tracing::info!(case.id = %case, wave = number, shards = shards.len(), "wave released");
    Ok(())
}

async fn release_sweep(
    dispatch: &Dispatch,
    case: CaseId,
    alert: AlertId,
) -> Result<(), StoreError> {
    let Some((mut tx, mut alert)) = begin_for(dispatch, case, alert).await? else {
        return Ok(());
    };
    let now = tx.now().await?;
    // Another server may have released it since it was found to be due.
    if alert.next_sweep_at.is_none_or(|at| at > now) {
        return Ok(());
    }
    let expires_at = alert.expires_at.filter(|at| *at > now);
    let Some(expires_at) = expires_at else {
        alerts::sweep_at(&mut tx, alert.id, None).await?;
        let detail = json!({ "alert": alert.id });
        timeline::note(
            &mut tx,
            case,
            now,
            &Actor::Homeward,
            "alert_expired",
            &detail,
        )
        .await?;
        return tx.commit().await;
    };
    let next_sweep_at = now + dispatch.config.dispatch.sweep_every();
    // A sweep that is not done yet covers the same people: never two at a time.
    if rounds::undone(&mut tx, alert.id).await? > 0 {
        alerts::sweep_at(&mut tx, alert.id, Some(now + SWEEP_AGAIN)).await?;
        return tx.commit().await;
    }
    let waves = plans::waves(&mut tx, alert.id).await?;
    let released = released_cells(&waves);
    let released_waves = waves
        .iter()
        .filter(|wave| wave.state == WaveState::Released);
    let last = released_waves.map(|wave| wave.number).max().unwrap_or(1);
    let by_cell =
        subscribers::count_by_cell(&mut tx, &area::ranges(&cells_of(&released)), i64::MAX).await?;
    let shard_people = dispatch.config.dispatch.shard_people;
    let shards = cut(&released, &by_cell, shard_people);
    let mut release = Release {
        alert: &mut alert,
        wave: last,
        released,
        expires_at,
        next_sweep_at,
        shard_people,
        now,
    };
    release
        .volunteers(&mut tx, &next_cells(&waves, last))
        .await?;
    release
        .round(&mut tx, RoundKind::Sweep, &shards, &[])
        .await?;
    tx.commit().await?;
    dispatch.metrics.rounds_released.inc();
    dispatch.wake.shards();
    tracing::debug!(case.id = %case, shards = shards.len(), "sweep released");
    Ok(())
}

/// What the rounds of one release have in common.
struct Release<'a> {
    alert: &'a mut AlertRecord,
    wave: i64,
    /// The cells of all waves released so far, this one too.
    released: Vec<(Cell, f64)>,
    expires_at: Timestamp,
    next_sweep_at: Timestamp,
    shard_people: i64,
    now: Timestamp,
}

impl Release<'_> {
    /// Releases a round to the volunteers in these cells, if there are any.
    async fn volunteers(&mut self, tx: &mut Tx, cells: &[(Cell, f64)]) -> Result<(), StoreError> {
        let by_cell = subscribers::volunteers_by_cell(tx, &area::ranges(&cells_of(cells))).await?;
        if !by_cell.is_empty() {
            let shards = cut(cells, &by_cell, self.shard_people);
            self.round(tx, RoundKind::Volunteers, &shards, cells)
                .await?;
        }
        Ok(())
    }

    /// Releases a round; its area for the phone is all that is released, and these cells. Gives the
    /// round's number.
    async fn round(
        &mut self,
        tx: &mut Tx,
        kind: RoundKind,
        shards: &[CutShard],
        further: &[(Cell, f64)],
    ) -> Result<i64, StoreError> {
        let mut cells = cells_of(&self.released);
        cells.extend(cells_of(further));
        cells.sort_unstable();
        cells.dedup();
        let round = NewRound {
            alert: self.alert,
            kind,
            wave: self.wave,
            expires_at: self.expires_at,
            next_sweep_at: self.next_sweep_at,
            area: &area_for_phones(&area::compact(&cells)).encode_to_vec(),
            shards,
        };
        self.alert.rounds = rounds::release(tx, &round, self.now).await?;
        Ok(self.alert.rounds)
    }
}

/// The cells of the wave after this one, if it goes out by itself.
fn next_cells(waves: &[Wave], number: i64) -> Vec<(Cell, f64)> {
    let next = waves
        .iter()
        .filter(|wave| wave.number > number)
        .min_by_key(|wave| wave.number);
    let next = next.filter(|wave| wave.state == WaveState::Waiting);
    next.map(|wave| wave.cells.clone()).unwrap_or_default()
}

/// What a wave would reach.
#[derive(Debug)]
pub struct Cost {
    /// Subscribers registered in its cells; counting stopped there if `at_least`.
    pub subscribers: i64,
    /// Whether there are more.
    pub at_least: bool,
    /// The rule that asks for a second operator, if one does.
    pub needs_approval: Option<String>,
    by_cell: Arc<HashMap<i64, i64>>,
}

/// Counts what a wave would reach, only as far as the limits ask if there are any.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn cost_of_wave(
    session: &mut crate::store::Session,
    wave: &Wave,
    limits: Option<&Approval>,
) -> Result<Cost, StoreError> {
    let cells: Vec<Cell> = wave.cells.iter().map(|(cell, _)| *cell).collect();
    let allowed = limits.map(|limits| allowed(wave.mass, limits));
    let stop = allowed.map_or(i64::MAX, |allowed| allowed.saturating_add(1));
    let by_cell = subscribers::count_by_cell(session, &area::ranges(&cells), stop).await?;
    let subscribers = by_cell.values().sum::<i64>();
    let needs_approval = allowed.filter(|allowed| subscribers > *allowed).map(|allowed| {
        format!(
            "it would reach more than {allowed} subscribers for {:.0} % of the probability of area",
            wave.mass * 100.0
        )
    });
    let at_least = needs_approval.is_some();
    Ok(Cost {
        subscribers,
        at_least,
        needs_approval,
        by_cell: Arc::new(by_cell),
    })
}

/// The most a wave may reach without a second operator.
fn allowed(mass: f64, limits: &Approval) -> i64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "people are far fewer than 2^52"
    )]
    let by_points = (limits.recipients_per_point as f64 * mass * 100.0) as i64;
    limits.recipients.min(by_points)
}

/// The cells of all released waves with their probability of area, best first.
fn released_cells(waves: &[Wave]) -> Vec<(Cell, f64)> {
    let mut cells: Vec<(Cell, f64)> = waves
        .iter()
        .filter(|wave| wave.state == WaveState::Released)
        .flat_map(|wave| wave.cells.iter().copied())
        .collect();
    cells.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    cells
}

fn cells_of(cells: &[(Cell, f64)]) -> Vec<Cell> {
    cells.iter().map(|(cell, _)| *cell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wave_is_wide_by_recipients_or_by_recipients_per_point() {
        let config = crate::config::Config::defaults().unwrap();
        assert_eq!(allowed(0.5, &config.approval), 100_000);
        assert_eq!(allowed(0.05, &config.approval), 50_000);
    }
}
