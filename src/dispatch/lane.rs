//! Lanes: one sender per app, at the app's agreed rate, best batch first.
//!
//! A lane is owned by lease with a fencing number. Its owner stops at two thirds of the lease by its
//! own clock, and a successor starts with an empty bucket, so the app's rate holds through a change.

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use jiff::{SignedDuration, Timestamp};
use prost::Message as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::recall::persons;
use super::{Dispatch, pause};
use crate::alert::compose;
use crate::audience::eligibility::{LATE, is_quiet, zone_or_utc};
use crate::model::{App, AppId, BatchId, Kind};
use crate::queue::{Message, PublishError};
use crate::store::sending::{Claimed, Order};
use crate::store::{Session, StoreError, holders, lanes, sending, told};

/// Batches looked at, claimed and published together.
const WINDOW: i64 = 64;
/// Of every ten people told, one is taken from the lowest urgency, so that nothing starves.
const LOWEST_SHARE: i64 = 10;
/// How often new apps are looked for.
const APPS_EVERY: Duration = Duration::from_secs(2);
/// How long to wait for room in a full queue before looking at the backlog again.
const ROOM_WAIT: Duration = Duration::from_millis(250);
/// How long to wait before recording again what became of batches.
const RECORD_AGAIN: Duration = Duration::from_millis(100);

