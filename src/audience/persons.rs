//! Which person is behind a subscriber: by the keys that apps share, else by its token.
//!
//! A key is a keyed hash, the same in every app that knows the person. While the secret behind it is
//! changed an app sends two keys, by the old secret and by the new one, and both stand for one number.

use std::collections::{BTreeMap, HashMap};

use h3o::Resolution;
use jiff::{SignedDuration, Timestamp};

use super::sync::Entry;
use crate::model::{AppId, Cell, PersonNumber, SubscriberFlags};
use crate::store::persons;
use crate::store::uploads::{Known, SubscriberRow};
use crate::store::{Store, StoreError, Tx};

/// Newcomers get numbers by region of about 250 km²: neighbours' numbers lie close together, and a
/// block of 65,536 serves a small town or a city quarter.
const NUMBER_REGION: Resolution = Resolution::Five;
/// How exactly it is known when a key was last sent: a write for every upload would cost too much.
const SENT_WITHIN: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The person number of each entry: by person key, else the one its token has, else a new one. A token
/// that came with a key and now comes with keys nobody knows has been passed on: that is somebody new.
pub(super) async fn numbers(
    store: &Store,
    entries: &[(Entry, Option<Known>)],
    now: Timestamp,
) -> Result<Vec<PersonNumber>, StoreError> {
    let keys: Vec<Vec<u8>> = entries
        .iter()
        .flat_map(|(entry, _)| &entry.person_keys)
        .cloned()
        .collect();
    let mut by_key = if keys.is_empty() {
        HashMap::new()
    } else {
        persons::known(&mut store.read().await?, &keys).await?
    };
    let mut numbers: Vec<PersonNumber> = entries
        .iter()
        .map(|(entry, known)| {
            let of_key = entry.person_keys.iter().find_map(|key| by_key.get(key));
            let passed_on = |known: &Known| {
                known.flags.has(SubscriberFlags::SHARED) && !entry.person_keys.is_empty()
            };
            let of_token = || {
                known
                    .filter(|known| !passed_on(known))
                    .map(|known| known.person)
            };
            of_key
                .map(|key| key.number)
                .or_else(of_token)
                .unwrap_or(PersonNumber(0))
        })
        .collect();
    let mut newcomers: BTreeMap<Cell, Vec<usize>> = BTreeMap::new();
    for (place, (entry, _)) in entries.iter().enumerate() {
        if let (PersonNumber(0), Some(cell)) = (numbers[place], entry.cell) {
            newcomers.entry(region(cell)).or_default().push(place);
        }
    }
    let mut unknown = keys;
    unknown.retain(|key| {
        by_key
            .get(key)
            .is_none_or(|known| known.sent_at + SENT_WITHIN < now)
    });
    if newcomers.is_empty() && unknown.is_empty() {
        return united(store, entries, numbers, &mut by_key).await;
    }
    // A transaction of its own: numbers that stay unused do no harm, and no lock is held long.
    let mut tx = store.begin().await?;
    let count = |places: &Vec<usize>| i64::try_from(places.len()).unwrap_or(i64::MAX);
    let wanted = newcomers
        .iter()
        .map(|(region, places)| (*region, count(places)))
        .collect();
    let first = persons::give_out_numbers(&mut tx, &wanted).await?;
    for (region, places) in &newcomers {
        for (place, number) in places.iter().zip(first[region].0..) {
            numbers[*place] = PersonNumber(number);
        }
    }
    if !unknown.is_empty() {
        let mut offered: BTreeMap<Vec<u8>, PersonNumber> = BTreeMap::new();
        for (place, (entry, _)) in entries.iter().enumerate() {
            let first = entry
                .person_keys
                .iter()
                .find_map(|key| offered.get(key))
                .copied();
            for key in &entry.person_keys {
                offered
                    .entry(key.clone())
                    .or_insert(first.unwrap_or(numbers[place]));
            }
        }
        let (keys, offers): (Vec<_>, Vec<_>) = offered.into_iter().unzip();
        persons::add_keys(&mut tx, &keys, &offers, now).await?;
        persons::touch_keys(&mut tx, &unknown, now).await?;
        by_key = persons::known(&mut tx, &keys).await?;
    }
    tx.commit().await?;
    united(store, entries, numbers, &mut by_key).await
}

/// The numbers that the keys stand for. Two keys of one entry that stand for two numbers show that
/// those are one person: of the two the lower number stays, so that all come to the same.
async fn united(
    store: &Store,
    entries: &[(Entry, Option<Known>)],
    mut numbers: Vec<PersonNumber>,
    by_key: &mut HashMap<Vec<u8>, persons::Known>,
) -> Result<Vec<PersonNumber>, StoreError> {
    for (place, (entry, _)) in entries.iter().enumerate() {
        let of_keys = || entry.person_keys.iter().filter_map(|key| by_key.get(key));
        let Some(to) = of_keys().map(|key| key.number).min() else {
            continue;
        };
        for from in of_keys()
            .map(|key| key.number)
            .filter(|from| *from != to)
            .collect::<Vec<_>>()
        {
            let mut tx = store.begin().await?;
            persons::unite(&mut tx, from, to).await?;
            tx.commit().await?;
            by_key
                .values_mut()
                .filter(|key| key.number == from)
                .for_each(|key| key.number = to);
        }
        numbers[place] = to;
    }
    Ok(numbers)
}

/// Has each entry's number be the one that its keys stand for now, and stay so until the transaction
/// ends: two numbers may have become one since [`numbers`] looked.
pub(super) async fn settle(
    tx: &mut Tx,
    entries: &[(Entry, Option<Known>)],
    numbers: &mut [PersonNumber],
) -> Result<(), StoreError> {
    let keys: Vec<Vec<u8>> = entries
        .iter()
        .flat_map(|(entry, _)| &entry.person_keys)
        .cloned()
        .collect();
    if keys.is_empty() {
        return Ok(());
    }
    let by_key = persons::hold_keys(tx, &keys).await?;
    for ((entry, _), number) in entries.iter().zip(numbers) {
        let of_keys = entry.person_keys.iter().filter_map(|key| by_key.get(key));
        *number = of_keys.min().copied().unwrap_or(*number);
    }
    Ok(())
}

/// Gives the rows just written the numbers that their keys stand for.
pub(super) async fn follow_keys(
    tx: &mut Tx,
    app: AppId,
    rows: &[SubscriberRow],
) -> Result<(), StoreError> {
    let keyed = rows
        .iter()
        .filter(|row| row.flags.has(SubscriberFlags::SHARED) && row.cell.is_some());
    let keyed: Vec<_> = keyed
        .map(|row| (row.token.clone(), row.person, row.seen_at))
        .collect();
    if keyed.is_empty() {
        return Ok(());
    }
    persons::follow_keys(tx, app, &keyed).await
}

fn region(cell: Cell) -> Cell {
    cell.index().parent(NUMBER_REGION).map_or(cell, Cell::from)
}
