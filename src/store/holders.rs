//! Who may call: agencies, apps, operators and their keys.

use jiff::Timestamp;

use super::sql::{Row, statements};
use super::{Session, StoreError, Tx};
use crate::model::{
    Agency, AgencyId, App, AppId, BatchFormat, Caller, Holder, KeyId, Operator, OperatorId, Scope,
};

statements! {
    INSERT_AGENCY {
        "INSERT INTO agencies (id, name, trusted, time_zone, retention_days, created_at)
         VALUES ($1, $2, $3, $4, $5, $6)"
    }
    SELECT_AGENCY {
        "SELECT id, name, trusted, time_zone, retention_days, created_at FROM agencies WHERE id = $1"
    }
    SELECT_AGENCIES {
        "SELECT id, name, trusted, time_zone, retention_days, created_at FROM agencies ORDER BY name"
    }
    INSERT_OPERATOR {
        "INSERT INTO operators (id, name, created_at) VALUES ($1, $2, $3)"
    }
    SELECT_OPERATORS {
        "SELECT id, name, created_at FROM operators ORDER BY name"
    }
    INSERT_APP {
        "INSERT INTO apps (name, rate_per_s, paused, drills, format, created_at)
         VALUES ($1, $2, FALSE, $3, $4, $5) RETURNING id"
    }
    SELECT_APPS {
        "SELECT id, name, rate_per_s, paused, drills, format, created_at FROM apps ORDER BY name"
    }
    SELECT_APP {
        "SELECT id, name, rate_per_s, paused, drills, format, created_at FROM apps WHERE id = $1"
    }
    UPDATE_APP {
        "UPDATE apps SET rate_per_s = $2, paused = $3, drills = $4, format = $5 WHERE id = $1"
    }
    INSERT_KEY {
        "INSERT INTO keys (id, scope, agency_id, app_id, operator_id, hash, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, NULL)"
    }
    SELECT_CALLER {
        "SELECT keys.id, keys.scope, keys.agency_id, keys.app_id, keys.operator_id,
                coalesce(agencies.name, apps.name, operators.name, '') AS name
         FROM keys
         LEFT JOIN agencies ON agencies.id = keys.agency_id
         LEFT JOIN apps ON apps.id = keys.app_id
         LEFT JOIN operators ON operators.id = keys.operator_id
         WHERE keys.hash = $1 AND (keys.expires_at IS NULL OR keys.expires_at > $2)"
    }
    EXPIRE_KEY {
        "UPDATE keys SET expires_at = $2 WHERE id = $1 AND (expires_at IS NULL OR expires_at > $2)"
    }
    SELECT_KEYS {
        "SELECT keys.id, keys.scope, keys.created_at, keys.expires_at,
                coalesce(agencies.name, apps.name, operators.name, '') AS name
         FROM keys
         LEFT JOIN agencies ON agencies.id = keys.agency_id
         LEFT JOIN apps ON apps.id = keys.app_id
         LEFT JOIN operators ON operators.id = keys.operator_id
         ORDER BY keys.created_at, keys.id"
    }
}

/// A key as it is listed; the secret itself is never kept.
#[derive(Debug, Clone, serde::Serialize)]
pub struct KeyListing {
    /// Its id.
    pub id: KeyId,
    /// What it allows.
    pub scope: Scope,
    /// Who holds it; empty for an administrator.
    pub holder: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops working, if it was revoked or rotated.
    pub expires_at: Option<Timestamp>,
}

/// Adds an agency.
///
/// # Errors
/// Constraint `agencies_name_unique` if the name is taken; [`StoreError`] otherwise.
pub async fn add_agency(tx: &mut Tx, agency: &Agency) -> Result<(), StoreError> {
    tx.query(&INSERT_AGENCY)
        .bind(agency.id)
        .bind(agency.name.as_str())
        .bind(agency.trusted)
        .bind(agency.time_zone.as_str())
        .bind(agency.retention_days)
        .bind(agency.created_at.as_millisecond())
        .execute()
        .await
        .map(drop)
}

/// One agency.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn agency(session: &mut Session, id: AgencyId) -> Result<Option<Agency>, StoreError> {
    session.query(&SELECT_AGENCY).bind(id).fetch_optional().await?.as_ref().map(to_agency).transpose()
}

/// All agencies by name.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn agencies(session: &mut Session) -> Result<Vec<Agency>, StoreError> {
    session.query(&SELECT_AGENCIES).fetch_all().await?.iter().map(to_agency).collect()
}

/// Adds an operator.
///
/// # Errors
/// Constraint `operators_name_unique` if the name is taken; [`StoreError`] otherwise.
pub async fn add_operator(tx: &mut Tx, operator: &Operator) -> Result<(), StoreError> {
    tx.query(&INSERT_OPERATOR)
        .bind(operator.id)
        .bind(operator.name.as_str())
        .bind(operator.created_at.as_millisecond())
        .execute()
        .await
        .map(drop)
}

