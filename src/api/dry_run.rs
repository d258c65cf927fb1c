//! `POST /v1/cases/{id}/replan?dry_run=true`: who would be told, charging nobody and changing nothing.

use std::collections::BTreeMap;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::problem::Problem;
use super::views::{Count, counts_view};
use super::{House, auth};
use crate::cases::{Refusal, visible};
use crate::dispatch::dry_run;
use crate::model::{AppId, Caller, CaseId, PlanCause};
use crate::store::{alerts, holders};

/// Who would be told by each wave that a new plan would have ahead, if it went out now.
pub(super) async fn dry_run_of(
    house: &House,
    caller: &Caller,
    id: CaseId,
) -> Result<Response, Problem> {
    auth::operator(caller)?;
    let mut session = house.dispatch.store.read().await?;
    let case = visible(&mut session, caller, id).await?;
    let alert = alerts::newest(&mut session, id).await?;
    let Some(alert) = alert.filter(|alert| alert.closed_at.is_none()) else {
        let problem = "the case has no open alert: it has to be verified first";
        return Err(Problem::new(StatusCode::CONFLICT, problem));
    };
    let (config, planner) = (&house.dispatch.config, &house.desk.planner);
    let now = session.now().await?;
    let because = PlanCause::Requested;
    let draft = planner
        .draft(&mut session, &case, Some(&alert), because, now)
        .await;
    let draft = draft.map_err(Refusal::from)?;
    let rounds = dry_run(&mut session, config, &case, alert.id, &draft).await?;
    let names: BTreeMap<AppId, String> = holders::apps(&mut session)
        .await?
        .into_iter()
        .map(|app| (app.id, app.name))
        .collect();
    let views: Vec<Value> = rounds
        .iter()
        .map(|round| {
            let counts = round
                .counts
                .iter()
                .map(|((app, reason), people)| (*app, *reason, *people));
            let counts: Vec<Count> = counts.collect();
            let mut view = counts_view(&counts, |app| names.get(app).cloned().unwrap_or_default());
            view["kind"] = json!(round.kind);
            view["wave"] = json!(round.wave);
            view
        })
        .collect();
    Ok(Json(json!({ "dry_run": true, "rounds": views })).into_response())
}
