//! The told-list: per alert, round and block of 65,536 person numbers, who was told.

use std::collections::BTreeMap;

use jiff::Timestamp;
use roaring::RoaringBitmap;

use super::sql::{Numbers, Row, Values, statements};
use super::{Session, StoreError, Tx};
use crate::model::{AlertId, CapBudget, PersonNumber};

statements! {
    LOCK_BLOCKS {
        postgres: "SELECT block FROM person_blocks WHERE block = ANY($1) ORDER BY block FOR UPDATE"
        sqlite: "SELECT value AS block FROM json_each($1)"
    }
    SELECT_TOLD {
        postgres: "SELECT block, alert_id, round, budget, told_at, people FROM told
                   WHERE block = ANY($1) AND (alert_id = $2 OR told_at > $3)"
        sqlite: "SELECT block, alert_id, round, budget, told_at, people FROM told
                 WHERE block IN (SELECT value FROM json_each($1)) AND (alert_id = $2 OR told_at > $3)"
    }
    SELECT_OF_ALERT {
        postgres: "SELECT block, round, people FROM told WHERE block = ANY($1) AND alert_id = $2"
        sqlite: "SELECT block, round, people FROM told
                 WHERE block IN (SELECT value FROM json_each($1)) AND alert_id = $2"
    }
    SELECT_ALL_OF_ALERT {
        "SELECT block, people FROM told WHERE alert_id = $1"
    }
    PUT_TOLD {
        postgres: "INSERT INTO told (block, alert_id, round, budget, told_at, people)
                   SELECT block, $1, $2, $3, $4, people
                   FROM unnest($5::bigint[], $6::bytea[]) AS new(block, people)
                   ON CONFLICT (block, alert_id, round)
                   DO UPDATE SET people = excluded.people, told_at = excluded.told_at"
        sqlite: "INSERT INTO told (block, alert_id, round, budget, told_at, people)
                 SELECT value->>0, $1, $2, $3, $4, unhex(value->>1) FROM json_each($5) WHERE true
                 ON CONFLICT (block, alert_id, round)
                 DO UPDATE SET people = excluded.people, told_at = excluded.told_at"
    }
    SELECT_ALL {
        postgres: "SELECT block, alert_id, round, budget, told_at, people FROM told
                   WHERE block = ANY($1)"
        sqlite: "SELECT block, alert_id, round, budget, told_at, people FROM told
                 WHERE block IN (SELECT value FROM json_each($1))"
    }
    SELECT_BLOCKS {
        "SELECT block FROM told WHERE alert_id = $1 AND round = $2"
    }
    MOVE_TOLD {
        "UPDATE told SET told_at = $3 WHERE alert_id = $1 AND round = $2 AND told_at < $3"
    }
    SHRINK_TOLD {
        "UPDATE told SET people = $4 WHERE block = $1 AND alert_id = $2 AND round = $3"
    }
}

/// Who of a block was told in one round of one alert.
#[derive(Debug)]
pub struct Told {
    /// The block.
    pub block: i64,
    /// The alert.
    pub alert: AlertId,
    /// The round.
    pub round: i64,
    /// The allowance it was drawn on.
    pub budget: CapBudget,
    /// When the last of them was told.
    pub told_at: Timestamp,
    /// Places within the block.
    pub people: RoaringBitmap,
}

/// Locks blocks of person numbers until the transaction ends, in ascending order, so that two
/// workers never wait for each other.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn lock_blocks(tx: &mut Tx, blocks: &[i64]) -> Result<(), StoreError> {
    tx.query(&LOCK_BLOCKS).bind(Numbers(blocks)).execute().await.map(drop)
}

/// Who in these blocks was told of this alert, or of any since a moment.
///
/// # Errors
/// [`StoreError`] if the database does not answer or a bitmap cannot be read.
pub async fn read(
    session: &mut Session,
    blocks: &[i64],
    alert: AlertId,
    since: Timestamp,
) -> Result<Vec<Told>, StoreError> {
    let rows = session
        .query(&SELECT_TOLD)
        .bind(Numbers(blocks))
        .bind(alert)
        .bind(since.as_millisecond())
        .fetch_all()
        .await?;
    rows.iter().map(to_told).collect()
}

/// Writes who was told in a round, whole blocks at a time (what stood there before is replaced).
/// The blocks must be locked.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn put(
    tx: &mut Tx,
    alert: AlertId,
    round: i64,
    budget: CapBudget,
    now: Timestamp,
    blocks: &BTreeMap<i64, RoaringBitmap>,
) -> Result<(), StoreError> {
    let numbers: Vec<i64> = blocks.keys().copied().collect();
    let people = blocks.values().map(to_bytes).collect::<Result<Vec<_>, _>>()?;
    tx.query(&PUT_TOLD)
        .bind(alert)
        .bind(round)
        .bind(budget.name())
        .bind(now.as_millisecond())
        .bind_columns(&[Values::Int(&numbers), Values::Bytes(&people)])
        .execute()
        .await
        .map(drop)
}

/// Takes people off the lists whose batch was withdrawn before it was sent. Locks all their blocks
/// at once.
///
/// # Errors
/// [`StoreError`] if the database does not answer or a bitmap cannot be read.
pub async fn take_off(
    tx: &mut Tx,
    people: impl IntoIterator<Item = (AlertId, PersonNumber)>,
) -> Result<(), StoreError> {
    let mut off: BTreeMap<AlertId, BTreeMap<i64, RoaringBitmap>> = BTreeMap::new();
    for (alert, person) in people {
        let blocks = off.entry(alert).or_default();
        blocks.entry(person.block()).or_default().insert(u32::from(person.place()));
    }
    let mut blocks: Vec<i64> = off.values().flat_map(BTreeMap::keys).copied().collect();
    blocks.sort_unstable();
    blocks.dedup();
    lock_blocks(tx, &blocks).await?;
    for (alert, off) in off {
        take_off_alert(tx, alert, &off).await?;
    }
    Ok(())
}

