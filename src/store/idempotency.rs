//! Answers kept for repeated requests, written in the transaction of the request itself.

use jiff::Timestamp;

use super::sql::statements;
use super::{StoreError, Tx};

statements! {
    RESERVE {
        "INSERT INTO idempotency_keys (holder, key, request_hash, status, body, created_at)
         VALUES ($1, $2, $3, 0, '', $4) ON CONFLICT (holder, key) DO NOTHING"
    }
    SELECT_ANSWER {
        "SELECT request_hash, status, body FROM idempotency_keys WHERE holder = $1 AND key = $2"
    }
    KEEP_ANSWER {
        "UPDATE idempotency_keys SET status = $3, body = $4 WHERE holder = $1 AND key = $2"
    }
    FORGET {
        "DELETE FROM idempotency_keys WHERE created_at < $1"
    }
}

/// What is known of an idempotency key.
#[derive(Debug, PartialEq, Eq)]
pub enum Reservation {
    /// Not used before: go on, and keep the answer.
    Fresh,
    /// The same request was answered before, with this status and body.
    Answered(u16, String),
    /// The key was used for another request.
    OtherRequest,
}

/// Reserves a key for a request. A second request with the same key waits for the first to end.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn reserve(
    tx: &mut Tx,
    holder: &str,
    key: &str,
    request_hash: &[u8],
    now: Timestamp,
) -> Result<Reservation, StoreError> {
    let reserved = tx
        .query(&RESERVE)
        .bind(holder)
        .bind(key)
        .bind(request_hash)
        .bind(now.as_millisecond())
        .execute()
        .await?;
    if reserved == 1 {
        return Ok(Reservation::Fresh);
    }
    let row = tx.query(&SELECT_ANSWER).bind(holder).bind(key).fetch_one().await?;
    if row.get::<Vec<u8>>("request_hash")? != request_hash {
        return Ok(Reservation::OtherRequest);
    }
    let status = u16::try_from(row.get::<i64>("status")?).unwrap_or_default();
    Ok(Reservation::Answered(status, row.get("body")?))
}

/// Keeps the answer under a reserved key.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn keep(
    tx: &mut Tx,
    holder: &str,
    key: &str,
    status: u16,
    body: &str,
) -> Result<(), StoreError> {
    tx.query(&KEEP_ANSWER)
        .bind(holder)
        .bind(key)
        .bind(i64::from(status))
        .bind(body)
        .execute()
        .await
        .map(drop)
}

/// Forgets keys older than a moment.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn forget(tx: &mut Tx, before: Timestamp) -> Result<u64, StoreError> {
    tx.query(&FORGET).bind(before.as_millisecond()).execute().await
}
