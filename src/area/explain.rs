//! Why this area: a plan in plain words, for the people who act on it and for those who ask later.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::inputs::{PlanInputs, Search, hours};
use super::law::StaticLaw;
use super::plan::{Plan, Radii};
use super::searched::SearchEffect;
use super::sightings::SightingEffect;
use super::sphere::great_circle_km;
use super::travel::TimeLaw;
use crate::model::{Category, Policy, Transport};

/// One thing that shaped the area.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// What it is about, such as "time" or "sighting S1".
    pub about: String,
    /// What it did, in plain words.
    pub text: String,
    /// Where the figures come from; empty where they are the case's own.
    pub source: String,
}

/// A plan as it is shown on the command line and over REST: what it was made of, what came out, and why. The
/// waves are left to the caller, who knows what has become of them.
#[must_use]
pub fn as_json(plan: &Plan) -> Value {
    json!({
        "inputs": plan.inputs,
        "basis": plan.basis,
        "radii_km": plan.radii,
        "sightings": plan.sightings,
        "searches": plan.searches,
        "resolution": plan.resolution,
        "rest": plan.rest,
        "explanation": explain(plan),
        "assumptions": plan.assumptions,
        "table_digest": plan.table_digest,
    })
}

/// Says what shaped a plan's area, in the order in which it did.
#[must_use]
pub fn explain(plan: &Plan) -> Vec<Reason> {
    let mut reasons = vec![row(plan), law(plan)];
    reasons.push(match plan.basis.movement {
        Some(_) => time(plan),
        None => policy(plan),
    });
    reasons.extend(accuracy(plan));
    reasons.extend(transport(plan));
    reasons.extend(heading(plan));
    reasons.extend(places(&plan.inputs));
    reasons.extend(plan.sightings.iter().map(|effect| sighting(plan, effect)));
    reasons.extend(withdrawn(&plan.inputs));
    reasons.extend(plan.searches.iter().map(|effect| search(plan, effect)));
    reasons.push(waves(plan));
    reasons
}

fn reason(about: impl Into<String>, text: String, source: impl Into<String>) -> Reason {
    Reason {
        about: about.into(),
        text,
        source: source.into(),
    }
}

fn row(plan: &Plan) -> Reason {
    let basis = &plan.basis;
    let [r25, r50, r75] = basis.quartiles_km.map(km);
    let most = basis.r95_km.map_or_else(
        || "; for 95 % there is no figure".to_owned(),
        |r95| format!(" and 95 % within {}", km(r95)),
    );
    let environment = basis
        .environment
        .map_or("any", |environment| environment.name());
    let stands_in = if basis.category == plan.inputs.profile.category {
        String::new()
    } else {
        format!("Planned for as {}. ", basis.category)
    };
    let mobility = match basis.movement {
        Some(_) => format!(", for mobility {}", plan.inputs.profile.mobility),
        None => String::new(),
    };
    let text = format!(
        "{stands_in}Of people of the kind '{}' in the environment '{environment}'{mobility}, a quarter are found within {r25} of where \
         they were last seen, half within {r50}, three quarters within {r75}{most}, however long it takes.",
        basis.category
    );
    reason("distances", text, &basis.source)
}

fn law(plan: &Plan) -> Reason {
    let tail = if plan.basis.r95_km.is_none() {
        "75"
    } else {
        "95"
    };
    let text = format!(
        "A log-normal law joins these distances and goes on beyond the {tail} % one; one in ten is found within 50 m. \
         Places at the same distance are alike unless a reason below says otherwise."
    );
    reason(
        "law",
        text,
        "Cawi, The Lognormal Distance Model: about 10 % of ISRID cases end within 50 m of the start",
    )
}

