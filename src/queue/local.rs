//! App queues inside this process, for one server without RabbitMQ. They hold hand-offs only: the
//! truth is in the database, and after a restart what was not taken is handed over again.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{AppQueue, Delivery, Message, Next, PublishError, Settle};
use crate::model::{App, AppId, BatchId};

/// A queue holds about this much of the app's rate; the backlog stays in the database, so that a
/// critical case overtakes it.
const SECONDS_OF_RATE: i64 = 2;
/// Messages a queue holds at least, however slow the app.
const LEAST_MESSAGES: i64 = 4;
/// A message comes again so long after its first rejection, and twice as long after each further one:
/// an app that is busy for a moment should not find its alerts among the dead letters.
const AGAIN_AFTER: Duration = Duration::from_millis(200);
/// The longest wait of a rejected message, whatever the delivery limit.
const AGAIN_AFTER_MAX: Duration = Duration::from_mins(1);

/// The queues of all apps.
pub struct LocalQueue {
    batch_people: i64,
    delivery_limit: u32,
    queues: Mutex<HashMap<AppId, Arc<Queue>>>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    /// Wakes every waiting reader: each has to know when the next delayed message is due, as the one
    /// that waits for it may go away.
    changed: Notify,
    left: Notify,
}

/// A message and how often it was delivered.
type Held = (Message, u32);

#[derive(Default)]
struct State {
    waiting: VecDeque<Held>,
    /// Rejected messages, by when they are due again.
    delayed: BTreeMap<(Instant, BatchId), Held>,
    /// Rejected too often, and not recorded yet.
    dead: VecDeque<Held>,
    /// Messages in readers' hands.
    out: i64,
    /// Rises with every reset; a delivery of an earlier one is not put back.
    generation: u64,
}

impl LocalQueue {
    /// Queues for batches of `batch_people`, each delivered at most `delivery_limit` times.
    #[must_use]
    pub fn new(batch_people: u32, delivery_limit: u32) -> Self {
        Self {
            batch_people: batch_people.into(),
            delivery_limit,
            queues: Mutex::default(),
        }
    }

    fn queue(&self, app: AppId) -> Arc<Queue> {
        Arc::clone(locked(&self.queues).entry(app).or_default())
    }

    fn capacity(&self, app: &App) -> i64 {
        (SECONDS_OF_RATE * app.rate_per_s / self.batch_people).max(LEAST_MESSAGES)
    }
}

/// A panic elsewhere leaves these states whole: each is changed in one step.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long after its latest delivery a rejected message comes again.
fn again_after(deliveries: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(deliveries.saturating_sub(1));
    AGAIN_AFTER.saturating_mul(doubled).min(AGAIN_AFTER_MAX)
}

impl State {
    fn len(&self) -> i64 {
        let here = self.waiting.len() + self.delayed.len() + self.dead.len();
        i64::try_from(here).unwrap_or(i64::MAX) + self.out
    }

    /// The next message for the app: a delayed one that is due, else the longest waiting.
    fn pop(&mut self, now: Instant) -> Option<Held> {
        match self.delayed.first_entry() {
            Some(first) if first.key().0 <= now => Some(first.remove()),
            _ => self.waiting.pop_front(),
        }
    }
}

impl Queue {
    /// What is next; if nothing is, when to look again even though nothing changes.
    fn take(self: &Arc<Self>, delivery_limit: u32) -> Result<Next, Option<Instant>> {
        let mut state = locked(&self.state);
        let (held, dead) = if let Some(held) = state.dead.pop_front() {
            (held, true)
        } else if let Some((message, deliveries)) = state.pop(Instant::now()) {
            ((message, deliveries + 1), false)
        } else {
            return Err(state.delayed.keys().next().map(|(due, _)| *due));
        };
        state.out += 1;
        let generation = state.generation;
        drop(state);
        let message = held.0.clone();
        let settling = Settling {
            queue: Arc::clone(self),
            held: Some(held),
            dead,
            generation,
            delivery_limit,
        };
        let delivery = Delivery {
            message,
            settle: Box::new(move |how| settling.settle(&how)),
        };
        Ok(if dead {
            Next::Dead(delivery)
        } else {
            Next::Delivery(delivery)
        })
    }
}

