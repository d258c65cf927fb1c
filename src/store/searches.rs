//! Areas searched on the ground.

use super::sql::{Row, statements, to_json};
use super::{Session, StoreError, Tx};
use crate::model::{CaseId, SearchedArea};

statements! {
    NEXT_NUMBER {
        "SELECT coalesce(max(number), 0) + 1 AS number FROM searches WHERE case_id = $1"
    }
    INSERT_SEARCH {
        "INSERT INTO searches (case_id, number, reported_by, reported_at, searched_at, detection,
             cells, withdrawn)
         VALUES ($1, $2, $3, $4, $5, $6, $7, FALSE)"
    }
    SELECT_SEARCHES {
        "SELECT * FROM searches WHERE case_id = $1 ORDER BY number"
    }
    WITHDRAW_SEARCH {
        "UPDATE searches SET withdrawn = TRUE
         WHERE case_id = $1 AND number = $2 AND NOT withdrawn"
    }
}

/// The number that the next search of a case has. The case must be locked.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn next_number(session: &mut Session, case: CaseId) -> Result<i64, StoreError> {
    session.query(&NEXT_NUMBER).bind(case).fetch_one().await?.get("number")
}

/// Keeps a search.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn add(tx: &mut Tx, search: &SearchedArea) -> Result<(), StoreError> {
    tx.query(&INSERT_SEARCH)
        .bind(search.case)
        .bind(search.number)
        .bind(search.reported_by.as_str())
        .bind(search.reported_at.as_millisecond())
        .bind(search.searched_at.as_millisecond())
        .bind(search.detection)
        .bind(to_json(&search.cells)?)
        .execute()
        .await
        .map(drop)
}

/// The searches of a case, in order.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn of_case(session: &mut Session, case: CaseId) -> Result<Vec<SearchedArea>, StoreError> {
    session.query(&SELECT_SEARCHES).bind(case).fetch_all().await?.iter().map(to_search).collect()
}

/// Takes a search back; `false` if there is none of this number that counts.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn withdraw(tx: &mut Tx, case: CaseId, number: i64) -> Result<bool, StoreError> {
    Ok(tx.query(&WITHDRAW_SEARCH).bind(case).bind(number).execute().await? == 1)
}

fn to_search(row: &Row) -> Result<SearchedArea, StoreError> {
    Ok(SearchedArea {
        case: row.get("case_id")?,
        number: row.get("number")?,
        reported_by: row.get("reported_by")?,
        reported_at: row.time("reported_at")?,
        searched_at: row.time("searched_at")?,
        detection: row.get("detection")?,
        cells: row.json("cells")?,
        withdrawn: row.get("withdrawn")?,
    })
}