/// Keeps one lane running for every app, until shutdown.
pub(super) async fn run(dispatch: Dispatch, shutdown: CancellationToken) {
    let owner = Uuid::now_v7();
    let running: Arc<Mutex<HashSet<AppId>>> = Arc::default();
    let mut lanes = tokio::task::JoinSet::new();
    loop {
        let apps = match dispatch.store.read().await {
            Ok(mut session) => holders::apps(&mut session).await,
            Err(error) => Err(error),
        };
        for app in apps.unwrap_or_default() {
            if running
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(app.id)
            {
                let lane = Lane::new(dispatch.clone(), owner, app.id, shutdown.clone());
                lanes.spawn(lane.run());
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(APPS_EVERY) => {}
        }
    }
    while lanes.join_next().await.is_some() {}
}

struct Lane {
    dispatch: Dispatch,
    owner: Uuid,
    app: AppId,
    shutdown: CancellationToken,
    wake: watch::Receiver<u64>,
}

/// A lane in this owner's hands.
struct Tenure {
    app: App,
    fence: i64,
    /// Until when the owner may act, by its own clock.
    until: Instant,
    limiter: DefaultDirectRateLimiter,
    /// People told since the lowest urgency had its share.
    since_lowest: i64,
}

/// What a turn of the lane came to.
enum Turn {
    /// Something was sent: go on.
    Sent,
    /// Nothing waits.
    Idle,
    /// The rate allows no more for so long.
    Throttled(Duration),
    /// The app's queue is full.
    Full,
}

impl Lane {
    fn new(dispatch: Dispatch, owner: Uuid, app: AppId, shutdown: CancellationToken) -> Self {
        let wake = dispatch.wake.batches_listener();
        Self {
            dispatch,
            owner,
            app,
            shutdown,
            wake,
        }
    }

    /// Takes the lane whenever it is free and sends until the lease is lost.
    async fn run(mut self) {
        while !self.shutdown.is_cancelled() {
            match self.acquire().await {
                Ok(Some(tenure)) => self.hold(tenure).await,
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(app.id = self.app.0, error = %error, "lane could not be taken");
                }
            }
            let wait = self.dispatch.config.dispatch.lane_lease() / 8;
            tokio::select! {
                () = self.shutdown.cancelled() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn acquire(&self) -> Result<Option<Tenure>, StoreError> {
        let started = Instant::now();
        let lease = self.dispatch.config.dispatch.lane_lease();
        let mut tx = self.dispatch.store.begin().await?;
        let now = tx.now().await?;
        let fence = lanes::acquire(&mut tx, self.app, self.owner, now, signed(lease)).await?;
        let app = holders::app(&mut tx, self.app).await?;
        let (Some(fence), Some(app)) = (fence, app) else {
            return Ok(None);
        };
        let queue_lost = self.dispatch.queue.reset(self.app);
        let recovered = sending::recover(&mut tx, self.app, queue_lost, now).await?;
        tx.commit().await?;
        if recovered.requeued > 0 {
            tracing::info!(
                app.id = self.app.0,
                batches = recovered.requeued,
                "batches not known to be taken go out again"
            );
        }
        self.dispatch
            .metrics
            .batches_again
            .inc_by(recovered.requeued);
        let limiter = limiter(&app, self.dispatch.config.dispatch.batch_people);
        Ok(Some(Tenure {
            app,
            fence,
            until: started + lease * 2 / 3,
            limiter,
            since_lowest: 0,
        }))
    }

    /// Sends while the lease lasts.
    async fn hold(&mut self, mut tenure: Tenure) {
        let mut renew_at = Instant::now() + self.renew_every();
        loop {
            if self.shutdown.is_cancelled() {
                self.release(&tenure).await;
                return;
            }
            if Instant::now() >= renew_at {
                match self.renew(&mut tenure).await {
                    Ok(true) => renew_at = Instant::now() + self.renew_every(),
                    Ok(false) => return,
                    Err(error) => {
                        tracing::warn!(app.id = self.app.0, error = %error, "lane not renewed");
                    }
                }
            }
            if Instant::now() >= tenure.until {
                tracing::warn!(app.id = self.app.0, "lane's lease ran out, sending stops");
                return;
            }
            let wait = match self.turn(&mut tenure).await {
                Ok(Turn::Sent) => continue,
                Ok(Turn::Idle) => self.dispatch.config.dispatch.poll(),
                Ok(Turn::Throttled(wait)) => wait,
                Ok(Turn::Full) => {
                    self.dispatch.queue.room(self.app, ROOM_WAIT).await;
                    continue;
                }
                Err(error) => {
                    // What was claimed may not be recorded: taking the lane anew sorts it out.
                    tracing::warn!(app.id = self.app.0, error = %error, "lane failed, taken anew");
                    self.release(&tenure).await;
                    return;
                }
            };
            let wait = wait.min(renew_at.saturating_duration_since(Instant::now()));
            pause(&mut self.wake, wait, &self.shutdown).await;
        }
    }

    fn renew_every(&self) -> Duration {
        self.dispatch.config.dispatch.lane_lease() / 3
    }

    async fn renew(&self, tenure: &mut Tenure) -> Result<bool, StoreError> {
        let started = Instant::now();
        let lease = self.dispatch.config.dispatch.lane_lease();
        let mut tx = self.dispatch.store.begin().await?;
        let now = tx.now().await?;
        let owner = self.owner;
        let renewed =
            lanes::renew(&mut tx, self.app, owner, tenure.fence, now, signed(lease)).await?;
        let app = holders::app(&mut tx, self.app).await?;
        tx.commit().await?;
        let Some(app) = app.filter(|_| renewed) else {
            return Ok(false);
        };
        if app.rate_per_s != tenure.app.rate_per_s {
            tenure.limiter = limiter(&app, self.dispatch.config.dispatch.batch_people);
        }
        tenure.app = app;
        tenure.until = started + lease * 2 / 3;
        Ok(true)
    }

    async fn release(&self, tenure: &Tenure) {
        let released: Result<(), StoreError> = async {
            let mut tx = self.dispatch.store.begin().await?;
            lanes::release(&mut tx, self.app, self.owner, tenure.fence).await?;
            tx.commit().await
        }
        .await;
        if let Err(error) = released {
            tracing::info!(app.id = self.app.0, error = %error, "lane not given back, it will lapse");
        }
    }

    /// Picks, claims and publishes what the rate allows now.
    async fn turn(&self, tenure: &mut Tenure) -> Result<Turn, StoreError> {
        if tenure.app.paused {
            return Ok(Turn::Idle);
        }
        let mut session = self.dispatch.store.read().await?;
        if lanes::held(&mut session).await? {
            return Ok(Turn::Idle);
        }
        let now = session.now().await?;
        let lowest = tenure.since_lowest
            >= (LOWEST_SHARE - 1) * i64::from(self.dispatch.config.dispatch.batch_people);
        let (order, limit) = if lowest {
            (Order::Lowest, 1)
        } else {
            (Order::Best, WINDOW)
        };
        let quiet = self.quiet_zones(&mut session, now).await?;
        let next = sending::next(&mut session, self.app, now, order, limit, &quiet).await?;
        drop(session);
        let ids = match allowed(&next, &tenure.limiter) {
            Ok(ids) if ids.is_empty() => return Ok(Turn::Idle),
            Ok(ids) => ids,
            Err(wait) => return Ok(Turn::Throttled(wait)),
        };
        tenure.since_lowest = if lowest {
            0
        } else {
            let people = next
                .iter()
                .filter(|(id, _)| ids.contains(id))
                .map(|(_, n)| n);
            tenure.since_lowest + people.sum::<i64>()
        };

        let mut tx = self.dispatch.store.begin().await?;
        let owner = (self.app, self.owner, tenure.fence);
        let claimed = sending::claim(&mut tx, owner, &ids, &quiet, now).await?;
        let mut late: Vec<_> = claimed
            .iter()
            .filter(|one| one.first && one.batch.kind == Kind::Issue)
            .filter(|one| now.duration_since(one.made_at) > LATE)
            .map(|one| (one.batch.alert, one.round))
            .collect();
        late.sort_unstable();
        late.dedup();
        for (alert, round) in late {
            told::sent_late(&mut tx, alert, round, now).await?;
        }
        tx.commit().await?;
        self.publish(tenure, claimed).await
    }

    /// The time zones of active cases in which it is night.
    async fn quiet_zones(
        &self,
        session: &mut Session,
        now: Timestamp,
    ) -> Result<Vec<String>, StoreError> {
        let hours = &self.dispatch.config.quiet_hours;
        let mut zones = sending::active_zones(session).await?;
        zones.retain(|zone| is_quiet(now, hours, &zone_or_utc(zone)));
        Ok(zones)
    }

    /// Publishes what was claimed and records what became of it.
    async fn publish(&self, tenure: &Tenure, claimed: Vec<Claimed>) -> Result<Turn, StoreError> {
        if claimed.is_empty() {
            return Ok(Turn::Idle);
        }
        let mut outcome = Outcome::default();
        for Claimed { batch, first, .. } in claimed {
            let body = match compose::batch(&batch) {
                Ok(body) => body.encode_to_vec(),
                Err(error) => {
                    outcome.unreadable.push((batch.id, error.to_string()));
                    continue;
                }
            };
            let (id, expires_at) = (batch.id, batch.expires_at);
            let message = Message {
                id,
                body,
                expires_at,
            };
            let published = if outcome.full() || Instant::now() >= tenure.until {
                Err(PublishError::Full)
            } else {
                self.dispatch.queue.publish(&tenure.app, message).await
            };
            match published {
                Ok(()) => {
                    let metrics = &self.dispatch.metrics;
                    metrics.sent(&tenure.app.name, batch.kind, batch.people);
                    outcome.sent.push(id);
                }
                Err(PublishError::Full) if first => outcome.back_first.push(id),
                Err(PublishError::Full) => outcome.back_again.push(id),
            }
        }
        loop {
            match self.record(tenure, &outcome).await {
                Ok(()) => break,
                Err(error) if Instant::now() >= tenure.until => return Err(error),
                Err(error) => {
                    tracing::warn!(app.id = self.app.0, error = %error, "not recorded, trying again");
                    tokio::time::sleep(RECORD_AGAIN).await;
                }
            }
        }
        Ok(if outcome.full() {
            Turn::Full
        } else {
            Turn::Sent
        })
    }

    async fn record(&self, tenure: &Tenure, outcome: &Outcome) -> Result<(), StoreError> {
        let (app, fence) = (self.app, tenure.fence);
        let mut tx = self.dispatch.store.begin().await?;
        let now = tx.now().await?;
        let back = outcome.back_first.iter().chain(&outcome.back_again);
        let back: Vec<Uuid> = back.map(|id| id.0).collect();
        sending::share_cases(&mut tx, &back).await?;
        sending::sent(&mut tx, app, fence, &outcome.sent, now).await?;
        sending::give_back(&mut tx, app, fence, &outcome.back_again, false).await?;
        let never_sent = sending::give_back(&mut tx, app, fence, &outcome.back_first, true).await?;
        let people = never_sent
            .into_iter()
            .flat_map(|(alert, recipients)| persons(alert, &[recipients]));
        told::take_off(&mut tx, people).await?;
        for (id, reason) in &outcome.unreadable {
            tracing::error!(batch.id = %id, reason, "a stored batch cannot be read");
            sending::dead(&mut tx, app, *id, reason, now).await?;
            self.dispatch.metrics.dead();
        }
        tx.commit().await
    }
}

/// What became of batches that were claimed.
#[derive(Default)]
struct Outcome {
    /// Confirmed by the queue.
    sent: Vec<BatchId>,
    /// Surely not taken by the queue, and never handed to it before.
    back_first: Vec<BatchId>,
    /// Surely not taken by the queue this time.
    back_again: Vec<BatchId>,
    /// Cannot be read, and why.
    unreadable: Vec<(BatchId, String)>,
}

impl Outcome {
    fn full(&self) -> bool {
        !(self.back_first.is_empty() && self.back_again.is_empty())
    }
}

/// The leading batches that the rate allows now; `Err` with the wait if it allows none.
fn allowed(
    next: &[(BatchId, i64)],
    limiter: &DefaultDirectRateLimiter,
) -> Result<Vec<BatchId>, Duration> {
    let mut ids = Vec::new();
    for (id, people) in next {
        let people = u32::try_from(*people)
            .ok()
            .and_then(NonZeroU32::new)
            .unwrap_or(NonZeroU32::MIN);
        match limiter.check_n(people) {
            Ok(Ok(())) => ids.push(*id),
            Ok(Err(not_until)) if ids.is_empty() => {
                return Err(not_until.wait_time_from(DefaultClock::default().now()));
            }
            // Above the burst it could never go out: send it alone rather than never.
            Err(_) if ids.is_empty() => return Ok(vec![*id]),
            Ok(Err(_)) | Err(_) => break,
        }
    }
    Ok(ids)
}

/// A bucket for the app's rate that begins empty: a predecessor may just have used it up.
fn limiter(app: &App, batch_people: u32) -> DefaultDirectRateLimiter {
    let per_second = u32::try_from(app.rate_per_s.max(1)).unwrap_or(u32::MAX);
    let rate = NonZeroU32::new(per_second).unwrap_or(NonZeroU32::MIN);
    let burst = NonZeroU32::new(batch_people.max(per_second)).unwrap_or(rate);
    let limiter = RateLimiter::direct(Quota::per_second(rate).allow_burst(burst));
    // A full bucket always holds its own burst.
    let _ = limiter.check_n(burst);
    limiter
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_owner_starts_with_an_empty_bucket() {
        let app = App {
            id: AppId(1),
            name: "a".into(),
            rate_per_s: 100,
            paused: false,
            drills: false,
            created_at: Timestamp::UNIX_EPOCH,
        };
        let limiter = limiter(&app, 500);
        let wait = allowed(&[(BatchId::fresh(), 500)], &limiter).unwrap_err();
        assert!(
            wait > Duration::from_millis(4_900) && wait <= Duration::from_secs(5),
            "{wait:?}"
        );
    }
}
