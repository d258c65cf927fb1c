//! The gRPC reader: an app's stream of batches, acknowledged one by one.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use prost::Message as _;
use secrecy::SecretString;
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use super::watch::watch;
use crate::alert::proto::v1::alerts_server::Alerts;
use crate::alert::proto::v1::consume_request::Message as Said;
use crate::alert::proto::v1::{AlertBatch, ConsumeRequest, WatchRequest};
use crate::audience::eligibility::{is_quiet, zone_or_utc};
use crate::dispatch::Dispatch;
use crate::keys::{self, RateLimits};
use crate::model::{AppId, BatchId, Holder};
use crate::queue::{Delivery, Next, Subscription};
use crate::store::handed::HandOn;
use crate::store::{Store, StoreError, handed, without_conflict};

/// Unacknowledged batches of a stream that does not say how many it can take.
const IN_FLIGHT: u32 = 16;
/// Most unacknowledged batches of a stream.
const IN_FLIGHT_MAX: u32 = 1_000;
/// How often an open stream's key is looked up again: a withdrawn key ends it at most so long after.
const KEY_CHECK_EVERY: Duration = Duration::from_mins(1);
/// How long a stream may take to say hello.
const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// Serves `homeward.v1.Alerts`.
pub struct AlertsService {
    dispatch: Dispatch,
    limits: Arc<RateLimits>,
    shutdown: CancellationToken,
}

type Batches = Pin<Box<dyn Stream<Item = Result<AlertBatch, Status>> + Send>>;

impl AlertsService {
    /// A service over the app queues; its streams end with `shutdown`.
    #[must_use]
    pub const fn new(
        dispatch: Dispatch,
        limits: Arc<RateLimits>,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            dispatch,
            limits,
            shutdown,
        }
    }

    /// The app whose key the call carries, its name and the key.
    async fn app<T>(&self, request: &Request<T>) -> Result<(AppKey, String), Status> {
        let key = request
            .metadata()
            .get("authorization")
            .and_then(|value| value.to_str().ok())
            .and_then(keys::bearer)
            .ok_or_else(|| {
                Status::unauthenticated(
                    "metadata 'authorization: Bearer KEY' with an app's key is needed",
                )
            })?;
        let caller = keys::caller(&self.dispatch.store, &key)
            .await
            .map_err(|error| unavailable(&error))?
            .ok_or_else(no_longer_good)?;
        self.limits.check(caller.key).map_err(|wait| {
            Status::resource_exhausted(format!("too many calls, wait {} ms", wait.as_millis()))
        })?;
        match caller.holder {
            Holder::App(app, name) => Ok((AppKey { app, secret: key }, name)),
            _ => Err(Status::permission_denied("this takes an app's key")),
        }
    }
}

#[tonic::async_trait]
impl Alerts for AlertsService {
    type ConsumeStream = Batches;
    type WatchStream = Batches;

    async fn consume(
        &self,
        request: Request<Streaming<ConsumeRequest>>,
    ) -> Result<Response<Batches>, Status> {
        let (key, name) = self.app(&request).await?;
        let mut said = request.into_inner();
        let first = in_time(said.message()).await?;
        let max_in_flight = match first.and_then(|first| first.message) {
            Some(Said::Hello(hello)) if hello.max_in_flight == 0 => IN_FLIGHT,
            Some(Said::Hello(hello)) if hello.max_in_flight <= IN_FLIGHT_MAX => hello.max_in_flight,
            Some(Said::Hello(_)) => {
                return Err(Status::invalid_argument(
                    "max_in_flight: 1 to 1000 are accepted, 0 means 16",
                ));
            }
            _ => return Err(Status::invalid_argument("the first message must be hello")),
        };
        let (out, batches) = mpsc::channel(max_in_flight as usize);
        let in_hand = u16::try_from(max_in_flight).unwrap_or(u16::MAX);
        let subscription = self.dispatch.queue.subscribe(key.app, &name, in_hand);
        let consumer = Consumer {
            subscription,
            dispatch: self.dispatch.clone(),
            app: key.app,
            name,
            out,
            held: HashMap::new(),
            max_in_flight: max_in_flight as usize,
        };
        tokio::spawn(consumer.run(key, said, self.shutdown.clone()));
        Ok(Response::new(Box::pin(ReceiverStream::new(batches))))
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Batches>, Status> {
        let (key, _) = self.app(&request).await?;
        let now = self
            .dispatch
            .store
            .now()
            .await
            .map_err(|error| unavailable(&error))?;
        let (out, batches) = mpsc::channel(16);
        let seen = (now, BatchId(Uuid::max()));
        tokio::spawn(watch(
            self.dispatch.clone(),
            key,
            seen,
            out,
            self.shutdown.clone(),
        ));
        Ok(Response::new(Box::pin(ReceiverStream::new(batches))))
    }
}

/// What a stream was opened with.
pub(super) struct AppKey {
    pub app: AppId,
    secret: SecretString,
}

impl AppKey {
    /// Ticks when the key is to be looked up again.
    pub fn checks() -> Interval {
        tokio::time::interval_at(Instant::now() + KEY_CHECK_EVERY, KEY_CHECK_EVERY)
    }

