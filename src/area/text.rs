//! A plan as text, for a terminal or a printout.

use std::time::Duration;

use super::explain::explain;
use super::plan::Plan;

/// A plan in a few lines: radii and waves, why it is this area if that is asked for, and what was assumed.
#[must_use]
pub fn text(plan: &Plan, explained: bool) -> String {
    let radii = plan.radii;
    let mut lines = vec![format!(
        "within {:.2} km: 25 %   {:.2} km: 50 %   {:.2} km: 75 %   {:.2} km: 95 %",
        radii.r25, radii.r50, radii.r75, radii.r95
    )];
    let aside = if plan.sightings.is_empty() {
        ""
    } else {
        ", sightings left out"
    };
    lines.push(format!("of the last known position{aside}"));
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
    if explained {
        lines.push("why:".to_owned());
        lines.extend(explain(plan).into_iter().map(|reason| {
            let source = if reason.source.is_empty() {
                String::new()
            } else {
                format!(" [{}]", reason.source)
            };
            format!("- {}: {}{source}", reason.about, reason.text)
        }));
    }
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
