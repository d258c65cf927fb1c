//! Who sends for which app, and the hold over all lanes.

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::sql::statements;
use super::{Session, StoreError, Tx};
use crate::model::{Actor, AppId};

statements! {
    ACQUIRE {
        "INSERT INTO lanes (app_id, owner, fence, lease_until) VALUES ($1, $2, 1, $4)
         ON CONFLICT (app_id) DO UPDATE SET owner = excluded.owner, fence = lanes.fence + 1,
             lease_until = excluded.lease_until
         WHERE lanes.lease_until <= $3
         RETURNING fence"
    }
    RENEW {
        "UPDATE lanes SET lease_until = $4 WHERE app_id = $1 AND owner = $2 AND fence = $3
           AND lease_until > $5"
    }
    KEEP {
        postgres: "SELECT 1 AS one FROM lanes WHERE app_id = $1 AND owner = $2 AND fence = $3
                     AND lease_until > $4 FOR SHARE"
        sqlite: "SELECT 1 AS one FROM lanes WHERE app_id = $1 AND owner = $2 AND fence = $3
                   AND lease_until > $4"
    }
    RELEASE {
        "UPDATE lanes SET lease_until = 0 WHERE app_id = $1 AND owner = $2 AND fence = $3"
    }
    SET_HOLD {
        "INSERT INTO switches (name, is_on, changed_by, changed_at)
         VALUES ('lanes_held', $1, $2, $3)
         ON CONFLICT (name) DO UPDATE SET is_on = excluded.is_on, changed_by = excluded.changed_by,
             changed_at = excluded.changed_at"
    }
    IS_HELD {
        "SELECT is_on FROM switches WHERE name = 'lanes_held'"
    }
}

/// Takes the lane of an app if its lease has run out; gives the new fencing number.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn acquire(
    tx: &mut Tx,
    app: AppId,
    owner: Uuid,
    now: Timestamp,
    lease: SignedDuration,
) -> Result<Option<i64>, StoreError> {
    let row = tx
        .query(&ACQUIRE)
        .bind(app)
        .bind(owner)
        .bind(now.as_millisecond())
        .bind((now + lease).as_millisecond())
        .fetch_optional()
        .await?;
    row.map(|row| row.get("fence")).transpose()
}

/// Prolongs a lease that has not run out; `false` if it has.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn renew(
    tx: &mut Tx,
    app: AppId,
    owner: Uuid,
    fence: i64,
    now: Timestamp,
    lease: SignedDuration,
) -> Result<bool, StoreError> {
    let renewed = tx
        .query(&RENEW)
        .bind(app)
        .bind(owner)
        .bind(fence)
        .bind((now + lease).as_millisecond())
        .bind(now.as_millisecond())
        .execute()
        .await?;
    Ok(renewed == 1)
}

/// Whether a lane is this owner's; if so, it stays so until this transaction ends.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn keep(
    tx: &mut Tx,
    app: AppId,
    owner: Uuid,
    fence: i64,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let row = tx
        .query(&KEEP)
        .bind(app)
        .bind(owner)
        .bind(fence)
        .bind(now.as_millisecond())
        .fetch_optional()
        .await?;
    Ok(row.is_some())
}

/// Gives a lane back, so that another server need not wait for the lease to run out.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn release(
    tx: &mut Tx,
    app: AppId,
    owner: Uuid,
    fence: i64,
) -> Result<(), StoreError> {
    tx.query(&RELEASE).bind(app).bind(owner).bind(fence).execute().await.map(drop)
}

/// Holds all lanes, or releases them.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn set_hold(
    tx: &mut Tx,
    held: bool,
    by: &Actor,
    now: Timestamp,
) -> Result<(), StoreError> {
    tx.query(&SET_HOLD)
        .bind(held)
        .bind(by.to_string())
        .bind(now.as_millisecond())
        .execute()
        .await
        .map(drop)
}

/// Whether all lanes are held.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn held(session: &mut Session) -> Result<bool, StoreError> {
    let row = session.query(&IS_HELD).fetch_optional().await?;
    row.map_or(Ok(false), |row| row.get("is_on"))
}
