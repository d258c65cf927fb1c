//! Making agencies, apps and operators, and finding whom a key is for.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use crate::cases::{FieldProblem, Refusal};
use crate::model::{Agency, AgencyId, App, BatchFormat, Holder, Operator, OperatorId, Scope};
use crate::store::{Session, Tx, holders};

/// Longest name, in characters.
const NAME_MAX: usize = 80;
/// The most recipients a second that an app can agree to.
const RATE_MAX: i64 = 1_000_000;
/// The most hours that a key still works while its holder changes over: a year.
pub const OVERLAP_MAX_H: u32 = 8_760;
/// The most days that personal data are kept after closing.
const RETENTION_MAX_DAYS: i64 = 3_650;

/// An agency to be added.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewAgency {
    /// Its name.
    pub name: String,
    /// Whether its complete cases may verify themselves.
    #[serde(default)]
    pub trusted: bool,
    /// The time zone of its cases, where they do not say.
    #[serde(default = "utc")]
    pub time_zone: String,
    /// Days from closing a case to erasing its personal data.
    #[serde(default = "thirty_days")]
    pub retention_days: i64,
}

/// An app to be added.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewApp {
    /// Its name.
    pub name: String,
    /// Recipients a second it agreed to take.
    pub rate_per_s: i64,
    /// Whether it takes part in exercises.
    #[serde(default)]
    pub drills: bool,
    /// How it wants the body of its AMQP messages.
    #[serde(default)]
    pub format: BatchFormat,
}

/// An operator to be added.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewOperator {
    /// Their name.
    pub name: String,
}

/// Whom a key is wanted for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantedKey {
    /// What it allows.
    pub scope: Scope,
    /// The holder's name; none for an administrator.
    pub holder: Option<String>,
}

fn utc() -> String {
    "UTC".into()
}

const fn thirty_days() -> i64 {
    30
}

/// Adds an agency.
///
/// # Errors
/// [`Refusal::Invalid`] names the fields that cannot be taken.
pub async fn add_agency(tx: &mut Tx, new: NewAgency, now: Timestamp) -> Result<Agency, Refusal> {
    let name = check_name(&new.name)?;
    if TimeZone::get(&new.time_zone).is_err() {
        return Err(refuse(
            "time_zone",
            "is not known",
            "an IANA name such as Europe/London",
        ));
    }
    if !(1..=RETENTION_MAX_DAYS).contains(&new.retention_days) {
        return Err(refuse(
            "retention_days",
            "is out of range",
            "1 to 3650 days",
        ));
    }
    let agency = Agency {
        id: AgencyId::fresh(),
        name,
        trusted: new.trusted,
        time_zone: new.time_zone,
        retention_days: new.retention_days,
        created_at: now,
    };
    holders::add_agency(tx, &agency).await?;
    Ok(agency)
}

/// Adds an app.
///
/// # Errors
/// [`Refusal::Invalid`] names the fields that cannot be taken.
pub async fn add_app(tx: &mut Tx, new: NewApp, now: Timestamp) -> Result<App, Refusal> {
    let name = check_app_name(&new.name)?;
    check_rate(new.rate_per_s)?;
    let NewApp {
        rate_per_s,
        drills,
        format,
        ..
    } = new;
    let id = holders::add_app(tx, &name, rate_per_s, drills, format, now).await?;
    Ok(App {
        id,
        name,
        rate_per_s,
        paused: false,
        drills,
        format,
        created_at: now,
    })
}

/// Adds an operator.
///
/// # Errors
/// [`Refusal::Invalid`] names the fields that cannot be taken.
pub async fn add_operator(
    tx: &mut Tx,
    new: NewOperator,
    now: Timestamp,
) -> Result<Operator, Refusal> {
    let operator = Operator {
        id: OperatorId::fresh(),
        name: check_name(&new.name)?,
        created_at: now,
    };
    holders::add_operator(tx, &operator).await?;
    Ok(operator)
}

/// Whom a key is wanted for.
///
/// # Errors
/// [`Refusal::Invalid`] if there is nobody of that name.
pub async fn find(session: &mut Session, wanted: &WantedKey) -> Result<Holder, Refusal> {
    let Some(name) = wanted.holder.as_deref() else {
        return match wanted.scope {
            Scope::Admin => Ok(Holder::Admin),
            _ => Err(refuse(
                "holder",
                "is missing",
                "the name of the agency, app or operator",
            )),
        };
    };
    let holder = match wanted.scope {
        Scope::Agency => holders::agencies(session)
            .await?
            .into_iter()
            .find(|agency| agency.name == name)
            .map(|agency| Holder::Agency(agency.id, agency.name)),
        Scope::App => holders::apps(session)
            .await?
            .into_iter()
            .find(|app| app.name == name)
            .map(|app| Holder::App(app.id, app.name)),
        Scope::Operator => holders::operators(session)
            .await?
            .into_iter()
            .find(|operator| operator.name == name)
            .map(|operator| Holder::Operator(operator.id, operator.name)),
        Scope::Admin => {
            return Err(refuse(
                "holder",
                "is not for administrators",
                "leave it out",
            ));
        }
    };
    holder.ok_or_else(|| refuse("holder", "is not known", "the name of one that was added"))
}

/// Checks an app's rate.
///
/// # Errors
/// [`Refusal::Invalid`] if it is out of range.
pub fn check_rate(rate_per_s: i64) -> Result<(), Refusal> {
    if (1..=RATE_MAX).contains(&rate_per_s) {
        Ok(())
    } else {
        Err(refuse(
            "rate_per_s",
            "is out of range",
            "1 to 1000000 recipients a second",
        ))
    }
}

/// How long a key still works while its holder changes over.
///
/// # Errors
/// [`Refusal::Invalid`] if it is out of range.
pub fn overlap(hours: u32) -> Result<SignedDuration, Refusal> {
    if hours <= OVERLAP_MAX_H {
        Ok(SignedDuration::from_hours(hours.into()))
    } else {
        Err(refuse("overlap_h", "is out of range", "0 to 8760 hours"))
    }
}

fn check_name(name: &str) -> Result<String, Refusal> {
    let name = name.trim();
    let length = name.chars().count();
    if (1..=NAME_MAX).contains(&length) && !name.chars().any(char::is_control) {
        Ok(name.to_owned())
    } else {
        Err(refuse(
            "name",
            "is empty, too long or not printable",
            "1 to 80 characters",
        ))
    }
}

/// An app's name is also part of the names of its queue and its users on the broker.
fn check_app_name(name: &str) -> Result<String, Refusal> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if (1..=NAME_MAX).contains(&name.len()) && name.chars().all(fits) {
        Ok(name.to_owned())
    } else {
        Err(refuse(
            "name",
            "is no name for an app",
            "1 to 80 letters (a to z), digits, '-' and '_'",
        ))
    }
}

fn refuse(field: &str, problem: &str, accepted: &str) -> Refusal {
    Refusal::Invalid(vec![FieldProblem::new(field, problem, accepted)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlap_lasts_a_year_at_most() {
        assert_eq!(overlap(8_760).unwrap(), SignedDuration::from_hours(8_760));
        for hours in [8_761, u32::MAX] {
            let Err(Refusal::Invalid(problems)) = overlap(hours) else {
                panic!("{hours} hours were taken");
            };
            assert_eq!(problems[0].field, "overlap_h");
        }
    }
}
