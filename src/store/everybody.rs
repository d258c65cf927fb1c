//! Uploads of an app's whole registry: whom they name, and that everybody else goes.

use jiff::Timestamp;
use uuid::Uuid;

use super::sql::{Values, statements};
use super::{StoreError, Tx};
use crate::model::AppId;

statements! {
    NAME_TOKENS {
        postgres: "INSERT INTO named_tokens (upload, token, named_at)
                   SELECT $1, token, $2 FROM unnest($3::bytea[]) AS new(token)"
        sqlite: "INSERT INTO named_tokens (upload, token, named_at)
                 SELECT $1, unhex(value->>0), $2 FROM json_each($3)"
    }
    COUNT_NAMED {
        "SELECT count(*) AS named FROM named_tokens WHERE upload = $1"
    }
    DELETE_UNNAMED {
        postgres: "UPDATE subscribers s SET flags = flags | 1, seen_at = $2, cell = 0
                   WHERE app_id = $1 AND flags & 1 = 0 AND seen_at < $2
                     AND NOT EXISTS (SELECT 1 FROM named_tokens n WHERE n.upload = $3 AND n.token = s.token)"
        sqlite: "UPDATE subscribers SET flags = flags | 1, seen_at = $2, cell = 0
                 WHERE app_id = $1 AND flags & 1 = 0 AND seen_at < $2
                   AND token NOT IN (SELECT token FROM named_tokens WHERE upload = $3)"
    }
    FORGET_NAMED {
        "DELETE FROM named_tokens WHERE upload = $1 OR named_at < $2"
    }
}

/// Notes that an upload of a whole registry named these tokens.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn name(
    tx: &mut Tx,
    upload: Uuid,
    tokens: &[Vec<u8>],
    now: Timestamp,
) -> Result<u64, StoreError> {
    tx.query(&NAME_TOKENS)
        .bind(upload)
        .bind(now.as_millisecond())
        .bind_columns(&[Values::Bytes(tokens)])
        .execute()
        .await
}

/// Deletes everybody of an app whom an upload did not name and who was not written about since it began.
/// Says how many they were; `None`, and nobody is deleted, if the upload did not name just so many.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn delete_unnamed(
    tx: &mut Tx,
    app: AppId,
    upload: Uuid,
    named: u64,
    began: Timestamp,
) -> Result<Option<u64>, StoreError> {
    let found: i64 = tx.query(&COUNT_NAMED).bind(upload).fetch_one().await?.get("named")?;
    if u64::try_from(found) != Ok(named) {
        return Ok(None);
    }
    let deleted = tx
        .query(&DELETE_UNNAMED)
        .bind(app)
        .bind(began.as_millisecond())
        .bind(upload)
        .execute()
        .await?;
    Ok(Some(deleted))
}

/// Forgets what an upload named, and what uploads named that broke off before a moment.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn forget_named(tx: &mut Tx, upload: Uuid, before: Timestamp) -> Result<(), StoreError> {
    tx.query(&FORGET_NAMED)
        .bind(upload)
        .bind(before.as_millisecond())
        .execute()
        .await
        .map(drop)
}