/// All operators by name.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn operators(session: &mut Session) -> Result<Vec<Operator>, StoreError> {
    let rows = session.query(&SELECT_OPERATORS).fetch_all().await?;
    rows.iter()
        .map(|row| {
            Ok(Operator { id: row.get("id")?, name: row.get("name")?, created_at: row.time("created_at")? })
        })
        .collect()
}

/// Adds an app that agreed to take `rate_per_s` recipients a second; gives its id.
///
/// # Errors
/// Constraint `apps_name_unique` if the name is taken; [`StoreError`] otherwise.
pub async fn add_app(
    tx: &mut Tx,
    name: &str,
    rate_per_s: i64,
    drills: bool,
    format: BatchFormat,
    now: Timestamp,
) -> Result<AppId, StoreError> {
    tx.query(&INSERT_APP)
        .bind(name)
        .bind(rate_per_s)
        .bind(drills)
        .bind(format.name())
        .bind(now.as_millisecond())
        .fetch_one()
        .await?
        .get("id")
}

/// All apps by name.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn apps(session: &mut Session) -> Result<Vec<App>, StoreError> {
    session.query(&SELECT_APPS).fetch_all().await?.iter().map(to_app).collect()
}

/// One app.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn app(session: &mut Session, id: AppId) -> Result<Option<App>, StoreError> {
    session.query(&SELECT_APP).bind(id).fetch_optional().await?.as_ref().map(to_app).transpose()
}

/// Changes an app's rate, pause and part in exercises.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn change_app(tx: &mut Tx, app: &App) -> Result<(), StoreError> {
    tx.query(&UPDATE_APP)
        .bind(app.id)
        .bind(app.rate_per_s)
        .bind(app.paused)
        .bind(app.drills)
        .bind(app.format.name())
        .execute()
        .await
        .map(drop)
}

/// Adds a key of which only the hash is kept.
///
/// # Errors
/// Constraint `keys_agency_fk` and its like if there is no such holder; [`StoreError`] otherwise.
pub async fn add_key(
    tx: &mut Tx,
    id: KeyId,
    holder: &Holder,
    hash: &[u8],
    now: Timestamp,
) -> Result<(), StoreError> {
    let (mut agency, mut app, mut operator) = (None, None, None);
    match holder {
        Holder::Agency(id, _) => agency = Some(*id),
        Holder::App(id, _) => app = Some(*id),
        Holder::Operator(id, _) => operator = Some(*id),
        Holder::Admin => {}
    }
    tx.query(&INSERT_KEY)
        .bind(id)
        .bind(holder.scope().name())
        .bind(agency)
        .bind(app)
        .bind(operator)
        .bind(hash)
        .bind(now.as_millisecond())
        .execute()
        .await
        .map(drop)
}

/// Who holds the key with this hash, if it is still good.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn caller(
    session: &mut Session,
    hash: &[u8],
    now: Timestamp,
) -> Result<Option<Caller>, StoreError> {
    let row = session
        .query(&SELECT_CALLER)
        .bind(hash)
        .bind(now.as_millisecond())
        .fetch_optional()
        .await?;
    let Some(row) = row else { return Ok(None) };
    let name = row.get("name")?;
    let holder = match row.named::<Scope>("scope")? {
        Scope::Agency => Holder::Agency(row.get("agency_id")?, name),
        Scope::App => Holder::App(row.get("app_id")?, name),
        Scope::Operator => Holder::Operator(row.get::<OperatorId>("operator_id")?, name),
        Scope::Admin => Holder::Admin,
    };
    Ok(Some(Caller { key: row.get("id")?, holder }))
}

/// Lets a key stop working at a moment; says whether there was such a key to change.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn expire_key(tx: &mut Tx, id: KeyId, at: Timestamp) -> Result<bool, StoreError> {
    let changed =
        tx.query(&EXPIRE_KEY).bind(id).bind(at.as_millisecond()).execute().await?;
    Ok(changed == 1)
}

/// All keys, oldest first.
///
/// # Errors
/// [`StoreError`] if the database does not answer.
pub async fn keys(session: &mut Session) -> Result<Vec<KeyListing>, StoreError> {
    let rows = session.query(&SELECT_KEYS).fetch_all().await?;
    rows.iter()
        .map(|row| {
            Ok(KeyListing {
                id: row.get("id")?,
                scope: row.named("scope")?,
                holder: row.get("name")?,
                created_at: row.time("created_at")?,
                expires_at: row.time_or_none("expires_at")?,
            })
        })
        .collect()
}

fn to_agency(row: &Row) -> Result<Agency, StoreError> {
    Ok(Agency {
        id: row.get("id")?,
        name: row.get("name")?,
        trusted: row.get("trusted")?,
        time_zone: row.get("time_zone")?,
        retention_days: row.get("retention_days")?,
        created_at: row.time("created_at")?,
    })
}

fn to_app(row: &Row) -> Result<App, StoreError> {
    Ok(App {
        id: row.get("id")?,
        name: row.get("name")?,
        rate_per_s: row.get("rate_per_s")?,
        paused: row.get("paused")?,
        drills: row.get("drills")?,
        format: row.named("format")?,
        created_at: row.time("created_at")?,
    })
}
