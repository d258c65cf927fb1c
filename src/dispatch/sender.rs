//! What the owner of a lane does: opens the app's queue, claims the batches to send next (`pick`),
//! publishes them, records what became of them. The three are done side by side for three windows of
//! batches, so that neither database nor broker waits for the other.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::lane::Tenure;
use super::pick::{Picker, Rest, Window};
use super::recall::persons;
use super::{Dispatch, pause};
use crate::alert::compose::Writer;
use crate::model::{App, BatchId};
use crate::queue::{Message, Published, QueueError};
use crate::store::sending::Claimed;
use crate::store::{StoreError, handed, sending, told};

/// How long to wait for room in a full queue before looking at it again.
const ROOM_WAIT: Duration = Duration::from_millis(250);
/// How long to wait before a queue that could not be opened is tried again.
const OPEN_AGAIN: Duration = Duration::from_millis(500);
/// How often an idle lane looks whether its queue is still there: somebody may have deleted it.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long to wait before recording again what became of batches.
const RECORD_AGAIN: Duration = Duration::from_millis(100);
/// How long the broker may be away before that is worth a word.
const PATIENCE: Duration = Duration::from_secs(3);

/// The sender of a lane.
pub(super) struct Sender {
    dispatch: Dispatch,
    tenure: watch::Receiver<Tenure>,
    shutdown: CancellationToken,
    wake: watch::Receiver<u64>,
    picker: Picker,
    /// The queue did not confirm what it was given last.
    troubled: bool,
}

impl Sender {
    pub fn new(
        dispatch: Dispatch,
        tenure: watch::Receiver<Tenure>,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            wake: dispatch.wake.batches_listener(),
            picker: Picker::new(dispatch.clone(), tenure.clone()),
            troubled: false,
            dispatch,
            tenure,
            shutdown,
        }
    }

    fn tenure(&self) -> Tenure {
        self.tenure.borrow().clone()
    }

    /// Sends until shutdown, or until the database fails in a way that leaves something unknown.
    pub async fn run(mut self) -> Result<(), StoreError> {
        let mut open = false;
        let mut complaints = Complaints::default();
        let mut looked = Instant::now();
        while !self.shutdown.is_cancelled() {
            let app = self.tenure().app;
            if !(open && self.dispatch.queue.is_open(app.id)) {
                match self.open().await? {
                    Ok(()) => {
                        open = true;
                        complaints = Complaints::default();
                    }
                    Err(error) => {
                        complaints.hear(&app, error);
                        self.rest(OPEN_AGAIN).await;
                        continue;
                    }
                }
            }
            match self.send().await? {
                Rest::Idle => {
                    self.pause(self.dispatch.config.dispatch.poll()).await;
                    if looked.elapsed() >= LOOK_EVERY {
                        looked = Instant::now();
                        // A queue that is gone is not open any more.
                        tokio::select! {
                            () = self.shutdown.cancelled() => {}
                            _ = self.dispatch.queue.room(&app) => {}
                        }
                    }
                }
                Rest::Throttled(wait) => self.pause(wait).await,
                Rest::Full => tokio::select! {
                    () = self.shutdown.cancelled() => {}
                    () = self.dispatch.queue.freed(app.id, ROOM_WAIT) => {}
                },
            }
        }
        Ok(())
    }

    /// Counts what did not surely go out, and says so once for each time of trouble.
    fn note(&mut self, app: &App, outcome: &Outcome) {
        let (back, never_sent) = (outcome.back.len(), outcome.never_sent.len());
        if back + never_sent > 0 {
            let metrics = &self.dispatch.metrics;
            metrics
                .batches_not_confirmed
                .inc_by((back + never_sent) as u64);
            if !self.troubled {
                tracing::warn!(
                    app.id = app.id.0,
                    unsure = back,
                    not_taken = never_sent,
                    "the app's queue did not confirm batches, they go out again"
                );
            }
            self.troubled = true;
        } else if !outcome.sent.is_empty() {
            self.troubled = false;
        }
    }

    async fn pause(&mut self, wait: Duration) {
        pause(&mut self.wake, wait, &self.shutdown).await;
    }

    async fn rest(&self, wait: Duration) {
        tokio::select! {
            () = self.shutdown.cancelled() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }

    /// Opens the app's queue. What a lost lane or queue had goes back to the backlog first: should
    /// this server die in between, the queue still says that it was lost.
    async fn open(&self) -> Result<Result<(), QueueError>, StoreError> {
        let Tenure {
            app, owner, fence, ..
        } = self.tenure();
        let queue = &self.dispatch.queue;
        let lost = match queue.is_lost(&app).await {
            Ok(lost) => lost,
            Err(error) => return Ok(Err(error)),
        };
        let mut tx = self.dispatch.store.begin().await?;
        let now = tx.now().await?;
        let lane = (app.id, owner, fence);
        let Some(recovered) = sending::recover(&mut tx, lane, lost, now).await? else {
            return Ok(Err(QueueError::NotOurs));
        };
        tx.commit().await?;
        if recovered.requeued > 0 {
            let batches = recovered.requeued;
            tracing::info!(
                app.id = app.id.0,
                batches,
                "batches not known to be taken go out again"
            );
        }
        self.dispatch
            .metrics
            .batches_again
            .inc_by(recovered.requeued);
        Ok(queue.open(&app).await)
    }

    /// Sends until there is nothing to send for now.
    async fn send(&mut self) -> Result<Rest, StoreError> {
        let mut claimed = Window::default();
        let mut outcome = Outcome::default();
        let mut rest = None;
        let mut failed = None;
        loop {
            let tenure = self.tenure();
            let in_hand = claimed.batches.len();
            let recording = !outcome.is_empty();
            let picks = rest.is_none() && failed.is_none() && !self.shutdown.is_cancelled();
            let published = publish(&self.dispatch, &tenure.app, claimed);
            let recorded = record(&self.dispatch, &tenure, &outcome);
            let picked = async {
                if picks {
                    self.picker.pick(in_hand).await
                } else {
                    Ok(Err(Rest::Idle))
                }
            };
            let ((), published, picked) = tokio::join!(recorded, published, picked);
            outcome = published;
            self.note(&tenure.app, &outcome);
            claimed = match picked {
                Ok(Ok(claimed)) => claimed,
                Ok(Err(none)) => {
                    rest.get_or_insert(none);
                    Window::default()
                }
                Err(error) => {
                    failed.get_or_insert(error);
                    Window::default()
                }
            };
            if outcome.not_sent() {
                rest = Some(Rest::Full);
            } else if recording && matches!(rest, Some(Rest::Idle)) {
                // A recall may have waited for what has been recorded now.
                rest = None;
            }
            if claimed.batches.is_empty() && outcome.is_empty() && !recording {
                return failed.map_or(Ok(rest.unwrap_or(Rest::Idle)), Err);
            }
        }
    }
}

