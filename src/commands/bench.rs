//! `homeward bench`: figures of this machine, beside what one would otherwise use, in one run.

mod amqp;
mod area;
mod audience;
mod fanout;
mod ground;
mod memory;
mod people;
mod redis;
mod search;
mod upload;

use std::io::Write as _;

use anyhow::Context as _;
use clap::Subcommand;

use crate::config::LogFormat;
use crate::telemetry;

/// Measure this machine against what one would otherwise use.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Plans, and a wide area's ranges of cells. Needs no server.
    Area(area::Args),
    /// From a verified case to an AMQP consumer's hands, and lane to quorum queue beside a bare publisher
    /// with confirms. Give it a database and a virtual host of its own.
    Amqp(amqp::Args),
    /// Searching, uploading and telling an audience, beside PostGIS, Redis, a bare index-only scan and a bare
    /// bulk upsert. Give it a database of its own.
    Audience(audience::Args),
}

/// Measures, prints a table, and the figures as one line of JSON.
///
/// # Errors
/// Says which step failed.
pub async fn run(args: &Args) -> anyhow::Result<()> {
    telemetry::start_logging("error", LogFormat::Text).map_err(anyhow::Error::msg)?;
    match &args.what {
        What::Area(args) => area::run(args),
        What::Amqp(args) => amqp::run(args).await,
        What::Audience(args) => audience::run(args).await,
    }
}

fn say(text: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout().lock(), "{text}").context("printing")
}

/// The value below which so many percent of the (sorted) values lie.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let place = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted.get(place).copied().unwrap_or(f64::NAN)
}

/// The median of a handful of values.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    percentile(&values, 50)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::float_cmp, reason = "they are picked, not worked out")]
    fn percentiles_are_values_that_were_measured() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        for percent in [1_u8, 50, 99, 100] {
            assert_eq!(percentile(&values, percent.into()), f64::from(percent));
        }
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
    }
}
