//! App queues inside this process, for one server without RabbitMQ. They hold hand-offs only: the
//! truth is in the database, and after a restart what was not taken is handed over again.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::Notify;

use super::{AppQueue, Delivery, Message, Next, PublishError, Settle};
use crate::model::{App, AppId, BatchId};

/// A queue holds about this much of the app's rate; the backlog stays in the database, so that a
/// critical case overtakes it.
const SECONDS_OF_RATE: i64 = 2;
/// Messages a queue holds at least, however slow the app.
const LEAST_MESSAGES: i64 = 4;

/// The queues of all apps.
pub struct LocalQueue {
    batch_people: i64,
    delivery_limit: u32,
    queues: Mutex<HashMap<AppId, Arc<Queue>>>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    arrived: Notify,
    left: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(Message, u32)>,
    dead: VecDeque<BatchId>,
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

impl Queue {
    fn take(self: &Arc<Self>, delivery_limit: u32) -> Option<Next> {
        let mut state = locked(&self.state);
        if let Some(id) = state.dead.pop_front() {
            return Some(Next::Dead(id));
        }
        let (message, deliveries) = state.waiting.pop_front()?;
        state.out += 1;
        let generation = state.generation;
        drop(state);
        let settling = Settling {
            queue: Arc::clone(self),
            held: Some((message.clone(), deliveries + 1)),
            generation,
            delivery_limit,
        };
        Some(Next::Delivery(Delivery {
            message,
            settle: Box::new(move |how| settling.settle(&how)),
        }))
    }
}

/// The queue's side of a delivery.
struct Settling {
    queue: Arc<Queue>,
    held: Option<(Message, u32)>,
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
                state.dead.push_back(message.id);
            }
            Settle::Reject => state.waiting.push_front((message, deliveries)),
        }
        drop(state);
        self.queue.arrived.notify_one();
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
        // The reader went away: that is not the message's fault, so the delivery does not count.
        state.waiting.push_front((message, deliveries - 1));
        drop(state);
        self.queue.arrived.notify_one();
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
            let held = i64::try_from(state.waiting.len()).unwrap_or(i64::MAX) + state.out;
            if held >= capacity {
                return Err(PublishError::Full);
            }
            state.waiting.push_back((message, 0));
            drop(state);
            queue.arrived.notify_one();
            Ok(())
        }
        .boxed()
    }

    fn next(&self, app: AppId) -> BoxFuture<'_, Next> {
        let queue = self.queue(app);
        async move {
            loop {
                let arrived = queue.arrived.notified();
                if let Some(next) = queue.take(self.delivery_limit) {
                    // One arrival may be several messages: pass the word on.
                    queue.arrived.notify_one();
                    return next;
                }
                arrived.await;
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

    #[tokio::test]
    async fn what_is_rejected_too_often_is_dead() {
        let queue = LocalQueue::new(500, 2);
        let one = message();
        queue.publish(&app(), one.clone()).await.unwrap();
        delivery(&queue).await.reject();
        delivery(&queue).await.reject();
        assert!(matches!(queue.next(AppId(1)).await, Next::Dead(id) if id == one.id));
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
