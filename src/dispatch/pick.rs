//! Which batches an app's lane sends next: the best first, as many as the rate allows and the queue has
//! room for, none whose case is not active, none by night.

use std::collections::{HashMap, HashSet, VecDeque};
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use super::Dispatch;
use super::lane::Tenure;
use crate::audience::eligibility::{LATE, is_quiet, zone_or_utc};
use crate::model::{AppId, BatchId, Contents, Edition, Kind, Urgency};
use crate::store::sending::Claimed;
use crate::store::{Session, StoreError, batches, lanes, sending, told};

/// Batches claimed and published together.
const WINDOW: u32 = 256;
/// Batches looked at together once a whole window could be sent: a long backlog is not gone through anew for
/// each.
const AHEAD: u32 = 4 * WINDOW;
/// Of every ten people told, one is taken from the lowest urgency, so that nothing starves.
const LOWEST_SHARE: u32 = 10;

/// After how long a wait for the queue's word on its room what waits is looked at anew.
const STALE_AFTER: Duration = Duration::from_secs(1);
/// How long what was looked at may be claimed before anything more urgent that has come since.
const AHEAD_FOR: Duration = Duration::from_millis(200);

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
    /// The rate, and the people of one batch, that the limiter was made for.
    made_for: (i64, u32),
    /// People told since the lowest urgency had its share.
    since_lowest: i64,
    /// What was left when a whole window could be sent.
    ahead: Option<Ahead>,
}

/// What waits, as it was seen a moment ago.
struct Ahead {
    /// In the order in which it goes out.
    next: VecDeque<Candidate>,
    /// The time zones in which it was night.
    quiet: Vec<String>,
    /// When that was.
    looked: Instant,
}

impl Picker {
    pub fn new(dispatch: Dispatch, tenure: watch::Receiver<Tenure>) -> Self {
        let app = tenure.borrow().app.clone();
        Self {
            limiter: limiter(app.rate_per_s, dispatch.config.dispatch.batch_people),
            made_for: (app.rate_per_s, dispatch.config.dispatch.batch_people),
            since_lowest: 0,
            ahead: None,
            dispatch,
            tenure,
        }
    }

    /// Picks and claims what the rate allows now and the queue has room for, beside what is in hand.
    pub async fn pick(&mut self, in_hand: usize) -> Result<Result<Window, Rest>, StoreError> {
        let Tenure {
            app, owner, fence, ..
        } = self.tenure.borrow().clone();
        if app.paused {
            return Ok(Err(Rest::Idle));
        }
        let window = WINDOW as usize;
        let ahead = match self.ahead.take() {
            Some(ahead) if ahead.next.len() >= window && ahead.looked.elapsed() < AHEAD_FOR => {
                Some(ahead)
            }
            Some(_) => self.look(app.id, AHEAD).await?,
            None => self.look(app.id, WINDOW).await?,
        };
        let Some(mut ahead) = ahead else {
            return Ok(Err(Rest::Idle));
        };
        let asked = Instant::now();
        let room = self.dispatch.queue.room(&app).await.unwrap_or(0);
        let room = room.saturating_sub(in_hand);
        // After a long wait night may have fallen: look anew.
        if room == 0 || asked.elapsed() > STALE_AFTER {
            return Ok(Err(Rest::Full));
        }
        let next = ahead.next.iter().take(room.min(window)).copied();
        let next: Vec<Candidate> = next.collect();
        self.fit_limiter(app.rate_per_s, &next);
        let allowed = match allowed(&next, &self.limiter) {
            Ok(allowed) => ahead.next.drain(..allowed),
            Err(wait) => return Ok(Err(Rest::Throttled(wait))),
        };
        let allowed: Vec<Candidate> = allowed.collect();
        if let Some(last) = allowed.last() {
            self.since_lowest = last.since_lowest;
        }
        let ids: Vec<BatchId> = allowed.iter().map(|one| one.id).collect();
        let owner = (app.id, owner, fence);
        let claimed = claim(&self.dispatch, owner, &ids, &ahead.quiet).await?;
        // Where some are not to be had any more, things have changed.
        self.ahead = (claimed.batches.len() == window).then_some(ahead);
        Ok(Ok(claimed))
    }

    /// Looks at the best batches that wait; `None` if there are none that may go out now.
    async fn look(&self, app: AppId, limit: u32) -> Result<Option<Ahead>, StoreError> {
        let mut session = self.dispatch.store.read().await?;
        if lanes::held(&mut session).await? {
            return Ok(None);
        }
        let (now, looked) = (session.now().await?, Instant::now());
        let quiet = self.quiet_zones(&mut session, now).await?;
        let best = sending::next(&mut session, app, now, Urgency::Critical, limit, &quiet).await?;
        if best.is_empty() {
            return Ok(None);
        }
        let few = limit / LOWEST_SHARE + 1;
        let mut lowest = Vec::new();
        for &urgency in Urgency::ALL {
            if lowest.is_empty() {
                lowest = sending::next(&mut session, app, now, urgency, few, &quiet).await?;
            }
        }
        let others = (LOWEST_SHARE - 1) * self.dispatch.config.dispatch.batch_people;
        let next = shared_out(best, lowest, self.since_lowest, i64::from(others)).into();
        Ok(Some(Ahead {
            next,
            quiet,
            looked,
        }))
    }

