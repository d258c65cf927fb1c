//! The plan of a case: as JSON, on a map, as a picture, in words.

use std::fmt::Write as _;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::House;
use super::dry_run::dry_run_of;
use super::extract::{InPath, InQuery};
use super::post::{Post, Sent};
use super::problem::Problem;
use crate::area::{self, Plan, PlanChange};
use crate::cases::steps::Reason;
use crate::cases::{visible, waves};
use crate::model::{Caller, CaseId, Cell};
use crate::store::plans::{self, PlanListing, StoredPlan, Wave};
use crate::store::{Session, StoreError, alerts};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PlanQuery {
    version: Option<i64>,
    format: Option<Format>,
}

/// How a plan is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    Json,
    Geojson,
    Svg,
    Text,
}

impl Format {
    /// What the header asks for.
    fn accepted(headers: &HeaderMap) -> Self {
        let accept = headers
            .get(header::ACCEPT)
            .and_then(|accept| accept.to_str().ok())
            .unwrap_or_default();
        let wanted = [
            ("geo+json", Self::Geojson),
            ("svg", Self::Svg),
            ("text/plain", Self::Text),
        ];
        wanted
            .into_iter()
            .find(|(name, _)| accept.contains(name))
            .map_or(Self::Json, |(_, format)| format)
    }
}

/// `GET /v1/cases/{id}/plan`: the newest plan, or with `?version=` an earlier one. JSON, or what `?format=`
/// or the header `Accept` asks for: `geojson` (`application/geo+json`), `svg` (`image/svg+xml`), `text`
/// (`text/plain`).
pub(super) async fn show(
    State(house): State<House>,
    caller: Caller,
    InPath(id): InPath<CaseId>,
    InQuery(query): InQuery<PlanQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let mut session = house.dispatch.store.read().await?;
    visible(&mut session, &caller, id).await?;
    let newest = plans::latest::<Plan>(&mut session, id).await?;
    let stored = match query.version {
        Some(version) => plans::version(&mut session, id, version).await?,
        None => newest,
    };
    let Some(stored) = stored else {
        let missing = match query.version {
            Some(_) => "the case has no plan of this version",
            None => "the case has no plan: it is made when it is verified",
        };
        return Err(Problem::new(StatusCode::NOT_FOUND, missing));
    };
    let as_kind =
        |kind: &'static str, body: String| ([(header::CONTENT_TYPE, kind)], body).into_response();
    let plan = &stored.plan;
    match query.format.unwrap_or_else(|| Format::accepted(&headers)) {
        Format::Geojson => {
            let features = area::feature_collection(plan).map_err(|error| {
                Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
            })?;
            Ok(as_kind("application/geo+json", features.to_string()))
        }
        Format::Svg => Ok(as_kind("image/svg+xml", area::svg(plan))),
        Format::Text => {
            let history = plans::history(&mut session, id).await?;
            let words = in_words(&stored, &history);
            Ok(as_kind("text/plain; charset=utf-8", words))
        }
        Format::Json => Ok(Json(in_json(&mut session, id, &stored).await?).into_response()),
    }
}

async fn in_json(
    session: &mut Session,
    case: CaseId,
    stored: &StoredPlan<Plan>,
) -> Result<Value, StoreError> {
    let plan = &stored.plan;
    let history: Vec<PlanListing<PlanChange>> = plans::history(session, case).await?;
    let newest = history
        .last()
        .is_some_and(|last| last.version == stored.version);
    let waves: Vec<Value> = match alerts::newest(session, case).await? {
        Some(alert) => plans::waves(session, alert.id)
            .await?
            .iter()
            .filter(|wave| newest || wave.plan == stored.id)
            .map(wave_view)
            .collect(),
        None => Vec::new(),
    };
    let change = history
        .iter()
        .find(|listing| listing.version == stored.version)
        .and_then(|listing| listing.change);
    let mut shown = area::as_json(plan);
    shown["version"] = json!(stored.version);
    shown["made_at"] = json!(stored.made_at);
    shown["why"] = json!(stored.why);
    shown["change"] = json!(change);
    shown["waves"] = json!(waves);
    shown["history"] = json!(history);
    // What they would reach is counted when asked for.
    shown["cost_of_waves"] = json!({
        "before_cap": format!("GET /v1/cases/{case}/dispatch"),
        "after_cap": format!("POST /v1/cases/{case}/replan?dry_run=true"),
    });
    Ok(shown)
}

fn wave_view(wave: &Wave) -> Value {
    let cells: Vec<Cell> = wave.cells.iter().map(|(cell, _)| *cell).collect();
    json!({
        "number": wave.number, "plan_wave": wave.plan_wave, "mass": wave.mass,
        "cells": area::compact(&cells), "due_at": wave.due_at, "state": wave.state,
        "approval": wave.approval, "released_at": wave.released_at,
    })
}

/// Why a plan was made, what it changed, and why its area is where it is.
fn in_words(stored: &StoredPlan<Plan>, history: &[PlanListing<PlanChange>]) -> String {
    let why = &stored.why;
    let cause = why.cause.in_words();
    let what = [
        why.sighting.map(|sighting| sighting.to_string()),
        why.search.map(|search| format!("search {search}")),
        why.detail.clone(),
    ];
    let what: Vec<String> = what.into_iter().flatten().collect();
    let what = match &what[..] {
        [] => String::new(),
        what => format!(" ({})", what.join(": ")),
    };
    let mut text = format!(
        "plan {} of {}, made because {cause}{what}\n",
        stored.version,
        stored.made_at.strftime("%F %T UTC")
    );
    let change = history
        .iter()
        .find(|listing| listing.version == stored.version)
        .and_then(|listing| listing.change);
    if let Some(change) = change {
        let (old, new) = (change.radii_km_before, change.radii_km);
        let _ = writeln!(
            text,
            "{:.0} % of the probability is elsewhere than in the plan before; to the cells of its waves {} came, {} \
             went, {} stayed",
            change.mass_moved * 100.0,
            change.cells_gained,
            change.cells_lost,
            change.cells_kept,
        );
        let _ = writeln!(
            text,
            "half are within {:.2} km of the last known position (was {:.2} km), 95 % within {:.2} km (was {:.2} \
             km), sightings left out",
            new.r50, old.r50, new.r95, old.r95
        );
    }
    text + &area::text(&stored.plan, true)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplanQuery {
    /// Says who would be told, and changes nothing.
    #[serde(default)]
    dry_run: bool,
}

/// `POST /v1/cases/{id}/replan`
pub(super) async fn replan(
    State(house): State<House>,
    caller: Caller,
    InPath(id): InPath<CaseId>,
    InQuery(query): InQuery<ReplanQuery>,
    sent: Sent,
) -> Result<Response, Problem> {
    if query.dry_run {
        return dry_run_of(&house, &caller, id).await;
    }
    let reason: Reason = sent.json_or_default()?;
    let mut post = Post::begin(&house, &caller, &sent).await?;
    let (tx, now) = (&mut post.tx, post.now);
    let version = waves::replan(tx, &house.desk, &caller, id, &reason, now).await?;
    let body = json!({ "plan": version });
    let response = post.answer(StatusCode::OK, &body, None).await?;
    house.dispatch.wake.due();
    tracing::info!(case.id = %id, plan = version, "planned anew");
    Ok(response)
}
