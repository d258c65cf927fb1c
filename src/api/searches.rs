//! Areas searched on the ground, over REST.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::House;
use super::extract::InPath;
use super::post::{Post, Sent};
use super::problem::Problem;
use crate::cases::visible;
use crate::model::{Caller, CaseId, SearchedArea};
use crate::searches::{self, SearchFiling};
use crate::store;

/// `POST /v1/cases/{id}/searches`
pub(super) async fn report(
    State(house): State<House>,
    caller: Caller,
    InPath(id): InPath<CaseId>,
    sent: Sent,
) -> Result<Response, Problem> {
    let filing: SearchFiling = sent.json()?;
    let mut post = Post::begin(&house, &caller, &sent).await?;
    let planner = &house.desk.planner;
    let search = searches::report(&mut post.tx, planner, &caller, id, filing, post.now).await?;
    let response = post
        .answer(StatusCode::CREATED, &view(&search), None)
        .await?;
    house.dispatch.wake.due();
    Ok(response)
}

/// `GET /v1/cases/{id}/searches`
pub(super) async fn list(
    State(house): State<House>,
    caller: Caller,
    InPath(id): InPath<CaseId>,
) -> Result<Response, Problem> {
    let mut session = house.dispatch.store.read().await?;
    visible(&mut session, &caller, id).await?;
    let found = store::searches::of_case(&mut session, id).await?;
    let items: Vec<Value> = found.iter().map(view).collect();
    Ok(Json(json!({ "items": items })).into_response())
}

/// `POST /v1/cases/{id}/searches/{n}/withdraw`
pub(super) async fn withdraw(
    State(house): State<House>,
    caller: Caller,
    InPath((id, number)): InPath<(CaseId, i64)>,
    sent: Sent,
) -> Result<Response, Problem> {
    let mut post = Post::begin(&house, &caller, &sent).await?;
    let planner = &house.desk.planner;
    searches::withdraw(&mut post.tx, planner, &caller, id, number, post.now).await?;
    let body = json!({ "number": number, "withdrawn": true });
    let response = post.answer(StatusCode::OK, &body, None).await?;
    house.dispatch.wake.due();
    Ok(response)
}

fn view(search: &SearchedArea) -> Value {
    json!({
        "number": search.number, "reported_by": search.reported_by,
        "reported_at": search.reported_at, "searched_at": search.searched_at,
        "detection": search.detection, "cells": search.cells, "withdrawn": search.withdrawn,
    })
}
