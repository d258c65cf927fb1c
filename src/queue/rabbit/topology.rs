//! What Homeward declares on the broker. Names carry a version, because a queue's arguments cannot be
//! changed: other arguments are another version.
//!
//! `homeward.alerts` (topic) -> `homeward.alerts.APP.v1` (quorum) -> `homeward.dead` -> `homeward.dead.v1`.
//! Beside each app's queue, one message in `homeward.kept.APP.v1` (by way of the exchange `homeward.kept`) shows that the broker still has what
//! it was given: a broker whose queues were set up again from definitions has the queues but not that.

use lapin::options::{
    BasicPublishOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
    QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, ExchangeKind};

use super::PERSISTENT;
use super::link::{Link, code, refused};
use crate::model::{App, Kind};
use crate::queue::{MOST_MESSAGES, QueueError};

/// The exchange that all batches are published to.
pub(super) const ALERTS: &str = "homeward.alerts";
/// Where rejected and undeliverable messages go.
const DEAD: &str = "homeward.dead";
/// The queue of dead letters.
pub(super) const DEAD_QUEUE: &str = "homeward.dead.v1";
/// Where the messages come from that show that nothing was lost.
const KEPT: &str = "homeward.kept";
/// How often a message may come back to a queue before it is a dead letter. Brokers before 4.0 count
/// consumers that went away as well, so there must be room for many of those.
const DELIVERY_LIMIT: i64 = 100;
/// Dead letters wait for us for ever. Without a limit of ours brokers from 4.0 on would drop them after
/// 20 tries.
const DEAD_DELIVERY_LIMIT: i64 = 1_000_000_000;
/// The broker has no such queue.
pub(super) const NOT_FOUND: u16 = 404;
/// A queue of that name has other arguments.
const PRECONDITION_FAILED: u16 = 406;

/// The queue that an app takes its batches from.
pub(super) fn alerts_queue(name: &str) -> String {
    format!("{ALERTS}.{name}.v1")
}

/// The queue whose message shows that the broker has not lost an app's queue.
pub(super) fn kept_queue(app: &App) -> String {
    format!("homeward.kept.{}.v1", app.name)
}

/// How a batch finds its queue, and whoever else listens.
pub(super) fn routing_key(app: &App, kind: Kind) -> String {
    format!("{}.{}", app.name, kind.name())
}

/// Declares what all apps share.
async fn declare_shared(channel: &Channel) -> Result<(), lapin::Error> {
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    let exchanges = [
        (ALERTS, ExchangeKind::Topic),
        (DEAD, ExchangeKind::Fanout),
        (KEPT, ExchangeKind::Direct),
    ];
    for (name, kind) in exchanges {
        channel
            .exchange_declare(name.into(), kind, durable, FieldTable::default())
            .await?;
    }
    let mut arguments = quorum();
    limit(&mut arguments, "x-delivery-limit", DEAD_DELIVERY_LIMIT);
    let queue = QueueDeclareOptions::durable();
    channel
        .queue_declare(DEAD_QUEUE.into(), queue, arguments)
        .await?;
    let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
    channel
        .queue_bind(
            DEAD_QUEUE.into(),
            DEAD.into(),
            "".into(),
            options,
            arguments,
        )
        .await
}

fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    put(&mut arguments, "x-queue-type", "quorum");
    arguments
}

fn put(arguments: &mut FieldTable, name: &str, value: &str) {
    arguments.insert(name.into(), AMQPValue::LongString(value.into()));
}

fn limit(arguments: &mut FieldTable, name: &str, value: i64) {
    arguments.insert(name.into(), AMQPValue::LongLongInt(value));
}

/// An app's queue never grows beyond its length: it refuses. Lanes keep it far shorter.
fn of_app() -> FieldTable {
    let mut arguments = quorum();
    put(&mut arguments, "x-overflow", "reject-publish");
    put(&mut arguments, "x-dead-letter-exchange", DEAD);
    put(&mut arguments, "x-dead-letter-strategy", "at-least-once");
    limit(&mut arguments, "x-max-length", MOST_MESSAGES);
    limit(&mut arguments, "x-delivery-limit", DELIVERY_LIMIT);
    arguments
}

