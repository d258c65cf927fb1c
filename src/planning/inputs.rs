//! What of all that is known of a case the area model is told: pure.

use std::collections::HashSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::facts::Facts;
use crate::area::{LookedFor, Plan, PlanInputs, Search, SeenAt};
use crate::model::{Case, Report, Sighting, SightingId, SightingReport, SightingState};

/// The inputs of a plan made now, for `lead` later.
///
/// Sightings that are new or rejected are left out; those taken back, and those from before the last
/// known position, go in without effect. Searches from before it are left out, because they say nothing
/// about where the person went from there.
#[must_use]
pub fn inputs(
    case: &Case,
    report: &Report,
    facts: &Facts,
    lead: Duration,
    now: Timestamp,
) -> PlanInputs {
    let seen_at = report.lkp.at;
    let elapsed = since(seen_at, now);
    // The clock of who reports may run ahead of ours.
    let after = |at: Timestamp| since(seen_at, at).min(elapsed);
    let sightings = given(facts)
        .map(|(sighting, report)| SeenAt {
            name: format!("{} ({})", sighting.id, sighting.source),
            position: report.position,
            accuracy_m: report.accuracy_m,
            after: after(sighting.seen_at),
            credibility: sighting.credibility,
            false_reports_per_km2: None,
            withdrawn: sighting.state == SightingState::Withdrawn || sighting.seen_at < seen_at,
        })
        .collect();
    // Who looked before the person was last seen did not miss them since.
    let alerted = facts
        .alerted
        .iter()
        .filter(|wave| wave.at >= seen_at)
        .map(|wave| LookedFor {
            name: format!("wave {}", wave.wave),
            after: after(wave.at),
            by: Search::Alert(wave.cells.clone()),
        });
    let searched = facts
        .searches
        .iter()
        .filter(|search| !search.withdrawn && search.searched_at >= seen_at)
        .map(|search| LookedFor {
            name: search.number.to_string(),
            after: after(search.searched_at),
            by: Search::Ground {
                cells: search.cells.clone(),
                detection: search.detection,
            },
        });
    let clues = &report.clues;
    PlanInputs {
        accuracy_m: report.lkp.accuracy_m,
        lead,
        transport: clues.transport,
        heading_deg: clues.heading_deg,
        known_places: clues.known_places.clone(),
        sightings,
        looked_for: alerted.chain(searched).collect(),
        policy: clues.policy,
        ..PlanInputs::new(case.profile, report.lkp.position, elapsed)
    }
}

/// The sightings that a plan is told of, in its order.
fn given(facts: &Facts) -> impl Iterator<Item = (&Sighting, &SightingReport)> {
    let told = [SightingState::Accepted, SightingState::Withdrawn];
    facts
        .sightings
        .iter()
        .filter(move |sighting| told.contains(&sighting.state))
        .filter_map(|sighting| Some((sighting, sighting.report.as_ref()?)))
}

/// The sightings that a plan made from these facts takes for more likely true than not.
#[must_use]
pub fn believed(facts: &Facts, plan: &Plan) -> HashSet<SightingId> {
    let given: Vec<SightingId> = given(facts).map(|(sighting, _)| sighting.id).collect();
    let likely = plan.sightings.iter().filter(|effect| effect.weight > 0.5);
    likely
        .filter_map(|effect| given.get(effect.index).copied())
        .collect()
}

/// From one moment to another; nothing if that is earlier.
fn since(from: Timestamp, to: Timestamp) -> Duration {
    let passed = to.duration_since(from).max(SignedDuration::ZERO);
    Duration::try_from(passed).unwrap_or(Duration::ZERO)
}
