//! Moves of subscribers from one person number to another, because both turned out to be one person's.
//!
//! What the one number was told of, the other was told of: the told-lists say so, and beside them is kept
//! because of which number, so that it can be taken back. Moves are made in one transaction after the
//! other, and numbered: whoever knows the last one knows all before it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use jiff::Timestamp;
use roaring::RoaringBitmap;
use uuid::Uuid;

use super::sql::{Numbers, Values, statements};
use super::told::{self, Blocks};
use super::{Session, StoreError, Tx};
use crate::model::{AlertId, CapBudget, PersonNumber};

statements! {
    NEXT_MOVE {
        "UPDATE person_moves SET last = last + 1 RETURNING last"
    }
    HOLD_MOVES {
        postgres: "SELECT last FROM person_moves FOR UPDATE"
        sqlite: "SELECT last FROM person_moves"
    }
    LAST_MOVE {
        "SELECT last FROM person_moves"
    }
    MARK_BLOCKS {
        postgres: "UPDATE person_blocks SET moved = $1 WHERE block = ANY($2)"
        sqlite: "UPDATE person_blocks SET moved = $1
                 WHERE block IN (SELECT value FROM json_each($2))"
    }
    SELECT_SOURCES {
        postgres: "SELECT alert_id, round, person, source FROM told_carried
                   WHERE block = ANY($1) AND person = ANY($2)"
        sqlite: "SELECT alert_id, round, person, source FROM told_carried
                 WHERE block IN (SELECT value FROM json_each($1))
                   AND person IN (SELECT value FROM json_each($2))"
    }
    ADD_SOURCES {
        postgres: "INSERT INTO told_carried (alert_id, round, block, person, source)
                   SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[],
                       $5::bigint[])
                   ON CONFLICT DO NOTHING"
        sqlite: "INSERT INTO told_carried (alert_id, round, block, person, source)
                 SELECT unhex(value->>0), value->>1, value->>2, value->>3, value->>4
                 FROM json_each($1) WHERE true
                 ON CONFLICT DO NOTHING"
    }
    SELECT_CARRIED {
        postgres: "SELECT array_agg(round) AS rounds, array_agg(person) AS persons,
                       array_agg(source) AS sources
                   FROM told_carried WHERE alert_id = $1"
        sqlite: "SELECT json_group_array(round) AS rounds, json_group_array(person) AS persons,
                     json_group_array(source) AS sources
                 FROM told_carried WHERE alert_id = $1"
    }
    FORGET_SOURCES {
        postgres: "DELETE FROM told_carried WHERE alert_id = $1 AND source = ANY($2)"
        sqlite: "DELETE FROM told_carried
                 WHERE alert_id = $1 AND source IN (SELECT value FROM json_each($2))"
    }
}

/// The number of the last move. Whoever reads it, then subscribers, then locks the blocks of their numbers
/// and learns of a later move out of one of these must read the subscribers again: the numbers may be old
/// ones, whose told-list is no longer added to.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn last(session: &mut Session) -> Result<i64, StoreError> {
    session.query(&LAST_MOVE).fetch_one().await?.get("last")
}

/// Keeps others from making moves until the transaction ends. Comes before the locks on blocks.
pub(super) async fn hold(tx: &mut Tx) -> Result<(), StoreError> {
    tx.query(&HOLD_MOVES).execute().await.map(drop)
}

/// Notes that subscribers with each first number got the second, and has the second told of whatever the
/// first was told of. Locks all their blocks at once.
pub(super) async fn make(
    tx: &mut Tx,
    moves: &[(PersonNumber, PersonNumber)],
) -> Result<(), StoreError> {
    let number: i64 = tx.query(&NEXT_MOVE).fetch_one().await?.get("last")?;
    let mut blocks: Vec<i64> =
        moves.iter().flat_map(|(from, to)| [from.block(), to.block()]).collect();
    blocks.sort_unstable();
    blocks.dedup();
    told::lock_blocks(tx, &blocks).await?;
    carry_over(tx, moves, &blocks).await?;
    let left: Vec<i64> = moves.iter().map(|(from, _)| from.block()).collect();
    tx.query(&MARK_BLOCKS).bind(number).bind(Numbers(&left)).execute().await.map(drop)
}

/// A person number in a round of an alert.
type Place = (AlertId, i64, PersonNumber);

