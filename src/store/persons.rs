//! Persons: the numbers behind subscribers, and the keys by which apps know that they share somebody.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use super::sql::{Numbers, Values, statements};
use super::{Session, StoreError, Tx, moves};
use crate::model::{AppId, Cell, PersonNumber};

statements! {
    LOCK_REGIONS {
        postgres: "SELECT region FROM person_regions WHERE region = ANY($1) ORDER BY region FOR UPDATE"
        sqlite: "SELECT value AS region FROM json_each($1)"
    }
    TAKE_NUMBERS {
        postgres: "UPDATE person_regions r SET used = r.used + w.wanted
                   FROM unnest($1::bigint[], $2::bigint[]) AS w(region, wanted)
                   WHERE r.region = w.region AND r.used + w.wanted <= 65536
                   RETURNING r.region, r.block, r.used"
        sqlite: "UPDATE person_regions SET used = used + w.wanted
                 FROM (SELECT value->>0 AS region, value->>1 AS wanted FROM json_each($1)) AS w
                 WHERE person_regions.region = w.region AND used + w.wanted <= 65536
                 RETURNING region, block, used"
    }
    OPEN_BLOCKS {
        postgres: "INSERT INTO person_blocks (region) SELECT unnest($1::bigint[])
                   RETURNING region, block"
        sqlite: "INSERT INTO person_blocks (region) SELECT value->>0 FROM json_each($1)
                 RETURNING region, block"
    }
    USE_BLOCKS {
        postgres: "INSERT INTO person_regions (region, block, used)
                   SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[])
                   ON CONFLICT (region) DO UPDATE SET block = excluded.block, used = excluded.used"
        sqlite: "INSERT INTO person_regions (region, block, used)
                 SELECT value->>0, value->>1, value->>2 FROM json_each($1) WHERE true
                 ON CONFLICT (region) DO UPDATE SET block = excluded.block, used = excluded.used"
    }
    INSERT_KEYS {
        postgres: "INSERT INTO persons (key, number, sent_at)
                   SELECT key, number, $3 FROM unnest($1::bytea[], $2::bigint[]) AS new(key, number)
                   ON CONFLICT DO NOTHING"
        sqlite: "INSERT INTO persons (key, number, sent_at)
                 SELECT unhex(value->>0), value->>1, $3 FROM json_each($1) WHERE true
                 ON CONFLICT DO NOTHING"
    }
    SELECT_KEYS {
        postgres: "SELECT key, number, sent_at FROM persons WHERE key = ANY($1)"
        sqlite: "SELECT persons.key, persons.number, persons.sent_at
                 FROM json_each($1) k CROSS JOIN persons WHERE persons.key = unhex(k.value->>0)"
    }
    TOUCH_KEYS {
        postgres: "UPDATE persons SET sent_at = $1 WHERE key = ANY($2)"
        sqlite: "UPDATE persons SET sent_at = $1
                 WHERE key IN (SELECT unhex(value->>0) FROM json_each($2))"
    }
    HOLD_KEYS {
        postgres: "SELECT key, number FROM persons WHERE key = ANY($1) ORDER BY key FOR SHARE"
        sqlite: "SELECT persons.key, persons.number
                 FROM json_each($1) k CROSS JOIN persons WHERE persons.key = unhex(k.value->>0)"
    }
    LOCK_KEYS_OF {
        postgres: "SELECT number FROM persons WHERE number IN ($1, $2) ORDER BY key FOR UPDATE"
        sqlite: "SELECT number FROM persons WHERE number IN ($1, $2)"
    }
    POINT_KEYS {
        "UPDATE persons SET number = $2 WHERE number = $1"
    }
    FORGET_KEYS {
        "DELETE FROM persons WHERE sent_at < $1"
    }
    SELECT_MOVED {
        postgres: "SELECT s.token, s.person, new.person AS to_person
                   FROM unnest($2::bytea[], $3::bigint[], $4::bigint[]) AS new(token, person, seen_at)
                   JOIN subscribers s ON s.app_id = $1 AND s.token = new.token
                   WHERE s.person <> new.person AND s.seen_at = new.seen_at"
        sqlite: "SELECT s.token, s.person, new.value->>1 AS to_person
                 FROM json_each($2) new CROSS JOIN subscribers s
                 WHERE s.app_id = $1 AND s.token = unhex(new.value->>0)
                   AND s.person <> new.value->>1 AND s.seen_at = new.value->>2"
    }
    MOVE_TOKENS {
        postgres: "UPDATE subscribers SET person = new.person
                   FROM unnest($2::bytea[], $3::bigint[]) AS new(token, person)
                   WHERE app_id = $1 AND subscribers.token = new.token"
        sqlite: "UPDATE subscribers SET person = new.value->>1 FROM json_each($2) new
                 WHERE app_id = $1 AND token = unhex(new.value->>0)"
    }
    MOVE_PERSON {
        "UPDATE subscribers SET person = $2 WHERE person = $1 AND flags & 3 = 2"
    }
}