/// The queue's side of a delivery.
struct Settling {
    queue: Arc<Queue>,
    held: Option<Held>,
    dead: bool,
    generation: u64,
    delivery_limit: u32,
}

impl Settling {
    fn settle(mut self, how: &Settle) {
        let Some((message, deliveries)) = self.held.take() else {
            return;
        };
        let mut state = locked(&self.queue.state);
        if state.generation != self.generation {
            return;
        }
        state.out -= 1;
        match how {
            Settle::Ack => {}
            Settle::Reject if deliveries >= self.delivery_limit => {
                state.dead.push_back((message, deliveries));
            }
            Settle::Reject => {
                let due = Instant::now() + again_after(deliveries);
                let held = (message, deliveries);
                state.delayed.insert((due, held.0.id), held);
            }
        }
        drop(state);
        self.queue.changed.notify_waiters();
        self.queue.left.notify_one();
    }
}

impl Drop for Settling {
    fn drop(&mut self) {
        let Some((message, deliveries)) = self.held.take() else {
            return;
        };
        let mut state = locked(&self.queue.state);
        if state.generation != self.generation {
            return;
        }
        state.out -= 1;
        if self.dead {
            state.dead.push_front((message, deliveries));
        } else {
            // The reader went away: that is not the message's fault, so the delivery does not count.
            state.waiting.push_front((message, deliveries - 1));
        }
        drop(state);
        self.queue.changed.notify_waiters();
    }
}

