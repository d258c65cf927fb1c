//! Whom a set of cells reaches: how many are registered there, how many were told, how many may be.

use std::collections::HashMap;

use jiff::Timestamp;

use super::sql::{Values, statements};
use super::{Session, StoreError, Tx};
use crate::model::{AlertId, AppId, CellRange, ShardId, SubscriberFlags};

statements! {
    COUNT_BY_APP {
        postgres: "SELECT s.app_id, count(*) AS people
                   FROM unnest($1::bigint[], $2::bigint[]) AS r(lo, hi) CROSS JOIN LATERAL (
                       SELECT app_id FROM subscribers
                       WHERE cell BETWEEN r.lo AND r.hi AND flags & 1 = 0 AND flags & $3 = $3 OFFSET 0) AS s
                   GROUP BY s.app_id ORDER BY s.app_id"
        sqlite: "SELECT s.app_id, count(*) AS people FROM json_each($1) r CROSS JOIN subscribers s
                 WHERE s.cell BETWEEN r.value->>0 AND r.value->>1 AND s.flags & 1 = 0
                   AND s.flags & $3 = $3
                 GROUP BY s.app_id ORDER BY s.app_id"
    }
    TELLABLE_BY_CELL {
        postgres: "SELECT s.cell, count(*) AS people
                   FROM unnest($1::bigint[], $2::bigint[]) AS r(lo, hi) CROSS JOIN LATERAL (
                       SELECT cell FROM subscribers
                       WHERE cell BETWEEN r.lo AND r.hi AND flags & 1 = 0
                         AND flags & $3 = $4 AND seen_hour >= $5 AND muted_until <= $6 OFFSET 0) AS s
                   GROUP BY s.cell"
        sqlite: "SELECT s.cell, count(*) AS people FROM json_each($1) r CROSS JOIN subscribers s
                 WHERE s.cell BETWEEN r.value->>0 AND r.value->>1 AND s.flags & 1 = 0
                   AND s.flags & $3 = $4 AND s.seen_hour >= $5 AND s.muted_until <= $6
                 GROUP BY s.cell"
    }
    SELECT_TOLD {
        "SELECT shards.ranges, CAST(sum(counts.people) AS BIGINT) AS people, rounds.released_at
         FROM shards
         JOIN counts ON counts.shard_id = shards.id AND counts.reason = 'told'
         JOIN rounds ON rounds.alert_id = shards.alert_id AND rounds.number = shards.round
         WHERE shards.alert_id = $1
         GROUP BY shards.id, shards.ranges, rounds.number, rounds.released_at
         ORDER BY rounds.number"
    }
    SET_QUOTA {
        "UPDATE shards SET quota = $4 WHERE alert_id = $1 AND round = $2 AND number = $3"
    }
    SELECT_QUOTA {
        "SELECT quota FROM shards WHERE id = $1"
    }
}

/// How many in each cell of these ranges may be told as far as their own record says: the rules of
/// `eligibility` but for what they were told of before and what their app does.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn tellable_by_cell(
    session: &mut Session,
    ranges: &[CellRange],
    wanted: &Wanted,
) -> Result<HashMap<i64, i64>, StoreError> {
    let lo: Vec<i64> = ranges.iter().map(|range| range.lo).collect();
    let hi: Vec<i64> = ranges.iter().map(|range| range.hi).collect();
    let rows = session
        .query(&TELLABLE_BY_CELL)
        .bind_columns(&[Values::Int(&lo), Values::Int(&hi)])
        .bind(wanted.flags_looked_at)
        .bind(wanted.flags_set)
        .bind(wanted.seen_hour)
        .bind(wanted.now_ms)
        .fetch_all()
        .await?;
    rows.iter()
        .map(|row| Ok((row.get("cell")?, row.get("people")?)))
        .collect()
}

/// What the record of who may be told says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Bits of the flags that decide.
    pub flags_looked_at: i32,
    /// Those of them that are set.
    pub flags_set: i32,
    /// Seen in this hour since 1970 or later.
    pub seen_hour: i32,
    /// Not muted then, in ms since 1970.
    pub now_ms: i64,
}

/// Says how many may be told in each shard of a round, in the order of the shards.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn set_quotas(
    tx: &mut Tx,
    alert: AlertId,
    round: i64,
    quotas: &[i64],
) -> Result<(), StoreError> {
    for (number, quota) in (1_i64..).zip(quotas) {
        tx.query(&SET_QUOTA).bind(alert).bind(round).bind(number).bind(*quota).execute().await?;
    }
    Ok(())
}

/// How many may be told in a shard, if that was said.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn quota(session: &mut Session, shard: ShardId) -> Result<Option<i64>, StoreError> {
    session.query(&SELECT_QUOTA).bind(shard).fetch_one().await?.get("quota")
}

/// How many subscribers each app has registered in these ranges of cells, or how many volunteers.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn by_app(
    session: &mut Session,
    ranges: &[CellRange],
    volunteers_only: bool,
) -> Result<Vec<(AppId, i64)>, StoreError> {
    let (lo, hi): (Vec<i64>, Vec<i64>) = ranges.iter().map(|range| (range.lo, range.hi)).unzip();
    let rows = session
        .query(&COUNT_BY_APP)
        .bind_columns(&[Values::Int(&lo), Values::Int(&hi)])
        .bind(i32::from(volunteers_only) * SubscriberFlags::VOLUNTEER)
        .fetch_all()
        .await?;
    rows.iter().map(|row| Ok((row.get("app_id")?, row.get("people")?))).collect()
}

/// What one shard told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardTold {
    /// Its cells.
    pub ranges: Vec<CellRange>,
    /// How many people it told.
    pub people: i64,
    /// When its round was released.
    pub at: Timestamp,
}

/// How many people each shard of an alert told, in waves and sweeps alike, in the order of the rounds.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn told_by_shard(
    session: &mut Session,
    alert: AlertId,
) -> Result<Vec<ShardTold>, StoreError> {
    let rows = session.query(&SELECT_TOLD).bind(alert).fetch_all().await?;
    rows.iter()
        .map(|row| {
            Ok(ShardTold {
                ranges: row.json("ranges")?,
                people: row.get("people")?,
                at: row.time("released_at")?,
            })
        })
        .collect()
}