/// Why a queue cannot be opened, each reason said once.
#[derive(Default)]
struct Complaints {
    since: Option<Instant>,
    said: Option<QueueError>,
}

impl Complaints {
    /// A connection that is only just being made is nothing to complain about.
    fn hear(&mut self, app: &App, error: QueueError) {
        let since = *self.since.get_or_insert_with(Instant::now);
        let early = error == QueueError::Away && since.elapsed() < PATIENCE;
        if early || self.said.as_ref() == Some(&error) {
            return;
        }
        tracing::error!(app.id = app.id.0, error = %error, "the app's queue cannot be opened, its batches wait");
        self.said = Some(error);
    }
}

/// Publishes what was claimed and says what became of it.
async fn publish(dispatch: &Dispatch, app: &App, claimed: Window) -> Outcome {
    let mut outcome = Outcome::default();
    let mut messages = Vec::with_capacity(claimed.batches.len());
    let mut sent = Vec::with_capacity(claimed.batches.len());
    let mut writer = Writer::new(claimed.contents);
    for Claimed {
        batch, first, life, ..
    } in claimed.batches
    {
        match writer.write(&batch) {
            Ok(body) => {
                messages.push(Message {
                    id: batch.id,
                    kind: batch.kind,
                    body,
                    life,
                });
                sent.push((batch.id, first, batch.kind, batch.people));
            }
            Err(error) => outcome.unreadable.push((batch.id, error.to_string())),
        }
    }
    if messages.is_empty() {
        return outcome;
    }
    let published = dispatch.queue.publish(app, messages).await;
    for ((id, first, kind, people), published) in sent.into_iter().zip(published) {
        match published {
            Published::Confirmed => {
                dispatch.metrics.sent(&app.name, kind, people);
                outcome.sent.push(id);
            }
            Published::NotTaken if first => outcome.never_sent.push(id),
            Published::NotTaken | Published::Unsure => outcome.back.push(id),
        }
    }
    outcome
}

/// Records what became of batches, as often as it takes: the lane's lease bounds it.
async fn record(dispatch: &Dispatch, tenure: &Tenure, outcome: &Outcome) {
    while let Err(error) = record_once(dispatch, tenure, outcome).await {
        tracing::warn!(app.id = tenure.app.id.0, error = %error, "not recorded, trying again");
        tokio::time::sleep(RECORD_AGAIN).await;
    }
}

async fn record_once(
    dispatch: &Dispatch,
    tenure: &Tenure,
    outcome: &Outcome,
) -> Result<(), StoreError> {
    if outcome.is_empty() {
        return Ok(());
    }
    let (app, fence) = (tenure.app.id, tenure.fence);
    let mut tx = dispatch.store.begin().await?;
    let now = tx.now().await?;
    let back = outcome.never_sent.iter().chain(&outcome.back);
    let back: Vec<Uuid> = back.map(|id| id.0).collect();
    sending::share_cases(&mut tx, &back).await?;
    sending::sent(&mut tx, app, fence, &outcome.sent, now).await?;
    sending::give_back(&mut tx, app, fence, &outcome.back, false).await?;
    let unsent = sending::give_back(&mut tx, app, fence, &outcome.never_sent, true).await?;
    let people = unsent
        .into_iter()
        .flat_map(|(alert, recipients)| persons(alert, &[recipients]));
    told::take_off(&mut tx, people).await?;
    for (id, reason) in &outcome.unreadable {
        tracing::error!(batch.id = %id, reason, "a stored batch cannot be read");
        handed::dead(&mut tx, *id, reason, now).await?;
    }
    tx.commit().await?;
    for _ in &outcome.unreadable {
        dispatch.metrics.dead();
    }
    Ok(())
}

/// What became of batches that were claimed.
#[derive(Default)]
struct Outcome {
    /// Confirmed by the queue.
    sent: Vec<BatchId>,
    /// Surely not taken by the queue, and never handed to it before.
    never_sent: Vec<BatchId>,
    /// Not known to be in the queue, but perhaps there, now or from before.
    back: Vec<BatchId>,
    /// Cannot be read, and why.
    unreadable: Vec<(BatchId, String)>,
}

impl Outcome {
    fn not_sent(&self) -> bool {
        !(self.never_sent.is_empty() && self.back.is_empty())
    }

    fn is_empty(&self) -> bool {
        self.sent.is_empty() && !self.not_sent() && self.unreadable.is_empty()
    }
}
