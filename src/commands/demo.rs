//! `homeward demo`: the whole story in one process, with nothing to set up before.

mod apps;
mod cast;
mod city;
mod picture;
mod screen;
mod story;
mod wave;

use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use jiff::civil::Time;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::apps::Pushes;
use self::cast::Cast;
use self::screen::{Screen, line, pushed};
use self::story::{Figures, Story};
use super::rest::Rest;
use crate::config::{Config, LogFormat};
use crate::model::Check;
use crate::store::Store;
use crate::{Listeners, shutdown, telemetry};

/// The database file in the folder that was given, or in a temporary one.
const FILE: &str = "homeward-demo.db";
/// Only what the story does not say itself: refused requests end it, with the server's words.
const LOG: &str = "warn,sqlx=error,homeward::api=error";

/// Why there are no figures after Ctrl-C.
const INTERRUPTED: &str = "interrupted before the story was told to its end";

/// Tell the whole story in one process.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Stop after the story; the last line on standard output is then its figures as JSON.
    #[arg(long)]
    once: bool,
    /// Keep the data in this folder; a demo that it holds already is told again in the same city.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Use this database, such as `postgres://USER@HOST/DATABASE`; it must be the demo's own.
    #[arg(long, value_name = "URL", conflicts_with = "data")]
    database_url: Option<SecretString>,
    /// Send over this RabbitMQ, such as `amqp://USER:PASSWORD@HOST/VHOST`.
    #[arg(long, value_name = "URL", requires = "database_url")]
    amqp_url: Option<SecretString>,
}

/// Tells it, and stays up until interrupted unless it is told once.
///
/// # Errors
/// Names the step of the story that failed, or why the server did.
pub async fn run(args: &Args) -> anyhow::Result<()> {
    telemetry::start_logging(LOG, LogFormat::Text).map_err(anyhow::Error::msg)?;
    let shutdown = shutdown::on_signal()?;
    let home = Home::of(args)?;
    let store = Store::open(home.url.expose_secret()).await?;
    store.migrate().await?;
    let cast = Cast::assemble(&store).await?;
    let (http_listener, grpc_listener) = (listen().await?, listen().await?);
    let (http, grpc) = (http_listener.local_addr()?, grpc_listener.local_addr()?);
    let listeners = Listeners {
        http: Some(http_listener),
        grpc: Some(grpc_listener),
        admin: listen().await?,
    };
    let screen = Screen::new();
    greet(&home, &cast);
    let config = config(args, &home, &cast)?;
    let server = crate::run(config, store.clone(), listeners, shutdown.clone());
    let mut server = tokio::spawn(server);

    let rest = Rest::new(http)?;
    let tell = async {
        let mut pushes = apps::start(grpc, &cast.apps, &shutdown).await?;
        let mut tale = Story {
            screen: &screen,
            rest: &rest,
            store: &store,
            cast: &cast,
            pushes: &mut pushes,
        };
        let (filed, told) = tokio::select! {
            biased;
            () = shutdown.cancelled() => bail!(INTERRUPTED),
            told = tale.tell() => told?,
        };
        if !args.once {
            invite(&rest, &cast, &filed, &store).await?;
            stay(&mut pushes, &shutdown).await?;
        }
        anyhow::Ok(told)
    };
    let told = tokio::select! {
        told = Box::pin(tell) => told,
        ended = &mut server => match ended? {
            Ok(()) => bail!(INTERRUPTED),
            Err(error) => return Err(error.context("the server failed")),
        },
    };
    shutdown.cancel();
    drop(rest);
    let ended = server.await?;
    let told = told?;
    ended.context("the server did not stop well")?;
    if args.once {
        print(&told)?;
    }
    Ok(())
}

/// Where the data are.
struct Home {
    url: SecretString,
    what: String,
    /// Goes with the process.
    _temporary: Option<TempDir>,
}

