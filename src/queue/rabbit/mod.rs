//! App queues in RabbitMQ: a quorum queue per app, from which the app takes its batches itself, or our
//! gRPC stream does for it. `link` keeps the connections, `topology` declares, `body` writes messages
//! out, `reader` consumes, `users` makes the apps' credentials.

mod body;
mod link;
mod reader;
mod topology;
mod users;

use std::collections::HashMap;
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
use crate::model::{App, AppId};

pub use link::{Broker, BrokerUrlError};
pub use reader::{DeadLetter, DeadLetters};
pub use users::{AppUser, UserError, Users};

/// The queues of all apps, over one connection to publish and one to consume.
pub struct RabbitQueue {
    batch_people: u32,
    delivery_limit: u32,
    publishing: Link,
    consuming: Link,
    bodies: Bodies,
    /// A channel in confirm mode for each open queue.
    open: Mutex<HashMap<AppId, Channel>>,
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
            bodies: Bodies::new(),
            open: Mutex::default(),
        }
    }

    /// What the broker put aside, of all apps.
    #[must_use]
    pub fn dead_letters(&self) -> DeadLetters {
        DeadLetters::start(&self.consuming)
    }

    fn open(&self) -> MutexGuard<'_, HashMap<AppId, Channel>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn channel(&self, app: AppId) -> Result<Channel, QueueError> {
        let channel = self.open().get(&app).cloned();
        channel
            .filter(|channel| channel.status().connected())
            .ok_or(QueueError::Away)
    }

    /// A channel for one errand: what goes wrong on it closes no other.
    async fn errand(&self) -> Result<Channel, QueueError> {
        let connection = self.publishing.connection().ok_or(QueueError::Away)?;
        self.publishing
            .asked("opening a channel", connection.create_channel())
            .await
    }

    async fn send(&self, channel: &Channel, app: &App, messages: &[Message]) -> Vec<Published> {
        let written: Vec<_> = messages
            .iter()
            .map(|message| self.bodies.write(app.format, message))
            .collect();
        // Each future hands its message over when it is first looked at, so the order is kept.
        let sending = join_all(messages.iter().zip(&written).map(|(message, written)| {
            channel.basic_publish(
                topology::ALERTS.into(),
                topology::routing_key(app, message.kind).into(),
                BasicPublishOptions {
                    mandatory: true,
                    ..BasicPublishOptions::default()
                },
                &written.body,
                written.properties.clone(),
            )
        }));
        let confirmed = async { join_all(sending.await.into_iter().map(confirmation)).await };
        let Some(confirmed) = self.publishing.patiently(confirmed).await else {
            return vec![Published::Unsure; messages.len()];
        };
        confirmed.iter().map(|one| outcome(one.as_ref())).collect()
    }
}

/// The broker's word on a message, if it gives one.
async fn confirmation(sent: lapin::Result<PublisherConfirm>) -> Option<Confirmation> {
    sent.ok()?.await.ok()
}

/// What a confirm says. A nack comes from a full queue, but also from one that lost its leader while
/// the message was on its way.
fn outcome(confirmation: Option<&Confirmation>) -> Published {
    match confirmation {
        Some(Confirmation::Ack(None)) => Published::Confirmed,
        // Unroutable: the queue is gone.
        Some(Confirmation::Ack(Some(_))) => Published::NotTaken,
        Some(Confirmation::Nack(_) | Confirmation::NotRequested) | None => Published::Unsure,
    }
}

impl AppQueue for RabbitQueue {
    fn is_lost<'a>(&'a self, app: &'a App) -> BoxFuture<'a, Result<bool, QueueError>> {
        async move {
            let there = |queue| async move {
                let channel = self.errand().await?;
                topology::waiting_in(&self.publishing, &channel, queue).await
            };
            let kept = topology::kept_queue(app);
            if there(topology::alerts_queue(&app.name)).await?.is_none() {
                return Ok(true);
            }
            match there(kept.clone()).await? {
                None => Ok(true),
                Some(0) => {
                    // A queue without its majority also says that it is empty. Purging needs the
                    // majority, so what it counts is true.
                    let channel = self.errand().await?;
                    let purged = topology::purge(&self.publishing, &channel, kept).await?;
                    Ok(purged == 0)
                }
                Some(_) => Ok(false),
            }
        }
        .boxed()
    }

    fn open<'a>(&'a self, app: &'a App) -> BoxFuture<'a, Result<(), QueueError>> {
        async move {
            let channel = self.errand().await?;
            topology::declare_app(&self.publishing, &channel, app).await?;
            self.publishing
                .asked(
                    "asking for confirms",
                    channel.confirm_select(ConfirmSelectOptions::default()),
                )
                .await?;
            topology::mark_kept(&self.publishing, &channel, app).await?;
            self.open().insert(app.id, channel);
            Ok(())
        }
        .boxed()
    }

    fn is_open(&self, app: AppId) -> bool {
        self.channel(app).is_ok()
    }

    fn room<'a>(&'a self, app: &'a App) -> BoxFuture<'a, Result<usize, QueueError>> {
        async move {
            let channel = self.channel(app.id)?;
            if self.publishing.blocked() {
                return Ok(0);
            }
            let queue = topology::alerts_queue(&app.name);
            let waiting = topology::waiting_in(&self.publishing, &channel, queue).await?;
            // Asking for a queue that is gone closes the channel.
            let waiting = waiting.ok_or(QueueError::Away)?;
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
            let published = self.send(&channel, app, &messages).await;
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
        Some(self.publishing.connection().is_some() && !self.publishing.blocked())
    }
}
