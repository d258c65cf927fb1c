//! `homeward healthcheck`

use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::config::Config;

/// How long a server may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Asks the server at `admin_addr` whether it is ready; prints its answer.
///
/// # Errors
/// If it does not answer or is not ready.
#[expect(clippy::print_stdout, reason = "prints the answer")]
pub async fn run(config: &Config) -> anyhow::Result<()> {
    let url = format!("http://{}/readyz", config.admin_addr);
    let client = reqwest::Client::builder()
        .timeout(TIMEOUT)
        .no_proxy()
        .build()?;
    let answer = client
        .get(&url)
        .send()
        .await
        .with_context(|| format!("no answer from {url}"))?;
    let ready = answer.status().is_success();
    let body = answer.text().await?;
    if !ready {
        bail!("not ready: {body}");
    }
    println!("{body}");
    Ok(())
}
