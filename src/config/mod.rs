//! Configuration: defaults, then a file, then `HOMEWARD_*` in the environment.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use figment::Figment;
use figment::providers::{Env, Format as _, Toml};
use jiff::SignedDuration;
use jiff::civil::Time;
use secrecy::SecretString;
use serde::Deserialize;

/// The commented defaults, which are also the manual.
pub const DEFAULTS: &str = include_str!("homeward.toml");

/// Everything that can be set. The fields are explained in [`DEFAULTS`].
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    missing_docs,
    reason = "each field is explained in homeward.toml, the manual"
)]
pub struct Config {
    pub database_url: SecretString,
    pub http_addr: SocketAddr,
    pub grpc_addr: SocketAddr,
    pub admin_addr: SocketAddr,
    pub log: String,
    pub log_format: LogFormat,
    shutdown_deadline_s: u64,
    pub requests_per_s: u32,
    pub requests_burst: u32,
    pub dispatch: Dispatch,
    pub approval: Approval,
    pub cap: Cap,
    pub quiet_hours: QuietHours,
    pub audience: Audience,
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
    shard_lease_s: u32,
    lane_lease_s: u32,
    sweep_every_s: u32,
    issue_expires_h: u32,
    recall_expires_h: u32,
    lead_min: u32,
    poll_ms: u64,
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

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file or variable is missing, misspelt or of the wrong kind.
    #[error("configuration: {0}")]
    Read(#[from] Box<figment::Error>),
    /// Values that do not go together.
    #[error("configuration: {field} is {given}, but {rule}")]
    Rule {
        /// The setting.
        field: &'static str,
        /// What it is set to.
        given: String,
        /// What would be accepted.
        rule: &'static str,
    },
}

impl Config {
    /// Defaults, then `file` (else `homeward.toml` in the working folder, if there is one), then the
    /// environment.
    ///
    /// # Errors
    /// [`ConfigError`] names the setting, what it is and what would be accepted.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let mut figment = Figment::from(Toml::string(DEFAULTS));
        figment = match file {
            Some(path) => figment.merge(Toml::file_exact(path)),
            None => figment.merge(Toml::file("homeward.toml")),
        };
        // These belong to the tests, not to the server.
        let environment = Env::prefixed("HOMEWARD_")
            .split("__")
            .filter(|key| !key.starts_with("test_") && !key.starts_with("services_"));
        let config: Self = figment.merge(environment).extract().map_err(Box::new)?;
        config.check()
    }

    /// The defaults alone.
    ///
    /// # Errors
    /// None in a build whose tests pass.
    pub fn defaults() -> Result<Self, ConfigError> {
        let config: Self = Figment::from(Toml::string(DEFAULTS))
            .extract()
            .map_err(Box::new)?;
        config.check()
    }

    fn check(self) -> Result<Self, ConfigError> {
        let rule = |field, given: String, rule| Err(ConfigError::Rule { field, given, rule });
        let dispatch = &self.dispatch;
        if !(1..=500).contains(&dispatch.batch_people) {
            return rule(
                "dispatch.batch_people",
                dispatch.batch_people.to_string(),
                "a batch holds 1 to 500 people",
            );
        }
        if dispatch.shard_people < i64::from(dispatch.batch_people) {
            return rule(
                "dispatch.shard_people",
                dispatch.shard_people.to_string(),
                "a shard holds at least one batch (dispatch.batch_people)",
            );
        }
        if dispatch.workers == 0 {
            return rule(
                "dispatch.workers",
                "0".into(),
                "at least one worker is needed",
            );
        }
        if dispatch.lane_lease_s < 2 {
            return rule(
                "dispatch.lane_lease_s",
                dispatch.lane_lease_s.to_string(),
                "a lease of less than 2 seconds is lost to a slow moment",
            );
        }
        if dispatch.poll_ms == 0 {
            return rule("dispatch.poll_ms", "0".into(), "it must be at least 1");
        }
        if dispatch.delivery_limit == 0 {
            return rule(
                "dispatch.delivery_limit",
                "0".into(),
                "it must be at least 1",
            );
        }
        if self.cap.per_week < self.cap.per_day {
            return rule(
                "cap.per_week",
                self.cap.per_week.to_string(),
                "a week allows at least what a day does (cap.per_day)",
            );
        }
        if self.cap.critical_per_week < self.cap.critical_per_day {
            return rule(
                "cap.critical_per_week",
                self.cap.critical_per_week.to_string(),
                "a week allows at least what a day does (cap.critical_per_day)",
            );
        }
        if self.requests_per_s == 0 || self.requests_burst == 0 {
            return rule(
                "requests_per_s",
                format!("{} (burst {})", self.requests_per_s, self.requests_burst),
                "both must be at least 1",
            );
        }
        Ok(self)
    }

    /// How long a stopping server may take.
    #[must_use]
    pub const fn shutdown_deadline(&self) -> Duration {
        Duration::from_secs(self.shutdown_deadline_s)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_is_the_defaults() {
        let config = Config::defaults().unwrap();
        assert_eq!(config.cap.per_day, 2);
        assert_eq!(config.quiet_hours.from, Time::constant(22, 0, 0, 0));
    }

    #[test]
    fn a_misspelt_setting_is_named() {
        let text = format!("{DEFAULTS}\nstale_after_hours = 3");
        let error = Figment::from(Toml::string(&text))
            .extract::<Config>()
            .unwrap_err();
        assert!(error.to_string().contains("stale_after_hours"), "{error}");
    }

    #[test]
    fn values_that_do_not_go_together_are_named() {
        let mut config = Config::defaults().unwrap();
        config.cap.per_week = 1;
        let error = config.check().unwrap_err().to_string();
        assert!(error.contains("cap.per_week is 1"), "{error}");
    }
}