async fn take_off_alert(
    tx: &mut Tx,
    alert: AlertId,
    off: &BTreeMap<i64, RoaringBitmap>,
) -> Result<(), StoreError> {
    let blocks: Vec<i64> = off.keys().copied().collect();
    let rows = tx.query(&SELECT_OF_ALERT).bind(Numbers(&blocks)).bind(alert).fetch_all().await?;
    for row in &rows {
        let (block, round): (i64, i64) = (row.get("block")?, row.get("round")?);
        let mut left = from_bytes(&row.get::<Vec<u8>>("people")?)?;
        let before = left.len();
        if let Some(gone) = off.get(&block) {
            left -= gone;
        }
        if left.len() < before {
            tx.query(&SHRINK_TOLD)
                .bind(block)
                .bind(alert)
                .bind(round)
                .bind(to_bytes(&left)?)
                .execute()
                .await?;
        }
    }
    Ok(())
}

/// Has each second number told of whatever the first was told of, because they turned out to be one
/// person's. Locks all their blocks at once.
///
/// # Errors
/// [`StoreError`] if the database does not answer or a bitmap cannot be read.
pub async fn carry_over(
    tx: &mut Tx,
    moves: &[(PersonNumber, PersonNumber)],
) -> Result<(), StoreError> {
    let mut blocks: Vec<i64> =
        moves.iter().flat_map(|(from, to)| [from.block(), to.block()]).collect();
    blocks.sort_unstable();
    blocks.dedup();
    lock_blocks(tx, &blocks).await?;
    let rows = tx.query(&SELECT_ALL).bind(Numbers(&blocks)).fetch_all().await?;
    let lists = rows.iter().map(to_told).collect::<Result<Vec<_>, _>>()?;
    // Per round the time and the blocks that change.
    let mut changed: BTreeMap<_, (CapBudget, Timestamp, BTreeMap<i64, RoaringBitmap>)> =
        BTreeMap::new();
    for list in &lists {
        for (from, to) in moves {
            if from.block() == list.block && list.people.contains(u32::from(from.place())) {
                let (_, told_at, blocks) = changed
                    .entry((list.alert, list.round))
                    .or_insert_with(|| (list.budget, list.told_at, BTreeMap::new()));
                *told_at = list.told_at.max(*told_at);
                blocks.entry(to.block()).or_default().insert(u32::from(to.place()));
            }
        }
    }
    for list in &lists {
        if let Some((_, told_at, blocks)) = changed.get_mut(&(list.alert, list.round))
            && let Some(block) = blocks.get_mut(&list.block)
        {
            *block |= &list.people;
            *told_at = list.told_at.max(*told_at);
        }
    }
    for ((alert, round), (budget, told_at, blocks)) in &changed {
        put(tx, *alert, *round, *budget, *told_at, blocks).await?;
    }
    Ok(())
}

/// Counts the people of rounds as told only now, because their batches waited before they were sent.
/// Locks all their blocks at once.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn sent_late(
    tx: &mut Tx,
    rounds: &[(AlertId, i64)],
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut blocks: Vec<i64> = Vec::new();
    for (alert, round) in rounds {
        let rows = tx.query(&SELECT_BLOCKS).bind(*alert).bind(*round).fetch_all().await?;
        for row in &rows {
            blocks.push(row.get("block")?);
        }
    }
    lock_blocks(tx, &blocks).await?;
    for (alert, round) in rounds {
        tx.query(&MOVE_TOLD)
            .bind(*alert)
            .bind(*round)
            .bind(now.as_millisecond())
            .execute()
            .await?;
    }
    Ok(())
}

/// How many people an alert has told, by its told-list.
///
/// # Errors
/// [`StoreError`] if the database does not answer or a bitmap cannot be read.
pub async fn count(session: &mut Session, alert: AlertId) -> Result<u64, StoreError> {
    let rows = session.query(&SELECT_ALL_OF_ALERT).bind(alert).fetch_all().await?;
    let mut blocks: BTreeMap<i64, RoaringBitmap> = BTreeMap::new();
    for row in &rows {
        *blocks.entry(row.get("block")?).or_default() |= from_bytes(&row.get::<Vec<u8>>("people")?)?;
    }
    Ok(blocks.values().map(RoaringBitmap::len).sum())
}

fn to_told(row: &Row) -> Result<Told, StoreError> {
    Ok(Told {
        block: row.get("block")?,
        alert: row.get("alert_id")?,
        round: row.get("round")?,
        budget: row.named("budget")?,
        told_at: row.time("told_at")?,
        people: from_bytes(&row.get::<Vec<u8>>("people")?)?,
    })
}

fn to_bytes(people: &RoaringBitmap) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::with_capacity(people.serialized_size());
    people
        .serialize_into(&mut bytes)
        .map_err(|error| StoreError::new("TOLD", sqlx::Error::Encode(Box::new(error))))?;
    Ok(bytes)
}

fn from_bytes(bytes: &[u8]) -> Result<RoaringBitmap, StoreError> {
    RoaringBitmap::deserialize_from(bytes)
        .map_err(|error| StoreError::new("TOLD", sqlx::Error::Decode(Box::new(error))))
}
