//! Uploads beside a bare bulk upsert into the same table.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sqlx::{Executor as _, PgConnection};
use tokio::time::interval;

use super::ground::Ground;
use super::people::{Population, Subscriber, off};
use super::search::Peer;
use crate::model::{Cell, SUBSCRIBER_RESOLUTION};

/// Rows of one bare upsert.
const UPSERT_ROWS: usize = 10_000;
/// The only app of a fresh database.
const APP_ID: i32 = 1;
/// Movers told at once: location updates come in small uploads.
const MOVERS: usize = 1_000;
/// How often so many move.
const MOVES_EVERY: Duration = Duration::from_millis(200);
/// How far somebody moves at most.
const MOVE_KM: f64 = 2.0;

/// Rows a second through `PUT /v1/subscribers`.
pub async fn homeward(
    ground: &Ground,
    lines: impl Iterator<Item = String> + Send + Sync + 'static,
    rows: u32,
) -> anyhow::Result<f64> {
    let begun = Instant::now();
    ground.register(lines).await?;
    Ok(f64::from(rows) / begun.elapsed().as_secs_f64())
}

/// What one bare upsert writes.
pub struct BareRows {
    tokens: Vec<Vec<u8>>,
    cells: Vec<i64>,
    persons: Vec<i64>,
}

/// These people as bare upserts write them.
pub fn bare_rows(people: &[Subscriber]) -> Vec<BareRows> {
    let rows = |people: &[Subscriber]| BareRows {
        tokens: people.iter().map(|one| one.token().into_bytes()).collect(),
        cells: people
            .iter()
            .map(|one| Cell::at(one.at, SUBSCRIBER_RESOLUTION).to_i64())
            .collect(),
        persons: people
            .iter()
            .map(|one| i64::from(one.number) + 65_536)
            .collect(),
    };
    people.chunks(UPSERT_ROWS).map(rows).collect()
}

/// Rows a second of the plainest upsert into a table of the same form: rows known and numbered, one
/// connection, no question whether anything is new.
pub async fn bare(
    peer: &mut PgConnection,
    chunks: &[BareRows],
    at: Timestamp,
) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let mut rows = 0;
    for chunk in chunks {
        rows += sqlx::query(
            "INSERT INTO bench_upsert (app_id, token, cell, person, seen_at, seen_hour, flags, muted_until)
             SELECT $1, token, cell, person, $5, ($5 / 3600000)::int, 0, 0
             FROM unnest($2::bytea[], $3::bigint[], $4::bigint[]) AS new(token, cell, person)
             ON CONFLICT (app_id, token) DO UPDATE SET cell = excluded.cell, seen_at = excluded.seen_at,
                 seen_hour = excluded.seen_hour",
        )
        .bind(APP_ID)
        .bind(&chunk.tokens)
        .bind(&chunk.cells)
        .bind(&chunk.persons)
        .bind(at.as_millisecond())
        .execute(&mut *peer)
        .await
        .context("bare upsert")?
        .rows_affected();
    }
    Ok(f64::from(u32::try_from(rows)?) / begun.elapsed().as_secs_f64())
}

/// The bare upsert's table: columns, keys, indexes and settings of `subscribers`.
pub async fn bare_table(peer: &mut PgConnection) -> anyhow::Result<()> {
    peer.execute(
        "CREATE TABLE bench_upsert (LIKE subscribers INCLUDING ALL,
             FOREIGN KEY (app_id) REFERENCES apps (id)) WITH (fillfactor = 90)",
    )
    .await?;
    Ok(())
}

/// Moves random people, 5,000 a second, until it is dropped.
pub async fn movers(
    ground: &Ground,
    peer: Option<&mut Peer>,
    population: &Population,
    count: u32,
) -> anyhow::Result<()> {
    let mut chance = StdRng::seed_from_u64(3);
    let mut peer = peer;
    let mut tick = interval(MOVES_EVERY);
    loop {
        tick.tick().await;
        let moved: Vec<Subscriber> = (0..MOVERS)
            .map(|_| {
                let one = population.subscriber(chance.random_range(0..count));
                let km = MOVE_KM * chance.random::<f64>();
                Subscriber {
                    at: off(one.at, &mut chance, km),
                    ..one
                }
            })
            .collect();
        if let Some(peer) = &mut peer {
            let mut moved = moved;
            moved.sort_by_key(|one| one.number);
            moved.dedup_by_key(|one| one.number);
            peer.put(&moved).await?;
        } else {
            let now = ground.store.now().await?;
            ground
                .register(moved.into_iter().map(move |one| one.line(now)))
                .await?;
        }
    }
}
