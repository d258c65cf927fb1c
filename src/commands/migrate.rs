//! `homeward migrate`

use secrecy::ExposeSecret as _;

use crate::config::Config;
use crate::store::Store;

/// Brings the database's schema up to date; `homeward serve` does so, too, when it starts.
///
/// # Errors
/// If the database cannot be had or a migration fails.
#[expect(clippy::print_stdout, reason = "says what it did")]
pub async fn run(config: &Config) -> anyhow::Result<()> {
    let store = Store::open(config.database_url.expose_secret()).await?;
    store.migrate().await?;
    println!("the schema is up to date ({store:?})");
    store.close().await;
    Ok(())
}