fn time(plan: &Plan) -> Reason {
    let law = walked(plan);
    let [now, end] = [law.quantile(0.5), plan.basis.quartiles_km[1]];
    let [now95, end95] = [
        law.quantile(0.95),
        StaticLaw::through(plan.basis.quartiles_km, plan.basis.r95_km).quantile(0.95),
    ];
    let lead = if plan.inputs.lead.is_zero() {
        String::new()
    } else {
        format!(
            ", {} from now because people read an alert a while after it is planned",
            clock(hours(plan.inputs.lead))
        )
    };
    let speed = plan
        .basis
        .movement
        .map_or(0.0, |movement| movement.speed_kmh);
    let text = format!(
        "Planned for {} after the person was last seen{lead}. By then half are within {} (in the end {}) and 95 % \
         within {} (in the end {}). At {speed:.1} km/h at most, on streets that are 1.2 times as long as the straight line, \
         nobody is beyond {}.",
        clock(plan.inputs.hours()),
        km(now),
        km(end),
        km(now95),
        km(end95),
        km(law.reach_km())
    );
    let source = if plan.basis.category == Category::Dementia {
        "moving times fitted to the Grampian police's times to find (Gibb and Woolnough 2007), an assumption; speed \
         from Wittwer 2010 and Kasovic 2021"
    } else {
        "moving times and speeds by category: published for 10 to 12 year olds, the despondent and snowboarders, \
         assumed alike for the rest"
    };
    reason("time", text, source)
}

fn policy(plan: &Plan) -> Reason {
    let text = format!(
        "Abducted by vehicle: {} after the abduction the circle of {} is released, and wider ones when their time \
         comes. Inside it the likeliest cells come first.",
        clock(plan.inputs.hours()),
        km(super::policy::radius_km(plan.inputs.hours()))
    );
    reason(
        "policy",
        text,
        "China's child alert: 100, 200, 300 and 500 km at up to 1, 2, 3 and more hours",
    )
}

fn accuracy(plan: &Plan) -> Option<Reason> {
    let accuracy_m = plan.inputs.accuracy_m;
    let exact = Radii::of(&walked(plan), 0.0);
    (accuracy_m > 0.0).then(|| {
        let text = format!(
            "The last known position is right to {accuracy_m:.0} m (68 %). That moves the 50 % distance from {} to {} \
             and the 95 % distance from {} to {}.",
            km(exact.r50), km(plan.radii.r50), km(exact.r95), km(plan.radii.r95)
        );
        reason("accuracy", text, "")
    })
}

fn transport(plan: &Plan) -> Option<Reason> {
    let settings = &plan.settings;
    let share = match plan.inputs.transport {
        Transport::OnFoot | Transport::Unknown => return None,
        Transport::SignOfVehicle => settings.sign_of_vehicle_share,
        Transport::VehicleOrTransit => settings.vehicle_share,
    };
    let [slow, fast] = settings.vehicle_kmh;
    plan.basis.movement.map(|_| {
        let text = format!(
            "With a probability of {} % the person went by vehicle or public transport, and is anywhere in a circle \
             that has grown by {slow:.0} to {fast:.0} km an hour. The walker's circle is not made wider for it.",
            percent(share)
        );
        reason("transport", text, "assumption")
    })
}

fn heading(plan: &Plan) -> Option<Reason> {
    plan.inputs.heading_deg.map(|bearing| {
        let concentration = plan.settings.heading_concentration;
        let text = format!(
            "Heading {bearing:.0}° when last seen: straight ahead is {:.0} times as likely as straight behind, at the \
             same distance.",
            libm::exp(2.0 * concentration)
        );
        reason("direction", text, "assumption; without a known direction all are alike, as in 88 real cases")
    })
}

fn places(inputs: &PlanInputs) -> Option<Reason> {
    (!inputs.known_places.is_empty()).then(|| {
        let away: Vec<String> = inputs
            .known_places
            .iter()
            .map(|place| format!("{} away", km(great_circle_km(inputs.lkp, place.position))))
            .collect();
        let text = format!(
            "{} known place(s), {}: those within reach share 10 to 25 % of the map.",
            away.len(),
            away.join(", ")
        );
        reason("known places", text, "assumption")
    })
}

fn sighting(plan: &Plan, effect: &SightingEffect) -> Reason {
    let seen = &plan.inputs.sightings[effect.index];
    let what = format!(
        "Reported {} after the person was last seen, {} from the last known position, and credible to {} %.",
        clock(hours(seen.after)),
        km(great_circle_km(plan.inputs.lkp, seen.position)),
        percent(seen.credibility)
    );
    let text = if effect.out_of_reach {
        format!("{what} Nobody gets there on foot by then, so it changes nothing.")
    } else {
        format!(
            "{what} The map of that time made a true report from there {:.1} times as likely as a false one; with \
             its credibility it is true with a probability of {} %. It shapes {} % of the map now: half of those who \
             were there are within {} of it by now, 95 % within {}.",
            effect.true_per_km2 / effect.false_per_km2,
            percent(effect.weight),
            percent(effect.remaining),
            km(effect.radii.r50),
            km(effect.radii.r95)
        )
    };
    reason(named("sighting", &seen.name, effect.index), text, "")
}

