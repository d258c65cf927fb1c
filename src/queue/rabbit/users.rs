//! Apps' credentials on the broker, made through RabbitMQ's management API: a user may read its app's
//! queue and nothing else. Several at a time per app, so that they can be rotated.

use std::time::Duration;

use reqwest::{Client, Method, StatusCode, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use super::link::{Broker, BrokerUrlError};
use super::topology::alerts_queue;
use crate::model::App;

/// What the names of apps' users begin with.
const PREFIX: &str = "homeward-app.";
/// Nothing at all.
const NOTHING: &str = "^$";
/// How long the management API may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Bytes of a password.
const PASSWORD_BYTES: usize = 24;
/// Bytes that tell an app's users apart.
const NAME_BYTES: usize = 4;

/// A user of the broker for one app.
pub struct AppUser {
    /// Its name on the broker.
    pub name: String,
    /// Its password.
    pub password: SecretString,
    /// The queue that it may read.
    pub queue: String,
    vhost: String,
}

impl AppUser {
    /// A new user for an app, not yet known to the broker.
    ///
    /// # Errors
    /// None for a broker that was made by [`Broker::at`].
    pub fn fresh(broker: &Broker, app: &App) -> Result<Self, UserError> {
        let vhost = broker.vhost()?;
        let name = hex::encode(rand::random::<[u8; NAME_BYTES]>());
        Ok(Self {
            name: format!("{PREFIX}{}.{name}", app.name),
            password: hex::encode(rand::random::<[u8; PASSWORD_BYTES]>()).into(),
            queue: alerts_queue(&app.name),
            vhost,
        })
    }

    /// The commands that make it, for whoever can reach the broker where Homeward cannot. The first asks
    /// for the password: on its command line others could read it.
    #[must_use]
    pub fn commands(&self) -> String {
        let (name, vhost) = (&self.name, &self.vhost);
        format!(
            "# password: {}\n\
             rabbitmqctl add_user '{name}'\n\
             rabbitmqctl set_permissions -p '{vhost}' '{name}' '{NOTHING}' '{NOTHING}' '{}'",
            self.password.expose_secret(),
            self.readable()
        )
    }

    /// Its queue as a regular expression.
    fn readable(&self) -> String {
        format!("^{}$", self.queue.replace('.', "\\."))
    }
}

/// The broker's users could not be seen to.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// The broker's address is unusable.
    #[error(transparent)]
    Broker(#[from] BrokerUrlError),
    /// The management API's address is unusable.
    #[error("amqp_management_url: {0}; expected is http://USER:PASSWORD@HOST:15672")]
    Url(String),
    /// The management API does not answer.
    #[error("RabbitMQ's management API does not answer: {0}")]
    Unreachable(reqwest::Error),
    /// The management API refused.
    #[error(
        "RabbitMQ's management API answered {status} to {method} {path}; its user must be an administrator"
    )]
    Refused {
        /// What it answered.
        status: StatusCode,
        /// What was asked.
        method: Method,
        /// Of what.
        path: String,
    },
    /// There is no such user of an app.
    #[error("'{0}' is no user of an app on this broker")]
    Unknown(String),
}

#[derive(Deserialize)]
struct Listed {
    name: String,
}

/// The users of all apps, seen to through the management API.
pub struct Users {
    client: Client,
    base: Url,
}

impl Users {
    /// The users of the broker whose management API is at `http(s)://USER:PASSWORD@HOST:PORT`.
    ///
    /// # Errors
    /// [`UserError::Url`] if the text is no such URL.
    pub fn at(url: &SecretString) -> Result<Self, UserError> {
        let base: Url = url
            .expose_secret()
            .parse()
            .map_err(|error| UserError::Url(format!("{error}")))?;
        if base.cannot_be_a_base() {
            return Err(UserError::Url("it has no host".to_owned()));
        }
        let client = Client::builder()
            .timeout(ANSWER_WITHIN)
            .build()
            .map_err(UserError::Unreachable)?;
        Ok(Self { client, base })
    }

    /// Makes a user.
    ///
    /// # Errors
    /// [`UserError`] says why it could not be made.
    pub async fn make(&self, user: &AppUser) -> Result<(), UserError> {
        let whole = json!({ "password": user.password.expose_secret(), "tags": "" });
        self.ask(Method::PUT, &["users", &user.name], Some(&whole))
            .await?;
        let rights = json!({ "configure": NOTHING, "write": NOTHING, "read": user.readable() });
        let path = ["permissions", &user.vhost, &user.name];
        let granted = self.ask(Method::PUT, &path, Some(&rights)).await;
        if granted.is_err() {
            // Nobody would know its password.
            let _ = self.ask(Method::DELETE, &["users", &user.name], None).await;
        }
        granted.map(drop)
    }

    /// The names of all apps' users.
    ///
    /// # Errors
    /// [`UserError`] says why they could not be listed.
    pub async fn list(&self) -> Result<Vec<String>, UserError> {
        let answer = self.ask(Method::GET, &["users"], None).await?;
        let listed: Vec<Listed> = answer.json().await.map_err(UserError::Unreachable)?;
        let names = listed.into_iter().map(|user| user.name);
        Ok(names.filter(|name| name.starts_with(PREFIX)).collect())
    }

    /// Removes a user; its connections end.
    ///
    /// # Errors
    /// [`UserError::Unknown`] if it is no app's user.
    pub async fn remove(&self, name: &str) -> Result<(), UserError> {
        if !self.list().await?.iter().any(|one| one == name) {
            return Err(UserError::Unknown(name.to_owned()));
        }
        self.ask(Method::DELETE, &["users", name], None)
            .await
            .map(drop)
    }

    async fn ask(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&Value>,
    ) -> Result<reqwest::Response, UserError> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("api").extend(path);
        }
        let mut request = self.client.request(method.clone(), url);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request
            .send()
            .await
            .map_err(|error| UserError::Unreachable(error.without_url()))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let path = path.join("/");
        Err(UserError::Refused {
            status,
            method,
            path,
        })
    }
}
