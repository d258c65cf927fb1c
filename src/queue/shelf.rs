//! Batches within readers' reach: waiting, out in their hands, put back for later, dead.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Delivery, Next, Settle};
use crate::model::BatchId;

/// A batch comes again so long after its first rejection, and twice as long after each further one:
/// an app that is busy for a moment should not find its alerts among the dead letters.
const AGAIN_AFTER: Duration = Duration::from_millis(200);
/// The longest wait of a rejected batch, whatever the delivery limit.
const AGAIN_AFTER_MAX: Duration = Duration::from_mins(1);

/// What is done where a batch came from once it has left the shelf for good.
pub(super) type Leave = Box<dyn FnOnce() + Send + Sync>;

/// A batch on the shelf.
struct Held {
    id: BatchId,
    body: Vec<u8>,
    leave: Leave,
    /// How often it was delivered.
    deliveries: u32,
}

/// One app's shelf.
pub(super) struct Shelf {
    delivery_limit: u32,
    state: Mutex<State>,
    /// Wakes every waiting reader: each has to know when the next delayed batch is due, as the one
    /// that waits for it may go away.
    changed: Notify,
    /// A batch has left for good.
    pub left: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Held>,
    /// Rejected batches, by when they are due again.
    delayed: BTreeMap<(Instant, BatchId), Held>,
    /// Rejected too often, and not recorded yet.
    dead: VecDeque<Held>,
    /// Batches in readers' hands.
    out: usize,
    /// Rises whenever the shelf is cleared; a delivery of before is not put back.
    generation: u64,
}

/// A panic elsewhere leaves these states whole: each is changed in one step.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long after its latest delivery a rejected batch comes again.
fn again_after(deliveries: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(deliveries.saturating_sub(1));
    AGAIN_AFTER.saturating_mul(doubled).min(AGAIN_AFTER_MAX)
}

impl State {
    /// The next batch for the app: a delayed one that is due, else the longest waiting.
    fn pop(&mut self, now: Instant) -> Option<Held> {
        match self.delayed.first_entry() {
            Some(first) if first.key().0 <= now => Some(first.remove()),
            _ => self.waiting.pop_front(),
        }
    }
}

impl Shelf {
    /// An empty shelf, each of whose batches is delivered at most `delivery_limit` times.
    pub fn new(delivery_limit: u32) -> Self {
        Self {
            delivery_limit,
            state: Mutex::default(),
            changed: Notify::new(),
            left: Notify::new(),
        }
    }

    /// How many batches are here or in readers' hands.
    pub fn len(&self) -> usize {
        let state = locked(&self.state);
        state.waiting.len() + state.delayed.len() + state.dead.len() + state.out
    }

    /// Puts a batch at the end.
    pub fn put(&self, id: BatchId, body: Vec<u8>, leave: Leave) {
        let held = Held {
            id,
            body,
            leave,
            deliveries: 0,
        };
        locked(&self.state).waiting.push_back(held);
        self.changed.notify_waiters();
    }

    /// Forgets all batches, also those in readers' hands.
    pub fn clear(&self) {
        let mut state = locked(&self.state);
        let generation = state.generation + 1;
        *state = State {
            generation,
            ..State::default()
        };
    }

    /// The next batch, as soon as there is one.
    pub async fn next(self: &Arc<Self>) -> Next {
        loop {
            // Made before the look, so that no change in between is missed.
            let changed = self.changed.notified();
            match self.take() {
                Ok(next) => return next,
                Err(None) => changed.await,
                // Due or changed, it looks again.
                Err(Some(due)) => drop(tokio::time::timeout_at(due, changed).await),
            }
        }
    }

    /// What is next; if nothing is, when to look again even though nothing changes.
    fn take(self: &Arc<Self>) -> Result<Next, Option<Instant>> {
        let mut state = locked(&self.state);
        let (held, dead) = if let Some(held) = state.dead.pop_front() {
            (held, true)
        } else if let Some(mut held) = state.pop(Instant::now()) {
            held.deliveries += 1;
            (held, false)
        } else {
            return Err(state.delayed.keys().next().map(|(due, _)| *due));
        };
        state.out += 1;
        let generation = state.generation;
        drop(state);
        let (id, body) = (held.id, held.body.clone());
        let settling = Settling {
            shelf: Arc::clone(self),
            held: Some(held),
            dead,
            generation,
        };
        let settle = Box::new(move |how| settling.settle(how));
        let delivery = Delivery { id, body, settle };
        Ok(if dead {
            Next::Dead(delivery)
        } else {
            Next::Delivery(delivery)
        })
    }
}

/// The shelf's side of a delivery.
struct Settling {
    shelf: Arc<Shelf>,
    held: Option<Held>,
    dead: bool,
    generation: u64,
}

impl Settling {
    fn settle(mut self, how: Settle) {
        let Some(held) = self.held.take() else { return };
        let mut state = locked(&self.shelf.state);
        if state.generation != self.generation {
            return;
        }
        state.out -= 1;
        match how {
            Settle::Ack => {
                drop(state);
                (held.leave)();
                self.shelf.left.notify_one();
                return;
            }
            Settle::Reject if held.deliveries >= self.shelf.delivery_limit => {
                state.dead.push_back(held);
            }
            Settle::Reject => {
                let due = Instant::now() + again_after(held.deliveries);
                state.delayed.insert((due, held.id), held);
            }
        }
        drop(state);
        self.shelf.changed.notify_waiters();
    }
}

impl Drop for Settling {
    fn drop(&mut self) {
        let Some(mut held) = self.held.take() else {
            return;
        };
        let mut state = locked(&self.shelf.state);
        if state.generation != self.generation {
            return;
        }
        state.out -= 1;
        if self.dead {
            state.dead.push_front(held);
        } else {
            // The reader went away: that is not the batch's fault, so the delivery does not count.
            held.deliveries -= 1;
            state.waiting.push_front(held);
        }
        drop(state);
        self.shelf.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wait_is_twice_the_one_before() {
        let waits = [1, 2, 3, 4, 10, u32::MAX].map(|n| again_after(n).as_millis());
        assert_eq!(waits, [200, 400, 800, 1_600, 60_000, 60_000]);
    }

    #[tokio::test]
    async fn once_cleared_old_deliveries_change_nothing() {
        let shelf = Arc::new(Shelf::new(2));
        let (one, two) = (BatchId::fresh(), BatchId::fresh());
        shelf.put(
            one,
            vec![],
            Box::new(|| panic!("it left after the shelf was cleared")),
        );
        let Next::Delivery(old) = shelf.next().await else {
            panic!("a dead letter")
        };
        shelf.clear();
        old.ack();
        shelf.put(two, vec![], Box::new(|| {}));
        assert_eq!(shelf.len(), 1);
        let Next::Delivery(new) = shelf.next().await else {
            panic!("a dead letter")
        };
        assert_eq!(new.id, two);
    }
}
