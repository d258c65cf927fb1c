//! App queues in RabbitMQ: a quorum queue per app, from which the app takes its batches itself, or our
//! gRPC stream does for it. `link` keeps the connections, `topology` declares, `body` writes messages
//! out, `reader` consumes, `users` makes the apps' credentials.

mod body;
mod link;
mod reader;
mod topology;
mod users;

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation, PublisherConfirm};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::body::Bodies;
use self::link::Link;
use self::reader::Reader;
use super::{AppQueue, Message, Published, QueueError, Subscription, capacity};
use crate::model::{App, AppId, BatchId};

pub use link::{Broker, BrokerUrlError};
pub use reader::{DeadLetter, DeadLetters};
pub use users::{AppUser, UserError, Users};

/// Messages are kept on disk.
const PERSISTENT: u8 = 2;

/// The queues of all apps, over one connection to publish, one to consume, and one for all questions that
/// a sick queue may answer by ending the connection.
pub struct RabbitQueue {
    batch_people: u32,
    delivery_limit: u32,
    publishing: Link,
    consuming: Link,
    asking: Link,
    bodies: Bodies,
    open: Mutex<HashMap<AppId, Open>>,
}

/// What an open queue is used by.
struct Open {
    /// In confirm mode.
    publishing: Channel,
    /// To ask how much room there is: where batches are being published the answer would come after all of
    /// them. None while somebody asks, or if what was asked last was not answered.
    asking: Option<Channel>,
}

impl RabbitQueue {
    /// Queues on a broker, for batches of `batch_people`. It is connected to in the background, again
    /// and again until `shutdown`.
    #[must_use]
    pub fn new(
        broker: &Broker,
        batch_people: u32,
        delivery_limit: u32,
        tasks: &TaskTracker,
        shutdown: &CancellationToken,
    ) -> Self {
        let link = |name| Link::start(broker, name, tasks, shutdown);
        Self {
            batch_people,
            delivery_limit,
            publishing: link("homeward publishing"),
            consuming: link("homeward consuming"),
            asking: link("homeward asking"),
            bodies: Bodies::new(),
            open: Mutex::default(),
        }
    }

    /// What the broker put aside, of all apps.
    #[must_use]
    pub fn dead_letters(&self) -> DeadLetters {
        DeadLetters::start(&self.consuming)
    }

    fn open(&self) -> MutexGuard<'_, HashMap<AppId, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn channel(&self, app: AppId) -> Result<Channel, QueueError> {
        let channel = self.open().get(&app).map(|open| open.publishing.clone());
        channel
            .filter(|channel| channel.status().connected())
            .ok_or(QueueError::Away)
    }

    /// A channel for one errand: what goes wrong on it closes no other.
    async fn errand(&self) -> Result<Channel, QueueError> {
        channel_of(&self.asking).await
    }

    async fn send(&self, channel: &Channel, app: &App, messages: Vec<Message>) -> Vec<Published> {
        let written: Vec<_> = messages
            .into_iter()
            .map(|message| self.bodies.write(app.format, message))
            .collect();
        // Each future hands its message over when it is first looked at, so the order is kept.
        let sending = join_all(written.iter().map(|one| {
            let options = BasicPublishOptions {
                mandatory: true,
                ..BasicPublishOptions::default()
            };
            let key = topology::routing_key(app, one.kind).into();
            let properties = one.properties.clone();
            channel.basic_publish(topology::ALERTS.into(), key, options, &one.body, properties)
        }));
        let confirmed = async { join_all(sending.await.into_iter().map(confirmation)).await };
        let Some(confirmed) = self.publishing.patiently(confirmed).await else {
            // What is still to come of these is of no use any more.
            self.open().remove(&app.id);
            return vec![Published::Unsure; written.len()];
        };
        let ids: Vec<BatchId> = written.iter().map(|one| one.id).collect();
        outcomes(&ids, &confirmed)
    }
}

async fn channel_of(link: &Link) -> Result<Channel, QueueError> {
    let connection = link.connection().ok_or(QueueError::Away)?;
    link.asked("opening a channel", connection.create_channel())
        .await
}

/// Has the broker confirm what is published on a channel.
async fn confirming(link: &Link, channel: &Channel) -> Result<(), QueueError> {
    let selecting = channel.confirm_select(ConfirmSelectOptions::default());
    link.asked("asking for confirms", selecting).await
}

/// The broker's word on a message, if it gives one.
async fn confirmation(sent: lapin::Result<PublisherConfirm>) -> Option<Confirmation> {
    sent.ok()?.await.ok()
}

