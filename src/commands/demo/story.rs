//! The story: a case is filed, verified, planned, told, seen, closed and recalled, all through the
//! interfaces that agencies, operators and apps use.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use futures_util::future::try_join_all;
use indicatif::HumanCount;
use jiff::{SignedDuration, Timestamp};
use reqwest::Body;
use serde::Serialize;
use serde_json::{Value, json};

use super::apps::Pushes;
use super::cast::Cast;
use super::city::{self, APPS, City};
use super::picture::Picture;
use super::screen::{Screen, line, row};
use crate::commands::rest::Rest;
use crate::model::Check;
use crate::store::Store;

/// Where the person is seen and found: km east and north of the last known position.
const SEEN_AT_KM: (f64, f64) = (0.6, 0.4);

/// What the story needs.
pub struct Story<'a> {
    /// Where it is told.
    pub screen: &'a Screen,
    /// The server.
    pub rest: &'a Rest,
    /// The server's database, for its clock.
    pub store: &'a Store,
    /// Who takes part.
    pub cast: &'a Cast,
    /// What the apps are pushed.
    pub pushes: &'a mut Pushes,
}

/// How it went: the last line of `--once`.
#[derive(Debug, Serialize)]
pub struct Figures {
    told: u64,
    batches: usize,
    not_told: BTreeMap<String, u64>,
    recalled: u64,
    first_push_ms: u64,
}

