//! The commands, one file each.

mod admin;
mod bench;
mod calibrate;
mod demo;
mod healthcheck;
mod migrate;
mod plan;
mod rest;
mod serve;
mod tail;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Config;

/// Geofenced missing-person alerts: from a verified case to the phones in just the right places.
///
/// Exit codes: 0 done, 1 failed, 2 usage.
#[derive(Debug, Parser)]
#[command(name = "homeward", version)]
pub struct Cli {
    /// The configuration file; without it homeward.toml in the working folder, if there is one.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve REST, gRPC and the dispatch workers.
    Serve(serve::Args),
    /// Tell the whole story in one process: a synthetic city, a case, alerts, a sighting, the recall.
    Demo(demo::Args),
    /// Bring the database's schema up to date.
    Migrate,
    /// Work out where a person is likely to be.
    Plan(plan::Args),
    /// Hold the area model against closed cases.
    Calibrate(calibrate::Args),
    /// Watch what an app is sent, live; consumes nothing.
    Tail(tail::Args),
    /// Make agencies, apps, operators and keys, straight in the database.
    Admin(admin::Args),
    /// Measure this machine against what one would otherwise use.
    Bench(bench::Args),
    /// Ask a running server whether it is ready.
    Healthcheck,
}

/// Runs the command that was given.
#[must_use]
pub fn run(cli: &Cli) -> ExitCode {
    match carry_out(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::from(1)
        }
    }
}

#[expect(
    clippy::print_stderr,
    reason = "errors of a command go to the terminal"
)]
fn complain(error: &anyhow::Error) {
    eprintln!("homeward: {error:#}");
}

fn carry_out(cli: &Cli) -> anyhow::Result<()> {
    let config = || Config::load(cli.config.as_deref());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match &cli.command {
            Command::Plan(args) => plan::run(args, &config()?),
            Command::Calibrate(args) => calibrate::run(args, &config()?).await,
            Command::Serve(args) => serve::run(args, config()?).await,
            Command::Demo(args) => demo::run(args).await,
            Command::Migrate => migrate::run(&config()?).await,
            Command::Tail(args) => tail::run(args, &config()?).await,
            Command::Admin(args) => admin::run(args, &config()?).await,
            Command::Bench(args) => bench::run(args).await,
            Command::Healthcheck => healthcheck::run(&config()?).await,
        }
    })
}
