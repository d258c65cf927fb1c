//! Fan-out: a worker claims a shard and decides over everybody in it, in one transaction.

use std::collections::HashMap;

use jiff::SignedDuration;
use tokio_util::sync::CancellationToken;

use super::decide::{Decision, Known, Room, blocks, decide, one_per_person};
use super::{Dispatch, pause};
use crate::alert::recipients;
use crate::audience::eligibility::{Moment, WEEK, volunteers_only, zone_or_utc};
use crate::model::{
    App, AppId, Candidate, CapBudget, Case, CaseState, Kind, Reason, SubscriberFlags,
};
use crate::store::batches::NewBatches;
use crate::store::rounds::{self, Shard};
use crate::store::{
    Cause, Session, StoreError, Tx, alerts, batches, cases, holders, reach, subscribers, told,
};

/// Fans out shards as they come, until shutdown. A shard in hand at shutdown is finished.
pub(super) async fn run(dispatch: Dispatch, shutdown: CancellationToken) {
    let mut wake = dispatch.wake.shards.subscribe();
    loop {
        match work(&dispatch).await {
            Ok(true) if !shutdown.is_cancelled() => continue,
            Ok(_) => {}
            Err(error) if error.cause() == Cause::Conflict => {
                tracing::debug!(error = %error, "fan-out got in another's way, trying again");
            }
            Err(error) => tracing::warn!(error = %error, "fan-out failed, trying again"),
        }
        if !pause(&mut wake, dispatch.config.dispatch.poll(), &shutdown).await {
            return;
        }
    }
}

/// Claims and fans out one shard; `false` if none waits.
async fn work(dispatch: &Dispatch) -> Result<bool, StoreError> {
    let mut tx = dispatch.store.begin().await?;
    let now = tx.now().await?;
    let lease = dispatch.config.dispatch.shard_lease();
    let Some(shard) = rounds::claim_shard(&mut tx, now, lease).await? else {
        return Ok(false);
    };
    tx.commit().await?;
    // Another worker may help with the next one.
    dispatch.wake.shards();
    match fan_out(dispatch, &shard).await {
        Ok(Some(told)) => {
            dispatch.metrics.fanned_out(&told);
            dispatch.wake.batches();
        }
        Ok(None) => {}
        Err(error) => {
            // What fails again and again must not keep the others waiting.
            let wait = match error.cause() {
                Cause::Conflict => SignedDuration::ZERO,
                _ => SignedDuration::from_secs(shard.attempt.clamp(1, 60)),
            };
            let mut tx = dispatch.store.begin().await?;
            let now = tx.now().await?;
            rounds::hand_back(&mut tx, &shard, now + wait).await?;
            tx.commit().await?;
            return Err(error);
        }
    }
    Ok(true)
}

/// People by reason over one shard.
pub(crate) type Told = Vec<(AppId, Reason, i64)>;

/// Decides over everybody in a shard and writes told-list, batches and counts; `None` if the case
/// is no longer active or somebody else has the shard by now.
async fn fan_out(dispatch: &Dispatch, shard: &Shard) -> Result<Option<Told>, StoreError> {
    let mut tx = dispatch.store.begin().await?;
    let now = tx.now().await?;
    let Some(case) = cases::share(&mut tx, shard.case).await? else {
        return Ok(None);
    };
    let limited = case.ceiling.is_some() || case.budget.is_some();
    let alert = if limited {
        alerts::lock(&mut tx, shard.alert).await?
    } else {
        alerts::get(&mut tx, shard.alert).await?
    };
    let Some(alert) = alert.filter(|alert| alert.closed_at.is_none()) else {
        return Ok(None);
    };
    if case.state != CaseState::Active {
        rounds::hand_back(&mut tx, shard, now).await?;
        tx.commit().await?;
        return Ok(None);
    }
    let Some(expires_at) = alert.expires_at else {
        return Ok(None);
    };

    let candidates = subscribers::candidates(&mut tx, &shard.ranges).await?;
    let candidates = one_per_person(where_last_seen(&mut tx, candidates).await?);
    let blocks = blocks(&candidates);
    told::lock_blocks(&mut tx, &blocks).await?;
    let lists = told::read(&mut tx, &blocks, alert.id, now - WEEK).await?;
    let apps: HashMap<AppId, App> = holders::apps(&mut tx)
        .await?
        .into_iter()
        .map(|app| (app.id, app))
        .collect();
    let budget = CapBudget::of(alert.urgency, alert.exercise);
    let moment = moment(dispatch, &case, budget, now);
    let room = room(&mut tx, &case, shard).await?;
    let known = Known {
        alert: alert.id,
        round: shard.round,
        told: &lists,
        apps: &apps,
        moment: &moment,
        room,
    };
    let decision = decide(candidates, &known);

    told::put(
        &mut tx,
        alert.id,
        shard.round,
        budget,
        now,
        &decision.blocks,
    )
    .await?;
    let counts: Told = decision
        .counts
        .iter()
        .map(|((app, reason), people)| (*app, *reason, *people))
        .collect();
    rounds::add_counts(&mut tx, shard, &counts).await?;
    let new = NewBatches {
        alert: alert.id,
        revision: alert.revision,
        kind: Kind::Issue,
        round: shard.round,
        wave: shard.wave,
        urgency: shard.urgency,
        expires_at,
        batches: &into_batches(
            decision,
            dispatch.config.dispatch.batch_people,
            shard.probability,
        ),
    };
    batches::add(&mut tx, &new, now).await?;
    if !rounds::finish_shard(&mut tx, shard, now).await? {
        return Ok(None);
    }
    tx.commit().await?;
    Ok(Some(counts))
}

