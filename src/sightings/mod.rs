//! Sightings: taken in, kept and shown. They never change a case's public state by themselves; what is
//! decided about one makes a new plan.

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::json;

use crate::cases::intake::{NAME_MAX, PHONE_MAX, REFERENCE_MAX};
use crate::cases::{FieldProblem, Refusal, visible};
use crate::model::{
    AlertId, AppId, Caller, Case, CaseId, Contact, Datum, Holder, PlanCause, Sighting, SightingId,
    SightingReport, SightingSource, SightingState,
};
use crate::planning::Planner;
use crate::store::plans::Why;
use crate::store::{Session, Tx, alerts, backlog, cases, sightings, timeline};

/// Longest text of a sighting, in characters.
const TEXT_MAX: usize = 2_000;
/// How vague a position may be, in metres.
const ACCURACY_M: std::ops::RangeInclusive<f64> = 1.0..=50_000.0;
/// How far the reporter's clock may run ahead of ours.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(1);

/// A sighting as it is reported.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SightingFiling {
    /// Degrees north.
    pub lat: f64,
    /// Degrees east.
    pub lon: f64,
    /// The datum of the coordinates.
    #[serde(default)]
    pub datum: Datum,
    /// The radius that holds 68 % of the error, in metres.
    pub accuracy_m: f64,
    /// When the person was seen.
    pub seen_at: Timestamp,
    /// How it is known; for an app always `app`.
    pub source: Option<SightingSource>,
    /// Probability that it is truly the person; operators only, else the source decides.
    pub credibility: Option<f64>,
    /// In the words of who saw.
    pub text: Option<String>,
    /// How to reach who saw. Never published.
    pub contact: Option<Contact>,
}

/// What is decided about a sighting.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SightingChange {
    /// What was decided.
    pub state: Option<SightingState>,
    /// Probability that it is truly the person.
    pub credibility: Option<f64>,
}

/// Keeps a sighting. `id` is the case's, or for an app the alert's that it was sent.
///
/// # Errors
/// [`Refusal::Invalid`] names the fields that cannot be taken.
pub async fn report(
    tx: &mut Tx,
    caller: &Caller,
    id: CaseId,
    filing: SightingFiling,
    now: Timestamp,
) -> Result<Sighting, Refusal> {
    let case = reported_case(tx, caller, id).await?;
    let sighting = check(filing, caller, &case, now).map_err(Refusal::Invalid)?;
    sightings::add(tx, &sighting).await?;
    let detail = json!({
        "sighting": sighting.id, "source": sighting.source, "credibility": sighting.credibility,
    });
    timeline::note(
        tx,
        case.id,
        now,
        &caller.holder.actor(),
        "sighting_reported",
        &detail,
    )
    .await?;
    Ok(sighting)
}

/// The case a sighting is about, which cannot be erased until this transaction ends. Apps know it by
/// the alert they were sent.
async fn reported_case(tx: &mut Tx, caller: &Caller, id: CaseId) -> Result<Case, Refusal> {
    let (id, what) = if let Holder::App(app, _) = caller.holder {
        (told_case(tx, app, AlertId(id.0)).await?, "alert")
    } else {
        (visible(tx, caller, id).await?.id, "case")
    };
    let case = cases::share(tx, id).await?;
    let case = case.ok_or(Refusal::NotFound(what))?;
    if case.erased_at.is_some() {
        return Err(Refusal::Conflict(
            "the case is over and its personal data are erased".into(),
        ));
    }
    Ok(case)
}

/// The case of an alert, if this app was sent it: ids of others are not for trying out.
async fn told_case(session: &mut Session, app: AppId, alert: AlertId) -> Result<CaseId, Refusal> {
    let sent = backlog::was_sent(session, app, alert).await?;
    let record = alerts::get(session, alert).await?.filter(|_| sent);
    Ok(record.ok_or(Refusal::NotFound("alert"))?.case)
}

/// The texts that are too long.
fn too_long(filing: &SightingFiling) -> Vec<FieldProblem> {
    let contact = filing.contact.as_ref();
    [
        ("text", filing.text.as_deref(), TEXT_MAX),
        ("contact.name", contact.map(|c| c.name.as_str()), NAME_MAX),
        (
            "contact.phone",
            contact.map(|c| c.phone.as_str()),
            PHONE_MAX,
        ),
        (
            "contact.relation",
            contact.and_then(|c| c.relation.as_deref()),
            REFERENCE_MAX,
        ),
    ]
    .into_iter()
    .filter(|(_, text, max)| text.is_some_and(|text| text.chars().count() > *max))
    .map(|(field, _, max)| {
        FieldProblem::new(field, "is too long", format!("at most {max} characters"))
    })
    .collect()
}

