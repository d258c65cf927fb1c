//! Releasing due waves and sweeps: they wait in the database until the database's clock says so.

use jiff::{SignedDuration, Timestamp};
use prost::Message as _;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::cost::{Cost, cost_of_wave, volunteers_hear_early};
use super::cut::{CutShard, cut};
use super::{Dispatch, pause, shards};
use crate::alert::area::area as area_for_phones;
use crate::area;
use crate::audience::eligibility::volunteers_only;
use crate::config::Approval;
use crate::model::{
    Actor, AlertId, AlertRecord, Case, CaseId, CaseState, Cell, PlanCause, RoundKind, WaveState,
};
use crate::planning::NoPlan;
use crate::store::plans::{self, Wave, Why};
use crate::store::rounds::{self, NewRound};
use crate::store::{
    Session, StoreError, Tx, alerts, cases, reach, sightings, subscribers, timeline,
};

/// A plan as young as this is good for the next wave; an older one is made anew before it goes.
const FRESH: SignedDuration = SignedDuration::from_mins(1);

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
    let wait = dispatch.config.waves.sighting_wait();
    let waves = plans::due(&mut session, now, now - wait).await?;
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
) -> Result<Option<(Tx, Case, AlertRecord)>, StoreError> {
    let mut tx = dispatch.store.begin().await?;
    let active = cases::share(&mut tx, case)
        .await?
        .filter(|case| case.state == CaseState::Active);
    let open = alerts::lock(&mut tx, alert)
        .await?
        .filter(|alert| alert.closed_at.is_none());
    Ok(active.zip(open).map(|(case, alert)| (tx, case, alert)))
}