/// A key as it is known.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// Whose it is.
    pub number: PersonNumber,
    /// When an app sent it, to the week.
    pub sent_at: Timestamp,
}

/// Gives out person numbers that nobody has: to each region as many as it wants (at most 65,536), one
/// after the other from the one that is given back.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn give_out_numbers(
    tx: &mut Tx,
    wanted: &BTreeMap<Cell, i64>,
) -> Result<HashMap<Cell, PersonNumber>, StoreError> {
    let regions: Vec<i64> = wanted.keys().map(|region| region.to_i64()).collect();
    let counts: Vec<i64> = wanted.values().copied().collect();
    // In ascending order, so that two never wait for each other.
    tx.query(&LOCK_REGIONS).bind(Numbers(&regions)).execute().await?;
    let columns = [Values::Int(&regions), Values::Int(&counts)];
    let rows = tx.query(&TAKE_NUMBERS).bind_columns(&columns).fetch_all().await?;
    let mut taken: HashMap<i64, (i64, i64)> = HashMap::new();
    for row in &rows {
        taken.insert(row.get("region")?, (row.get("block")?, row.get("used")?));
    }
    let full: BTreeMap<i64, i64> =
        regions.into_iter().zip(counts).filter(|(region, _)| !taken.contains_key(region)).collect();
    if !full.is_empty() {
        let blocks = open_blocks(tx, &full).await?;
        taken.extend(full.into_iter().map(|(region, used)| (region, (blocks[&region], used))));
    }
    let number = |(region, count): (&Cell, &i64)| {
        let (block, used) = taken[&region.to_i64()];
        (*region, PersonNumber((block << 16) | (used - count)))
    };
    Ok(wanted.iter().map(number).collect())
}

/// Opens a block for each region, of which so many numbers are used.
async fn open_blocks(
    tx: &mut Tx,
    used: &BTreeMap<i64, i64>,
) -> Result<BTreeMap<i64, i64>, StoreError> {
    let regions: Vec<i64> = used.keys().copied().collect();
    let rows = tx.query(&OPEN_BLOCKS).bind_columns(&[Values::Int(&regions)]).fetch_all().await?;
    let opened: BTreeMap<i64, i64> =
        rows.iter().map(|row| Ok((row.get("region")?, row.get("block")?))).collect::<Result<_, _>>()?;
    let (blocks, used): (Vec<i64>, Vec<i64>) =
        opened.values().copied().zip(used.values().copied()).unzip();
    let columns = [Values::Int(&regions), Values::Int(&blocks), Values::Int(&used)];
    tx.query(&USE_BLOCKS).bind_columns(&columns).execute().await?;
    Ok(opened)
}

/// What is known of these keys.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn known(
    session: &mut Session,
    keys: &[Vec<u8>],
) -> Result<HashMap<Vec<u8>, Known>, StoreError> {
    let rows = session.query(&SELECT_KEYS).bind_columns(&[Values::Bytes(keys)]).fetch_all().await?;
    rows.iter()
        .map(|row| {
            let known = Known { number: row.get("number")?, sent_at: row.time("sent_at")? };
            Ok((row.get("key")?, known))
        })
        .collect()
}

