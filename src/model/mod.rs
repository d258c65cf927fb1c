//! Ids, records and value types that many rooms share. They validate themselves, nothing more.

mod case;
mod cell;
mod clues;
mod dispatch;
mod holder;
mod ids;
mod named;
mod position;
mod profile;
mod search;
mod sighting;

pub use case::{
    Actor, Amendment, Attribution, Audience, Case, CaseState, Check, Consent, Contact,
    FiledPosition, FoundThrough, Language, LastKnownPosition, Outcome, Person, PublishedField,
    Report, Sex, Urgency, Verification,
};
pub use cell::{Cell, CellRange, InvalidCell, SUBSCRIBER_RESOLUTION};
pub use clues::{Clues, KnownPlace, PlaceKind, Policy, Transport};
pub use dispatch::{
    AlertRecord, Batch, BatchState, Candidate, CapBudget, Contents, Edition, Kind, PlanCause,
    Reason, ReceiptKind, RoundKind, SubscriberFlags, WaveState,
};
pub use holder::{Agency, App, BatchFormat, Caller, Holder, Operator, Scope};
pub use ids::{
    AgencyId, AlertId, AppId, BatchId, CaseId, KeyId, OperatorId, PersonNumber, PlanId, ShardId,
    SightingId,
};
pub use named::UnknownName;
pub use position::{Datum, InvalidPosition, Position};
pub use profile::{CaseKind, Category, Environment, Mobility, Profile};
pub use search::SearchedArea;
pub use sighting::{Sighting, SightingReport, SightingSource, SightingState};