    /// Looks whether the key is still the app's. A database that does not answer ends no stream: nothing
    /// is handed on without it either.
    pub async fn check(&self, store: &Store) -> Result<(), Status> {
        match keys::caller(store, &self.secret).await {
            Ok(Some(caller)) if matches!(caller.holder, Holder::App(id, _) if id == self.app) => {
                Ok(())
            }
            Ok(_) => Err(no_longer_good()),
            Err(error) => {
                tracing::warn!(error = %error, "a stream's key cannot be looked up again");
                Ok(())
            }
        }
    }
}

fn no_longer_good() -> Status {
    Status::unauthenticated("the key is unknown or no longer good")
}

/// A stream's first message, if it comes in time.
async fn in_time<T>(first: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    tokio::time::timeout(HELLO_WITHIN, first)
        .await
        .unwrap_or_else(|_| {
            Err(Status::deadline_exceeded(format!(
                "hello is expected within {} s",
                HELLO_WITHIN.as_secs()
            )))
        })
}

/// One app's open stream.
struct Consumer {
    dispatch: Dispatch,
    app: AppId,
    name: String,
    out: mpsc::Sender<Result<AlertBatch, Status>>,
    /// What the app has not acknowledged yet; dropped, it goes back into the queue.
    held: HashMap<BatchId, Delivery>,
    max_in_flight: usize,
    subscription: Box<dyn Subscription>,
}

impl Consumer {
    async fn run(
        mut self,
        key: AppKey,
        mut said: Streaming<ConsumeRequest>,
        shutdown: CancellationToken,
    ) {
        let mut checks = AppKey::checks();
        loop {
            let room = self.held.len() < self.max_in_flight;
            let done = tokio::select! {
                biased;
                () = shutdown.cancelled() => Err(Status::unavailable("the server is stopping")),
                _ = checks.tick() => key.check(&self.dispatch.store).await,
                said = said.message() => match said {
                    Ok(Some(said)) => self.heard(said).await,
                    Ok(None) | Err(_) => return,
                },
                () = self.out.closed() => return,
                next = self.subscription.next(), if room => self.hand_on(next).await,
            };
            if let Err(status) = done {
                // Back into the queue first: an app that does not read would keep them.
                self.held.clear();
                let _ = self.out.send(Err(status)).await;
                return;
            }
        }
    }

    /// Sends a batch to the app, unless its alert was recalled meanwhile.
    async fn hand_on(&mut self, next: Next) -> Result<(), Status> {
        let delivery = match next {
            Next::Delivery(delivery) => delivery,
            Next::Dead(delivery) => return self.bury(delivery).await,
        };
        let id = delivery.id;
        let fate = self
            .fate_now(id)
            .await
            .map_err(|error| unavailable(&error))?;
        if let Some(fate) = fate {
            self.dispatch.metrics.batches_held_back.inc();
            self.record(id, fate).await?;
            delivery.ack();
            return Ok(());
        }
        let batch = AlertBatch::decode(delivery.body.as_slice())
            .map_err(|error| Status::internal(format!("a stored batch cannot be read: {error}")))?;
        self.held.insert(id, delivery);
        self.out
            .send(Ok(batch))
            .await
            .map_err(|_| Status::cancelled("the app went away"))
    }

