//! Configuration: defaults, then a file, then `HOMEWARD_*` in the environment.

mod sections;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use figment::Figment;
use figment::providers::{Env, Format as _, Toml};
use secrecy::SecretString;
use serde::Deserialize;

use crate::area::AreaError;
use crate::queue::{Broker, BrokerUrlError, Users};

pub use sections::{Approval, Area, Audience, Cap, Dispatch, LogFormat, QuietHours, Role, Waves};

/// The commented defaults, which are also the manual.
pub const DEFAULTS: &str = include_str!("homeward.toml");

/// Hours in a year.
const YEAR_H: i64 = 8_760;
/// More people than could ever be told of one case.
const PEOPLE_MAX: i64 = 1_000_000_000;

/// Everything that can be set. The fields are explained in [`DEFAULTS`].
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    missing_docs,
    reason = "each field is explained in homeward.toml, the manual"
)]
pub struct Config {
    pub database_url: SecretString,
    pub amqp_url: Option<SecretString>,
    pub amqp_management_url: Option<SecretString>,
    pub roles: Vec<Role>,
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
    pub waves: Waves,
    pub area: Area,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file or variable is missing, misspelt or of the wrong kind.
    #[error("configuration: {0}")]
    Read(#[from] Box<figment::Error>),
    /// A URL that cannot be used.
    #[error("configuration: {0}")]
    Broker(#[from] BrokerUrlError),
    /// A setting of the area model cannot be used.
    #[error("configuration: {0}")]
    Area(#[from] AreaError),
    /// The management API's URL cannot be used.
    #[error("configuration: {0}")]
    Management(String),
    /// No broker, but a server that sends or one that hands on, not both.
    #[error(
        "configuration: roles has one of \"lanes\" and \"readers\" without the other, but without amqp_url the queues between them live in the process: set amqp_url, or give both or neither"
    )]
    RolesApart,
    /// A value out of range, or values that do not go together.
    #[error("configuration: {field} is {given}, but {rule}")]
    Rule {
        /// The setting.
        field: &'static str,
        /// What it is set to.
        given: i64,
        /// What would be accepted.
        rule: String,
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
        for (field, given, accepted) in self.ranges() {
            if !accepted.contains(&given) {
                let (least, most) = accepted.into_inner();
                return Err(ConfigError::Rule {
                    field,
                    given,
                    rule: format!("it must be {least} to {most}"),
                });
            }
        }
        for (field, given, other, least) in self.least() {
            if given < least {
                return Err(ConfigError::Rule {
                    field,
                    given,
                    rule: format!("it must be at least {other}, which is {least}"),
                });
            }
        }
        self.area.settings.check()?;
        if let Some(url) = &self.amqp_management_url {
            Users::at(url).map_err(|error| ConfigError::Management(error.to_string()))?;
        }
        if let Some(url) = &self.amqp_url {
            Broker::at(url)?;
        } else if self.does(Role::Lanes) != self.does(Role::Readers) {
            return Err(ConfigError::RolesApart);
        }
        Ok(self)
    }

    /// Whether this server does this part of the work.
    #[must_use]
    pub fn does(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Every number with what is accepted.
    fn ranges(&self) -> [(&'static str, i64, RangeInclusive<i64>); 24] {
        let Self {
            dispatch,
            approval,
            cap,
            ..
        } = self;
        [
            (
                "shutdown_deadline_s",
                whole(self.shutdown_deadline_s),
                1..=3_600,
            ),
            ("requests_per_s", self.requests_per_s.into(), 1..=1_000_000),
            ("requests_burst", self.requests_burst.into(), 1..=1_000_000),
            (
                "dispatch.batch_people",
                dispatch.batch_people.into(),
                1..=500,
            ),
            (
                "dispatch.shard_people",
                dispatch.shard_people,
                1..=1_000_000,
            ),
            ("dispatch.workers", whole(dispatch.workers), 1..=256),
            (
                "dispatch.shard_lease_s",
                dispatch.shard_lease_s.into(),
                1..=3_600,
            ),
            // A lease of less than two seconds is lost to a slow moment.
            (
                "dispatch.lane_lease_s",
                dispatch.lane_lease_s.into(),
                2..=300,
            ),
            (
                "dispatch.sweep_every_s",
                dispatch.sweep_every_s.into(),
                1..=86_400,
            ),
            (
                "dispatch.issue_expires_h",
                dispatch.issue_expires_h.into(),
                1..=YEAR_H,
            ),
            (
                "dispatch.recall_expires_h",
                dispatch.recall_expires_h.into(),
                1..=YEAR_H,
            ),
            ("dispatch.lead_min", dispatch.lead_min.into(), 0..=1_440),
            ("dispatch.poll_ms", whole(dispatch.poll_ms), 1..=60_000),
            (
                "dispatch.delivery_limit",
                dispatch.delivery_limit.into(),
                1..=1_000,
            ),
            ("approval.recipients", approval.recipients, 0..=PEOPLE_MAX),
            (
                "approval.recipients_per_point",
                approval.recipients_per_point,
                0..=PEOPLE_MAX,
            ),
            (
                "approval.self_verified_recipients",
                approval.self_verified_recipients,
                0..=PEOPLE_MAX,
            ),
            ("approval.updates", approval.updates, 0..=1_000),
            ("cap.per_day", cap.per_day.into(), 0..=1_000),
            ("cap.per_week", cap.per_week.into(), 0..=1_000),
            (
                "cap.critical_per_day",
                cap.critical_per_day.into(),
                0..=1_000,
            ),
            (
                "cap.critical_per_week",
                cap.critical_per_week.into(),
                0..=1_000,
            ),
            (
                "audience.stale_after_h",
                self.audience.stale_after_h.into(),
                1..=YEAR_H,
            ),
            (
                "waves.sighting_wait_min",
                self.waves.sighting_wait_min.into(),
                0..=1_440,
            ),
        ]
    }

    /// The numbers that must not be below another one, each with that one.
    fn least(&self) -> [(&'static str, i64, &'static str, i64); 3] {
        let Self { dispatch, cap, .. } = self;
        [
            (
                "dispatch.shard_people",
                dispatch.shard_people,
                "dispatch.batch_people",
                dispatch.batch_people.into(),
            ),
            (
                "cap.per_week",
                cap.per_week.into(),
                "cap.per_day",
                cap.per_day.into(),
            ),
            (
                "cap.critical_per_week",
                cap.critical_per_week.into(),
                "cap.critical_per_day",
                cap.critical_per_day.into(),
            ),
        ]
    }

    /// How long a stopping server may take.
    #[must_use]
    pub const fn shutdown_deadline(&self) -> Duration {
        Duration::from_secs(self.shutdown_deadline_s)
    }
}

/// A number as it is checked; what is beyond the range is beyond every range accepted.
fn whole(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use jiff::civil::Time;

    use super::*;
    use crate::area::Settings;

    #[test]
    fn the_manual_is_the_defaults() {
        let config = Config::defaults().unwrap();
        assert_eq!(config.cap.per_day, 2);
        assert_eq!(config.quiet_hours.from, Time::constant(22, 0, 0, 0));
    }

    #[test]
    fn the_manual_has_the_area_models_own_assumptions() {
        let Area { own_rows, settings } = Config::defaults().unwrap().area;
        assert_eq!((own_rows, settings), (None, Settings::default()));
        let with = |text: &str| {
            let config: Config = Figment::from(Toml::string(DEFAULTS))
                .merge(Toml::string(text))
                .extract()
                .unwrap();
            config
                .check()
                .map(|config| config.area.settings)
                .map_err(|error| error.to_string())
        };
        let faster = "area.settings.movement.hiker = { scale_h = 9, shape = 1, speed_kmh = 5 }";
        assert_eq!(with(faster).unwrap().movement.len(), 1);
        let error = with("area.settings.alert_effort = 6").unwrap_err();
        assert!(
            error.contains("alert_effort must be 0 to 5, not 6"),
            "{error}"
        );
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
    #[test]
    fn numbers_out_of_range_are_named_with_what_is_accepted() {
        let with = |text: &str| {
            let config: Config = Figment::from(Toml::string(DEFAULTS))
                .merge(Toml::string(text))
                .extract()
                .unwrap();
            config.check().map(drop).map_err(|error| error.to_string())
        };
        for (text, wanted) in [
            (
                "dispatch.sweep_every_s = 0",
                "is 0, but it must be 1 to 86400",
            ),
            ("dispatch.lane_lease_s = 1", "is 1, but it must be 2 to 300"),
            ("dispatch.poll_ms = 60001", "poll_ms is 60001"),
            ("dispatch.issue_expires_h = 4294967295", "1 to 8760"),
            ("dispatch.workers = 0", "dispatch.workers is 0"),
            ("shutdown_deadline_s = 9223372036854775807", "1 to 3600"),
            ("audience.stale_after_h = -1", "stale_after_h is -1"),
            ("approval.updates = -1", "0 to 1000"),
            (
                "dispatch.shard_people = 499",
                "at least dispatch.batch_people, which is 500",
            ),
        ] {
            let error = with(text).unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
        for text in [
            "approval.self_verified_recipients = 0",
            "dispatch.lead_min = 0",
            "cap = { per_day = 0, per_week = 0 }",
        ] {
            assert_eq!(with(text), Ok(()), "{text}");
        }
    }
}
