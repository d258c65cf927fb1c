//! Holders and keys: agencies, apps, operators.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use serde_json::json;

use super::extract::InPath;
use super::post::{Post, Sent};
use super::problem::Problem;
use super::{House, auth};
use crate::holders::{self, NewAgency, NewApp, NewOperator};
use crate::keys as access;
use crate::model::{AppId, BatchFormat, Caller, KeyId};
use crate::store::holders as store;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AppChange {
    rate_per_s: Option<i64>,
    paused: Option<bool>,
    drills: Option<bool>,
    format: Option<BatchFormat>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Expiry {
    /// How long the key may still be used, so that its holder can change over.
    overlap_h: u32,
}

/// `POST /v1/agencies`
pub(super) async fn add_agency(
    State(house): State<House>,
    caller: Caller,
    sent: Sent,
) -> Result<Response, Problem> {
    auth::admin(&caller)?;
    let new: NewAgency = sent.json()?;
    let mut post = Post::begin(&house, &caller, &sent).await?;
    let agency = holders::add_agency(&mut post.tx, new, post.now).await?;
    post.answer(StatusCode::CREATED, &agency, None).await
}

/// `GET /v1/agencies`
pub(super) async fn agencies(
    State(house): State<House>,
    caller: Caller,
) -> Result<Response, Problem> {
    auth::admin(&caller)?;
    let items = store::agencies(&mut house.dispatch.store.read().await?).await?;
    Ok(Json(json!({ "items": items })).into_response())
}

/// `POST /v1/apps`
pub(super) async fn add_app(
    State(house): State<House>,
    caller: Caller,
    sent: Sent,
) -> Result<Response, Problem> {
    auth::admin(&caller)?;
    let new: NewApp = sent.json()?;
    let mut post = Post::begin(&house, &caller, &sent).await?;
    let app = holders::add_app(&mut post.tx, new, post.now).await?;
    post.answer(StatusCode::CREATED, &app, None).await
}

/// `GET /v1/apps`
pub(super) async fn apps(State(house): State<House>, caller: Caller) -> Result<Response, Problem> {
    auth::admin(&caller)?;
    let items = store::apps(&mut house.dispatch.store.read().await?).await?;
    Ok(Json(json!({ "items": items })).into_response())
}

/// `PATCH /v1/apps/{id}`
pub(super) async fn change_app(
    State(house): State<House>,
    caller: Caller,
    InPath(id): InPath<AppId>,
    sent: Sent,
) -> Result<Response, Problem> {
    auth::admin(&caller)?;
    let change: AppChange = sent.json()?;
    let mut post = Post::begin(&house, &caller, &sent).await?;
    let mut app = store::app(&mut post.tx, id)
        .await?
        .ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "there is no such app"))?;
    app.rate_per_s = change.rate_per_s.unwrap_or(app.rate_per_s);
    app.paused = change.paused.unwrap_or(app.paused);
    app.drills = change.drills.unwrap_or(app.drills);
    app.format = change.format.unwrap_or(app.format);
    holders::check_rate(app.rate_per_s)?;
    store::change_app(&mut post.tx, &app).await?;
    let response = post.answer(StatusCode::OK, &app, None).await?;
    house.dispatch.wake.batches();
    Ok(response)
}

/// `POST /v1/operators`
pub(super) async fn add_operator(
    State(house): State<House>,
    caller: Caller,
    sent: Sent,
) -> Result<Response, Problem> {
    auth::admin(&caller)?;
    let new: NewOperator = sent.json()?;
    let mut post = Post::begin(&house, &caller, &sent).await?;
    let operator = holders::add_operator(&mut post.tx, new, post.now).await?;
    post.answer(StatusCode::CREATED, &operator, None).await
}

/// `GET /v1/operators`
pub(super) async fn operators(
    State(house): State<House>,
    caller: Caller,
) -> Result<Response, Problem> {
    auth::admin(&caller)?;
    let items = store::operators(&mut house.dispatch.store.read().await?).await?;
    Ok(Json(json!({ "items": items })).into_response())
}

/// `POST /v1/keys`: the secret is in this answer and nowhere else.
pub(super) async fn add_key(
    State(house): State<House>,
    caller: Caller,
    sent: Sent,
) -> Result<Response, Problem> {
    auth::admin(&caller)?;
    let wanted: holders::WantedKey = sent.json()?;
    // No idempotency key is honoured here: the kept answer would hold the secret.
    let mut tx = house.dispatch.store.begin().await?;
    let now = tx.now().await?;
    let holder = holders::find(&mut tx, &wanted).await?;
    let key = access::make(&mut tx, &holder, now).await?;
    tx.commit().await?;
    let body = json!({ "id": key.id, "scope": wanted.scope, "key": key.secret.expose_secret() });
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

/// `GET /v1/keys`
pub(super) async fn keys(State(house): State<House>, caller: Caller) -> Result<Response, Problem> {
    auth::admin(&caller)?;
    let items = store::keys(&mut house.dispatch.store.read().await?).await?;
    Ok(Json(json!({ "items": items })).into_response())
}

/// `POST /v1/keys/{id}/expire`: at once, or after an overlap for rotation.
pub(super) async fn expire_key(
    State(house): State<House>,
    caller: Caller,
    InPath(id): InPath<KeyId>,
    sent: Sent,
) -> Result<Response, Problem> {
    auth::admin(&caller)?;
    let expiry: Expiry = sent.json_or_default()?;
    let overlap = holders::overlap(expiry.overlap_h)?;
    let mut post = Post::begin(&house, &caller, &sent).await?;
    let at = post.now + overlap;
    if !store::expire_key(&mut post.tx, id, at).await? {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "there is no such key, or it has expired",
        ));
    }
    post.answer(StatusCode::OK, &json!({ "id": id, "expires_at": at }), None)
        .await
}
