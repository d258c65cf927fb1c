//! Rounds (released waves and sweeps), the shards they are cut into, and the counts of each.

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::sql::{Row, Values, statements, to_json};
use super::{Session, StoreError, Tx};
use crate::model::{
    AlertId, AlertRecord, AppId, CaseId, CellRange, Reason, RoundKind, ShardId, Urgency,
};

statements! {
    INSERT_ROUND {
        "INSERT INTO rounds (alert_id, number, kind, wave, released_at, expires_at, area)
         VALUES ($1, $2, $3, $4, $5, $6, $7)"
    }
    COUNT_ROUND {
        "UPDATE alerts SET rounds = $2, next_sweep_at = $4,
             expires_at = CASE WHEN expires_at > $3 THEN expires_at ELSE $3 END
         WHERE id = $1"
    }
    INSERT_SHARD {
        "INSERT INTO shards (id, alert_id, round, number, urgency, wave, probability, ranges, state,
             attempt, lease_until)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'pending', 0, 0)"
    }
    CLAIM_SHARD {
        postgres: "UPDATE shards SET attempt = attempt + 1, lease_until = $2
                   WHERE id = (
                       SELECT shards.id FROM shards
                       JOIN alerts ON alerts.id = shards.alert_id AND alerts.closed_at IS NULL
                       JOIN cases ON cases.id = alerts.case_id AND cases.state = 'active'
                       WHERE shards.state = 'pending' AND shards.lease_until <= $1
                       ORDER BY shards.urgency DESC, shards.wave, shards.number
                       LIMIT 1 FOR UPDATE OF shards SKIP LOCKED)
                   RETURNING *, (SELECT case_id FROM alerts WHERE id = alert_id) AS case_id,
                       (SELECT kind FROM rounds WHERE rounds.alert_id = shards.alert_id
                           AND rounds.number = shards.round) AS kind"
        sqlite: "UPDATE shards SET attempt = attempt + 1, lease_until = $2
                 WHERE id = (
                     SELECT shards.id FROM shards
                     JOIN alerts ON alerts.id = shards.alert_id AND alerts.closed_at IS NULL
                     JOIN cases ON cases.id = alerts.case_id AND cases.state = 'active'
                     WHERE shards.state = 'pending' AND shards.lease_until <= $1
                     ORDER BY shards.urgency DESC, shards.wave, shards.number
                     LIMIT 1)
                 RETURNING *, (SELECT case_id FROM alerts WHERE id = alert_id) AS case_id,
                     (SELECT kind FROM rounds WHERE rounds.alert_id = shards.alert_id
                         AND rounds.number = shards.round) AS kind"
    }
    FINISH_SHARD {
        "UPDATE shards SET state = 'done', done_at = $3
         WHERE id = $1 AND attempt = $2 AND state = 'pending'"
    }
    HAND_BACK {
        "UPDATE shards SET lease_until = $3 WHERE id = $1 AND attempt = $2 AND state = 'pending'"
    }
    SET_URGENCY {
        "UPDATE shards SET urgency = $2 WHERE alert_id = $1 AND state = 'pending'"
    }
    WITHDRAW_SHARDS {
        "UPDATE shards SET state = 'withdrawn' WHERE alert_id = $1 AND state = 'pending'"
    }
    INSERT_COUNTS {
        postgres: "INSERT INTO counts (shard_id, alert_id, round, app_id, reason, people)
                   SELECT $1, $2, $3, app::int, reason, people
                   FROM unnest($4::bigint[], $5::text[], $6::bigint[]) AS new(app, reason, people)"
        sqlite: "INSERT INTO counts (shard_id, alert_id, round, app_id, reason, people)
                 SELECT $1, $2, $3, value->>0, value->>1, value->>2 FROM json_each($4)"
    }
    SELECT_ROUNDS {
        "SELECT rounds.*,
                (SELECT count(*) FROM shards WHERE shards.alert_id = rounds.alert_id
                    AND shards.round = rounds.number) AS shards,
                (SELECT count(*) FROM shards WHERE shards.alert_id = rounds.alert_id
                    AND shards.round = rounds.number AND shards.state = 'done') AS shards_done,
                (SELECT CASE WHEN count(CASE WHEN state = 'pending' THEN 1 END) = 0
                        THEN max(done_at) END
                 FROM shards WHERE shards.alert_id = rounds.alert_id
                    AND shards.round = rounds.number) AS done_at
         FROM rounds WHERE alert_id = $1 ORDER BY number"
    }
    SELECT_COUNTS {
        "SELECT round, app_id, reason, CAST(sum(people) AS BIGINT) AS people FROM counts
         WHERE alert_id = $1 GROUP BY round, app_id, reason ORDER BY round, app_id, reason"
    }
    COUNT_UNDONE {
        "SELECT count(*) AS undone FROM shards WHERE alert_id = $1 AND state = 'pending'"
    }
}

