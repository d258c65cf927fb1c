//! `homeward admin amqp-user` and its like: apps' credentials on the broker.

use anyhow::Context as _;
use secrecy::{ExposeSecret as _, SecretString};

use crate::config::Config;
use crate::model::App;
use crate::queue::{AppUser, Broker, UserError, Users};
use crate::store::{Store, holders};

/// What to do with users.
#[derive(Debug, clap::Subcommand)]
pub enum What {
    /// Make a user that may read one app's queue, and print it, once. An app may have several: to rotate,
    /// make a new one and remove the old one when the app uses the new. Without the management API (see
    /// `amqp_management_url`) the commands for the broker's host are printed.
    Add {
        /// The app's name.
        app: String,
    },
    /// List the users of all apps.
    List,
    /// Remove a user; its connections end.
    Remove {
        /// The user's name, as listed.
        user: String,
    },
}

/// Does it and says so.
///
/// # Errors
/// Names the setting that is missing, or what the broker refused.
pub async fn run(what: &What, config: &Config, store: &Store) -> anyhow::Result<String> {
    match what {
        What::Add { app } => {
            let app = find(store, app).await?;
            let url = config
                .amqp_url
                .as_ref()
                .context("amqp_url is not set: there is no broker to make a user on")?;
            add(&AppUser::fresh(&Broker::at(url)?, &app)?, config).await
        }
        What::List => Ok(Users::at(management(config)?)?.list().await?.join("\n")),
        What::Remove { user } => {
            Users::at(management(config)?)?.remove(user).await?;
            Ok(format!("user {user} is gone"))
        }
    }
}

async fn add(user: &AppUser, config: &Config) -> anyhow::Result<String> {
    let commands =
        |why: &str| format!("# {why}: run this where the broker is\n{}", user.commands());
    let Some(url) = &config.amqp_management_url else {
        return Ok(commands("amqp_management_url is not set"));
    };
    match Users::at(url)?.make(user).await {
        Ok(()) => Ok(format!(
            "user {}\npassword {}\nqueue {}",
            user.name,
            user.password.expose_secret(),
            user.queue
        )),
        Err(error @ UserError::Unreachable(_)) => Ok(commands(&error.to_string())),
        Err(error) => Err(error.into()),
    }
}

async fn find(store: &Store, name: &str) -> anyhow::Result<App> {
    let apps = holders::apps(&mut store.read().await?).await?;
    let app = apps.into_iter().find(|app| app.name == name);
    app.with_context(|| format!("there is no app '{name}'"))
}

fn management(config: &Config) -> anyhow::Result<&SecretString> {
    config.amqp_management_url.as_ref().context(
        "amqp_management_url is not set: give http://USER:PASSWORD@HOST:15672 of an administrator, \
         or use rabbitmqctl list_users and delete_user",
    )
}