fn check(
    filing: SightingFiling,
    caller: &Caller,
    case: &Case,
    now: Timestamp,
) -> Result<Sighting, Vec<FieldProblem>> {
    let mut problems = too_long(&filing);
    let mut refuse = |field: &str, problem: String, accepted: &str| {
        problems.push(FieldProblem::new(field, problem, accepted));
    };
    let position = filing.datum.to_wgs84(filing.lat, filing.lon);
    if let Err(error) = &position {
        refuse(
            "lat, lon",
            error.to_string(),
            "a position on Earth, in degrees",
        );
    }
    if !ACCURACY_M.contains(&filing.accuracy_m) {
        refuse(
            "accuracy_m",
            format!("is {}", filing.accuracy_m),
            "1 to 50000 metres",
        );
    }
    if filing.seen_at > now + CLOCK_SKEW {
        refuse("seen_at", "lies in the future".into(), "a time up to now");
    }
    if filing.seen_at < case.last_seen_at {
        refuse(
            "seen_at",
            "lies before the person was last seen".into(),
            "a time after that; to correct the last known position, change the case",
        );
    }
    let source = match (&caller.holder, filing.source) {
        (Holder::App(..), None | Some(SightingSource::App)) => SightingSource::App,
        (Holder::App(..), Some(_)) => {
            refuse(
                "source",
                "is not for an app to say".into(),
                "app, or nothing",
            );
            SightingSource::App
        }
        (_, Some(source)) => source,
        (_, None) => {
            refuse(
                "source",
                "is missing".into(),
                "police, cctv, card, known_person, photo or phone",
            );
            SightingSource::Phone
        }
    };
    let credibility = match filing.credibility {
        None => source.default_credibility(),
        Some(given) if matches!(caller.holder, Holder::Operator(..)) => given,
        Some(_) => {
            refuse("credibility", "is set by operators".into(), "leave it out");
            0.0
        }
    };
    if !(0.0..=1.0).contains(&credibility) {
        refuse("credibility", format!("is {credibility}"), "0 to 1");
    }
    match position {
        Ok(position) if problems.is_empty() => Ok(Sighting {
            id: SightingId::fresh(),
            case: case.id,
            reported_by: caller.holder.actor().to_string(),
            source,
            seen_at: filing.seen_at,
            received_at: now,
            credibility,
            state: SightingState::New,
            believed_since: None,
            report: Some(SightingReport {
                position,
                accuracy_m: filing.accuracy_m,
                text: filing.text,
                contact: filing.contact,
            }),
        }),
        _ => Err(problems),
    }
}

/// One sighting, if this caller may see it: operators all, an agency its own cases', an app its own.
///
/// # Errors
/// [`Refusal::NotFound`] if not.
pub async fn get(
    session: &mut Session,
    caller: &Caller,
    id: SightingId,
) -> Result<Sighting, Refusal> {
    let sighting = sightings::get(session, id)
        .await?
        .ok_or(Refusal::NotFound("sighting"))?;
    let seen = match &caller.holder {
        Holder::Operator(..) | Holder::Admin => true,
        Holder::Agency(agency, _) => cases::get(session, sighting.case)
            .await?
            .is_some_and(|case| case.agency == *agency),
        Holder::App(..) => sighting.reported_by == caller.holder.actor().to_string(),
    };
    if seen {
        Ok(sighting)
    } else {
        Err(Refusal::NotFound("sighting"))
    }
}

