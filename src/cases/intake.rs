//! What an agency files, and the rules it must meet before anything is kept.
//!
//! [`CaseFiling::check`] names every problem at once, so that whoever files a case in a hurry mends
//! it in one go.

use std::ops::RangeInclusive;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::model::{
    Category, Clues, Consent, Contact, Environment, FiledPosition, Language, LastKnownPosition,
    Mobility, Person, Position, Profile, Report, Urgency,
};

pub(super) mod checks;
mod problem;

pub use checks::{is_minor, is_recognisable};
pub use problem::FieldProblem;
pub(super) use problem::Problems;

/// Longest name of a person, alias or contact, in characters.
pub const NAME_MAX: usize = 100;
/// Longest description of looks, in characters.
pub const DESCRIPTION_MAX: usize = 1_000;
/// Longest description of clothing, in characters.
pub const CLOTHING_MAX: usize = 500;
/// Longest account of what happened, in characters.
pub const CIRCUMSTANCES_MAX: usize = 2_000;
/// Longest name of a place, in characters.
pub const PLACE_MAX: usize = 200;
/// Longest reference (photo, legal basis, relation, who gave consent), in characters.
pub const REFERENCE_MAX: usize = 200;
/// Longest telephone number with its spaces and extension, in characters.
pub const PHONE_MAX: usize = 40;
/// Oldest age that is believed; a greater one is a slip of the hand.
pub const AGE_MAX: u8 = 120;
/// From this age on the person consents as an adult.
pub const ADULT_AGE: u8 = 18;
/// How exact a last known position may claim to be, and how vague it may be, in metres.
pub const ACCURACY_M: RangeInclusive<f64> = 1.0..=50_000.0;
/// The most places a report may name that the person may be drawn to.
pub const KNOWN_PLACES_MAX: usize = 20;
/// How far the agency's clock may run ahead of ours.
pub const CLOCK_SKEW: SignedDuration = SignedDuration::from_secs(60);
/// Oldest last-seen time worth an alert: 30 days.
pub const LAST_SEEN_MAX: SignedDuration = SignedDuration::from_hours(30 * 24);

/// A case as it is filed: the body of `POST /v1/cases`.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseFiling {
    /// Who is missing.
    pub person: Person,
    /// The kind of missing person.
    pub category: Category,
    /// How the person gets about.
    #[serde(default = "on_foot")]
    pub mobility: Mobility,
    /// The country round the last known position.
    #[serde(default = "anywhere")]
    pub environment: Environment,
    /// Last known position.
    pub lkp: FiledPosition,
    /// Where the person may have gone.
    #[serde(default)]
    pub clues: Clues,
    /// What happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circumstances: Option<String>,
    /// Whom to call. Never published.
    pub contact: Contact,
    /// What may be published, and who agreed to it.
    pub consent: Consent,
    /// The urgency the agency asks for.
    #[serde(default = "usual")]
    pub urgency: Urgency,
    /// The languages of the alert, the first one first.
    #[serde(default = "english")]
    pub languages: Vec<Language>,
    /// Whether it is a drill.
    #[serde(default)]
    pub exercise: bool,
    /// The IANA time zone of the area; the agency's if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

const fn on_foot() -> Mobility {
    Mobility::Normal
}

const fn anywhere() -> Environment {
    Environment::Default
}

const fn usual() -> Urgency {
    Urgency::Normal
}

fn english() -> Vec<Language> {
    vec![Language::English]
}

/// A filing that met every rule, ready to be kept.
#[derive(Clone, PartialEq)]
pub struct CheckedFiling {
    /// What the distance law depends on.
    pub profile: Profile,
    /// Everything reported, texts trimmed, position in WGS 84.
    pub report: Report,
    /// Whether it is a drill.
    pub exercise: bool,
    /// The IANA time zone of the area.
    pub time_zone: String,
    /// When the person was last seen.
    pub last_seen_at: Timestamp,
}

impl std::fmt::Debug for CheckedFiling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CheckedFiling(..)")
    }
}

impl CaseFiling {
    /// Checks the filing against every rule of intake.
    ///
    /// # Errors
    /// All the problems found, each with its field and what would be accepted.
    pub fn check(
        mut self,
        now: Timestamp,
        agency_time_zone: &str,
    ) -> Result<CheckedFiling, Vec<FieldProblem>> {
        let mut problems = Problems::default();
        self.trim();
        let profile = Profile {
            category: self.category,
            age: self.person.age,
            mobility: self.mobility,
            environment: self.environment,
        };
        checks::person(&mut problems, &self.person);
        checks::age(&mut problems, profile);
        let position = checks::lkp(&mut problems, &self.lkp, now);
        checks::clues(&mut problems, &self.clues);
        checks::circumstances(&mut problems, self.circumstances.as_deref());
        checks::contact(&mut problems, &self.contact);
        checks::consent(&mut problems, &self.consent, &self.person, profile);
        checks::languages(&mut problems, &self.languages);
        let given_zone = self.time_zone.as_deref();
        let time_zone = checks::time_zone(&mut problems, given_zone, agency_time_zone);
        checks::phone_stays_private(&mut problems, &self.contact.phone, &self.public_texts());
        let (Some(position), Some(time_zone)) = (position, time_zone) else {
            return Err(problems.into_vec());
        };
        problems.none()?;
        Ok(CheckedFiling {
            profile,
            exercise: self.exercise,
            time_zone,
            last_seen_at: self.lkp.at,
            report: self.into_report(position),
        })
    }

    fn into_report(self, position: Position) -> Report {
        let FiledPosition {
            accuracy_m,
            at,
            place,
            ..
        } = self.lkp;
        Report {
            person: self.person,
            lkp: LastKnownPosition {
                position,
                accuracy_m,
                at,
                place,
            },
            clues: self.clues,
            circumstances: self.circumstances,
            contact: self.contact,
            consent: self.consent,
            requested_urgency: self.urgency,
            languages: self.languages,
        }
    }

    /// The texts that may ever be published, each with its field.
    fn public_texts(&self) -> [(&'static str, Option<&str>); 6] {
        [
            ("person.name", self.person.name.as_deref()),
            ("person.alias", self.person.alias.as_deref()),
            ("person.description", self.person.description.as_deref()),
            ("person.clothing", self.person.clothing.as_deref()),
            ("lkp.place", self.lkp.place.as_deref()),
            ("circumstances", self.circumstances.as_deref()),
        ]
    }

    fn trim(&mut self) {
        let person = &mut self.person;
        for text in [
            &mut person.name,
            &mut person.alias,
            &mut person.description,
            &mut person.clothing,
            &mut person.photo_reference,
            &mut self.lkp.place,
            &mut self.circumstances,
        ] {
            trim_optional(text);
        }
        trim_contact(&mut self.contact);
        trim_consent(&mut self.consent);
    }
}

/// Takes the white space off both ends.
fn trim(text: &mut String) {
    *text = text.trim().to_owned();
}

/// Takes the white space off both ends of a text that may be left out.
pub(super) fn trim_optional(text: &mut Option<String>) {
    if let Some(text) = text {
        trim(text);
    }
}

/// Takes the white space off a contact's texts.
pub(super) fn trim_contact(contact: &mut Contact) {
    trim(&mut contact.name);
    trim(&mut contact.phone);
    trim_optional(&mut contact.relation);
}

/// Takes the white space off a consent's texts.
pub(super) fn trim_consent(consent: &mut Consent) {
    trim(&mut consent.given_by);
    trim_optional(&mut consent.legal_basis);
}

#[cfg(test)]
#[path = "intake_tests.rs"]
pub(super) mod tests;
