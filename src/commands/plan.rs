//! `homeward plan`: the area model alone, on the command line.

mod values;

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args as ClapArgs, ValueEnum};
use serde_json::json;

use self::values::{bearing, duration, known_place, metres, one_of, percent, position, sighting};
use crate::area::{self, HowFar, Plan, PlanInputs, PlannedWave, SeenAt};
use crate::config::Config;
use crate::model::{
    Category, Cell, Environment, KnownPlace, Mobility, Policy, Position, Profile, Transport,
};
use crate::planning::read_table;

/// Where a person is likely to be.
#[derive(Debug, Clone, ClapArgs)]
pub struct Args {
    /// The whole case as JSON, as a plan keeps its inputs, instead of the options below
    #[arg(long, value_name = "FILE")]
    case: Option<PathBuf>,
    /// Kind of missing person
    #[arg(long, value_parser = one_of(Category::ALL, Category::name), required_unless_present = "case")]
    category: Option<Category>,
    /// Kind of country round the last known position
    #[arg(
        long,
        value_parser = one_of(Environment::ALL, Environment::name),
        required_unless_present = "case"
    )]
    environment: Option<Environment>,
    /// Last known position in degrees, such as 57.1497,-2.0943
    #[arg(
        long,
        value_name = "LAT,LON",
        value_parser = position,
        allow_hyphen_values = true,
        required_unless_present = "case"
    )]
    at: Option<Position>,
    /// Time since the person was last seen, such as 90s, 30m, 2h, 1h30m or 1d
    #[arg(long, value_parser = duration, required_unless_present = "case")]
    elapsed: Option<Duration>,
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
    /// How the person left
    #[arg(long, default_value = "unknown", value_parser = one_of(Transport::ALL, Transport::name))]
    transport: Transport,
    /// Where the person was heading, in degrees clockwise from north
    #[arg(long, value_name = "DEGREES", value_parser = bearing)]
    heading: Option<f64>,
    #[arg(
        long,
        value_name = "KIND,LAT,LON,WEIGHT",
        value_parser = known_place,
        allow_hyphen_values = true,
        help = "A place that draws the person (home, former_home, work, favourite), and how likely they are there \
                (repeatable)"
    )]
    known_place: Vec<KnownPlace>,
    /// A report that the person was seen, so long after they were last seen, with its credibility, 0
    /// to 1, and the radius holding 68 % of its error (repeatable)
    #[arg(
        long,
        value_name = "LAT,LON,AFTER,CREDIBILITY,ACCURACY",
        value_parser = sighting,
        allow_hyphen_values = true
    )]
    sighting: Vec<SeenAt>,
    /// Release circles of 100 to 500 km by the hour, as for an abduction by vehicle
    #[arg(long)]
    abducted_by_vehicle: bool,
    /// Own rows of the distance table, which go over the shipped ones; else those of the configuration
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
    /// Say how likely the person is within this distance of the last known position, taken as exact
    /// (repeatable; in text and JSON)
    #[arg(long, value_name = "DISTANCE", value_parser = metres)]
    within: Vec<f64>,
    /// Say which distance holds this many percent of such people (repeatable; in text and JSON)
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    holding: Vec<f64>,
    /// Say in plain words why it is this area (JSON always does)
    #[arg(long)]
    explain: bool,
    /// What to print
    #[arg(long, default_value = "text")]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
    Geojson,
    Svg,
}

/// Plans and prints.
///
/// # Errors
/// A file that cannot be read or used, numbers out of bounds; output that cannot be written.
pub fn run(args: &Args, config: &Config) -> anyhow::Result<()> {
    let inputs = match &args.case {
        Some(file) => read_case(file)?,
        None => inputs(args)?,
    };
    let own = args.table.as_deref().or(config.area.own_rows.as_deref());
    let (table, settings) = (read_table(own)?, &config.area.settings);
    let plan = area::plan(&table, settings, &inputs)?;
    let asked = Asked::of(args, &HowFar::of(&table, settings, &inputs)?);
    print(&match args.format {
        Format::Text => asked.text() + &area::text(&plan, args.explain),
        Format::Json => format!("{:#}\n", json(&plan, &asked)),
        Format::Geojson => format!("{}\n", area::feature_collection(&plan)?),
        Format::Svg => area::svg(&plan),
    })
}

/// Distances and shares that were asked for beside the plan's own, in pairs of km and share.
struct Asked {
    within: Vec<(f64, f64)>,
    holding: Vec<(f64, f64)>,
}

impl Asked {
    fn of(args: &Args, how_far: &HowFar) -> Self {
        let kilometres = args.within.iter().map(|metres| metres / 1_000.0);
        let shares = args.holding.iter();
        Self {
            within: kilometres.map(|km| (km, how_far.within(km))).collect(),
            holding: shares
                .map(|share| (how_far.holding(*share), *share))
                .collect(),
        }
    }

