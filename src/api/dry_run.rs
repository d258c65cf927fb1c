//! `POST /v1/cases/{id}/replan?dry_run=true`: who would be told, charging nobody and changing nothing.

use std::collections::BTreeMap;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::problem::Problem;
use super::views::{Count, counts_view};
use super::{House, auth};
use crate::cases::visible;
use crate::dispatch::dry_run;
use crate::model::{AppId, Caller, CaseId, CaseState, WaveState};
use crate::store::{alerts, holders, plans};

/// Who would be told by each wave of the case's plan that has not gone out, if it went out now.
pub(super) async fn dry_run_of(
    house: &House,
    caller: &Caller,
    id: CaseId,
) -> Result<Response, Problem> {
    auth::operator(caller)?;
    let mut session = house.dispatch.store.read().await?;
    let case = visible(&mut session, caller, id).await?;
    let open = matches!(case.state, CaseState::Active | CaseState::Paused);
    let Some(alert) = alerts::newest(&mut session, id).await?.filter(|_| open) else {
        let problem = "the case is not open: its waves are planned when it is verified";
        return Err(Problem::new(StatusCode::CONFLICT, problem));
    };
    let ahead = plans::waves(&mut session, alert.id)
        .await?
        .into_iter()
        .filter(|wave| {
            matches!(
                wave.state,
                WaveState::Waiting | WaveState::Approval | WaveState::Held
            )
        });
    let waves: Vec<_> = ahead.map(|wave| (wave.number, wave.cells)).collect();
    let config = &house.dispatch.config;
    let rounds = dry_run(&mut session, config, &case, Some(alert.id), &waves).await?;
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