/// Decides about a sighting: operators, or whoever reported it by withdrawing it. Makes a new plan if
/// that moves the area of an open alert.
///
/// # Errors
/// [`Refusal::Forbidden`] for anybody else, [`Refusal::Invalid`] for a credibility beyond 0 to 1.
pub async fn decide(
    tx: &mut Tx,
    planner: &Planner,
    caller: &Caller,
    id: SightingId,
    change: &SightingChange,
    now: Timestamp,
) -> Result<Sighting, Refusal> {
    let case = get(tx, caller, id).await?.case;
    let case = cases::lock(tx, case)
        .await?
        .ok_or(Refusal::NotFound("case"))?;
    let mut sighting = sightings::lock(tx, id)
        .await?
        .ok_or(Refusal::NotFound("sighting"))?;
    let before = (sighting.state, sighting.credibility);
    let withdraws = change.state == Some(SightingState::Withdrawn)
        && change.credibility.is_none()
        && sighting.reported_by == caller.holder.actor().to_string();
    if !withdraws && !matches!(caller.holder, Holder::Operator(..)) {
        return Err(Refusal::Forbidden(
            "operators decide about sightings; who reported one may withdraw it".into(),
        ));
    }
    if let Some(credibility) = change.credibility {
        if !(0.0..=1.0).contains(&credibility) {
            let problem = FieldProblem::new("credibility", format!("is {credibility}"), "0 to 1");
            return Err(Refusal::Invalid(vec![problem]));
        }
        sighting.credibility = credibility;
    }
    sighting.state = change.state.unwrap_or(sighting.state);
    sightings::change(tx, &sighting).await?;
    let detail = json!({
        "sighting": id, "state": sighting.state, "credibility": sighting.credibility,
    });
    let actor = caller.holder.actor();
    timeline::note(tx, sighting.case, now, &actor, "sighting_decided", &detail).await?;
    if let Some(cause) = moves_area(before, (sighting.state, sighting.credibility)) {
        let percent = |credibility: f64| (credibility * 100.0).round();
        let credible = match cause {
            PlanCause::SightingAccepted => {
                format!(", credible to {} %", percent(sighting.credibility))
            }
            PlanCause::CredibilityChanged => {
                let (was, is) = (percent(before.1), percent(sighting.credibility));
                format!(", credible to {is} %, was {was} %")
            }
            _ => String::new(),
        };
        let why = Why {
            sighting: Some(id),
            detail: Some(format!("{}{credible}", sighting.source)),
            ..Why::from(cause)
        };
        planner.replan_open(tx, &case, why, now).await?;
    }
    Ok(sighting)
}

/// What a decision is to the area: only accepted sightings count there.
fn moves_area(
    (before, credibility_before): (SightingState, f64),
    (after, credibility): (SightingState, f64),
) -> Option<PlanCause> {
    let accepted = [before, after].map(|state| state == SightingState::Accepted);
    match accepted {
        [false, true] => Some(PlanCause::SightingAccepted),
        [true, false] if after == SightingState::Rejected => Some(PlanCause::SightingRejected),
        [true, false] => Some(PlanCause::SightingWithdrawn),
        [true, true] if credibility_before.to_bits() != credibility.to_bits() => {
            Some(PlanCause::CredibilityChanged)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_accepted_sightings_move_the_area() {
        use SightingState::{Accepted, New, Rejected, Withdrawn};
        for (before, after, cause) in [
            (
                (New, 0.3),
                (Accepted, 0.3),
                Some(PlanCause::SightingAccepted),
            ),
            (
                (Rejected, 0.3),
                (Accepted, 0.9),
                Some(PlanCause::SightingAccepted),
            ),
            (
                (Accepted, 0.3),
                (Accepted, 0.9),
                Some(PlanCause::CredibilityChanged),
            ),
            ((Accepted, 0.3), (Accepted, 0.3), None),
            (
                (Accepted, 0.3),
                (Rejected, 0.3),
                Some(PlanCause::SightingRejected),
            ),
            (
                (Accepted, 0.3),
                (Withdrawn, 0.3),
                Some(PlanCause::SightingWithdrawn),
            ),
            ((New, 0.3), (New, 0.9), None),
            ((New, 0.3), (Rejected, 0.3), None),
            ((New, 0.3), (Withdrawn, 0.3), None),
        ] {
            assert_eq!(moves_area(before, after), cause, "{before:?} {after:?}");
        }
    }

    #[test]
    fn texts_and_contacts_have_an_end() {
        let filing = |more: usize| SightingFiling {
            lat: 0.0,
            lon: 0.0,
            datum: Datum::default(),
            accuracy_m: 10.0,
            seen_at: Timestamp::UNIX_EPOCH,
            source: None,
            credibility: None,
            text: Some("x".repeat(TEXT_MAX + more)),
            contact: Some(Contact {
                name: "\u{e9}".repeat(NAME_MAX + more),
                phone: "1".repeat(PHONE_MAX + more),
                relation: Some("x".repeat(REFERENCE_MAX + more)),
            }),
        };
        assert!(too_long(&filing(0)).is_empty());
        let problems = too_long(&filing(1));
        let fields: Vec<_> = problems.iter().map(|p| p.field.as_str()).collect();
        assert_eq!(
            fields,
            ["text", "contact.name", "contact.phone", "contact.relation"]
        );
    }
}
