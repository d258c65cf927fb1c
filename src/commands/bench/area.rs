//! Plans, and the ranges of cells that a wide area becomes.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::json;

use super::{median, memory, say};
use crate::area::{self, DistanceTable, LookedFor, Plan, PlanInputs, Search, SeenAt, Settings};
use crate::model::{Category, Cell, Environment, Mobility, Policy, Position, Profile};
use crate::planning::read_table;

/// Where everything happens.
const PLACE: (f64, f64) = (57.1497, -2.0943);
/// People told in each alerted cell.
const ALERTED: f64 = 40.0;

/// What to measure with.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How often each is measured.
    #[arg(long, default_value_t = 21)]
    rounds: usize,
}

/// Measures and prints.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let (table, settings) = (read_table(None)?, Settings::default());
    let plan = |inputs: &PlanInputs| anyhow::Ok(area::plan(&table, &settings, inputs)?);
    let alone = case(2)?;
    // Before anything else has grown the heap: three waves' cells and two plans, of which the second knows all.
    let plan_mib = memory::peak_of(|| plan(&with_news(&table, &settings)?))?;
    let learnt = with_news(&table, &settings)?;
    let policy = PlanInputs {
        policy: Some(Policy::AbductionByVehicle),
        ..case(5)?
    };
    let disc = cells(&plan(&policy)?);
    let things: [(&str, &dyn Fn() -> anyhow::Result<usize>); 4] = [
        ("plan, dementia urban", &|| Ok(cells(&plan(&alone)?).len())),
        ("plan, five sightings and three alerted waves", &|| {
            Ok(cells(&plan(&learnt)?).len())
        }),
        ("plan by policy, 500 km", &|| {
            Ok(cells(&plan(&policy)?).len())
        }),
        ("its disc to ranges", &|| Ok(area::ranges(&disc).len())),
    ];
    let mut report = json!({ "plan_peak_mib": plan_mib });
    for (name, thing) in things {
        let mut times = Vec::new();
        let mut made = thing()?;
        for _ in 0..args.rounds.max(1) {
            let begun = Instant::now();
            made = black_box(thing()?);
            times.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        let ms = median(times);
        say(&format!("{name}: {ms:.1} ms ({made})"))?;
        report[name] = json!({ "ms": ms, "made": made });
    }
    say(&format!(
        "memory of a plan and all that goes into it: {plan_mib:.1} MiB"
    ))?;
    say(&report.to_string())
}

fn case(hours: u64) -> anyhow::Result<PlanInputs> {
    let profile = Profile {
        category: Category::Dementia,
        age: Some(82),
        mobility: Mobility::Normal,
        environment: Environment::Urban,
    };
    let at = Position::new(PLACE.0, PLACE.1).context("the place")?;
    Ok(PlanInputs::new(profile, at, Duration::from_hours(hours)))
}

/// A case of five hours, with what came of three waves and five reports.
fn with_news(table: &DistanceTable, settings: &Settings) -> anyhow::Result<PlanInputs> {
    let mut inputs = case(5)?;
    for (minutes, wave) in (30..)
        .step_by(30)
        .zip(area::plan(table, settings, &inputs)?.waves)
    {
        let cells = wave.cells.iter().map(|one| (one.cell, ALERTED));
        inputs.looked_for.push(LookedFor {
            name: format!("wave {}", wave.number),
            after: Duration::from_mins(minutes),
            by: Search::Alert(cells.collect()),
        });
    }
    for number in 1..=5_u32 {
        let off = 0.004 * f64::from(number);
        inputs.sightings.push(SeenAt {
            name: number.to_string(),
            position: Position::new(PLACE.0 + off, PLACE.1 + off).context("a sighting")?,
            accuracy_m: 50.0,
            after: Duration::from_mins(u64::from(number) * 40),
            credibility: 0.7,
            false_reports_per_km2: None,
            withdrawn: false,
        });
    }
    Ok(inputs)
}

fn cells(plan: &Plan) -> Vec<Cell> {
    plan.cells().map(|one| one.cell).collect()
}
