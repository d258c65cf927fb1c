//! A case as it is reported and kept.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::named::named;
use super::{
    AgencyId, AppId, CaseId, Category, Clues, Datum, Environment, Mobility, OperatorId, Position,
    Profile,
};

named! {
    /// Where a case stands.
    "state" CaseState {
        /// Filed, not yet verified: nobody is told.
        Submitted = "submitted",
        /// Verified: waves go out.
        Active = "active",
        /// Halted for a while: nothing goes out, nothing is recalled.
        Paused = "paused",
        /// Ended, with an outcome.
        Closed = "closed",
        /// Not taken on.
        Rejected = "rejected",
    }
}

named! {
    /// How much a case may ask of people. Ordered, lowest first.
    "urgency" Urgency {
        /// Told by day.
        Normal = "normal",
        /// Told before normal cases.
        High = "high",
        /// Told at night too, with a budget of its own; granted by operators only.
        Critical = "critical",
    }
}

impl Urgency {
    /// A rank for ordering in the store: higher goes first.
    #[must_use]
    pub const fn rank(self) -> i64 {
        match self {
            Self::Normal => 0,
            Self::High => 1,
            Self::Critical => 2,
        }
    }
}

named! {
    /// Who is told of a case.
    "audience" Audience {
        /// Volunteers and responders only.
        Volunteers = "volunteers",
        /// Everybody in the area.
        Everybody = "everybody",
    }
}

named! {
    /// Sex, as far as it helps to recognise somebody.
    "sex" Sex {
        /// Female.
        Female = "female",
        /// Male.
        Male = "male",
        /// Neither, or not told.
        Other = "other",
    }
}

named! {
    /// A part of the report that may be published once it was agreed to.
    "field" PublishedField {
        /// The person's name.
        Name = "name",
        /// The person's age.
        Age = "age",
        /// The person's sex.
        Sex = "sex",
        /// What the person looks like.
        Description = "description",
        /// What the person wears.
        Clothing = "clothing",
        /// The person's photo.
        Photo = "photo",
        /// Where and when the person was last seen, in words.
        LastSeen = "last_seen",
        /// What happened.
        Circumstances = "circumstances",
    }
}

named! {
    /// A language alerts can be written in.
    "language" Language {
        /// English.
        English = "en",
        /// German.
        German = "de",
        /// French.
        French = "fr",
        /// Spanish.
        Spanish = "es",
        /// Japanese.
        Japanese = "ja",
    }
}

/// Who is missing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Person {
    /// The name; this or an alias is required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A name to use instead in public.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// Age in years.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age: Option<u8>,
    /// Sex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sex: Option<Sex>,
    /// What the person looks like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What the person wears.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clothing: Option<String>,
    /// The agency's own reference to a photo.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub photo_reference: Option<String>,
}

/// Last known position, in WGS 84.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastKnownPosition {
    /// Where the person was last known to be.
    pub position: Position,
    /// The radius that holds 68 % of the error, in metres.
    pub accuracy_m: f64,
    /// When the person was last known to be there.
    pub at: Timestamp,
    /// The place in words, as the public would know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
}

/// A last known position as it is filed, in the datum of the map it was read from.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FiledPosition {
    /// Degrees north.
    pub lat: f64,
    /// Degrees east.
    pub lon: f64,
    /// The datum of both.
    #[serde(default)]
    pub datum: Datum,
    /// The radius that holds 68 % of the error, in metres.
    pub accuracy_m: f64,
    /// When the person was last known to be there.
    pub at: Timestamp,
    /// The place in words, as the public would know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
}

impl std::fmt::Debug for FiledPosition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FiledPosition(..)")
    }
}

/// Whom to call about the case. Never published.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contact {
    /// Who is to be called.
    pub name: String,
    /// The telephone number.
    pub phone: String,
    /// What the caller is to the missing person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relation: Option<String>,
}

impl std::fmt::Debug for Contact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Contact(..)")
    }
}

/// What may be published, and who agreed to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consent {
    /// Who gave it: the family, a guardian, the police.
    pub given_by: String,
    /// The fields that may be published, and no others.
    pub publish: Vec<PublishedField>,
    /// The law or order that allows publication; required for minors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub legal_basis: Option<String>,
}

/// Everything an agency reports about a case. Personal as a whole: erased after the retention period.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Who is missing.
    pub person: Person,
    /// Last known position.
    pub lkp: LastKnownPosition,
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
    /// The urgency the agency asked for; the case's own is what was granted.
    pub requested_urgency: Urgency,
    /// The languages the alert is written in, the first one first.
    pub languages: Vec<Language>,
}

