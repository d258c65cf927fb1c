//! Erasing what may no longer be kept.

use jiff::Timestamp;

use super::sql::statements;
use super::{Session, StoreError, Tx};
use crate::model::CaseId;

statements! {
    SELECT_TO_ERASE {
        "SELECT id FROM cases WHERE erased_at IS NULL AND erase_at <= $1 ORDER BY erase_at LIMIT 64"
    }
    ERASE_CASE {
        "UPDATE cases SET report = NULL, proposal = NULL, verification = NULL, erased_at = $2,
             version = version + 1
         WHERE id = $1 AND erased_at IS NULL AND erase_at <= $2"
    }
    ERASE_SIGHTINGS {
        "UPDATE sightings SET report = NULL WHERE case_id = $1"
    }
    ERASE_SEARCHES {
        "UPDATE searches SET cells = '[]' WHERE case_id = $1"
    }
    ERASE_PLANS {
        "UPDATE plans SET document = NULL WHERE case_id = $1"
    }
    ERASE_REASONS {
        "UPDATE timeline SET detail = '{}'
         WHERE case_id = $1 AND what IN ('rejected', 'paused', 'resumed', 'reopened',
                                        'audience_changed', 'replan_requested')"
    }
    ERASE_WAVES {
        "UPDATE waves SET cells = '[]' WHERE alert_id IN (SELECT id FROM alerts WHERE case_id = $1)"
    }
    ERASE_SHARDS {
        "UPDATE shards SET ranges = '[]' WHERE alert_id IN (SELECT id FROM alerts WHERE case_id = $1)"
    }
    ERASE_ROUNDS {
        postgres: "UPDATE rounds SET area = ''::bytea
                   WHERE alert_id IN (SELECT id FROM alerts WHERE case_id = $1)"
        sqlite: "UPDATE rounds SET area = x''
                 WHERE alert_id IN (SELECT id FROM alerts WHERE case_id = $1)"
    }
    ERASE_REVISIONS {
        postgres: "UPDATE revisions SET content = ''::bytea
                   WHERE alert_id IN (SELECT id FROM alerts WHERE case_id = $1)"
        sqlite: "UPDATE revisions SET content = x''
                 WHERE alert_id IN (SELECT id FROM alerts WHERE case_id = $1)"
    }
    END_BATCHES {
        "UPDATE batches SET state = 'expired', reason = 'erased', settled_at = $2
         WHERE alert_id IN (SELECT id FROM alerts WHERE case_id = $1)
           AND state IN ('pending', 'sending', 'sent', 'dead')"
    }
    ERASE_RECIPIENTS {
        postgres: "UPDATE batches SET recipients = ''::bytea
                   WHERE alert_id IN (SELECT id FROM alerts WHERE case_id = $1)"
        sqlite: "UPDATE batches SET recipients = x''
                 WHERE alert_id IN (SELECT id FROM alerts WHERE case_id = $1)"
    }
    // Test alerts that still have tokens are the open ones, so that few are looked at.
    ERASE_TESTS {
        postgres: "UPDATE batches SET recipients = ''::bytea
                   WHERE kind = 'test' AND expires_at <= $1 AND alert_id IN (
                       SELECT id FROM alerts WHERE case_id IS NULL AND closed_at IS NULL)"
        sqlite: "UPDATE batches SET recipients = x''
                 WHERE kind = 'test' AND expires_at <= $1 AND alert_id IN (
                     SELECT id FROM alerts WHERE case_id IS NULL AND closed_at IS NULL)"
    }
    CLOSE_TESTS {
        "UPDATE alerts SET closed_at = $1
         WHERE case_id IS NULL AND closed_at IS NULL AND NOT EXISTS (
             SELECT 1 FROM batches WHERE alert_id = alerts.id AND expires_at > $1)"
    }
    FORGET_TOLD {
        "DELETE FROM told WHERE told_at < $1 AND alert_id IN (
             SELECT id FROM alerts WHERE closed_at < $1)"
    }
}

/// The cases whose personal data are due to be erased.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn due(session: &mut Session, now: Timestamp) -> Result<Vec<CaseId>, StoreError> {
    let rows = session
        .query(&SELECT_TO_ERASE)
        .bind(now.as_millisecond())
        .fetch_all()
        .await?;
    rows.iter().map(|row| row.get("id")).collect()
}

/// Erases everything personal of a case whose time has come: report, sightings, positions, texts,
/// tokens. What stays: profile, times, counts, outcome, distance to the find. `false` if it was not
/// due.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn erase(tx: &mut Tx, case: CaseId, now: Timestamp) -> Result<bool, StoreError> {
    let erased = tx
        .query(&ERASE_CASE)
        .bind(case)
        .bind(now.as_millisecond())
        .execute()
        .await?;
    if erased == 0 {
        return Ok(false);
    }
    // What has nobody to go to and nothing to say must not go out any more.
    tx.query(&END_BATCHES)
        .bind(case)
        .bind(now.as_millisecond())
        .execute()
        .await?;
    for statement in [
        &ERASE_SIGHTINGS,
        &ERASE_SEARCHES,
        &ERASE_PLANS,
        &ERASE_REASONS,
        &ERASE_WAVES,
        &ERASE_SHARDS,
        &ERASE_ROUNDS,
        &ERASE_REVISIONS,
        &ERASE_RECIPIENTS,
    ] {
        tx.query(statement).bind(case).execute().await?;
    }
    Ok(true)
}