impl Story<'_> {
    /// Tells it; gives the id of the case and how it went.
    ///
    /// # Errors
    /// Names the step that failed, with the server's problem document.
    pub async fn tell(&mut self) -> anyhow::Result<(String, Figures)> {
        self.close_leftovers()
            .await
            .context("closing what an earlier run left open")?;
        self.register().await.context("the step 'City' failed")?;
        let case = self.file().await.context("the step 'Case' failed")?;
        let asked = Instant::now();
        self.verify(&case)
            .await
            .context("the step 'Verification' failed")?;
        self.show_plan(&case)
            .await
            .context("the step 'Plan' failed")?;
        let (round, told) = self
            .push(&case, asked)
            .await
            .context("the step 'Wave 1' failed")?;
        let first = told.first.as_ref().context("nobody was told")?;
        let alert = first.alert.alert_id.clone();
        let first_push_ms = first.at.duration_since(asked).as_millis();
        let sighting = self
            .sight(&alert)
            .await
            .context("the step 'Sighting' failed")?;
        self.close(&case, &sighting)
            .await
            .context("the step 'Outcome' failed")?;
        let recalled = self
            .recall(&case, &alert, &told, &round)
            .await
            .context("the step 'Recall' failed")?;
        let figures = Figures {
            told: told.people(),
            batches: told.batches(),
            not_told: round.not_told,
            recalled,
            first_push_ms: u64::try_from(first_push_ms).unwrap_or(u64::MAX),
        };
        self.screen.step(
            "Done",
            &format!(
                "{} people were told, in {} batches, and got the recall.",
                HumanCount(figures.told),
                figures.batches
            ),
        );
        Ok((case, figures))
    }

    /// An earlier run may have been stopped in the middle of its story.
    async fn close_leftovers(&self) -> anyhow::Result<()> {
        let key = &self.cast.operator;
        let mut closed = 0;
        for state in ["submitted", "active", "paused"] {
            let path = format!("/v1/cases?state={state}&limit=500");
            let page = self.rest.get(key, &path).await?;
            for case in page["items"].as_array().into_iter().flatten() {
                let path = format!("/v1/cases/{}/close", text(&case["id"])?);
                let body = json!({ "outcome": "not_missing" });
                self.rest.post(key, &path, &body).await?;
                closed += 1;
            }
        }
        if closed > 0 {
            line(&format!(
                "Cases that an earlier run left open, now closed as not_missing: {closed}."
            ));
        }
        Ok(())
    }

    /// Every app registers its subscribers.
    async fn register(&self) -> anyhow::Result<()> {
        let city = Arc::new(City::build()?);
        self.screen.step(
            "City",
            &format!(
                "{} subscribers of three partner apps; {} people, {} % of whom use two of them. \
                 Known of each: a token that only the app can read, and a cell of 0.1 km². No \
                 name, no number, no exact position.",
                HumanCount(city::SUBSCRIBERS as u64),
                HumanCount(city.people as u64),
                city::IN_TWO_APPS,
            ),
        );
        let now = self.store.now().await?;
        let sizes: [u64; APPS.len()] = std::array::from_fn(|app| city.of_app(app) as u64);
        let started = Instant::now();
        let progress = self
            .screen
            .progress("registered", sizes, |_| "registered".to_owned());
        let uploads = (0..APPS.len()).map(|app| {
            let lines = city.upload(app, now, progress.bar(app));
            let lines = futures_util::stream::iter(lines.map(Ok::<_, std::convert::Infallible>));
            self.rest
                .upload(&self.cast.apps[app], Body::wrap_stream(lines))
        });
        let reports = try_join_all(uploads).await?;
        drop(progress);
        let took = started.elapsed();
        for (app, report) in reports.iter().enumerate() {
            let (lines, changed) = (report["lines"].as_u64(), report["changed"].as_u64());
            ensure!(
                lines == Some(sizes[app]) && changed == lines,
                "{}: {} lines were sent, but the server says {report}",
                APPS[app].0,
                sizes[app]
            );
            row(APPS[app].0, sizes[app], "registered");
        }
        let per_s = city::SUBSCRIBERS as u128 * 1_000 / took.as_millis().max(1);
        self.screen.aside(&format!(
            "by PUT /v1/subscribers, three streams of NDJSON at once: {:.1} s, {} rows/s",
            took.as_secs_f64(),
            HumanCount(u64::try_from(per_s).unwrap_or(u64::MAX))
        ));
        Ok(())
    }

    /// The agency files the case.
    async fn file(&self) -> anyhow::Result<String> {
        let now = self.store.now().await?;
        let filing = filing(now - SignedDuration::from_hours(1))?;
        self.screen.step(
            "Case",
            "The agency Demo Relief reports: a woman of 82 with dementia is missing. Last known \
             position (LKP) in the centre of town, 1 h ago, to within 100 m.",
        );
        let case = self
            .rest
            .post(&self.cast.agency, "/v1/cases", &filing)
            .await?;
        self.screen.more(
            "The family agreed to publish: alias, age, looks, clothing, last seen. Never \
             published: her name, the contact, the exact position.",
        );
        self.screen.more(&format!(
            "The case is {}: nobody is told before it is verified.",
            text(&case["state"])?
        ));
        Ok(text(&case["id"])?.to_owned())
    }

    /// An operator verifies it.
    async fn verify(&self, case: &str) -> anyhow::Result<()> {
        let checks: Vec<&str> = Check::ALL.iter().map(|check| check.name()).collect();
        let path = format!("/v1/cases/{case}/verify");
        let body = json!({ "checks": checks });
        let verified = self.rest.post(&self.cast.operator, &path, &body).await?;
        self.screen.step(
            "Verification",
            &format!(
                "Demo Operator has checked: {}.",
                checks.join(", ").replace('_', " ")
            ),
        );
        self.screen.more(&format!(
            "The case is {}, and wave 1 goes out at once.",
            text(&verified["state"])?
        ));
        Ok(())
    }

    /// Where she is likely to be.
    async fn show_plan(&self, case: &str) -> anyhow::Result<()> {
        let path = format!("/v1/cases/{case}/plan");
        let key = &self.cast.operator;
        let plan = self.rest.get(key, &path).await?;
        let picture = Picture::of(&self.rest.get_map(key, &path).await?)?;
        let radius = |name: &str| plan["radii_km"][name].as_f64().unwrap_or(f64::NAN);
        self.screen.step(
            "Plan",
            &format!(
                "Of people like her, after that time, half are within {:.2} km of the LKP (r50), \
                 75 % within {:.2} km (r75), 95 % within {:.2} km (r95). The likeliest places are \
                 told first, in waves, until she is found.",
                radius("r50"),
                radius("r75"),
                radius("r95")
            ),
        );
        line("");
        let legend = picture.legend(&plan, self.screen)?;
        let lines = picture.draw(self.screen);
        let beside = legend
            .iter()
            .map(String::as_str)
            .chain(std::iter::repeat(""));
        for (drawn, legend) in lines.iter().zip(beside) {
            line(&format!("  {drawn}  {legend}"));
        }
        Ok(())
    }

    /// Somebody who was told has seen her; an operator takes it as a sighting.
    async fn sight(&self, alert: &str) -> anyhow::Result<String> {
        let app = 1;
        let now = self.store.now().await?;
        let seen = city::beside(city::centre()?, SEEN_AT_KM.0, SEEN_AT_KM.1)?;
        let body = json!({
            "lat": seen.lat(), "lon": seen.lon(), "accuracy_m": 50.0, "seen_at": now,
            "text": "An elderly woman in a green coat at the tram stop, she seems lost.",
        });
        let path = format!("/v1/cases/{alert}/sightings");
        let sighting = self.rest.post(&self.cast.apps[app], &path, &body).await?;
        let id = text(&sighting["id"])?.to_owned();
        self.screen.step(
            "Sighting",
            &format!(
                "{} passes on what somebody saw: \"{}\" Credibility {:.2}, as for any app's \
                 report; by itself it changes nothing.",
                APPS[app].0,
                text(&body["text"])?,
                sighting["credibility"].as_f64().unwrap_or(f64::NAN)
            ),
        );
        let path = format!("/v1/sightings/{id}");
        let body = json!({ "state": "accepted", "credibility": 0.9 });
        let sighting = self.rest.patch(&self.cast.operator, &path, &body).await?;
        self.screen.more(&format!(
            "Demo Operator has called back: {}, credibility {:.2}.",
            text(&sighting["state"])?,
            sighting["credibility"].as_f64().unwrap_or(f64::NAN)
        ));
        Ok(id)
    }

    /// She is found, and the agency closes the case.
    async fn close(&self, case: &str, sighting: &str) -> anyhow::Result<()> {
        let now = self.store.now().await?;
        let found = city::beside(city::centre()?, SEEN_AT_KM.0, SEEN_AT_KM.1)?;
        let body = json!({
            "outcome": "found_well",
            "attribution": { "through": "alert", "wave": 1, "sighting": sighting },
            "found": { "lat": found.lat(), "lon": found.lon(), "at": now },
        });
        let path = format!("/v1/cases/{case}/close");
        let closed = self.rest.post(&self.cast.agency, &path, &body).await?;
        let minutes = closed["found_after_s"].as_i64().unwrap_or_default() / 60;
        self.screen.step(
            "Outcome",
            &format!(
                "Found well, {:.1} km from the LKP, {minutes} min after she was last seen. \
                 Attribution: the alert, wave 1, that sighting. The case is {}.",
                closed["found_km"].as_f64().unwrap_or(f64::NAN),
                text(&closed["state"])?
            ),
        );
        Ok(())
    }
}

/// What the agency files.
fn filing(last_seen_at: Timestamp) -> anyhow::Result<Value> {
    let lkp = city::centre()?;
    Ok(json!({
        "person": {
            "name": "Elspeth Example", "alias": "Elsie", "age": 82, "sex": "female",
            "description": "small, short white hair, glasses",
            "clothing": "dark green coat, brown boots",
        },
        "category": "dementia",
        "environment": "urban",
        "lkp": {
            "lat": lkp.lat(), "lon": lkp.lon(), "accuracy_m": 100.0, "at": last_seen_at,
            "place": "Old Market Square",
        },
        "circumstances": "Went out for bread and did not come back.",
        "contact": { "name": "Erin Example", "phone": "+44 20 7946 0000", "relation": "daughter" },
        "consent": {
            "given_by": "the daughter",
            "publish": ["name", "age", "sex", "description", "clothing", "last_seen"],
        },
        "urgency": "high",
        "languages": ["en"],
        "time_zone": "Europe/London",
    }))
}

/// A field of an answer that is text.
///
/// # Errors
/// If it is not there.
pub fn text(value: &Value) -> anyhow::Result<&str> {
    value
        .as_str()
        .context("the server's answer lacks a field; was it another server?")
}