/// A round about to be released.
#[derive(Debug)]
pub struct NewRound<'a> {
    /// The alert, as it stands before the release.
    pub alert: &'a AlertRecord,
    /// Volunteers, wave or sweep.
    pub kind: RoundKind,
    /// The wave's number; for a sweep that of the last wave released.
    pub wave: i64,
    /// When its issues expire.
    pub expires_at: Timestamp,
    /// When the next sweep of the alert is due.
    pub next_sweep_at: Timestamp,
    /// The released area for the phone (protobuf).
    pub area: &'a [u8],
    /// The shards, best first: probability of the best cell, and cells as ranges.
    pub shards: &'a [(f64, Vec<CellRange>)],
}

/// A shard that was claimed: finish it under this attempt, before the lease ends.
#[derive(Debug, Clone)]
pub struct Shard {
    /// Its id.
    pub id: ShardId,
    /// The case.
    pub case: CaseId,
    /// The alert.
    pub alert: AlertId,
    /// The round.
    pub round: i64,
    /// What the round is.
    pub kind: RoundKind,
    /// The wave whose turn it is.
    pub wave: i64,
    /// Rank of the urgency.
    pub urgency: i64,
    /// Probability of area of its best cell.
    pub probability: f64,
    /// Its cells.
    pub ranges: Vec<CellRange>,
    /// Counts the claims.
    pub attempt: i64,
}

/// A round as it is shown.
#[derive(Debug, Clone)]
pub struct RoundListing {
    /// 1 for the first of the alert.
    pub number: i64,
    /// What it is.
    pub kind: RoundKind,
    /// The wave.
    pub wave: i64,
    /// When it was released.
    pub released_at: Timestamp,
    /// When the last of its shards was done.
    pub done_at: Option<Timestamp>,
    /// How many shards it has.
    pub shards: i64,
    /// How many of them are done.
    pub shards_done: i64,
}

/// Releases a round with its shards; gives its number.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn release(tx: &mut Tx, round: &NewRound<'_>, now: Timestamp) -> Result<i64, StoreError> {
    let number = round.alert.rounds + 1;
    tx.query(&INSERT_ROUND)
        .bind(round.alert.id)
        .bind(number)
        .bind(round.kind.name())
        .bind(round.wave)
        .bind(now.as_millisecond())
        .bind(round.expires_at.as_millisecond())
        .bind(round.area)
        .execute()
        .await?;
    tx.query(&COUNT_ROUND)
        .bind(round.alert.id)
        .bind(number)
        .bind(round.expires_at.as_millisecond())
        .bind(round.next_sweep_at.as_millisecond())
        .execute()
        .await?;
    // Volunteers come before everybody else of their wave: it is their turn with the wave before.
    let turn = match round.kind {
        RoundKind::Volunteers => round.wave - 1,
        RoundKind::Wave | RoundKind::Sweep => round.wave,
    };
    for (place, (probability, ranges)) in (1_i64..).zip(round.shards) {
        tx.query(&INSERT_SHARD)
            .bind(ShardId::fresh())
            .bind(round.alert.id)
            .bind(number)
            .bind(place)
            .bind(round.alert.urgency.rank())
            .bind(turn)
            .bind(*probability)
            .bind(to_json(ranges)?)
            .execute()
            .await?;
    }
    Ok(number)
}

/// Claims the best shard that waits, for as long as `lease`.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn claim_shard(
    tx: &mut Tx,
    now: Timestamp,
    lease: SignedDuration,
) -> Result<Option<Shard>, StoreError> {
    let row = tx
        .query(&CLAIM_SHARD)
        .bind(now.as_millisecond())
        .bind((now + lease).as_millisecond())
        .fetch_optional()
        .await?;
    row.as_ref().map(to_shard).transpose()
}

