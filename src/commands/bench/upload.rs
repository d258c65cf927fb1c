//! Uploads beside a bare bulk upsert into the same table.

use std::ops::Range;
use std::sync::Arc;
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
/// Movers told at once: location updates come in small uploads.
const MOVERS: usize = 1_000;
/// How often so many move.
const MOVES_EVERY: Duration = Duration::from_millis(200);
/// How far somebody moves at most.
const MOVE_KM: f64 = 2.0;

/// Rows a second through `PUT /v1/subscribers`.
pub async fn homeward(
    ground: &Ground,
    population: &Arc<Population>,
    numbers: Range<u32>,
    at: Timestamp,
) -> anyhow::Result<f64> {
    let (population, count) = (
        Arc::clone(population),
        f64::from(numbers.end - numbers.start),
    );
    let begun = Instant::now();
    let lines = numbers.map(move |number| population.subscriber(number).line(at));
    ground.register(lines).await?;
    Ok(count / begun.elapsed().as_secs_f64())
}

/// Rows a second of the plainest upsert into a table of the same form: rows known and numbered, one
/// connection, no question whether anything is new.
pub async fn bare(
    peer: &mut PgConnection,
    people: &[Subscriber],
    at: Timestamp,
) -> anyhow::Result<f64> {
    let begun = Instant::now();
    for chunk in people.chunks(UPSERT_ROWS) {
        let tokens: Vec<Vec<u8>> = chunk.iter().map(|one| one.token().into_bytes()).collect();
        let cells: Vec<i64> = chunk
            .iter()
            .map(|one| Cell::at(one.at, SUBSCRIBER_RESOLUTION).to_i64())
            .collect();
        let persons: Vec<i64> = chunk
            .iter()
            .map(|one| i64::from(one.number) + 65_536)
            .collect();
        sqlx::query(
            "INSERT INTO bench_upsert (app_id, token, cell, person, seen_at, seen_hour, flags, muted_until)
             SELECT 1, token, cell, person, $4, ($4 / 3600000)::int, 0, 0
             FROM unnest($1::bytea[], $2::bigint[], $3::bigint[]) AS new(token, cell, person)
             ON CONFLICT (app_id, token) DO UPDATE SET cell = excluded.cell, seen_at = excluded.seen_at,
                 seen_hour = excluded.seen_hour",
        )
        .bind(tokens)
        .bind(cells)
        .bind(persons)
        .bind(at.as_millisecond())
        .execute(&mut *peer)
        .await
        .context("bare upsert")?;
    }
    Ok(f64::from(u32::try_from(people.len())?) / begun.elapsed().as_secs_f64())
}

/// The bare upsert's table: columns, keys, indexes and settings of `subscribers`.
pub async fn bare_table(peer: &mut PgConnection) -> anyhow::Result<()> {
    peer.execute("CREATE TABLE bench_upsert (LIKE subscribers INCLUDING ALL)")
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