async fn release_wave(
    dispatch: &Dispatch,
    case: CaseId,
    alert: AlertId,
    number: i64,
) -> Result<(), StoreError> {
    let Some((mut tx, record, mut alert)) = begin_for(dispatch, case, alert).await? else {
        return Ok(());
    };
    let now = tx.now().await?;
    let Some(mut wave) = plans::lock_wave(&mut tx, alert.id, number).await? else {
        return Ok(());
    };
    if wave.state != WaveState::Waiting || wave.due_at > now {
        return Ok(());
    }
    let wait = dispatch.config.waves.sighting_wait();
    let (_, last) = sightings::unchecked(&mut tx, case, now - wait).await?;
    if alert.rounds > 0 && waits_until(wave.due_at, last, wait, now).is_some() {
        return Ok(());
    }
    // What was approved goes out as it was approved.
    let made_at = plans::made_at(&mut tx, wave.plan).await?;
    if wave.approved_by.is_none() && now.duration_since(made_at) > FRESH {
        let why = Why::from(PlanCause::WaveDue);
        let replanned = dispatch.planner.replan(&mut tx, &record, &alert, why, now);
        match replanned.await {
            Ok(plan) => {
                tx.commit().await?;
                tracing::info!(case.id = %case, plan, "planned anew, because a wave is due");
                return Ok(());
            }
            Err(NoPlan::Store(error)) => return Err(error),
            Err(error) => {
                tracing::warn!(case.id = %case, error = %error, "wave goes out as it was planned");
            }
        }
    }
    let config = &dispatch.config.dispatch;
    let approval = &dispatch.config.approval;
    let mut waves = plans::waves(&mut tx, alert.id).await?;
    let only = volunteers_only(record.profile.category, record.audience);
    let next = next_cells(&mut tx, &waves, number, &wave.cells, only, approval).await?;
    let limit = wave.approved_by.is_none().then_some(approval);
    let cost = cost_of_wave(&mut tx, &wave.cells, wave.mass, &next, only, limit).await?;
    if let Some(why) = &cost.needs_approval {
        return ask_for_approval(tx, case, wave, why, &cost, now).await;
    }
    wave.state = WaveState::Released;
    wave.released_at = Some(now);
    plans::change_wave(&mut tx, &wave).await?;
    let (shards, quotas) = shards::of_round(
        &mut tx,
        dispatch,
        &record,
        alert.id,
        &wave.cells,
        &cost.by_cell,
    )
    .await?;
    for one in waves.iter_mut().filter(|one| one.number == number) {
        one.state = WaveState::Released;
    }
    let (expires_at, next_sweep_at) = (now + config.issue_life(), now + config.sweep_every());
    let mut further = wave.cells.clone();
    further.extend(next);
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
    let round = release
        .round(&mut tx, RoundKind::Wave, &shards, &[])
        .await?;
    reach::set_quotas(&mut tx, alert.id, round, &quotas).await?;
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

/// Leaves a wide wave to a second operator.
async fn ask_for_approval(
    mut tx: Tx,
    case: CaseId,
    mut wave: Wave,
    why: &str,
    cost: &Cost,
    now: Timestamp,
) -> Result<(), StoreError> {
    let number = wave.number;
    wave.state = WaveState::Approval;
    wave.approval = Some(plans::Approval {
        why: why.to_owned(),
        subscribers: cost.subscribers,
        at_least: cost.at_least,
    });
    plans::change_wave(&mut tx, &wave).await?;
    let detail = json!({ "wave": number, "why": why, "subscribers": cost.subscribers });
    let what = "wave_needs_approval";
    timeline::note(&mut tx, case, now, &Actor::Homeward, what, &detail).await?;
    tx.commit().await?;
    tracing::warn!(case.id = %case, wave = number, "wave needs a second operator's approval");
    Ok(())
}

async fn release_sweep(
    dispatch: &Dispatch,
    case: CaseId,
    alert: AlertId,
) -> Result<(), StoreError> {
    let Some((mut tx, record, mut alert)) = begin_for(dispatch, case, alert).await? else {
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
    let (shards, quotas) =
        shards::of_round(&mut tx, dispatch, &record, alert.id, &released, &by_cell).await?;
    let mut release = Release {
        alert: &mut alert,
        wave: last,
        released,
        expires_at,
        next_sweep_at,
        shard_people: dispatch.config.dispatch.shard_people,
        now,
    };
    let only = volunteers_only(record.profile.category, record.audience);
    let approval = &dispatch.config.approval;
    let next = next_cells(&mut tx, &waves, last, &[], only, approval).await?;
    release.volunteers(&mut tx, &next).await?;
    let round = release
        .round(&mut tx, RoundKind::Sweep, &shards, &[])
        .await?;
    reach::set_quotas(&mut tx, alert.id, round, &quotas).await?;
    tx.commit().await?;
    dispatch.metrics.rounds_released.inc();
    dispatch.wake.shards();
    tracing::debug!(case.id = %case, shards = shards.len(), "sweep released");
    Ok(())
}

/// Until when a wave waits because sightings are being checked, the last of which came in at `last`; `None`
/// if it does not, or no longer. It waits so long after it was due and after that sighting came in,
/// whichever ends first.
#[must_use]
pub fn waits_until(
    due_at: Timestamp,
    last: Option<Timestamp>,
    wait: SignedDuration,
    now: Timestamp,
) -> Option<Timestamp> {
    let until = last?.min(due_at) + wait;
    (until > now).then_some(until)
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

/// The cells of the wave after this one, if the volunteers there hear with those `here`; `only` they, or
/// everybody later.
async fn next_cells(
    session: &mut Session,
    waves: &[Wave],
    number: i64,
    here: &[(Cell, f64)],
    only: bool,
    approval: &Approval,
) -> Result<Vec<(Cell, f64)>, StoreError> {
    let next = waves
        .iter()
        .filter(|wave| wave.number > number)
        .min_by_key(|wave| wave.number);
    let Some(next) = next.filter(|wave| wave.state == WaveState::Waiting) else {
        return Ok(Vec::new());
    };
    let early = next.approved_by.is_some()
        || volunteers_hear_early(session, here, &next.cells, next.mass, only, approval).await?;
    Ok(if early {
        next.cells.clone()
    } else {
        Vec::new()
    })
}

/// The cells of all released waves with their probability of area, best first.
pub(super) fn released_cells(waves: &[Wave]) -> Vec<(Cell, f64)> {
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
    fn a_wave_waits_for_a_sighting_but_not_for_ever() {
        let at = |minutes: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes);
        let wait = SignedDuration::from_mins(15);
        let waits = |due, last: Option<i64>, now| waits_until(at(due), last.map(at), wait, at(now));
        assert_eq!(waits(30, None, 30), None);
        assert_eq!(waits(30, Some(29), 30), Some(at(44)));
        assert_eq!(waits(30, Some(29), 44), None, "nobody looked at it");
        assert_eq!(waits(30, Some(40), 44), Some(at(45)));
        assert_eq!(waits(30, Some(44), 45), None, "however many come");
    }
}