/// Declares what an app's queue needs, and the queue.
pub(super) async fn declare(link: &Link, channel: &Channel, app: &App) -> Result<(), QueueError> {
    link.asked("declaring what all apps share", declare_shared(channel))
        .await?;
    declare_queue(link, channel, alerts_queue(&app.name), of_app()).await?;
    bind(
        link,
        channel,
        alerts_queue(&app.name),
        ALERTS,
        format!("{}.*", app.name),
    )
    .await?;
    declare_queue(link, channel, kept_queue(app), quorum()).await?;
    bind(link, channel, kept_queue(app), KEPT, app.name.clone()).await
}

async fn bind(
    link: &Link,
    channel: &Channel,
    queue: String,
    exchange: &str,
    key: String,
) -> Result<(), QueueError> {
    let doing = format!("binding queue {queue}");
    let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
    let binding = channel.queue_bind(
        queue.into(),
        exchange.into(),
        key.into(),
        options,
        arguments,
    );
    link.asked(&doing, binding).await
}

async fn declare_queue(
    link: &Link,
    channel: &Channel,
    name: String,
    arguments: FieldTable,
) -> Result<(), QueueError> {
    let declaring = channel.queue_declare(
        name.clone().into(),
        QueueDeclareOptions::durable(),
        arguments,
    );
    let doing = format!("declaring queue {name}");
    match link.heard(&doing, declaring).await? {
        Ok(_) => Ok(()),
        Err(error) if code(&error) == Some(PRECONDITION_FAILED) => Err(QueueError::Refused {
            doing,
            reason: format!(
                "somebody declared it with other arguments ({error}). Delete it (rabbitmqctl delete_queue \
                 {name}), and Homeward makes it anew and sends again what was in it"
            ),
        }),
        Err(error) => Err(refused(&doing, &error)),
    }
}

/// How many messages wait in a queue; none if there is no such queue, which closes the channel.
pub(super) async fn waiting_in(
    link: &Link,
    channel: &Channel,
    queue: String,
) -> Result<Option<u32>, QueueError> {
    let passive = QueueDeclareOptions::durable().passive();
    let doing = format!("asking for queue {queue}");
    let asking = channel.queue_declare(queue.into(), passive, FieldTable::default());
    match link.heard(&doing, asking).await? {
        Ok(queue) => Ok(Some(queue.message_count())),
        Err(error) if code(&error) == Some(NOT_FOUND) => Ok(None),
        Err(error) => Err(refused(&doing, &error)),
    }
}

/// Empties a queue and says how many messages were in it.
pub(super) async fn purge(
    link: &Link,
    channel: &Channel,
    queue: String,
) -> Result<u32, QueueError> {
    let doing = format!("purging queue {queue}");
    let purging = channel.queue_purge(queue.into(), QueuePurgeOptions::default());
    link.asked(&doing, purging).await
}

/// Puts the message there that shows that nothing was lost. The channel must be in confirm mode.
pub(super) async fn mark_kept(link: &Link, channel: &Channel, app: &App) -> Result<(), QueueError> {
    let queue = kept_queue(app);
    if waiting_in(link, channel, queue.clone()).await? > Some(0) {
        return Ok(());
    }
    let doing = format!("marking queue {queue}");
    let publishing = async {
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let text = b"Shows Homeward that this broker has kept what it was given. Leave it here.";
        let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
        let key = app.name.as_str().into();
        let sent = channel.basic_publish(KEPT.into(), key, options, text, properties);
        sent.await?.await
    };
    if link.asked(&doing, publishing).await? == Confirmation::Ack(None) {
        return Ok(());
    }
    let reason = "the broker did not confirm".to_owned();
    Err(QueueError::Refused { doing, reason })
}
