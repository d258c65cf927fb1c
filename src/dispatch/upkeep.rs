//! What has to be done from time to time: expiry, erasure, forgetting.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::Dispatch;
use super::recall::persons;
use crate::model::Actor;
use crate::store::{
    StoreError, batches, cases, idempotency, persons, retention, subscribers, timeline, told,
};

/// How often it is looked for.
const EVERY: Duration = Duration::from_secs(5);
/// How long an answer is kept for a repeated request.
const IDEMPOTENCY_LIFE: SignedDuration = SignedDuration::from_hours(24);
/// How long told-lists are kept: the seven days of the cap, and a day to spare.
const TOLD_LIFE: SignedDuration = SignedDuration::from_hours(8 * 24);
/// How long a deleted token, and a person key that no app sends any more, remember their person number,
/// so that registering again does not reset the cap: as long as a case can be open and the cap look
/// back.
const NUMBER_LIFE: SignedDuration = SignedDuration::from_hours(60 * 24);

/// Keeps the house in order until shutdown.
pub(super) async fn run(dispatch: Dispatch, shutdown: CancellationToken) {
    loop {
        if let Err(error) = once(&dispatch).await {
            tracing::warn!(error = %error, "upkeep failed, trying again");
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn once(dispatch: &Dispatch) -> Result<(), StoreError> {
    expire(dispatch).await?;
    erase(dispatch).await?;
    let mut tx = dispatch.store.begin().await?;
    let now = tx.now().await?;
    idempotency::forget(&mut tx, now - IDEMPOTENCY_LIFE).await?;
    retention::erase_tests(&mut tx, now).await?;
    retention::forget_told(&mut tx, now - TOLD_LIFE).await?;
    subscribers::purge_deleted(&mut tx, now - NUMBER_LIFE).await?;
    persons::forget_keys(&mut tx, now - NUMBER_LIFE).await?;
    tx.commit().await
}

/// Expires batches whose time is over; those that were never sent leave the told-list.
async fn expire(dispatch: &Dispatch) -> Result<(), StoreError> {
    let mut session = dispatch.store.read().await?;
    let now = session.now().await?;
    let alerts = batches::with_expired(&mut session, now).await?;
    drop(session);
    for (alert, case) in alerts {
        let mut tx = dispatch.store.begin().await?;
        cases::share(&mut tx, case).await?;
        let expired = batches::expire(&mut tx, alert, now).await?;
        told::take_off(&mut tx, persons(alert, &expired.unsent)).await?;
        let detail = json!({ "batches": expired.batches, "never_sent": expired.unsent.len() });
        timeline::note(
            &mut tx,
            case,
            now,
            &Actor::Homeward,
            "batches_expired",
            &detail,
        )
        .await?;
        tx.commit().await?;
        dispatch.metrics.batches_expired.inc_by(expired.batches);
    }
    let mut tx = dispatch.store.begin().await?;
    batches::expire_tests(&mut tx, now).await?;
    tx.commit().await
}

/// Erases what is personal of cases whose retention period is over.
async fn erase(dispatch: &Dispatch) -> Result<(), StoreError> {
    let mut session = dispatch.store.read().await?;
    let now = session.now().await?;
    let due = retention::due(&mut session, now).await?;
    drop(session);
    for case in due {
        let mut tx = dispatch.store.begin().await?;
        if retention::erase(&mut tx, case, now).await? {
            timeline::note(
                &mut tx,
                case,
                now,
                &Actor::Homeward,
                "personal_data_erased",
                &json!({}),
            )
            .await?;
        }
        tx.commit().await?;
        tracing::info!(case.id = %case, "personal data erased");
    }
    Ok(())
}
