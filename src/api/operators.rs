//! What operators do beside cases: the hold, dead letters; and the outcomes.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::json;

use super::cases::{PAGE, PAGE_MAX};
use super::extract::{InPath, InQuery};
use super::post::{Post, Sent};
use super::problem::Problem;
use super::{House, auth};
use crate::model::{BatchId, Caller, CaseId, Holder};
use crate::store::{backlog, handed, lanes, outcomes as store_outcomes};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    cursor: Option<CaseId>,
    limit: Option<i64>,
}

/// `POST /v1/lanes/hold`
pub(super) async fn hold_lanes(
    State(house): State<House>,
    caller: Caller,
    sent: Sent,
) -> Result<Response, Problem> {
    set_hold(&house, &caller, &sent, true).await
}

/// `POST /v1/lanes/release`
pub(super) async fn release_lanes(
    State(house): State<House>,
    caller: Caller,
    sent: Sent,
) -> Result<Response, Problem> {
    set_hold(&house, &caller, &sent, false).await
}

async fn set_hold(
    house: &House,
    caller: &Caller,
    sent: &Sent,
    held: bool,
) -> Result<Response, Problem> {
    auth::operator(caller)?;
    let mut post = Post::begin(house, caller, sent).await?;
    lanes::set_hold(&mut post.tx, held, &caller.holder.actor(), post.now).await?;
    let response = post
        .answer(StatusCode::OK, &json!({ "held": held }), None)
        .await?;
    house.dispatch.wake.batches();
    tracing::warn!(held, "all lanes held or released by an operator");
    Ok(response)
}

/// `GET /v1/dead-letters`: an app sees its own.
pub(super) async fn dead_letters(
    State(house): State<House>,
    caller: Caller,
) -> Result<Response, Problem> {
    let app = match &caller.holder {
        Holder::App(id, _) => Some(*id),
        Holder::Operator(..) | Holder::Admin => None,
        Holder::Agency(..) => {
            return Err(Problem::forbidden(
                "dead letters are for apps and operators",
            ));
        }
    };
    let mut session = house.dispatch.store.read().await?;
    let items = backlog::dead_letters(&mut session, app, PAGE_MAX).await?;
    Ok(Json(json!({ "items": items })).into_response())
}

/// `POST /v1/dead-letters/{id}/replay`
pub(super) async fn replay(
    State(house): State<House>,
    caller: Caller,
    InPath(id): InPath<BatchId>,
    sent: Sent,
) -> Result<Response, Problem> {
    auth::operator(&caller)?;
    let mut post = Post::begin(&house, &caller, &sent).await?;
    if !handed::replay(&mut post.tx, id, post.now).await? {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "this batch is no dead letter, has expired, or its alert was recalled",
        ));
    }
    let response = post
        .answer(StatusCode::OK, &json!({ "replayed": id }), None)
        .await?;
    house.dispatch.wake.batches();
    Ok(response)
}

/// `GET /v1/outcomes`: an agency sees its own cases'.
pub(super) async fn outcomes(
    State(house): State<House>,
    caller: Caller,
    InQuery(query): InQuery<PageQuery>,
) -> Result<Response, Problem> {
    let agency = match &caller.holder {
        Holder::Agency(id, _) => Some(*id),
        Holder::Operator(..) | Holder::Admin => None,
        Holder::App(..) => {
            return Err(Problem::forbidden(
                "outcomes are for agencies and operators",
            ));
        }
    };
    let limit = query.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX);
    let mut session = house.dispatch.store.read().await?;
    let items = store_outcomes::page(&mut session, agency, query.cursor, limit).await?;
    let full = i64::try_from(items.len()).unwrap_or(i64::MAX) == limit;
    let next = items.last().filter(|_| full).map(|outcome| outcome.case);
    Ok(Json(json!({ "items": items, "next": next })).into_response())
}
