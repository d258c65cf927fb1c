//! A wave over everybody round a place, cut, decided and written as every wave is.

use std::time::Instant;

use anyhow::{Context as _, ensure};
use jiff::SignedDuration;
use sqlx::{PgConnection, Row as _};

use super::ground::Ground;
use super::search::circle;
use crate::area;
use crate::dispatch::cut::cut;
use crate::model::{AlertId, Cell, Position, RoundKind};
use crate::store::rounds::{self, NewRound};
use crate::store::{alerts, subscribers};

/// People in one shard: as configured by default.
const SHARD_PEOPLE: i64 = 20_000;

/// What one wave came to.
#[derive(Debug, Clone, Copy)]
pub struct Wave {
    /// People told.
    pub people: f64,
    /// From its release until its last shard was committed.
    pub seconds: f64,
    /// What the database grew by for each of them.
    pub bytes_each: f64,
}

/// Tells everybody within so many km, with all lanes held; then takes it back.
pub async fn wave(
    ground: &Ground,
    peer: &mut PgConnection,
    at: Position,
    km: f64,
) -> anyhow::Result<Wave> {
    let (case, alert) = ground.verified().await?;
    let alert: AlertId = alert.parse()?;
    ground.fanned_out(alert).await?;
    let before = bytes(peer).await?;

    let cells = circle(at, km);
    let ranges = area::ranges(&cells);
    let cells: Vec<(Cell, f64)> = cells.into_iter().map(|cell| (cell, 0.01)).collect();
    let mut tx = ground.store.begin().await?;
    let now = tx.now().await?;
    let record = alerts::lock(&mut tx, alert)
        .await?
        .context("the alert is gone")?;
    let by_cell = subscribers::count_by_cell(&mut tx, &ranges, i64::MAX).await?;
    let round = NewRound {
        alert: &record,
        kind: RoundKind::Wave,
        wave: 1,
        expires_at: now + SignedDuration::from_hours(24),
        next_sweep_at: now + SignedDuration::from_hours(24),
        area: &[],
        shards: &cut(&cells, &by_cell, SHARD_PEOPLE),
    };
    let round = rounds::release(&mut tx, &round, now).await?;
    let begun = Instant::now();
    tx.commit().await?;
    ground.fanned_out(alert).await?;
    let seconds = begun.elapsed().as_secs_f64();

    let told: i64 = sqlx::query(
        "SELECT coalesce(sum(people), 0)::bigint FROM counts
         WHERE alert_id = $1 AND round = $2 AND reason = 'told'",
    )
    .bind(alert.0)
    .bind(round)
    .fetch_one(&mut *peer)
    .await?
    .try_get(0)?;
    ensure!(told > 0, "nobody was told");
    let people = u32::try_from(told).map(f64::from)?;
    let grown = bytes(peer).await? - before;
    ground.close(&case).await?;
    Ok(Wave {
        people,
        seconds,
        bytes_each: grown / people,
    })
}

async fn bytes(peer: &mut PgConnection) -> anyhow::Result<f64> {
    let sql = "SELECT sum(pg_total_relation_size(name::regclass))::float8
               FROM unnest('{batches,told,counts,shards,rounds}'::text[]) AS name";
    Ok(sqlx::query(sql).fetch_one(peer).await?.try_get(0)?)
}
