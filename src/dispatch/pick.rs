//! Which batches an app's lane sends next: the best first, as many as the rate allows and the queue has
//! room for, none whose case is not active, none by night.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use jiff::Timestamp;
use tokio::sync::watch;
use uuid::Uuid;

use super::Dispatch;
use super::lane::Tenure;
use crate::audience::eligibility::{LATE, is_quiet, zone_or_utc};
use crate::model::{App, AppId, BatchId, Kind};
use crate::store::sending::{Claimed, Order};
use crate::store::{Session, StoreError, lanes, sending, told};

/// Batches looked at, claimed and published together.
const WINDOW: i64 = 256;
/// Of every ten people told, one is taken from the lowest urgency, so that nothing starves.
const LOWEST_SHARE: i64 = 10;

/// Why there is nothing to send now.
pub(super) enum Rest {
    /// Nothing waits.
    Idle,
    /// The rate allows no more for so long.
    Throttled(Duration),
    /// The app's queue is full or away.
    Full,
}

/// Picks for one lane.
pub(super) struct Picker {
    dispatch: Dispatch,
    tenure: watch::Receiver<Tenure>,
    limiter: DefaultDirectRateLimiter,
    /// The rate that the limiter was made for.
    rate_per_s: i64,
    /// People told since the lowest urgency had its share.
    since_lowest: i64,
}

impl Picker {
    pub fn new(dispatch: Dispatch, tenure: watch::Receiver<Tenure>) -> Self {
        let app = tenure.borrow().app.clone();
        Self {
            limiter: limiter(&app, dispatch.config.dispatch.batch_people),
            rate_per_s: app.rate_per_s,
            since_lowest: 0,
            dispatch,
            tenure,
        }
    }

    /// Picks and claims what the rate allows now and the queue has room for, beside what is in hand.
    pub async fn pick(&mut self, in_hand: usize) -> Result<Result<Vec<Claimed>, Rest>, StoreError> {
        let Tenure {
            app, owner, fence, ..
        } = self.tenure.borrow().clone();
        if app.paused {
            return Ok(Err(Rest::Idle));
        }
        let batch_people = self.dispatch.config.dispatch.batch_people;
        if app.rate_per_s != self.rate_per_s {
            self.limiter = limiter(&app, batch_people);
            self.rate_per_s = app.rate_per_s;
        }
        let mut session = self.dispatch.store.read().await?;
        if lanes::held(&mut session).await? {
            return Ok(Err(Rest::Idle));
        }
        let now = session.now().await?;
        let lowest = self.since_lowest >= (LOWEST_SHARE - 1) * i64::from(batch_people);
        let (order, limit) = if lowest {
            (Order::Lowest, 1)
        } else {
            (Order::Best, WINDOW)
        };
        let quiet = self.quiet_zones(&mut session, now).await?;
        let mut next = sending::next(&mut session, app.id, now, order, limit, &quiet).await?;
        drop(session);
        if next.is_empty() {
            return Ok(Err(Rest::Idle));
        }
        let room = self.dispatch.queue.room(&app).await.unwrap_or(0);
        next.truncate(room.saturating_sub(in_hand));
        if next.is_empty() {
            return Ok(Err(Rest::Full));
        }
        let allowed = match allowed(&next, &self.limiter) {
            Ok(allowed) => &next[..allowed],
            Err(wait) => return Ok(Err(Rest::Throttled(wait))),
        };
        self.since_lowest = if lowest {
            0
        } else {
            self.since_lowest + allowed.iter().map(|(_, people)| people).sum::<i64>()
        };
        let ids: Vec<BatchId> = allowed.iter().map(|(id, _)| *id).collect();
        let owner = (app.id, owner, fence);
        claim(&self.dispatch, owner, &ids, &quiet, now)
            .await
            .map(Ok)
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
}

/// Claims batches, and counts those that waited for long as told now.
async fn claim(
    dispatch: &Dispatch,
    owner: (AppId, Uuid, i64),
    ids: &[BatchId],
    quiet: &[String],
    now: Timestamp,
) -> Result<Vec<Claimed>, StoreError> {
    let mut tx = dispatch.store.begin().await?;
    let claimed = sending::claim(&mut tx, owner, ids, quiet, now).await?;
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
    Ok(claimed)
}

/// How many of the leading batches the rate allows now; `Err` with the wait if it allows none.
fn allowed(next: &[(BatchId, i64)], limiter: &DefaultDirectRateLimiter) -> Result<usize, Duration> {
    for (place, (_, people)) in next.iter().enumerate() {
        let people = u32::try_from(*people)
            .ok()
            .and_then(NonZeroU32::new)
            .unwrap_or(NonZeroU32::MIN);
        match limiter.check_n(people) {
            Ok(Ok(())) => {}
            Ok(Err(not_until)) if place == 0 => {
                return Err(not_until.wait_time_from(DefaultClock::default().now()));
            }
            // Above the burst it could never go out: send it alone rather than never.
            Err(_) if place == 0 => return Ok(1),
            Ok(Err(_)) | Err(_) => return Ok(place),
        }
    }
    Ok(next.len())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BatchFormat;

    #[test]
    fn a_new_owner_starts_with_an_empty_bucket() {
        let app = App {
            id: AppId(1),
            name: "a".into(),
            rate_per_s: 100,
            paused: false,
            drills: false,
            format: BatchFormat::Protobuf,
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
