//! App queues: where a lane puts batches and the app's reader takes them.

mod local;

use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;

use crate::model::{App, AppId, BatchId};

pub use local::LocalQueue;

/// A batch as it goes into a queue: written out once, the same however often it is delivered.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The batch.
    pub id: BatchId,
    /// `homeward.v1.AlertBatch` (protobuf).
    pub body: Vec<u8>,
    /// After this it is not worth delivering.
    pub expires_at: Timestamp,
}

/// A message that could not be put into a queue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The queue is full: the message surely did not go in, and may after a while.
    #[error("the app's queue is full")]
    Full,
}

/// A message in a reader's hands. Dropped without a word it goes back to where it was taken from.
pub struct Delivery {
    /// The message.
    pub message: Message,
    settle: Box<dyn FnOnce(Settle) + Send + Sync>,
}

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
    /// A message.
    Delivery(Delivery),
    /// A message that was rejected too often. It is not for the app: it leaves the queue with
    /// [`Delivery::ack`] once it is recorded, and otherwise is handed out here again.
    Dead(Delivery),
}

/// The queues of all apps.
pub trait AppQueue: Send + Sync {
    /// Puts a message into an app's queue; done when the queue has confirmed it.
    fn publish<'a>(
        &'a self,
        app: &'a App,
        message: Message,
    ) -> BoxFuture<'a, Result<(), PublishError>>;

    /// The next message for a reader of an app, as soon as there is one. Safe to drop.
    fn next(&self, app: AppId) -> BoxFuture<'_, Next>;

    /// Waits until an app's queue may have room again, at most `limit`.
    fn room(&self, app: AppId, limit: Duration) -> BoxFuture<'_, ()>;

    /// Empties the queue of an app whose lane changed hands, if the queue lives in this process; says
    /// whether what was in it has to be sent again.
    fn reset(&self, app: AppId) -> bool;
}
