//! What can be looked at of a case: plan, dispatch, timeline, alert.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use prost::Message as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::House;
use super::extract::{InPath, InQuery};
use super::problem::Problem;
use crate::alert::compose::{Revision, compose};
use crate::alert::proto::v1;
use crate::area::{self, Plan};
use crate::cases::visible;
use crate::model::{AlertId, AppId, Caller, CaseId, Cell, Kind, Reason, WaveState};
use crate::store::plans::{self, Wave};
use crate::store::{Session, StoreError, alerts, backlog, holders, receipts, rounds, timeline};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TimelineQuery {
    cursor: Option<i64>,
    limit: Option<i64>,
}

/// `GET /v1/cases/{id}/plan`: JSON, or GeoJSON for `Accept: application/geo+json`.
pub(super) async fn plan(
    State(house): State<House>,
    caller: Caller,
    InPath(id): InPath<CaseId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let mut session = house.dispatch.store.read().await?;
    visible(&mut session, &caller, id).await?;
    let stored = plans::latest::<Plan>(&mut session, id)
        .await?
        .ok_or_else(|| {
            Problem::new(
                StatusCode::NOT_FOUND,
                "the case has no plan: it is made when it is verified",
            )
        })?;
    let wants_geojson = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("geo+json"));
    if wants_geojson {
        let features = area::feature_collection(&stored.plan)
            .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
        let kind = [(header::CONTENT_TYPE, "application/geo+json")];
        return Ok((kind, features.to_string()).into_response());
    }
    let waves = match alerts::newest(&mut session, id).await? {
        Some(alert) => plans::waves(&mut session, alert.id).await?,
        None => Vec::new(),
    };
    let plan = &stored.plan;
    Ok(Json(json!({
        "version": stored.version,
        "made_at": stored.made_at,
        "inputs": plan.inputs,
        "radii_km": plan.radii,
        "resolution": plan.resolution,
        "waves": waves.iter().map(wave_view).collect::<Vec<_>>(),
        "rest": plan.rest,
        "assumptions": plan.assumptions,
        "table_digest": plan.table_digest,
    }))
    .into_response())
}

fn wave_view(wave: &Wave) -> Value {
    let cells: Vec<Cell> = wave.cells.iter().map(|(cell, _)| *cell).collect();
    json!({
        "number": wave.number, "mass": wave.mass, "cells": area::compact(&cells),
        "due_at": wave.due_at, "state": wave.state, "approval": wave.approval,
        "released_at": wave.released_at,
    })
}

/// `GET /v1/cases/{id}/dispatch`: waves, rounds, batches, who was told and why not.
pub(super) async fn dispatch(
    State(house): State<House>,
    caller: Caller,
    InPath(id): InPath<CaseId>,
) -> Result<Response, Problem> {
    let mut session = house.dispatch.store.read().await?;
    visible(&mut session, &caller, id).await?;
    let names: BTreeMap<AppId, String> = holders::apps(&mut session)
        .await?
        .into_iter()
        .map(|app| (app.id, app.name))
        .collect();
    let mut views = Vec::new();
    for alert in alerts::of_case(&mut session, id).await? {
        views.push(alert_dispatch(&mut session, alert.id, &names).await?);
    }
    Ok(Json(json!({ "alerts": views })).into_response())
}

async fn alert_dispatch(
    session: &mut Session,
    alert: AlertId,
    names: &BTreeMap<AppId, String>,
) -> Result<Value, StoreError> {
    let name = |app: &AppId| names.get(app).cloned().unwrap_or_default();
    // In this order: a round shown as done is counted whole.
    let listing = rounds::listing(session, alert).await?;
    let counts = rounds::counts(session, alert).await?;
    let round_views: Vec<Value> = listing
        .iter()
        .map(|round| {
            let of_round = counts.iter().filter(|count| count.0 == round.number);
            let of_round: Vec<Count> = of_round.map(|count| (count.1, count.2, count.3)).collect();
            let mut view = counts_view(&of_round, name);
            view["round"] = json!(round.number);
            view["kind"] = json!(round.kind);
            view["wave"] = json!(round.wave);
            view["released_at"] = json!(round.released_at);
            view["done_at"] = json!(round.done_at);
            view["shards"] = json!(round.shards);
            view["shards_done"] = json!(round.shards_done);
            view
        })
        .collect();
    let tally: Vec<Value> = backlog::tally(session, alert)
        .await?
        .iter()
        .map(|tally| {
            json!({
                "round": tally.round, "app": name(&tally.app), "kind": tally.kind,
                "state": tally.state, "batches": tally.batches, "people": tally.people,
            })
        })
        .collect();
    let waves: Vec<Value> = plans::waves(session, alert)
        .await?
        .iter()
        .map(|wave| {
            json!({
                "number": wave.number, "mass": wave.mass, "state": wave.state,
                "due_at": wave.due_at, "released_at": wave.released_at, "approval": wave.approval,
                "needs_approval": wave.state == WaveState::Approval,
            })
        })
        .collect();
    let receipts: BTreeMap<_, _> = receipts::sums(session, alert).await?.into_iter().collect();
    Ok(json!({
        "alert": alert, "waves": waves, "rounds": round_views, "batches": tally,
        "recipients": alerts::issued(session, alert).await?,
        "receipts": receipts,
    }))
}

