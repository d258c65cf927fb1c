//! Who may call, and what a key allows.

use jiff::Timestamp;
use serde::Serialize;

use super::named::named;
use super::{Actor, AgencyId, AppId, KeyId, OperatorId};

named! {
    /// What a key allows.
    "scope" Scope {
        /// File cases and keep them up to date.
        Agency = "agency",
        /// Register subscribers, take batches, report back.
        App = "app",
        /// Verify, approve, hold.
        Operator = "operator",
        /// Make holders and keys.
        Admin = "admin",
    }
}

named! {
    /// How an app wants the body of its AMQP messages.
    "format" BatchFormat {
        /// `homeward.v1.AlertBatch` as protobuf.
        Protobuf = "protobuf",
        /// The same in protobuf's JSON form.
        Json = "json",
    }
}

#[expect(clippy::derivable_impls, reason = "the macro declares the enum")]
impl Default for BatchFormat {
    fn default() -> Self {
        Self::Protobuf
    }
}

/// Who holds a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// A relief agency.
    Agency(AgencyId, String),
    /// A partner app.
    App(AppId, String),
    /// An operator.
    Operator(OperatorId, String),
    /// An administrator.
    Admin,
}

impl Holder {
    /// The scope of this holder's keys.
    #[must_use]
    pub const fn scope(&self) -> Scope {
        match self {
            Self::Agency(..) => Scope::Agency,
            Self::App(..) => Scope::App,
            Self::Operator(..) => Scope::Operator,
            Self::Admin => Scope::Admin,
        }
    }

    /// This holder as the timeline names it.
    #[must_use]
    pub fn actor(&self) -> Actor {
        match self {
            Self::Agency(id, name) => Actor::Agency(*id, name.clone()),
            Self::App(id, name) => Actor::App(*id, name.clone()),
            Self::Operator(id, name) => Actor::Operator(*id, name.clone()),
            Self::Admin => Actor::Admin,
        }
    }
}

/// A key that was presented and found good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The key used.
    pub key: KeyId,
    /// Who holds it.
    pub holder: Holder,
}

/// A relief agency.
#[derive(Debug, Clone, Serialize)]
pub struct Agency {
    /// Its id.
    pub id: AgencyId,
    /// Its name.
    pub name: String,
    /// Whether its complete cases may verify themselves.
    pub trusted: bool,
    /// The time zone of its cases, where they do not say.
    pub time_zone: String,
    /// Days from closing a case to erasing its personal data.
    pub retention_days: i64,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A partner app.
#[derive(Debug, Clone, Serialize)]
pub struct App {
    /// Its id.
    pub id: AppId,
    /// Its name.
    pub name: String,
    /// Recipients a second it agreed to take.
    pub rate_per_s: i64,
    /// Whether it is told nothing for now.
    pub paused: bool,
    /// Whether it takes part in exercises.
    pub drills: bool,
    /// How it wants the body of its AMQP messages.
    pub format: BatchFormat,
    /// When it was made.
    pub created_at: Timestamp,
}

/// An operator of this service.
#[derive(Debug, Clone, Serialize)]
pub struct Operator {
    /// Their id.
    pub id: OperatorId,
    /// Their name.
    pub name: String,
    /// When they were made.
    pub created_at: Timestamp,
}
