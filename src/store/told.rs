//! The told-list: per alert, round and block of 65,536 person numbers, who was told.

use std::collections::BTreeMap;

use jiff::Timestamp;
use roaring::RoaringBitmap;

use super::moves::{self, Carried};
use super::sql::{Numbers, Row, Values, statements};
use super::{Session, StoreError, Tx};
use crate::model::{AlertId, CapBudget, PersonNumber};

statements! {
    LOCK_BLOCKS {
        postgres: "SELECT coalesce(max(moved), 0) AS moved FROM (
                       SELECT moved FROM person_blocks WHERE block = ANY($1) ORDER BY block FOR UPDATE
                   ) AS locked"
        sqlite: "SELECT coalesce(max(moved), 0) AS moved FROM person_blocks
                 WHERE block IN (SELECT value FROM json_each($1))"
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

/// Places by block of person numbers.
pub type Blocks = BTreeMap<i64, RoaringBitmap>;

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

impl Told {
    /// Whether this person is among them.
    pub(super) fn has(&self, person: PersonNumber) -> bool {
        person.block() == self.block && self.people.contains(u32::from(person.place()))
    }
}

/// Locks blocks of person numbers until the transaction ends, in ascending order, so that two
/// workers never wait for each other. Gives the last move (see [`super::moves`]) of anybody out of one of
/// them.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn lock_blocks(tx: &mut Tx, blocks: &[i64]) -> Result<i64, StoreError> {
    tx.query(&LOCK_BLOCKS).bind(Numbers(blocks)).fetch_one().await?.get("moved")
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

/// Everybody who was told in these blocks.
///
/// # Errors
/// [`StoreError`] if the database does not answer or a bitmap cannot be read.
pub(super) async fn of_blocks(
    session: &mut Session,
    blocks: &[i64],
) -> Result<Vec<Told>, StoreError> {
    let rows = session.query(&SELECT_ALL).bind(Numbers(blocks)).fetch_all().await?;
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
    blocks: &Blocks,
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

/// Takes people off the lists whose batch was withdrawn before it was sent, and whoever is on them only
/// because of those. Locks all their blocks at once.
///
/// # Errors
/// [`StoreError`] if the database does not answer or a bitmap cannot be read.
pub async fn take_off(
    tx: &mut Tx,
    people: impl IntoIterator<Item = (AlertId, PersonNumber)>,
) -> Result<(), StoreError> {
    let mut off: BTreeMap<AlertId, Blocks> = BTreeMap::new();
    for (alert, person) in people {
        add(off.entry(alert).or_default(), person);
    }
    if off.is_empty() {
        return Ok(());
    }
    moves::hold(tx).await?;
    let mut followed = BTreeMap::new();
    for (alert, off) in off {
        let carried = moves::forget_sources(tx, alert, &off).await?;
        followed.insert(alert, (off, carried));
    }
    let with_them = |(off, carried): &(Blocks, Carried)| -> Vec<i64> {
        off.keys().copied().chain(carried.off.keys().map(|(block, _)| *block)).collect()
    };
    let mut blocks: Vec<i64> = followed.values().flat_map(with_them).collect();
    blocks.sort_unstable();
    blocks.dedup();
    lock_blocks(tx, &blocks).await?;
    for (alert, (off, carried)) in &followed {
        take_off_alert(tx, *alert, &blocks, off, carried).await?;
    }
    Ok(())
}

async fn take_off_alert(
    tx: &mut Tx,
    alert: AlertId,
    blocks: &[i64],
    off: &Blocks,
    carried: &Carried,
) -> Result<(), StoreError> {
    let nobody = RoaringBitmap::new();
    let rows = tx.query(&SELECT_OF_ALERT).bind(Numbers(blocks)).bind(alert).fetch_all().await?;
    for row in &rows {
        let (block, round): (i64, i64) = (row.get("block")?, row.get("round")?);
        let mut gone = off.get(&block).unwrap_or(&nobody).clone();
        gone |= carried.off.get(&(block, round)).unwrap_or(&nobody);
        gone -= carried.stay.get(&(block, round)).unwrap_or(&nobody);
        let mut left = from_bytes(&row.get::<Vec<u8>>("people")?)?;
        let before = left.len();
        left -= gone;
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
    let mut blocks = Blocks::new();
    for row in &rows {
        *blocks.entry(row.get("block")?).or_default() |= from_bytes(&row.get::<Vec<u8>>("people")?)?;
    }
    Ok(blocks.values().map(RoaringBitmap::len).sum())
}

/// Adds a person to the places of their block.
pub(super) fn add(blocks: &mut Blocks, person: PersonNumber) {
    blocks.entry(person.block()).or_default().insert(u32::from(person.place()));
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
