//! `homeward plan`: the area model alone, on the command line.

use std::io::{ErrorKind, Write as _};
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args as ClapArgs, ValueEnum};
use serde_json::json;

use crate::area::{self, DistanceTable, Plan, PlanInputs, PlannedWave, Settings};
use crate::model::{Category, Cell, Environment, Mobility, Position, Profile, UnknownName};

/// Where a person is likely to be.
#[derive(Debug, Clone, ClapArgs)]
pub struct Args {
    /// Kind of missing person
    #[arg(long, value_parser = one_of(Category::ALL, Category::name))]
    category: Category,
    /// Kind of country round the last known position
    #[arg(long, value_parser = one_of(Environment::ALL, Environment::name))]
    environment: Environment,
    /// Last known position in degrees, such as 57.1497,-2.0943
    #[arg(long, value_name = "LAT,LON", value_parser = position, allow_hyphen_values = true)]
    at: Position,
    /// Time since the person was last seen, such as 90s, 30m, 2h, 1h30m or 1d
    #[arg(long, value_parser = duration)]
    elapsed: Duration,
    /// Age in years
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=120))]
    age: Option<u8>,
    /// How the person gets about
    #[arg(long, default_value = "normal", value_parser = one_of(Mobility::ALL, Mobility::name))]
    mobility: Mobility,
    /// Radius holding 68 % of the last known position's error, such as 100m or 0.5km
    #[arg(long, default_value = "0m", value_parser = metres)]
    accuracy: f64,
    /// How far ahead to plan
    #[arg(long, default_value = "0m", value_parser = duration)]
    lead: Duration,
    /// What to print
    #[arg(long, default_value = "text")]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
    Geojson,
}

/// Plans and prints.
///
/// # Errors
/// What the model has no answer for, such as an abduction; output that cannot be written.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let profile = Profile {
        category: args.category,
        age: args.age,
        mobility: args.mobility,
        environment: args.environment,
    };
    let inputs = PlanInputs {
        accuracy_m: args.accuracy,
        lead: args.lead,
        ..PlanInputs::new(profile, args.at, args.elapsed)
    };
    let plan = area::plan(&DistanceTable::shipped()?, &Settings::default(), &inputs)?;
    let shown = match args.format {
        Format::Text => text(&plan),
        Format::Json => format!("{:#}\n", json(&plan)),
        Format::Geojson => format!("{}\n", area::feature_collection(&plan)?),
    };
    match std::io::stdout().lock().write_all(shown.as_bytes()) {
        // Whoever reads it, such as `head`, has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("printing the plan"),
    }
}

fn json(plan: &Plan) -> serde_json::Value {
    let waves: Vec<_> = plan
        .waves
        .iter()
        .map(|wave| {
            json!({
                "number": wave.number,
                "delay_s": wave.delay.as_secs(),
                "mass": wave.mass,
                "cells": area::compact(&cells(wave)),
            })
        })
        .collect();
    json!({
        "radii_km": plan.radii,
        "resolution": plan.resolution,
        "waves": waves,
        "rest": plan.rest,
        "assumptions": plan.assumptions,
        "table_digest": plan.table_digest,
    })
}

fn text(plan: &Plan) -> String {
    let radii = plan.radii;
    let mut lines = vec![format!(
        "within {:.2} km: 25 %   {:.2} km: 50 %   {:.2} km: 75 %   {:.2} km: 95 %",
        radii.r25, radii.r50, radii.r75, radii.r95
    )];
    lines.push(format!("cells of H3 resolution {}", plan.resolution));
    for wave in &plan.waves {
        let km2: f64 = wave
            .cells
            .iter()
            .map(|one| one.cell.index().area_km2())
            .sum();
        lines.push(format!(
            "wave {} {:>8}: {:5.1} % in {:4} cells, {km2:8.1} km²",
            wave.number,
            after(wave.delay),
            wave.mass * 100.0,
            wave.cells.len(),
        ));
    }
    lines.push(format!("elsewhere      : {:5.1} %", plan.rest * 100.0));
    lines.push("assumed:".to_owned());
    lines.extend(plan.assumptions.iter().map(|one| format!("- {one}")));
    lines.join("\n") + "\n"
}

fn after(delay: Duration) -> String {
    match delay.as_secs() / 60 {
        0 => "at once".to_owned(),
        minutes => format!("+{minutes} min"),
    }
}

fn cells(wave: &PlannedWave) -> Vec<Cell> {
    wave.cells.iter().map(|one| one.cell).collect()
}