/// Keeps keys with the numbers they stand for; one that is known by now keeps the number it has.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn add_keys(
    tx: &mut Tx,
    keys: &[Vec<u8>],
    numbers: &[PersonNumber],
    now: Timestamp,
) -> Result<(), StoreError> {
    let numbers: Vec<i64> = numbers.iter().map(|number| number.0).collect();
    tx.query(&INSERT_KEYS)
        .bind_columns(&[Values::Bytes(keys), Values::Int(&numbers)])
        .bind(now.as_millisecond())
        .execute()
        .await
        .map(drop)
}

/// Notes that keys were sent now.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn touch_keys(tx: &mut Tx, keys: &[Vec<u8>], now: Timestamp) -> Result<(), StoreError> {
    tx.query(&TOUCH_KEYS)
        .bind(now.as_millisecond())
        .bind_columns(&[Values::Bytes(keys)])
        .execute()
        .await
        .map(drop)
}

/// Forgets keys that no app has sent since a moment.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn forget_keys(tx: &mut Tx, before: Timestamp) -> Result<u64, StoreError> {
    tx.query(&FORGET_KEYS).bind(before.as_millisecond()).execute().await
}

/// The numbers that keys stand for, which they keep until the transaction ends.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn hold_keys(
    tx: &mut Tx,
    keys: &[Vec<u8>],
) -> Result<HashMap<Vec<u8>, PersonNumber>, StoreError> {
    let rows = tx.query(&HOLD_KEYS).bind_columns(&[Values::Bytes(keys)]).fetch_all().await?;
    rows.iter().map(|row| Ok((row.get("key")?, row.get("number")?))).collect()
}

/// Makes one person of two whose keys turned out to be one person's: the subscribers and all keys of
/// `from` are `to`'s from here on, and what `from` was told of, `to` was told of. Does nothing if no key
/// stands for one of the two any more.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn unite(
    tx: &mut Tx,
    from: PersonNumber,
    to: PersonNumber,
) -> Result<(), StoreError> {
    // The keys come first: whoever writes subscribers by them now waits, and what they wrote is moved.
    let rows = tx.query(&LOCK_KEYS_OF).bind(from).bind(to).fetch_all().await?;
    let numbers: Vec<PersonNumber> =
        rows.iter().map(|row| row.get("number")).collect::<Result<_, _>>()?;
    if !numbers.contains(&from) || !numbers.contains(&to) {
        return Ok(());
    }
    tx.query(&POINT_KEYS).bind(from).bind(to).execute().await?;
    tx.query(&MOVE_PERSON).bind(from).bind(to).execute().await?;
    moves::make(tx, &[(from, to)]).await
}

/// Gives the subscribers just written the numbers that their person keys stand for (token, number and
/// time written of each). Whose number changes is still the one who was told: what the old number was
/// told of, the new one was told of.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn follow_keys(
    tx: &mut Tx,
    app: AppId,
    keyed: &[(Vec<u8>, PersonNumber, Timestamp)],
) -> Result<(), StoreError> {
    let tokens: Vec<Vec<u8>> = keyed.iter().map(|one| one.0.clone()).collect();
    let numbers: Vec<i64> = keyed.iter().map(|one| one.1.0).collect();
    let seen: Vec<i64> = keyed.iter().map(|one| one.2.as_millisecond()).collect();
    let columns = [Values::Bytes(&tokens), Values::Int(&numbers), Values::Int(&seen)];
    let rows = tx.query(&SELECT_MOVED).bind(app).bind_columns(&columns).fetch_all().await?;
    if rows.is_empty() {
        return Ok(());
    }
    let (mut tokens, mut moved) = (Vec::new(), Vec::new());
    for row in &rows {
        tokens.push(row.get("token")?);
        moved.push((row.get::<PersonNumber>("person")?, row.get::<PersonNumber>("to_person")?));
    }
    let numbers: Vec<i64> = moved.iter().map(|(_, to)| to.0).collect();
    tx.query(&MOVE_TOKENS)
        .bind(app)
        .bind_columns(&[Values::Bytes(&tokens), Values::Int(&numbers)])
        .execute()
        .await?;
    moves::make(tx, &moved).await
}
