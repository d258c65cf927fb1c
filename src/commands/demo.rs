//! `homeward demo`

/// Tell the whole story in one process.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Tells it.
///
/// # Errors
/// If a step of the story fails.
pub async fn run(_: &Args) -> anyhow::Result<()> {
    anyhow::bail!("not told yet")
}
