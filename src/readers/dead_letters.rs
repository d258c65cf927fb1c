//! What the broker put aside goes back into the database, where somebody looks after it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::dispatch::Dispatch;
use crate::model::BatchId;
use crate::queue::{DeadLetter, DeadLetters};
use crate::store::{Cause, StoreError, handed};

/// How long to wait before recording is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Records dead letters until shutdown.
pub async fn run(dispatch: Dispatch, letters: DeadLetters, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            letter = letters.next() => {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = keep(&dispatch, letter) => {}
                }
            }
        }
    }
}

/// Records one, however often that takes; the broker keeps it until then.
async fn keep(dispatch: &Dispatch, letter: DeadLetter) {
    let Some(id) = letter.id else {
        tracing::warn!(
            reason = letter.reason,
            "a message that is not Homeward's was in an app's queue"
        );
        dispatch.metrics.foreign_messages.inc();
        letter.recorded();
        return;
    };
    // The database knows by itself when a batch expires.
    if letter.reason != "expired" {
        while let Err(error) = record(dispatch, id, &letter.reason).await {
            if error.cause() == Cause::Defect {
                tracing::error!(batch.id = %id, error = %error, "a dead letter cannot be recorded and stays in the broker");
                return;
            }
            tracing::warn!(batch.id = %id, error = %error, "dead letter not recorded, trying again");
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }
    letter.recorded();
}

async fn record(dispatch: &Dispatch, id: BatchId, reason: &str) -> Result<(), StoreError> {
    let words = match reason {
        "rejected" => "rejected by the app",
        "delivery_limit" => "came back to the queue too often",
        other => other,
    };
    let mut tx = dispatch.store.begin().await?;
    let now = tx.now().await?;
    let dead = handed::dead(&mut tx, id, words, now).await?;
    tx.commit().await?;
    if dead {
        dispatch.metrics.dead();
        tracing::error!(batch.id = %id, reason = words, "a batch is a dead letter now");
        // A recall may have waited for this.
        dispatch.wake.batches();
    } else {
        dispatch.metrics.dead_letters_stale.inc();
    }
    Ok(())
}