    /// What becomes of a batch that is not to be handed on now.
    async fn fate_now(&self, id: BatchId) -> Result<Option<Fate>, StoreError> {
        let mut session = self.dispatch.store.read().await?;
        let now = session.now().await?;
        let hours = &self.dispatch.config.quiet_hours;
        Ok(
            match handed::may_hand_on(&mut session, self.app, id, now).await? {
                HandOn::Yes => None,
                HandOn::ByDay(zone) => {
                    is_quiet(now, hours, &zone_or_utc(&zone)).then_some(Fate::PutOff)
                }
                HandOn::No => Some(Fate::HeldBack),
            },
        )
    }

    async fn heard(&mut self, said: ConsumeRequest) -> Result<(), Status> {
        match said.message {
            Some(Said::Ack(ack)) => {
                let id = batch_id(&ack.batch_id)?;
                // Already settled, perhaps by a repeat: nothing to do.
                let Some(delivery) = self.held.remove(&id) else {
                    return Ok(());
                };
                self.record(id, Fate::Taken).await?;
                delivery.ack();
                self.dispatch.metrics.taken(&self.name, "grpc");
                // A recall may have waited for this.
                self.dispatch.wake.batches();
                Ok(())
            }
            Some(Said::Reject(reject)) => {
                let id = batch_id(&reject.batch_id)?;
                if let Some(delivery) = self.held.remove(&id) {
                    delivery.reject();
                }
                Ok(())
            }
            Some(Said::Hello(_)) => Err(Status::invalid_argument("hello is said once")),
            None => Err(Status::invalid_argument("ack or reject is expected")),
        }
    }

    /// Keeps a batch that the app refused too often as a dead letter.
    async fn bury(&self, delivery: Delivery) -> Result<(), Status> {
        let id = delivery.id;
        self.record(id, Fate::Dead).await?;
        delivery.ack();
        self.dispatch.metrics.dead();
        tracing::error!(app.id = self.app.0, batch.id = %id, "batch refused too often, now a dead letter");
        Ok(())
    }

    /// Records what became of a batch, trying again when another transaction was in the way.
    async fn record(&self, id: BatchId, fate: Fate) -> Result<(), Status> {
        let recorded = without_conflict(|| self.record_once(id, fate)).await;
        recorded.map_err(|error| unavailable(&error))
    }

    async fn record_once(&self, id: BatchId, fate: Fate) -> Result<(), StoreError> {
        let mut tx = self.dispatch.store.begin().await?;
        let now = tx.now().await?;
        match fate {
            Fate::Taken => drop(handed::taken(&mut tx, self.app, &[id], now).await?),
            Fate::HeldBack => handed::hold_back(&mut tx, self.app, id, now).await?,
            Fate::PutOff => handed::put_off(&mut tx, self.app, id).await?,
            Fate::Dead => {
                let limit = self.dispatch.config.dispatch.delivery_limit;
                let reason = format!("refused by the app {limit} times");
                handed::dead(&mut tx, id, &reason, now).await?;
            }
        }
        tx.commit().await
    }
}

/// What became of a batch in the reader's hands.
#[derive(Debug, Clone, Copy)]
enum Fate {
    /// The app has it.
    Taken,
    /// Held back, because its alert was recalled or its time is over.
    HeldBack,
    /// Waits until the night is over.
    PutOff,
    /// Refused too often.
    Dead,
}

fn batch_id(text: &str) -> Result<BatchId, Status> {
    text.parse()
        .map_err(|_| Status::invalid_argument("batch_id: the id of a batch is expected"))
}

pub(super) fn unavailable(error: &StoreError) -> Status {
    tracing::warn!(error = %error, "the database did not answer a stream");
    Status::unavailable("the database is not available, try again")
}