async fn carry_over(
    tx: &mut Tx,
    moves: &[(PersonNumber, PersonNumber)],
    blocks: &[i64],
) -> Result<(), StoreError> {
    let lists = told::of_blocks(tx, blocks).await?;
    // Per round the time and the blocks that change.
    let mut changed: BTreeMap<(AlertId, i64), (CapBudget, Timestamp, Blocks)> = BTreeMap::new();
    let mut places: Vec<(Place, PersonNumber)> = Vec::new();
    let mut themselves: HashSet<Place> = HashSet::new();
    for list in &lists {
        for (from, to) in moves {
            if list.has(*to) {
                themselves.insert((list.alert, list.round, *to));
            }
            if list.has(*from) {
                let (_, told_at, blocks) = changed
                    .entry((list.alert, list.round))
                    .or_insert_with(|| (list.budget, list.told_at, Blocks::new()));
                *told_at = list.told_at.max(*told_at);
                told::add(blocks, *to);
                places.push(((list.alert, list.round, *to), *from));
            }
        }
    }
    if places.is_empty() {
        return Ok(());
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
        told::put(tx, *alert, *round, *budget, *told_at, blocks).await?;
    }
    note_sources(tx, blocks, &places, &themselves).await
}

/// Notes for each place on a told-list the number because of which it is there: that one's own sources, or
/// if it has none, itself. `themselves` were there before this move.
async fn note_sources(
    tx: &mut Tx,
    blocks: &[i64],
    places: &[(Place, PersonNumber)],
    themselves: &HashSet<Place>,
) -> Result<(), StoreError> {
    let persons: Vec<i64> =
        places.iter().flat_map(|((.., to), from)| [to.0, from.0]).collect();
    let rows = tx
        .query(&SELECT_SOURCES)
        .bind(Numbers(blocks))
        .bind(Numbers(&persons))
        .fetch_all()
        .await?;
    let mut known: HashMap<Place, Vec<PersonNumber>> = HashMap::new();
    for row in &rows {
        let place = (row.get("alert_id")?, row.get("round")?, row.get("person")?);
        known.entry(place).or_default().push(row.get("source")?);
    }
    let mut new: BTreeSet<(Place, PersonNumber)> = BTreeSet::new();
    for ((alert, round, to), from) in places {
        let (from, to) = ((*alert, *round, *from), (*alert, *round, *to));
        let sources = known.get(&from).map_or(std::slice::from_ref(&from.2), Vec::as_slice);
        new.extend(sources.iter().map(|source| (to, *source)));
        if themselves.contains(&to) && !known.contains_key(&to) {
            new.insert((to, to.2));
        }
    }
    let alerts: Vec<Uuid> = new.iter().map(|((alert, ..), _)| alert.0).collect();
    let column = |of: fn(&(Place, PersonNumber)) -> i64| new.iter().map(of).collect::<Vec<i64>>();
    let rounds = column(|((_, round, _), _)| *round);
    let blocks = column(|((.., person), _)| person.block());
    let persons = column(|((.., person), _)| person.0);
    let sources = column(|(_, source)| source.0);
    tx.query(&ADD_SOURCES)
        .bind_columns(&[
            Values::Uuid(&alerts),
            Values::Int(&rounds),
            Values::Int(&blocks),
            Values::Int(&persons),
            Values::Int(&sources),
        ])
        .execute()
        .await
        .map(drop)
}

/// Whom it concerns, by block and round of an alert, that some numbers leave its told-list.
#[derive(Debug, Default)]
pub(super) struct Carried {
    /// These were on the list because of them, and leave it, too.
    pub off: BTreeMap<(i64, i64), RoaringBitmap>,
    /// These stay, because of others.
    pub stay: BTreeMap<(i64, i64), RoaringBitmap>,
}

/// Forgets that anybody is on an alert's told-list because of these numbers. The moves must be held.
pub(super) async fn forget_sources(
    tx: &mut Tx,
    alert: AlertId,
    off: &Blocks,
) -> Result<Carried, StoreError> {
    let row = tx.query(&SELECT_CARRIED).bind(alert).fetch_one().await?;
    let rounds: Vec<i64> = row.list("rounds")?;
    let (persons, sources): (Vec<i64>, Vec<i64>) = (row.list("persons")?, row.list("sources")?);
    let is_off = |source: PersonNumber| {
        off.get(&source.block())
            .is_some_and(|places| places.contains(u32::from(source.place())))
    };
    let mut carried = Carried::default();
    let mut gone: BTreeSet<i64> = BTreeSet::new();
    for ((round, person), source) in rounds.into_iter().zip(persons).zip(sources) {
        let person = PersonNumber(person);
        let side = if is_off(PersonNumber(source)) {
            gone.insert(source);
            &mut carried.off
        } else {
            &mut carried.stay
        };
        let places = side.entry((person.block(), round)).or_default();
        places.insert(u32::from(person.place()));
    }
    if !gone.is_empty() {
        let gone: Vec<i64> = gone.into_iter().collect();
        tx.query(&FORGET_SOURCES).bind(alert).bind(Numbers(&gone)).execute().await?;
    }
    Ok(carried)
}
