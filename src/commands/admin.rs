//! `homeward admin`: holders and keys, straight in the database, for whoever runs the service.

mod amqp;

use clap::Subcommand;
use secrecy::ExposeSecret as _;

use crate::cases::Refusal;
use crate::config::Config;
use crate::holders::{self, NewAgency, NewApp, NewOperator, OVERLAP_MAX_H, WantedKey};
use crate::keys;
use crate::model::{BatchFormat, KeyId, Scope};
use crate::store::holders as store;
use crate::store::{Cause, Store};

/// Make agencies, apps, operators and keys, straight in the database.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    #[command(flatten)]
    Holders(Holders),
    /// Make and remove apps' users on RabbitMQ.
    AmqpUser {
        #[command(subcommand)]
        what: amqp::What,
    },
}

/// What is done in the database.
#[derive(Debug, Subcommand)]
enum Holders {
    /// Add a relief agency.
    Agency {
        /// Its name.
        name: String,
        /// Its complete cases may verify themselves, up to a ceiling.
        #[arg(long)]
        trusted: bool,
        /// The time zone of its cases, where they do not say.
        #[arg(long, default_value = "UTC", value_name = "ZONE")]
        time_zone: String,
        /// Days from closing a case to erasing its personal data.
        #[arg(long, default_value_t = 30, value_name = "DAYS")]
        retention_days: i64,
    },
    /// Add a partner app.
    App {
        /// Its name.
        name: String,
        /// Recipients a second it agreed to take.
        #[arg(long, value_name = "RECIPIENTS")]
        rate_per_s: i64,
        /// It takes part in exercises.
        #[arg(long)]
        drills: bool,
        /// How it wants the body of its AMQP messages: protobuf or json.
        #[arg(long, default_value_t)]
        format: BatchFormat,
    },
    /// Add an operator.
    Operator {
        /// Their name.
        name: String,
    },
    /// Make a key and print it, once.
    Key {
        /// What it allows: agency, app, operator or admin.
        scope: Scope,
        /// The holder's name; none for admin.
        holder: Option<String>,
    },
    /// List all keys, without their secrets.
    Keys,
    /// Let a key stop working: at once, or after an overlap in which its holder changes over.
    ExpireKey {
        /// The key's id, as listed.
        id: KeyId,
        /// Hours that it still works.
        #[arg(long, default_value_t = 0, value_name = "HOURS")]
        #[arg(value_parser = clap::value_parser!(u32).range(..=i64::from(OVERLAP_MAX_H)))]
        overlap_h: u32,
    },
}

/// Does it and says so.
///
/// # Errors
/// Names what cannot be taken and what would be.
#[expect(clippy::print_stdout, reason = "prints what it made")]
pub async fn run(args: &Args, config: &Config) -> anyhow::Result<()> {
    let store = Store::open(config.database_url.expose_secret()).await?;
    store.migrate().await?;
    let said = match &args.what {
        What::Holders(what) => carry_out(&store, what).await.map_err(in_words)?,
        What::AmqpUser { what } => amqp::run(what, config, &store).await?,
    };
    println!("{said}");
    store.close().await;
    Ok(())
}

fn in_words(refusal: Refusal) -> anyhow::Error {
    match refusal {
        Refusal::Invalid(problems) => {
            let lines: Vec<String> = problems
                .iter()
                .map(|p| format!("{} {}; accepted: {}", p.field, p.problem, p.accepted))
                .collect();
            anyhow::anyhow!(lines.join("\n"))
        }
        Refusal::Store(error) if matches!(error.cause(), Cause::Constraint(_)) => {
            anyhow::anyhow!("the name is taken: choose another")
        }
        other => anyhow::anyhow!(other),
    }
}

async fn carry_out(store: &Store, what: &Holders) -> Result<String, Refusal> {
    let mut tx = store.begin().await?;
    let now = tx.now().await?;
    let line = match what {
        Holders::Agency {
            name,
            trusted,
            time_zone,
            retention_days,
        } => {
            let new = NewAgency {
                name: name.clone(),
                trusted: *trusted,
                time_zone: time_zone.clone(),
                retention_days: *retention_days,
            };
            let agency = holders::add_agency(&mut tx, new, now).await?;
            format!("agency {} ({})", agency.name, agency.id)
        }
        Holders::App {
            name,
            rate_per_s,
            drills,
            format,
        } => {
            let new = NewApp {
                name: name.clone(),
                rate_per_s: *rate_per_s,
                drills: *drills,
                format: *format,
            };
            let app = holders::add_app(&mut tx, new, now).await?;
            format!("app {} ({})", app.name, app.id.0)
        }
        Holders::Operator { name } => {
            let new = NewOperator { name: name.clone() };
            let operator = holders::add_operator(&mut tx, new, now).await?;
            format!("operator {} ({})", operator.name, operator.id)
        }
        Holders::Key { scope, holder } => {
            let wanted = WantedKey {
                scope: *scope,
                holder: holder.clone(),
            };
            let holder = holders::find(&mut tx, &wanted).await?;
            let key = keys::make(&mut tx, &holder, now).await?;
            key.secret.expose_secret().to_owned()
        }
        Holders::Keys => {
            let keys = store::keys(&mut tx).await?;
            let lines = keys.iter().map(|key| {
                let until = key
                    .expires_at
                    .map_or_else(String::new, |at| format!(", until {at}"));
                format!("{}  {} {}{until}", key.id, key.scope, key.holder)
            });
            lines.collect::<Vec<_>>().join("\n")
        }
        Holders::ExpireKey { id, overlap_h } => {
            let at = now + holders::overlap(*overlap_h)?;
            if !store::expire_key(&mut tx, *id, at).await? {
                return Err(Refusal::NotFound("key that still works"));
            }
            format!("key {id} works until {at}")
        }
    };
    tx.commit().await?;
    Ok(line)
}