/// Marks a shard done under the attempt that claimed it; `false` if somebody else has it by now.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn finish_shard(tx: &mut Tx, shard: &Shard, now: Timestamp) -> Result<bool, StoreError> {
    let finished = tx
        .query(&FINISH_SHARD)
        .bind(shard.id)
        .bind(shard.attempt)
        .bind(now.as_millisecond())
        .execute()
        .await?;
    Ok(finished == 1)
}

/// Gives a claimed shard back; nobody claims it again before `not_before`.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn hand_back(
    tx: &mut Tx,
    shard: &Shard,
    not_before: Timestamp,
) -> Result<(), StoreError> {
    tx.query(&HAND_BACK)
        .bind(shard.id)
        .bind(shard.attempt)
        .bind(not_before.as_millisecond())
        .execute()
        .await
        .map(drop)
}

/// Changes the rank of an alert's shards that wait.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn set_urgency(tx: &mut Tx, alert: AlertId, urgency: Urgency) -> Result<(), StoreError> {
    tx.query(&SET_URGENCY).bind(alert).bind(urgency.rank()).execute().await.map(drop)
}

/// Takes back all shards of an alert that nobody has finished.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn withdraw_shards(tx: &mut Tx, alert: AlertId) -> Result<u64, StoreError> {
    tx.query(&WITHDRAW_SHARDS).bind(alert).execute().await
}

/// Writes down how many of a shard were told, or why not, by app.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn add_counts(
    tx: &mut Tx,
    shard: &Shard,
    counts: &[(AppId, Reason, i64)],
) -> Result<(), StoreError> {
    let apps: Vec<i64> = counts.iter().map(|(app, ..)| i64::from(app.0)).collect();
    let reasons: Vec<String> = counts.iter().map(|(_, reason, _)| reason.to_string()).collect();
    let people: Vec<i64> = counts.iter().map(|(.., people)| *people).collect();
    tx.query(&INSERT_COUNTS)
        .bind(shard.id)
        .bind(shard.alert)
        .bind(shard.round)
        .bind_columns(&[Values::Int(&apps), Values::Text(&reasons), Values::Int(&people)])
        .execute()
        .await
        .map(drop)
}

/// The rounds of an alert, in order.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn listing(
    session: &mut Session,
    alert: AlertId,
) -> Result<Vec<RoundListing>, StoreError> {
    let rows = session.query(&SELECT_ROUNDS).bind(alert).fetch_all().await?;
    rows.iter()
        .map(|row| {
            Ok(RoundListing {
                number: row.get("number")?,
                kind: row.named("kind")?,
                wave: row.get("wave")?,
                released_at: row.time("released_at")?,
                done_at: row.time_or_none("done_at")?,
                shards: row.get("shards")?,
                shards_done: row.get("shards_done")?,
            })
        })
        .collect()
}

/// People by round, app and reason.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn counts(
    session: &mut Session,
    alert: AlertId,
) -> Result<Vec<(i64, AppId, Reason, i64)>, StoreError> {
    let rows = session.query(&SELECT_COUNTS).bind(alert).fetch_all().await?;
    rows.iter()
        .map(|row| {
            Ok((row.get("round")?, row.get("app_id")?, row.named("reason")?, row.get("people")?))
        })
        .collect()
}

/// How many shards of an alert nobody has finished yet.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn undone(session: &mut Session, alert: AlertId) -> Result<i64, StoreError> {
    session.query(&COUNT_UNDONE).bind(alert).fetch_one().await?.get("undone")
}

fn to_shard(row: &Row) -> Result<Shard, StoreError> {
    Ok(Shard {
        id: ShardId(row.get::<Uuid>("id")?),
        case: row.get("case_id")?,
        alert: row.get("alert_id")?,
        round: row.get("round")?,
        kind: row.named("kind")?,
        wave: row.get("wave")?,
        urgency: row.get("urgency")?,
        probability: row.get("probability")?,
        ranges: row.json("ranges")?,
        attempt: row.get("attempt")?,
    })
}
