//! Keeping the registry in step with what an app sends: one JSON object a line, each the whole state
//! of one subscriber, the last write by time wins.

use std::cmp::Ordering;
use std::collections::HashSet;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::persons;
use crate::model::{AppId, CaseKind, Cell, PersonNumber, SubscriberFlags};
use crate::store::uploads::{self, Known, SubscriberRow};
use crate::store::{Store, StoreError, without_conflict};

/// Lines written in one transaction. Newcomers of a chunk are written in order of their cells, so
/// that the more of them there are, the closer together neighbours lie in the table.
pub const CHUNK_LINES: usize = 10_000;
/// Bytes of one line: far more than a full one needs.
pub const LINE_BYTES: usize = 2_048;
/// Bytes of an app's token.
const TOKEN_BYTES: std::ops::RangeInclusive<usize> = 1..=64;
/// Bytes of a person key: a keyed hash.
const PERSON_KEY_BYTES: std::ops::RangeInclusive<usize> = 16..=64;
/// How far an app's clock may be ahead: a time further off would win over all later writes.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);
/// Keys of one person: by the secret in use and, while it is changed, by the other.
const PERSON_KEYS: usize = 2;

/// One line of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub(super) token: Vec<u8>,
    at: Timestamp,
    pub(super) cell: Option<Cell>,
    flags: i32,
    muted_until_ms: i64,
    pub(super) person_keys: Vec<Vec<u8>>,
}

impl Entry {
    /// The token, unless this deletes it.
    pub(super) fn named(&self) -> Option<&[u8]> {
        self.cell.map(|_| self.token.as_slice())
    }

