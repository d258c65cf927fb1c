//! The sections of the configuration, and what their numbers mean.

use std::path::PathBuf;
use std::time::Duration;

use jiff::SignedDuration;
use jiff::civil::Time;
use serde::Deserialize;

use crate::area::Settings;

/// A part of the work that a server may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// REST.
    Api,
    /// Releases waves, decides whom to tell, upkeep.
    Fanout,
    /// Sends.
    Lanes,
    /// gRPC and dead letters.
    Readers,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// How alerts go out.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    missing_docs,
    reason = "each field is explained in homeward.toml, the manual"
)]
pub struct Dispatch {
    pub batch_people: u32,
    pub shard_people: i64,
    pub workers: usize,
    pub(super) shard_lease_s: u32,
    pub(super) lane_lease_s: u32,
    pub(super) sweep_every_s: u32,
    pub(super) issue_expires_h: u32,
    pub(super) recall_expires_h: u32,
    pub(super) lead_min: u32,
    pub poll_ms: u64,
    pub delivery_limit: u32,
}

/// When a second look is needed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    missing_docs,
    reason = "each field is explained in homeward.toml, the manual"
)]
pub struct Approval {
    pub recipients: i64,
    pub recipients_per_point: i64,
    pub self_verified_recipients: i64,
    pub updates: i64,
}

/// How often one person is told.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    missing_docs,
    reason = "each field is explained in homeward.toml, the manual"
)]
pub struct Cap {
    pub per_day: u32,
    pub per_week: u32,
    pub critical_per_day: u32,
    pub critical_per_week: u32,
}

/// When nobody is told.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    missing_docs,
    reason = "each field is explained in homeward.toml, the manual"
)]
pub struct QuietHours {
    pub from: Time,
    pub to: Time,
}

/// Who may be told.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    missing_docs,
    reason = "each field is explained in homeward.toml, the manual"
)]
pub struct Audience {
    pub stale_after_h: i32,
}

/// When waves go out.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waves {
    pub(super) sighting_wait_min: u32,
}

/// What areas are planned with.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    missing_docs,
    reason = "each field is explained in homeward.toml, the manual"
)]
pub struct Area {
    pub own_rows: Option<PathBuf>,
    pub settings: Settings,
}

impl Waves {
    /// How long a wave waits for a sighting that is being checked.
    #[must_use]
    pub fn sighting_wait(&self) -> SignedDuration {
        SignedDuration::from_mins(self.sighting_wait_min.into())
    }
}

impl Dispatch {
    /// How long a worker may take over one shard.
    #[must_use]
    pub fn shard_lease(&self) -> SignedDuration {
        SignedDuration::from_secs(self.shard_lease_s.into())
    }

    /// How long a lane's owner may be silent.
    #[must_use]
    pub fn lane_lease(&self) -> Duration {
        Duration::from_secs(self.lane_lease_s.into())
    }

    /// From one sweep to the next.
    #[must_use]
    pub fn sweep_every(&self) -> SignedDuration {
        SignedDuration::from_secs(self.sweep_every_s.into())
    }

    /// From a wave to the expiry of its issues.
    #[must_use]
    pub fn issue_life(&self) -> SignedDuration {
        SignedDuration::from_hours(self.issue_expires_h.into())
    }

    /// How long a recall is kept.
    #[must_use]
    pub fn recall_life(&self) -> SignedDuration {
        SignedDuration::from_hours(self.recall_expires_h.into())
    }

    /// How much later than now the area is planned for.
    #[must_use]
    pub fn lead(&self) -> Duration {
        Duration::from_secs(u64::from(self.lead_min) * 60)
    }

    /// How often to look for work.
    #[must_use]
    pub const fn poll(&self) -> Duration {
        Duration::from_millis(self.poll_ms)
    }
}
