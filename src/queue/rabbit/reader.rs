//! Taking messages from the broker, for as long as somebody wants them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, FutureExt as _};
use lapin::message::Delivery as Delivered;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, BasicRejectOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Acker, Channel, Connection, Consumer};
use tokio::sync::{Mutex, mpsc};
use tokio_util::task::AbortOnDropHandle;

use super::body::{Bodies, batch_id};
use super::link::{Link, code, waits};
use super::topology::{DEAD_QUEUE, NOT_FOUND};
use crate::model::BatchId;
use crate::queue::shelf::Shelf;
use crate::queue::{Next, Subscription};

/// How long to wait at most before consuming is tried again on a connection that stands: the queue may
/// not be there yet.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// Dead letters in hand at a time.
const DEAD_LETTERS_IN_HAND: u16 = 64;

/// What a consumer hears.
enum Heard {
    /// A message.
    Message(Box<Delivered>),
    /// It consumes anew: what it had before will come again.
    Anew,
}

/// Consumes a queue on a channel of its own, again and again.
async fn consume(link: Link, queue: String, in_hand: u16, mut hear: impl FnMut(Heard) + Send) {
    let mut again = waits();
    let mut complained = false;
    loop {
        let connection = link.connected().await;
        hear(Heard::Anew);
        let beginning = begin(Arc::clone(&connection), queue.clone(), in_hand);
        let consuming = async {
            // A reader that goes away in between leaves a consumer that is half begun, which the library would
            // keep for ever, with all that the broker gives it.
            let (_channel, mut messages) =
                tokio::spawn(beginning).await.map_err(io::Error::from)??;
            (again, complained) = (waits(), false);
            while let Some(message) = messages.next().await {
                hear(Heard::Message(Box::new(message?)));
            }
            Ok::<_, lapin::Error>(())
        };
        if let Err(error) = consuming.await
            && !complained
        {
            complained = true;
            // Queues are made by the lanes that send to them.
            if code(&error) == Some(NOT_FOUND) {
                tracing::info!(queue, "a queue to read from is not there yet");
            } else {
                tracing::warn!(queue, error = %error, "nothing can be taken from a queue for now");
            }
        }
        drop(connection);
        tokio::time::sleep(again.next().unwrap_or(AGAIN_AFTER)).await;
    }
}

/// Begins to consume a queue on a channel of its own.
async fn begin(
    connection: Arc<Connection>,
    queue: String,
    in_hand: u16,
) -> lapin::Result<(Channel, Consumer)> {
    let channel = connection.create_channel().await?;
    channel
        .basic_qos(in_hand, BasicQosOptions::default())
        .await?;
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let messages = channel
        .basic_consume(queue.into(), "".into(), options, arguments)
        .await?;
    Ok((channel, messages))
}

/// Settles a message in the background. If the broker does not hear of it, the message comes again.
fn ack(acker: Acker) {
    tokio::spawn(async move { acker.ack(BasicAckOptions::default()).await });
}

/// One reader of an app's queue.
pub(super) struct Reader {
    shelf: Arc<Shelf>,
    _task: AbortOnDropHandle<()>,
}

impl Reader {
    /// Takes batches from a queue, at most `in_hand` at a time.
    pub fn start(link: &Link, queue: String, in_hand: u16, delivery_limit: u32) -> Self {
        let shelf = Arc::new(Shelf::new(delivery_limit));
        let bodies = Bodies::new();
        let hear = {
            let shelf = Arc::clone(&shelf);
            move |heard| match heard {
                Heard::Anew => shelf.clear(),
                Heard::Message(message) => put(&shelf, &bodies, *message),
            }
        };
        let task = tokio::spawn(consume(link.clone(), queue, in_hand, hear));
        Self {
            shelf,
            _task: AbortOnDropHandle::new(task),
        }
    }
}

fn put(shelf: &Shelf, bodies: &Bodies, message: Delivered) {
    let acker = message.acker;
    if let Some((id, body)) = bodies.read(&message.properties, message.data) {
        shelf.put(id, body, Box::new(move || ack(acker)));
    } else {
        // Not one of ours: among the dead letters somebody will look at it.
        tokio::spawn(async move { acker.reject(BasicRejectOptions::default()).await });
    }
}

impl Subscription for Reader {
    fn next(&self) -> BoxFuture<'_, Next> {
        self.shelf.next().boxed()
    }
}

/// A message that the broker put aside.
pub struct DeadLetter {
    /// The batch; none if the message is not one of ours.
    pub id: Option<BatchId>,
    /// The broker's word for it: `rejected`, `delivery_limit`, `expired` ...
    pub reason: String,
    acker: Acker,
}

impl DeadLetter {
    /// It is recorded; the broker may forget it. Dropped otherwise, it comes again when the broker is
    /// connected to again.
    pub fn recorded(self) {
        ack(self.acker);
    }
}

/// The broker's dead letters, as they come.
pub struct DeadLetters {
    letters: Mutex<mpsc::UnboundedReceiver<DeadLetter>>,
    _task: AbortOnDropHandle<()>,
}

impl DeadLetters {
    pub(super) fn start(link: &Link) -> Self {
        // Bounded by what the broker lets us have in hand.
        let (put, letters) = mpsc::unbounded_channel();
        let hear = move |heard| {
            if let Heard::Message(message) = heard {
                let _ = put.send(DeadLetter {
                    id: batch_id(&message.properties),
                    reason: reason(message.properties.headers().as_ref()),
                    acker: message.acker,
                });
            }
        };
        let link = link.clone();
        let task = tokio::spawn(consume(
            link,
            DEAD_QUEUE.to_owned(),
            DEAD_LETTERS_IN_HAND,
            hear,
        ));
        Self {
            letters: Mutex::new(letters),
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// The next one, as soon as there is one. Safe to drop.
    pub async fn next(&self) -> DeadLetter {
        let mut letters = self.letters.lock().await;
        loop {
            match letters.recv().await {
                // What came over a connection that was lost comes again.
                Some(letter) if letter.acker.poisoned() => {}
                Some(letter) => return letter,
                // The task ends with `self` only.
                None => std::future::pending().await,
            }
        }
    }
}

/// Why the broker put a message aside, as its header `x-first-death-reason` says.
fn reason(headers: Option<&FieldTable>) -> String {
    let reason = headers.and_then(|headers| headers.inner().get("x-first-death-reason"));
    match reason {
        Some(AMQPValue::LongString(reason)) => reason.to_string(),
        _ => "unknown".to_owned(),
    }
}
