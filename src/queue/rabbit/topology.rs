//! What Homeward declares on the broker. Names carry a version, because a queue's arguments cannot be
//! changed: other arguments are another version.
//!
//! `homeward.alerts` (topic) -> `homeward.alerts.APP.v1` (quorum) -> `homeward.dead` -> `homeward.dead.v1`.
//! Beside each app's queue, one message in `homeward.kept.APP.v1` shows that the broker still has what
//! it was given: a broker whose queues were set up again from definitions has the queues but not that.

use lapin::options::{
    BasicPublishOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
    QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ErrorKind, ExchangeKind};

use super::link::Link;
use crate::model::{App, Kind};
use crate::queue::{MOST_MESSAGES, QueueError};

/// The exchange that all batches are published to.
pub(super) const ALERTS: &str = "homeward.alerts";
/// Where rejected and undeliverable messages go.
const DEAD: &str = "homeward.dead";
/// The queue of dead letters.
pub(super) const DEAD_QUEUE: &str = "homeward.dead.v1";
/// How often a message may come back to a queue before it is a dead letter. Brokers before 4.0 count
/// consumers that went away as well, so there must be room for a few of those.
const DELIVERY_LIMIT: i64 = 20;
/// Messages are kept on disk.
const PERSISTENT: u8 = 2;
/// The broker has no such queue.
const NOT_FOUND: u16 = 404;
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
pub(super) async fn declare(connection: &Connection) -> Result<(), lapin::Error> {
    let channel = connection.create_channel().await?;
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    for (name, kind) in [(ALERTS, ExchangeKind::Topic), (DEAD, ExchangeKind::Fanout)] {
        channel
            .exchange_declare(name.into(), kind, durable, FieldTable::default())
            .await?;
    }
    let queue = QueueDeclareOptions::durable();
    channel
        .queue_declare(DEAD_QUEUE.into(), queue, quorum())
        .await?;
    channel
        .queue_bind(
            DEAD_QUEUE.into(),
            DEAD.into(),
            "".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await?;
    channel.close(200, "OK".into()).await
}

fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    put(&mut arguments, "x-queue-type", "quorum");
    arguments
}

fn put(arguments: &mut FieldTable, name: &str, value: &str) {
    arguments.insert(name.into(), AMQPValue::LongString(value.into()));
}

/// An app's queue never grows beyond its length: it refuses. Lanes keep it far shorter.
fn of_app() -> FieldTable {
    let mut arguments = quorum();
    put(&mut arguments, "x-overflow", "reject-publish");
    put(&mut arguments, "x-dead-letter-exchange", DEAD);
    put(&mut arguments, "x-dead-letter-strategy", "at-least-once");
    for (name, value) in [
        ("x-max-length", MOST_MESSAGES),
        ("x-delivery-limit", DELIVERY_LIMIT),
    ] {
        arguments.insert(name.into(), AMQPValue::LongLongInt(value));
    }
    arguments
}

/// Declares what belongs to an app.
pub(super) async fn declare_app(
    link: &Link,
    channel: &Channel,
    app: &App,
) -> Result<(), QueueError> {
    declare_queue(link, channel, alerts_queue(&app.name), of_app()).await?;
    let binding = channel.queue_bind(
        alerts_queue(&app.name).into(),
        ALERTS.into(),
        format!("{}.*", app.name).into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    link.asked("binding an app's queue", binding).await?;
    declare_queue(link, channel, kept_queue(app), quorum()).await
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
    match link.patiently(declaring).await {
        Some(Err(error)) if code(&error) == Some(PRECONDITION_FAILED) => Err(QueueError::Refused {
            doing,
            reason: format!(
                "somebody declared it with other arguments ({}). Delete it (rabbitmqctl delete_queue {name}), \
                 and Homeward makes it anew and sends again what was in it",
                said(&error)
            ),
        }),
        Some(declared) => link.asked(&doing, async { declared }).await.map(drop),
        None => Err(QueueError::Away),
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
    match link.patiently(asking).await {
        Some(Err(error)) if code(&error) == Some(NOT_FOUND) => Ok(None),
        Some(answer) => {
            let queue = link.asked(&doing, async { answer }).await?;
            Ok(Some(queue.message_count()))
        }
        None => Err(QueueError::Away),
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
        let sent = channel.basic_publish(
            "".into(),
            queue.into(),
            BasicPublishOptions::default(),
            b"Shows Homeward that this broker has kept what it was given. Leave it here.",
            BasicProperties::default().with_delivery_mode(PERSISTENT),
        );
        sent.await?.await
    };
    let confirmed = link.asked(&doing, publishing).await?;
    if confirmed.is_ack() {
        Ok(())
    } else {
        let reason = "the broker did not confirm".to_owned();
        Err(QueueError::Refused { doing, reason })
    }
}

fn code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(said) => Some(said.get_id()),
        _ => None,
    }
}

fn said(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(said) => said.get_message().to_string(),
        _ => error.to_string(),
    }
}