/// A case as the store keeps it.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its id.
    pub id: CaseId,
    /// The agency that filed it.
    pub agency: AgencyId,
    /// Where it stands.
    pub state: CaseState,
    /// Counts every change; the `ETag`.
    pub version: i64,
    /// The urgency granted.
    pub urgency: Urgency,
    /// Whether it is a drill.
    pub exercise: bool,
    /// The time zone of its area, for quiet hours.
    pub time_zone: String,
    /// What the distance law depends on.
    pub profile: Profile,
    /// The report, until it is erased.
    pub report: Option<Report>,
    /// What the agency would like changed (an [`Amendment`]), until an operator decides.
    pub proposal: Option<Amendment>,
    /// When the person was last seen.
    pub last_seen_at: Timestamp,
    /// When it was filed.
    pub submitted_at: Timestamp,
    /// How it was verified.
    pub verification: Option<Verification>,
    /// Who verified or confirmed it, if an operator did.
    pub verified_by: Option<OperatorId>,
    /// When it became active for the first time since it was last opened.
    pub verified_at: Option<Timestamp>,
    /// Recipients it may tell until an operator confirms it.
    pub ceiling: Option<i64>,
    /// Recipients it may tell altogether.
    pub budget: Option<i64>,
    /// Who is told, if an operator said so; else the category decides.
    pub audience: Option<Audience>,
    /// Updates already sent for the alert that is open.
    pub updates: i64,
    /// Since when it is paused.
    pub paused_at: Option<Timestamp>,
    /// Whether an operator paused it: then only an operator lets it go on.
    pub paused_by_operator: bool,
    /// When it was closed.
    pub closed_at: Option<Timestamp>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Whether an alert led to the find.
    pub attribution: Option<Attribution>,
    /// Straight line from the last known position to the find, in km.
    pub found_km: Option<f64>,
    /// Seconds from last seen to the find.
    pub found_after_s: Option<i64>,
    /// When its personal data are due to be erased.
    pub erase_at: Option<Timestamp>,
    /// When they were.
    pub erased_at: Option<Timestamp>,
}

/// What can be changed in a case after filing. Every field left out stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Amendment {
    /// A new description.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// New clothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clothing: Option<String>,
    /// A new photo reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub photo_reference: Option<String>,
    /// New circumstances.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub circumstances: Option<String>,
    /// New contact.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contact: Option<Contact>,
    /// New consent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consent: Option<Consent>,
    /// A new urgency; `critical` by operators only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub urgency: Option<Urgency>,
    /// A corrected last known position.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lkp: Option<FiledPosition>,
    /// Another category.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<Category>,
    /// How the person gets about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mobility: Option<Mobility>,
    /// Other country round the last known position.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
    /// Where the person may have gone: all of it anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clues: Option<Clues>,
}

/// How a case was verified: each point that was checked, by whom, when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verification {
    /// The points that were checked.
    pub checks: Vec<Check>,
    /// The operator's name, or the agency's for a case that verified itself.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Whether a trusted agency's case verified itself and no operator has confirmed it.
    pub self_verified: bool,
}

named! {
    /// A point to be checked before anybody is told.
    "check" Check {
        /// The agency or reporter was called back on a known number.
        ReporterCalledBack = "reporter_called_back",
        /// The person is who the report says.
        IdentityConfirmed = "identity_confirmed",
        /// Last known position and time were confirmed.
        LastSeenConfirmed = "last_seen_confirmed",
        /// The consent covers what will be published.
        ConsentConfirmed = "consent_confirmed",
        /// The likely duplicates were looked at.
        DuplicatesChecked = "duplicates_checked",
    }
}

named! {
    /// How a case ended.
    "outcome" Outcome {
        /// Found, well.
        FoundWell = "found_well",
        /// Found, hurt or ill.
        FoundHurt = "found_hurt",
        /// Found dead.
        FoundDead = "found_dead",
        /// Came back alone.
        Returned = "returned",
        /// Never was missing.
        NotMissing = "not_missing",
        /// Given up or taken over by others.
        NotFound = "not_found",
    }
}

named! {
    /// What led to the find.
    "attribution" FoundThrough {
        /// Somebody who was told by an alert.
        Alert = "alert",
        /// The police or a search party.
        Search = "search",
        /// Family or friends.
        Family = "family",
        /// A passer-by who was not told.
        Public = "public",
        /// The person, by coming back.
        Person = "person",
        /// Nobody knows.
        Unknown = "unknown",
    }
}

/// Whether an alert led to the find, and which. Kept apart from the outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attribution {
    /// What led to the find.
    pub through: FoundThrough,
    /// The wave that told whoever helped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wave: Option<i64>,
    /// The sighting that led there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sighting: Option<super::SightingId>,
}

/// Who did something, for the timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// An agency, by name.
    Agency(AgencyId, String),
    /// An app, by name.
    App(AppId, String),
    /// An operator, by name.
    Operator(OperatorId, String),
    /// An administrator's key.
    Admin,
    /// The service itself.
    Homeward,
}

impl std::fmt::Display for Actor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Agency(_, name) => write!(f, "agency {name}"),
            Self::App(_, name) => write!(f, "app {name}"),
            Self::Operator(_, name) => write!(f, "operator {name}"),
            Self::Admin => f.write_str("administrator"),
            Self::Homeward => f.write_str("homeward"),
        }
    }
}
