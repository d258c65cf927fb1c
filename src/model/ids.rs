//! Ids are types, so that an alert's id is never passed where a case's is meant.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! uuid_id {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, sqlx::Type)]
        #[serde(transparent)]
        #[sqlx(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A fresh id. It begins with the time, so that new rows lie together in an index.
            #[must_use]
            pub fn fresh() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    )*};
}

uuid_id! {
    /// A relief agency.
    AgencyId;
    /// An operator of this service.
    OperatorId;
    /// An access key (not the secret itself).
    KeyId;
    /// One missing person's case.
    CaseId;
    /// What people read, from first issue to recall.
    AlertId;
    /// One answer of the area model.
    PlanId;
    /// A unit of fan-out work.
    ShardId;
    /// Up to 500 subscribers of one app, told together.
    BatchId;
    /// A report that the person was seen.
    SightingId;
}

/// A partner app. Small, because it stands in every subscriber's row.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, sqlx::Type,
)]
#[serde(transparent)]
#[sqlx(transparent)]
pub struct AppId(pub i32);

/// The small dense number behind a subscriber; all subscribers of one person share it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, sqlx::Type,
)]
#[serde(transparent)]
#[sqlx(transparent)]
pub struct PersonNumber(pub i64);

impl PersonNumber {
    /// The block of 65,536 numbers that this one lies in: the unit of locking and of the told-list.
    #[must_use]
    pub const fn block(self) -> i64 {
        self.0 >> 16
    }

    /// The place within its block.
    #[must_use]
    #[expect(clippy::cast_sign_loss, reason = "the mask leaves 16 bits")]
    pub const fn place(self) -> u16 {
        (self.0 & 0xffff) as u16
    }

    /// The number at a place of a block.
    #[must_use]
    pub const fn of(block: i64, place: u16) -> Self {
        Self((block << 16) | place as i64)
    }
}
