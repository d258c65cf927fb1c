//! Sightings over REST.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::House;
use super::cases::{PAGE, PAGE_MAX};
use super::extract::{InPath, InQuery};
use super::post::{Post, Sent};
use super::problem::Problem;
use crate::cases::visible;
use crate::model::{Caller, CaseId, Holder, Sighting, SightingId};
use crate::sightings::{self, SightingChange, SightingFiling};
use crate::store;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    cursor: Option<SightingId>,
    limit: Option<i64>,
}

/// `POST /v1/cases/{id}/sightings`; an app gives the alert's id in the place of the case's.
pub(super) async fn report(
    State(house): State<House>,
    caller: Caller,
    InPath(id): InPath<CaseId>,
    sent: Sent,
) -> Result<Response, Problem> {
    let filing: SightingFiling = sent.json()?;
    let mut post = Post::begin(&house, &caller, &sent).await?;
    let sighting = sightings::report(&mut post.tx, &caller, id, filing, post.now).await?;
    post.answer(StatusCode::CREATED, &view(&sighting, &caller), None)
        .await
}

/// `GET /v1/cases/{id}/sightings`
pub(super) async fn list(
    State(house): State<House>,
    caller: Caller,
    InPath(id): InPath<CaseId>,
    InQuery(query): InQuery<ListQuery>,
) -> Result<Response, Problem> {
    let mut session = house.dispatch.store.read().await?;
    visible(&mut session, &caller, id).await?;
    let limit = query.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX);
    let found = store::sightings::page(&mut session, id, query.cursor, limit).await?;
    let full = i64::try_from(found.len()).unwrap_or(i64::MAX) == limit;
    let next = found.last().filter(|_| full).map(|sighting| sighting.id);
    let items: Vec<Value> = found
        .iter()
        .map(|sighting| view(sighting, &caller))
        .collect();
    Ok(Json(json!({ "items": items, "next": next })).into_response())
}

/// `GET /v1/sightings/{id}`
pub(super) async fn show(
    State(house): State<House>,
    caller: Caller,
    InPath(id): InPath<SightingId>,
) -> Result<Response, Problem> {
    let mut session = house.dispatch.store.read().await?;
    let sighting = sightings::get(&mut session, &caller, id).await?;
    Ok(Json(view(&sighting, &caller)).into_response())
}

/// `PATCH /v1/sightings/{id}`
pub(super) async fn decide(
    State(house): State<House>,
    caller: Caller,
    InPath(id): InPath<SightingId>,
    sent: Sent,
) -> Result<Response, Problem> {
    let change: SightingChange = sent.json()?;
    let mut post = Post::begin(&house, &caller, &sent).await?;
    let planner = &house.desk.planner;
    let sighting = sightings::decide(&mut post.tx, planner, &caller, id, &change, post.now).await?;
    let response = post
        .answer(StatusCode::OK, &view(&sighting, &caller), None)
        .await?;
    house.dispatch.wake.due();
    Ok(response)
}

/// A sighting as its caller may see it: an app knows the alert, never the case behind it.
fn view(sighting: &Sighting, caller: &Caller) -> Value {
    let mut view = json!({
        "id": sighting.id, "reported_by": sighting.reported_by,
        "source": sighting.source, "seen_at": sighting.seen_at,
        "received_at": sighting.received_at, "credibility": sighting.credibility,
        "state": sighting.state, "report": sighting.report,
    });
    if !matches!(caller.holder, Holder::App(..)) {
        view["case"] = json!(sighting.case);
    }
    view
}