/// Leaves out people whom another app saw somewhere else, or here but later.
async fn where_last_seen(
    session: &mut Session,
    mut candidates: Vec<Candidate>,
) -> Result<Vec<Candidate>, StoreError> {
    let shared = |one: &Candidate| one.flags.has(SubscriberFlags::SHARED);
    let persons: Vec<_> = candidates
        .iter()
        .filter(|one| shared(one))
        .map(|one| one.person)
        .collect();
    if persons.is_empty() {
        return Ok(candidates);
    }
    let mut last = HashMap::new();
    for seen in subscribers::shared(session, &persons).await? {
        let rank = (seen.seen_at_ms, std::cmp::Reverse((seen.app, seen.token)));
        let best = last.entry(seen.person).or_insert_with(|| rank.clone());
        if rank > *best {
            *best = rank;
        }
    }
    candidates.retain_mut(|one| {
        let Some((seen_at_ms, std::cmp::Reverse((app, token)))) = last.get(&one.person) else {
            return true;
        };
        one.seen_at_ms = *seen_at_ms;
        !shared(one) || (one.app == *app && one.token == *token)
    });
    Ok(candidates)
}

fn moment(dispatch: &Dispatch, case: &Case, budget: CapBudget, now: jiff::Timestamp) -> Moment {
    let time_zone = zone_or_utc(&case.time_zone);
    let config = &dispatch.config;
    Moment {
        volunteers_only: volunteers_only(case.profile.category, case.audience),
        ..Moment::new(
            now,
            budget,
            &config.cap,
            &config.quiet_hours,
            &time_zone,
            config.audience.stale_after_h,
        )
    }
}

/// How many more the case may tell; the tighter of ceiling and budget.
async fn room(tx: &mut Tx, case: &Case, shard: &Shard) -> Result<Option<Room>, StoreError> {
    let limits = [
        (case.ceiling, Reason::Ceiling),
        (case.budget, Reason::Budget),
    ];
    let tightest = limits
        .into_iter()
        .filter_map(|(limit, reason)| limit.map(|people| Room { people, reason }))
        .min_by_key(|room| room.people);
    let Some(mut room) = tightest else {
        return Ok(None);
    };
    room.people = (room.people - alerts::issued(tx, shard.alert).await?).max(0);
    // Of a budget each shard has a share.
    if let Some(quota) = reach::quota(tx, shard.id).await?
        && quota < room.people
    {
        room = Room {
            people: quota,
            reason: Reason::Budget,
        };
    }
    Ok(Some(room))
}

fn into_batches(
    decision: Decision,
    people: u32,
    probability: f64,
) -> Vec<(AppId, f64, i64, Vec<u8>)> {
    let mut batches = Vec::new();
    for (app, told) in decision.told {
        for chunk in told.chunks(people as usize) {
            let (persons, tokens): (Vec<_>, Vec<_>) = chunk.iter().cloned().unzip();
            let count = i64::try_from(chunk.len()).unwrap_or(i64::MAX);
            batches.push((
                app,
                probability,
                count,
                recipients::encode(tokens, &persons),
            ));
        }
    }
    batches
}
