//! Who takes part: an agency, an operator and three apps, with a key each.

use anyhow::bail;
use jiff::Timestamp;
use secrecy::SecretString;

use super::city::APPS;
use crate::cases::Refusal;
use crate::holders::{self, NewAgency, NewApp, NewOperator, WantedKey};
use crate::keys;
use crate::model::{BatchFormat, Scope};
use crate::store::{Session, Store, Tx, holders as store};

/// The agency's name.
const AGENCY: &str = "Demo Relief";
/// The operator's name.
const OPERATOR: &str = "Demo Operator";

/// Everybody's key.
pub struct Cast {
    /// The agency's.
    pub agency: SecretString,
    /// The operator's.
    pub operator: SecretString,
    /// Each app's, in the order of [`APPS`].
    pub apps: Vec<SecretString>,
    /// Whether they took part in an earlier run on this database.
    pub again: bool,
}

impl Cast {
    /// Finds them in the database or adds them, and makes each a key.
    ///
    /// # Errors
    /// If others are in the database: an invented case must never reach real people.
    pub async fn assemble(database: &Store) -> anyhow::Result<Self> {
        let mut tx = database.begin().await?;
        let now = tx.now().await?;
        let known = names(&mut tx).await?;
        let ours = |name: &String| {
            name == AGENCY || name == OPERATOR || APPS.iter().any(|(app, ..)| name == app)
        };
        if let Some(other) = known.iter().find(|name| !ours(name)) {
            bail!(
                "the database belongs to others ('{other}'), and the demo's case is invented: \
                 give it a database of its own"
            );
        }
        let again = !known.is_empty();
        if !known.iter().any(|name| name == AGENCY) {
            let new = NewAgency {
                name: AGENCY.to_owned(),
                trusted: false,
                time_zone: "Europe/London".to_owned(),
                retention_days: 30,
            };
            holders::add_agency(&mut tx, new, now).await?;
        }
        if !known.iter().any(|name| name == OPERATOR) {
            let name = OPERATOR.to_owned();
            holders::add_operator(&mut tx, NewOperator { name }, now).await?;
        }
        let mut apps = Vec::with_capacity(APPS.len());
        for (name, rate_per_s, _) in APPS {
            if !known.iter().any(|known| known == name) {
                let name = name.to_owned();
                let new = NewApp {
                    name,
                    rate_per_s,
                    drills: false,
                    format: BatchFormat::Protobuf,
                };
                holders::add_app(&mut tx, new, now).await?;
            }
            apps.push(key(&mut tx, Scope::App, name, now).await?);
        }
        let cast = Self {
            agency: key(&mut tx, Scope::Agency, AGENCY, now).await?,
            operator: key(&mut tx, Scope::Operator, OPERATOR, now).await?,
            apps,
            again,
        };
        tx.commit().await?;
        Ok(cast)
    }
}

/// The names of all agencies, operators and apps.
async fn names(session: &mut Session) -> anyhow::Result<Vec<String>> {
    let agencies = store::agencies(session).await?;
    let operators = store::operators(session).await?;
    let apps = store::apps(session).await?;
    let names = agencies.into_iter().map(|agency| agency.name);
    let names = names.chain(operators.into_iter().map(|operator| operator.name));
    Ok(names.chain(apps.into_iter().map(|app| app.name)).collect())
}

async fn key(
    tx: &mut Tx,
    scope: Scope,
    name: &str,
    now: Timestamp,
) -> Result<SecretString, Refusal> {
    let holder = Some(name.to_owned());
    let holder = holders::find(tx, &WantedKey { scope, holder }).await?;
    Ok(keys::make(tx, &holder, now).await?.secret)
}
