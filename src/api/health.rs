//! Health and metrics, on a listener of their own.

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use serde_json::json;

use super::House;
use crate::model::BatchState;
use crate::store::{StoreError, backlog, lanes};

/// `/healthz`, `/readyz` and `/metrics`.
pub fn admin_router(house: House) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(house)
}

/// Whether requests can be served; and the age of the oldest batch that nobody took.
async fn ready(State(house): State<House>) -> Response {
    match look(&house).await {
        Ok((held, oldest_s)) => {
            let body = json!({
                "ready": true, "lanes_held": held, "oldest_untaken_batch_s": oldest_s,
                "broker": house.dispatch.queue.broker().map(|up| if up { "up" } else { "away" }),
            });
            Json(body).into_response()
        }
        Err(error) => {
            tracing::warn!(error = %error, "not ready");
            let body = json!({ "ready": false, "why": "the database does not answer" });
            (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
        }
    }
}

async fn metrics(State(house): State<House>) -> Response {
    // What can be counted without the database is worth having without it.
    let _ = look(&house).await;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    (
        [(header::CONTENT_TYPE, kind)],
        house.dispatch.metrics.render(),
    )
        .into_response()
}

/// Refreshes the backlog's figures; gives whether lanes are held and the age of the oldest batch.
async fn look(house: &House) -> Result<(bool, i64), StoreError> {
    let mut session = house.dispatch.store.read().await?;
    let now = session.now().await?;
    let held = lanes::held(&mut session).await?;
    let backlog = backlog::backlog(&mut session).await?;
    let oldest = backlog.iter().map(|waiting| waiting.oldest).min();
    let oldest_s = oldest.map_or(0, |oldest| now.duration_since(oldest).as_secs());
    let waiting: Vec<_> = backlog
        .iter()
        .map(|one| (one.app, BatchState::name(one.state), one.batches))
        .collect();
    house.dispatch.metrics.backlog(&waiting, oldest_s);
    Ok((held, oldest_s))
}