fn withdrawn(inputs: &PlanInputs) -> Option<Reason> {
    let count = inputs
        .sightings
        .iter()
        .filter(|seen| seen.withdrawn)
        .count();
    (count > 0).then(|| {
        reason(
            "sightings",
            format!("{count} withdrawn, or from before the person was last seen: without effect."),
            "",
        )
    })
}

fn search(plan: &Plan, effect: &SearchEffect) -> Reason {
    let search = &plan.inputs.looked_for[effect.index];
    let begun = clock(hours(search.after));
    let (about, what, source) = match &search.by {
        Search::Alert(cells) => {
            let people: f64 = cells.iter().map(|(_, people)| people).sum();
            let effort = plan.settings.alert_effort;
            (
                "alert",
                format!("{people:.0} people were alerted {begun} after the person was last seen"),
                format!(
                    "effort {effort} over {} h: Korean alerts led to a find in 24.3 to 35.9 % of cases",
                    plan.settings.alert_effort_h
                ),
            )
        }
        Search::Ground { detection, .. } => (
            "search",
            format!(
                "A search on the ground, {begun} after the person was last seen, would have found them there with a \
                 probability of {} %",
                percent(*detection)
            ),
            String::new(),
        ),
    };
    let text = format!(
        "{what}, and nobody found them: with all alerts and searches the probability of being there falls from {} to \
         {} %.",
        percent(effect.before),
        percent(effect.after)
    );
    reason(named(about, &search.name, effect.index), text, source)
}

fn waves(plan: &Plan) -> Reason {
    let all: Vec<String> = plan
        .waves
        .iter()
        .map(|wave| {
            format!(
                "wave {} {} % in {} cells",
                wave.number,
                percent(wave.mass),
                wave.cells.len()
            )
        })
        .collect();
    let how = match plan.inputs.policy {
        None if plan.basis.movement.is_some() => {
            "The fewest cells that reach 50, 75 and 95 %, best first"
        }
        None | Some(Policy::AbductionByVehicle) => "The cells of each circle, best first",
    };
    let text = format!(
        "{how}: {}. {} % is elsewhere.",
        all.join(", "),
        percent(plan.rest)
    );
    reason("waves", text, "")
}

/// The law of the walker's distance from the last known position.
fn walked(plan: &Plan) -> TimeLaw {
    let basis = &plan.basis;
    let law = StaticLaw::through(basis.quartiles_km, basis.r95_km);
    match basis.movement {
        Some(movement) => TimeLaw::new(
            law,
            movement,
            plan.settings.spread_exponent,
            0.0,
            plan.inputs.hours(),
        ),
        None => TimeLaw::settled(law, super::policy::radius_km(plan.inputs.hours())),
    }
}

fn named(what: &str, name: &str, index: usize) -> String {
    if name.is_empty() {
        format!("{what} {}", index + 1)
    } else {
        format!("{what} {name}")
    }
}

fn km(km: f64) -> String {
    if km < 0.995 {
        format!("{:.0} m", km * 1_000.0)
    } else if km < 9.995 {
        format!("{km:.2} km")
    } else if km < 99.5 {
        format!("{km:.1} km")
    } else {
        format!("{km:.0} km")
    }
}

/// A share in percent: whole ones, and tenths at either end.
fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    if (9.95..=90.05).contains(&percent) {
        format!("{percent:.0}")
    } else {
        format!("{percent:.1}")
    }
}

fn clock(hours: f64) -> String {
    let minutes = libm::round(hours * 60.0);
    if minutes < 100.0 {
        format!("{minutes:.0} min")
    } else if hours < 72.0 {
        format!(
            "{:.0} h {:02.0} min",
            libm::floor(minutes / 60.0),
            libm::fmod(minutes, 60.0)
        )
    } else {
        format!("{:.0} days", hours / 24.0)
    }
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