/// App, told or why not, people.
pub(super) type Count = (AppId, Reason, i64);

/// People by reason, in all and app by app.
pub(super) fn counts_view(counts: &[Count], name: impl Fn(&AppId) -> String) -> Value {
    let mut apps: BTreeMap<String, Vec<Count>> = BTreeMap::new();
    for count in counts {
        apps.entry(name(&count.0)).or_default().push(*count);
    }
    let apps: BTreeMap<String, Value> = apps
        .into_iter()
        .map(|(app, counts)| {
            (
                app,
                json!({ "told": told(&counts), "not_told": not_told(&counts) }),
            )
        })
        .collect();
    json!({
        "in_area": counts.iter().map(|count| count.2).sum::<i64>(),
        "told": told(counts), "not_told": not_told(counts), "by_app": apps,
    })
}

fn told(counts: &[Count]) -> i64 {
    let told = counts.iter().filter(|count| count.1 == Reason::Told);
    told.map(|count| count.2).sum()
}

fn not_told(counts: &[Count]) -> BTreeMap<&'static str, i64> {
    let mut reasons = BTreeMap::new();
    for (_, reason, people) in counts.iter().filter(|count| count.1 != Reason::Told) {
        *reasons.entry(reason.name()).or_default() += people;
    }
    reasons
}

/// `GET /v1/cases/{id}/timeline`
pub(super) async fn timeline(
    State(house): State<House>,
    caller: Caller,
    InPath(id): InPath<CaseId>,
    InQuery(query): InQuery<TimelineQuery>,
) -> Result<Response, Problem> {
    let mut session = house.dispatch.store.read().await?;
    visible(&mut session, &caller, id).await?;
    let limit = query.limit.unwrap_or(200).clamp(1, 1_000);
    let events = timeline::page(&mut session, id, query.cursor.unwrap_or(0), limit).await?;
    let full = i64::try_from(events.len()).unwrap_or(i64::MAX) == limit;
    let next = events.last().filter(|_| full).map(|event| event.id);
    Ok(Json(json!({ "items": events, "next": next })).into_response())
}

/// `GET /v1/cases/{id}/alert`: what people read, or would read.
pub(super) async fn alert(
    State(house): State<House>,
    caller: Caller,
    InPath(id): InPath<CaseId>,
) -> Result<Response, Problem> {
    let mut session = house.dispatch.store.read().await?;
    let case = visible(&mut session, &caller, id).await?;
    let now = session.now().await?;
    let stored = match alerts::newest(&mut session, id).await? {
        Some(newest) => alerts::content(&mut session, newest.id, newest.revision).await?,
        None => None,
    };
    let preview = stored.is_none();
    let alert = match stored {
        Some(content) => v1::Alert::decode(content.as_slice()).map_err(|error| {
            tracing::error!(case.id = %id, error = %error, "a stored alert cannot be read");
            Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the stored alert cannot be read",
            )
        })?,
        None => compose(&Revision {
            alert: AlertId(id.0),
            number: 1,
            kind: Kind::Issue,
            urgency: case
                .report
                .as_ref()
                .map_or(case.urgency, |r| r.requested_urgency),
            exercise: case.exercise,
            report: case.report.as_ref(),
            time_zone: &case.time_zone,
            issued_at: now,
            expires_at: now + house.dispatch.config.dispatch.issue_life(),
        }),
    };
    let texts: Vec<Value> = alert
        .texts
        .iter()
        .map(|text| json!({ "language": text.language, "title": text.title, "body": text.body }))
        .collect();
    Ok(Json(json!({
        "preview": preview,
        "alert": (!preview).then_some(&alert.alert_id),
        "revision": alert.revision,
        "kind": alert.kind().as_str_name(),
        "urgency": alert.urgency().as_str_name(),
        "intrusion": alert.intrusion().as_str_name(),
        "exercise": alert.exercise,
        "texts": texts,
    }))
    .into_response())
}
