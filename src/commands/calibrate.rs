//! `homeward calibrate`: the area model held against closed cases.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args as ClapArgs, ValueEnum};
use secrecy::ExposeSecret as _;

use super::plan::print;
use crate::area::{self, Calibration, ClosedCase};
use crate::config::Config;
use crate::planning::read_table;
use crate::store::{Store, outcomes};

/// How many wrong rows are told at once.
const TOLD: usize = 20;

/// Closed cases to hold the model against.
#[derive(Debug, Clone, ClapArgs)]
pub struct Args {
    /// A table with the columns `lkp_lat,lkp_lon,find_lat,find_lon,hours,category,environment`, and
    /// `age,mobility,accuracy_m` if there are any
    #[arg(
        value_name = "FILE.csv",
        required_unless_present = "database",
        conflicts_with = "database"
    )]
    file: Option<PathBuf>,
    /// The closed cases in the database whose find is known, instead of a file
    #[arg(long)]
    database: bool,
    /// Own rows of the distance table, which go over the shipped ones; else those of the configuration
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
    /// What to print
    #[arg(long, default_value = "text")]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Calibrates and prints.
///
/// # Errors
/// A file that cannot be read, rows that are no closed cases, a database that does not answer; output that
/// cannot be written.
pub async fn run(args: &Args, config: &Config) -> anyhow::Result<()> {
    let cases = match &args.file {
        Some(file) => from_file(file)?,
        None => from_database(config).await?,
    };
    let own = args.table.as_deref().or(config.area.own_rows.as_deref());
    let result = area::calibrate(&read_table(own)?, &config.area.settings, &cases)?;
    match args.format {
        Format::Text => print(&shown(&result)),
        Format::Json => print(&format!("{}\n", serde_json::to_string_pretty(&result)?)),
    }
}

fn from_file(file: &Path) -> anyhow::Result<Vec<ClosedCase>> {
    let name = file.display();
    let text = std::fs::read_to_string(file).with_context(|| name.to_string())?;
    let cases = match area::closed_cases(&text) {
        Ok(cases) => cases,
        Err(wrong) => {
            let mut told: Vec<String> = wrong.iter().take(TOLD).map(ToString::to_string).collect();
            if wrong.len() > TOLD {
                told.push(format!("and {} more", wrong.len() - TOLD));
            }
            bail!("{name}: nothing was calculated\n{}", told.join("\n"));
        }
    };
    if cases.is_empty() {
        bail!("{name} has no cases below its header");
    }
    Ok(cases)
}

/// What is kept of a closed case: profile, distance and time of the find, but neither of the places.
async fn from_database(config: &Config) -> anyhow::Result<Vec<ClosedCase>> {
    let store = Store::open(config.database_url.expose_secret()).await?;
    let finds = outcomes::finds(&mut store.read().await?).await?;
    store.close().await;
    if finds.is_empty() {
        bail!("the database has no closed case whose find is known: say where when you close one");
    }
    finds
        .into_iter()
        .enumerate()
        .map(|(n, find)| {
            Ok(ClosedCase::at_distance(
                find.profile,
                find.km,
                find.after,
                n,
            )?)
        })
        .collect()
}

fn shown(result: &Calibration) -> String {
    let mut lines = vec![format!("{} closed cases", result.cases), String::new()];
    lines.push("promised  found inside (95 % interval)".to_owned());
    for one in &result.coverage {
        let [low, high] = one.interval.map(|share| share * 100.0);
        lines.push(format!(
            "  {:3.0} %   {:5.1} % ({low:.1} to {high:.1})",
            one.promised * 100.0,
            one.inside * 100.0
        ));
    }
    let rossmo = &result.rossmo;
    lines.push(String::new());
    lines.push(format!(
        "Rossmo's R: mean {:.3} (standard error {:.3}), median {:.3}; {} found outside the box of 25 km count as -1",
        rossmo.mean, rossmo.error, rossmo.median, rossmo.outside
    ));
    lines.push(String::new());
    lines.push(
        "the model's probability of a find as near or nearer (even if it is right):".to_owned(),
    );
    let most = result
        .transform
        .histogram
        .iter()
        .max()
        .copied()
        .unwrap_or(0)
        .max(1);
    for (tenth, count) in result.transform.histogram.iter().enumerate() {
        let bar = "#".repeat(count * 50 / most);
        lines.push(format!("  0.{tenth} {count:5} {bar}"));
    }
    lines.push(format!(
        "largest gap {:.3}, of which the chance is {:.3} if the model is right",
        result.transform.largest_gap, result.transform.p_value
    ));
    lines.push(String::new());
    lines.push("rows for --table that these cases would give:".to_owned());
    lines.push("category,environment,r25_km,r50_km,r75_km,r95_km,source".to_owned());
    let (usable, short): (Vec<_>, Vec<_>) = result
        .rows
        .iter()
        .partition(|row| row.quantiles_km.is_some());
    lines.extend(usable.iter().filter_map(|row| row.as_csv()));
    lines.extend(short.iter().map(|row| {
        format!(
            "# {}, {}: {} cases give no row; 20 are needed, with distances that rise",
            row.category, row.environment, row.cases
        )
    }));
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::area::{DistanceTable, Settings};

    #[test]
    fn what_is_printed_says_what_was_found() {
        let rows: String = (1..=30).fold(String::new(), |rows, k| {
            rows + &format!(
                "57.1,-2.1,{},-2.1,6,dementia,urban\n",
                57.1 + 0.002 * f64::from(k)
            )
        });
        let text = format!(
            "lkp_lat,lkp_lon,find_lat,find_lon,hours,category,environment\n{rows}57,-2,57,-2,1,hiker,dry\n"
        );
        let cases = area::closed_cases(&text).unwrap();
        let table = DistanceTable::shipped().unwrap();
        let told = shown(&area::calibrate(&table, &Settings::default(), &cases).unwrap());
        for part in [
            "31 closed cases",
            "Rossmo's R: mean 0.",
            "\ndementia,urban,",
            "\"own closed cases, n = 30\"",
            "# hiker, dry: 1 cases give no row",
        ] {
            assert!(told.contains(part), "{part} is not in\n{told}");
        }
    }

    #[test]
    fn wrong_rows_are_all_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let header = "lkp_lat,lkp_lon,find_lat,find_lon,hours,category,environment\n";
        let told = |rows: &str| {
            std::fs::write(file.path(), format!("{header}{rows}")).unwrap();
            from_file(file.path()).unwrap_err().to_string()
        };
        let both = told("x,-2.1,57,-2,6,dementia,urban\n57,-2.1,57,-2,6,wizard,urban\n");
        assert!(
            both.contains("line 2: lkp_lat must be a number")
                && both.contains("line 3: unknown category")
        );
        assert!(told(&"1,2\n".repeat(30)).ends_with("and 10 more"));
        assert!(told("").contains("has no cases"));
    }
}
