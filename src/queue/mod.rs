//! App queues: where a lane puts batches and a reader takes them. Two forms: in RabbitMQ, or in this
//! process. They hold hand-offs only, about two seconds of the app's rate; the backlog stays in the
//! database, so that a critical case overtakes it.

mod local;
mod rabbit;
mod shelf;

use std::time::Duration;

use crate::model::{App, AppId, BatchId, Kind};
use futures_util::future::BoxFuture;

pub use local::LocalQueue;
pub use rabbit::{
    AppUser, Broker, BrokerUrlError, DeadLetter, DeadLetters, RabbitQueue, UserError, Users,
};

/// A queue holds about this much of the app's rate.
const SECONDS_OF_RATE: i64 = 2;
/// Messages a queue holds at least, however slow the app.
const LEAST_MESSAGES: i64 = 4;
/// Messages a queue holds at most, however fast the app.
const MOST_MESSAGES: i64 = 10_000;

/// How many batches of `batch_people` an app's queue holds.
fn capacity(app: &App, batch_people: u32) -> usize {
    let messages = SECONDS_OF_RATE * app.rate_per_s / i64::from(batch_people);
    usize::try_from(messages.clamp(LEAST_MESSAGES, MOST_MESSAGES)).unwrap_or(usize::MAX)
}

/// A batch as it goes into a queue: the same however often it is delivered.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The batch.
    pub id: BatchId,
    /// What it says.
    pub kind: Kind,
    /// `homeward.v1.AlertBatch` (protobuf).
    pub body: Vec<u8>,
    /// For so long it is worth delivering.
    pub life: Duration,
}

/// What became of a message that was put into a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// The queue has it.
    Confirmed,
    /// It surely did not go in: the queue is full, or away.
    NotTaken,
    /// It may have gone in: the queue did not say, or not in time.
    Unsure,
}

/// A queue that cannot be used now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// There is no connection to the broker.
    #[error("the broker is away")]
    Away,
    /// The lane is another's by now.
    #[error("another server has taken the lane")]
    NotOurs,
    /// The broker did not do what it was asked.
    #[error("{doing}: {reason}")]
    Refused {
        /// What was being done.
        doing: String,
        /// What the broker said, and what would mend it.
        reason: String,
    },
}

/// A batch in a reader's hands. Dropped without a word it goes back to where it was taken from.
pub struct Delivery {
    /// The batch.
    pub id: BatchId,
    /// `homeward.v1.AlertBatch` (protobuf).
    pub body: Vec<u8>,
    settle: Box<dyn FnOnce(Settle) + Send + Sync>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settle {
    Ack,
    Reject,
}

impl Delivery {
    /// The app has it, or what became of it is recorded; it leaves the queue.
    pub fn ack(self) {
        (self.settle)(Settle::Ack);
    }

    /// The app cannot take it now: it comes again after a while, longer each time, as often as the
    /// delivery limit allows.
    pub fn reject(self) {
        (self.settle)(Settle::Reject);
    }
}

/// What a reader gets next.
pub enum Next {
    /// A batch.
    Delivery(Delivery),
    /// A batch that was rejected too often. It is not for the app: it leaves the queue with
    /// [`Delivery::ack`] once it is recorded, and otherwise is handed out here again.
    Dead(Delivery),
}

/// A reader's hold on an app's queue. When it is dropped, what it has goes back.
pub trait Subscription: Send + Sync {
    /// The next batch, as soon as there is one. Safe to drop.
    fn next(&self) -> BoxFuture<'_, Next>;
}

/// The queues of all apps. A lane opens its app's queue, publishes while it is open, and opens it
/// anew when it no longer is.
pub trait AppQueue: Send + Sync {
    /// Whether what an app's queue held is lost, so that what was not taken has to be sent again. The
    /// queue goes on to say so until it is opened.
    fn is_lost<'a>(&'a self, app: &'a App) -> BoxFuture<'a, Result<bool, QueueError>>;

    /// Makes an app's queue ready to publish to. What was lost must be back in the backlog by then.
    fn open<'a>(&'a self, app: &'a App) -> BoxFuture<'a, Result<(), QueueError>>;

    /// Whether an app's queue is open still.
    fn is_open(&self, app: AppId) -> bool;

    /// How many more messages an open queue takes now.
    fn room<'a>(&'a self, app: &'a App) -> BoxFuture<'a, Result<usize, QueueError>>;

    /// Waits until there may be room again in an app's queue, at most `limit`.
    fn freed(&self, app: AppId, limit: Duration) -> BoxFuture<'_, ()>;

    /// Puts messages into an open queue, in order, and says of each what became of it.
    fn publish<'a>(&'a self, app: &'a App, messages: Vec<Message>)
    -> BoxFuture<'a, Vec<Published>>;

    /// Takes part in reading an app's queue, with at most `in_hand` batches not settled at a time.
    fn subscribe(&self, app: AppId, name: &str, in_hand: u16) -> Box<dyn Subscription>;

    /// Whether the broker answers; none if there is no broker.
    fn broker(&self) -> Option<bool>;
}
