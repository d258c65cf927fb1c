//! App queues inside this process, for one server without RabbitMQ. The truth is in the database, and
//! after a restart what was not taken is handed over again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};

use super::shelf::Shelf;
use super::{AppQueue, Message, Next, Published, QueueError, Subscription, capacity};
use crate::model::{App, AppId};

/// The queues of all apps.
pub struct LocalQueue {
    batch_people: u32,
    delivery_limit: u32,
    shelves: Mutex<HashMap<AppId, Arc<Shelf>>>,
}

impl LocalQueue {
    /// Queues for batches of `batch_people`, each delivered at most `delivery_limit` times.
    #[must_use]
    pub fn new(batch_people: u32, delivery_limit: u32) -> Self {
        Self {
            batch_people,
            delivery_limit,
            shelves: Mutex::default(),
        }
    }

    fn shelf(&self, app: AppId) -> Arc<Shelf> {
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || Arc::new(Shelf::new(self.delivery_limit));
        Arc::clone(shelves.entry(app).or_insert_with(fresh))
    }

    fn free(&self, app: &App) -> usize {
        capacity(app, self.batch_people).saturating_sub(self.shelf(app.id).len())
    }
}

impl AppQueue for LocalQueue {
    /// A new owner of the lane knows nothing of what an earlier one put into its memory.
    fn is_lost<'a>(&'a self, _: &'a App) -> BoxFuture<'a, Result<bool, QueueError>> {
        ready(Ok(true)).boxed()
    }

    fn open<'a>(&'a self, app: &'a App) -> BoxFuture<'a, Result<(), QueueError>> {
        self.shelf(app.id).clear();
        ready(Ok(())).boxed()
    }

    fn is_open(&self, _: AppId) -> bool {
        true
    }

    fn room<'a>(&'a self, app: &'a App) -> BoxFuture<'a, Result<usize, QueueError>> {
        ready(Ok(self.free(app))).boxed()
    }

    fn freed(&self, app: AppId, limit: Duration) -> BoxFuture<'_, ()> {
        let here = self.shelf(app);
        async move {
            // Room or not, the lane looks again.
            let _ = tokio::time::timeout(limit, here.left.notified()).await;
        }
        .boxed()
    }

    fn publish<'a>(
        &'a self,
        app: &'a App,
        messages: Vec<Message>,
    ) -> BoxFuture<'a, Vec<Published>> {
        let here = self.shelf(app.id);
        let put = |message: Message| {
            if self.free(app) == 0 {
                return Published::NotTaken;
            }
            here.put(message.id, message.body, Box::new(|| {}));
            Published::Confirmed
        };
        ready(messages.into_iter().map(put).collect()).boxed()
    }

    fn subscribe(&self, app: AppId, _: &str, _: u16) -> Box<dyn Subscription> {
        Box::new(Reader(self.shelf(app)))
    }

    fn broker(&self) -> Option<bool> {
        None
    }
}

/// All readers of an app share its shelf.
struct Reader(Arc<Shelf>);

impl Subscription for Reader {
    fn next(&self) -> BoxFuture<'_, Next> {
        self.0.next().boxed()
    }
}