    /// Sees to it that the limiter is for the app's rate as it is now, and that every batch fits into it:
    /// batches may have been made when more people were put into one. It never shrinks back, since each
    /// new one begins empty.
    fn fit_limiter(&mut self, rate_per_s: i64, next: &[Candidate]) {
        let batch_people = self.dispatch.config.dispatch.batch_people;
        let largest = next.iter().map(|one| one.people).max().unwrap_or(0);
        let largest = u32::try_from(largest).unwrap_or(u32::MAX);
        let largest = largest.max(batch_people).max(self.made_for.1);
        if (rate_per_s, largest) != self.made_for {
            self.limiter = limiter(rate_per_s, largest);
            self.made_for = (rate_per_s, largest);
        }
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

/// Batches that were claimed to be published together.
#[derive(Default)]
pub(super) struct Window {
    /// The batches, best first.
    pub batches: Vec<Claimed>,
    /// What they say.
    pub contents: HashMap<Edition, Contents>,
}

/// Claims batches, and counts those that waited for long as told now.
async fn claim(
    dispatch: &Dispatch,
    owner: (AppId, Uuid, i64),
    ids: &[BatchId],
    quiet: &[String],
) -> Result<Window, StoreError> {
    let mut tx = dispatch.store.begin().await?;
    let now = tx.now().await?;
    let batches = sending::claim(&mut tx, owner, ids, quiet, now).await?;
    let editions = batches.iter().map(|one| one.batch.edition);
    let contents = batches::contents(&mut tx, editions).await?;
    let mut late: Vec<_> = batches
        .iter()
        .filter(|one| one.first && one.batch.kind == Kind::Issue)
        .filter(|one| now.duration_since(one.made_at) > LATE)
        .map(|one| (one.batch.edition.alert, one.batch.edition.round))
        .collect();
    late.sort_unstable();
    late.dedup();
    if !late.is_empty() {
        told::sent_late(&mut tx, &late, now).await?;
    }
    tx.commit().await?;
    Ok(Window { batches, contents })
}

/// A batch that may be sent next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Candidate {
    id: BatchId,
    people: i64,
    /// People told, this batch included, since the lowest urgency had its share.
    since_lowest: i64,
}

/// The best batches in order, with one of the lowest urgency wherever `limit` people have been told
/// since the last of those.
fn shared_out(
    best: Vec<(BatchId, i64)>,
    lowest: Vec<(BatchId, i64)>,
    mut since_lowest: i64,
    limit: i64,
) -> Vec<Candidate> {
    let mut taken = HashSet::new();
    let (mut best, mut lowest) = (best.into_iter(), lowest.into_iter());
    let mut next = Vec::new();
    loop {
        let mut fresh = |(id, _): &(BatchId, i64)| taken.insert(*id);
        let turn = since_lowest >= limit;
        let low = turn.then(|| lowest.find(&mut fresh)).flatten();
        let Some((id, people)) = low.or_else(|| best.find(&mut fresh)) else {
            return next;
        };
        since_lowest = if turn { 0 } else { since_lowest + people };
        next.push(Candidate {
            id,
            people,
            since_lowest,
        });
    }
}

/// How many of the leading batches the rate allows now; `Err` with the wait if it allows none.
fn allowed(next: &[Candidate], limiter: &DefaultDirectRateLimiter) -> Result<usize, Duration> {
    for (place, Candidate { people, .. }) in next.iter().enumerate() {
        let people = u32::try_from(*people)
            .ok()
            .and_then(NonZeroU32::new)
            .unwrap_or(NonZeroU32::MIN);
        match limiter.check_n(people) {
            Ok(Ok(())) => {}
            Ok(Err(not_until)) if place == 0 => {
                return Err(not_until.wait_time_from(DefaultClock::default().now()));
            }
            Ok(Err(_)) | Err(_) => return Ok(place),
        }
    }
    Ok(next.len())
}

/// A bucket for the app's rate that begins empty: a predecessor may just have used it up.
fn limiter(rate_per_s: i64, batch_people: u32) -> DefaultDirectRateLimiter {
    let per_second = u32::try_from(rate_per_s.max(1)).unwrap_or(u32::MAX);
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

    #[test]
    fn a_new_owner_starts_with_an_empty_bucket() {
        let limiter = limiter(100, 500);
        let batch = (BatchId::fresh(), 500);
        let next = shared_out(vec![batch], vec![batch], 0, 4_500);
        let wait = allowed(&next, &limiter).unwrap_err();
        assert!(
            wait > Duration::from_millis(4_900) && wait <= Duration::from_secs(5),
            "{wait:?}"
        );
    }

    #[test]
    fn every_tenth_person_is_of_the_lowest_urgency_and_nobody_is_told_twice() {
        let batches = |n: usize| -> Vec<_> { (0..n).map(|_| (BatchId::fresh(), 500)).collect() };
        let (urgent, other) = (batches(30), batches(5));
        let places = |next: &[Candidate]| -> Vec<usize> {
            let is_other = |one: &&Candidate| other.iter().any(|(id, _)| *id == one.id);
            let places = next.iter().enumerate();
            places
                .filter(|(_, one)| is_other(one))
                .map(|(place, _)| place)
                .collect()
        };
        let next = shared_out(urgent.clone(), other.clone(), 0, 4_500);
        assert_eq!((places(&next), next.len()), (vec![9, 19, 29], 33));
        // It goes on where the last window ended.
        let next = shared_out(
            urgent[7..].to_vec(),
            other.clone(),
            next[6].since_lowest,
            4_500,
        );
        assert_eq!(places(&next), [2, 12, 22]);
        // Where all are of one urgency, the share changes nothing.
        let next = shared_out(urgent.clone(), urgent[..4].to_vec(), 0, 4_500);
        assert_eq!(
            next.iter().map(|one| one.id).collect::<HashSet<_>>().len(),
            30
        );
    }
}