    /// Whether this says anything new. An app may write twice within one tick of its clock; then what
    /// comes later counts, so that no opt-out is lost.
    fn changes(&self, known: Option<&Known>) -> bool {
        let Some(known) = known else { return true };
        // A deleted one still shows that its token came with a key.
        let kept = match self.cell {
            None => known.flags.0 & SubscriberFlags::SHARED,
            Some(_) => 0,
        };
        let says = (
            self.cell.map_or(0, Cell::to_i64),
            self.flags | kept,
            self.muted_until_ms,
        );
        match known.seen_at_ms.cmp(&self.at.as_millisecond()) {
            Ordering::Less => true,
            Ordering::Equal => says != (known.cell, known.flags.0, known.muted_until_ms),
            Ordering::Greater => false,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a field of the line")]
struct Line {
    token: String,
    at: Timestamp,
    cell: Option<Cell>,
    #[serde(default)]
    delete: bool,
    #[serde(default)]
    opt_out: bool,
    #[serde(default)]
    opt_out_of: Vec<CaseKind>,
    #[serde(default)]
    drills: bool,
    #[serde(default)]
    volunteer: bool,
    muted_until: Option<Timestamp>,
    #[serde(default)]
    person_keys: Vec<String>,
}

/// Reads one line.
///
/// # Errors
/// A sentence that says what is wrong and what would be accepted; never the token itself.
pub fn parse(line: &[u8], now: Timestamp) -> Result<Entry, String> {
    if line.len() > LINE_BYTES {
        return Err(format!("the line is longer than {LINE_BYTES} bytes"));
    }
    let line: Line = serde_json::from_slice(line).map_err(|_| describe(line))?;
    let token = line.token.into_bytes();
    if !TOKEN_BYTES.contains(&token.len()) {
        return Err(format!(
            "token: 1 to 64 bytes are accepted, this one has {}",
            token.len()
        ));
    }
    if line.at > now + CLOCK_SKEW {
        return Err("at: the time lies more than 5 minutes in the future".into());
    }
    let person_keys = read_keys(&line.person_keys)?;
    if line.delete {
        return Ok(Entry {
            token,
            at: line.at,
            cell: None,
            flags: SubscriberFlags::DELETED,
            muted_until_ms: 0,
            person_keys: Vec::new(),
        });
    }
    let cell = line
        .cell
        .ok_or("cell: missing; an H3 cell of resolution 9 is needed")?;
    let cell = cell
        .for_subscriber()
        .map_err(|error| format!("cell: {error}"))?;
    let flags = [
        (line.opt_out, SubscriberFlags::OPTED_OUT),
        (line.drills, SubscriberFlags::DRILLS),
        (line.volunteer, SubscriberFlags::VOLUNTEER),
        (!person_keys.is_empty(), SubscriberFlags::SHARED),
    ];
    let kinds = line
        .opt_out_of
        .iter()
        .copied()
        .map(SubscriberFlags::opted_out_of);
    let set = flags.iter().filter(|(set, _)| *set).map(|(_, bit)| *bit);
    Ok(Entry {
        token,
        at: line.at,
        cell: Some(cell),
        flags: set.chain(kinds).fold(0, |flags, bit| flags | bit),
        muted_until_ms: line.muted_until.map_or(0, Timestamp::as_millisecond),
        person_keys,
    })
}

fn read_keys(keys: &[String]) -> Result<Vec<Vec<u8>>, String> {
    if keys.len() > PERSON_KEYS {
        return Err(format!(
            "person_keys: at most 2 are accepted (by the secret in use and by the one to come), not {}",
            keys.len()
        ));
    }
    let key = |text: &String| {
        hex::decode(text)
            .ok()
            .filter(|key| PERSON_KEY_BYTES.contains(&key.len()))
            .ok_or("person_keys: keyed hashes of 16 to 64 bytes in hexadecimal are accepted")
    };
    Ok(keys.iter().map(key).collect::<Result<_, _>>()?)
}

/// What is wrong with a line that is no [`Line`], with the field it is about. Read a second time for
/// that, because good lines should not pay for it.
fn describe(line: &[u8]) -> String {
    let mut reader = serde_json::Deserializer::from_slice(line);
    let Err(error) = serde_path_to_error::deserialize::<_, Line>(&mut reader) else {
        return "the line goes on after its JSON object".into();
    };
    let field = error.path().to_string();
    if matches!(field.as_str(), "at" | "muted_until") {
        return format!("{field}: a time such as 2026-06-01T12:00:00Z is accepted");
    }
    let text = error.inner().to_string();
    // The position inside the line would only confuse beside the line's number.
    let text = text.split(" at line ").next().unwrap_or(&text);
    if field == "." {
        text.to_owned()
    } else {
        format!("{field}: {text}")
    }
}

/// Entries of an app that say something new, with the numbers of their persons.
pub struct Ready {
    app: AppId,
    entries: Vec<(Entry, Option<Known>)>,
    numbers: Vec<PersonNumber>,
}

impl Ready {
    /// Whether writing this would change what [`prepare`] finds of these entries.
    #[must_use]
    pub fn shares_tokens_with(&self, entries: &[Entry]) -> bool {
        let ours: HashSet<&[u8]> = self
            .entries
            .iter()
            .map(|(entry, _)| entry.token.as_slice())
            .collect();
        entries
            .iter()
            .any(|entry| ours.contains(entry.token.as_slice()))
    }
}

/// Looks up what is known of a chunk of entries, leaves out what is known already, and gives newcomers
/// their numbers. What the same upload said of these tokens before must have been written by now. What
/// other uploads write from here on may be missed: a row never gives way to an older one, and two of the
/// same time from two uploads have no order. Only if two bring a token's first key at once, each another
/// key, do both keys stand for one person.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn prepare(store: &Store, app: AppId, entries: Vec<Entry>) -> Result<Ready, StoreError> {
    let entries = newest_by_token(entries);
    let tokens: Vec<Vec<u8>> = entries.iter().map(|entry| entry.token.clone()).collect();
    let mut session = store.read().await?;
    let now = session.now().await?;
    let known = uploads::known(&mut session, app, &tokens).await?;
    drop(session);
    let mut entries: Vec<(Entry, Option<Known>)> = entries
        .into_iter()
        .zip(known)
        .filter(|(entry, known)| entry.changes(known.as_ref()))
        .collect();
    // Those known are locked in order of token, so that two uploads hardly ever wait for each other;
    // newcomers go to where their neighbours go.
    entries.sort_by_key(|(entry, known)| known.is_none().then_some(entry.cell));
    let numbers = without_conflict(|| persons::numbers(store, &entries, now)).await?;
    Ok(Ready {
        app,
        entries,
        numbers,
    })
}

/// Writes a chunk of entries; says how many rows changed.
///
/// # Errors
/// [`StoreError`] if the database does not answer; nothing of the chunk is written then.
pub async fn write(store: &Store, ready: &Ready) -> Result<u64, StoreError> {
    if ready.entries.is_empty() {
        return Ok(0);
    }
    without_conflict(|| try_write(store, ready)).await
}

async fn try_write(store: &Store, ready: &Ready) -> Result<u64, StoreError> {
    let mut numbers = ready.numbers.clone();
    let mut tx = store.begin().await?;
    persons::settle(&mut tx, &ready.entries, &mut numbers).await?;
    let rows: Vec<SubscriberRow> = ready
        .entries
        .iter()
        .zip(numbers)
        .map(|((entry, _), person)| SubscriberRow {
            token: entry.token.clone(),
            cell: entry.cell,
            person,
            seen_at: entry.at,
            flags: SubscriberFlags(entry.flags),
            muted_until_ms: entry.muted_until_ms,
        })
        .collect();
    let changed = uploads::write(&mut tx, ready.app, &rows).await?;
    persons::follow_keys(&mut tx, ready.app, &rows).await?;
    tx.commit().await?;
    Ok(changed)
}

/// Each token once, in order, as its newest entry says; of two of the same time the later line.
fn newest_by_token(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.sort_by(|a, b| (&a.token, a.at).cmp(&(&b.token, b.at)));
    entries.reverse();
    entries.dedup_by(|older, newest| older.token == newest.token);
    entries.reverse();
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-06-01T12:00:00Z".parse().unwrap()
    }

    fn problem(line: &str) -> String {
        parse(line.as_bytes(), now()).unwrap_err()
    }

    #[test]
    fn a_full_line_is_read() {
        let line = r#"{"token":"a","cell":"891976bb667ffff","at":"2026-06-01T11:00:00Z","drills":true,
            "volunteer":true,"muted_until":"2026-06-02T00:00:00Z","person_keys":["000102030405060708090a0b0c0d0e0f"]}"#;
        let entry = parse(line.as_bytes(), now()).unwrap();
        assert!(SubscriberFlags(entry.flags).has(SubscriberFlags::VOLUNTEER));
        assert!(SubscriberFlags(entry.flags).has(SubscriberFlags::SHARED));
        assert!(!SubscriberFlags(entry.flags).has(SubscriberFlags::OPTED_OUT));
    }