/// What the broker's words on a window of messages say. A nack comes from a full queue, but also from one
/// that lost its leader while the message was on its way. A message that came back found no queue; the
/// library gives it with the word on any message of the window, so it is known by its own id.
fn outcomes(ids: &[BatchId], confirmed: &[Option<Confirmation>]) -> Vec<Published> {
    let mut returned = HashSet::new();
    for one in confirmed {
        if let Some(Confirmation::Ack(Some(back)) | Confirmation::Nack(Some(back))) = one {
            let Some(id) = body::batch_id(&back.properties) else {
                return vec![Published::Unsure; ids.len()];
            };
            returned.insert(id);
        }
    }
    let each = ids.iter().zip(confirmed);
    each.map(|(id, confirmed)| match confirmed {
        _ if returned.contains(id) => Published::NotTaken,
        Some(Confirmation::Ack(_)) => Published::Confirmed,
        _ => Published::Unsure,
    })
    .collect()
}

impl AppQueue for RabbitQueue {
    fn is_lost<'a>(&'a self, app: &'a App) -> BoxFuture<'a, Result<bool, QueueError>> {
        async move {
            let (link, channel) = (&self.asking, self.errand().await?);
            let queue = topology::alerts_queue(&app.name);
            if topology::waiting_in(link, &channel, queue).await?.is_none() {
                return Ok(true);
            }
            let kept = topology::kept_queue(app);
            Ok(
                match topology::waiting_in(link, &channel, kept.clone()).await? {
                    None => true,
                    // A queue without its majority also says that it is empty. Purging needs the majority, so
                    // what it counts is true.
                    Some(0) => topology::purge(link, &channel, kept).await? == 0,
                    Some(_) => false,
                },
            )
        }
        .boxed()
    }

    fn open<'a>(&'a self, app: &'a App) -> BoxFuture<'a, Result<(), QueueError>> {
        async move {
            let errand = self.errand().await?;
            topology::declare(&self.asking, &errand, app).await?;
            confirming(&self.asking, &errand).await?;
            topology::mark_kept(&self.asking, &errand, app).await?;
            let publishing = channel_of(&self.publishing).await?;
            confirming(&self.publishing, &publishing).await?;
            let asking = Some(errand);
            self.open().insert(app.id, Open { publishing, asking });
            Ok(())
        }
        .boxed()
    }

    fn is_open(&self, app: AppId) -> bool {
        self.channel(app).is_ok()
    }

    fn room<'a>(&'a self, app: &'a App) -> BoxFuture<'a, Result<usize, QueueError>> {
        async move {
            self.channel(app.id)?;
            if self.publishing.blocked() {
                return Ok(0);
            }
            let kept = self
                .open()
                .get_mut(&app.id)
                .and_then(|open| open.asking.take());
            let asking = match kept.filter(|channel| channel.status().connected()) {
                Some(channel) => channel,
                None => self.errand().await?,
            };
            let queue = topology::alerts_queue(&app.name);
            let Some(waiting) = topology::waiting_in(&self.asking, &asking, queue).await? else {
                self.open().remove(&app.id);
                return Err(QueueError::Away);
            };
            if let Some(open) = self.open().get_mut(&app.id) {
                open.asking = Some(asking);
            }
            let waiting = usize::try_from(waiting).unwrap_or(usize::MAX);
            Ok(capacity(app, self.batch_people).saturating_sub(waiting))
        }
        .boxed()
    }

    fn freed(&self, _: AppId, limit: Duration) -> BoxFuture<'_, ()> {
        // The broker does not say when somebody takes something.
        tokio::time::sleep(limit).boxed()
    }

    fn publish<'a>(
        &'a self,
        app: &'a App,
        messages: Vec<Message>,
    ) -> BoxFuture<'a, Vec<Published>> {
        async move {
            let Ok(channel) = self.channel(app.id) else {
                return vec![Published::NotTaken; messages.len()];
            };
            let published = self.send(&channel, app, messages).await;
            if published.contains(&Published::NotTaken) {
                // The queue is gone: it has to be opened anew.
                self.open().remove(&app.id);
            }
            published
        }
        .boxed()
    }

    fn subscribe(&self, _: AppId, name: &str, in_hand: u16) -> Box<dyn Subscription> {
        let queue = topology::alerts_queue(name);
        Box::new(Reader::start(
            &self.consuming,
            queue,
            in_hand,
            self.delivery_limit,
        ))
    }

    fn broker(&self) -> Option<bool> {
        let links = [&self.publishing, &self.consuming, &self.asking];
        let up = links.iter().all(|link| link.connection().is_some());
        Some(up && !self.publishing.blocked())
    }
}
