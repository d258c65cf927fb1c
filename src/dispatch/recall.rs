//! Taking an alert back, and telling those who were told what changed.

use jiff::Timestamp;

use prost::Message as _;

use crate::alert::compose::{Revision, compose};
use crate::alert::recipients;
use crate::config::Config;
use crate::model::{AlertId, AlertRecord, Case, Kind, PersonNumber};
use crate::store::{StoreError, Tx, alerts, batches, plans, rounds, told};

/// What a recall did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Recalled {
    /// Batches taken back before they were sent.
    pub withdrawn: u64,
    /// Recall batches that follow those that were or may have been sent.
    pub recalls: u64,
}

/// Closes an alert: withdraws what waits, takes its people off the told-list, and sends the recall
/// after everything that was or may have been sent. The case must be locked.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn recall(
    tx: &mut Tx,
    config: &Config,
    case: &Case,
    alert: &AlertRecord,
    now: Timestamp,
) -> Result<Recalled, StoreError> {
    alerts::close(tx, alert.id, now).await?;
    plans::withdraw_waves(tx, alert.id).await?;
    rounds::withdraw_shards(tx, alert.id).await?;
    let withdrawn = batches::withdraw(tx, alert.id, now).await?;
    told::take_off(tx, persons(alert.id, &withdrawn.unsent)).await?;
    let expires_at = now + config.dispatch.recall_life();
    let revision = alert.revision + 1;
    write_revision(tx, case, alert.id, revision, Kind::Recall, now, expires_at).await?;
    let recalls = batches::copy_as_recall(tx, alert.id, revision, now, expires_at).await?;
    Ok(Recalled {
        withdrawn: withdrawn.batches,
        recalls,
    })
}

/// Sends a new revision to everybody who was told; everybody else is told by it from here on. The
/// case must be locked. Gives the number of update batches.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn update(
    tx: &mut Tx,
    config: &Config,
    case: &Case,
    alert: &AlertRecord,
    now: Timestamp,
) -> Result<u64, StoreError> {
    let (revision, expires_at) = renew(tx, config, case, alert, now).await?;
    batches::copy_as_update(tx, alert.id, revision, now, expires_at).await
}

/// Writes a new revision, for those who are told from here on. Issues that wait would still say what
/// no longer holds, so they are withdrawn, and their people told by a sweep at once. Gives the
/// revision and when its issues expire.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn renew(
    tx: &mut Tx,
    config: &Config,
    case: &Case,
    alert: &AlertRecord,
    now: Timestamp,
) -> Result<(i64, Timestamp), StoreError> {
    let expires_at = alert
        .expires_at
        .unwrap_or(now + config.dispatch.issue_life());
    let revision = alert.revision + 1;
    write_revision(tx, case, alert.id, revision, Kind::Update, now, expires_at).await?;
    alerts::set_urgency(tx, alert.id, case.urgency).await?;
    rounds::set_urgency(tx, alert.id, case.urgency).await?;
    let withdrawn = batches::withdraw_unsent(tx, alert.id, now).await?;
    told::take_off(tx, persons(alert.id, &withdrawn.unsent)).await?;
    if alert.rounds > 0 {
        alerts::sweep_at(tx, alert.id, Some(now)).await?;
    }
    Ok((revision, expires_at))
}

/// Writes what people read in a new revision of an alert.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn write_revision(
    tx: &mut Tx,
    case: &Case,
    alert: AlertId,
    number: i64,
    kind: Kind,
    now: Timestamp,
    expires_at: Timestamp,
) -> Result<(), StoreError> {
    let revision = Revision {
        alert,
        number,
        kind,
        urgency: case.urgency,
        exercise: case.exercise,
        report: case.report.as_ref(),
        time_zone: &case.time_zone,
        issued_at: now,
        expires_at,
    };
    let content = compose(&revision).encode_to_vec();
    alerts::add_revision(tx, alert, number, kind, &content, now).await
}

/// The person numbers in recipients (protobuf) of an alert; what cannot be read names nobody.
pub(super) fn persons(alert: AlertId, batches: &[Vec<u8>]) -> Vec<(AlertId, PersonNumber)> {
    batches
        .iter()
        .filter_map(|bytes| recipients::persons(bytes).ok())
        .flatten()
        .map(|person| (alert, person))
        .collect()
}