/// Takes the names of an enum, and lists them in the help and in errors.
fn one_of<T>(all: &[T], name: fn(T) -> &'static str) -> impl TypedValueParser<Value = T>
where
    T: Copy + FromStr<Err = UnknownName> + Send + Sync + 'static,
{
    PossibleValuesParser::new(all.iter().map(|one| name(*one))).try_map(|name| name.parse())
}

fn position(given: &str) -> Result<Position, String> {
    let degrees = |text: &str| text.trim().parse::<f64>().ok();
    let (lat, lon) = given
        .split_once(',')
        .and_then(|(lat, lon)| Some((degrees(lat)?, degrees(lon)?)))
        .ok_or("expected latitude and longitude in degrees, such as 57.1497,-2.0943")?;
    Position::new(lat, lon).map_err(|error| error.to_string())
}

fn metres(given: &str) -> Result<f64, String> {
    let (number, scale) = match given.strip_suffix("km") {
        Some(number) => (number, 1_000.0),
        None => (given.strip_suffix('m').unwrap_or_default(), 1.0),
    };
    unsigned(number)
        .map(|number| number * scale)
        .ok_or_else(|| "expected a length such as 100m or 0.5km".to_owned())
}

fn duration(given: &str) -> Result<Duration, String> {
    let wrong = || "expected a duration such as 90s, 30m, 2h, 1h30m or 1d".to_owned();
    let mut seconds = 0.0;
    let mut rest = given;
    let mut units = [('d', 86_400.0), ('h', 3_600.0), ('m', 60.0), ('s', 1.0)].into_iter();
    while !rest.is_empty() {
        let end = rest
            .find(|letter: char| letter.is_ascii_alphabetic())
            .ok_or_else(wrong)?;
        let (number, unit) = rest.split_at(end);
        // Each unit once, from the longest down.
        let (_, scale) = units
            .find(|(name, _)| unit.starts_with(*name))
            .ok_or_else(wrong)?;
        seconds += unsigned(number).ok_or_else(wrong)? * scale;
        rest = &unit[1..];
    }
    if given.is_empty() {
        return Err(wrong());
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

/// A plain decimal number: no sign, no exponent.
fn unsigned(text: &str) -> Option<f64> {
    let plain = text
        .chars()
        .all(|letter| letter.is_ascii_digit() || letter == '.');
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        plan: Args,
    }

    fn parse(extra: &[&str]) -> Result<Args, clap::Error> {
        let start = ["plan", "--category", "dementia", "--environment", "urban"];
        Command::try_parse_from(start.iter().chain(extra)).map(|command| command.plan)
    }

    #[test]
    fn positions_south_and_west() {
        for at in [
            &["--at", "-33.4,-70.6"][..],
            &["--at=-33.4,-70.6"],
            &["--at", "-33.4, -70.6"],
        ] {
            let args = parse(&[at, &["--elapsed", "2h"]].concat()).unwrap();
            assert_eq!(args.at, Position::new(-33.4, -70.6).unwrap());
        }
    }

    #[test]
    fn durations() {
        for (given, seconds) in [
            ("90s", 90),
            ("30m", 1_800),
            ("2h", 7_200),
            ("1h30m", 5_400),
            ("1d", 86_400),
            ("0m", 0),
        ] {
            assert_eq!(duration(given), Ok(Duration::from_secs(seconds)), "{given}");
        }
        assert_eq!(duration("1.5h"), Ok(Duration::from_mins(90)));
        for given in [
            "",
            "2",
            "h",
            "30m1h",
            "1h1h",
            "-1h",
            "2x",
            "1e3s",
            "2hé",
            "9999999999999999999999d",
        ] {
            assert!(duration(given).is_err(), "{given}");
        }
    }

    #[test]
    fn lengths() {
        assert_eq!(metres("100m").map(f64::to_bits), Ok(100.0_f64.to_bits()));
        assert_eq!(metres("0.5km").map(f64::to_bits), Ok(500.0_f64.to_bits()));
        for given in ["", "m", "km", "100", "-5m", "1e3m", "infm", "NaNkm"] {
            assert!(metres(given).is_err(), "{given}");
        }
    }

    #[test]
    fn errors_name_the_option_what_was_given_and_what_is_accepted() {
        let told = |extra: &[&str]| match parse(extra) {
            Ok(args) => panic!("accepted {args:?}"),
            Err(error) => {
                assert_eq!(error.exit_code(), 2);
                error.to_string()
            }
        };
        let error = told(&["--at", "91,0", "--elapsed", "2h"]);
        assert!(error.contains("--at") && error.contains("91") && error.contains("-90 to 90"));
        let error = told(&["--at", "0,0", "--elapsed", "soon"]);
        assert!(error.contains("--elapsed") && error.contains("'soon'") && error.contains("1h30m"));
        let error = told(&["--at", "0,0", "--elapsed", "2h", "--mobility", "wings"]);
        assert!(error.contains("--mobility") && error.contains("'wings'"));
        assert!(error.contains("wheelchair_manual"), "{error}");
    }
}