/// Erases the tokens in test batches whose time is over, and closes their alerts.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn erase_tests(tx: &mut Tx, now: Timestamp) -> Result<u64, StoreError> {
    let erased = tx
        .query(&ERASE_TESTS)
        .bind(now.as_millisecond())
        .execute()
        .await?;
    tx.query(&CLOSE_TESTS)
        .bind(now.as_millisecond())
        .execute()
        .await?;
    Ok(erased)
}

/// Forgets told-lists older than a moment of alerts closed by then.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn forget_told(tx: &mut Tx, before: Timestamp) -> Result<u64, StoreError> {
    tx.query(&FORGET_TOLD)
        .bind(before.as_millisecond())
        .execute()
        .await
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::super::batches::{NewBatch, NewBatches};
    use super::super::{Pools, Store, alerts, backlog, batches, holders, receipts};
    use super::*;
    use crate::model::{AlertId, AppId, BatchFormat, BatchId, Kind, ReceiptKind};

    const PEOPLE: i64 = 3;

    /// A store with an app, and an alert without a case that has two batches for it.
    async fn with_batches(
        folder: &std::path::Path,
        kind: Kind,
        expires_at: Timestamp,
    ) -> (Store, AppId, AlertId) {
        let url = format!("sqlite://{}", folder.join("test.db").display());
        let store = Store::open(&url).await.unwrap();
        store.migrate().await.unwrap();
        let mut tx = store.begin().await.unwrap();
        let now = Timestamp::UNIX_EPOCH;
        let app = holders::add_app(&mut tx, "Nearby", 100, false, BatchFormat::Protobuf, now)
            .await
            .unwrap();
        let alert = alerts::open_test(&mut tx, now).await.unwrap();
        alerts::add_revision(&mut tx, alert, 1, kind, b"content", now)
            .await
            .unwrap();
        let new = NewBatches {
            alert,
            revision: 1,
            kind,
            round: 0,
            wave: 0,
            urgency: 0,
            expires_at,
            probability: 0.0,
            batches: [b"one", b"two"]
                .map(|recipients| NewBatch {
                    app,
                    people: PEOPLE,
                    recipients: recipients.to_vec(),
                })
                .into(),
        };
        batches::add(&mut tx, new, now).await.unwrap();
        tx.commit().await.unwrap();
        (store, app, alert)
    }

    /// Before any batch.
    const BEGINNING: backlog::Seen = (Timestamp::UNIX_EPOCH, BatchId(uuid::Uuid::nil()));

    async fn mark_sent(store: &Store) {
        let Pools::Sqlite { writer, .. } = &store.0 else {
            unreachable!()
        };
        sqlx::query("UPDATE batches SET sending_at = 1")
            .execute(writer)
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn tests_keep_their_tokens_until_they_expire() {
        let folder = tempfile::tempdir().unwrap();
        let end = Timestamp::UNIX_EPOCH + SignedDuration::from_mins(10);
        let (store, app, alert) = with_batches(folder.path(), Kind::Test, end).await;
        let mut tx = store.begin().await.unwrap();
        assert!(!backlog::was_sent(&mut tx, app, alert).await.unwrap());
        tx.commit().await.unwrap();
        mark_sent(&store).await;
        let mut tx = store.begin().await.unwrap();
        assert!(backlog::was_sent(&mut tx, app, alert).await.unwrap());
        assert!(
            !backlog::was_sent(&mut tx, AppId(app.0 + 1), alert)
                .await
                .unwrap()
        );
        for (at, erased, gone) in [
            (end - SignedDuration::from_secs(1), 0, false),
            (end, 2, true),
            (end, 0, true),
        ] {
            assert_eq!(erase_tests(&mut tx, at).await.unwrap(), erased);
            let sent = backlog::sent_since(&mut tx, app, BEGINNING)
                .await
                .unwrap();
            assert_eq!(sent.len(), 2);
            assert!(
                sent.iter()
                    .all(|(_, batch)| batch.recipients.is_empty() == gone)
            );
        }
    }

    #[tokio::test]
    async fn receipts_never_count_more_people_than_a_batch_has() {
        let folder = tempfile::tempdir().unwrap();
        let now = Timestamp::UNIX_EPOCH;
        let (store, app, alert) = with_batches(folder.path(), Kind::Issue, now).await;
        mark_sent(&store).await;
        let mut tx = store.begin().await.unwrap();
        let opened = ReceiptKind::Opened;
        for (_, batch) in backlog::sent_since(&mut tx, app, BEGINNING).await.unwrap() {
            for people in [1, i64::MAX] {
                assert!(
                    receipts::put(&mut tx, app, batch.id, opened, people, now)
                        .await
                        .unwrap()
                );
            }
        }
        assert_eq!(
            receipts::sums(&mut tx, alert).await.unwrap(),
            [(opened, 2 * PEOPLE)]
        );
    }
}