impl AppQueue for LocalQueue {
    fn publish<'a>(
        &'a self,
        app: &'a App,
        message: Message,
    ) -> BoxFuture<'a, Result<(), PublishError>> {
        let queue = self.queue(app.id);
        let capacity = self.capacity(app);
        async move {
            let mut state = locked(&queue.state);
            if state.len() >= capacity {
                return Err(PublishError::Full);
            }
            state.waiting.push_back((message, 0));
            drop(state);
            queue.changed.notify_waiters();
            Ok(())
        }
        .boxed()
    }

    fn next(&self, app: AppId) -> BoxFuture<'_, Next> {
        let queue = self.queue(app);
        async move {
            loop {
                // Made before the look, so that no change in between is missed.
                let changed = queue.changed.notified();
                match queue.take(self.delivery_limit) {
                    Ok(next) => return next,
                    Err(None) => changed.await,
                    // Due or changed, it looks again.
                    Err(Some(due)) => drop(tokio::time::timeout_at(due, changed).await),
                }
            }
        }
        .boxed()
    }

    fn room(&self, app: AppId, limit: Duration) -> BoxFuture<'_, ()> {
        let queue = self.queue(app);
        async move {
            // Room or not, the lane looks again.
            let _ = tokio::time::timeout(limit, queue.left.notified()).await;
        }
        .boxed()
    }

    fn reset(&self, app: AppId) -> bool {
        let queue = self.queue(app);
        let mut state = locked(&queue.state);
        state.waiting.clear();
        state.delayed.clear();
        state.dead.clear();
        state.out = 0;
        state.generation += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn app() -> App {
        App {
            id: AppId(1),
            name: "a".into(),
            rate_per_s: 1_000,
            paused: false,
            drills: false,
            created_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn message() -> Message {
        Message {
            id: BatchId::fresh(),
            body: vec![1],
            expires_at: Timestamp::MAX,
        }
    }

    async fn delivery(queue: &LocalQueue) -> Delivery {
        match queue.next(AppId(1)).await {
            Next::Delivery(delivery) => delivery,
            Next::Dead(_) => panic!("a dead letter"),
        }
    }

    #[tokio::test]
    async fn a_queue_is_about_two_seconds_long_and_says_when_it_is_full() {
        let queue = LocalQueue::new(100, 5);
        for _ in 0..20 {
            queue.publish(&app(), message()).await.unwrap();
        }
        assert_eq!(
            queue.publish(&app(), message()).await,
            Err(PublishError::Full)
        );
        let held = delivery(&queue).await;
        assert_eq!(
            queue.publish(&app(), message()).await,
            Err(PublishError::Full)
        );
        held.ack();
        queue.publish(&app(), message()).await.unwrap();
    }

    #[tokio::test]
    async fn what_a_reader_drops_comes_again_first() {
        let queue = LocalQueue::new(500, 5);
        let (one, two) = (message(), message());
        queue.publish(&app(), one.clone()).await.unwrap();
        queue.publish(&app(), two.clone()).await.unwrap();
        drop(delivery(&queue).await);
        let again = delivery(&queue).await;
        assert_eq!(again.message, one);
        again.ack();
        assert_eq!(delivery(&queue).await.message, two);
    }

    async fn dead(queue: &LocalQueue) -> Delivery {
        match queue.next(AppId(1)).await {
            Next::Dead(delivery) => delivery,
            Next::Delivery(_) => panic!("not a dead letter"),
        }
    }

    #[test]
    fn each_wait_is_twice_the_one_before() {
        let waits = [1, 2, 3, 4, 10, u32::MAX].map(|n| again_after(n).as_millis());
        assert_eq!(waits, [200, 400, 800, 1_600, 60_000, 60_000]);
    }

    #[tokio::test]
    async fn what_is_rejected_comes_again_later_and_keeps_its_room() {
        let queue = Arc::new(LocalQueue::new(500, 5));
        let messages = [(); 4].map(|()| message());
        for message in &messages {
            queue.publish(&app(), message.clone()).await.unwrap();
        }
        let rejected_at = Instant::now();
        delivery(&queue).await.reject();
        let full = queue.publish(&app(), message()).await;
        assert_eq!(full, Err(PublishError::Full));
        for other in &messages[1..] {
            let next = delivery(&queue).await;
            assert_eq!(&next.message, other, "those behind do not wait for it");
            next.ack();
        }
        // A reader that waits for it and goes away does not keep it from another.
        let other = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move { delivery(&queue).await.message }
        });
        let left = tokio::time::timeout(AGAIN_AFTER / 4, delivery(&queue)).await;
        assert!(left.is_err(), "not before its time");
        assert_eq!(other.await.unwrap(), messages[0]);
        assert!(rejected_at.elapsed() >= AGAIN_AFTER);
    }

    #[tokio::test]
    async fn what_is_rejected_too_often_is_dead_until_it_is_recorded() {
        let queue = LocalQueue::new(500, 2);
        let one = message();
        queue.publish(&app(), one.clone()).await.unwrap();
        delivery(&queue).await.reject();
        delivery(&queue).await.reject();
        // Recording failed, however the reader says so.
        drop(dead(&queue).await);
        dead(&queue).await.reject();
        let again = dead(&queue).await;
        assert_eq!(again.message, one);
        again.ack();
        let more = tokio::time::timeout(2 * AGAIN_AFTER, queue.next(AppId(1))).await;
        assert!(more.is_err(), "it has left the queue");
    }

    #[tokio::test]
    async fn after_a_reset_old_deliveries_change_nothing() {
        let queue = LocalQueue::new(500, 2);
        queue.publish(&app(), message()).await.unwrap();
        let old = delivery(&queue).await;
        assert!(queue.reset(AppId(1)));
        drop(old);
        let two = message();
        queue.publish(&app(), two.clone()).await.unwrap();
        assert_eq!(delivery(&queue).await.message, two);
    }

    #[tokio::test]
    async fn a_waiting_reader_gets_what_arrives() {
        let queue = Arc::new(LocalQueue::new(500, 2));
        let waiting = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move { delivery(&queue).await.message }
        });
        let one = message();
        queue.publish(&app(), one.clone()).await.unwrap();
        assert_eq!(waiting.await.unwrap(), one);
    }
}