    fn text(&self) -> String {
        let pairs = self.within.iter().chain(&self.holding);
        let line =
            |(km, share): &(f64, f64)| format!("within {km:.3} km: {:.3} %\n", share * 100.0);
        pairs.map(line).collect::<Vec<_>>().concat()
    }

    fn json(pairs: &[(f64, f64)]) -> serde_json::Value {
        pairs
            .iter()
            .map(|(km, share)| json!({ "km": km, "probability": share }))
            .collect()
    }
}

/// Prints to standard output. Whoever reads it, such as `head`, may have seen enough.
///
/// # Errors
/// Output that cannot be written.
pub fn print(shown: &str) -> anyhow::Result<()> {
    match std::io::stdout().lock().write_all(shown.as_bytes()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written.context("printing the result"),
    }
}

fn read_case(file: &Path) -> anyhow::Result<PlanInputs> {
    let named = || format!("the case {}", file.display());
    let text = std::fs::read_to_string(file).with_context(named)?;
    let mut json = serde_json::Deserializer::from_str(&text);
    serde_path_to_error::deserialize(&mut json).with_context(named)
}

fn inputs(args: &Args) -> anyhow::Result<PlanInputs> {
    let missing = "needs --category, --environment, --at and --elapsed, or --case";
    let profile = Profile {
        category: args.category.context(missing)?,
        age: args.age,
        mobility: args.mobility,
        environment: args.environment.context(missing)?,
    };
    let (at, elapsed) = (args.at.context(missing)?, args.elapsed.context(missing)?);
    Ok(PlanInputs {
        accuracy_m: args.accuracy,
        lead: args.lead,
        transport: args.transport,
        heading_deg: args.heading,
        known_places: args.known_place.clone(),
        sightings: args.sighting.clone(),
        policy: args
            .abducted_by_vehicle
            .then_some(Policy::AbductionByVehicle),
        ..PlanInputs::new(profile, at, elapsed)
    })
}

fn json(plan: &Plan, asked: &Asked) -> serde_json::Value {
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
    let mut shown = area::as_json(plan);
    shown["waves"] = json!(waves);
    shown["within"] = Asked::json(&asked.within);
    shown["holding"] = Asked::json(&asked.holding);
    shown
}

fn cells(wave: &PlannedWave) -> Vec<Cell> {
    wave.cells.iter().map(|one| one.cell).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::area::Settings;

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
            assert_eq!(args.at, Some(Position::new(-33.4, -70.6).unwrap()));
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

    #[test]
    fn a_case_file_takes_the_place_of_the_options() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = r#"{"profile": {"category": "dementia", "mobility": "normal", "environment": "urban"},
            "lkp": {"lat": 57.1497, "lon": -2.0943}, "elapsed_s": 7200,
            "sightings": [{"position": {"lat": 57.155, "lon": -2.09}, "after_s": 3600, "credibility": 0.8}]}"#;
        std::fs::write(file.path(), text).unwrap();
        let path = file.path().to_str().unwrap();
        let args = Command::try_parse_from(["plan", "--case", path])
            .map(|command| command.plan)
            .unwrap();
        assert_eq!(args.case.as_deref(), Some(file.path()));
        let inputs = read_case(file.path()).unwrap();
        let plan = area::plan(&read_table(None).unwrap(), &Settings::default(), &inputs).unwrap();
        let asked = Asked {
            within: Vec::new(),
            holding: Vec::new(),
        };
        let json = json(&plan, &asked);
        assert_eq!(json["sightings"].as_array().unwrap().len(), 1);
        assert!(json["explanation"].as_array().unwrap().len() > 4);
        let told = area::text(&plan, true);
        assert!(
            told.contains("why:\n- distances: ")
                && told.contains("- sighting 1: Reported 60 min after"),
            "{told}"
        );
        assert!(!area::text(&plan, false).contains("why:"));

        std::fs::write(file.path(), text.replace("0.8", "\"high\"")).unwrap();
        let told = format!("{:#}", read_case(file.path()).unwrap_err());
        assert!(told.contains("sightings[0].credibility"), "{told}");
        assert!(Command::try_parse_from(["plan", "--category", "dementia"]).is_err());
    }

    #[test]
    fn own_rows_are_read_and_a_wrong_one_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let header = "category,environment,r25_km,r50_km,r75_km,r95_km,source";
        std::fs::write(
            file.path(),
            format!("{header}\ndementia,urban,0.2,0.1,2,7,own\n"),
        )
        .unwrap();
        let told = format!("{:#}", read_table(Some(file.path())).unwrap_err());
        assert!(
            told.contains("own rows") && told.contains("line 2 (dementia,urban)"),
            "{told}"
        );
        std::fs::write(
            file.path(),
            format!("{header}\ndementia,urban,0.2,0.9,2,7,own\n"),
        )
        .unwrap();
        let own = read_table(Some(file.path())).unwrap();
        assert_ne!(own.digest(), read_table(None).unwrap().digest());
    }
}
