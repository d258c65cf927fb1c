//! `homeward serve`

use anyhow::Context as _;
use secrecy::ExposeSecret as _;

use crate::Listeners;
use crate::config::Config;
use crate::model::Actor;
use crate::store::{Store, lanes, settings};
use crate::{shutdown, telemetry};

/// Serve until told to stop.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Start with all lanes held, as after restoring a backup; an operator releases them.
    #[arg(long)]
    held: bool,
}

/// Serves.
///
/// # Errors
/// If the database or a listener cannot be had, or a worker did not end in time.
pub async fn run(args: &Args, config: Config) -> anyhow::Result<()> {
    telemetry::start_logging(&config.log, config.log_format).map_err(anyhow::Error::msg)?;
    let shutdown = shutdown::on_signal().context("cannot listen to signals")?;
    let store = Store::open(config.database_url.expose_secret()).await?;
    store.migrate().await?;
    if args.held {
        let mut tx = store.begin().await?;
        let now = tx.now().await?;
        lanes::set_hold(&mut tx, true, &Actor::Homeward, now).await?;
        tx.commit().await?;
        tracing::warn!("started with all lanes held: release them when you have looked");
    }
    for slow in settings::slow(&mut store.read().await?).await? {
        tracing::warn!(
            setting = slow.name,
            found = slow.found,
            wanted = slow.wanted,
            subscribers_mib = slow.size_mib,
            "this setting of the database server makes searches or uploads slow: see ops/bench/README.md"
        );
    }
    let listeners = Listeners::bind(&config).await?;
    tracing::info!(
        http = %config.http_addr, grpc = %config.grpc_addr, admin = %config.admin_addr,
        database = ?store, "serving"
    );
    crate::run(config, store, listeners, shutdown).await?;
    tracing::info!("stopped");
    Ok(())
}