    #[test]
    fn each_bad_line_says_what_would_be_accepted() {
        let base = r#""at":"2026-06-01T11:00:00Z""#;
        let long = "x".repeat(65);
        for (line, part) in [
            ("nonsense".to_owned(), "expected"),
            (
                format!(r#"{{"token":"","cell":"891976bb667ffff",{base}}}"#),
                "1 to 64 bytes",
            ),
            (
                format!(r#"{{"token":"{long}","cell":"891976bb667ffff",{base}}}"#),
                "1 to 64 bytes",
            ),
            (format!(r#"{{"token":"a",{base}}}"#), "resolution 9"),
            (
                format!(r#"{{"token":"a","cell":"881976bb67fffff",{base}}}"#),
                "of resolution 8",
            ),
            (
                format!(r#"{{"token":"a","cell":"xyz",{base}}}"#),
                "15 hexadecimal digits",
            ),
            (
                r#"{"token":"a","cell":"891976bb667ffff","at":"yesterday"}"#.to_owned(),
                "a time such as",
            ),
            (
                r#"{"token":"a","cell":"891976bb667ffff","at":"2026-06-01T12:06:00Z"}"#.to_owned(),
                "in the future",
            ),
            (
                format!(r#"{{"token":"a","cell":"891976bb667ffff","person_keys":["zz"],{base}}}"#),
                "hexadecimal",
            ),
            (
                format!(
                    r#"{{"token":"a","cell":"891976bb667ffff","person_keys":["","",""],{base}}}"#
                ),
                "at most 2",
            ),
            (
                format!(r#"{{"token":"a","cell":"891976bb667ffff","opt_out_of":["x"],{base}}}"#),
                "accepted are: child, dementia",
            ),
            (
                format!(r#"{{"token":"a","cell":"891976bb667ffff","cel":"",{base}}}"#),
                "unknown field",
            ),
        ] {
            let problem = problem(&line);
            assert!(problem.contains(part), "{line}: {problem}");
        }
    }

    #[test]
    fn of_several_entries_for_a_token_the_newest_counts() {
        let entry = |cell: &str, at: &str| {
            let line = format!(r#"{{"token":"a","cell":"{cell}","at":"{at}"}}"#);
            parse(line.as_bytes(), now()).unwrap()
        };
        let (one, two) = ("891976bb667ffff", "891976bb64bffff");
        let kept = newest_by_token(vec![
            entry(one, "2026-06-01T11:00:00Z"),
            entry(two, "2026-06-01T10:00:00Z"),
        ]);
        assert_eq!(kept[0].cell.unwrap().to_string(), one);
        let kept = newest_by_token(vec![
            entry(one, "2026-06-01T11:00:00Z"),
            entry(two, "2026-06-01T11:00:00Z"),
        ]);
        assert_eq!(kept[0].cell.unwrap().to_string(), two);
    }
}
