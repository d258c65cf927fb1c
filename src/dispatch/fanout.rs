//! Fan-out: a worker claims a shard and decides over everybody in it, in one transaction.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use super::decide::{Decision, Known, Room, blocks, decide, one_per_person};
use super::{Dispatch, pause};
use crate::alert::recipients;
use crate::audience::eligibility::{Moment, WEEK};
use crate::config::Config;
use crate::model::{
    AlertId, App, AppId, Candidate, CapBudget, Case, CaseState, Kind, Reason, SubscriberFlags,
};
use crate::store::batches::{NewBatch, NewBatches};
use crate::store::rounds::{self, Shard};
use crate::store::subscribers::Candidates;
use crate::store::{
    Cause, Session, StoreError, alerts, batches, cases, holders, moves, reach, subscribers, told,
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
            let told = told
                .iter()
                .map(|(app, reason, people)| (app.as_str(), *reason, *people));
            dispatch.metrics.fanned_out(shard.kind, told);
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

/// People by app's name and reason over one shard.
type Told = Vec<(String, Reason, i64)>;

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

    let last_move = moves::last(&mut tx).await?;
    let found = subscribers::candidates(&mut tx, shard.kind, &shard.ranges).await?;
    let candidates = people_of(&mut tx, &found).await?;
    let blocks = blocks(&candidates);
    // Whoever got another number meanwhile must not be told under the old one: the shard begins anew.
    if told::lock_blocks(&mut tx, &blocks).await? > last_move {
        rounds::hand_back(&mut tx, shard, now).await?;
        tx.commit().await?;
        return Ok(None);
    }
    let lists = told::read(&mut tx, &blocks, alert.id, now - WEEK).await?;
    let apps: HashMap<AppId, App> = holders::apps(&mut tx)
        .await?
        .into_iter()
        .map(|app| (app.id, app))
        .collect();
    let budget = CapBudget::of(alert.urgency, alert.exercise);
    let moment = moment_of(&case, budget, now, &dispatch.config);
    let room = room_of_shard(&mut tx, &case, shard).await?;
    let known = Known {
        alert: alert.id,
        round: shard.round,
        told: &lists,
        apps: &apps,
        moment: &moment,
        room,
    };
    let decision = decide(&candidates, &known);

    told::put(
        &mut tx,
        alert.id,
        shard.round,
        budget,
        now,
        &decision.blocks,
    )
    .await?;
    let counts: Vec<(AppId, Reason, i64)> = decision
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
        probability: shard.probability,
        expires_at,
        batches: into_batches(&decision, dispatch.config.dispatch.batch_people),
    };
    batches::add(&mut tx, new, now).await?;
    if !rounds::finish_shard(&mut tx, shard, now).await? {
        return Ok(None);
    }
    tx.commit().await?;
    let name = |app| {
        apps.get(&app)
            .map(|app| app.name.clone())
            .unwrap_or_default()
    };
    let told = counts
        .into_iter()
        .map(|(app, reason, people)| (name(app), reason, people));
    Ok(Some(told.collect()))
}

/// These subscribers, one for each person.
pub(super) async fn people_of<'a>(
    session: &mut Session,
    found: &'a Candidates,
) -> Result<Vec<Candidate<'a>>, StoreError> {
    let found = found.iter().collect();
    Ok(one_per_person(where_last_seen(session, found).await?))
}

/// Leaves out people whom another app saw somewhere else, or here but later.
async fn where_last_seen<'a>(
    session: &mut Session,
    mut candidates: Vec<Candidate<'a>>,
) -> Result<Vec<Candidate<'a>>, StoreError> {
    let shared = |one: &Candidate<'_>| one.flags.has(SubscriberFlags::SHARED);
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

/// The moment for a case whose alert draws on `budget`.
pub(super) fn moment_of(case: &Case, budget: CapBudget, now: Timestamp, config: &Config) -> Moment {
    let category = case.profile.category;
    Moment::new(
        now,
        budget,
        category,
        case.audience,
        &case.time_zone,
        config,
    )
}

/// How many more may be told in a shard: of a budget each has a share.
async fn room_of_shard(
    session: &mut Session,
    case: &Case,
    shard: &Shard,
) -> Result<Option<Room>, StoreError> {
    let room = room_of(session, case, shard.alert).await?;
    Ok(tighter(room, reach::quota(session, shard.id).await?))
}

/// The tighter of what the case may still tell and the share of the budget that a shard has.
pub(super) fn tighter(room: Option<Room>, share: Option<i64>) -> Option<Room> {
    let share = share.map(|people| Room {
        people,
        reason: Reason::Budget,
    });
    room.into_iter().chain(share).min_by_key(|room| room.people)
}

/// How many more the case may tell; the tighter of ceiling and budget.
pub(super) async fn room_of(
    session: &mut Session,
    case: &Case,
    alert: AlertId,
) -> Result<Option<Room>, StoreError> {
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
    room.people = (room.people - alerts::issued(session, alert).await?).max(0);
    Ok(Some(room))
}

fn into_batches(decision: &Decision<'_>, people: u32) -> Vec<NewBatch> {
    let batches = decision.told.iter().flat_map(|(app, told)| {
        told.chunks(people as usize).map(|people| NewBatch {
            app: *app,
            people: i64::try_from(people.len()).unwrap_or(i64::MAX),
            recipients: recipients::encode(people),
        })
    });
    batches.collect()
}