impl Home {
    fn of(args: &Args) -> anyhow::Result<Self> {
        if let Some(url) = &args.database_url {
            return Ok(Self {
                url: url.clone(),
                what: "the database that was given".to_owned(),
                _temporary: None,
            });
        }
        let (folder, what, temporary) = if let Some(folder) = &args.data {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("cannot make the folder {}", folder.display()))?;
            let what = format!("SQLite in {}", folder.join(FILE).display());
            (folder.clone(), what, None)
        } else {
            let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
            let what = "SQLite in a temporary folder that goes when the demo does".to_owned();
            (folder.path().to_owned(), what, Some(folder))
        };
        Ok(Self {
            url: format!("sqlite://{}", folder.join(FILE).display()).into(),
            what,
            _temporary: temporary,
        })
    }
}

/// The defaults, but for what would keep the story from being told.
fn config(args: &Args, home: &Home, cast: &Cast) -> anyhow::Result<Config> {
    let mut config = Config::defaults()?;
    config.database_url = home.url.clone();
    config.amqp_url.clone_from(&args.amqp_url);
    config.quiet_hours.from = Time::midnight();
    config.quiet_hours.to = Time::midnight();
    if cast.again {
        config.cap.per_day = u32::MAX;
        config.cap.per_week = u32::MAX;
    }
    Ok(config)
}

async fn listen() -> anyhow::Result<TcpListener> {
    TcpListener::bind(("127.0.0.1", 0))
        .await
        .context("cannot listen on 127.0.0.1")
}

fn greet(home: &Home, cast: &Cast) {
    line("Homeward demo: one missing-person case, from its filing to the recall.");
    line("The city, its people and the case are invented; the server is the real one,");
    line("in this process, on 127.0.0.1 only.");
    line("");
    line(&format!("Data: {}.", home.what));
    line("Set apart from the defaults: no quiet hours, so that it works at any hour.");
    if cast.again {
        line("An earlier run was here: its city is used again, with positions of today, and");
        line("without the cap (2 alerts a day), which would hold its people back.");
    }
}

/// What to try while the server stays up.
async fn invite(rest: &Rest, cast: &Cast, filed: &str, store: &Store) -> anyhow::Result<()> {
    let operator = format!(
        "curl -s -H 'Authorization: Bearer {}'",
        cast.operator.expose_secret()
    );
    let agency = format!(
        "curl -s -H 'Authorization: Bearer {}'",
        cast.agency.expose_secret()
    );
    let cases = format!("{}/v1/cases", rest.url);
    let (key, at) = (Uuid::now_v7(), store.now().await?);
    let filing = json!({
        "person": { "alias": "Sandy", "age": 79, "clothing": "red scarf" },
        "category": "dementia",
        "environment": "urban",
        "lkp": { "lat": 57.15, "lon": -2.11, "accuracy_m": 200, "at": at },
        "contact": { "name": "Erin Example", "phone": "+44 20 7946 0001" },
        "consent": { "given_by": "the family", "publish": ["name", "age", "clothing"] },
    });
    let checks: Vec<&str> = Check::ALL.iter().map(|check| check.name()).collect();
    let verify = json!({ "checks": checks });
    for said in [
        "",
        "The server stays up. Try, in another terminal:",
        "",
        "# Who was told, who was not and why, and what became of the batches",
        &format!("{operator} {cases}/{filed}/dispatch"),
        "",
        "# The plan as a map, for geojson.io or QGIS",
        &format!(
            "{operator} -H 'Accept: application/geo+json' -o plan.geojson {cases}/{filed}/plan"
        ),
        "",
        "# File another case ...",
        &format!("{agency} -H 'Idempotency-Key: {key}' -d '{filing}' {cases}"),
        "",
        "# ... and verify it, with the id from the answer in the place of ID",
        &format!("{operator} -d '{verify}' {cases}/ID/verify"),
        "",
        "What is pushed shows here. Ctrl-C ends the demo.",
    ] {
        line(said);
    }
    Ok(())
}

/// Shows what is pushed, until told to stop.
async fn stay(pushes: &mut Pushes, shutdown: &CancellationToken) -> anyhow::Result<()> {
    loop {
        let push = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            push = pushes.next() => push,
        };
        match push {
            Ok(push) => pushed(&push),
            Err(_) if shutdown.is_cancelled() => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn print(figures: &Figures) -> anyhow::Result<()> {
    let json = serde_json::to_string(figures)?;
    match writeln!(std::io::stdout().lock(), "{json}") {
        // Whoever reads it, such as `head`, has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        printed => printed.context("printing the figures"),
    }
}
