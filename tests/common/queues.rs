//! App queues of either form, without a house around them.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use homeward::model::{App, AppId, BatchFormat, BatchId, Kind};
use homeward::queue::{
    AppQueue, Broker, DeadLetters, Delivery, LocalQueue, Message, Next, Published, RabbitQueue,
    Subscription,
};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::broker::{Vhost, Wire};
use super::{PATIENCE, TEST_LIMIT, until};

/// People in a batch.
pub const BATCH_PEOPLE: u32 = 10;
/// How often a batch is delivered.
pub const DELIVERY_LIMIT: u32 = 3;
/// A life that no test outlives.
pub const LONG: Duration = Duration::from_hours(1);
/// The queue of [`app`] on the broker.
pub const QUEUE: &str = "homeward.alerts.nearby.v1";
/// The queue beside it.
pub const KEPT: &str = "homeward.kept.nearby.v1";
/// The queue of dead letters.
pub const DEAD: &str = "homeward.dead.v1";

/// Runs a test on the in-process form.
pub async fn in_process<T: Future<Output = ()>>(test: impl FnOnce(Arc<dyn AppQueue>) -> T) {
    let queue = LocalQueue::new(BATCH_PEOPLE, DELIVERY_LIMIT);
    let test = tokio::time::timeout(TEST_LIMIT, test(Arc::new(queue)));
    test.await.expect("the test is done in time");
}

/// The queues of a virtual host of their own, behind a wire.
pub struct Rabbit {
    pub queue: Arc<RabbitQueue>,
    pub vhost: Arc<Vhost>,
    pub wire: Wire,
    shutdown: CancellationToken,
}

impl Drop for Rabbit {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Runs a test on RabbitMQ, and takes the virtual host away whatever comes of it.
pub async fn in_rabbitmq<T: Future<Output = ()>>(test: impl FnOnce(Rabbit) -> T) {
    let vhost = Arc::new(Vhost::make().await);
    let rabbit = Rabbit::at(Arc::clone(&vhost)).await;
    let test = tokio::time::timeout(TEST_LIMIT, test(rabbit));
    let result = AssertUnwindSafe(test).catch_unwind().await;
    vhost.remove().await;
    match result {
        Ok(done) => done.expect("the test is done in time"),
        Err(panic) => resume_unwind(panic),
    }
}

impl Rabbit {
    async fn at(vhost: Arc<Vhost>) -> Self {
        let wire = Wire::lay().await;
        let shutdown = CancellationToken::new();
        let queue = connect(&wire.over(&vhost.url()), &shutdown);
        let rabbit = Self {
            queue: Arc::new(queue),
            vhost,
            wire,
            shutdown,
        };
        rabbit.connected(true).await;
        rabbit
    }

    /// Another server's queues on the same virtual host.
    pub async fn another(&self) -> Self {
        Self::at(Arc::clone(&self.vhost)).await
    }

    /// Waits until the queues say that the broker is there, or away.
    pub async fn connected(&self, there: bool) {
        let what = format!("the broker to be there: {there}");
        until(&what, async || {
            (self.queue.broker() == Some(there)).then_some(())
        })
        .await;
    }

    /// Loses the connections and makes them anew.
    pub async fn reconnect(&self) {
        let before = self.wire.carried();
        self.wire.cut();
        self.connected(false).await;
        self.wire.mend();
        // One may be back before another has noticed that it was gone.
        until("three new connections", async || {
            (self.wire.carried() >= before + 3).then_some(())
        })
        .await;
        self.connected(true).await;
    }

    /// Waits until so many messages wait in a queue.
    pub async fn waiting(&self, queue: &str, messages: u32) {
        let what = format!("{messages} messages in {queue}");
        until(&what, async || {
            (self.vhost.waiting_in(queue).await == messages).then_some(())
        })
        .await;
    }
}

fn connect(url: &str, shutdown: &CancellationToken) -> RabbitQueue {
    let broker = Broker::at(&url.to_owned().into()).unwrap();
    let tasks = TaskTracker::new();
    RabbitQueue::new(&broker, BATCH_PEOPLE, DELIVERY_LIMIT, &tasks, shutdown)
}

/// An app at a rate.
pub fn app(rate_per_s: i64) -> App {
    App {
        id: AppId(7),
        name: "nearby".into(),
        rate_per_s,
        paused: false,
        drills: false,
        format: BatchFormat::Protobuf,
        created_at: Timestamp::UNIX_EPOCH,
    }
}

/// A message that is told from others by its body.
pub fn message(number: u8) -> Message {
    Message {
        id: BatchId::fresh(),
        kind: Kind::Issue,
        body: vec![number, 0, 255, b'\n'],
        life: LONG,
    }
}

/// So many of them.
pub fn messages(count: u8) -> Vec<Message> {
    (0..count).map(message).collect()
}

/// Puts messages into a queue that takes them all.
pub async fn put(queue: &dyn AppQueue, app: &App, messages: &[Message]) {
    let published = queue.publish(app, messages.to_vec()).await;
    assert_eq!(published, vec![Published::Confirmed; messages.len()]);
}

/// Subscribes to the queue of [`app`].
pub fn read(queue: &dyn AppQueue, in_hand: u16) -> Box<dyn Subscription> {
    let app = app(1);
    queue.subscribe(app.id, &app.name, in_hand)
}

/// The next batch, for the app; fails if none comes.
pub async fn next(reader: &dyn Subscription) -> Delivery {
    match in_time(reader).await {
        Next::Delivery(delivery) => delivery,
        Next::Dead(dead) => panic!("{} is dead", dead.id),
    }
}

/// The next batch, which must be dead.
pub async fn next_dead(reader: &dyn Subscription) -> Delivery {
    match in_time(reader).await {
        Next::Dead(dead) => dead,
        Next::Delivery(delivery) => panic!("{} is not dead", delivery.id),
    }
}

async fn in_time(reader: &dyn Subscription) -> Next {
    let next = tokio::time::timeout(PATIENCE, reader.next()).await;
    next.expect("something to come in time")
}

/// The next dead letter, recorded.
pub async fn dead(letters: &DeadLetters) -> (Option<BatchId>, String) {
    let letter = tokio::time::timeout(PATIENCE, letters.next()).await;
    let letter = letter.expect("a dead letter in time");
    let told = (letter.id, letter.reason.clone());
    letter.recorded();
    told
}
