//! A report that the person was seen.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::named::named;
use super::{CaseId, Position, SightingId};

named! {
    /// How somebody knows that the person was seen. Decides the first credibility (see the model).
    "source" SightingSource {
        /// The police.
        Police = "police",
        /// A camera.
        Cctv = "cctv",
        /// A bank or transit card.
        Card = "card",
        /// Somebody who knows the person.
        KnownPerson = "known_person",
        /// A photo, or clothing that matches.
        Photo = "photo",
        /// Somebody told by an app.
        App = "app",
        /// Somebody who telephoned and is not sure.
        Phone = "phone",
    }
}

impl SightingSource {
    /// The probability that such a report is truly the person, before looking at the map.
    ///
    /// Assumed (no published figures): police, camera and card .95, photo or clothing .8, known to
    /// the person .7, app .3, a "maybe" by telephone .15. An operator overrides it.
    #[must_use]
    pub const fn default_credibility(self) -> f64 {
        match self {
            Self::Police | Self::Cctv | Self::Card => 0.95,
            Self::Photo => 0.8,
            Self::KnownPerson => 0.7,
            Self::App => 0.3,
            Self::Phone => 0.15,
        }
    }
}

named! {
    /// What was decided about a sighting.
    "state" SightingState {
        /// Not looked at yet.
        New = "new",
        /// Taken as a sighting of the person.
        Accepted = "accepted",
        /// Not the person.
        Rejected = "rejected",
        /// Taken back by who reported it.
        Withdrawn = "withdrawn",
    }
}

/// The personal part of a sighting; erased after the retention period.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SightingReport {
    /// Where the person was seen.
    pub position: Position,
    /// The radius that holds 68 % of the error, in metres.
    pub accuracy_m: f64,
    /// In the words of who saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// How to reach who saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contact: Option<super::Contact>,
}

/// A report that the person was seen. It never changes a case's public state by itself.
#[derive(Debug, Clone)]
pub struct Sighting {
    /// Its id.
    pub id: SightingId,
    /// The case.
    pub case: CaseId,
    /// Who passed it on.
    pub reported_by: String,
    /// How it is known.
    pub source: SightingSource,
    /// When the person was seen.
    pub seen_at: Timestamp,
    /// When the report came in.
    pub received_at: Timestamp,
    /// Probability that it is truly the person.
    pub credibility: f64,
    /// What was decided about it.
    pub state: SightingState,
    /// Since when plans take it for more likely true than not. No time passes while the case is paused.
    pub believed_since: Option<Timestamp>,
    /// Place, words and contact, until erased.
    pub report: Option<SightingReport>,
}
